"""Reading of structure files: the specimen of a good file, and the message for each bad file."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stemphony.errors import SpecimenError
from stemphony.physics.scattering import FactorChoice
from stemphony.specimen import structures
from stemphony.specimen.crystal import require_distances
from stemphony.specimen.lattice import orthogonal_supercell
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.structures import (
    content_sha256,
    read_snapshots,
    read_specimen,
    require_elements,
    require_u_iso,
)

ROOT = Path(__file__).parents[3]
SRTIO3 = ROOT / "config/srtio3.cif"
MOS2 = ROOT / "config/examples/mos2.cif"
STEMSALABIM = ROOT / "config/examples/srtio3_stemsalabim.xyz"
BLOCK = ROOT / "config/examples/srtio3_block.xyz"
SNAPSHOTS = ROOT / "config/examples/srtio3_snapshots.xyz"
A = 3.905
AVOGADRO = 6.02214076e23


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def edited(folder: Path, source: Path, old: str, new: str, count: int = 1) -> Path:
    text = source.read_text()
    assert text.count(old) >= 1
    return write(folder, source.name, text.replace(old, new, count))


def xyz(atoms: list[str], lattice: str = "4 0 0 0 4 0 0 0 4", properties: str = "species:S:1:pos:R:3") -> str:
    return f'{len(atoms)}\nLattice="{lattice}" Properties={properties}\n' + "\n".join(atoms) + "\n"


def refusal(file: Path, *parts: str, **settings: object) -> str:
    """The message about a bad file; it must name the file and hold `parts`."""
    with pytest.raises(SpecimenError) as caught:
        read_specimen(file, **settings)  # type: ignore[arg-type]
    return _judged(caught.value, file, parts)


def snapshot_refusal(file: Path, specimen: Specimen, *parts: str) -> str:
    with pytest.raises(SpecimenError) as caught:
        read_snapshots(file, specimen)
    return _judged(caught.value, file, parts)


def _judged(error: SpecimenError, file: Path, parts: tuple[str, ...]) -> str:
    text = str(error)
    assert str(file) in text
    assert "Traceback" not in text
    for part in parts:
        assert part in text, text
    return text


def column_distances(specimen: Specimen, index: int) -> np.ndarray:
    """Distances of one atom to all others, periodic in x, y and z."""
    cell = np.asarray(specimen.cell)
    difference = specimen.positions - specimen.positions[index]
    difference -= cell * np.round(difference / cell)
    return np.sort(np.linalg.norm(difference, axis=1))[1:]


# Good files


def test_srtio3_has_the_published_mass_density():
    specimen = read_specimen(SRTIO3, repeat=(2, 3, 4))
    mass = {"Sr": 87.62, "Ti": 47.867, "O": 15.999}
    grams = sum(mass[symbol] for symbol in specimen.symbols) / AVOGADRO
    assert grams / (np.prod(specimen.cell) * 1e-24) == pytest.approx(5.117, abs=0.005)
    assert specimen.cell == pytest.approx((2 * A, 3 * A, 4 * A))
    assert len(specimen.positions) == 5 * 24


def test_srtio3_atoms_have_their_neighbours_where_the_perovskite_has_them():
    specimen = read_specimen(SRTIO3, repeat=(3, 3, 3))
    strontium = column_distances(specimen, int(np.flatnonzero(specimen.symbols == "Sr")[0]))
    titanium = column_distances(specimen, int(np.flatnonzero(specimen.symbols == "Ti")[0]))
    assert strontium[:12] == pytest.approx(A / np.sqrt(2))  # twelve O
    assert titanium[:6] == pytest.approx(A / 2)  # six O
    assert titanium[6:14] == pytest.approx(A * np.sqrt(3) / 2)  # eight Sr


def test_strontium_oxygen_plane_lies_at_z_zero_exactly():
    specimen = read_specimen(SRTIO3, repeat=(1, 1, 3))
    first = specimen.symbols[specimen.positions[:, 2] == 0.0]
    assert sorted(first) == ["O", "Sr"]


def test_more_atoms_than_a_machine_holds_are_refused_before_they_are_made():
    with pytest.raises(SpecimenError, match=r"5,000,000,000,000 atoms.*at most"):
        read_specimen(SRTIO3, repeat=(10_000, 10_000, 10_000))


def test_repeat_multiplies_atoms_and_keeps_every_translation():
    one = read_specimen(SRTIO3)
    many = read_specimen(SRTIO3, repeat=(2, 1, 3))
    found = {(s, *np.round(p, 6)) for s, p in zip(many.symbols, many.positions, strict=True)}
    expected = {
        (s, *np.round(p + A * np.array([i, 0, k]), 6))
        for s, p in zip(one.symbols, one.positions, strict=True)
        for i in range(2)
        for k in range(3)
    }
    assert found == expected


def test_vacuum_lengthens_the_cell_and_leaves_the_atoms():
    bare = read_specimen(SRTIO3, repeat=(2, 2, 2))
    room = read_specimen(SRTIO3, repeat=(2, 2, 2), vacuum_angstrom=(1.0, 2.0, 3.5))
    np.testing.assert_array_equal(room.positions, bare.positions)
    assert np.subtract(room.cell, bare.cell) == pytest.approx([1.0, 2.0, 3.5])
    assert room.vacuum == (1.0, 2.0, 3.5)


def test_vacuum_keeps_an_atom_left_of_the_origin_beside_its_neighbour(tmp_path):
    file = write(tmp_path, "pair.xyz", xyz(["C -0.5 1 1", "C 1.0 1 1"], "6 0 0 0 6 0 0 0 6"))
    specimen = read_specimen(file, vacuum_angstrom=(10.0, 0.0, 0.0))
    assert specimen.positions[:, 0] == pytest.approx([15.5, 1.0])
    assert column_distances(specimen, 0)[0] == pytest.approx(1.5)


def test_stemsalabim_file_in_nm_equals_the_cif_in_angstrom():
    cif = read_specimen(SRTIO3, u_iso_angstrom2={"Sr": 0.00787, "Ti": 0.00557, "O": 0.009275})
    nm = read_specimen(STEMSALABIM)
    assert (cif.format, nm.format) == ("cif", "stemsalabim")
    np.testing.assert_array_equal(nm.symbols, cif.symbols)
    np.testing.assert_allclose(nm.positions, cif.positions, atol=1e-12)
    np.testing.assert_allclose(nm.cell, cif.cell, atol=1e-12)
    np.testing.assert_allclose(nm.u_iso, cif.u_iso, rtol=1e-12)


@pytest.mark.parametrize("name", ["crystal.xyz", "crystal.XYZ", "crystal.xyz.gz"])
def test_stemsalabim_file_with_a_lattice_is_detected(tmp_path, name):
    text = STEMSALABIM.read_text().replace("0.3905 0.3905 0.3905", 'Lattice="0.3905 0 0 0 0.3905 0 0 0 0.3905"')
    file = tmp_path / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    specimen = read_specimen(file)
    assert specimen.format == "stemsalabim"
    assert specimen.cell == pytest.approx((A, A, A))


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ('Lattice="4 0 0 0 4 0 0 0 4"', "C 1 1 1"),  # four columns
        (
            'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:charge:R:1',
            "C 1 1 1 0.5",
        ),  # Properties
    ],
)
def test_extended_xyz_is_not_taken_for_stemsalabims(tmp_path, header, row):
    specimen = read_specimen(write(tmp_path, "a.xyz", f"1\n{header}\n{row}\n"))
    assert specimen.format == "extxyz"
    assert specimen.cell == (4.0, 4.0, 4.0)


def test_stemsalabims_layout_under_another_extension_needs_the_format_key(tmp_path):
    file = write(tmp_path, "crystal.dat", STEMSALABIM.read_text())
    with pytest.raises(SpecimenError):
        read_specimen(file)
    assert read_specimen(file, format="stemsalabim").cell == pytest.approx((A, A, A))


def test_per_atom_column_wins_over_the_map(tmp_path):
    file = write(
        tmp_path,
        "u.xyz",
        xyz(["C 0 0 0 0.01", "C 2 2 2 0.02"], properties="species:S:1:pos:R:3:u_iso:R:1"),
    )
    specimen = read_specimen(file, repeat=(1, 1, 2), u_iso_angstrom2={"C": 0.5})
    assert specimen.u_iso.tolist() == [0.01, 0.02, 0.01, 0.02]
    nm = read_specimen(STEMSALABIM, u_iso_angstrom2={"Sr": 1.0, "Ti": 1.0, "O": 1.0})
    assert nm.u_iso[:2] == pytest.approx([0.00787, 0.00557])


def test_elements_without_u_are_nan_until_they_are_asked_for():
    specimen = read_specimen(SRTIO3, u_iso_angstrom2={"O": 0.0, "Sr": 0.01})
    assert np.isnan(specimen.u_iso[specimen.symbols == "Ti"]).all()
    with pytest.raises(
        SpecimenError,
        match=r"(?s)for Ti\. .*0 is allowed.*u_iso_angstrom2: \{Ti: <Å²>\}.*debye_temperature_k: \{Ti: <K>\}",
    ) as caught:
        require_u_iso(specimen, SRTIO3)
    assert "srtio3.cif" in str(caught.value)
    require_u_iso(read_specimen(SRTIO3, u_iso_angstrom2={"O": 0.0, "Sr": 0.01, "Ti": 0.0}))


def test_elements_without_scattering_factors_are_named():
    specimen = read_specimen(SRTIO3)
    require_elements(specimen, FactorChoice("kirkland"))
    with pytest.raises(SpecimenError, match=r"Lr: .*'peng'.*98 elements.*grating\.parametrization_of"):
        require_elements(replace(specimen, symbols=np.full(5, "Lr")), FactorChoice("peng", {"O": "lobato"}), SRTIO3)


def test_x_and_y_are_wrapped_and_z_keeps_every_distance(tmp_path):
    file = write(tmp_path, "a.xyz", xyz(["C -1 5 -0.9", "C 3 4 3.0", "C 4 -1e-17 2"]))
    specimen = read_specimen(file)
    np.testing.assert_allclose(specimen.positions, [[3, 1, 0], [3, 0, 3.9], [0, 0, 2.9]], atol=1e-12)
    assert (specimen.positions[:, :2] < specimen.cell[:2]).all()
    assert specimen.cell[2] == 4.0
    assert "1 atom lies outside the cell in z: all atoms are moved by +0.9000" in "\n".join(specimen.notes)
    assert specimen.revision == 2


def test_atoms_behind_the_exit_face_move_back_together(tmp_path):
    specimen = read_specimen(write(tmp_path, "a.xyz", xyz(["C 1 1 1.5", "C 3 3 4.5"])))
    np.testing.assert_allclose(specimen.positions[:, 2], [1.0, 4.0])
    assert "moved by -0.5000 Å" in "\n".join(specimen.notes)


def test_cell_grows_where_its_atoms_span_more_than_its_height(tmp_path):
    specimen = read_specimen(write(tmp_path, "a.xyz", xyz(["C 1 1 -0.5", "C 3 3 4.25"])))
    np.testing.assert_allclose(specimen.positions[:, 2], [0.0, 4.75])
    assert specimen.cell == (4.0, 4.0, 4.75)
    assert "lengthened from 4.0000 to 4.7500 Å" in "\n".join(specimen.notes)


def test_snapshots_move_with_their_specimen(tmp_path):
    first, second = xyz(["C 1 1 -0.5", "C 3 3 3.0"]), xyz(["C 1 1 -0.6", "C 3 3 3.1"])
    file = write(tmp_path, "t.xyz", first + second)
    specimen = read_specimen(file)
    frames = read_snapshots(file, specimen)
    np.testing.assert_allclose(frames[0], specimen.positions)
    np.testing.assert_allclose(frames[1][:, 2], [-0.1, 3.6])


def test_snapshots_fit_a_specimen_whose_cell_grew(tmp_path):
    text = xyz(["C 1 1 -0.5", "C 3 3 4.25"])
    file = write(tmp_path, "t.xyz", text + text)
    specimen = read_specimen(file)
    np.testing.assert_allclose(read_snapshots(file, specimen)[1], specimen.positions)


def test_rounding_of_a_cif_does_not_put_the_first_plane_at_the_exit(tmp_path):
    file = edited(tmp_path, SRTIO3, "Sr1  Sr  0.0  0.0  0.0", "Sr1  Sr  0.0  0.0  -1e-17")
    assert read_specimen(file).positions[0, 2] == pytest.approx(0.0, abs=1e-9)


def test_first_frame_of_several_is_the_specimen():
    specimen = read_specimen(SNAPSHOTS)
    frames = read_snapshots(SNAPSHOTS, specimen)
    np.testing.assert_array_equal(frames[0], specimen.positions)
    assert not np.allclose(frames[1], specimen.positions)


def test_other_formats_of_the_same_atoms_agree(tmp_path):
    import ase.io

    cif = read_specimen(SRTIO3)
    atoms = ase.io.read(SRTIO3)
    for name, options in {
        "srtio3.vasp": {"format": "vasp"},
        "POSCAR": {"format": "vasp"},
        "srtio3.traj": {},
        "srtio3.xsf": {},
        "a@b.cif": {},
        "with space.json": {},
        "postgres.xyz": {"format": "extxyz"},
        "srtio3.lmp": {"format": "lammps-data", "masses": True, "atom_style": "atomic"},
    }.items():
        ase.io.write(str(tmp_path / name), atoms, **options)
        specimen = read_specimen(tmp_path / name)
        np.testing.assert_array_equal(specimen.symbols, cif.symbols, err_msg=name)
        np.testing.assert_allclose(specimen.positions, cif.positions, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(specimen.cell, cif.cell, atol=1e-6, err_msg=name)


def test_a_relative_name_that_looks_like_a_database_is_a_file(tmp_path, monkeypatch):
    write(tmp_path, "postgres_block.xyz", BLOCK.read_text())
    monkeypatch.chdir(tmp_path)
    assert len(read_specimen(Path("postgres_block.xyz")).positions) == 40


def test_symmetry_operations_are_applied(tmp_path):
    file = write(
        tmp_path,
        "nacl.cif",
        "data_NaCl\n_chemical_formula_sum 'Na Cl'\n_cell_formula_units_Z 4\n"
        + "".join(f"_cell_length_{edge} 5.6402\n" for edge in "abc")
        + "".join(f"_cell_angle_{angle} 90\n" for angle in ("alpha", "beta", "gamma"))
        + "_space_group_IT_number 225\nloop_\n_atom_site_label\n_atom_site_type_symbol\n"
        "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\nNa1 Na1+ 0 0 0\nCl1 Cl1- 0.5 0.5 0.5\n",
    )
    specimen = read_specimen(file)
    assert sorted(specimen.symbols) == ["Cl"] * 4 + ["Na"] * 4
    assert column_distances(specimen, 0)[:3] == pytest.approx(5.6402 / 2)


# Cells


def reading(file: Path, **settings: object) -> Specimen:
    return read_specimen(file, **settings)  # type: ignore[arg-type]


HEXAGONAL = "3.19 0 0 -1.595 2.762621 0 0 0 12"
FCC = "0 2.04 2.04 2.04 0 2.04 2.04 2.04 0"
BCC = "-1.43 1.43 1.43 1.43 -1.43 1.43 1.43 1.43 -1.43"
RHOMBOHEDRAL = "2.37 1.368320 4.5 -2.37 1.368320 4.5 0 -2.736640 4.5"
MONOCLINIC = "4 0 0 0 6 0 -2 0 7"
ORTHO_C_BASE = "2 3 0 -2 3 0 0 0 5"


@pytest.mark.parametrize(
    ("lattice", "volume"),
    [(HEXAGONAL, 2), (FCC, 2), (BCC, 2), (RHOMBOHEDRAL, 6), (MONOCLINIC, 2), (ORTHO_C_BASE, 2)],
)
def test_suggested_supercell_is_orthogonal_when_pasted(tmp_path, lattice, volume):
    file = write(tmp_path, "cell.xyz", xyz(["Cu 0 0 0", "C 0.7 0.7 0.7"], lattice))
    text = refusal(file, "not orthogonal", "supercell:", f"{volume} times")
    line = re.search(r"^\s*supercell: (.*)$", text, re.MULTILINE)
    assert line is not None
    import yaml

    matrix = yaml.safe_load(line[1])
    assert round(np.linalg.det(matrix)) == volume
    specimen = reading(file, supercell=matrix)
    assert len(specimen.positions) == 2 * volume
    flat = np.array([float(word) for word in lattice.split()]).reshape(3, 3)
    assert np.prod(specimen.cell) == pytest.approx(volume * abs(np.linalg.det(flat)), rel=1e-5)
    assert (specimen.positions[:, 2] < specimen.cell[2]).all()
    # A lattice looks alike from each of its points: every Cu has the first one's neighbours.
    copper = np.flatnonzero(specimen.symbols == "Cu")
    big = reading(file, supercell=matrix, repeat=(4, 4, 4))
    near = [column_distances(big, i)[:8] for i in np.flatnonzero(big.symbols == "Cu")[: len(copper)]]
    assert np.ptp(near, axis=0) == pytest.approx(0, abs=1e-4)


def test_hexagonal_suggestion_keeps_c_along_the_beam_and_a_along_x():
    assert orthogonal_supercell(np.array(HEXAGONAL.split(), dtype=float).reshape(3, 3)).tolist() == [  # type: ignore[union-attr]
        [1, 0, 0],
        [1, 2, 0],
        [0, 0, 1],
    ]


def test_hexagonal_layers_keep_their_bond_length():
    specimen = read_specimen(MOS2, supercell=[[1, 0, 0], [1, 2, 0], [0, 0, 1]], repeat=(3, 2, 1))
    assert specimen.cell == pytest.approx((3 * 3.16, 2 * 3.16 * np.sqrt(3), 12.30))
    bond = np.hypot(3.16 / np.sqrt(3), (0.75 - 0.621) * 12.30)
    for index in np.flatnonzero(specimen.symbols == "Mo"):
        assert column_distances(specimen, int(index))[:6] == pytest.approx(bond)


def test_supercell_in_the_plane_leaves_z_alone(tmp_path):
    file = write(tmp_path, "cell.xyz", xyz(["C 0 0 -0.5", "C 0 1.7 12.25"], HEXAGONAL))
    specimen = reading(file, supercell=[[1, 0, 0], [1, 2, 0], [0, 0, 1]])
    assert sorted(specimen.positions[:, 2]) == pytest.approx([0, 0, 12.75, 12.75])


def test_a_cell_without_an_orthogonal_supercell_is_refused_with_the_reason(tmp_path):
    file = write(tmp_path, "triclinic.xyz", xyz(["C 0 0 0"], "5 0 0 0.31 6.1 0 1.13 0.77 7.3"))
    refusal(file, "not orthogonal", "No orthogonal supercell", "zone_axis", "max_strain")


def test_supercell_that_is_not_orthogonal_gets_the_right_one_named(tmp_path):
    refusal(MOS2, "after `specimen.supercell`", "[[1, 0, 0], [1, 2, 0], [0, 0, 1]]", supercell=np.eye(3).tolist())


def test_supercell_without_volume_is_refused():
    refusal(MOS2, "determinant 0", "must not lie", supercell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]])


def test_left_handed_supercell_is_the_same_crystal():
    right = read_specimen(MOS2, supercell=[[1, 0, 0], [1, 2, 0], [0, 0, 1]])
    left = read_specimen(MOS2, supercell=[[1, 0, 0], [-1, -2, 0], [0, 0, 1]])
    down = read_specimen(MOS2, supercell=[[1, 0, 0], [1, 2, 0], [0, 0, -1]])
    for other in (left, down):
        assert other.cell == pytest.approx(right.cell)
        assert chirality_free(other) == chirality_free(right)


def chirality_free(specimen: Specimen) -> list[tuple[float, ...]]:
    order = np.lexsort(np.round(specimen.positions, 4).T)
    rounded = np.round(specimen.positions[order], 4) % np.round(specimen.cell, 4)
    return sorted(map(tuple, (np.round(rounded, 3) + 0.0).tolist()))


CHIRAL = np.array([[0.2, 0.3, 0.4], [1.9, 0.3, 0.4], [0.2, 1.4, 0.4], [0.2, 0.3, 2.4]])


def handedness(positions: np.ndarray, cell: np.ndarray) -> float:
    arms = positions[1:] - positions[0]
    arms -= cell * np.round(arms / cell)
    return float(np.linalg.det(arms))


@pytest.mark.parametrize(
    "lattice",
    [
        "0 6 0 5 0 0 0 0 7",  # a along y, b along x: left-handed, nothing to turn
        "0 0 7 5 0 0 0 6 0",  # a along z
        "5 0 0 0 -6 0 0 0 7",
        "5 0 0 0 6 0 0 0 -7",  # the atoms move up by 7 Å
    ],
)
def test_edges_along_the_axes_in_any_order_keep_the_coordinates(tmp_path, lattice):
    lift = np.array([0, 0, 7.0 if lattice.endswith("-7") else 0.0])
    rows = [f"C {x} {y} {z}" for x, y, z in CHIRAL - lift]
    specimen = read_specimen(write(tmp_path, "a.xyz", xyz(rows, lattice)))
    assert specimen.cell == (5.0, 6.0, 7.0)
    np.testing.assert_allclose(specimen.positions, CHIRAL, atol=1e-9)


@pytest.mark.parametrize("left_handed", [False, True])
def test_turned_cell_becomes_upright_without_a_mirror(tmp_path, left_handed):
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("zyx", [31, 12, -20], degrees=True).as_matrix()
    lengths = np.array([5.0, 6.0, 7.0])
    edges = np.diag(lengths) @ turn.T
    if left_handed:
        edges[1] *= -1
    rows = ["C " + " ".join(f"{v:.12f}" for v in turn @ p) for p in CHIRAL]
    lattice = " ".join(f"{v:.12f}" for v in edges.ravel())
    specimen = read_specimen(write(tmp_path, "turned.xyz", xyz(rows, lattice)))
    assert specimen.cell == pytest.approx((5, 6, 7))
    np.testing.assert_allclose(specimen.positions, CHIRAL, atol=1e-8)
    assert handedness(specimen.positions, lengths) == pytest.approx(handedness(CHIRAL, lengths))


def test_edges_that_text_has_rounded_still_count_as_orthogonal(tmp_path):
    specimen = reading(
        write(tmp_path, "rounded.xyz", xyz(["C 0 0 0"], "3.16 0 0 -1.58 2.7366 0 0 0 6")),
        supercell=[[1, 0, 0], [1, 2, 0], [0, 0, 1]],
    )
    assert specimen.cell == pytest.approx((3.16, 5.4732, 6))


# Bad files


def test_a_missing_file_is_named(tmp_path):
    refusal(tmp_path / "nothing.cif", "no such file", "Check the path")
    with pytest.raises(SpecimenError, match="no such file"):
        content_sha256(tmp_path / "nothing.cif")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    refusal(tmp_path, "is a folder", "Name the structure file")


def test_a_special_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.cif")
    refusal(tmp_path / "pipe.cif", "not an ordinary file", "Copy")


def test_an_empty_file_is_refused(tmp_path):
    refusal(write(tmp_path, "empty.cif", ""), "is empty", "Export")


@pytest.mark.parametrize("name", ["blank.cif", "blank.xyz", "POSCAR", "blank.pdb", "blank.json", "blank.traj"])
def test_a_file_of_blank_lines_is_refused(tmp_path, name):
    refusal(write(tmp_path, name, "\n \n\n"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(tmp_path):
    file = write(tmp_path, "a.cif", SRTIO3.read_text())
    file.chmod(0)
    refusal(file, "Permission denied", "permissions")


def test_a_read_error_is_named_with_its_reason(tmp_path, monkeypatch):
    def fail(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", fail)
    refusal(SRTIO3, "Permission denied", "permissions")


@pytest.mark.parametrize(
    "name",
    ["a.cif", "a.xyz", "POSCAR", "a.pdb", "a.json", "a.traj", "a.lmp", "a.cif.gz", "a.res", "a", "a.xtl"],
)
def test_a_binary_file_is_refused(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(np.random.default_rng(1).bytes(5000))
    refusal(file)


@pytest.mark.parametrize("name", ["a.nonsense", "README"])
def test_an_unknown_format_is_refused(tmp_path, name):
    refusal(write(tmp_path, name, "Strontium titanate\n"), "not known to ASE", "ase convert")


def test_an_unknown_format_key_is_refused():
    refusal(SRTIO3, "format 'cif2' is unknown", "Use auto, ase, cel", "or xtl", format="cif2")


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.75, 0.9, 0.97])
def test_a_truncated_cif_is_refused(tmp_path, share):
    text = SRTIO3.read_text()
    file = write(tmp_path, "cut.cif", text[: int(share * len(text.rstrip()))])
    refusal(file)


def test_cif_that_lost_whole_lines_shows_by_its_formula(tmp_path):
    text = SRTIO3.read_text()
    file = write(tmp_path, "cut.cif", text[: text.index("  O3 ")])
    refusal(file, "Sr1 Ti1 O3", "Sr1 Ti1 O2", "Export it again")


@pytest.mark.parametrize("formula", ["'Sr Ti O3'", "'O6 Sr2 Ti2'", "?", "'Sr Ti O_3'"])
def test_cif_formula_counts_in_any_unit(tmp_path, formula):
    assert len(read_specimen(edited(tmp_path, SRTIO3, "'Sr1 Ti1 O3'", formula)).positions) == 5


def test_a_cif_with_a_row_of_another_length_is_refused(tmp_path):
    file = edited(tmp_path, SRTIO3, "O2   O   0.5  0.0  0.5  1.0", "O2   O   0.5  0.0  0.5  1.0 1.0")
    refusal(file, "line 19", "Wrong number", "damaged")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.77, 0.98])
@pytest.mark.parametrize("source", [BLOCK, STEMSALABIM])
def test_a_truncated_xyz_is_refused(tmp_path, source, share):
    text = source.read_text()
    file = write(tmp_path, "cut.xyz", text[: int(share * len(text))].rstrip("-0123456789.e"))
    refusal(file)


def test_truncated_xyz_counts_what_is_there(tmp_path):
    file = write(tmp_path, "cut.xyz", "".join(BLOCK.read_text().splitlines(keepends=True)[:20]))
    refusal(file, "line 1", "40 atoms", "after 18", "truncated")


def test_an_impossible_number_of_atoms_is_refused(tmp_path):
    text = BLOCK.read_text().replace("40", "99999999999999", 1)
    refusal(write(tmp_path, "huge.xyz", text), "99999999999999", "truncated")


def test_a_damaged_compressed_file_is_refused(tmp_path):
    file = tmp_path / "a.xyz.gz"
    file.write_bytes(gzip.compress(BLOCK.read_bytes())[:200])
    refusal(file, "cannot be read", "damaged", "copy it again")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_coordinates_that_are_not_finite_are_refused(tmp_path, value):
    text = refusal(
        write(tmp_path, "a.xyz", xyz(["C 0 0 0", f"Sr 1 {value} 1"])), "atom 1", "Sr", "not finite", "Correct"
    )
    assert value.strip("-") in text


def test_a_cell_that_is_not_finite_is_refused(tmp_path):
    refusal(write(tmp_path, "a.xyz", xyz(["C 0 0 0"], "nan 0 0 0 4 0 0 0 4")), "cell", "Correct")


def test_a_file_without_a_cell_is_refused(tmp_path):
    file = write(tmp_path, "a.xyz", "1\ncarbon\nC 0 0 0\n")
    refusal(file, "has no cell", "stemsalabim")


def test_an_axis_without_length_is_refused(tmp_path):
    refusal(write(tmp_path, "a.xyz", xyz(["C 0 0 0"], "4 0 0 0 4 0 0 0 0")), "cell edge c is 0 Å", "Give the cell")


def test_a_flat_cell_is_refused(tmp_path):
    refusal(write(tmp_path, "a.xyz", xyz(["C 0 0 0"], "4 0 0 0 4 0 4 4 0")), "flat", "Correct the cell")


@pytest.mark.parametrize(
    ("symbol", "do"),
    [("X", "no element"), ("D", "write H"), ("Qq", "periodic table"), ("Sr1", "periodic table")],
)
def test_an_unknown_symbol_in_an_xyz_is_refused_with_what_to_do(tmp_path, symbol, do):
    file = write(tmp_path, "a.xyz", xyz(["C 0 0 0", f"{symbol} 2 2 2"]))
    refusal(file, f"'{symbol}'", do)


def test_unknown_symbol_in_xyz_is_found_in_its_line(tmp_path):
    refusal(write(tmp_path, "a.xyz", xyz(["C 0 0 0", "D 2 2 2"])), "line 4", "'D'")


@pytest.mark.parametrize("symbol", ["X", "Va", "Sq", "Wat"])
def test_an_unknown_symbol_in_a_cif_is_refused(tmp_path, symbol):
    file = edited(tmp_path, SRTIO3, "Sr1  Sr ", f"Sr1  {symbol} ")
    refusal(file, f"'{symbol}'", "unknown element symbol")


def test_labels_of_a_cif_without_types_name_elements_with_the_help_of_the_formula(tmp_path):
    text = SRTIO3.read_text().replace("  _atom_site_type_symbol\n", "")
    text = re.sub(r"^  (\w+)  +(?:Sr|Ti|O) ", r"  \1 ", text, flags=re.MULTILINE)
    assert len(read_specimen(write(tmp_path, "labels.cif", text)).positions) == 5
    deuterium = read_specimen(write(tmp_path, "d.cif", text.replace("O1 ", "D1 ").replace("O3'", "O2 D1'")))
    assert sorted(deuterium.symbols) == ["H", "O", "O", "Sr", "Ti"]
    assert "D1" in "\n".join(deuterium.notes)
    # The formula says what capitals may mean; without it two elements are possible.
    capitals = text.replace("  Sr1 ", "  SR1 ")
    assert "Sr" in read_specimen(write(tmp_path, "formula.cif", capitals)).symbols
    without = re.sub("_chemical_formula_sum.*", "", capitals)
    refusal(write(tmp_path, "capitals.cif", without), "could be S or Sr", "_atom_site_type_symbol")


def test_an_atomic_number_beyond_the_periodic_table_is_refused(tmp_path):
    file = write(tmp_path, "a.xyz", xyz(["6 0 0 0", "200 2 2 2"], properties="Z:I:1:pos:R:3"))
    refusal(file, "atom 1", "Z = 200", "periodic table")


def test_partial_occupancies_of_an_extended_xyz_are_refused_and_other_words_are_not(tmp_path):
    text = xyz(["C 0 0 0"]).replace("Properties", 'occupancy="_JSON {\\"0\\": {\\"C\\": 0.5}}" Properties')
    refusal(write(tmp_path, "a.xyz", text), "C 0.5", "supercell")
    text = xyz(["C 0 0 0"]).replace("Properties", "occupancy=unknown Properties")
    assert len(read_specimen(write(tmp_path, "b.xyz", text)).positions) == 1


def test_an_unknown_symbol_in_stemsalabims_file_is_refused_with_its_line(tmp_path):
    refusal(edited(tmp_path, STEMSALABIM, "Ti ", "D  "), "line 4", "'D'", "write H")
    refusal(edited(tmp_path, STEMSALABIM, "Ti ", "TI "), "line 4", "'TI'", "periodic table")


@pytest.mark.parametrize("occupancy", ["1.2", "-0.1", "half"])
def test_an_impossible_occupancy_in_a_cif_is_refused_with_its_site(tmp_path, occupancy):
    file = edited(tmp_path, SRTIO3, "0.0  0.5  0.5  1.0", f"0.0  0.5  0.5  {occupancy}")
    refusal(file, "site O3", "occupancy", occupancy, "Correct")


@pytest.mark.parametrize("occupancy", [".", "?", "1", "1.000(3)"])
def test_every_way_to_write_a_full_occupancy_in_a_cif_is_read(tmp_path, occupancy):
    assert len(read_specimen(edited(tmp_path, SRTIO3, "0.5  1.0\n", f"0.5  {occupancy}\n")).positions) == 5


def test_a_site_shared_by_two_whole_elements_is_refused(tmp_path):
    line = "  Sr1  Sr  0.0  0.0  0.0  1.0\n"
    refusal(edited(tmp_path, SRTIO3, line, line + line.replace("Sr", "Ba")), "site Ba1", "site Sr1", "occupancies")


def test_a_site_given_twice_is_refused(tmp_path):
    line = "  Sr1  Sr  0.0  0.0  0.0  1.0\n"
    refusal(
        edited(tmp_path, SRTIO3, line, line + line.replace("Sr1", "Sr2")),
        "site Sr2",
        "keep one line per atom",
    )


def test_partial_occupancy_of_a_pdb_is_kept_or_refused_as_asked(tmp_path):
    text = (
        "CRYST1    4.000    4.000    4.000  90.00  90.00  90.00 P 1\n"
        "ATOM      1   Au MOL     1       0.000   0.000   0.000  1.00  0.00          AU  \n"
        "ATOM      2   Au MOL     1       2.000   2.000   2.000  0.50  0.00          AU  \nENDMDL\n"
    )
    file = write(tmp_path, "a.pdb", text)
    assert read_specimen(file, repeat=(1, 1, 2)).occupancy.tolist() == [1.0, 0.5, 1.0, 0.5]
    refusal(file, "site 1", "occupancy of 0.5", "supercell", occupancy="refuse")
    assert len(read_specimen(write(tmp_path, "b.pdb", text.replace("0.50", "1.00"))).positions) == 2


def test_atoms_outside_the_cell_along_z_are_refused_with_their_number(tmp_path):
    file = write(tmp_path, "a.xyz", xyz(["C 0 0 0", "Sr 1 1 8.01", "C 3 3 -1.2"]))
    refusal(file, "atom 1", "Sr", "z = 8.010", "2 atoms in all", "0 to 4.000", "Shift the atoms along z")


def test_vacuum_makes_room_for_atoms_behind_the_cell(tmp_path):
    file = write(tmp_path, "a.xyz", xyz(["C 0 0 0", "Sr 1 1 8.5"]))
    refusal(file, "vacuum_angstrom")
    assert reading(file, vacuum_angstrom=(0, 0, 5)).positions[1, 2] == 8.5


@pytest.mark.parametrize(
    ("pair", "distance"),
    [
        (["Ti 1 1 1", "O 1 1.2 1"], "0.200"),
        (["Ti 0.1 1 1", "O 3.95 1 1"], "0.150"),  # across x
        (["Ti 0.1 3.9 1", "O 3.9 0.1 1"], "0.283"),  # across the corner
        (["Ti 1 1 1", "O 1 1 1"], "0.000"),
    ],
)
def test_atoms_on_top_of_each_other_are_refused(tmp_path, pair, distance):
    file = write(tmp_path, "a.xyz", xyz(["Sr 3 3 3", *pair]))
    refusal(file, "atoms 1 (Ti) and 2 (O)", f"{distance} Å apart", "Remove doubled atoms")


def test_z_is_not_periodic_for_distances(tmp_path):
    file = write(tmp_path, "a.xyz", xyz(["Ti 1 1 0", "O 1 1 3.95"]))
    assert len(read_specimen(file).positions) == 2
    refusal(file, "0.050 Å apart", "Remove doubled", repeat=(1, 1, 2))


def test_the_caller_sets_the_smallest_distance():
    specimen = read_specimen(SRTIO3)
    require_distances(specimen, 1.9)
    with pytest.raises(SpecimenError, match=r"atoms 0 \(Sr\) and 2 \(O\).*2\.761 Å apart"):
        require_distances(
            Specimen(specimen.symbols[:3], specimen.positions[:3], specimen.cell, specimen.u_iso[:3], None, "ase"),
            2.77,
        )


@pytest.mark.parametrize("value", [-0.01, float("nan"), float("inf")])
def test_a_bad_u_in_the_map_is_refused(value):
    refusal(SRTIO3, "U of Ti", str(value), "Correct it", u_iso_angstrom2={"Ti": value})


@pytest.mark.parametrize("value", ["-0.01", "inf"])
def test_a_bad_u_in_a_column_is_refused(tmp_path, value):
    rows = ["C 0 0 0 0.01", f"Sr 2 2 2 {value}"]
    file = write(tmp_path, "u.xyz", xyz(rows, properties="species:S:1:pos:R:3:u_iso:R:1"))
    refusal(file, "atom 1", "Sr", value, "Correct it")


@pytest.mark.parametrize(("kind", "rows"), [("R:3", "0.01 0.02 0.03"), ("S:1", "big")])
def test_a_u_column_of_another_kind_is_refused(tmp_path, kind, rows):
    file = write(tmp_path, "u.xyz", xyz([f"C 0 0 0 {rows}"], properties=f"species:S:1:pos:R:3:u_iso:{kind}"))
    refusal(file, "u_iso", "one number per atom", "u_iso:R:1")


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("5\n", "five\n", ("line 1", "number of atoms")),
        ("5\n", "6\n", ("6 atoms", "after 5", "truncated")),
        ("5\n", "4\n", ("line 7", "more than the 4 atoms", "Correct line 1")),
        ("5.570e-05", "", ("line 4", "five columns", "nm²")),
        ("5.570e-05", "-5.570e-05", ("line 4", "the msd of Ti", "Correct the line")),
        ("5.570e-05", "nan", ("line 4", "msd of Ti", "Correct the line")),
        (
            "0.19525 0.19525 0.19525",
            "0.19525 inf 0.19525",
            ("line 4", "coordinate of Ti", "Correct the line"),
        ),
        (
            "5.570e-05",
            "5.570e-05 2",
            ("1 of 5 atoms", "sixth column", "all or none"),
        ),
        ("0.3905 0.3905 0.3905", "strontium titanate", ("line 2", "three lengths in nm", "format: ase")),
        ("0.3905 0.3905 0.3905", "0.3905 0.3905 0.0", ("cell edge c is 0 Å", "nm")),
        (
            "0.3905 0.3905 0.3905",
            'Lattice="0.39 0 0 0.1 0.39 0 0 0 0.39"',
            ("not orthogonal",),
        ),
    ],
)
def test_a_bad_stemsalabim_file_is_refused(tmp_path, old, new, parts):
    refusal(edited(tmp_path, STEMSALABIM, old, new), *parts, format="stemsalabim")


def test_sixth_column_names_slices_that_follow_each_other_in_copies(tmp_path):
    lines = STEMSALABIM.read_text().splitlines()
    rows = [f"{line} {3 + round(float(line.split()[3]) / 0.19525)}" for line in lines[2:]]
    specimen = read_specimen(write(tmp_path, "slices.xyz", "\n".join([*lines[:2], *rows, ""])), repeat=[2, 1, 3])
    plain = read_specimen(STEMSALABIM, repeat=[2, 1, 3])
    np.testing.assert_array_equal(specimen.positions, plain.positions)
    np.testing.assert_array_equal(specimen.slice_id, np.round(plain.positions[:, 2] / 1.9525))
    assert plain.slice_id is None


def test_frames_behind_an_empty_line_are_refused(tmp_path):
    file = write(tmp_path, "gap.xyz", BLOCK.read_text() + "\n" + BLOCK.read_text())
    refusal(file, "line 43 is empty", "line 44", "remove it")
    file = write(tmp_path, "tail.xyz", BLOCK.read_text() + "\n\n")
    assert len(read_specimen(file).positions) == 40


@pytest.mark.parametrize(
    "settings",
    [
        {"repeat": (0, 1, 1)},
        {"repeat": (1, 1)},
        {"vacuum_angstrom": (0, 0, -1)},
        {"vacuum_angstrom": (0, 0, float("nan"))},
        {"supercell": [[1, 0], [0, 1]]},
        {"supercell": [[0.5, 0, 0], [0, 1, 0], [0, 0, 1]]},
    ],
)
def test_bad_settings_are_refused(settings):
    refusal(SRTIO3, f"`specimen.{next(iter(settings))}`", "needed", **settings)


# Snapshots


def test_snapshots_keep_their_order_and_their_coordinates():
    block = read_specimen(BLOCK)
    frames = read_snapshots(SNAPSHOTS, block)
    assert frames.shape == (3, 40, 3)
    lines = SNAPSHOTS.read_text().splitlines()
    for number in range(3):
        rows = [line.split()[1:4] for line in lines[42 * number + 2 : 42 * number + 42]]
        expected = np.array(rows, dtype=float)
        expected[:, :2] %= 2 * A
        np.testing.assert_allclose(frames[number], expected, atol=1e-9)


def test_snapshots_lie_within_thermal_distance_of_the_specimen():
    block = read_specimen(BLOCK)
    difference = read_snapshots(SNAPSHOTS, block) - block.positions
    difference[..., :2] -= 2 * A * np.round(difference[..., :2] / (2 * A))
    assert np.sqrt((difference**2).mean()) == pytest.approx(0.09, abs=0.02)


def test_snapshots_fit_a_specimen_with_vacuum():
    room = read_specimen(BLOCK, vacuum_angstrom=(0, 0, 5.0))
    np.testing.assert_allclose(
        read_snapshots(SNAPSHOTS, room)[..., :2], read_snapshots(SNAPSHOTS, read_specimen(BLOCK))[..., :2]
    )


def test_snapshots_of_a_permuted_cell_turn_with_their_specimen(tmp_path):
    rows = ["C 0.2 0.3 0.4", "O 1.9 0.3 0.4"]
    file = write(tmp_path, "a.xyz", xyz(rows, "0 6 0 5 0 0 0 0 7") + xyz([rows[0], "O 2 1 1"], "0 6 0 5 0 0 0 0 7"))
    specimen = read_specimen(file)
    frames = read_snapshots(file, specimen)
    np.testing.assert_allclose(frames[0], specimen.positions)
    np.testing.assert_allclose(frames[1][1], [2, 1, 1])


def frames_with(old: str, new: str, frame: int) -> str:
    """The example's trajectory with one edit in one frame."""
    lines = SNAPSHOTS.read_text().splitlines(keepends=True)
    frames = ["".join(lines[42 * i : 42 * i + 42]) for i in range(3)]
    assert old in frames[frame]
    frames[frame] = frames[frame].replace(old, new, 1)
    return "".join(frames)


def test_a_snapshot_with_another_number_of_atoms_is_refused(tmp_path):
    lines = SNAPSHOTS.read_text().splitlines(keepends=True)
    del lines[42 + 10]
    lines[42] = "39\n"
    snapshot_refusal(
        write(tmp_path, "t.xyz", "".join(lines)),
        read_specimen(BLOCK),
        "frame 1",
        "39 atoms",
        "40",
        "neutral `repeat`",
    )


def test_a_snapshot_with_another_order_is_refused(tmp_path):
    lines = SNAPSHOTS.read_text().splitlines(keepends=True)
    lines[86], lines[87] = lines[87], lines[86]
    snapshot_refusal(
        write(tmp_path, "t.xyz", "".join(lines)),
        read_specimen(BLOCK),
        "frame 2",
        "atom 0",
        "Ti",
        "Sr",
        "same order",
    )


def test_a_snapshot_with_another_cell_is_refused(tmp_path):
    file = write(tmp_path, "t.xyz", frames_with('Lattice="7.81 ', 'Lattice="7.83 ', 2))
    snapshot_refusal(file, read_specimen(BLOCK), "frame 2", "7.8300", "7.8100", "constant volume")


def test_a_snapshot_with_a_skew_cell_is_refused(tmp_path):
    file = write(tmp_path, "t.xyz", frames_with('Lattice="7.81 0', 'Lattice="7.81 0.5', 1))
    snapshot_refusal(file, read_specimen(BLOCK), "frame 1", "right angles", "constant volume")


def test_a_snapshot_without_a_cell_is_refused(tmp_path):
    file = write(tmp_path, "t.xyz", frames_with('Lattice="7.81 0 0 0 7.81 0 0 0 7.81" ', "", 1))
    snapshot_refusal(file, read_specimen(BLOCK), "frame 1", "no cell", "extended XYZ")


@pytest.mark.parametrize("value", ["inf", "1e200", "nan"])
def test_a_snapshot_with_an_infinite_cell_is_refused(tmp_path, value):
    file = write(tmp_path, "t.xyz", frames_with('Lattice="7.81', f'Lattice="{value}', 1))
    snapshot_refusal(file, read_specimen(BLOCK), "frame 1", "not finite", "Correct the cell")


def test_a_snapshot_with_nan_is_refused(tmp_path):
    value = SNAPSHOTS.read_text().splitlines()[42 + 5].split()[1]
    file = write(tmp_path, "t.xyz", frames_with(value, "nan", 1))
    snapshot_refusal(file, read_specimen(BLOCK), "frame 1", "atom 3", "not finite", "Correct")


def test_a_snapshot_with_an_atom_far_outside_in_z_is_refused(tmp_path):
    value = SNAPSHOTS.read_text().splitlines()[42 + 5].split()[3]
    file = write(tmp_path, "t.xyz", frames_with(value, "9.5", 1))
    snapshot_refusal(file, read_specimen(BLOCK), "frame 1", "atom 3", "z = 9.500", "Shift the atoms")


def test_a_truncated_trajectory_is_refused(tmp_path):
    lines = SNAPSHOTS.read_text().splitlines(keepends=True)
    file = write(tmp_path, "t.xyz", "".join(lines[:100]))
    snapshot_refusal(file, read_specimen(BLOCK), "frame 2", "truncated", "again")


def test_frame_that_ase_cannot_read_is_named(tmp_path):
    value = SNAPSHOTS.read_text().splitlines()[42 + 5].split()[3]
    file = write(tmp_path, "t.xyz", frames_with(value, "zero", 1))
    snapshot_refusal(file, read_specimen(BLOCK), "frame 1", "ASE cannot read", "export it again")


def test_a_missing_or_empty_trajectory_is_refused(tmp_path):
    block = read_specimen(BLOCK)
    snapshot_refusal(tmp_path / "none.xyz", block, "no such file")
    snapshot_refusal(write(tmp_path, "empty.xyz", ""), block, "is empty")
    snapshot_refusal(write(tmp_path, "blank.xyz", "\n\n"), block, "configuration")


def test_snapshots_of_a_repeated_specimen_do_not_fit():
    snapshot_refusal(SNAPSHOTS, read_specimen(BLOCK, repeat=(1, 1, 2)), "frame 0", "40", "80", "neutral")


# The module


def test_content_hash_is_the_published_sha256(tmp_path):
    file = tmp_path / "abc"
    file.write_bytes(b"abc")
    assert content_sha256(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_importing_the_module_does_not_import_ase():
    code = (
        "import sys, stemphony.specimen.structures, stemphony.specimen.specimen_file;"
        "print([name for name in sys.modules if name.split('.')[0] == 'ase'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(structures.__file__).parents[2])}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True) == "[]\n"
