"""Two copies of a results folder become two simulations. The work of both counts, and no report is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from support.campaign import assert_same_arrays, attributes
from support.status_server import EchoServer

from workflow.conftest import Reported

LOST = "p5d000/0001"


def test_two_copies_report_as_two_simulations(tiny: Reported, tmp_path: Path):
    """A backup and a colleague's copy compute the same job again. Their events must not be duplicates."""
    known = tiny.events[0]["id"]
    with EchoServer() as server:
        for name in ("backup", "colleague"):
            campaign = tiny.campaign.copy_as_users_do(tmp_path / name)
            campaign.change(http_reporting={"reporting": True, "url": server.url, "parameters": {}})
            campaign.job_file(LOST).unlink()
            outcome = campaign.succeed()
            assert outcome.jobs == {LOST, "merge_results", "plot_results"}, outcome.output
            assert f"this folder is a copy of {tiny.campaign.result.root.resolve()}: it has a new id" in outcome.output
            identity = json.loads(campaign.result.identity.read_text())
            assert identity["copied_from"] == known
            assert attributes(campaign.result.merged)["id"] == identity["id"]
            assert_same_arrays(campaign.result.merged, tiny.arrays)
            # At its next run it keeps its new id.
            campaign.job_file(LOST).unlink()
            assert "is a copy of" not in campaign.succeed().output
            assert json.loads(campaign.result.identity.read_text()) == identity
        events = server.events
    assert len({event["id"] for event in events} - {known}) == 2
    assert known not in {event["id"] for event in events}
    assert len({event["event_id"] for event in events}) == len(events)
    assert [event["event"] for event in events].count("FINISH") == 4


def test_a_backup_that_is_restored_over_the_original_goes_on_with_a_later_run(tiny: Reported, tmp_path: Path):
    """The attack: the run after that would have the number of a run that the receiver knows, and the ids of its events.

    A monitor would keep them as conflicts, and never show how far the simulation is.
    """
    campaign, backup = tiny.copy(tmp_path / "original"), tmp_path / "backup"
    shutil.copytree(campaign.result.root, backup, symlinks=True)
    with EchoServer() as server:
        campaign.change(http_reporting={"reporting": True, "url": server.url, "parameters": {}})
        for restore in (False, True):
            if restore:
                shutil.rmtree(campaign.result.root)
                shutil.copytree(backup, campaign.result.root, symlinks=True)
            campaign.job_file(LOST).unlink()
            campaign.succeed()
        events = server.events
    runs = [event["run"] for event in events if event["event"] == "START_SIMULATION"]
    assert runs == [2, 3]
    assert len({event["id"] for event in events}) == 1
    assert len({event["event_id"] for event in events}) == len(events)
