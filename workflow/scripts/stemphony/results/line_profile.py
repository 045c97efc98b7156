"""Signals along a line through an image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import ResultError
from stemphony.experiment.scan import LINE, LIST
from stemphony.physics.resampling import sampled, without_shift
from stemphony.results.opened import Positions, Signal

Floats = NDArray[np.float64]
Place = tuple[float, float]

FINER = 8
"""Number of points of a profile per step of the scan. Several points show the interpolated curve between positions."""


@dataclass(frozen=True)
class Profile:
    """Fractions of the beam along a line.

    Attributes
    ----------
    distance_nm : (P,) array
        Distance from the beginning of the line.
    values, errors : (P,) array, (P,) array or None
        The signal and its standard error.
    """

    distance_nm: Floats
    values: Floats
    errors: Floats | None


def profile(
    positions: Positions, signal: Signal, begin: Place | None, end: Place | None, points: int | None
) -> Profile:
    """Read an image along the line from `begin` to `end` (x, y) [nm].

    Between positions, the signal is interpolated as in `physics.resampling.weights`: exactly along axes on which the
    window repeats, by a cubic spline along others. The standard error is interpolated linearly. If the window repeats,
    the line may leave it. For a line scan, the profile is the computed line itself, so it takes no `begin` and `end`.

    Parameters
    ----------
    positions : Positions
        The probe positions of the image.
    signal : Signal
        The image and its standard errors.
    begin, end : (float, float) or None
        Ends of the line [nm]; None for a line scan.
    points : int or None
        Number of points; None for `FINER` points per step of the scan.

    Returns
    -------
    Profile
        Distance from `begin` [nm], values and standard errors, (points,) each.

    Raises
    ------
    ResultError
        The line has no length or leaves the computed positions, or the scan is a list.
    """
    if positions.kind == LIST:
        raise ResultError(
            f"the scan is a list of positions (their number: {len(positions.x_nm)}), which has no profile. A profile "
            "needs the scan of a window or a line."
        )
    if positions.kind == LINE:
        if begin is not None or end is not None:
            raise ResultError("the scan is a line itself. Its profile takes no begin and no end.")
        errors = None if signal.errors is None else signal.errors[:, 0]
        return Profile(positions.x_nm, signal.values[:, 0], errors)
    if begin is None or end is None:
        raise ResultError(
            "a profile needs two places (x, y) in nm, where it begins and where it ends; got "
            f"{'neither' if begin is end else 'only the end' if begin is None else 'only the begin'}."
        )
    length = math.dist(begin, end)
    if not length > 0:
        raise ResultError(f"the profile begins and ends at ({begin[0]:g}, {begin[1]:g}) nm. Give two places.")
    count = points or max(2, round(length / min(positions.step_nm) * FINER) + 1)
    if count < 2:
        raise ResultError(f"a profile needs two or more points; got {count}.")
    along = np.linspace(0.0, 1.0, count)
    places = np.asarray(begin) + along[:, None] * (np.asarray(end) - np.asarray(begin))
    indices = (places - [positions.x_nm[0], positions.y_nm[0]]) / positions.step_nm
    _require_inside(positions, indices)
    image, periodic = without_shift(signal.values, positions.repeats)
    values = sampled(image, indices, periodic)
    errors = None
    if signal.errors is not None:
        spread, periodic = without_shift(signal.errors, positions.repeats)
        errors = sampled(spread, indices, periodic, linear=True)
    return Profile(along * length, values, errors)


def _require_inside(positions: Positions, indices: Floats) -> None:
    """Refuse places outside the positions along axes on which the window does not repeat."""
    for axis, values in enumerate((positions.x_nm, positions.y_nm)):
        last = len(values) - 1
        if positions.repeats[axis] is not None or last == 0:
            continue
        if indices[:, axis].min() < -1e-6 or indices[:, axis].max() > last + 1e-6:
            raise ResultError(
                f"the profile leaves the scan along {'xy'[axis]}, where the window does not repeat with the specimen: "
                f"positions go from {values[0]:.5g} to {values[-1]:.5g} nm."
            )
        np.clip(indices[:, axis], 0, last, out=indices[:, axis])
