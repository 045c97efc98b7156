"""Decide whether a run may start in a working directory.

Other runs may be alive there. Killed runs may have left locks, or jobs in Slurm.
"""

from __future__ import annotations

import math
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from stemphony.errors import StorageError
from stemphony.orchestration import slurm
from stemphony.store.holders import RunHolder, holders

POLL_S = 0.5
"""Pause between two searches for the process of a run [s]."""
LEFTOVERS_S = 3.0
"""Pause between two queries of Slurm's queue [s]."""
LATE_HOLDER_S = 5.0
"""Longest time between the moment when a run takes Snakemake's lock and the moment when it records its process [s]."""
IN_USE = "{directory} is in use by a run that is alive (process {pid}). Wait for it, or end it first: kill {pid}"
"""Message about a run that uses the directory."""


def free_lock(command: Sequence[str], directory: Path, name: str) -> None:
    """Remove Snakemake's lock if all runs that may hold it are certainly dead.

    Parameters
    ----------
    command : sequence of str
        The command that starts Snakemake.
    directory, name : Path, str
        Working directory and name of the simulation.

    Raises
    ------
    StorageError
        See `require_free`.
    """
    killed = require_free(directory, name)
    if not killed:
        return
    # A mistake in the config also makes this command fail. The run itself then reports the mistake.
    if subprocess.run([*command, "--unlock"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
        pids = ", ".join(str(holder.pid) for holder in killed)
        print(f"the last run here (process {pids}) was killed; its lock is removed and the work goes on.", flush=True)
        for holder in killed:
            holder.file.unlink(missing_ok=True)


def require_free(
    directory: Path, name: str, late_holder_s: float = LATE_HOLDER_S, sleep: Callable[[float], None] = time.sleep
) -> list[RunHolder]:
    """Refuse a working directory in which a run of the simulation `name` may be alive. Change nothing.

    Parameters
    ----------
    directory, name : Path, str
        Working directory and name of the simulation.
    late_holder_s : float
        Longest wait for a run that holds the lock to record its process [s].
    sleep : callable
        Waits so many seconds before the next look.

    Returns
    -------
    list of RunHolder
        Killed runs whose lock still exists and may be removed.

    Raises
    ------
    StorageError
        A run of this simulation is alive or may be, or the holder of the lock is unknown.
    """
    locks = directory / ".snakemake" / "locks"
    # The deadline ends the loop if the time of a lock is in the future.
    deadline = time.monotonic() + late_holder_s
    while not (found := holders(directory)) and _seconds_since(locks) < late_holder_s and time.monotonic() < deadline:
        sleep(POLL_S)
    alive = [holder for holder in found if holder.is_alive]
    for holder in alive:
        if holder.simulation == name:
            raise StorageError(IN_USE.format(directory=directory, pid=holder.pid))
    if not locks.is_dir() or not any(locks.iterdir()):
        return []
    by_hand = (
        f"snakemake --unlock --directory {shlex.quote(str(directory))} (with the same --snakefile and --configfile)"
    )
    if not found:
        raise StorageError(
            f"{directory} is locked by a run of Snakemake that left no trace of its process. If you are sure that none "
            f"runs there, unlock it: {by_hand}."
        )
    for holder in found:
        if holder.is_elsewhere:
            raise StorageError(
                f"{directory} is in use by a run on {holder.host} (process {holder.pid}). Wait for it. If the process "
                f"is dead, start stemphony run with the same arguments on {holder.host}. If {holder.host} itself is "
                f"gone, unlock the folder: {by_hand}."
            )
    # A run that is alive here computes another simulation. If both need the same files, Snakemake refuses the new run.
    return [] if alive else found


def who_holds_the_lock(directory: Path) -> str:
    """Message for a run that did not get Snakemake's lock in `directory`, because another run took it first.

    That run took it after `require_free`. This function waits at most `LATE_HOLDER_S` for the record of its process,
    which the message then names.
    """
    deadline = time.monotonic() + LATE_HOLDER_S
    while time.monotonic() < deadline:
        if alive := [holder for holder in holders(directory) if holder.is_alive]:
            return IN_USE.format(directory=directory, pid=alive[0].pid)
        time.sleep(POLL_S)
    return f"{directory} is in use by another run. Wait for it, then run the same command again."


def wait_for_leftovers(directory: Path, name: str, uses_slurm: bool) -> None:
    """Wait for jobs in Slurm that a killed run left. A new run would compute their configurations a second time.

    Parameters
    ----------
    directory, name : Path, str
        Working directory and name of the simulation.
    uses_slurm : bool
        Whether the new run may use Slurm. If so, a line is printed when the cluster does not answer.
    """
    try:
        left = slurm.leftovers(directory, name)
    except slurm.SlurmIsSilentError:
        # No answer is normal on a machine that has Slurm's commands but no cluster.
        if uses_slurm or (directory / ".snakemake" / "slurm_logs").is_dir():
            print("Slurm does not answer (squeue): whether jobs of an earlier run are left is not known.", flush=True)
        return

    told: set[str] = set()
    slurm.wait_for(left, lambda: _look_for_leftovers(directory, name, told), lambda: time.sleep(LEFTOVERS_S), _say)


def _look_for_leftovers(directory: Path, name: str, told: set[str]) -> list[slurm.QueuedJob]:
    """Jobs that are left. Those that can never start are ended, because the new run would wait forever.

    `told` holds what was already said about such jobs.
    """
    found = slurm.leftovers(directory, name)
    waiting = {job.id for job in found if job.state == "PENDING"}
    if waiting:
        slurm.end_stuck(waiting, _say, told)
    return found


def _say(text: str) -> None:
    print(text, flush=True)


def _seconds_since(locks: Path) -> float:
    """Age of Snakemake's youngest lock [s], infinite without a lock."""
    try:
        return min((time.time() - lock.stat().st_mtime for lock in locks.iterdir()), default=math.inf)
    except OSError:
        return math.inf
