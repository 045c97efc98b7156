"""Origin of a merged result: the params and job files that it was merged from.

A separate process reads the result. HDF5 may crash the process that opens a damaged file, and the process that decides
which jobs run must survive.
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
from stemphony.interpreters import KEEP_OUT
from stemphony.results.job_file import read_checksum
from stemphony.results.layout import read_texts
from stemphony.store.atomic import write_text_atomic
from stemphony.store.superblock import what_is_cut_off

LONGEST_S = 600.0
"""Time limit for reading one result [s]: HDF5 may loop forever on a damaged file."""


@dataclass(frozen=True)
class Origin:
    """Origin of a merged result.

    Attributes
    ----------
    merge_digest : str
        Digest of the params of the rule merge_results.
    job_sha256 : list of str or None
        SHA-256 of each job file, in the order of the plan; None in results of earlier versions. If a job runs again,
        its SHA-256 changes even if its numbers are the same, because its file holds the time.
    """

    merge_digest: str
    job_sha256: list[str] | None


def origin_of(file: Path, *, whole: bool = False, longest_s: float = LONGEST_S) -> Origin | None:
    """Return the origin of a result; None if the file does not exist or cannot be read as a result.

    Parameters
    ----------
    file : Path
    whole : bool
        Whether to check the whole file. Then None is also returned if the bytes are not those that the merge wrote.
        Without a checksum file, every value is read instead.
    longest_s : float
        Time limit for the separate process [s].

    Returns
    -------
    Origin or None
        What the file says of its origin.
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
    words = [sys.executable, KEEP_OUT, "-c", code, str(Path(__file__).resolve().parents[2]), str(file), values]
    try:
        told = subprocess.run(words, capture_output=True, text=True, timeout=longest_s, check=True).stdout
        return Origin(**json.loads(told))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError):
        return None


def write_checksum(file: Path) -> None:
    """Write the SHA-256 of the result `file` beside it, in the format of `sha256sum --check`.

    Raises StorageError if the folder cannot be written, and OSError if the file cannot be read.
    """
    write_text_atomic(paths.checksum(file), f"{provenance.file_sha256(file)}  {file.name}\n")


def tell(file: str, values: str = "") -> None:
    """Print the origin of a result as JSON; `origin_of` runs this in a separate process.

    Parameters
    ----------
    file : str
    values : str
        If this is not empty, every value is read first, to find damage.
    """
    with netCDF4.Dataset(file) as root:
        if values:
            _read_all(root)
        digest, runtime = str(root.merge_digest), root["runtime"]
        texts = read_texts(runtime["job_sha256"]) if "job_sha256" in runtime.variables else None
    print(json.dumps({"merge_digest": digest, "job_sha256": texts}))


def _read_all(root: netCDF4.Dataset) -> None:
    """Read every value, chunk by chunk; HDF5 compares each chunk with its checksum."""
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
