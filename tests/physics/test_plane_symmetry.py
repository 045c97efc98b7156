"""Groups of operations on a grid, orbits of positions, and what operations do to vectors, patterns and aberrations."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from stemphony.physics.grid import Grid
from stemphony.physics.plane_symmetry import (
    MATRICES,
    UNITY,
    PlaneGroup,
    keeps_aberrations,
    keeps_points,
    maps_axes,
    turned_pattern,
)
from stemphony.physics.probe import Aberrations, aberration_phase
from support.arrays import differences

P4MM = PlaneGroup.of({matrix: [(0, 0)] for matrix in MATRICES}, (16, 16))


def group(lattice, *operations) -> PlaneGroup:
    shifts = {UNITY: list(lattice)}
    for matrix, shift in operations:
        shifts[matrix] = [shift]
    return PlaneGroup.of(shifts, (24, 24))


def window(nx: int, ny: int, step: float = 1.0, begin: float = 0.0) -> np.ndarray:
    return np.array(list(product(begin + step * np.arange(nx), begin + step * np.arange(ny))))


@pytest.mark.parametrize(
    ("vectors", "lattice"),
    [
        ([], ((24, 0), (0, 24))),
        ([(8, 0)], ((8, 0), (0, 24))),
        ([(12, 12)], ((12, 12), (0, 24))),
        ([(12, 12), (0, 12)], ((12, 0), (0, 12))),
        ([(-6, 4)], ((6, 4), (0, 8))),
        ([(5, 7)], ((1, 11), (0, 24))),
    ],
)
def test_translations_have_one_pair_of_generators(vectors, lattice):
    found = group(vectors)
    assert found.lattice == lattice
    area = lattice[0][0] * lattice[1][1]
    # As many points of a cell are equal as translations are in it.
    assert len(found.orbits(window(24, 24)).computed) == area


def test_orbits_of_4mm_are_those_of_the_triangle():
    found = P4MM.orbits(window(16, 16))
    assert len(found.computed) == 45
    for (x, y), first in zip(window(16, 16), found.computed[found.orbit], strict=True):
        a, b = sorted((min(x, 16 - x), min(y, 16 - y)))
        assert sorted(window(16, 16)[first]) == [a, b]


@pytest.mark.parametrize("begin", [0.0, 0.5, 1 / 3, -7.0])
def test_the_operation_of_each_position_leads_to_it_from_the_computed_one(begin):
    glide = group([(12, 0)], (((1, 0), (0, -1)), (6, 3)), (((-1, 0), (0, 1)), (0, 0)), (((-1, 0), (0, -1)), (6, 3)))
    assert len(glide.operations) == 4
    places = window(24, 30, begin=begin)
    found = glide.orbits(places)
    matrices = np.array(found.matrices)[found.operation]
    shifts = np.array([one.shift for one in glide.operations])[found.operation]
    mapped = np.einsum("nij,nj->ni", matrices, places[found.computed[found.orbit]]) + shifts
    steps = (places - mapped) @ np.linalg.inv(glide.translations)
    assert np.abs(steps - np.rint(steps)).max() < 1e-9
    # The computed position is the first one of its orbit.
    assert not differences(found.computed, [np.flatnonzero(found.orbit == n)[0] for n in range(len(found.computed))])


def test_positions_on_both_sides_of_the_face_of_the_cell_are_one():
    x = np.array([[-1e-12, 3.0], [16.0, 3.0], [16.0 - 1e-12, 19.0], [3.0, 1e-13], [0.001, 3.0]])
    assert P4MM.orbits(x).orbit.tolist() == [0, 0, 0, 0, 1]


def test_a_position_alone_is_its_orbit():
    assert group([]).orbits(np.array([[1.5, 2.5]])).computed.tolist() == [0]


def test_operations_whose_product_is_missing_are_left_out():
    quarter = ((0, -1), (1, 0))
    assert [one.matrix for one in group([], (quarter, (0, 0))).operations] == [UNITY]
    with_half = group([], (quarter, (0, 0)), (((-1, 0), (0, -1)), (0, 0)), (((0, 1), (-1, 0)), (0, 0)))
    assert len(with_half.operations) == 4
    # The square of this glide is a translation that the lattice lacks.
    assert len(group([], (((1, 0), (0, -1)), (6, 0))).operations) == 1
    assert len(group([(12, 0)], (((1, 0), (0, -1)), (6, 0))).operations) == 2


def test_a_restriction_of_a_group_is_a_group():
    assert len(P4MM.only(lambda one: not one.swaps).operations) == 4
    assert len(P4MM.only(lambda one: False).operations) == 1


def test_params_hold_the_group():
    assert PlaneGroup.of_params(P4MM.in_params()) == P4MM
    assert PlaneGroup.of_params(None) is None


@pytest.mark.parametrize("matrix", MATRICES)
def test_a_turned_pattern_has_at_the_turned_place_what_was_at_the_place(matrix):
    axis = np.arange(-3, 4)
    pattern = np.random.default_rng(1).random((2, 7, 7))
    turned = turned_pattern(pattern, matrix)
    for i, j in product(range(7), repeat=2):
        x, y = np.array(matrix) @ (axis[i], axis[j])
        assert not differences(turned[:, x + 3, y + 3], pattern[:, i, j])


@pytest.mark.parametrize("matrix", MATRICES)
def test_vectors_turn_with_the_operation_of_their_position(matrix):
    turned = np.linalg.inv(np.array(matrix)) @ (1.0, 0.25)
    found = PlaneGroup.of({m: [(0, 0)] for m in MATRICES}, (16, 16)).orbits(
        np.array([turned, np.array(matrix) @ turned]) % 16
    )
    vectors = found.turned_vectors(np.array([[[1.0, 0.25]], [[1.0, 0.25]]]))
    assert vectors[0].tolist() == [[1.0, 0.25]]
    assert vectors[1].tolist() == [(np.array(found.matrices[found.operation[1]]) @ (1.0, 0.25)).tolist()]


def test_axes_are_mapped_where_they_are_symmetric():
    odd, even, wide = np.arange(-2, 3) * 0.1, np.arange(-2, 2) * 0.1, np.arange(-3, 4) * 0.1
    mirror, swap, quarter = ((-1, 0), (0, 1)), ((0, 1), (1, 0)), ((0, -1), (1, 0))
    assert maps_axes(mirror, odd, even)
    assert not maps_axes(mirror, even, odd)
    assert maps_axes(swap, even, even)
    assert not maps_axes(swap, odd, wide)
    assert maps_axes(quarter, odd, odd)
    assert not maps_axes(quarter, even, even)


@pytest.mark.parametrize(
    "name", ["C12", "C21", "C23", "C30", "C32", "C34", "C41", "C43", "C45", "C50", "C52", "C54", "C56"]
)
@pytest.mark.parametrize("angle", [0, 15, 22.5, 30, 45, 60, 90, 120, 180, -45, 7])
def test_aberrations_comply_where_their_phase_does(name, angle):
    """Compared with the phase itself on a grid that every operation maps on itself."""
    grid = Grid((9, 9), (9.0, 9.0))
    kx, ky = np.meshgrid(np.fft.fftshift(grid.kx), np.fft.fftshift(grid.ky), indexing="ij")
    given = {name: 1e4} if name[2] == "0" else {name: 1e4, f"phi{name[1:]}": np.radians(angle)}
    phase = aberration_phase(Aberrations(**given), 0.025, np.hypot(kx, ky), np.arctan2(ky, kx))
    for matrix in MATRICES:
        is_equal = np.allclose(turned_pattern(phase, matrix), phase, atol=1e-9 * np.abs(phase).max())
        assert keeps_aberrations(matrix, given) == is_equal


def test_a_vector_is_kept_by_what_leaves_it_and_a_cone_by_what_maps_its_points():
    kept = [matrix for matrix in MATRICES if keeps_points(matrix, [(2.0, 2.0)])]
    assert kept == [UNITY, ((0, 1), (1, 0))]
    assert [matrix for matrix in MATRICES if not keeps_points(matrix, [(0.0, 0.0)])] == []
    for number, expected in ((8, 8), (4, 8), (6, 4), (3, 2), (5, 2)):
        turns = 2 * np.pi * np.arange(number) / number
        cone = list(zip(np.cos(turns), np.sin(turns), strict=True))
        assert sum(keeps_points(matrix, cone) for matrix in MATRICES) == expected
