"""What the Snakefile calls: a campaign from Snakemake's config, in the main process and in those of its jobs."""

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

from stemphony import paths, provenance
from stemphony.contract import (
    BEGAN_VARIABLE,
    CONFIG_VARIABLE,
    SCRIPTS_VARIABLE,
    SNAPSHOTS_VARIABLE,
    SPECIMEN_VARIABLE,
)
from stemphony.errors import StemphonyError
from stemphony.experiment import campaign
from stemphony.experiment.campaign import Campaign
from stemphony.orchestration import dag, hooks, outdated, preflight, slurm
from stemphony.orchestration.job import run_number
from stemphony.orchestration.outdated import SCRIPTS
from stemphony.store import ledger

# In front of each rule's command: Snakemake's own, and behind the activation of a conda environment what that leaves
# open. The environment replaces the one that was active, wherever in PATH it stood; and Python would also look into
# the folder of `pip install --user`.
STRICT = "set -euo pipefail; "
ONLY_THIS_CONDA = 'export PYTHONNOUSERSITE=1 PATH="$CONDA_PREFIX/bin:$PATH"; '
# Snakemake's graph of 10,000 jobs is millions of objects that live to the end. At Python's own threshold of 700 a
# fifth of a dry run went into looking through them for garbage.
GARBAGE_THRESHOLD = 100_000
# Set in the jobs of batch systems that end them after the `runtime` that was asked for: Slurm, LSF, PBS, Grid Engine.
BATCH_SYSTEMS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "JOB_ID")
SNAKEMAKE_MB = 300
"""What a cluster's job needs beside the computation: Snakemake runs twice in it."""


@dataclass(frozen=True)
class Session:
    """A planned campaign, as rules and hooks use it.

    Attributes
    ----------
    base_mem_mb, base_runtime_min : int
        Memory and time of one job at its first attempt.
    run : Run or None
        The invocation that the hooks report on; None in the process of a job.
    """

    campaign: Campaign
    result: paths.ResultPaths
    base_mem_mb: int
    base_runtime_min: int
    run: hooks.Run | None

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

    def jobs_to_merge(self, wildcards: Any) -> list[Path]:
        """Result files of all jobs. Snakemake asks for them before it decides what runs, when it may merge."""
        if self.run is not None:
            self.run.force_outdated()
        return self.job_files

    @property
    def merge_params(self) -> str:
        """Params of merge_results as one JSON text."""
        return provenance.canonical_json(self.campaign.merge_params)

    @property
    def specimen_is_outdated(self) -> bool:
        """Whether specimen.nc was made from something else than this campaign's specimen, or by a run that was killed.

        Snakemake notes what it is about to make, and makes it again if it was killed meanwhile.
        """
        if not self.result.specimen.exists():
            return False
        # One that is damaged and could not be made anew: the first job that needs it says so. As an ordinary input,
        # newer than the job files, it would have all of them deleted and computed again from nothing.
        return dag.is_incomplete(self.result.specimen) or outdated.is_of_another_specimen(self.campaign, self.result)

    @property
    def threads(self) -> int:
        """Threads of one job."""
        return int(self.campaign.config["resources"]["threads"])

    def mem_mb(self, wildcards: Any, attempt: int) -> int:
        """Memory that a cluster is asked for, for one job; more at each attempt."""
        return (self.base_mem_mb + SNAKEMAKE_MB) * attempt

    def runtime(self, wildcards: Any, attempt: int) -> int:
        """Minutes of one job, more at each attempt."""
        return self.base_runtime_min * attempt

    def try_number(self, wildcards: Any, attempt: int) -> int:
        """Which of Snakemake's tries at a job this is in this run, from 1."""
        return attempt


def open_session(config: dict[str, Any], workflow: Any) -> Session:
    """Plan the campaign of Snakemake's `config`; ends with a message, not a traceback, when it cannot be.

    Takes the block http_reporting out of `config`: Snakemake would store it, and custom parameters may be tokens.
    """
    files = [Path(file).resolve() for file in workflow.overwrite_configfiles] or [
        Path(workflow.basedir) / "config" / "config.yaml"
    ]
    gc.set_threshold(GARBAGE_THRESHOLD)
    given = copy.deepcopy(config)
    config.pop("http_reporting", None)
    try:
        return _open(given, files, workflow)
    except StemphonyError as error:
        print(f"\n{error}\n", file=sys.stderr)
        sys.exit(1)


def _open(given: Mapping[str, Any], files: list[Path], workflow: Any) -> Session:
    inputs = preflight.read_inputs(given, files)
    result = paths.ResultPaths.of(inputs.config["simulation"]["name"])
    prepare_environment(files, inputs)
    if workflow.remote_exec and any(name in os.environ for name in BATCH_SYSTEMS):
        # The first of a job's processes: the one that it starts in its turn inherits this.
        os.environ.setdefault(BEGAN_VARIABLE, str(time.monotonic()))
    if workflow.is_main_process:
        checked = preflight.check(inputs)
        notes = outdated.restore_specimen(checked.campaign, result)
        slurm.adapt_executor(result.name, hooks.say)
        run = hooks.Run(checked, dag.Graph(workflow), hooks.say, notes)
        return Session(checked.campaign, result, checked.mem_mb, checked.runtime_min, run)
    # A job's process computes what its main process planned, whatever became of the config file meanwhile, and whatever
    # another run plans in this folder.
    plan = ledger.read_plan(result, run_number(result))
    if plan:
        known = campaign.InputFiles(**plan["files"])
        need = plan["resources"]
        return Session(campaign.plan(plan["config"], known), result, need["mem_mb"], need["runtime_min"], None)
    checked = preflight.check(inputs)  # no plan was left: hooks are switched off
    return Session(checked.campaign, result, checked.mem_mb, checked.runtime_min, None)


def shell_prefix(workflow: Any) -> str:
    """What stands in front of each rule's command."""
    methods = {method.name for method in workflow.deployment_settings.deployment_method}
    return STRICT + (ONLY_THIS_CONDA if "CONDA" in methods else "")


def prepare_environment(config_files: list[Path], inputs: preflight.Inputs) -> None:
    """Environment of the rules' shell commands: this Python first, and what must not stand in params or argv."""
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    os.environ[SCRIPTS_VARIABLE] = str(SCRIPTS)
    os.environ[CONFIG_VARIABLE] = json.dumps([str(file) for file in config_files])
    os.environ[SPECIMEN_VARIABLE] = str(inputs.specimen_file)
    if inputs.snapshots_file is not None:
        os.environ[SNAPSHOTS_VARIABLE] = str(inputs.snapshots_file)
