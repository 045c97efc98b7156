"""The small JSON files of a simulation: identity, plan, numbers of runs and attempts. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stemphony.errors import DamagedResultError, StorageError
from stemphony.paths import ResultPaths
from stemphony.store.atomic import temporary_beside, write_text_atomic

LARGEST_SEED = 2**53 - 1  # exact in every JSON reader


def now() -> str:
    """Current time, ISO 8601 with offset."""
    return datetime.now(UTC).astimezone().isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Identity:
    """What a simulation keeps over all its runs.

    Attributes
    ----------
    id : str
        UUID, the same in every job and every rerun.
    seed : int
        Seed of the first run: that of the config, or drawn when it is 0.
    """

    id: str
    seed: int
    created: str

    def effective_seed(self, random_seed: int) -> int:
        """The seed to use for a config's `random_seed`; 0 means the one kept here."""
        return random_seed or self.seed


def identity(result: ResultPaths, random_seed: int, recorded: tuple[str, int] | None = None) -> Identity:
    """The simulation's identity, made by link-or-fail by whoever comes first.

    Parameters
    ----------
    recorded : (str, int) or None
        Id and seed that job files carry, for a simulation.json that was lost.

    Raises
    ------
    StorageError, DamagedResultError
        The folder cannot be written, or simulation.json may not be read; it is not readable as such.
    """
    if not result.identity.exists():
        fresh = {
            "id": recorded[0] if recorded else str(uuid.uuid4()),
            "seed": random_seed or (recorded[1] if recorded else 1 + secrets.randbelow(LARGEST_SEED)),
            "created": now(),
        }
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
    try:
        kept = json.loads(result.identity.read_text(encoding="utf-8"))
        return Identity(str(uuid.UUID(kept["id"])), int(kept["seed"]), str(kept["created"]))
    except PermissionError:
        raise StorageError(
            f"{result.identity} may not be read by this user. Ask its owner for access, or work as its owner."
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise DamagedResultError(
            f"{result.identity} is damaged, and with it the simulation's id and seed. Restore it, or give the "
            "simulation another name."
        ) from None


def write_plan(result: ResultPaths, plan: Mapping[str, Any], run: int = 0) -> None:
    """Write a plan atomically: in the folder of its run, if there is one, and as that of the last run.

    Raises
    ------
    StorageError
        The folder of the result cannot be written.
    """
    text = json.dumps(plan, indent=1, ensure_ascii=False) + "\n"
    if run:
        # On a full disk under the reports the other one serves, as long as no other run begins.
        with contextlib.suppress(StorageError):
            write_text_atomic(result.plan_of(run), text)
    write_text_atomic(result.plan, text)


def read_plan(result: ResultPaths, run: int = 0) -> dict[str, Any]:
    """The plan of a run, of the last one without a number; empty when there is none, or it is not readable.

    A run whose folder has none may have that of the last run, if that was its own; that of the last run stands in the
    folder of its run as well.
    """
    earlier = [result.plan_of(run)] if run else []
    later = [] if run else [result.plan_of(number) for number in range(latest_run(result), 0, -1)]
    for file in (*earlier, result.plan, *later):
        try:
            plan = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(plan, dict) and (not run or plan.get("run", run) == run):
            return plan
    return {}


def claim_run(result: ResultPaths) -> int:
    """Number of this invocation of Snakemake: the first folder `reports/run-<n>` that could be made."""
    try:
        result.reports.mkdir(parents=True, exist_ok=True)
        number = latest_run(result) + 1
        while True:
            try:
                result.run(number).mkdir(mode=0o700)
            except FileExistsError:
                number += 1
            else:
                (result.run(number) / "progress").mkdir()
                (result.run(number) / "events").mkdir()
                return number
    except OSError as error:
        raise _not_writable(result.reports, error) from None


def latest_run(result: ResultPaths) -> int:
    """Number of the newest run, 0 without any."""
    try:
        names = [entry.name for entry in result.reports.iterdir()]
    except OSError:
        return 0
    return max((int(name[4:]) for name in names if name.startswith("run-") and name[4:].isdigit()), default=0)


def claim_attempt(result: ResultPaths, defocus: str, configuration: int) -> int:
    """Number of this attempt of a job: one more than the highest of all runs, claimed by creating a file."""
    folder = result.attempt(defocus, configuration, 1).parent
    prefix = f"configuration_{configuration:04d}."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = [entry.name[len(prefix) :] for entry in folder.iterdir() if entry.name.startswith(prefix)]
        number = 1 + max((int(text) for text in taken if text.isdigit()), default=0)
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
