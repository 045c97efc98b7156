"""How a scan continues behind its edges: periods, the margin, and their part in the digest of a job."""

from __future__ import annotations

from typing import Any

import pytest
from stemphony import provenance
from stemphony.experiment import campaign, configuration
from stemphony.experiment.scan_edges import ScanEdges, margin_in_effect, repeats_of, window_repeats
from stemphony.specimen.translations import Translations
from support.experiments import FILES, tiny
from support.specimens import A, aluminium, crystal, srtio3

CELL = (3 * A, 2 * A)
CRYSTAL = Translations(srtio3((3, 2, 2)))


def block(**keys: Any) -> dict[str, Any]:
    base = {"simulation": {"name": "x"}, "specimen": {"file": "x.cif"}}
    scan: dict[str, Any] = configuration.validate({**base, "scan": keys})["scan"]
    return scan


def repeats(lengths: tuple[float, float], found: Translations, **keys: Any) -> Any:
    return window_repeats(block(**keys), lengths, lambda: found)


def nothing() -> Any:
    raise AssertionError("the translations are searched although they do not matter")


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([0.0, 1 / 3], [0.0, 0.5], (0, 0)),
        ([0.0, 2 / 3], [0.0, 1.0], (0, 0)),
        ([0.9, 0.9 + 1 / 3], [-0.25, 0.25], (0, 0)),  # over the edge of the cell
        ([0.0, 0.3], [0.0, 0.5], (None, 0)),
        ([0.0, 1 / 3], [0.0, 0.3], (0, None)),
        ([0.0, 1 / 6], [0.0, 0.25], (None, None)),
    ],
)
def test_a_window_of_whole_periods_repeats(x, y, expected):
    assert repeats(CELL, CRYSTAL, x=x, y=y, points=[12, 12]) == expected


def test_the_whole_cell_repeats_with_any_content():
    assert window_repeats(block(points=[4, 4]), CELL, nothing) == (0, 0)
    assert window_repeats(block(x=[0.5, 1.5], points=[4, 4]), CELL, nothing) == (0, 0)
    inner = {"unit": "angstrom", "x": [0.0, 3 * A], "y": [0.0, 2 * A], "points": [4, 4]}
    assert window_repeats(block(**inner), CELL, nothing) == (0, 0)


def test_half_a_centred_cell_repeats_with_a_shift():
    """Of a face-centred cubic crystal, half a cell along x and half a cell along y is a period."""
    lengths, found = (8.1, 8.1), Translations(aluminium())
    assert repeats(lengths, found, x=[0, 0.25], y=[0, 0.5], points=[6, 12]) == (6, 0)
    assert repeats(lengths, found, x=[0, 0.5], y=[0, 0.25], points=[12, 6]) == (0, 6)
    assert repeats(lengths, found, x=[0, 0.5], y=[0, 0.5], points=[12, 12]) == (0, 0)
    # Half a cell is no whole number of 11 steps, so nothing is known at the positions of the next copy.
    assert repeats(lengths, found, x=[0, 0.25], y=[0, 0.5], points=[6, 11]) == (None, 0)


def test_a_hexagonal_layer_in_its_orthogonal_cell_repeats_with_a_shift():
    a = 2.46
    sites = [("C", (0.0, 0.0, 0.5)), ("C", (0.0, 1 / 3, 0.5)), ("C", (0.5, 0.5, 0.5)), ("C", (0.5, 5 / 6, 0.5))]
    layer = crystal((a, 3**0.5 * a, 4.0), sites)
    lengths, found = layer.cell[:2], Translations(layer)
    assert repeats(lengths, found, x=[0, 0.5], y=[0, 0.5], points=[6, 10]) == (0, 0)
    assert repeats(lengths, found, x=[0, 0.25], y=[0, 0.5], points=[3, 10]) == (5, 0)
    assert repeats(lengths, found, x=[0, 0.5], y=[0, 0.25], points=[6, 5]) == (0, 3)


def test_a_single_position_along_an_axis_does_not_repeat():
    assert repeats(CELL, CRYSTAL, points=[1, 8]) == (None, 0)


def edges(source: float, margin: float, **keys: Any) -> ScanEdges:
    return ScanEdges.of(block(**keys), CELL, source, margin, lambda: CRYSTAL)


def test_a_margin_is_added_where_the_window_does_not_repeat():
    window = {"x": [0.0, 0.5], "y": [0.0, 0.5], "points": [15, 20]}  # steps of 0.39 and 0.195 Å
    assert edges(0.1, 0.12, **window).margin == (4, 0)
    assert edges(0.1, 0.12, x=[0.0, 1 / 3], y=[0.0, 0.5], points=[5, 5]).margin == (0, 0)
    assert edges(0.0, 0.12, **window).margin == (4, 0)  # kept, although the source is a point now
    assert edges(0.1, 0.0, **window).margin == (0, 0)
    assert edges(0.1, 0.0, **window).repeats == (None, 0)


def test_nothing_is_asked_without_source_and_margin():
    made = ScanEdges.of(block(x=[0.0, 0.4]), CELL, 0.0, 0.0, nothing)
    assert made == ScanEdges()
    assert made.job_keys == {}


def test_a_single_row_or_position_gets_neighbours_on_both_sides():
    row = edges(0.1, 0.12, x=[0.5, 0.6], y=[0.0, 0.5], points=[1, 20])
    assert row.margin == (7, 0)  # 0.12 nm in steps of y, 0.195 Å
    spot = edges(0.1, 0.12, x=[0.5, 0.6], y=[0.5, 0.6], points=[1, 1])
    assert spot.margin == (3, 3)
    assert spot.spacing_angstrom == pytest.approx(0.4)
    line = edges(0.1, 0.1, line={"begin": [0.0, 0.0], "end": [0.5, 0.0], "points": 16})
    assert line.margin == (3, 3)  # steps of 0.39 Å


def test_plans_hold_the_edges():
    made = edges(0.1, 0.12, x=[0.5, 0.6], y=[0.5, 0.6], points=[1, 1])
    assert ScanEdges.of_plan({"scan_edges": made.in_plan()}) == made
    assert ScanEdges.of_plan({}) == ScanEdges()


def test_the_margin_is_that_of_the_first_run():
    reach = 0.1 * 3 / 2.354820045
    assert margin_in_effect("auto", None, True, 0.1) == pytest.approx(reach)
    assert margin_in_effect("auto", 0.05, False, 0.1) == 0.05
    assert margin_in_effect("auto", 0.05, True, 0.1) == 0.05  # simulation.json was lost, its plan was not
    assert margin_in_effect("auto", None, False, 0.1) == 0.0  # finished by a version without margins
    assert margin_in_effect(0.3, 0.05, False, 0.1) == 0.3
    assert margin_in_effect(0.0, None, True, 0.1) == 0.0


def test_the_positions_of_a_margin_decide_a_job_and_its_width_does_not():
    def digests(made: ScanEdges, **probe: float) -> tuple[str, str]:
        of = campaign.plan(tiny(scan={"x": [0.0, 0.5]}, probe=probe), FILES, edges=made)
        return provenance.digest(of.job_params("p0d000", 0)), provenance.digest(of.merge_params)

    none, some = ScanEdges((None, 0)), ScanEdges((None, 0), (4, 0), 0.12)
    assert digests(none)[0] == digests(ScanEdges())[0]
    assert digests(some)[0] != digests(none)[0]
    assert digests(some)[0] == digests(ScanEdges((None, 0), (4, 0), 0.13))[0]
    assert digests(some, source_fwhm_nm=0.3)[0] == digests(some)[0]  # a wider source computes nothing again
    assert digests(none, source_fwhm_nm=0.1)[1] != digests(ScanEdges((0, 0)), source_fwhm_nm=0.1)[1]


def test_a_whole_cell_is_merged_as_before():
    config = tiny(probe={"source_fwhm_nm": 0.1})
    with_edges = campaign.plan(config, FILES, edges=ScanEdges((0, 0), margin_nm=0.12))
    assert with_edges.merge_params == campaign.plan(config, FILES).merge_params
    assert repeats_of(with_edges.merge_params) == (0, 0)


def test_params_without_repeats_are_those_of_an_earlier_version():
    before = campaign.plan(tiny(scan={"x": [0.0, 0.5]}, probe={"source_fwhm_nm": 0.1}), FILES)
    assert repeats_of(before.merge_params) == (None, 0)


def test_a_plan_of_an_earlier_version_gives_the_same_campaign():
    config = tiny(scan={"x": [0.0, 0.5]})
    old = {block: dict(keys) for block, keys in config.items()}
    for key in ("unit", "origin", "line", "positions", "margin_nm"):
        del old["scan"][key]
    plan = {"config": old, "files": {"specimen_sha256": "5" * 64}, "num_configurations": 4}
    assert campaign.of_plan(plan).common_params == campaign.plan(config, FILES).common_params
