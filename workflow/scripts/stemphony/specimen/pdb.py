"""PDB files through gemmi: elements from the columns or from the alignment of atom names, symmetry from CRYST1."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from stemphony.errors import SpecimenError
from stemphony.specimen import source
from stemphony.specimen.cif import read_block
from stemphony.specimen.cif_block import block_of
from stemphony.specimen.structure import Structure

ELEMENT_COLUMNS = slice(76, 78)


def read_pdb(file: Path) -> Structure:
    """The first model of a PDB file, with the symmetry of CRYST1 and matrices of non-crystallographic copies applied.

    Raises
    ------
    SpecimenError
        The file is damaged or has no cell, or an element is not known.
    """
    import gemmi

    # A letter of several bytes would move the columns behind it.
    text = source.read_text(file).encode("ascii", "replace").decode("ascii")
    _require_cell(file, text)
    notes = _element_notes(text)
    model = _parsed(file, text)
    if not len(model) or not any(True for _ in model[0].all()):
        raise SpecimenError(file, "holds no atoms. A specimen needs at least one.")
    for found in model[0].all():
        if found.atom.element.atomic_number == 0:
            raise SpecimenError(
                file,
                f"atom {found.atom.serial} ({found.atom.name}): its element is not known. Write it in the columns 77 "
                "and 78.",
            )
    if any(not ncs.given and not ncs.tr.is_identity() for ncs in model.ncs):
        before = model[0].count_atom_sites()
        model.expand_ncs(gemmi.HowToNameCopiedChain.Short)
        notes.append(f"MTRIX records repeat the listed atoms: {before} become {model[0].count_atom_sites()}")
    block = block_of(file, model.make_mmcif_block())
    if all(float(b) == 0 for b in block.raw.get("_atom_site_b_iso_or_equiv", [])):
        del block.raw["_atom_site_b_iso_or_equiv"]  # programs write 0.00 where they have no value
    structure = read_block(file, block, "pdb")
    copies = len(structure.symbols) / len(block.raw["_atom_site_cartn_x"])
    if copies > 1 and "_atom_site_cartn_x" in block.raw:
        notes.append(f"the symmetry {structure.stated.get('space_group', '')} of CRYST1 is applied")
    # ASE, the reader of version 0.1, knows no symmetry and guesses elements from names.
    revision = 2 if structure.revision == 2 or copies != 1 or notes else 1
    return replace(structure, notes=(*notes, *structure.notes), revision=revision)


def _parsed(file: Path, text: str) -> Any:
    """gemmi's structure. Files before 1996 have the entry's name and a line number in columns 73 to 80."""
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
    """CRYST1 with 1 Å edges, as files of molecules have it, stands for no cell."""
    line = re.search(r"^CRYST1(.*)$", text, re.MULTILINE)
    edges = [] if line is None else re.findall(r"[\d.]+", line[1][:27].ljust(27))
    if line is None or len(edges) < 3 or all(float(edge) <= 1 for edge in edges[:3]):
        raise SpecimenError(
            file,
            "has no cell (record CRYST1). Add one, or write the atoms in a format that keeps a cell (CIF, extended XYZ "
            "with Lattice=…, POSCAR).",
        )


def _element_notes(text: str) -> list[str]:
    records = [line for line in text.splitlines() if line.startswith(("ATOM  ", "HETATM"))]
    missing = sum(not line[ELEMENT_COLUMNS].strip() for line in records)
    if not missing:
        return []
    return [f"{missing} of {len(records)} atoms have no element in columns 77 and 78: the place of their name tells it"]
