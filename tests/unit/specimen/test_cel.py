"""CEL files of Dr. Probe: their units, and a missing end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from stemphony.specimen.displacements import B_PER_U
from stemphony.specimen.formats import read_structure
from support.structure_files import refusal, written

A = 3.905
"""Lattice parameter of strontium titanate [Å]."""


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


def test_a_truncated_cel_is_refused(tmp_path):
    refusal(cel(tmp_path, " Sr 0 0 0 1.0 0.0062 0 0 0\n", ""), "without `*`", "truncated")
