"""`stemphony run` and its Snakemake: which signals it forwards, and to which processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from stemphony.commands import snakemake_process
from stemphony.commands.snakemake_process import SnakemakeProcess
from stemphony.contract import signal_received
from support.campaign import wait_for


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> SnakemakeProcess:
    """Snakemake as process 4711 with the job 4712; signals to them are noted in `sent`, and `now` is its clock."""
    child = SnakemakeProcess.__new__(SnakemakeProcess)
    child.lines, child.interrupted, child._not_passed_on = ["stemphony: jobs  2"], False, None
    child.process = type("Snakemake", (), {"pid": 4711})()
    child.sent, child.now = [], 100.0
    child._clock = lambda: child.now
    monkeypatch.setattr(snakemake_process, "with_descendants", lambda pid: [pid, 4712])
    monkeypatch.setattr(os, "kill", lambda pid, number: child.sent.append((pid, number)))
    return child


@pytest.mark.failure("signal to stemphony run alone")
@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, [4711, 4712]), (signal.SIGTERM, [4711])], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_to_the_command_alone_is_forwarded_once(child, number, expected):
    child._note_signal(number, None)
    child.now += 1.9
    child._pass_on_signal()
    assert child.sent == [], "Snakemake may be about to say that it has it"
    child.now += 0.2
    for _ in range(2):
        child._pass_on_signal()
    assert child.sent == [(pid, number) for pid in expected]


@pytest.mark.failure("signal to stemphony run alone")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_that_reached_snakemake_is_not_forwarded(child, number):
    child._note_signal(number, None)
    child.now += 2.1
    child.lines.append(f"Finished jobid: 2stemphony: {signal_received(number)}")
    child._pass_on_signal()
    assert child.sent == []
    assert child.interrupted


def test_descendants_of_a_process_are_found_within_its_process_group():
    """`sh` keeps running beside both, because only its last command may replace it."""
    below = "sleep 600 & echo $!; setsid sleep 600 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", below], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        near, far = (int(shell.stdout.readline()) for _ in range(2))
        try:
            with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as foreign:
                wait_for(lambda: os.getpgid(far) == far, "the other one to leave the group")
                assert snakemake_process.with_descendants(shell.pid) == [shell.pid, near]
                foreign.communicate(b"\n")
        finally:
            for pid in (near, far):
                os.kill(pid, signal.SIGKILL)
