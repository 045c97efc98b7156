"""A campaign with a goal on a real cluster, whose scheduler is killed in a later round."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import netCDF4
import numpy as np
from support.campaign import DEADLINE_S, arrays, wait_for

from cluster import cluster as clusters
from cluster.cluster import Cluster
from cluster.conftest import PAIRS, make_campaign

GOAL = {"until": 1e-6, "detectors": ["haadf"], "min": 4, "max": PAIRS}


def finished(log: Path) -> int:
    """Number of multislice jobs that Snakemake has seen finish."""
    return len(re.findall(r"^Finished jobid: \d+ \(Rule: run_multislice\)", log.read_text(), re.MULTILINE))


def test_a_round_on_slurm_goes_on_after_the_scheduler_was_killed(
    cluster: Cluster, clone: Path, undisturbed: Callable[[int], Mapping[str, np.ndarray]], tmp_path: Path
):
    detectors = {"detectors": {"haadf": [30.0, 45.0]}}
    campaign = make_campaign(cluster, clone, tmp_path, PAIRS, frozen_phonon={"configurations": GOAL}, adf=detectors)
    campaign.close_gate(5)
    with campaign.start_typed() as running:
        pids = campaign.wait_at_gate(5)  # a configuration of the second round
        wait_for(lambda: finished(running.log) == PAIRS - 1, "Snakemake to see the others finish", DEADLINE_S)
        running.process.send_signal(signal.SIGKILL)
        running.end()
    cluster.run("scancel", cluster.job_of(pids[5]))
    wait_for(lambda: clusters.gone(pids[5]), "the job to end")
    campaign.open_gate(5)
    kept = campaign.written()
    outcome = campaign.stemphony("--profile", "slurm")
    assert outcome.status == 0, outcome.output
    assert "was not reached with the largest number of configurations" in outcome.output
    assert campaign.written().items() > kept.items()
    states = sorted((number, row[3]) for number, row in campaign.submitted(cluster))
    assert states == sorted([(number, "COMPLETED") for number in range(PAIRS)] + [(5, "CANCELLED")])
    with netCDF4.Dataset(campaign.result.merged) as root:
        assert (root["images"].until_reached, root["images"].until) == (0, GOAL["until"])
    # Everything but the image of the goal's detector is that of so many configurations given by hand.
    found, expected = arrays(campaign.result.merged), undisturbed(PAIRS)
    assert {name for name in found if name not in expected} == {"images/haadf", "images/haadf_standard_error"}
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
