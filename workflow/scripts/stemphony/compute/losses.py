"""Plasmons: signals of one job, summed over the classes of electrons with and without losses, Eq. (P33)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from stemphony.compute.atoms import Atoms
from stemphony.compute.keeper import Keeper, Part, Parts
from stemphony.compute.recorder import JobSignals, Recorder
from stemphony.experiment.model import Experiment
from stemphony.physics.plasmons import Plasmons, Trajectory

Simulate = Callable[[Experiment, Atoms, Callable[[int, int], None], Keeper], JobSignals]

_SIGNALS = ("bins", "rings", "total", "center_of_mass", "cbed", "spectrum")
"""Fields of `JobSignals` that are summed."""


def simulate_losses(
    experiment: Experiment,
    atoms: Atoms,
    simulate: Simulate,
    on_progress: Callable[[int, int], None],
    keeper: Keeper | None = None,
) -> JobSignals:
    """Compute all signals without losses and along each trajectory, and sum the intensities.

    Parameters
    ----------
    experiment : Experiment
        With the trajectories of the configuration.
    atoms : Atoms
        All atoms of the specimen or window.
    simulate : callable
        Computes the waves of one class: `simulate(experiment, atoms, on_progress, keeper)`.
    on_progress : callable
        Called as `on_progress(done, total)` in units of one scan position of one class.
    keeper : Keeper or None
        Keeps the sums of finished classes and the work of the present one.

    Returns
    -------
    JobSignals
        `bins`, `center_of_mass` and `cbed` have an axis of energy losses behind the depth. `waves` counts those of all
        classes.

    Raises
    ------
    ValueError
        If no trajectory was drawn: the result would lack all electrons with a loss.
    """
    plasmons = experiment.plasmons
    if plasmons is None or (not experiment.trajectories and plasmons.bottom > plasmons.top):
        raise ValueError("plasmons without trajectories: draw those of the configuration first")
    keeper = (keeper or Keeper()).inside("losses")
    return _LossyScan(experiment, plasmons, atoms, simulate, on_progress, keeper).signals()


@dataclass(frozen=True)
class _Sums:
    """Sums over the first classes; those of the centre of mass are moments.

    The sums of one more class are a new object. So a checkpoint, which may be written at any time, never holds a part
    of a class.
    """

    passed: int
    waves: int
    algorithm: str
    signals: Mapping[str, np.ndarray]

    def plus(self, one: JobSignals, shares: np.ndarray, of_patterns: np.ndarray) -> _Sums:
        """Return the sums with one more class of these shares, (depths, energies), at depths of images and patterns."""
        weight = shares.sum(axis=1)
        # No intensity has no centre: its moment is 0.
        moments = np.nan_to_num(one.center_of_mass) * one.total[..., None]
        per_loss = shares[:, :, None]
        more = {
            "bins": per_loss * one.bins[:, :, :, None],
            "rings": weight[:, None] * one.rings,
            "total": weight * one.total,
            "center_of_mass": per_loss * moments[:, :, :, None],
            "spectrum": shares * one.total[..., None],
        }
        signals = {name: values + more[name] for name, values in self.signals.items() if name in more}
        if one.cbed is not None:
            signals["cbed"] = self.signals["cbed"].copy()
            for depth, loss in np.argwhere(of_patterns):
                signals["cbed"][:, :, depth, loss] += of_patterns[depth, loss] * one.cbed[:, :, depth]
        return _Sums(self.passed + 1, self.waves + one.waves, one.algorithm, signals)

    def parts(self) -> Parts:
        """Return the sums as checkpoint arrays."""
        about = {"passed": self.passed, "waves": self.waves, "algorithm": self.algorithm}
        return {name: Part.of(value) for name, value in {**about, **self.signals}.items()}


class _LossyScan:
    """One job class by class; parameters as for `simulate_losses`."""

    def __init__(
        self,
        experiment: Experiment,
        plasmons: Plasmons,
        atoms: Atoms,
        simulate: Simulate,
        on_progress: Callable[[int, int], None],
        keeper: Keeper,
    ) -> None:
        self.experiment, self.plasmons, self.atoms, self.simulate = experiment, plasmons, atoms, simulate
        self.on_progress, self.keeper = on_progress, keeper
        self.sum = Recorder(experiment).signals
        zeros = {name: getattr(self.sum, name) for name in _SIGNALS if getattr(self.sum, name) is not None}
        self.sums = _Sums(0, 0, self.sum.algorithm, zeros)
        self._take_up(keeper.found)

    def _take_up(self, found: dict[str, np.ndarray]) -> None:
        """Take the sums of an earlier attempt, if they are those of these signals."""
        # What else is found are the waves of the class that was interrupted.
        kept = {name: found.pop(name) for name in self.sums.signals if name in found}
        if "passed" in found and all(
            name in kept and (kept[name].shape, kept[name].dtype) == (mine.shape, mine.dtype)
            for name, mine in self.sums.signals.items()
        ):
            self.sums = _Sums(int(found["passed"]), int(found["waves"]), found["algorithm"].item(), kept)

    def signals(self) -> JobSignals:
        """Compute the classes that an earlier attempt has not finished, and return the sums."""
        classes = (None, *self.experiment.trajectories)
        for number in range(self.sums.passed, len(classes)):
            self._compute(number, classes[number])
        made = dict(self.sums.signals)
        if self.experiment.center_of_mass:
            moments, spectrum = made["center_of_mass"], made["spectrum"][..., None]
            made["center_of_mass"] = np.full(moments.shape, np.nan)
            np.divide(moments, spectrum, made["center_of_mass"], where=spectrum > 0)
        for name, values in made.items():
            setattr(self.sum, name, values)
        self.sum.algorithm, self.sum.waves = self.sums.algorithm, self.sums.waves
        return self.sum

    def _compute(self, number: int, trajectory: Trajectory | None) -> None:
        e, classes, sums = self.experiment, 1 + len(self.experiment.trajectories), self.sums

        def report(done: int, total: int) -> None:
            # Above 0 from the first wave on: before, a job keeps no checkpoint.
            reached = max(min(1, done), number * e.positions + e.positions * done // max(1, total))
            self.on_progress(reached, classes * e.positions)

        inner = self.keeper.inside(str(number), around=sums.parts)
        events = () if trajectory is None else trajectory.events
        elastic = replace(e, plasmons=None, trajectories=(), deflections=events)
        one = self.simulate(elastic, self.atoms, report, inner)
        of_patterns = self._shares(trajectory, e.patterns.depths)
        self.sums = sums.plus(one, self._shares(trajectory, e.depths), of_patterns)
        self.keeper.watch(self.sums.parts)

    def _shares(self, trajectory: Trajectory | None, depths: tuple[float, ...]) -> np.ndarray:
        """Share of the incident electrons that a class stands for at depths [Å], (depths, energies)."""
        if trajectory is not None:
            return np.stack([self.plasmons.shares(trajectory, depth) for depth in depths])
        made = np.zeros((len(depths), len(self.experiment.energies)))
        made[:, 0] = [self.plasmons.zero_loss(depth) for depth in depths]
        return made
