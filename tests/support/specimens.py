"""Small crystals, as atoms and as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stemphony.specimen.specimen import Specimen

A = 3.905
"""Lattice parameter of strontium titanate [Å]."""

U_ISO = {"Sr": 0.008, "Ti": 0.006, "O": 0.01}

_SITES = (
    ("Sr", (0.0, 0.0, 0.0)),
    ("Ti", (0.5, 0.5, 0.5)),
    ("O", (0.5, 0.5, 0.0)),
    ("O", (0.5, 0.0, 0.5)),
    ("O", (0.0, 0.5, 0.5)),
)


def srtio3(repeat: Sequence[int] = (1, 1, 1), frames: int = 0) -> Specimen:
    """Strontium titanate along [001], with `frames` made-up snapshots of it."""
    cells = np.array(list(np.ndindex(*repeat)), dtype=float)
    positions = np.concatenate([(cells + site) * A for _, site in _SITES])
    symbols = np.repeat([symbol for symbol, _ in _SITES], len(cells))
    moves = np.random.default_rng(3).normal(0, 0.1, (frames, *positions.shape))
    return Specimen(
        symbols=symbols,
        positions=positions,
        cell=(repeat[0] * A, repeat[1] * A, repeat[2] * A),
        u_iso=np.array([U_ISO[symbol] for symbol in symbols]),
        slice_id=None,
        format="ase",
        frames=positions + moves if frames else None,
    )


def crystal(lengths: tuple[float, float, float], sites: Sequence[tuple[str, tuple[float, float, float]]]) -> Specimen:
    """A cell with these lengths [Å] and sites in fractions of it, repeated 2 × 2 × 2."""
    cells = np.array(list(np.ndindex(2, 2, 2)), dtype=float)
    positions = np.concatenate([(cells + site) * lengths for _, site in sites])
    symbols = np.repeat([symbol for symbol, _ in sites], len(cells))
    cell = (2 * lengths[0], 2 * lengths[1], 2 * lengths[2])
    return Specimen(symbols, positions, cell, np.full(len(symbols), 0.01), None, "ase")


def aluminium() -> Specimen:
    """Two face-centred cubic cells along each edge, 8.1 Å long."""
    return crystal((4.05, 4.05, 4.05), [("Al", s) for s in ((0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5))])


def xyz(atoms: Sequence[str], cell: str = "8 0 0 0 8 0 0 0 8", properties: str = "species:S:1:pos:R:3") -> str:
    """Text of an extended XYZ file; each atom is a line `Sr 0 0 0`."""
    return f'{len(atoms)}\nLattice="{cell}" Properties={properties}\n' + "\n".join(atoms) + "\n"


def write_xyz(file: Path, specimen: Specimen) -> Path:
    """Write a specimen's atoms, and its frames as a trajectory, as extended XYZ."""
    cell = " ".join(str(length) for length in np.diag(specimen.cell).ravel())
    frames: Any = [specimen.positions] if specimen.frames is None else specimen.frames
    lines = (
        [f"{symbol} {x:.8f} {y:.8f} {z:.8f}" for symbol, (x, y, z) in zip(specimen.symbols, frame, strict=True)]
        for frame in frames
    )
    file.write_text("".join(xyz(atoms, cell) for atoms in lines))
    return file
