"""Cutting a specimen into slices along the beam: which atom belongs to which slice."""

from __future__ import annotations

from math import ceil, isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BOUNDARY = 1e-6
"""Tolerance at slice boundaries, as a share of a slice. Atomic planes of a repeated crystal lie on slice boundaries up
to rounding, and this tolerance decides for all of them alike."""

_ALLOWED_OUTSIDE = 1.0
"""Largest distance of an atom outside the cell along z that is moved onto the surface [Å]: more than thermal motion,
less than a wrong cell."""


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


def slice_indices(z: ArrayLike, length_z: float, number_of_slices: int) -> NDArray[np.int64]:
    """Index of the slice that each atom belongs to, clip(floor(z/dz + 1e-6), 0, n − 1).

    An atom on a boundary belongs to the slice that begins there. No atom is ever lost.

    Parameters
    ----------
    z : (N,) array_like
        Height of the atoms, 0 where the beam enters [Å].
    length_z : float
        Length of the cell along the beam [Å].
    number_of_slices : int
        Number n of equal slices.

    Returns
    -------
    (N,) ndarray of int
    """
    # ASSUME: an atom scatters as a whole in the slice that holds its centre (infinite projection).
    thickness = length_z / number_of_slices
    index = np.floor(np.asarray(z, dtype=np.float64) / thickness + _BOUNDARY)
    return np.clip(index, 0, number_of_slices - 1).astype(np.int64)


def wrap_positions(positions: ArrayLike, cell: ArrayLike) -> NDArray[np.float64]:
    """Positions of the atoms inside the cell: x and y are periodic, z is not.

    Parameters
    ----------
    positions : (N, 3) array_like
        Positions [Å].
    cell : (3,) array_like
        Lengths (Lx, Ly, Lz) of the orthogonal cell [Å].

    Returns
    -------
    (N, 3) ndarray
        x in [0, Lx), y in [0, Ly), z in [0, Lz]: atoms up to 1 Å outside are moved onto the surface.

    Raises
    ------
    ValueError
        If an atom lies farther outside along z (the message names it), or a coordinate is not finite.
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

    z = wrapped[:, 2]
    outside = np.maximum(-z, z - lengths[2])
    if outside.size and outside.max() > _ALLOWED_OUTSIDE:
        atom = int(np.argmax(outside))
        raise ValueError(
            f"atom {atom}: z = {z[atom]:.4f} Å lies {outside[atom]:.4f} Å outside the cell "
            f"(0 to {lengths[2]:.4f} Å); z is not periodic, and at most {_ALLOWED_OUTSIDE:g} Å is moved onto "
            "the surface. Shift the atoms or lengthen the cell."
        )
    np.clip(z, 0.0, lengths[2], out=z)
    return wrapped
