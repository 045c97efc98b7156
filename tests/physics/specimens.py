"""Crystals and thin specimens that several tests use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FACE_CENTRED = ((0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5))


def _shifted(sites: tuple[tuple[float, ...], ...], by: float) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(coordinate + by for coordinate in site) for site in sites)


LATTICE = {"Si": 5.431, "GaAs": 5.6533, "SrTiO3": 3.905, "Au": 4.0782}
"""Lattice parameters of the cubic cells [Å]."""

BASIS = {
    "Si": {"Si": _FACE_CENTRED + _shifted(_FACE_CENTRED, 0.25)},
    "GaAs": {"Ga": _FACE_CENTRED, "As": _shifted(_FACE_CENTRED, 0.25)},
    "SrTiO3": {
        "Sr": ((0, 0, 0),),
        "Ti": ((0.5, 0.5, 0.5),),
        "O": ((0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)),
    },
    "Au": {"Au": _FACE_CENTRED},
}


@dataclass
class Specimen:
    """Atoms in an orthogonal cell [Å]."""

    symbols: list[str]
    positions: NDArray[np.float64]
    cell: tuple[float, float, float]


def crystal(name: str, repeat: tuple[int, int, int]) -> Specimen:
    """A cubic crystal, repeated, in a cell that it fills."""
    a = LATTICE[name]
    cells = np.array(list(np.ndindex(*repeat)), dtype=float)
    symbols: list[str] = []
    positions = []
    for symbol, sites in BASIS[name].items():
        for site in sites:
            symbols += [symbol] * len(cells)
            positions.append((cells + site) * a)
    return Specimen(symbols, np.concatenate(positions), (repeat[0] * a, repeat[1] * a, repeat[2] * a))
