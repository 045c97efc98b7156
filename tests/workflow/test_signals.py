"""Signals to `stemphony run`, alone or with all that it started, and a terminal that is closed."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import sys
from pathlib import Path

import pytest
from stemphony.contract import signal_received
from stemphony.store.claims import process_start
from stemphony.store.holders import HOLDERS
from support.campaign import Campaign, Running, assert_same_arrays, heeding_hangup, wait_for

from workflow.conftest import Finished


@pytest.fixture
def campaign(slow: Finished, tmp_path: Path) -> Campaign:
    """The slow campaign with its jobs to do again."""
    copy = slow.copy(tmp_path / "slow campaign")
    shutil.rmtree(copy.result.root / "jobs")
    return copy


def command(campaign: Campaign) -> list[str | Path]:
    place = ["--directory", campaign.directory, "--cores", "2"]
    return [sys.executable, "-m", "stemphony", "run", campaign.config, *place]


def snakemake_of(campaign: Campaign) -> int:
    """Process of the Snakemake that holds the working directory."""
    (holder,) = (campaign.directory / HOLDERS).glob("*.json")
    return int(json.loads(holder.read_text())["pid"])


def pending(pid: int) -> set[signal.Signals]:
    """Signals that wait for a process that is stopped."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return {number for number in signal.Signals for mask in masks if mask >> (number - 1) & 1}


@pytest.mark.failure("signal to stemphony run alone")
def test_sigint_to_the_command_alone_acts_like_ctrl_c(slow: Finished, campaign: Campaign):
    """After SIGINT only to Snakemake, it would wait for its jobs and delete their results."""
    with campaign.start_stemphony() as running:
        jobs = [state["pid"] for state in campaign.wait_for_jobs(2, 2).values()]
        for pid in jobs:
            os.kill(pid, signal.SIGSTOP)  # otherwise they might finish before
        running.process.send_signal(signal.SIGINT)
        wait_for(lambda: all(signal.SIGINT in pending(pid) for pid in jobs), "the jobs to get it as well")
        for pid in jobs:
            os.kill(pid, signal.SIGCONT)
        outcome = running.end()
        assert [pid for pid in jobs if process_start(pid)] == []
    assert outcome.status == 1, outcome.output
    assert outcome.output.count(signal_received(signal.SIGINT)) == 1
    assert "interrupted. Nothing that was finished is lost: run the same command to go on." in outcome.output
    assert {state["message"] for state in campaign.states(2).values()} == {"interrupted"}
    assert not list((campaign.directory / ".snakemake" / "locks").glob("*"))
    assert (ended := campaign.stemphony()).status == 0, ended.output
    assert_same_arrays(campaign.result.merged, slow.arrays)


@pytest.mark.failure("signal to stemphony run alone")
def test_sigterm_to_the_command_alone_lets_the_jobs_that_run_finish(slow: Finished, campaign: Campaign):
    with campaign.start_stemphony() as running:
        jobs = [state["pid"] for state in campaign.wait_for_jobs(2, 2).values()]
        for pid in jobs:
            os.kill(pid, signal.SIGSTOP)
        running.process.send_signal(signal.SIGTERM)
        wait_for(lambda: signal_received(signal.SIGTERM) in running.log.read_text(), "Snakemake to get it")
        assert [pid for pid in jobs if signal.SIGTERM in pending(pid)] == []
        for pid in jobs:
            os.kill(pid, signal.SIGCONT)
        outcome = running.end()
    assert outcome.status == 1, outcome.output
    assert outcome.output.count(signal_received(signal.SIGTERM)) == 1
    kept = campaign.written()
    assert len(kept) == 2
    assert (ended := campaign.stemphony()).status == 0, ended.output
    assert campaign.written() == kept
    assert_same_arrays(campaign.result.merged, slow.arrays)


@pytest.mark.failure("signal to stemphony run alone")
def test_ctrl_c_at_a_script_does_not_end_its_background_run(slow: Finished, campaign: Campaign, tmp_path: Path):
    """A shell starts background programs with SIGINT ignored."""
    script = ["sh", "-c", '"$@" & wait', "sh", *command(campaign)]
    with Running(script, tmp_path / "out", campaign.env, cwd=campaign.scripts) as running:
        campaign.wait_for_jobs(2, 2)
        snakemake = snakemake_of(campaign)
        running.signal_all(signal.SIGINT)
        running.end()
        assert process_start(snakemake)
        wait_for(lambda: "finished in " in running.log.read_text(), "the run to finish")
        wait_for(lambda: not process_start(snakemake), "Snakemake to end")
    assert "cancelled" not in running.log.read_text()
    assert_same_arrays(campaign.result.merged, slow.arrays)


@pytest.mark.failure("terminal is closed, connection breaks (SIGHUP)")
def test_a_terminal_that_is_closed_ends_the_run_and_the_same_command_goes_on(slow: Finished, campaign: Campaign):
    with heeding_hangup():
        wrapper, terminal = pty.fork()
        if not wrapper:
            os.chdir(campaign.scripts)
            os.execve(sys.executable, [str(word) for word in command(campaign)], dict(campaign.env))
    states = campaign.wait_for_jobs(2, 2)
    everyone = {wrapper, snakemake_of(campaign), *(state["pid"] for state in states.values())}
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(wrapper, 0)[1]) == -signal.SIGHUP
    wait_for(lambda: not any(process_start(pid) for pid in everyone), "all processes to end")
    stopped = campaign.states(2)
    assert {state["message"] for state in stopped.values()} == {"terminated (SIGHUP)"}
    assert campaign.written() == {}
    outcome = campaign.stemphony()
    assert outcome.status == 0, outcome.output
    assert "was killed; its lock is removed and the work goes on" in outcome.output
    assert_same_arrays(campaign.result.merged, slow.arrays)
