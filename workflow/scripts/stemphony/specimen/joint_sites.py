"""Find the sites of a specimen that exclude each other, check them, and number them for `physics.occupancy`."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemphony.counting import number_of
from stemphony.errors import SpecimenError
from stemphony.physics.occupancy import INDEPENDENT, alternatives
from stemphony.specimen.assemblies import EXCESS, NEIGHBOURS, alternating, separated
from stemphony.specimen.lattice import Floats
from stemphony.specimen.specimen import Specimen

Pairs = NDArray[np.int64]

CLOSEST = 0.7
"""Smallest distance of two atoms [Å]. The shortest bond, that of H2, is 0.74 Å long. So sites that are closer exclude
each other."""

MOST_PAIRS = 5_000_000
"""Largest number of pairs of sites that lie on each other. So many pairs need up to 1 GB. A normal crystal has no such
pairs, and a shared site has only a few."""


def with_joint_sites(file: Path | str, specimen: Specimen, occupancy: str = "random") -> Specimen:
    """Number `disorder` and `disorder_group` of a `specimen` for drawing. Scale sums that exceed 1 by rounding to 1.

    Three kinds of sites are drawn jointly: sites of one disorder assembly, sites of equal position, and sites closer
    than CLOSEST of which one is partially occupied.

    Parameters
    ----------
    file : Path or str
        Structure file, for messages.
    occupancy : {'random', 'refuse'}
        The key of the config.

    Returns
    -------
    Specimen
        A copy with `occupancy`, `disorder` and `disorder_group`, (N,) each. All three are None if each site holds one
        atom.

    Raises
    ------
    SpecimenError
        An occupancy is outside 0 to 1. Or sites that exclude each other hold more than one atom together. Or a site is
        not full and `occupancy` is `refuse`.
    """
    if specimen.occupancy is None:
        return specimen
    filled = _checked(file, specimen)
    partial = filled < 1
    if not partial.any():
        return replace(specimen, occupancy=None, disorder=None, disorder_group=None)
    if occupancy == "refuse":
        first = int(np.flatnonzero(partial)[0])
        raise SpecimenError(
            file,
            f"{_site(specimen, first)} has an occupancy of {filled[first]:g} (partial are {int(partial.sum())} of "
            f"{len(filled)} sites), and `specimen.occupancy` is refuse. Use random to draw partial sites in each "
            "configuration, or write a supercell in which every site holds one atom.",
        )
    specimen = _with_separate_assemblies(specimen, filled)
    cluster, alternative, pairs = _clusters(specimen, partial)
    of_site = _sums(cluster, alternative, filled)
    notes = specimen.notes
    if (of_site > 1 + EXCESS).any():
        too_full = of_site > 1 + EXCESS
        pairs = np.concatenate([pairs, _groups_apart(specimen, alternative, too_full)])
        alternative, number = alternating(cluster, alternative, filled, pairs, too_full)
        of_site = _sums(cluster, alternative, filled)
        if number:
            notes = (
                *notes,
                f"{number_of(number, 'chain of sites', 'chains of sites')} that exclude each other: two neighbours "
                "fill one site together, so each chain is drawn in one of its two states",
            )
    _require_room(file, specimen, filled, of_site)
    over = of_site > 1
    if over.any():
        notes = (
            *notes,
            f"the occupancies of sites that exclude each other sum to up to {of_site.max():.4g}. This is within "
            f"rounding, so they are scaled to 1 (first: {_site(specimen, int(np.flatnonzero(over)[0]))}).",
        )
        filled = np.where(over, filled / np.maximum(of_site, 1.0), filled)
    return replace(specimen, occupancy=filled, disorder=cluster, disorder_group=alternative, notes=notes)


def close_pairs(specimen: Specimen, distance: float) -> tuple[Pairs, Floats]:
    """Pairs of sites of a `specimen` closer than `distance` [Å], (P, 2), and their distances [Å] (P,).

    x and y are periodic. A site is given by its number from 0.

    Raises
    ------
    MemoryError
        There are too many pairs, see `require_few_pairs`.
    """
    from scipy.spatial import cKDTree

    positions, cell = specimen.positions, np.asarray(specimen.cell)
    require_few_pairs(positions, distance)
    tree = cKDTree(positions, boxsize=[cell[0], cell[1], 0.0])  # 0 means not periodic
    pairs = np.asarray(tree.query_pairs(distance, output_type="ndarray"), dtype=np.int64).reshape(-1, 2)
    apart = positions[pairs[:, 0]] - positions[pairs[:, 1]]
    apart[:, :2] -= cell[:2] * np.round(apart[:, :2] / cell[:2])
    lengths = np.linalg.norm(apart, axis=1)
    return pairs[lengths < distance], lengths[lengths < distance]


def require_few_pairs(points: Floats, distance: float) -> None:
    """Raise MemoryError if more than MOST_PAIRS pairs of points, (N, 3), share a cube whose diagonal is `distance`."""
    cubes = np.floor(points * (np.sqrt(3) / distance)).astype(np.int64)
    # Each cube gets a number. Two cubes cannot get the same number, because there are too few cubes for that.
    _, counts = np.unique(cubes @ np.array([1, 2_000_003, 4_000_037_000_009]), return_counts=True)
    pairs = int((counts * (counts - 1) // 2).sum())
    if pairs > MOST_PAIRS:
        raise MemoryError(
            f"{pairs:,} pairs of its atoms lie on each other; at most {MOST_PAIRS:,} are possible. Remove doubled "
            "atoms, or correct the cell or the unit"
        )


def exclusive(specimen: Specimen, pairs: Pairs) -> NDArray[np.bool_]:
    """Whether the two sites of each of `pairs` (P, 2), given by number, are never present together in a `specimen`."""
    if specimen.occupancy is None or specimen.disorder is None:
        return np.zeros(len(pairs), dtype=bool)
    first, second = specimen.disorder[pairs].T
    same = (first == second) & (first != INDEPENDENT)
    if specimen.disorder_group is None:
        return same
    one, other = specimen.disorder_group[pairs].T
    return np.asarray(same & (one != other))


def _checked(file: Path | str, specimen: Specimen) -> Floats:
    occupancy = np.asarray(specimen.occupancy, dtype=np.float64)
    wrong = np.flatnonzero(~((occupancy >= 0) & (occupancy <= 1 + EXCESS)))
    if len(wrong):
        raise SpecimenError(
            file,
            f"{_site(specimen, int(wrong[0]))} has an occupancy of {occupancy[wrong[0]]:g}; allowed are 0 to 1. "
            "Correct it.",
        )
    return np.minimum(occupancy, 1.0)


def _with_separate_assemblies(specimen: Specimen, filled: Floats) -> Specimen:
    """Split the assemblies of a specimen that are too full, see `assemblies.separated`."""
    if specimen.disorder is None or specimen.disorder_group is None:
        return specimen
    names, unit = alternatives(len(filled), specimen.disorder, specimen.disorder_group)
    largest = np.zeros(len(names))
    np.maximum.at(largest, unit, filled)
    total = np.zeros(len(filled))
    np.add.at(total, names[:, 0], largest)
    too_full = (total[names[unit, 0]] > 1 + EXCESS) & (specimen.disorder >= 0)
    if not too_full.any():
        return specimen
    members = np.flatnonzero(too_full)
    pairs, lengths = close_pairs(replace(specimen, positions=specimen.positions[members]), NEIGHBOURS)
    disorder, by_distance = separated(
        specimen.disorder, specimen.disorder_group, filled, members[pairs], lengths, too_full
    )
    how = "bonded to each other" if by_distance else "whose occupancies add up to 1"
    note = (
        f"groups of one disorder assembly hold more than one atom per site together. Sites {how} are taken for an "
        "assembly of their own; if that is wrong, name the assemblies in the structure file "
        "(_atom_site_disorder_assembly)."
    )
    # In earlier versions, only occupancies decided.
    revision = specimen.revision + 2 if by_distance else specimen.revision
    return replace(specimen, disorder=disorder, notes=(*specimen.notes, note), revision=revision)


def _sums(cluster: Pairs, alternative: Pairs, filled: Floats) -> Floats:
    """For each site, the sum of the occupancies of the alternatives of its cluster."""
    names, unit = alternatives(len(filled), cluster, alternative)
    largest = np.zeros(len(names))
    np.maximum.at(largest, unit, filled)
    total = np.zeros(len(filled))
    np.add.at(total, names[:, 0], largest)  # the first number of an alternative is the first site of its cluster
    return np.asarray(total[names[unit, 0]])


def _groups_apart(specimen: Specimen, alternative: Pairs, chosen: NDArray[np.bool_]) -> Pairs:
    """One pair of sites for every two alternatives of an assembly, which exclude each other at any distance."""
    if specimen.disorder is None:
        return np.empty((0, 2), dtype=np.int64)
    members = np.flatnonzero(chosen & (specimen.disorder >= 0))
    keys = np.column_stack([specimen.disorder[members], alternative[members]])
    units, first = np.unique(keys, axis=0, return_index=True)
    ends = np.flatnonzero(np.diff(units[:, 0], append=-1)) + 1
    assemblies = np.split(members[first], ends[:-1])
    found = [pair for sites in assemblies for pair in combinations(sites.tolist(), 2)]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _clusters(specimen: Specimen, partial: NDArray[np.bool_]) -> tuple[Pairs, Pairs, Pairs]:
    """Number the sets of sites that are drawn jointly, and the groups within each set. A single site is INDEPENDENT.

    The third value holds the pairs of sites that exclude each other because they are too close.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    sites = len(partial)
    assembly = np.full(sites, INDEPENDENT) if specimen.disorder is None else specimen.disorder
    group = np.full(sites, -1) if specimen.disorder_group is None else specimen.disorder_group
    pairs, _ = close_pairs(specimen, CLOSEST)
    pairs = pairs[partial[pairs].any(axis=1)]
    first, second = pairs.T
    # Sites of one group are present together. If they are too close, the check of distances reports it.
    together = (assembly[first] == assembly[second]) & (assembly[first] >= 0)
    together &= (group[first] == group[second]) & (group[first] >= 0)
    pairs = pairs[~together]
    # Pair each site of an assembly with the first site of the assembly.
    members = np.flatnonzero(assembly >= 0)
    _, begin, inverse = np.unique(assembly[members], return_index=True, return_inverse=True)
    edges = np.concatenate([pairs, np.column_stack([members, members[begin[inverse.ravel()]]])])
    graph = coo_matrix((np.ones(len(edges), dtype=bool), (edges[:, 0], edges[:, 1])), shape=(sites, sites))
    _, component = connected_components(graph, directed=False)
    cluster = np.where(np.bincount(component)[component] > 1, component, INDEPENDENT).astype(np.int64)
    # The alternatives are the groups of the assemblies, and every other site by itself.
    grouped = (assembly >= 0) & (group >= 0)
    keys = np.column_stack([np.where(grouped, assembly, -1), np.where(grouped, group, np.arange(sites))])
    _, alternative = np.unique(keys, axis=0, return_inverse=True)
    return cluster, np.where(cluster == INDEPENDENT, -1, alternative.ravel()).astype(np.int64), pairs


def _require_room(file: Path | str, specimen: Specimen, filled: Floats, total: Floats) -> None:
    """Refuse sites that exclude each other and hold more than one atom together."""
    too_full = np.flatnonzero(total > 1 + EXCESS)
    if not len(too_full):
        return
    first = int(too_full[0])
    pairs, lengths = close_pairs(specimen, CLOSEST)
    near = np.flatnonzero((pairs == first).any(axis=1))
    why = "belong to one disorder assembly"
    if len(near):
        closest = near[np.argmin(lengths[near])]
        other = int(pairs[closest].sum()) - first
        why = f"are closer than {CLOSEST:g} Å, such as {_site(specimen, other)} with {filled[other]:g}"
        why += f" at a distance of {lengths[closest]:.3f} Å"
    raise SpecimenError(
        file,
        f"{_site(specimen, first)} has an occupancy of {filled[first]:g}, and the sites that exclude it {why}. "
        f"Together they hold {total[first]:.4g} atoms; at most 1 can be present (sites concerned: {len(too_full)}). "
        "Correct the occupancies, or remove doubled atoms.",
    )


def _site(specimen: Specimen, index: int) -> str:
    x, y, z = specimen.positions[index]
    return f"site {index} (counted from 0, {specimen.symbols[index]} at {x:.4f}, {y:.4f}, {z:.4f} Å)"
