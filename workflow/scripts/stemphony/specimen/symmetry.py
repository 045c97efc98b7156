"""Symmetry operations of a specimen as a slab. They keep z, and map the specimen, its grid and slices on themselves.

spglib finds the operations of one cell of the specimen. Each operation is moved to whole grid points and then checked
with the atoms.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.physics.plane_symmetry import MATRICES, UNITY, Matrix, Operation, PlaneGroup, Shift
from stemphony.specimen.lattice import Floats
from stemphony.specimen.periodicity import kinds
from stemphony.specimen.specimen import Specimen

SAME_PLACE = 1e-3
"""If an operation moves an atom to within this distance [Å] of an equal atom, it maps them on each other. Files with
four digits stay within this distance. A thermal displacement is a hundred times longer."""

SAME_U = 1e-4
"""Components of U that differ by less than this [Å²] count as equal, because structure files round U to this."""

MOST_SITES = 2000
"""Largest number of atoms of a cell for which operations other than translations are searched. The time of the search
grows with its square."""

_EMPTY = 30.0
"""Vacuum [Å] that turns the cell for spglib into a slab."""

_FIRST_LOOK = 64
"""Number of atoms with which a translation is tested first. Most wrong translations fail there."""


@dataclass(frozen=True)
class Found:
    """The operations of a specimen.

    Attributes
    ----------
    group : PlaneGroup
        It holds at least the identity and the translations of the periodic cell.
    note : str
        What was not searched, and why; empty if everything was searched.
    """

    group: PlaneGroup
    note: str = ""


def slab_operations(
    specimen: Specimen, slice_index: NDArray[np.int64], gpts: tuple[int, int], is_displaced: bool
) -> Found:
    """Find the operations (R, τ) that map atoms, slices and grid points on themselves.

    Source: Togo, Shinohara & Tanaka, Sci. Technol. Adv. Mater. Meth. 4 (2024) 2384822 (spglib).

    Parameters
    ----------
    specimen : Specimen
        Atoms at rest.
    slice_index : (N,) ndarray
        Slice of each atom.
    gpts : (int, int)
        Points of the grid over the whole cell.
    is_displaced : bool
        Whether thermal displacements are drawn. If so, equal atoms must also have equal U.

    Returns
    -------
    Found
        At least the identity, with a note on what was not searched.
    """
    trivial = PlaneGroup.of({}, gpts)
    if not len(specimen.symbols):
        return Found(trivial)
    slab = _Slab(specimen, slice_index, is_displaced)
    cells = (slab.periods(0), slab.periods(1))
    inside = slab.within(cells)
    whole = np.array(specimen.cell[:2]) / cells
    if len(inside) > MOST_SITES:
        candidates: dict[Matrix, list[Floats]] = {UNITY: [np.zeros(2)]}
        note = f"the cell that repeats has {len(inside)} atoms; only translations were searched"
    else:
        candidates, note = _by_spglib(slab, inside, whole), ""
    steps = np.stack(np.meshgrid(np.arange(cells[0]), np.arange(cells[1]), indexing="ij"), axis=-1).reshape(-1, 2)
    spacing = np.array(specimen.cell[:2]) / gpts
    shifts: dict[Matrix, list[Shift]] = {}
    off_grid = 0
    for matrix, places in candidates.items():
        if matrix[0][0] == 0 and (gpts[0] != gpts[1] or abs(spacing[0] - spacing[1]) * gpts[0] > SAME_PLACE):
            continue  # on such a grid, no operation maps x on y
        shifts[matrix] = list(_on_grid(np.concatenate([place + steps * whole for place in places]), spacing))
        off_grid += len(places) * len(steps) - len(shifts[matrix])
    if off_grid:
        note = "; ".join(filter(None, [note, f"{off_grid} operations of the crystal miss the points of the grid"]))
    group = PlaneGroup.of(shifts, gpts)
    checked = PlaneGroup(_checked_lattice(slab, inside, group, spacing, gpts), group.operations)
    return Found(checked.only(lambda one: slab.has(one, inside, spacing)), note)


def _checked_lattice(
    slab: _Slab, inside: NDArray[np.intp], group: PlaneGroup, spacing: Floats, gpts: tuple[int, int]
) -> tuple[Shift, Shift]:
    """The lattice of a group if its translations map the atoms on themselves; else that of the periodic cell."""
    if all(slab.has(Operation(UNITY, vector), inside, spacing) for vector in group.lattice):
        return group.lattice
    return PlaneGroup.of({}, gpts).lattice


def _on_grid(places: Floats, spacing: Floats) -> Iterator[Shift]:
    """Convert translations (K, 2) [Å] to grid points. Those that are no whole grid points are left out."""
    points = places / spacing
    whole = np.rint(points)
    near = (np.abs(points - whole) * spacing <= SAME_PLACE).all(axis=1)
    yield from ((int(x), int(y)) for x, y in whole[near])


def _by_spglib(slab: _Slab, inside: NDArray[np.intp], whole: Floats) -> dict[Matrix, list[Floats]]:
    """Translations [Å] of the operations of one cell, for each R that a grid can have."""
    import spglib

    # Atoms get equal numbers only if they are equal and at equal heights. So every operation keeps z, and the search is
    # short.
    heights = np.rint(slab.atoms[inside, 2] / (2 * SAME_PLACE)).astype(np.int64)
    kind = np.unique(np.column_stack([slab.label[inside], _levels(heights)]), axis=0, return_inverse=True)[1]
    low = slab.atoms[inside, 2].min()
    thickness = float(np.ptp(slab.atoms[inside, 2])) + _EMPTY
    edges = np.array([whole[0], whole[1], thickness])
    places = (slab.atoms[inside] - [0.0, 0.0, low]) / edges
    found = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cell: Any = (np.diag(edges), places, kind.reshape(-1) + 1)
            found = spglib.get_symmetry(cell, symprec=SAME_PLACE)
        except spglib.SpglibError:
            found = None  # for example because atoms lie on each other
    made: dict[Matrix, list[Floats]] = {}
    for rotation, translation in zip(*_of(found), strict=True):
        matrix = ((int(rotation[0, 0]), int(rotation[0, 1])), (int(rotation[1, 0]), int(rotation[1, 1])))
        keeps_z = rotation[2, 2] == 1 and not (rotation[2, :2].any() or rotation[:2, 2].any())
        place = np.asarray(translation[:2] * whole)
        # spglib does not compare U, so `maps` does.
        if keeps_z and matrix in MATRICES and slab.maps(matrix, place, inside):
            made.setdefault(matrix, []).append(place)
    return made if UNITY in made else {UNITY: [np.zeros(2)], **made}


def _of(found: object) -> tuple[NDArray[np.int64], Floats]:
    if not isinstance(found, dict):
        return np.empty((0, 3, 3), dtype=np.int64), np.empty((0, 3))
    return found["rotations"], found["translations"]


def _levels(heights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the level of each height. Neighbouring numbers are one level, because rounding may separate them."""
    values, which = np.unique(heights, return_inverse=True)
    return np.asarray(np.cumsum(np.diff(values, prepend=values[:1]) > 1)[which.reshape(-1)], dtype=np.int64)


class _Slab:
    """The atoms of a specimen, periodic along x and y, with labels for equal atoms.

    Attributes
    ----------
    atoms : (N, 3) ndarray
        Positions, x and y wrapped [Å].
    label : (N,) ndarray of int
        Equal for atoms of one kind in one slice.
    """

    def __init__(self, specimen: Specimen, slice_index: NDArray[np.int64], is_displaced: bool) -> None:
        from scipy.spatial import cKDTree

        self.lengths = np.asarray(specimen.cell, dtype=np.float64)
        self.atoms = self._wrapped(specimen.positions)
        kind = np.unique(np.array(kinds(specimen.species, specimen.occupancy)), return_inverse=True)[1].reshape(-1)
        self.label = kind * (int(slice_index.max()) + 1) + np.asarray(slice_index)
        self.u_iso = specimen.u_iso if is_displaced else None
        self.u_aniso = specimen.u_aniso if is_displaced else None
        # The label is a fourth coordinate with large steps, so only equal atoms are near each other.
        box = [self.lengths[0], self.lengths[1], 0.0, 0.0]
        self.tree = cKDTree(np.column_stack([self.atoms, self.label]), boxsize=box)

    def _wrapped(self, positions: Floats) -> Floats:
        wrapped = np.array(positions, dtype=np.float64)
        wrapped[:, :2] = np.mod(wrapped[:, :2], self.lengths[:2])
        # For a coordinate just below zero, rounding may make the remainder equal to the length.
        wrapped[:, :2][wrapped[:, :2] >= self.lengths[:2]] = 0.0
        return wrapped

    def within(self, cells: tuple[int, int]) -> NDArray[np.intp]:
        """The atoms of one cell, if the specimen has this number of cells along x and y."""
        edges = self.lengths[:2] / cells
        # Rounding decides on which side an atom on the edge of the cell lies. The shift makes it count once.
        near = np.mod(self.atoms[:, :2] + SAME_PLACE, self.lengths[:2])
        return np.flatnonzero((near < edges).all(axis=1))

    def periods(self, axis: int) -> int:
        """Largest number of equal cells along an axis."""
        label, count = np.unique(self.label, return_counts=True)
        rarest = int(count[count.argmin()])
        assert len(label)  # there are atoms
        everything = np.arange(len(self.atoms))
        first = np.linspace(0, len(self.atoms) - 1, min(_FIRST_LOOK, len(self.atoms))).astype(int)
        for number in (rarest // small for small in range(1, rarest + 1) if rarest % small == 0):
            step = np.zeros(2)
            step[axis] = self.lengths[axis] / number
            if number == 1 or all(self.maps(UNITY, step, some) for some in (first, everything)):
                return number
        return 1

    def has(self, operation: Operation, atoms: NDArray[np.intp], spacing: Floats) -> bool:
        """Whether an operation maps these atoms on equal atoms; `spacing` is the distance of grid points [Å]."""
        return self.maps(operation.matrix, np.array(operation.shift) * spacing, atoms)

    def maps(self, matrix: Matrix, shift: Floats, atoms: NDArray[np.intp]) -> bool:
        """Whether r → R·r + τ, with τ = `shift` [Å], maps these atoms on equal atoms."""
        turn = np.eye(3)
        turn[:2, :2] = matrix
        moved = self._wrapped(self.atoms[atoms] @ turn.T + np.append(shift, 0.0))
        near, onto = self.tree.query(np.column_stack([moved, self.label[atoms]]), distance_upper_bound=2 * SAME_PLACE)
        if not (near <= SAME_PLACE).all():
            return False
        if self.u_iso is not None and not _alike(self.u_iso[atoms], self.u_iso[onto]):
            return False
        return self.u_aniso is None or _alike(turn @ self.u_aniso[atoms] @ turn.T, self.u_aniso[onto])


def _alike(one: Floats, other: Floats) -> bool:
    return bool(np.allclose(one, other, rtol=0, atol=SAME_U, equal_nan=True))
