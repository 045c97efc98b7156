"""Read crystal files of STEMsalabim: number of atoms; cell [nm]; element, x, y, z [nm], ⟨u_x²⟩ [nm²], maybe slice."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from stemphony.errors import SpecimenError
from stemphony.physics.constants import NM
from stemphony.specimen import crystal, elements, source, statements, table
from stemphony.specimen.structure import Structure

LAYOUT = "STEMsalabim's lines are `element x y z msd [slice]` in nm and nm²."
LARGEST_MSD = 2e-3
"""Largest mean square displacement [nm²]. It means 0.45 Å RMS per axis, which no crystal survives. U in Å² is
larger."""


THINNEST_WITH_VACUUM = 2e-3
"""Smallest density of a specimen with its vacuum [g/cm³]: that of a single layer of graphene in a cell of 400 nm."""


def lattice_values(header: str) -> list[float] | None:
    """The nine numbers of a `Lattice="…"` in a header without Properties."""
    match = re.search(r"\bLattice\s*=\s*[\"'{\[]([^\"'}\]]*)[\"'}\]]", header, re.IGNORECASE)
    if match is None or re.search(r"\bProperties\s*=", header, re.IGNORECASE):
        return None
    return table.numbers(match.group(1), 9)


def has_layout(lines: list[str]) -> bool:
    """Whether lines have the layout of STEMsalabim: a count, a cell, and an element with four or five numbers."""
    if len(lines) < 3 or not table.is_count(lines[0].strip()):
        return False
    words = lines[2].split()
    cell = table.numbers(lines[1], 3) is not None or lattice_values(lines[1]) is not None
    if not cell or len(words) not in (5, 6) or not words[0][:1].isalpha():
        return False
    return table.numbers(" ".join(words[1:]), len(words) - 1) is not None


def unit(file: Path, lines: list[str]) -> str:
    """Unit of a `file` with the layout of STEMsalabim, from its `lines`: `nm` or `angstrom`.

    If only one unit makes the density of a solid, it is that unit. Otherwise the fifth column decides. If line 2 has
    three lengths and the fifth column is a possible mean square displacement in nm², the unit is nm, unless the density
    in nm is far too small. Otherwise the file is refused.

    Raises
    ------
    SpecimenError
        Both units are possible. The text asks for `specimen.format`.
    """
    bare = table.numbers(lines[1], 3)
    given = lattice_values(lines[1]) if bare is None else None
    cell = np.diag(bare) if bare is not None else np.reshape(np.asarray(given, dtype=float), (3, 3))
    volume = abs(float(np.linalg.det(cell)))
    rows = [line.split() for line in lines[2 : 2 + int(lines[0])] if len(line.split()) in (5, 6)]
    counts: dict[str, float] = {}
    for words in rows:
        if words[0] in elements.numbers():
            counts[words[0]] = counts.get(words[0], 0.0) + 1
    fifth = [value for words in rows if (value := table.numbers(words[4], 1))]
    largest = max((value[0] for value in fifth), default=0.0)
    smallest = min((value[0] for value in fifth), default=0.0)
    if volume == 0 or not np.isfinite(volume) or not counts:
        return "nm"  # `read_stemsalabim` will say what is wrong
    in_nm = statements.density(counts, volume * NM**3)
    is_msd = smallest >= 0 and largest <= LARGEST_MSD
    if 1000 * in_nm > crystal.DENSEST * 4 and (is_msd or bare is not None):
        return "nm"
    if bare is not None and is_msd and largest > 0 and in_nm > THINNEST_WITH_VACUUM:
        return "nm"
    if bare is None and not is_msd and 1000 * in_nm <= crystal.DENSEST:
        return "angstrom"
    raise SpecimenError(
        file,
        f"does not say whether it is in nm or Å: its cell makes {in_nm:.3g} g/cm³ in nm and {1000 * in_nm:.3g} g/cm³ "
        f"in Å, and the fifth column reaches {largest:g}. Set `specimen.format: stemsalabim` for nm (fifth column: "
        "mean square displacement in nm²) or `specimen.format: ase` for Å.",
    )


def read_stemsalabim(file: Path) -> Structure:
    """The structure of a crystal file of STEMsalabim, with its slices.

    Raises
    ------
    SpecimenError
        A line is damaged. The text names the line.
    """
    lines = source.read_text(file).splitlines()
    count = _count(file, lines)
    header = lines[1] if len(lines) > 1 else ""
    lengths, lattice = table.numbers(header, 3), lattice_values(header)
    if lengths is None and lattice is None:
        raise SpecimenError(
            file,
            f"line 2: got {header.strip()[:60]!r}, expected the cell's three lengths in nm, or "
            'Lattice="lx 0 0 0 ly 0 0 0 lz" in nm without Properties. Correct the line, or set '
            "`specimen.format: ase` if the file is in Å.",
        )
    cell = np.diag(lengths) if lengths is not None else np.reshape(np.asarray(lattice, dtype=float), (3, 3))
    symbols: list[str] = []
    rows = np.empty((min(count, max(len(lines) - 2, 0)), 4))
    slices: list[int] = []
    for row, line in enumerate(lines[2 : 2 + len(rows)]):
        words = line.split()
        rows[row] = _atom(file, row + 3, line, words)
        symbols.append(words[0])
        if len(words) == 6:
            slices.append(_slice(file, row + 3, words[5]))
    if len(rows) < count:
        raise SpecimenError(
            file,
            f"line 1 announces {count} atoms, the file ends after {len(rows)}: it is truncated. "
            "Copy or export it again.",
        )
    for number, line in enumerate(lines[2 + count :], start=3 + count):
        if line.strip():
            raise SpecimenError(
                file, f"line {number}: more than the {count} atoms that line 1 announces. Correct line 1."
            )
    if slices and len(slices) < count:
        raise SpecimenError(file, f"{len(slices)} of {count} atoms have a sixth column (slice); all or none need it.")
    return Structure(
        symbols=np.array(symbols, dtype="<U2"),
        positions=NM * rows[:, :3],
        cell=NM * cell,
        u_iso=NM**2 * rows[:, 3],
        slice_id=np.array(slices) if slices else None,
        format="stemsalabim",
        reader="Stemphony",
        periodic=False,
    )


def _count(file: Path, lines: list[str]) -> int:
    count = int(lines[0]) if lines and table.is_count(lines[0].strip()) else -1
    if count < 1:
        got = lines[0].strip()[:40] if lines else ""
        raise SpecimenError(
            file,
            f"line 1: got {got!r}, expected the number of atoms, at least 1. {LAYOUT} Another kind of file "
            "needs `specimen.format: ase`.",
        )
    return count


def _atom(file: Path, number: int, line: str, words: list[str]) -> list[float]:
    values = table.numbers(" ".join(words[1:5]), 4) if len(words) in (5, 6) else None
    if values is None:
        raise SpecimenError(
            file,
            f"line {number}: got {line.strip()[:60]!r}, expected five columns, or six with a slice. {LAYOUT} Correct "
            "the line.",
        )
    if words[0] not in elements.numbers():
        raise SpecimenError(file, elements.unknown_symbol(words[0], f"line {number}"))
    if not np.isfinite(values).all() or values[3] < 0:
        what = "a coordinate" if not np.isfinite(values[:3]).all() else "the msd"
        raise SpecimenError(
            file,
            f"line {number}: {what} of {words[0]} is out of range in {line.strip()[:60]!r}; coordinates "
            "are finite, an msd is finite and at least 0. Correct the line.",
        )
    return values


def _slice(file: Path, number: int, word: str) -> int:
    value = table.numbers(word, 1)
    if value is None or not value[0].is_integer() or value[0] < 0:
        raise SpecimenError(file, f"line {number}: the slice is {word!r}; a whole number from 0 is needed. Correct it.")
    return int(value[0])
