"""Which sites of a specimen hold an atom in one configuration, Eq. (P20)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemphony.physics.phonons import generator

_OCCUPANCY = 2
"""Number that marks this purpose for `phonons.generator`. Displacements have no such number, or 1 with a defocus."""

INDEPENDENT = -1
"""Number for a site that belongs to no cluster: it is drawn by itself."""


def present_sites(
    occupancy: NDArray[np.float64],
    cluster: NDArray[np.int64] | None,
    alternative: NDArray[np.int64] | None,
    random_seed: int,
    configuration: int,
    defocus_pm: int | None,
) -> NDArray[np.bool_]:
    """Draw which sites hold their atom in one configuration, Eq. (P20).

    One uniform random number per cluster chooses one of its alternatives, or none. If none is chosen, all sites of the
    cluster are vacant. The sites of the chosen alternative are present together. The result depends on the arguments
    only.

    Parameters
    ----------
    occupancy : (N,) ndarray
        Probability that the site holds its atom, 0 to 1.
    cluster : (N,) ndarray of int or None
        Sites with equal numbers ≥ 0 are drawn jointly. A site with INDEPENDENT is drawn by itself. None means that all
        sites are INDEPENDENT.
    alternative : (N,) ndarray of int or None
        Sites of a cluster with equal numbers are present together. With None, each site excludes the others of its
        cluster.
    random_seed, configuration, defocus_pm
        As for `phonons.displacements`.

    Returns
    -------
    (N,) ndarray of bool
        Whether each site holds its atom.

    Raises
    ------
    ValueError
        An occupancy outside 0 to 1, alternatives of a cluster that sum to more than 1, or a negative seed or index.

    Notes
    -----
    If the sites of one alternative differ in occupancy, the alternative is drawn with the largest occupancy, and each
    site then with its share. So the mean over configurations is the occupancy of every site.
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
    # Rounding of the sums must not remove a full site.
    return present | (occupancy == 1)


def alternatives(
    sites: int, cluster: NDArray[np.int64] | None, alternative: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Number the alternatives of all clusters.

    The result numbers clusters in the order of their first site. So only the grouping matters, not the given numbers.

    Returns
    -------
    names : (A, 2) ndarray of int
        Cluster and alternative, sorted by cluster.
    unit : (N,) ndarray of int
        Row of `names` for each site.
    """
    alone = np.arange(sites)
    clusters = np.full(sites, INDEPENDENT) if cluster is None else cluster
    joint = clusters != INDEPENDENT
    # Each independent site gets a number of its own, above those of the clusters.
    numbers = np.where(joint, clusters, clusters.max(initial=0) + 1 + alone)
    _, begin, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    numbers = begin[inverse]
    inside = alone if alternative is None else np.where(joint, alternative, 0)
    names, unit = np.unique(np.column_stack([numbers, inside]), axis=0, return_inverse=True)
    return names, unit.ravel()
