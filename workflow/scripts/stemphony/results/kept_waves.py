"""What one propagation of a configuration leaves for all its defoci: kept on disk, made once, never trusted blindly."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stemphony import paths, provenance
from stemphony.compute.superposition import Basis, Superposition
from stemphony.errors import StorageError
from stemphony.store import claims
from stemphony.store.atomic import atomic_path, write_text_atomic

Say = Callable[[str], None]

_KEPT = re.compile(r"configuration_\d{4,}\.npz(\.sha256)?")
# What a job that may be alive needs: its claim, and what it is writing.
_OF_A_JOB = re.compile(r"\.configuration_\d{4,}\.npz\..*(claim|tmp)")


def kept_and_foreign(folder: Path) -> tuple[list[Path], list[Path]]:
    """The waves that are kept in a folder, with their checksums, and what else is there that no job has put there."""
    entries = sorted(folder.glob("*"))
    kept = [entry for entry in entries if _KEPT.fullmatch(entry.name) and not entry.is_dir()]
    known = set(kept)
    return kept, [entry for entry in entries if entry not in known and not _OF_A_JOB.fullmatch(entry.name)]


def waves_digest(params: Mapping[str, Any], effective_seed: int | None) -> str:
    """Digest of all that decides the waves of a configuration: a job's params without its defocus, and its seed.

    A seed of 0 in the params means one that was drawn; only the effective one tells which atoms the waves met.
    """
    decides = {key: value for key, value in params.items() if key != "defocus_nm"}
    return provenance.digest({**decides, "effective_seed": effective_seed})


def shared_waves(
    file: Path,
    digest: str,
    serves: Callable[[Superposition], bool],
    compute: Callable[[], Superposition],
    say: Say,
    check: Callable[[], None] = lambda: None,
) -> Superposition:
    """The superposition of a configuration: from its file, from a job that is just computing it, or computed here.

    Of several jobs that want it at once one computes and the others wait. If that one dies another takes over. What
    cannot be kept or waited for costs time, never the result.

    Parameters
    ----------
    file : Path
        Where it is kept, see `paths.ResultPaths.waves`.
    digest : str
        See `waves_digest`; a file with another is replaced.
    serves : callable
        Whether a superposition was made for this job's probes: the list of defoci may have changed.
    compute : callable
        Makes it.
    say : callable
        Tells the log what happens.
    check : callable
        Called while waiting; may raise to end it.
    """
    claim_file, waiting = file.with_name(f".{file.name}.claim"), False
    while True:
        found = read_waves(file, digest)
        if found is not None and serves(found):
            say(f"waves of this configuration taken from {file.name}")
            return found
        try:
            claim = claims.take(claim_file)
        except OSError as error:
            say(f"waves cannot be shared with other jobs ({error.strerror})")
            return compute()
        if claim is not None:
            try:
                return _kept_or_made(file, digest, serves, compute, say)
            finally:
                claim.release()
        if not waiting:
            say("waiting for the waves of this configuration, which another job computes")
            waiting = True
        if not claims.wait(claim_file, check):
            say(claims.left_over(claim_file))
            return _kept_or_made(file, digest, serves, compute, say)


def _kept_or_made(
    file: Path, digest: str, serves: Callable[[Superposition], bool], compute: Callable[[], Superposition], say: Say
) -> Superposition:
    """The superposition, computed and kept unless whoever held the claim until now has finished in between."""
    found = read_waves(file, digest)
    if found is not None and serves(found):
        return found
    made = compute()
    if not serves(made):
        raise AssertionError("waves were computed for other defoci than this job's")
    try:
        write_waves(file, made, digest)
    except (StorageError, OSError) as error:
        say(f"waves are not kept for other jobs: {error}")
    return made


def write_waves(file: Path, superposition: Superposition, digest: str) -> None:
    """Write a superposition atomically, with the SHA-256 of its bytes beside it. Raises StorageError."""
    basis = superposition.basis
    upper = np.triu_indices(basis.rank)
    arrays: dict[str, np.ndarray] = {
        "rows": basis.rows,
        "columns": basis.columns,
        "vectors": basis.vectors,
        "defoci_nm": np.array(superposition.defoci_nm),
        "digest": np.array(digest),
    }
    for depth, forms in enumerate(superposition.forms):
        arrays[f"forms_{depth:04d}"] = forms[:, upper[0], upper[1]]  # Hermitian: half is enough
    for depth, patterns in enumerate(superposition.patterns):
        arrays[f"patterns_{depth:04d}"] = patterns
    with atomic_path(file) as temporary:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        write_text_atomic(paths.checksum(file), f"{provenance.file_sha256(temporary)}  {file.name}\n")


def read_waves(file: Path, digest: str) -> Superposition | None:
    """A superposition that was kept for these params; None if there is none or it is damaged or foreign."""
    try:
        if provenance.file_sha256(file) != paths.checksum(file).read_text(encoding="ascii").split()[0]:
            return None
        with np.load(file, allow_pickle=False) as kept:
            if str(kept["digest"]) != digest:
                return None
            basis = Basis(kept["rows"], kept["columns"], kept["vectors"])
            names = sorted(kept.files)
            forms = tuple(_whole(kept[name], basis.rank) for name in names if name.startswith("forms_"))
            patterns = tuple(kept[name] for name in names if name.startswith("patterns_"))
            return Superposition(basis, tuple(kept["defoci_nm"].tolist()), forms, patterns)
    except (OSError, ValueError, KeyError, IndexError, UnicodeDecodeError, zipfile.BadZipFile):
        return None


def _whole(packed: np.ndarray, rank: int) -> np.ndarray:
    forms = np.empty((len(packed), rank, rank), dtype=packed.dtype)
    row, column = np.triu_indices(rank)
    forms[:, column, row] = packed.conj()
    forms[:, row, column] = packed
    return forms
