"""Layers that a face of the periodic cell cuts: where they are cut, and where the cell can begin without a cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stemphony.specimen.lattice import EXACT, Floats

JOINED = 4.0
"""Å. Planes of atoms nearer than this belong together: layered solids have at most 3.4 Å (graphite)."""

EMPTY = 5.0
"""Å. A layer without atoms that is wider than this is vacuum, and not the gap between two layers of a solid."""


@dataclass(frozen=True)
class Cut:
    """A face of a periodic cell that lies between atoms, while the cell is empty elsewhere.

    Attributes
    ----------
    start : float
        Coordinate [Å] of the first atoms behind the widest empty layer: a cell that begins there cuts nothing.
    across : float
        Distance [Å] of the atoms on both sides of the face.
    empty : float
        Width [Å] of the widest empty layer.
    middle : float
        Middle of that layer in fractions of the cell.
    """

    start: float
    across: float
    empty: float
    middle: float


def cut(coordinates: Floats, period: float) -> Cut | None:
    """Return the layer that the face at 0 of a cell of length `period` [Å] cuts apart; None if it cuts none.

    Atoms on both sides of the face are nearer than JOINED, and the cell has an empty layer wider than EMPTY inside.

    `coordinates` (N,) are those of the atoms across the face [Å].
    """
    heights = np.sort(np.mod(coordinates, period))
    heights[heights > period - EXACT] = 0.0
    heights.sort()
    if len(heights) < 2:
        return None
    across = float(heights[0] + period - heights[-1])
    gaps = np.diff(heights)
    widest = int(np.argmax(gaps))
    if across >= JOINED or gaps[widest] <= EMPTY:
        return None
    below, above = float(heights[widest]), float(heights[widest + 1])
    return Cut(above, across, above - below, (below + above) / 2 / period)


def begun(coordinates: Floats, period: float, start: float) -> Floats:
    """Coordinates (N,) in [0, period) of a periodic cell that begins at `start`; all in Å."""
    heights = np.mod(coordinates - start, period)
    return np.where(heights > period - EXACT, 0.0, heights)
