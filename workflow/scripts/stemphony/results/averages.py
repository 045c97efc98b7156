"""Averages over jobs, made in parts.

A part is a fixed run of at most `PART_UNITS` jobs (or configurations). Its sums depend on nothing outside it, and parts
are joined in a fixed order, so the averages are the same bit for bit however many processes make the parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from stemphony import paths
from stemphony.results.layout import Axes

PART_UNITS = 100
FRAMES_BYTES = 64e6  # coordinates that one part may hold
ATOM_BYTES = 16

Place = tuple[int, int]
"""Where signals go in the result file: (defocus index, phonon index)."""


@dataclass(frozen=True)
class Source:
    """One job file of the merge; `index` is its place in the table of jobs."""

    file: Path
    defocus_index: int
    defocus_nm: float
    configuration: int
    index: int


@dataclass(frozen=True)
class Merge:
    """What is merged into what: the params of the rule, the simulation's folder, and whether a part of it is enough.

    Attributes
    ----------
    partial : bool
        Leave out what is missing or not usable, and give the rest the weight of the whole.
    """

    params: Mapping[str, Any]
    result: paths.ResultPaths
    partial: bool = False

    @property
    def common(self) -> Mapping[str, Any]:
        """Params that all jobs share."""
        common: Mapping[str, Any] = self.params["common"]
        return common

    @cached_property
    def weights(self) -> list[float]:
        """Weight of each defocus; they sum to 1."""
        return list(self.params["weights"])

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The job files, by order of defoci, then configuration."""
        number = int(self.params["configurations"])
        return tuple(
            Source(
                self.result.job(paths.defocus_id(value), configuration), index, value, configuration,
                index * number + configuration,
            )
            for index, value in enumerate(self.params["defoci_nm"])
            for configuration in range(number)
        )  # fmt: skip

    def axes(self, block: str) -> Axes:
        """Axes of the group `block` (adf or cbed) after averaging."""
        averages = self.params[block]
        values = self.params["defoci_nm"]
        mean = math.fsum(w * v for w, v in zip(self.weights, values, strict=True))
        return Axes(
            [mean] if averages["average_defoci"] else values,
            [0] if averages["average_configurations"] else list(range(self.params["configurations"])),
        )


@dataclass(frozen=True)
class Averaging:
    """Which axes of a group are averaged, with which weights, and in which order its jobs are added.

    Attributes
    ----------
    by_configuration : bool
        One configuration after the other, each summed over all defoci first; else one defocus after the other.
    """

    task: Merge
    block: str
    by_configuration: bool = False

    @classmethod
    def both(cls, task: Merge) -> tuple[Averaging, Averaging]:
        """Those of `adf` and `cbed`, in one order where both can be made in it."""
        adf, cbed = cls(task, "adf"), cls(task, "cbed")
        return (
            cls(task, "adf", adf._must_go_by_configuration or (adf._has_any_order and cbed._must_go_by_configuration)),
            cls(
                task, "cbed", cbed._must_go_by_configuration or (cbed._has_any_order and adf._must_go_by_configuration)
            ),
        )

    @property
    def over_configurations(self) -> bool:
        """Whether configurations are averaged."""
        return bool(self.task.params[self.block]["average_configurations"])

    @property
    def over_defoci(self) -> bool:
        """Whether defoci are averaged."""
        return bool(self.task.params[self.block]["average_defoci"])

    @property
    def with_standard_errors(self) -> bool:
        """Whether there are standard errors of the averages over configurations.

        Where all defoci see the same configurations, they come from the spread over configurations of the
        defocus-weighted sum, which needs every defocus of a configuration.
        """
        averaged = self.block == "adf" and self.over_configurations and self.task.params["configurations"] >= 2
        return averaged and not (self.task.partial and self.over_defoci and not self._is_independent)

    @property
    def _is_independent(self) -> bool:
        # Snapshots draw nothing: every defocus sees the same frames.
        drawn = self.task.common["simulation"]["random_seed"] is not None
        return drawn and bool(self.task.params["independent_defoci"])

    @property
    def _must_go_by_configuration(self) -> bool:
        shared = self.with_standard_errors and not self._is_independent
        return self.over_defoci and (shared or not self.over_configurations)

    @property
    def _has_any_order(self) -> bool:
        # Where pairs are missing the orders differ: a defocus is the mean of those of its configurations that are in.
        whole = not self.task.partial
        return whole and self.over_defoci and self.over_configurations and not self.with_standard_errors

    def place(self, source: Source) -> Place:
        """Where a job's signals go."""
        return (
            0 if self.over_defoci else source.defocus_index,
            0 if self.over_configurations else source.configuration,
        )

    def stratum(self, source: Source) -> int:
        """The defocus whose mean over configurations a job adds to; one for all if they are summed before."""
        return 0 if self.by_configuration else source.defocus_index

    def weight(self, stratum: int) -> float:
        """Weight of that mean in the average."""
        return self.task.weights[stratum] if self.over_defoci and not self.by_configuration else 1.0

    def places(self) -> Iterator[Place]:
        """All places of the group."""
        for defocus in range(1 if self.over_defoci else len(self.task.weights)):
            for phonon in range(1 if self.over_configurations else self.task.params["configurations"]):
                yield defocus, phonon


Unit = tuple[Source, ...]
"""What counts as one in a spread over configurations: a job, or a configuration's jobs at all defoci."""

Part = tuple[Unit, ...]


def parts_of(averagings: Sequence[Averaging], atoms: int) -> list[Part]:
    """The jobs cut into parts for groups that are averaged in one order; each part belongs to one place of each."""
    task, by_configuration = averagings[0].task, averagings[0].by_configuration
    size = min(PART_UNITS, max(1, int(FRAMES_BYTES / max(1, atoms * ATOM_BYTES))))
    if not all(averaging.over_configurations for averaging in averagings):
        size = 1
    if by_configuration:
        ordered = sorted(task.sources, key=lambda source: source.configuration)
        units = [tuple(same) for _, same in groupby(ordered, key=lambda source: source.configuration)]
        return _cut(units, size)
    strata = groupby(task.sources, key=lambda source: source.defocus_index)
    return [part for _, same in strata for part in _cut([(source,) for source in same], size)]


def _cut(units: Sequence[Unit], size: int) -> list[Part]:
    return [tuple(units[first : first + size]) for first in range(0, len(units), size)]


class Sums:
    """Number and sum of units, and the spread of the `first` quantities on their last axis."""

    def __init__(self, first: int) -> None:
        self.first, self.number, self.total, self.spread = first, 0, np.zeros(()), Spread()

    def add(self, value: np.ndarray) -> None:
        """Take one more unit."""
        self.number += 1
        self.total = self.total + value
        if self.first:
            self.spread.add(value[..., : self.first])

    def join(self, later: Sums) -> None:
        """Take what another one has taken."""
        self.number += later.number
        self.total = self.total + later.total
        if self.first:
            self.spread.join(later.spread)


class Spread:
    """Sample variance (N − 1) of a stream of arrays: Welford's recurrence, and Chan's for two streams."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, np.zeros(()), np.zeros(())

    def add(self, value: np.ndarray) -> None:
        """Take one more array."""
        self.count += 1
        delta = value - self.mean
        self.mean = self.mean + delta / self.count
        self.squares = self.squares + delta * (value - self.mean)

    def join(self, later: Spread) -> None:
        """Take the arrays of another stream."""
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
        """The variance of those taken; not a number for fewer than two."""
        return self.squares / (self.count - 1) if self.count > 1 else np.full(self.mean.shape, np.nan)


class Average:
    """The averages of one block of signals, made of its parts, one place after the other.

    Parameters
    ----------
    put : callable
        Takes a place, its average, and the standard errors if there are any, as soon as the place is complete.
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
        self.total, self.squares, self.weight = np.zeros(()), np.zeros(()), 0.0

    def add(self, part: Part, sums: Sums) -> None:
        """Take the sums of the next part."""
        source = part[0][0]
        at = self.averaging.place(source), self.averaging.stratum(source)
        if self.at is not None and at != self.at:
            self._end_stratum()
            if at[0] != self.at[0]:
                self._end_place()
        self.at = at
        if sums.number:
            self.stratum.join(sums)

    def end(self) -> None:
        """All parts are there."""
        if self.at is not None:
            self._end_stratum()
            self._end_place()

    def _end_stratum(self) -> None:
        sums, self.stratum = self.stratum, Sums(self.first)
        if not sums.number:
            return
        assert self.at is not None  # by construction
        weight = self.averaging.weight(self.at[1])
        self.total = self.total + weight / sums.number * sums.total
        self.weight += weight
        if self.first:
            # √(Σ w² s²/N) in all.
            self.squares = self.squares + weight**2 / sums.number * sums.spread.variance

    def _end_place(self) -> None:
        assert self.at is not None  # by construction
        if self.weight:
            share = self.weight if self.averaging.task.partial else 1.0
            self.put(self.at[0], self.total / share, np.sqrt(self.squares) / share if self.first else None)
            self.done.add(self.at[0])
        self._begin()
