"""Read LAMMPS data files. Elements come from labels, comments or masses, coordinates from the corner of the box."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stemphony.counting import number_of
from stemphony.errors import SpecimenError
from stemphony.physics.constants import BOHR
from stemphony.specimen import elements, source, table
from stemphony.specimen.lattice import Floats
from stemphony.specimen.statements import masses as standard_masses
from stemphony.specimen.structure import Structure

LENGTHS = {"real": 1.0, "metal": 1.0, "nano": 10.0, "electron": BOHR, "si": 1e10, "cgs": 1e8, "micro": 1e4}
"""Unit of length of each unit system of LAMMPS [Å]."""
MASS_EXACT = 0.06
"""Largest difference [u] of a precise mass from that of its element. Tables and isotopic mixtures differ by less."""
MASS_ROUNDED = 0.3
"""Largest difference [u] of a rounded mass from that of its element. Whole numbers differ by less; placeholders differ
by more."""
# Columns before x, by atom style. Columns behind z are not needed.
STYLES = {
    "angle": "id mol type", "atomic": "id type", "body": "id type bodyflag mass", "bond": "id mol type",
    "charge": "id type q", "dipole": "id type q", "dpd": "id type theta", "electron": "id type q spin radius",
    "ellipsoid": "id type flag density", "full": "id mol type q", "line": "id mol type flag density",
    "molecular": "id mol type", "peri": "id type volume density",
    "smd": "id type mol volume mass kradius cradius x0 y0 z0",
    "sphere": "id type diameter density", "bpm/sphere": "id mol type diameter density", "spin": "id type",
    "template": "id type mol template atom", "tri": "id mol type flag density", "hybrid": "id type",
    "amoeba": "id mol type q", "dielectric": "id mol type q", "mdpd": "id type rho", "edpd": "id type t cv",
}  # fmt: skip
WIDER = {
    "atomic": "charge and molecular", "charge": "full", "molecular": "full", "bond": "full", "angle": "full",
}  # fmt: skip
"""For each style, the styles that have one more column."""

SECTIONS = re.compile(
    r"(Atoms|Velocities|Masses|Ellipsoids|Lines|Triangles|Bodies|Bonds|Angles|Dihedrals|Impropers|"
    r"(?:Atom|Bond|Angle|Dihedral|Improper) Type Labels|"
    r"(?:PairIJ|Pair|Bond|Angle|Dihedral|Improper|BondBond|BondAngle|MiddleBondTorsion|EndBondTorsion|AngleTorsion|"
    r"AngleAngleTorsion|BondBond13|AngleAngle) Coeffs)\s*(?:#\s*(.*))?$"
)


@dataclass
class _File:
    """Header of a file, and the lines of the sections that are needed."""

    title: str = ""
    values: dict[str, list[float]] = field(default_factory=dict)
    count: int = -1
    style: str = ""
    masses: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    atoms: list[tuple[int, str]] = field(default_factory=list)


def read_lammps_data(file: Path) -> Structure:
    """The structure of a data file, with coordinates from the lower corner of the box. Image flags are ignored.

    The coordinates in a data file lie in the box; the flags say how often an atom has crossed the box. Elements come
    from Atom Type Labels, else from a comment behind each mass, else from the masses.

    Raises
    ------
    SpecimenError
        The file is truncated, or it does not say which element an atom type is.
    """
    found = _split(file)
    length = _length_of_title(file, found.title)
    cell, origin = _box(file, found.values)
    columns = _columns(file, found)
    ids, types, positions, flags = _atoms(file, found, columns)
    if len(np.unique(ids)) < len(ids):
        raise SpecimenError(
            file, "two atoms have the same number. Correct the section Atoms, or export the file again."
        )
    symbols_of, notes, guessed = _elements(file, found)
    order = np.argsort(ids, kind="stable")
    names = []
    for text in np.array(types)[order]:
        if str(text) not in symbols_of:
            raise SpecimenError(file, f"atom type {text} has no mass and no label. Add it to Masses.")
        names.append(symbols_of[str(text)])
    notes += _unused_columns(file, found, columns)
    if length != 1:
        notes.append(f"its lengths are multiplied by {length:g} to Å (units in line 1)")
    if flags.any():
        notes.append("image flags, which say how often an atom has crossed the box, are not used")
    return Structure(
        symbols=np.array(names, dtype="<U2"),
        positions=length * (positions[order] - origin),
        cell=length * cell,
        format="lammps-data",
        reader="Stemphony",
        charge=_charges(file, found, columns)[order] if "q" in columns else None,
        notes=tuple(notes),
        revision=2 if origin.any() or flags.any() or guessed or length != 1 else 1,
    )


def _split(file: Path) -> _File:
    lines = source.read_text(file).splitlines()
    found = _File(title=lines[0] if lines else "")
    section = ""
    for number, line in enumerate(lines[1:], start=2):
        text = line.strip()
        match = SECTIONS.match(text)
        if match is not None:
            section = match[1]
            if section == "Atoms":
                found.style = (match[2] or "").split("#")[0].strip()
            continue
        if not text or text.startswith("#"):
            continue
        if not section:
            _header(file, number, re.split("#", text)[0].strip(), found)
        elif section == "Masses":
            found.masses.append(text)
        elif section == "Atom Type Labels":
            words = text.split()
            found.labels[words[0]] = words[1] if len(words) > 1 else ""
        elif section == "Atoms":
            found.atoms.append((number, re.split("#", text)[0].strip()))
    if found.count < 0:
        raise SpecimenError(file, "does not say how many atoms it has ('2 atoms'). Export it again.")
    if len(found.atoms) != found.count:
        raise SpecimenError(
            file,
            f"announces {found.count:,} atoms, but its section Atoms has {len(found.atoms):,}: it is truncated or "
            "damaged. Export it again.",
        )
    return found


def _header(file: Path, number: int, text: str, found: _File) -> None:
    match = re.match(r"(.*?)\s+(atoms|[xyz]lo [xyz]hi|xy xz yz|avec|bvec|cvec|abc origin)$", re.sub(r"\s+", " ", text))
    if match is None:
        return
    if match[2] == "atoms":
        if not table.is_count(match[1]):
            raise SpecimenError(
                file, f"line {number}: got {text[:60]!r}, expected a number of atoms. Correct the line."
            )
        found.count = int(match[1])
    else:
        found.values[match[2]] = table.row(file, number, match[1].split(), "numbers of the box")


def length_of(file: Path, unit: str, where: str = "", also: str = "") -> float:
    """Return the length [Å] that 1 has in a set of units of LAMMPS, for example `metal`.

    Parameters
    ----------
    file : Path
        The file, for the message.
    unit : str
        Name of the set of units.
    where, also : str
        Where the file names it, and another way out, both for the message.

    Returns
    -------
    float
        Length [Å].

    Raises
    ------
    SpecimenError
        These units have no fixed length, or are unknown.
    """
    if unit not in LENGTHS:
        raise SpecimenError(
            file, f"its units are {unit!r}{where}, which have no length in Å. Write it in units metal or real{also}."
        )
    return LENGTHS[unit]


def _length_of_title(file: Path, title: str) -> float:
    match = re.search(r"units\s*=\s*(\w+)", title)
    if match is None:
        return 1.0
    return length_of(file, match[1], " (line 1)", ", or multiply the lengths and correct line 1")


def _box(file: Path, values: dict[str, list[float]]) -> tuple[Floats, Floats]:
    """Edges as rows, and the lower corner, in the unit of the file."""
    if all(name in values for name in ("avec", "bvec", "cvec")):
        origin = np.array(values.get("abc origin", [0.0, 0.0, 0.0]))
        return np.array([values["avec"], values["bvec"], values["cvec"]]), origin
    bounds = [values.get(f"{axis}lo {axis}hi") for axis in "xyz"]
    if any(bound is None or len(bound) != 2 for bound in bounds):
        raise SpecimenError(file, "has no box (lines 'xlo xhi', 'ylo yhi', 'zlo zhi'). Export it again.")
    low, high = np.array(bounds, dtype=float).T
    require_ascending(file, low, high)
    tilts = values.get("xy xz yz", [0.0, 0.0, 0.0])
    return box_edges(high - low, tilts), low


def require_ascending(file: Path, low: Floats, high: Floats) -> None:
    """Refuse a box whose upper bound `high` (3,) [Å] does not lie above the lower bound `low` (3,) [Å] along each axis.

    `file` is named in the message.

    Raises
    ------
    SpecimenError
        A bound does not lie above the other one, or is NaN.
    """
    for axis in range(3):
        if not high[axis] > low[axis]:
            raise SpecimenError(
                file,
                f"its box runs from {low[axis]:g} to {high[axis]:g} along {'xyz'[axis]}; the second bound must be "
                "larger. Correct it.",
            )


def box_edges(lengths: Floats, tilts: Sequence[float]) -> Floats:
    """Edges as rows [Å] of a box with `lengths` (3,) [Å] and the tilt factors xy, xz, yz, `tilts` [Å]."""
    xy, xz, yz = tilts
    return np.array([[lengths[0], 0.0, 0.0], [xy, lengths[1], 0.0], [xz, yz, lengths[2]]])


def _columns(file: Path, found: _File) -> list[str]:
    """Names of the columns before x."""
    first = found.style.split()[0] if found.style else ""
    if first in STYLES:
        return STYLES[first].split()
    if first:
        raise SpecimenError(
            file,
            f"its atom style is {first!r}, whose columns are not known. Write it with another style, such as "
            "'Atoms # atomic' or 'Atoms # full'.",
        )
    widths = {len(text.split()) for _, text in found.atoms}
    width = min(widths, default=0)
    flags = _are_flags(found, width)
    bare = width - 3 * flags
    by_width = {5: "id type", 7: "id mol type q"}
    if bare in by_width:
        return by_width[bare].split()
    if bare == 6:
        third = [text.split()[2] for _, text in found.atoms]
        # The number of a molecule stands before the type. A charge stands behind it: it has a point or is no type.
        known = set(found.labels) | {line.split()[0] for line in found.masses} | set(found.labels.values())
        if all(word in known for word in third) and not all(text.split()[1] in known for _, text in found.atoms):
            return ["id", "mol", "type"]
        if any("." in word for word in third):
            return ["id", "type", "q"]
    raise SpecimenError(
        file,
        f"does not say how its {width} columns are ordered. Write the style behind the name of the section, such as "
        "'Atoms # full' or 'Atoms # charge'.",
    )


def _are_flags(found: _File, width: int) -> bool:
    """Whether the last three columns are image flags: whole numbers without a point."""
    if width < 8:
        return False
    return all(re.fullmatch(r"-?\d+", word) for _, text in found.atoms for word in text.split()[-3:])


def _atoms(
    file: Path, found: _File, columns: list[str]
) -> tuple[NDArray[np.int64], list[str], Floats, NDArray[np.int64]]:
    first = len(columns)
    kind = columns.index("type")
    ids, types, rows, flags = [], [], [], []
    for number, text in found.atoms:
        words = text.split()
        if len(words) < first + 3 or not table.is_count(words[0]):
            raise SpecimenError(
                file,
                f"line {number}: got {text[:60]!r}, expected {' '.join(columns)} x y z. Correct the line, or the style "
                "behind 'Atoms #'.",
            )
        rows.append(table.row(file, number, words[first : first + 3], "three coordinates"))
        ids.append(int(words[0]))
        types.append(words[kind])
        last = words[-3:] if len(words) >= first + 6 else []
        flags.append(
            [int(w) for w in last]
            if len(last) == 3 and all(re.fullmatch(r"-?[0-9]{1,18}", w) for w in last)
            else [0] * 3
        )
    return np.array(ids), types, np.array(rows).reshape(-1, 3), np.array(flags)


def _unused_columns(file: Path, found: _File, columns: list[str]) -> list[str]:
    """Note on columns that are neither coordinates nor image flags. Refuse columns of another style.

    If there is one more column than the style has, x, y, z may stand behind a charge or a molecule that the style does
    not name.
    """
    needed = len(columns) + 3
    surplus = min(len(text.split()) for _, text in found.atoms) - needed if found.atoms else 0
    if surplus in (0, 3):
        return []
    style = found.style.split()[0] if found.style else ""
    if surplus in (1, 4) and style in WIDER:
        raise SpecimenError(
            file,
            f"its atom style is {style!r} ({' '.join(columns)} x y z, and three image flags), but its atoms have "
            f"{needed + surplus} columns, as those of {WIDER[style]} do. Correct the style behind 'Atoms #'.",
        )
    return [
        number_of(surplus, "column behind the coordinates is not used", "columns behind the coordinates are not used")
    ]


def _charges(file: Path, found: _File, columns: list[str]) -> Floats:
    """Charge of each atom [e], in the order of the file."""
    place = columns.index("q")
    return np.array([table.row(file, number, [text.split()[place]], "a charge")[0] for number, text in found.atoms])


def _elements(file: Path, found: _File) -> tuple[dict[str, str], list[str], bool]:
    """Element of each type and label, notes, and whether ASE would take other elements."""
    numbers = {line.split()[0]: line for line in found.masses}
    notes: list[str] = []
    result: dict[str, str] = {}
    pairs: list[tuple[str, float]] = []
    for name in {*found.labels, *numbers}:
        label = found.labels.get(name, "" if name.isdigit() else name)
        comment = numbers[name].split("#", 1)[1].strip() if "#" in numbers.get(name, "") else ""
        words = re.split("#", numbers.get(name, ""))[0].split()
        mass = table.numbers(words[1], 1) if len(words) > 1 else None
        known = next((symbol for text in (label, comment) if (symbol := _named(text, mass))), None)
        if known is None and mass is not None:
            notes += _contradicted(file, name, label, comment, mass[0])
        if known is None:
            if mass is None:
                continue
            pairs.append((name, mass[0]))
        else:
            result[name] = known
    if not numbers and not result:
        raise SpecimenError(
            file,
            "does not say which element an atom type is: a LAMMPS file needs a section Masses. Add it, or a section "
            "Atom Type Labels with element symbols, and write the file again.",
        )
    by_mass = from_masses(file, dict(sorted(pairs)), "a section Atom Type Labels with element symbols")
    if by_mass:
        text = ", ".join(f"type {name} ({dict(pairs)[name]:g}) is {symbol}" for name, symbol in by_mass.items())
        notes.append(f"elements are taken from the masses: {text}")
    by_name = bool(result)
    result.update(by_mass)
    result.update({label: result[name] for name, label in found.labels.items() if name in result})
    return result, notes, by_name and not found.labels


def _named(text: str, mass: list[float] | None) -> str | None:
    """Element that a label or a comment such as `Na` or `Na+` names; None if the mass contradicts it."""
    words = text.split()
    found = elements.from_type(words[0]) if words else None
    if found is None or (words and words[0][:1].islower()):
        return None
    symbol = "H" if found[0] in elements.ISOTOPES else found[0]
    if mass is not None and symbol != "H" and abs(standard_masses()[symbol] - mass[0]) > 1.0:
        return None
    return symbol


def _contradicted(file: Path, name: str, label: str, comment: str, mass: float) -> list[str]:
    """Refuse a label that is the symbol of one element and has the mass of another. For a comment, return a note.

    A comment may hold a name of a force field, such as CA for a carbon, which looks like a symbol.
    """
    for text, is_label in ((label, True), (comment, False)):
        word = text.split()[0] if text.split() else ""
        if word not in elements.numbers():
            continue
        own = standard_masses()[word]
        if is_label:
            raise SpecimenError(
                file,
                f"atom type {name} contradicts itself: its label is {word} ({own:.4g} u), and its mass is {mass:g} u. "
                "Correct one of them.",
            )
        return [f"atom type {name} is named {word} ({own:.4g} u), but its mass is {mass:g} u: the mass is used"]
    return []


def from_masses(file: Path, values: dict[str, float], way_out: str) -> dict[str, str]:
    """Element of each atom type by its mass: `values` [u] by the name of the type.

    `way_out` ends a refusal: what the user can add to `file` so that masses need not decide.

    Raises
    ------
    SpecimenError
        A mass fits no element, or lies between two elements. Placeholders and reduced units have such masses.
    """
    result = {}
    given = list(values.values())
    if given and (given == list(range(1, len(given) + 1)) or set(given) == {1.0}):
        raise _placeholder(file, next(iter(values)), given[0], "masses of 1, or that count 1, 2, …, are", way_out)
    symbols = [symbol for symbol in standard_masses() if symbol != "X"]
    table_masses = np.array([standard_masses()[symbol] for symbol in symbols])
    for name, value in values.items():
        distance = np.abs(table_masses - value)
        nearest, second = np.argsort(distance)[:2]
        symbol = symbols[nearest]
        if abs(value - 2.014) < 0.02 or abs(value - 3.016) < 0.02:
            symbol = "H"  # deuterium or tritium
        elif distance[nearest] > MASS_ROUNDED:
            what = f"the nearest element is {symbol} ({table_masses[nearest]:.4g}); it is"
            raise _placeholder(file, name, value, what, way_out)
        elif _is_ambiguous(value, table_masses, distance[nearest], distance[second]):
            raise SpecimenError(
                file,
                f"atom type {name} has the mass {value:g}, which may be {symbol} or {symbols[second]}. Write the mass "
                f"with two decimals, or add {way_out}.",
            )
        result[name] = symbol
    return result


def _is_ambiguous(value: float, masses: Floats, nearest: float, second: float) -> bool:
    """Whether a mass lies between two elements, or is the rounded mass of both, as 59 is of Co and Ni."""
    if nearest > MASS_EXACT / 2 and second < 4 * nearest:
        return True
    stable = masses[
        : elements.numbers()["Bi"]
    ]  # LAMMPS files with rounded masses have no heavier elements, except Th and U
    return bool(value == round(value) and (np.rint(stable) == value).sum() > 1)


def _placeholder(file: Path, name: str, value: float, what: str, way_out: str) -> SpecimenError:
    return SpecimenError(
        file,
        f"atom type {name} has the mass {value:g}: {what} a placeholder, which does not say which element it is. "
        f"Write the real masses, or add {way_out}.",
    )
