"""Signals against the depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import ResultError
from stemphony.experiment.scan import LIST
from stemphony.results.opened import Detector, OpenedResult, Positions, nearest

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ThicknessCurve:
    """Fractions of the beam on one detector against the depth.

    Attributes
    ----------
    depths_nm : (Z,) array
    values : (Z,) array
        Mean over the scan, or the signal of one position.
    errors : (Z,) array or None
        Standard error of one position. For the mean over the scan, it is the mean of the positions' standard errors.
        This is the largest possible error of the mean. All positions of a configuration see the same atoms, so they may
        deviate together.
    smallest, largest : (Z,) array
        Range over the scan.
    unit : str
        As in `Signal`.
    """

    name: str
    ring_mrad: tuple[float, float] | None
    depths_nm: Floats
    values: Floats
    errors: Floats | None
    smallest: Floats
    largest: Floats
    unit: str = "1"


def thickness_curve(
    result: OpenedResult, detector: Detector, at_nm: tuple[float, float] | None = None, defocus_nm: float | None = None
) -> ThicknessCurve:
    """Read the curve of a detector: of the mean over the scan, or of one stored position.

    Parameters
    ----------
    result : OpenedResult
    detector : str or (float, float)
        As for `OpenedResult.signals`.
    at_nm : (float, float) or None
        Place (x, y) [nm]; the nearest stored position is read. None for the mean over the scan.
    defocus_nm : float or None
        One defocus [nm]; None for the mean over all.

    Returns
    -------
    ThicknessCurve
        Values, standard errors, least and largest value at each stored depth [nm].

    Raises
    ------
    ResultError
        There is no such detector, position or defocus.
    """
    signals = result.signals(detector, defocus_nm=defocus_nm)
    values = np.array([signal.values for signal in signals])  # (depth, x, y)
    errors = [signal.errors for signal in signals if signal.errors is not None]
    spread = np.array(errors) if len(errors) == len(signals) else None
    if at_nm is None:
        mean, error = values.mean(axis=(1, 2)), None if spread is None else spread.mean(axis=(1, 2))
    else:
        place = (slice(None), *place_of(result, at_nm))
        mean, error = values[place], None if spread is None else spread[place]
    return ThicknessCurve(
        signals[0].name, signals[0].ring_mrad, np.array([signal.depth_nm for signal in signals]), mean, error,
        values.min(axis=(1, 2)), values.max(axis=(1, 2)), signals[0].unit,
    )  # fmt: skip


def place_of(result: OpenedResult, at_nm: tuple[float, float], positions: Positions | None = None) -> tuple[int, int]:
    """Indices (i, j) of the stored position that is nearest to a place.

    Parameters
    ----------
    result : OpenedResult
    at_nm : (float, float)
        Place (x, y) [nm].
    positions : Positions or None
        Stored positions; None for those of the images of `result`.

    Returns
    -------
    (int, int)
        Counted from 0.

    Raises
    ------
    ResultError
        The nearest position is farther away than a step of the scan, or the scan is a list.
    """
    positions = result.positions if positions is None else positions
    if positions.kind == LIST:
        raise ResultError("the scan is a list of positions: a place cannot be chosen by coordinates.")
    found = [
        nearest(
            axis, at_nm[i], f"the scan has no position at {'xy'[i]} =", "choose a place inside", positions.step_nm[i]
        )
        for i, axis in enumerate((positions.x_nm, positions.y_nm))
    ]
    return found[0], found[1]
