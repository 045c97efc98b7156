from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stemphony.physics.slicing import number_of_slices, slice_indices, wrap_positions

lattice_parameters = st.floats(2.0, 12.0).map(lambda a: round(a, 4))
coordinates = st.floats(-1e4, 1e4)


@given(a=lattice_parameters, cells=st.integers(1, 200), planes=st.integers(1, 8))
def test_planes_of_a_repeated_crystal_fall_into_the_slices_that_begin_there(a, cells, planes):
    # Heights as different programs arrive at them: cell by cell, by repeated addition, and from fractions of
    # the cell.
    plane = np.arange(cells * planes)
    length = cells * a
    ways = [
        (plane // planes) * a + (plane % planes) / planes * a,
        np.cumsum(np.full(len(plane), a / planes)) - a / planes,
        plane / len(plane) * length,
    ]
    n = number_of_slices(length, a / planes)
    assert n == len(plane)
    for z in ways:
        np.testing.assert_array_equal(slice_indices(z, length, n), plane)


@given(
    z=st.lists(st.floats(-1.0, 41.0), min_size=1),
    thickness=st.floats(0.1, 60.0),
)
def test_no_atom_is_ever_lost(z, thickness):
    n = number_of_slices(40.0, thickness)
    index = slice_indices(z, 40.0, n)
    assert len(index) == len(z)
    assert index.min() >= 0
    assert index.max() < n


@given(length=st.floats(0.5, 5000.0), thickness=st.floats(0.05, 100.0))
def test_slices_are_as_few_as_the_wanted_thickness_allows(length, thickness):
    n = number_of_slices(length, thickness)
    # One slice in a million may be saved where the division leaves a rounding error.
    assert length / n <= thickness * (1 + 1.1e-6)
    assert n == 1 or length / (n - 1) > thickness


def test_atoms_between_boundaries_belong_to_the_slice_around_them():
    assert slice_indices([0.0, 1.9, 2.0, 3.9999, 9.99], 10.0, 5).tolist() == [0, 0, 1, 1, 4]


@pytest.mark.parametrize(("length", "thickness"), [(0.0, 1.0), (10.0, 0.0), (float("nan"), 1.0), (10.0, -1.0)])
def test_impossible_lengths_are_refused(length, thickness):
    with pytest.raises(ValueError, match="must be positive"):
        number_of_slices(length, thickness)


@given(x=coordinates, y=coordinates, z=st.floats(-1.0, 31.0))
def test_wrapped_atoms_are_the_same_atoms_inside_the_cell(x, y, z):
    cell = np.array([7.3, 11.0, 30.0])
    wrapped = wrap_positions([[x, y, z]], cell)[0]
    assert (wrapped[:2] >= 0).all()
    assert (wrapped[:2] < cell[:2]).all()
    assert 0 <= wrapped[2] <= 30
    periods = (np.array([x, y]) - wrapped[:2]) / cell[:2]
    # a coordinate of 1e4 Å divided by 7 Å keeps 1e-12 periods
    np.testing.assert_allclose(periods, np.round(periods), atol=1e-11)
    assert wrapped[2] == pytest.approx(min(max(z, 0.0), 30.0))


def test_a_hair_below_zero_is_zero_and_not_the_far_side():
    assert wrap_positions([[-1e-20, -1e-300, 0.0]], (5.0, 5.0, 5.0))[0].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("z", [-1.01, 31.5])
def test_an_atom_outside_along_the_beam_is_an_error_that_names_it(z):
    with pytest.raises(ValueError, match=rf"atom 2: z = {z}.*outside the cell"):
        wrap_positions([[0, 0, 0], [1, 1, -0.9], [0, 0, z]], (5.0, 5.0, 30.0))


def test_a_position_that_is_not_finite_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="atom 1"):
        wrap_positions([[0, 0, 0], [np.nan, 0, 0]], (5.0, 5.0, 5.0))


def test_wrapping_does_not_change_its_argument():
    positions = np.array([[-1.0, 6.0, 5.5]])
    wrap_positions(positions, (5.0, 5.0, 5.0))
    assert positions.tolist() == [[-1.0, 6.0, 5.5]]
    assert wrap_positions(np.empty((0, 3)), (5.0, 5.0, 5.0)).shape == (0, 3)
