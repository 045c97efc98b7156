"""Convert the mean square displacements of crystallography to Cartesian ⟨u_x²⟩ [Å²].

Source: R. T. Downs, Rev. Mineral. Geochem. 41 (2000) 61; International Tables D, section 1.9.
"""

from __future__ import annotations

import numpy as np

from stemphony.specimen.lattice import Floats

B_PER_U = 8 * np.pi**2
"""B divided by U: B = 8π² U."""


def from_b(b: Floats) -> Floats:
    """Convert `b`, B [Å²], to U [Å²]: U = B / 8π². The shape stays."""
    return np.asarray(b) / B_PER_U


def symmetric(u11: Floats, u22: Floats, u33: Floats, u12: Floats, u13: Floats, u23: Floats) -> Floats:
    """Make tensors (N, 3, 3) from their components `u11`, `u22`, `u33`, `u12`, `u13` and `u23`, (N,) each."""
    rows = ((u11, u12, u13), (u12, u22, u23), (u13, u23, u33))
    return np.stack([np.stack([np.asarray(value, dtype=float) for value in row], axis=-1) for row in rows], axis=-2)


def cartesian(u: Floats, cell: Floats) -> Floats:
    """Convert U^{ij} in the basis a* a, b* b, c* c, as in CIF, to Cartesian tensors: U_c = A N U Nᵀ Aᵀ.

    A has the edges a, b, c as columns, N is the diagonal of the lengths a*, b*, c*.

    Parameters
    ----------
    u : (N, 3, 3) array
        [Å²].
    cell : (3, 3) array
        Edges as rows [Å].

    Returns
    -------
    (N, 3, 3) array
        Cartesian tensors, in the unit of `u`.
    """
    edges = np.asarray(cell, dtype=float).T * reciprocal_lengths(cell)
    return np.einsum("ik,nkl,jl->nij", edges, u, edges)


def from_beta(beta: Floats, cell: Floats) -> Floats:
    """Convert β^{ij} (no unit) to U^{ij} [Å²]: β^{ij} = 2π² a*_i a*_j U^{ij}.

    `beta` and the result have the shape (N, 3, 3); `cell` has the edges as rows [Å].
    """
    lengths = reciprocal_lengths(cell)
    return np.asarray(beta) / (2 * np.pi**2 * np.outer(lengths, lengths))


def reciprocal_lengths(cell: Floats) -> Floats:
    """Lengths a*, b*, c* [1/Å] of the reciprocal edges of a cell with edges as rows [Å]."""
    return np.asarray(np.linalg.norm(np.linalg.inv(np.asarray(cell, dtype=float)), axis=0))


def turned(u: Floats, rotations: Floats) -> Floats:
    """Tensors `u` (N, 3, 3) of images under Cartesian `rotations` (N, 3, 3), one per tensor: U' = R U Rᵀ."""
    return np.einsum("nik,nkl,njl->nij", rotations, u, rotations)


def equivalent(u: Floats) -> Floats:
    """U_eq = trace/3 [Å²], (N,), of the Cartesian tensors `u` (N, 3, 3) [Å²]."""
    return np.asarray(np.trace(u, axis1=1, axis2=2) / 3)
