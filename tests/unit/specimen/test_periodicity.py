"""Periods and heights of specimens as they are built: repeated, doped, covered, displaced, with snapshots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.structures import read_specimen
from support.specimens import U_ISO, A, srtio3, write_xyz


@pytest.fixture
def built(tmp_path):
    def build(cells: tuple[int, int, int] = (1, 1, 1), **settings: Any) -> Specimen:
        file = write_xyz(Path(tmp_path, "crystal.xyz"), srtio3(cells))
        return read_specimen(file, u_iso_angstrom2={**U_ISO, "La": 0.01, "C": 0.01}, **settings)

    return build


@pytest.mark.parametrize(("cells", "repeat"), [((1, 1, 1), (4, 3, 6)), ((4, 3, 6), (1, 1, 1)), ((2, 3, 2), (2, 1, 3))])
def test_periods_are_the_same_however_the_crystal_is_repeated(built, cells, repeat):
    periods = built(cells, repeat=repeat).layers.periods
    assert (periods.x, periods.y) == (4, 3)
    assert periods.length == pytest.approx(6 * A)
    assert periods.lattice == pytest.approx(A)


def test_dopants_keep_the_periods_of_their_crystal(built):
    doped = built(
        repeat=[3, 3, 4], substitutions=[{"element": "Sr", "by": "La", "fraction": 0.3, "draw": "once", "seed": 1}]
    )
    assert "La" in doped.symbols
    assert doped.layers.periods == built(repeat=[3, 3, 4]).layers.periods


def test_the_crystal_begins_behind_its_film(built):
    film = {
        "entrance_nm": 1.0, "exit_nm": 0.5, "element": "C", "density_g_cm3": 2.0, "seed": 1, "draw": "once",
        "formula": None, "minimum_distance_angstrom": None,
    }  # fmt: skip
    periods = built(repeat=[3, 3, 4], amorphous_layers=film).layers.periods
    assert (periods.begin, periods.length) == pytest.approx((10.0, 4 * A))


def test_vacuum_is_no_part_of_the_crystal(built):
    periods = built(repeat=[3, 2, 4], vacuum_angstrom=[5.0, 0.0, 20.0]).layers.periods
    assert (periods.x, periods.y) == (1, 2)
    assert (periods.begin, periods.length) == pytest.approx((0.0, 4 * A))


def test_layers_of_displaced_atoms_are_found(built):
    crystal = srtio3((4, 4, 8))
    moved = crystal.positions + np.random.default_rng(1).normal(0, 0.08, crystal.positions.shape)
    periods = replace(crystal, positions=moved).layers.periods
    assert periods.spacing == pytest.approx(A)
    assert (periods.x, periods.y) == (1, 1)


def test_undisplaced_heights_of_snapshots_are_their_mean():
    crystal = srtio3((4, 4, 8), frames=12)
    first = replace(crystal, positions=crystal.frames[0])
    for specimen in (crystal, first):
        np.testing.assert_allclose(specimen.layers.heights, crystal.positions[:, 2], atol=0.15)
        assert specimen.layers.periods.spacing == pytest.approx(A)


def test_the_height_of_an_atom_that_crosses_the_face_counts_from_its_rest_position():
    crystal = srtio3((1, 1, 2), frames=4)
    frames = crystal.frames.copy()
    frames[1, :, 2] = np.mod(frames[1, :, 2], crystal.cell[2])
    wrapped = replace(crystal, frames=frames)
    np.testing.assert_allclose(wrapped.mean_positions, crystal.mean_positions, atol=1e-12)
