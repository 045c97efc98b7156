"""The grid points of an experiment: enough for the sampling, multiples of the lattice periods, cheap to transform."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from stemphony.errors import ConfigError
from stemphony.physics.grid import cheapest_size, fft_friendly_size, transform_cost
from stemphony.physics.periods import Periods

MAX_POINTS = 65536
"""Largest number of points along one axis of the grid or of the scan. The schema has the same limit."""

_LEAST = 8
"""Smallest number of points along one axis, for cells that are narrow compared with the sampling."""

_WORTH = 1.1
"""Largest ratio of costs. Numbers of points are multiples of the lattice periods in the plane. They become multiples of
all equal columns in projection too, if the transforms then cost at most this factor more."""


def chosen_gpts(
    grating: Mapping[str, Any], lx: float, ly: float, periods: Periods, notes: list[str]
) -> tuple[int, int]:
    """Choose the grid points (nx, ny) of a cell.

    Parameters
    ----------
    grating : mapping
        Block of the config with `gpts` and `sampling_angstrom`.
    lx, ly : float
        Lengths of the cell [Å].
    periods : Periods
        Periods of the lattice in the cell.
    notes : list of str
        The function appends notes for the plan to this list.

    Returns
    -------
    (int, int)
        Points along x and y.

    Raises
    ------
    ConfigError
        The cell would need more than `MAX_POINTS` points along one axis.
    """
    if grating["gpts"] is None:
        spacing = grating["sampling_angstrom"]
        if max(lx, ly) / spacing > MAX_POINTS:
            raise ConfigError(
                "grating.sampling_angstrom",
                f"got {spacing:g} Å; the cell of {lx:.6g} × {ly:.6g} Å would need more than {MAX_POINTS} points along "
                f"one axis. Use at least {max(lx, ly) / MAX_POINTS:.4g} Å.",
            )
        return points_at(spacing, (lx, ly), periods)
    nx, ny = grating["gpts"]
    for n, multiple in sorted({(nx, periods.x), (ny, periods.y)}):
        if fft_friendly_size(n) != n:
            notes.append(
                f"grating.gpts: {n} has a prime factor above 7, which slows the FFTs; {cheapest_size(n, multiple)} is "
                "the next good size."
            )
    if nx % periods.x or ny % periods.y:
        better = points_at(max(lx / nx, ly / ny) * (1 + 1e-9), (lx, ly), periods)
        notes.append(
            f"grating.gpts: [{nx}, {ny}] are no multiples of the {periods.x} × {periods.y} periods of the lattice, so "
            "equal columns get unequal signals (iron at rest: by 0.5 % at 0.05 Å and 3 % at 0.13 Å between points). "
            f"[{better[0]}, {better[1]}] keeps them equal."
        )
    return nx, ny


def points_at(spacing: float, lengths: tuple[float, float], periods: Periods) -> tuple[int, int]:
    """Return the cheapest numbers of points that are multiples of the lattice periods and at most `spacing` [Å] apart.

    `lengths` are the lengths of the cell along x and y [Å], and `periods` are the periods of the lattice in the cell.
    """
    points = []
    for length, lattice, columns in zip(lengths, (periods.x, periods.y), periods.columns, strict=True):
        least = max(_LEAST, math.ceil(length / spacing - 1e-9))
        plain, even = cheapest_size(least, lattice), cheapest_size(least, columns)
        points.append(even if transform_cost(even) <= _WORTH * transform_cost(plain) else plain)
    return points[0], points[1]
