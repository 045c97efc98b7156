"""Read PDB files with gemmi. Elements come from their columns or from the place of names, symmetry from CRYST1."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stemphony.errors import SpecimenError
from stemphony.specimen import copies, elements, source
from stemphony.specimen.cif import read_block
from stemphony.specimen.structure import Structure

ATOMS = ("ATOM  ", "HETATM")
NAME_COLUMNS = slice(12, 16)
RESIDUE_COLUMNS = slice(17, 20)
OCCUPANCY_COLUMNS = slice(54, 60)
FACTOR_COLUMNS = slice(60, 66)
ELEMENT_COLUMNS = slice(76, 78)
FORCE_FIELDS = ("HSD", "HSE", "HSP", "HID", "HIE", "HIP", "CYX")
"""Names that CHARMM and AMBER give to the states of histidine and cysteine."""
TWO_MEANINGS = ("Ca", "Cd", "Ce", "Co", "He", "Hg", "Ho", "Na", "Nb", "Nd", "Ne")
"""Elements whose symbols are also names of carbon, hydrogen or nitrogen atoms at a place in a molecule."""


def read_pdb(file: Path) -> Structure:
    """The first model of a PDB file, with the symmetry of CRYST1 and with non-crystallographic copies.

    Raises
    ------
    SpecimenError
        The file is damaged or has no cell, or an element is not known.
    """
    text = _text(file)
    structure = _structure(file, next(_models(text), text))
    models = sum(1 for _ in _models(text))
    if models < 2:
        return structure
    note = f"holds {models} models; the first is used"
    cells = set(re.findall(r"^CRYST1.{48}", text, re.MULTILINE))
    # If gemmi reads the whole file, it gives the first model the last cell.
    return replace(structure, notes=(note, *structure.notes), revision=3 if len(cells) > 1 else structure.revision)


def read_models(file: Path) -> Iterator[Structure]:
    """All models of `file`, one after the other: the frames of a trajectory.

    Raises
    ------
    SpecimenError
        The file or a model cannot be read.
    """
    text = _text(file)
    return (_structure(file, model) for model in _models(text))


def _text(file: Path) -> str:
    # A letter of several bytes would move the columns that follow it.
    return source.read_text(file).encode("ascii", "replace").decode("ascii")


def _models(text: str) -> Iterator[str]:
    """The text of each model, with the records of the whole file. Lines ENDMDL or END separate models."""
    head: list[str] = []
    body: list[str] = []
    for line in [*text.splitlines(), "END"]:
        if line.startswith(("ENDMDL", "END   ")) or line.strip() == "END":
            if any(record.startswith(ATOMS) for record in body):
                yield "\n".join([*head, *body, "END", ""])
            body = []
        elif line.startswith((*ATOMS, "ANISOU", "TER")):
            body.append(line)
        elif not line.startswith(("MODEL", "CONECT", "MASTER")):
            if line.startswith("CRYST1"):  # each frame of a trajectory may have its own cell
                head = [record for record in head if not record.startswith(("CRYST1", "SCALE", "ORIGX"))]
            head.append(line)


def _structure(file: Path, text: str) -> Structure:
    """The structure of one model."""

    _require_cell(file, text)
    has_factors = _has_factors(file, text)
    completed, without = _completed(file, text)
    model = _parsed(file, completed)
    otherwise = not has_factors or _sites(model) != _sites(_parsed(file, text))
    if not len(model) or not any(True for _ in model[0].all()):
        raise SpecimenError(file, "holds no atoms. A specimen needs at least one.")
    for found in model[0].all():
        if found.atom.element.atomic_number == 0:
            raise SpecimenError(
                file,
                f"atom {found.atom.serial} ({found.atom.name}): its element is not known. Write it in the columns 77 "
                "and 78.",
            )
    notes = _element_notes(model, without)
    if _are_zero(text):
        notes.append("the occupancy of every atom is 0.00, as programs write if they have none: taken for 1")
    block = copies.expanded(file, model, notes, "MTRIX records")
    if not has_factors or all(float(b) == 0 for b in block.raw.get("_atom_site_b_iso_or_equiv", [])):
        block.raw.pop("_atom_site_b_iso_or_equiv", None)  # programs write 0.00 where they have no value
    structure = read_block(file, block, "pdb")
    images = len(structure.symbols) / len(block.raw["_atom_site_cartn_x"])
    if images > 1 and "_atom_site_cartn_x" in block.raw:
        notes.append(f"the symmetry {structure.stated.get('space_group', '')} of CRYST1 is applied")
    # Revisions: reader 1, ASE, knew no symmetry and guessed elements. Reader 2 left blank columns to gemmi. Reader 3
    # drew alternate places of copies together. Reader 4 read names in column 13 as metals.
    apart = copies.ASSEMBLY in block.raw and structure.disorder is not None
    left = otherwise and _are_on_the_left(text)
    revision = (
        5 if left else 4 if apart else 3 if otherwise else 2 if structure.revision == 2 or images != 1 or notes else 1
    )
    return replace(structure, notes=(*notes, *structure.notes), revision=revision)


def _sites(model: Any) -> list[tuple[str, float]]:
    """Element and occupancy of each atom."""
    return [(found.atom.element.name, found.atom.occ) for first in model for found in first.all()]


def _parsed(file: Path, text: str) -> Any:
    """Parse a file with gemmi. Files before 1996 have the name of the entry and a line number in columns 73 to 80."""
    import gemmi

    pruned = "\n".join(line[:72] for line in text.splitlines())
    failure = ""
    for version in (text, pruned) if re.search(r"^.{72}\w{4} {0,3}\d{1,4}\s*$", text, re.MULTILINE) else (text,):
        try:
            model = gemmi.read_pdb_string(version)
            model.setup_entities()
            return model
        except (ValueError, RuntimeError) as error:
            failure = failure or str(error)[:200]
    raise SpecimenError(file, f"cannot be read as PDB ({failure}). Export it again.")


def _require_cell(file: Path, text: str) -> None:
    """Refuse a file without a cell. CRYST1 with edges of 1 Å, as in files of molecules, means no cell."""
    line = re.search(r"^CRYST1(.*)$", text, re.MULTILINE)
    edges = [] if line is None else re.findall(r"[\d.]+", line[1][:27].ljust(27))
    if line is None or len(edges) < 3 or all(float(edge) <= 1 for edge in edges[:3]):
        raise SpecimenError(
            file,
            "has no cell (record CRYST1). Add one, or write the atoms in a format that keeps a cell (CIF, extended XYZ "
            "with Lattice=…, POSCAR).",
        )


def _records(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(ATOMS)]


def _are_zero(text: str) -> bool:
    """Whether the occupancies of all atoms are written as 0."""
    fields = {line[OCCUPANCY_COLUMNS].strip() for line in _records(text)}
    return bool(fields) and all(field and not field.strip("0.") for field in fields)


def _completed(file: Path, text: str) -> tuple[str, list[int]]:
    """Return the text with missing occupancies and elements, and the numbers of the records without an element.

    A missing occupancy becomes 1. A missing element is added if the name of the atom is clear. For other names, their
    place shows the element: carbon is ` CA `, calcium is `CA  `.
    """
    zero, left = _are_zero(text), _are_on_the_left(text)
    lines, without, count = [], [], 0
    for line in text.splitlines():
        if not line.startswith(ATOMS):
            lines.append(line)
            continue
        if zero or not line[OCCUPANCY_COLUMNS].strip():  # gemmi reads a blank occupancy as 0 if the line goes on
            line = f"{line[:54]:54}  1.00{line[60:66] or '  0.00'}{line[66:]}"
        if not line[ELEMENT_COLUMNS].strip():
            without.append(count)
            name, residue = line[NAME_COLUMNS].strip(), line[RESIDUE_COLUMNS].strip()
            symbol = _certain_element(name, residue)
            if left and not symbol:
                symbol = _element_on_the_left(file, line, name, residue)
            if symbol in elements.numbers():
                line = f"{line[:76]:76}{symbol.upper():>2}{line[78:]}"
        lines.append(line)
        count += 1
    return "\n".join(lines) + "\n", without


def _certain_element(name: str, residue: str) -> str:
    """The element of a clear name: `Sr1`, with a small letter, or CA in the residue CA; empty for other names."""
    match = re.fullmatch(r"([A-Z][a-z])\d*", name)
    return match[1] if match is not None else name.capitalize() if name == residue and len(name) == 2 else ""


def _are_on_the_left(text: str) -> bool:
    """Whether all names begin in column 13, even those of elements with one letter, such as `N   ` and `CB  `.

    CHARMM and VMD write such files. The place of a name then does not show its element.
    """
    names = [line[NAME_COLUMNS] for line in _records(text) if not line[ELEMENT_COLUMNS].strip()]
    short = [name for name in names if name[3:] == " "]
    return all(name[:1] != " " for name in short) and any(
        (name[:1].isalpha() and name[:2].strip().capitalize() not in elements.numbers()) or name[1:2] == " "
        for name in short
    )


def _element_on_the_left(file: Path, line: str, name: str, residue: str) -> str:
    """The element of a name whose place does not show it. In standard amino acids, it is one of H, C, N, O and S."""
    import gemmi

    known = gemmi.find_tabulated_residue(residue)
    protein = (known.is_amino_acid() and known.is_standard() and residue != "UNK") or residue in FORCE_FIELDS
    if protein and (match := re.match(r"\d*([HCNOS])", name)):
        return match[1]
    two, one = name[:2].capitalize(), name[:1]
    if two in TWO_MEANINGS:
        raise SpecimenError(
            file,
            f"atom {line[6:11].strip()} ({name}) may be {two} or {one}: all names begin in column 13, so their place "
            "does not show the element. Write the elements in the columns 77 and 78.",
        )
    return one if one in elements.numbers() and two not in elements.numbers() else ""


def _has_factors(file: Path, text: str) -> bool:
    """Whether the atoms have temperature factors. If these columns are blank, gemmi takes 20 Å²."""
    given = [bool(line[FACTOR_COLUMNS].strip()) for line in _records(text)]
    if any(given) and not all(given):
        raise SpecimenError(
            file,
            f"{given.count(False)} of {len(given)} atoms have no temperature factor (columns 61 to 66). Write one for "
            "each atom, or 0.00 for all if none is known.",
        )
    return any(given)


def _element_notes(model: Any, without: Sequence[int]) -> list[str]:
    """Notes on atoms without an element in columns 77 and 78: the element that was taken from each name."""
    if not without:
        return []
    atoms = [found.atom for first in model for found in first.all()]
    taken = list(dict.fromkeys((atoms[i].name, atoms[i].element.name) for i in without if i < len(atoms)))
    pairs = ", ".join(f"{name} is {symbol}" for name, symbol in taken[:12])
    more = f" and {len(taken) - 12} more" if len(taken) > 12 else ""
    return [
        f"{len(without)} of {len(atoms)} atoms have no element in columns 77 and 78: it is taken from their name and "
        f"the place of the name ({pairs}{more})"
    ]
