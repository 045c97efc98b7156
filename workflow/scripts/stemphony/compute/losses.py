"""Plasmons: signals of one job, summed over the classes of electrons with and without losses, Eq. (P33)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from stemphony.compute.atoms import Atoms
from stemphony.compute.keeper import Keeper
from stemphony.compute.recorder import JobSignals, Simulate
from stemphony.compute.summed_scan import SummedScan, moments
from stemphony.experiment.model import Experiment
from stemphony.physics.plasmons import Trajectory


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
        `bins`, `center_of_mass` and `cbed` have an axis of energy losses behind the depth. `waves` counts the waves of
        all classes.

    Raises
    ------
    ValueError
        No trajectory was drawn. The result would lack all electrons with a loss.
    """
    plasmons = experiment.plasmons
    if plasmons is None or (not experiment.trajectories and plasmons.bottom > plasmons.top):
        raise ValueError("plasmons without trajectories: draw those of the configuration first")
    keeper = (keeper or Keeper()).inside("losses")
    return _LossyScan(experiment, atoms, simulate, on_progress, keeper).signals()


class _LossyScan(SummedScan):
    """One job class by class; parameters as for `simulate_losses`."""

    summed = ("bins", "rings", "total", "center_of_mass", "cbed", "spectrum")

    @property
    def passes(self) -> Sequence[Trajectory | None]:
        """Passes of the job: first None (electrons without a loss), then each trajectory."""
        return (None, *self.experiment.trajectories)

    def experiment_of(self, one: Trajectory | None) -> Experiment:
        """The elastic experiment with the deflections of a trajectory."""
        events = () if one is None else one.events
        return replace(self.experiment, plasmons=None, trajectories=(), deflections=events)

    def with_pass(self, one: Trajectory | None, signals: JobSignals) -> dict[str, np.ndarray]:
        """Sums with one more class, each signal times the share of the electrons that the class stands for."""
        shares = self._shares(one, self.experiment.depths)
        weight, per_loss = shares.sum(axis=1), shares[:, :, None]
        more = {
            "bins": per_loss * signals.bins[:, :, :, None],
            "rings": weight[:, None] * signals.rings,
            "total": weight * signals.total,
            "center_of_mass": per_loss * moments(signals)[:, :, :, None],
            "spectrum": shares * signals.total[..., None],
        }
        made = {name: values + more[name] for name, values in self.sums.signals.items() if name in more}
        if signals.cbed is not None:
            made["cbed"] = self.sums.signals["cbed"].copy()
            of_patterns = self._shares(one, self.experiment.patterns.depths)
            for depth, loss in np.argwhere(of_patterns):
                made["cbed"][:, :, depth, loss] += of_patterns[depth, loss] * signals.cbed[:, :, depth]
        return made

    def result(self) -> dict[str, np.ndarray]:
        """The sums: shares of all classes add up to 1."""
        return dict(self.sums.signals)

    def intensity(self, result: Mapping[str, np.ndarray]) -> np.ndarray:
        """Intensity of each loss."""
        return result["spectrum"]

    def _shares(self, trajectory: Trajectory | None, depths: tuple[float, ...]) -> np.ndarray:
        """Share of the incident electrons that a class stands for at depths [Å], (depths, energies)."""
        assert self.experiment.plasmons is not None
        if trajectory is not None:
            return np.stack([self.experiment.plasmons.shares(trajectory, depth) for depth in depths])
        made = np.zeros((len(depths), len(self.experiment.energies)))
        made[:, 0] = [self.experiment.plasmons.zero_loss(depth) for depth in depths]
        return made
