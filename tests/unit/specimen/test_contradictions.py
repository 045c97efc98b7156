"""Files with contradictions or unreadable numbers: they are named or refused, never ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from stemphony.errors import SpecimenError
from stemphony.specimen.elements import from_type
from stemphony.specimen.formats import read_structure
from stemphony.specimen.structure import Structure
from support.cif_files import SITE, cif_text

BOX = "0 4 xlo xhi\n0 4 ylo yhi\n0 6 zlo zhi"


def read(folder: Path, name: str, text: str) -> Structure:
    file = folder / name
    file.write_text(text)
    return read_structure(file)


def cif(folder: Path, symmetry: str, row: str = "Al1 Al 0 0 0", loop: str = SITE) -> Structure:
    text = cif_text(row, symmetry=symmetry, cell=(4.05, 4.05, 4.05, 90, 90, 90), columns=loop)
    return read(folder, "a.cif", text)


@pytest.mark.parametrize(
    "name", ["_space_group_IT_number 225", "_space_group_name_Hall '-F 4 2 3'", "_space_group_name_H-M_alt 'Q q q'"]
)
def test_a_lone_identity_beside_another_group_is_named(tmp_path, name):
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'"
    structure = cif(tmp_path, f"{name}\n{operations}")
    assert "lists x,y,z alone, but names the space group" in "\n".join(structure.notes)


def test_operations_without_centring_are_completed_where_z_needs_it(tmp_path):
    import gemmi

    triplets = [op.triplet() for op in gemmi.find_spacegroup_by_name("P m -3 m").operations()]
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\n" + "\n".join(f"'{text}'" for text in triplets)
    named = "_space_group_name_H-M_alt 'F m -3 m'"
    stated = "_cell_formula_units_Z 4\n_chemical_formula_sum Al"
    assert len(cif(tmp_path, f"{named}\n{stated}\n{operations}").symbols) == 4
    silent = cif(tmp_path, f"{named}\n{operations}")
    assert len(silent.symbols) == 1
    assert "lists 48 symmetry operations, but names" in "\n".join(silent.notes)
    assert "chosen by" not in "\n".join(silent.notes)


@pytest.mark.parametrize("other", ["_space_group_name_H-M_alt 'F m -3 m'", "_space_group_IT_number 225"])
def test_a_hall_symbol_of_another_group_is_refused(tmp_path, other):
    with pytest.raises(SpecimenError, match="contradicts itself"):
        cif(tmp_path, f"_space_group_name_Hall 'P 1'\n{other}")


@pytest.mark.parametrize(("symbol", "x", "count"), [("Fd-3mZ", "0.125", 8), ("Fd-3mS", "0.0", 8)])
def test_the_origin_letter_of_a_symbol_without_spaces_counts(tmp_path, symbol, x, count):
    structure = cif(tmp_path, f"_symmetry_space_group_name_H-M '{symbol}'", f"Si1 Si {x} {x} {x}")
    assert len(structure.symbols) == count


@pytest.mark.parametrize("text", ["1.0X-02", "0,005", "0.010(", "inf", "abc"])
@pytest.mark.parametrize("column", ["U_iso_or_equiv", "B_iso_or_equiv"])
def test_a_displacement_that_is_no_number_is_refused(tmp_path, column, text):
    with pytest.raises(SpecimenError, match=r"site Al1: .*no number"):
        cif(tmp_path, "_space_group_IT_number 225", f"Al1 Al 0 0 0 {text}", f"{SITE} {column}")


@pytest.mark.parametrize("group", ["CO3", "NH4", "NO3", "PO4"])
def test_a_group_of_atoms_is_no_element(group):
    assert from_type(group) is None
    assert from_type("Co3") == ("Co", None)
    assert from_type("CO2+") == ("Co", 2.0)


def lammps(folder: Path, style: str, *rows: str) -> Structure:
    atoms = "\n".join(rows)
    masses = "1 87.62\n2 47.867\n"
    text = f"title\n\n{len(rows)} atoms\n2 atom types\n{BOX}\n\nMasses\n\n{masses}\nAtoms # {style}\n\n{atoms}\n"
    return read(folder, "a.data", text)


def test_columns_of_rare_atom_styles_are_read(tmp_path):
    edpd = lammps(tmp_path, "edpd", "1 1 1 2 0.1 0.2 0.3", "2 2 1 2 2.1 2.2 3.3")
    assert edpd.symbols.tolist() == ["Sr", "Ti"]
    smd = lammps(tmp_path, "smd", "1 1 1 1 1 1 1 9 9 9 0.1 0.2 0.3")
    assert smd.positions[0].tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_an_unknown_atom_style_is_not_guessed(tmp_path):
    with pytest.raises(SpecimenError, match="atom style is 'rheo'"):
        lammps(tmp_path, "rheo", "1 1 1 2 0.1 0.2 0.3")


def dump(folder: Path, columns: str, *rows: str) -> Structure:
    head = f"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n{len(rows)}\nITEM: BOX BOUNDS pp pp pp\n0 4\n0 4\n0 6\n"
    return read(folder, "a.dump", f"{head}ITEM: ATOMS {columns}\n" + "\n".join(rows) + "\n")


@pytest.mark.parametrize(
    ("columns", "rows", "text"),
    [
        ("id element x y z q", ["1 Sr 0 0 0 abc"], "column q"),
        ("id mass x y z", ["1 abc 0 0 0"], "column mass"),
        ("id element x y z", ["1 Sr 0 0 0", "1 Ti 2 2 2"], "same id"),
    ],
)
def test_damaged_columns_of_a_dump_are_refused(tmp_path, columns, rows, text):
    with pytest.raises(SpecimenError, match=text):
        dump(tmp_path, columns, *rows)


def test_names_and_atoms_that_a_poscar_does_not_announce_are_named(tmp_path):
    head = "t\n1.0\n4 0 0\n0 4 0\n0 0 4\nSr Ti\n1 1\n"
    other = read(tmp_path, "POSCAR", f"{head}Direct\n0 0 0 Ba\n.5 .5 .5 Ti\n")
    assert "line 9 names Ba" in "\n".join(other.notes)
    more = read(tmp_path, "POSCAR", f"{head}Direct\n0 0 0\n.5 .5 .5\n.2 .2 .2\n")
    assert "line 11 has more coordinates" in "\n".join(more.notes)
    flags = read(tmp_path, "POSCAR", f"{head}Selective\nDirect\n0 0 0 F F F\n.5 .5 .5 T T T\n\n0 0 0\n0 0 0\n")
    assert flags.notes == ()


def test_a_pdb_without_a_space_group_is_p1(tmp_path):
    cell = "CRYST1    4.000    4.000    4.000  90.00  90.00  90.00\n"
    atom = "HETATM    1 SR   UNK A   1       1.000   1.000   1.000  1.00  0.50          SR\n"
    structure = read(tmp_path, "a.pdb", f"{cell}{atom}END\n")
    assert structure.symbols.tolist() == ["Sr"]
    assert "gives no symmetry" in "\n".join(structure.notes)


# Elements that are given twice


EXTENDED = '2\nLattice="4 0 0 0 4 0 0 0 4" Properties={}\n{}\n'


@pytest.mark.parametrize(
    ("properties", "rows"),
    [("species:S:1:pos:R:3:Z:I:1", "Sr 0 0 0 38\nTi 2 2 2 38"),
     ("Z:I:1:species:S:1:pos:R:3", "38 Sr 0 0 0\n8 Ti 2 2 2"),
     ("species:S:1:pos:R:3:forces:R:3:numbers:I:1", "Sr 0 0 0 1 2 3 38\nTi 2 2 2 1 2 3 23")],
)  # fmt: skip
def test_a_symbol_and_an_atomic_number_of_two_elements_are_refused(tmp_path, properties, rows):
    with pytest.raises(SpecimenError, match="line 4: contradicts itself: its symbol is Ti"):
        read(tmp_path, "a.xyz", EXTENDED.format(properties, rows))


def test_a_symbol_and_its_atomic_number_are_read(tmp_path):
    text = EXTENDED.format("species:S:1:pos:R:3:Z:I:1", "Sr 0 0 0 38\nTi 2 2 2 22")
    assert read(tmp_path, "a.xyz", text).symbols.tolist() == ["Sr", "Ti"]


@pytest.mark.parametrize("name", ["charge", "charges", "initial_charges", "q"])
def test_charges_of_an_extended_xyz_are_named(tmp_path, name):
    from stemphony.specimen.structures import read_specimen

    file = tmp_path / "a.xyz"
    file.write_text(EXTENDED.format(f"species:S:1:pos:R:3:{name}:R:1", "Na 0 0 0 1\nCl 2 2 2 -1"))
    notes = read_specimen(file).notes
    assert any("charges" in note and "not used" in note for note in notes), notes


CFG = "Number of particles = 1\nA = 1.0\n" + "\n".join(f"H0({i},{i}) = 4" for i in (1, 2, 3)) + "\n"
CFG += "\n".join(f"H0({i},{j}) = 0" for i in (1, 2, 3) for j in (1, 2, 3) if i != j) + "\n"


@pytest.mark.parametrize(
    ("mass", "note"),
    [("63.546", "is that of Cu, not of Sr"), ("63.5", "is that of Cu, not of Sr"), ("300", "is not that of Sr"),
     ("87.62", ""), ("87.6", ""), ("76", ""), ("1.0", ""), ("0", "")],
)  # fmt: skip
@pytest.mark.parametrize("extended", [True, False])
def test_a_mass_in_a_cfg_that_its_element_does_not_have_is_named(tmp_path, mass, note, extended):
    atoms = f".NO_VELOCITY.\nentry_count = 3\n{mass}\nSr\n0 0 0\n" if extended else f"{mass} Sr 0 0 0 0 0 0\n"
    structure = read(tmp_path, "a.cfg", CFG + atoms)
    assert structure.symbols.tolist() == ["Sr"]
    assert [note in text for text in structure.notes] == ([True] if note else [])


MUSTEM = "title\n4 4 4 90 90 90\n200\n1\n{}\n1 38 1.0 0.005\n0 0 0\nOrientation\n0 0 1\n1 0 0\n0 1 0\n"


def test_a_symbol_of_mustem_of_another_element_is_refused(tmp_path):
    text = MUSTEM.rsplit("Orientation", 1)[0]
    with pytest.raises(SpecimenError, match="it names Ti, and the atomic number in line 6 is that of Sr"):
        read(tmp_path, "a.xtl", text.format("Ti"))
    for name in ("Sr", "strontium", "Strontium", "Sr2+", "A site"):
        assert read(tmp_path, "a.xtl", text.format(name)).symbols.tolist() == ["Sr"]


def typed(folder: Path, sections: str) -> Structure:
    return read(folder, "a.data", f"title\n\n1 atoms\n1 atom types\n{BOX}\n\n{sections}\nAtoms # atomic\n\n1 1 0 0 0\n")


def test_a_label_of_lammps_with_the_mass_of_another_element_is_refused(tmp_path):
    with pytest.raises(SpecimenError, match=r"its label is Na .* and its mass is 35.453 u"):
        typed(tmp_path, "Atom Type Labels\n\n1 Na\n\nMasses\n\n1 35.453\n")


@pytest.mark.parametrize("name", ["CA", "Ca"])
def test_a_comment_of_lammps_that_the_mass_contradicts_is_named(tmp_path, name):
    structure = typed(tmp_path, f"Masses\n\n1 12.011 # {name}\n")
    assert structure.symbols.tolist() == ["C"]
    assert ("type 1 is named Ca" in "\n".join(structure.notes)) == (name == "Ca")


def test_an_element_and_the_mass_of_another_one_in_a_dump_are_named(tmp_path):
    head = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n0 4\n0 4\n0 4\n"
    assert not read(tmp_path, "a.dump", f"{head}ITEM: ATOMS id element mass x y z\n1 Sr 87.62 0 0 0\n").notes
    other = read(tmp_path, "a.dump", f"{head}ITEM: ATOMS id element mass x y z\n1 Sr 47.867 0 0 0\n")
    assert "is that of Ti, not of Sr" in "\n".join(other.notes)


# Displacements and labels


def test_two_tensors_of_one_label_are_refused(tmp_path):
    names = "\n".join(
        f"_atom_site_aniso_{name}" for name in ("label", *(f"U_{p}" for p in ["11", "22", "33", "12", "13", "23"]))
    )
    row, other = "Al1 .01 .01 .01 0 0 0", "Al1 .02 .01 .01 0 0 0"
    assert cif(tmp_path, f"loop_\n{names}\n{row}\n{row}").u_aniso is not None
    with pytest.raises(SpecimenError, match=r"site Al1: .* two lines with different tensors"):
        cif(tmp_path, f"loop_\n{names}\n{row}\n{other}")


def test_a_label_of_another_element_is_named(tmp_path):
    assert "Sr1 is Al" in "\n".join(cif(tmp_path, "", "Sr1 Al 0 0 0").notes)
    for label in ("Al1", "A1", "M1", "AlA"):
        assert "labels name" not in "\n".join(cif(tmp_path, "", f"{label} Al 0 0 0").notes)


@pytest.mark.parametrize("u", [50.0, 4.1])
def test_a_displacement_beyond_all_solids_is_refused(tmp_path, u):
    from stemphony.specimen.structures import read_specimen

    file = tmp_path / "a.xyz"
    file.write_text(EXTENDED.format("species:S:1:pos:R:3:u_iso:R:1", f"C 0 0 0 {u}\nC 2 2 2 {u}"))
    with pytest.raises(SpecimenError, match="at most 4 Å² is possible") as caught:
        read_specimen(file)
    assert "specimen.u_source: config" in str(caught.value)
    settings = {"u_source": "config", "u_iso_angstrom2": {"C": 0.01}}
    assert read_specimen(file, **settings).u_iso.tolist() == [0.01, 0.01]


# Crystallographic XTL


def xtl(folder: Path, symmetry: str, header: str, row: str) -> Structure:
    text = f"TITLE a\nDIMENSION 3\nCELL\n5.4309 5.4309 5.4309 90 90 90\n{symmetry}\n\nATOMS\n{header}\n{row}\nEOF\n"
    return read(folder, "a.xtl", text)


SIESTA = "NAME       X          Y          Z         CHARGE   TEMP    OCCUP   SCAT"


@pytest.mark.parametrize(("origin", "atoms"), [("origin_1", 16), ("ORIGIN_2", 8)])
def test_symmetry_of_an_xtl_is_read_from_one_line(tmp_path, origin, atoms):
    symmetry = f"SYMMETRY  NUMBER 227  LABEL FD-3M  QUALIFIER {origin}"
    structure = xtl(tmp_path, symmetry, SIESTA, "X1 0.125 0.125 0.125 0.0 0.0 1.0 Si0+")
    assert structure.symbols.tolist() == ["Si"] * atoms


def test_zero_temperature_factors_of_an_xtl_are_no_values(tmp_path):
    structure = xtl(tmp_path, "SYMMETRY NUMBER 1 LABEL P1", SIESTA, "Si1 0 0 0 0.0 0.0 1.0 Si")
    assert structure.u_iso is None


def test_columns_of_an_xtl_that_are_not_used_are_named(tmp_path):
    header = "NAME X Y Z CHARGE TEMP OCCUP SCAT MOMENT"
    structure = xtl(tmp_path, "SYMMETRY NUMBER 1 LABEL P1", header, "Si1 0 0 0 1.5 0.4 1.0 Si up")
    assert "columns that are not used: CHARGE, MOMENT" in structure.notes
    assert "TEMP is taken for B" in "\n".join(structure.notes)


def test_types_of_cerius2_are_read_and_surfaces_are_refused(tmp_path):
    structure = xtl(tmp_path, "SYMMETRY NUMBER 1 LABEL P1", SIESTA, "X1 0 0 0 0.0 0.0 1.0 NA 0+")
    assert structure.symbols.tolist() == ["Na"]
    text = "TITLE a\nDIMENSION 2\nCELL\n5 5 90\nATOMS\nNAME X Y Z\nSi 0 0 0\nEOF\n"
    with pytest.raises(SpecimenError, match="DIMENSION 2 has no third edge"):
        read(tmp_path, "a.xtl", text)
