"""Split disorder assemblies that hold too many atoms, because a file gives several assemblies the same groups.

Programs for refinement often give the groups 1 and 2 to all disordered molecules. PDB files give them the places A and
B. Then nothing names the assemblies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemphony.specimen.lattice import Floats

BONDED = 2.0
"""Largest distance [Å] at which two sites are bonded or alternatives, and so belong to one disordered molecule."""

NEIGHBOURS = 3.5
"""Largest distance [Å] of alternatives that are not bonded. Neighbours in a solid have at most this distance."""

EXCESS = 0.02 + 1e-9
"""The occupancies of sites that exclude each other may exceed 1 by this: the rounding of two or three numbers."""

Integers = NDArray[np.int64]
Pairs = NDArray[np.int64]


def separated(
    assembly: Integers, group: Integers, occupancy: Floats, pairs: Pairs, lengths: Floats, too_full: NDArray[np.bool_]
) -> tuple[Integers, bool]:
    """Return numbers of assemblies after those that are too full are split, and whether distances split them.

    1. If occupancies complement each other to 1 everywhere, they decide. For example, 0.7 and 0.3 belong together, and
       so do 0.6 and 0.4.
    2. Otherwise sites that are bonded belong together. Alternatives of one molecule count as bonded.
    3. Sites that then have no alternative are joined again with other such sites beside them. `joint_sites` refuses
       them if the sum of their occupancies exceeds 1.

    Parameters
    ----------
    assembly, group : (N,) arrays of int
        As `disorder` and `disorder_group` of a specimen.
    occupancy : (N,) array
    pairs, lengths : (P, 2) and (P,) arrays
        Sites closer than NEIGHBOURS, and their distances [Å].
    too_full : (N,) array of bool
        Sites of the assemblies that must be split.

    Returns
    -------
    ((N,) array of int, bool)
        Numbers of assemblies, and True if distances decided.
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

    If the occupancies of every two alternatives that exclude each other sum to 1, exactly one of both is present. Then
    one alternative decides all that are connected with it. So the cluster has two states, like a graph that two colours
    can fill, or none. An example is a chain of sites that are 0.5 Å apart and half occupied.

    Parameters
    ----------
    cluster, alternative : (N,) arrays of int
        Sites with the same cluster are drawn jointly. Those with the same alternative are present together.
    occupancy : (N,) array
    pairs : (P, 2) array
        Sites that exclude each other.
    too_full : (N,) array of bool
        Sites of the clusters that hold more than one atom.

    Returns
    -------
    alternative : (N,) array of int
    number : int
        Number of clusters that were joined to two states.
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
    """Colour 0 or 1 of each alternative; None if neighbours do not fill one site, or if two colours are not enough."""
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
    """Number equal pairs (assembly, part) from 0. If `keep` is false, only the parts must be equal. −1 stays."""
    first = assembly if keep is None else np.where(keep, assembly, -1)
    _, number = np.unique(np.column_stack([first, part]), axis=0, return_inverse=True)
    return np.where(assembly >= 0, number.ravel(), -1).astype(np.int64)


def _components(sites: int, pairs: Pairs) -> Integers:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(sites, sites))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _contents(assembly: Integers, group: Integers, occupancy: Floats) -> tuple[Integers, Floats]:
    """For the assembly of each site: the number of its groups, and the number of atoms that they hold together."""
    keys, unit = np.unique(np.column_stack([assembly, group]), axis=0, return_inverse=True)
    largest = np.zeros(len(keys))
    np.maximum.at(largest, unit.ravel(), occupancy)
    _, member = np.unique(keys[:, 0], return_inverse=True)
    groups = np.bincount(member.ravel()).astype(np.int64)
    total = np.bincount(member.ravel(), weights=largest).astype(np.float64)
    of_site = member.ravel()[unit.ravel()]
    return groups[of_site], total[of_site]
