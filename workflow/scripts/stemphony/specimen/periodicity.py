"""The periods of a specimen as it is built, and its layers: what slices and grid follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from stemphony.physics.periods import Layers, Periods, find_periods
from stemphony.specimen.lattice import Floats
from stemphony.specimen.structure import Structure

if TYPE_CHECKING:
    from stemphony.specimen.structures import Specimen

AMONG_FRAMES = 0.3
"""Largest distance [Å] of equivalent atoms where the specimen is known by the mean of few snapshots, whose thermal
motion does not average out."""


def block_periods(cell: Structure, repeat: Sequence[int], film: float, vacuum: Sequence[float]) -> Periods:
    """Periods of a block of whole cells. Dopants and vacancies do not count: their crystal keeps its planes.

    Parameters
    ----------
    cell : Structure
        One cell, orthogonal, before it is repeated and doped.
    repeat : 3 ints
    film : float
        Thickness of the film at the entrance [Å].
    vacuum : 3 floats
        Vacuum that the config adds to the cell [Å].
    """
    lengths = np.diagonal(cell.cell)
    found = find_periods(cell.positions, kinds(cell), lengths, stacked=repeat[2] > 1)
    block = found.repeated(repeat).moved(film)
    return block.without_lateral(vacuum[0] > 0, vacuum[1] > 0)


def kinds(structure: Structure | Specimen) -> list[str]:
    """Kind of each atom, by element and occupancy: atoms of one kind scatter alike."""
    symbols: list[str] = structure.symbols.tolist()
    if structure.occupancy is None:
        return symbols
    return [f"{symbol} {share:.3f}" for symbol, share in zip(symbols, structure.occupancy.tolist(), strict=True)]


def layers_of(specimen: Specimen) -> Layers:
    """Heights of the undisplaced atoms and periods of a specimen; with snapshots those of the mean of the frames."""
    positions, periods = specimen.positions, specimen.periods
    if specimen.frames is not None:
        positions = mean_positions(specimen)
    if periods is None:
        periods = find_periods(positions, kinds(specimen), specimen.cell)
    if specimen.frames is not None and periods.spacing >= periods.length and not periods.slab:
        periods = find_periods(positions, kinds(specimen), specimen.cell, AMONG_FRAMES)
    return Layers(positions[:, 2], periods, specimen.slice_id)


def mean_positions(specimen: Specimen) -> Floats:
    """Mean of the frames, (N, 3) [Å]; an atom that crosses a face of the cell counts from where it was."""
    assert specimen.frames is not None
    lengths = np.asarray(specimen.cell)
    total = np.zeros_like(specimen.positions)
    for frame in specimen.frames:
        step = frame - specimen.positions
        total += step - lengths * np.round(step / lengths)
    return np.asarray(specimen.positions + total / len(specimen.frames))
