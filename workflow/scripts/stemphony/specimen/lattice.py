"""Geometry of periodic cells. Functions take and return arrays; the rows of a cell are the edges a, b, c [Å]."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CELL_TOLERANCE = 1e-3
"""Distance [Å] by which the end of a cell edge may miss that of an orthogonal edge, because files round. If
`CELL_TOLERANCE_RELATIVE` allows more, that decides."""
CELL_TOLERANCE_RELATIVE = 1e-5
"""The same distance as a share of the edge. It decides in cells of 100 Å and more."""
EXACT = 1e-9
"""Largest difference [Å] of coordinates that are equal up to the rounding of the computation."""
SUPERCELL_LIMIT = 6
"""Largest integer of a suggested supercell. Larger integers make cells that are rarely worth their computing time."""


def supercell(
    cell: Floats, positions: Floats, matrix: NDArray[np.int64], *, wrap_z: bool = False
) -> tuple[Floats, Floats]:
    """Edges `matrix @ cell` and the |det| copies of all atoms [Å], each copy in the given order.

    Atoms are wrapped into the new cell. Along z, they are wrapped only if `matrix` mixes c with a or b or reverses c,
    or if `wrap_z` is true.

    `cell` has the edges as rows [Å]; `positions` (N, 3) are Cartesian [Å].
    """
    points = _lattice_points(matrix)
    copies = ((points @ cell)[:, None, :] + positions).reshape(-1, 3)
    edges = matrix @ cell
    mixes_z = wrap_z or bool(matrix[2, :2].any() or matrix[:2, 2].any() or matrix[2, 2] < 0)
    fractions = copies @ np.linalg.inv(edges)
    whole = np.floor(fractions + 1e-7)
    if not mixes_z:
        whole[:, 2] = 0.0
    return edges, copies - whole @ edges


def repeated(lengths: Floats, positions: Floats, repeat: Sequence[int]) -> Floats:
    """Coordinates [Å] of all copies along x, y, z, each copy in the given order, the last axis fastest.

    `lengths` (3,) are the lengths of the cell [Å]; `positions` (N, 3) are Cartesian [Å]; `repeat` has the numbers of
    copies along x, y and z.
    """
    copies = np.stack(np.meshgrid(*(np.arange(n) for n in repeat), indexing="ij"), axis=-1).reshape(-1, 3)
    return (copies[:, None, :] * lengths + positions).reshape(-1, 3)


def angles(cell: Floats) -> list[float]:
    """Angles α, β, γ [°] between the edges, the rows of `cell`."""
    result = []
    for i, j in ((1, 2), (0, 2), (0, 1)):
        cosine = cell[i] @ cell[j] / np.linalg.norm(cell[i]) / np.linalg.norm(cell[j])
        result.append(float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))
    return result


def _lattice_points(matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    """Integer points inside the parallelepiped that the rows of `matrix` span: |det| points, one per cell."""
    corners = np.array(list(itertools.product((0, 1), repeat=3))) @ matrix
    ranges = (np.arange(low, high + 1) for low, high in zip(corners.min(0), corners.max(0), strict=True))
    points = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    fractions = points @ np.linalg.inv(matrix)
    return points[((fractions > -1e-9) & (fractions < 1 - 1e-9)).all(axis=1)]


def _allowed(lengths: Floats | float) -> Floats:
    """Largest allowed distance [Å] between the end of an edge of this length [Å] and the end of the ideal edge."""
    return np.maximum(CELL_TOLERANCE, CELL_TOLERANCE_RELATIVE * lengths)


def _shear(first: Floats, second: Floats) -> float:
    """Distance of the end of the longer edge from its place at a right angle [Å], minus the tolerance."""
    short, long = sorted((float(np.linalg.norm(first)), float(np.linalg.norm(second))))
    return abs(float(first @ second)) / short - float(_allowed(long))


class Standard(NamedTuple):
    """An orthogonal cell in standard form: edges along x, y and z.

    Attributes
    ----------
    lengths : (3,) array
        Lengths of the edges [Å].
    positions : (N, 3) array
        Coordinates [Å].
    rows : (3, 3) array of int
        Edges along x, y, z in units of the given edges.
    """

    lengths: Floats
    positions: Floats
    rows: NDArray[np.int64]


def orthogonal(cell: Floats, positions: Floats) -> Standard | None:
    """The standard form of an orthogonal cell of a file; None if the cell is not orthogonal.

    The order and the sign of the edges do not change a lattice. If the edges run along the axes, the coordinates stay.
    Only if an edge runs along −z, the atoms move by its length. Other cells are turned by a proper rotation, never
    mirrored.

    `cell` has the edges as rows [Å]; `positions` (N, 3) are Cartesian [Å].
    """
    if not is_orthogonal(cell):
        return None
    edges = np.linalg.norm(cell, axis=1)
    axes = np.abs(cell).argmax(axis=1)
    if sorted(axes) != [0, 1, 2] or not _along_axes(cell, axes):
        return along_rows(cell, positions)
    rows = np.zeros((3, 3), dtype=np.int64)
    rows[axes, np.arange(3)] = np.sign(cell[np.arange(3), axes])
    target = rows.T * edges[:, None]
    positions = _straightened(cell, positions, target)
    backwards = target[:, 2].min()
    if backwards < 0:
        positions = positions - np.array([0.0, 0.0, backwards])
    return Standard(edges[np.argsort(axes)], positions, rows)


def along_rows(cell: Floats, positions: Floats) -> Standard | None:
    """Turn an orthogonal cell until its first edge runs along x and the third along z; None for any other cell.

    The second edge then runs along y. If the edges are left-handed, it runs along −y: the cell is never mirrored.

    `cell` has the edges as rows [Å]; `positions` (N, 3) are Cartesian [Å].
    """
    if not is_orthogonal(cell):
        return None
    edges = np.linalg.norm(cell, axis=1)
    rows = np.eye(3, dtype=np.int64)
    if (np.diagonal(cell) > 0).all() and _along_axes(cell, np.arange(3)):
        return Standard(edges, _straightened(cell, positions, np.diag(edges)), rows)
    if np.linalg.det(cell) < 0:
        rows[1, 1] = -1
    return Standard(edges, positions @ np.linalg.inv(rows @ cell) @ np.diag(edges), rows)


def is_orthogonal(cell: Floats) -> bool:
    """Whether all edges (rows of `cell`) are at right angles, within the rounding of files."""
    return all(_shear(cell[i], cell[j]) <= 0 for i, j in ((0, 1), (0, 2), (1, 2)))


def _along_axes(cell: Floats, axes: NDArray[np.intp]) -> bool:
    """Whether each edge runs along its axis of `axes`, within the rounding of files."""
    off_axis = np.abs(cell).copy()
    off_axis[np.arange(3), axes] = 0.0
    return bool((off_axis <= _allowed(np.linalg.norm(cell, axis=1))[:, None]).all())


def _straightened(cell: Floats, positions: Floats, target: Floats) -> Floats:
    """Coordinates in the `target` cell, which differs from `cell` only by rounding."""
    if np.abs(cell - target).max() <= EXACT:
        return positions
    return np.asarray(positions @ np.linalg.inv(cell) @ target)


def orthogonal_supercell(cell: Floats, limit: int = SUPERCELL_LIMIT) -> NDArray[np.int64] | None:
    """Rows of integers up to ±`limit` that make `cell` orthogonal with the smallest volume; None if there are none.

    If volumes are equal, rows that keep c along the beam come first, then a along x, then the smallest integers.

    Parameters
    ----------
    cell : (3, 3) array
        Edges a, b, c as rows [Å].

    Returns
    -------
    (3, 3) array of int with a positive determinant, or None.
    """
    span = range(-limit, limit + 1)
    triples = [v for v in itertools.product(span, repeat=3) if math.gcd(*v) == 1 and next(n for n in v if n) > 0]
    integers = np.array(triples)
    vectors = integers @ cell
    lengths = np.linalg.norm(vectors, axis=1)
    short, long = np.minimum.outer(lengths, lengths), np.maximum.outer(lengths, lengths)
    right = np.abs(vectors @ vectors.T) / short <= _allowed(long)
    candidates: list[tuple[int, int, int]] = []
    for i in range(len(integers)):
        neighbours = np.flatnonzero(right[i, i + 1 :]) + i + 1
        block = right[np.ix_(neighbours, neighbours)]
        for j, k in np.argwhere(np.triu(block, 1)):
            candidates.append((i, int(neighbours[j]), int(neighbours[k])))
    if not candidates:
        return None
    rows = integers[np.array(candidates)]
    volumes = np.abs(np.rint(np.linalg.det(rows)).astype(int))
    smallest = rows[volumes == volumes[volumes > 0].min()]
    return min((_ordered(matrix, cell) for matrix in smallest), key=_preference)


def _ordered(matrix: NDArray[np.int64], cell: Floats) -> NDArray[np.int64]:
    """The same edges in right-handed order: the edge nearest to a first, that nearest to c last."""
    vectors = matrix @ cell
    lengths = np.linalg.norm(vectors, axis=1)
    along_c = vectors @ cell[2] / lengths
    along_a = vectors @ cell[0] / lengths
    last = max(range(3), key=lambda row: (round(abs(along_c[row]), 6), -row))
    first = max((row for row in range(3) if row != last), key=lambda row: (round(abs(along_a[row]), 6), -row))
    ordered = matrix[[first, 3 - first - last, last]].copy()
    ordered[0] *= 1 if along_a[first] >= 0 else -1
    ordered[2] *= 1 if along_c[last] >= 0 else -1
    if np.linalg.det(ordered) < 0:
        ordered[1] *= -1
    return ordered


def _preference(matrix: NDArray[np.int64]) -> tuple[Any, ...]:
    keeps_c = matrix[2].tolist() == [0, 0, 1]
    keeps_a = matrix[0].tolist() == [1, 0, 0]
    return (not keeps_c, not keeps_a, int(np.abs(matrix).sum()), (-matrix).ravel().tolist())


def wrapped(positions: Floats, cell: Floats) -> Floats:
    """Wrap x and y into [0, L). If a coordinate is below L only by rounding, it becomes 0.

    `positions` (N, 3), the lengths L of the `cell`, and the result are in Å.
    """
    result = positions.copy()
    result[:, :2] = np.mod(result[:, :2], cell[:2])
    result[:, :2][result[:, :2] >= cell[:2] - EXACT] = 0.0
    return result


def same_lengths(first: Floats, second: Floats) -> bool:
    """Whether the edges `first` [Å] of one cell are those of the `second` within the tolerance."""
    return bool((np.abs(first - second) <= _allowed(second)).all())
