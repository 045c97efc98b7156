"""Jobs whose signals are sums over several passes of one scan: over tilts of the beam, or over energy losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from stemphony.compute.recorder import JobSignals, Recorder, ScanInParts
from stemphony.experiment.model import Experiment
from stemphony.store.parts import Part, Parts


@dataclass(frozen=True)
class PassSums:
    """Sums over the finished passes. For the centre of mass, moments are summed.

    Each further pass makes a new object. So a checkpoint, which may be written at any time, never holds a part of a
    pass.
    """

    passed: int
    waves: int
    algorithm: str
    signals: Mapping[str, np.ndarray]

    def parts(self) -> Parts:
        """Return the sums as checkpoint arrays."""
        about = {"passed": self.passed, "waves": self.waves, "algorithm": self.algorithm}
        return {name: Part.of(value) for name, value in {**about, **self.signals}.items()}


class SummedScan(ScanInParts, ABC):
    """One job, pass by pass. The unit of its progress is one scan position of one pass."""

    summed: ClassVar[tuple[str, ...]]
    """Fields of `JobSignals` that are summed."""

    def __post_init__(self) -> None:
        self.made = Recorder(self.experiment).signals
        zeros = {name: getattr(self.made, name) for name in self.summed if getattr(self.made, name) is not None}
        self.sums = PassSums(0, 0, self.made.algorithm, zeros)
        self._take_up(self.keeper.found)

    @property
    @abstractmethod
    def passes(self) -> Sequence[Any]:
        """The parameter of each pass: a tilt of the beam, or a trajectory."""

    @abstractmethod
    def experiment_of(self, one: Any) -> Experiment:
        """The experiment of the pass `one`, an entry of `passes`."""

    @abstractmethod
    def with_pass(self, one: Any, signals: JobSignals) -> dict[str, np.ndarray]:
        """Sums that include `signals` of one more pass, in new arrays; `one` is its entry of `passes`."""

    @abstractmethod
    def result(self) -> dict[str, np.ndarray]:
        """Signals of the job from the sums of all passes. For the centre of mass, this is still the moment."""

    @abstractmethod
    def intensity(self, result: Mapping[str, np.ndarray]) -> np.ndarray:
        """The signal of `result` by which moments are divided to give the centre of mass."""

    def signals(self) -> JobSignals:
        """Compute the passes that an earlier attempt has not finished, and return the signals of the job."""
        for number in range(self.sums.passed, len(self.passes)):
            self._compute(number, self.passes[number])
        made = self.result()
        if self.experiment.center_of_mass:
            moments, intensity = made["center_of_mass"], self.intensity(made)[..., None]
            made["center_of_mass"] = np.full(moments.shape, np.nan)
            np.divide(moments, intensity, made["center_of_mass"], where=intensity > 0)
        for name, values in made.items():
            setattr(self.made, name, values)
        self.made.algorithm, self.made.waves = self.sums.algorithm, self.sums.waves
        return self.made

    def _take_up(self, found: dict[str, np.ndarray]) -> None:
        """Take the sums of an earlier attempt, if their shapes and types are those of these signals."""
        # The rest of `found` belongs to the pass that was interrupted.
        kept = {name: found.pop(name) for name in self.sums.signals if name in found}
        if "passed" in found and all(
            name in kept and (kept[name].shape, kept[name].dtype) == (mine.shape, mine.dtype)
            for name, mine in self.sums.signals.items()
        ):
            self.sums = PassSums(int(found["passed"]), int(found["waves"]), found["algorithm"].item(), kept)

    def _compute(self, number: int, one: Any) -> None:
        positions, passes, sums = self.experiment.positions, len(self.passes), self.sums

        def report(done: int, total: int) -> None:
            # Progress is above 0 from the first wave on, because a job without progress keeps no checkpoint.
            reached = max(min(1, done), number * positions + positions * done // max(1, total))
            self.on_progress(reached, passes * positions)

        inner = self.keeper.inside(str(number), around=sums.parts)
        signals = self.simulate(self.experiment_of(one), self.atoms, report, inner)
        summed = self.with_pass(one, signals)
        self.sums = PassSums(sums.passed + 1, sums.waves + signals.waves, signals.algorithm, summed)
        self.keeper.watch(self.sums.parts)


def moments(signals: JobSignals) -> np.ndarray:
    """Moments of the centre of mass of `signals`, Σ λk I, in its shape (nx, ny, depths, 2) [rad].

    Where the intensity is 0, the centre is undefined and the moment is 0.
    """
    return np.nan_to_num(signals.center_of_mass) * signals.total[..., None]
