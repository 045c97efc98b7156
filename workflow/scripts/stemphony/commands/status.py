"""`stemphony status`: show the state of each pair of defocus and configuration.

The command compares the plan of the last run with the job files, their progress files and their logs. It computes
nothing and does not start Snakemake.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from stemphony import ordinary_files, paths, provenance
from stemphony.counting import number_of
from stemphony.errors import DamagedResultError, StorageError
from stemphony.experiment import campaign
from stemphony.experiment.campaign import Campaign, Defocus
from stemphony.orchestration.job_log import last_word
from stemphony.orchestration.orphaned_errors import DIED, NEVER_BEGAN
from stemphony.paths import ResultPaths
from stemphony.results.job_check import checked
from stemphony.results.job_file import read_checksum
from stemphony.results.origin import origin_of
from stemphony.store import ledger, members, progress
from stemphony.store.claims import Holder
from stemphony.store.holders import holders
from stemphony.store.superblock import what_is_cut_off

SILENT_S = 600.0
"""If no run is alive, a job on another machine counts as dead after it has written nothing for this time [s]."""
SHOWN = 20
"""Most failed pairs that are listed one by one."""
TRIED_AGAIN = "its run tries it again: "
"""Beginning of the message of a failed pair that a run which is alive tries again."""


class PairState(StrEnum):
    """State of a pair."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    MISSING = "missing"
    UNUSABLE = "unusable"


@dataclass(frozen=True)
class PairStatus:
    """One pair of defocus and configuration.

    Attributes
    ----------
    defocus_nm, configuration : float, int
        Defocus [nm], and index of the configuration.
    state : PairState
    attempts : int
        Number of attempts in all runs.
    reason : str
        Why the pair failed, or why the merge refuses its file, else empty. The text begins with `TRIED_AGAIN` if a run
        that is alive tries the pair again.
    log : str
        Log of its last attempt, empty without one.
    progress : float
        Finished part of a running pair, 0 to 1.
    """

    defocus_nm: float
    configuration: int
    state: PairState
    attempts: int = 0
    reason: str = ""
    log: str = ""
    progress: float = 0.0

    @property
    def name(self) -> str:
        """Name for the user."""
        return f"defocus {self.defocus_nm:g} nm, configuration {self.configuration}"


@dataclass(frozen=True)
class Elsewhere:
    """A run on another machine. This machine cannot see its process.

    Attributes
    ----------
    host, pid : str, int
        That machine, and the process of the run on it.
    heard : float
        When the run, or one of its jobs, last wrote a file [s since 1970, clock of the file system].
    """

    host: str
    pid: int
    heard: float

    def lines(self) -> list[str]:
        """Lines for the user: what is known of the run, and what to do if it is dead."""
        since = datetime.fromtimestamp(self.heard).astimezone().isoformat(sep=" ", timespec="seconds")
        return [
            f"that run is on {self.host} (process {self.pid}) and cannot be seen from here; the last sign of life of "
            f"it or of its jobs is of {since}",
            f"if it is dead: run the same command on {self.host}; if {self.host} is gone: snakemake --unlock, then "
            "the same command here",
        ]


@dataclass(frozen=True)
class SimulationStatus:
    """All pairs of a simulation, and its merged result.

    Attributes
    ----------
    merged : str
        State of stem.nc: current, missing or outdated. It is outdated if pairs or the plan have changed, or if it
        cannot be read.
    run : int
        Number of the last run.
    run_is_alive : bool
        Whether a run of this simulation is alive here, or may be alive on another machine.
    elsewhere : Elsewhere or None
        The run that may be alive on another machine, if none is alive here.
    verified : bool
        Whether every byte of the job files and of stem.nc was checked.
    """

    result: ResultPaths
    pairs: tuple[PairStatus, ...]
    merged: str
    run: int
    run_is_alive: bool
    elsewhere: Elsewhere | None = None
    verified: bool = False

    def of(self, *states: PairState) -> list[PairStatus]:
        """Pairs in these states."""
        return [pair for pair in self.pairs if pair.state in states]

    @property
    def not_done(self) -> list[PairStatus]:
        """Pairs that must still be computed for the result."""
        return [pair for pair in self.pairs if pair.state is not PairState.DONE]

    def record(self) -> dict[str, Any]:
        """This status as one JSON object."""
        counts = {state.value: len(self.of(state)) for state in PairState}
        return {
            "result": str(self.result.root),
            "counts": counts,
            "merged": self.merged,
            "run": self.run,
            "run_is_alive": self.run_is_alive,
            "run_elsewhere": None if self.elsewhere is None else asdict(self.elsewhere),
            "pairs": [asdict(pair) for pair in self.pairs],
        }

    def lines(self) -> list[str]:
        """This status as lines for the user."""
        shown = os.path.relpath(self.result.root)
        counts = [f"{len(self.of(state))} {state}" for state in PairState if self.of(state)]
        merged = {
            "current": f"{os.path.relpath(self.result.merged)} is merged from "
            + ("all of them, as they were before" if self.not_done else "them"),
            "outdated": f"{os.path.relpath(self.result.merged)} is outdated or damaged: they are not merged yet",
            "missing": "nothing is merged yet",
        }[self.merged]
        alive = "a run is alive" if self.run_is_alive else "no run is alive"
        alive = alive if self.elsewhere is None else f"a run on {self.elsewhere.host} may be alive"
        lines = [f"{shown}: {number_of(len(self.pairs), 'pair')}: {', '.join(counts)}; {merged}; {alive}"]
        lines += [] if self.elsewhere is None else self.elsewhere.lines()
        for state in (PairState.RUNNING, PairState.INTERRUPTED, PairState.MISSING):
            lines += [f"{state:<9} {text}" for text in by_defocus(self.of(state))]
        troubled = self.of(PairState.FAILED, PairState.UNUSABLE)
        for pair in troubled[:SHOWN]:
            attempts = number_of(pair.attempts, "attempt")
            lines.append(f"{pair.state:<9} {pair.name}, {attempts}: {first_line(pair.reason)}")
            if pair.log:
                lines.append(f"{'':<10}log: {os.path.relpath(Path(pair.log))}")
        if len(troubled) > SHOWN:
            lines += [f"… and {len(troubled) - SHOWN} more; --json lists all:"]
            lines += [f"{'':<10}{text}" for text in by_defocus(troubled[SHOWN:])]
        if not self.run_is_alive and (self.not_done or self.merged != "current"):
            # Only a check of every byte finds these files, so the rerun must check every byte too.
            verify = "--verify " if self.verified and self.of(PairState.UNUSABLE) else ""
            lines.append(f"to compute what is not done, and merge: stemphony rerun {verify}{shown}")
        return lines


def by_defocus(pairs: Iterable[PairStatus]) -> list[str]:
    """One short line per defocus of `pairs`: `defocus 2.5 nm: 0-3, 7`."""
    found: dict[float, list[int]] = {}
    for pair in pairs:
        found.setdefault(pair.defocus_nm, []).append(pair.configuration)
    return [f"defocus {value:g} nm: {campaign.ranges(numbers)}" for value, numbers in found.items()]


def first_line(text: str) -> str:
    """Return the first line of the `text` of an error, for a list of pairs."""
    return (text.splitlines() or ["no message"])[0]


# --- where a simulation is ------------------------------------------------------------------------------------------


def result_in(given: Path) -> ResultPaths:
    """The simulation in a folder `results/<name>`. `given` is this folder or a file in it.

    Raises
    ------
    StorageError
        The folder has no simulation.json.
    """
    root = (given.parent if given.is_file() else given).resolve()
    result = ResultPaths(root)
    members.require_one(root)
    if not result.identity.exists():
        raise StorageError(
            f"{given} is no result of a simulation: it has no {result.identity.name}. Give its folder, "
            f"{paths.RESULTS}/<name>."
        )
    return result


def planned_in(result: ResultPaths) -> Campaign:
    """The campaign that the last run of the simulation `result` planned.

    Raises
    ------
    DamagedResultError
        There is no readable plan.json.
    """
    plan = ledger.read_plan(result)
    try:
        return campaign.of_plan(plan)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
        raise DamagedResultError(
            f"{result.plan} is missing or not readable, so it is not known what belongs to this simulation. Every run "
            "that has something to compute writes it: stemphony run CONFIG."
        ) from None


# --- states -----------------------------------------------------------------------------------------------------------


def status_of(result: ResultPaths, verify: bool = False) -> SimulationStatus:
    """Find the states of all pairs of a simulation.

    Parameters
    ----------
    result : ResultPaths
        The simulation.
    verify : bool
        Check every byte of the job files, as the merge does, and of stem.nc. Otherwise check only lengths and digests.

    Returns
    -------
    SimulationStatus
        The state of each planned pair, of the merged result and of the latest run.

    Raises
    ------
    DamagedResultError
        There is no readable plan.json.
    """
    planned = planned_in(result)
    look = _Look(result, planned, verify)
    pairs = tuple(
        look.pair(defocus, configuration)
        for defocus in planned.defoci
        for configuration in range(planned.configurations)
    )
    return SimulationStatus(result, pairs, look.merged(), look.run, look.run_is_alive, look.elsewhere(), verify)


class _Look:
    """The state of the files of a simulation at one moment. Files that many pairs need are read once."""

    def __init__(self, result: ResultPaths, planned: Campaign, verify: bool) -> None:
        self.result, self.planned, self.verify = result, planned, verify
        self.run = ledger.latest_run(result)
        self.holders = [holder for holder in holders(result.directory) if holder.simulation == result.run_name]
        self.run_is_alive = any(holder.is_alive or holder.is_elsewhere for holder in self.holders)
        # SHA-256 of each good job file. The key is the place of the pair in the plan.
        self.files: dict[int, str] = {}
        self.attempts: dict[str, dict[int, int]] = {}

    def elsewhere(self) -> Elsewhere | None:
        """The run that may be alive on another machine. None without such a run, or if a run is alive here."""
        away = [holder for holder in self.holders if holder.is_elsewhere]
        if not away or any(holder.is_alive for holder in self.holders):
            return None
        files = [away[-1].file, self.result.hook_events(self.run)]
        with suppress(PermissionError):
            files += progress.files(self.result, self.run)
        times = []
        for file in files:
            with suppress(OSError):  # the run has just ended and removed this file
                times.append(file.stat().st_mtime)
        return Elsewhere(away[-1].host, away[-1].pid, max(times, default=0.0))

    @cached_property
    def last_runs(self) -> dict[tuple[str, int], int]:
        """The last run in which each pair was started."""
        found = {}
        for run in range(1, self.run + 1):
            with suppress(PermissionError):  # the files belong to a run of another user
                for file in progress.files(self.result, run):
                    found[paths.pair_of_job(file.stem)] = run
        return found

    def pair(self, defocus: Defocus, configuration: int) -> PairStatus:
        """State of one pair."""
        attempts = self._attempts(defocus.id).get(configuration, 0)
        unusable = self._what_is_wrong_with(defocus, configuration)
        if unusable == "":
            return PairStatus(defocus.value_nm, configuration, PairState.DONE, attempts)
        file = self.result.log(defocus.id, configuration)
        log = str(file) if file.exists() else ""
        state, reason, share = self._trace(defocus.id, configuration, log)
        if unusable and state is not PairState.RUNNING:
            state, reason = PairState.UNUSABLE, unusable
        return PairStatus(defocus.value_nm, configuration, state, attempts, reason, log, share)

    def _attempts(self, defocus: str) -> dict[int, int]:
        """Number of attempts at each configuration."""
        if defocus not in self.attempts:
            found: dict[int, int] = {}
            folder = self.result.attempt(defocus, 0, 1).parent
            names: list[str] = []
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                names = [entry.name for entry in folder.iterdir()]
            for name in names:
                stem, _, number = name.partition(".")
                if re.fullmatch("configuration_[0-9]{1,9}[.][0-9]{1,9}", name):
                    configuration = int(stem.removeprefix("configuration_"))
                    found[configuration] = max(int(number), found.get(configuration, 0))
            self.attempts[defocus] = found
        return self.attempts[defocus]

    def _what_is_wrong_with(self, defocus: Defocus, configuration: int) -> str | None:
        """Say what is wrong with a job file. Returns an empty text for a good file, and None if there is no file."""
        file = self.result.job(defocus.id, configuration)
        if not file.exists():
            return None
        if not self.verify and (cut_off := what_is_cut_off(file)):
            return cut_off
        expected, checksum = provenance.digest(self.planned.job_params(defocus.id, configuration)), read_checksum(file)
        try:
            if self.verify or checksum is None or checksum.job_digest != expected:
                with checked(file, expected):
                    pass
        except DamagedResultError as error:
            return str(error)
        if checksum is not None:
            self.files[defocus.index * self.planned.configurations + configuration] = checksum.sha256
        return ""

    def _trace(self, defocus: str, configuration: int, log: str) -> tuple[PairState, str, float]:
        """State, reason and progress (0 to 1) from the files of the last attempt."""
        run = self.last_runs.get((defocus, configuration))
        noted = progress.job_state(self.result, run, defocus, configuration) if run else {}
        waits = self.run_is_alive and run == self.run and noted.get("another_try")
        again = TRIED_AGAIN if waits else ""
        if noted.get("state") == progress.RUNNING:
            share = noted["done"] / noted["total"] if noted.get("total") else 0.0
            if self._is_alive(noted, self.result.claim(defocus, configuration)):
                return PairState.RUNNING, "", share
            return PairState.FAILED, again + ((log and last_word(Path(log))) or DIED), share
        if noted.get("state") == progress.INTERRUPTED:
            return PairState.INTERRUPTED, "", 0.0
        if noted.get("state") == progress.FAILED:
            return PairState.FAILED, again + str(noted.get("message") or "no message"), 0.0
        if log and not noted:
            # The log exists first: the shell that starts a job makes it. Later, the job makes its progress file.
            if self.run_is_alive:
                return PairState.RUNNING, "", 0.0
            return PairState.FAILED, last_word(Path(log)) or NEVER_BEGAN, 0.0
        return PairState.MISSING, "", 0.0

    def _is_alive(self, noted: dict[str, Any], claim: Path) -> bool:
        with suppress(OSError):
            holder = Holder.of(ordinary_files.read_bytes(claim))
            if holder is not None and holder.is_gone:
                return False
        if noted.get("host") == socket.gethostname():
            with suppress(OverflowError):
                return psutil.pid_exists(int(noted.get("pid", 0)))
            return False
        age_s = datetime.now(UTC).timestamp() - float(noted.get("updated", 0.0))
        return self.run_is_alive or age_s < SILENT_S

    def merged(self) -> str:
        """State of stem.nc: missing, current if it was merged from the present plan and job files, else outdated."""
        if not self.result.merged.exists():
            return "missing"
        origin = origin_of(self.result.merged, whole=self.verify)
        if origin is None or origin.merge_digest != provenance.digest(self.planned.merge_params):
            return "outdated"
        files = origin.job_sha256 or []
        is_current = all(files[place : place + 1] == [sha256] for place, sha256 in self.files.items())
        return "current" if is_current else "outdated"


def show(given: Path, as_json: bool, verify: bool, say: Callable[[str], None]) -> int:
    """Print the status of a simulation or of a sweep. Return the exit status.

    `given` is its folder or a file in it. With `as_json`, it is one JSON object instead of lines. `verify` checks every
    byte of the job files. `say` prints one line.

    Raises
    ------
    StorageError, DamagedResultError
        See `result_in` and `planned_in`.
    """
    if parts := members.members_of(given):
        return _show_sweep(given, parts, as_json, verify, say)
    found = status_of(result_in(given), verify)
    if as_json:
        say(json.dumps(found.record()))
    else:
        for line in found.lines():
            say(line)
    return 0


def _show_sweep(
    given: Path, parts: Sequence[ResultPaths], as_json: bool, verify: bool, say: Callable[[str], None]
) -> int:
    """Print a line for each member of a sweep, or one JSON object with the status of each."""
    found = {part.root.name: status_of(part, verify) if part.identity.exists() else None for part in parts}
    if as_json:
        records = {label: None if one is None else one.record() for label, one in found.items()}
        say(json.dumps({"sweep": given.resolve().name, "members": records}))
        return 0
    say(f"{os.path.relpath(given)}: a sweep of {number_of(len(parts), 'simulation')}")
    for label, one in found.items():
        if one is None:
            say(f"  {label}: not started")
            continue
        states = (f"{len(one.of(state))} {state}" for state in PairState if one.of(state))
        say(f"  {label}: {', '.join(states)} of {number_of(len(one.pairs), 'pair')}; merged: {one.merged}")
    earlier = len(members.all_members_of(given)) - sum(part.root.is_dir() for part in parts)
    if earlier:
        folders = number_of(earlier, "more folder is", "more folders are")
        say(f"{folders} of simulations that are not in the sweep any more; nothing uses such folders.")
    say(f"more: stemphony status {shlex.quote(os.path.relpath(parts[0].root))}")
    return 0
