"""Positions of an amorphous film: random, with a smallest distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemphony.physics.slicing import wrap_positions

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

Floats = NDArray[np.float64]

FILM = 4
"""Number that marks the purpose of films for `phonons.generator`."""

MOST_ROUNDS = 2000
"""Rounds of candidates after which random addition gives up. A film below ADDITION needs at most a few hundred."""

ADDITION = 0.3
"""Largest packing fraction for which random sequential addition alone makes a film. Above it, addition becomes slow. At
0.384 it jams (Zhang & Torquato, Phys. Rev. E 88 (2013) 053312)."""

DENSEST_PACKING = 0.5
"""Largest packing fraction. Spheres begin to crystallise at 0.494, so a denser random film would have order."""

MOST_STEPS = 2000
"""Steps after which repulsion gives up. A film at DENSEST_PACKING needs a few hundred."""

LATEST = 0.1
"""Largest share of the taken places that may lie outside the large tree. To make this tree again costs more than to
search two trees."""

ROUNDING = 1e-9
"""Margin of repulsion above the smallest distance, as a share of it. Without the margin, the rounding of wrapped
coordinates could bring two atoms below the smallest distance."""

TINY = 1e-6
"""Smallest distance [Å] by which a push is divided. It prevents a division by zero if two atoms have one place."""

AHEAD = 0.01
"""Repulsion aims beyond the smallest distance by this share of it. So it reaches the smallest distance in a finite
number of steps."""

SKIN = 0.3
"""The list of neighbours reaches beyond the smallest distance by this share of it. Repulsion makes the list again when
an atom has moved by half of this share."""


@dataclass(frozen=True)
class Film:
    """An amorphous film of a specimen. Its atoms are number `first` to `last` − 1 of the specimen's atoms.

    Attributes
    ----------
    bottom, top : float
        Faces of the film along the beam [Å].
    distance : float
        Smallest distance of an atom of the film to any other atom [Å].
    redrawn : bool
        Whether each configuration has positions of its own.
    length_x, length_y : float
        How far the film reaches from x = y = 0 [Å]: as far as the crystal, without the vacuum beside the crystal.
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
    """Atoms at rest (N, 3) [Å]. Atoms of films that each configuration draws have new positions; all others stay."""
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


def packing(number: int, cell: tuple[float, float], bottom: float, top: float, distance: float) -> float:
    """Packing fraction (π/6)·n·d³ of a film.

    The volume is that of spheres of diameter d around its atoms, which reach half a distance beyond each face.
    """
    return math.pi / 6 * distance**3 * number / (cell[0] * cell[1] * (top - bottom + distance))


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

    The density is exact, and there is no order beyond the smallest distance. If the packing fraction (π/6)·n·d³ is at
    most ADDITION, positions are added one after the other where they have room. This is random sequential addition
    (Widom, J. Chem. Phys. 44 (1966) 3888). A denser film begins with all atoms at uniformly random positions. Then
    atoms that are too near repel each other until none is too near. This is the force-biased algorithm with constant
    diameters (Jodrey & Tory, Phys. Rev. A 32 (1985) 2347; Bezrukov, Bargieł & Stoyan, Part. Part. Syst. Charact. 19
    (2002) 111). Many nearest neighbours then have the smallest distance, or up to AHEAD more.

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
    filled = packing(number, cell, bottom, top, distance)
    if filled > DENSEST_PACKING and number > 1:
        raise ValueError(f"at most some {DENSEST_PACKING / filled * number:.0f} of {number} atoms have room")
    # ASSUME: an amorphous film has a density and a smallest distance, but no bonds and no short-range order.
    lengths = np.array([cell[0], cell[1], 0.0])
    near = wrap_positions(others[(others[:, 2] > bottom - distance) & (others[:, 2] < top + distance)], lengths)
    if filled <= ADDITION:
        placed = _added(generator, number, lengths, bottom, top, distance, near)
        if len(placed) == number:
            return placed
    return _repelled(generator, number, lengths, bottom, top, distance, near)


def _added(
    generator: np.random.Generator, number: int, lengths: Floats, bottom: float, top: float, distance: float,
    near: Floats,
) -> Floats:  # fmt: skip
    """Random sequential addition of up to `number` positions beside those of `near`."""
    room = _Room(lengths, distance, near)
    placed = np.empty((0, 3))
    for _ in range(MOST_ROUNDS):
        missing = number - len(placed)
        if missing <= 0:
            break
        candidates = room.left_of(_drawn(generator, max(2 * missing, 64), lengths, bottom, top))
        kept = candidates[_apart(candidates, lengths, distance)][:missing]
        room.take(kept)
        placed = np.concatenate([placed, kept])
    return placed


class _Room:
    """The room that is left: places that are not nearer than a distance to the places taken.

    A large tree holds most of the places taken and is seldom made again. A small tree holds the latest ones.
    """

    def __init__(self, lengths: Floats, distance: float, taken: Floats) -> None:
        self.lengths, self.distance = lengths, distance
        self.old, self.latest = taken, np.empty((0, 3))
        self.trees = [self._tree(taken)]

    def _tree(self, positions: Floats) -> cKDTree:
        from scipy.spatial import cKDTree

        return cKDTree(positions, boxsize=self.lengths)

    def take(self, positions: Floats) -> None:
        self.latest = np.concatenate([self.latest, positions])
        if len(self.latest) > LATEST * len(self.old):
            self.old, self.latest = np.concatenate([self.old, self.latest]), np.empty((0, 3))
            self.trees = [self._tree(self.old)]
        else:
            self.trees = [self.trees[0], self._tree(self.latest)]

    def left_of(self, candidates: Floats) -> Floats:
        for tree in self.trees:
            nearest = tree.query(candidates, distance_upper_bound=self.distance)[0]
            candidates = candidates[nearest >= self.distance]
        return candidates


def _repelled(
    generator: np.random.Generator, number: int, lengths: Floats, bottom: float, top: float, distance: float,
    near: Floats,
) -> Floats:  # fmt: skip
    """Uniformly random positions that are moved apart until none is nearer than `distance`. Those of `near` stay."""
    from scipy.spatial import cKDTree

    positions = _drawn(generator, number, lengths, bottom, top)
    periods = np.where(lengths > 0, lengths, np.inf)
    aim, anchor, pairs = (1 + AHEAD) * distance, None, np.empty((0, 2), dtype=np.intp)
    too_near = number
    for _ in range(MOST_STEPS):
        if anchor is None or np.abs(positions - anchor).max() > SKIN * distance / (2 * math.sqrt(3)):
            positions = wrap_positions(positions, lengths)
            anchor = positions.copy()
            tree = cKDTree(np.concatenate([positions, near]), boxsize=lengths)
            pairs = tree.query_pairs((1 + SKIN) * distance, output_type="ndarray")
            pairs = pairs[pairs[:, 0] < number]  # query_pairs gives first < second
        whole = np.concatenate([positions, near])
        apart = whole[pairs[:, 0]] - whole[pairs[:, 1]]
        apart -= lengths * np.rint(apart / periods)
        far = np.linalg.norm(apart, axis=1)
        too_near = int((far < (1 + ROUNDING) * distance).sum())
        if not too_near:
            return wrap_positions(positions, lengths)
        touching = far < aim
        first, second = pairs[touching].T
        fixed = second >= number
        # Each atom of a pair moves half of the way. An atom beside the film stays, so its partner moves the whole way.
        push = apart[touching] * (np.where(fixed, 1.0, 0.5) * (aim / np.maximum(far[touching], TINY) - 1))[:, None]
        for axis in range(3):
            moved = np.bincount(first, push[:, axis], number)
            moved -= np.bincount(second[~fixed], push[~fixed, axis], number)
            positions[:, axis] += moved
        positions[:, 2] = _reflected(positions[:, 2], bottom, top)
    raise ValueError(f"{too_near} pairs of {number} atoms stay too near to each other")


def _reflected(z: Floats, bottom: float, top: float) -> Floats:
    """Heights reflected at the faces of the film. Clipping would collect atoms at the faces."""
    inside = np.where(z < bottom, 2 * bottom - z, np.where(z > top, 2 * top - z, z))
    return np.clip(inside, bottom, top)


def _drawn(generator: np.random.Generator, number: int, lengths: Floats, bottom: float, top: float) -> Floats:
    """Uniformly random positions in the layer."""
    drawn = generator.random((number, 3)) * [lengths[0], lengths[1], top - bottom]
    return wrap_positions(drawn + np.array([0.0, 0.0, bottom]), lengths)


def _apart(candidates: Floats, lengths: Floats, distance: float) -> NDArray[np.bool_]:
    """Which candidates to keep: those that are not too near to an earlier candidate that is kept."""
    from scipy.spatial import cKDTree

    kept = np.ones(len(candidates), dtype=bool)
    if len(candidates) < 2:
        return kept
    pairs = cKDTree(candidates, boxsize=lengths).query_pairs(distance, output_type="ndarray")
    for first, second in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))].tolist():  # query_pairs gives first < second
        if kept[first]:
            kept[second] = False
    return kept
