"""Jobs on a real Slurm cluster that are ended in mid-computation go on from their checkpoint, with the same bits."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from stemphony.contract import CHECKPOINT_VARIABLE
from stemphony.store import claims
from support.campaign import DEADLINE_S, Campaign, attributes, contents, wait_for
from support.status_server import EchoServer

from cluster import cluster as clusters
from cluster.cluster import Cluster
from cluster.conftest import LONG, OnCluster, make_campaign

RESUMED = re.compile(r"goes on from the checkpoint of an earlier attempt, at (\d+) %")


@dataclass(frozen=True)
class Expected:
    """What an undisturbed simulation holds, in its merged file and those of its jobs."""

    merged: Mapping[str, bytes]
    jobs: tuple[Mapping[str, bytes], ...]


@pytest.fixture(scope="module")
def expected(clone: Path, plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Expected:
    """Of two configurations, computed on this machine without Slurm and without checkpoints."""
    folder = tmp_path_factory.mktemp("undisturbed")
    env = {**plain_env, "STEMPHONY_TEST_GATES": str(folder)}
    campaign = Campaign.make(clone, folder / "long campaign", two_of_long(), env)
    campaign.succeed()
    files = [campaign.job_file(f"p0d000/{number:04d}") for number in range(2)]
    assert [file for file in files if "resumed_at" in attributes(file, "runtime")] == []
    return Expected(contents(campaign.result.merged), tuple(contents(file) for file in files))


def two_of_long() -> dict:
    return {**LONG, "frozen_phonon": {**LONG["frozen_phonon"], "configurations": 2}}


def make_long_campaign(cluster: Cluster, clone: Path, folder: Path, **blocks: object) -> OnCluster:
    """Two configurations whose jobs keep checkpoints as often as their cost allows."""
    keeping = Cluster(cluster.folder, {**cluster.env, CHECKPOINT_VARIABLE: "0"})
    campaign = make_campaign(keeping, clone, folder, 2)
    campaign.write({**two_of_long(), **blocks})
    return campaign


def wait_until_kept(campaign: OnCluster, number: int) -> int:
    """Wait until the job of a configuration has kept a part of its waves; the process that computes it."""
    file = campaign.result.checkpoint("p0d000", number)
    wait_for(file.exists, f"a checkpoint of configuration {number}", DEADLINE_S)
    holder = claims.holder_of(file.with_suffix(".claim"))
    assert holder is not None, "the job ended before it could be hit"
    return holder.pid


def assert_as_undisturbed(campaign: OnCluster, expected: Expected) -> None:
    """Every variable of the merged file and of those of the jobs, bit for bit."""
    pairs = [(campaign.result.merged, expected.merged)]
    pairs += [(campaign.job_file(f"p0d000/{number:04d}"), jobs) for number, jobs in enumerate(expected.jobs)]
    for file, undisturbed in pairs:
        found = contents(file)
        assert found.keys() == undisturbed.keys()
        assert [name for name in found if found[name] != undisturbed[name]] == []


def resumed_at(campaign: OnCluster, number: int) -> float:
    """Part of its waves at which a finished job went on."""
    share = float(attributes(campaign.job_file(f"p0d000/{number:04d}"), "runtime")["resumed_at"])
    (said,) = RESUMED.findall(campaign.result.log("p0d000", number).read_text())
    assert int(said) == pytest.approx(100 * share, abs=0.51)
    return share


@pytest.mark.failure("job killed by SIGKILL", "scancel", "scheduler gets SIGINT")
def test_jobs_that_are_cancelled_or_killed_go_on_in_the_next_run(
    cluster: Cluster, clone: Path, expected: Expected, tmp_path: Path
):
    campaign = make_long_campaign(cluster, clone, tmp_path)
    cancelled, killed = 0, 1
    campaign.close_gate(killed)  # it must not end before its turn comes
    with campaign.start_stemphony("--profile", "slurm", "--retries", "0") as running:
        computing = wait_until_kept(campaign, cancelled)
        cluster.run("scancel", cluster.job_of(computing))
        wait_for(lambda: clusters.gone(computing), "scancel to end its job")
        campaign.open_gate(killed)
        os.kill(wait_until_kept(campaign, killed), signal.SIGKILL)
        outcome = running.end()
    assert outcome.status == 1, outcome.output
    ended = [(number, row[3]) for number, row in campaign.submitted(cluster)]
    assert sorted(ended) == [(cancelled, "CANCELLED"), (killed, "FAILED")]
    assert campaign.written() == {}

    outcome = campaign.stemphony("--profile", "slurm")
    assert outcome.status == 0, outcome.output
    assert 0 < resumed_at(campaign, cancelled) < 1
    assert 0 < resumed_at(campaign, killed) < 1
    assert_as_undisturbed(campaign, expected)
    assert not campaign.result.checkpoints_folder.exists()


@pytest.mark.failure("node dies, Slurm requeues", "node dies, no requeue")
def test_jobs_whose_node_dies_go_on_whether_slurm_or_the_run_submits_them_again(
    cluster: Cluster, clone: Path, expected: Expected, tmp_path: Path
):
    """Slurm queues one job again; the run submits the other one, which Slurm may not queue again."""
    campaign = make_long_campaign(cluster, clone, tmp_path)
    requeued, lost = 0, 1
    with campaign.start_stemphony("--profile", "slurm") as running:
        jobs = {}
        for number in (requeued, lost):
            computing = wait_until_kept(campaign, number)
            os.kill(computing, signal.SIGSTOP)  # it must not end before its node dies
            jobs[number] = cluster.job_of(computing)
        cluster.run("scontrol", "update", f"jobid={jobs[lost]}", "Requeue=0")
        nodes = {cluster.node_of(job) for job in jobs.values()}
        for node in nodes:
            cluster.kill_node(node)
        for node in nodes:
            cluster.start_node(node)
        outcome = running.end()
    assert outcome.status == 0, outcome.output
    ended = [(number, row[3]) for number, row in campaign.submitted(cluster)]
    assert sorted(ended) == [(requeued, "COMPLETED"), (lost, "COMPLETED"), (lost, "NODE_FAIL")]
    assert 0 < resumed_at(campaign, requeued) < 1
    assert 0 < resumed_at(campaign, lost) < 1
    assert_as_undisturbed(campaign, expected)


@pytest.mark.failure("time limit")
def test_a_job_whose_minute_is_not_enough_ends_by_itself_and_goes_on_when_it_is_submitted_again(
    cluster: Cluster, clone: Path, expected: Expected, tmp_path: Path
):
    """A job keeps back a tenth of its minute. Its clock runs a minute ahead, so that the test need not wait."""
    with EchoServer() as server:
        reporting = {"reporting": True, "url": server.url}
        blocks = {"resources": {"runtime_min": 1}, "http_reporting": reporting}
        campaign = make_long_campaign(cluster, clone, tmp_path, **blocks)
        (campaign.gates / "0000.hurried").touch()
        outcome = campaign.stemphony("--profile", "slurm")
        errors = [event for event in server.events if event["event"] == "ERROR"]
    assert outcome.status == 0, outcome.output
    first, second = [row for number, row in campaign.submitted(cluster) if number == 0]
    assert (first[2], first[3]) == ("1:00", "FAILED")
    assert (second[2], second[3]) == ("2:00", "COMPLETED")
    assert "ExitCode=1:0" in cluster.run("scontrol", "show", "job", first[0])
    (error,) = errors
    assert error["will_retry"] is True
    kept = re.fullmatch(
        r"The time limit of 1 min is near; (\d+) % of the waves are kept in configuration_0000\.checkpoint\. "
        r"Another attempt goes on from there: .*",
        error["message"],
    )
    assert kept, error["message"]
    assert resumed_at(campaign, 0) == pytest.approx(int(kept[1]) / 100, abs=0.0051)
    assert resumed_at(campaign, 0) > 0
    assert [row[3] for number, row in campaign.submitted(cluster) if number == 1] == ["COMPLETED"]
    assert_as_undisturbed(campaign, expected)
