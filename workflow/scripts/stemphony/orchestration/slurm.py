"""Slurm: the query of jobs that replaces the executor's, jobs that never start, jobs that outlive their run."""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stemphony.store.holders import holders

PLUGIN = "snakemake_executor_plugin_slurm"
ABSENT_LOOKS = 3
"""After so many looks in a row without a job, Slurm has forgotten it. After so many looks that find it PREEMPTED, Slurm
does not queue it again."""
ALIVE = frozenset({"PENDING", "RUNNING", "SUSPENDED", "REQUEUED"})
NO_ANSWER = "NO ANSWER"
PREFIX_LENGTH = 50
"""Most characters before the UUID in the name of a job; the executor sets this limit."""
MARK_LENGTH = 8
"""Hexadecimal digits in the name of a job that tell its simulation from others."""
QUERY_S = 30.0
"""Longest wait for one of Slurm's commands [s]."""
PENDING_LOOKS = (2, 15)
"""Looks at a waiting job until its reason is asked for the first time, and from then on each time."""
NEVER: Final = {
    "PartitionTimeLimit": "its partition",
    "QOSMaxWallDurationPerJobLimit": "its QoS",
    "AssocMaxWallDurationPerJobLimit": "its account",
}
"""Reasons why a job waits forever: its time limit is above that of its partition, QoS or account."""
HELD = re.compile(r"held", re.IGNORECASE)
"""Reasons why a job waits until a person releases it: JobHeldUser, JobHeldAdmin, "launch failed requeued held"."""
UNFULFILLED: Final = frozenset(
    {"AccountNotAllowed", "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS", "PartitionDown",
     "PartitionInactive", "PartitionNodeLimit", "QOSNotAllowed"}
)  # fmt: skip
"""Reasons why a job waits until a person changes the cluster, or the job."""
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

States = dict[str, str]
Query = Callable[[str, Any], Awaitable[tuple[States | None, float | None]]]


# --- Snakemake's executor ---------------------------------------------------------------------------------------------


def adapt_executor(simulation: str, say: Callable[[str], None]) -> None:
    """Make Snakemake's Slurm executor dependable; without effect if it is not loaded.

    Its version 2.8.0 waits forever in these cases. Here they end:

    - A status query fails five times in a row, because the accounting is switched off or slurmctld is away: the
      executor forgets its jobs. Here squeue and sacct are asked in turn, again and again.
    - Slurm has forgotten a job (MinJobAge), or only the accounting takes it for alive. Here the job has ended, and its
      files tell how.
    - A job made room for others and is not queued again (PREEMPTED). Here it has ended.
    - A cancelled job: `sacct` prints "CANCELLED by 1000", which the executor takes for a running job.
    - A job has a time limit above that of its partition. Here it is cancelled, with a message. If it is held, or the
      cluster cannot serve it, a message tells the user once.

    Two more changes: the time between two looks is always `seconds-between-status-checks`, where the executor adds 10 s
    with each look. The name of a job begins with the simulation's name and mark, so that users and `leftovers` find it.

    Parameters
    ----------
    simulation : str
        Name of the simulation.
    say : callable
        Prints a line for the user.
    """
    plugin: Any = sys.modules.get(PLUGIN)
    if plugin is None:
        return
    executor = plugin.Executor
    plain_init, plain_check = executor.__post_init__, executor.check_active_jobs
    lookout = Lookout(plugin.query_job_status, plugin.query_job_status_squeue, plugin.query_job_status_sacct, say)
    told: set[str] = set()
    lookout.end_stuck = lambda jobs: end_stuck(jobs, say, told)

    def named_init(self: Any, *arguments: Any, **options: Any) -> None:
        settings = self.workflow.executor_settings
        settings.jobname_prefix = name_prefix(simulation, settings.jobname_prefix)
        plain_init(self, *arguments, **options)

    async def watchful_check(self: Any, active_jobs: list[Any]) -> AsyncIterator[Any]:
        lookout.watched = {str(job.external_jobid) for job in active_jobs}
        async for job in plain_check(self, active_jobs):
            yield job

    def interval(self: Any) -> float:
        return float(self.workflow.remote_execution_settings.seconds_between_status_checks)

    executor.__post_init__ = named_init
    executor.check_active_jobs = watchful_check
    executor.next_seconds_between_status_checks = property(interval, lambda self, value: None)
    plugin.query_job_status = lookout.ask
    plugin.get_min_job_age = lambda: math.inf


class Lookout:
    """Asks Slurm for the states of a run's jobs, and always returns an answer.

    Parameters
    ----------
    query : callable
        Runs a command and gives the states by job id and the time it took [s], or None twice.
    squeue, sacct : callable
        Take the UUID of a run and give the command that asks for its jobs.
    say : callable
        Prints a line for the user.

    Attributes
    ----------
    watched : set of str
        Ids of the jobs that the executor waits for.
    end_stuck : callable
        Takes ids of waiting jobs, and cancels those that Slurm will never start, see `end_stuck`.
    """

    def __init__(
        self, query: Query, squeue: Callable[[str], str], sacct: Callable[[str], str], say: Callable[[str], None]
    ) -> None:
        self.query, self.say = query, say
        self.squeue, self.sacct = squeue, sacct
        self.watched: set[str] = set()
        self.absent: Counter[str] = Counter()
        self.preempted: Counter[str] = Counter()
        self.pending: Counter[str] = Counter()
        self.end_stuck: Callable[[set[str]], None] = lambda jobs: None
        self.is_silent = False

    async def ask(self, command: str, logger: Any) -> tuple[States, float]:
        """States by job id and the time of the query [s], as `query_job_status` of the executor returns them.

        If Slurm does not answer, all jobs have the state NO_ANSWER, for which the executor goes on waiting.
        """
        run = shlex.split(command)[-1]
        ways = (self.squeue(run), self.sacct(run))
        states: States = {}
        queued: States | None = None
        seconds, answered = 0.0, False
        for way in ways if command.startswith("squeue") else reversed(ways):
            found, took = await self.query(way, logger)
            if found is not None:
                told = {job: state.partition(" ")[0] for job, state in found.items()}  # of sacct's "CANCELLED by 1000"
                answered, seconds, states = True, seconds + (took or 0.0), {**told, **states}
                queued = told if way == ways[0] else queued
                if self.watched <= states.keys():
                    break
        if not answered:
            self._note_silence(True)
            return dict.fromkeys(self.watched, NO_ANSWER), 0.0
        self._note_silence(False)
        await self._look_at_pending({job for job in self.watched if states.get(job) == "PENDING"})
        # Waiting tasks of job arrays have other names.
        missing = {job for job in self.watched - states.keys() if "_" not in job}
        if queued is not None:
            # The controller does not know these jobs, so they have ended, and the accounting has missed it.
            missing |= {job for job in self.watched - queued.keys() if states.get(job) in ALIVE}
        self.absent = Counter({job: self.absent[job] + 1 for job in missing})
        forgotten = {job for job in missing if self.absent[job] >= ABSENT_LOOKS}
        # The executor takes UNKNOWN for an end. Snakemake then looks for the output.
        states |= dict.fromkeys(forgotten, "UNKNOWN") | dict.fromkeys(self._made_room(states), "CANCELLED")
        return states, seconds

    def _made_room(self, states: States) -> list[str]:
        """Jobs that Slurm has ended for others of higher priority and does not queue again; say so."""
        now = {job for job in self.watched if states.get(job) == "PREEMPTED"}
        self.preempted = Counter({job: self.preempted[job] + 1 for job in now})
        ended = sorted(job for job in now if self.preempted[job] >= ABSENT_LOOKS)
        for job in ended:
            self.say(
                f"Slurm has ended the job {job} to make room for one of higher priority (PREEMPTED). "
                "It goes on from its last checkpoint when it is tried again."
            )
        return ended

    async def _look_at_pending(self, jobs: set[str]) -> None:
        """Ask from time to time why jobs wait. It is not asked at each look, to spare the controller."""
        self.pending = Counter({job: self.pending[job] + 1 for job in jobs})
        first, again = PENDING_LOOKS
        if any(looks == first or looks % again == 0 for looks in self.pending.values()):
            await asyncio.to_thread(self.end_stuck, jobs)

    def _note_silence(self, silent: bool) -> None:
        if silent and not self.is_silent:
            self.say("Slurm does not answer (squeue, sacct). Its jobs go on; this run asks again and again.")
        if not silent and self.is_silent:
            self.say("Slurm answers again.")
        self.is_silent = silent


def name_prefix(simulation: str, wanted: str | None = None) -> str:
    """First part of the names of a simulation's jobs: the prefix that the profile wants, the simulation, its mark."""
    readable = "_".join([*([wanted] if wanted else []), simulation])
    return f"{readable[-(PREFIX_LENGTH - MARK_LENGTH - 1) :]}_{_mark(simulation)}"


def _mark(simulation: str) -> str:
    """Digits that tell a simulation from others, because its name may be cut off, or be the end of another name."""
    return hashlib.sha256(simulation.encode()).hexdigest()[:MARK_LENGTH]


# --- jobs that Slurm will never start ---------------------------------------------------------------------------------


def end_stuck(jobs: Iterable[str], say: Callable[[str], None], told: set[str]) -> None:
    """Cancel jobs that will never start because of their time limit, and say so. If Slurm does not answer, do nothing.

    The jobs have not started, so nothing is lost. The run sees them fail, continues with the others, and ends. If a
    user can still make a job start, for example by releasing it, the function prints a message and does not cancel it.

    Parameters
    ----------
    jobs : iterable of str
        Ids of waiting jobs.
    told : set of str
        Ids of jobs that were mentioned before; new ones are added.
    """
    asked = set(jobs)
    listed = _lines("squeue", f"--user={os.getuid()}", "--states=PENDING", "--format=%i|%l|%P|%r")
    alike: dict[tuple[str, ...], list[str]] = {}
    waiting: dict[str, list[str]] = {}
    for number, *why in (line.split("|") for line in listed):
        if number in asked and why[-1] in NEVER:
            alike.setdefault(tuple(why), []).append(number)
        elif number in asked - told and (HELD.search(why[-1]) or why[-1] in UNFULFILLED):
            waiting.setdefault(why[-1], []).append(number)
    for (wanted, partition, reason), ids in alike.items():
        say(_why_never(ids, wanted, partition, reason, _cancelled(ids)))
    for reason, ids in waiting.items():
        told.update(ids)
        say(_what_it_waits_for(ids, reason))


def _what_it_waits_for(jobs: list[str], reason: str) -> str:
    """Message: why jobs wait, and what the user can do."""
    several, numbers = len(jobs) > 1, " ".join(jobs)
    them = "them" if several else "it"
    release = f"To let {them} start: scontrol release {numbers}. " if HELD.search(reason) else ""
    return (
        f"Slurm does not start the job{'s' if several else ''} {', '.join(jobs)} ({reason}); the run waits. {release}"
        f"To cancel {them}, so that the run tries again: scancel {numbers}. Ask the administrators of the cluster why."
    )


def _cancelled(jobs: list[str]) -> bool:
    """Cancel jobs that have not started. Returns whether Slurm accepted the command."""
    command = ["scancel", "--state=PENDING", *jobs]
    try:
        return subprocess.run(command, capture_output=True, timeout=QUERY_S).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _why_never(jobs: list[str], wanted: str, partition: str, reason: str, cancelled: bool) -> str:
    """Message: the time that jobs ask for, the time that is allowed, and what to do."""
    allowed, most = f"more than {NEVER[reason]} allows", "a third of that"
    if reason == "PartitionTimeLimit":
        limits = [_minutes(line.strip()) for line in _lines("sinfo", f"--partition={partition}", "--format=%l")]
        if minutes := max((limit for limit in limits if limit), default=0):
            allowed, most = f"and partition {partition} allows {minutes}", f"{max(1, minutes // 3)}"
    plural = "s" if len(jobs) > 1 else ""
    return (
        f"Slurm will never start the job{plural} {', '.join(jobs)} ({reason}): the request is {_minutes(wanted)} min, "
        f"{allowed}. "
        + (
            "Cancelled before the start, so no work is lost. "
            if cancelled
            else f"To end this: scancel {' '.join(jobs)}. "
        )
        + f"Set resources.runtime_min to {most} at most, because the second and third try of a job ask for two and "
        "three times as much. Or name another partition in the profile (slurm_partition). Then run the same "
        "command again."
    )


def _lines(*command: str) -> list[str]:
    """Lines of output of one of Slurm's commands; none if it fails."""
    try:
        line = [command[0], "--noheader", *command[1:]]
        return subprocess.run(line, capture_output=True, text=True, timeout=QUERY_S, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []


def _minutes(text: str) -> int | None:
    """A time of Slurm (`1-02:00:00`, `2:00:00`, `30:00`) in minutes; None for other texts, such as `infinite`."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d\d)", text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return math.ceil(1440 * days + 60 * hours + minutes + seconds / 60)


# --- jobs that outlived their run -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QueuedJob:
    """A job in Slurm's queue."""

    id: str
    state: str


class SlurmIsSilentError(Exception):
    """Slurm is installed and does not answer."""


def leftovers(directory: Path, simulation: str) -> list[QueuedJob]:
    """Jobs of a simulation in Slurm's queue. If no run of it is alive, a killed run left them.

    Parameters
    ----------
    directory : Path
        Working directory of the runs.
    simulation : str

    Raises
    ------
    SlurmIsSilentError
    """
    if not (directory / ".snakemake").is_dir() or shutil.which("squeue") is None:
        return []
    command = ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%i|%T|%j|%Z"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        raise SlurmIsSilentError from None
    return _of_simulation(listed.splitlines(), directory, simulation)


def _of_simulation(lines: Iterable[str], directory: Path, simulation: str) -> list[QueuedJob]:
    named = re.compile(rf".*_{_mark(simulation)}_{UUID}")
    found = []
    for line in lines:
        number, state, name, place = (*line.split("|", 3), "", "", "")[:4]
        if named.fullmatch(name) and os.path.realpath(place) == os.path.realpath(directory):
            found.append(QueuedJob(number, state))
    return found


def of_a_killed_run(jobs: list[QueuedJob]) -> str:
    """First part of a message: how many jobs a killed run left."""
    return f"Slurm still has {_counted(jobs)} of this simulation, from a run that was killed ({_states(jobs)})"


def queued_before_start(directory: Path, simulation: str) -> str:
    """Line about jobs of a simulation that Slurm has before a run submits its first one; empty without any.

    They belong to a run that was killed, or to a living run. `stemphony run` waits for jobs of a killed run, and
    refuses to start beside a living run. Snakemake alone does neither.

    Parameters
    ----------
    directory : Path
        Working directory of the run.
    simulation : str
    """
    try:
        queued = leftovers(directory, simulation)
    except SlurmIsSilentError:
        return ""
    if not queued:
        return ""
    others = [one for one in holders(directory) if one.simulation == simulation and not one.is_this_process]
    beside = next((one for one in others if one.is_alive), next((one for one in others if one.is_elsewhere), None))
    if beside is None:
        return f"{of_a_killed_run(queued)}. Their pairs are computed twice, unless you cancel them: {cancel(queued)}"
    what = f"Slurm has {_counted(queued)} of this simulation ({_states(queued)})"
    if not beside.is_elsewhere:
        return f"{what}. Another run of it is alive (process {beside.pid}), and the jobs belong to that run."
    return (
        f"{what}. Another run of it, on {beside.host} (process {beside.pid}), may be alive; then they belong to it. "
        f"If you know that it is dead, cancel them, or their pairs are computed twice: {cancel(queued)}"
    )


def _counted(jobs: list[QueuedJob]) -> str:
    return f"{len(jobs)} job{'s' if len(jobs) > 1 else ''}"


def _states(jobs: list[QueuedJob]) -> str:
    states = Counter(job.state.lower() for job in jobs)
    return ", ".join(f"{number} {state}" for state, number in sorted(states.items()))


def cancel(jobs: list[QueuedJob]) -> str:
    """The command that cancels jobs."""
    return f"scancel {' '.join(job.id for job in jobs)}"


def wait_for(
    first: list[QueuedJob], look: Callable[[], list[QueuedJob]], pause: Callable[[], None], say: Callable[[str], None]
) -> None:
    """Wait until jobs of a killed run have ended, and say what the user can do instead.

    Parameters
    ----------
    first : list of QueuedJob
        The jobs at the beginning; without any, nothing happens.
    look : callable
        Returns the jobs that are left; may raise SlurmIsSilentError.
    pause : callable
        Waits until the next look.
    """
    if not first:
        return
    say(
        f"{of_a_killed_run(first)}. Waiting for them, so that nothing is computed twice. Results that they finish "
        f"are kept. To end them instead, in another terminal: {cancel(first)}"
    )
    is_silent = False
    while True:
        try:
            left = look()
        except SlurmIsSilentError:  # the jobs may still be there
            if not is_silent:
                say("Slurm does not answer (squeue): whether those jobs have ended is not known; this run asks again.")
            is_silent = True
        else:
            if is_silent:
                say("Slurm answers again.")
            is_silent = False
            if not left:
                break
        pause()
    say("those jobs have ended; the run goes on.")
