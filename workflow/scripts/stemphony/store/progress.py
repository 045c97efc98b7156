"""Progress of jobs: one small file per job, and their sum over a run."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stemphony import ordinary_files
from stemphony.paths import ResultPaths
from stemphony.store.claims import Holder

INTERVAL_S = 2.0
"""Shortest time between two writings of a job's progress [s]. Waves may take milliseconds, and each writing loads the
file system."""
RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"
"""States of jobs."""
NOT_WELL = frozenset((FAILED, INTERRUPTED))
"""States of jobs that ended without a result."""
LARGEST = 2.0**53
"""Largest number in a file of progress; larger ones count as 0. A double holds whole numbers up to here exactly."""
_NUMBERS = ("done", "total", "pid", "started", "updated", "cpu_s", "fft_plans_s")
"""Keys of the state whose values are numbers."""


class ProgressFile:
    """State of one job in one run: done, total, and running, finished, failed or interrupted.

    If the file cannot be written, the display is wrong, but the job goes on.

    Parameters
    ----------
    file : Path
    clock : callable
        Time for the interval between two writings [s].
    **about
        Further keys: what the job is.
    """

    def __init__(self, file: Path, *, clock: Callable[[], float] = time.monotonic, **about: Any) -> None:
        self.file, self._clock = file, clock
        self.state: dict[str, Any] = {
            **about, "state": RUNNING, "done": 0, "total": 0, "host": socket.gethostname(), "pid": os.getpid(),
            "started": time.time(), "updated": time.time(), "holder": asdict(Holder.here()),
        }  # fmt: skip
        self.last = 0.0

    def update(self, done: int, total: int) -> None:
        """Note `done` of `total` waves. Write the file if it was not written for `INTERVAL_S`."""
        self.state.update(done=done, total=total)
        if self._clock() - self.last >= INTERVAL_S:
            self.write()

    def note(self, **about: Any) -> None:
        """Add keys to the state. The next `write` writes them."""
        self.state.update(about)

    def end(self, state: str, message: str = "") -> None:
        """Note how the job has ended, `state`, and the reason, `message`, and write the file.

        `state` is FINISHED, FAILED or INTERRUPTED. The CPU time of this process so far is noted, too.
        """
        self.state.update(state=state, message=message, cpu_s=round(time.process_time(), 2))
        self.write()

    def write(self) -> None:
        """Write the state."""
        self.last = self._clock()
        self.state["updated"] = time.time()
        temporary = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(self.state), encoding="utf-8")
            temporary.replace(self.file)
        except OSError:
            pass


@dataclass(frozen=True)
class Overall:
    """Sum over a run: its jobs, how many are in each state, and the finished share (0 to 1).

    A job whose process died without noting how it ended counts as failed.
    """

    jobs: int
    finished: int
    failed: int
    running: int
    share: float
    interrupted: int = 0

    def line(self, elapsed_s: float) -> str:
        """One line of text: percentage, jobs, rate, and the time left.

        `elapsed_s` is the time of the run so far [s].
        """
        text = f"{100 * self.share:5.1f} %  {self.finished}/{self.jobs} jobs"
        if self.running:
            text += f", {self.running} running"
        if self.failed:
            text += f", {self.failed} failed"
        if self.interrupted:
            text += f", {self.interrupted} interrupted"
        if elapsed_s > 0 and self.share > 0:
            rate = self.share * self.jobs / elapsed_s * 3600
            text += f", {rate:.3g} jobs/h"
            if self.share < 1:
                text += f", {duration(elapsed_s * (1 - self.share) / self.share)} left"
        return text


class Watch:
    """Progress of one run, for a reader that asks again and again: the file of a finished job is read once."""

    def __init__(self, result: ResultPaths, run: int) -> None:
        self.result, self.run = result, run
        self.finished: dict[str, dict[str, Any]] = {}

    def overall(self, jobs: int) -> Overall:
        """The sum as it is now; `jobs` is the number of jobs in the run."""
        others = []
        for file in files(self.result, self.run):
            if str(file) in self.finished:
                continue
            if state := _read(file):
                if state["state"] == FINISHED:
                    self.finished[str(file)] = state
                else:
                    others.append(state)
        return _sum([*self.finished.values(), *others], jobs)


def _sum(found: Iterable[dict[str, Any]], jobs: int) -> Overall:
    finished = failed = running = interrupted = 0
    share = 0.0
    for state in found:
        if state["state"] == FINISHED:
            finished += 1
            share += 1.0
        elif state["state"] == INTERRUPTED:
            interrupted += 1
        elif state["state"] == FAILED or has_died(state):
            failed += 1
        else:
            running += 1
            share += min(1.0, state["done"] / state["total"]) if state["total"] else 0.0
    return Overall(jobs, finished, failed, running, min(1.0, share / jobs) if jobs else 1.0, interrupted)


def together(parts: Sequence[Overall]) -> Overall:
    """The sum over several simulations, whose own sums are `parts`; the share is weighted with the numbers of jobs."""
    jobs = sum(part.jobs for part in parts)
    finished, failed, running = (sum(getattr(part, key) for part in parts) for key in ("finished", "failed", "running"))
    share = sum(part.share * part.jobs for part in parts) / jobs if jobs else 1.0
    return Overall(jobs, finished, failed, running, share, sum(part.interrupted for part in parts))


def has_died(state: Mapping[str, Any]) -> bool:
    """Whether a job that is `running` in its `state` is certainly dead; False if its process cannot be seen from here.

    `state` has the keys of `ProgressFile`.
    """
    if state["state"] != RUNNING:
        return False
    holder = Holder.of(json.dumps(state.get("holder")).encode())
    return holder is not None and holder.is_gone


def states(result: ResultPaths, run: int) -> list[dict[str, Any]]:
    """States of all jobs that run number `run` of the simulation `result` has started, with the keys of `ProgressFile`.

    Files that are not readable are left out.
    """
    return [state for file in files(result, run) if (state := _read(file))]


def job_state(result: ResultPaths, run: int, defocus: str, configuration: int) -> dict[str, Any]:
    """State of one job in run number `run` of the simulation `result`, with the keys of `ProgressFile`.

    `defocus` is the id of the job's defocus, and `configuration` its index. The result is empty if the job has not
    started, or its file is not readable.
    """
    return _read(result.progress(run, defocus, configuration))


def files(result: ResultPaths, run: int) -> list[Path]:
    """Progress files of run number `run` of the simulation `result`, sorted; each is named after its job."""
    folder = result.run(run) / "progress"
    return sorted(file for file in folder.rglob("*.json") if not file.name.startswith("."))


def _read(file: Path) -> dict[str, Any]:
    try:
        state = json.loads(ordinary_files.read_text(file))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(state, dict) or not isinstance(state.get("state"), str):
        return {}
    # The folder may come from somebody else, so a value that is not a number counts as 0.
    return {**state, **{key: _number(state.get(key)) for key in _NUMBERS}}


def _number(value: object) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= LARGEST else 0  # type: ignore[operator, return-value]


def duration(seconds: float) -> str:
    """A time of so many `seconds` [s] in words: `40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Tenths:
    """Call `say` once for each tenth of the work."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.next = say, 1

    def reached(self, share: float, text: str) -> None:
        """Say `text` if `share` (0 to 1) has passed another tenth."""
        if share * 10 >= self.next - 1e-9:
            self.say(text)
            self.next = int(share * 10 + 1e-9) + 1
