"""Checks of a job file before the merge reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import netCDF4

from stemphony import paths, provenance
from stemphony.errors import DamagedResultError
from stemphony.results.job_file import read_checksum

RECORDED = (
    "time_start", "cpu_seconds", "wall_seconds", "peak_memory_mb", "host", "fft_plan_source", "git_commit", "versions",
)  # fmt: skip
"""Attributes of a job's group `runtime` that the result keeps for each job."""

RECORDED_IF_THERE = ("algorithm", "window_check", "cpu_model", "instruction_sets")
"""Further attributes of this kind that may be missing: files of earlier versions lack them, and `window_check` exists
only with windows."""


@contextmanager
def checked(file: Path, expected_digest: str) -> Iterator[tuple[netCDF4.Dataset, dict[str, Any]]]:
    """Open a job file whose bytes match their checksum and whose params are the expected ones.

    Parameters
    ----------
    file : Path
    expected_digest : str
        Digest of the params of the job.

    Yields
    ------
    Dataset, dict
        The open file, and the record that a result keeps of it.

    Raises
    ------
    DamagedResultError
        The file cannot be used. The message says why, without the name of the file.
    """
    if not file.exists():
        raise DamagedResultError("missing")
    kept = read_checksum(file)
    if kept is None:
        # Without a checksum, the file cannot be trusted. One flipped byte in the tables of HDF5 may give wrong numbers
        # without an error, or crash the process.
        sidecar = paths.checksum(file).name
        raise DamagedResultError(
            f"cannot be checked: {sidecar} is missing or unreadable (if you are sure of the file, write it: "
            f"sha256sum {file.name} > {sidecar}, in its folder)"
        )
    try:
        if provenance.file_sha256(file) != kept.sha256:
            raise DamagedResultError(f"damaged: its bytes do not match {paths.checksum(file).name}")
        with closing(netCDF4.Dataset(file)) as root:
            record = {**_record(root, expected_digest), "sha256": kept.sha256}
            yield root, record
    except (OSError, RuntimeError, KeyError, IndexError, AttributeError, ValueError) as error:
        raise DamagedResultError(f"truncated or damaged: {type(error).__name__}") from None


def recorded_version(file: Path) -> int | None:
    """Return the physics_version of `file`, a job file or result; None if it is missing or cannot be read."""
    try:
        with closing(netCDF4.Dataset(file)) as root:
            return int(root.physics_version)
    except (OSError, RuntimeError, AttributeError, ValueError):
        return None


def _record(root: netCDF4.Dataset, expected_digest: str) -> dict[str, Any]:
    attributes = root.ncattrs()
    if "job_digest" not in attributes:
        raise DamagedResultError("foreign: not a job file of this program")
    version = int(root.physics_version)
    if version != provenance.PHYSICS_VERSION:
        raise DamagedResultError(
            f"mixed: computed with physics_version {version}, this is {provenance.PHYSICS_VERSION}"
        )
    if root.job_digest != expected_digest:
        raise DamagedResultError("foreign: computed with another config or specimen (job_digest differs)")
    runtime = root.groups["runtime"]
    return {
        "effective_seed": int(root.effective_seed) if "effective_seed" in attributes else None,
        "physics_version": version,
        "displaced": bool(root.groups["AMBER"].displaced),
        **{name: runtime.getncattr(name) for name in RECORDED},
        **{name: getattr(runtime, name, "") for name in RECORDED_IF_THERE},
    }
