"""Read configurations of AtomEye (standard and extended) and of QSTEM, which adds B, occupancy and charge."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from stemphony.errors import SpecimenError
from stemphony.specimen import columns, elements, source, statements, table
from stemphony.specimen.lattice import Floats
from stemphony.specimen.structure import Structure

QSTEM_COLUMNS = ("B_iso", "occupancy", "charge")  # meaning of the columns without names in files of QSTEM


def read_cfg(file: Path) -> Structure:
    """The structure of a CFG file: edges A · H0 · Transform as rows [Å], coordinates as fractions.

    Raises
    ------
    SpecimenError
        The file is damaged, has a strain (eta), or has another number of atoms than it announces.
    """
    lines = [re.split(r"#", line)[0].strip() for line in source.read_text(file).splitlines()]
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line]
    keys = {}
    body: list[tuple[int, str]] = []
    velocities = True
    for number, line in numbered:
        if line == ".NO_VELOCITY.":
            velocities = False
        elif "=" in line:
            key, value = (part.strip() for part in line.split("=", 1))
            keys[key] = value
        else:
            body.append((number, line))
    cell = _cell(file, keys)
    count = _count(file, keys)
    extended = "entry_count" in keys
    notes: list[str] = []
    symbols, rows = _atoms(file, body, extended, notes)
    if len(rows) != count:
        raise SpecimenError(
            file, f"announces {count:,} atoms, but has {len(rows):,}: it is truncated or damaged. Export it again."
        )
    width = {len(row) for row in rows}
    if len(width) > 1:
        raise SpecimenError(file, f"its atoms have {sorted(width)} numbers; all need the same. Export it again.")
    values = np.array(rows)
    extra = values[:, 6 if velocities or not extended else 3 :]
    named = _names(keys, extra.shape[1] if extended else 0)
    quantities = columns.take(
        {name: _unit(keys, i) * extra[:, i] if columns.has_meaning(name) else extra[:, i]
         for i, name in enumerate(named)}, file,
    )  # fmt: skip
    notes += quantities.notes
    if extended and named and "auxiliary[0]" not in keys:
        notes.append(f"columns without names are QSTEM's: {', '.join(named)}")
    if not np.array_equal(_matrix(keys, "Transform"), np.eye(3)):
        notes.append("the matrix Transform is applied to the cell")
    scaled = _scale(file, keys) != 1
    lengths = [value for key, value in keys.items() if key.startswith(("H0(", "auxiliary["))]
    read_otherwise = any("nm" in value for value in lengths) or re.search(r"\d\.?[dD]", keys.get("A", "")) is not None
    return Structure(
        symbols=symbols,
        positions=values[:, :3] @ cell,
        cell=cell,
        u_iso=quantities.u_iso,
        u_aniso=quantities.u_aniso,
        occupancy=quantities.occupancy,
        charge=quantities.charge,
        format="cfg",
        reader="Stemphony",
        notes=tuple(notes),
        revision=3 if read_otherwise else 2 if scaled or quantities.changes_numbers or "Transform(1,1)" in keys else 1,
    )


def _scale(file: Path, keys: dict[str, str]) -> float:
    """The length scale A [Å]."""
    text = keys.get("A", "1")
    try:
        value = _length_with_unit(text)
    except ValueError:
        value = np.nan
    if not value > 0:
        raise SpecimenError(file, f"A = {text[:40]!r}; a positive length scale in Å is needed. Correct the line.")
    return value


def _length_with_unit(text: str) -> float:
    """Convert a length with its unit to Å, such as `4.05`, `4.05 Angstrom (basic length-scale)` or `0.405 nm`."""
    match = re.match(r"[-+.\d]+(?:[eEdD][-+]?\d+)?", text)
    if match is None:
        raise ValueError(text)
    unit = text[match.end() :].strip(" ([").lower()
    return table.number(match[0]) * (10.0 if unit.startswith(("nm", "nanom")) else 1.0)


def _matrix(keys: dict[str, str], name: str, diagonal: float = 1.0) -> Floats:
    result = diagonal * np.eye(3)
    for i in range(3):
        for j in range(3):
            text = keys.get(f"{name}({i + 1},{j + 1})")
            if text is not None:
                result[i, j] = _length_with_unit(text)
    return result


def _cell(file: Path, keys: dict[str, str]) -> Floats:
    keys.update({re.sub(r"\s", "", key): value for key, value in list(keys.items()) if "(" in key})
    if not all(f"H0({i},{i})" in keys for i in (1, 2, 3)):
        raise SpecimenError(file, "lines H0(1,1) to H0(3,3) are missing: a CFG file needs the cell. Export it again.")
    try:
        strain = _matrix(keys, "eta", 0.0)
        cell = _matrix(keys, "H0", 0.0) @ _matrix(keys, "Transform")
    except (ValueError, IndexError):
        raise SpecimenError(file, "a number of H0, Transform or eta cannot be read. Correct the line.") from None
    if strain.any():
        raise SpecimenError(file, "has a strain (eta), which is not available. Write the strained cell into H0.")
    return np.asarray(cell * _scale(file, keys))


def _count(file: Path, keys: dict[str, str]) -> int:
    text = next((value for key, value in keys.items() if key.lower() == "number of particles"), "")
    if not text.split() or not table.is_count(text.split()[0]):
        raise SpecimenError(file, f"Number of particles = {text[:40]!r}; a whole number is needed. Export it again.")
    return int(text.split()[0])


def _atoms(
    file: Path, body: list[tuple[int, str]], extended: bool, notes: list[str]
) -> tuple[np.ndarray, list[list[float]]]:
    symbols: list[str] = []
    rows: list[list[float]] = []
    current, mass = "", 0.0
    pairs: dict[tuple[str, float], int] = {}
    for number, line in body:
        words = line.split()
        try:
            if extended and len(words) == 1:
                if not words[0][0].isalpha():
                    mass = table.number(words[0])
                    continue
                current = _element(file, words[0], number)
                pairs.setdefault((current, mass), number)
                mass = 0.0  # each element has its own, or none
            elif extended:
                if not current:
                    raise SpecimenError(file, f"line {number}: an atom stands before its element. Export it again.")
                rows.append([table.number(word) for word in words])
                symbols.append(current)
            else:
                symbols.append(_element(file, words[1], number))
                pairs.setdefault((symbols[-1], table.number(words[0])), number)
                rows.append([table.number(word) for word in words[2:]])
        except (ValueError, IndexError):
            raise SpecimenError(
                file, f"line {number}: got {line[:60]!r}, expected numbers of an atom. Correct the line."
            ) from None
    if rows and min(len(row) for row in rows) < 3:
        raise SpecimenError(file, "an atom has fewer than three coordinates. Export it again.")
    for (symbol, mass), number in pairs.items():
        note = statements.mass_difference(f"line {number}", symbol, mass)
        notes += [note] if note else []
    return np.array(symbols, dtype="<U2"), rows


def _element(file: Path, name: str, number: int) -> str:
    found = elements.from_type(name)
    if found is None:
        raise SpecimenError(file, elements.unknown_symbol(name, f"line {number}"))
    return "H" if found[0] in elements.ISOTOPES else found[0]


def _unit(keys: dict[str, str], column: int) -> float:
    """Unit of a column that is an area, in Å², such as `auxiliary[0] = u_iso [nm^2]`; 1 for other columns."""
    return 100.0 if re.search(r"[\[(]\s*nm\s*\^?\s*(2|²)", keys.get(f"auxiliary[{column}]", "")) else 1.0


def _names(keys: dict[str, str], count: int) -> list[str]:
    """Names of the columns behind the coordinates."""
    given = [keys.get(f"auxiliary[{i}]") for i in range(count)]
    if any(given):
        return [text.split()[0] if text else f"auxiliary[{i}]" for i, text in enumerate(given)]
    return [QSTEM_COLUMNS[i] if i < len(QSTEM_COLUMNS) else f"column {i + 4}" for i in range(count)]
