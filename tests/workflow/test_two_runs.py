"""`stemphony run` and Snakemake as two processes: two simultaneous runs, and a killed wrapper."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from stemphony.store.claims import process_start
from stemphony.store.holders import HOLDERS
from support.campaign import Running, assert_same_arrays, wait_for

from workflow.conftest import Finished


@pytest.mark.failure("two stemphony run at once")
def test_one_of_two_simultaneous_runs_computes_and_the_other_says_so(slow: Finished, tmp_path: Path):
    campaign = slow.copy(tmp_path / "slow campaign")
    shutil.rmtree(campaign.result.root / "jobs")
    place = ["--directory", campaign.directory, "--cores", "1"]
    words = [sys.executable, "-m", "stemphony", "run", campaign.config, *place]
    with (
        Running(words, tmp_path / "one", campaign.env, cwd=campaign.scripts) as one,
        Running(words, tmp_path / "other", campaign.env, cwd=campaign.scripts) as other,
    ):
        first, second = sorted((one.end(), other.end()), key=lambda outcome: outcome.status)
    assert (first.status, second.status) == (0, 1), first.output + second.output
    said = [line for line in second.output.splitlines() if line.strip() and "snakemake --snakefile" not in line]
    assert len(said) == 1, second.output
    assert "is in use by a run that is alive (process " in said[0]
    assert_same_arrays(campaign.result.merged, slow.arrays)


@pytest.mark.failure("two snakemake commands with different configs for one simulation")
def test_the_second_of_two_snakemake_processes_for_the_same_files_is_refused(slow: Finished, tmp_path: Path):
    campaign = slow.copy(tmp_path / "slow campaign")
    shutil.rmtree(campaign.result.root / "jobs")
    with campaign.start(cores=1) as first:
        (job,) = campaign.wait_for_jobs(2).values()
        os.kill(job["pid"], signal.SIGSTOP)
        first.log = first.log.rename(tmp_path / "first.out")
        second = campaign.snakemake()
        assert second.status == 1, second.output
        assert "Directory cannot be locked" in second.output
        os.kill(job["pid"], signal.SIGCONT)
        outcome = first.end()
    assert outcome.status == 0, outcome.output
    assert_same_arrays(campaign.result.merged, slow.arrays)


@pytest.mark.failure("only stemphony run is killed")
def test_a_wrapper_that_is_killed_alone_leaves_a_snakemake_that_finishes(slow: Finished, tmp_path: Path):
    campaign = slow.copy(tmp_path / "slow campaign")
    shutil.rmtree(campaign.result.root / "jobs")
    before = campaign.result.merged.stat().st_mtime_ns
    with campaign.start_stemphony() as running:
        campaign.wait_for_jobs(2)
        (holder,) = (campaign.directory / HOLDERS).glob("*.json")
        pid = json.loads(holder.read_text())["pid"]
        os.kill(running.process.pid, signal.SIGKILL)
        running.end()
        refused = campaign.stemphony()
        assert refused.status == 1, refused.output
        assert f"in use by a run that is alive (process {pid})" in refused.output
        wait_for(lambda: not process_start(pid), "Snakemake to finish by itself")
    assert campaign.result.merged.stat().st_mtime_ns > before
    assert_same_arrays(campaign.result.merged, slow.arrays)
    assert "nothing to compute" in campaign.stemphony().output
