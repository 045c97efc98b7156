"""XYZ files of Prismatic: units, fractions, rms displacements, and a missing end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stemphony.specimen.formats import read_structure
from support.structure_files import refusal, written

A = 3.905
"""Lattice parameter of strontium titanate [Å]."""


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
    assert np.linalg.norm(structure.positions[1] - structure.positions[0]) == pytest.approx(A * np.sqrt(3) / 2)
    close = read_structure(prismatic(tmp_path, "38 0 0 0 1 0.088\n22 0.25 0.25 0.25 1 0.074\n", "39.05 39.05 39.05"))
    assert "fractions" in "\n".join(close.notes)


def test_very_small_rms_is_noted(tmp_path):
    structure = read_structure(prismatic(tmp_path, "38 0 0 0 1 0.00787\n22 1.95 1.95 1.95 1 0.0056\n"))
    assert "u_source" in "\n".join(structure.notes)


def test_a_file_without_its_end_is_noted_if_whole_and_refused_if_truncated(tmp_path):
    whole = prismatic(tmp_path, "38 0 0 0 1 0.088\n22 1.95 1.95 1.95 1 0.074\n", end="")
    assert "without the line -1" in "\n".join(read_structure(whole).notes)
    refusal(prismatic(tmp_path, "38 0 0 0 1 0.088\n22 1.95 1.95 1.", end=""), "without -1", "truncated")
