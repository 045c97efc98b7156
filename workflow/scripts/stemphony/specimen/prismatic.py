"""Read the XYZ of Prismatic, computem (temsim) and py_multislice: cell [Å]; Z, x, y, z, occupancy, rms displacement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stemphony.errors import SpecimenError
from stemphony.specimen import source, table
from stemphony.specimen.lattice import Floats
from stemphony.specimen.structure import Structure

CLOSE = 1.0
"""Smallest distance of two atoms [Å] in a specimen without hydrogen. Fractions that are taken for Å make less."""
CLOSE_TO_HYDROGEN = 0.7
"""Smallest distance of two atoms [Å] in a specimen with hydrogen: that of H₂ is 0.74 Å."""
LAYOUT = "The file has a title, `a b c` [Å], one line `Z x y z occupancy rms` per atom, and -1."
SMALL_RMS = 0.03
"""Smallest usual rms displacement [Å]. Zero-point motion alone is larger, except in crystals of the heaviest, stiffest
elements."""


def _cell(line: str) -> Floats | None:
    """Edges as rows [Å], from three lengths, or from three lengths and three angles [°] as in py_multislice."""
    lengths = table.numbers(line, 3)
    if lengths is not None:
        return np.diag(lengths)
    parameters = table.numbers(line, 6)
    if parameters is None:
        return None
    return table.cell_of(parameters)


def looks_like_prismatic(lines: list[str]) -> bool:
    """Whether the second of `lines` is a cell, and the third has four to six numbers.

    The first of these numbers must be an atomic number.
    """
    if len(lines) < 3 or _cell(lines[1]) is None:
        return False
    words = lines[2].split()
    values = table.numbers(" ".join(words), len(words))
    if values is None or len(words) not in (4, 5, 6):
        return False
    return values[0].is_integer() and 1 <= values[0] <= 118


def read_prismatic(file: Path) -> Structure:
    """The structure; U = rms² [Å²], because the rms displacement is that of one axis.

    If all coordinates are from 0 to 1, they may be Å or fractions. They are fractions if, taken as Å, they put atoms
    closer than atoms can be, and taken as fractions they do not.

    Raises
    ------
    SpecimenError
        The file is damaged. The text names the line.
    """
    lines = source.read_text(file).splitlines()
    cell = _cell(lines[1]) if len(lines) > 1 else None
    if cell is None:
        got = lines[1].strip()[:60] if len(lines) > 1 else ""
        raise SpecimenError(file, f"line 2: got {got!r}, expected the three lengths of the cell in Å. {LAYOUT}")
    notes: set[str] = set()
    symbols, rows = [], []
    ended = False
    for number, line in enumerate(lines[2:], start=3):
        words = line.split()
        if words[:1] == ["-1"]:
            ended = True
            notes |= table.behind_the_end(lines, number, "-1")
            break
        if not words:
            continue
        symbols.append(table.element(file, words[0], number, notes))
        values = table.row(file, number, words[1:6], "`Z x y z occupancy rms`")
        if len(values) < 3:
            raise SpecimenError(file, f"line {number}: got {line.strip()[:60]!r}, expected an atom. {LAYOUT}")
        if len(values) > 4 and values[4] < 0:
            raise SpecimenError(
                file,
                f"line {number}: an rms displacement of {values[4]:g} Å; allowed is 0 or more. Correct this column.",
            )
        rows.append(values + [1.0, np.nan][len(values) - 3 :])
    if not ended and len(lines[-1].split()) != len(lines[2].split()):
        raise SpecimenError(file, f"ends after line {len(lines)} without -1: it is truncated. {LAYOUT}")
    if not ended:
        notes.add(f"ends after line {len(lines)} without the line -1: check that no atom is missing")
    if not rows:
        raise SpecimenError(file, "holds no atoms. A specimen needs at least one.")
    table_of = np.array(rows)
    positions = table_of[:, :3]
    if _fractional(symbols, positions, cell):
        positions = positions @ cell
        notes.add("its coordinates are fractions of the cell: taken as Å they would lie closer than atoms do")
    u_iso = table_of[:, 4] ** 2
    largest = np.nanmax(table_of[:, 4], initial=0.0)
    if 0 < largest < SMALL_RMS:
        notes.add(
            f"its last column reaches {largest:g} Å and is the rms displacement of this format, so U is at most "
            f"{largest**2:.2g} Å²; if the column holds U itself, set specimen.u_source: config and u_iso_angstrom2"
        )
    return Structure(
        symbols=np.array(symbols, dtype="<U2"),
        positions=positions,
        cell=cell,
        u_iso=u_iso if np.isfinite(u_iso).any() else None,
        occupancy=table.checked_occupancy(file, table_of[:, 3]),
        format="prismatic",
        reader="Stemphony",
        periodic=False,
        notes=tuple(sorted(notes)),
        revision=2,
    )


def _fractional(symbols: Sequence[str], positions: Floats, cell: Floats) -> bool:
    if len(positions) < 2 or positions.min() < -0.001 or positions.max() > 1.001:
        return False
    closest = CLOSE_TO_HYDROGEN if "H" in symbols else CLOSE
    return _shortest(positions) < closest <= _shortest(positions @ cell)


def _shortest(positions: Floats) -> float:
    from scipy.spatial import cKDTree

    return float(cKDTree(positions).query(positions, k=2)[0][:, 1].min())
