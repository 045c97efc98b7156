"""How often a specimen repeats itself along x, y and the beam. Slices and grid points must follow these periods.

Slices hold equal atoms only if they have the period of the crystal. If their period differs, the two periods beat,
which makes false Laue zones. If the period of the grid points differs, equal columns get unequal signals. Planes of
atoms closer than `SAME_PLANE` count as one plane, because files round coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemphony.physics.slicing import wrap_positions

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

SAME_PLANE = 0.05
"""Planes of atoms closer than this [Å] count as one plane. The value is above the rounding of files and below the
distance of two planes."""

VACUUM = 3.0
"""If a space wider than this [Å] at a face of the cell holds no atoms, it is vacuum. The value is above half of the
distance of two layers."""

_SAMPLE = 32
"""Number of atoms with which a translation is tested before all atoms. Nearly all wrong translations fail there."""


@dataclass(frozen=True)
class Periods:
    """Periods of a specimen; lengths in Å.

    Attributes
    ----------
    x, y : int
        Number of lattice periods along x and y in the cell: the lattice has a vector in the plane with the component
        Lx/x along x, or Ly/y along y.
    columns : (int, int)
        As x and y, but the lattice vectors may also have a component along the beam. This is the number of equal
        columns in projection.
    begin, length : float
        Begin and length of the crystal along the beam. The rest of the cell is vacuum or film.
    spacing : float
        Distance along the beam after which the planes of atoms repeat, in composition and spacing.
    lattice : float
        Distance along the beam after which the whole structure repeats, perhaps moved sideways; a multiple of
        `spacing`.
    slab : bool
        Whether the structure itself has vacuum at a face. The crystal then ends with its last plane of atoms.
    """

    x: int = 1
    y: int = 1
    columns: tuple[int, int] = (1, 1)
    begin: float = 0.0
    length: float = 0.0
    spacing: float = 0.0
    lattice: float = 0.0
    slab: bool = False

    def repeated(self, repeat: Sequence[int]) -> Periods:
        """Return the periods of whole cells side by side."""
        nx, ny, nz = repeat
        columns = (self.columns[0] * nx, self.columns[1] * ny)
        return replace(self, x=self.x * nx, y=self.y * ny, columns=columns, length=self.length * nz)

    def moved(self, z: float) -> Periods:
        """Return the periods of the specimen moved along the beam [Å]."""
        return replace(self, begin=self.begin + z)

    def without_lateral(self, x: bool, y: bool) -> Periods:
        """Return the periods in a cell with vacuum along x or y. Along such an axis the cell has one period."""
        columns = (1 if x else self.columns[0], 1 if y else self.columns[1])
        return replace(self, x=1 if x else self.x, y=1 if y else self.y, columns=columns)


@dataclass(frozen=True, eq=False)
class Layers:
    """The undisplaced atoms along the beam, as far as slices and grid depend on them.

    Attributes
    ----------
    heights : (N,) ndarray
        z of all atoms [Å]; with snapshots, the means of the frames.
    periods : Periods
    slice_id : (N,) ndarray of int or None
        Slice of each atom that the structure file names.
    """

    heights: Floats = field(default_factory=lambda: np.empty(0))
    periods: Periods = field(default_factory=Periods)
    slice_id: Labels | None = None


def find_periods(
    positions: ArrayLike,
    kinds: Sequence[str],
    cell: ArrayLike,
    tolerance: float = SAME_PLANE,
    stacked: bool = False,
) -> Periods:
    """Find the periods of atoms in an orthogonal cell, which is periodic in x, y and, unless there is vacuum, in z.

    Parameters
    ----------
    positions : (N, 3) array_like
        Positions [Å].
    kinds : sequence of str
        Kind of each atom: atoms of one kind scatter alike.
    cell : (3,) array_like
        Lengths of the cell [Å].
    tolerance : float
        Largest distance of equivalent atoms after a translation, and of neighbouring atoms in one plane [Å].
    stacked : bool
        Whether cells will be stacked along z, so that no face of this cell is a surface.
    """
    lengths = np.asarray(cell, dtype=np.float64)
    atoms = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
    if not len(atoms):
        return Periods(length=float(lengths[2]), spacing=float(lengths[2]), lattice=float(lengths[2]))
    labels = np.unique(np.asarray(kinds, dtype=str), return_inverse=True)[1].astype(np.int64)
    low, high = float(atoms[:, 2].min()), float(atoms[:, 2].max())
    bulk = _Crystal(atoms, labels, lengths, tolerance)
    along_z = bulk.planes(2)
    repeats = bulk.repeats(2, along_z)
    in_plane = (bulk.periods(0, within_plane=True), bulk.periods(1, within_plane=True))
    columns = (bulk.periods(0), bulk.periods(1))
    periods = Periods(in_plane[0], in_plane[1], columns)
    lz = float(lengths[2])
    if not stacked and repeats == 1 and max(low, lz - high) > VACUUM:
        spacing, lattice = _slab_spacing(atoms, labels, lengths, tolerance)
        return replace(periods, begin=low, length=high - low, spacing=spacing, lattice=lattice, slab=True)
    lattice = lz / bulk.periods(2)
    return replace(periods, length=lz, spacing=lz / repeats, lattice=lattice)


def planes(heights: Floats, length: float | None = None, gap: float = SAME_PLANE) -> tuple[Labels, Floats]:
    """Find the planes of atoms. A gap in the sorted heights that is wider than `gap` separates two planes.

    Parameters
    ----------
    heights : (N,) ndarray
        Coordinates along one axis [Å].
    length : float or None
        Period of the axis [Å]; None if it has none.
    gap : float
        Largest distance of neighbouring heights in one plane [Å].

    Returns
    -------
    label : (N,) ndarray of int
        Plane of each atom, ascending.
    height : (planes,) ndarray
        Mean height of each plane [Å].
    """
    z = heights if length is None else np.mod(heights, length)
    order = np.argsort(z, kind="stable")
    number = np.concatenate([[0], np.cumsum(np.diff(z[order]) > gap)])
    label = np.empty(len(z), dtype=np.int64)
    label[order] = number
    if length is not None and number[-1] > 0 and z[order[0]] + length - z[order[-1]] <= gap:
        # One plane on both sides of the cell's face.
        last = label == number[-1]
        z = np.where(last, z - length, z)
        label[last] = 0
    height = np.bincount(label, weights=z) / np.bincount(label)
    return label, height


class _Crystal:
    """Atoms of several kinds in a cell, and the translations that bring them upon themselves."""

    def __init__(self, atoms: Floats, labels: Labels, lengths: Floats, tolerance: float) -> None:
        self.lengths, self.tolerance = lengths, tolerance
        wrapped = np.mod(atoms, lengths)
        wrapped[wrapped >= lengths] = 0.0
        self.atoms, self.labels = wrapped, labels
        self.rarest = wrapped[labels == int(np.argmin(np.bincount(labels)))]
        self._trees: list[cKDTree] | None = None

    def planes(self, axis: int) -> tuple[Labels, Floats]:
        return planes(self.atoms[:, axis], float(self.lengths[axis]), self.tolerance)

    def repeats(self, axis: int, found: tuple[Labels, Floats] | None = None) -> int:
        """How often the planes along an axis repeat. If their composition never repeats, only the distances count."""
        label, height = found or self.planes(axis)
        counts = np.zeros((len(height), int(self.labels.max()) + 1), dtype=np.int64)
        np.add.at(counts, (label, self.labels), 1)
        length = float(self.lengths[axis])
        for same in (counts, np.zeros((len(height), 1), dtype=np.int64)):
            for number in _divisors(len(height)):
                if number > 1 and _repeat(height, same, number, length):
                    return number
        return 1

    def periods(self, axis: int, within_plane: bool = False) -> int:
        """Largest number k for which a translation has the component L/k along an axis."""
        length = float(self.lengths[axis])
        _, height = self.planes(axis)
        first = self.rarest[0]
        for number in _divisors(len(height)):
            if number == 1:
                break
            steps = np.mod(self.rarest - first, self.lengths)
            fits = np.abs(steps[:, axis] - length / number) < self.tolerance
            if within_plane:
                fits &= np.minimum(steps[:, 2], self.lengths[2] - steps[:, 2]) < self.tolerance
            if any(self.has(step) for step in steps[fits]):
                return number
        return 1

    def has(self, step: Floats) -> bool:
        """Whether a translation brings every atom upon one of its kind."""
        self._trees = self._trees or [_tree(self.atoms[self.labels == kind], self.lengths) for kind in self._kinds()]
        sample = np.unique(np.linspace(0, len(self.atoms) - 1, min(len(self.atoms), _SAMPLE)).astype(int))
        for chosen in (sample, slice(None)):
            moved, labels = np.mod(self.atoms[chosen] + step, self.lengths), self.labels[chosen]
            moved[moved >= self.lengths] = 0.0
            for kind, tree in enumerate(self._trees):
                if not _all_found(tree, moved[labels == kind], self.tolerance):
                    return False
        return True

    def _kinds(self) -> Iterator[int]:
        yield from range(int(self.labels.max()) + 1)


def _slab_spacing(atoms: Floats, labels: Labels, lengths: Floats, tolerance: float) -> tuple[float, float]:
    """Distances along the beam after which the planes, and the whole slab, repeat; without a repeat, its thickness."""
    z = atoms[:, 2]
    label, height = planes(z, gap=tolerance)
    extent = float(height[-1] - height[0])
    counts = np.zeros((len(height), int(labels.max()) + 1), dtype=np.int64)
    np.add.at(counts, (label, labels), 1)
    if extent == 0:
        return 0.0, 0.0
    lateral = np.array([lengths[0], lengths[1], 0.0])
    trees = [_tree(wrap_positions(atoms[labels == kind], lengths), lateral) for kind in range(labels.max() + 1)]
    spacing = 0.0
    for period in range(1, len(height) // 2 + 1):
        steps = height[period:] - height[:-period]
        if np.ptp(steps) > 2 * SAME_PLANE or (counts[period:] != counts[:-period]).any():
            continue
        step = float(steps.mean())
        spacing = spacing or step
        here, there = np.flatnonzero(label == 0), np.flatnonzero(label == period)
        first = here[0]
        for other in there[labels[there] == labels[first]]:
            moved = wrap_positions(atoms + (atoms[other] - atoms[first]), lengths)
            kept = label < len(height) - period
            if all(_all_found(tree, moved[kept & (labels == kind)], tolerance) for kind, tree in enumerate(trees)):
                return spacing, step
    return spacing or extent, extent


def _repeat(height: Floats, counts: NDArray[np.int64], number: int, length: float) -> bool:
    """Whether planes at these heights, with these numbers of atoms, form `number` equal groups."""
    many = len(height) // number
    by_group = counts.reshape(number, many, -1)
    if (by_group != by_group[0]).any():
        return False
    begin = height.reshape(number, many) - np.arange(number)[:, None] * (length / number)
    return bool(np.ptp(begin, axis=0).max() <= 2 * SAME_PLANE)


def _tree(atoms: Floats, lengths: Floats) -> cKDTree:
    from scipy.spatial import cKDTree

    return cKDTree(atoms, boxsize=lengths)


def _all_found(tree: cKDTree, points: Floats, tolerance: float) -> bool:
    if not len(points):
        return True
    distance, _ = tree.query(points, distance_upper_bound=2 * tolerance)
    return bool(np.isfinite(distance).all() and distance.max() <= tolerance * 1.0001)


def _divisors(n: int) -> Iterator[int]:
    """Divisors of n, the largest first."""
    return (n // small for small in range(1, n + 1) if n % small == 0)
