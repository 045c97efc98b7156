"""Check files before ASE reads them. What ASE would silently leave out or guess is refused or named in a note."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from stemphony.errors import SpecimenError
from stemphony.physics.constants import BOHR
from stemphony.specimen import elements, source, table, xyz_columns
from stemphony.specimen.lattice import Floats

POSITIONS = ("pos", "positions")
SHELX_ATOM = re.compile(r"\w+\s+\d+(\s+[-.\d]+){3}\s+[-.\d]+")  # a line that ASE reads as an atom; it skips others


def notes_of(file: Path, format_ase: str) -> list[str]:
    """Notes that a user must know when ASE reads `file` in the format `format_ase`, ASE's own name of it.

    Raises
    ------
    SpecimenError
        ASE would leave out symmetry, atoms or occupancies of this file, or would guess its elements.
    """
    check = CHECKS.get(format_ase)
    if check is not None:
        return check(file, source.read_text(file).splitlines())
    if format_ase == "extxyz":
        _require_positions(file)
    return []


def cube_origin(file: Path) -> Floats:
    """Corner of the cell of a cube file [Å]. ASE does not subtract it from the positions."""
    lines = source.head(file).splitlines()
    values = table.numbers(" ".join(lines[2].split()[1:4]), 3) if len(lines) > 2 else None
    return BOHR * np.array(values or [0.0, 0.0, 0.0])


def _shelx(file: Path, lines: Sequence[str]) -> list[str]:
    """Refuse SHELX files of refinements, which have symmetry. Those of random structure searches hold all atoms."""
    words = [line.split() for line in lines if line.strip()]
    lattices = [row[1:2] for row in words if row[0].upper() == "LATT"]
    if lattices != [["-1"]] or any(row[0].upper() in ("SYMM", "FVAR", "PART") for row in words):
        raise SpecimenError(
            file,
            "is a SHELX file with symmetry or refined parameters (it has no LATT -1, or SYMM, FVAR or PART), which is "
            "not available. Use the CIF that SHELXL writes beside it.",
        )
    start = next((i for i, line in enumerate(lines) if line.split()[:1] == ["SFAC"]), len(lines))
    for number, line in enumerate(lines[start + 1 :], start=start + 2):
        row = line.split()
        if row[:1] == ["END"]:
            break
        if len(row) < 5 or not row[1].isdecimal():
            continue
        if SHELX_ATOM.match(line.strip()) is None:
            raise SpecimenError(
                file,
                f"line {number}: got {line.strip()[:60]!r}, expected `element type x y z occupancy` without exponents. "
                "Correct the line.",
            )
        if table.numbers(row[5], 1) not in ([1.0], [11.0]):
            raise SpecimenError(
                file, f"line {number}: an occupancy of {row[5]}, which is not available here. Write a CIF."
            )
    return []


def _gromacs(file: Path, lines: Sequence[str]) -> list[str]:
    count = lines[1].strip() if len(lines) > 1 else ""
    if not count.isdecimal() or int(count) != len(lines) - 3:  # ASE reads every line as an atom
        raise SpecimenError(
            file,
            f"line 2 announces {count[:20] or 'no'} atoms, but {max(len(lines) - 3, 0)} lines stand between line 2 and "
            "the last line, the box. The file is truncated, or holds several frames. Write one frame into a file of "
            "its own, or export it again.",
        )
    names = [line[10:15].strip() for line in lines[2:-1]]
    return _from_names(file, names, lambda name: next((s for s in (name[:2], name[:1], name[-1:]) if s in _all()), "X"))


def _gromos(file: Path, lines: Sequence[str]) -> list[str]:
    text = "\n".join(lines)
    block = re.search(r"^POSITION\s*$(.*?)^END", text, re.MULTILINE | re.DOTALL)
    rows = [line.split() for line in block[1].splitlines() if len(line.split()) >= 7] if block else []
    names = [row[2] for row in rows]

    def taken(name: str) -> str:
        two = name[:1].upper() + name[1:2]
        return two if len(name) == 2 and two in _all() else name[:1].upper()

    return _from_names(file, names, taken)


def _from_names(file: Path, names: Sequence[str], taken: Callable[[str], str]) -> list[str]:
    """Return a note on elements that are guessed from names. Refuse a name that may mean another element."""
    pairs = {name: taken(name) for name in dict.fromkeys(names) if name}
    for name, symbol in pairs.items():
        letters = re.match(r"[A-Za-z]+", name)
        two = letters[0][:2].capitalize() if letters is not None else ""
        if len(two) == 2 and two in _all() and two != symbol:
            raise SpecimenError(
                file,
                f"its format has no elements, and the name {name} may be {symbol} or {two}. Write it with elements, "
                "such as an extended XYZ file, or a PDB file with the columns 77 and 78.",
            )
    text = ", ".join(f"{name} is {symbol}" for name, symbol in list(pairs.items())[:12])
    return [f"elements are taken from the names of the atoms, since this format has none: {text}"] if pairs else []


def _materials_studio(file: Path, lines: Sequence[str]) -> list[str]:
    for group in re.findall(r"<SpaceGroup\b[^>]*\bGroupName=\"([^\"]*)\"", "\n".join(lines)):
        _require_p1(file, group, "Make it P1 in the program that wrote it, or export a CIF.")
    return []


def _archive(file: Path, lines: Sequence[str]) -> list[str]:
    for line in lines[:8]:
        group = re.match(r"PBC\s.*\(([^)]*)\)", line)
        if group is not None:
            _require_p1(file, group[1], "Make it P1 in the program that wrote it, or export a CIF.")
    return []


def _require_p1(file: Path, group: str, do: str) -> None:
    if group.replace(" ", "").upper() not in ("P1", ""):
        raise SpecimenError(
            file, f"has the space group {group}, and its reader applies no symmetry: atoms would be missing. {do}"
        )


def _wien2k(file: Path, lines: Sequence[str]) -> list[str]:
    if any("unit=ang" in line.lower() for line in lines[:4]):
        raise SpecimenError(file, "is in Å (unit=ang), which its reader takes for bohr. Write unit=bohr, or a CIF.")
    return []


def _castep(file: Path, lines: Sequence[str]) -> list[str]:
    for number, line in enumerate(lines, start=1):
        if re.search(r"\bMIXTURE\s*[:=]", line, re.IGNORECASE):
            raise SpecimenError(
                file, f"line {number}: a mixture of atoms on one site, which is not available here. Write a CIF."
            )
    return []


def _require_positions(file: Path) -> None:
    """Refuse an extended XYZ file that names its columns but has no column of Cartesian coordinates."""
    lines = source.head(file).splitlines()
    names = [name.lower() for name, _, _ in xyz_columns.named(lines[1] if len(lines) > 1 else "")]
    if names and not set(names) & set(POSITIONS):
        raise SpecimenError(
            file,
            f"line 2: Properties names no column pos ({', '.join(names)}): all atoms would lie at the corner. Name the "
            "Cartesian coordinates [Å] pos:R:3.",
        )


def _all() -> dict[str, int]:
    return elements.numbers()


CHECKS: dict[str, Callable[[Path, Sequence[str]], list[str]]] = {
    "castep-cell": _castep,
    "dmol-arc": _archive,
    "dmol-car": _archive,
    "gromacs": _gromacs,
    "gromos": _gromos,
    "res": _shelx,
    "struct": _wien2k,
    "xsd": _materials_studio,
}
