"""Lines and notes of the plan on diffraction patterns."""

from __future__ import annotations

from typing import Any

import pytest
from stemphony.errors import ConfigError
from stemphony.orchestration.pattern_plan import pattern_hints, pattern_rows
from support.experiments import experiment, planned, tiny

NATIVE_MRAD = 3.21
"""λ over 7.81 Å at 200 keV."""


def hints(**cbed: Any) -> str:
    block = {"enabled": True, "max_mrad": 30.0, **cbed}
    return " ".join(pattern_hints(planned(cbed=block), experiment(cbed=block)))


def test_positions_and_depths_of_patterns_are_named():
    cbed = {"enabled": True, "scan": {"points": [2, 3]}, "depths": {"at_angstrom": [1.96, 7.8]}}
    rows = dict(pattern_rows(experiment(cbed=cbed)))
    assert rows["scan of patterns"].startswith("2 × 3 positions, 3.905 × 2.603 Å apart")
    assert rows["depths of patterns"] == "0.1952, 0.781 nm"
    listed = experiment(cbed={"enabled": True, "scan": {"positions": [[0, 0]]}})
    assert "1 listed positions" in dict(pattern_rows(listed))["scan of patterns"]
    assert pattern_rows(experiment(cbed={"enabled": True})) == []


def test_pixels_finer_than_the_cell_resolves_are_named():
    assert "finer than what the cell resolves, 3.21 × 3.21 mrad" in hints(pixel_mrad=0.99 * NATIVE_MRAD)
    assert "finer" in hints(size=[99, 99])
    assert hints(pixel_mrad=1.01 * NATIVE_MRAD) == hints() == ""


def test_an_even_size_without_a_pixel_and_keys_without_effect_are_named():
    assert "cbed.size: [4, 5] has an even number" in hints(size=[4, 5])
    assert hints(size=[4, 5], pixel_mrad=6.0, max_mrad=None) == ""
    off = {"enabled": False, "pixel_mrad": 1.0}
    assert pattern_hints(planned(cbed=off), experiment(cbed=off)) == [
        "cbed.pixel_mrad: no effect while cbed.enabled is false."
    ]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"cbed": {"max_mrad": 20.0, "size": [5, 5], "pixel_mrad": 1.0}}, "`cbed.max_mrad`: given together"),
        ({"cbed": {"scan": {"x": [0.5, 0.5], "points": [1, 1]}}}, r"`cbed.scan.x`: got \[0.5, 0.5\]"),
        ({"cbed": {"scan": {"unit": "nm"}}}, "`cbed.scan.points`: give one of"),
        ({"cbed": {"scan": {"positions": [[0, 0]], "points": [1, 1]}}}, "`cbed.scan.positions`: given together with"),
        ({"cbed": {"scan": {"points": [1, 1]}}, "adf": {"enabled": False}}, "`cbed.scan`: given while adf.enabled"),
        ({"cbed": {"depths": {"every_angstrom": 1.0, "at_angstrom": [1.0]}}}, "`cbed.depths.every_angstrom`: given"),
    ],
    ids=str,
)
def test_contradictions_are_refused(blocks, message):
    with pytest.raises(ConfigError, match=message):
        tiny(**{**blocks, "cbed": {"enabled": True, **blocks["cbed"]}})


@pytest.mark.parametrize(
    ("cbed", "message"),
    [
        ({"depths": {"at_angstrom": [20.0]}}, "`cbed.depths.at_angstrom`: got 20 Å"),
        ({"scan": {"positions": [[3.0, 0.0]]}}, "`cbed.scan.positions`: x = 23.43 Å lies far outside"),
        ({"scan": {"step_angstrom": 1.1}}, r"`cbed.scan.step_angstrom`: got 1.1 Å; .*, or cbed.scan.points, or"),
        ({"size": [64, 64], "pixel_mrad": 3.0}, "`cbed.size`: got 96 mrad; this grid carries scattering only to"),
    ],
    ids=str,
)
def test_patterns_that_cell_or_grid_cannot_hold_are_refused_by_their_own_key(cbed, message):
    with pytest.raises(ConfigError, match=message):
        experiment(cbed={"enabled": True, **cbed})
