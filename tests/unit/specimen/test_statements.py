"""Weight, electrons and density that a CIF states are compared with its atoms; differences make notes."""

from __future__ import annotations

from pathlib import Path

import pytest
from stemphony.errors import SpecimenError
from stemphony.specimen.formats import read_structure
from stemphony.specimen.statements import parsed_formula

CELL = "\n".join(
    [f"_cell_length_{axis} 5.6402" for axis in "abc"]
    + [f"_cell_angle_{angle} 90" for angle in ("alpha", "beta", "gamma")]
)
SITES = """loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
"""
SALT = "Na1 Na 0 0 0\nCl1 Cl 0.5 0.5 0.5\n"


def notes(folder: Path, statements: str, group: str = "F m -3 m", rows: str = SALT) -> list[str]:
    file = folder / "a.cif"
    file.write_text(f"data_a\n{CELL}\n_space_group_name_H-M_alt '{group}'\n{statements}\n{SITES}{rows}")
    return list(read_structure(file).notes)


@pytest.mark.parametrize(
    "statements",
    [
        "_chemical_formula_weight 58.44",  # 4 of them in the cell
        "_exptl_crystal_F_000 112",
        "_exptl_crystal_F_000 113.3",  # with the dispersion of chlorine and sodium
        "_exptl_crystal_density_meas 2.165(5)",
        "_exptl_crystal_density_meas 'not measured'",
        "_exptl_crystal_F_000 40.2\n_diffrn_radiation_probe neutron",  # a sum of scattering lengths
        "_exptl_crystal_F_000 40.2\n_diffrn_radiation_type 'Electron, 200 kV'",
        "_chemical_formula_sum 'Cl4 Na4'\n_chemical_formula_weight 233.77\n_cell_formula_units_Z 1",
        "_chemical_formula_sum 'Cl Na'\n_chemical_formula_weight 116.88\n_cell_formula_units_Z 4",
    ],
)
def test_statements_that_fit_make_no_note(tmp_path, statements):
    assert notes(tmp_path, statements) == []


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (
            "_chemical_formula_weight 90.1",
            "states a formula weight of 90.1 u, but the atoms of its cell weigh 2.59 times as much",
        ),
        ("_exptl_crystal_F_000 112", "states F(000) = 112 electrons per cell, but its atoms have 28"),
        ("_exptl_crystal_density_meas 2.165", "measured density is 2.165 g/cm³, but its atoms make 0.541 g/cm³"),
    ],
)
def test_statements_against_the_atoms_are_named(tmp_path, statements, expected):
    # Rock salt without its centring has a quarter of the atoms, and nothing else in the file contradicts this.
    group = "F m -3 m" if "weight" in statements else "P m -3 m"
    found = notes(tmp_path, statements, group)
    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize("formula", ["_chemical_formula_sum 'D2 O'", ""])
def test_deuterium_counts_in_weight_and_density(tmp_path, formula):
    # 4 D2O in 179.4 Å³ have 0.741 g/cm³; 4 H2O have 0.667 g/cm³, a tenth less.
    stated = f"{formula}\n_exptl_crystal_density_diffrn 0.741\n_chemical_formula_weight 20.03"
    rows = "O1 O 0 0 0\nD1 D 0.1 0 0\n"
    assert [note for note in notes(tmp_path, stated, "F 2 2 2", rows) if "deuterium" not in note] == []
    with pytest.raises(SpecimenError, match=r"0\.741 g/cm³, but its atoms make 0\.667"):
        notes(tmp_path, stated.replace("D2 O", "H2 O"), "F 2 2 2", rows.replace(" D ", " H "))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mg3 (Si3 Al) O10 (O H)2", {"Mg": 3, "Si": 3, "Al": 1, "O": 12, "H": 2}),
        ("[Cu (N H3)4] (S O4)", {"Cu": 1, "N": 4, "H": 12, "S": 1, "O": 4}),
        ("Ca (Al1.94 Fe.06) Si2 O10 D4", {"Ca": 1, "Al": 1.94, "Fe": 0.06, "Si": 2, "O": 10, "H": 4}),
        ("Cu (N H3", None),
        ("Cu N H3)4", None),
        ("(2 Fe)", None),
        ("not known", None),
    ],
)
def test_formulas_with_brackets_are_multiplied_out_or_not_understood(text, expected):
    assert parsed_formula(text) == expected


def test_the_formula_of_a_mineral_with_brackets_is_compared_and_decides_labels(tmp_path):
    rows = "Dw1 . 0 0 0\nCl1 . 0.5 0.5 0.5\n"
    found = notes(tmp_path, "_chemical_formula_sum '(Cl D)'", rows=rows)
    assert "become H: Dw1 (D)" in "\n".join(found)
    with pytest.raises(SpecimenError, match=r"its formula is \(Na K\) Cl2, but its atoms are Na4 Cl4"):
        notes(tmp_path, "_chemical_formula_sum '(Na K) Cl2'")
