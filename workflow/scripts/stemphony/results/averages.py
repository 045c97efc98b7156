"""Averages over jobs, from sums of batches of jobs.

A batch is a fixed sequence of at most `BATCH_UNITS` units. The sums of a batch depend on no other batch, and batches
are joined in a fixed order. So every bit of the averages is the same, however many processes make the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np

from stemphony.results.merge_task import Averaging, Place, Source

BATCH_UNITS = 100
"""Largest number of units in a batch. With larger batches, there would be too few for all processes."""

FRAMES_BYTES = 64e6
"""Size of the coordinates that one batch may hold in memory [bytes]. A large specimen therefore has smaller batches."""

ATOM_BYTES = 16
"""Size of one atom's coordinates and slice index [bytes]: three numbers in single precision, and one of 4 bytes."""

Unit = tuple[Source, ...]
"""One sample of a spread over configurations: a job, or the jobs of a configuration at all defoci."""

Batch = tuple[Unit, ...]
"""Units whose sums are made together."""


def batches_of(averagings: Sequence[Averaging], atoms: int) -> list[Batch]:
    """Cut the jobs into batches. All jobs of a batch belong to the same place of each group.

    Parameters
    ----------
    averagings : sequence of Averaging
        Averaging of each group; the groups have the same order of jobs.
    atoms : int
        Number of atoms whose coordinates are kept; 0 for none.

    Returns
    -------
    list of Batch
        All jobs of the task, each in one batch.
    """
    task, by_configuration = averagings[0].task, averagings[0].by_configuration
    size = min(BATCH_UNITS, max(1, int(FRAMES_BYTES / max(1, atoms * ATOM_BYTES))))
    if not all(averaging.over_configurations for averaging in averagings):
        size = 1
    if by_configuration:
        ordered = sorted(task.sources, key=lambda source: source.configuration)
        units = [tuple(same) for _, same in groupby(ordered, key=lambda source: source.configuration)]
        return _cut(units, size)
    strata = groupby(task.sources, key=lambda source: source.defocus_index)
    return [batch for _, same in strata for batch in _cut([(source,) for source in same], size)]


def _cut(units: Sequence[Unit], size: int) -> list[Batch]:
    return [tuple(units[first : first + size]) for first in range(0, len(units), size)]


class Spread:
    """Sample variance (N − 1) of a stream of arrays, without storing them.

    T. F. Chan, G. H. Golub & R. J. LeVeque, Am. Stat. 37 (1983) 242: Welford's recurrence for `add`, Chan's formula
    for `join`.
    """

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, np.zeros(()), np.zeros(())

    def add(self, value: np.ndarray) -> None:
        """Add `value`, one array. All arrays have the same shape."""
        if not self.count:
            self.mean, self.squares = np.zeros(np.shape(value)), np.zeros(np.shape(value))
        self.count += 1
        delta = value - self.mean
        self.mean += delta / self.count
        self.squares += delta * (value - self.mean)

    def join(self, later: Spread) -> None:
        """Add the arrays of another stream, `later`.

        The spread may keep the memory of `later`, so the caller must not use it any more.
        """
        if not later.count:
            return
        count = self.count + later.count
        delta = later.mean - self.mean if self.count else later.mean
        if self.count:
            self.squares = self.squares + later.squares + delta**2 * (self.count * later.count / count)
            self.mean = self.mean + delta * (later.count / count)
        else:
            self.squares, self.mean = later.squares, later.mean
        self.count = count

    @property
    def variance(self) -> np.ndarray:
        """Variance of the arrays; NaN for fewer than two."""
        return self.squares / (self.count - 1) if self.count > 1 else np.full(self.mean.shape, np.nan)


class Sums:
    """Number and sum of units, and the spread of the `first` quantities on their last axis."""

    def __init__(self, first: int) -> None:
        self.first, self.number, self.total, self.spread = first, 0, np.zeros(()), Spread()

    def add(self, value: np.ndarray) -> None:
        """Add the signals `value` of one unit, an array whose last axis holds the quantities.

        The first array becomes the sum, so the caller must not use it any more.
        """
        self.number += 1
        if self.first:
            self.spread.add(value[..., : self.first])
        self.total = added(self.total if self.number > 1 else None, value)

    def join(self, later: Sums) -> None:
        """Add the units of a later batch, `later`, whose arrays the caller must not use any more."""
        self.total = added(self.total if self.number else None, later.total)
        self.number += later.number
        if self.first:
            self.spread.join(later.spread)


def added(total: np.ndarray | None, value: np.ndarray) -> np.ndarray:
    """Add `value` to the sum `total` in the memory of the sum, and return it; None as sum makes `value` the sum.

    Blocks of signals are large, so a merge must not hold copies of them.
    """
    if total is None:
        total, value = value, np.zeros(())  # adding 0 turns −0 into 0
    total += value
    return total


class BlockAverage:
    """Average one block of signals from its batches, one place of the result after the other.

    Parameters
    ----------
    averaging : Averaging
        Averaging of the group that the block belongs to.
    first : int
        Number of quantities, the first on the last axis, that have standard errors.
    put : callable
        Called as `put(place, average, errors)` as soon as a place is complete; `errors` is None without errors.

    Attributes
    ----------
    done : set of Place
        Places that have a value.
    """

    def __init__(
        self, averaging: Averaging, first: int, put: Callable[[Place, np.ndarray, np.ndarray | None], None]
    ) -> None:
        self.averaging, self.put = averaging, put
        self.first = first if averaging.with_standard_errors else 0
        self.at: tuple[Place, int] | None = None
        self.done: set[Place] = set()
        self._begin()

    def _begin(self) -> None:
        self.stratum = Sums(self.first)
        self.total: np.ndarray | None = None
        self.squares: np.ndarray | None = None
        self.weight = 0.0

    def add(self, batch: Batch, sums: Sums) -> None:
        """Add `sums`, the sums of the next `batch`; the caller must not use them any more."""
        source = batch[0][0]
        at = self.averaging.place(source), self.averaging.stratum(source)
        if self.at is not None and at != self.at:
            self._end_stratum()
            if at[0] != self.at[0]:
                self._end_place()
        self.at = at
        if sums.number:
            self.stratum.join(sums)

    def end(self) -> None:
        """Complete the last place, after all batches."""
        if self.at is not None:
            self._end_stratum()
            self._end_place()

    def _end_stratum(self) -> None:
        sums, self.stratum = self.stratum, Sums(self.first)
        if not sums.number:
            return
        assert self.at is not None  # `add` has set it
        weight = self.averaging.weight(self.at[1])
        sums.total *= weight / sums.number
        self.total = added(self.total, sums.total)
        self.weight += weight
        if self.first:
            # The standard error of the weighted mean is √(Σ w² s²/N).
            variance = sums.spread.variance
            variance *= weight**2 / sums.number
            self.squares = added(self.squares, variance)

    def _end_place(self) -> None:
        assert self.at is not None  # `add` has set it
        if self.weight and self.total is not None:
            share = self.weight if self.averaging.task.partial else 1.0
            self.total /= share
            self.put(self.at[0], self.total, None if self.squares is None else np.sqrt(self.squares) / share)
            self.done.add(self.at[0])
        self._begin()
