"""Find the atoms of a cell that exclude each other: on shared sites and in groups of a disorder assembly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import SpecimenError
from stemphony.specimen.assemblies import EXCESS
from stemphony.specimen.cif_sites import Sites
from stemphony.specimen.joint_sites import CLOSEST, require_few_pairs
from stemphony.specimen.lattice import Floats
from stemphony.specimen.orbits import SiteOrbits
from stemphony.specimen.structure import Structure

SHARED = 0.1
"""Largest distance of atoms of different lines that share one site [Å]. No two atoms come so close."""
MOST_COMPARED = 1_000_000
"""Most images that `lists_every_image` compares, to limit its time. No cell of a crystal has more."""

Integers = NDArray[np.int64]


def exclusive_sites(
    file: Path, sites: Sites, found: SiteOrbits, positions: Floats, cell: Floats
) -> tuple[Integers | None, Integers | None]:
    """Number the sets of sites that exclude each other, and the groups that are present together; None without any.

    Parameters
    ----------
    file : Path
        Structure file, for messages.
    sites, found : Sites, SiteOrbits
        The listed sites, and their N images.
    positions : (N, 3) array
        Positions of all images of the sites [Å].
    cell : (3, 3) array
        Edges as rows [Å].

    Returns
    -------
    (N,) arrays of int, or None
        The set of each image, −1 outside of all sets, and its group in this set.

    Raises
    ------
    SpecimenError
        Two lines put whole atoms on one place, or the occupancies of one site exceed 1 together.
    """
    shared = _shared(file, sites, found, positions, cell)
    disorder = np.full(len(positions), -1)
    group = np.full(len(positions), -1)
    number = 0
    for members in shared:
        disorder[members] = number
        group[members] = np.arange(len(members))
        number += 1
    if any(sites.group):
        number = _assemblies(sites, found, disorder, group, number)
    return (disorder, group) if number else (None, None)


def _shared(file: Path, sites: Sites, found: SiteOrbits, positions: Floats, cell: Floats) -> list[list[int]]:
    """Lists of atoms of different lines that lie on one place."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    pairs = _close_pairs(found.fractions, cell)
    pairs = pairs[found.site[pairs[:, 0]] != found.site[pairs[:, 1]]] if len(pairs) else pairs
    occupancy = sites.occupancy[found.site]
    # Alternatives of one assembly may have any distance, because their groups say how they exclude each other.
    apart = np.array([sites.group[s] for s in found.site])
    pairs = pairs[~((apart[pairs[:, 0]] != "") & (apart[pairs[:, 1]] != ""))] if len(pairs) else pairs
    whole = np.flatnonzero((occupancy[pairs] == 1).any(axis=1)) if len(pairs) else np.empty(0, dtype=int)
    if len(whole):
        first, second = sorted(int(found.site[i]) for i in pairs[whole[0]])
        also = ""
        if found.operation.any():  # not P 1
            also = " If the file lists all atoms of its cell, give it the symmetry P 1 with the operation x,y,z alone."
        raise SpecimenError(
            file,
            f"site {sites.labels[second]} is the same position as site {sites.labels[first]}, and their occupancies "
            f"exceed 1 together: keep one line per atom, or correct the occupancies.{also}",
        )
    if not len(pairs):
        return []
    count = len(positions)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    members: dict[int, list[int]] = {}
    for atom in np.unique(pairs):
        members.setdefault(int(labels[atom]), []).append(int(atom))
    for atoms in members.values():
        total = float(occupancy[atoms].sum())
        if total > 1 + EXCESS:
            names = ", ".join(sites.labels[found.site[i]] for i in atoms)
            raise SpecimenError(
                file,
                f"the occupancies of {names}, which share one site, are {total:.3f} together; at most 1 is possible. "
                "Correct _atom_site_occupancy.",
            )
    return list(members.values())


def lists_every_image(sites: Sites, rotations: Integers, translations: Floats, cell: Floats) -> bool:
    """Whether the operations map the listed `sites` on each other, so that no image is missing in the list.

    This holds if the sites are on different places, and each image lies on a site of the same element and occupancy.

    The operations are x' = R x + t in fractions, with `rotations` (M, 3, 3) and `translations` (M, 3); `cell` has the
    edges as rows [Å].
    """
    from scipy.spatial import cKDTree

    count = len(sites.fractions)
    if len(rotations) == 1 or count * len(rotations) > MOST_COMPARED or len(_close_pairs(sites.fractions, cell)):
        return False
    kinds = np.unique(sites.symbols, return_inverse=True)[1].ravel()
    inside = np.where(sites.fractions % 1.0 >= 1.0, 0.0, sites.fractions % 1.0)
    tree = cKDTree(inside, boxsize=1.0)
    for rotation, translation in zip(rotations, translations, strict=True):
        images = (sites.fractions @ rotation.T + translation) % 1.0
        images = np.where(images >= 1.0, 0.0, images)
        nearest = tree.query(images)[1]
        difference = images - inside[nearest]
        difference -= np.rint(difference)
        if (np.linalg.norm(difference @ cell, axis=1) > SHARED).any():
            return False
        if (kinds[nearest] != kinds).any() or (sites.occupancy[nearest] != sites.occupancy).any():
            return False
    return True


def overlapping(structure: Structure) -> bool:
    """Whether two whole atoms of a periodic `structure` are closer than atoms can be.

    Raises
    ------
    MemoryError
        There are too many pairs of atoms, see `require_few_pairs`.
    """
    whole = np.arange(len(structure.symbols))
    if structure.occupancy is not None:
        whole = np.flatnonzero(structure.occupancy == 1)
    fractions = structure.positions[whole] @ np.linalg.inv(structure.cell)
    return len(_close_pairs(fractions, structure.cell, CLOSEST)) > 0


def _close_pairs(fractions: Floats, cell: Floats, distance: float = SHARED) -> Integers:
    """Pairs of atoms closer than `distance` [Å], periodic."""
    from scipy.spatial import cKDTree

    # In fractions the box is a cube. Along an axis, a distance d is at most d times the length of the reciprocal edge.
    reach = distance * float(np.linalg.norm(np.linalg.inv(cell), axis=0).max()) * np.sqrt(3)
    inside = np.where(fractions % 1.0 >= 1.0, 0.0, fractions % 1.0)
    tree, reach = cKDTree(inside, boxsize=1.0), min(reach, 0.49)
    require_few_pairs(inside, reach)
    pairs = tree.query_pairs(reach, output_type="ndarray")
    difference = inside[pairs[:, 0]] - inside[pairs[:, 1]]
    difference -= np.rint(difference)
    return np.asarray(pairs[np.linalg.norm(difference @ cell, axis=1) < distance], dtype=np.int64).reshape(-1, 2)


def _assemblies(sites: Sites, found: SiteOrbits, disorder: Integers, group: Integers, number: int) -> int:
    """Number the images of each assembly. One operation makes one image. Operations with a common atom share it."""
    key: dict[tuple[str, int], int] = {}
    parent: dict[tuple[str, int], tuple[str, int]] = {}

    def root(node: tuple[str, int]) -> tuple[str, int]:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for site, first, second in found.equal_operations:
        if sites.group[site] and not sites.group[site].startswith("-"):
            parent[root((sites.assembly[site], second))] = root((sites.assembly[site], first))
    names: dict[str, int] = {}
    for atom, (site, operation) in enumerate(zip(found.site.tolist(), found.operation.tolist(), strict=True)):
        text = sites.group[site]
        if not text or disorder[atom] >= 0:
            continue
        node = root((sites.assembly[site], operation))
        if node not in key:
            key[node] = number
            number += 1
        disorder[atom] = key[node]
        # A negative group means disorder about a special position. Its images exclude each other too.
        name = f"{text} {operation}" if text.startswith("-") else text
        group[atom] = names.setdefault(name, len(names))
    return number
