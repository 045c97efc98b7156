"""Check whether a translation along x and y maps the atoms of a specimen on each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemphony.physics.slicing import wrap_positions
from stemphony.specimen.lattice import Floats
from stemphony.specimen.specimen import Specimen

SAME_PLACE = 0.02
"""If a translation moves an atom to within this distance [Å] of an equal atom, the atom repeats. Files with three
digits stay within this distance."""

SAME_MEAN = 0.1
"""The same distance [Å] for mean positions of snapshots, which are less precise."""

SAME_U = 2e-4
"""U of two sites that differ by less than this [Å²] count as equal. Structure files round U to about this."""

FIRST_LOOK = 64
"""Number of atoms that are compared first. Most wrong translations fail there."""


class Translations:
    """The translations along x and y under which a specimen, as a mean over its configurations, repeats.

    Elements, occupancies, U and mean positions decide. Atoms of amorphous films do not repeat.

    Parameters
    ----------
    specimen : Specimen
    frames : (F, N, 3) array or None
        Snapshots [Å] that replace the atoms at rest.
    """

    def __init__(self, specimen: Specimen, frames: Floats | None = None) -> None:
        from scipy.spatial import cKDTree

        self.specimen, self.cell = specimen, np.asarray(specimen.cell, dtype=float)
        self.near = SAME_PLACE if frames is None else SAME_MEAN
        self.has_frames = frames is not None
        self.positions = wrap_positions(specimen.positions if frames is None else _mean(frames, self.cell), self.cell)
        kinds = np.unique(specimen.species, return_inverse=True)[1].reshape(-1)
        # The element is a fourth coordinate with large steps, so only atoms of one element are near each other.
        apart = 10.0 + float(np.ptp(self.positions[:, 2])) if len(kinds) else 10.0
        self.points = np.column_stack([self.positions, kinds * apart])
        self.tree = cKDTree(self.points, boxsize=[self.cell[0], self.cell[1], 0.0, 0.0])

    def repeat(self, x: float, y: float) -> bool:
        """Whether the specimen repeats under the translation (x, y) [Å]."""
        offset = np.array([x, y])
        if (np.abs(offset - np.rint(offset / self.cell[:2]) * self.cell[:2]) < 1e-6).all():
            return True
        if self.specimen.films or not len(self.points):
            return False
        first = np.linspace(0, len(self.points) - 1, min(FIRST_LOOK, len(self.points))).astype(int)
        return self._repeat(offset, first) and self._repeat(offset, np.arange(len(self.points)))

    def along(self, axis: int, length: float) -> list[float]:
        """Shifts along the other axis [Å] that may complete a step of `length` [Å] along `axis` to a translation.

        The candidates lead from one atom of the rarest element to the others. `repeat` checks whether they repeat.
        """
        other = 1 - axis
        kinds, count = np.unique(self.points[:, 3], return_counts=True)
        some = self.points[self.points[:, 3] == kinds[count.argmin()]]
        apart = some - some[0]
        miss = apart[:, axis] - length
        miss = miss - np.rint(miss / self.cell[axis]) * self.cell[axis]
        near = (np.abs(miss) < self.near) & (np.abs(apart[:, 2]) < self.near)
        return [float(shift) for shift in np.mod(apart[near, other], self.cell[other])]

    def _repeat(self, offset: Floats, atoms: NDArray[np.intp]) -> bool:
        moved = self.points[atoms].copy()
        moved[:, :3] = wrap_positions(moved[:, :3] + [*offset, 0.0], self.cell)
        distance, onto = self.tree.query(moved, distance_upper_bound=self.near)
        if not np.isfinite(distance).all():
            return False
        return self._alike(atoms, np.asarray(onto))

    def _alike(self, atoms: NDArray[np.intp], onto: NDArray[np.intp]) -> bool:
        """Whether atoms have the occupancies and U of the atoms on which they are mapped; snapshots need neither."""
        specimen = self.specimen
        if self.has_frames:
            return True
        pairs = [(specimen.occupancy, 1e-6), (specimen.u_iso, SAME_U), (specimen.u_aniso, SAME_U)]
        return all(
            values is None or np.allclose(values[atoms], values[onto], rtol=0, atol=allowed, equal_nan=True)
            for values, allowed in pairs
        )


def _mean(frames: Floats, cell: Floats) -> Floats:
    """Mean positions of the atoms over all frames (N, 3); x and y are periodic."""
    apart = frames - frames[0]
    apart[..., :2] -= np.rint(apart[..., :2] / cell[:2]) * cell[:2]
    return np.asarray(frames[0] + apart.mean(axis=0))
