"""Slices of a specimen along the beam: where each slice acts, how far the wave then travels, and which atoms it holds.

Equal slices are dz = L/n thick. The transmission of slice i acts at z = i·dz, and the wave then travels dz. The slice
holds the atoms with floor((z − z0)/dz) = i. The offset z0 decides only which atoms belong together. It puts the
boundaries where no atoms are. So neither rounding in a file nor thermal motion moves a plane of atoms to another slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BOUNDARY = 1e-6
"""Tolerance at slice boundaries, as a share of a slice. If no atoms are given, the offset is 0. Planes of a repeated
crystal may then lie on boundaries, up to rounding. With the tolerance, each belongs to the slice behind its boundary.
"""

NEAR = 0.1
"""If an atom is nearer to a boundary than this [Å], the boundaries move. The value is above the rounding of files and
about as large as thermal motion."""

NO_GAP = 0.05
"""Smallest width [Å] of a gap between neighbouring heights of atoms in which a boundary can lie. A
boundary in a narrower gap would cut a plane of atoms."""

_SAME_GAP = 0.01
"""Gaps that differ by less than this [Å] count as equally wide, so rounding in a file never chooses between them."""


@dataclass(frozen=True)
class Slices:
    """The slices of a cell, in the order of the beam.

    Attributes
    ----------
    faces : tuple of float
        Where the transmission of each slice acts [Å].
    thicknesses : tuple of float
        How far the wave travels behind each slice [Å]; 0 for the atoms of the exit surface.
    edges : tuple of float
        Slice i holds the atoms from edges[i] up to edges[i + 1] [Å]. Atoms before the first edge belong to the first
        slice, atoms behind the last one to the last.
    """

    faces: tuple[float, ...]
    thicknesses: tuple[float, ...]
    edges: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def depths(self) -> tuple[float, ...]:
        """Depth of the wave behind each slice [Å]. The next slice acts there."""
        return (*self.faces[1:], self.faces[-1] + self.thicknesses[-1])

    @property
    def usual_thickness(self) -> float:
        """The most frequent thickness of the slices [Å]. If several are equally frequent, the smallest."""
        values, counts = np.unique(np.array([t for t in self.thicknesses if t > 0] or [0.0]), return_counts=True)
        return float(values[np.argmax(counts)])

    @property
    def offset(self) -> float:
        """Offset z0 of the edges from the faces of slices of the usual thickness [Å]; NaN if it differs among them."""
        usual = [i for i, t in enumerate(self.thicknesses) if t == self.usual_thickness and i]
        offsets = np.array([self.edges[i] - self.faces[i] for i in usual] or [0.0])
        return float(offsets[0]) if np.ptp(offsets) < 1e-9 else float("nan")

    @property
    def equal(self) -> bool:
        """Whether all slices have the same thickness."""
        return len(set(self.thicknesses)) == 1

    def index(self, z: ArrayLike) -> NDArray[np.int64]:
        """Index of the slice that holds each atom; an atom on an edge belongs to the slice that begins there.

        No atom is ever lost. If thermal motion carries an atom out of the cell, it belongs to the first or last slice.

        Parameters
        ----------
        z : (N,) array_like
            Height of the atoms, 0 where the beam enters [Å].
        """
        # ASSUME: an atom scatters as a whole in the slice that holds its centre (infinite projection).
        tolerance = _BOUNDARY * self.usual_thickness
        inner = np.asarray(self.edges[1:], dtype=np.float64) - tolerance
        return np.searchsorted(inner, np.asarray(z, dtype=np.float64), side="right").astype(np.int64)

    def crowded_edges(self, heights: ArrayLike) -> tuple[float, ...]:
        """Edges with atoms closer than `NEAR` on both sides [Å]."""
        z = np.sort(np.asarray(heights, dtype=np.float64))
        edges = np.asarray(self.edges[1:], dtype=np.float64)
        here = np.searchsorted(z, edges - _BOUNDARY * self.usual_thickness)
        before = here - np.searchsorted(z, edges - NEAR)
        behind = np.searchsorted(z, edges + NEAR) - here
        return tuple(edges[(before > 0) & (behind > 0)].tolist())


def number_of_slices(length_z: float, thickness: float) -> int:
    """Number of equal slices that are at most `thickness` thick, ceil(Lz/t − 1e-6).

    Parameters
    ----------
    length_z : float
        Length Lz of the cell along the beam [Å].
    thickness : float
        Largest slice thickness t [Å]; the actual thickness is Lz divided by the number.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If a length is not a positive finite number.
    """
    for name, length in (("length of the cell along z", length_z), ("slice thickness", thickness)):
        if not (isfinite(length) and length > 0):
            raise ValueError(f"{name} = {length} Å: must be positive and finite")
    return max(1, ceil(length_z / thickness - _BOUNDARY))


def edge_offset(heights: ArrayLike, thickness: float) -> float | None:
    """Offset z0 of the boundaries z0 + i·dz from the faces i·dz [Å].

    Parameters
    ----------
    heights : (N,) array_like
        Heights of the undisplaced atoms above the first face [Å].
    thickness : float
        dz [Å].

    Returns
    -------
    float or None
        0 if no atom lies within `NEAR` of a boundary i·dz. Else the z0 in (−dz, 0) that maximises the smallest distance
        of any atom from a boundary. If several are equal, the nearest to 0. None if no gap is wider than `NO_GAP`,
        because any boundary then cuts a plane.
    """
    phase = np.unique(np.mod(np.asarray(heights, dtype=np.float64), thickness))
    if not phase.size:
        return 0.0
    if np.minimum(phase, thickness - phase).min() > NEAR:
        return 0.0
    gaps = np.diff(phase, append=phase[0] + thickness)
    widest = float(gaps.max())
    if widest <= NO_GAP:
        return None
    middles = np.mod((phase + 0.5 * gaps)[gaps >= widest - _SAME_GAP], thickness)
    return float(np.where(middles == 0, thickness, middles).max()) - thickness


@dataclass(frozen=True)
class Stretch:
    """A part of the cell with equal slices: its begin [Å], number and thickness [Å] of slices, offset of edges [Å]."""

    begin: float
    number: int
    thickness: float
    offset: float = 0.0

    @property
    def end(self) -> float:
        """Where the stretch ends [Å]."""
        return self.begin + self.number * self.thickness


def joined(stretches: Sequence[Stretch], heights: ArrayLike, length_z: float) -> Slices:
    """Join stretches of slices, which follow each other without a gap, to the slices of the cell.

    Atoms behind the last edge get a slice of their own. It acts at Lz, and the wave travels no further.

    Parameters
    ----------
    stretches : sequence of Stretch
    heights : (N,) array_like
        Heights of the undisplaced atoms [Å].
    length_z : float
        Lz [Å], where the last stretch ends.
    """
    faces: list[float] = []
    thicknesses: list[float] = []
    edges: list[float] = []
    before = 0.0
    for stretch in stretches:
        steps = [i * stretch.thickness for i in range(stretch.number)]
        faces += [stretch.begin + step for step in steps]
        thicknesses += [stretch.thickness] * stretch.number
        own = [stretch.begin + step + stretch.offset for step in steps]
        # Atoms behind the last edge of the previous stretch act at this face too.
        edges += [min(own[0], stretch.begin + before), *own[1:]]
        before = stretch.offset
    z = np.asarray(heights, dtype=np.float64)
    last_edge = length_z + before
    if before < 0 and (z >= last_edge).any():
        faces.append(length_z)
        thicknesses.append(0.0)
        edges.append(last_edge)
    return Slices(tuple(faces), tuple(thicknesses), tuple(edges))


def equal_slices(length_z: float, number: int, heights: ArrayLike = ()) -> Slices:
    """Equal slices of a whole cell with the offset that the undisplaced atoms need, see `edge_offset`.

    Parameters
    ----------
    length_z : float
        Lz [Å].
    number : int
        n.
    heights : (N,) array_like
        Heights of the undisplaced atoms [Å].
    """
    dz = length_z / number
    return joined([Stretch(0.0, number, dz, edge_offset(heights, dz) or 0.0)], heights, length_z)


def slices_between(boundaries: Sequence[float], heights: ArrayLike = ()) -> tuple[Slices, int]:
    """Slices between given boundaries, each with its own thickness.

    The transmission of a slice acts at its first boundary. Boundaries and coordinates in files are rounded. So a plane
    of atoms up to `NO_GAP` in front of a boundary belongs to the slice that begins at the boundary. The edge of this
    slice lies before the plane.

    Parameters
    ----------
    boundaries : sequence of float
        From 0 to Lz, ascending [Å].
    heights : (N,) array_like
        Heights of the undisplaced atoms [Å].

    Returns
    -------
    Slices
    int
        Number of boundaries with such a plane.
    """
    z = np.unique(np.asarray(heights, dtype=np.float64))
    gap_before = np.diff(z, prepend=-np.inf) > NO_GAP
    edges, moved = [float(boundaries[0])], 0
    for boundary in boundaries[1:]:
        first = int(np.searchsorted(z, boundary - NO_GAP))
        # Atoms of the same plane may lie more than `NO_GAP` in front of the boundary. Find the first of them.
        while 0 < first < len(z) and z[first] < boundary and not gap_before[first]:
            first -= 1
        if first < len(z) and boundary - 2 * NO_GAP < z[first] < boundary:
            below = z[first - 1] if first else -np.inf
            edges.append(float(z[first]) - min(NEAR, 0.5 * float(z[first] - below)))
            moved += 1
        else:
            edges.append(float(boundary))
    faces, ends = list(boundaries[:-1]), list(boundaries[1:])
    thicknesses = [end - face for face, end in zip(faces, ends, strict=True)]
    if (z >= edges[-1]).any():
        return Slices((*faces, boundaries[-1]), (*thicknesses, 0.0), tuple(edges)), moved
    return Slices(tuple(faces), tuple(thicknesses), tuple(edges[:-1])), moved


def slices_of_atoms(slice_id: NDArray[np.int64], heights: ArrayLike, length_z: float) -> Slices:
    """Slices that a file names for each atom. A slice acts at the mean z of its atoms; the first acts at the entrance.

    Parameters
    ----------
    slice_id : (N,) ndarray of int
        Slice of each atom, from 0; every number up to the largest occurs.
    heights : (N,) array_like
        Heights of the undisplaced atoms [Å].
    length_z : float
        Lz [Å].

    Raises
    ------
    ValueError
        A number is missing, or the slices do not follow each other along the beam. The message names the slice.
    """
    z = np.asarray(heights, dtype=np.float64)
    counts = np.bincount(slice_id)
    if not counts.all():
        raise ValueError(f"slice {int(np.argmin(counts))} holds no atom, and the largest number is {len(counts) - 1}")
    middle = np.bincount(slice_id, weights=z) / counts
    steps = np.diff(middle)
    if (steps <= NO_GAP).any():
        first = int(np.argmax(steps <= NO_GAP))
        raise ValueError(
            f"slice {first + 1} (mean z {middle[first + 1]:.4f} Å) does not lie behind slice {first} "
            f"({middle[first]:.4f} Å)"
        )
    number, dz = len(counts), length_z / len(counts)
    faces = middle - middle[0]
    edges = np.concatenate([[-np.inf], 0.5 * (middle[1:] + middle[:-1])])
    if np.abs(faces - dz * np.arange(number)).max() < _SAME_GAP:
        return Slices(tuple(i * dz for i in range(number)), (dz,) * number, tuple(edges.tolist()))
    thicknesses = np.diff(faces, append=length_z)
    return Slices(tuple(faces.tolist()), tuple(thicknesses.tolist()), tuple(edges.tolist()))


def wrap_positions(positions: ArrayLike, cell: ArrayLike) -> NDArray[np.float64]:
    """Positions of the atoms with x and y inside the periodic cell; z is not periodic and stays as it is.

    Parameters
    ----------
    positions : (N, 3) array_like
        Positions [Å].
    cell : (3,) array_like
        Lengths (Lx, Ly, Lz) of the orthogonal cell [Å].

    Returns
    -------
    (N, 3) ndarray
        x in [0, Lx), y in [0, Ly).

    Raises
    ------
    ValueError
        If a coordinate is not finite.
    """
    lengths = np.asarray(cell, dtype=np.float64)
    wrapped = np.array(positions, dtype=np.float64).reshape(-1, 3)
    lost = ~np.isfinite(wrapped).all(axis=1)
    if lost.any():
        atom = int(np.argmax(lost))
        raise ValueError(f"atom {atom}: its position {tuple(wrapped[atom].tolist())} Å is not finite")

    for axis in (0, 1):
        inside = np.mod(wrapped[:, axis], lengths[axis])
        # np.mod rounds −1e-20 up to the length itself, which is the same position as 0.
        inside[inside >= lengths[axis]] = 0.0
        wrapped[:, axis] = inside
    return wrapped
