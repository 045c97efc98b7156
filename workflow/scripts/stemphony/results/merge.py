"""Merge job files into one result, in one pass.

Each job file is checked and read while it is open once; if anything is wrong with any of them, what was written is
thrown away, all that is wrong is listed, and nothing is deleted. The averages stream, in parts (see `averages`): memory
holds one block of the result, whatever the number of jobs.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from stemphony import paths, provenance
from stemphony.compute.recorder import cbed_geometry, window_errors
from stemphony.errors import DamagedResultError, StemphonyError
from stemphony.experiment import campaign
from stemphony.experiment.model import Experiment
from stemphony.results import signal_blocks
from stemphony.results.averages import Average, Averaging, Merge, Part, Source, Sums, parts_of
from stemphony.results.job_file import atom_table, effective_blocks, read_checksum
from stemphony.results.layout import (
    NM,
    AtomTable,
    add_adf,
    add_atoms,
    add_attributes,
    add_cbed,
    add_params,
    add_standard_errors,
    add_texts,
    add_variable,
    put_frame,
)
from stemphony.specimen.specimen_file import read_specimen_file
from stemphony.store import ledger
from stemphony.store.atomic import atomic_path

Stamp = tuple[int, int, int]
"""Inode, size and time of a file, by which its second reading knows that it is the one that was checked."""
SHOWN = 20  # files listed in a refusal
SEVERAL_PROCESSES_FROM_S = 2.5  # of work; below that they take longer to start than they save
JOB_S, BYTE_S = 4e-3, 1 / 120e6  # what a job file takes, and each byte of it: docs/performance.md
# Sums of the parts that are made at a time or wait to be added, three for each: processes must not fill the memory.
AHEAD_BYTES = 1e9
# Attributes of a job's group `runtime` that the result keeps of each job.
RECORDED = (
    "time_start", "cpu_seconds", "wall_seconds", "peak_memory_mb", "host", "fft_plan_source", "git_commit", "versions",
)  # fmt: skip
# The same, where a job file has them: those of earlier versions do not, and not every job has windows.
RECORDED_IF_THERE = ("algorithm", "window_check", "cpu_model", "instruction_sets")


def merge_simulation(
    task: Merge, specimen_file: Path, output: Path, warn: Callable[[str], None], processes: int = 1, run: int = 0
) -> Merged:
    """Merge a simulation as the plan of a run (0: of the last), its specimen and identity say; see `merge`."""
    plan = ledger.read_plan(task.result, run)
    identity = ledger.identity(task.result, task.common["simulation"]["random_seed"] or 0)
    specimen = read_specimen_file(specimen_file)
    experiment = Experiment.of(task.common, specimen.cell)
    blocks = {name: value for name, value in task.common.items() if isinstance(value, dict)}
    config = plan.get("config", blocks)
    return merge(
        task,
        output,
        atom_table(specimen, experiment),
        experiment,
        root_attributes={
            "title": plan.get("title", task.result.name), "id": identity.id, "Conventions": "AMBER",
            "program": provenance.PROGRAM, "version": provenance.VERSION, "git_commit": provenance.git_commit(),
            "config_yaml": _yaml(config), "config_digest": provenance.digest(config),
            "merge_digest": provenance.digest(task.params), "physics_version": provenance.PHYSICS_VERSION,
            "created": identity.created,
        },
        runtime_attributes=lambda: {
            "UUID": identity.id, **provenance.runtime_attributes(),
            "controller": plan.get("controller", {}), "time_stop": ledger.now(),
        },
        blocks={name: value for name, value in config.items() if isinstance(value, dict)},
        warn=warn,
        processes=processes,
    )  # fmt: skip


def _yaml(config: Mapping[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return text


def merge(
    task: Merge,
    output: Path,
    table: AtomTable,
    experiment: Experiment,
    root_attributes: Mapping[str, Any],
    runtime_attributes: Callable[[], Mapping[str, Any]],
    blocks: Mapping[str, Any],
    warn: Callable[[str], None],
    processes: int = 1,
) -> Merged:
    """Check and merge all job files, and write the result atomically.

    Parameters
    ----------
    processes : int
        How many make parts side by side; the result is the same bit for bit.

    Returns
    -------
    Merged
        Which job files are in it, and what is wrong with the others if a part is enough.

    Raises
    ------
    DamagedResultError
        Files are missing, foreign, mixed, truncated or damaged; all of them are listed with what to do.
    StorageError
        The result cannot be written.
    StemphonyError
        A process that makes parts was killed.
    """
    wanted = task.params["save_coordinates"]
    keep = not task.partial and campaign.keeps_coordinates(wanted, len(task.sources), len(table.symbols))
    with _made_in(processes if expected_seconds(task) >= SEVERAL_PROCESSES_FROM_S else 1) as make:
        made = _Making(task, table, experiment, warn, make)
        try:
            return made.write(output, root_attributes, runtime_attributes, blocks, keep)
        except _NoCoordinatesError:
            if wanted is True:
                warn(
                    "save_coordinates: some jobs ran without keeping coordinates; the atoms at rest are stored instead."
                )
            return made.write(output, root_attributes, runtime_attributes, blocks, keep=False)


def expected_seconds(task: Merge) -> float:
    """About how long one process takes."""
    return sum(JOB_S + BYTE_S * _stamp(source.file)[1] for source in task.sources)


@dataclass
class Merged:
    """What became of the job files: a record of each that is in the result, and what is wrong with others."""

    records: dict[Source, dict[str, Any]] = field(default_factory=dict)
    wrong: list[tuple[Source, str]] = field(default_factory=list)
    stamps: dict[Source, Stamp] = field(default_factory=dict)


class _NoCoordinatesError(Exception):
    """A job file holds no displaced atoms."""


class _Making:
    """One merge: the result file is laid out, filled in passes over the job files, and then told where it is from."""

    def __init__(
        self, task: Merge, table: AtomTable, experiment: Experiment, warn: Callable[[str], None], make: _Make
    ) -> None:
        self.task, self.table, self.experiment, self.warn, self.make = task, table, experiment, warn, make
        self.averagings = dict(zip(("adf", "cbed"), Averaging.both(task), strict=True))
        scan = task.common["scan"]
        periodic = tuple([float(edge) for edge in scan[axis]] == [0.0, 1.0] for axis in "xy")
        self.blurring = signal_blocks.Blurring(task.params["source_fwhm_nm"] * NM, (periodic[0], periodic[1]))
        if self.blurring.fwhm and not all(periodic):
            warn(
                "source_fwhm_nm: the scan window is not the whole cell, so it is continued by reflection at its edges; "
                "pixels within about one source width of the edges are approximate."
            )

    def write(
        self,
        output: Path,
        root_attributes: Mapping[str, Any],
        runtime_attributes: Callable[[], Mapping[str, Any]],
        blocks: Mapping[str, Any],
        keep: bool,
    ) -> Merged:
        """Write the result; `keep` says whether the displaced atoms of all jobs are in it."""
        task, e = self.task, self.experiment
        with atomic_path(output) as temporary:
            with netCDF4.Dataset(temporary, "w", format="NETCDF4") as root:
                add_attributes(root, root_attributes)
                add_atoms(root, self.table, len(task.sources) if keep else 0, e.real_dtype)
                self._add_signals(root)
                merged = self._fill(root, keep)
                records = [merged.records[source] for source in sorted(merged.records, key=lambda s: s.index)]
                seed = records[0]["effective_seed"]
                add_params(
                    root, task.params["defoci_nm"], task.weights, effective_blocks(e, blocks, seed), e.real_dtype
                )
                # Last, because it says how long the merge took.
                _write_runtime(root, runtime_attributes(), merged, e.real_dtype)
                if task.partial:
                    _mark_as_partial(root, task, merged)
            _read_back(temporary)
        checks = [json.loads(record["window_check"]) for record in records if record["window_check"]]
        if checks:
            self.warn(
                f"error of the windows, the largest that any of {len(checks)} jobs measured: {window_errors(checks)}"
            )
        return merged

    def _add_signals(self, root: netCDF4.Dataset) -> None:
        e, task = self.experiment, self.task
        if e.adf:
            add_adf(root, e, task.axes("adf"))
            if self.averagings["adf"].with_standard_errors:
                add_standard_errors(root, e)
            if self.blurring.fwhm:
                images = [variable for variable in root["images"].variables.values() if variable.ndim > 1]
                centers = [root["adf"]["center_of_mass"]] if e.center_of_mass else []
                for variable in (*images, root["adf"]["adf_intensities"], *centers):
                    variable.source_fwhm_nm = task.params["source_fwhm_nm"]
        if e.cbed_max is not None:
            geometry = cbed_geometry(e)
            add_cbed(root, e, task.axes("cbed"), (geometry.angles_x, geometry.angles_y))

    def _fill(self, root: netCDF4.Dataset, keep: bool) -> Merged:
        """All passes over the job files; the first one checks them."""
        merged = Merged()
        for number, blocks in enumerate(self._passes() or [[]]):
            averagings = [self.averagings[block.group] for block in blocks] or [self.averagings["adf"]]
            averages = [
                Average(averaging, block.first, _putter(block, root))
                for averaging, block in zip(averagings, blocks, strict=False)
            ]
            first = number == 0
            parts = parts_of(averagings, len(self.table.symbols) if keep else 0)
            usable = None if first else merged.stamps
            wanted = Wanted(self.task, tuple(blocks), averagings[0].by_configuration, first, keep and first, usable)
            for part, read in zip(parts, self.make(wanted, parts), strict=True):
                self._take(root, merged, part, read, averages)
            self._refuse_what_is_wrong(merged)
            for average, block in zip(averages, blocks, strict=True):
                average.end()
                for place in average.averaging.places():
                    if place not in average.done:
                        block.put_nothing(root, place)
        return merged

    def _passes(self) -> list[list[signal_blocks.Block]]:
        """Blocks that are read together: averaged in one order, their sums within the memory."""
        passes: list[list[signal_blocks.Block]] = []
        order, room = None, 0.0
        blocks = list(signal_blocks.blocks_of(self.experiment, self.blurring))
        for block in sorted(blocks, key=lambda block: self.averagings[block.group].by_configuration):
            if self.averagings[block.group].by_configuration != order or block.bytes > room:
                passes.append([])
                order, room = self.averagings[block.group].by_configuration, signal_blocks.BLOCK_BYTES
            passes[-1].append(block)
            room -= block.bytes
        return passes

    def _take(
        self, root: netCDF4.Dataset, merged: Merged, part: Part, read: PartRead, averages: Sequence[Average]
    ) -> None:
        merged.records.update(read.records)
        merged.stamps.update(read.stamps)
        merged.wrong += read.wrong
        if merged.wrong and not self.task.partial:
            return
        for source, frame in read.frames:
            if frame is None:
                raise _NoCoordinatesError
            # Already in nm, as stored.
            put_frame(root, source.index, *frame)
        for average, sums in zip(averages, read.sums, strict=True):
            average.add(part, sums)

    def _refuse_what_is_wrong(self, merged: Merged) -> None:
        if self.task.partial and merged.records:
            wrong = []
        else:
            wrong = [(source.file, what) for source, what in sorted(merged.wrong, key=lambda entry: entry[0].index)]
        if not wrong:
            for key, what in (("effective_seed", "random seed"), ("physics_version", "physics_version")):
                values = {record[key] for record in merged.records.values()}
                if len(values) > 1:
                    mixed = f"mixed: files with different {what}: {sorted(map(str, values))}"
                    wrong.append((self.task.result.root / "jobs", mixed))
        if wrong:
            listed = "\n".join(f"  {file}: {what}" for file, what in wrong[:SHOWN])
            more = f"\n  … and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            raise DamagedResultError(
                f"cannot merge {self.task.result.root}: {len(wrong)} of {len(self.task.sources)} job files are not "
                f"usable.\n{listed}{more}\nNothing was deleted. Delete (or move away) the files listed and run again: "
                "only they are computed again."
            )


def _putter(block: signal_blocks.Block, root: netCDF4.Dataset) -> Callable[..., None]:
    return lambda place, value, error: block.put(root, place, value, error)


# --- parts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """What a pass takes of each job file.

    Attributes
    ----------
    check : bool
        Check the files; else only those in `usable` are read, if they are still what was checked.
    """

    task: Merge
    blocks: tuple[signal_blocks.Block, ...]
    by_configuration: bool
    check: bool
    frames: bool
    usable: Mapping[Source, Stamp] | None = None

    def of(self, part: Part) -> Wanted:
        """The same for one part: what another process must know, and not the table of all jobs."""
        here = [source for unit in part for source in unit]
        usable = None if self.usable is None else {one: self.usable[one] for one in here if one in self.usable}
        return replace(self, task=replace(self.task), usable=usable)


@dataclass
class PartRead:
    """The sums of one part's blocks, and what came with them."""

    sums: list[Sums]
    records: dict[Source, dict[str, Any]] = field(default_factory=dict)
    wrong: list[tuple[Source, str]] = field(default_factory=list)
    stamps: dict[Source, Stamp] = field(default_factory=dict)
    frames: list[tuple[Source, tuple[np.ndarray, ...] | None]] = field(default_factory=list)


_Make = Callable[[Wanted, Sequence[Part]], Iterator[PartRead]]


def read_part(wanted: Wanted, part: Part) -> PartRead:
    """Check and read the job files of one part, one at a time."""
    errors = [block.first if Averaging(wanted.task, block.group).with_standard_errors else 0 for block in wanted.blocks]
    read = PartRead([Sums(first) for first in errors])
    for unit in part:
        whole: list[np.ndarray] = [np.zeros(()) for _ in wanted.blocks]
        weights = 0.0
        for source in unit:
            values = _values(wanted, source, read)
            if values is None:
                continue
            weight = wanted.task.weights[source.defocus_index] if wanted.by_configuration else 1.0
            weights += weight
            for index, value in enumerate(values):
                whole[index] = whole[index] + weight * value if wanted.by_configuration else value
        if weights:
            share = weights if wanted.by_configuration and wanted.task.partial else 1.0
            for sums, value in zip(read.sums, whole, strict=True):
                sums.add(value / share if share != 1.0 else value)
    return read


def _values(wanted: Wanted, source: Source, read: PartRead) -> list[np.ndarray] | None:
    """What the blocks take of one job; None if it cannot be used, or if nothing will come of it anyway."""
    if wanted.usable is not None and source not in wanted.usable:
        return None
    stamp = _stamp(source.file)
    if wanted.usable is not None and wanted.usable[source] != stamp:
        # What is in the blocks of the passes before must not be missing in those of this one.
        raise DamagedResultError(
            f"{source.file} was replaced or deleted while it was merged. Nothing was written: do the same again."
        )
    try:
        with _opened(source, wanted) as (job, record):
            # A part of a partial result is worth its while whatever the others are like.
            if read.wrong and not wanted.task.partial:
                return None
            try:
                values = [block.read(job) for block in wanted.blocks]
                if wanted.frames:
                    amber = job.groups["AMBER"].variables
                    names = ["coordinates", "slice", *(["element"] if "occupancy" in amber else [])]
                    moved = tuple(amber[name][0] for name in names) if record["displaced"] else None
                    read.frames.append((source, moved))
            except (OSError, RuntimeError, LookupError, ValueError) as error:
                raise DamagedResultError(
                    f"damaged: its data cannot be read ({type(error).__name__}); delete this file"
                ) from None
    except DamagedResultError as error:
        read.wrong.append((source, str(error)))
        return None
    if wanted.check:
        read.records[source], read.stamps[source] = record, stamp
    return values


def _stamp(file: Path) -> Stamp:
    """What changes when a file is replaced; zeros without one."""
    try:
        status = file.stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _made_here(wanted: Wanted, parts: Sequence[Part]) -> Iterator[PartRead]:
    return (read_part(wanted, part) for part in parts)


@contextmanager
def _made_in(processes: int) -> Iterator[_Make]:
    """How parts are made: here, or side by side in processes of their own; they come in order."""
    if processes <= 1:
        yield _made_here
        return
    # Not forked: HDF5 keeps its state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_end_with_parent) as pool:

        def make(wanted: Wanted, parts: Sequence[Part]) -> Iterator[PartRead]:
            ahead: deque[Future[PartRead]] = deque()
            sums = sum(block.bytes for block in wanted.blocks)
            most = min(2 * processes, int(AHEAD_BYTES / (3 * sums))) if sums else 2 * processes
            if min(most, len(parts)) < 2:
                yield from _made_here(wanted, parts)
                return
            for part in parts:
                ahead.append(pool.submit(read_part, wanted.of(part), part))
                if len(ahead) >= most:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

        try:
            yield make
        except BrokenProcessPool:
            # Nobody but the system, or a person, ends one of them: it is the kernel's way to say out of memory.
            raise StemphonyError(
                f"cannot merge: one of the {processes} processes of the merge was killed, probably for lack of memory. "
                "Nothing is lost: all job files are as they were. Run again with more memory, or with one process "
                "(`--set-threads merge_results=1`)."
            ) from None
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """In a process that makes parts: end when the merge is killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# --- checks ---------------------------------------------------------------------------------------------------


@contextmanager
def _opened(source: Source, wanted: Wanted) -> Iterator[tuple[netCDF4.Dataset, dict[str, Any]]]:
    """A job file that has passed the checks, with what the result tells of it."""
    if not wanted.check:
        try:
            opened = netCDF4.Dataset(source.file)
        except (OSError, RuntimeError) as error:
            raise DamagedResultError(f"truncated or damaged: {type(error).__name__}") from None
        with closing(opened) as job:
            yield job, {}
        return
    expected = provenance.digest(campaign.job_params(wanted.task.common, source.defocus_nm, source.configuration))
    with checked(source.file, expected) as (job, record):
        yield job, record


@contextmanager
def checked(file: Path, expected_digest: str) -> Iterator[tuple[netCDF4.Dataset, dict[str, Any]]]:
    """Open a job file whose bytes match their checksum and whose params are the expected ones.

    Yields
    ------
    Dataset, dict
        The open file, and the record that a result keeps of it.

    Raises
    ------
    DamagedResultError
        Says what is wrong with the file, without its name.
    """
    if not file.exists():
        raise DamagedResultError("missing")
    kept = read_checksum(file)
    if kept is None:
        # A single flipped byte in HDF5's own tables gives wrong numbers without an error, or ends the process.
        sidecar = paths.checksum(file).name
        raise DamagedResultError(
            f"cannot be checked: {sidecar} is missing or unreadable (if you are sure of the file, write it: "
            f"sha256sum {file.name} > {sidecar}, in its folder)"
        )
    try:
        opened = _open_if_unchanged(file, kept.sha256)
        with closing(opened) as root:
            record = {**_record(root, expected_digest), "sha256": kept.sha256}
            yield root, record
    except (OSError, RuntimeError, KeyError, IndexError, AttributeError, ValueError) as error:
        raise DamagedResultError(f"truncated or damaged: {type(error).__name__}") from None


def _open_if_unchanged(file: Path, sha256: str) -> netCDF4.Dataset:
    if provenance.file_sha256(file) != sha256:
        raise DamagedResultError(f"damaged: its bytes do not match {paths.checksum(file).name}")
    return netCDF4.Dataset(file)


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


def is_partial(file: Path) -> bool:
    """Whether a file is a merge of some pairs only, by its own word; False for one that is not readable as a result."""
    if not file.is_file():
        return False
    try:
        with netCDF4.Dataset(file) as root:
            return bool(root.partial == 1)
    except (OSError, RuntimeError, AttributeError, ValueError):
        return False


def _read_back(file: Path) -> None:
    """Open what was written once more, so that a finished result is known to be readable."""
    with netCDF4.Dataset(file) as root:
        groups = list(root.groups)
    if "params" not in groups:
        raise DamagedResultError(f"{file} could not be read back after writing; is the disk failing?")


# --- provenance -------------------------------------------------------------------------------------------------


def _write_runtime(root: netCDF4.Dataset, attributes: Mapping[str, Any], merged: Merged, real: np.dtype[Any]) -> None:
    runtime = root.createGroup("runtime")
    sources = sorted(merged.records, key=lambda source: source.index)
    records = [merged.records[source] for source in sources]
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


def _mark_as_partial(root: netCDF4.Dataset, task: Merge, merged: Merged) -> None:
    """Say in the attributes which pairs are in, and which are missing."""
    missing = [source for source in task.sources if source not in merged.records]
    add_attributes(
        root,
        {
            "partial": True,
            "num_pairs_in": len(merged.records),
            "num_pairs_missing": len(missing),
            "pairs_in": _pairs(merged.records),
            "pairs_missing": _pairs(missing),
        },
    )


def _pairs(sources: Iterable[Source]) -> dict[str, str]:
    """Configurations by defocus id: `{"p2d500": "0-3, 7"}`."""
    by_defocus: dict[str, list[int]] = {}
    for source in sources:
        by_defocus.setdefault(paths.defocus_id(source.defocus_nm), []).append(source.configuration)
    return {identifier: campaign.ranges(numbers) for identifier, numbers in by_defocus.items()}
