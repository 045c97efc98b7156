"""What the Snakefile calls: it plans a campaign from Snakemake's config, in the main process and in each job."""

from __future__ import annotations

import copy
import gc
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemphony import contract, paths, provenance
from stemphony.accuracy import refinements
from stemphony.errors import StemphonyError
from stemphony.experiment import campaign, overrides
from stemphony.experiment.campaign import Campaign
from stemphony.experiment.stopping import Goal
from stemphony.interpreters import SAFE_PATH_VARIABLE, import_nothing_from_here
from stemphony.orchestration import cancelling, dag, extension, hooks, outdated, preflight, slurm
from stemphony.orchestration.job import run_number
from stemphony.orchestration.outdated import SCRIPTS
from stemphony.store import hdf5_locks, ledger, rounds, sharing
from stemphony.terminal import plain

# These stand before the command of each rule. The first is Snakemake's own. The second follows the activation of a
# conda environment. It puts the environment first in PATH, and switches off packages of `pip install --user`.
STRICT = "set -euo pipefail; "
ONLY_THIS_CONDA = 'export PYTHONNOUSERSITE=1 PATH="$CONDA_PREFIX/bin:$PATH"; '
GARBAGE_THRESHOLD = 100_000
"""New objects between two garbage collections. The graph of 10,000 jobs has millions of objects that live to the end.
At Python's default of 700, garbage collection takes a fifth of a dry run."""
# One of these is set in a job of Slurm, LSF, PBS or Grid Engine, which end it after the `runtime` that it asked for.
BATCH_SYSTEMS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "JOB_ID")
SNAKEMAKE_MB = 300
"""Memory for the two Snakemake processes of a job on a cluster [MB]."""


@dataclass(frozen=True)
class Session:
    """A planned campaign for the rules and hooks.

    Attributes
    ----------
    base_mem_mb, base_runtime_min : int
        Memory [MB] and time [min] of one job at its first try.
    run : Run or None
        This invocation of Snakemake; None in the process of a job.
    """

    planned: Campaign
    result: paths.ResultPaths
    base_mem_mb: int
    base_runtime_min: int
    run: hooks.Run | None

    @property
    def campaign(self) -> Campaign:
        """The campaign, with the configurations of the present round."""
        return self.planned if self.run is None else self.run.campaign

    @property
    def specimen_params(self) -> str:
        """Params of prepare_specimen as one JSON text."""
        return provenance.canonical_json(self.campaign.specimen_params)

    def job_params(self, wildcards: Any) -> str:
        """Params of one job as one JSON text."""
        return provenance.canonical_json(self.campaign.job_params(wildcards.defocus, int(wildcards.configuration)))

    @property
    def job_files(self) -> list[Path]:
        """Result files of all jobs."""
        campaign = self.campaign
        return [self.result.job(d.id, index) for d in campaign.defoci for index in range(campaign.configurations)]

    def jobs_to_merge(self, wildcards: Any, checkpoints: Any) -> list[Path]:
        """Result files of all jobs, the input of the merge. Snakemake calls this before it decides which jobs run.

        Parameters
        ----------
        checkpoints : snakemake.checkpoints.Checkpoints
            The object `checkpoints` of the Snakefile.
        """
        if self.run is not None:
            self.run.force_outdated()
        return self.planned_jobs(checkpoints)

    def planned_jobs(self, checkpoints: Any) -> list[Path]:
        """Result files of all jobs. With a goal, Snakemake learns here of each further round."""
        if self.campaign.goal is not None and self.run is not None:
            self.run.extend(extension.last_total(self.campaign.goal, self.result, checkpoints))
        return self.job_files

    def jobs_of_round(self, wildcards: Any, checkpoints: Any) -> list[Path]:
        """Result files that a round judges, the input of judge_round."""
        total = extension.total_of(int(wildcards.round), self._goal, self.result, checkpoints)
        if self.run is not None:
            self.run.extend(total)
        return [self.result.job(d.id, index) for d in self.campaign.defoci for index in range(total)]

    def judge_params(self, wildcards: Any) -> str:
        """Params of judge_round as one JSON text."""
        number = int(wildcards.round)
        total = extension.total_of(number, self._goal, self.result)
        return provenance.canonical_json({"merge": self.campaign.extended(total).merge_params, "round": number})

    @property
    def _goal(self) -> Goal:
        assert self.campaign.goal is not None  # the rule judge_round exists only with a goal
        return self.campaign.goal

    def merge_params(self, wildcards: Any) -> str:
        """Params of merge_results as one JSON text."""
        return provenance.canonical_json(self.campaign.merge_params)

    @property
    def accuracy_params(self) -> str:
        """Params of prepare_accuracy as one JSON text."""
        return provenance.canonical_json(refinements.params_of(self.campaign))

    def variant_params(self, wildcards: Any) -> str:
        """Params of run_variant as one JSON text."""
        return provenance.canonical_json({"variant": wildcards.variant, **refinements.params_of(self.campaign)})

    @property
    def budget_params(self) -> str:
        """Params of merge_accuracy as one JSON text."""
        config, params = self.campaign.config, refinements.params_of(self.campaign)
        return provenance.canonical_json(
            {
                "common": params["common"],
                "defocus_nm": params["defocus_nm"],
                "title": config["simulation"]["title"],
                "without": refinements.not_applicable(config),
            }
        )

    @property
    def variant_files(self) -> list[Path]:
        """Files of all variants of the error budget."""
        return [self.result.variant(name) for name in refinements.variants(self.campaign.config)]

    def variant_mem_mb(self, wildcards: Any, attempt: int) -> int:
        """Memory of one variant on a cluster [MB]: the finest grid has five times the points of the config's."""
        return (4 * self.base_mem_mb + SNAKEMAKE_MB) * attempt

    def variant_runtime(self, wildcards: Any, attempt: int) -> int:
        """Time limit of one variant [min]: a scan of a few positions on the finest grid."""
        return 4 * self.base_runtime_min * attempt

    @property
    def specimen_is_outdated(self) -> bool:
        """Whether Snakemake will make specimen.nc again: it is of another specimen, or a killed run was making it."""
        if not self.result.specimen.exists():
            return False
        # False for a damaged file that could not be made again. As an ordinary input, newer than the job files, it
        # would make Snakemake delete all of them. The first job that needs the file says that it is damaged.
        return dag.is_incomplete(self.result.specimen) or outdated.is_of_another_specimen(self.campaign, self.result)

    @property
    def threads(self) -> int:
        """Threads of one job."""
        return int(self.campaign.config["resources"]["threads"])

    def mem_mb(self, wildcards: Any, attempt: int) -> int:
        """Memory of one job on a cluster [MB]; the second try gets twice as much, the third three times."""
        return (self.base_mem_mb + SNAKEMAKE_MB) * attempt

    def runtime(self, wildcards: Any, attempt: int) -> int:
        """Time limit of one job [min]; the second try gets twice as much, the third three times."""
        return self.base_runtime_min * attempt

    def try_number(self, wildcards: Any, attempt: int) -> int:
        """Which of Snakemake's tries of a job this is in this run, from 1."""
        return attempt


def open_session(config: dict[str, Any], workflow: Any) -> Session:
    """Plan the campaign of Snakemake's `config`. An error ends the process with its message.

    The block http_reporting is removed from `config`, because Snakemake stores it and its parameters may be secret.

    Parameters
    ----------
    config : dict
        The object `config` of the Snakefile.
    workflow : snakemake.workflow.Workflow
    """
    files = [Path(file).resolve() for file in workflow.overwrite_configfiles] or [
        Path(workflow.basedir) / "config" / "config.yaml"
    ]
    import_nothing_from_here()
    # Executors that do not pass the environment on set this variable before they start Snakemake in the job.
    workflow.register_envvars(SAFE_PATH_VARIABLE)
    gc.set_threshold(GARBAGE_THRESHOLD)
    may_replace = _is_true(config.pop(contract.REPLACE_KEY, False))
    given = copy.deepcopy(config)
    config.pop("http_reporting", None)
    try:
        overrides.refuse_reporting(workflow.config_settings.config)
        return _open(given, files, workflow, may_replace)
    except StemphonyError as error:
        print(f"\n{plain(str(error))}\n", file=sys.stderr)
        sys.exit(1)


def _is_true(value: Any) -> bool:
    """Whether a value of `--config` is true; Snakemake hands some over as text."""
    return value is True or str(value).lower() == "true"


def _open(given: Mapping[str, Any], files: list[Path], workflow: Any, may_replace: bool) -> Session:
    inputs = preflight.read_inputs(given, files)
    result = paths.ResultPaths.of(inputs.config["simulation"]["name"])
    sharing.follow(Path.cwd(), result.root)
    prepare_environment(files, inputs)
    if workflow.remote_exec and any(name in os.environ for name in BATCH_SYSTEMS):
        # This is the first process of the job. Its child inherits the variable and does not change it.
        os.environ.setdefault(contract.BEGAN_VARIABLE, str(time.monotonic()))
    if workflow.is_main_process:
        checked = preflight.check(inputs)
        notes = [*outdated.restore_specimen(checked.campaign, result), *rounds.delete_damaged(result)]
        slurm.adapt_executor(result.name, hooks.say)
        cancelling.cancel_every_job()
        run = hooks.Run(checked, dag.Graph(workflow), hooks.say, notes, may_replace)
        return Session(checked.campaign, result, checked.mem_mb, checked.runtime_min, run)
    # A job computes what its run planned, even if the config file has changed or another run has planned since.
    budget = os.environ.get(contract.PLAN_VARIABLE)
    plan = ledger.read_plan_file(Path(budget)) if budget else ledger.read_plan(result, run_number(result))
    if plan:
        need = plan["resources"]
        return Session(campaign.of_plan(plan), result, need["mem_mb"], need["runtime_min"], None)
    checked = preflight.check(inputs)  # there is no plan, because the hooks did not run
    return Session(checked.campaign, result, checked.mem_mb, checked.runtime_min, None)


def shell_prefix(workflow: Any) -> str:
    """Shell code before the command of each rule."""
    methods = {method.name for method in workflow.deployment_settings.deployment_method}
    return STRICT + (ONLY_THIS_CONDA if "CONDA" in methods else "")


def prepare_environment(config_files: list[Path], inputs: preflight.Inputs) -> None:
    """Set the environment of the rules' shell commands: this Python first in PATH, and paths of input files.

    The paths are not in the params of the rules, because moving a file must not run its jobs again.
    """
    hdf5_locks.do_without()
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    os.environ[contract.SCRIPTS_VARIABLE] = str(SCRIPTS)
    os.environ[contract.CONFIG_VARIABLE] = json.dumps([str(file) for file in config_files])
    os.environ[contract.SPECIMEN_VARIABLE] = str(inputs.specimen_file)
    if inputs.snapshots_file is not None:
        os.environ[contract.SNAPSHOTS_VARIABLE] = str(inputs.snapshots_file)
    if inputs.sensitivity_files:
        files = {name: str(file) for name, file in inputs.sensitivity_files.items()}
        os.environ[contract.SENSITIVITIES_VARIABLE] = json.dumps(files)
