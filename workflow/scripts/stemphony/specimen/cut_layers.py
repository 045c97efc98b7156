"""Layers that a face of the periodic cell cuts, and where the cell can begin so that no layer is cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stemphony.specimen.lattice import EXACT, Floats

JOINED = 4.0
"""Planes of atoms nearer than this [Å] belong together. Planes of layered solids are at most 3.4 Å apart (graphite)."""

EMPTY = 5.0
"""A layer without atoms that is wider than this [Å] is vacuum, not the gap between two layers of a solid."""


@dataclass(frozen=True)
class Cut:
    """A face of a periodic cell that lies between atoms, while the cell is empty elsewhere.

    Attributes
    ----------
    start : float
        Coordinate [Å] of the first atoms behind the widest empty layer. A cell that begins there cuts no layer.
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
    """Return the layer that the face at 0 of a cell of length `period` [Å] cuts; None if the face cuts no layer.

    A layer is cut if atoms on both sides of the face are nearer than JOINED, and the cell has an empty layer wider than
    EMPTY inside.

    `coordinates` (N,) are the coordinates of all atoms along the normal of the face [Å].
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
    """The `coordinates` (N,) in [0, period) after a cell of this `period` is moved to begin at `start`; all in Å."""
    heights = np.mod(coordinates - start, period)
    return np.where(heights > period - EXACT, 0.0, heights)
