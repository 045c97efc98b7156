"""Decide when and what a job writes to its checkpoint. The next attempt continues from there.

A computation registers its work with a keeper as named arrays, and calls the keeper after each wave. From time to time
the keeper writes these arrays. The next attempt finds them in `found`. Checkpoints hold finished waves only, and every
attempt computes a wave by the same operations. So a resumed job gives the same bits as an uninterrupted one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from stemphony.errors import StorageError
from stemphony.store.parts import Parts

INTERVAL_S = 60.0
"""Shortest time between two checkpoints [s]; an interruption costs about as much work."""

COST = 0.01
"""Largest share of the run time that checkpoints may take, so that they hardly slow a job. A checkpoint of 2 s is
written after 200 s, the next after 400 s."""

ASSUMED_RATE = 400e6
"""Speed of the disk [bytes/s] that the first checkpoint assumes; later ones use the measured speed."""

SMALL_BYTES = 1_000_000
"""Smaller checkpoints are timed as if they were this large [bytes], because latency dominates them. Otherwise a whole
result would seem to take minutes."""

Progress = Callable[[int, int], None]


class Keeper:
    """Writes the work of one job, or of a named part of it, to checkpoints. Without arguments it does nothing.

    It is thread-safe.

    Parameters
    ----------
    found : dict of str to ndarray
        Arrays that an earlier attempt has kept. The computation clears it after use, to free the memory.
    write : callable or None
        Called as `write(parts, done, total)` with numbers of waves; writes a checkpoint. May raise StorageError.
    check : callable
        Called after each wave with the time that a checkpoint would take [s]; raises if the job has to end.
    progress : callable
        Called as `progress(done, total)`.
    say : callable
        Writes a line to the log.
    interval_s : float
        Shortest time between two checkpoints [s].
    clock : callable
        Returns the time [s].
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
        """Time that checkpoints have taken so far [s]."""
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
        """Make a keeper for a part of the computation.

        Parameters
        ----------
        name : str
            Prefix of the part's arrays in the checkpoint.
        around : callable
            Returns further arrays that checkpoints of the part include.

        Returns
        -------
        Keeper
            A keeper whose arrays have the name of the part before their own names.
        """
        return _Inside(self, f"{name}/", around)

    def watch(self, parts: Callable[[], Parts]) -> None:
        """From now on, write what `parts` returns. The keeper may call `parts` from any thread at any time."""
        self._parts = parts

    def report(self, done: int, total: int) -> None:
        """Note and report the progress: `done` of `total` units of work, usually waves."""
        self.done, self.total = done, total
        self._progress(done, total)

    def offer(self) -> None:
        """Write a checkpoint if one is due; the computation calls this after each wave."""
        self.tick()
        if self._write is None or self._has_failed or self._clock() < self._due:
            return
        # One thread writes; the others continue to compute.
        if self._busy.acquire(blocking=False):
            try:
                self._plan_next(self._due, self._expected_s())
                if not self._is_over and self._clock() >= self._due:
                    self._save()
            finally:
                self._busy.release()

    def tick(self) -> None:
        """Raise if the job has to end. The computation calls this after work that a checkpoint does not hold."""
        if not self._is_over:
            self._check(self._needed_s)

    # --- for the job --------------------------------------------------------------------------------------------

    def save(self, within_s: float = float("inf")) -> bool:
        """Write the last checkpoint, unless it takes too long.

        Parameters
        ----------
        within_s : float
            Time that is left [s].

        Returns
        -------
        bool
            Whether the checkpoint was written.
        """
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
                self._say(f"no checkpoint is kept; the job goes on without one: {error}")
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
    """A keeper that passes its parts to an outer keeper, under a prefix."""

    def __init__(self, outer: Keeper, prefix: str, around: Callable[[], Parts]) -> None:
        super().__init__()
        self._outer, self._prefix, self._around = outer, prefix, around
        # The arrays are moved from the outer keeper, so that clearing them here frees their memory.
        names = [name for name in outer.found if name.startswith(prefix)]
        self.found = {name[len(prefix) :]: outer.found.pop(name) for name in names}

    def watch(self, parts: Callable[[], Parts]) -> None:
        prefix, around = self._prefix, self._around
        self._outer.watch(lambda: {**around(), **{prefix + name: part for name, part in parts().items()}})

    def offer(self) -> None:
        self._outer.offer()

    def tick(self) -> None:
        self._outer.tick()
