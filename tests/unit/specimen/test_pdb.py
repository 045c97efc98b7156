"""PDB files: elements by the column of a name, occupancies, models and symmetry."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from stemphony.specimen.displacements import B_PER_U
from stemphony.specimen.formats import read_frames, read_structure
from support.structure_files import refusal, written

A = 3.905
"""Lattice parameter of strontium titanate [Å]."""


def pdb(folder: Path, names: str, group: str = "P 1", element: str = "", b: float = 0.0) -> Path:
    rows = [
        f"ATOM  {i + 1:5d} {name}LYS A   1    {2.0 + 1.5 * i:8.3f}   3.000   3.000  1.00{b:6.2f}{element:>12s}\n"
        for i, name in enumerate(re.findall(r"'(.{5})'", names))
    ]
    return written(
        folder, "a.pdb", f"CRYST1   20.000   21.000   22.000  90.00  90.00  90.00 {group:<11s}\n{''.join(rows)}END\n"
    )


def test_the_column_of_a_name_gives_its_element(tmp_path):
    structure = read_structure(pdb(tmp_path, "' CA  ''CA   '' CD  '' NE  '' HG  ''HG   ''HG11 ''1HB  '"))
    assert structure.symbols.tolist() == ["C", "Ca", "C", "N", "H", "Hg", "H", "H"]
    assert "columns 77" in "\n".join(structure.notes)


@pytest.mark.parametrize(("residue", "expected"), [("LYS", "NCHCCHO"), ("HSD", "NCHCCHO")])
def test_names_that_all_begin_in_column_13_are_of_amino_acids(tmp_path, residue, expected):
    """CHARMM and VMD write carbon as `CA  `, and gemmi takes it for calcium, CD for cadmium and HG for mercury."""
    file = pdb(tmp_path, "'N    ''CA   ''HG1  ''CD   ''CB   ''HE2  ''OT1  '")
    file.write_text(file.read_text().replace("LYS", residue))
    structure = read_structure(file)
    assert "".join(structure.symbols.tolist()) == expected
    assert structure.revision == 5


def test_names_that_all_begin_in_column_13_tell_nothing_of_other_molecules(tmp_path):
    file = pdb(tmp_path, "'N    ''CA   ''O1   '")
    file.write_text(file.read_text().replace("LYS", "LIG"))
    refusal(file, "atom 2 (CA) may be Ca or C", "columns 77 and 78")
    file.write_text(file.read_text().replace("CA ", "CB "))
    assert read_structure(file).symbols.tolist() == ["N", "C", "O"]
    file.write_text(file.read_text().replace("CB ", "SR1"))
    assert read_structure(file).symbols.tolist() == ["N", "Sr", "O"]


def test_small_letters_and_residues_of_ions_leave_no_doubt(tmp_path):
    """By its column, ` Sr ` would be sulphur; the residue of an ion has the name of the ion."""
    file = pdb(tmp_path, "' Sr  ''Ti1  '' ZN  '")
    file.write_text(file.read_text().replace(" ZN  LYS", " ZN   ZN"))
    structure = read_structure(file)
    assert structure.symbols.tolist() == ["Sr", "Ti", "Zn"]
    assert "Sr is Sr, Ti1 is Ti, ZN is Zn" in "\n".join(structure.notes)
    assert structure.revision == 3
    assert read_structure(pdb(tmp_path, "' CA  '' N   '", b=1.0)).revision == 2


def test_blank_occupancies_are_1_and_blank_factors_none(tmp_path):
    file = pdb(tmp_path, "' CA  '' N   '")
    whole = file.read_text()
    for keep in (54, 80):  # lines that end, or go on, behind the coordinates
        rows = [line[:54].ljust(keep) if line.startswith("ATOM") else line for line in whole.splitlines()]
        file.write_text("\n".join(rows) + "\n")
        structure = read_structure(file)
        assert structure.symbols.tolist() == ["C", "N"]
        assert structure.occupancy is None
        assert structure.u_iso is None
    file.write_text(pdb(tmp_path, "' CA  '' N   '", b=5.0).read_text().replace("  5.00", "      ", 1))
    refusal(file, "1 of 2 atoms have no temperature factor")


def test_occupancies_that_are_all_zero_stand_for_none(tmp_path):
    file = pdb(tmp_path, "' CA  '' N   '")
    file.write_text(file.read_text().replace("  1.00", "  0.00"))
    structure = read_structure(file)
    assert structure.occupancy is None
    assert "taken for 1" in "\n".join(structure.notes)


@pytest.mark.parametrize(("begin", "end"), [("MODEL        1\n", "ENDMDL\n"), ("", "END\n")])
def test_each_model_of_a_pdb_has_its_own_cell(tmp_path, begin, end):
    """gemmi gives the first model the last cell; programs for trajectories separate models by END."""
    first = pdb(tmp_path, "' CA  '' N   '").read_text().replace("END\n", "")
    second = first.replace("20.000   21.000", "30.000   31.000").replace("   2.000", "   2.500")
    file = written(tmp_path, "md.pdb", "".join(f"{begin}{text}{end}" for text in (first, second)))
    structure = read_structure(file)
    np.testing.assert_allclose(np.diag(structure.cell), [20, 21, 22])
    assert "2 models" in "\n".join(structure.notes)
    frames = list(read_frames(file))
    np.testing.assert_allclose([frame.cell[0, 0] for frame in frames], [20, 30])
    np.testing.assert_allclose([frame.positions[0, 0] for frame in frames], [2.0, 2.5])


def test_pdb_keeps_its_coordinates(tmp_path):
    structure = read_structure(pdb(tmp_path, "' CA  '' N   '", element="C"))
    np.testing.assert_array_equal(structure.positions, [[2, 3, 3], [3.5, 3, 3]])
    np.testing.assert_allclose(np.diag(structure.cell), [20, 21, 22])
    assert structure.u_iso is None


def test_pdb_applies_its_symmetry_and_its_b(tmp_path):
    structure = read_structure(pdb(tmp_path, "' CA  '", "P 21 21 21", b=15.0))
    assert len(structure.symbols) == 4
    assert structure.u_iso is not None
    np.testing.assert_allclose(structure.u_iso, 15.0 / B_PER_U)
    assert "P 21 21 21" in "\n".join(structure.notes)


def test_atom_of_a_pdb_on_an_axis_has_the_share_of_one_image(tmp_path):
    file = pdb(tmp_path, "' CA  '' O   '", "P 1 2 1")
    text = file.read_text().replace("   2.000   3.000   3.000  1.00", "   0.000   3.000   0.000  0.50")
    file.write_text(text)
    structure = read_structure(file)
    assert sorted(structure.symbols) == ["C", "O", "O"]
    assert structure.occupancy is None
    assert "one image" in "\n".join(structure.notes)


def test_pdb_without_a_cell_is_refused(tmp_path):
    file = pdb(tmp_path, "' CA  '")
    file.write_text(file.read_text().replace("20.000   21.000   22.000", " 1.000    1.000    1.000"))
    refusal(file, "no cell", "CRYST1")
