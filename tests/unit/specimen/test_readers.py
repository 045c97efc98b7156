"""Files of VASP, LAMMPS, other simulators and PDB, read with the meaning of their programs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from stemphony.errors import SpecimenError
from stemphony.specimen.displacements import B_PER_U
from stemphony.specimen.formats import read_frames, read_structure
from stemphony.specimen.structure import Structure
from stemphony.specimen.structures import read_specimen

A = 3.905


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def refusal(file: Path, *parts: str) -> None:
    with pytest.raises(SpecimenError) as caught:
        read_structure(file)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def bond(structure: Structure, first: int = 0, second: int = 1) -> float:
    return float(np.linalg.norm(structure.positions[second] - structure.positions[first]))


# POSCAR


def poscar(folder: Path, **lines: str) -> Path:
    parts = {
        "title": "STO", "scale": "1.0", "cell": f"{A} 0 0\n0 {A} 0\n0 0 {A}", "names": "Sr Ti O", "counts": "1 1 3",
        "mode": "Direct", "rows": "0 0 0\n.5 .5 .5\n.5 .5 0\n.5 0 .5\n0 .5 .5",
    }  # fmt: skip
    parts.update(lines)
    return written(folder, "POSCAR", "\n".join(part for part in parts.values() if part) + "\n")


@pytest.mark.parametrize(
    "names", ["Sr Ti O", "Sr_sv Ti_pv O", "Sr/3ba5b3e8 Ti/1234abcd O/deadbeef", "Sr_sv/3ba5 Ti_sv_GW O_s_GW", "SR TI O",
              "Sr:PAW_PBE:07Sep2000 Ti O", "Sr  Ti\tO  "],
)  # fmt: skip
def test_names_of_potentials_give_their_elements(tmp_path, names):
    assert read_structure(poscar(tmp_path, names=names)).symbols.tolist() == ["Sr", "Ti", "O", "O", "O"]


@pytest.mark.parametrize("title", ["Sr Ti O", "Sr1 Ti1 O3", "SrTiO3", "Sr_sv Ti_pv O", "Sr  Ti  O"])
def test_title_names_the_elements_of_vasp_4(tmp_path, title):
    structure = read_structure(poscar(tmp_path, title=title, names=""))
    assert structure.symbols.tolist() == ["Sr", "Ti", "O", "O", "O"]
    assert "title" in "\n".join(structure.notes)


@pytest.mark.parametrize("title", ["strontium titanate", "unknown", "Sr Ti", "POSCAR file", "In Ga As P"])
def test_title_that_names_no_elements_is_refused(tmp_path, title):
    refusal(poscar(tmp_path, title=title, names=""), "VASP 4", "Add a line with the elements")


@pytest.mark.parametrize("mode", ["Direct", "direct", "D", "Selective dynamics\nDirect", "s\nd"])
def test_direct_coordinates(tmp_path, mode):
    rows = "0 0 0 T T F\n.5 .5 .5 F F F\n.5 .5 0 T T T\n.5 0 .5 T T T\n0 .5 .5 T T T"
    structure = read_structure(poscar(tmp_path, mode=mode, rows=rows))
    np.testing.assert_allclose(structure.positions[1], A / 2)


@pytest.mark.parametrize("mode", ["Cartesian", "K", "cart", "Selective\nCartesian"])
def test_cartesian_coordinates_are_scaled(tmp_path, mode):
    cell = "1 0 0\n0 1 0\n0 0 1"
    structure = read_structure(poscar(tmp_path, mode=mode, scale=str(A), cell=cell))
    np.testing.assert_allclose(structure.positions[1], A / 2)
    np.testing.assert_allclose(structure.cell, A * np.eye(3))


def test_negative_scale_is_the_volume(tmp_path):
    structure = read_structure(poscar(tmp_path, scale=str(-(A**3)), cell="2 0 0\n0 2 0\n0 0 2"))
    np.testing.assert_allclose(structure.cell, A * np.eye(3))


def test_exponents_of_fortran_and_comments(tmp_path):
    plain = read_structure(poscar(tmp_path))
    cell = f"{A}D0 0 0\n0 {A}D+00 0\n0 0 {A / 10!r}d1"
    rows = "0 0 0\n5.0D-1 5.0d-01 .5\n.5 .5 0\n.5 0 .5\n0 .5 .5"
    parts = {"scale": "1.0D0 ! a", "names": "Sr Ti O ! b", "counts": "1 1 3 # c", "mode": "Direct ! d"}
    other = read_structure(poscar(tmp_path, cell=cell, rows=rows, **parts))
    np.testing.assert_allclose(other.positions, plain.positions, atol=1e-12)
    assert other.symbols.tolist() == plain.symbols.tolist()


def test_charged_names_and_digits_that_are_none(tmp_path):
    assert read_structure(poscar(tmp_path, names="Sr2+ Ti4+ O2-")).symbols.tolist() == ["Sr", "Ti", "O", "O", "O"]
    refusal(poscar(tmp_path, counts="1 1 \u00b2"), "line 7", "whole numbers")
    refusal(poscar(tmp_path, scale="-1 -1 -1"), "line 2", "positive")


def test_trajectory_of_vasp_is_not_taken_for_its_first_frame(tmp_path):
    frame = "Direct configuration= {}\n0 0 0\n.5 .5 .5\n"
    text = f"CsCl\n1\n4 0 0\n0 4 0\n0 0 4\nCs Cl\n1 1\n{frame.format(1)}{frame.format(2)}"
    file = written(tmp_path, "XDATCAR", text)
    assert "several frames" in "\n".join(read_structure(file).notes)
    assert len(list(read_frames(file))) == 2
    refusal(written(tmp_path, "md.vasp", text), "line 8", "XDATCAR")


def test_three_scales_multiply_the_axes(tmp_path):
    structure = read_structure(poscar(tmp_path, scale=f"{A} {A} {2 * A}", cell="1 0 0\n0 1 0\n0 0 1"))
    np.testing.assert_allclose(np.diag(structure.cell), [A, A, 2 * A])


def test_velocities_behind_the_atoms_do_not_matter(tmp_path):
    rows = "0 0 0\n.5 .5 .5\n.5 .5 0\n.5 0 .5\n0 .5 .5\n\n0 0 0\n0 0 0\n0 0 0\n0 0 0\n0 0 0"
    assert len(read_structure(poscar(tmp_path, rows=rows)).symbols) == 5


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"rows": "0 0 0\n.5 .5 .5"}, ("ends after line 10", "truncated")),
        ({"names": "Sr Qq O"}, ("'Qq'", "periodic table")),
        ({"scale": "one"}, ("line 2", "scale")),
        ({"scale": "0"}, ("line 2", "scale")),
        ({"counts": "1 1"}, ("line", "numbers")),
        ({"mode": "Fractional?"}, ("Direct or Cartesian",)),
        ({"rows": "0 0 zero\n0 0 0\n0 0 0\n0 0 0\n0 0 0"}, ("line 9", "coordinates of atom 0")),
    ],
)
def test_damaged_poscar_names_its_line(tmp_path, change, parts):
    refusal(poscar(tmp_path, **change), *parts)


# LAMMPS data


def data(folder: Path, **parts: str) -> Path:
    text = {
        "title": "LAMMPS data file", "box": "0 5.64 xlo xhi\n0 5.64 ylo yhi\n0 5.64 zlo zhi",
        "masses": "Masses\n\n1 22.98977\n2 35.453", "style": "Atoms # atomic",
        "atoms": "1 1 0.1 0.1 0.1\n2 2 2.92 2.92 2.92",
    }  # fmt: skip
    text.update(parts)
    count = len(text["atoms"].splitlines())
    return written(
        folder, "a.data",
        f"{text['title']}\n\n{count} atoms\n2 atom types\n\n{text['box']}\n\n{text['masses']}\n\n{text['style']}\n\n"
        f"{text['atoms']}\n",
    )  # fmt: skip


@pytest.mark.parametrize("low", [-0.9, 0.0, 10.0, -100.0])
def test_data_file_counts_from_the_corner_of_its_box(tmp_path, low):
    box = "\n".join(f"{low} {low + 5.64} {axis}lo {axis}hi" for axis in "xyz")
    atoms = f"1 1 {low + 0.1} {low + 0.1} {low + 0.1}\n2 2 {low + 2.92} {low + 2.92} {low + 2.92}"
    specimen = read_specimen(data(tmp_path, box=box, atoms=atoms))
    np.testing.assert_allclose(specimen.positions, [[0.1] * 3, [2.92] * 3], atol=1e-9)
    assert specimen.revision == (1 if low == 0 else 2)


def test_atoms_of_a_slab_keep_their_height_in_the_box(tmp_path):
    box = "0 5.64 xlo xhi\n0 5.64 ylo yhi\n-10 10 zlo zhi"
    specimen = read_specimen(data(tmp_path, box=box, atoms="1 1 0 0 1\n2 2 2.82 2.82 3"))
    np.testing.assert_allclose(specimen.positions[:, 2], [11, 13])


@pytest.mark.parametrize("flags", ["0 0 1", "-1 2 0", "0 0 0"])
def test_image_flags_do_not_move_atoms(tmp_path, flags):
    structure = read_structure(data(tmp_path, atoms=f"1 1 0.1 0.1 1.5 {flags}\n2 2 2.82 2.82 2.82 0 -1 0"))
    np.testing.assert_allclose(structure.positions[0], [0.1, 0.1, 1.5])


@pytest.mark.parametrize(
    ("style", "row"),
    [
        ("Atoms # charge", "{0} {1} 1.0 {2}"), ("Atoms # full", "{0} 7 {1} 1.0 {2}"),
        ("Atoms # molecular", "{0} 7 {1} {2}"),
        ("Atoms # sphere", "{0} {1} 1.0 2.7 {2}"), ("Atoms  # atomic", "{0} {1} {2}"),
        ("Atoms # dipole", "{0} {1} 0.5 {2} 0 0 1"),
        ("Atoms", "{0} {1} {2}"), ("Atoms", "{0} {1} {2} 0 0 0"), ("Atoms", "{0} 7 {1} 1.0 {2}"),
        ("Atoms", "{0} 7 {1} 1.0 {2} 0 1 -1"), ("Atoms", "{0} {1} 1.0 {2}"),
        ("Atoms # full", "{0} 7 {1} 1.0 {2} 0 1 0"),
    ],
)  # fmt: skip
def test_styles_of_atoms(tmp_path, style, row):
    rows = [row.format(1, 1, "0.1 0.2 0.3"), row.format(2, 2, "2.1 2.2 2.3")]
    structure = read_structure(data(tmp_path, style=style, atoms="\n".join(rows)))
    assert structure.symbols.tolist() == ["Na", "Cl"]
    np.testing.assert_allclose(structure.positions, [[0.1, 0.2, 0.3], [2.1, 2.2, 2.3]])


def test_columns_that_two_styles_may_mean_are_refused(tmp_path):
    refusal(data(tmp_path, style="Atoms", atoms="1 1 1 0.1 0.1 0.1\n2 2 2 2.1 2.1 2.1"), "columns", "Atoms # full")


def test_charges_of_a_data_file_are_kept_and_two_equal_numbers_refused(tmp_path):
    rows = "2 2 -1.0 2.92 2.92 2.92\n1 1 1.0 0.1 0.1 0.1"
    charge = read_structure(data(tmp_path, style="Atoms # charge", atoms=rows)).charge
    assert charge is not None
    assert charge.tolist() == [1, -1]
    refusal(data(tmp_path, atoms="1 1 0.1 0.1 0.1\n1 2 2.92 2.92 2.92"), "same number")


def test_atoms_are_sorted_by_their_number(tmp_path):
    structure = read_structure(data(tmp_path, atoms="2 2 2.1 2.1 2.1\n1 1 0.1 0.1 0.1"))
    assert structure.symbols.tolist() == ["Na", "Cl"]


@pytest.mark.parametrize(
    "masses",
    [
        "Masses\n\n1 22.98977\n2 35.453",
        "Masses\n\n1 23.0\n2 35.45",
        "Masses\n\n1 22.99 # Na\n2 35.45 # Cl-",
        "Atom Type Labels\n\n1 Na\n2 Cl",
        "Atom Type Labels\n\n1 Na\n2 Cl\n\nMasses\n\nNa 22.99\nCl 35.45",
        "Masses\n\n1 22.99 # sodium\n2 35.45 # chloride",
    ],
)
def test_elements_of_atom_types(tmp_path, masses):
    assert read_structure(data(tmp_path, masses=masses)).symbols.tolist() == ["Na", "Cl"]


def test_labels_stand_for_types(tmp_path):
    labels = "Atom Type Labels\n\n1 Na\n2 Cl\n\nMasses\n\n1 22.99\n2 35.45"
    structure = read_structure(data(tmp_path, masses=labels, atoms="1 Na 0.1 0.1 0.1\n2 Cl 2.1 2.1 2.1"))
    assert structure.symbols.tolist() == ["Na", "Cl"]


@pytest.mark.parametrize("masses", [("10.0", "20.0"), ("1", "2"), ("1.0", "1.0"), ("100", "200"), ("22.99", "33.3")])
def test_placeholder_masses_are_refused(tmp_path, masses):
    refusal(data(tmp_path, masses=f"Masses\n\n1 {masses[0]}\n2 {masses[1]}"), "mass", "placeholder", "Atom Type Labels")


def test_mass_between_two_elements_is_refused(tmp_path):
    refusal(data(tmp_path, masses="Masses\n\n1 40\n2 35.45"), "Ar", "Ca", "two decimals")


@pytest.mark.parametrize(("mass", "names"), [("59", ("Co", "Ni")), ("59.0", ("Co", "Ni"))])
def test_rounded_mass_of_two_elements_is_refused(tmp_path, mass, names):
    refusal(data(tmp_path, masses=f"Masses\n\n1 {mass}\n2 16"), *names)


def test_reduced_units_are_refused(tmp_path):
    refusal(data(tmp_path, title="LAMMPS data file via write_data, units = lj"), "'lj'", "metal or real")


def test_nanometres_become_angstroms(tmp_path):
    structure = read_structure(data(tmp_path, title="LAMMPS data file, units = nano"))
    assert structure.cell[0, 0] == pytest.approx(56.4)
    assert "multiplied by 10" in "\n".join(structure.notes)


def test_tilted_box(tmp_path):
    box = "1 4 xlo xhi\n0 2.6 ylo yhi\n0 5 zlo zhi\n-1.5 0 0 xy xz yz"
    structure = read_structure(data(tmp_path, box=box, atoms="1 1 1.5 0.1 0.1\n2 2 1.6 2 2"))
    np.testing.assert_allclose(structure.cell, [[3, 0, 0], [-1.5, 2.6, 0], [0, 0, 5]])
    np.testing.assert_allclose(structure.positions[0], [0.5, 0.1, 0.1])


def test_general_box(tmp_path):
    box = "3 0 0 avec\n-1.5 2.6 0 bvec\n0 0 5 cvec\n1 0 0 abc origin"
    np.testing.assert_allclose(read_structure(data(tmp_path, box=box)).positions[0], [-0.9, 0.1, 0.1])


def test_truncated_data_file(tmp_path):
    file = data(tmp_path)
    file.write_text(file.read_text().replace("2 atoms", "3 atoms"))
    refusal(file, "announces 3 atoms", "has 2", "truncated")


# LAMMPS dumps


def dump(folder: Path, columns: str, rows: str, box: str = "pp pp pp\n-2 3\n0 5\n10 16", frames: int = 1) -> Path:
    count = len(rows.splitlines())
    frame = (
        f"ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n{count}\nITEM: BOX BOUNDS {box}\nITEM: ATOMS {columns}\n{rows}\n"
    )
    return written(folder, "a.lammpstrj", frames * frame)


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ("id element x y z", "1 Au 0 1 12.5"), ("id element xs ys zs", "1 Au 0.4 0.2 0.4166666666666667"),
        ("id type element xu yu zu", "1 3 Au 0 1 12.5"), ("id mass x y z", "1 196.97 0 1 12.5"),
        ("element x y z id q", "Au 0 1 12.5 1 0.5"), ("id element xu yu zu", "1 Au 5 1 18.5"),
        ("id element xsu ysu zsu", "1 Au 1.4 0.2 1.4166666666666667"),
    ],
)  # fmt: skip
def test_dump_counts_from_the_corner_of_its_box(tmp_path, columns, row):
    np.testing.assert_allclose(read_structure(dump(tmp_path, columns, row)).positions[0], [2, 1, 2.5], atol=1e-9)


def test_tilts_of_both_signs(tmp_path):
    # Edges (3, 0, 0), (−1.5, 2.6, 0), (1, 0.5, 4) from the corner (1, 0, 0): the bounds enclose all eight corners.
    box = "xy xz yz pp pp pp\n-0.5 5 -1.5\n0 3.1 1\n0 4 0.5"
    structure = read_structure(dump(tmp_path, "id element x y z", "1 Au 2 1 1", box))
    np.testing.assert_allclose(structure.cell, [[3, 0, 0], [-1.5, 2.6, 0], [1, 0.5, 4]])
    np.testing.assert_allclose(structure.positions[0], [1, 1, 1])


def test_dump_is_sorted_and_keeps_its_charges(tmp_path):
    structure = read_structure(dump(tmp_path, "id element q x y z", "2 Cl -1 0 1 12\n1 Na 1 1 1 12"))
    assert structure.symbols.tolist() == ["Na", "Cl"]
    assert structure.charge is not None
    assert structure.charge.tolist() == [1, -1]


def test_every_frame_of_a_dump_is_read(tmp_path):
    frames = list(read_frames(dump(tmp_path, "id element x y z", "1 Au 0 1 12", frames=3)))
    assert len(frames) == 3


def test_dump_without_elements_is_refused(tmp_path):
    refusal(dump(tmp_path, "id type x y z", "1 1 0 1 12"), "column element", "dump_modify")


# CFG


def cfg(folder: Path, head: str, body: str, count: int) -> Path:
    return written(folder, "a.cfg", f"Number of particles = {count}\n{head}\n{body}\n")


H0 = "\n".join(f"H0({i},{j}) = {2.0 if i == j else 0} A" for i in (1, 2, 3) for j in (1, 2, 3))


@pytest.mark.parametrize(
    ("scale", "length"),
    [
        ("A = 1.0 Angstrom (basic length-scale)", 2.0),
        ("A = 2.0 Angstrom", 4.0),
        ("A = 0.2 nm", 4.0),
        ("", 2.0),
        ("A = 0.2d1", 4.0),
        ("A = 20.0D-01 Angstrom", 4.0),
        ("A = 2.0(Angstrom)", 4.0),
    ],
)
def test_length_scale_multiplies_the_cell(tmp_path, scale, length):
    file = cfg(tmp_path, f"{scale}\n{H0}\n.NO_VELOCITY.\nentry_count = 3", "27\nAl\n0 0 0\n.5 .5 .5", 2)
    structure = read_structure(file)
    np.testing.assert_allclose(structure.cell, length * np.eye(3))
    np.testing.assert_allclose(structure.positions[1], length / 2)


def test_columns_of_qstem_are_b_occupancy_and_charge(tmp_path):
    body = "76\nSr\n0 0 0 0.6214 1.0 2.0\n44\nTi\n.5 .5 .5 0.4390 0.5 4.0"
    structure = read_structure(cfg(tmp_path, f"A = 2\n{H0}\n.NO_VELOCITY.\nentry_count = 6", body, 2))
    assert structure.u_iso is not None
    np.testing.assert_allclose(structure.u_iso, np.array([0.6214, 0.4390]) / B_PER_U)
    assert structure.occupancy is not None
    assert structure.occupancy.tolist() == [1.0, 0.5]
    assert "QSTEM" in "\n".join(structure.notes)


def test_auxiliary_columns_keep_their_names(tmp_path):
    head = f"A = 2\n{H0}\n.NO_VELOCITY.\nentry_count = 5\nauxiliary[0] = U_iso [A^2]\nauxiliary[1] = strain [1]"
    structure = read_structure(cfg(tmp_path, head, "27\nAl\n0 0 0 0.01 0.5", 1))
    assert structure.u_iso is not None
    assert structure.u_iso.tolist() == [0.01]
    assert structure.notes == ("columns that are not used: strain",)


def test_units_of_the_cell_and_of_its_columns_hold(tmp_path):
    lengths = H0.replace("2.0", "0.2").replace(" A", " nm")
    head = f"{lengths}\n.NO_VELOCITY.\nentry_count = 4\nauxiliary[0] = u_iso [nm^2]"
    structure = read_structure(cfg(tmp_path, head, "27\nAl\n0 0 0 5.0D-05", 1))
    np.testing.assert_allclose(structure.cell, 2.0 * np.eye(3))
    assert structure.u_iso is not None
    np.testing.assert_allclose(structure.u_iso, [5e-3])


def test_standard_configuration_has_mass_and_symbol_in_each_line(tmp_path):
    structure = read_structure(cfg(tmp_path, f"A = 2\n{H0}", "27 Al 0 0 0 0.1 0.2 0.3\n27 Al .5 .5 .5 0 0 0", 2))
    assert structure.symbols.tolist() == ["Al", "Al"]
    np.testing.assert_allclose(structure.positions[1], 2.0)


@pytest.mark.parametrize(
    ("head", "count", "parts"),
    [
        (H0, 3, ("announces 3 atoms", "has 2")),
        (f"{H0}\neta(1,1) = 0.1", 2, ("eta", "strained cell")),
        (H0.replace("H0(3,3)", "H1(3,3)"), 2, ("H0(3,3)",)),
        (f"A = -1\n{H0}", 2, ("A = '-1'",)),
    ],
)
def test_bad_cfg(tmp_path, head, count, parts):
    refusal(cfg(tmp_path, f"{head}\n.NO_VELOCITY.\nentry_count = 3", "27\nAl\n0 0 0\n.5 .5 .5", count), *parts)


# muSTEM and XTL


def xtl(folder: Path, energy: str = "200\n", occupancy: float = 1.0, tail: str = "") -> Path:
    return written(
        folder, "a.xtl",
        f"STO\n{A} {A} {A} 90 90 90\n{energy}3\nSr\n1 38.0 {occupancy} 0.00787\n0 0 0\nO\n3 8 1.0 0.0093\n.5 .5 0\n"
        ".5 0 .5\n"
        f"0 .5 .5\nTi\n1 22 1.0 0.0056\n.5 .5 .5\n{tail}",
    )  # fmt: skip


@pytest.mark.parametrize("energy", ["200\n", "300.0\n", ""])
def test_mustem_with_and_without_its_energy(tmp_path, energy):
    structure = read_structure(xtl(tmp_path, energy, tail="Orientation\n1 0 0\n0 1 0\n0 0 1\n"))
    assert structure.symbols.tolist() == ["Sr", "O", "O", "O", "Ti"]
    np.testing.assert_allclose(structure.positions[4], A / 2)
    assert structure.u_iso is not None
    assert structure.u_iso.tolist() == [0.00787, 0.0093, 0.0093, 0.0093, 0.0056]
    assert structure.occupancy is None


def test_mustem_keeps_its_occupancy(tmp_path):
    occupancy = read_structure(xtl(tmp_path, occupancy=0.8)).occupancy
    assert occupancy is not None
    assert occupancy.tolist() == [0.8, 1, 1, 1, 1]


def test_orientation_that_turns_the_crystal_is_refused(tmp_path):
    refusal(xtl(tmp_path, tail="Orientation\n1 1 0\n0 0 1\n1 -1 0\n"), "Orientation", "zone_axis")


def test_truncated_mustem(tmp_path):
    file = xtl(tmp_path)
    file.write_text("\n".join(file.read_text().splitlines()[:8]) + "\n")
    refusal(file, "line")


def test_crystallographic_xtl_is_read_with_its_symmetry(tmp_path):
    file = written(
        tmp_path, "a.xtl",
        "TITLE SrTiO3\nCELL\n  3.905 3.905 3.905 90.0 90.0 90.0\nSYMMETRY NUMBER 221\nSYMMETRY LABEL P m -3 m\nATOMS\n"
        "NAME X Y Z TEMP OCC\nSr 0 0 0 0.62 1.0\nTi 0.5 0.5 0.5 0.44 1.0\nO 0.5 0.5 0 0.73 1.0\nEOF\n",
    )  # fmt: skip
    structure = read_structure(file)
    assert sorted(structure.symbols) == ["O", "O", "O", "Sr", "Ti"]
    assert structure.u_iso is not None
    assert structure.u_iso[0] == pytest.approx(0.62 / B_PER_U)
    assert structure.format == "xtl"


def test_crystallographic_xtl_names_its_origin(tmp_path):
    file = written(
        tmp_path, "a.xtl",
        "TITLE Si\nCELL\n\n5.4309 5.4309 5.4309 90 90 90\nSYMMETRY NUMBER 227\nSYMMETRY LABEL F d -3 m\n"
        "SYMMETRY QUALIFIER origin_2\nATOMS\nNAME X Y Z\nSi 0.125 0.125 0.125\nEOF\n",
    )  # fmt: skip
    assert len(read_structure(file).symbols) == 8


# Dr. Probe


def cel(folder: Path, rows: str, end: str = "*\n") -> Path:
    return written(folder, "a.cel", f"# title\n 0 0.3905 0.3905 0.3905 90 90 90\n{rows}{end}")


def test_cel_is_in_nm_and_its_b_in_nm2(tmp_path):
    rows = " Sr 0 0 0 1.0 0.0062 0 0 0\n Ti4+ 0.5 0.5 0.5 0.9 0.0044 0 0 0\n"
    structure = read_structure(cel(tmp_path, rows))
    np.testing.assert_allclose(structure.cell, A * np.eye(3))
    np.testing.assert_allclose(structure.positions[1], A / 2)
    assert structure.symbols.tolist() == ["Sr", "Ti"]
    assert structure.u_iso is not None
    np.testing.assert_allclose(structure.u_iso, np.array([0.62, 0.44]) / B_PER_U)
    assert structure.occupancy is not None


def test_truncated_cel(tmp_path):
    refusal(cel(tmp_path, " Sr 0 0 0 1.0 0.0062 0 0 0\n", ""), "without `*`", "truncated")


# Prismatic


def prismatic(
    folder: Path, rows: str, cell: str = "3.905 3.905 3.905", end: str = "-1\n", title: str = "my STO"
) -> Path:
    return written(folder, "a.xyz", f"{title}\n {cell}\n{rows}{end}")


@pytest.mark.parametrize("title", ["my STO", "5", "12 atoms", "Lattice of STO"])
def test_prismatic_is_in_angstroms_with_rms(tmp_path, title):
    rows = "38 0 0 0 1 0.088\n22 1.9525 1.9525 1.9525 0.5 0.074\n"
    structure = read_structure(prismatic(tmp_path, rows, title=title))
    assert structure.symbols.tolist() == ["Sr", "Ti"]
    np.testing.assert_allclose(structure.cell, A * np.eye(3))
    assert structure.u_iso is not None
    np.testing.assert_allclose(structure.u_iso, [0.088**2, 0.074**2])
    assert structure.occupancy is not None
    assert structure.occupancy.tolist() == [1, 0.5]


def test_fractional_coordinates_are_recognised_by_distances(tmp_path):
    rows = "38 0 0 0 1 0.088\n22 0.5 0.5 0.5 1 0.074\n"
    structure = read_structure(prismatic(tmp_path, rows, "3.905 3.905 3.905 90 90 90"))
    assert bond(structure) == pytest.approx(A * np.sqrt(3) / 2)
    close = read_structure(prismatic(tmp_path, "38 0 0 0 1 0.088\n22 0.25 0.25 0.25 1 0.074\n", "39.05 39.05 39.05"))
    assert "fractions" in "\n".join(close.notes)


def test_very_small_rms_is_noted(tmp_path):
    structure = read_structure(prismatic(tmp_path, "38 0 0 0 1 0.00787\n22 1.95 1.95 1.95 1 0.0056\n"))
    assert "u_source" in "\n".join(structure.notes)


def test_prismatic_without_its_end(tmp_path):
    whole = prismatic(tmp_path, "38 0 0 0 1 0.088\n22 1.95 1.95 1.95 1 0.074\n", end="")
    assert "without the line -1" in "\n".join(read_structure(whole).notes)
    refusal(prismatic(tmp_path, "38 0 0 0 1 0.088\n22 1.95 1.95 1.", end=""), "without -1", "truncated")


# STEMsalabim


def test_example_of_stemsalabims_documentation(tmp_path):
    file = written(
        tmp_path, "a.xyz",
        "5\n1.0 2.0 10.0\nGa  0.0  0.0   0.0   1e-5\nP   0.2  0.1   0.0   2e-5\nGa  0.0  0.0   1.0   1e-5\n"
        "P   1.2  0.1   0.0   2e-5\nO   1.0  2.0  10.0   0.0\n",
    )  # fmt: skip
    structure = read_structure(file)
    assert structure.format == "stemsalabim"
    np.testing.assert_allclose(np.diag(structure.cell), [10, 20, 100])
    assert structure.symbols.tolist() == ["Ga", "P", "Ga", "P", "O"]
    assert structure.u_iso is not None
    np.testing.assert_allclose(structure.u_iso, [1e-3, 2e-3, 1e-3, 2e-3, 0])
    assert "outside the cell" in "\n".join(structure.notes)
    # Its second P lies outside the cell, on the first one. The message has the line to use both, as STEMsalabim does.
    with pytest.raises(SpecimenError, match=r"\n  accept: \[distance\]$"):
        read_specimen(file)
    specimen = read_specimen(file, accept=["distance"])
    np.testing.assert_allclose(specimen.positions[3], [2.0, 1.0, 0.0], atol=1e-9)
    assert specimen.positions[4, 2] == 100.0


def test_sixth_column_is_the_slice(tmp_path):
    structure = read_structure(written(tmp_path, "a.xyz", "2\n0.4 0.4 0.4\nAu 0 0 0 8e-5 0\nAu 0.2 0.2 0.2 8e-5 1\n"))
    assert structure.slice_id is not None
    assert structure.slice_id.tolist() == [0, 1]


@pytest.mark.parametrize("word", ["0.5", "-1", "x"])
def test_slice_that_is_no_whole_number(tmp_path, word):
    file = written(tmp_path, "a.xyz", f"2\n0.4 0.4 0.4\nAu 0 0 0 8e-5 0\nAu 0.2 0.2 0.2 8e-5 {word}\n")
    with pytest.raises(SpecimenError, match="line 4"):
        read_structure(file, "stemsalabim")


# PDB


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


# Damaged files


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
        ("a.cfg", "Number of particles = 1\nA = .\n" + H0 + "\n.NO_VELOCITY.\nentry_count = 3\n27\nAl\n0 0 0\n"),
        ("a.dump", "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n0 5\n0\n"
         "0 5\nITEM: ATOMS id\n1\n"),
    ],
)  # fmt: skip
def test_damaged_numbers_are_refused_with_a_message(tmp_path, name, text):
    refusal(written(tmp_path, name, text))
