"""FFTW's plans on disk, per CPU model and FFTW version, so that they are made once and are the same for all jobs."""

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

from stemphony.physics import fft
from stemphony.physics.strips.plan import StripPlan
from stemphony.store.atomic import atomic_path

# Longer than the search for the plans of a grid of 2048² takes: whoever does not wait computes with other plans.
LOCK_WAIT_S = 300.0
LOCK_POLL_S = 0.05

# FFTW measures each transform alone, in the cache and under the noise of the machine. Its plans for large grids differ
# by a tenth of the time of a slice, so several are sought and the fastest is kept; those that it finds quickly hardly
# differ.
QUICK_S = 4.0
ENOUGH_S = 40.0
ROUNDS = 12
TRIAL_BYTES = 131072  # plans of a dozen grids take half of that on disk


def cache_folder() -> Path:
    """STEMPHONY_CACHE_DIR, else XDG_CACHE_HOME/stemphony, else ~/.cache/stemphony."""
    own = os.environ.get("STEMPHONY_CACHE_DIR")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stemphony"


def cpu_model() -> str:
    """Name of this machine's CPU; plans measured on one are not the best on another."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def wisdom_file(folder: Path | None = None) -> Path:
    """The cache file of this CPU model and FFTW version."""
    key = hashlib.sha256(f"{cpu_model()}\n{fft.library_version()}".encode()).hexdigest()[:16]
    return (folder or cache_folder()) / f"fftw-{key}.json"


def prepare_plans(plan: Callable[[str], object], folder: Path | None = None) -> tuple[str, str]:
    """Make FFTW know the plans that `plan` makes, from the cache on disk if they are there.

    Must be called before threads start. Many jobs may call it at once: one plans, under a lock that dies with
    its process, and the others wait for it, at most LOCK_WAIT_S.

    Parameters
    ----------
    plan : callable
        Makes the transforms with the planner flag that it gets, for example a `strips.StripPlan`.

    Returns
    -------
    flag, source : str
        The planner flag to use from now on, and where the plan came from: `cache`, `planned` (and kept),
        or `planned, not kept: …` when the cache folder cannot be written or its disk is full, which costs speed
        and no more.
    """
    file = wisdom_file(folder)
    if _known(file, plan):
        return "FFTW_PATIENT", "cache"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _lock(file.with_suffix(".lock")):
            if _known(file, plan):
                return "FFTW_PATIENT", "cache"
            _require_room(file.parent)
            _plan_well(plan)
            _keep(file)
    except Exception as error:  # a cache must never cost the run
        # Nothing may be kept, so a long search for the best plan would be repeated by every job.
        return "FFTW_MEASURE", f"planned, not kept: {type(error).__name__}"
    return "FFTW_PATIENT", "planned"


def _require_room(folder: Path) -> None:
    """Raise OSError where plans could not be kept once they are found: the disk is full, the quota used up."""
    with tempfile.TemporaryFile(dir=folder) as trial:  # has no name, so that nobody has to remove it
        trial.write(os.urandom(TRIAL_BYTES))  # zeros take no room on a disk that compresses
        trial.flush()
        os.fsync(trial.fileno())  # some file systems notice only here that they are full


def _plan_well(plan: Callable[[str], object]) -> None:
    """Leave FFTW with the wisdom of the fastest of a few plans, where the transforms can be timed."""
    before, begin = fft.wisdom(), time.monotonic()
    found: list[tuple[StripPlan, fft.Wisdom]] = []
    while True:
        fft.forget_wisdom()
        fft.add_wisdom(before)
        made = plan("FFTW_PATIENT")
        if not isinstance(made, StripPlan):
            return
        found.append((made, fft.wisdom()))
        if not QUICK_S <= time.monotonic() - begin <= ENOUGH_S:
            break
    if len(found) > 1:
        seconds = _seconds([made for made, _ in found])
        fft.forget_wisdom()
        fft.add_wisdom(found[seconds.index(min(seconds))][1])


def _seconds(plans: Sequence[StripPlan]) -> list[float]:
    """CPU time of a slice with each plan, in turns, so that what slows the machine for a while slows all of them."""
    rehearsals = [plan.rehearsal() for plan in plans]
    times: list[list[float]] = [[] for _ in plans]
    for _ in range(ROUNDS):
        for rehearsal, own in zip(rehearsals, times, strict=True):
            rehearsal()  # puts this plan's wave in the place of the other's in the cache
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
def _lock(file: Path) -> Iterator[None]:
    """Exclusive lock; raises TimeoutError when another process keeps it longer than LOCK_WAIT_S."""
    with file.open("a") as stream:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError("another process keeps planning") from None
                time.sleep(LOCK_POLL_S)
        yield
