"""The format of a file follows from its name and content; limits are checked before it is read."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from stemphony.errors import SpecimenError
from stemphony.specimen.formats import FORMATS, kind, read_structure
from support.structure_files import refusal, written

POSCAR = (
    "{}\n1.0\n3.905 0 0\n0 3.905 0\n0 0 3.905\nSr Ti O\n1 1 3\nDirect\n0 0 0\n.5 .5 .5\n.5 .5 0\n.5 0 .5\n0 .5 .5\n"
)
DUMP = (
    "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\n"
    "ITEM: BOX BOUNDS pp pp pp\n0 5\n0 5\n0 5\nITEM: ATOMS id element x y z\n1 Au 0 1 2\n"
)
DATA = (
    "{}\n\n1 atoms\n1 atom types\n0 4 xlo xhi\n0 4 ylo yhi\n0 4 zlo zhi\n\n"
    "Masses\n\n1 196.97\n\nAtoms # atomic\n\n1 1 0 0 0\n"
)
CIF = (
    "data_{}\n" + "".join(f"_cell_length_{e} 4\n" for e in "abc")
    + "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\nAu1 0 0 0\n"
)  # fmt: skip
PDB = (
    "CRYST1   10.000   10.000   10.000  90.00  90.00  90.00 P 1\n"
    "ATOM      1  N   LYS A   1       2.000   3.000   3.000  1.00  0.00           N\nEND\n"
)
CFG = (
    "Number of particles = 1\n"
    + "".join(f"H0({i},{i}) = 4.0\n" for i in (1, 2, 3))
    + ".NO_VELOCITY.\nentry_count = 3\n197\nAu\n0 0 0\n"
)
PRISMATIC = "{}\n4 4 4\n79 0 0 0 1 0.08\n79 2 2 2 1 0.08\n-1\n"
STEMSALABIM = "2\n0.4 0.4 0.4\nAu 0 0 0 8e-5\nAu 0.2 0.2 0.2 8e-5\n"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        *((name, POSCAR.format("STO"), "poscar") for name in (
            "POSCAR", "CONTCAR", "POSCAR.relaxed", "POSCAR_1", "sto.vasp", "sto.poscar", "CHGCAR", "structure",
            "sto.dat",
        )),
        *((name, DUMP, "lammps-dump") for name in ("a.lammpstrj", "dump.100", "a.dump", "a.txt", "a", "a.xyz")),
        *((name, DATA.format("x"), "lammps-data") for name in ("a.data", "a.lmp", "a.dat", "data.gold", "a")),
        *((name, CIF.format("gold"), "cif") for name in ("a.cif", "a.mcif", "a.CIF", "a.txt", "a")),
        *((name, PDB, "pdb") for name in ("a.pdb", "a.ent", "a.PDB", "a.txt")),
        *((name, CFG, "cfg") for name in ("a.cfg", "a.xcfg", "a.txt")),
        *((name, PRISMATIC.format("gold"), "prismatic") for name in ("a.xyz", "a.XYZ", "gold")),
        ("a.xyz", STEMSALABIM, "stemsalabim"),
    ],
)  # fmt: skip
def test_name_and_content_decide_the_format(tmp_path, name, text, expected):
    assert kind(written(tmp_path, name, text)) == expected


@pytest.mark.parametrize(
    "title",
    [
        "ITEM: TIMESTEP", "2 atoms in a box, xlo xhi", "data_set of the cell", "Number of particles = 8",
        "CRYST1 of gold",
        "ATOM 1", "12", "5", "CASTEP", "Lattice=\"1 0 0 0 1 0 0 0 1\"", "Amber coordinates", "&control", "GaussView",
    ],
)  # fmt: skip
def test_words_in_a_title_never_decide_the_format(tmp_path, title):
    assert kind(written(tmp_path, "POSCAR", POSCAR.format(title))) in (
        "poscar",
        "lammps-dump" if "ITEM" in title else "",
    )
    assert kind(written(tmp_path, "a.data", DATA.format(title))) == "lammps-data"
    assert kind(written(tmp_path, "a.xyz", PRISMATIC.format(title))) == "prismatic"


@pytest.mark.parametrize("name", ["a.pdb", "a.cif", "a.vasp"])
def test_content_overrules_a_misleading_name(tmp_path, name):
    assert kind(written(tmp_path, name, DUMP)) == "lammps-dump"


def test_the_key_format_chooses_a_reader(tmp_path):
    file = written(tmp_path, "crystal.dat", STEMSALABIM)
    assert read_structure(file, "stemsalabim").cell[0, 0] == pytest.approx(4.0)
    assert read_structure(written(tmp_path, "no_name", PRISMATIC.format("x")), "prismatic").cell[0, 0] == 4.0
    with pytest.raises(SpecimenError, match=r"'nm' is unknown.*stemsalabim"):
        kind(file, "nm")
    assert {"auto", "ase", "stemsalabim"} <= set(FORMATS)


def test_the_key_format_has_the_values_of_the_schema():
    import yaml

    schema = yaml.safe_load((Path(__file__).parents[3] / "workflow/schemas/config.schema.yaml").read_text())
    assert set(schema["properties"]["specimen"]["properties"]["format"]["enum"]) == set(FORMATS)


# nm or Å

ROWS = "Sr 0 0 0 {0}\nTi {1} {1} {1} {0}\nO {1} {1} 0 {0}\n"


@pytest.mark.parametrize(
    ("header", "half", "fifth", "length"),
    [
        ("0.3905 0.3905 0.3905", 0.19525, "7e-5", 3.905),  # only nm makes a solid
        ("0.3905 0.3905 0.3905", 0.19525, "0", 3.905),
        ('Lattice="0.3905 0 0 0 0.3905 0 0 0 0.3905"', 0.19525, "7e-5", 3.905),
        ("3.0 3.0 8.0", 0.19525, "7e-5", 30.0),  # a thin film: its fifth column is a mean square displacement in nm²
        ('Lattice="3.905 0 0 0 3.905 0 0 0 3.905"', 1.9525, "2.0", 3.905),  # only Å makes a solid of it
        ('Lattice="3.905 0 0 0 3.905 0 0 0 3.905"', 1.9525, "-1.5", 3.905),
    ],
)
def test_the_unit_follows_from_density_and_displacements(tmp_path, header, half, fifth, length):
    file = written(tmp_path, "a.xyz", f"3\n{header}\n{ROWS.format(fifth, half)}")
    assert read_structure(file).cell[0, 0] == pytest.approx(length)


@pytest.mark.parametrize(
    ("header", "fifth"), [('Lattice="3.905 0 0 0 3.905 0 0 0 3.905"', "7e-5"), ("3.905 3.905 3.905", "0.5"),
                          ("3.905 3.905 3.905", "0")],
)  # fmt: skip
def test_a_file_that_fits_both_units_is_refused_with_a_question(tmp_path, header, fifth):
    file = written(tmp_path, "a.xyz", f"3\n{header}\n{ROWS.format(fifth, 1.9525)}")
    with pytest.raises(SpecimenError, match=r"nm or Å.*g/cm³.*format: stemsalabim.*format: ase"):
        read_structure(file)
    assert read_structure(file, "stemsalabim").cell[0, 0] == pytest.approx(39.05)


def test_columns_without_names_are_named_as_not_used(tmp_path):
    text = '3\nLattice="3.905 0 0 0 3.905 0 0 0 3.905"\n' + ROWS.format("2.0", 1.9525)
    structure = read_structure(written(tmp_path, "a.xyz", text))
    assert "not used" in "\n".join(structure.notes)
    assert structure.u_iso is None
    assert structure.revision == 2


# Several frames


def test_reading_the_first_of_several_frames_earns_a_note(tmp_path):
    frame = '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nC {0} 0 0\n'
    xyz = read_structure(written(tmp_path, "a.xyz", frame.format(0) + frame.format(1) + frame.format(2)))
    assert "3 frames" in "\n".join(xyz.notes)
    dump = read_structure(written(tmp_path, "a.dump", DUMP + DUMP))
    assert "frames" in "\n".join(dump.notes)
    assert not read_structure(written(tmp_path, "b.dump", DUMP)).notes


def test_reading_the_first_of_several_frames_by_ase_earns_a_note(tmp_path):
    import ase
    import ase.io

    atoms = [ase.Atoms("C", positions=[[x, 0, 0]], cell=[4, 4, 4], pbc=True) for x in (0, 1)]
    ase.io.write(tmp_path / "a.traj", atoms)
    structure = read_structure(tmp_path / "a.traj")
    assert structure.positions[0, 0] == 0
    assert "several frames" in "\n".join(structure.notes)


# Columns of extended XYZ


def extended(folder: Path, properties: str, row: str, more: str = "") -> Path:
    text = f'1\nLattice="4 0 0 0 5 0 0 0 6" {more} Properties=species:S:1:pos:R:3:{properties}\nC 1 1 1 {row}\n'
    return written(folder, "a.xyz", text)


@pytest.mark.parametrize(
    ("name", "value", "u"),
    [("u_iso", 0.01, 0.01), ("U_iso", 0.01, 0.01), ("B_iso", 0.8, 0.8 / (8 * np.pi**2)),
     ("debye_waller_factors", 0.8, 0.8 / (8 * np.pi**2)), ("msd", 0.01, 0.01)],
)  # fmt: skip
def test_thermal_columns_under_their_usual_names(tmp_path, name, value, u):
    structure = read_structure(extended(tmp_path, f"{name}:R:1", str(value)))
    assert structure.u_iso is not None
    assert structure.u_iso[0] == pytest.approx(u)
    # Columns with unclear names are listed with the quantity that they are taken for.
    taken = {"debye_waller_factors": "B = 8π²⟨u_x²⟩ in Å²", "msd": "⟨u_x²⟩ along one axis in Å²"}.get(name)
    assert [taken in note for note in structure.notes] == ([True] if taken else [])
    assert structure.revision == (1 if name == "u_iso" else 2)


def test_tensor_column_is_cartesian(tmp_path):
    structure = read_structure(extended(tmp_path, "u_aniso:R:6", "0.01 0.02 0.03 0.001 0.002 0.003"))
    assert structure.u_aniso is not None
    np.testing.assert_allclose(structure.u_aniso[0], [[0.01, 0.001, 0.002], [0.001, 0.02, 0.003], [0.002, 0.003, 0.03]])


@pytest.mark.parametrize("name", ["occupancy", "occupancies", "occ"])
def test_occupancy_column_is_kept(tmp_path, name):
    structure = read_structure(extended(tmp_path, f"{name}:R:1", "0.25"))
    assert structure.occupancy is not None
    assert structure.occupancy.tolist() == [0.25]


def test_unknown_columns_are_named_except_velocities_and_forces(tmp_path):
    structure = read_structure(extended(tmp_path, "strain:R:1:forces:R:3", "0.25 0 0 0"))
    assert structure.notes == ("columns that are not used: strain",)


def test_corner_of_the_cell_is_subtracted(tmp_path):
    structure = read_structure(extended(tmp_path, "mass:R:1", "12", 'Origin="-1.0 0.5 1.0"'))
    np.testing.assert_allclose(structure.positions[0], [2.0, 0.5, 0.0])
    assert "Origin" in "\n".join(structure.notes)


# Limits


@pytest.mark.parametrize("count", ["2000000000", "99999999999999999999"])
def test_a_poscar_that_announces_more_atoms_than_it_can_hold_is_refused(tmp_path, count):
    file = written(tmp_path, "POSCAR", f"x\n1.0\n4 0 0\n0 4 0\n0 0 4\nSi\n{count}\nDirect\n0 0 0\n")
    with pytest.raises(SpecimenError, match=r"line 7 announces .* atoms, but the file has \d+ bytes"):
        read_structure(file)


@pytest.mark.parametrize("count", ["2000000000", "99999999999999999999"])
def test_packed_poscar_that_announces_too_much_ends_at_its_last_line(tmp_path, count):
    file = tmp_path / "POSCAR.gz"
    file.write_bytes(gzip.compress(f"x\n1.0\n4 0 0\n0 4 0\n0 0 4\nSi\n{count}\nDirect\n0 0 0\n".encode()))
    with pytest.raises(SpecimenError, match=r"ends after line 9"):
        read_structure(file)


LARGE_WHEN_UNPACKED = b"".join([gzip.compress(b"\n" * 1_000_000)] * 60)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.cif.gz", "POSCAR.gz", "a.xyz.gz", "a.data.gz", "a.json.gz"])
def test_a_file_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(LARGE_WHEN_UNPACKED)
    with pytest.raises(SpecimenError, match=r"bytes unpack to more than 50,000,000"):
        read_structure(file)


def test_packed_text_is_read(tmp_path):
    file = tmp_path / "POSCAR.gz"
    file.write_bytes(gzip.compress(POSCAR.format("STO").encode()))
    assert read_structure(file).symbols.tolist() == ["Sr", "Ti", "O", "O", "O"]


def test_atoms_outside_along_a_or_b_are_named(tmp_path):
    text = '2\nLattice="4 0 0 0 5 0 0 0 6" Properties=species:S:1:pos:R:3\nC -1 1 1\nC 3 2 1\n'
    assert "1 atom lies outside" in "\n".join(read_structure(written(tmp_path, "a.xyz", text)).notes)


CELL_OF_CFG = "\n".join(f"H0({i},{j}) = {2.0 if i == j else 0} A" for i in (1, 2, 3) for j in (1, 2, 3))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.cel", "x\n0 0.4 0.4 0.4 10 10 170\nSr 0 0 0 1 0.006\n*\n"),
        ("a.xyz", "x\n4 4 4 10 10 170\n38 0 0 0 1 0.08\n-1\n"),
        ("a.xyz", "x\n4 4 4\n38 0 0 0 1 0.08\ninf 0 0 0 1 0.08\n-1\n"),
        ("a.xyz", "99999999999999999999\nx\nC 0 0 0\n"),
        ("a.xyz", "x\n4 4 4\n38, 0, 0, 0, 1, 0.08\n-1\n"),
        ("a.xtl", "x\n4 4 4 10 10 170\n1\nSr\n1 38 1 0.01\n0 0 0\n"),
        ("a.xtl", "x\n4 4 4 90 90 90\n1\nSr\n2 38 1 0.01\n0 0 0\n0 0\n"),
        ("a.cfg", f"Number of particles = 1\nA = .\n{CELL_OF_CFG}\n.NO_VELOCITY.\nentry_count = 3\n27\nAl\n0 0 0\n"),
        ("a.dump", "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n0 5\n0\n"
         "0 5\nITEM: ATOMS id\n1\n"),
    ],
)  # fmt: skip
def test_damaged_numbers_are_refused_with_a_message(tmp_path, name, text):
    refusal(written(tmp_path, name, text))
