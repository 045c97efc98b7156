"""One configuration of atoms in a larger cell. Atoms that a smaller cell also has keep their displacements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import SpecimenError
from stemphony.specimen.lattice import Floats
from stemphony.specimen.specimen import Specimen

SAME_PLACE = 1e-3
"""Largest distance of an atom from its partner in the other cell [Å]: more than rounding, and far less than a bond."""


def partners(small: Specimen, large: Specimen, centre: Sequence[float]) -> NDArray[np.int64]:
    """Find, for each atom of the large cell, its partner in the small cell.

    Both cells are periodic along x and y. The region that they share is as large as the small cell, and its middle is
    `centre`. So atoms near `centre` have the same neighbours in both cells.

    Parameters
    ----------
    small, large : Specimen
        The same crystal, repeated less often and more often.
    centre : (float, float)
        Middle of the shared region [Å].

    Returns
    -------
    (N,) ndarray of int
        For each atom of the large cell, its partner; −1 outside the shared region.

    Raises
    ------
    SpecimenError
        The atoms of the region differ from those of the small cell.
    """
    from scipy.spatial import cKDTree

    size, large_size = np.asarray(small.cell[:2]), np.asarray(large.cell[:2])
    step = large.positions[:, :2] - np.asarray(centre)
    step -= large_size * np.round(step / large_size)
    # The region is half-open, so only one of two images at opposite edges is inside.
    inside = ((step >= -0.5 * size - SAME_PLACE) & (step < 0.5 * size - SAME_PLACE)).all(axis=1)
    box = np.array([*size, 2 * small.cell[2] + 10.0])
    tree = cKDTree(_within(small.positions, box), boxsize=box)
    # The two cells have different periods. So only the image of an atom that lies in the region counts.
    images = np.column_stack([(np.asarray(centre) + step)[inside], large.positions[inside, 2]])
    distance, index = tree.query(_within(images, box), distance_upper_bound=SAME_PLACE)
    found = np.isfinite(distance)
    chosen = np.asarray(index[found], dtype=np.int64)
    same = found.all() and len(np.unique(chosen)) == len(small.symbols) == len(chosen)
    if not same or (small.species[chosen] != large.species[inside]).any():
        raise SpecimenError(
            "in a larger cell",
            f"{len(chosen)} of {len(small.symbols)} atoms have the places of the config's cell: more repeats do "
            "not make the same crystal larger.",
        )
    partner = np.full(len(large.symbols), -1, dtype=np.int64)
    partner[inside] = chosen
    return partner


def _within(positions: Floats, box: Floats) -> Floats:
    """Positions inside a periodic box. z is not periodic, so the box has room on both sides along z."""
    moved = np.array(positions, dtype=float)
    moved[:, 2] += 5.0
    moved = np.mod(moved, box)
    moved[moved >= box] = 0.0
    return moved
