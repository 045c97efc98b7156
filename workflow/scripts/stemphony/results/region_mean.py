"""Mean signal over a part of the scan, with a standard error that counts copies by symmetry once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import ResultError
from stemphony.results.layout import ORBIT
from stemphony.results.opened import Detector, OpenedResult, Signal

Floats = NDArray[np.float64]
Range = tuple[float, float]


@dataclass(frozen=True)
class RegionMean:
    """Mean of a signal over a region.

    Attributes
    ----------
    signal : Signal
        The image.
    value : float
        Mean over the positions of the region.
    error : float or None
        Standard error if computed positions deviate independently, see `error_of_mean`.
    largest_error : float or None
        Standard error if all positions deviate together: the mean of their standard errors.
    positions, distinct : int
        Number of positions of the region, and of those that are not copies of each other.
    """

    signal: Signal
    value: float
    error: float | None
    largest_error: float | None
    positions: int
    distinct: int


def error_of_mean(errors: Floats, orbit: NDArray[np.int64]) -> float:
    """Return the standard error of a mean over positions, √Σ_o (Σ_{i in o} s_i)² / n.

    Copies of one position deviate together, so their errors add up. ASSUME: different orbits o deviate independently.

    Parameters
    ----------
    errors, orbit : (n,) ndarray
        Standard error s_i and orbit of each position.

    Returns
    -------
    float
        In the unit of the errors.
    """
    _, which = np.unique(orbit, return_inverse=True)
    together = np.bincount(which.reshape(-1), weights=errors)
    return float(np.sqrt(np.sum(together**2)) / len(errors))


def region_mean(
    result: OpenedResult,
    detector: Detector,
    x_nm: Range | None = None,
    y_nm: Range | None = None,
    depth_nm: float | None = None,
    defocus_nm: float | None = None,
) -> RegionMean:
    """Read the mean of a signal over the positions of a region.

    Parameters
    ----------
    result : OpenedResult
    detector : str or (float, float)
        As for `OpenedResult.signals`.
    x_nm, y_nm : (float, float) or None
        The region has coordinates in [from, to) [nm]. None means the whole scan along this axis.
    depth_nm : float or None
        Depth [nm]; None for the last one.
    defocus_nm : float or None
        One defocus [nm]; None for the mean over all.

    Returns
    -------
    RegionMean
        The mean with its standard error, the mean error of a position, and the numbers of positions and of independent
        positions.

    Raises
    ------
    ResultError
        No position lies in this region, or there is no such detector, depth or defocus.
    """
    signal, positions = result.signal(detector, depth_nm, defocus_nm), result.positions
    inside = np.ones(signal.values.shape, dtype=bool)
    for axis, (along, limits) in enumerate(((positions.x_nm, x_nm), (positions.y_nm, y_nm))):
        if limits is not None:
            chosen = (along >= limits[0] - 1e-9) & (along < limits[1] - 1e-9)
            inside &= chosen[:, None] if axis == 0 else chosen
    if not inside.any():
        raise ResultError(
            f"no position of the scan lies in x {x_nm}, y {y_nm} nm; it goes from ({positions.x_nm[0]:.5g}, "
            f"{positions.y_nm[0]:.5g}) to ({positions.x_nm[-1]:.5g}, {positions.y_nm[-1]:.5g}) nm."
        )
    orbit = _orbit(result, inside.shape)[inside]
    errors = None if signal.errors is None else signal.errors[inside]
    return RegionMean(
        signal,
        float(signal.values[inside].mean()),
        None if errors is None else error_of_mean(errors, orbit),
        None if errors is None else float(errors.mean()),
        int(inside.sum()),
        len(np.unique(orbit)),
    )


def _orbit(result: OpenedResult, shape: tuple[int, ...]) -> NDArray[np.int64]:
    with result.root() as root:
        stored = root["images"].variables.get(ORBIT)
        if stored is None:
            return np.arange(int(np.prod(shape))).reshape(shape)
        return np.asarray(stored[...], dtype=np.int64)
