"""Non-crystallographic copies: a PDB or mmCIF file lists atoms once and repeats them by matrices."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stemphony.specimen import orbits
from stemphony.specimen.cif_block import CifBlock, block_of, parsed

ASSEMBLY = "_atom_site_disorder_assembly"


def expanded(file: Path, model: Any, notes: list[str], records: str) -> CifBlock:
    """A block with all atoms of a gemmi structure: the listed atoms and their copies.

    Alternate places in one copy do not depend on those in another copy. So each copy is a disorder assembly of its own.

    Parameters
    ----------
    file : Path
        Structure file, for messages.
    model : gemmi.Structure
        The function adds the copies to it.
    notes : list of str
        The function appends a note to this list if there are copies.
    records : str
        Name of the matrices in the file, for the note.

    Returns
    -------
    CifBlock
        The block with its atoms.

    Raises
    ------
    SpecimenError
        There are more copies than any file needs.
    """
    import gemmi

    listed: set[str] = set()
    if any(not operator.given and not operator.tr.is_identity() for operator in model.ncs):
        before = model[0].count_atom_sites()
        orbits.require_few_images(file, before, 1 + sum(not operator.given for operator in model.ncs))
        listed = {chain.name for chain in model[0]}
        model.expand_ncs(gemmi.HowToNameCopiedChain.AddNumber)
        notes.append(f"{records} repeat the listed atoms: {before} become {model[0].count_atom_sites()}")
    block = block_of(file, model.make_mmcif_block())
    if listed and "_atom_site_auth_asym_id" in block.raw:
        block.raw[ASSEMBLY] = _numbers(block.raw["_atom_site_auth_asym_id"], listed)
    return block


def _numbers(chains: Sequence[str], listed: set[str]) -> list[str]:
    """Number of the copy of each atom, which gemmi adds to the name of its chain; `.` for listed atoms."""
    return ["." if chain in listed else re.sub(r"^.*?(?=\d*$)", "", chain) for chain in chains]


def has_copies(block: CifBlock) -> bool:
    """Whether the `block` of an mmCIF repeats its atoms by matrices (`_struct_ncs_oper`) that are not applied yet."""
    codes = [code.lower() for code in block.raw.get("_struct_ncs_oper_code", [])]
    return "generate" in codes and "_atom_site_cartn_x" in block.raw


def of_mmcif(file: Path, text: str, name: str, notes: list[str]) -> CifBlock:
    """The block `name` of the `text` of an mmCIF with its copies applied. `file` is named in messages.

    The function appends a note to `notes` if there are copies.
    """
    import gemmi

    raw = next(block for block in parsed(text) if block.name == name)
    model = gemmi.make_structure_from_block(raw)
    model.setup_entities()
    return expanded(file, model, notes, "matrices of _struct_ncs_oper")
