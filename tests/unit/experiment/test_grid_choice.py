"""Grid points in step with the lattice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stemphony.experiment.grid_choice import chosen_gpts, points_at
from stemphony.physics.grid import cheapest_size, fft_friendly_size, transform_cost
from stemphony.physics.periods import Periods


@given(least=st.integers(8, 3000), multiple=st.integers(1, 40))
def test_the_cheapest_size_is_a_multiple_and_no_other_multiple_costs_less(least, multiple):
    size = cheapest_size(least, multiple)
    assert size >= least
    assert size % multiple == 0
    others = range(multiple * -(-least // multiple), 3 * least + multiple, multiple)
    assert transform_cost(size) == min(map(transform_cost, others))


@given(least=st.integers(8, 5000))
def test_a_size_without_period_has_small_factors(least):
    size = cheapest_size(least)
    assert transform_cost(size) <= transform_cost(fft_friendly_size(least))


@pytest.mark.parametrize(
    ("length", "periods", "points"),
    [
        (6 * 2.866, Periods(6, 6, (12, 12)), 360),  # 60 points in a cell
        (31.24, Periods(8, 8, (8, 8)), 640),
        (17 * 3.0, Periods(17, 17, (17, 17)), 17 * 60),
        (20.0, Periods(), 400),
    ],
)
def test_points_are_a_multiple_of_the_periods(length, periods, points):
    nx, ny = points_at(0.05, (length, length), periods)
    assert nx == ny == points


def test_equal_columns_in_projection_count_where_they_cost_little():
    # 22 columns need the factor 11; the 2 periods of the plane do not.
    nx, _ = points_at(0.05, (18.0, 18.0), Periods(2, 2, (22, 2)))
    assert nx % 2 == 0
    assert transform_cost(nx) <= 1.1 * transform_cost(cheapest_size(360, 2))


def test_points_by_hand_are_kept_and_better_ones_named():
    notes: list[str] = []
    given = {"gpts": [348, 350], "sampling_angstrom": None}
    assert chosen_gpts(given, 17.2, 17.2, Periods(6, 6, (12, 12)), notes) == (348, 350)
    assert "348 has a prime factor above 7" in notes[0]
    assert "360 is the next good size" in notes[0]
    assert "6 × 6 periods" in notes[1]
    assert "[360, 360]" in notes[1]
