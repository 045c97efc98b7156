"""Periods of planes and columns are found in crystals, slabs and liquids, however the file rounded its atoms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stemphony.physics.periods import Periods, find_periods, planes

FCC = ((0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5))
DIAMOND = (*FCC, *(tuple(u + 0.25 for u in site) for site in FCC))
PEROVSKITE = {"Sr": ((0, 0, 0),), "Ti": ((0.5, 0.5, 0.5),), "O": ((0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5))}


def crystal(
    sites: dict[str, Sequence[Sequence[float]]], lengths: Sequence[float], repeat: Sequence[int] = (1, 1, 1)
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Positions, kinds and cell of a repeated crystal."""
    cells = np.array(list(np.ndindex(*repeat)), dtype=float)
    edges = np.asarray(lengths, dtype=float)
    positions = [(cells + site) * edges for group in sites.values() for site in group]
    kinds = [kind for kind, group in sites.items() for _ in group for _ in cells]
    return np.concatenate(positions), kinds, edges * repeat


def test_periods_of_strontium_titanate_are_its_cells():
    found = find_periods(*crystal(PEROVSKITE, (3.905,) * 3, (4, 3, 26)))
    assert (found.x, found.y, found.columns) == (4, 3, (4, 3))
    assert found.spacing == pytest.approx(3.905)
    assert found.lattice == pytest.approx(3.905)
    assert not found.slab


def test_planes_of_silicon_repeat_four_times_in_a_cell_and_the_lattice_twice():
    found = find_periods(*crystal({"Si": DIAMOND}, (5.431,) * 3, (3, 3, 5)))
    assert found.spacing == pytest.approx(5.431 / 4)
    assert found.lattice == pytest.approx(5.431 / 2)
    # Face-centring: lattice vectors (a/2, a/2, 0).
    assert (found.x, found.y) == (6, 6)


def test_the_centre_of_iron_is_an_equal_column_but_no_lattice_vector_of_the_plane():
    found = find_periods(*crystal({"Fe": ((0, 0, 0), (0.5, 0.5, 0.5))}, (2.866,) * 3, (6, 2, 4)))
    assert (found.x, found.y, found.columns) == (6, 2, (12, 4))


def test_unequal_planes_of_wurtzite_repeat_by_half_a_cell():
    u = 0.376
    sites = {
        "Ga": ((0, 1 / 3, 0), (0.5, 5 / 6, 0), (0, 2 / 3, 0.5), (0.5, 1 / 6, 0.5)),
        "N": ((0, 1 / 3, u), (0.5, 5 / 6, u), (0, 2 / 3, 0.5 + u), (0.5, 1 / 6, 0.5 + u)),
    }
    found = find_periods(*crystal(sites, (3.19, 3.19 * 3**0.5, 5.189), (2, 1, 3)))
    assert found.spacing == pytest.approx(5.189 / 2)
    assert found.lattice == pytest.approx(5.189)


@given(seed=st.integers(0, 1000), digits=st.integers(4, 12), shift=st.floats(-20, 20))
@settings(max_examples=25)
def test_rounding_shift_and_order_of_atoms_change_no_period(seed, digits, shift):
    positions, kinds, cell = crystal(PEROVSKITE, (3.9051,) * 3, (2, 3, 6))
    order = np.random.default_rng(seed).permutation(len(kinds))
    moved = np.round(positions[order] + shift, digits)
    found = find_periods(moved, [kinds[i] for i in order], cell)
    assert (found.x, found.y, found.spacing, found.lattice) == pytest.approx((2, 3, 3.9051, 3.9051))


def test_one_other_atom_ends_the_lattice_but_not_its_planes():
    positions, kinds, cell = crystal(PEROVSKITE, (3.905,) * 3, (2, 2, 6))
    kinds[0] = "La"
    found = find_periods(positions, kinds, cell)
    assert found.spacing == pytest.approx(3.905 / 2)
    assert found.lattice == pytest.approx(cell[2])
    assert (found.x, found.y) == (1, 1)


@pytest.mark.parametrize(("cells", "extra"), [(6, 0.0), (6, 0.5), (1, 0.0)])
def test_a_slab_in_vacuum_ends_with_its_last_plane(cells, extra):
    positions, kinds, cell = crystal(PEROVSKITE, (3.905,) * 3, (2, 2, cells))
    low = positions[:, 2] < extra * 3.905 - 0.1
    top = positions[low] + np.array([0, 0, cells * 3.905])
    positions = np.concatenate([positions, top]) + np.array([0, 0, 9.0])
    kinds = kinds + [kind for kind, is_low in zip(kinds, low, strict=True) if is_low]
    found = find_periods(positions, kinds, cell + np.array([0, 0, 25.0]))
    assert found.slab
    assert found.begin == pytest.approx(9.0)
    assert found.length == pytest.approx(float(np.ptp(positions[:, 2])))
    if cells > 1:
        assert found.spacing == found.lattice == pytest.approx(3.905)


def test_layers_with_wide_gaps_are_no_slab():
    # Graphite: 3.35 Å from layer to layer, more than counts as vacuum at a face.
    sites = {"C": ((0, 0, 0), (0.5, 0.5, 0), (0, 1 / 3, 0), (0.5, 5 / 6, 0))}
    found = find_periods(*crystal(sites, (2.46, 2.46 * 3**0.5, 3.35), (1, 1, 8)))
    assert not found.slab
    assert found.spacing == pytest.approx(3.35)


def test_a_liquid_and_an_empty_cell_have_one_period():
    atoms = np.random.default_rng(1).random((500, 3)) * [10, 11, 40]
    for positions in (atoms, np.empty((0, 3))):
        found = find_periods(positions, ["Cu"] * len(positions), (10, 11, 40))
        assert (found.x, found.y, found.spacing, found.lattice) == (1, 1, 40, 40)


def test_one_atom_in_a_large_cell_is_a_slab_without_thickness():
    found = find_periods([[5.0, 5.0, 5.0]], ["Au"], (10, 10, 10))
    assert (found.slab, found.begin, found.length) == (True, 5.0, 0.0)


def test_a_plane_on_both_sides_of_the_cells_face_is_one_plane():
    label, height = planes(np.array([0.01, 9.99, 5.0, 5.02]), 10.0)
    assert label.tolist() == [0, 0, 1, 1]
    assert height == pytest.approx([0.0, 5.01])


def test_vacuum_beside_the_crystal_leaves_one_lateral_period():
    periods = Periods(2, 3, (2, 6), 0.0, 10.0, 2.0, 2.0).repeated((2, 2, 5))
    assert (periods.x, periods.y, periods.columns, periods.length) == (4, 6, (4, 12), 50.0)
    assert periods.without_lateral(True, False).columns == (1, 12)
