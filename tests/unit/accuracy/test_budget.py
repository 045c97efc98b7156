"""Orders of convergence, extrapolation and recommendations of an error budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stemphony.accuracy.budget import Budget, budget_of, confirmed_order
from stemphony.accuracy.recommendation import recommend, refined
from stemphony.accuracy.refinements import TERMS

OWN = np.array([0.2, 0.05, 0.01, 0.1])
COEFFICIENTS = np.array([0.02, -0.004, 0.001, 0.006])
LENGTHS = (2.0, 1.0, 0.5)


def signal(length: float, order: float) -> np.ndarray:
    return OWN + COEFFICIENTS * length**order


@pytest.mark.parametrize("order", [1, 2, 4])
def test_a_power_law_is_confirmed_with_its_order(order: int):
    h0, h1, h2 = (signal(length, order) for length in LENGTHS)
    assert confirmed_order(h0, h1 - h0, h2 - h1, LENGTHS, 1e-5) == order


def test_unequal_ratios_of_the_lengths_are_allowed():
    lengths = (0.061, 0.0407, 0.0271)
    h0, h1, h2 = (OWN + COEFFICIENTS * (length / 0.061) ** 2 for length in lengths)
    assert confirmed_order(h0, h1 - h0, h2 - h1, lengths, 1e-5) == 2


@pytest.mark.parametrize(
    ("first", "further"),
    [
        (COEFFICIENTS, -0.5 * COEFFICIENTS),  # turns back
        (COEFFICIENTS, 1.5 * COEFFICIENTS),  # grows
        (COEFFICIENTS, 0.35 * COEFFICIENTS),  # between the orders 1 and 2
        (COEFFICIENTS, 0.5 * COEFFICIENTS[::-1]),  # other positions than before
        (1e-9 * COEFFICIENTS, 0.5e-9 * COEFFICIENTS),  # rounding
    ],
)
def test_changes_without_a_power_law_have_no_order(first: np.ndarray, further: np.ndarray):
    assert confirmed_order(OWN, first, further, LENGTHS, 1e-5) is None


def record(values: np.ndarray, **choices: Any) -> dict[str, Any]:
    basic = {
        "gpts": [64, 64], "extent_angstrom": [10.0, 10.0], "spacing_angstrom": 0.15625, "slices": 5,
        "slice_angstrom": 2.0, "band_limit_mrad": 50.0, "parametrization": "kirkland", "precision": "single",
        "algorithm": "multislice", "basis_tolerance": 0.0, "potential_oversampling": 1,
    }  # fmt: skip
    return {
        "reason": "", "places_angstrom": [[0, 0], [1, 0], [2, 0], [3, 0]], "depths_nm": [1.0],
        "detectors": {"haadf": [60.0, 90.0]}, "signals": {"haadf": [values.tolist()]},
        "choices": {**basic, **choices}, "cpu_seconds": 1.0,
    }  # fmt: skip


@pytest.fixture
def budget() -> Budget:
    """Slices of first order, a grid without an order, a cell, and a change of U."""
    reference = signal(2.0, 1)
    variants = {
        "reference": record(reference),
        "slices": record(signal(1.0, 1), slices=10, slice_angstrom=1.0),
        "slices_further": record(signal(0.5, 1), slices=20, slice_angstrom=0.5),
        "sampling": record(reference * 1.01, gpts=[96, 96], spacing_angstrom=10 / 96),
        "sampling_further": record(reference * 1.008, gpts=[144, 144], spacing_angstrom=10 / 144),
        "potential": record(reference * 1.004, potential_oversampling=2),
        "cell": record(reference * 1.002, gpts=[96, 96], extent_angstrom=[15.0, 15.0]),
        "u_more": record(reference * 1.03),
        "u_less": record(reference * 0.97),
    }
    measured = {"slices", "sampling", "potential", "cell", "u"}
    without = {term.name: "not here" for term in TERMS if term.name not in measured}
    return budget_of(variants, without, "digest", {"defocus_nm": 0.0, "positions": "by hand"})


def change(budget: Budget, term: str):
    return next(line for line in budget.lines if line.name == term).changes["haadf"][0]


def test_a_confirmed_order_extrapolates_to_the_exact_error(budget: Budget):
    found = change(budget, "slices")
    reference = signal(2.0, 1)
    assert found.order == 1
    assert found.image == pytest.approx(np.sqrt(np.mean((OWN - reference) ** 2)) / reference.mean())
    assert found.worst == pytest.approx(((OWN - reference) / reference)[found.at])
    assert found.left == pytest.approx(np.sqrt(np.mean((OWN - signal(1.0, 1)) ** 2)) / reference.mean())


def test_without_an_order_the_largest_change_stands_as_it_was_measured(budget: Budget):
    found, reference = change(budget, "sampling"), signal(2.0, 1)
    assert found.order is None
    assert found.image == pytest.approx(0.01 * np.sqrt(np.mean(reference**2)) / reference.mean())
    assert found.mean == pytest.approx(0.01)
    assert found.left == pytest.approx(0.002 * np.sqrt(np.mean(reference**2)) / reference.mean())
    assert change(budget, "cell").left is None


def test_one_standard_deviation_of_u_is_half_of_both_changes(budget: Budget):
    assert change(budget, "u").mean == pytest.approx(0.03)
    assert budget.matters_most("haadf", 0).name in ("u", "slices")
    assert {line.name for line in budget.numerical} == {"slices", "sampling", "potential", "cell"}


def test_a_term_that_could_not_be_computed_is_left_out_with_its_reason(budget: Budget):
    variants = {"reference": record(OWN), "cell": {"variant": "cell", "reason": "no crystal"}}
    without = {term.name: "not asked" for term in TERMS if term.name != "cell"}
    assert budget_of(variants, without, "d", {}).without["cell"] == "no crystal"


def test_the_recommendation_refines_what_matters_until_the_target_is_reached(budget: Budget):
    nothing = recommend(budget, 0.9)
    assert nothing.levels == {}
    assert nothing.reached
    assert set(recommend(budget, 0.02).beyond) == {"u"}
    before = sum(change(budget, term).image for term in ("slices", "sampling", "potential", "cell"))
    one = recommend(budget, before - 0.6 * change(budget, "slices").image + 1e-9)
    assert one.before == pytest.approx(before)
    assert one.levels == {"slices": 1} or one.levels == {"slices": 2}
    everything = recommend(budget, 1e-6)
    assert everything.levels == {"slices": 2, "sampling": 2, "potential": 1, "cell": 1}
    assert set(everything.unmeasured) == {"slices", "sampling", "potential", "cell"}


def test_the_recommended_config_changes_the_refined_choices_only(budget: Budget):
    config = {
        "specimen": {"file": "a.cif", "repeat": [2, 2, 5]}, "grating": {"gpts": [64, 64], "bandlimit": 0.6},
        "probe": {"energy_kev": 80.0},
    }  # fmt: skip
    assert refined(config, budget, {"sampling": 1})["grating"] == {"gpts": [96, 96], "bandlimit": 0.6}
    finer = refined(config, budget, {"potential": 1})["grating"]
    assert finer == {"gpts": [64, 64], "bandlimit": 0.6, "potential_oversampling": 2}
    made = refined(config, budget, {"slices": 2, "cell": 1})
    assert made["grating"] == {"gpts": [96, 96], "bandlimit": 0.6, "slice_thickness_angstrom": 0.5}
    assert made["specimen"] == {"file": "a.cif", "repeat": [3, 3, 5]}
    assert made["probe"] == config["probe"]
    by_spacing = {"grating": {"sampling_angstrom": 0.16}, "specimen": {"file": "a.cif"}}
    assert refined(by_spacing, budget, {"sampling": 1})["grating"]["sampling_angstrom"] == pytest.approx(
        10 / 96, abs=1e-6
    )
    assert refined(by_spacing, budget, {"cell": 1})["specimen"]["repeat"] == [2, 2, 1]


def test_the_scan_of_a_larger_cell_stays_where_it_is(budget: Budget):
    scan = {"x": [0.0, 0.5], "y": [0.25, 0.5], "positions": [[0.3, 0.6]], "points": [4, 4]}
    made = refined({"scan": scan}, budget, {"cell": 1})["scan"]
    assert made["x"] == pytest.approx([0.0, 1 / 3])
    assert made["y"] == pytest.approx([1 / 6, 1 / 3])
    assert made["positions"] == [pytest.approx([0.2, 0.4])]
    assert made["points"] == [4, 4]
    assert refined({}, budget, {"cell": 1})["scan"]["x"] == pytest.approx([0.0, 2 / 3])
    in_angstrom = {"unit": "angstrom", "x": [0.0, 3.9], "y": [0.0, 3.9]}
    assert refined({"scan": in_angstrom}, budget, {"cell": 1})["scan"] == in_angstrom
    assert "scan" not in refined({}, budget, {"sampling": 1})
