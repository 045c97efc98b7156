"""Which sites of a specimen hold an atom in one configuration, Eq. (P20)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemphony.physics.phonons import generator

_OCCUPANCY = 2
"""Marks the random numbers of occupancies; those of displacements carry no mark or 1."""

INDEPENDENT = -1
"""In place of the number of a cluster: a site that is drawn by itself."""


def present_sites(
    occupancy: NDArray[np.float64],
    cluster: NDArray[np.int64] | None,
    alternative: NDArray[np.int64] | None,
    random_seed: int,
    configuration: int,
    defocus_pm: int | None,
) -> NDArray[np.bool_]:
    """Whether each site holds its atom in one configuration, Eq. (P20).

    One uniform number per cluster chooses one of its alternatives, or none: the cluster is then vacant. The sites of
    the chosen alternative are present together. Like displacements, the result depends on the arguments only.

    Parameters
    ----------
    occupancy : (N,) array
        Probability that the site holds its atom, 0 to 1.
    cluster : (N,) array of int or None
        Sites with equal numbers ≥ 0 are drawn jointly; INDEPENDENT ones, and all without this array, by themselves.
    alternative : (N,) array of int or None
        Sites of a cluster with equal numbers are present together; without this array each excludes the others.
    random_seed, configuration, defocus_pm
        As for `phonons.displacements`.

    Returns
    -------
    (N,) array of bool

    Raises
    ------
    ValueError
        An occupancy outside 0 to 1, alternatives of a cluster that sum to more than 1, or a negative seed or index.

    Notes
    -----
    Where the sites of one alternative have different occupancies, the alternative is drawn with the largest of them,
    and each of its sites with its share of it. So the mean over configurations is the occupancy of every site.
    """
    if not ((occupancy >= 0) & (occupancy <= 1)).all():
        raise ValueError(f"occupancies from {occupancy.min()} to {occupancy.max()}: must lie between 0 and 1")
    # ASSUME: clusters are occupied independently of each other; there is no short-range order.
    random = generator(random_seed, configuration, defocus_pm, _OCCUPANCY)
    names, unit = alternatives(len(occupancy), cluster, alternative)
    largest = np.zeros(len(names))
    np.maximum.at(largest, unit, occupancy)
    # Cumulative sums within each cluster: `names` is sorted by cluster.
    first = np.flatnonzero(np.r_[True, names[1:, 0] != names[:-1, 0]])
    member = np.cumsum(np.r_[0, names[1:, 0] != names[:-1, 0]])
    upper = np.cumsum(largest)
    upper -= (upper[first] - largest[first])[member]
    if (upper > 1 + 1e-9).any():
        raise ValueError(f"the occupancies of sites that exclude each other sum to {upper.max():.6g}, more than 1")
    drawn = random.random(len(first))[member]
    chosen = (drawn >= upper - largest) & (drawn < upper)
    share = occupancy / np.where(largest > 0, largest, 1.0)[unit]
    present = chosen[unit]
    if (share < 1).any():
        present &= random.random(len(occupancy)) < share
    # A full site must not be lost to the rounding of a sum.
    return present | (occupancy == 1)


def alternatives(
    sites: int, cluster: NDArray[np.int64] | None, alternative: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """The alternatives of all clusters, (A, 2) numbers sorted by cluster, and the alternative of each site, (N,).

    Clusters are numbered in the order of their first site, so that numbers of any size draw the same.
    """
    alone = np.arange(sites)
    clusters = np.full(sites, INDEPENDENT) if cluster is None else cluster
    joint = clusters != INDEPENDENT
    # A number of its own for each independent site, above those of the clusters.
    numbers = np.where(joint, clusters, clusters.max(initial=0) + 1 + alone)
    _, begin, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    numbers = begin[inverse]
    inside = alone if alternative is None else np.where(joint, alternative, 0)
    names, unit = np.unique(np.column_stack([numbers, inside]), axis=0, return_inverse=True)
    return names, unit.ravel()
