"""Read one batch of job files: sums of signals, records of jobs, and reasons why files cannot be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from stemphony import provenance
from stemphony.errors import DamagedResultError
from stemphony.experiment import campaign
from stemphony.results.averages import Batch, Sums, Unit, added
from stemphony.results.job_check import checked
from stemphony.results.merge_task import Averaging, MergeTask, Source
from stemphony.results.signal_blocks import Block

Stamp = tuple[int, int, int]
"""Inode, size and time of a file. If they differ later, the file was changed after its check."""


@dataclass(frozen=True)
class BatchRequest:
    """What one pass over the job files reads from each file.

    Attributes
    ----------
    task : MergeTask
    blocks : tuple of Block
        Blocks of signals.
    by_configuration : bool
        See `Averaging`.
    check : bool
        Whether to check the files. Otherwise only the files in `usable` are read, if they did not change.
    frames : bool
        Whether to read the displaced atoms.
    usable : mapping of Source to Stamp, or None
        Files that passed the check, with their stamps; None while they are checked.
    """

    task: MergeTask
    blocks: tuple[Block, ...]
    by_configuration: bool
    check: bool
    frames: bool
    usable: Mapping[Source, Stamp] | None = None

    def of(self, batch: Batch) -> BatchRequest:
        """Return this request for one `batch`, without the tables of all jobs, to send little to another process."""
        here = [source for unit in batch for source in unit]
        usable = None if self.usable is None else {one: self.usable[one] for one in here if one in self.usable}
        # A new copy of the task holds no cached table of jobs.
        return replace(self, task=replace(self.task), usable=usable)


@dataclass
class Reading:
    """What was read from one batch.

    Attributes
    ----------
    sums : list of Sums
        One for each block of the request.
    records : dict
        Record of each checked file, see `job_check.checked`.
    wrong : list of (Source, str)
        Files that cannot be used, and why.
    stamps : dict
        Stamp of each checked file.
    frames : list of (Source, tuple of ndarray or None)
        Arguments of `layout.put_frame` for the displaced atoms; None if the job did not keep them.
    """

    sums: list[Sums]
    records: dict[Source, dict[str, Any]] = field(default_factory=dict)
    wrong: list[tuple[Source, str]] = field(default_factory=list)
    stamps: dict[Source, Stamp] = field(default_factory=dict)
    frames: list[tuple[Source, tuple[np.ndarray, ...] | None]] = field(default_factory=list)


def read_batch(request: BatchRequest, batch: Batch) -> Reading:
    """Check and read the job files of one batch, one at a time.

    Parameters
    ----------
    request : BatchRequest
        What to read from each file.
    batch : Batch
        The job files.

    Returns
    -------
    Reading
        Sums for each block, and the files that are left out with the reason.

    Raises
    ------
    DamagedResultError
        A file changed after it was checked. Other files that cannot be used are listed in `Reading.wrong`.
    """
    errors = [
        block.first if Averaging(request.task, block.group).with_standard_errors else 0 for block in request.blocks
    ]
    reading = Reading([Sums(first) for first in errors])
    for unit in batch:
        _add_unit(request, unit, reading)
    return reading


def _add_unit(request: BatchRequest, unit: Unit, reading: Reading) -> None:
    """Add the signals of one unit. This call keeps no arrays but the sums, so the next unit can use the memory."""
    task, by_configuration = request.task, request.by_configuration
    whole: list[np.ndarray] = []
    weights = 0.0
    for source in unit:
        values = _values(request, source, reading)
        if values is None:
            continue
        weight = task.weights[source.defocus_index] if by_configuration else 1.0
        weights += weight
        for value in values:
            np.multiply(value, weight, out=value)
        whole = [added(*pair) for pair in zip(whole, values, strict=True)] if whole else values
        del values
    share = weights if by_configuration and task.partial else 1.0
    if weights:
        for sums, value in zip(reading.sums, whole, strict=True):
            sums.add(np.divide(value, share, out=value))


def stamp_of(file: Path) -> Stamp:
    """Return the stamp of `file`; zeros if there is no such file."""
    try:
        status = file.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _values(request: BatchRequest, source: Source, reading: Reading) -> list[np.ndarray] | None:
    """Signals of one job, by block; None if its file cannot be used or the merge will be refused anyway."""
    if request.usable is not None and source not in request.usable:
        return None
    stamp = stamp_of(source.file)
    if request.usable is not None and request.usable[source] != stamp:
        # Blocks of earlier passes include this job, so blocks of this pass must include it, too.
        raise DamagedResultError(
            f"{source.file} was replaced or deleted while it was merged. Nothing was written. Start the merge again."
        )
    try:
        with _opened(source, request) as (job, record):
            # After the first bad file, only a merge into a partial result goes on reading signals.
            if reading.wrong and not request.task.partial:
                return None
            try:
                values = [block.read(job) for block in request.blocks]
                if request.frames:
                    amber = job.groups["AMBER"].variables
                    names = ["coordinates", "slice", *(["element"] if "occupancy" in amber else [])]
                    moved = tuple(amber[name][0] for name in names) if record["displaced"] else None
                    reading.frames.append((source, moved))
            except (OSError, RuntimeError, LookupError, ValueError) as error:
                raise DamagedResultError(
                    f"damaged: its data cannot be read ({type(error).__name__}); delete this file"
                ) from None
    except DamagedResultError as error:
        reading.wrong.append((source, str(error)))
        return None
    if request.check:
        reading.records[source], reading.stamps[source] = record, stamp
    return values


@contextmanager
def _opened(source: Source, request: BatchRequest) -> Iterator[tuple[netCDF4.Dataset, dict[str, Any]]]:
    """Open a job file and yield it with its record. Without a check, the record is empty."""
    if request.check:
        expected = provenance.digest(campaign.job_params(request.task.common, source.defocus_nm, source.configuration))
        with checked(source.file, expected) as (job, record):
            yield job, record
        return
    try:
        opened = netCDF4.Dataset(source.file)
    except (OSError, RuntimeError) as error:
        raise DamagedResultError(f"truncated or damaged: {type(error).__name__}") from None
    with closing(opened) as job:
        yield job, {}
