"""`snakemake --profile slurm` on a cluster with accounting: it ends, also while the accounting is away."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from support.campaign import DEADLINE_S, assert_same_arrays, wait_for
from support.monitor import missing

from cluster import cluster as clusters
from cluster.cluster import Cluster
from cluster.conftest import OnCluster, make_campaign

Undisturbed = Callable[[int], Mapping[str, np.ndarray]]


@pytest.fixture(scope="module")
def accounting(plain_env: dict[str, str]) -> Iterator[Cluster]:
    """A cluster of its own, with slurmdbd and its database."""
    if why := clusters.missing(accounting=True):
        missing(why)
    with clusters.started(plain_env, SLURM_ACCOUNTING="1") as running:
        yield running


def cancel(campaign: OnCluster, cluster: Cluster, configuration: int) -> str:
    """scancel the job of a configuration that waits at its gate, and open that for its next try; its id."""
    pid = campaign.wait_at_gate(configuration)[configuration]
    job = cluster.job_of(pid)
    cluster.run("scancel", job)
    wait_for(lambda: clusters.gone(pid), "scancel to end its job")
    return job


@pytest.mark.failure("Slurm's accounting is away")
def test_a_run_ends_although_slurmdbd_stops_during_it(
    accounting: Cluster, clone: Path, undisturbed: Undisturbed, tmp_path: Path
):
    """The profile is as shipped. The last job is submitted without slurmdbd, and the accounting has it afterwards."""
    campaign = make_campaign(accounting, clone, tmp_path, 2)
    campaign.close_gate(0, 1)
    with campaign.start_typed("--jobs", "1") as running:
        wait_for(lambda: list(campaign.gates.glob("*.reached.*")), "the first of two jobs", DEADLINE_S)
        with accounting.without_database():
            campaign.open_gate(0, 1)
            outcome = running.end()
    assert outcome.status == 0, outcome.output
    assert "Slurm does not answer" not in outcome.output
    assert_same_arrays(campaign.result.merged, undisturbed(2))
    told = ["COMPLETED", "COMPLETED"]
    wait_for(lambda: [state for _, state in accounting.accounted(campaign.directory)] == told, "slurmctld to tell it")


@pytest.mark.failure("Slurm's accounting is away")
def test_a_run_that_asks_sacct_waits_neither_for_a_cancelled_job_nor_for_slurmdbd(
    accounting: Cluster, clone: Path, undisturbed: Undisturbed, tmp_path: Path
):
    """sacct prints `CANCELLED by 0`. The executor takes this for a running job."""
    campaign = make_campaign(accounting, clone, tmp_path, 2)
    campaign.close_gate(0, 1)
    with campaign.start_typed("--slurm-status-command", "sacct") as running:
        job = cancel(campaign, accounting, 0)
        for file in campaign.gates.glob("0000.reached.*"):
            file.unlink()
        campaign.wait_at_gate(0)
        told = [job, "CANCELLED by 0"]
        wait_for(lambda: told in accounting.accounted(campaign.directory), "the accounting to know of it", DEADLINE_S)
        with accounting.without_database():
            campaign.open_gate(0, 1)
            outcome = running.end()
    assert outcome.status == 0, outcome.output
    assert sorted((number, row[3]) for number, row in campaign.submitted(accounting)) == [
        (0, "CANCELLED"), (0, "COMPLETED"), (1, "COMPLETED"),
    ]  # fmt: skip
    assert_same_arrays(campaign.result.merged, undisturbed(2))


@pytest.mark.failure("Slurm has forgotten a job")
def test_the_accounting_has_the_end_of_a_cancelled_job_that_slurm_has_forgotten(
    accounting: Cluster, clone: Path, undisturbed: Undisturbed, tmp_path: Path
):
    """The profile is as shipped. The run does not look meanwhile, or it would see the end in squeue."""
    campaign = make_campaign(accounting, clone, tmp_path, 1)
    campaign.close_gate(0)
    with campaign.start_typed() as running:
        campaign.wait_at_gate(0)
        running.process.send_signal(signal.SIGSTOP)
        job = cancel(campaign, accounting, 0)
        told = [job, "CANCELLED by 0"]
        wait_for(lambda: told in accounting.accounted(campaign.directory), "the accounting to know of it", DEADLINE_S)
        accounting.stop_controller()
        accounting.start_controller(forgets=True)
        campaign.open_gate(0)
        assert accounting.jobs("%i") == []
        running.process.send_signal(signal.SIGCONT)
        outcome = running.end()
    assert outcome.status == 0, outcome.output
    assert f"SLURM-job '{job}' failed, SLURM status is: 'CANCELLED'" in outcome.output
    assert_same_arrays(campaign.result.merged, undisturbed(1))
