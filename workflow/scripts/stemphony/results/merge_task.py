"""The task of a merge: which job files go into the result, and which of its axes are averages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stemphony import paths
from stemphony.results.layout import Axes

Place = tuple[int, int]
"""Where signals go in the result file: (defocus index, phonon index)."""


@dataclass(frozen=True)
class Source:
    """One job file of the merge.

    Attributes
    ----------
    file : Path
    defocus_index, defocus_nm : int, float
        Place on the defocus axis, and the defocus [nm].
    configuration : int
        Index of the frozen-phonon configuration.
    index : int
        Place in the table of jobs.
    """

    file: Path
    defocus_index: int
    defocus_nm: float
    configuration: int
    index: int


@dataclass(frozen=True)
class MergeTask:
    """What a merge reads and how it averages.

    Attributes
    ----------
    params : mapping
        Params of the rule merge_results, see `Campaign.merge_params`.
    result : ResultPaths
        Folder of the simulation.
    partial : bool
        Whether to leave out job files that are missing or unusable. The weights of the others are then scaled up.
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
        """Weight of each defocus; the weights sum to 1."""
        return list(self.params["weights"])

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """All job files, by defocus, then by configuration."""
        number = int(self.params["configurations"])
        return tuple(
            Source(
                self.result.job(paths.defocus_id(value), configuration), index, value, configuration,
                index * number + configuration,
            )
            for index, value in enumerate(self.params["defoci_nm"])
            for configuration in range(number)
        )  # fmt: skip

    @property
    def most_jobs(self) -> int:
        """Largest number of jobs that this simulation may have. It decides whether displaced atoms are kept."""
        number = self.params["configurations"]
        goal = self.params.get("goal")
        return len(self.weights) * (number if goal is None else max(number, goal["most"]))

    def axes(self, group: str) -> Axes:
        """Return the axes of `group` of the result (adf, cbed or waves), after averaging."""
        averages = self.params[group]
        values = self.params["defoci_nm"]
        mean = math.fsum(w * v for w, v in zip(self.weights, values, strict=True))
        return Axes(
            [mean] if averages["average_defoci"] else values,
            [0] if averages["average_configurations"] else list(range(self.params["configurations"])),
        )


@dataclass(frozen=True)
class Averaging:
    """How one group is averaged: over which axes, with which weights, and in which order of jobs.

    Attributes
    ----------
    task : MergeTask
    group : str
        adf | cbed | waves.
    by_configuration : bool
        Whether the jobs of a configuration are first summed over all defoci. Otherwise, the jobs of a defocus are first
        averaged over its configurations.
    """

    task: MergeTask
    group: str
    by_configuration: bool = False

    @classmethod
    def of_groups(cls, task: MergeTask) -> dict[str, Averaging]:
        """Return the averaging of each group of `task`, by the name of the group.

        `adf` and `cbed` get the same order of jobs if both allow it.
        """
        adf, cbed = cls(task, "adf"), cls(task, "cbed")
        made = {
            one.group: cls(
                task,
                one.group,
                one._must_go_by_configuration or (one._has_any_order and other._must_go_by_configuration),
            )
            for one, other in ((adf, cbed), (cbed, adf))
        }
        return {**made, "waves": cls(task, "waves")} if "waves" in task.params else made

    @property
    def over_configurations(self) -> bool:
        """Whether configurations are averaged."""
        return bool(self.task.params[self.group]["average_configurations"])

    @property
    def over_defoci(self) -> bool:
        """Whether defoci are averaged."""
        return bool(self.task.params[self.group]["average_defoci"])

    @property
    def with_standard_errors(self) -> bool:
        """Whether the averages over configurations have standard errors.

        If all defoci see the same configurations, the error comes from the spread, over configurations, of the sum over
        defoci. A partial result may lack some defoci of a configuration, so it has no such error.
        """
        averaged = self.over_configurations and self.task.params["configurations"] >= 2
        return averaged and not (self.task.partial and self.over_defoci and not self._is_independent)

    @property
    def _is_independent(self) -> bool:
        # Frames of a trajectory are not drawn: every defocus sees the same frames.
        drawn = self.task.common["simulation"]["random_seed"] is not None
        return drawn and bool(self.task.params["independent_defoci"])

    @property
    def _must_go_by_configuration(self) -> bool:
        shared = self.with_standard_errors and not self._is_independent
        return self.over_defoci and (shared or not self.over_configurations)

    @property
    def _has_any_order(self) -> bool:
        # In a partial result, a defocus has the mean over its finished configurations. So the order matters.
        whole = not self.task.partial
        return whole and self.over_defoci and self.over_configurations and not self.with_standard_errors

    def place(self, source: Source) -> Place:
        """Return where the signals of the job `source` go."""
        return (
            0 if self.over_defoci else source.defocus_index,
            0 if self.over_configurations else source.configuration,
        )

    def stratum(self, source: Source) -> int:
        """Return the index of the defocus to whose mean over configurations the job `source` adds.

        It is 0 if jobs are averaged `by_configuration`.
        """
        return 0 if self.by_configuration else source.defocus_index

    def weight(self, stratum: int) -> float:
        """Return the weight that the mean of `stratum`, see `Averaging.stratum`, has in the average."""
        return self.task.weights[stratum] if self.over_defoci and not self.by_configuration else 1.0

    def places(self) -> Iterator[Place]:
        """Iterate over all places of the group."""
        for defocus in range(1 if self.over_defoci else len(self.task.weights)):
            for phonon in range(1 if self.over_configurations else self.task.params["configurations"]):
                yield defocus, phonon
