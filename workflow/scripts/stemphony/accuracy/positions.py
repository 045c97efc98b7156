"""Choose a few scan positions at which the signals of a scan differ most."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemphony.physics.grid import Grid
from stemphony.physics.potential import SlicePotentials
from stemphony.physics.scattering import FactorChoice

SPACING = 0.25
"""Spacing of the grid of the projected potential [Å]: a third of the width of a fine probe."""

REACH = 8.0
"""Largest distance of the other positions from the first one [Å]: one or two cells of most crystals. Positions that are
close together have the same atoms around them in a larger cell."""

_DIGITS = 6
"""Decimals to which the relative potential is rounded. Equal columns differ only by rounding errors, which depend on
the machine. After rounding, every machine takes the first of them."""

RULE = (
    "where the projected potential is largest and smallest, then where it differs most from that of the positions "
    f"already chosen; all within {REACH:g} Å"
)
"""Text for the user: how positions are chosen."""


def telling_positions(
    places: NDArray[np.float64],
    symbols: Sequence[str],
    atoms: NDArray[np.float64],
    lengths: tuple[float, float],
    parametrization: str | FactorChoice,
    number: int,
) -> list[int]:
    """Choose positions of a scan by the projected potential of the atoms at rest, see `RULE`.

    Parameters
    ----------
    places : (P, 2) ndarray
        Positions of the scan [Å].
    symbols, atoms : (N,), (N, 3) arrays
        Elements and positions of the atoms at rest [Å].
    lengths : (float, float)
        Cell along x and y [Å], periodic.
    parametrization : str or FactorChoice
        Scattering factors.
    number : int
        Largest number of positions to choose.

    Returns
    -------
    list of int
        Their indices in `places`, in the order of choice. There are fewer if the scan has fewer positions.
    """
    values = _potential_at(places, symbols, atoms, lengths, parametrization)
    chosen = [int(np.argmax(values))]
    step = places - places[chosen[0]]
    step -= np.asarray(lengths) * np.round(step / np.asarray(lengths))
    near = np.hypot(step[:, 0], step[:, 1]) <= REACH
    free = near.copy()
    free[chosen[0]] = False
    while len(chosen) < number and free.any():
        gain = -values if len(chosen) == 1 else np.min([np.abs(values - values[index]) for index in chosen], axis=0)
        chosen.append(int(np.argmax(np.where(free, gain, -np.inf))))
        free[chosen[-1]] = False
    return chosen


def _potential_at(
    places: NDArray[np.float64],
    symbols: Sequence[str],
    atoms: NDArray[np.float64],
    lengths: tuple[float, float],
    parametrization: str | FactorChoice,
) -> NDArray[np.float64]:
    """Square root of the projected potential, relative to its largest value. With the root, light columns differ."""
    if not len(symbols):
        return np.zeros(len(places))
    from scipy.ndimage import map_coordinates

    grid = Grid((_points(lengths[0]), _points(lengths[1])), lengths)
    potentials = SlicePotentials(grid, atoms, symbols, np.zeros(len(symbols), dtype=int), 1, parametrization)
    at = (np.asarray(places) / np.asarray(grid.sampling)).T
    values = np.maximum(map_coordinates(potentials.projected(0), at, order=3, mode="grid-wrap"), 0.0)
    return np.round(np.sqrt(values / max(float(values.max()), 1e-300)), _DIGITS)


def _points(length: float) -> int:
    return max(8, 2 * math.ceil(length / SPACING / 2))
