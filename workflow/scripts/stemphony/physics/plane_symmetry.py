"""Symmetry operations of a specimen and its grid in the plane, and scan positions that are equal by symmetry.

An operation (R, τ) maps the probe position r on R·r + τ, Eq. (P24). Coordinates are in grid points. So R and τ are
integers, and every operation maps the grid on itself exactly. A grid with right angles has at most eight such R.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.physics.periods import planes

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Matrix = tuple[tuple[int, int], tuple[int, int]]
Shift = tuple[int, int]

UNITY: Matrix = ((1, 0), (0, 1))

MATRICES: tuple[Matrix, ...] = (
    *(((a, 0), (0, d)) for a, d in product((1, -1), repeat=2)),
    *(((0, b), (c, 0)) for b, c in product((1, -1), repeat=2)),
)
"""Rotations and reflections that can map a grid with right angles on itself."""

SAME_POSITION = 1e-6
"""Scan positions closer than this [grid points] count as one. The rounding of coordinates is far smaller, and a step of
the scan is far larger."""


@dataclass(frozen=True)
class Operation:
    """r → R·r + τ, in grid points."""

    matrix: Matrix
    shift: Shift

    @property
    def swaps(self) -> bool:
        """Whether the operation maps the x axis on the y axis."""
        return self.matrix[0][0] == 0


@dataclass(frozen=True)
class PlaneGroup:
    """A plane group of a grid: translations, and one operation for each matrix R.

    Attributes
    ----------
    lattice : ((int, int), (int, int))
        Two translations that generate all others, (a, b) and (0, d) [grid points].
    operations : tuple of Operation
        The first is the identity.
    """

    lattice: tuple[Shift, Shift]
    operations: tuple[Operation, ...]

    @classmethod
    def of(cls, shifts: Mapping[Matrix, Sequence[Shift]], gpts: Shift) -> PlaneGroup:
        """Make the group of all operations with these matrices and shifts; the cell itself is always a translation."""
        lattice = _hermite([(gpts[0], 0), (0, gpts[1]), *shifts.get(UNITY, ())])
        chosen = {UNITY: (0, 0)}
        for matrix in MATRICES:
            if matrix != UNITY and shifts.get(matrix):
                chosen[matrix] = min(_modulo(shift, lattice) for shift in shifts[matrix])
        return cls(lattice, tuple(Operation(matrix, shift) for matrix, shift in chosen.items())).closed()

    def closed(self) -> PlaneGroup:
        """Leave out operations whose product with another one is missing, so that the rest is a group."""
        known = {operation.matrix: operation.shift for operation in self.operations}
        while True:
            bad = {
                two
                for one, two in product(known, repeat=2)
                if not self._has(known, _product((one, known[one]), (two, known[two])))
            } - {UNITY}
            if not bad:
                return PlaneGroup(self.lattice, tuple(Operation(m, s) for m, s in known.items()))
            known = {matrix: shift for matrix, shift in known.items() if matrix not in bad}

    def _has(self, known: Mapping[Matrix, Shift], operation: tuple[Matrix, Shift]) -> bool:
        matrix, shift = operation
        return matrix in known and _modulo(shift, self.lattice) == _modulo(known[matrix], self.lattice)

    def only(self, complies: Callable[[Operation], bool]) -> PlaneGroup:
        """Return the group of the operations that comply. The identity always complies."""
        kept = tuple(one for one in self.operations if one.matrix == UNITY or complies(one))
        return PlaneGroup(self.lattice, kept).closed()

    @property
    def translations(self) -> Floats:
        """The translations that generate all others, as rows (2, 2) [grid points]."""
        return np.array(self.lattice, dtype=np.float64)

    def in_params(self) -> dict[str, Any]:
        """Content for params and plans."""
        return {
            "lattice": [list(vector) for vector in self.lattice],
            "operations": [[[list(row) for row in one.matrix], list(one.shift)] for one in self.operations],
        }

    @classmethod
    def of_params(cls, content: Mapping[str, Any] | None) -> PlaneGroup | None:
        """Read what `in_params` wrote; None for None."""
        if content is None:
            return None
        (a, b), (c, d) = content["lattice"]
        operations = tuple(
            Operation(((m[0][0], m[0][1]), (m[1][0], m[1][1])), (s[0], s[1])) for m, s in content["operations"]
        )
        return cls(((a, b), (c, d)), operations)

    def orbits(self, positions: Floats) -> Orbits:
        """Find which positions are equal by symmetry.

        Parameters
        ----------
        positions : (N, 2) ndarray
            Probe positions [grid points].
        """
        images = np.concatenate([positions @ np.array(one.matrix).T + one.shift for one in self.operations])
        place = _places(images, self.lattice).reshape(len(self.operations), -1)
        # Equal positions have the same set of images, because the operations are a group.
        _, first, orbit = np.unique(place.min(axis=0), return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        computed, orbit = first[order], rank[orbit.reshape(-1)]
        # The operation that maps the computed position of an orbit on the given position.
        operation = np.argmax(place[:, computed[orbit]] == place[0], axis=0)
        return Orbits(computed, orbit, operation, tuple(one.matrix for one in self.operations))


@dataclass(frozen=True, eq=False)
class Orbits:
    """Sets of scan positions with equal signals.

    Attributes
    ----------
    computed : (M,) ndarray of int
        Index of the position of each orbit that is computed: the first one, ascending.
    orbit : (N,) ndarray of int
        Orbit of each position.
    operation : (N,) ndarray of int
        Number of the operation that maps the computed position on each position.
    matrices : tuple
        Matrix R of each operation.
    """

    computed: Integers
    orbit: Integers
    operation: Integers
    matrices: tuple[Matrix, ...]

    def turned_vectors(self, vectors: NDArray[Any]) -> NDArray[Any]:
        """Turn vectors in the plane, (N, …, 2), each with the operation of its position."""
        matrices = np.array(self.matrices, dtype=vectors.dtype)[self.operation]
        return np.asarray(np.einsum("nij,n...j->n...i", matrices, vectors))


def turned_pattern(pattern: NDArray[Any], matrix: Matrix) -> NDArray[Any]:
    """Turn a pattern (…, kx, ky): the intensity at k moves to R·k. The axes are the same for k and R·k."""
    turned = np.swapaxes(pattern, -1, -2) if matrix[0][0] == 0 else pattern
    turned = turned[..., ::-1, :] if sum(matrix[0]) < 0 else turned
    return turned[..., ::-1] if sum(matrix[1]) < 0 else turned


def maps_axes(matrix: Matrix, x: Floats, y: Floats) -> bool:
    """Whether R maps the pixels with the centres x and y on such pixels."""
    if matrix[0][0] == 0 and not _equal(x, y):
        return False
    return all(sum(row) > 0 or _equal(axis, -axis[::-1]) for row, axis in zip(matrix, (x, y), strict=True))


def keeps_aberrations(matrix: Matrix, coefficients: Mapping[str, float]) -> bool:
    """Whether χ(R·k) = χ(k) for the aberrations of Eq. (P7).

    A rotation by θ does not change a term with cos m(φ − φ_m) if mθ is a multiple of 2π. A reflection at an axis with
    azimuth β does not change it if 2m(β − φ_m) is a multiple of 2π.

    Parameters
    ----------
    coefficients : mapping
        Krivanek coefficients, and their angles [rad].
    """
    (a, b), (c, d) = matrix
    turn = math.atan2(c, a)
    is_reflection = a * d - b * c < 0
    for name, value in coefficients.items():
        fold = int(name[2]) if name.startswith("C") else 0
        if not (value and fold):
            continue
        # For a reflection, atan2(c, a) is twice the azimuth of its axis.
        turned = fold * (turn - 2 * coefficients.get(f"phi{name[1:]}", 0.0)) if is_reflection else fold * turn
        if abs(math.remainder(turned, 2 * math.pi)) > 1e-9:
            return False
    return True


def keeps_points(matrix: Matrix, points: Sequence[Sequence[float]]) -> bool:
    """Whether R maps a set of points in the plane on itself. For one point v this means R·v = v."""
    given = np.array(points, dtype=np.float64).reshape(-1, 2)
    turned = given @ np.array(matrix).T
    apart = np.abs(turned[:, None] - given).max(axis=-1).min(axis=1)
    return bool((apart <= 1e-9 * np.abs(given).max()).all())


def _equal(one: Floats, other: Floats) -> bool:
    scale = float(np.abs(one).max(initial=0.0))
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=0, atol=1e-9 * scale))


def _product(one: tuple[Matrix, Shift], two: tuple[Matrix, Shift]) -> tuple[Matrix, Shift]:
    """The operation that applies first `two`, then `one`."""
    (a, b), (c, d) = one[0]
    (e, f), (g, h) = two[0]
    x, y = two[1]
    matrix = ((a * e + b * g, a * f + b * h), (c * e + d * g, c * f + d * h))
    return matrix, (a * x + b * y + one[1][0], c * x + d * y + one[1][1])


def _hermite(vectors: Iterable[Shift]) -> tuple[Shift, Shift]:
    """Generators (a, b), (0, d) of the lattice that integer vectors make, 0 ≤ b < d."""
    first, d = (0, 0), 0
    for vector in vectors:
        x, y = vector
        while x:
            quotient = first[0] // x
            first, (x, y) = (x, y), (first[0] - quotient * x, first[1] - quotient * y)
        d = math.gcd(d, y)
    a, b = first if first[0] > 0 else (-first[0], -first[1])
    return (a, b % d), (0, d)


def _modulo(shift: Shift, lattice: tuple[Shift, Shift]) -> Shift:
    (a, b), (_, d) = lattice
    times = shift[0] // a
    return shift[0] - times * a, (shift[1] - times * b) % d


def _places(points: Floats, lattice: tuple[Shift, Shift]) -> Integers:
    """Number the points (K, 2). Points that a translation maps on each other get the same number."""
    (a, b), (_, d) = lattice
    first = points[:, 0] / a
    # First move the first coordinate into [0, 1), where a value near 1 counts as 0. This also moves the second one.
    whole = np.floor(first + SAME_POSITION / a)
    second = (points[:, 1] - whole * b - (first - whole) * b) / d
    one = planes(first - whole, 1.0, SAME_POSITION / a)[0]
    two, heights = planes(second, 1.0, SAME_POSITION / d)
    return np.asarray(one * len(heights) + two)
