"""Values with another meaning, size or unit than their name: they are named in a note or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from stemphony.errors import SpecimenError
from stemphony.specimen.formats import read_structure
from stemphony.specimen.structure import Structure
from stemphony.specimen.structures import read_specimen
from support.cif_files import cif_text

NAMES = ("label", "U_11", "U_22", "U_33", "U_12", "U_13", "U_23")
TENSOR = "".join(f"_atom_site_aniso_{name}\n" for name in NAMES)
CUBE = (5.0, 5.0, 5.0, 90, 90, 90)


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def cif(
    folder: Path, columns: str, row: str, *, group: str = "P 1", cell: tuple[float, ...] = CUBE, more: str = ""
) -> Path:
    columns = f"label {columns} fract_x fract_y fract_z"
    symmetry = f"_space_group_name_H-M_alt '{group}'"
    return written(folder, "a.cif", cif_text(row, symmetry=symmetry, cell=cell, columns=columns, more=more))


def notes(file: Path) -> str:
    return "\n".join(read_structure(file).notes)


# U and B


@pytest.mark.parametrize(("u", "said"), [("0.0114", False), ("0.0110", False), ("0.005", True)])
def test_u_and_b_of_one_site_that_differ_are_named(tmp_path, u, said):
    file = cif(tmp_path, "type_symbol U_iso_or_equiv B_iso_or_equiv", f"Si1 Si {u} 0.90 0 0 0")
    assert ("U and B of Si1" in notes(file)) == said
    assert read_structure(file).u_iso == pytest.approx(float(u))


@pytest.mark.parametrize(("u", "said"), [("0.0050", False), ("0.006", False), ("0.02", True)])
def test_an_isotropic_u_that_differs_from_its_tensor_is_named(tmp_path, u, said):
    tensor = f"loop_\n{TENSOR}Si1 0.005 0.005 0.005 0 0 0\n"
    file = cif(tmp_path, "type_symbol U_iso_or_equiv", f"Si1 Si {u} 0 0 0", more=tensor)
    assert ("third of the trace" in notes(file)) == said


@pytest.mark.parametrize(("u12", "said"), [("0.003", False), ("0.0", True)])
def test_a_tensor_without_the_symmetry_of_its_site_is_named(tmp_path, u12, said):
    """On a threefold axis of a hexagonal cell, U12 is half of U11."""
    tensor = f"loop_\n{TENSOR}Ti1 0.006 0.006 0.004 {u12} 0 0\n"
    row, cell = "Ti1 Ti 0.3333 0.6667 0.25", (2.95, 2.95, 4.68, 90, 90, 120)
    file = cif(tmp_path, "type_symbol", row, group="P 63/m m c", cell=cell, more=tensor)
    assert ("symmetry of their site: Ti1" in notes(file)) == said


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("U", "0.5", "above 0.25 Å²"),
        ("B", "0.005", "below 0.0003 Å²"),
        ("U", "0.005", ""),
        ("B", "0.15", ""),
        ("U", "0.2", ""),
    ],
)
def test_u_of_the_size_of_b_and_b_of_the_size_of_u_are_named(tmp_path, name, value, text):
    file = cif(tmp_path, f"type_symbol {name}_iso_or_equiv", f"Si1 Si {value} 0 0 0")
    said = [note for note in read_specimen(file).notes if "are unusual" in note]
    assert (text in said[0]) if text else not said
    settings = {"u_source": "config", "u_iso_angstrom2": {"Si": 0.01}}
    assert "are unusual" not in "\n".join(read_specimen(file, **settings).notes)


@pytest.mark.parametrize("kind", ["Uij", "Ueq", "aniso", "UISO", "Bij"])
def test_types_of_displacements_of_old_programs_make_no_note(tmp_path, kind):
    file = cif(tmp_path, "type_symbol U_iso_or_equiv adp_type", f"Si1 Si 0.01 {kind} 0 0 0")
    assert "type of displacements" not in notes(file)
    assert read_structure(file).u_iso.max() == 0.01


@pytest.mark.parametrize(
    ("kind", "value", "u", "text"),
    [
        ("Beq", "0.79", 0.0100, "is Beq: the values of the column of U are taken for B"),
        ("Beq", "0.010", 0.010, "is Beq, but the column has the name and the size of U"),
        ("Uabc", "0.010", 0.010, "Uabc is not known: columns of U and B are read as their names say"),
    ],
)
def test_other_types_of_displacements_are_named(tmp_path, kind, value, u, text):
    file = cif(tmp_path, "type_symbol U_iso_or_equiv adp_type", f"Si1 Si {value} {kind} 0 0 0")
    assert text in notes(file)
    assert read_structure(file).u_iso.max() == pytest.approx(u, rel=1e-3)
    assert read_structure(file).revision == (3 if "taken for B" in text else 2)  # U was 0.79 Å² before


def test_sites_with_u_0_among_others_are_named(tmp_path):
    """A refinement of PbTi0.35Zr0.65O3 in the COD fixed U of titanium and zirconium at 0."""
    rows = "Pb1 Pb 0.02 0 0 0\nZr1 Zr 0 0.5 0.5 0.5"
    file = cif(tmp_path, "type_symbol U_iso_or_equiv", rows)
    assert "U is 0 at 1 of 2 sites (Zr), and others move" in "\n".join(read_specimen(file).notes)
    settings = {"u_source": "config", "u_iso_angstrom2": {"Zr": 0.005}}
    assert "others move" not in "\n".join(read_specimen(file, **settings).notes)


# Elements

WATER_LABELS = [
    ("Wat", "O"), ("Wat2", "O"), ("WatX1", "O"), ("WatOW", "O"), ("Watz1", "O"), ("Ow1", "O"), ("Oh", "O"),
    ("Hw2", "H"),
]  # fmt: skip


@pytest.mark.parametrize(("label", "element"), WATER_LABELS)
def test_labels_of_water_in_mineral_databases_are_read_as_its_oxygen_or_hydrogen(tmp_path, label, element):
    structure = read_structure(cif(tmp_path, "", f"{label} 0 0 0\nO1 0.5 0.5 0.5"))
    assert structure.symbols.tolist() == [element, "O"]
    assert f"mineral databases: {label} is {element}" in "\n".join(structure.notes)


@pytest.mark.parametrize("label", ["Dw", "T1", "Wo", "M1", "Vac"])
def test_labels_that_name_no_element_are_refused_with_a_way_out(tmp_path, label):
    with pytest.raises(SpecimenError, match=rf"site {label}: its label names no element.*_atom_site_type_symbol"):
        read_structure(cif(tmp_path, "", f"{label} 0 0 0"))


@pytest.mark.parametrize("label", ["H2O", "D2O1"])
def test_a_label_that_may_be_water_or_its_hydrogen_is_refused(tmp_path, label):
    with pytest.raises(SpecimenError, match=r"could be H or O"):
        read_structure(cif(tmp_path, "", f"{label} 0 0 0\nSi1 0.5 0.5 0.5"))


@pytest.mark.parametrize("group", ["NH4+", "NO3-", "CO3-", "H2O", "Wat"])
def test_a_charged_group_of_atoms_is_no_element(tmp_path, group):
    with pytest.raises(SpecimenError, match="unknown element symbol"):
        read_structure(cif(tmp_path, "type_symbol", f"X1 {group} 0 0 0"))


def test_metals_in_capitals_with_a_charge_are_read(tmp_path):
    file = cif(tmp_path, "type_symbol", "A CO2+ 0 0 0\nB NI2+ 0.5 0 0\nC CL1- 0 0.5 0\nD O2- 0 0 0.5")
    assert read_structure(file).symbols.tolist() == ["Co", "Ni", "Cl", "O"]


def test_formal_charges_of_a_pdb_are_named(tmp_path):
    head = "CRYST1   10.000   10.000   10.000  90.00  90.00  90.00 P 1\n"
    row = "HETATM    1  O   OXD A   1       1.000   1.000   1.000  1.00  5.00           O2-\n"
    structure = read_structure(written(tmp_path, "a.pdb", head + row))
    assert structure.charge is not None
    assert structure.charge.tolist() == [-2.0]


# Symmetry and coordinates


def test_a_lone_operation_other_than_the_identity_is_completed(tmp_path):
    file = cif(tmp_path, "type_symbol", "Si1 Si 0.1 0.2 0.3")
    loop = "loop_\n_space_group_symop_operation_xyz\n'-x,-y,-z'"
    file.write_text(file.read_text().replace("_space_group_name_H-M_alt 'P 1'", loop))
    structure = read_structure(file)
    assert len(structure.symbols) == 2
    assert "no complete group" in "\n".join(structure.notes)


def test_orthogonal_coordinates_beside_fractions_are_named(tmp_path):
    file = cif(tmp_path, "type_symbol Cartn_x Cartn_y Cartn_z", "Si1 Si 1 1 1 0.25 0.25 0.25")
    assert "Cartn_x …) are not used" in notes(file)


@pytest.mark.parametrize(("x", "said"), [("25", True), ("-3.1", True), ("1.3", False), ("-0.2", False)])
def test_fractions_far_outside_the_cell_are_named(tmp_path, x, said):
    assert ("far outside the cell" in notes(cif(tmp_path, "type_symbol", f"Si1 Si {x} 0.5 0.5"))) == said


# Columns, units, ends


def test_a_negative_rms_is_refused(tmp_path):
    with pytest.raises(SpecimenError, match=r"line 3: an rms displacement of -0\.08 Å"):
        read_structure(written(tmp_path, "a.xyz", "t\n4 4 4\n14 0 0 0 1 -0.08\n-1\n"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.xyz", "t\n4 4 4\n14 0 0 0 1 0.08\n-1\n\n14 2 2 2 1 0.08\n"),
        ("a.cel", "t\n0 0.4 0.4 0.4 90 90 90\nSi 0 0 0 1 0.005 0 0 0\n*\n\nSi 0.5 0.5 0.5 1 0.005 0 0 0\n"),
    ],
)
def test_atoms_behind_the_end_of_a_file_are_named(tmp_path, name, text):
    structure: Structure = read_structure(written(tmp_path, name, text))
    assert len(structure.symbols) == 1
    assert "ends the file: what follows from line 6 is not used" in "\n".join(structure.notes)


def test_every_column_of_a_dump_that_is_not_used_is_named(tmp_path):
    names = "id type element x y z xs ys zs vx fx ix mass c_msd[4] q occupancy"
    head = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n0 4\n0 4\n0 4\n"
    row = "1 1 Si 1 1 1 .25 .25 .25 0 0 0 28.085 0.1 0 0.5"
    file = written(tmp_path, "a.dump", f"{head}ITEM: ATOMS {names}\n{row}\n")
    assert "columns that are not used: xs, ys, zs, ix, c_msd[4], occupancy" in notes(file)


@pytest.mark.parametrize("unit", ["units=nm", 'length_unit="bohr"', "Unit=pm"])
def test_an_extended_xyz_in_another_unit_is_refused(tmp_path, unit):
    text = f'1\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3 {unit}\nSi 0 0 0\n'
    with pytest.raises(SpecimenError, match=r"line 2 says .*are in Å"):
        read_structure(written(tmp_path, "a.xyz", text))
    for plain in ("units=metal", "unit=angstrom", "energy_unit=nm"):
        assert len(read_structure(written(tmp_path, "a.xyz", text.replace(unit, plain))).symbols) == 1


def test_a_layout_of_stemsalabim_that_would_be_next_to_empty_in_nm_is_asked_for(tmp_path):
    """2 atoms in (4 nm)³ or in (4 Å)³; the fifth column is 0.01 Å², or 0.0001 Å²."""
    file = written(tmp_path, "a.xyz", "2\n4 4 4\nSi 0 0 0 1e-4\nO 2 2 2 1e-4\n")
    with pytest.raises(SpecimenError, match="whether it is in nm or Å"):
        read_structure(file)
    assert read_structure(file, "stemsalabim").cell[0, 0] == 40
    thin = written(tmp_path, "b.xyz", "2\n1 2 1\nSi 0 0 0 1e-4\nO 0.2 0.2 0.2 1e-4\n")
    assert read_structure(thin).cell[0, 0] == 10


def test_a_tensor_of_nine_numbers_that_is_not_symmetric_is_refused(tmp_path):
    head = '1\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:u_aniso:R:9\nSi 0 0 0 '
    read_structure(written(tmp_path, "a.xyz", f"{head}.01 .002 0 .002 .02 0 0 0 .03\n"))
    with pytest.raises(SpecimenError, match=r"tensor of atom 0 .* is not symmetric"):
        read_structure(written(tmp_path, "a.xyz", f"{head}.01 .001 0 .002 .02 0 0 0 .03\n"))


def test_letters_in_latin_1_in_the_header_of_an_xyz_do_not_matter(tmp_path):
    file = tmp_path / "a.xyz"
    text = '1\nLattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3 author="M\u00fcller"\nSi 0 0 0\n'
    file.write_bytes(text.encode("latin-1"))
    assert read_structure(file).symbols.tolist() == ["Si"]


BOX = "0 5 xlo xhi\n0 5 ylo yhi\n0 5 zlo zhi"
DATA = f"LAMMPS\n\n1 atoms\n1 atom types\n\n{BOX}\n\nMasses\n\n1 28.085\n\nAtoms # {{}}\n\n{{}}\n"


@pytest.mark.parametrize(("style", "row"), [("atomic", "1 1 0.5 1 2 3"), ("charge", "1 1 1 0.5 1 2 3 0 0 0")])
def test_one_column_more_than_the_style_of_lammps_is_refused(tmp_path, style, row):
    with pytest.raises(SpecimenError, match=rf"style is '{style}'.*columns, as those of"):
        read_structure(written(tmp_path, "a.data", DATA.format(style, row)))


def test_further_columns_of_lammps_are_named(tmp_path):
    structure = read_structure(written(tmp_path, "a.data", DATA.format("full", "1 1 1 0.5 1 2 3 0.7 0.8")))
    assert structure.positions.tolist() == [[1, 2, 3]]
    assert "2 columns behind the coordinates are not used" in structure.notes


def test_a_box_of_lammps_that_runs_backwards_is_refused(tmp_path):
    text = DATA.format("atomic", "1 1 1 2 3")
    assert len(read_structure(written(tmp_path, "a.data", text)).symbols) == 1
    with pytest.raises(SpecimenError, match="box runs from 5 to 0 along z"):
        read_structure(written(tmp_path, "a.data", text.replace("0 5 zlo", "5 0 zlo")))
    dump = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n0 4\n4 0\n0 4\n"
    with pytest.raises(SpecimenError, match="box runs from 4 to 0 along y"):
        read_structure(written(tmp_path, "a.dump", f"{dump}ITEM: ATOMS id element x y z\n1 Si 1 1 1\n"))


def test_both_elements_of_one_name_in_a_pdb_are_named(tmp_path):
    head = "CRYST1   10.000   10.000   10.000  90.00  90.00  90.00 P 1\n"
    row = "ATOM      1 {} LYS A   1       {}.000   1.000   1.000  1.00  5.00\n"
    file = written(tmp_path, "a.pdb", head + row.format("HG  ", 1) + row.format(" HG ", 5))
    assert read_structure(file).symbols.tolist() == ["Hg", "H"]
    assert "HG is Hg, HG is H" in notes(file)
