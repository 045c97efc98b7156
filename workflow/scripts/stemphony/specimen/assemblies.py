"""Disorder assemblies that hold too many atoms, because a file gives several of them the same groups and no names.

Programs for refinement often give the groups 1 and 2, and PDB files the places A and B, to all disordered molecules.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemphony.specimen.lattice import Floats

BONDED = 2.0
"""Å. Sites of one disordered molecule are bonded, or are alternatives of each other, at less than this distance."""

NEIGHBOURS = 3.5
"""Å. Alternatives that are not bonded lie no farther apart than neighbours do."""

EXCESS = 0.02 + 1e-9
"""By which occupancies of sites that exclude each other may exceed 1: the rounding of two or three numbers."""

Integers = NDArray[np.int64]
Pairs = NDArray[np.int64]


def separated(
    assembly: Integers, group: Integers, occupancy: Floats, pairs: Pairs, lengths: Floats, too_full: NDArray[np.bool_]
) -> tuple[Integers, bool]:
    """Numbers of assemblies in which those that are too full are split, and whether they were split by distances.

    1. If occupancies complement each other to 1 everywhere, they decide: 0.7 and 0.3 belong together, 0.6 and 0.4 do.
    2. Else sites that are bonded belong together, which holds for alternatives of one molecule.
    3. What then has no alternative is joined again with such sites beside it. The sum of their occupancies says whether
       that is possible; `joint_sites` refuses more than 1.

    Parameters
    ----------
    assembly, group : (N,) arrays of int
        As `disorder` and `disorder_group` of a specimen.
    occupancy : (N,) array
    pairs, lengths : (P, 2) and (P,) arrays
        Sites closer than NEIGHBOURS, and their distances [Å].
    too_full : (N,) array of bool
        Sites of the assemblies that are to be split.
    """
    kind = np.where(too_full, np.round(1000 * np.minimum(occupancy, 1 - occupancy)).astype(np.int64), 0)
    by_kind = _numbered(assembly, kind)
    groups, total = _contents(by_kind, group, occupancy)
    if ((groups > 1) & (np.abs(total - 1) <= EXCESS))[too_full].all():
        return by_kind, False
    inside = too_full[pairs].all(axis=1) & (assembly[pairs[:, 0]] == assembly[pairs[:, 1]])
    near = _numbered(assembly, np.where(too_full, _components(len(assembly), pairs[inside & (lengths < BONDED)]), 0))
    groups, _ = _contents(near, group, occupancy)
    alone = too_full & (groups < 2)
    beside = inside & alone[pairs].all(axis=1)
    joined = _components(len(assembly), pairs[beside])
    return _numbered(near, np.where(alone, joined, -1), keep=~alone), True


def alternating(
    cluster: Integers, alternative: Integers, occupancy: Floats, pairs: Pairs, too_full: NDArray[np.bool_]
) -> tuple[Integers, int]:
    """Join the alternatives of a cluster that are present together in each of its two states.

    Where the occupancies of every two alternatives that exclude each other sum to 1, exactly one of both is present.
    Then one alternative decides all that are connected with it, and the cluster has two states, if it has any: those
    of a graph in two colours. An example is a chain of sites that are 0.5 Å apart and half occupied.

    Parameters
    ----------
    cluster, alternative : (N,) arrays of int
        What is drawn jointly, and what is present together.
    occupancy : (N,) array
    pairs : (P, 2) array
        Sites that exclude each other.
    too_full : (N,) array of bool
        Sites of the clusters that hold more than one atom.

    Returns
    -------
    alternative : (N,) array of int
    number : int
        How many clusters were joined to two states.
    """
    result, joined = alternative.copy(), 0
    free = int(alternative.max(initial=0)) + 1
    edges = alternative[pairs[too_full[pairs].all(axis=1)]]
    neighbours: dict[int, set[int]] = {}
    for one, other in edges[edges[:, 0] != edges[:, 1]].tolist():
        neighbours.setdefault(one, set()).add(other)
        neighbours.setdefault(other, set()).add(one)
    for number in np.unique(cluster[too_full]):
        sites = np.flatnonzero(cluster == number)
        colours = _two_colours(alternative[sites], occupancy[sites], neighbours)
        if colours is not None:
            result[sites] = free + np.array([colours[name] for name in alternative[sites].tolist()])
            free, joined = free + 2, joined + 1
    return result, joined


def _two_colours(names: Integers, occupancy: Floats, neighbours: dict[int, set[int]]) -> dict[int, int] | None:
    """Colour 0 or 1 of each alternative; None if neighbours do not fill one site, or no two colours suffice."""
    filled: dict[int, float] = {}
    for name, value in zip(names.tolist(), occupancy.tolist(), strict=True):
        if abs(filled.setdefault(name, value) - value) > EXCESS:
            return None
    first = int(names[0])
    colours, waiting = {first: 0}, [first]
    while waiting:
        name = waiting.pop()
        for other in neighbours.get(name, ()):
            if abs(filled[name] + filled[other] - 1) > EXCESS or colours.get(other) == colours[name]:
                return None
            if other not in colours:
                colours[other] = 1 - colours[name]
                waiting.append(other)
    return colours if len(colours) == len(filled) else None


def _numbered(assembly: Integers, part: Integers, keep: NDArray[np.bool_] | None = None) -> Integers:
    """Numbers from 0 of equal pairs (assembly, part); of equal parts alone where `keep` is false; −1 stays."""
    first = assembly if keep is None else np.where(keep, assembly, -1)
    _, number = np.unique(np.column_stack([first, part]), axis=0, return_inverse=True)
    return np.where(assembly >= 0, number.ravel(), -1).astype(np.int64)


def _components(sites: int, pairs: Pairs) -> Integers:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(sites, sites))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _contents(assembly: Integers, group: Integers, occupancy: Floats) -> tuple[Integers, Floats]:
    """Number of groups of each site's assembly, and the atoms that they hold together."""
    keys, unit = np.unique(np.column_stack([assembly, group]), axis=0, return_inverse=True)
    largest = np.zeros(len(keys))
    np.maximum.at(largest, unit.ravel(), occupancy)
    _, member = np.unique(keys[:, 0], return_inverse=True)
    groups = np.bincount(member.ravel()).astype(np.int64)
    total = np.bincount(member.ravel(), weights=largest).astype(np.float64)
    of_site = member.ravel()[unit.ravel()]
    return groups[of_site], total[of_site]
