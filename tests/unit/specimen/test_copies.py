"""Atoms that a PDB or mmCIF file lists once and repeats by matrices."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest
from stemphony.specimen.formats import read_structure

SHIFTS = (0.0, 5.0, 10.0)  # Å along z; the first matrix is unity, and its copy is listed


def atom(number: int, element: str, alternate: str, occupancy: float, y: float) -> str:
    return (
        f"ATOM  {number:5d}  {element:<3}{alternate}ALA A   1       1.000{y:8.3f}   1.000{occupancy:6.2f} 10.00"
        f"          {element:>2}\n"
    )


def matrices() -> str:
    rows = []
    for copy, shift in enumerate(SHIFTS, start=1):
        for row in range(3):
            numbers = "".join(f"{float(row == column):10.6f}" for column in range(3))
            rows.append(f"MTRIX{row + 1} {copy:3d}{numbers}     {shift * (row == 2):10.5f}    {'1' * (copy == 1):1}\n")
    return "".join(rows)


PDB = (
    "CRYST1   20.000   20.000   20.000  90.00  90.00  90.00 P 1           1\n"
    + matrices()
    + atom(1, "C", "A", 0.6, 1.0)
    + atom(2, "C", "B", 0.4, 1.6)
    + atom(3, "N", "A", 0.6, 2.4)
    + atom(4, "N", "B", 0.4, 3.0)
    + atom(5, "O", " ", 1.0, 9.0)
    + "END\n"
)


def copied(folder: Path, kind: str) -> Path:
    file = folder / f"copies.{kind}"
    file.write_text(PDB)
    if kind == "cif":
        model = gemmi.read_pdb_string(PDB)
        model.setup_entities()
        model.make_mmcif_document().write_file(str(file))
    return file


@pytest.mark.parametrize("kind", ["pdb", "cif"])
def test_matrices_repeat_the_listed_atoms(tmp_path, kind):
    structure = read_structure(copied(tmp_path, kind))
    assert sorted(structure.symbols.tolist()) == ["C"] * 6 + ["N"] * 6 + ["O"] * 3
    oxygen = structure.positions[structure.symbols == "O"]
    np.testing.assert_allclose(oxygen, [[1, 9, 1 + shift] for shift in SHIFTS], atol=1e-9)
    assert "5 become 15" in "\n".join(structure.notes)


@pytest.mark.parametrize("kind", ["pdb", "cif"])
def test_alternate_places_of_copies_are_independent(tmp_path, kind):
    """Within one copy, the places A of all atoms are present together."""
    structure = read_structure(copied(tmp_path, kind))
    assert structure.disorder is not None
    assert structure.disorder_group is not None
    height = structure.positions[:, 2]
    alternates = structure.symbols != "O"
    numbers = [set(structure.disorder[alternates & np.isclose(height, 1 + shift)].tolist()) for shift in SHIFTS]
    assert [copy for copy in numbers if len(copy) != 1] == []
    assert len(set.union(*numbers)) == len(SHIFTS)
    first = alternates & np.isclose(height, 1.0)
    assert len(set(structure.disorder_group[first].tolist())) == 2
