"""What a merged result says of where it is from, read by a process of its own.

Of a damaged file HDF5 may end the process that opens it. Whoever decides what runs must not end with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import netCDF4
import numpy as np

from stemphony import paths, provenance
from stemphony.results.job_file import read_checksum
from stemphony.results.layout import read_texts
from stemphony.store.atomic import write_text_atomic
from stemphony.store.superblock import what_is_cut_off

LONGEST_S = 600.0
"""For a file that HDF5 does not come to an end with."""


@dataclass(frozen=True)
class Origin:
    """Where a merged result is from.

    Attributes
    ----------
    merge_digest : str
        Digest of the params that it was merged from.
    job_sha256 : list of str or None
        SHA-256 of each job file, in the order of the plan; None where an earlier version wrote it. Two files with the
        same numbers have two of them: a job notes when it ran.
    """

    merge_digest: str
    job_sha256: list[str] | None


def origin_of(file: Path, *, whole: bool = False) -> Origin | None:
    """Where a result is from; None for a file that is not there or not readable as a result.

    Parameters
    ----------
    whole : bool
        None also for one whose bytes are not those that the merge has written.
    """
    if not file.is_file() or what_is_cut_off(file):
        return None
    kept = read_checksum(file) if whole else None
    if kept is not None and provenance.file_sha256(file) != kept.sha256:
        return None
    values = "values" if whole and kept is None else ""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from stemphony.results import origin; origin.tell(*sys.argv[2:])"
    )
    words = [sys.executable, "-c", code, str(Path(__file__).resolve().parents[2]), str(file), values]
    try:
        told = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST_S, check=True).stdout
        return Origin(**json.loads(told))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None


def write_checksum(file: Path) -> None:
    """Keep the SHA-256 of a result that was just merged beside it, as `sha256sum -c` reads it."""
    write_text_atomic(paths.checksum(file), f"{provenance.file_sha256(file)}  {file.name}\n")


def tell(file: str, values: str = "") -> None:
    """In the other process: print the origin as JSON, with `values` after every value was read."""
    with netCDF4.Dataset(file) as root:
        if values:
            _read_all(root)
        digest, runtime = str(root.merge_digest), root["runtime"]
        texts = read_texts(runtime["job_sha256"]) if "job_sha256" in runtime.variables else None
    print(json.dumps({"merge_digest": digest, "job_sha256": texts}))


def _read_all(root: netCDF4.Dataset) -> None:
    """Chunk by chunk, each of which HDF5 compares with its checksum."""
    for variable in _variables(root):
        chunks = variable.chunking()
        if not isinstance(chunks, list):
            variable[...]
            continue
        counts = [-(-length // chunk) for length, chunk in zip(variable.shape, chunks, strict=True)]
        for place in np.ndindex(*counts):
            variable[tuple(slice(i * chunk, (i + 1) * chunk) for i, chunk in zip(place, chunks, strict=True))]


def _variables(group: netCDF4.Dataset) -> Iterator[netCDF4.Variable]:
    yield from group.variables.values()
    for inner in group.groups.values():
        yield from _variables(inner)
