"""Numbers as people read them."""

from __future__ import annotations

import re

import pytest
from stemphony.monitor.database.pairs import DefocusRow, Pair
from stemphony.monitor.records import SimulationSummary
from stemphony.monitor.state import CellState
from stemphony.monitor.web.views import grid, rerun_command
from stemphony.monitor.words import nanometres, rate, time_span, time_span_range


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"), (0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1 h 30 min"), (7200, "2 h"),
        (47.9 * 3600, "47 h 54 min"), (49 * 3600, "2 d 1 h"), (72 * 3600, "3 d"),
    ],
)  # fmt: skip
def test_a_time_span_is_shown_in_its_largest_units(seconds: float, text: str):
    assert time_span(seconds) == text


@pytest.mark.parametrize(
    ("earliest", "latest", "text"),
    [
        (2400, 4920, "40 – 82 min"),
        (3000, 9000, "50 min – 2 h 30 min"),
        (61, 62, "about 60 s"),
        (20, 130, "20 s – 2 min"),
    ],
)
def test_a_range_of_times_is_shown_in_one_unit_where_possible(earliest: float, latest: float, text: str):
    assert time_span_range(earliest, latest) == text


def test_a_rate_is_shown_per_minute_hour_or_day():
    assert [rate(x) for x in (5.0, 0.5, 1 / 600, 1 / 7200)] == [
        "300 per minute",
        "30.0 per minute",
        "6.0 per hour",
        "12.0 per day",
    ]


def test_defoci_have_the_sign_of_the_field():
    assert [nanometres(x) for x in (-2.5, 0.0, -0.0001, 10.0)] == ["−2.5 nm", "0 nm", "0 nm", "10 nm"]
    assert nanometres(None, 3) == "defocus 3"


def test_the_command_of_a_pair_computes_it_alone():
    pair = Pair("m2d500", -2.5, 7, CellState.FAILED, 0.1, 1, 1, "defocus_m2d500_configuration_0007", "", 0.0, 0.0)
    assert rerun_command("a_b-1", pair) == "stemphony rerun results/a_b-1 --defocus -2.5 --configuration 7"
    assert rerun_command("", pair) == "stemphony rerun results/NAME --defocus -2.5 --configuration 7"
    assert rerun_command("a", failed=True) == "stemphony rerun results/a --failed"
    assert rerun_command("a") == "stemphony rerun results/a"


def test_the_grid_has_a_row_for_each_defocus_and_one_for_each_that_has_not_started():
    simulation = SimulationSummary(1, "x", num_defoci=3, num_configurations=4)
    drawn = grid(simulation, [DefocusRow("p5d000", 5.0, 1)], [("p5d000", 2, "r", 42, 1), ("p5d000", 3, "f", 100, 2)])
    assert drawn.html.count('role="row"') == 3
    assert drawn.html.count('role="gridcell"') == 12
    assert drawn.html.count("not started") == 2
    assert '<i role="gridcell" class="r">42</i><i role="gridcell" class="f again">✓</i>' in drawn.html
    assert drawn.html.count('tabindex="0"') == 1


@pytest.mark.parametrize(
    ("columns", "numbers"),
    [
        (4, ["0", "1", "2", "3"]),
        (80, [str(number) for number in range(0, 80, 5)]),
        (200, [str(number) for number in range(0, 200, 10)]),
        (1001, []),
    ],
)
def test_numbers_of_configurations_are_above_the_columns(columns: int, numbers: list[str]):
    """Each number is in the line's cell of its column, so it stays above the column where the line wraps."""
    drawn = grid(SimulationSummary(1, "x", num_defoci=2, num_configurations=columns), [], [])
    above = drawn.html.partition('<div role="row"')[0]
    cells = re.findall("<u>(.*?)</u>", above)
    assert len(cells) == (columns if numbers else 0)
    assert {index: text for index, text in enumerate(cells) if text} == {int(number): number for number in numbers}


def test_a_grid_without_columns_has_no_numbers():
    assert grid(SimulationSummary(1, "x", num_defoci=2, num_configurations=0), [], []).html == ""


def test_a_grid_too_large_to_look_at_is_cut():
    simulation = SimulationSummary(1, "x", num_defoci=1000, num_configurations=1000)
    drawn = grid(simulation, [], [])
    assert drawn.html.count('role="gridcell"') == 12_000
    assert drawn.left_out == 988_000
