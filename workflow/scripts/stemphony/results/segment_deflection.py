"""Deflections that the segments of a detector show, read from a merged result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import ResultError
from stemphony.results.opened import Detector, OpenedResult

Floats = NDArray[np.float64]


def dpc(
    result: OpenedResult, detectors: Sequence[Detector], depth_nm: float | None, defocus_nm: float | None
) -> tuple[Floats, float]:
    """Deflection that segments show along x and y [mrad] (nx, ny, 2), Eq. (P25), and its depth [nm].

    Parameters
    ----------
    result : OpenedResult
    detectors : sequence of Detector
        Empty, or the name of one segmented detector. A result with one such detector needs none.
    depth_nm : float or None
        Depth [nm]; None for the last one.
    defocus_nm : float or None
        One defocus [nm]; None for the mean over all.

    Returns
    -------
    ((nx, ny, 2) array, float)
        Deflection [mrad] and depth [nm].

    Raises
    ------
    ResultError
        No segmented detector shows it, or several do and none is chosen, or there is no such depth or defocus.
    """
    ends = ("dpc_x", "dpc_y")
    found = {name.removesuffix(ends[0]).rstrip("_"): name for name in result.maps if name.endswith(ends[0])}
    if not found:
        raise ResultError(
            f"{result.file} has no DPC. Name a detector with three or more sectors in adf.segmented; `com` draws the "
            "centre of mass."
        )
    if len(found) == 1 and not detectors:
        (name,) = found.values()
    elif len(detectors) == 1 and detectors[0] in found:
        name = found[str(detectors[0])]
    else:
        names = ", ".join(filter(None, found)) or "no name, because there is one: leave --detector out"
        raise ResultError(f"dpc needs one segmented detector (--detector); {result.file} has {names}.")
    x, y = (result.signal(name[: -len(ends[0])] + end, depth_nm, defocus_nm) for end in ends)
    return np.stack([x.values, y.values], axis=-1), x.depth_nm
