"""XTL files, of muSTEM and of crystallographic programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stemphony.specimen.displacements import B_PER_U
from stemphony.specimen.formats import read_structure
from support.structure_files import refusal, written

A = 3.905
"""Lattice parameter of strontium titanate [Å]."""


def xtl(folder: Path, energy: str = "200\n", occupancy: float = 1.0, tail: str = "") -> Path:
    return written(
        folder, "a.xtl",
        f"STO\n{A} {A} {A} 90 90 90\n{energy}3\nSr\n1 38.0 {occupancy} 0.00787\n0 0 0\nO\n3 8 1.0 0.0093\n.5 .5 0\n"
        ".5 0 .5\n"
        f"0 .5 .5\nTi\n1 22 1.0 0.0056\n.5 .5 .5\n{tail}",
    )  # fmt: skip


@pytest.mark.parametrize("energy", ["200\n", "300.0\n", ""])
def test_mustem_is_read_with_and_without_its_energy(tmp_path, energy):
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


@pytest.mark.parametrize("axes", ["1 1 0\n0 0 1\n1 -1 0\n", "-1 0 0\n0 1 0\n0 0 1\n"], ids=["turned", "mirrored"])
def test_orientation_that_turns_or_mirrors_the_crystal_is_refused(tmp_path, axes):
    refusal(xtl(tmp_path, tail=f"Orientation\n{axes}"), "Orientation", "zone_axis")


def test_a_truncated_mustem_file_is_refused(tmp_path):
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
