"""The periods of a specimen as it is built, and its layers: what slices and grid follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stemphony.physics.periods import Layers, Periods, find_periods
from stemphony.specimen.lattice import Floats
from stemphony.specimen.structure import Structure

if TYPE_CHECKING:
    from stemphony.specimen.structures import Specimen

DISPLACED = 0.5
"""Largest distance [Å] of equivalent atoms, and of neighbours in a plane, where heat or relaxation displaces atoms."""


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
    found = periods_of(cell.positions, kinds(cell), lengths, repeat[2] > 1)
    block = found.repeated(repeat).moved(film)
    return block.without_lateral(vacuum[0] > 0, vacuum[1] > 0)


def periods_of(positions: Floats, labels: list[str], cell: Sequence[float] | Floats, stacked: bool = False) -> Periods:
    """Periods of atoms; where they have none along the beam, those of their layers, as if nothing were displaced.

    Parameters
    ----------
    positions, labels, cell, stacked
        See `find_periods`.
    """
    found = find_periods(positions, labels, cell, stacked=stacked)
    if found.spacing < found.length:
        return found
    rough = find_periods(positions, labels, cell, DISPLACED, stacked)
    if rough.slab != found.slab or rough.spacing >= rough.length:
        return found
    return replace(found, spacing=rough.spacing, lattice=rough.lattice)


def kinds(structure: Structure | Specimen) -> list[str]:
    """Kind of each atom, by element, charge in use and occupancy: atoms of one kind scatter alike."""
    symbols: list[str] = getattr(structure, "species", structure.symbols).tolist()
    if structure.occupancy is None:
        return symbols
    return [f"{symbol} {share:.3f}" for symbol, share in zip(symbols, structure.occupancy.tolist(), strict=True)]


def layers_of(specimen: Specimen) -> Layers:
    """Heights of the undisplaced atoms and periods of a specimen; with snapshots those of the mean of the frames."""
    positions, periods = specimen.positions, specimen.periods
    if specimen.frames is not None:
        positions = mean_positions(specimen)
    if periods is None or (specimen.frames is not None and periods.spacing >= periods.length):
        periods = periods_of(positions, kinds(specimen), specimen.cell)
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
