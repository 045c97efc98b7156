"""Diffraction patterns of a merged result: of one position (CBED), or the mean over the scan (PACBED)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import ResultError
from stemphony.results.opened import OpenedResult
from stemphony.results.thickness_curve import place_of

Floats = NDArray[np.float64]


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
    """

    values: Floats
    kx_mrad: Floats
    ky_mrad: Floats
    depth_nm: float
    at_nm: tuple[float, float] | None


def pattern(
    result: OpenedResult,
    at_nm: tuple[float, float] | None = None,
    depth_nm: float | None = None,
    defocus_nm: float | None = None,
) -> Pattern:
    """Read the pattern of the stored position nearest to `at_nm`, or the mean over the scan.

    Raises
    ------
    ResultError
        The result has no patterns, or none at this place, depth or defocus.
    """
    if not result.has_patterns:
        raise ResultError(f"{result.file} has no diffraction patterns. They need `cbed: {{enabled: true}}`.")
    place = None if at_nm is None else place_of(result, at_nm)
    with result.root() as root:
        cbed = root["cbed"]
        depths = np.asarray(cbed["cbed_slice"][:], dtype=float)
        depth = result.depth(depth_nm, depths)
        x, y = (np.asarray(cbed[f"cbed_position_{axis}"][:], dtype=float) for axis in "xy")
        rows = range(len(x)) if place is None else [place[0]]
        columns = slice(None) if place is None else slice(place[1], place[1] + 1)
        variable, total = cbed["cbed_intensities"], np.zeros(1)
        for row in rows:  # one by one, because all patterns together may not fit into memory
            part = np.asarray(variable[:, row, columns, :, depth, 0], dtype=float)
            part = np.moveaxis(part, 2, 1).mean(axis=2)  # (defocus, configuration, kx, ky)
            total = total + result.mean.values(part, defocus_nm) / len(rows)
        angles = [np.asarray(cbed[f"cbed_k_{axis}"][:], dtype=float) for axis in "xy"]
    at = None if place is None else (float(x[place[0]]), float(y[place[1]]))
    return Pattern(np.asarray(total), angles[0], angles[1], float(depths[depth]), at)
