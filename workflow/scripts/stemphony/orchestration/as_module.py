"""Stemphony as a `module` of another workflow: Snakemake reads its Snakefile, but runs none of its hooks.

A module cannot run code between the reading of the Snakefile and the first job. So the plan is made while Snakemake
reads the Snakefile, and is handed over to the jobs, see `store.handover` and `module_run`. In the other workflow, only
one environment variable is set. `shell.prefix` and the executors stay as they are.
"""

from __future__ import annotations

import atexit
import copy
import functools
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from stemphony import contract, interpreters, paths
from stemphony.errors import ConfigError, StemphonyError, StorageError
from stemphony.experiment import campaign, configuration, overrides
from stemphony.orchestration import dag, outdated, preflight
from stemphony.orchestration.inputs import Inputs, find_file, inputs_of
from stemphony.orchestration.plan import Preflight
from stemphony.orchestration.session import Session
from stemphony.store import handover, hdf5_locks, holders, ledger, sharing
from stemphony.store.checkpoints import put_aside
from stemphony.store.claims import process_start
from stemphony.store.handover import Handover
from stemphony.terminal import plain

MODULE: Final = "module"
"""Place that errors about the statement `module` name, instead of a key of the config."""
ALONE: Final = (
    "Or run it with `stemphony run` in a rule of your workflow, which has all features: docs/how-to/module.md."
)


@dataclass(frozen=True)
class Invocation:
    """One invocation of the other workflow.

    Attributes
    ----------
    folder : Path
        Folder of its handovers. An environment variable gives it to the jobs.
    sessions : dict
        Session of each config that was planned. Each statement `use rule … from` reads the Snakefile again and finds
        its session here.
    """

    workflow: Any
    folder: Path
    sessions: dict[str, Session] = field(default_factory=dict)


_invocations: list[Invocation] = []


def open_module(config: Mapping[str, Any], workflow: Any) -> Session:
    """Plan the campaign of the config that `module` gives, and hand the plan over to the jobs.

    Parameters
    ----------
    config : mapping
        The `config:` of the statement `module`. It belongs to the other workflow and is not changed.

    Returns
    -------
    Session
        The same session for the same config in one run of Snakemake.

    Raises
    ------
    StemphonyError
        The config is not valid, or the statement asks for what a module cannot do.
    """
    given = copy.deepcopy(dict(config))
    invocation = _invocation_of(workflow)
    key = json.dumps([given, str(Path.cwd())], default=str)
    if key not in invocation.sessions:
        with _same_environment():
            invocation.sessions[key] = _open(given, invocation)
    return invocation.sessions[key]


@contextmanager
def _same_environment() -> Iterator[None]:
    """Undo changes of the environment, because all jobs inherit it. For example, importing netCDF4 sets a variable."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _open(given: dict[str, Any], invocation: Invocation) -> Session:
    workflow = invocation.workflow
    if not workflow.is_main_process:
        return _of_handover(invocation, str(given["simulation"]["name"]))
    _refuse_prefix(workflow)
    outer = workflow.config_settings.config
    overrides.refuse_reporting(outer, is_ours=False)
    wishes = given.pop(contract.REPLACE_KEY, False), outer.get(contract.REPLACE_KEY, False)
    inputs, given = _inputs(given, workflow)
    name = inputs.config["simulation"]["name"]
    result, files = paths.ResultPaths.of(name), Handover(invocation.folder / name)
    checked = preflight.check(replace(inputs, config_files=(files.kept_config,)))
    graph = dag.Graph(workflow)
    outdated.restore_specimen(checked.campaign, result, inputs.environment)
    _keep_unseen(checked.campaign, result)
    files.write(
        yaml.safe_dump(given, sort_keys=False, allow_unicode=True),
        _environment(files, inputs, workflow),
        _content(checked, graph),
    )
    workflow.register_envvars(contract.MODULE_VARIABLE)
    require = functools.partial(_require, checked, graph, Path.cwd(), any(map(overrides.is_true, wishes)))
    return Session(checked.campaign, result, checked.mem_mb, checked.runtime_min, None, _enter(name), require)


# --- what a module cannot do ------------------------------------------------------------------------------------------


def _refuse_prefix(workflow: Any) -> None:
    if dag.moves_files(workflow):
        raise ConfigError(
            MODULE,
            "has `prefix` or `replace_prefix`, and Stemphony finds its files below results/<name> only. Leave it out. "
            "simulation.name tells several simulations apart, and a directory is chosen with `workdir:` or "
            "`snakemake --directory`.",
        )


def _refuse_features(given: Mapping[str, Any]) -> None:
    if not given:
        raise ConfigError(
            MODULE,
            'gives no config. Write `config: config["stemphony"]`, and a block `stemphony:` with the config of the '
            "simulation into the config file of your workflow.",
        )
    if configuration.is_swept(given):
        raise ConfigError(
            configuration.SWEEP,
            f"is not available in a module. Write one statement `module` for each simulation. {ALONE}",
        )


def _refuse_goal(config: Mapping[str, Any]) -> None:
    if isinstance(config["frozen_phonon"]["configurations"], Mapping):
        raise ConfigError(
            "frozen_phonon.configurations",
            f"got a goal with `until`, which is not available in a module. Give a number. {ALONE}",
        )


@_same_environment()
def _require(checked: Preflight, graph: dag.Graph, directory: Path, may_replace: bool) -> None:
    """Call `_require_leave`. An error ends the process with its message, so that Snakemake prints no traceback."""
    try:
        _require_leave(checked, graph, directory, may_replace)
    except StemphonyError as error:
        print(f"\n{plain(str(error))}\n", file=sys.stderr, flush=True)
        sys.exit(1)


def _require_leave(checked: Preflight, graph: dag.Graph, directory: Path, may_replace: bool) -> None:
    """Refuse to replace results, and force outdated files. Called before Snakemake decides which jobs run."""
    if Path.cwd() != directory:
        raise StorageError(
            f"The working directory is {Path.cwd()}, and was {directory} when the module was read. Write `workdir:` "
            "above the statement `module`."
        )
    planned, standing = checked.campaign, checked.standing
    result = paths.ResultPaths.of(planned.name)
    if standing is not None and not may_replace:
        standing.require_leave(standing.to_do, checked.replacement_cost)
    graph.force(outdated.foreign_job_files(planned, result))
    # After a failed merge, Snakemake puts the old file back with a new time. No hook runs that could mark the file as
    # incomplete, so it is forced here.
    if result.merged.exists() and not outdated.is_merged(planned, result):
        graph.force([result.merged])


# --- what the jobs need -----------------------------------------------------------------------------------------------


def _inputs(given: dict[str, Any], workflow: Any) -> tuple[Inputs, dict[str, Any]]:
    """The checked config with its files, and the given config with absolute paths."""
    _refuse_features(given)
    # Values that were changed with `--config` are texts.
    given = overrides.typed(json.loads(json.dumps(given, default=str)), {})
    complete = configuration.validate(given)
    _refuse_goal(complete)
    of_outer = tuple(Path(file).resolve() for file in workflow.configfiles[-1:])
    try:
        inputs = inputs_of(complete, of_outer)
    except ConfigError as error:
        if "there is no such file" not in str(error):
            raise
        raise StemphonyError(
            f"{error} In a module, the file must exist before Snakemake starts: the plan needs it. A rule of the same "
            f"workflow cannot make it. {ALONE}"
        ) from None
    _name_files(given, inputs, of_outer)
    return inputs, given


def _name_files(given: dict[str, Any], inputs: Inputs, of_outer: tuple[Path, ...]) -> None:
    """Put absolute paths into a config, because a copy of the config is kept in another folder."""
    given["specimen"]["file"] = str(inputs.specimen_file)
    if inputs.snapshots_file is not None:
        given["frozen_phonon"]["snapshots"] = str(inputs.snapshots_file)
    for name, file in inputs.sensitivity_files.items():
        given["adf"]["detectors"][name]["sensitivity"] = str(file)
    reporting = given.get("http_reporting") or {}
    for key in ("auth_pass_file", "ca_file"):
        if reporting.get(key):
            folder = of_outer[-1].parent if of_outer else Path.cwd()
            reporting[key] = str(find_file(f"http_reporting.{key}", reporting[key], folder))


def _content(checked: Preflight, graph: dag.Graph) -> dict[str, Any]:
    """What the first job needs to begin a run."""
    planned, standing = checked.campaign, checked.standing
    processors = graph.parallel_jobs(int(planned.config["resources"]["threads"]))
    to_do = planned.jobs if standing is None else len(standing.to_do)
    return {
        "plan": checked.plan(0, processors, to_do, ledger.now()),
        "description": checked.description,
        "margin_nm": planned.edges.margin_nm,
        "random_seed": planned.config["simulation"]["random_seed"] or 0,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": process_start(os.getpid()),
    }


def _of_handover(invocation: Invocation, name: str) -> Session:
    """The session of a job on a cluster. The job computes what its run planned."""
    plan = Handover(invocation.folder / name).read()["plan"]
    need, result = plan["resources"], paths.ResultPaths.of(name)
    return Session(campaign.of_plan(plan), result, need["mem_mb"], need["runtime_min"], None, _enter(name))


def _enter(name: str) -> str:
    """Shell code that stands before the commands of a simulation's rules."""
    return f'. "${contract.MODULE_VARIABLE}/{name}/{handover.ENVIRONMENT}"; '


def _keep_unseen(planned: campaign.Campaign, result: paths.ResultPaths) -> None:
    """Give a second name to finished files that Snakemake is about to delete because it did not see their jobs end."""
    for defocus in planned.defoci:
        for number in range(planned.configurations):
            file = result.job(defocus.id, number)
            if file.exists() and dag.is_incomplete(file):
                put_aside(file, result.aside(defocus.id, number))


def _environment(files: Handover, inputs: Inputs, workflow: Any) -> str:
    """Shell code that sets the environment of one job. Without a module, the Snakefile sets it for all jobs."""
    lines = [
        f"export {name}={shlex.quote(entries)}" if entries else f"unset {name}"
        for name, entries in interpreters.entries_elsewhere().items()
    ]
    # An empty entry of PATH would mean the working directory.
    lines.append(f'export PATH={shlex.quote(str(Path(sys.executable).parent))}"${{PATH:+:$PATH}}"')
    lines.append(f'export {hdf5_locks.VARIABLE}="${{{hdf5_locks.VARIABLE}:-FALSE}}"')
    variables = {
        contract.HANDOVER_VARIABLE: str(files.folder),
        contract.SCRIPTS_VARIABLE: str(outdated.SCRIPTS),
        contract.CONFIG_VARIABLE: json.dumps([str(files.config)]),
        interpreters.SAFE_PATH_VARIABLE: "1",
        interpreters.NETCDF_VARIABLE: "1",
        **inputs.environment,
    }
    lines += [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    if "CONDA" in {method.name for method in workflow.deployment_settings.deployment_method}:
        lines.append('export PYTHONNOUSERSITE=1 PATH="$CONDA_PREFIX/bin:$PATH"')
    if sharing.are_shared(Path.cwd(), paths.ResultPaths.of(inputs.config["simulation"]["name"]).root):
        lines.append("umask g=rwx")
    return "".join(f"{line}\n" for line in lines)


def _invocation_of(workflow: Any) -> Invocation:
    """The invocation to which this process belongs. The main process makes it."""
    for known in _invocations:
        if known.workflow is workflow:
            return known
    if workflow.is_main_process:
        directory = Path.cwd()
        handover.sweep_old(directory)
        folder = handover.new_invocation(directory)
        os.environ[contract.MODULE_VARIABLE] = str(folder)
        atexit.register(_forget, workflow, folder, directory, os.getpid())
    else:
        folder = Path(os.environ.get(contract.MODULE_VARIABLE, ""))
    _invocations.append(Invocation(workflow, folder))
    return _invocations[-1]


def _forget(workflow: Any, folder: Path, directory: Path, pid: int) -> None:
    """Remove the handovers at the end of the process `pid`, but not at the end of a child that it forked."""
    settings = workflow.remote_execution_settings
    if os.getpid() == pid and not (settings and settings.immediate_submit):
        handover.remove(folder)
        holders.forget_run(directory, pid)
