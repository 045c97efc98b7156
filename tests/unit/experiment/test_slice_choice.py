"""Slices that follow the crystal: number, thickness, boundaries and notes of the plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stemphony.errors import ConfigError
from stemphony.experiment.slice_choice import SliceChoice, auto_thickness, chosen_slices, stored_depths
from stemphony.physics.periods import Layers, Periods
from stemphony.physics.slicing import Slices, equal_slices

LAMBDA = 0.0250793  # Å, at 200 keV
A = 3.905


def choice(layers: Layers, length: float, thickness: Any = "auto", boundaries: Any = None) -> SliceChoice:
    grating = {"slice_thickness_angstrom": thickness, "slice_boundaries_angstrom": boundaries}
    return chosen_slices(grating, layers, length, LAMBDA)


def bulk(cells: int, begin: float = 0.0, rest: float = 0.0) -> tuple[Layers, float]:
    """Strontium titanate behind `begin` and before `rest` Å, and the length of its cell."""
    z = begin + np.arange(2 * cells) * A / 2
    return Layers(z, Periods(1, 1, (1, 1), begin, cells * A, A, A)), begin + cells * A + rest


@pytest.mark.parametrize(
    ("spacing", "lattice", "length", "thickness"),
    [
        (5.431 / 4, 5.431 / 2, 20 * 5.431, 5.431 / 4),  # Si [001]
        (3.905, 3.905, 13 * 3.905, 3.905 / 2),  # SrTiO3
        (2.025, 2.025, 40 * 4.05, 1.0125),  # Al [001]: one plane is thicker than 2 Å
        (3.1356, 3.1356, 12 * 3.1356, 1.5678),  # Si [111]
        (0.4958, 0.4958, 30 * 0.4958, 3 * 0.4958),  # 4 planes would not divide 30
        (0.4, 4.0, 40.0, 2.0),  # 5 planes divide the 10 of a period
        (0.9, 2.7, 27.0, 0.9),  # 2 planes do not divide the 3 of a period
        (0.3, 0.3 * 23, 0.3 * 23, 0.3 * 23 / 4),  # a prime number of thin planes
        (40.0, 40.0, 40.0, 2.0),
    ],
)
def test_automatic_slices_are_at_most_2_angstrom_and_fit_the_lattice(spacing, lattice, length, thickness):
    periods = Periods(length=length, spacing=spacing, lattice=lattice)
    assert auto_thickness(periods) == pytest.approx(thickness)
    made = choice(Layers(np.arange(0, length - 0.01, spacing), periods), length)
    assert made.slices.usual_thickness == pytest.approx(thickness)
    assert made.slices.depths[-1] == pytest.approx(length)


def test_planes_at_multiples_of_the_thickness_keep_slices_of_exactly_that_thickness():
    layers, length = bulk(13)
    slices = choice(layers, length).slices
    assert slices.thicknesses == (length / 26,) * 26
    assert slices.faces == tuple(i * (length / 26) for i in range(26))
    assert slices.index(layers.heights).tolist() == list(range(26))


def test_vacuum_behind_the_crystal_is_one_propagation_of_its_own_length():
    layers, length = bulk(4, rest=20.0)
    for thickness in ("auto", A / 2):
        slices = choice(layers, length, thickness).slices
        assert slices.thicknesses == pytest.approx((A / 2,) * 8 + (20.0,))
        assert slices.index(layers.heights).tolist() == list(range(8))


def test_a_slab_in_vacuum_has_a_plane_at_each_face():
    z = 12.0 + np.arange(9) * A / 2
    layers = Layers(z, Periods(begin=12.0, length=4 * A, spacing=A, lattice=A, slab=True))
    slices = choice(layers, 24.0 + 4 * A).slices
    assert slices.faces == pytest.approx((0.0, *z))
    assert slices.thicknesses == pytest.approx((12.0, *(A / 2,) * 8, 12.0))
    assert slices.index(z).tolist() == list(range(1, 10))


def test_one_atom_acts_where_it_lies():
    slices = choice(Layers(np.array([5.0]), Periods(begin=5.0, slab=True)), 12.0).slices
    assert slices.faces == (0.0, 5.0)
    assert slices.thicknesses == (5.0, 7.0)
    assert slices.index([5.0]).tolist() == [1]


@pytest.mark.parametrize("thickness", ["auto", 1.0])
@pytest.mark.parametrize("rough", [0.0, 0.01, 0.2])
def test_a_layer_that_moves_does_not_reach_the_vacuum_in_front_of_it(thickness, rough):
    """With `fixed_slicing: false` an atom that leaves its layer backwards would act at the entrance, 10 Å away."""
    z = 10.0 + np.linspace(0.0, rough, 20)
    slices = choice(Layers(z, Periods(begin=10.0, length=rough, slab=True)), 20.0, thickness).slices
    assert slices.faces[:2] == pytest.approx((0.0, 10.0))
    moved = np.array([9.7, 9.9, 10.0])
    assert slices.index(moved).tolist() == [1, 1, 1]


def test_films_have_slices_of_their_own_and_the_plan_says_so():
    layers, length = bulk(4, begin=10.0, rest=15.0)
    film = np.random.default_rng(1)
    z = np.concatenate([layers.heights, film.uniform(0, 9.5, 200), film.uniform(10.5 + 4 * A, length, 300)])
    made = choice(Layers(z, layers.periods), length)
    assert made.slices.thicknesses == pytest.approx((2.0,) * 5 + (A / 2,) * 8 + (15 / 8,) * 8)
    assert made.slices.index(layers.heights).tolist() == list(range(5, 13))
    assert ["amorphous film" in note for note in made.notes] == [True, True]


def test_empty_layers_at_the_faces_of_a_stacked_cell_are_joined():
    # A layer in the middle of a cell of 20 Å, stacked three times.
    z = np.array([8.4, 10.0, 11.6, 28.4, 30.0, 31.6, 48.4, 50.0, 51.6])
    slices = choice(Layers(z, Periods(length=60.0, spacing=20.0, lattice=20.0)), 60.0).slices
    assert slices.thicknesses[0] > 3
    assert slices.thicknesses[-1] > 3
    assert slices.depths[-1] == pytest.approx(60.0)
    assert len(set(slices.index(z).tolist())) == 9


def test_the_plan_says_if_there_is_no_gap_between_planes():
    made = choice(Layers(np.linspace(0, 40, 4000), Periods(length=40.0, spacing=40.0, lattice=40.0)), 40.0)
    assert made.slices.edges == made.slices.faces
    (note,) = made.notes
    assert "no gap above 0.05 Å" in note


def test_a_thickness_by_hand_is_kept_and_a_beat_named_with_its_zone():
    periods = Periods(length=20 * 5.431, spacing=5.431 / 4, lattice=5.431 / 2)
    layers = Layers(np.arange(80) * 5.431 / 4, periods)
    made = choice(layers, 20 * 5.431, 2.0)
    assert len(made.slices) == 55
    (note,) = made.notes
    assert "near 48 mrad" in note  # √(2λ/21.72 Å)
    assert "1.35775" in note
    assert choice(layers, 20 * 5.431, 1.35775).notes == ()
    assert choice(layers, 20 * 5.431, 0.68).notes == ()


def test_layers_that_a_thickness_cuts_are_named():
    z = np.arange(0.0, 42.0, 0.125)
    made = choice(Layers(z, Periods(length=42.0, spacing=42.0, lattice=42.0)), 42.0, 2.0)
    assert "on both sides of 20 of 20 boundaries" in made.notes[0]


def test_boundaries_of_the_user_are_taken_and_planes_on_them_are_noted():
    layers, length = bulk(2)
    made = choice(layers, length, boundaries=[1.0, 3.0, 5.0])
    assert made.slices.thicknesses == pytest.approx((1.0, 2.0, 2.0, length - 5))
    assert made.slices.index(layers.heights).tolist() == [0, 1, 2, 3]
    on_planes = choice(layers, length, boundaries=[0.0, 1.9526, 3.9051, 5.8576, length])
    assert on_planes.slices.index(layers.heights).tolist() == [0, 1, 2, 3]
    assert "3 boundaries" in "\n".join(on_planes.notes)


@pytest.mark.parametrize(
    ("thickness", "boundaries", "parts"),
    [
        (2.0, [3.0], "give one of the two"),
        ("auto", [3.0, 2.0], "do not ascend"),
        ("auto", [3.0, 50.0], "50 lies outside"),
        (8.0, None, "only 7.81 Å thick"),
    ],
)
def test_impossible_slices_are_refused(thickness, boundaries, parts):
    layers, length = bulk(2)
    with pytest.raises(ConfigError, match=parts):
        choice(layers, length, thickness, boundaries)


def test_slices_of_the_structure_file_are_taken_by_auto_alone():
    layers, length = bulk(2)
    named = Layers(layers.heights, layers.periods, np.array([0, 0, 1, 1]))
    made = choice(named, length)
    assert made.of_file
    assert made.slices.thicknesses == pytest.approx((A, A))
    by_hand = choice(named, length, A / 2)
    assert not by_hand.of_file
    assert "not used" in by_hand.notes[0]
    with pytest.raises(ConfigError, match="does not lie behind"):
        choice(Layers(layers.heights, layers.periods, np.array([1, 1, 0, 0])), length)


def test_the_exit_surface_is_the_last_depth():
    slices = equal_slices(4.0, 2, [0.0, 2.0, 4.0])  # a third slice acts at the exit
    assert stored_depths({"every_angstrom": None, "at_angstrom": None}, slices) == (3,)
    assert stored_depths({"every_angstrom": 2.0, "at_angstrom": None}, slices) == (1, 3)
    assert stored_depths({"every_angstrom": None, "at_angstrom": [2.1, 4.0]}, slices) == (1, 3)


def test_depths_are_nearest_to_the_ends_of_unequal_slices():
    slices = Slices((0.0, 1.0, 5.0), (1.0, 4.0, 20.0), (0.0, 1.0, 5.0))
    at = {"every_angstrom": None, "at_angstrom": [0.9, 2.9, 3.1, 24.0]}
    assert stored_depths(at, slices) == (1, 2, 3)
