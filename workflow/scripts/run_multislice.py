"""Rule run_multislice: one frozen-phonon configuration at one defocus, all probe positions.

    python run_multislice.py PARAMS SPECIMEN OUTPUT THREADS

PARAMS is the JSON text of the rule's params. SPECIMEN holds the normalised atoms. The script writes OUTPUT and its
checksum file atomically, and reports the status of the job.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

# PYTHONSAFEPATH keeps the working directory out of the search path, but also this folder. So it is added here.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from stemphony import provenance
from stemphony.contract import MULTISLICE_RULE
from stemphony.errors import DamagedResultError
from stemphony.orchestration import job, module_run, script
from stemphony.orchestration.attempt import Attempt
from stemphony.orchestration.job_log import say
from stemphony.orchestration.stopwatch import Stopwatch
from stemphony.paths import ResultPaths

if TYPE_CHECKING:
    from stemphony.compute.atoms import Atoms
    from stemphony.compute.recorder import JobSignals, StoredWaves
    from stemphony.compute.superposition import Superposition
    from stemphony.experiment.model import Experiment
    from stemphony.specimen.specimen import Specimen

# Each stage imports what it needs. So the first report is sent before numpy is imported: on a slow file system, the
# import takes seconds.


def run_multislice(params: dict[str, Any], specimen_file: Path, output: Path, threads: int) -> None:
    """Compute one job and write its result file.

    Parameters
    ----------
    params : dict
        Params of the rule, see `Campaign.job_params`.
    specimen_file : Path
        The normalised atoms, `specimen.nc`.
    output : Path
        Job file to write, see `ResultPaths.job`.
    threads : int
        Threads that compute the waves.

    Raises
    ------
    StemphonyError
        The specimen is not that of the job, the time limit is near, or a file cannot be written.
    """
    watch = Stopwatch()
    with job.scope(output, params, threads) as scope:
        from stemphony.compute.configuration import with_losses
        from stemphony.experiment.model import Experiment
        from stemphony.orchestration.preview_image import previews_of
        from stemphony.results.job_file import JobRecord, atom_table, take_finished, write_job
        from stemphony.results.siblings import take_from_sibling
        from stemphony.store.dates import date_not_ahead

        date_not_ahead([specimen_file])
        if scope.may_be_done and take_finished(output, scope.attempt.aside, params, scope.attempt.identity.ids):
            say("another process has finished this job meanwhile: its result is checked and taken")
            scope.settle(output)
            return
        if sibling := take_from_sibling(output, params, scope.attempt.identity, scope.check, say):
            say(f"{sibling} of this sweep has the same job: its result is checked and taken")
            scope.settle(output)
            return
        specimen = required_specimen(specimen_file, params)
        whole = Experiment.of(params, specimen.cell, specimen.layers, specimen.sensitivities)
        experiment = with_losses(whole.computed, params, scope.attempt.effective_seed, scope.attempt.configuration)
        atoms = draw_configuration(scope.attempt, experiment, specimen)
        signals, plan_source = compute_signals(scope, experiment, atoms.occupied(), threads)
        root, runtime = describe(scope, signals, watch, threads, plan_source)
        record = JobRecord(params, scope.attempt.effective_seed, root, runtime)
        keep = scope.attempt.plan.get("keep_coordinates", True)
        write_job(output, experiment, record, signals, atom_table(specimen, experiment), atoms if keep else None)
        scope.settle(output)
        scope.show(lambda: previews_of(whole, signals, specimen, params["scan"]))


def required_specimen(file: Path, params: dict[str, Any]) -> Specimen:
    """Read the normalised atoms from `file`, and check that the job with these `params` was planned with them.

    Raises
    ------
    DamagedResultError
        The file was made from another specimen or by another version.
    """
    from stemphony.specimen.specimen_file import read_attributes, read_specimen_file

    specimen, attributes = read_specimen_file(file), read_attributes(file)
    if attributes.get("specimen_digest") != params["specimen_digest"]:
        raise DamagedResultError(
            f"{file} was made from another specimen or by another version than this job expects. "
            "Delete it and run again; no computed configuration is lost by that."
        )
    return specimen


def draw_configuration(attempt: Attempt, experiment: Experiment, specimen: Specimen) -> Atoms:
    """Displace the atoms of a `specimen` for the frozen-phonon configuration of the `attempt`, or take its snapshot.

    `experiment` decides how the atoms are displaced and which slices they belong to.
    """
    from stemphony.compute.configuration import configuration_atoms

    return configuration_atoms(attempt.params, attempt.effective_seed, attempt.configuration, experiment, specimen)


def compute_signals(scope: job.JobScope, experiment: Experiment, atoms: Atoms, threads: int) -> tuple[JobSignals, str]:
    """Send the waves of an `experiment` through the `atoms`, on `threads` threads, and detect them.

    `scope` keeps finished waves in a checkpoint, and reports the progress.

    Returns
    -------
    signals : JobSignals, plan_source : str
        The signals at the computed positions, and where the FFT plans came from.

    Raises
    ------
    TimeLimitError
        The time limit of the job is near. The text says how much is kept.
    """
    from stemphony.compute.cost import DEFAULT_BUDGET_MB
    from stemphony.compute.propagation import strip_plan
    from stemphony.compute.recorder import window_errors
    from stemphony.compute.wisdom import prepare_plans

    begin = time.process_time()
    flag, plan_source = prepare_plans(partial(strip_plan, experiment))
    scope.progress_file.note(fft_plans_s=round(time.process_time() - begin, 2))
    budget_mb = scope.attempt.plan.get("budget_mb", DEFAULT_BUDGET_MB)
    computation = _Computation(scope, experiment, atoms, threads, flag, budget_mb)
    if not experiment.detects:
        return computation.waves_only(), plan_source
    # These few waves come before the scan. If the scan is interrupted later, its finished waves are kept, and these few
    # are soon made again.
    stored = computation.stored()
    signals = computation.superposed() if scope.attempt.plan["shared_waves"] else computation.scanned()
    signals.stored = stored
    if signals.window_check is not None:
        error = window_errors([signals.window_check])
        say(f"error of the windows, measured by this job on some positions: {error}")
    return signals, plan_source


@dataclass(frozen=True)
class _Computation:
    """The ways to compute the signals of one job. All use the same atoms, threads, FFT plans and memory."""

    scope: job.JobScope
    experiment: Experiment
    atoms: Atoms
    threads: int
    flag: str
    budget_mb: float

    @property
    def defocus_nm(self) -> float:
        defocus: float = self.scope.attempt.params["defocus_nm"]
        return defocus

    def waves_only(self) -> JobSignals:
        """The stored waves of a job without detectors."""
        from stemphony.compute.recorder import Recorder

        waves = self.experiment.waves
        with self.scope.keeping() as keeper:
            keeper.report(0, 1)
            signals = Recorder(self.experiment).signals
            signals.stored, signals.waves = self.stored(), len(waves.places) if waves else 0
            keeper.report(1, 1)
        return signals

    def stored(self) -> StoredWaves | None:
        """The waves that the config stores; None if it stores none."""
        from stemphony.compute.stored_waves import stored_waves

        if self.experiment.waves is None:
            return None
        return stored_waves(
            self.experiment, self.atoms, self.defocus_nm,
            threads=self.threads, flag=self.flag, budget_mb=self.budget_mb,
        )  # fmt: skip

    def superposed(self) -> JobSignals:
        """The signals from waves that all defoci of a configuration share. The first job makes and keeps these."""
        from stemphony.compute.superposition import Superposition
        from stemphony.results.kept_waves import shared_waves, waves_digest

        attempt, defocus = self.scope.attempt, self.defocus_nm
        waves = shared_waves(
            attempt.result.waves(attempt.configuration),
            waves_digest(attempt.params, attempt.effective_seed),
            Superposition,
            serves=lambda kept: kept.serves(defocus), compute=self._superpose, say=say, check=self.scope.check,
        )  # fmt: skip
        return waves.signals(self.experiment, defocus)

    def _superpose(self) -> Superposition:
        from stemphony.compute.propagation import Propagation
        from stemphony.compute.superposition import Superposition

        defoci, budget = self.scope.attempt.plan["defoci_nm"], self.budget_mb * 1e6
        with (
            self.scope.keeping() as keeper,
            Propagation(self.experiment, self.atoms, self.threads, self.flag) as propagation,
        ):
            return Superposition.of(propagation, defoci, budget, keeper.report, keeper)

    def scanned(self) -> JobSignals:
        """The signals of a job that shares no waves."""
        from stemphony.compute.simulation import simulate

        with self.scope.keeping() as keeper:
            return simulate(
                self.experiment, self.atoms, self.defocus_nm, threads=self.threads, flag=self.flag,
                on_progress=keeper.report, budget_mb=self.budget_mb, keeper=keeper,
            )  # fmt: skip


def describe(
    scope: job.JobScope, signals: JobSignals, watch: Stopwatch, threads: int, plan_source: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes of the result file of the job in `scope`, and of its group `runtime`.

    `runtime` says how `signals` were computed: the times of `watch`, the number of `threads`, and `plan_source`, where
    the FFT plans came from.
    """
    from stemphony.compute.wisdom import cpu_model

    attempt, uuid = scope.attempt, scope.attempt.identity.id
    root = {
        "title": attempt.plan.get("title", attempt.result.name), "id": uuid, "Conventions": "AMBER",
        "program": provenance.PROGRAM, "version": provenance.VERSION, "git_commit": provenance.git_commit(),
        "created": watch.started,
    }  # fmt: skip
    runtime = {
        "UUID": uuid, **provenance.runtime_attributes(), **watch.record(),
        "host": socket.gethostname(), "cpu_model": cpu_model(), "threads": threads,
        "fft_plan_source": plan_source, "attempt": attempt.number, "resumed_at": scope.resumed_at,
        "checkpoint_seconds": scope.checkpoint_seconds,
        "algorithm": signals.algorithm, "waves": signals.waves, "window_check": signals.window_check,
    }  # fmt: skip
    return root, runtime


def main(arguments: list[str]) -> None:
    """Compute one job. `arguments` are PARAMS, SPECIMEN, OUTPUT and THREADS, see the module."""
    params, specimen_file, output, threads = arguments
    job.limit_threads(1)
    module_run.join(ResultPaths.of_job_file(Path(output)), MULTISLICE_RULE)
    run_multislice(json.loads(params), Path(specimen_file), Path(output), int(threads))


if __name__ == "__main__":
    script.run(main)
