"""Sites that hold an atom: probabilities, exclusion, vacancies, and dependence on the seed alone."""

from __future__ import annotations

import numpy as np
import pytest
from stemphony.physics.occupancy import present_sites
from stemphony.physics.phonons import displacements

DRAWS = 4000


def draws(occupancy, cluster=None, alternative=None, number=DRAWS, seed=5, defocus_pm=None):
    values = np.asarray(occupancy, dtype=float)
    groups = [None if one is None else np.asarray(one) for one in (cluster, alternative)]
    return np.array([present_sites(values, *groups, seed, c, defocus_pm) for c in range(number)])


def scatter(occupancy, number):
    """Standard deviation of the mean of `number` draws."""
    p = np.asarray(occupancy)
    return np.sqrt(p * (1 - p) / number)


@pytest.mark.slow
def test_mean_of_many_configurations_is_the_occupancy():
    p = np.array([0.0, 0.1, 0.5, 0.85, 1.0])
    found = draws(p).mean(axis=0)
    assert (np.abs(found - p) <= 4.5 * scatter(p, DRAWS)).all()
    assert found[0] == 0
    assert found[-1] == 1


def test_number_of_atoms_of_one_configuration_converges_to_the_occupancy():
    # ⟨N⟩ of one large configuration: N independent sites scatter by √(N p (1 − p)).
    p = np.full(200_000, 0.3)
    found = present_sites(p, None, None, 1, 0, None).sum()
    assert abs(found - 60_000) < 4.5 * np.sqrt(200_000 * 0.3 * 0.7)


def test_sites_that_exclude_each_other_are_never_both_present():
    found = draws([0.3, 0.5, 0.4], [7, 7, -1])
    assert not (found[:, 0] & found[:, 1]).any()
    assert (np.abs(found.mean(axis=0) - [0.3, 0.5, 0.4]) < 4.5 * scatter([0.3, 0.5, 0.4], DRAWS)).all()
    vacant = ~found[:, :2].any(axis=1)
    assert vacant.mean() == pytest.approx(0.2, abs=4.5 * scatter(0.2, DRAWS))


@pytest.mark.slow
def test_a_site_shared_by_two_elements_that_fill_it_is_never_vacant():
    found = draws([0.35, 0.65], [0, 0])
    np.testing.assert_array_equal(found.sum(axis=1), 1)


@pytest.mark.slow
def test_sites_of_one_alternative_come_and_go_together():
    found = draws([0.4, 0.4, 0.6, 0.6], [0, 0, 0, 0], [1, 1, 2, 2])
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    np.testing.assert_array_equal(found[:, 2], found[:, 3])
    np.testing.assert_array_equal(found[:, 0], ~found[:, 2])


@pytest.mark.slow
def test_unequal_occupancies_within_one_alternative_keep_their_means():
    found = draws([0.5, 0.25, 0.5], [0, 0, 0], [1, 1, 2])
    p = np.array([0.5, 0.25, 0.5])
    assert (np.abs(found.mean(axis=0) - p) < 4.5 * scatter(p, DRAWS)).all()
    assert not (found[:, 1] & ~found[:, 0]).any()


@pytest.mark.slow
def test_clusters_are_independent_of_each_other():
    found = draws(np.full(40, 0.5), np.repeat(np.arange(20), 2))[:, ::2].astype(float)
    correlation = np.corrcoef(found.T) - np.eye(20)
    assert np.abs(correlation).max() < 5 / np.sqrt(DRAWS)


def test_occupancies_do_not_follow_the_displacements():
    # Both are drawn from the same seed; the streams must not be the same numbers.
    p = np.full(20_000, 0.5)
    present = present_sites(p, None, None, 1, 0, None)
    moves = displacements(np.full(20_000, 0.01), 1, 0, None, True)
    for along in moves.T:
        assert abs(np.corrcoef(along, present)[0, 1]) < 5 / np.sqrt(20_000)


def test_configurations_do_not_depend_on_the_order_or_number_they_are_drawn_in():
    p = np.full(50, 0.5)
    forwards = [present_sites(p, None, None, 3, c, None) for c in range(4)]
    backwards = [present_sites(p, None, None, 3, c, None) for c in reversed(range(4))][::-1]
    np.testing.assert_array_equal(forwards, backwards)


def test_every_seed_configuration_and_defocus_draws_its_own():
    p = np.full(200, 0.5)
    found = {
        present_sites(p, None, None, seed, configuration, defocus).tobytes()
        for seed in (0, 1, 2**32)
        for configuration in (0, 1, 2)
        for defocus in (None, 0, 1, -1, 2500)
    }
    assert len(found) == 3 * 3 * 5


def test_numbers_of_clusters_and_alternatives_are_only_names():
    p = np.array([0.3, 0.7, 0.5, 0.2, 0.6])
    one = draws(p, [0, 0, -1, 1, 1], [0, 1, -1, 0, 1], 50)
    other = draws(p, [90, 90, -1, 3, 3], [4, 8, -1, 2, 7], 50)
    np.testing.assert_array_equal(one, other)


def test_draws_are_those_of_earlier_runs():
    # Seeds in published results must keep their meaning; these were drawn with the first version.
    found = present_sites(np.full(12, 0.5), None, None, 12, 3, None)
    assert "".join("01"[int(one)] for one in found) == "001010011010"
    found = present_sites(np.full(12, 0.5), None, None, 12, 3, -2500)
    assert "".join("01"[int(one)] for one in found) == "100011110001"


@pytest.mark.parametrize(
    ("occupancy", "cluster", "message"),
    [([1.2], [-1], "between 0 and 1"), ([np.nan], [-1], "between 0 and 1"), ([0.7, 0.5], [0, 0], "more than 1")],
)
def test_impossible_occupancies_are_refused(occupancy, cluster, message):
    with pytest.raises(ValueError, match=message):
        present_sites(np.array(occupancy), np.array(cluster), None, 1, 0, None)


def test_bragg_amplitude_of_a_mixed_site_converges_to_its_mean_scattering_factor():
    # F(g) = Σ f exp(2πi g·r): in the mean Σ occ f exp(−2π² g² U) exp(2πi g·r), to which the occupancies of neighbours
    # add nothing. 4 × 4 cells of 5 Å: A at the corner fills 0.6 and B 0.3 of one site, C half of another.
    cells = np.array(list(np.ndindex(4, 4, 4)), dtype=float)
    sites = np.array([[0, 0, 0], [0, 0, 0], [0.5, 0.5, 0.25]])
    positions = ((cells[:, None, :] + sites) * 5).reshape(-1, 3)
    occupancy, factors = np.tile([0.6, 0.3, 0.5], len(cells)), np.tile([10.0, 4.0, 7.0], len(cells))
    cluster = np.repeat(2 * np.arange(len(cells)), 3)
    cluster[2::3] += 1
    g, u = np.array([0.2, 0.4, 0.2]), 0.02
    phase, amplitudes = np.exp(2j * np.pi * positions @ g), []
    expected = np.exp(-2 * np.pi**2 * u * (g @ g)) * (occupancy * factors) @ phase
    for configuration in range(600):
        there = present_sites(occupancy, cluster, None, 9, configuration, None)
        moved = positions + displacements(np.full(len(positions), u), 9, configuration, None, True)
        amplitudes.append((factors * there) @ np.exp(2j * np.pi * moved @ g))
    found = np.array(amplitudes)
    error = np.std(found) / np.sqrt(len(found))
    assert abs(found.mean() - expected) < 4 * error
    assert error < 0.005 * abs(expected)
