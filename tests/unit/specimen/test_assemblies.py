"""Chains of sites that exclude their neighbours: two states if neighbours fill one site together, else refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stemphony.errors import SpecimenError
from stemphony.physics.occupancy import present_sites
from stemphony.specimen.joint_sites import with_joint_sites
from stemphony.specimen.specimen import Specimen


def sites(places: list[float], occupancy: list[float], **fields: Any) -> Specimen:
    """Oxygen along y, in a cell of 8 Å that is periodic along it."""
    return Specimen(
        symbols=np.array(["O"] * len(places)),
        positions=np.array([(4.0, y, 4.0) for y in places]),
        cell=(8.0, 8.0, 8.0),
        u_iso=np.full(len(places), 0.01),
        slice_id=None,
        format="cif",
        occupancy=np.array(occupancy),
        **{name: np.asarray(value) for name, value in fields.items()},
    )


def drawn(of: Specimen, number: int = 600) -> np.ndarray:
    assert of.occupancy is not None
    return np.array([present_sites(of.occupancy, of.disorder, of.disorder_group, 1, c, None) for c in range(number)])


@pytest.mark.parametrize("share", [0.5, 0.3])
def test_a_chain_has_two_states_with_the_occupancies_of_the_file(share):
    occupancy = [share, 1 - share, share, 1 - share, share]
    joint = with_joint_sites("f", sites([1.0, 1.5, 2.0, 2.5, 3.0], occupancy))
    found = drawn(joint)
    assert {tuple(row) for row in found.tolist()} == {
        (True, False, True, False, True),
        (False, True, False, True, False),
    }
    np.testing.assert_allclose(found.mean(axis=0), occupancy, atol=0.06)  # 3 standard errors of 600 draws
    assert "1 chain of sites that exclude each other" in "\n".join(joint.notes)


def test_two_chains_are_drawn_independently_of_each_other():
    joint = with_joint_sites("f", sites([1.0, 1.5, 2.0, 5.0, 5.5, 6.0], [0.5] * 6))
    assert len({tuple(row) for row in drawn(joint).tolist()}) == 4


def test_groups_of_one_assembly_exclude_each_other_at_any_distance():
    """Both ends of a molecule beside an axis: its image excludes the near end, and its other group the far one."""
    fields = {"disorder": [0, 0, 0, 1, 1, 1], "disorder_group": [0, 0, 1, 2, 2, 3]}
    places = [1.0, 2.2, 7.2, 1.5, 2.7, 6.7]
    found = drawn(with_joint_sites("f", sites(places, [0.5] * 6, **fields)))
    assert {tuple(row) for row in found.tolist()} == {
        (True, True, False, False, False, True),
        (False, False, True, True, True, False),
    }


@pytest.mark.parametrize(
    ("places", "occupancy"),
    [
        ([1.0, 1.3, 1.6], [0.5, 0.5, 0.5]),  # each excludes both others
        ([1.0, 1.5, 2.0], [0.5, 0.6, 0.5]),  # neighbours hold more than one atom
        ([1.0, 1.5, 2.0], [0.4, 0.4, 0.4]),  # neighbours may both be absent: the file does not say how often
        ([round(0.5 * i + 0.1 * (i // 3), 3) for i in range(15)], [0.5] * 15),  # an odd ring through the cell's face
    ],
)
def test_other_chains_are_refused(places, occupancy):
    with pytest.raises(SpecimenError, match="at most 1 can be present"):
        with_joint_sites("f", sites(places, occupancy))
