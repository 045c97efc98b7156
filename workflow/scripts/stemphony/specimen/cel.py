"""Read super-cell files `.cel` of Dr. Probe: cell in nm, fractions, occupancy and B in nm²."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stemphony.errors import SpecimenError
from stemphony.physics.constants import NM
from stemphony.specimen import source, table
from stemphony.specimen.displacements import from_b
from stemphony.specimen.structure import Structure

LAYOUT = (
    "A .cel file has a title, `0 a b c α β γ` (nm, °), one line `element x y z occupancy B` per atom (fractions, nm²) "
    "and `*`."
)


def read_cel(file: Path) -> Structure:
    """The structure of a `.cel` file; B [nm²] = 8π² ⟨u_x²⟩.

    Raises
    ------
    SpecimenError
        The file is damaged or ends without `*`. The text names the line.
    """
    lines = source.read_text(file).splitlines()
    head = lines[1].split() if len(lines) > 1 else []
    parameters = table.numbers(" ".join(head[1:7]), 6)
    if parameters is None:
        got = lines[1].strip()[:60] if len(lines) > 1 else ""
        raise SpecimenError(file, f"line 2: got {got!r}, expected the cell. {LAYOUT}")
    notes: set[str] = set()
    symbols, rows = [], []
    ended = False
    for number, line in enumerate(lines[2:], start=3):
        words = line.split()
        if words[:1] == ["*"]:
            ended = True
            notes |= table.behind_the_end(lines, number, "*")
            break
        if not words:
            continue
        if len(words) < 6:
            raise SpecimenError(file, f"line {number}: got {line.strip()[:60]!r}, expected an atom. {LAYOUT}")
        symbols.append(table.element(file, words[0], number, notes))
        rows.append(table.row(file, number, words[1:6], "fractions, occupancy and B"))
        if any(float(word) != 0 for word in words[6:9] if table.numbers(word, 1)):
            notes.add("columns behind B are not used")
    if not ended:
        raise SpecimenError(file, f"ends after line {len(lines)} without `*`: it is truncated. {LAYOUT}")
    values = np.array(rows).reshape(-1, 5)
    cell = table.required_cell(file, 2, [NM * p for p in parameters[:3]] + parameters[3:])
    return Structure(
        symbols=np.array(symbols, dtype="<U2"),
        positions=values[:, :3] @ cell,
        cell=cell,
        u_iso=from_b(NM**2 * values[:, 4]),
        occupancy=table.checked_occupancy(file, values[:, 3]),
        format="cel",
        reader="Stemphony",
        periodic=False,
        notes=tuple(sorted(notes)),
    )
