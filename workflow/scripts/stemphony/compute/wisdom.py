"""FFT plans on disk, one file per CPU model and FFTW version. One job makes the plans, and all jobs use them."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stemphony.contract import CACHE_VARIABLE
from stemphony.physics import fft
from stemphony.physics.strips.plan import StripPlan
from stemphony.store.atomic import atomic_path

LOCK_WAIT_S = 300.0
"""Longest wait for another process that plans [s]. Planning for a grid of 2048² takes less. A process that stops
waiting makes its own plans, which may differ."""

LOCK_POLL_S = 0.05
"""Time between two attempts to get the lock [s]. It is short compared with the time that planning takes."""

# FFTW times each transform alone: the data is in the processor's cache, and the machine adds noise. For large grids,
# the times of a slice with two of its plans differ by a tenth. So several plans are made, and the fastest is kept.
QUICK_S = 4.0
"""CPU time of planning [s] below which one plan is enough: plans that FFTW finds quickly hardly differ. It is CPU time,
because on a busy machine even small grids take longer by the clock."""

ENOUGH_S = 40.0
"""Planning time [s] after which no further plan is made. Each takes about as long as the first, so large grids get
fewer plans."""

ROUNDS = 12
"""Number of times that each plan is timed. The median counts, because single times are noisy."""

TRIAL_BYTES = 131072
"""Size of the trial file that shows whether the disk has room [bytes]; the plans of a dozen grids take half of it."""


def cache_folder() -> Path:
    """Return STEMPHONY_CACHE_DIR, else XDG_CACHE_HOME/stemphony, else ~/.cache/stemphony."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stemphony"
    except RuntimeError:
        return Path(os.devnull) / "stemphony"  # a user without a home folder: nothing can be kept


def cpu_model() -> str:
    """Return the name of this machine's CPU; the fastest plan differs between CPUs."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def wisdom_file(folder: Path | None = None) -> Path:
    """Return the cache file of this CPU model and FFTW version, in `folder`, by default in `cache_folder()`."""
    key = hashlib.sha256(f"{cpu_model()}\n{fft.library_version()}".encode()).hexdigest()[:16]
    return (folder or cache_folder()) / f"fftw-{key}.json"


def prepare_plans(
    plan: Callable[[str], object],
    folder: Path | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    cpu_clock: Callable[[], float] = time.process_time,
) -> tuple[str, str]:
    """Give FFTW the plans that `plan` needs, from the cache on disk or by planning.

    Call this function before threads start. Many jobs may call it at once: one job plans, and the others wait for it,
    at most LOCK_WAIT_S. The system releases the lock of a process that dies.

    Parameters
    ----------
    plan : callable
        Makes the transforms with the planner flag that it gets, for example a `StripPlan`.
    folder : Path or None
        Folder of the cache; None for `cache_folder()`.
    clock : callable
        Returns the time [s]; it measures the wait for the lock and the planning.
    cpu_clock : callable
        Returns the CPU time of this process [s]; it decides whether planning was quick.

    Returns
    -------
    flag, source : str
        The planner flag for all further plans, and the origin of the plans: `cache`, `planned` (and kept), or
        `planned, not kept: …` if the cache folder cannot be written or its disk is full. Plans that are not kept
        cost only speed.
    """
    file = wisdom_file(folder)
    if _known(file, plan):
        return "FFTW_PATIENT", "cache"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _lock(file.with_suffix(".lock"), clock):
            if _known(file, plan):
                return "FFTW_PATIENT", "cache"
            _require_room(file.parent)
            _plan_well(plan, clock, cpu_clock)
            _keep(file)
    except Exception as error:  # trouble with the cache must not stop the job
        # Without a cache every job plans, so a long search for the best plan is not worth its time.
        return "FFTW_MEASURE", f"planned, not kept: {type(error).__name__}"
    return "FFTW_PATIENT", "planned"


def has_plans(plan: Callable[[str], object], folder: Path | None = None) -> bool:
    """Return whether the cache on disk has the plans that `plan` needs.

    `plan` makes the transforms with the planner flag that it gets, and `folder` is the folder of the cache, see
    `prepare_plans`. As a side effect, FFTW gets the plans of the cache.
    """
    return _known(wisdom_file(folder), plan)


def _require_room(folder: Path) -> None:
    """Raise OSError if plans could not be written, because the disk is full or the quota used up."""
    with tempfile.TemporaryFile(dir=folder) as trial:  # it has no name, so a killed process leaves no file
        trial.write(os.urandom(TRIAL_BYTES))  # zeros would take no room on a disk that compresses
        trial.flush()
        os.fsync(trial.fileno())  # some file systems report a full disk only here


def _plan_well(plan: Callable[[str], object], clock: Callable[[], float], cpu_clock: Callable[[], float]) -> None:
    """Make a few plans and leave FFTW with the wisdom of the fastest. If plans cannot be timed, make only one."""
    before, begin, cpu_begin = fft.wisdom(), clock(), cpu_clock()
    found: list[tuple[StripPlan, fft.Wisdom]] = []
    while True:
        fft.forget_wisdom()
        fft.add_wisdom(before)
        made = plan("FFTW_PATIENT")
        if not isinstance(made, StripPlan):
            return
        found.append((made, fft.wisdom()))
        if cpu_clock() - cpu_begin < QUICK_S or clock() - begin > ENOUGH_S:
            break
    if len(found) > 1:
        seconds = _seconds([made for made, _ in found])
        fft.forget_wisdom()
        fft.add_wisdom(found[seconds.index(min(seconds))][1])


def _seconds(plans: Sequence[StripPlan]) -> list[float]:
    """CPU time of a slice with each plan [s]; the plans take turns, so that a busy machine slows all of them."""
    rehearsals = [plan.rehearsal() for plan in plans]
    times: list[list[float]] = [[] for _ in plans]
    for _ in range(ROUNDS):
        for rehearsal, own in zip(rehearsals, times, strict=True):
            rehearsal()  # loads the wave of this plan into the processor's cache
            begin = time.process_time()
            rehearsal()
            own.append(time.process_time() - begin)
    return [statistics.median(own) for own in times]


def _known(file: Path, plan: Callable[[str], object]) -> bool:
    if _needs_no_planning(plan):
        return True
    try:
        content = json.loads(file.read_text(encoding="ascii"))
        double, single, extended = (base64.b64decode(part, validate=True) for part in content["wisdom"])
        parts: fft.Wisdom = double, single, extended
        # FFTW takes damaged wisdom without complaint.
        if _checksum(parts) != content["sha256"] or content["cpu"] != cpu_model():
            return False
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return fft.add_wisdom(parts) and _needs_no_planning(plan)


def _needs_no_planning(plan: Callable[[str], object]) -> bool:
    try:
        plan("FFTW_WISDOM_ONLY")
    except RuntimeError:
        return False
    return True


def _keep(file: Path) -> None:
    parts = fft.wisdom()
    content = {
        "cpu": cpu_model(),
        "fftw": fft.library_version(),
        "sha256": _checksum(parts),
        "wisdom": [base64.b64encode(part).decode("ascii") for part in parts],
    }
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1), encoding="ascii")


def _checksum(parts: fft.Wisdom) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


@contextmanager
def _lock(file: Path, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Take an exclusive lock; raises TimeoutError if another process holds it longer than LOCK_WAIT_S."""
    with file.open("a") as stream:
        deadline = clock() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock() > deadline:
                    raise TimeoutError("another process keeps planning") from None
                time.sleep(LOCK_POLL_S)
        yield
