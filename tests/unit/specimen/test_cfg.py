"""CFG files: units, columns of both layouts, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stemphony.specimen.displacements import B_PER_U
from stemphony.specimen.formats import read_structure
from support.structure_files import refusal, written

A = 3.905
"""Lattice parameter of strontium titanate [Å]."""


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
def test_a_damaged_or_strained_cfg_is_refused(tmp_path, head, count, parts):
    refusal(cfg(tmp_path, f"{head}\n.NO_VELOCITY.\nentry_count = 3", "27\nAl\n0 0 0\n.5 .5 .5", count), *parts)
