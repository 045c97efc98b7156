"""Data files of LAMMPS: the corner of their box, the columns of each style, and elements by label or mass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stemphony.specimen.formats import read_structure
from stemphony.specimen.structures import read_specimen
from support.structure_files import refusal, written


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
def test_each_atom_style_has_its_columns(tmp_path, style, row):
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
def test_atom_types_get_their_elements_from_masses_or_labels(tmp_path, masses):
    assert read_structure(data(tmp_path, masses=masses)).symbols.tolist() == ["Na", "Cl"]


def test_labels_stand_for_types(tmp_path):
    labels = "Atom Type Labels\n\n1 Na\n2 Cl\n\nMasses\n\n1 22.99\n2 35.45"
    structure = read_structure(data(tmp_path, masses=labels, atoms="1 Na 0.1 0.1 0.1\n2 Cl 2.1 2.1 2.1"))
    assert structure.symbols.tolist() == ["Na", "Cl"]


def test_a_data_file_without_elements_is_refused(tmp_path):
    refusal(data(tmp_path, masses=""), "which element", "Masses")


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


def test_a_tilted_box_gives_a_skew_cell(tmp_path):
    box = "1 4 xlo xhi\n0 2.6 ylo yhi\n0 5 zlo zhi\n-1.5 0 0 xy xz yz"
    structure = read_structure(data(tmp_path, box=box, atoms="1 1 1.5 0.1 0.1\n2 2 1.6 2 2"))
    np.testing.assert_allclose(structure.cell, [[3, 0, 0], [-1.5, 2.6, 0], [0, 0, 5]])
    np.testing.assert_allclose(structure.positions[0], [0.5, 0.1, 0.1])


def test_positions_in_a_general_box_count_from_its_origin(tmp_path):
    box = "3 0 0 avec\n-1.5 2.6 0 bvec\n0 0 5 cvec\n1 0 0 abc origin"
    np.testing.assert_allclose(read_structure(data(tmp_path, box=box)).positions[0], [-0.9, 0.1, 0.1])


def test_a_truncated_data_file_is_refused(tmp_path):
    file = data(tmp_path)
    file.write_text(file.read_text().replace("2 atoms", "3 atoms"))
    refusal(file, "announces 3 atoms", "has 2", "truncated")
