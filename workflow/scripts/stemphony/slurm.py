"""Slurm as a run meets it: an executor that never waits in vain, and jobs that outlived the run that submitted them."""

from __future__ import annotations

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
from typing import Any

PLUGIN = "snakemake_executor_plugin_slurm"
ABSENT_LOOKS = 3
"""So many looks in a row that do not find a job make it one that Slurm has forgotten."""
NO_ANSWER = "NO ANSWER"
PREFIX_LENGTH = 50
"""What the executor allows before the UUID of a job's name."""
MARK_LENGTH = 8
QUERY_S = 30.0
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

States = dict[str, str]
Query = Callable[[str, Any], Awaitable[tuple[States | None, float | None]]]


# --- Snakemake's executor ---------------------------------------------------------------------------------------------


def adapt_executor(simulation: str, say: Callable[[str], None]) -> None:
    """Make Snakemake's Slurm executor dependable; without effect where it is not loaded.

    What its version 2.8.0 does by itself:

    - A status query that fails five times in a row (accounting is switched off) makes it forget its jobs, and the run
      waits for good. Here they stay: the other of squeue and sacct is asked, and both again.
    - While slurmctld is away it changes from squeue to sacct, with the same end. Here not.
    - A job that Slurm has forgotten (MinJobAge) is waited for, for good. Here it has ended, and its files tell how.
    - The time between two looks grows by 10 s with each look. Here it is `seconds-between-status-checks`, always.
    - Jobs are named by a UUID. Here the simulation's name and mark stand before it: for people, and for `leftovers`.
    """
    plugin: Any = sys.modules.get(PLUGIN)
    if plugin is None:
        return
    executor = plugin.Executor
    plain_init, plain_check = executor.__post_init__, executor.check_active_jobs
    lookout = Lookout(plugin.query_job_status, plugin.query_job_status_squeue, plugin.query_job_status_sacct, say)

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
    """Asks Slurm for the states of a run's jobs, and always has an answer.

    Attributes
    ----------
    watched : set of str
        Ids of the jobs that the executor waits for.
    """

    def __init__(
        self, query: Query, squeue: Callable[[str], str], sacct: Callable[[str], str], say: Callable[[str], None]
    ) -> None:
        self.query, self.say = query, say
        self.squeue, self.sacct = squeue, sacct
        self.watched: set[str] = set()
        self.absent: Counter[str] = Counter()
        self.is_silent = False

    async def ask(self, command: str, logger: Any) -> tuple[States, float]:
        """States by id, as `query_job_status` of the executor gives them; without an answer, jobs stay as they are."""
        run = shlex.split(command)[-1]
        ways = (self.squeue(run), self.sacct(run))
        states: States = {}
        seconds, answered = 0.0, False
        for way in ways if command.startswith("squeue") else reversed(ways):
            found, took = await self.query(way, logger)
            if found is not None:
                answered, seconds, states = True, seconds + (took or 0.0), {**found, **states}
                if self.watched <= states.keys():
                    break
        if not answered:
            self._note_silence(True)
            return dict.fromkeys(self.watched, NO_ANSWER), 0.0
        self._note_silence(False)
        # Tasks of job arrays are listed under other names while they wait.
        missing = {job for job in self.watched - states.keys() if "_" not in job}
        self.absent = Counter({job: self.absent[job] + 1 for job in missing})
        forgotten = {job for job in missing if self.absent[job] >= ABSENT_LOOKS}
        # UNKNOWN is what the executor takes for an end: Snakemake then looks for the output.
        return {**states, **dict.fromkeys(forgotten, "UNKNOWN")}, seconds

    def _note_silence(self, silent: bool) -> None:
        if silent and not self.is_silent:
            self.say("Slurm does not answer (squeue, sacct). Its jobs go on; this run asks again and again.")
        if not silent and self.is_silent:
            self.say("Slurm answers again.")
        self.is_silent = silent


def name_prefix(simulation: str, wanted: str | None = None) -> str:
    """What a simulation's jobs are named before their UUID: what the user's profile wants, the simulation, its mark."""
    readable = "_".join([*([wanted] if wanted else []), simulation])
    return f"{readable[-(PREFIX_LENGTH - MARK_LENGTH - 1) :]}_{_mark(simulation)}"


def _mark(simulation: str) -> str:
    """Digits that tell a simulation from others: its name may be the end of another's, or cut off."""
    return hashlib.sha256(simulation.encode()).hexdigest()[:MARK_LENGTH]


# --- jobs that outlived their run -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QueuedJob:
    """A job in Slurm's queue."""

    id: str
    state: str


class SlurmIsSilentError(Exception):
    """Slurm is there and does not answer."""


def leftovers(directory: Path, simulation: str) -> list[QueuedJob]:
    """Slurm's jobs of a simulation in a working directory; those of a run that was killed, if none is alive.

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
    """How many jobs are left, in words."""
    states = Counter(job.state.lower() for job in jobs)
    listed = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    plural = "s" if len(jobs) > 1 else ""
    return f"Slurm still has {len(jobs)} job{plural} of this simulation, from a run that was killed ({listed})"


def cancel(jobs: list[QueuedJob]) -> str:
    """The command that ends jobs."""
    return f"scancel {' '.join(job.id for job in jobs)}"


def wait_for(
    first: list[QueuedJob], look: Callable[[], list[QueuedJob]], pause: Callable[[], None], say: Callable[[str], None]
) -> None:
    """Wait until jobs that outlived their run have ended, and say what else can be done."""
    if not first:
        return
    say(
        f"{of_a_killed_run(first)}. Waiting for them, so that nothing is computed twice; what they finish is kept. "
        f"To end them instead, in another terminal: {cancel(first)}"
    )
    is_silent = False
    while True:
        try:
            left = look()
        except SlurmIsSilentError:  # they may be there still
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
