"""Slurm: a query of jobs that replaces the executor's query, jobs that never start, jobs that outlive their run."""

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

from stemphony.counting import number_of
from stemphony.store.holders import holders

PLUGIN = "snakemake_executor_plugin_slurm"
ABSENT_LOOKS = 3
"""Number of looks in a row after which a job counts as ended, if each look misses it or finds it PREEMPTED."""
ALIVE = frozenset({"PENDING", "RUNNING", "SUSPENDED", "REQUEUED"})
NO_ANSWER = "NO ANSWER"
PREFIX_LENGTH = 50
"""Most characters before the UUID in the name of a job. The executor sets this limit."""
MARK_LENGTH = 8
"""Number of hexadecimal digits in the name of a job that distinguish its simulation from others."""
QUERY_S = 30.0
"""Longest wait for one of Slurm's commands [s]."""
PENDING_LOOKS = (2, 15)
"""Number of looks at a waiting job until its reason is queried first, and between later queries. Few queries spare the
controller."""
NEVER: Final = {
    "PartitionTimeLimit": "its partition",
    "QOSMaxWallDurationPerJobLimit": "its QoS",
    "AssocMaxWallDurationPerJobLimit": "its account",
}
"""Reasons why a job waits forever: its time limit is above that of its partition, QoS or account."""
HELD = re.compile(r"held", re.IGNORECASE)
"""Reasons of jobs that wait until a user releases them: JobHeldUser, JobHeldAdmin, "launch failed requeued held"."""
UNFULFILLED: Final = frozenset(
    {"AccountNotAllowed", "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS", "PartitionDown",
     "PartitionInactive", "PartitionNodeLimit", "QOSNotAllowed"}
)  # fmt: skip
"""Reasons of jobs that wait until the cluster or the job is changed."""
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

States = dict[str, str]
Query = Callable[[str, Any], Awaitable[tuple[States | None, float | None]]]


# --- Snakemake's executor ---------------------------------------------------------------------------------------------


def adapt_executor(simulation: str, say: Callable[[str], None]) -> None:
    """Correct Snakemake's Slurm executor. Without effect if it is not loaded.

    Version 2.8.0 of the executor waits forever in these cases:

    - A status query fails five times in a row, because the accounting is switched off or slurmctld is down. The
      executor then forgets its jobs. With this function, squeue and sacct are asked in turn, again and again.
    - Slurm has forgotten a job (MinJobAge), or only the accounting still calls it alive. With this function, the job
      counts as ended, and its files show whether it succeeded.
    - Slurm ended a job to make room for others and does not queue it again (PREEMPTED). With this function, the job
      counts as ended.
    - A job was cancelled. `sacct` prints "CANCELLED by 1000", which the executor treats as running. With this function,
      only the first word counts.
    - The time limit of a job is above that of its partition. With this function, the job is cancelled, with a message.
      If a job is held, or if the cluster cannot run it, a message is printed once.

    There are two more changes. The time between two looks is always `seconds-between-status-checks`; the executor adds
    10 s with each look. The name of a job begins with the simulation's name and mark, so that users and `leftovers`
    find it.

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
        Runs a command. Returns the states by job id and the time of the command [s], or None twice.
    squeue, sacct : callable
        Take the UUID of a run. Return the command that lists its jobs.
    say : callable
        Prints a line for the user.

    Attributes
    ----------
    watched : set of str
        Ids of the jobs that the executor waits for.
    end_stuck : callable
        Takes ids of waiting jobs. Cancels those that Slurm will never start, see `end_stuck`.
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

        `command` is the query of the executor, which ends with the UUID of the run, and `logger` that of the executor.
        If Slurm does not answer, all jobs get the state NO_ANSWER. The executor then continues to wait.
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
            # The controller does not know these jobs, so they have ended, although the accounting calls them alive.
            missing |= {job for job in self.watched - queued.keys() if states.get(job) in ALIVE}
        self.absent = Counter({job: self.absent[job] + 1 for job in missing})
        forgotten = {job for job in missing if self.absent[job] >= ABSENT_LOOKS}
        # For the executor, a job in state UNKNOWN has ended. Snakemake then looks for the output.
        states |= dict.fromkeys(forgotten, "UNKNOWN") | dict.fromkeys(self._made_room(states), "CANCELLED")
        return states, seconds

    def _made_room(self, states: States) -> list[str]:
        """Jobs that Slurm has ended for others of higher priority and does not queue again. Each is reported."""
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
        """Query from time to time why jobs wait, see `PENDING_LOOKS`."""
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
    """First part of the names of a simulation's jobs: the prefix of the profile, the simulation's name, its mark.

    `simulation` is that name, and `wanted` the prefix of the profile, if it has one.
    """
    readable = "_".join([*([wanted] if wanted else []), simulation])
    return f"{readable[-(PREFIX_LENGTH - MARK_LENGTH - 1) :]}_{_mark(simulation)}"


def _mark(simulation: str) -> str:
    """Digits that distinguish a simulation from others. Its name may be cut off, or be the end of another name."""
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
    """Message that says why jobs wait, and what the user can do."""
    several, numbers = len(jobs) > 1, " ".join(jobs)
    them = "them" if several else "it"
    release = f"To let {them} start: scontrol release {numbers}. " if HELD.search(reason) else ""
    return (
        f"Slurm does not start the job{'s' if several else ''} {', '.join(jobs)} ({reason}); the run waits. {release}"
        f"To cancel {them}, so that the run tries again: scancel {numbers}. Ask the administrators of the cluster why."
    )


def _cancelled(jobs: list[str]) -> bool:
    """Cancel jobs that have not started. Return whether Slurm accepted the command."""
    command = ["scancel", "--state=PENDING", *jobs]
    try:
        return subprocess.run(command, capture_output=True, timeout=QUERY_S).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _why_never(jobs: list[str], wanted: str, partition: str, reason: str, cancelled: bool) -> str:
    """Message with the time that jobs request, the time that is allowed, and what to do."""
    allowed, most = f"more than {NEVER[reason]} allows", "a third of that"
    if reason == "PartitionTimeLimit":
        limits = [_minutes(line.strip()) for line in _lines("sinfo", f"--partition={partition}", "--format=%l")]
        if minutes := max((limit for limit in limits if limit), default=0):
            allowed, most = f"and partition {partition} allows {minutes}", f"{max(1, minutes // 3)}"
    named = "job" if len(jobs) == 1 else "jobs"
    return (
        f"Slurm will never start the {named} {', '.join(jobs)} ({reason}): the request is {_minutes(wanted)} min, "
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
    """A job in Slurm's queue: its `id`, and its `state` as squeue writes it."""

    id: str
    state: str


class SlurmIsSilentError(Exception):
    """Slurm is installed, but does not answer."""


def leftovers(directory: Path, simulation: str) -> list[QueuedJob]:
    """Jobs of a simulation in Slurm's queue. If no run of the simulation is alive, a killed run left them.

    Parameters
    ----------
    directory : Path
        Working directory of the runs.
    simulation : str

    Returns
    -------
    list of QueuedJob
        Empty without Slurm, or if no run has worked in the folder.

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
    """First part of a message, with the number of jobs that a killed run left."""
    return f"Slurm still has {_counted(jobs)} of this simulation, from a run that was killed ({_states(jobs)})"


def queued_before_start(directory: Path, simulation: str) -> str:
    """Line about jobs of a simulation that Slurm has before a run submits its first job; empty if there are none.

    These jobs belong to a killed run or to a living run. `stemphony run` waits for jobs of a killed run, and refuses to
    start beside a living run. Snakemake alone does neither.

    Parameters
    ----------
    directory : Path
        Working directory of the run.
    simulation : str

    Returns
    -------
    str
        One line without a line end, or an empty text.
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
    return number_of(len(jobs), "job")


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
        The jobs at the beginning. If there are none, nothing happens.
    look : callable
        Returns the jobs that are left. May raise SlurmIsSilentError.
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
