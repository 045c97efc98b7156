"""Find the format of a structure file, and read the file with the reader of this format.

This package has its own reader for a format if ASE would read it in another way than its program means. ASE reads all
other formats (`ase_process`). Functions import ASE when they need it, because jobs and the merge read `specimen.nc` and
never need ASE.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from stemphony.counting import number_of
from stemphony.errors import SpecimenError
from stemphony.specimen import (
    ase_process,
    ase_reader,
    cel,
    cfg,
    cif,
    lammps,
    lammps_dump,
    pdb,
    poscar,
    prismatic,
    source,
    stemsalabim_xyz,
    xtl,
)
from stemphony.specimen.lattice import Floats
from stemphony.specimen.structure import Structure

# Values of `specimen.format` in addition to `auto`, `ase` (any format, never nm) and `stemsalabim` (nm).
READERS: dict[str, Callable[[Path], Structure]] = {
    "cel": cel.read_cel,
    "cfg": cfg.read_cfg,
    "cif": cif.read_cif,
    "lammps-data": lammps.read_lammps_data,
    "pdb": pdb.read_pdb,
    "poscar": poscar.read_poscar,
    "prismatic": prismatic.read_prismatic,
    "stemsalabim": stemsalabim_xyz.read_stemsalabim,
    "xtl": xtl.read_xtl,
}
FORMATS = ("auto", "ase", *sorted([*READERS, "lammps-dump"]))
SUFFIXES = {
    ".cel": "cel", ".cfg": "cfg", ".xcfg": "cfg", ".cif": "cif", ".mcif": "cif", ".mmcif": "cif", ".pdb": "pdb",
    ".ent": "pdb", ".poscar": "poscar", ".vasp": "poscar", ".contcar": "poscar", ".xtl": "xtl",
    ".lammpstrj": "lammps-dump",
}  # fmt: skip
POSCAR_NAMES = re.compile(r"POSCAR|CONTCAR|CENTCAR|^(CHG|CHGCAR|LOCPOT|PARCHG|AECCAR\d?|ELFCAR)$")
ROUNDING = 1e-6
"""Distance from the cell, as a share of it, below which an atom outside is on its face. Files round fractions."""
HEAD = 20_000
"""Number of first characters that decide the format. Titles and comments before the data are shorter."""


def kind(file: Path, requested: str = "auto") -> str:
    """The format of a file, from its name and its content together: a key of READERS, `lammps-dump` or `ase`.

    A title never decides. Signatures are searched behind the title, or where no title can stand.

    Raises
    ------
    SpecimenError
        `requested` is unknown, or the file may be in nm or in Å.
    """
    if requested not in FORMATS:
        raise SpecimenError(file, f"format '{requested}' is unknown. Use {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.")
    if requested not in ("auto", "ase"):
        return requested
    head = source.head(file, HEAD)
    lines = head.splitlines()
    suffix = source.suffix(file)
    signed = _signature(lines)
    if suffix in (".xyz", ".extxyz"):
        return signed if signed in ("lammps-dump", "cif") else _xyz_kind(file, lines, requested)
    marked = head.lstrip()[:1] in ("<", "{")  # XML and JSON with any name
    if not marked and (suffix in SUFFIXES or POSCAR_NAMES.search(source.stem(file))):
        named = SUFFIXES.get(suffix, "poscar")
        return signed if signed is not None and named != "xtl" else named
    if signed is not None:
        return signed
    if poscar.looks_like_poscar(lines):
        return "poscar"
    if ase_reader.known_format(file) is None and prismatic.looks_like_prismatic(lines):
        return "prismatic"
    return "ase"


def _signature(lines: Sequence[str]) -> str | None:
    """A format that has typical words at places where no title stands; None if there are no such words."""
    first = next((line for line in lines if line.strip()), "").strip()
    body = "\n".join(lines[1:])
    if first.startswith("ITEM: ") and re.search(r"^ITEM: ", body, re.MULTILINE):
        return "lammps-dump"
    if re.search(r"^Number of particles\s*=", "\n".join(lines), re.MULTILINE) and "H0(1,1)" in body:
        return "cfg"
    if re.search(r"^\s*\d+\s+atoms\s*(#.*)?$", body, re.MULTILINE) and re.search(
        r"^\s*[-+.\deE]+\s+[-+.\deE]+\s+xlo\s+xhi\b|^[^#\n]*\bavec\s*(#.*)?$", body, re.MULTILINE
    ):
        return "lammps-data"
    text = "\n".join(lines)
    if re.search(r"^data_\S*\s*$", text, re.MULTILINE | re.IGNORECASE) and re.search(
        r"^\s*_[A-Za-z]+[._]", text, re.MULTILINE
    ):
        return "cif"
    if re.search(r"^(ATOM  |HETATM).{24}", text, re.MULTILINE) and re.match(r"[A-Z]{3,6}\d?\s", first):
        return "pdb"
    return None


def _xyz_kind(file: Path, lines: Sequence[str], requested: str) -> str:
    """The format of an XYZ file: several programs write different formats with this extension."""
    rows = list(lines)
    if prismatic.looks_like_prismatic(rows) and not stemsalabim_xyz.has_layout(rows):
        return "prismatic"
    if stemsalabim_xyz.has_layout(rows) and requested == "auto":
        whole = source.read_text(file).splitlines()
        return "stemsalabim" if stemsalabim_xyz.unit(file, whole) == "nm" else "ase"
    return "ase"


def read_structure(file: Path, requested: str = "auto") -> Structure:
    """The structure of `file`. If there are several frames, the first, with a note.

    `requested` is one of `FORMATS`: `auto` and `ase` find the format, see `kind`.

    Raises
    ------
    SpecimenError
        The file cannot be read. The text says why and what to do.
    """
    source.require_size(file)
    found = kind(file, requested)
    if found in READERS:
        structure = READERS[found](file)
    elif found == "lammps-dump":
        first = next(lammps_dump.read_frames(file), None)
        if first is None:
            raise SpecimenError(file, "holds no atoms. A specimen needs at least one.")
        structure = _with_frames(first, lammps_dump.count_frames(file))
    else:
        structure = _with_frames(*ase_process.read_first(file))
        if requested == "auto" and source.suffix(file) == ".xyz" and _has_stemsalabims_layout(file):
            structure = replace(structure, revision=2)  # version 0.1 read this file in nm
    return _with_outside(structure)


def read_frames(file: Path) -> Iterator[Structure]:
    """All frames of the trajectory `file` in Å, one after the other.

    Raises
    ------
    SpecimenError
        A frame cannot be read. The text names the frame, counted from 0.
    """
    source.require_size(file)
    found = kind(file, "ase")
    if found == "lammps-dump":
        return lammps_dump.read_frames(file)
    if found == "pdb":
        return pdb.read_models(file)
    if found in READERS:
        return iter([READERS[found](file)])
    return ase_process.read_frames(file, ":")


def _has_stemsalabims_layout(file: Path) -> bool:
    return stemsalabim_xyz.has_layout(source.head(file, HEAD).splitlines())


def _with_outside(structure: Structure) -> Structure:
    """Add a note on atoms outside the cell along a or b, which are wrapped because the cell is periodic."""
    if not np.isfinite(structure.cell).all() or not np.isfinite(structure.positions).all():
        return structure
    if np.linalg.matrix_rank(structure.cell) < 3:
        return structure
    fractions = structure.positions @ np.linalg.inv(structure.cell)
    outside = ((fractions[:, :2] < -ROUNDING) | (fractions[:, :2] >= 1 + ROUNDING)).any(axis=1)
    if not outside.any():
        return structure
    place = "outside the cell along a or b"
    wrapped = number_of(int(outside.sum()), f"atom lies {place} and is wrapped", f"atoms lie {place} and are wrapped")
    note = f"{wrapped} into it (it is periodic)"
    return replace(structure, notes=(*structure.notes, note))


def _with_frames(structure: Structure, frames: int) -> Structure:
    if frames < 2:
        return structure
    number = f"{frames} frames" if frames > 2 else "several frames"
    note = f"holds {number}; the first is the specimen. Write another one into a file of its own to use it"
    return replace(structure, notes=(note, *structure.notes))


def covalent_radii(symbols: Sequence[str]) -> Floats:
    """Covalent radius [Å], (N,), of each of the elements `symbols`, from ASE."""
    from ase.data import atomic_numbers, covalent_radii

    return np.array([covalent_radii[atomic_numbers[symbol]] for symbol in symbols])
