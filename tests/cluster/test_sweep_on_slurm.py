"""A sweep on a real cluster, one member of which has a pair that fails in the first run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from stemphony import paths
from support.campaign import arrays
from support.status_server import EchoServer

from cluster.cluster import Cluster
from cluster.conftest import OnCluster, make_campaign

SWEEP = [{"probe.semiangle_mrad": 20.0}, {"probe.semiangle_mrad": 25.0}]
LABELS = ["probe.semiangle_mrad_20", "probe.semiangle_mrad_25"]
JOBS = "%k|%T|%Z"


def jobs_of(cluster: Cluster, campaign: OnCluster) -> list[tuple[str, str]]:
    """`label/configuration` and state of each Slurm job of a campaign, the oldest first."""
    found = []
    for comment, state, directory in cluster.jobs(JOBS):
        if directory == str(campaign.directory):
            (label,) = [label for label in LABELS if label in comment]
            (configuration,) = [name for name in ("0000", "0001") if name in comment]
            found.append((f"{label}/{configuration}", state))
    return found


def names(events: list[dict[str, Any]], member: paths.ResultPaths, run: int) -> list[str]:
    """Names of the events of one run of a member, in the order of their arrival."""
    number = json.loads(member.identity.read_text())["id"]
    return [event["event"] for event in events if event["id"] == number and event["run"] == run]


@pytest.mark.failure("job ends with an error")
def test_the_next_run_of_a_sweep_on_slurm_computes_only_the_failed_pair_of_one_member(
    cluster: Cluster, clone: Path, tmp_path: Path
):
    with EchoServer() as server:
        reporting = {"reporting": True, "url": server.url}
        detectors = {"detectors": {"bf": [0.0, 10.0]}}
        campaign = make_campaign(cluster, clone, tmp_path, 2, http_reporting=reporting, adf=detectors)
        campaign.write({**campaign.settings, "sweep": SWEEP})
        files = paths.SweepPaths(campaign.result.root)
        whole, failing = (files.member(label) for label in LABELS)
        in_the_way = paths.checksum(failing.job("p0d000", 1))
        in_the_way.mkdir(parents=True)
        first = campaign.stemphony("--profile", "slurm", "--retries", "1")
        told, submitted = server.events, jobs_of(cluster, campaign)
        in_the_way.rmdir()
        again = campaign.stemphony("--profile", "slurm")

    # The first run.
    assert first.status == 1, first.output
    (said,) = [line for line in first.output.splitlines() if line.startswith("failed: ")]
    assert said.startswith(f"failed: {LABELS[1]}, defocus 0 nm, configuration 1: ")
    assert "Run the same command again. It computes only what is missing." in first.output
    assert Counter(submitted) == {
        (f"{LABELS[0]}/0000", "COMPLETED"): 1, (f"{LABELS[0]}/0001", "COMPLETED"): 1,
        (f"{LABELS[1]}/0000", "COMPLETED"): 1, (f"{LABELS[1]}/0001", "FAILED"): 2,
    }  # fmt: skip
    good, bad = names(told, whole, 1), names(told, failing, 1)
    assert (good[0], good[-1], "ERROR" in good) == ("START_SIMULATION", "FINISH", False)
    assert (bad[0], bad[-1]) == ("START_SIMULATION", "FAILED")
    assert Counter(good + bad)["START_SIMULATION"] == 2
    (failed,) = [event for event in told if event["event"] == "FAILED"]
    assert (failed["failed"], failed["num_failed"], failed["num_never_ran"]) == ([[0, 1]], 1, 0)
    assert [event["will_retry"] for event in told if event["event"] == "ERROR"] == [True, False]

    # The second run.
    assert again.status == 0, again.output
    assert "2 of 2 simulations are merged" in again.output
    assert jobs_of(cluster, campaign)[len(submitted) :] == [(f"{LABELS[1]}/0001", "COMPLETED")]
    assert names(server.events, whole, 2) == []
    events = names(server.events, failing, 2)
    assert (events[0], events[-1]) == ("START_SIMULATION", "FINISH")
    assert events.count("START_FP_CONFIGURATION") == events.count("FINISH_FP_CONFIGURATION") == 1

    # Each member is one simulation with one stream, and both are in one file.
    assert {event["id"] for event in server.events} == {
        json.loads(member.identity.read_text())["id"] for member in (whole, failing)
    }
    ids = [event["event_id"] for event in server.events]
    assert len(ids) == len(set(ids))
    with xarray.open_dataset(files.combined) as combined:
        assert combined["label"].values.tolist() == LABELS
        for place, member in enumerate((whole, failing)):
            own = arrays(member.merged)["images/bf"][0, 0]
            np.testing.assert_allclose(combined["bf"].values[place], own, rtol=1e-6)
