"""Dumps of LAMMPS: the corner of their box, their columns and their frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stemphony.specimen.formats import read_frames, read_structure
from support.structure_files import refusal, written


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


def test_a_tilted_box_of_either_sign_gives_its_cell_from_the_bounds(tmp_path):
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


def test_a_truncated_dump_is_refused(tmp_path):
    file = dump(tmp_path, "id element x y z", "1 Au 0 1 12\n2 Au 2 1 12")
    file.write_text(file.read_text().replace("ATOMS\n2\n", "ATOMS\n3\n"))
    refusal(file, "announces 3 atoms", "truncated")
