"""Choose the slices of an experiment from `grating` and the layers of the specimen, and make notes for the plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from stemphony.errors import ConfigError
from stemphony.physics import slicing
from stemphony.physics.periods import VACUUM, Layers, Periods
from stemphony.physics.slicing import NEAR, NO_GAP, Slices, Stretch, number_of_slices

MOST = 2.0
"""Largest thickness of the slices that `auto` makes [Å]. The schema states the same limit."""

THIN = 0.5
"""Smallest thickness of slices [Å] that `auto` takes to make their planes equal. Thinner slices cost more than they
gain."""

_ROUNDING = 1e-4
"""Lengths that differ by less than this [Å] are equal. The value is above the rounding of files along a whole crystal
cell."""

_MOST_PERIODS = 100
"""Longest beat that `beat` looks for [lattice periods]. The false zone of a longer beat lies within the probe."""

DIVIDED = "slices_divided"
"""Key of `grating` that no config has. It cuts each slice into this number of equal parts, to measure the error that
the thickness causes. The boundaries still follow the atoms."""

THICKNESS = "grating.slice_thickness_angstrom"
BOUNDARIES = "grating.slice_boundaries_angstrom"
"""Keys of the config that errors name."""


@dataclass(frozen=True)
class SliceChoice:
    """Chosen slices, notes for the plan, and whether the structure file names the slice of each atom."""

    slices: Slices
    notes: tuple[str, ...] = ()
    of_file: bool = False


def chosen_slices(grating: Mapping[str, Any], layers: Layers, length_z: float, wavelength: float) -> SliceChoice:
    """Choose the slices of a cell.

    Parameters
    ----------
    grating : mapping
        Block of the config with `slice_thickness_angstrom` and `slice_boundaries_angstrom`, perhaps with `DIVIDED`.
    layers : Layers
        The undisplaced atoms along the beam.
    length_z : float
        Length of the cell along the beam, vacuum included [Å].
    wavelength : float
        λ [Å], for the angle of a false zone.

    Returns
    -------
    SliceChoice
        The slices [Å], with notes for the user.

    Raises
    ------
    ConfigError
        A slice is thicker than the cell, both keys are given, boundaries do not ascend within the cell, or the slices
        of the structure file do not follow each other.
    """
    thickness, boundaries = grating["slice_thickness_angstrom"], grating.get("slice_boundaries_angstrom")
    divided = grating.get(DIVIDED, 1)
    if boundaries is not None:
        if thickness != "auto":
            raise ConfigError(BOUNDARIES, f"given together with {THICKNESS}: {thickness:g}; give one of the two.")
        return _between(_divided(boundaries, length_z, divided), layers, length_z)
    if thickness == "auto" and layers.slice_id is not None:
        found = _of_file(layers, length_z)
        if divided == 1:
            return found
        # The file does not name such thin slices, so the heights of the atoms decide.
        thickness, divided = length_z / (divided * len(found.slices)), 1
    if thickness != "auto" and thickness > length_z * (1 + 1e-6):
        largest = math.floor(length_z * 1e6 + 1e-6) / 1e6
        raise ConfigError(
            THICKNESS, f"got {thickness:g} Å; the cell is only {largest:.9g} Å thick. Use a thickness of at most that."
        )
    chosen = _Equal(layers, length_z, None if thickness == "auto" else float(thickness), divided)
    notes = [*chosen.notes, *chosen.crowded()]
    if thickness != "auto":
        notes += chosen.beat(wavelength)
        if layers.slice_id is not None:
            notes.append(
                f"the slices of the structure file (sixth column) are not used, because {THICKNESS} is "
                f"{thickness:g}. With auto they are."
            )
    return SliceChoice(chosen.slices, tuple(notes))


class _Equal:
    """Equal slices of the crystal, and slices of the films and vacuum in the same cell.

    Attributes
    ----------
    slices : Slices
    notes : list of str
    has_gaps : bool
        Whether the heights of the crystal's atoms leave room for boundaries.
    """

    def __init__(self, layers: Layers, length_z: float, thickness: float | None, divided: int = 1) -> None:
        self.layers, self.length_z, self.thickness, self.divided = layers, length_z, thickness, divided
        self.notes: list[str] = []
        self.has_gaps = True
        begin, end = self._crystal()
        self.main = self._main(begin, end)
        front = [self._in_front(begin)] if begin > _ROUNDING else []
        last = self.main.end if self.main.number else begin
        back = [self._besides(last, length_z)] if length_z - last > _ROUNDING else []
        stretches = [*front, *([self.main] if self.main.number else []), *back]
        self.slices = _without_empty_ends(slicing.joined(stretches, layers.heights, length_z), layers.heights)

    def _crystal(self) -> tuple[float, float]:
        """Where the equal slices of the crystal begin and end [Å]."""
        periods, z, lz = self.layers.periods, self.layers.heights, self.length_z
        if not z.size or (periods.length == 0 and not periods.slab):
            return 0.0, lz
        if periods.slab:
            low, high = float(z.min()), float(z.max())
            if self.thickness is None:
                return low, high
            return low if low > VACUUM else 0.0, high if lz - high > VACUUM else lz
        begin, end = periods.begin, periods.begin + periods.length
        if end > lz - _ROUNDING:
            end = lz
        if self.thickness is not None:
            # A thickness that the user gave holds for films too, but not for vacuum.
            beside = begin > _ROUNDING or lz - end <= VACUUM or float(z.max()) > end + NEAR
            return (0.0, lz) if beside else (0.0, end)
        return begin, end

    def _main(self, begin: float, end: float) -> Stretch:
        length = end - begin
        if length <= _ROUNDING:
            return Stretch(begin, 0, 0.0)
        periods = self.layers.periods
        if self.thickness is not None:
            number = number_of_slices(length, self.thickness)
            dz = length / number
        elif periods.slab:
            dz = auto_thickness(periods) or length
            number = max(1, math.ceil(length / dz - _ROUNDING))
            number = max(1, min(number, math.floor((self.length_z - begin) / dz + _ROUNDING)))
        else:
            dz = auto_thickness(periods) or length / number_of_slices(length, MOST)
            number = max(1, round(length / dz))
            dz = length / number
        number, dz = number * self.divided, dz / self.divided
        z = self.layers.heights
        inside = z[(z >= begin - _ROUNDING) & (z <= begin + number * dz + _ROUNDING)]
        offset = slicing.edge_offset(inside - begin, dz)
        if offset is None:
            self.has_gaps = False
            self.notes.append(
                f"slices: the heights of the atoms leave no gap above {NO_GAP:g} Å, so the boundaries lie at multiples "
                f"of {dz:.4f} Å and cut through layers of atoms."
            )
        return Stretch(begin, number, dz, offset or 0.0)

    def _in_front(self, begin: float) -> Stretch:
        """Slices in front of the crystal. Vacuum ends some way before the crystal, so that no atom moves into it."""
        found = self._besides(0.0, begin)
        if found.number > 1 or (self.layers.heights <= NEAR).any():
            return found
        return Stretch(0.0, 1, begin, -min(1.0, 0.5 * begin))

    def _besides(self, begin: float, end: float) -> Stretch:
        """A film in equal slices, or vacuum as one propagation."""
        z, length = self.layers.heights, end - begin
        if not ((z > begin + NEAR) & (z < end - NEAR)).any():
            return Stretch(begin, 1, length)
        number = number_of_slices(length, self.thickness or MOST) * self.divided
        self.notes.append(
            f"slices: the amorphous film from {begin:.4g} to {end:.4g} Å has {number} slices of "
            f"{length / number:.4f} Å; their boundaries cut through it."
        )
        return Stretch(begin, number, length / number)

    def crowded(self) -> list[str]:
        """Note on boundaries in the crystal with atoms near both sides. Boundaries always cut films."""
        z, main = self.layers.heights, self.main
        crystal = z[(z >= main.begin - NEAR) & (z <= main.end + NEAR)]
        return _crowded(self.slices, crystal) if self.has_gaps else []

    def beat(self, wavelength: float) -> list[str]:
        """Note on a thickness that does not fit the lattice, with the angle of the false zone √(2λ/period)."""
        periods, dz = self.layers.periods, self.main.thickness
        if not dz or not 0 < periods.lattice < periods.length * (1 - 1e-6):
            return []
        ratio = periods.lattice / dz
        beats = Fraction(ratio).limit_denominator(_MOST_PERIODS)
        drift = abs(ratio - float(beats)) * periods.length / periods.lattice
        if 1 in (beats.numerator, beats.denominator) and drift < NEAR:
            return []
        period = periods.lattice * max(2, beats.denominator)
        angle = 1e3 * math.sqrt(2 * wavelength / period)
        good = auto_thickness(periods) or periods.lattice / number_of_slices(periods.lattice, MOST)
        return [
            f"{THICKNESS} {self.thickness:g} makes slices of {dz:.4f} Å, {ratio:.4g} in a lattice period of "
            f"{periods.lattice:.4f} Å along the beam: they beat with it, and false Laue zones begin near "
            f"{angle:.0f} mrad. auto takes {good:.6g} Å, which does not beat."
        ]


def auto_thickness(periods: Periods) -> float | None:
    """Thickness of slices of at most `MOST` that have the periods of the planes of atoms [Å].

    `periods` are the periods of the atoms; the result is None if there are none along the beam. Several planes share a
    slice only if every slice holds equally many planes, and if slices and lattice fit into each other. So the slices
    have no period longer than that of the lattice or their own thickness.
    """
    spacing, lattice, length = periods.spacing, periods.lattice, periods.length
    if spacing <= 0:
        return None
    if spacing > MOST * (1 + 1e-6):
        return spacing / number_of_slices(spacing, MOST)
    of_lattice, of_crystal = (max(1, round(whole / spacing)) for whole in (lattice, length))
    fitting = [
        m
        for m in range(1, math.floor(MOST / spacing + 1e-6) + 1)
        if (of_lattice % m == 0 or m % of_lattice == 0) and (periods.slab or of_crystal % m == 0)
    ]
    if fitting[-1] * spacing < THIN < length:
        return length / number_of_slices(length, MOST)
    return fitting[-1] * spacing


def _without_empty_ends(slices: Slices, heights: np.ndarray) -> Slices:
    """Join empty slices at the entrance to one propagation, and those at the exit too, because they are vacuum."""
    if not heights.size or len(slices) < 2:
        return slices
    occupied = np.unique(slices.index(heights))
    first, last = int(occupied[0]), int(occupied[-1])
    faces, thicknesses, edges = list(slices.faces), list(slices.thicknesses), list(slices.edges)
    behind = range(last + 1, len(faces))
    if len(behind) > 1 and sum(thicknesses[last + 1 :]) > VACUUM:
        thicknesses[last + 1 :] = [math.fsum(thicknesses[last + 1 :])]
        del faces[last + 2 :], edges[last + 2 :]
    if first > 1 and sum(thicknesses[:first]) > VACUUM:
        thicknesses[:first] = [math.fsum(thicknesses[:first])]
        del faces[1:first], edges[1:first]
    return Slices(tuple(faces), tuple(thicknesses), tuple(edges))


def _crowded(slices: Slices, heights: np.ndarray) -> list[str]:
    """Note on atoms near both sides of a boundary. Rounding or motion may move them to the other slice."""
    crowded = slices.crowded_edges(heights)
    if not crowded:
        return []
    return [
        f"slices: atoms lie within {NEAR:g} Å on both sides of {len(crowded)} of {len(slices) - 1} boundaries, first "
        f"at {crowded[0]:.4f} Å, so layers of atoms are cut. Choose a thickness that fits the layers (auto), or "
        f"{BOUNDARIES}."
    ]


def _divided(boundaries: Sequence[float], length_z: float, parts: int) -> Sequence[float]:
    """Add boundaries that cut each slice into equal parts. The result includes the faces of the cell."""
    if parts == 1:
        return boundaries
    inner = [float(b) for b in boundaries if _ROUNDING < b < length_z - _ROUNDING]
    return [
        begin + (end - begin) * part / parts
        for begin, end in pairwise([0.0, *inner, length_z])
        for part in range(parts)
    ]


def _between(boundaries: Sequence[float], layers: Layers, length_z: float) -> SliceChoice:
    """Slices between the boundaries of the config. The config need not list the faces of the cell."""
    inner = [float(b) for b in boundaries if _ROUNDING < b < length_z - _ROUNDING]
    outside = [b for b in boundaries if b < -_ROUNDING or b > length_z + _ROUNDING]
    if outside or any(b <= a for a, b in pairwise(boundaries)):
        what = f"{outside[0]:g} lies outside the cell" if outside else "they do not ascend"
        raise ConfigError(
            BOUNDARIES,
            f"got {len(boundaries)} boundaries, and {what}; allowed are ascending values from 0 to {length_z:.6g} Å.",
        )
    slices, moved = slicing.slices_between([0.0, *inner, length_z], layers.heights)
    notes = _crowded(slices, layers.heights)
    if moved:
        notes.append(
            f"slices: {moved} boundaries lie up to {2 * NO_GAP:g} Å behind a layer of atoms; that layer belongs to the "
            "slice that begins there."
        )
    return SliceChoice(slices, tuple(notes))


def _of_file(layers: Layers, length_z: float) -> SliceChoice:
    assert layers.slice_id is not None
    try:
        slices = slicing.slices_of_atoms(layers.slice_id, layers.heights, length_z)
    except ValueError as error:
        raise ConfigError(
            THICKNESS, f"auto takes the slices that the structure file names for its atoms, but {error}. Use a number."
        ) from None
    return SliceChoice(slices, ("the slice of each atom is that of the structure file (sixth column).",), of_file=True)


def stored_depths(depths: Mapping[str, Any], slices: Slices) -> tuple[int, ...]:
    """Numbers of slices after which signals are stored, ascending. The last number is the exit.

    Parameters
    ----------
    depths : mapping
        Block of the config.
    slices : Slices

    Returns
    -------
    tuple of int
        Counted from 1.

    Raises
    ------
    ConfigError
        A depth lies outside the specimen.
    """
    number, ends = len(slices), slices.depths
    lz = ends[-1]

    def nearest(depth: float) -> int:
        index = round(float(np.interp(depth, [0.0, *ends], np.arange(number + 1))))
        # Atoms of the exit surface act at the depth where the slice before them ends. Store behind them.
        return number if 0 < index < number and ends[index - 1] == lz else index

    if depths["every_angstrom"] is not None:
        step = depths["every_angstrom"]
        multiples = range(1, math.floor(lz / step + 1e-9) + 1) if step >= 1e-3 * slices.usual_thickness else ()
        if step <= min(t for t in slices.thicknesses if t > 0):
            return tuple(sorted({nearest(end) for end in ends}))
        return tuple(sorted({max(1, nearest(m * step)) for m in multiples} | {number}))
    if depths["at_angstrom"] is None:
        return (number,)
    chosen = set()
    for depth in depths["at_angstrom"]:
        at = nearest(depth)
        if at < 1 or depth > lz + 1e-6:
            allowed = math.floor(lz * 1e6 + 1e-6) / 1e6
            raise ConfigError(
                "depths.at_angstrom",
                f"got {depth:g} Å; allowed is {ends[0]:.6g} (one slice) to {allowed:.9g} Å (exit).",
            )
        chosen.add(at)
    return tuple(sorted(chosen))
