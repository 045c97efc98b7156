"""Read files `.xtl`: those of muSTEM, with occupancy and U, and the crystallographic XTL with keywords."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from stemphony.errors import SpecimenError
from stemphony.specimen import elements, source, table
from stemphony.specimen.cif import read_block
from stemphony.specimen.cif_block import CifBlock
from stemphony.specimen.structure import Structure

LAYOUT = (
    "muSTEM's .xtl has a title, `a b c α β γ`, (the energy in keV,) the number of elements, and for each element its "
    "symbol, `number Z occupancy U` and the fractions of its atoms."
)


def read_xtl(file: Path) -> Structure:
    """The structure of an `.xtl` file of either kind.

    U of muSTEM is ⟨u_x²⟩ [Å²]. The line with the energy may be missing. A zone axis (`Orientation`) other than c is
    refused.

    Raises
    ------
    SpecimenError
        The file is damaged. The text names the line.
    """
    lines = source.read_text(file).splitlines()
    if any(re.match(r"\s*(CELL|ATOMS)\b", line) for line in lines):
        return _crystallographic(file, lines)
    return _mustem(file, lines)


def _mustem(file: Path, lines: list[str]) -> Structure:
    def line(number: int) -> str:
        if number >= len(lines):
            raise SpecimenError(file, f"ends after line {len(lines)}: it is truncated. {LAYOUT}")
        return lines[number]

    parameters = table.numbers(line(1), 6) or table.numbers(" ".join(line(1).split()[:6]), 6)
    if parameters is None:
        raise SpecimenError(file, f"line 2: got {line(1).strip()[:60]!r}, expected the cell. {LAYOUT}")
    # Line 3 is the number of elements or the energy. In the first case line 4 is a symbol, in the second the number.
    start = 3 if table.numbers(line(3), 1) is not None and not line(3).strip().isalpha() else 2
    kinds = table.numbers(" ".join(line(start).split()[:1]), 1)
    if kinds is None or not kinds[0].is_integer() or kinds[0] < 1:
        raise SpecimenError(
            file, f"line {start + 1}: got {line(start).strip()[:60]!r}, expected the number of elements. {LAYOUT}"
        )
    number = start + 1
    notes: set[str] = set()
    symbols, rows, occupancy, u_iso = [], [], [], []
    for _ in range(int(kinds[0])):
        head = line(number + 1).split()
        values = table.row(file, number + 2, head[:4], "`number Z occupancy U`")
        count = int(values[0])
        if len(values) < 4 or count < 1 or number + 2 + count > len(lines):
            raise SpecimenError(
                file,
                f"line {number + 2} announces {head[0] if head else 'no'} atoms, but the file ends before or has fewer "
                f"numbers. {LAYOUT}",
            )
        if len(head) > 4:
            notes.add(f"columns behind U in line {number + 2} are not used")
        symbol = table.element(file, head[1], number + 2, notes)
        _require_same_element(file, line(number), number + 1, symbol)
        for i in range(number + 2, number + 2 + count):
            rows.append(table.row(file, i + 1, line(i).split()[:3], "three fractions", 3))
        symbols += [symbol] * count
        occupancy += [values[2]] * count
        u_iso += [values[3]] * count
        number += 2 + count
    _require_standard_orientation(file, lines[number:])
    cell = table.required_cell(file, 2, parameters)
    return Structure(
        symbols=np.array(symbols, dtype="<U2"),
        positions=np.array(rows) @ cell,
        cell=cell,
        u_iso=np.array(u_iso),
        occupancy=table.checked_occupancy(file, np.array(occupancy)),
        format="mustem",
        reader="Stemphony",
        periodic=False,
        notes=tuple(sorted(notes)),
        revision=2,
    )


def _require_same_element(file: Path, name: str, number: int, symbol: str) -> None:
    """Refuse a name that is the symbol of another element than the atomic number. Other names mean nothing."""
    words = name.split()
    found = elements.from_type(words[0]) if words and words[0][:1].isupper() else None
    if found is not None and found[0] not in (symbol, *elements.ISOTOPES):
        raise SpecimenError(
            file,
            f"line {number}: contradicts itself: it names {found[0]}, and the atomic number in line {number + 1} is "
            f"that of {symbol}. Correct one of them.",
        )


def _require_standard_orientation(file: Path, rest: list[str]) -> None:
    """Refuse a block Orientation that turns the cell."""
    start = next((i for i, text in enumerate(rest) if text.strip().lower().startswith("orientation")), None)
    if start is None:
        return
    vectors = [table.numbers(" ".join(text.split()[:3]), 3) for text in rest[start + 1 : start + 4]]
    directions = np.array([vector for vector in vectors if vector is not None])
    if len(directions) < 3:
        return
    lengths = np.linalg.norm(directions, axis=1)
    if not lengths.all() or not np.allclose(directions / lengths[:, None], np.eye(3), atol=1e-9):
        raise SpecimenError(
            file,
            f"its block Orientation turns the crystal ({directions.tolist()}), which is not available. Set "
            "`specimen.zone_axis` or `specimen.supercell`, and write 1 0 0, 0 1 0, 0 0 1 into the block.",
        )


def _crystallographic(file: Path, lines: list[str]) -> Structure:
    """Read TITLE, CELL, SYMMETRY and ATOMS of a crystallographic XTL as a CIF with the same content."""
    raw: dict[str, list[str]] = {}
    operations: list[str] = []
    notes: list[str] = []
    number = 0
    while number < len(lines):
        words = lines[number].split()
        key = words[0].upper() if words else ""
        if key == "CELL":
            text = " ".join(words[1:]) or next((line for line in lines[number + 1 :] if line.strip()), "")
            for name, value in zip(("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"),
                                   text.split(), strict=False):  # fmt: skip
                raw[f"_cell_{name}"] = [value]
        elif key in ("SYMMETRY", "SYM"):
            _symmetry(file, number + 1, words[1:], raw, operations)
        elif key == "DIMENSION" and words[1:2] != ["3"]:
            raise SpecimenError(
                file,
                f"line {number + 1}: DIMENSION {' '.join(words[1:])} has no third edge of the cell. Write DIMENSION 3 "
                "with six numbers in CELL, and fractions of that cell.",
            )
        elif key == "ATOMS":
            _sites(file, lines, number + 1, raw, notes)
            break
        number += 1
    if operations:
        raw["_space_group_symop_operation_xyz"] = list(dict.fromkeys(["x,y,z", *operations]))
    if "_cell_length_a" not in raw or not {"_atom_site_fract_x", "_atom_site_cartn_x"} & set(raw):
        raise SpecimenError(file, "has no CELL or no ATOMS: it is truncated or of another kind. Export it again.")
    structure = read_block(file, CifBlock("xtl", raw, {name: name for name in raw}), "xtl")
    return replace(structure, notes=(*notes, *structure.notes))


def _symmetry(file: Path, number: int, words: list[str], raw: dict[str, list[str]], operations: list[str]) -> None:
    """Read one line SYMMETRY. It may hold several pairs: `NUMBER 227 LABEL FD-3M QUALIFIER origin_2`."""
    text = " ".join(words)
    keys = "NUMBER|LABEL|QUALIFIER|MAT"
    for key, value in re.findall(rf"\b({keys})\s+(.*?)\s*(?=\b(?:{keys})\s|$)", text, re.IGNORECASE):
        kind = key.upper()
        if kind == "NUMBER":
            raw["_space_group_it_number"] = value.split()[:1]
        elif kind == "LABEL":
            raw["_space_group_name_h-m_alt"] = [value]
        elif kind == "QUALIFIER":
            raw["_space_group_it_coordinate_system_code"] = [_qualifier(file, value)]
        else:
            operations.append(_operation(file, number, value.split()))


def _qualifier(file: Path, text: str) -> str:
    """Setting of the coordinates, in the code of CIF."""
    known = {"origin_1": "1", "origin_2": "2", "hexagonal": "h", "rhombohedral": "r"}
    code = known.get(text.strip().lower(), text.strip().lower())
    if not re.fullmatch(r"[12hr]|-?[abc][-abc]*[123]?|[abc]_unique", code):
        raise SpecimenError(
            file, f"SYMMETRY QUALIFIER {text!r} is not known. Write origin_1 or origin_2, or use a CIF."
        )
    return code.removesuffix("_unique")


def _operation(file: Path, number: int, words: list[str]) -> str:
    """Write nine numbers of a rotation and three of a translation as `x,y,z`."""
    values = table.row(file, number, words[:12], "twelve numbers of a symmetry operation")
    if len(values) < 12:
        raise SpecimenError(
            file, f"line {number}: twelve numbers of a symmetry operation are needed. Correct the line."
        )
    parts = []
    for i in range(3):
        terms = [f"{'+' if values[3 * i + j] > 0 else '-'}{'xyz'[j]}" for j in range(3) if values[3 * i + j]]
        parts.append("".join(terms) + f"{values[9 + i]:+.6f}")
    return ",".join(parts)


def _sites(file: Path, lines: list[str], start: int, raw: dict[str, list[str]], notes: list[str]) -> None:
    """Store the columns of ATOMS under the names of CIF. A note names columns that are not used."""
    names_of = {
        **{axis: f"_atom_site_fract_{axis}" for axis in "xyz"},
        **{f"car{axis}": f"_atom_site_cartn_{axis}" for axis in "xyz"},
        **dict.fromkeys(("occup", "occ", "occupancy"), "_atom_site_occupancy"),
        **dict.fromkeys(("scatter", "scat", "element", "type"), "_atom_site_type_symbol"),
        **dict.fromkeys(("name", "label"), "_atom_site_label"),
        **dict.fromkeys(("temp", "biso", "b_iso"), "_atom_site_b_iso_or_equiv"),
        **dict.fromkeys(("uiso", "u_iso"), "_atom_site_u_iso_or_equiv"),
    }
    while start < len(lines) and not lines[start].strip():
        start += 1
    header = lines[start].split() if start < len(lines) else []
    columns: list[list[str]] = [[] for _ in header]
    for number, line in enumerate(lines[start + 1 :], start=start + 2):
        words = line.split()
        if not words:
            continue
        if words[0].upper() == "EOF":
            break
        if len(words) < len(header):
            raise SpecimenError(file, f"line {number}: {len(header)} columns are needed. Correct the line.")
        for column, word in zip(columns, words, strict=False):
            column.append(word)
    unused = []
    for title, column in zip(header, columns, strict=True):
        name = names_of.get(title.lower())
        values = table.numbers(" ".join(column), len(column))
        empty = values is not None and not any(values)
        if name is None or name in raw:
            unused += [] if empty else [title]
        elif title.lower() == "temp":
            if not empty:  # programs write 0 if they have no value
                raw[name] = column
                notes.append("column TEMP is taken for B = 8π²⟨u_x²⟩ in Å²; if it is U, name it UISO")
        else:
            raw[name] = column
    if unused:
        notes.append(f"columns that are not used: {', '.join(unused)}")
