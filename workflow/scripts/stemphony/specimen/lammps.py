"""What ASE guesses where a LAMMPS file is silent. Functions take the file's text from its start."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from stemphony.errors import SpecimenError


def require_lammps_elements(file: Path, lines: Iterator[str], format_ase: str) -> None:
    """ASE takes LAMMPS' atom types for atomic numbers (1 = H, 2 = He) if the file does not name them."""
    if format_ase == "lammps-data":
        found = any(re.match(r"\s*(Masses|Atom Type Labels)\b", line) for line in lines)
        need = "a section Masses"
    else:
        columns = _columns(lines)
        found, need = not columns or bool({"element", "mass"} & set(columns)), "a column element"
    if not found:
        raise SpecimenError(
            file,
            f"does not say which element an atom type is: a LAMMPS file needs {need}. Add it and write the file again.",
        )


def require_whole_lammps(file: Path, lines: Iterator[str], count: int) -> None:
    """ASE reads a dump that ends early as one with fewer atoms."""
    for line in lines:
        if line.startswith("ITEM: NUMBER OF ATOMS"):
            stated = next(lines, "").strip()
            if stated != str(count):
                raise SpecimenError(
                    file,
                    f"announces {stated} atoms, but a frame has {count}: it is truncated, or the number "
                    "of atoms changes. Export it again.",
                )
            return


def scaled_lammps(lines: Iterator[str]) -> bool:
    """Whether ASE made a dump's coordinates of fractions, which do not count from the box's origin."""
    columns = _columns(lines)
    return "x" not in columns and ("xs" in columns or "xu" not in columns)


def _columns(lines: Iterator[str]) -> list[str]:
    return next((line.split()[2:] for line in lines if line.startswith("ITEM: ATOMS")), [])
