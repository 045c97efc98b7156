"""The primitive lattice of a structure: its shortest translations, and its edges without the rounding of a file."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.specimen.lattice import Floats
from stemphony.specimen.structure import Structure

SAME_SITE = 1e-4
"""Largest distance [Å] between an atom and the image of an equal atom under a translation. Files with four digits stay
within this distance."""
MOST_SITES = 5000
"""Largest number of sites for which translations are searched. The time of the search grows with its square."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """The primitive lattice of a structure.

    Attributes
    ----------
    cell : (3, 3) array
        Primitive edges as rows [Å], right-handed, in the axes of the file.
    ideal_cell : (3, 3) array
        The same edges, with exactly the metric that the symmetry of the crystal requires, in their own axes.
    index : (3, 3) array of int
        The edges of the file in units of the primitive edges.
    atoms : (N,) array of int
        Atoms of the file that make up one primitive cell.
    note : str
        Why translations shorter than the edges of the file were not searched; empty if they were searched.
    """

    cell: Floats
    ideal_cell: Floats
    index: NDArray[np.int64]
    atoms: NDArray[np.intp]
    note: str = ""


def primitive_lattice(structure: Structure) -> Lattice:
    """Find the primitive lattice of a structure with spglib. Elements, occupancies, U and charges must repeat.

    spglib finds translations and rotations within `SAME_SITE`. Translations are rounded to the fractions that the cell
    of the file allows, so a smaller cell repeats exactly. The metric G (Gᵢⱼ = aᵢ·aⱼ) of the edges of the file is
    averaged over the rotations W: G' = ⟨Wᵀ G W⟩. This removes the rounding of the file from right and equal angles.
    Source: Togo, Shinohara & Tanaka, Sci. Technol. Adv. Mater. Meth. 4 (2024) 2384822 (spglib).

    A structure keeps its cell if it has more than `MOST_SITES` sites, or if sites of one disorder assembly lie apart.
    Then the metric is averaged over the symmetry of the lattice alone.
    """
    site = _joint_sites(structure)
    own = np.eye(3, dtype=np.int64) * int(np.sign(np.linalg.det(structure.cell)))
    everything = np.arange(len(structure.symbols))
    representatives = np.unique(site) if site is not None else everything
    if site is None or len(representatives) > MOST_SITES:
        dataset = _dataset(structure.cell, np.zeros((1, 3)), np.ones(1, dtype=np.intc))
        why = "sites of one disorder assembly lie apart" if site is None else f"it has more than {MOST_SITES:,} sites"
        return replace(_lattice(structure.cell, own, dataset, everything), note=f"as {why}")
    kinds = _kinds(structure, site)
    _, numbers = np.unique([kinds[i] for i in representatives.tolist()], return_inverse=True)
    dataset = _dataset(structure.cell, structure.positions[representatives], numbers + 1)
    if dataset is None:
        return _lattice(structure.cell, own, None, everything)
    found = np.asarray(dataset.primitive_lattice, dtype=float)
    found = found * np.sign(np.linalg.det(found))
    index = np.rint(structure.cell @ np.linalg.inv(found)).astype(np.int64)
    copies = abs(round(float(np.linalg.det(index))))
    _, first, inverse, count = np.unique(
        np.asarray(dataset.mapping_to_primitive), return_index=True, return_inverse=True, return_counts=True
    )
    misfit = float(np.abs(structure.cell - index @ found).max())
    alike = _same_tensors(structure, site, representatives, representatives[first][inverse.ravel()])
    if copies < 2 or (count != copies).any() or misfit > 10 * SAME_SITE or not alike:
        return _lattice(structure.cell, own, dataset, everything)
    return _lattice(structure.cell, index, dataset, np.flatnonzero(np.isin(site, representatives[first])))


def _lattice(cell: Floats, index: NDArray[np.int64], dataset: Any, atoms: NDArray[np.intp]) -> Lattice:
    metric = cell @ cell.T
    if dataset is not None:
        metric = np.mean([w.T @ metric @ w for w in np.unique(dataset.rotations, axis=0)], axis=0)
    # The edges from Cholesky are right-handed. The inverted edges have the same metric.
    ideal = np.linalg.cholesky(metric) * np.sign(np.linalg.det(cell))
    whole = index.astype(float)
    return Lattice(np.linalg.solve(whole, cell), np.linalg.solve(whole, ideal), index, atoms)


def _dataset(cell: Floats, positions: Floats, numbers: NDArray[Any]) -> Any:
    """The dataset of spglib; None if spglib finds no symmetry, for example because atoms lie on each other."""
    import spglib

    sites: Any = (cell, positions @ np.linalg.inv(cell), numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return spglib.get_symmetry_dataset(sites, symprec=SAME_SITE)
        except spglib.SpglibError:
            return None


def _joint_sites(structure: Structure) -> NDArray[np.intp] | None:
    """For each atom, the first atom of its disorder assembly; None if atoms of one assembly lie apart."""
    site = np.arange(len(structure.symbols))
    if structure.disorder is None:
        return site
    joint = np.flatnonzero(structure.disorder >= 0)
    _, first, inverse = np.unique(structure.disorder[joint], return_index=True, return_inverse=True)
    site[joint] = joint[first][inverse]
    if np.abs(structure.positions - structure.positions[site]).max(initial=0.0) > SAME_SITE:
        return None
    return site


def _same_tensors(
    structure: Structure, site: NDArray[np.intp], atoms: NDArray[np.intp], others: NDArray[np.intp]
) -> bool:
    """Whether atoms that a translation maps on each other have equal tensors U. `_kinds` compares only their traces.

    All atoms of a joint site count, in the order of their kinds, which are equal.
    """
    if structure.u_aniso is None:
        return True
    words = _kinds(structure, np.arange(len(site)))
    order = np.lexsort((np.array(words), site))  # the atoms of each site side by side
    start = np.searchsorted(site[order], atoms)
    other = np.searchsorted(site[order], others)
    size = np.bincount(site, minlength=len(site))
    if (size[atoms] != size[others]).any():
        return False
    pairs = [
        (order[start[size[atoms] > k] + k], order[other[size[atoms] > k] + k]) for k in range(int(size[atoms].max()))
    ]
    tensors = structure.u_aniso
    return all(np.allclose(tensors[one], tensors[two], rtol=0, atol=1e-6, equal_nan=True) for one, two in pairs)


def _kinds(structure: Structure, site: NDArray[np.intp]) -> list[str]:
    """A word for the kind of each atom. If several atoms share a site, the word of the first one names all of them."""
    columns = [np.asarray(structure.symbols)]
    trace = None if structure.u_aniso is None else np.trace(structure.u_aniso, axis1=1, axis2=2)
    for values in (structure.occupancy, structure.u_iso, trace, structure.charge, structure.slice_id):
        if values is not None:
            columns.append(np.round(np.asarray(values, dtype=float), 6).astype(str))
    words = [" ".join(row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    joint = list(words)
    for i in np.flatnonzero(site != np.arange(len(site))).tolist():
        first = int(site[i])
        joint[first] = " + ".join(sorted([*joint[first].split(" + "), words[i]]))
    return joint
