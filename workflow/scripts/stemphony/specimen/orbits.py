"""Make all atoms of a cell from the sites of its asymmetric unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import SpecimenError
from stemphony.specimen.lattice import Floats

SAME_IMAGE = 1e-3
"""Largest difference [fractions of the cell] of two images of a site that are one atom. ASE has the same value, so the
order of atoms is that of ASE."""
MERGED_IMAGE = 0.4
"""Largest distance [Å] of two images of a site that are one atom but differ because the file has few digits. No two
atoms are closer."""


MOST_IMAGES = 10_000_000
"""Most atoms that a symmetry may make. A virus has about ten million atoms. More images need several GB."""
MOST_OPERATIONS = 8 * 192
"""Most operations of a file. A space group has at most 192 operations in its cell. A list of operations may cover a
supercell of eight such cells."""


def require_few_images(file: Path, sites: int, operations: int) -> None:
    """Raise SpecimenError if there are more `operations`, or more images of `sites`, than any file needs."""
    if operations > MOST_OPERATIONS or (operations > 1 and sites * operations > MOST_IMAGES):
        raise SpecimenError(
            file,
            f"has {operations:,} symmetry operations and {sites:,} sites; possible are {MOST_OPERATIONS:,} operations "
            f"and {MOST_IMAGES:,} images. It is damaged: export it again, or write all atoms without symmetry.",
        )


@dataclass(frozen=True)
class SiteOrbits:
    """Images of all sites.

    Attributes
    ----------
    site : (N,) array of int
        The site of each atom: the atom is an image of it.
    operation : (N,) array of int
        The first operation that makes the atom.
    fractions : (N, 3) array
        Coordinates in [0, 1).
    merged : dict
        Site → largest distance [Å] of images that were merged beyond SAME_IMAGE.
    equal_operations : list of (site, operation, operation)
        Operations that make the same image of a site.
    """

    site: NDArray[np.int64]
    operation: NDArray[np.int64]
    fractions: Floats
    merged: dict[int, float]
    equal_operations: list[tuple[int, int, int]]


def expand(
    sites: Floats, rotations: NDArray[np.int64], translations: Floats, cell: Floats, reach: Sequence[float]
) -> SiteOrbits:
    """Images of `sites` (M, 3) [fractions] under x' = R x + t, each image once.

    Parameters
    ----------
    rotations, translations : (O, 3, 3) array of int, (O, 3) array
        R and t of each operation, in fractions of the cell.
    cell : (3, 3) array
        Edges as rows [Å].
    reach : (M,) sequence
        Images of a site that are closer than this [Å] are one atom at their mean position.

    Returns
    -------
    SiteOrbits
        Images in fractions of the cell, 0 to 1, with the numbers of their sites and operations.
    """
    if len(rotations) == 1:
        count = len(sites)
        images = ((sites @ rotations[0].T) + translations[0] % 1.0) % 1.0
        return SiteOrbits(np.arange(count), np.zeros(count, dtype=int), images, {}, [])
    site_numbers: list[int] = []
    operations: list[int] = []
    fractions: list[Floats] = []
    merged: dict[int, float] = {}
    equal: list[tuple[int, int, int]] = []
    for number, site in enumerate(sites):
        images = ((rotations @ site) + translations % 1.0) % 1.0
        keep, owner = _distinct(images)
        apart = _nearest(images[keep], cell)
        if len(keep) > 1 and apart < reach[number]:
            site = _on_special_position(site, rotations, translations, cell, reach[number])
            images = ((rotations @ site) + translations % 1.0) % 1.0
            keep, owner = _distinct(images)
            if _nearest(images[keep], cell) >= reach[number]:
                merged[number] = apart
        equal.extend((number, int(owner[g]), g) for g in range(len(images)) if owner[g] != g)
        site_numbers.extend([number] * len(keep))
        operations.extend(keep)
        fractions.extend(images[keep])
    return SiteOrbits(np.array(site_numbers), np.array(operations), np.array(fractions), merged, equal)


def _distinct(images: Floats) -> tuple[list[int], NDArray[np.int64]]:
    """Numbers of the images that differ, and for each image the number of the equal image."""
    keep = [0]
    owner = np.zeros(len(images), dtype=int)
    for number in range(1, len(images)):
        difference = images[number] - images[keep]
        difference -= np.rint(difference)
        same = (np.abs(difference) < SAME_IMAGE).all(axis=1)
        if same.any():
            owner[number] = keep[int(same.argmax())]
        else:
            owner[number] = number
            keep.append(number)
    return keep, owner


def _nearest(images: Floats, cell: Floats) -> float:
    """Shortest distance [Å] between two of the images, periodic."""
    if len(images) < 2:
        return np.inf
    difference = images[:, None] - images
    difference -= np.rint(difference)
    distance = np.linalg.norm(difference @ cell, axis=-1)
    return float(distance[np.triu_indices(len(images), 1)].min())


def _on_special_position(
    site: Floats, rotations: NDArray[np.int64], translations: Floats, cell: Floats, reach: float
) -> Floats:
    """The special position of a site: the mean of its images that lie within `reach` [Å] of the site."""
    difference = (rotations @ site) + translations - site
    difference -= np.rint(difference)
    near = np.linalg.norm(difference @ cell, axis=-1) < reach
    return np.asarray(site + difference[near].mean(axis=0))
