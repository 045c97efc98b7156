"""Precession: signals of one job, averaged over tilts of the beam on a cone, Eq. (P23)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from stemphony.compute.atoms import Atoms
from stemphony.compute.keeper import Keeper, Part, Parts
from stemphony.compute.recorder import JobSignals, Recorder
from stemphony.experiment.model import Experiment

Simulate = Callable[[Experiment, Atoms, Callable[[int, int], None], Keeper], JobSignals]

_SIGNALS = ("bins", "rings", "total", "center_of_mass", "cbed")
"""Fields of `JobSignals` that are averaged."""


def simulate_precessed(
    experiment: Experiment,
    atoms: Atoms,
    simulate: Simulate,
    on_progress: Callable[[int, int], None],
    keeper: Keeper | None = None,
) -> JobSignals:
    """Compute all signals at each tilt of the beam, and average the intensities.

    Parameters
    ----------
    experiment : Experiment
    atoms : Atoms
        All atoms of the specimen.
    simulate : callable
        Computes one tilt: `simulate(experiment, atoms, on_progress, keeper)`.
    on_progress : callable
        Called as `on_progress(done, total)` in units of one scan position at one tilt.
    keeper : Keeper or None
        Keeps the sums of finished tilts and the work of the present one.

    Returns
    -------
    JobSignals
        The centre of mass is ⟨Σ λk I⟩/⟨ΣI⟩, Eq. (P14). `waves` counts those of all tilts.
    """
    return _PrecessedScan(experiment, atoms, simulate, on_progress, (keeper or Keeper()).inside("tilts")).signals()


@dataclass(frozen=True)
class _Sums:
    """Sums over the first tilts; those of the centre of mass are moments.

    The sums of one more tilt are a new object. So a checkpoint, which may be written at any time, never holds a part of
    a tilt.
    """

    passed: int
    waves: int
    algorithm: str
    signals: Mapping[str, np.ndarray]

    def plus(self, one: JobSignals) -> _Sums:
        """Return the sums with one more tilt."""
        # No intensity has no centre: its moment is 0.
        moments = np.nan_to_num(one.center_of_mass) * one.total[..., None]
        more = {**{name: getattr(one, name) for name in self.signals}, "center_of_mass": moments}
        signals = {name: values + more[name] for name, values in self.signals.items()}
        return _Sums(self.passed + 1, self.waves + one.waves, one.algorithm, signals)

    def parts(self) -> Parts:
        """Return the sums as checkpoint arrays."""
        about = {"passed": self.passed, "waves": self.waves, "algorithm": self.algorithm}
        return {name: Part.of(value) for name, value in {**about, **self.signals}.items()}


class _PrecessedScan:
    """One job tilt by tilt; parameters as for `simulate_precessed`."""

    def __init__(
        self,
        experiment: Experiment,
        atoms: Atoms,
        simulate: Simulate,
        on_progress: Callable[[int, int], None],
        keeper: Keeper,
    ) -> None:
        self.experiment, self.atoms, self.simulate = experiment, atoms, simulate
        self.on_progress, self.keeper = on_progress, keeper
        self.mean = Recorder(experiment).signals
        zeros = {name: getattr(self.mean, name) for name in _SIGNALS if getattr(self.mean, name) is not None}
        self.sums = _Sums(0, 0, self.mean.algorithm, zeros)
        self._take_up(keeper.found)

    def _take_up(self, found: dict[str, np.ndarray]) -> None:
        """Take the sums of an earlier attempt, if they are those of these signals."""
        # What else is found are the waves of the tilt that was interrupted.
        kept = {name: found.pop(name) for name in self.sums.signals if name in found}
        if "passed" in found and all(
            name in kept and (kept[name].shape, kept[name].dtype) == (mine.shape, mine.dtype)
            for name, mine in self.sums.signals.items()
        ):
            self.sums = _Sums(int(found["passed"]), int(found["waves"]), found["algorithm"].item(), kept)

    def signals(self) -> JobSignals:
        """Compute the tilts that an earlier attempt has not finished, and return the averages."""
        tilts = self.experiment.tilts
        for number in range(self.sums.passed, len(tilts)):
            self._compute(number, tilts[number])
        made = {name: values / len(tilts) for name, values in self.sums.signals.items()}
        if self.experiment.center_of_mass:
            moments, total = made["center_of_mass"], made["total"][..., None]
            made["center_of_mass"] = np.full(moments.shape, np.nan)
            np.divide(moments, total, made["center_of_mass"], where=total > 0)
        for name, values in made.items():
            setattr(self.mean, name, values)
        self.mean.algorithm, self.mean.waves = self.sums.algorithm, self.sums.waves
        return self.mean

    def _compute(self, number: int, tilt: tuple[float, float]) -> None:
        tilts, positions, sums = len(self.experiment.tilts), self.experiment.positions, self.sums

        def report(done: int, total: int) -> None:
            self.on_progress(number * positions + positions * done // max(1, total), tilts * positions)

        inner = self.keeper.inside(str(number), around=sums.parts)
        one = self.simulate(replace(self.experiment, tilt=tilt, precession=None), self.atoms, report, inner)
        self.sums = sums.plus(one)
        self.keeper.watch(self.sums.parts)
