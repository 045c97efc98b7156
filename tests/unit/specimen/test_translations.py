"""Translations along x and y under which a specimen repeats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stemphony.physics.random_film import Film
from stemphony.specimen.translations import Translations
from support.specimens import A, aluminium, crystal, srtio3


def test_whole_cells_are_periods_and_parts_of_them_are_not():
    found = Translations(srtio3((3, 2, 2)))
    assert found.repeat(A, 0.0)
    assert found.repeat(2 * A, A)
    assert found.repeat(3 * A, 0.0)  # the whole specimen
    assert not found.repeat(A / 2, 0.0)
    assert not found.repeat(A / 2, A / 2)
    assert not found.repeat(A + 0.05, 0.0)
    assert found.repeat(A + 0.005, 0.0)  # the rounding of a file


def test_a_translation_must_leave_the_depth_of_atoms_alone():
    found = Translations(aluminium())
    assert found.repeat(4.05 / 2, 4.05 / 2)
    assert not found.repeat(4.05 / 2, 0.0)  # a translation of the crystal only together with half a cell along z


@pytest.mark.parametrize("x", [0.2, 3.9, 7.7])
def test_coordinates_at_the_edge_of_the_cell_are_periodic(x):
    specimen = srtio3((2, 2, 1))
    assert Translations(replace(specimen, positions=specimen.positions + np.array([x, -x, 0.0]))).repeat(A, 0.0)


@pytest.mark.parametrize("change", ["element", "place", "u", "occupancy", "tensor"])
def test_one_different_atom_is_enough(change):
    specimen = srtio3((3, 3, 2))
    number = len(specimen.symbols)
    symbols, positions, u = specimen.symbols.copy(), specimen.positions.copy(), specimen.u_iso.copy()
    occupancy, tensor = np.ones(number), np.tile(0.01 * np.eye(3), (number, 1, 1))
    assert Translations(replace(specimen, occupancy=occupancy, u_aniso=tensor)).repeat(A, 0.0)
    symbols[5] = "Ca" if change == "element" else symbols[5]
    positions[5, 2] += 0.1 if change == "place" else 0.0
    u[5] += 0.002 if change == "u" else 0.0
    occupancy[5] = 0.9 if change == "occupancy" else 1.0
    tensor[5, 0, 1] = 0.002 if change == "tensor" else 0.0
    other = replace(specimen, symbols=symbols, positions=positions, u_iso=u, occupancy=occupancy, u_aniso=tensor)
    assert not Translations(other).repeat(A, 0.0)


def test_sites_of_two_elements_at_one_place_are_compared_one_by_one():
    specimen = crystal((4.0, 4.0, 4.0), [("Ga", (0, 0, 0)), ("Al", (0, 0, 0)), ("As", (0.5, 0.5, 0.5))])
    occupancy = np.select([specimen.symbols == "Ga", specimen.symbols == "Al"], [0.7, 0.3], 1.0)
    assert Translations(replace(specimen, occupancy=occupancy)).repeat(4.0, 0.0)
    assert not Translations(replace(specimen, occupancy=occupancy)).repeat(2.0, 2.0)


def test_amorphous_films_do_not_repeat():
    film = Film(0.0, 5.0, 0, 3, 1.0, True, 7.81, 7.81)
    assert not Translations(replace(srtio3((2, 2, 2)), films=(film,))).repeat(A, 0.0)


def test_mean_positions_of_snapshots_decide():
    specimen = srtio3((2, 2, 2))
    moves = np.random.default_rng(3).normal(0, 0.08, (400, *specimen.positions.shape))
    frames = specimen.positions + moves
    frames[:, :, 0] %= specimen.cell[0]  # atoms at x = 0 are on either side of the cell
    assert Translations(specimen, frames).repeat(A, 0.0)
    assert not Translations(specimen, frames[:2]).repeat(A, 0.0)  # too few frames to see the mean


def test_shifts_of_a_centred_cell_are_among_the_candidates():
    found = Translations(aluminium())
    shifts = [shift for shift in found.along(0, 4.05 / 2) if found.repeat(4.05 / 2, shift)]
    assert sorted(round(shift / 4.05, 6) for shift in shifts) == [0.5, 1.5]
    assert Translations(srtio3((2, 2, 2))).along(0, A / 2) == []
