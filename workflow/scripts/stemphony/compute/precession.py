"""Precession: signals of one job, averaged over tilts of the beam on a cone, Eq. (P23)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from stemphony.compute.atoms import Atoms
from stemphony.compute.keeper import Keeper
from stemphony.compute.recorder import JobSignals, Simulate
from stemphony.compute.summed_scan import SummedScan, moments
from stemphony.experiment.model import Experiment


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
        The centre of mass is ⟨Σ λk I⟩/⟨ΣI⟩, Eq. (P14). `waves` counts the waves of all tilts.
    """
    return _PrecessedScan(experiment, atoms, simulate, on_progress, (keeper or Keeper()).inside("tilts")).signals()


class _PrecessedScan(SummedScan):
    """One job tilt by tilt; parameters as for `simulate_precessed`."""

    summed = ("bins", "rings", "total", "center_of_mass", "cbed")

    @property
    def passes(self) -> Sequence[tuple[float, float]]:
        """Tilts of the beam."""
        return self.experiment.tilts

    def experiment_of(self, one: tuple[float, float]) -> Experiment:
        """The experiment at one tilt."""
        return replace(self.experiment, tilt=one, precession=None)

    def with_pass(self, one: tuple[float, float], signals: JobSignals) -> dict[str, np.ndarray]:
        """Sums with one more tilt."""
        more = {name: getattr(signals, name) for name in self.sums.signals} | {"center_of_mass": moments(signals)}
        return {name: values + more[name] for name, values in self.sums.signals.items()}

    def result(self) -> dict[str, np.ndarray]:
        """Averages over the tilts."""
        return {name: values / len(self.passes) for name, values in self.sums.signals.items()}

    def intensity(self, result: Mapping[str, np.ndarray]) -> np.ndarray:
        """Mean intensity."""
        return result["total"]
