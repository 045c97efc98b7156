"""Amorphous films: density, smallest distance, randomness, and what each configuration draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree
from stemphony.errors import SpecimenError
from stemphony.physics.phonons import generator
from stemphony.physics.random_film import FILM, film_positions, redrawn
from stemphony.specimen.specimen_file import read_specimen_file, write_specimen
from stemphony.specimen.structures import read_specimen

SRTIO3 = Path(__file__).parents[3] / "config/srtio3.cif"
AVOGADRO = 6.02214076e23
CARBON = {
    "entrance_nm": 1.0, "exit_nm": 2.0, "element": "C", "formula": None, "density_g_cm3": 2.0,
    "minimum_distance_angstrom": None, "draw": "configuration", "seed": 1,
}  # fmt: skip

KEPT = [
    [25.003818664, 26.916414029, 15.513713805],
    [27.489044304, 2.603684669, 19.240151729],
    [38.507183333, 10.336454497, 12.23184806],
]


def covered(repeat=(8, 8, 4), vacuum_angstrom=(0.0, 0.0, 0.0), origin=None, **changes):
    return read_specimen(
        SRTIO3, repeat=repeat, vacuum_angstrom=vacuum_angstrom, origin=origin, amorphous_layers={**CARBON, **changes}
    )


def test_films_have_their_density_and_thickness():
    specimen = covered()
    bare = read_specimen(SRTIO3, repeat=(8, 8, 4))
    assert specimen.cell == pytest.approx((*bare.cell[:2], bare.cell[2] + 30))
    for film, thickness in zip(specimen.films, (10.0, 20.0), strict=True):
        assert film.top - film.bottom == pytest.approx(thickness)
        atoms = specimen.positions[film.first : film.last]
        assert set(specimen.symbols[film.first : film.last]) == {"C"}
        grams = len(atoms) * 12.011 / AVOGADRO
        assert grams / (bare.cell[0] * bare.cell[1] * thickness * 1e-24) == pytest.approx(2.0, rel=2e-3)
        assert film.bottom <= atoms[:, 2].min() < atoms[:, 2].max() <= film.top
    crystal = specimen.positions[: len(bare.positions)]
    np.testing.assert_allclose(crystal, bare.positions + np.array([0, 0, 10.0]))


def test_no_two_atoms_are_nearer_than_the_smallest_distance():
    specimen = covered(minimum_distance_angstrom=1.5)
    assert {film.distance for film in specimen.films} == {1.5}
    tree = cKDTree(specimen.positions, boxsize=[*specimen.cell[:2], 0])
    film_atoms = np.flatnonzero(specimen.symbols == "C")
    nearest = tree.query(specimen.positions[film_atoms], k=2)[0][:, 1]
    assert nearest.min() >= 1.5
    assert nearest.min() < 1.6  # dense enough that the bound is reached


@pytest.mark.slow
def test_a_film_has_no_order_beyond_its_smallest_distance():
    """The pair correlation of random addition is 0 below d and 1 well beyond 2d; the mean over z is even."""
    random = np.random.default_rng(5)
    side, depth, number, distance = 60.0, 60.0, 21600, 1.4
    atoms = film_positions(random, number, (side, side), 0.0, depth, distance, np.empty((0, 3)))
    inner = atoms[(atoms[:, 2] > 8) & (atoms[:, 2] < depth - 8)]
    tree, own = cKDTree(atoms, boxsize=[side, side, 0]), cKDTree(inner, boxsize=[side, side, 0])
    edges = np.array([distance, 2.8, 3.2, 4.0, 5.0, 6.0, 7.0])
    pairs = np.diff(own.count_neighbors(tree, edges)) / len(inner)
    shells = 4 / 3 * np.pi * np.diff(edges**3) * number / (side * side * depth)
    np.testing.assert_allclose((pairs / shells)[2:], 1.0, atol=0.015)
    histogram, _ = np.histogram(atoms[:, 2], 10, (0, depth))
    assert np.abs(histogram / number * 10 - 1).max() < 0.08


def test_a_compound_keeps_its_proportions():
    specimen = covered(element=None, formula="SiO2", density_g_cm3=2.2, entrance_nm=0.0)
    film = specimen.films[0]
    symbols = specimen.symbols[film.first : film.last]
    assert 2 * (symbols == "Si").sum() == (symbols == "O").sum() > 100


def test_each_configuration_has_a_film_of_its_own_and_the_crystal_stays():
    specimen = covered()

    def drawn(configuration: int) -> np.ndarray:
        random = generator(3, configuration, None, FILM)
        return redrawn(specimen.films, specimen.positions, random)

    first, second, again = drawn(0), drawn(1), drawn(0)
    np.testing.assert_array_equal(first, again)
    film = specimen.symbols == "C"
    np.testing.assert_array_equal(first[~film], specimen.positions[~film])
    assert (np.abs(first[film] - second[film]).max(axis=1) > 0.01).all()
    tree = cKDTree(first, boxsize=[*specimen.cell[:2], 0])
    assert tree.query(first[film], k=2)[0][:, 1].min() >= specimen.films[0].distance


def test_a_film_that_is_drawn_once_stays():
    specimen = covered(draw="once")
    assert redrawn(specimen.films, specimen.positions, generator(3, 0, None, FILM)) is specimen.positions
    np.testing.assert_array_equal(specimen.positions, covered(draw="once").positions)
    assert (covered(draw="once", seed=2).positions[-1] != specimen.positions[-1]).any()


def test_vacuum_lies_behind_the_exit_film():
    specimen = read_specimen(SRTIO3, repeat=(4, 4, 2), amorphous_layers=CARBON, vacuum_angstrom=(0.0, 0.0, 5.0))
    assert specimen.cell[2] == pytest.approx(2 * 3.905 + 30 + 5)
    assert specimen.positions[:, 2].max() <= specimen.cell[2] - 5


@pytest.mark.parametrize("origin", [None, [0.3, 0.7, 0.0]])
def test_films_and_crystal_stay_beside_lateral_vacuum(origin):
    """A film over the vacuum would have less than its density: here 37 %."""
    specimen = covered(repeat=(4, 4, 2), vacuum_angstrom=(10.0, 10.0, 5.0), origin=origin)
    drawn = redrawn(specimen.films, specimen.positions, generator(3, 0, None, FILM))
    for positions in (specimen.positions, drawn):
        assert (positions[:, :2] >= 0).all()
        assert (positions[:, :2] < 4 * 3.905).all()
    film = specimen.films[0]
    assert np.ptp(drawn[film.first : film.last, 0]) > 0.95 * 4 * 3.905


def test_a_film_with_hydrogen_passes_the_check_of_distances():
    specimen = covered(repeat=(2, 2, 1), element=None, formula="H2O", density_g_cm3=1.0)
    assert specimen.films[0].distance == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("material", "density", "distance", "packing"),
    [
        ({"element": "C"}, 2.0, 1.42, 0.15),  # the bond of graphite
        ({"element": "Si"}, 2.3, 2.3, 0.31),
        ({"element": "Ge"}, 5.3, 2.4, 0.32),
        ({"element": None, "formula": "SiO2"}, 2.2, 1.6, 0.14),
        ({"element": "Au"}, 19.3, 2.4, 0.43),
    ],
)
def test_usual_materials_have_room_for_their_bond_lengths(material, density, distance, packing):
    specimen = covered(
        repeat=(6, 6, 1), entrance_nm=0.0, exit_nm=3.0, density_g_cm3=density, minimum_distance_angstrom=distance,
        **material,
    )  # fmt: skip
    film = specimen.films[0]
    atoms = specimen.positions[film.first : film.last]
    assert np.pi / 6 * distance**3 * len(atoms) / (6 * 3.905) ** 2 / 30.0 == pytest.approx(packing, abs=0.01)
    tree = cKDTree(specimen.positions, boxsize=[*specimen.cell[:2], 0])
    assert tree.query(atoms, k=2)[0][:, 1].min() >= distance
    assert film.bottom <= atoms[:, 2].min() < atoms[:, 2].max() <= film.top


def test_a_dense_film_is_even_and_has_no_order_beyond_its_neighbours():
    """Packing 0.45. Clipping would gather atoms at the faces, and crystals would have peaks at three distances."""
    side, depth, distance = 40.0, 40.0, 2.2
    number = round(0.45 / (np.pi / 6 * distance**3) * side * side * depth)
    atoms = film_positions(np.random.default_rng(5), number, (side, side), 0.0, depth, distance, np.empty((0, 3)))
    assert len(atoms) == number
    histogram, _ = np.histogram(atoms[:, 2], 10, (0, depth))
    assert np.abs(histogram / number * 10 - 1).max() < 0.1
    inner = atoms[(atoms[:, 2] > 9) & (atoms[:, 2] < depth - 9)]
    tree, own = cKDTree(atoms, boxsize=[side, side, 0]), cKDTree(inner, boxsize=[side, side, 0])
    edges = np.array([5.5, 6.5, 7.5, 8.5])
    pairs = np.diff(own.count_neighbors(tree, edges)) / len(inner)
    shells = 4 / 3 * np.pi * np.diff(edges**3) * number / (side * side * depth)
    np.testing.assert_allclose(pairs / shells, 1.0, atol=0.06)


def test_atoms_beside_a_dense_film_keep_their_places_and_their_distance():
    cell, distance = (30.0, 30.0), 2.2
    x, y = np.meshgrid(np.arange(0, 30, 2.5), np.arange(0, 30, 2.5))
    others = np.column_stack([x.ravel(), y.ravel(), np.full(x.size, 10.0)])
    number = round(0.4 / (np.pi / 6 * distance**3) * 30 * 30 * 10)
    atoms = film_positions(np.random.default_rng(2), number, cell, 0.0, 10.0, distance, others)
    assert cKDTree(others, boxsize=[*cell, 0]).query(atoms)[0].min() >= distance


@pytest.mark.parametrize("packing", [0.15, 0.28, 0.36])
def test_the_same_generator_gives_the_same_film(packing):
    number = round(packing / (np.pi / 6 * 2.0**3) * 30 * 30 * 20)
    first, again = (
        film_positions(np.random.default_rng(9), number, (30.0, 30.0), 0.0, 20.0, 2.0, np.empty((0, 3)))
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


def test_only_films_that_changed_are_computed_again():
    assert covered(repeat=(3, 3, 1)).revision == 1
    assert covered(repeat=(3, 3, 1), density_g_cm3=2.2, minimum_distance_angstrom=1.85).revision == 3


def test_films_of_random_addition_keep_their_random_numbers():
    """Earlier configurations are averaged with later ones, so a film at 0.2 must be that of an earlier version."""
    atoms = film_positions(np.random.default_rng(7), 900, (40.0, 30.0), 0.0, 20.0, 2.0, np.empty((0, 3)))
    np.testing.assert_allclose(atoms[[0, 450, 899]], KEPT, atol=1e-9)


def test_a_film_that_would_crystallise_is_refused_without_a_search():
    """(π/6)·n·d³ = 0.63 at 0.1755 atoms per Å³ and 1.9 Å; the generator is not asked."""
    with pytest.raises(ValueError, match=r"at most some \d+ of 17550 atoms have room"):
        film_positions(None, 17550, (50.0, 50.0), 0.0, 40.0, 1.9, np.empty((0, 3)))


def test_films_survive_the_specimen_file(tmp_path):
    specimen = covered(repeat=(3, 3, 2))
    write_specimen(tmp_path / "specimen.nc", specimen, {})
    assert read_specimen_file(tmp_path / "specimen.nc").films == specimen.films


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"minimum_distance_angstrom": 2.6}, ("have room", "minimum_distance_angstrom")),
        ({"element": None}, ("element", "formula")),
        ({"formula": "SiO2"}, ("one of",)),
        ({"element": "Xy"}, ("no formula",)),
        ({"element": None, "formula": ""}, ("no formula",)),
        ({"element": None, "formula": "SiC0"}, ("no formula",)),
        ({"exit_nm": 1e-5}, ("holds no atom",)),
    ],
)
def test_an_impossible_film_is_refused_with_a_proposal(changes, parts):
    with pytest.raises(SpecimenError) as caught:
        covered(repeat=(2, 2, 1), **changes)
    for part in parts:
        assert part in str(caught.value)
