"""Every plane of atoms falls into the slice that it should, and no atom is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stemphony.physics.slicing import (
    NEAR,
    Stretch,
    edge_offset,
    equal_slices,
    joined,
    number_of_slices,
    slices_between,
    slices_of_atoms,
    wrap_positions,
)

lattice_parameters = st.floats(2.0, 12.0).map(lambda a: round(a, 4))
coordinates = st.floats(-1e4, 1e4)


def heights(cells: int, a: float, planes: int) -> list[np.ndarray]:
    """Heights as different programs arrive at them: cell by cell, by repeated addition, from fractions, rounded."""
    plane = np.arange(cells * planes)
    exact = (plane // planes) * a + (plane % planes) / planes * a
    ways = [exact, np.cumsum(np.full(len(plane), a / planes)) - a / planes, plane / len(plane) * (cells * a)]
    return [*ways, np.round(exact, 4), np.round(exact, 4) - 5e-5, exact + np.tile([-9e-5, 9e-5], len(plane))[plane]]


@given(a=lattice_parameters, cells=st.integers(1, 200), planes=st.integers(1, 8))
def test_each_plane_of_a_repeated_crystal_has_its_own_slice_however_it_was_rounded(a, cells, planes):
    length, n = cells * a, cells * planes
    for z in heights(cells, a, planes):
        slices = equal_slices(length, n, z)
        np.testing.assert_array_equal(slices.index(z), np.arange(n))
        assert len(slices) == n


@given(a=lattice_parameters, cells=st.integers(1, 200), planes=st.integers(1, 8))
def test_without_known_atoms_a_plane_on_a_boundary_belongs_to_the_slice_that_begins_there(a, cells, planes):
    length, n = cells * a, cells * planes
    for z in heights(cells, a, planes)[:3]:
        np.testing.assert_array_equal(equal_slices(length, n).index(z), np.arange(n))


@given(z=st.lists(st.floats(-1.0, 41.0), min_size=1), thickness=st.floats(0.1, 60.0), known=st.booleans())
def test_no_atom_is_ever_lost(z, thickness, known):
    slices = equal_slices(40.0, number_of_slices(40.0, thickness), z if known else ())
    index = slices.index(z)
    assert len(index) == len(z)
    assert index.min() >= 0
    assert index.max() < len(slices)


@given(z=st.lists(st.floats(0.0, 40.0), min_size=1, max_size=60), n=st.integers(1, 60))
def test_boundaries_keep_the_largest_distance_from_all_atoms(z, n):
    dz = 40.0 / n
    offset = edge_offset(z, dz)

    def distance(z0):
        phase = np.mod(np.asarray(z) - z0, dz)
        return np.minimum(phase, dz - phase).min()

    if offset is None:
        assert np.diff(np.sort(np.mod(z, dz))).max(initial=0.0) <= 0.05
    elif offset == 0:
        assert distance(0.0) > NEAR or distance(0.0) >= max(distance(-t * dz) for t in np.linspace(0, 1, 50)) - 0.02
    else:
        assert -dz < offset < 0
        assert distance(0.0) <= NEAR + 1e-9
        assert distance(offset) >= max(distance(-t * dz) for t in np.linspace(0, 1, 50)) - 0.011


def test_the_boundary_nearest_to_the_faces_is_taken_among_equally_good_ones():
    # Planes at 0 and dz/2: boundaries at dz/4 and at 3 dz/4 are equally far from all of them.
    assert edge_offset([0.0, 1.0, 2.0, 3.0], 2.0) == pytest.approx(-0.5)
    assert edge_offset([0.00004, 0.99996, 2.00005, 3.0], 2.0) == pytest.approx(-0.5, abs=1e-4)


def test_boundaries_stay_where_no_atom_is_near():
    assert edge_offset([0.5, 1.5, 2.49], 1.0) == 0.0
    assert edge_offset([], 1.0) == 0.0


def test_a_liquid_has_no_gap():
    assert edge_offset(np.linspace(0, 40, 4000), 2.0) is None


def test_every_slice_acts_at_its_face_and_the_exit_wave_is_at_the_end_of_the_cell():
    slices = equal_slices(10.0, 5, [0.0, 2.0, 4.0, 6.0, 8.0])
    assert slices.faces == (0.0, 2.0, 4.0, 6.0, 8.0)
    assert slices.thicknesses == (2.0,) * 5
    assert slices.edges == (-1.0, 1.0, 3.0, 5.0, 7.0)
    assert slices.depths == (2.0, 4.0, 6.0, 8.0, 10.0)
    assert slices.offset == -1.0
    assert slices.equal


def test_atoms_of_the_exit_surface_act_at_the_end_of_the_cell():
    # Both faces of the slab end with a plane: the last one lies at Lz.
    slices = equal_slices(4.0, 2, [0.0, 2.0, 4.0])
    assert slices.faces == (0.0, 2.0, 4.0)
    assert slices.thicknesses == (2.0, 2.0, 0.0)
    assert slices.index([0.0, 2.0, 4.0]).tolist() == [0, 1, 2]
    assert slices.depths == (2.0, 4.0, 4.0)


def test_stretches_of_slices_follow_each_other():
    film, crystal, vacuum = Stretch(0.0, 2, 1.5), Stretch(3.0, 2, 2.0, -1.0), Stretch(7.0, 1, 10.0)
    slices = joined([film, crystal, vacuum], [0.3, 2.2, 3.0, 5.0, 7.0], 17.0)
    assert slices.faces == (0.0, 1.5, 3.0, 5.0, 7.0)
    assert slices.thicknesses == (1.5, 1.5, 2.0, 2.0, 10.0)
    # The plane at 7 Å acts at 7 Å, before the wave crosses the vacuum.
    assert slices.index([0.3, 1.9, 2.2, 3.0, 5.0, 7.0]).tolist() == [0, 1, 2, 2, 3, 4]


def test_boundaries_of_the_user_make_slices_of_their_own_thickness():
    slices, moved = slices_between([0.0, 1.0, 4.0, 6.0], [0.2, 2.0, 4.0, 5.9])
    assert slices.faces == (0.0, 1.0, 4.0)
    assert slices.thicknesses == (1.0, 3.0, 2.0)
    assert slices.index([0.2, 2.0, 4.0, 5.9]).tolist() == [0, 1, 2, 2]
    assert moved == 0


def test_a_plane_that_rounding_puts_before_a_boundary_belongs_to_the_slice_behind_it():
    z = [0.0, 1.95250, 1.95255, 1.95260, 3.90509, 5.8576]
    slices, moved = slices_between([0.0, 1.95255, 3.9051, 5.85765, 7.8], z)
    assert slices.index(z).tolist() == [0, 1, 1, 1, 2, 3]
    assert moved == 3


def test_slices_that_a_file_names_act_where_their_atoms_lie():
    slices = slices_of_atoms(np.array([0, 1, 1, 2]), [0.5, 2.0, 3.0, 6.5], 9.0)
    assert slices.faces == pytest.approx((0.0, 2.0, 6.0))
    assert slices.thicknesses == pytest.approx((2.0, 4.0, 3.0))
    equal = slices_of_atoms(np.arange(4), [0.0, 2.0001, 3.9999, 6.0], 8.0)
    assert equal.thicknesses == (2.0,) * 4
    with pytest.raises(ValueError, match="slice 1 holds no atom"):
        slices_of_atoms(np.array([0, 2]), [0.0, 2.0], 8.0)
    with pytest.raises(ValueError, match=r"slice 1 .* does not lie behind slice 0"):
        slices_of_atoms(np.array([1, 0]), [0.0, 2.0], 8.0)


def test_atoms_on_both_sides_of_a_boundary_are_found():
    slices = equal_slices(10.0, 5)
    assert slices.crowded_edges([1.95, 2.05, 4.0, 5.99]) == (2.0,)
    assert slices.crowded_edges([1.0, 3.0]) == ()


@given(length=st.floats(0.5, 5000.0), thickness=st.floats(0.05, 100.0))
def test_slices_are_as_few_as_the_wanted_thickness_allows(length, thickness):
    n = number_of_slices(length, thickness)
    # One slice in a million may be saved where the division leaves a rounding error.
    assert length / n <= thickness * (1 + 1.1e-6)
    assert n == 1 or length / (n - 1) > thickness


def test_atoms_between_boundaries_belong_to_the_slice_around_them():
    assert equal_slices(10.0, 5).index([0.0, 1.9, 2.0, 3.9999, 9.99]).tolist() == [0, 0, 1, 1, 4]


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
    assert wrapped[2] == z
    periods = (np.array([x, y]) - wrapped[:2]) / cell[:2]
    # a coordinate of 1e4 Å divided by 7 Å keeps 1e-12 periods
    np.testing.assert_allclose(periods, np.round(periods), atol=1e-11)


def test_a_coordinate_just_below_zero_is_wrapped_to_zero():
    assert wrap_positions([[-1e-20, -1e-300, 0.0]], (5.0, 5.0, 5.0))[0].tolist() == [0.0, 0.0, 0.0]


@given(z=st.floats(0.0, 5.0))
def test_atoms_that_move_out_of_a_face_stay_in_its_slice(z):
    """Clipping z to the cell would give the same slices, so only the stored coordinate tells where the atom is."""
    for slices in (equal_slices(10.0, 5), equal_slices(10.0, 5, [0.0, 1.95, 2.05, 10.0])):
        assert slices.index([-z, 10.0 + z]).tolist() == slices.index([0.0, 10.0]).tolist() == [0, len(slices) - 1]


def test_a_position_that_is_not_finite_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="atom 1"):
        wrap_positions([[0, 0, 0], [np.nan, 0, 0]], (5.0, 5.0, 5.0))


def test_wrapping_does_not_change_its_argument():
    positions = np.array([[-1.0, 6.0, 5.5]])
    wrap_positions(positions, (5.0, 5.0, 5.0))
    assert positions.tolist() == [[-1.0, 6.0, 5.5]]
    assert wrap_positions(np.empty((0, 3)), (5.0, 5.0, 5.0)).shape == (0, 3)
