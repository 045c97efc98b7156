"""Probe positions of windows, lines and lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stemphony.errors import ConfigError
from stemphony.experiment import configuration
from stemphony.experiment.scan import LINE, LIST, Scan, bounds

CELL = (10.0, 20.0)
BASE: dict[str, Any] = {"simulation": {"name": "x"}, "specimen": {"file": "x.cif"}}


def block(source: float = 0.0, **keys: Any) -> dict[str, Any]:
    made: dict[str, Any] = configuration.validate({**BASE, "probe": {"source_fwhm_nm": source}, "scan": keys})["scan"]
    return made


def scan(**keys: Any) -> Scan:
    return Scan.of(block(**keys), CELL)


def test_a_window_may_cross_the_edge_of_the_cell():
    assert scan(x=[0.9, 1.1], y=[-0.1, 0.1], points=[4, 2]).along == (
        pytest.approx((9.0, 9.5, 10.0, 10.5)),
        pytest.approx((-2.0, 0.0)),
    )


@pytest.mark.parametrize(("unit", "scale"), [("angstrom", 1.0), ("nm", 10.0)])
def test_lengths_count_from_the_origin(unit, scale):
    keys: dict[str, Any] = {"x": [0.0, 4.0 / scale], "y": [1.0 / scale, 3.0 / scale], "points": [4, 2]}
    made = scan(unit=unit, origin=[2.0 / scale, -1.0 / scale], **keys)
    assert made.along == (pytest.approx((2.0, 3.0, 4.0, 5.0)), pytest.approx((0.0, 1.0)))
    stepped = {**keys, "points": None, "step_angstrom": 0.5}
    assert scan(unit=unit, **stepped).shape == (8, 4)


def test_an_origin_in_fractions_moves_a_window():
    made = scan(origin=[0.5, 0.25], x=[0.0, 0.2], y=[0.0, 0.2], points=[2, 2])
    assert made.along == (pytest.approx((5.0, 6.0)), pytest.approx((5.0, 7.0)))


def test_a_line_holds_both_ends_and_equal_steps():
    made = scan(unit="angstrom", line={"begin": [1.0, 2.0], "end": [4.0, 6.0], "points": 6})
    assert (made.kind, made.shape) == (LINE, (6, 1))
    assert np.array(made.places) == pytest.approx(np.linspace([1.0, 2.0], [4.0, 6.0], 6))
    assert made.along == (pytest.approx(range(6)), (0.0,))


def test_the_margin_of_a_line_lies_on_all_sides():
    keys = block(unit="angstrom", line={"begin": [1.0, 2.0], "end": [4.0, 6.0], "points": 6})
    made = Scan.of({**keys, "margin_positions": [1, 2]}, CELL)
    assert (len(made.along[0]), len(made.along[1]), made.shape) == (8, 5, (6, 1))
    places = np.array(made.places).reshape(8, 5, 2)
    assert places[1:7, 2] == pytest.approx(np.linspace([1.0, 2.0], [4.0, 6.0], 6))
    assert places[0, 2] == pytest.approx([1.0 - 0.6, 2.0 - 0.8])
    assert places[1, 3] == pytest.approx([1.0 - 0.8, 2.0 + 0.6])  # to the left of the line


def test_the_margin_of_a_window_continues_its_steps():
    keys = block(x=[0.2, 0.6], y=[0.5, 0.6], points=[4, 1])
    made = Scan.of({**keys, "margin_positions": [2, 1]}, CELL)
    assert made.along[0] == pytest.approx(range(8))
    assert made.along[1] == pytest.approx((9.0, 10.0, 11.0))  # a single row has the step of the other axis
    assert made.shape == (4, 1)


def test_a_list_is_kept_in_its_order():
    made = scan(positions=[[0.5, 0.5], [0.0, 0.25]])
    assert (made.kind, made.shape, made.places) == (LIST, (2, 1), ((5.0, 10.0), (0.0, 5.0)))
    assert bounds(block(positions=[[0.5, 0.5], [0.0, 0.25]]), CELL) == ((0.0, 5.0), (5.0, 10.0))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"x": [0.0, 4.0]}, "scan.x.*wider than the cell.*scan.unit"),
        ({"x": [0.0, 2.0], "unit": "nm"}, "scan.x.*20 Å, wider"),
        ({"x": [5.0, 5.5]}, "scan.x.*far outside"),
        ({"positions": [[7.0, 0.0]]}, "scan.positions.*x = 70 Å lies far outside"),
        ({"line": {"begin": [0, 0], "end": [0, 3], "points": 3}, "unit": "nm"}, "far outside|wider"),
        ({"line": {"begin": [0, 0], "end": [0, 0], "points": 3}}, "same place"),
        ({"positions": [[0, 0]], "x": [0, 0.5]}, "together with `scan.x`"),
        ({"line": {"begin": [0, 0], "end": [0, 1], "points": 3}, "points": [3, 3]}, "together with `scan.points`"),
        ({"line": {"begin": [0, 0], "end": [0, 1], "points": 3}, "positions": [[0, 0]]}, "scan.line.*scan.positions"),
        ({"margin_nm": "wide"}, "margin_nm.*auto or a width"),
        ({"positions": [[0, 0]], "source": 0.1}, "source_fwhm_nm.*no neighbours"),
        ({"x": [0.5, 0.5]}, "must end after it begins"),
    ],
)
def test_impossible_scans_are_refused(keys, words):
    if "unit" in keys and "line" in keys:
        keys = {**keys, "line": {"begin": [0, 0], "end": [0, 5], "points": 3}}
    with pytest.raises(ConfigError, match=words):
        scan(**keys)
