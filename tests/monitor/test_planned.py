"""What a run sends at its start: its defoci, and a description of what it simulates."""

from __future__ import annotations

import re

import pytest
from support.monitor import Story

from monitor.conftest import Inside


def rows(monitor: Inside) -> list[str]:
    return re.findall(r'<b role="rowheader">([^<]*?) <', monitor.client.get("/simulations/1").text)


def test_planned_defoci_have_rows_at_once(any_monitor: Inside):
    story = Story((5.0, -2.5, 0.0))
    any_monitor.store([story.start(planned_defoci_nm="5, -2.5, 0")])
    assert rows(any_monitor) == ["−2.5 nm", "0 nm", "5 nm"]
    any_monitor.store(story.done(0, 1))
    assert rows(any_monitor) == ["−2.5 nm", "0 nm", "5 nm"]
    pairs = any_monitor.client.get("/api/simulations/1/pairs").json["pairs"]
    assert [(pair["defocus"], pair["configuration"], pair["state"]) for pair in pairs] == [(5.0, 1, "finished")]


def test_a_defocus_that_the_next_run_does_not_plan_stays_only_if_it_was_begun(any_monitor: Inside):
    story = Story((0.0, 5.0))
    any_monitor.store([story.start(planned_defoci_nm="0, 5"), *story.done(0, 1)])
    story.run, story.defoci, story.now = 2, (7.5,), story.now + 60
    any_monitor.store([story.start(planned_defoci_nm="7.5")])
    assert rows(any_monitor) == ["0 nm", "7.5 nm"]


@pytest.mark.parametrize("text", ["", "many", "1, 2, x", "nan", "1e400", "1; 2", 7, [1.0], None])
def test_an_unreadable_list_of_defoci_costs_no_event(monitor: Inside, text: object):
    monitor.store([Story().start(planned_defoci_nm=text)])
    assert rows(monitor) == ["not started"] * 3


def test_a_run_has_no_more_planned_defoci_than_defoci(monitor: Inside):
    """Otherwise a job of a further defocus would contradict the start of the run."""
    monitor.store([Story((1.0, 2.0)).start(planned_defoci_nm="1, 2, 3, 4")])
    assert rows(monitor) == ["1 nm", "2 nm"]


def test_the_page_says_what_is_simulated(monitor: Inside):
    keys = {"specimen_formula": "Ga N", "beam_energy_kev": 200.0, "thickness_nm": "about <10>", "detectors": "haadf"}
    monitor.store([{**Story().start(), **keys, "project": "films"}])
    page = monitor.client.get("/simulations/1").text
    facts = dict(re.findall(r"<dt>([^<]*)</dt><dd[^>]*>([^<]*)</dd>", page))
    assert facts["specimen"] == "Ga N"
    assert facts["beam energy [keV]"] == "200"
    assert facts["thickness [nm]"] == "about &lt;10&gt;"
    assert facts["detectors"] == "haadf"
    assert "<span>project</span> films" in page
    assert "<span>specimen_formula</span>" not in page
    listed = monitor.client.get("/").text
    assert "<span>specimen</span> Ga N" in listed
    assert "<span>beam energy [keV]</span> 200<" in listed
    assert '<label><span>beam energy [keV]</span><select name="p.beam_energy_kev">' in listed
