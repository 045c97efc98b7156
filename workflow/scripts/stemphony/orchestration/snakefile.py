"""Functions that the Snakefile calls. They plan a campaign from Snakemake's config, in the main process and in jobs."""

from __future__ import annotations

import copy
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stemphony import contract, paths
from stemphony.errors import StemphonyError
from stemphony.experiment import campaign, configuration, overrides
from stemphony.interpreters import SAFE_PATH_VARIABLE, import_nothing_from_here
from stemphony.orchestration import as_module, cancelling, dag, hooks, outdated, preflight, slurm, sweep_inputs
from stemphony.orchestration.attempt import run_number
from stemphony.orchestration.inputs import read_inputs
from stemphony.orchestration.outdated import SCRIPTS
from stemphony.orchestration.plan import Preflight
from stemphony.orchestration.session import Session
from stemphony.orchestration.sweep_run import SweepRun
from stemphony.orchestration.sweep_session import SweepSession
from stemphony.store import hdf5_locks, ledger, rounds, sharing
from stemphony.terminal import plain

# These texts stand before the command of each rule. The first is Snakemake's own default. The second runs after a conda
# environment is activated. It puts the environment first in PATH, and switches off packages of `pip install --user`.
STRICT = "set -euo pipefail; "
ONLY_THIS_CONDA = 'export PYTHONNOUSERSITE=1 PATH="$CONDA_PREFIX/bin:$PATH"; '
GARBAGE_THRESHOLD = 100_000
"""Number of new objects between two garbage collections. The graph of 10,000 jobs has millions of objects that live
until the end. With Python's default of 700, garbage collection would take a fifth of a dry run."""
BATCH_SYSTEMS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "JOB_ID")
"""Environment variables that Slurm, LSF, PBS and Grid Engine set in a job. They end a job after its `runtime`."""


def open_session(config: dict[str, Any], workflow: Any) -> Session | SweepSession:
    """Plan the campaign of Snakemake's `config`. An error ends the process with its message.

    The block http_reporting is removed from `config`, because Snakemake stores it and its parameters may be secret.

    Parameters
    ----------
    config : dict
        The object `config` of the Snakefile.
    workflow : snakemake.workflow.Workflow

    Returns
    -------
    Session or SweepSession
        The plan with functions that the rules use.
    """
    _note_begin(workflow)
    if dag.is_module(workflow):
        return _or_exit(lambda: as_module.open_module(config, workflow))
    files = [Path(file).resolve() for file in workflow.overwrite_configfiles] or [
        Path(workflow.basedir) / "config" / "config.yaml"
    ]
    import_nothing_from_here()
    # Some executors do not pass the environment on. They set registered variables before Snakemake starts in the job.
    workflow.register_envvars(SAFE_PATH_VARIABLE)
    gc.set_threshold(GARBAGE_THRESHOLD)
    may_replace = overrides.is_true(config.pop(contract.REPLACE_KEY, False))
    given = copy.deepcopy(config)
    config.pop("http_reporting", None)

    def open_own() -> Session | SweepSession:
        overrides.refuse_reporting(workflow.config_settings.config)
        return _open(given, files, workflow, may_replace)

    return _or_exit(open_own)


def _or_exit(opened: Callable[[], Session | SweepSession]) -> Session | SweepSession:
    try:
        return opened()
    except StemphonyError as error:
        print(f"\n{plain(str(error))}\n", file=sys.stderr)
        sys.exit(1)


def _note_begin(workflow: Any) -> None:
    """Note when a batch system started this job."""
    if workflow.remote_exec and any(name in os.environ for name in BATCH_SYSTEMS):
        # The first process of the job sets the variable. Its child inherits the variable and does not change it.
        os.environ.setdefault(contract.BEGAN_VARIABLE, str(time.monotonic()))


def _open(given: Mapping[str, Any], files: list[Path], workflow: Any, may_replace: bool) -> Session | SweepSession:
    if configuration.is_swept(given):
        return _open_sweep(given, files, workflow, may_replace)
    inputs = read_inputs(given, files)
    result = paths.ResultPaths.of(inputs.config["simulation"]["name"])
    sharing.follow(Path.cwd(), result.root)
    prepare_environment(files)
    os.environ.update(inputs.environment)
    if workflow.is_main_process:
        _adapt_executors(result.name)
        return _planned(preflight.check(inputs), dag.Graph(workflow), may_replace)
    # A job computes what its run planned, even if the config file has changed or another run has planned since.
    budget = os.environ.get(contract.PLAN_VARIABLE)
    if budget and (plan := ledger.read_plan_file(Path(budget))):
        return _of_plan(plan, result)
    return _of_last_plan(result) or _checked(preflight.check(inputs))  # if no hook has run, there is no plan


def _open_sweep(given: Mapping[str, Any], files: list[Path], workflow: Any, may_replace: bool) -> SweepSession:
    """Plan all members of a sweep. The process of a job plans only the member that its wildcards name."""
    name = sweep_inputs.name_of(given)
    root = paths.SweepPaths(Path(paths.RESULTS) / name)
    sharing.follow(Path.cwd(), root.root)
    prepare_environment(files)
    if not workflow.is_main_process:

        def member(label: str) -> Session:
            found = _of_last_plan(root.member(label))
            return found or _checked(preflight.check(sweep_inputs.read_sweep(given, files)[1][label]))

        threads = sweep_inputs.threads_of(given)
        return SweepSession(root, threads, member)
    sweep, inputs = sweep_inputs.read_sweep(given, files)
    environment = _own_environments({label: one.environment for label, one in inputs.items()})
    os.environ[contract.MEMBERS_VARIABLE] = json.dumps(environment)
    checked = sweep_inputs.checked_members(inputs)
    _adapt_executors(name)
    sessions = {
        label: _planned(one, dag.Graph(workflow, label), may_replace, is_member=True) for label, one in checked.items()
    }
    run = SweepRun(root, sweep, sessions, environment, dag.Graph(workflow), hooks.say)
    return SweepSession(root, sweep_inputs.threads_of(given), sessions.__getitem__, sweep, run)


def _own_environments(variables: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Set the variables of the first member for all members. Return, for each member, the variables that differ."""
    common = next(iter(variables.values()))
    os.environ.update(common)
    return {
        label: {name: own.get(name, "") for name in {**common, **own} if own.get(name) != common.get(name)}
        for label, own in variables.items()
    }


def _planned(checked: Preflight, graph: dag.Graph, may_replace: bool, is_member: bool = False) -> Session:
    """The session of a simulation that this process runs."""
    result = paths.ResultPaths.of(checked.campaign.name)
    notes = [*outdated.restore_specimen(checked.campaign, result), *rounds.delete_damaged(result)]
    run = hooks.Run(checked, graph, hooks.say, notes, may_replace, is_member)
    return Session(checked.campaign, result, checked.mem_mb, checked.runtime_min, run)


def _checked(checked: Preflight) -> Session:
    """The session of a job without a plan."""
    result = paths.ResultPaths.of(checked.campaign.name)
    return Session(checked.campaign, result, checked.mem_mb, checked.runtime_min, None)


def _of_last_plan(result: paths.ResultPaths) -> Session | None:
    """The session of a job, from the plan of its run; None without a plan."""
    plan = ledger.read_plan(result, run_number(result))
    return _of_plan(plan, result) if plan else None


def _of_plan(plan: Mapping[str, Any], result: paths.ResultPaths) -> Session:
    need = plan["resources"]
    return Session(campaign.of_plan(plan), result, need["mem_mb"], need["runtime_min"], None)


def _adapt_executors(name: str) -> None:
    slurm.adapt_executor(name, hooks.say)
    cancelling.cancel_every_job()


def shell_prefix(workflow: Any) -> str:
    """Shell code before the command of each rule. `workflow` is Snakemake's object of this name."""
    methods = {method.name for method in workflow.deployment_settings.deployment_method}
    return STRICT + (ONLY_THIS_CONDA if "CONDA" in methods else "")


def prepare_environment(config_files: list[Path]) -> None:
    """Set the environment of the rules' shell commands: this Python first in PATH, and paths of files.

    These are the paths of the scripts and of `config_files`. They are not in the params of the rules. Otherwise, moving
    a file would run all jobs again.
    """
    hdf5_locks.do_without()
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    os.environ[contract.SCRIPTS_VARIABLE] = str(SCRIPTS)
    os.environ[contract.CONFIG_VARIABLE] = json.dumps([str(file) for file in config_files])
