"""Diffraction patterns of a merged result: of one position (CBED), or the mean over the scan (PACBED)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import ResultError
from stemphony.experiment.scan import LIST
from stemphony.results.defocus_mean import DefocusMean
from stemphony.results.layout import STANDARD_ERROR
from stemphony.results.opened import OpenedResult
from stemphony.results.thickness_curve import place_of

Floats = NDArray[np.float64]

INTENSITIES, PACBED = "cbed_intensities", "pacbed"
"""Variables of the group `cbed`."""

SAME_PLACE_NM = 0.01
"""Largest distance between a wanted place and a listed position [nm]. It allows for a wanted place whose coordinates
are rounded to two decimal places."""

SHOWN = 20
"""Number of positions that a refusal lists, to keep it readable."""


@dataclass(frozen=True)
class Pattern:
    """A diffraction pattern: fractions of the beam in each pixel.

    Attributes
    ----------
    values : (kx, ky) array
    kx_mrad, ky_mrad : array
        Scattering angles of the pixels.
    at_nm : (float, float) or None
        Position of the probe; None for the mean over the scan.
    errors : (kx, ky) array or None
        Standard errors of the mean over the scan.
    """

    values: Floats
    kx_mrad: Floats
    ky_mrad: Floats
    depth_nm: float
    at_nm: tuple[float, float] | None
    errors: Floats | None = None


def pattern(
    result: OpenedResult,
    at_nm: tuple[float, float] | None = None,
    depth_nm: float | None = None,
    defocus_nm: float | None = None,
) -> Pattern:
    """Read the pattern of one stored position, or the mean over the scan.

    Parameters
    ----------
    result : OpenedResult
    at_nm : (float, float) or None
        Place (x, y) [nm]; the nearest stored position is read. None for the mean over the scan.
    depth_nm : float or None
        Depth [nm]; None for the last one.
    defocus_nm : float or None
        One defocus [nm]; None for the mean over all.

    Returns
    -------
    Pattern
        Intensities with their angles [mrad], depth [nm] and standard errors.

    Raises
    ------
    ResultError
        The result has no patterns, or none at this place, depth or defocus.
    """
    if not result.has_patterns:
        raise ResultError(f"{result.file} has no diffraction patterns. They need `cbed: {{enabled: true}}`.")
    with result.root() as root:
        cbed = root["cbed"]
        place, at = (None, None) if at_nm is None else _place(result, cbed, at_nm)
        depths = np.asarray(cbed["cbed_slice"][:], dtype=float)
        depth = result.depth(depth_nm, depths)
        # Patterns and images may be averaged differently.
        mean = replace(result.mean, is_averaged=len(cbed["cbed_defocus"]) < len(result.mean.defoci_nm))
        if place is None and PACBED in cbed.variables:
            losses = cbed[PACBED].shape[3]
            stack = np.asarray(cbed[PACBED][:, :, depth], dtype=float).sum(axis=2)
            # The losses of one configuration have dependent signals, so the error of their sum is not known.
            error = cbed.variables.get(PACBED + STANDARD_ERROR) if losses == 1 else None
            kept = None if error is None else np.asarray(error[:, :, depth, 0], dtype=float)
            total, errors = mean.values(stack, defocus_nm), mean.errors(stack, kept, defocus_nm)
        else:
            total, errors = _mean(cbed[INTENSITIES], place, depth, mean, defocus_nm), None
        angles = [np.asarray(cbed[f"cbed_k_{axis}"][:], dtype=float) for axis in "xy"]
    return Pattern(np.asarray(total), angles[0], angles[1], float(depths[depth]), at, errors)


def _mean(
    variable: Any, place: tuple[int, int] | None, depth: int, mean: DefocusMean, defocus_nm: float | None
) -> Floats:
    """The pattern of a position, or the mean over all, read row by row because all may not fit into memory."""
    rows = range(variable.shape[1]) if place is None else [place[0]]
    columns = slice(None) if place is None else slice(place[1], place[1] + 1)
    total = np.zeros(1)
    for row in rows:
        part = np.asarray(variable[:, row, columns, :, depth], dtype=float).sum(axis=3)  # all energy losses
        part = np.moveaxis(part, 2, 1).mean(axis=2)  # (defocus, configuration, kx, ky)
        total = total + mean.values(part, defocus_nm) / len(rows)
    return total


def _place(result: OpenedResult, cbed: Any, at_nm: tuple[float, float]) -> tuple[tuple[int, int], tuple[float, float]]:
    """Indices and place [nm] of the stored position nearest to a place. In a list, coordinates are compared."""
    positions = result.pattern_positions
    if positions.kind != LIST:
        index = place_of(result, at_nm, positions)
        return index, (float(positions.x_nm[index[0]]), float(positions.y_nm[index[1]]))
    places = np.stack([np.asarray(cbed[f"cbed_probe_{axis}"][:], dtype=float)[:, 0] for axis in "xy"], axis=-1)
    distance = np.hypot(*(places - at_nm).T)
    number = int(distance.argmin())
    if not distance[number] <= SAME_PLACE_NM:
        listed = ", ".join(f"({x:.4g}, {y:.4g})" for x, y in places[:SHOWN]) + (" …" if len(places) > SHOWN else "")
        raise ResultError(
            f"{result.file} has no pattern at ({at_nm[0]:g}, {at_nm[1]:g}) nm. It has them at {listed} nm."
        )
    return (number, 0), (float(places[number, 0]), float(places[number, 1]))
