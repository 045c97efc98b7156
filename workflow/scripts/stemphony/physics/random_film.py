"""Positions of an amorphous film: random, with a smallest distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FILM = 4
"""Marks the random numbers of films among those of a configuration."""

MOST_ROUNDS = 2000
"""Rounds of candidates after which a film counts as too dense; one that is possible needs some tens."""

JAMMED = 0.384
"""Packing fraction at which random sequential addition jams (Zhang & Torquato, Phys. Rev. E 88 (2013) 053312)."""


@dataclass(frozen=True)
class Film:
    """An amorphous film of a specimen; its atoms are `first` to `last` − 1 of the specimen's.

    Attributes
    ----------
    bottom, top : float
        Where it lies along the beam [Å].
    distance : float
        Smallest distance of its atoms to any others [Å].
    redrawn : bool
        Whether each configuration has positions of its own.
    length_x, length_y : float
        How far it reaches from x = y = 0 [Å]: as far as the crystal, without the vacuum beside it.
    """

    bottom: float
    top: float
    first: int
    last: int
    distance: float
    redrawn: bool
    length_x: float
    length_y: float


def redrawn(films: Sequence[Film], positions: Floats, generator: np.random.Generator) -> Floats:
    """Atoms at rest (N, 3) [Å] with new positions in the films that each configuration draws; all others stay."""
    moving = [film for film in films if film.redrawn]
    if not moving:
        return positions
    moved = np.concatenate([np.arange(film.first, film.last) for film in moving])
    others = np.delete(positions, moved, axis=0)
    result = positions.copy()
    for film in moving:
        result[film.first : film.last] = film_positions(
            generator, film.last - film.first, (film.length_x, film.length_y), film.bottom, film.top, film.distance,
            others,
        )  # fmt: skip
        others = np.concatenate([others, result[film.first : film.last]])
    return result


def film_positions(
    generator: np.random.Generator,
    number: int,
    cell: tuple[float, float],
    bottom: float,
    top: float,
    distance: float,
    others: Floats,
) -> Floats:
    """Random positions in a layer, none nearer than `distance` to another one or to `others`.

    Random sequential addition: positions are drawn evenly and kept where they have room, until there are enough. It
    gives the density exactly and no order beyond the smallest distance. It jams at a packing fraction
    (π/6)·n·d³ of 0.384 (Widom, J. Chem. Phys. 44 (1966) 3888; Zhang & Torquato, Phys. Rev. E 88 (2013) 053312).

    Parameters
    ----------
    cell : (Lx, Ly)
        Periodic lengths along x and y [Å].
    bottom, top : float
        The layer along z [Å], not periodic.
    distance : float
        Smallest distance d [Å].
    others : (M, 3) array
        Atoms beside the film [Å].

    Returns
    -------
    (number, 3) array
        In the order in which they were kept.

    Raises
    ------
    ValueError
        The film is too dense for the distance.
    """
    from scipy.spatial import cKDTree

    # Spheres of diameter d around the atoms of the film reach half a distance beyond each of its faces.
    room = JAMMED * cell[0] * cell[1] * (top - bottom + distance) / (math.pi / 6 * distance**3)
    if number > max(1.0, 1.05 * room):
        raise ValueError(f"at most some {room:.0f} of {number} atoms have room")
    # ASSUME: an amorphous film has a density and a smallest distance, but no bonds and no short-range order.
    lengths = np.array([cell[0], cell[1], 0.0])
    near = others[(others[:, 2] > bottom - distance) & (others[:, 2] < top + distance)]
    placed = np.concatenate([_wrapped(near, lengths), np.empty((0, 3))])
    start = len(placed)
    for _ in range(MOST_ROUNDS):
        missing = number - (len(placed) - start)
        if missing <= 0:
            break
        drawn = generator.random((max(2 * missing, 64), 3))
        candidates = _wrapped(drawn * [cell[0], cell[1], top - bottom] + [0.0, 0.0, bottom], lengths)
        if len(placed):
            room = cKDTree(placed, boxsize=lengths).query(candidates)[0] >= distance
            candidates = candidates[room]
        placed = np.concatenate([placed, candidates[_apart(candidates, lengths, distance)][:missing]])
    if len(placed) - start < number:
        raise ValueError(f"{len(placed) - start} of {number} atoms have room")
    return placed[start:]


def _wrapped(positions: Floats, lengths: Floats) -> Floats:
    """x and y inside the periodic cell, which the search for neighbours asks for."""
    result = np.array(positions, dtype=float).reshape(-1, 3)
    result[:, :2] = np.mod(result[:, :2], lengths[:2])
    result[:, :2][result[:, :2] >= lengths[:2]] = 0.0
    return result


def _apart(candidates: Floats, lengths: Floats, distance: float) -> NDArray[np.bool_]:
    """Which candidates to keep so that none is too near to an earlier one that is kept."""
    from scipy.spatial import cKDTree

    kept = np.ones(len(candidates), dtype=bool)
    if len(candidates) < 2:
        return kept
    pairs = cKDTree(candidates, boxsize=lengths).query_pairs(distance, output_type="ndarray")
    for first, second in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))].tolist():  # query_pairs gives first < second
        if kept[first]:
            kept[second] = False
    return kept
