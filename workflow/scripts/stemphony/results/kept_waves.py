"""Waves that the jobs of one configuration share: one job computes them and keeps them in a file for the others."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from stemphony import ordinary_files, paths, provenance
from stemphony.errors import StorageError
from stemphony.store import claims
from stemphony.store.atomic import atomic_path, write_text_atomic
from stemphony.store.claims import TIMING, Timing

_KEPT = re.compile(r"configuration_\d{4,}\.npz(\.sha256)?")
_IN_USE = re.compile(r"\.configuration_\d{4,}\.npz\..*(claim|tmp)")
"""Names of files that a running job may need: its claim, and the file that it is writing."""


class Waves(Protocol):
    """What a file of shared waves holds, for example `compute.superposition.Superposition`."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return named arrays. `write_waves` adds an array `digest`, so no other array has this name."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Make the waves from the result of `arrays`. Other input raises KeyError, IndexError or ValueError."""


W = TypeVar("W", bound=Waves)


def kept_and_foreign(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files of kept waves in `folder`, with their checksum files, and the files that no job has made.

    Files that a running job may need are in neither list.
    """
    entries = sorted(folder.glob("*"))
    kept = [entry for entry in entries if _KEPT.fullmatch(entry.name) and not entry.is_dir()]
    known = set(kept)
    return kept, [entry for entry in entries if entry not in known and not _IN_USE.fullmatch(entry.name)]


def waves_digest(params: Mapping[str, Any], effective_seed: int | None) -> str:
    """Return a digest of everything that decides the waves of a configuration.

    Parameters
    ----------
    params : mapping
        Params of a job; its defocus is ignored.
    effective_seed : int or None
        Seed of the displacements. If the seed in the params is 0, the seed was drawn, and only this number says which.

    Returns
    -------
    str
        Hexadecimal SHA-256. It does not depend on the defocus, because the waves serve all defoci.
    """
    decides = {key: value for key, value in params.items() if key != "defocus_nm"}
    return provenance.digest({**decides, "effective_seed": effective_seed})


def shared_waves(
    file: Path,
    digest: str,
    kind: type[W],
    serves: Callable[[W], bool],
    compute: Callable[[], W],
    say: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
    timing: Timing = TIMING,
) -> W:
    """Return the waves of a configuration from their file. If no job has made them yet, compute and keep them.

    If several jobs need the waves at once, one job computes and the others wait. If that job dies, another job takes
    over. Trouble with the file or the claim costs time, but does not change the result.

    Parameters
    ----------
    file : Path
        File of the waves, see `paths.ResultPaths.waves`.
    digest : str
        See `waves_digest`. Waves with another digest are replaced.
    kind : type
        Class of the waves.
    serves : callable
        Whether waves include the defocus of this job. The list of defoci may have changed since they were made.
    compute : callable
        Computes the waves.
    say : callable
        Writes a line to the log.
    check : callable
        Called while the job waits; may raise to end it.
    timing : Timing
        Times of the claim.

    Returns
    -------
    W
        What `compute` returns, or the same from the file.

    Raises
    ------
    AssertionError
        The computed waves do not serve this job.
    """
    claim_file, waiting = file.with_name(f".{file.name}.claim"), False
    while True:
        found = read_waves(file, digest, kind)
        if found is not None and serves(found):
            say(f"waves of this configuration taken from {file.name}")
            return found
        try:
            claim = claims.take(claim_file, timing)
        except OSError as error:
            say(f"waves cannot be shared with other jobs ({error.strerror})")
            return compute()
        if claim is not None:
            try:
                return _kept_or_computed(file, digest, kind, serves, compute, say)
            finally:
                claim.release()
        if not waiting:
            say("waiting for the waves of this configuration, which another job computes")
            waiting = True
        if not claims.wait(claim_file, check, timing):
            say(claims.left_over(claim_file))
            return _kept_or_computed(file, digest, kind, serves, compute, say)


def _kept_or_computed(
    file: Path,
    digest: str,
    kind: type[W],
    serves: Callable[[W], bool],
    compute: Callable[[], W],
    say: Callable[[str], None],
) -> W:
    # Another job may have finished between the first look and the claim.
    found = read_waves(file, digest, kind)
    if found is not None and serves(found):
        return found
    computed = compute()
    if not serves(computed):
        raise AssertionError("waves were computed for other defoci than this job's")
    try:
        write_waves(file, computed, digest)
    except (StorageError, OSError) as error:
        say(f"waves are not kept for other jobs: {error}")
    return computed


def write_waves(file: Path, waves: Waves, digest: str) -> None:
    """Write `waves` and their `digest` into `file` atomically, with the SHA-256 of its bytes beside it.

    Raises StorageError if the folder cannot be written or the disk is full.
    """
    with atomic_path(file) as temporary:
        with temporary.open("wb") as stream:
            np.savez(stream, **waves.arrays(), digest=np.array(digest))  # type: ignore[arg-type]
        write_text_atomic(paths.checksum(file), f"{provenance.file_sha256(temporary)}  {file.name}\n")


def read_waves(file: Path, digest: str, kind: type[W]) -> W | None:
    """Return the waves in `file`, as an object of the class `kind`.

    None if the file is missing or damaged, or if it has another digest than `digest`.
    """
    try:
        if provenance.file_sha256(file) != ordinary_files.read_text(paths.checksum(file), "ascii").split()[0]:
            return None
        with np.load(file, allow_pickle=False) as kept:
            if str(kept["digest"]) != digest:
                return None
            return kind.from_arrays({name: kept[name] for name in kept.files})
    except (OSError, ValueError, KeyError, IndexError, UnicodeDecodeError, zipfile.BadZipFile):
        return None
