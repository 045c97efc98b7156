"""A run as a module of another workflow, where no hook runs: the first job begins the run, and the merge ends it.

The scripts of the rules call these functions. If Stemphony is not a module, the functions do nothing. A module never
sends FAILED and CANCELLED, because none of its processes sees the end of Snakemake.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from stemphony import contract
from stemphony.errors import ConfigError
from stemphony.orchestration.job_log import say
from stemphony.orchestration.run_reports import RunReports
from stemphony.paths import ResultPaths
from stemphony.status import settings as status_settings
from stemphony.status.events import Event
from stemphony.status.reporter import ONSTART_WAIT_S
from stemphony.store import checkpoints, claims, copies, holders, ledger, own_runs
from stemphony.store.atomic import write_text_atomic
from stemphony.store.handover import Handover
from stemphony.store.unfinished import sweep_unfinished

FINISH_NUMBER: Final = 1
"""`seq` of FINISH: another process has sent START_SIMULATION, which has 0."""


def join(result: ResultPaths, rule: str) -> None:
    """Make this process a job of the module's run. The first job begins the run, and the others wait for that.

    Parameters
    ----------
    result : ResultPaths
        The simulation of this job.
    rule : str
        Rule of this job.

    Raises
    ------
    StorageError, DamagedResultError
        The results folder cannot be written, or the handover or simulation.json is damaged.
    """
    handover = _handover()
    if handover is None:
        return
    if not handover.begun.exists():
        claim = _claimed(handover.claim)
        try:
            if not handover.begun.exists():
                _begin(handover, result, rule)
        finally:
            if claim is not None:
                claim.release()
    os.environ[contract.RUN_VARIABLE] = str(handover.run)


def finish(result: ResultPaths) -> None:
    """Send FINISH after `result` is in place. Before it, deliver the reports that jobs and earlier runs have left."""
    handover = _handover()
    if handover is None:
        return
    checkpoints.sweep(result)
    plan = ledger.read_plan(result, handover.run)
    reports = _reports(handover, result, plan, is_local=True)
    reports.follow()
    reports.end(contract.MERGE_RULE, Event.FINISH, number=FINISH_NUMBER)


def _handover() -> Handover | None:
    folder = os.environ.get(contract.HANDOVER_VARIABLE)
    return Handover(Path(folder)) if folder else None


def _claimed(file: Path) -> claims.Claim | None:
    """Claim the beginning of the run. Wait while another job holds the claim. None if claims cannot be made here."""
    while True:
        try:
            claim = claims.take(file)
        except OSError:
            return None
        if claim is not None:
            return claim
        if not claims.wait(file):
            return None


def _begin(handover: Handover, result: ResultPaths, rule: str) -> None:
    content = handover.read()
    # If there is a number already, the job that claimed it has died, perhaps before it sent the event.
    number = handover.run or _claim_run(handover, result, content, rule)
    plan = ledger.read_plan(result, number)
    reports = _reports(handover, result, plan, is_local=rule != contract.MULTISLICE_RULE)
    reports.announce(plan["title"], plan["jobs_to_run"], content["description"], ONSTART_WAIT_S)
    handover.begun.touch()


def _claim_run(handover: Handover, result: ResultPaths, content: Mapping[str, Any], rule: str) -> int:
    """Begin a run as the hook `onstart` does, but without the event. Return the number of the run."""
    host, seed = content["host"], content["random_seed"]
    recorded = None if result.identity.exists() else _recorded_identity(result)
    identity = ledger.identity(result, seed, recorded, content["margin_nm"], host)
    if note := copies.settle_identity(result, own_runs.folder_of(identity.id), host):
        say(note)
        identity = ledger.identity(result, seed)
    number = ledger.claim_run(result, own_runs.latest_run_of(identity.id))
    plan = {**content["plan"], "run": number, "created": ledger.now(), **ledger.noted_identity(result)}
    if not plan["jobs_to_run"] and rule != contract.MERGE_RULE:
        # No job was planned, but one runs: the user forces jobs whose files fit the plan.
        plan["jobs_to_run"] = plan["num_defoci"] * plan["num_configurations"]
    ledger.write_plan(result, plan, number)
    sweep_unfinished(result)
    handover.keep_config()
    own_runs.note_own_run(identity.id, [handover.kept_config], result.root.resolve(), number)
    holders.note_run(result.name, Path.cwd(), content["pid"], host, content["started"])
    for line in plan["plan"]:
        say(line)
    write_text_atomic(handover.run_file, str(number))
    return number


def _recorded_identity(result: ResultPaths) -> tuple[str, int] | None:
    from stemphony.results.job_file import recorded_identity

    return recorded_identity(result) or ledger.planned_identity(ledger.read_plan(result))


def _reports(handover: Handover, result: ResultPaths, plan: Mapping[str, Any], is_local: bool) -> RunReports:
    """Make the reporter of the run's own events.

    Parameters
    ----------
    is_local : bool
        Whether this job runs on the machine of Snakemake, which may send even with `via: submit_host`.
    """
    identity, run = ledger.identity(result, 0, plan=plan), handover.run
    common = {"id": identity.id, "instance": identity.instance, "num_threads": plan["threads"], "run": run}
    common |= {key: plan[key] for key in ("num_processors", "num_defoci", "num_configurations")}
    files, enabled = [handover.kept_config], bool(plan["reporting"])
    settings, sends = None, enabled
    if enabled:
        try:
            settings = status_settings.load(files)
            sends = is_local or settings.via == status_settings.VIA_JOB
        except ConfigError:
            # The password is missing on this machine, so the merge, or the next run, sends the event.
            settings, sends = status_settings.load_in_job(files, say), False
    return RunReports(enabled, files, result, run, common, say, settings=settings, sends=sends)
