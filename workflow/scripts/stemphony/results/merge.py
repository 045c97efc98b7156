"""Merge the job files of a simulation into one result.

The first pass opens each job file once, checks it and reads it. If any file is unusable, the merge discards what it has
written, lists all unusable files with reasons, and deletes no job file. Averages are made batch by batch (see
`averages`), so the memory does not grow with the number of jobs: it holds one block of the result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from stemphony import provenance
from stemphony.compute.recorder import window_errors
from stemphony.contract import REFUSAL
from stemphony.errors import DamagedResultError
from stemphony.experiment import campaign
from stemphony.experiment.blurring import source_keys
from stemphony.experiment.model import Experiment
from stemphony.experiment.stopping import interval95
from stemphony.results import signal_blocks
from stemphony.results.accuracy_group import add_accuracy
from stemphony.results.averages import Batch, BlockAverage, batches_of
from stemphony.results.batch_processes import ReadBatches, batch_reader
from stemphony.results.batches import BatchRequest, Reading, Stamp, stamp_of
from stemphony.results.job_file import atom_table, effective_blocks
from stemphony.results.job_table import add_runtime, mark_as_partial
from stemphony.results.layout import (
    SOURCE_IS_CUT,
    STANDARD_ERROR,
    AtomTable,
    add_adf,
    add_atoms,
    add_attributes,
    add_lattice,
    add_orbit,
    add_params,
    add_phase_images,
    add_source_is_cut,
    add_standard_errors,
    put_frame,
)
from stemphony.results.merge_task import Averaging, MergeTask, Source
from stemphony.results.pattern_group import add_patterns, pattern_blurring
from stemphony.results.phase_images import PhaseImages
from stemphony.results.stemsalabim_names import with_stemsalabim_names
from stemphony.results.wave_group import add_waves
from stemphony.specimen.specimen_file import read_specimen_file
from stemphony.store import ledger
from stemphony.store.atomic import atomic_path
from stemphony.store.rounds import last_round

SHOWN = 20
"""Largest number of files that a refusal lists, to keep it readable. The others are counted."""

SEVERAL_PROCESSES_FROM_S = 2.5
"""Several processes are used if a merge in one process would take longer than this [s]. Starting them takes about as
long."""

JOB_S, BYTE_S = 4e-3, 1 / 120e6
"""Time that the merge takes for a job file, and for each of its bytes [s]. docs/performance.md has the measurements."""


def merge_simulation(
    task: MergeTask, specimen_file: Path, output: Path, warn: Callable[[str], None], processes: int = 1, run: int = 0
) -> MergeOutcome:
    """Merge a simulation. Title, config and identity come from its folder; for results and errors see `merge`.

    Parameters
    ----------
    task : MergeTask
        The job files, and how they are averaged.
    specimen_file : Path
        File specimen.nc of the simulation.
    output : Path
        Where the result goes.
    warn : callable
        Called with each note for the user.
    processes : int
        Number of processes that read job files.
    run : int
        Number of the run whose plan holds title and config; 0 for the last run.

    Returns
    -------
    MergeOutcome
        Outcome of `merge`.
    """
    plan = ledger.read_plan(task.result, run)
    identity = ledger.identity(task.result, task.common["simulation"]["random_seed"] or 0, plan=plan)
    specimen = read_specimen_file(specimen_file)
    experiment = Experiment.of(task.common, specimen.cell, specimen.layers)
    blocks = {name: value for name, value in task.common.items() if isinstance(value, dict)}
    config = plan.get("config", blocks)
    text = _yaml(config)
    return merge(
        task,
        output,
        atom_table(specimen, experiment),
        experiment,
        root_attributes={
            "title": plan.get("title", task.result.name), "id": identity.id, "Conventions": "AMBER",
            "program": provenance.PROGRAM, "version": provenance.VERSION, "git_commit": provenance.git_commit(),
            "config_yaml": text, "config_digest": provenance.digest(config),
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
        # STEMsalabim has the same values under these names.
        params_attributes={
            "config_file_contents": text, "program_arguments": plan.get("program_arguments", ""),
        },
    )  # fmt: skip


def _yaml(config: Mapping[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return text


def merge(
    task: MergeTask,
    output: Path,
    table: AtomTable,
    experiment: Experiment,
    root_attributes: Mapping[str, Any],
    runtime_attributes: Callable[[], Mapping[str, Any]],
    blocks: Mapping[str, Any],
    warn: Callable[[str], None],
    processes: int = 1,
    params_attributes: Mapping[str, Any] | None = None,
) -> MergeOutcome:
    """Check and merge all job files, and write the result atomically.

    Parameters
    ----------
    task : MergeTask
    output : Path
        Where the result goes.
    table : AtomTable
        The atoms at rest.
    experiment : Experiment
        The experiment of all jobs.
    root_attributes : mapping
        Attributes of the result's root.
    runtime_attributes : callable
        Returns attributes of the result's group `runtime`. It is called at the end, because `time_stop` is one of them.
    blocks : mapping
        Blocks of the config.
    warn : callable
        Called with each note for the user.
    processes : int
        Number of processes that read job files. No bit of the result depends on it.
    params_attributes : mapping or None
        Attributes of the result's group `params`.

    Returns
    -------
    MergeOutcome
        The job files in the result and, in a partial result, what is wrong with the others.

    Raises
    ------
    DamagedResultError
        Files are missing, foreign, mixed, truncated or damaged. The message lists them and says what to do.
    StorageError
        The result cannot be written.
    StemphonyError
        A process that reads job files was killed.
    """
    wanted = task.params["save_coordinates"]
    params_attributes = params_attributes or {}
    keep = not task.partial and campaign.keeps_coordinates(wanted, task.most_jobs, len(table.symbols))
    with batch_reader(processes if expected_seconds(task) >= SEVERAL_PROCESSES_FROM_S else 1) as read:
        writer = _ResultWriter(task, table, experiment, warn, read)
        try:
            return writer.write(output, root_attributes, params_attributes, runtime_attributes, blocks, keep)
        except _NoCoordinatesError:
            if wanted is True:
                warn(
                    "save_coordinates: some jobs ran without keeping coordinates; the atoms at rest are stored instead."
                )
            return writer.write(output, root_attributes, params_attributes, runtime_attributes, blocks, keep=False)


def expected_seconds(task: MergeTask) -> float:
    """Estimate the time of a merge in one process [s], from the number and size of the job files of `task`."""
    return sum(JOB_S + BYTE_S * stamp_of(source.file)[1] for source in task.sources)


@dataclass
class MergeOutcome:
    """What became of the job files.

    Attributes
    ----------
    records : dict
        Record of each job in the result, see `job_check.checked`.
    wrong : list of (Source, str)
        Job files that cannot be used, and why.
    stamps : dict
        Stamp of each job file in the result.
    """

    records: dict[Source, dict[str, Any]] = field(default_factory=dict)
    wrong: list[tuple[Source, str]] = field(default_factory=list)
    stamps: dict[Source, Stamp] = field(default_factory=dict)


class _NoCoordinatesError(Exception):
    """A job file holds no displaced atoms."""


class _ResultWriter:
    """Writes one result: its layout, then its signals in passes over the job files, then its provenance."""

    def __init__(
        self,
        task: MergeTask,
        table: AtomTable,
        experiment: Experiment,
        warn: Callable[[str], None],
        read_batches: ReadBatches,
    ) -> None:
        self.task, self.table, self.experiment, self.warn = task, table, experiment, warn
        self.read_batches = read_batches
        self.averagings = Averaging.of_groups(task)
        self.stored = experiment.stored
        self.blurring = signal_blocks.blurring_of(task)
        self.blurring_of_patterns = pattern_blurring(task)
        self.phase_images = PhaseImages.of(experiment, task.params)
        self.cut = self.blurring.is_cut(experiment)
        if self.cut.any():
            warn(
                f"probe.source_fwhm_nm: the source reaches over the edge of what was computed in {self.cut.sum()} of "
                f"{self.cut.size} pixels, which are marked in `images/{SOURCE_IS_CUT}`. scan.margin_nm: "
                f"{self.blurring.margin_nm:g} would compute what they lack."
            )

    def write(
        self,
        output: Path,
        root_attributes: Mapping[str, Any],
        params_attributes: Mapping[str, Any],
        runtime_attributes: Callable[[], Mapping[str, Any]],
        blocks: Mapping[str, Any],
        keep: bool,
    ) -> MergeOutcome:
        """Write the result; `keep` says whether it holds the displaced atoms of all jobs."""
        task, e = self.task, self.stored
        with atomic_path(output) as temporary:
            with netCDF4.Dataset(temporary, "w", format="NETCDF4") as root:
                add_attributes(root, root_attributes)
                add_atoms(root, self.table, len(task.sources) if keep else 0, e.real_dtype)
                add_lattice(root, self.table, str(root_attributes.get("title", "")), e.real_dtype)
                self._add_signals(root)
                outcome = self._fill(root, keep)
                records = [outcome.records[source] for source in sorted(outcome.records, key=lambda s: s.index)]
                seed = records[0]["effective_seed"]
                defoci_nm = task.params["defoci_nm"]
                effective = with_stemsalabim_names(e, effective_blocks(e, blocks, seed), defoci_nm)
                add_params(
                    root, defoci_nm, task.weights, effective, e.real_dtype,
                    params_attributes,
                )  # fmt: skip
                # The group `runtime` comes last, because it says how long the merge took.
                add_runtime(root, runtime_attributes(), outcome.records, e.real_dtype)
                if note := add_accuracy(root, task.result.accuracy, task.common):
                    self.warn(note)
                if task.partial:
                    mark_as_partial(root, task, outcome.records)
            _read_back(temporary)
        checks = [json.loads(record["window_check"]) for record in records if record["window_check"]]
        if checks:
            self.warn(
                f"error of the windows, the largest that any of {len(checks)} jobs measured: {window_errors(checks)}"
            )
        return outcome

    def _add_signals(self, root: netCDF4.Dataset) -> None:
        """Create the variables of the signals."""
        e, task = self.stored, self.task
        if e.adf:
            add_adf(root, e, task.axes("adf"))
            add_phase_images(root, e, self.phase_images.attributes())
            if self.averagings["adf"].with_standard_errors:
                add_standard_errors(root, e, self.phase_images.names)
                self._add_intervals(root)
            if self.blurring.fwhm:
                images = [variable for variable in root["images"].variables.values() if variable.ndim > 1]
                centers = [root["adf"]["center_of_mass"]] if e.center_of_mass else []
                for variable in (*images, root["adf"]["adf_intensities"], *centers):
                    variable.setncatts({"source_fwhm_nm": task.params["source_fwhm_nm"], **source_keys(task.params)})
                add_source_is_cut(root, self.cut)
        if e.cbed_max is not None:
            errors = self.averagings["cbed"].with_standard_errors
            of = self.experiment.patterns
            add_patterns(root, of, task.axes("cbed"), task.params, self.blurring_of_patterns, errors)
        if "waves" in task.params:
            errors = self.averagings["waves"].with_standard_errors
            add_waves(root, e, task.axes("waves"), errors, task.params["waves"]["probe"])
        if self.experiment.orbit is not None and e.detects:
            add_orbit(root, self.experiment.orbit)

    def _add_intervals(self, root: netCDF4.Dataset) -> None:
        """Write the factor from a standard error to half a 95 % interval, and whether a goal was reached."""
        task, number, goal = self.task, int(self.task.params["configurations"]), self.task.params.get("goal")
        first_round = None if goal is None else int(goal["fewest"])
        factor = interval95(number, first_round, self.experiment.distinct)
        for name, variable in root["images"].variables.items():
            if name.endswith(STANDARD_ERROR):
                variable.interval95_factor = factor
        if goal is not None and (judged := last_round(task.result, number)) is not None:
            largest = judged["largest"]["relative_error"]
            root["images"].setncatts({
                "until": goal["until"], "until_reached": np.int32(judged["reached"]),
                "largest_relative_error": np.nan if largest is None else largest,
            })  # fmt: skip

    def _fill(self, root: netCDF4.Dataset, keep: bool) -> MergeOutcome:
        """Fill the signals in passes over the job files; the first pass checks the files."""
        outcome = MergeOutcome()
        for number, blocks in enumerate(self._passes() or [[]]):
            averagings = [self.averagings[block.group] for block in blocks] or [self.averagings["adf"]]
            averages = [
                BlockAverage(averaging, block.first, partial(block.put, root))
                for averaging, block in zip(averagings, blocks, strict=False)
            ]
            first = number == 0
            batches = batches_of(averagings, len(self.table.symbols) if keep else 0)
            usable = None if first else outcome.stamps
            request = BatchRequest(
                self.task, tuple(blocks), averagings[0].by_configuration, first, keep and first, usable
            )
            for batch, reading in zip(batches, self.read_batches(request, batches), strict=True):
                self._take(root, outcome, batch, reading, averages)
            self._refuse_what_is_wrong(outcome)
            for average, block in zip(averages, blocks, strict=True):
                average.end()
                for place in average.averaging.places():
                    if place not in average.done:
                        block.put_nothing(root, place)
        return outcome

    def _passes(self) -> list[list[signal_blocks.Block]]:
        """Blocks of each pass. They need the same order of jobs, and their sums fit the memory together."""
        passes: list[list[signal_blocks.Block]] = []
        order, room = None, 0.0
        errors = self.averagings["cbed"].with_standard_errors and bool(self.task.params["cbed"].get("standard_errors"))
        blocks = list(
            signal_blocks.blocks_of(
                self.experiment, self.blurring, self.phase_images, self.blurring_of_patterns, errors
            )
        )
        for block in sorted(blocks, key=lambda block: self.averagings[block.group].by_configuration):
            if self.averagings[block.group].by_configuration != order or block.bytes > room:
                passes.append([])
                order, room = self.averagings[block.group].by_configuration, signal_blocks.BLOCK_BYTES
            passes[-1].append(block)
            room -= block.bytes
        return passes

    def _take(
        self,
        root: netCDF4.Dataset,
        outcome: MergeOutcome,
        batch: Batch,
        reading: Reading,
        averages: Sequence[BlockAverage],
    ) -> None:
        outcome.records.update(reading.records)
        outcome.stamps.update(reading.stamps)
        outcome.wrong += reading.wrong
        if outcome.wrong and not self.task.partial:
            return
        for source, frame in reading.frames:
            if frame is None:
                raise _NoCoordinatesError
            put_frame(root, source.index, *frame)  # a job file holds coordinates in nm, as the result does
        for average, sums in zip(averages, reading.sums, strict=True):
            average.add(batch, sums)
        reading.sums = []  # the next batch needs this memory

    def _refuse_what_is_wrong(self, outcome: MergeOutcome) -> None:
        if self.task.partial and outcome.records:
            wrong = []
        else:
            wrong = [(source.file, what) for source, what in sorted(outcome.wrong, key=lambda entry: entry[0].index)]
        if not wrong:
            for key, what in (("effective_seed", "random seed"), ("physics_version", "physics_version")):
                values = {record[key] for record in outcome.records.values()}
                if len(values) > 1:
                    mixed = f"mixed: files with different {what}: {sorted(map(str, values))}"
                    wrong.append((self.task.result.root / "jobs", mixed))
        if wrong:
            listed = "\n".join(f"  {file}: {what}" for file, what in wrong[:SHOWN])
            more = f"\n  … and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            raise DamagedResultError(
                f"cannot merge {self.task.result.root}: {len(wrong)} of {len(self.task.sources)} {REFUSAL}.\n"
                f"{listed}{more}\nNothing was deleted. Delete (or move away) the files listed and run again: "
                "only they are computed again."
            )


def _read_back(file: Path) -> None:
    """Open the written file once more, to make sure that a finished result is readable."""
    with netCDF4.Dataset(file) as root:
        groups = list(root.groups)
    if "params" not in groups:
        raise DamagedResultError(f"{file} could not be read back after writing; is the disk failing?")
