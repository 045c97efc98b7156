"""Read LAMMPS dumps (text): frames of atoms, with coordinates from the corner of the box."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stemphony.counting import number_of
from stemphony.errors import SpecimenError
from stemphony.specimen import columns, elements, source, table
from stemphony.specimen.lammps import box_edges, from_masses, length_of, require_ascending
from stemphony.specimen.lattice import Floats
from stemphony.specimen.statements import mass_difference
from stemphony.specimen.structure import Structure

COORDINATES = (("x", "y", "z"), ("xs", "ys", "zs"), ("xu", "yu", "zu"), ("xsu", "ysu", "zsu"))
OF_MOTION = ("vx", "vy", "vz", "fx", "fy", "fz")
FAR = 1.0
"""Distance [Å] from the box beyond which unwrapped coordinates belong to an atom that has crossed it. Nearer atoms move
about its face."""


def read_frames(file: Path) -> Iterator[Structure]:
    """Frames of the dump `file`, atoms in the order of their id, coordinates in Å.

    Raises
    ------
    SpecimenError
        A frame is truncated, or does not say which element its atoms are.
    """
    source.require_size(file)
    with source.text(file) as stream:
        lines = _Lines(file, stream)
        number = -1
        unit = "metal"
        while (text := lines.next()) is not None:
            if text.startswith("ITEM: UNITS"):
                unit = (lines.next() or "").strip()
            elif text.startswith("ITEM: TIMESTEP"):
                number += 1
                lines.next()
                yield _frame(lines, number, length_of(file, unit))
            elif text.startswith("ITEM: TIME"):
                lines.next()
            elif text.strip():
                raise SpecimenError(
                    file, f"line {lines.number}: got {text.strip()[:60]!r}, expected 'ITEM: TIMESTEP'. Export it again."
                )


def count_frames(file: Path) -> int:
    """Number of frames of the dump `file`.

    Raises
    ------
    SpecimenError
        The file cannot be read.
    """
    with source.text(file) as stream:
        return sum(line.startswith("ITEM: TIMESTEP") for line in stream)


class _Lines:
    def __init__(self, file: Path, stream: Iterator[str]) -> None:
        self.file, self.stream, self.number = file, stream, 0

    def next(self) -> str | None:
        self.number += 1
        return next(self.stream, None)


def _frame(lines: _Lines, number: int, length: float) -> Structure:
    file = lines.file
    count, cell, origin, periodic = -1, None, np.zeros(3), [False] * 3
    while True:
        text = lines.next()
        if text is None:
            raise SpecimenError(file, f"frame {number} (counted from 0) ends before its atoms: it is truncated.")
        if text.startswith("ITEM: NUMBER OF ATOMS"):
            word = (lines.next() or "").strip()
            if not table.is_count(word):
                raise SpecimenError(file, f"line {lines.number}: got {word[:40]!r}, expected a number of atoms.")
            count = int(word)
        elif text.startswith("ITEM: BOX BOUNDS"):
            cell, origin, periodic = _box(lines, text.split()[3:])
        elif text.startswith("ITEM: ATOMS"):
            break
        elif text.startswith(("ITEM: UNITS", "ITEM: TIME")):
            lines.next()
        else:
            raise SpecimenError(
                file, f"line {lines.number}: got {text.strip()[:60]!r}, expected 'ITEM: …'. Export it again."
            )
    if cell is None or count < 0:
        raise SpecimenError(file, f"frame {number} (counted from 0) has no box or no number of atoms. Export it again.")
    names = text.split()[2:]
    rows: list[list[str]] = []
    for _ in range(count):
        line = lines.next()
        words = [] if line is None else line.split()
        if len(words) < len(names) or words[:1] == ["ITEM:"]:
            raise SpecimenError(
                file,
                f"announces {count:,} atoms, but frame {number} (counted from 0) has {len(rows):,}: it is truncated, "
                "or the number of atoms changes. Export it again.",
            )
        rows.append(words)
    return _structure(file, names, rows, cell, origin, periodic, length)


def _box(lines: _Lines, words: list[str]) -> tuple[Floats, Floats, list[bool]]:
    values = []
    for _ in range(3):
        text = lines.next() or ""
        values.append(
            table.row(lines.file, lines.number, text.split(), "bounds of the box", 4 if words[:1] == ["abc"] else 2)
        )
    periodic = [word.lower().startswith("p") for word in words[-3:]] if len(words) >= 3 else [False] * 3
    if words[:1] == ["abc"]:
        data = np.array(values)
        return data[:, :3], data[:, 3], periodic
    tilts = [row[2] if len(row) > 2 else 0.0 for row in values]
    if len(words) >= 3 and set(words[:3]) == {"xy", "xz", "yz"}:
        by_name = dict(zip(words[:3], tilts, strict=True))
        tilts = [by_name[name] for name in ("xy", "xz", "yz")]
    low, high = np.array([row[:2] for row in values]).T
    require_ascending(lines.file, low, high)
    xy, xz, yz = tilts
    # The bounds enclose the tilted box, so its corner lies inside the bounds.
    low = low - np.array([min(0.0, xy, xz, xy + xz), min(0.0, yz), 0.0])
    high = high - np.array([max(0.0, xy, xz, xy + xz), max(0.0, yz), 0.0])
    return box_edges(high - low, tilts), low, periodic


def _structure(
    file: Path,
    names: list[str],
    rows: list[list[str]],
    cell: Floats,
    origin: Floats,
    periodic: list[bool],
    length: float,
) -> Structure:
    table_of = {name: [words[i] for words in rows] for i, name in enumerate(names)}
    notes: list[str] = []
    symbols = _elements(file, table_of, notes)
    chosen = next((axes for axes in COORDINATES if axes[0] in table_of), None)
    if chosen is None or any(axis not in table_of for axis in chosen):
        raise SpecimenError(
            file, f"has no coordinates (columns x y z or xs ys zs) in {' '.join(names)}. Export it again."
        )
    try:
        given = np.array([table_of[axis] for axis in chosen], dtype=float).T.reshape(-1, 3)
        order = (
            np.argsort(np.array(table_of["id"], dtype=int), kind="stable") if "id" in table_of else np.arange(len(rows))
        )
    except (ValueError, OverflowError):
        raise SpecimenError(file, "a coordinate or an id is no number. Export it again.") from None
    ids = table_of.get("id", [])
    if len(set(ids)) < len(ids):
        raise SpecimenError(file, "two atoms have the same id. Correct the column id, or export the file again.")
    # Numbers of images are not needed: wrapped coordinates ignore them, and unwrapped coordinates include them.
    known = ("q", "element", "typelabel", *OF_MOTION, *chosen)
    unused = [name for name in names if name not in known and not columns.is_without_meaning(name)]
    if unused:
        notes.append(f"columns that are not used: {', '.join(unused)}")
    scaled = chosen[0].startswith("xs")
    positions = given @ cell if scaled else given - origin
    if chosen[0].endswith("u"):
        positions = _wrapped(positions, cell, periodic, notes)
    charge = None
    if "q" in table_of:
        charge = _column(file, "q", table_of["q"])[order]
    skew = bool(cell[1, 0] * cell[2, 0] < 0)
    return Structure(
        symbols=np.array(symbols, dtype="<U2")[order],
        positions=length * positions[order],
        cell=length * cell,
        charge=charge,
        format="lammps-dump",
        reader="Stemphony",
        periodic=periodic[2],
        notes=tuple(notes),
        revision=2 if skew or length != 1 or (chosen[0].endswith("u") and len(notes) > 0) else 1,
    )


def _column(file: Path, name: str, words: list[str]) -> Floats:
    """A column as finite numbers."""
    try:
        values = np.array(words, dtype=float)
    except ValueError:
        values = np.array([np.nan])
    if not np.isfinite(values).all():
        raise SpecimenError(file, f"a value of the column {name} is no number. Correct it, or export the file again.")
    return values


def _elements(file: Path, table_of: dict[str, list[str]], notes: list[str]) -> list[str]:
    if "element" in table_of:
        known: dict[str, str] = {}
        for name in dict.fromkeys(table_of["element"]):
            found = elements.from_type(name)
            if found is None:
                raise SpecimenError(file, elements.unknown_symbol(name, "column element"))
            known[name] = "H" if found[0] in elements.ISOTOPES else found[0]
        for name, mass in dict.fromkeys(zip(table_of["element"], table_of.get("mass", []), strict=False)):
            note = mass_difference(f"element {name}", known[name], float(_column(file, "mass", [mass])[0]))
            notes += [note] if note else []
        return [known[name] for name in table_of["element"]]
    if "mass" in table_of:
        names = list(dict.fromkeys(table_of["mass"]))
        values = dict(zip(names, _column(file, "mass", names).tolist(), strict=True))
        known = from_masses(file, values, "a column element (dump_modify … element Sr Ti O)")
        text = ", ".join(f"{name} is {symbol}" for name, symbol in known.items())
        notes.append(f"elements are taken from the masses: {text}")
        return [known[name] for name in table_of["mass"]]
    labels = table_of.get("typelabel") or table_of.get("type", [])
    if labels and not any(label.isdigit() for label in set(labels)):
        return _elements(file, {"element": labels}, notes)
    raise SpecimenError(
        file,
        "does not say which element an atom type is: a LAMMPS file needs a column element. Add it (dump custom … "
        "element, dump_modify … element Sr Ti O) and write the file again.",
    )


def _wrapped(positions: Floats, cell: Floats, periodic: list[bool], notes: list[str]) -> Floats:
    """Move unwrapped coordinates back by whole boxes along periodic edges, if they left the box by more than FAR."""
    fractions = positions @ np.linalg.inv(cell)
    slack = FAR / np.linalg.norm(cell, axis=1)
    whole = np.where((fractions < -slack) | (fractions >= 1 + slack), np.floor(fractions), 0.0)
    whole[:, [i for i in range(3) if not periodic[i]]] = 0.0
    moved = int(whole.any(axis=1).sum())
    if moved:
        what = "with unwrapped coordinates"
        brought = number_of(moved, f"atom {what} is brought", f"atoms {what} are brought")
        notes.append(f"{brought} back into the periodic box")
    return np.asarray(positions - whole @ cell)
