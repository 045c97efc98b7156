"""The periods of atoms and of a block of whole cells, on which slices and grid depend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stemphony.physics.periods import Periods, find_periods
from stemphony.specimen.lattice import Floats
from stemphony.specimen.structure import Structure

DISPLACED = 0.5
"""Largest distance [Å] of equivalent atoms, and of neighbours in a plane, if heat or relaxation displaces atoms."""


def block_periods(cell: Structure, repeat: Sequence[int], film: float, vacuum: Sequence[float]) -> Periods:
    """Periods of a block of whole cells. Dopants and vacancies do not count, because the planes of the crystal stay.

    Parameters
    ----------
    cell : Structure
        One orthogonal cell, before it is repeated and doped.
    repeat : 3 ints
    film : float
        Thickness of the film at the entrance [Å].
    vacuum : 3 floats
        Vacuum that the config adds to the cell [Å].

    Returns
    -------
    Periods
        Lengths in Å.
    """
    lengths = np.diagonal(cell.cell)
    found = periods_of(cell.positions, kinds(cell.symbols, cell.occupancy), lengths, repeat[2] > 1)
    block = found.repeated(repeat).moved(film)
    return block.without_lateral(vacuum[0] > 0, vacuum[1] > 0)


def periods_of(positions: Floats, labels: list[str], cell: Sequence[float] | Floats, stacked: bool = False) -> Periods:
    """Periods of atoms. If atoms have none along the beam, those of their layers, as if no atom were displaced.

    Parameters
    ----------
    positions, labels, cell, stacked
        See `find_periods`.

    Returns
    -------
    Periods
        Lengths in Å.
    """
    found = find_periods(positions, labels, cell, stacked=stacked)
    if found.spacing < found.length:
        return found
    rough = find_periods(positions, labels, cell, DISPLACED, stacked)
    if rough.slab != found.slab or rough.spacing >= rough.length:
        return found
    return replace(found, spacing=rough.spacing, lattice=rough.lattice)


def kinds(species: NDArray[np.str_], occupancy: Floats | None) -> list[str]:
    """Kind of each atom (N,), from its name or that of its ion, `species`, and its `occupancy`; (N,) each.

    `occupancy` is None if all are 1. Atoms of one kind scatter alike.
    """
    names: list[str] = species.tolist()
    if occupancy is None:
        return names
    return [f"{name} {share:.3f}" for name, share in zip(names, occupancy.tolist(), strict=True)]
