"""`snakemake --profile slurm` on a real cluster: what it asks for, and what becomes of jobs and runs that fail."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from stemphony.contract import signal_received
from stemphony.orchestration import slurm
from stemphony.orchestration.session import SNAKEMAKE_MB
from support.campaign import DEADLINE_S, Outcome, Running, arrays, assert_same_arrays, attributes, changed, wait_for
from support.status_server import EchoServer

from cluster import cluster as clusters
from cluster.cluster import Cluster
from cluster.conftest import OnCluster, make_campaign

Undisturbed = Callable[[int], Mapping[str, np.ndarray]]


# --- as typed ---------------------------------------------------------------------------------------------------------


def test_the_documented_command_runs_a_simulation_to_its_end(
    cluster: Cluster, undisturbed: Undisturbed, tmp_path: Path
):
    """Slurm also gets memory and time of each job, the user's partition and the simulation's name."""
    campaign = make_campaign(cluster, clusters.make_quick_clone(tmp_path / "clone"), tmp_path, 2)
    clone = campaign.clone
    for file in campaign.config.parent.iterdir():
        shutil.copy(file, clone / "config" / file.name.replace("simulation.yaml", "config.yaml"))
    profile = clone / "profiles" / "slurm" / "config.v9+.yaml"
    lines = profile.read_text().replace("# slurm_partition: \"'compute'\"", "slurm_partition: \"'other'\"")
    profile.write_text(lines)
    config = clone / "config" / "config.yaml"
    config.write_text(config.read_text().replace("name: quick", "name: typed"))

    with Running(["snakemake", "--profile", "slurm"], tmp_path / "out", cluster.env, cwd=clone) as running:
        outcome = running.end()
    assert outcome.status == 0, outcome.output
    result = clone / "results" / "typed"
    assert_same_arrays(result / "stem.nc", undisturbed(2))
    plan = json.loads((result / "plan.json").read_text())["resources"]
    jobs = [row for row in cluster.jobs("%P|%m|%l|%j|%T|%Z") if row[-1] == str(clone)]
    assert len(jobs) == 2
    for partition, memory, limit, name, state, _ in jobs:
        assert (partition, state) == ("other", "COMPLETED")
        assert memory == f"{plan['mem_mb'] + SNAKEMAKE_MB}M"
        assert limit == f"{plan['runtime_min']}:00"
        assert re.fullmatch(r"typed_[0-9a-f]{8}_[0-9a-f-]{36}", name)


# --- a bad night --------------------------------------------------------------------------------------------------

UNDISTURBED, FAILS, HUNGRY, LATE, CANCELLED, REQUEUED, LOST = range(7)


@dataclass(frozen=True)
class Night:
    """A run in which each configuration but the first met with a misfortune, and the run after it."""

    campaign: OnCluster
    outcome: Outcome
    events: list[dict[str, Any]]
    submitted: list[tuple[int, list[str]]]
    kept: dict[str, int]
    merged: bool
    again: Outcome
    submitted_again: list[tuple[int, list[str]]]

    def jobs(self, configuration: int) -> list[list[str]]:
        """Slurm's jobs of a configuration in the first run: id, MB, time limit, state, name."""
        return [row for number, row in self.submitted if number == configuration]

    def errors(self, configuration: int) -> list[dict[str, Any]]:
        """ERROR events of a configuration in the first run."""
        chosen = [event for event in self.events if event["event"] == "ERROR" and event["run"] == 1]
        return [event for event in chosen if event["configuration_index"] == configuration]


@pytest.fixture(scope="module")
def night(cluster: Cluster, clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Night:
    with EchoServer() as server:
        reporting = {"reporting": True, "url": server.url}
        folder = tmp_path_factory.mktemp("night")
        campaign = make_campaign(cluster, clone, folder, 7, http_reporting=reporting)
        in_the_way = campaign.job_file("p0d000/0001").with_name("configuration_0001.nc.sha256")
        in_the_way.mkdir(parents=True)
        (campaign.gates / f"{HUNGRY:04d}.hungry").touch()
        held = (LATE, CANCELLED, REQUEUED, LOST)
        campaign.close_gate(*held)
        with campaign.start_stemphony("--profile", "slurm") as running:
            pids = campaign.wait_at_gate(*held)
            jobs = {number: cluster.job_of(pid) for number, pid in pids.items()}
            # Limits are whole minutes; the end of a job can be moved to the second.
            cluster.run("scontrol", "update", f"jobid={jobs[LATE]}", "EndTime=now+1")
            cluster.run("scancel", jobs[CANCELLED])
            cluster.run("scontrol", "update", f"jobid={jobs[LOST]}", "Requeue=0")
            wait_for(lambda: clusters.gone(pids[CANCELLED]), "scancel to end its job")
            campaign.open_gate(CANCELLED)
            wait_for(lambda: clusters.gone(pids[LATE]), "the time limit to end its job", DEADLINE_S)
            campaign.open_gate(LATE)
            others = {jobs[REQUEUED], jobs[LOST]}
            wait_for(lambda: set(cluster.living(campaign.directory)) <= others, "all others to end", DEADLINE_S)
            nodes = {cluster.node_of(job) for job in others}
            for node in nodes:
                cluster.kill_node(node)
            campaign.open_gate(REQUEUED, LOST)
            for node in nodes:
                cluster.start_node(node)
            outcome = running.end()
        events = list(server.events)
        submitted, kept = campaign.submitted(cluster), campaign.written()
        merged = campaign.result.merged.exists()
        in_the_way.rmdir()
        again = campaign.stemphony("--profile", "slurm")
        return Night(campaign, outcome, events, submitted, kept, merged, again, campaign.submitted(cluster))


@pytest.mark.failure("job ends with an error")
def test_a_failing_pair_leaves_the_others(night: Night):
    assert night.outcome.status == 1, night.outcome.output
    assert set(night.kept) == {
        f"defocus_p0d000/configuration_{number:04d}.nc" for number in range(7) if number != FAILS
    }
    assert not night.merged
    assert "Traceback" not in night.outcome.output


@pytest.mark.failure("job ends with an error")
def test_a_job_that_exits_non_zero_is_tried_three_times_and_reported_once(night: Night):
    jobs = night.jobs(FAILS)
    assert [state for _, _, _, state, _ in jobs] == ["FAILED"] * 3
    (said,) = [line for line in night.outcome.output.splitlines() if line.startswith("failed: ")]
    assert said.startswith("failed: defocus 0 nm, configuration 1: ")
    assert "configuration_0001.nc" in said
    assert re.search(r"end of .*defocus_p0d000/configuration_0001\.log:", night.outcome.output)
    assert "Run the same command again. It computes only what is missing." in night.outcome.output
    errors = night.errors(FAILS)
    assert [error["will_retry"] for error in errors] == [True, True, False]
    assert [error for error in errors if "configuration_0001.nc" not in error["message"]] == []


@pytest.mark.failure("out of memory")
def test_a_job_without_enough_memory_is_tried_with_twice_as_much(night: Night):
    """jobacct_gather, without cgroups, calls it FAILED."""
    (_, asked, _, state, _), (_, more, _, second, _) = night.jobs(HUNGRY)
    assert state in ("FAILED", "OUT_OF_MEMORY")
    assert (int(more.removesuffix("M")), second) == (2 * int(asked.removesuffix("M")), "COMPLETED")
    (error,) = night.errors(HUNGRY)
    assert error["will_retry"]


@pytest.mark.failure("time limit")
def test_a_job_at_its_time_limit_is_tried_with_twice_the_time(night: Night):
    (_, _, _, state, _), (_, _, limit, second, _) = night.jobs(LATE)
    assert (state, limit, second) == ("TIMEOUT", "20:00", "COMPLETED")
    assert len(night.errors(LATE)) == 1


@pytest.mark.failure("scancel")
def test_a_cancelled_job_is_tried_again(night: Night):
    assert [state for _, _, _, state, _ in night.jobs(CANCELLED)] == ["CANCELLED", "COMPLETED"]
    (error,) = night.errors(CANCELLED)
    assert error["message"] == "terminated (SIGTERM)"
    assert "will_retry" not in error  # the process cannot know who sent the signal


@pytest.mark.failure("node dies, Slurm requeues")
def test_a_job_whose_node_died_is_queued_again_by_slurm(night: Night):
    ((_, _, _, state, _),) = night.jobs(REQUEUED)
    assert state == "COMPLETED"
    (error,) = night.errors(REQUEUED)
    assert error["message"].startswith("the job ended without a message")
    assert error["will_retry"]
    assert "configuration 5" not in night.outcome.output
    assert attributes(night.campaign.job_file(f"p0d000/{REQUEUED:04d}"), "runtime")["attempt"] == 2


@pytest.mark.failure("node dies, no requeue")
def test_a_job_that_may_not_be_queued_again_is_submitted_again(night: Night):
    assert [state for _, _, _, state, _ in night.jobs(LOST)] == ["NODE_FAIL", "COMPLETED"]
    (error,) = night.errors(LOST)
    assert error["will_retry"]


@pytest.mark.failure("job ends with an error")
def test_the_next_run_computes_only_the_failed_pair(night: Night, undisturbed: Undisturbed):
    assert night.again.status == 0, night.again.output
    new = night.submitted_again[len(night.submitted) :]
    assert [number for number, _ in new] == [FAILS]
    assert night.campaign.written().items() > night.kept.items()
    assert_same_arrays(night.campaign.result.merged, undisturbed(7))


def test_an_undisturbed_job_runs_once(night: Night):
    assert [state for _, _, _, state, _ in night.jobs(UNDISTURBED)] == ["COMPLETED"]


# --- the scheduler ------------------------------------------------------------------------------------------------


@pytest.mark.failure("scheduler gets SIGKILL, restart")
def test_jobs_left_by_a_killed_run_are_waited_for_or_cancelled_and_what_they_finish_is_kept(
    cluster: Cluster, new_campaign: Callable[[int], OnCluster], undisturbed: Undisturbed
):
    campaign = new_campaign(3)
    campaign.close_gate(0, 1)
    with campaign.start_stemphony("--profile", "slurm", "--jobs", "2") as running:
        pids = campaign.wait_at_gate(0, 1)
        jobs = {number: cluster.job_of(pid) for number, pid in pids.items()}
        running.signal_all(signal.SIGKILL)
        running.end()
    assert sorted(cluster.living(campaign.directory)) == sorted(jobs.values())
    with campaign.start_stemphony("--profile", "slurm") as running:
        said = re.compile(
            r"^Slurm still has 2 jobs of this simulation.*\(2 running\).*: (scancel [\d ]+)$", re.MULTILINE
        )
        wait_for(lambda: said.search(running.log.read_text()), "the jobs to be noticed", DEADLINE_S)
        command = shlex.split(said.search(running.log.read_text())[1])
        assert sorted(command[1:]) == sorted(jobs.values())
        cluster.run("scancel", jobs[1])
        wait_for(lambda: clusters.gone(pids[1]), "the cancelled job to end")
        campaign.open_gate(0, 1)
        outcome = running.end()
    assert outcome.status == 0, outcome.output
    assert "those jobs have ended; the run goes on" in outcome.output
    assert "its lock is removed and the work goes on" in outcome.output
    states = [(number, row[3]) for number, row in campaign.submitted(cluster)]
    assert sorted(states) == [(0, "COMPLETED"), (1, "CANCELLED"), (1, "COMPLETED"), (2, "COMPLETED")]
    assert_same_arrays(campaign.result.merged, undisturbed(3))


@pytest.mark.failure("scheduler gets SIGINT", "scheduler gets SIGTERM", "signal to stemphony run alone")
def test_sigint_cancels_jobs_and_sigterm_lets_them_finish(
    cluster: Cluster, new_campaign: Callable[[int], OnCluster], undisturbed: Undisturbed
):
    campaign = new_campaign(3)
    locks = campaign.directory / ".snakemake" / "locks"
    campaign.close_gate(0, 1, 2)
    with campaign.start_stemphony("--profile", "slurm", "--jobs", "2") as running:
        wait_for(lambda: len(list(campaign.gates.glob("*.reached.*"))) >= 2, "two jobs", DEADLINE_S)
        running.process.send_signal(signal.SIGINT)  # to this process only
        outcome = running.end()
    assert outcome.status == 1, outcome.output
    assert outcome.output.count(signal_received(signal.SIGINT)) == 1
    assert "interrupted. Nothing that was finished is lost" in outcome.output
    wait_for(lambda: not cluster.living(campaign.directory), "the jobs to be cancelled")
    assert {row[3] for _, row in campaign.submitted(cluster)} == {"CANCELLED"}
    assert not list(locks.glob("*"))
    assert campaign.written() == {}
    for file in campaign.gates.glob("*.reached.*"):
        file.unlink()

    with campaign.start_typed("--jobs", "2") as running:
        wait_for(lambda: len(list(campaign.gates.glob("*.reached.*"))) >= 2, "two jobs", DEADLINE_S)
        running.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "Will exit after finishing" in running.log.read_text(), "Snakemake to take notice")
        campaign.open_gate(0, 1, 2)
        outcome = running.end()
    assert outcome.status == 1, outcome.output
    kept = campaign.written()
    assert len(kept) == 2
    assert (ended := campaign.typed()).status == 0, ended.output
    assert len(campaign.submitted(cluster)) == 5
    assert campaign.written().items() > kept.items()
    assert_same_arrays(campaign.result.merged, undisturbed(3))


@pytest.mark.failure("Slurm's controller is away")
def test_a_run_waits_for_an_absent_controller_and_says_so(
    cluster: Cluster, new_campaign: Callable[[int], OnCluster], undisturbed: Undisturbed
):
    """Without accounting: the executor by itself forgets its jobs then, and waits for good."""
    campaign = new_campaign(1)
    campaign.close_gate(0)
    with campaign.start_typed() as running:
        campaign.wait_at_gate(0)
        cluster.stop_controller()
        try:
            silent = "Slurm does not answer"
            wait_for(lambda: silent in running.log.read_text(), "the run to notice", DEADLINE_S)
        finally:
            cluster.start_controller()
        campaign.open_gate(0)
        outcome = running.end()
    assert outcome.status == 0, outcome.output
    assert outcome.output.count(silent) == 1
    assert "Slurm answers again" in outcome.output
    assert_same_arrays(campaign.result.merged, undisturbed(1))
    assert arrays(campaign.job_file("p0d000/0000"))


@pytest.mark.failure("a partition that does not exist")
def test_a_partition_that_does_not_exist_is_named(cluster: Cluster, clone: Path, tmp_path: Path):
    """No job can write a log then; what sbatch says is in Snakemake's."""
    campaign = make_campaign(cluster, clone, tmp_path, 1)
    arguments = ("--profile", "slurm", "--retries", "0", "--default-resources", "slurm_partition='nosuch'")
    outcome = campaign.stemphony(*arguments)
    assert outcome.status == 1, outcome.output
    said = [line for line in outcome.output.splitlines() if line.startswith("Snakemake says: ")]
    assert "invalid partition specified: nosuch" in "\n".join(said)
    assert campaign.submitted(cluster) == []
    outcome = campaign.stemphony("--profile", "slurm")
    assert outcome.status == 0, outcome.output
    assert len(campaign.submitted(cluster)) == 1


@pytest.mark.failure("time limit above that of the partition")
def test_a_job_above_the_limit_of_its_partition_is_cancelled_and_the_others_finish(
    cluster: Cluster, clone: Path, undisturbed: Undisturbed, tmp_path: Path
):
    """The first try of a job fits into the 30 minutes of partition `other`, the second one asks for 40."""
    campaign = make_campaign(cluster, clone, tmp_path, 2, resources={"runtime_min": 20})
    in_the_way = campaign.job_file("p0d000/0001").with_name("configuration_0001.nc.sha256")
    in_the_way.mkdir(parents=True)
    arguments = ("--profile", "slurm", "--retries", "1", "--default-resources", "slurm_partition='other'")
    outcome = campaign.stemphony(*arguments)
    assert outcome.status == 1, outcome.output
    jobs = campaign.submitted(cluster)
    assert sorted((number, limit, state) for number, (_, _, limit, state, _) in jobs) == [
        (0, "20:00", "COMPLETED"), (1, "20:00", "FAILED"), (1, "40:00", "CANCELLED"),
    ]  # fmt: skip
    ((_, (stuck, *_)),) = [job for job in jobs if job[1][3] == "CANCELLED"]
    (said,) = [line for line in outcome.output.splitlines() if line.startswith("Slurm will never start")]
    assert f"the job {stuck} (PartitionTimeLimit): the request is 40 min, and partition other allows 30. Cancel" in said
    assert "Set resources.runtime_min to 10 at most" in said
    assert set(campaign.written()) == {"defocus_p0d000/configuration_0000.nc"}

    in_the_way.rmdir()
    campaign.change(resources={"runtime_min": 10})
    kept = campaign.written()
    outcome = campaign.stemphony(*arguments)
    assert outcome.status == 0, outcome.output
    assert len(campaign.submitted(cluster)) == 4
    assert campaign.written().items() > kept.items()
    assert_same_arrays(campaign.result.merged, undisturbed(2))


@pytest.mark.failure("a job makes room for another (preemption)")
def test_a_job_that_makes_room_for_others_is_submitted_again(
    cluster: Cluster, new_campaign: Callable[[int], OnCluster], undisturbed: Undisturbed
):
    """Where Slurm does not queue it again (PreemptMode=CANCEL); the executor by itself waits for good."""
    campaign = new_campaign(1)
    campaign.close_gate(0)
    with campaign.start_typed("--default-resources", "slurm_partition='spare'") as running:
        pid = campaign.wait_at_gate(0)[0]
        node = cluster.node_of(cluster.job_of(pid))
        everything = ("--partition=main", f"--nodelist={node}", "--exclusive", "--wrap=true", "--output=/dev/null")
        cluster.run("sbatch", *everything)
        wait_for(lambda: clusters.gone(pid), "the job to make room", DEADLINE_S)
        campaign.open_gate(0)
        outcome = running.end()
    assert outcome.status == 0, outcome.output
    assert [row[3] for _, row in campaign.submitted(cluster)] == ["PREEMPTED", "COMPLETED"]
    assert outcome.output.count("to make room for one of higher priority") == 1
    assert_same_arrays(campaign.result.merged, undisturbed(1))


@pytest.mark.failure("time limit above that of the partition")
def test_a_job_that_cannot_start_and_was_left_by_a_killed_run_is_not_waited_for(
    cluster: Cluster, new_campaign: Callable[[int], OnCluster], undisturbed: Undisturbed
):
    campaign = new_campaign(1)
    assert (ended := campaign.typed("--dry-run")).status == 0, ended.output
    name = f"{slurm.name_prefix('quick')}_0b3f2f0e-1111-2222-3333-444455556666"
    sbatch = ("sbatch", "--parsable", f"--job-name={name}", f"--chdir={campaign.directory}", "--wrap=true")
    number = cluster.run(*sbatch, "--partition=other", "--time=31").strip()
    outcome = campaign.stemphony("--profile", "slurm")
    assert outcome.status == 0, outcome.output
    assert f"the job {number} (PartitionTimeLimit)" in outcome.output
    assert "those jobs have ended; the run goes on." in outcome.output
    assert_same_arrays(campaign.result.merged, undisturbed(1))


@pytest.mark.failure("two snakemake commands with different configs for one simulation")
def test_two_runs_with_different_configs_in_one_folder_each_compute_their_own_plan(
    cluster: Cluster, new_campaign: Callable[[int], OnCluster], undisturbed: Undisturbed
):
    """Snakemake itself refuses only runs that want the same files. The second begins between two jobs of the first."""
    campaign = new_campaign(3)
    campaign.succeed("results/quick/specimen.nc")
    files = [str(campaign.job_file(f"p0d000/{number:04d}").relative_to(campaign.directory)) for number in range(3)]
    other = campaign.config.with_name("other.yaml")
    settings = changed(campaign.settings, simulation={"title": "Other"}, probe={"energy_kev": 80.0})
    other.write_text(yaml.safe_dump(settings))
    campaign.close_gate(0, 1)
    with campaign.start_typed("--jobs", "1", *files[:2]) as first:
        wait_for(lambda: list(campaign.gates.glob("*.reached.*")), "the first of two jobs", DEADLINE_S)
        words = ["snakemake", "--profile", "slurm", "--configfile", other, "--directory", campaign.directory, files[2]]
        with Running(words, campaign.folder / "other.out", campaign.env, cwd=campaign.clone) as second:
            outcome = second.end()
        assert outcome.status == 0, outcome.output
        said = "Slurm has 1 job of this simulation (1 running). Another run of it is alive (process "
        assert said in outcome.output
        assert "scancel" not in outcome.output
        assert json.loads(campaign.result.plan.read_text())["title"] == "Other"
        assert len(campaign.submitted(cluster)) == 2
        campaign.open_gate(0, 1)
        outcome = first.end()
    assert outcome.status == 0, outcome.output
    made = [attributes(campaign.directory / file) for file in files]
    energies = [attributes(campaign.directory / file, "params/probe")["energy_kev"] for file in files]
    assert [file["title"] for file in made] == ["Quick campaign", "Quick campaign", "Other"]
    assert energies == [200.0, 200.0, 80.0]

    kept = campaign.written()
    # The other config's pair is finished, so the run asks before it replaces it.
    assert (ended := campaign.typed()).status == 1, ended.output
    assert (ended := campaign.typed("--config", "replace=true")).status == 0, ended.output
    assert {name for name, time in campaign.written().items() if kept[name] != time} == {
        "defocus_p0d000/configuration_0002.nc"
    }
    assert_same_arrays(campaign.result.merged, undisturbed(3))
