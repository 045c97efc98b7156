"""Rule run_multislice: one frozen-phonon configuration at one defocus, all probe positions.

    python run_multislice.py PARAMS SPECIMEN OUTPUT THREADS

PARAMS is the JSON text of the rule's params. Reads the normalised specimen, computes, writes OUTPUT atomically with
its checksum beside it, and reports its status.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from stemphony import provenance
from stemphony.errors import DamagedResultError
from stemphony.orchestration import job, script


def run_multislice(params: dict[str, Any], specimen_file: Path, output: Path, threads: int) -> None:
    """Compute one job and write its result file."""
    watch = job.Stopwatch()
    with job.scope(output, params, threads) as scope:
        # After the thread limits and the first report: these imports take a while on a cold file system.
        from stemphony.compute.atoms import Occupancies, draw_atoms
        from stemphony.compute.cost import DEFAULT_BUDGET_MB
        from stemphony.compute.propagation import Propagation, strip_plan
        from stemphony.compute.recorder import window_errors
        from stemphony.compute.simulation import simulate
        from stemphony.compute.superposition import Superposition
        from stemphony.compute.wisdom import cpu_model, prepare_plans
        from stemphony.experiment.model import Experiment
        from stemphony.orchestration.preview_image import preview_of
        from stemphony.results.job_file import JobRecord, atom_table, take_finished, write_job
        from stemphony.results.kept_waves import shared_waves, waves_digest
        from stemphony.specimen import specimen_file as specimens
        from stemphony.store.dates import date_not_ahead

        phonons, configuration, defocus = params["frozen_phonon"], params["configuration"], params["defocus_nm"]
        date_not_ahead([specimen_file])
        if scope.may_be_done and take_finished(output, scope.aside, params, scope.identity.id):
            job.say("another process has finished this job meanwhile: its result is checked and taken")
            scope.settle(output)
            return
        specimen, attributes = specimens.read_specimen_file(specimen_file), specimens.read_attributes(specimen_file)
        if attributes.get("specimen_digest") != params["specimen_digest"]:
            raise DamagedResultError(
                f"{specimen_file} was made from another specimen or by another version than this job expects. "
                "Delete it and run again; no computed configuration is lost by that."
            )
        experiment = Experiment.of(params, specimen.cell)
        random_seed = params["simulation"]["random_seed"]
        seed = None if random_seed is None else scope.identity.effective_seed(random_seed)
        atoms = draw_atoms(
            experiment,
            specimen.symbols,
            specimen.positions,
            specimen.u_iso,
            frame=None if specimen.frames is None or not phonons["enabled"] else specimen.frames[configuration],
            displaced=seed is not None and phonons["enabled"],
            random_seed=seed or 0,
            configuration=configuration,
            defocus_nm=defocus if phonons["independent_defoci"] else None,
            displace_z=bool(phonons["displace_z"]),
            fixed_slicing=phonons["fixed_slicing"],
            u_aniso=specimen.u_aniso,
            occupancies=None
            if specimen.occupancy is None
            else Occupancies(specimen.occupancy, specimen.disorder, specimen.disorder_group),
        )
        scattering = atoms.occupied()
        flag, plan_source = prepare_plans(partial(strip_plan, experiment))
        budget_mb = scope.plan.get("budget_mb", DEFAULT_BUDGET_MB)

        def shared() -> Superposition:
            with scope.keeping() as keeper, Propagation(experiment, scattering, threads, flag) as propagation:
                return Superposition.of(propagation, scope.plan["defoci_nm"], budget_mb * 1e6, keeper.report, keeper)

        if scope.plan.get("shared_waves"):
            superposition = shared_waves(
                scope.result.waves(configuration), waves_digest(params, seed), Superposition,
                serves=lambda kept: kept.serves(defocus), compute=shared, say=job.say, check=scope.check,
            )  # fmt: skip
            signals = superposition.signals(experiment, defocus)
        else:
            with scope.keeping() as keeper:
                signals = simulate(
                    experiment, scattering, defocus, threads=threads, flag=flag, on_progress=keeper.report,
                    budget_mb=budget_mb, keeper=keeper,
                )  # fmt: skip
        if signals.window_check is not None:
            job.say(
                f"error of the windows, measured by this job on some positions: {window_errors([signals.window_check])}"
            )
        record = JobRecord(
            params=params,
            effective_seed=seed,
            root={
                "title": scope.plan.get("title", scope.result.name), "id": scope.identity.id, "Conventions": "AMBER",
                "program": provenance.PROGRAM, "version": provenance.VERSION, "git_commit": provenance.git_commit(),
                "created": watch.started,
            },
            runtime={
                "UUID": scope.identity.id, **provenance.runtime_attributes(), **watch.record(),
                "host": provenance.host(), "cpu_model": cpu_model(), "threads": threads,
                "fft_plan_source": plan_source, "attempt": scope.attempt, "resumed_at": scope.resumed_at,
                "checkpoint_seconds": scope.checkpoint_seconds,
                "algorithm": signals.algorithm, "waves": signals.waves, "window_check": signals.window_check,
            },
        )  # fmt: skip
        keep = scope.plan.get("keep_coordinates", True)
        write_job(output, experiment, record, signals, atom_table(specimen, experiment), atoms if keep else None)
        scope.settle(output)
        scope.show(lambda: preview_of(experiment, signals))


def main(arguments: list[str]) -> None:
    """Run from a shell rule."""
    params, specimen_file, output, threads = arguments
    job.limit_threads(1)
    run_multislice(json.loads(params), Path(specimen_file), Path(output), int(threads))


if __name__ == "__main__":
    script.run(main)
