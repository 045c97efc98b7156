"""What a computation keeps of its work on the way, so that the next attempt at it goes on from there.

A computation tells its keeper what it has, as named arrays, and offers it after each wave. Every so often the keeper
has them written; the computation finds them again in `found` when it starts. What is kept are finished waves, and each
wave goes through the same operations whoever computes it: a job that went on has the bits of one that never stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from stemphony.errors import StorageError

INTERVAL_S = 60.0
"""Between two checkpoints, at least."""

COST = 0.01
"""Share of the time that checkpoints may take: one of 2 s is written after 200 s, another after 400 s."""

ASSUMED_RATE = 400e6
"""Bytes per second that a disk is expected to take before the first checkpoint has shown it."""

SMALL_BYTES = 1_000_000
"""What is smaller takes a disk as long as this: by the time of a few bytes a result would seem to take minutes."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Part:
    """One array, handed out piece by piece along its first axis so that it is not in memory twice.

    Attributes
    ----------
    pieces : callable
        Makes the pieces; they are asked for when the part is written, after those of the parts before it.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[np.ndarray]]

    @classmethod
    def of(cls, values: Any) -> Self:
        """Part of an array, or of a number or text."""
        array = np.asarray(values)
        return cls(array.dtype, array.shape, lambda: iter((array,)))

    @property
    def nbytes(self) -> int:
        """Size when written."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


Parts = Mapping[str, Part]


class Keeper:
    """Keeps the work of one job, or of a named part of it; does nothing by default. Thread-safe.

    Parameters
    ----------
    found : dict of str to ndarray
        What an earlier attempt has kept. Whoever has taken what it needs clears it, to free the memory.
    write : callable or None
        Writes parts, with how many waves are done and the total: `write(parts, done, total)`. Raises StorageError.
    check : callable
        Called after each wave with the time that writing will take [s]; raises when the job has to end.
    progress : callable
        Called as `progress(done, total)`.
    say : callable
        Tells the log what happens.
    """

    def __init__(
        self,
        found: dict[str, np.ndarray] | None = None,
        write: Callable[[Parts, int, int], None] | None = None,
        check: Callable[[float], None] = lambda reserve_s: None,
        progress: Progress = lambda done, total: None,
        say: Callable[[str], None] = lambda text: None,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.found = {} if found is None else found
        self.done = self.total = self.written = 0
        self.seconds = 0.0
        """Time that writing has taken so far."""
        self._write, self._check, self._progress, self._say = write, check, progress, say
        self._interval_s, self._clock = interval_s, clock
        self._parts: Callable[[], Parts] = dict
        self._begun = clock()
        self._due = self._begun + interval_s
        self._needed_s, self._rate = 0.0, ASSUMED_RATE
        self._has_failed = self._is_over = False
        self._busy = threading.Lock()

    # --- for the computation ------------------------------------------------------------------------------------

    def inside(self, name: str, around: Callable[[], Parts] = dict) -> Keeper:
        """Keeper of a part of the computation; what is `around` it is kept together with what that part has."""
        return _Inside(self, f"{name}/", around)

    def watch(self, parts: Callable[[], Parts]) -> None:
        """From now on keep what `parts` returns; any thread may call it, at any moment."""
        self._parts = parts

    def report(self, done: int, total: int) -> None:
        """Note and report how far the computation is."""
        self.done, self.total = done, total
        self._progress(done, total)

    def offer(self) -> None:
        """Write what there is, if the last time is long enough ago; to be called after each wave."""
        self.tick()
        if self._write is None or self._has_failed or self._clock() < self._due:
            return
        # The other threads go on meanwhile.
        if self._busy.acquire(blocking=False):
            try:
                self._plan_next(self._due, self._expected_s())
                if not self._is_over and self._clock() >= self._due:
                    self._save()
            finally:
                self._busy.release()

    def tick(self) -> None:
        """Raise if the job has to end: to be called where something is finished that cannot be kept by itself."""
        if not self._is_over:
            self._check(self._needed_s)

    # --- for the job --------------------------------------------------------------------------------------------

    def save(self, within_s: float = float("inf")) -> bool:
        """Write what there is now, for the last time, unless that takes too long; returns whether it is kept."""
        self._is_over = True
        with self._busy:
            if self._write is None or not self.done or self._expected_s() > within_s:
                return False
            return self._save()

    def _save(self) -> bool:
        assert self._write is not None
        begin, size = self._clock(), max(SMALL_BYTES, self._size())
        try:
            self._write(self._parts(), self.done, self.total)
        except (StorageError, OSError) as error:
            if not self._has_failed:
                self._say(f"no checkpoint is kept, the job goes on without: {error}")
            self._has_failed = True
            return False
        end = self._clock()
        took = end - begin
        self._rate = size / took if took > 0 else ASSUMED_RATE
        self.seconds, self.written = self.seconds + took, self.written + 1
        self._plan_next(end + self._interval_s, took)
        return True

    def _plan_next(self, earliest: float, needed_s: float) -> None:
        self._needed_s = needed_s
        self._due = max(earliest, self._begun + (self.seconds + needed_s) / COST)

    def _expected_s(self) -> float:
        return max(SMALL_BYTES, self._size()) / self._rate

    def _size(self) -> int:
        return sum(part.nbytes for part in self._parts().values())


class _Inside(Keeper):
    """A keeper whose parts are kept by another one, under a prefix."""

    def __init__(self, outer: Keeper, prefix: str, around: Callable[[], Parts]) -> None:
        super().__init__()
        self._outer, self._prefix, self._around = outer, prefix, around
        # Taken out of the outer one, so that nobody else holds the arrays.
        names = [name for name in outer.found if name.startswith(prefix)]
        self.found = {name[len(prefix) :]: outer.found.pop(name) for name in names}

    def watch(self, parts: Callable[[], Parts]) -> None:
        prefix, around = self._prefix, self._around
        self._outer.watch(lambda: {**around(), **{prefix + name: part for name, part in parts().items()}})

    def offer(self) -> None:
        self._outer.offer()

    def tick(self) -> None:
        self._outer.tick()
