"""A CIF with a symmetry that still lists all atoms of the cell: each line is one atom, or the file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stemphony.errors import SpecimenError
from stemphony.specimen.formats import read_structure
from stemphony.specimen.structure import Structure
from support.cif_files import SITE, cif_text

PLACES = ("0 0 0", "0.5 0.5 0", "0.5 0 0.5", "0 0.5 0.5")
EVERY = [f"Al{i} Al {place} 1 0.00{i}\n" for i, place in enumerate(PLACES, 1)]


def read(folder: Path, rows: list[str], stated: str = "") -> Structure:
    file = folder / "a.cif"
    symmetry = f"_space_group_name_H-M_alt 'F m -3 m'\n{stated}"
    columns = f"{SITE} occupancy U_iso_or_equiv"
    file.write_text(cif_text("".join(rows), symmetry=symmetry, cell=(4.05, 4.05, 4.05), columns=columns))
    return read_structure(file)


def test_every_line_of_a_complete_list_is_one_atom_with_its_own_u(tmp_path):
    structure = read(tmp_path, EVERY)
    assert len(structure.symbols) == 4
    np.testing.assert_allclose(structure.u_iso, [0.001, 0.002, 0.003, 0.004])
    assert "lists every atom of the cell, so its symmetry (symbol F m -3 m) adds none" in "\n".join(structure.notes)


def test_statements_of_a_complete_list_are_compared(tmp_path):
    with pytest.raises(SpecimenError, match="states 8 formula units"):
        read(tmp_path, EVERY, "_chemical_formula_sum Al\n_cell_formula_units_Z 8")


@pytest.mark.parametrize(
    "rows",
    [
        EVERY[:3],  # one image is missing
        [*EVERY[:3], EVERY[3].replace(" Al ", " Cu ")],
        [*EVERY[:3], EVERY[3].replace("0.5 1", "0.5 0.9")],
        [*EVERY, "Al5 Al 0 0 0 1 0.01\n"],  # one atom twice
    ],
)
def test_other_lists_are_refused_with_two_proposals(tmp_path, rows):
    with pytest.raises(SpecimenError, match=r"same position as site .* one line per atom.* lists all atoms.* P 1"):
        read(tmp_path, rows)


def test_a_primitive_cell_with_the_symbol_of_the_conventional_one_learns_of_p1(tmp_path):
    angles = "\n".join(f"_cell_angle_{name} 60" for name in ("alpha", "beta", "gamma"))
    with pytest.raises(SpecimenError, match=r"does not fit the cell.*primitive one, write the symmetry P 1"):
        read(tmp_path, EVERY[:1], angles)
