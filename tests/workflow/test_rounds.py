"""`frozen_phonon.configurations` as a goal: rounds, a kill in a round, a goal that is raised afterwards."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from support.campaign import TINY, Campaign, arrays, assert_same_arrays, changed, wait_for
from support.shared import made_once
from support.status_server import EchoServer

# One defocus; the error of `haadf` is a few per cent after four configurations.
ADAPTIVE = changed(
    TINY,
    simulation={"name": "rounds"},
    probe={"defoci_nm": [0.0]},
    cbed={"enabled": False},
    frozen_phonon={"configurations": {"until": 0.5, "detectors": ["haadf"], "min": 4, "max": 7}},
)
GIVEN = changed(ADAPTIVE, simulation={"name": "given"}, frozen_phonon={"configurations": 6})


def rounds(campaign: Campaign) -> list[dict]:
    files = sorted(campaign.result.round(0).parent.glob("*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


@pytest.fixture(scope="session")
def four(clone: Path, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """A campaign whose goal the first round reaches."""

    def compute(folder: Path) -> Campaign:
        campaign = Campaign.make(clone, folder / "four", ADAPTIVE, env)
        campaign.succeed()
        return campaign

    return made_once(tmp_path_factory, "four", compute)


def reached_after_six(campaign: Campaign) -> float:
    """A goal that four configurations miss: the second round has six."""
    error = rounds(campaign)[0]["largest"]["relative_error"]
    return float(error / np.sqrt(1.3))


def test_a_goal_that_the_first_round_reaches_ends_there(four: Campaign):
    (only,) = rounds(four)
    assert (only["configurations"], only["reached"], only["next"]) == (4, True, None)
    with netCDF4.Dataset(four.result.merged) as root:
        images = root["images"]
        value = np.asarray(images["haadf"][0, 0, -1])
        error = np.asarray(images["haadf_standard_error"][0, 0, -1])
        assert images.until_reached == 1
        assert images["haadf_standard_error"].interval95_factor == pytest.approx(3.182, abs=1e-3)
    stored = only["images"][-1]["relative_error"]
    assert stored == pytest.approx(np.sqrt((error**2).mean()) / value.mean(), rel=1e-6)


def test_a_damaged_round_is_judged_again(four: Campaign, tmp_path: Path):
    campaign = four.copy(tmp_path / "damaged")
    campaign.result.round(0).write_text("{", encoding="utf-8")
    outcome = campaign.succeed()
    assert "round_00.json was damaged and is deleted: the round is judged again" in outcome.output
    assert not {job for job in outcome.jobs if "/" in job}  # no configuration is computed again
    assert rounds(campaign) == rounds(four)


def test_a_raised_goal_extends_a_finished_simulation(
    four: Campaign, new_campaign: Callable[..., Campaign], tmp_path: Path
):
    campaign = four.copy(tmp_path / "raised")
    until = reached_after_six(campaign)
    with EchoServer() as server:
        campaign.change(
            frozen_phonon={"configurations": {"until": until, "detectors": ["haadf"], "min": 4, "max": 6}},
            http_reporting={"reporting": True, "url": server.url},
        )
        outcome = campaign.succeed()
        events = server.events
    assert outcome.jobs & {f"p0d000/{n:04d}" for n in range(9)} == {"p0d000/0004", "p0d000/0005"}
    assert [one["configurations"] for one in rounds(campaign)] == [4, 6]
    assert json.loads(campaign.result.plan.read_text(encoding="utf-8"))["num_configurations"] == 6
    assert {e["num_configurations"] for e in events if e["event"] in ("FINISH_FP_CONFIGURATION", "FINISH")} == {6}
    # The result is that of six configurations given by hand.
    given = new_campaign(GIVEN)
    given.succeed()
    assert_same_arrays(campaign.result.merged, arrays(given.result.merged))
    assert campaign.to_run() == set()


def test_a_kill_in_a_later_round_loses_no_configuration(four: Campaign, tmp_path: Path):
    campaign = four.copy(tmp_path / "killed")
    campaign.change(frozen_phonon={"configurations": {"until": 1e-6, "detectors": ["haadf"], "min": 4, "max": 7}})
    with campaign.start(cores=1) as running:
        wait_for(campaign.job_file("p0d000/0004").exists, "the first job of the second round", 120)
        running.process.send_signal(signal.SIGKILL)
        running.end()
    before = {n: campaign.job_file(f"p0d000/{n:04d}").stat().st_ino for n in range(5)}
    outcome = campaign.stemphony()
    assert outcome.status == 0, outcome.output
    assert {n: campaign.job_file(f"p0d000/{n:04d}").stat().st_ino for n in range(5)} == before
    assert "was not reached with the largest number" in outcome.output
    assert [one["configurations"] for one in rounds(campaign)] == [4, 7]
    with netCDF4.Dataset(campaign.result.merged) as root:
        assert root["images"].until_reached == 0


def test_rounds_with_symmetry_give_what_a_given_number_gives(
    new_campaign: Callable[..., Campaign], clone: Path, env: dict[str, str], tmp_path: Path
):
    """16 positions of one unit cell are six orbits, in each round and after a further one."""
    symmetric = {
        "scan": {"x": [0.0, 1 / 3], "y": [0.0, 1 / 3], "points": [4, 4], "symmetry": "auto"},
        "grating": {"gpts": [72, 72]},
    }
    goal = {"until": 1e-6, "detectors": ["haadf"], "min": 4, "max": 6}
    campaign = new_campaign(changed(ADAPTIVE, frozen_phonon={"configurations": goal}, **symmetric))
    campaign.succeed()
    assert [one["configurations"] for one in rounds(campaign)] == [4, 6]
    given = Campaign.make(clone, tmp_path / "given", changed(GIVEN, **symmetric), env)
    given.succeed()
    assert_same_arrays(campaign.result.merged, arrays(given.result.merged))
    with netCDF4.Dataset(campaign.result.merged) as root:
        orbit, image = (np.asarray(root["images"][name][:]) for name in ("orbit", "haadf"))
    assert len(np.unique(orbit)) == 6
    for number in np.unique(orbit):
        assert np.ptp(image[0, 0, -1][orbit == number]) == 0
