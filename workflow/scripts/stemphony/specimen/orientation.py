"""Orientation of the crystal: find the orthogonal cell whose edges lie along x, y and the beam.

A microscopist names a zone axis [uvw] and a direction `up` that points up in the image. They define the axes:

    z = −[uvw]        the beam travels along +z, so the zone axis points back to the electron source
    y = projection of `up` on the image plane,        x = y × z

All transformations are proper rotations: a left-handed crystal stays left-handed. Cells are rows of edges [Å].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from stemphony.specimen.lattice import Floats

EXACT_STRAIN = 1e-8
"""Largest principal strain of a cell, on the symmetrised lattice, that counts as exactly orthogonal."""
EXACT_EDGE = 200.0
"""Longest edge [Å] of an exact cell that is tried. A longer cell has too many atoms for a simulation."""
STRAINED_EDGE = 80.0
"""Longest edge [Å] of a strained cell that is tried. Among longer edges, almost any strain occurs by chance."""
STRAINED_VECTORS = 1200
"""Number of lattice vectors, the shortest ones, that are tried as edges of a strained cell. They make about 10⁶ pairs,
which take less than a second."""
LARGEST_STRAIN = 0.1
"""Largest principal strain of a candidate that is listed."""
LISTED = 3
"""Most candidates that a refusal lists: enough to choose from, and few enough to read."""


@dataclass(frozen=True, eq=False)
class Orientation:
    """Orientation of the cell of the specimen in the lattice of the structure file.

    Attributes
    ----------
    rows : (3, 3) array
        Edges along x, y and z in units of the edges a, b, c of the file. They are fractions if that cell is centred.
    lengths : (3,) array
        Length of these edges [Å].
    strain : (3, 3) array or None
        ε in the axes x, y, z that makes the edges orthogonal: r' = (1 + ε) r, symmetric, without rotation. None if
        there is no strain.
    hexagonal : bool
        Whether directions are also written with four indices.
    """

    rows: Floats
    lengths: Floats
    strain: Floats | None = None
    hexagonal: bool = False

    def direction(self, axis: int) -> str:
        """Lattice direction, in the cell of the file, along an axis of the specimen: `[1 -1 0]`."""
        integers = whole_direction(self.rows[axis])
        return written(four_indices(integers) if self.hexagonal else integers)

    def __str__(self) -> str:
        """The three directions in words."""
        return f"x along {self.direction(0)}, y along {self.direction(1)}, beam along {self.direction(2)}"

    def recorded(self) -> str:
        """The three directions and the strain in words, for files."""
        return str(self) if self.strain is None else f"{self}; strain {self.strain_text()}"

    @property
    def largest_strain(self) -> float:
        """Largest principal strain, |ε|."""
        return 0.0 if self.strain is None else float(np.abs(np.linalg.eigvalsh(self.strain)).max())

    def strain_text(self) -> str:
        """Components of ε as text, in the order of Voigt."""
        if self.strain is None:
            return "none"
        names = (("xx", 0, 0), ("yy", 1, 1), ("zz", 2, 2), ("yz", 1, 2), ("xz", 0, 2), ("xy", 0, 1))
        return ", ".join(f"{name} {_percent(self.strain[i, j])}" for name, i, j in names) + " %"


def _percent(strain: float) -> str:
    """A strain in per cent, to four digits. A value that is zero up to rounding is 0."""
    return "0" if abs(strain) < 1e-12 else f"{100 * strain:.4g}"


@dataclass(frozen=True, eq=False)
class Candidate:
    """An orthogonal cell for a zone axis.

    Attributes
    ----------
    matrix : (3, 3) array of int
        Edges along x, y, z in units of the primitive lattice; right-handed.
    cells : int
        Volume in primitive cells.
    strain : float
        Largest principal strain that makes the cell orthogonal.
    """

    matrix: NDArray[np.int64]
    cells: int
    strain: float


def three_indices(direction: Sequence[int]) -> tuple[int, int, int]:
    """Convert three or, for a hexagonal lattice, four indices to [uvw]: u = U − T, v = V − T, w = W.

    Raises
    ------
    ValueError
        The first three of four indices do not sum to 0, or the direction is [0 0 0].
    """
    values = [int(n) for n in direction]
    if len(values) == 4:
        first, second, third, fourth = values
        if first + second + third != 0:
            raise ValueError(
                f"got {written(values)}; the first three of four indices sum to 0, here to {first + second + third}"
            )
        values = [first - third, second - third, fourth]
    if not any(values):
        raise ValueError(f"got {written(direction)}, which is no direction")
    divisor = math.gcd(*values)
    return values[0] // divisor, values[1] // divisor, values[2] // divisor


def four_indices(direction: Sequence[int]) -> tuple[int, ...]:
    """Smallest [UVTW] of a direction [uvw] of a hexagonal lattice: U = (2u − v)/3, V = (2v − u)/3, T = −U − V."""
    u, v, w = (int(n) for n in direction)
    values = (2 * u - v, 2 * v - u, -u - v, 3 * w)
    divisor = math.gcd(*values)
    return tuple(n // divisor for n in values)


def whole_direction(row: Sequence[float] | Floats) -> tuple[int, ...]:
    """Smallest integers along a row of fractions with small denominators."""
    parts = [Fraction(float(value)).limit_denominator(1000) for value in row]
    common = math.lcm(*(part.denominator for part in parts))
    integers = [int(part * common) for part in parts]
    divisor = math.gcd(*integers) or 1
    return tuple(n // divisor for n in integers)


def written(direction: Sequence[int]) -> str:
    """A direction as text: `[1 -1 0]`."""
    return "[" + " ".join(str(int(n)) for n in direction) + "]"


def principal_strain(cosines: Floats) -> Floats:
    """Largest principal strain that makes three edges orthogonal and keeps their lengths.

    With unit edges as rows of N, the right stretch is S = (N Nᵀ)^(−1/2). So the principal strains are λ^(−1/2) − 1 with
    the eigenvalues λ of N Nᵀ. For the polar decomposition see Bhatia, Matrix Analysis (1997), ch. I.

    Parameters
    ----------
    cosines : (..., 3) array
        Cosines of the angles between edges 1 and 2, 1 and 3, 2 and 3.

    Returns
    -------
    (...) array; infinite for edges in one plane.
    """
    matrix = np.ones((*cosines.shape[:-1], 3, 3))
    for k, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
        matrix[..., i, j] = matrix[..., j, i] = cosines[..., k]
    values = np.linalg.eigvalsh(matrix)
    with np.errstate(divide="ignore"):
        return np.abs(1.0 / np.sqrt(np.maximum(values, 0.0)) - 1.0).max(axis=-1)


def stretch(edges: Floats) -> tuple[Floats, Floats]:
    """Rotation R and strain ε, (3, 3) each, that turn edges to x, y, z and keep their lengths: r' = (r R)(1 + ε).

    With the `edges` V (3, 3), which are rows [Å], and their lengths D (diagonal), the polar decomposition of F = V⁻¹ D
    is F = R S with S symmetric and positive. The edges must be right-handed, so that R is a proper rotation.
    """
    deformation = np.linalg.inv(edges) @ np.diag(np.linalg.norm(edges, axis=1))
    left, values, right = np.linalg.svd(deformation)
    return left @ right, (right.T * (values - 1.0)) @ right


@dataclass(frozen=True, eq=False)
class _Edges:
    """Lattice vectors that may be edges of the image cell; the shortest projection comes first.

    Attributes
    ----------
    integers : (N, 3) array of int
        Vectors in units of the edges of the lattice.
    vectors : (N, 3) array
        The same vectors [Å].
    tilt : (N,) array
        Cosine of the angle to the zone axis; 0 in the image plane.
    """

    integers: NDArray[np.int64]
    vectors: Floats
    tilt: Floats

    @property
    def units(self) -> Floats:
        """Unit vectors."""
        return np.asarray(self.vectors / np.linalg.norm(self.vectors, axis=1)[:, None])

    def chosen(self, which: NDArray[np.bool_] | slice) -> _Edges:
        return _Edges(self.integers[which], self.vectors[which], self.tilt[which])


@dataclass(frozen=True, eq=False)
class View:
    """The search for orthogonal cells: a lattice, seen along a zone axis.

    Attributes
    ----------
    cell : (3, 3) array
        Primitive edges of the lattice as rows [Å], right-handed and symmetrised. If symmetry makes several cells equal,
        they are all exact, or none is.
    zone : (3,) array of int
        Zone axis in units of these edges.
    upward : (3,) array
        Direction [Å] whose projection should point along +y.
    up : (3,) array of int or None
        The same direction in units of `cell`, if y must lie along its projection. None: y is the edge of the smallest
        cell that is nearest to `upward`.
    """

    cell: Floats
    zone: NDArray[np.int64]
    upward: Floats
    up: NDArray[np.int64] | None = None

    def candidates(self) -> list[Candidate]:
        """The smallest exact cell; or strained cells of growing size, each with less strain than all smaller cells."""
        exact = self._exact(self._edges(EXACT_EDGE))
        return [exact] if exact is not None else self._strained(self._edges(STRAINED_EDGE))

    def _edges(self, longest: float) -> _Edges:
        """Lattice vectors, nearly in the image plane, whose projections are at most `longest` [Å]."""
        beam = self.zone @ self.cell
        period = float(np.linalg.norm(beam))
        axis = beam / period
        first, second = self._flattest(_completed(self.zone)[:2])
        while True:  # Gauss's reduction of the two projections
            if np.linalg.norm(self._projected(first)) > np.linalg.norm(self._projected(second)):
                first, second = second, first
            short = self._projected(first)
            share = float(short @ self._projected(second) / (short @ short))
            if abs(share) <= 0.5 + 1e-9:  # without the margin, rounding at one half could make the loop endless
                break
            second = second - round(share) * first
        short, long = self._projected(first), self._projected(second)
        height = float(np.linalg.norm(long - (long @ short) / (short @ short) * short))
        # A reduced pair obeys |i·short + j·long| ≥ √¾·|i|·|short|.
        most = int(longest / (0.86 * np.linalg.norm(short))) + 1, int(longest / height) + 1
        grid = np.meshgrid(np.arange(-most[0], most[0] + 1), np.arange(most[1] + 1), indexing="ij")
        i, j = grid[0].ravel(), grid[1].ravel()
        # Keep one direction of each pair ±v. Multiples of an edge stay: they can be flatter, at the same angle.
        half = (j > 0) | (i > 0)
        i, j = i[half], j[half]
        lengths = np.linalg.norm(i[:, None] * short + j[:, None] * long, axis=1)
        near = np.flatnonzero(lengths <= longest)
        near = near[np.argsort(lengths[near], kind="stable")]
        integers = self._flattest(i[near, None] * first + j[near, None] * second)
        vectors = integers @ self.cell
        return _Edges(integers, vectors, (vectors @ axis) / np.linalg.norm(vectors, axis=1))

    def _flattest(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same vectors minus whole periods of the zone axis, so that they are nearly perpendicular to it."""
        beam = self.zone @ self.cell
        periods = np.rint((rows @ self.cell) @ beam / (beam @ beam)).astype(np.int64)
        return rows - periods[:, None] * self.zone

    def _projected(self, row: NDArray[np.int64]) -> Floats:
        beam, vector = self.zone @ self.cell, row @ self.cell
        return np.asarray(vector - (vector @ beam) / (beam @ beam) * beam)

    def _along_up(self, edges: _Edges) -> NDArray[np.bool_]:
        """Which edges project on the line of `up`: those in the plane of `up` and the zone axis."""
        if self.up is None:
            return np.ones(len(edges.integers), dtype=bool)
        return np.asarray(np.cross(np.broadcast_to(self.up, edges.integers.shape), edges.integers) @ self.zone == 0)

    def _exact(self, edges: _Edges) -> Candidate | None:
        """The smallest cell whose edges are at right angles, or None."""
        flat = edges.chosen(np.abs(edges.tilt) < EXACT_STRAIN)
        lengths = np.linalg.norm(flat.vectors, axis=1)
        units = flat.vectors / lengths[:, None]
        firsts = np.flatnonzero(self._along_up(flat))
        found: list[Candidate] = []
        smallest = math.inf
        for first in firsts if self.up is None else firsts[:1]:
            if lengths[first] ** 2 > smallest * (1 + 1e-9) and self.up is None:
                break  # the other edge would be shorter, so this pair was tried before
            partners = np.flatnonzero(np.abs(units @ units[first]) < EXACT_STRAIN)
            if not len(partners):
                continue
            second = partners[np.argmin(lengths[partners])]
            area = float(lengths[first] * lengths[second])
            if area <= smallest * (1 + 1e-9):
                smallest = area
                found.append(self._candidate(flat.integers[first], flat.integers[second], 0.0))
        return min(found, key=lambda one: (one.cells, self._preference(one)), default=None)

    def _strained(self, edges: _Edges) -> list[Candidate]:
        tilted = edges.chosen(np.abs(edges.tilt) < 2 * LARGEST_STRAIN)
        others = tilted.chosen(slice(STRAINED_VECTORS))
        uprights = (others if self.up is None else tilted).chosen(self._along_up(others if self.up is None else tilted))
        cosines = uprights.units @ others.units.T
        i, j = np.nonzero(np.abs(cosines) < 2 * LARGEST_STRAIN)
        strain = principal_strain(np.stack([cosines[i, j], uprights.tilt[i], others.tilt[j]], axis=-1))
        cells = np.abs(np.cross(uprights.integers[i], others.integers[j]) @ self.zone)
        kept = np.flatnonzero((strain <= LARGEST_STRAIN) & (cells > 0))
        front: list[Candidate] = []
        least = math.inf
        for k in kept[np.lexsort((strain[kept], cells[kept]))]:
            if strain[k] < 0.999 * least:
                least = float(strain[k])
                front.append(self._candidate(uprights.integers[i[k]], others.integers[j[k]], least))
        return front

    def _candidate(self, first: NDArray[np.int64], second: NDArray[np.int64], strain: float) -> Candidate:
        """The right-handed cell of two image edges. y is `first` if `up` is given, else the more upright edge."""

        def upright(row: NDArray[np.int64]) -> float:
            vector = row @ self.cell
            return float(vector @ self.upward / np.linalg.norm(vector))

        if self.up is None and abs(upright(second)) > abs(upright(first)) + 1e-9:
            first, second = second, first
        matrix = np.array([second, first if upright(first) >= 0 else -first, -self.zone], dtype=np.int64)
        volume = round(float(np.linalg.det(matrix)))
        if volume < 0:
            matrix[0] *= -1
        return Candidate(matrix, abs(volume), strain)

    def _preference(self, candidate: Candidate) -> tuple[float, float, int, list[int]]:
        """Key to sort cells of equal size: the squarest first, then the most upright, then the smallest integers."""
        edges = candidate.matrix @ self.cell
        x, y, _ = np.linalg.norm(edges, axis=1)
        tilt = -float(edges[1] @ self.upward) / y / float(np.linalg.norm(self.upward))
        size = int(np.abs(candidate.matrix).sum())
        return round(abs(math.log(x / y)), 6), round(tilt, 6), size, (-candidate.matrix).ravel().tolist()


def _completed(zone: NDArray[np.int64]) -> NDArray[np.int64]:
    """A basis of all integer vectors, as rows. Its last row is `zone`, whose greatest common divisor is 1."""
    rest = [int(n) for n in zone]
    operations = [[int(i == j) for j in range(3)] for i in range(3)]
    while sum(n != 0 for n in rest) > 1:
        pivot = min((i for i in range(3) if rest[i]), key=lambda i: abs(rest[i]))
        for i in range(3):
            if i != pivot and rest[i]:
                factor = rest[i] // rest[pivot]
                rest[i] -= factor * rest[pivot]
                operations[i] = [a - factor * b for a, b in zip(operations[i], operations[pivot], strict=True)]
    # operations · zone is ±1 at the pivot and 0 elsewhere. So this column of the inverse is zone, up to the sign.
    pivot = next(i for i in range(3) if rest[i])
    rows = np.rint(np.linalg.inv(np.array(operations, dtype=float))).astype(np.int64).T
    return np.array([*(rows[i] for i in range(3) if i != pivot), zone], dtype=np.int64)
