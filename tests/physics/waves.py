"""The multislice functions on plain arrays: this module cuts factors and transmission functions into strips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from stemphony.physics import multislice
from stemphony.physics.strips.plan import StripPlan


def transmission_function(projected: np.ndarray, sigma: float, band_limit: np.ndarray, plan: StripPlan) -> np.ndarray:
    return multislice.transmission_function(projected, sigma, plan.factor(band_limit), plan)


def propagate(
    plan: StripPlan,
    spectrum: np.ndarray,
    transmissions: Sequence[np.ndarray],
    propagator: np.ndarray,
    store_after: Sequence[int],
) -> Iterator[tuple[int, np.ndarray]]:
    cut = [plan.transmission(values) for values in transmissions]
    return multislice.propagate(plan, spectrum, cut, plan.factor(propagator), store_after)
