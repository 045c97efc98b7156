"""Sites that exclude each other, and checks of distance and density on atoms that are present together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from stemphony.errors import SpecimenError
from stemphony.physics.occupancy import present_sites
from stemphony.specimen.crystal import Crystal, formula, require_distances
from stemphony.specimen.joint_sites import with_joint_sites
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.structure import Structure
from support.specimens import srtio3


def specimen(rows: list[tuple[str, float, float, float, float]], **fields: Any) -> Specimen:
    """Sites (element, x, y, z, occupancy) in a cell of 8 Å."""
    return Specimen(
        symbols=np.array([row[0] for row in rows]),
        positions=np.array([row[1:4] for row in rows], dtype=float),
        cell=(8.0, 8.0, 8.0),
        u_iso=np.full(len(rows), 0.01),
        slice_id=None,
        format="cif",
        occupancy=np.array([row[4] for row in rows]),
        **{name: np.asarray(value) for name, value in fields.items()},
    )


def drawn(of: Specimen, number: int = 400) -> np.ndarray:
    assert of.occupancy is not None
    return np.array([present_sites(of.occupancy, of.disorder, of.disorder_group, 1, c, None) for c in range(number)])


def test_full_occupancies_are_none_at_all():
    full = with_joint_sites("f", specimen([("Si", 0, 0, 0, 1.0), ("Si", 4, 4, 4, 1.0)]))
    assert full.occupancy is None
    plain = srtio3((2, 2, 2))
    assert with_joint_sites("f", plain) is plain


def test_elements_that_share_a_position_are_drawn_jointly():
    found = drawn(with_joint_sites("f", specimen([("Ga", 0, 0, 0, 0.6), ("Al", 0, 0, 0, 0.4), ("N", 4, 4, 4, 1.0)])))
    np.testing.assert_array_equal(found[:, :2].sum(axis=1), 1)
    assert found[:, 2].all()


def test_shortest_distance_leaves_out_elements_at_one_position():
    rows = [("Ga", x, 0, 0, 0.6) for x in (0, 4)] + [("Al", x, 0, 0, 0.4) for x in (0, 4)]
    crystal = Crystal.of(with_joint_sites("f", specimen(rows)))
    assert crystal.shortest == pytest.approx(4.0)
    assert crystal.atoms == pytest.approx({"Ga": 1.2, "Al": 0.8})
    assert crystal.partial_sites == 4


def test_sites_closer_than_two_atoms_can_be_are_drawn_jointly_also_across_the_cell_face():
    found = drawn(with_joint_sites("f", specimen([("O", 0.1, 4, 4, 0.5), ("O", 7.8, 4, 4, 0.5), ("O", 4, 4, 4, 0.5)])))
    np.testing.assert_array_equal(found[:, 0], ~found[:, 1])
    assert 0.4 < (found[:, 0] == found[:, 2]).mean() < 0.6


def test_groups_of_an_assembly_exclude_each_other_however_far_apart():
    rows = [("C", 0, 0, 0, 0.3), ("C", 2, 0, 0, 0.3), ("N", 0, 4, 4, 0.7), ("N", 2, 4, 4, 0.7)]
    joint = with_joint_sites("f", specimen(rows, disorder=[5, 5, 5, 5], disorder_group=[1, 1, 2, 2]))
    found = drawn(joint)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    np.testing.assert_array_equal(found[:, 0], ~found[:, 2])
    assert found[:, 0].mean() == pytest.approx(0.3, abs=0.1)


def test_an_assembly_and_a_site_close_to_it_are_one_cluster():
    rows = [("O", 0, 0, 0, 0.3), ("O", 3, 0, 0, 0.4), ("O", 3.4, 0, 0, 0.3)]
    found = drawn(with_joint_sites("f", specimen(rows, disorder=[0, 0, -1], disorder_group=[1, 2, -1])))
    np.testing.assert_array_equal(found.sum(axis=1), 1)


def test_molecules_that_share_group_numbers_without_a_named_assembly_are_distinguished_by_occupancies():
    rows = [("C", 0, 0, 0, 0.7), ("N", 2, 0, 0, 0.3), ("C", 0, 4, 4, 0.4), ("N", 2, 4, 4, 0.6)]
    joint = with_joint_sites("f", specimen(rows, disorder=[0, 0, 0, 0], disorder_group=[1, 2, 1, 2]))
    found = drawn(joint)
    np.testing.assert_array_equal(found[:, 0], ~found[:, 1])
    np.testing.assert_array_equal(found[:, 2], ~found[:, 3])
    assert found.mean(axis=0) == pytest.approx([0.7, 0.3, 0.4, 0.6], abs=0.11)
    assert "assembly of their own" in "\n".join(joint.notes)


def test_alternatives_of_one_residue_exclude_each_other_beside_any_other_residues():
    """Three places A, B, C of one atom, and two of another one whose share of B is the same."""
    rows = [("C", 0, 0, 0, 0.5), ("C", 1, 0, 0, 0.3), ("C", 0, 1, 0, 0.2), ("N", 4, 4, 4, 0.7), ("N", 4, 4, 5, 0.3)]
    joint = with_joint_sites("f", specimen(rows, disorder=[0] * 5, disorder_group=[1, 2, 3, 1, 2]))
    found = drawn(joint)
    np.testing.assert_array_equal(found[:, :3].sum(axis=1), 1)
    np.testing.assert_array_equal(found[:, 3:].sum(axis=1), 1)
    assert found.mean(axis=0) == pytest.approx([0.5, 0.3, 0.2, 0.7, 0.3], abs=0.11)
    assert 0.1 < (found[:, 1] == found[:, 4]).mean() < 0.9
    assert "bonded to each other" in "\n".join(joint.notes)
    assert joint.revision == 3


@pytest.mark.parametrize("apart", [1.0, 3.0])
def test_two_places_of_one_atom_that_hold_more_than_one_are_refused(apart):
    rows = [("C", 0, 0, 0, 0.5), ("C", apart, 0, 0, 0.6)]
    with pytest.raises(SpecimenError, match=r"1\.1 atoms"):
        with_joint_sites("f", specimen(rows, disorder=[0, 0], disorder_group=[1, 2]))


def test_a_partial_molecule_without_alternative_is_independent_of_disordered_ones():
    rows = [("C", 0, 0, 0, 0.7), ("C", 1, 0, 0, 0.3), ("O", 4, 4, 4, 0.8), ("N", 0, 4, 0, 0.6)]
    joint = with_joint_sites("f", specimen(rows, disorder=[0] * 4, disorder_group=[1, 2, 2, 2]))
    found = drawn(joint)
    np.testing.assert_array_equal(found[:, :2].sum(axis=1), 1)
    assert 0.2 < (found[:, 2] & found[:, 0]).mean() < 0.9
    assert 0.2 < (found[:, 2] & found[:, 3]).mean() < 0.8


def test_an_assembly_that_is_too_full_by_itself_is_refused():
    rows = [("C", 0, 0, 0, 0.7), ("N", 2, 0, 0, 0.7)]
    with pytest.raises(SpecimenError, match=r"one disorder assembly.*1\.4 atoms"):
        with_joint_sites("f", specimen(rows, disorder=[0, 0], disorder_group=[1, 2]))


def test_three_sites_of_0_34_are_rounded_thirds():
    joint = with_joint_sites("f", specimen([("O", x, 0, 0, 0.34) for x in (0, 0.2, 0.4)]))
    np.testing.assert_array_equal(drawn(joint).sum(axis=1), 1)


def test_copies_of_the_cell_are_independent():
    rows = [("Ga", x, 0, 0, 0.5) for x in (0, 4)] + [("Al", x, 0, 0, 0.5) for x in (0, 4)]
    found = drawn(with_joint_sites("f", specimen(rows)))
    np.testing.assert_array_equal(found[:, 0], ~found[:, 2])
    assert 0.4 < (found[:, 0] == found[:, 1]).mean() < 0.6


def test_sum_above_one_is_refused_with_both_sites():
    with pytest.raises(SpecimenError, match=r"site 0 .*0\.7.*site 1 .*0\.500 Å.*1\.2 atoms.*at most 1"):
        with_joint_sites("f", specimen([("O", 0, 0, 0, 0.7), ("O", 0.5, 0, 0, 0.5)]))


def test_a_partial_site_on_a_full_one_is_refused():
    with pytest.raises(SpecimenError, match=r"1\.3 atoms"):
        with_joint_sites("f", specimen([("O", 0, 0, 0, 1.0), ("H", 0.3, 0, 0, 0.3)]))


def test_a_sum_above_one_by_rounding_is_scaled_with_a_note():
    joint = with_joint_sites("f", specimen([("Ga", 0, 0, 0, 0.67), ("Al", 0, 0, 0, 0.34)]))
    assert joint.occupancy is not None
    assert joint.occupancy.sum() == pytest.approx(1)
    assert joint.occupancy[0] == pytest.approx(0.67 / 1.01)
    assert "scaled to 1" in "\n".join(joint.notes)
    np.testing.assert_array_equal(drawn(joint).sum(axis=1), 1)


@pytest.mark.parametrize("value", [-0.1, 1.3, np.nan])
def test_impossible_occupancy_names_its_site(value):
    with pytest.raises(SpecimenError, match=r"site 1 \(counted from 0, O .*0 to 1"):
        with_joint_sites("f", specimen([("O", 0, 0, 0, 1.0), ("O", 4, 4, 4, value)]))


def test_occupancy_refuse_names_the_first_partial_site():
    with pytest.raises(SpecimenError, match=r"site 1 .*O.*0\.5.*1 of 2 sites.*specimen\.occupancy"):
        with_joint_sites("f", specimen([("Si", 0, 0, 0, 1.0), ("O", 4, 4, 4, 0.5)]), "refuse")


# --- distances ---------------------------------------------------------------------------------------------------


def test_atoms_that_are_never_present_together_may_be_close():
    joint = with_joint_sites("f", specimen([("O", 0, 0, 0, 0.5), ("O", 0.3, 0, 0, 0.5), ("O", 4, 4, 4, 1.0)]))
    require_distances(joint)
    assert Crystal.of(joint).shortest == pytest.approx(np.sqrt(3.7**2 + 32))


def test_atoms_of_one_group_that_are_too_close_are_refused():
    rows = [("C", 0, 0, 0, 0.3), ("C", 0.5, 0, 0, 0.3), ("N", 4, 4, 4, 0.7)]
    joint = with_joint_sites("f", specimen(rows, disorder=[0, 0, 0], disorder_group=[1, 1, 2]))
    with pytest.raises(SpecimenError, match=r"atoms 0 \(C\) and 1 \(C\).*0\.500 Å.*specimen\.accept: \[distance\]"):
        require_distances(joint)


@pytest.mark.parametrize(("apart", "refused"), [(0.69, True), (0.71, False)])
def test_full_atoms_need_a_distance_of_0_7_angstrom(apart, refused):
    two = specimen([("H", 7.9, 0, 0, 1.0), ("H", (7.9 + apart) % 8, 0, 0, 1.0)])
    if refused:
        with pytest.raises(SpecimenError, match=r"0\.690 Å apart"):
            require_distances(two)
    else:
        require_distances(two)


# --- the crystal in numbers --------------------------------------------------------------------------------------


def test_density_and_distance_of_strontium_titanate_are_the_published_ones():
    # 183.49 u in (3.905 Å)³; the crystallographic density is 5.117 g/cm³, Ti–O is half of the lattice parameter.
    for repeat in ((1, 1, 1), (2, 3, 2)):
        crystal = Crystal.of(srtio3(repeat))
        assert crystal.density == pytest.approx(5.117, abs=0.002)
        assert crystal.shortest == pytest.approx(3.905 / 2)
        assert set(crystal.pair) == {"O", "Ti"}
    assert crystal.atoms == {"Sr": 12, "Ti": 12, "O": 36}


def test_shortest_distance_of_one_atom_is_that_to_its_image():
    alone = replace(srtio3(), symbols=np.array(["Po"]), positions=np.zeros((1, 3)), u_iso=np.zeros(1))
    assert Crystal.of(alone).shortest == pytest.approx(3.905)


def test_vacuum_of_the_config_does_not_thin_the_crystal():
    filled = srtio3((2, 2, 2))
    x, y, z = filled.cell
    room = replace(filled, cell=(x + 10.0, y, z + 20.0), vacuum=(10.0, 0.0, 20.0))
    assert Crystal.of(room).density == pytest.approx(5.117, abs=0.002)


def test_empty_layers_count_for_3_angstrom_in_the_density_without_gaps():
    # Graphene in a cell of 40 Å: 2 C in 5.24 Å², so 2.54 g/cm³ at 3 Å, 0.19 g/cm³ with all of the vacuum.
    a = 2.46
    graphene = Specimen(
        symbols=np.array(["C"] * 4),
        positions=np.array([[0, 0, 20], [1, 3, 20], [0, 2, 20], [1, 5, 20]]) * [a / 2, a / 12**0.5, 1],
        cell=(a, a * 3**0.5, 40.0), u_iso=np.zeros(4), slice_id=None, format="cif",
    )  # fmt: skip
    crystal = Crystal.of(graphene)
    assert crystal.density == pytest.approx(0.190, abs=0.002)
    assert crystal.density_without_gaps == pytest.approx(2.54, abs=0.02)
    assert crystal.shortest == pytest.approx(1.420, abs=0.001)
    assert not crystal.notes()
    assert "without empty layers" in crystal.text("C2")


def test_a_cell_ten_times_too_large_is_noted_and_one_too_small_is_refused():
    big = srtio3((1, 1, 1))
    grown = replace(big, positions=10 * big.positions, cell=(39.05, 39.05, 39.05))
    (note,) = Crystal.of(grown).notes()
    assert "0.00512 g/cm³" in note
    assert "19.5 Å apart" in note
    gas = replace(
        big, symbols=np.array(["H"] * 27), positions=2.9 * np.array(list(np.ndindex(3, 3, 3)), dtype=float),
        cell=(8.7, 8.7, 8.7), u_iso=np.zeros(27), radius=np.zeros(27),
    )  # fmt: skip
    assert "0.0686 g/cm³" in "\n".join(Crystal.of(gas).notes())
    small = replace(big, positions=big.positions / 2, cell=(1.9525, 1.9525, 1.9525))
    with pytest.raises(SpecimenError, match=r"40\.9\d? g/cm³.*25.*specimen\.accept: \[density\]"):
        Crystal.of(small).require_density("f")


def test_formula_counts_occupancies_in_the_order_of_the_file():
    structure = Structure(
        np.array(["Ga", "Al", "N", "Ga", "Al", "N"]), np.zeros((6, 3)), np.eye(3),
        occupancy=np.array([0.7, 0.3, 1.0, 0.7, 0.3, 1.0]),
    )  # fmt: skip
    assert formula(structure) == "Ga1.4 Al0.6 N2"
    assert formula(Structure(np.array(["Sr", "Ti", "O", "O", "O"]), np.zeros((5, 3)), np.eye(3))) == "Sr Ti O3"
