"""One attempt of a job: which job it is, which run started it, and what that run planned."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from stemphony import contract, paths, provenance
from stemphony.orchestration.job_log import say
from stemphony.paths import ResultPaths
from stemphony.status import settings as status_settings
from stemphony.status.reporter import JobReporter
from stemphony.store import ledger, progress


@dataclass(frozen=True)
class Attempt:
    """One attempt of one job: which job it is, which run started it, and what that run planned.

    Attributes
    ----------
    result : ResultPaths
        Paths of the simulation of the job.
    params : mapping
        The params of rule run_multislice.
    identity, plan : Identity, mapping
        Identity of the simulation, and plan of the run that started the job.
    run : int
        Number of this run.
    number : int
        Number of this attempt. Attempts at a job are counted over all runs, from 1.
    """

    result: ResultPaths
    params: Mapping[str, Any]
    identity: ledger.Identity
    plan: Mapping[str, Any]
    run: int
    number: int

    @classmethod
    def begin(cls, output: Path, params: Mapping[str, Any]) -> Self:
        """Claim the next number of an attempt at the job that makes the file `output`.

        `params` are those of rule run_multislice.

        Raises
        ------
        StorageError, DamagedResultError
            The results folder cannot be written, or simulation.json is damaged.
        """
        result = ResultPaths.of_job_file(output)
        run = run_number(result)
        plan = ledger.read_plan(result, run)
        margin_nm = (plan.get("scan_edges") or {}).get("margin_nm")
        identity = ledger.identity(result, params["simulation"]["random_seed"] or 0, margin_nm=margin_nm, plan=plan)
        number = ledger.claim_attempt(result, paths.defocus_id(params["defocus_nm"]), int(params["configuration"]))
        return cls(result, params, identity, {**plan, "shared_waves": _shares_waves(plan, params)}, run, number)

    @property
    def defocus(self) -> str:
        """Id of the defocus."""
        return paths.defocus_id(self.params["defocus_nm"])

    @property
    def configuration(self) -> int:
        """Number of the configuration."""
        return int(self.params["configuration"])

    @property
    def aside(self) -> Path:
        """See `paths.ResultPaths.aside`."""
        return self.result.aside(self.defocus, self.configuration)

    @property
    def effective_seed(self) -> int | None:
        """Seed of the displacements, None without displacements."""
        seed = self.params["simulation"]["random_seed"]
        return None if seed is None else self.identity.effective_seed(seed)

    @property
    def has_another_try(self) -> bool | None:
        """Whether Snakemake would try the job again after this try; None if that is unknown."""
        number, retries = os.environ.get(contract.TRY_VARIABLE, ""), self.plan.get("retries")
        return int(number) <= retries if number.isdigit() and isinstance(retries, int) else None

    @property
    def checkpoint_file(self) -> Path:
        """File of the job's checkpoint. Jobs that share the waves of a configuration share this file."""
        if self.plan["shared_waves"]:
            return self.result.waves_checkpoint(self.configuration)
        return self.result.checkpoint(self.defocus, self.configuration)

    @property
    def checkpoint_key(self) -> str:
        """Digest of everything that decides the content of the checkpoint."""
        shared, of_job = self.plan["shared_waves"], dict(self.params)
        if shared:
            del of_job["defocus_nm"]  # the waves serve all defoci, so a job of any defocus may use the checkpoint
        return provenance.digest(
            {
                "params": of_job,
                "defoci_nm": self.plan["defoci_nm"] if shared else None,
                "seed": self.effective_seed,
                "budget_mb": self.plan.get("budget_mb"),
                "version": provenance.VERSION,
            }
        )

    def progress_file(self) -> progress.ProgressFile:
        """Make the file from which other processes read the progress of this job, and how it ended."""
        file = self.result.progress(self.run, self.defocus, self.configuration)
        file.parent.mkdir(parents=True, exist_ok=True)
        return progress.ProgressFile(
            file, defocus_nm=self.params["defocus_nm"], configuration=self.configuration, attempt=self.number,
            another_try=self.has_another_try,
        )  # fmt: skip

    def reporter(self, settings: status_settings.ReportingSettings | None, threads: int) -> JobReporter:
        """Make the reporter of this job; without `settings` it reports nothing.

        `threads` is the number of threads of the job, which its events contain.
        """
        defoci = self.plan.get("defoci_ids", [])
        keys = ("num_processors", "num_defoci", "num_configurations")
        return JobReporter(
            settings,
            {
                "id": self.identity.id, "instance": self.identity.instance, "num_threads": threads,
                **{key: self.plan.get(key, 1) for key in keys},
            },
            defocus_nm=self.params["defocus_nm"],
            defocus_index=defoci.index(self.defocus) if self.defocus in defoci else 0,
            configuration_index=self.configuration, run=self.run, attempt=self.number,
            job=paths.job_name(self.defocus, self.configuration), reports_dir=self.result.events(self.run),
            marker_file=self.result.defocus_claim(self.run, self.defocus), warn=say,
        )  # fmt: skip


def run_number(result: ResultPaths) -> int:
    """Number of the run that started this process, from the environment; without the variable, of the last run.

    `result` has the paths of the simulation. A member of a sweep may have a number of its own.
    """
    told = contract.variable(contract.RUN_VARIABLE, result.root.name if result.is_member else "")
    return int(told) if told.isdigit() else ledger.latest_run(result)


def _shares_waves(plan: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Whether this job's waves serve all defoci of the plan.

    A job that does not know its run may read the plan of another run, with other defoci or another algorithm. If that
    plan does not contain the job, the job computes its own waves.
    """
    return (
        bool(plan.get("shared_waves"))
        and params["simulation"].get("algorithm", "multislice") != "multislice"
        and not params["frozen_phonon"]["independent_defoci"]
        and paths.defocus_id(params["defocus_nm"]) in plan.get("defoci_ids", [])
    )
