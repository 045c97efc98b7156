"""Record which jobs a result holds: in a table of the group `runtime`, and in attributes of a partial result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from stemphony import paths
from stemphony.experiment import campaign
from stemphony.results.layout import add_attributes, add_texts, add_variable
from stemphony.results.merge_task import MergeTask, Source

Records = Mapping[Source, Mapping[str, Any]]
"""Record of each job in the result, see `job_check.checked`."""


def add_runtime(root: netCDF4.Dataset, attributes: Mapping[str, Any], jobs: Records, real: np.dtype[Any]) -> None:
    """Write the group `runtime`: attributes of the merge, and a table of its jobs.

    Parameters
    ----------
    root : Dataset
        The result, open for writing.
    attributes : mapping
        Attributes of the merge.
    jobs : mapping of Source to record
        At least one job, see `Records`.
    real : dtype
        Type of the floats in the file.
    """
    runtime = root.createGroup("runtime")
    sources = sorted(jobs, key=lambda source: source.index)
    records = [jobs[source] for source in sources]
    starts = [str(record["time_start"]) for record in records]
    add_attributes(runtime, {**attributes, "time_start": min(starts)})
    runtime.createDimension("job", len(records))
    for name, dtype, units, long_name, values in (
        ("defocus", real, "nm", "defocus of the job", [source.defocus_nm for source in sources]),
        ("configuration", "i4", "1", "frozen-phonon configuration of the job", [s.configuration for s in sources]),
        ("cpu_seconds", real, "s", "processor time of the job", [record["cpu_seconds"] for record in records]),
        ("wall_seconds", real, "s", "elapsed time of the job", [record["wall_seconds"] for record in records]),
        ("peak_memory_mb", real, "MB", "peak memory of the job", [record["peak_memory_mb"] for record in records]),
    ):
        add_variable(runtime, name, dtype, ("job",), units, long_name, values)
    for name, long_name in (
        ("host", "machine of the job"),
        ("cpu_model", "processor of the job"),
        ("instruction_sets", "instruction sets that NumPy used in the job"),
        ("fft_plan_source", "where the FFT plans came from"),
        ("git_commit", "commit of the program that ran the job"),
        ("sha256", "SHA-256 of the job's file"),
        ("versions", "library versions of the job, JSON"),
        ("algorithm", "how the job's probes went through the specimen"),
        ("window_check", "error of the job's windows, measured on some positions, JSON; empty without windows"),
    ):
        add_texts(runtime, f"job_{name}", "job", long_name, [str(record[name]) for record in records])


def mark_as_partial(root: netCDF4.Dataset, task: MergeTask, jobs: Records) -> None:
    """Write attributes of `root` that mark a partial result and list its pairs of defocus and configuration.

    `task` has all pairs, and `jobs` has those in the result; the other pairs are listed as missing.
    """
    missing = [source for source in task.sources if source not in jobs]
    add_attributes(
        root,
        {
            "partial": True,
            "num_pairs_in": len(jobs),
            "num_pairs_missing": len(missing),
            "pairs_in": _pairs(jobs),
            "pairs_missing": _pairs(missing),
        },
    )


def is_partial(file: Path) -> bool:
    """Whether `file` is a partial result; False if it cannot be read as a result."""
    if not file.is_file():
        return False
    try:
        with netCDF4.Dataset(file) as root:
            return bool(root.partial == 1)
    except (OSError, RuntimeError, AttributeError, ValueError):
        return False


def _pairs(sources: Iterable[Source]) -> dict[str, str]:
    """Configurations by defocus id: `{"p2d500": "0-3, 7"}`."""
    by_defocus: dict[str, list[int]] = {}
    for source in sources:
        by_defocus.setdefault(paths.defocus_id(source.defocus_nm), []).append(source.configuration)
    return {identifier: campaign.ranges(numbers) for identifier, numbers in by_defocus.items()}
