"""The small JSON files of a simulation: its identity, the plans, the numbers of runs and attempts."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stemphony import ordinary_files
from stemphony.errors import DamagedResultError, StorageError
from stemphony.paths import ResultPaths
from stemphony.store import own_runs
from stemphony.store.atomic import temporary_beside, write_text_atomic

LARGEST_SEED = 2**53 - 1
"""Largest seed that is drawn. Every JSON reader keeps it exact, also one that reads numbers as double."""
IDENTITY_KEY = "identity"
"""Key of a plan with the content of simulation.json, from which a job restores that file."""


def now() -> str:
    """Current time, ISO 8601 with offset."""
    return datetime.now(UTC).astimezone().isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Identity:
    """What stays the same in all runs of a simulation.

    Attributes
    ----------
    id : str
        UUID.
    seed : int
        Seed of the first run: `random_seed` of its config, or a drawn one if that is 0.
    created : str
        When the first run started (ISO 8601).
    margin_nm : float or None
        Width of the margin around the scan at the first run [nm], see `scan.margin_nm`; None if it was not recorded.
    originals : tuple of str
        Ids of the simulations that this one was copied from, directly or through other copies; the oldest is first.
    instance : str
        Makes ids of events differ from those of another folder with the same id, see `copies`; mostly empty.
    """

    id: str
    seed: int
    created: str
    margin_nm: float | None = None
    originals: tuple[str, ...] = ()
    instance: str = ""

    @property
    def ids(self) -> frozenset[str]:
        """Ids that job files of this simulation may have."""
        return frozenset((self.id, *self.originals))

    def effective_seed(self, random_seed: int) -> int:
        """The seed for a config's `random_seed`: 0 stands for the seed of the first run."""
        return random_seed or self.seed


def identity(
    result: ResultPaths,
    random_seed: int,
    recorded: tuple[str, int] | None = None,
    margin_nm: float | None = None,
    host: str = "",
    plan: Mapping[str, Any] | None = None,
) -> Identity:
    """Read simulation.json. The first process makes it, atomically, so that all processes read the same identity.

    Parameters
    ----------
    result : ResultPaths
        Files of the simulation.
    random_seed : int
        Seed of a new simulation, from its config; 0 draws one.
    recorded : (str, int) or None
        Id and seed from job files, if simulation.json was lost.
    margin_nm : float or None
        Width of the margin around the scan [nm] that the first process records.
    host : str
        Machine of the run; by default this machine.
    plan : mapping or None
        Plan of the run that is alive. If simulation.json is lost during the run, this plan gives its content.

    Returns
    -------
    Identity
        Id, seed and date of the simulation, with its margin [nm] if it has one.

    Raises
    ------
    StorageError
        The folder cannot be written, or the user may not read simulation.json.
    DamagedResultError
        simulation.json is damaged.
    """
    if not result.identity.exists():
        fresh: dict[str, Any] = {
            "id": recorded[0] if recorded else str(uuid.uuid4()),
            "seed": random_seed or (recorded[1] if recorded else 1 + secrets.randbelow(LARGEST_SEED)),
            "created": now(),
            "folder": str(result.root.resolve()),
            "host": host or socket.gethostname(),
        }
        if margin_nm is not None:
            fresh["scan"] = {"margin_nm": margin_nm}
        if planned_identity(plan or {}):
            fresh = dict((plan or {})[IDENTITY_KEY])
        elif recorded:
            # Another folder may continue with the same id; nothing here shows it. So the ids of events must differ.
            fresh["instance"] = uuid.uuid4().hex
        _write_once(result, fresh)
    try:
        kept = json.loads(ordinary_files.read_text(result.identity))
        margin = kept.get("scan", {}).get("margin_nm")
        return Identity(
            str(uuid.UUID(kept["id"])), int(kept["seed"]), str(kept["created"]),
            None if margin is None else float(margin), own_runs.originals_in(kept), str(kept.get("instance", "")),
        )  # fmt: skip
    except PermissionError:
        raise StorageError(
            f"{result.identity} may not be read by this user. Ask its owner for access, or work as its owner."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedResultError(
            f"{result.identity} is damaged, and with it the simulation's id and seed. Restore it, or give the "
            "simulation another name."
        ) from None


def _write_once(result: ResultPaths, fresh: Mapping[str, Any]) -> None:
    """Write simulation.json, if no other process was faster. Raises StorageError."""
    temporary = temporary_beside(result.identity)
    try:
        result.root.mkdir(parents=True, exist_ok=True)
        write_text_atomic(temporary, json.dumps(fresh, indent=1) + "\n")
        try:
            os.link(temporary, result.identity)
        except FileExistsError:
            pass
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _not_writable(result.root, error) from None


def noted_identity(result: ResultPaths) -> dict[str, Any]:
    """Return simulation.json of the simulation `result` as a part of a plan, under the key `IDENTITY_KEY`.

    If the file is lost, return this part of the last plan. The result is empty if neither holds it.
    """
    with contextlib.suppress(OSError, ValueError, RecursionError):
        kept = json.loads(ordinary_files.read_text(result.identity))
        return {IDENTITY_KEY: kept} if isinstance(kept, dict) else {}
    plan = read_plan(result)
    return {key: plan[key] for key in (IDENTITY_KEY,) if key in plan}


def planned_identity(plan: Mapping[str, Any]) -> tuple[str, int] | None:
    """Id and seed that `plan` repeats from simulation.json; None if the plan does not have them."""
    try:
        kept = plan[IDENTITY_KEY]
        return str(uuid.UUID(kept["id"])), int(kept["seed"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def write_plan(result: ResultPaths, plan: Mapping[str, Any], run: int = 0) -> None:
    """Write `plan` atomically: into the folder of its run, if `run` is given, and as the plan of the last run.

    `result` are the files of the simulation.

    Raises
    ------
    StorageError
        A folder cannot be written.
    """
    text = json.dumps(plan, indent=1, ensure_ascii=False) + "\n"
    if run:
        # If this file cannot be written, jobs read `result.plan`: the plan of this run until another run begins.
        with contextlib.suppress(StorageError):
            write_text_atomic(result.plan_of(run), text)
    write_text_atomic(result.plan, text)


def write_budget_plan(result: ResultPaths, plan: Mapping[str, Any]) -> None:
    """Write `plan` as the plan of the error budget of `result` atomically; `plan.json` stays that of the last run.

    Raises StorageError if the folder cannot be made or written.
    """
    try:
        result.accuracy_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(result.accuracy_folder, error) from None
    write_text_atomic(result.accuracy_plan, json.dumps(plan, indent=1, ensure_ascii=False) + "\n")


def read_plan(result: ResultPaths, run: int = 0) -> dict[str, Any]:
    """The plan of run number `run` of the simulation `result`, by default of its last run.

    Each plan is in two files: in the folder of its run, and, for the last run, in plan.json. The result is empty if the
    plan is missing or not readable.
    """
    earlier = [result.plan_of(run)] if run else []
    later = [] if run else [result.plan_of(number) for number in range(latest_run(result), 0, -1)]
    for file in (*earlier, result.plan, *later):
        plan = read_plan_file(file)
        if plan and (not run or plan.get("run", run) == run):
            return plan
    return {}


def read_plan_file(file: Path) -> dict[str, Any]:
    """The plan in `file`; empty if it is missing or not readable."""
    try:
        plan = json.loads(ordinary_files.read_text(file))
    except (OSError, ValueError, RecursionError):
        return {}
    return plan if isinstance(plan, dict) else {}


def claim_run(result: ResultPaths, known: int = 0) -> int:
    """Claim the next number of a run by making the folder `reports/run-<n>`, and return this number.

    Parameters
    ----------
    result : ResultPaths
        Files of the simulation.
    known : int
        Number of the last run according to another record, see `own_runs`. A folder that was restored from a backup may
        not have this run. A second run of the same number would repeat the ids of its events.

    Returns
    -------
    int
        Counted from 1.

    Raises
    ------
    StorageError
        The folder cannot be written.
    """
    try:
        result.reports.mkdir(parents=True, exist_ok=True)
        number = max(latest_run(result), known) + 1
        while True:
            try:
                result.run(number).mkdir()
            except FileExistsError:
                number += 1
            else:
                (result.run(number) / "progress").mkdir()
                (result.run(number) / "events").mkdir()
                return number
    except OSError as error:
        raise _not_writable(result.reports, error) from None


def latest_run(result: ResultPaths) -> int:
    """Number of the last run of the simulation `result`, by the folders of its runs; 0 if there is none."""
    try:
        names = [entry.name for entry in result.reports.iterdir()]
    except OSError:
        return 0
    return max((int(name[4:]) for name in names if re.fullmatch("run-[0-9]{1,9}", name)), default=0)


def claim_attempt(result: ResultPaths, defocus: str, configuration: int) -> int:
    """Claim the next attempt number of a job by creating a file, and return this number, from 1.

    `result` are the files of the simulation, `defocus` is the id of the defocus, and `configuration` its index.
    Attempts count over all runs. Raises StorageError if the folder cannot be written.
    """
    folder = result.attempt(defocus, configuration, 1).parent
    prefix = f"configuration_{configuration:04d}."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = [entry.name[len(prefix) :] for entry in folder.iterdir() if entry.name.startswith(prefix)]
        number = 1 + max((int(text) for text in taken if re.fullmatch("[0-9]{1,9}", text)), default=0)
        while True:
            try:
                result.attempt(defocus, configuration, number).open("x").close()
            except FileExistsError:
                number += 1
            else:
                return number
    except OSError as error:
        raise _not_writable(folder, error) from None


def _not_writable(folder: Path, error: OSError) -> StorageError:
    return StorageError(f"{folder} cannot be written: {error.strerror}. Make it writable, or work elsewhere.")
