"""Runs that note themselves in a working directory, and what a run says of Slurm jobs that are there before its own."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from stemphony import hooks, slurm
from stemphony.paths import ResultPaths
from stemphony.store.claims import process_start
from stemphony.store.holders import HOLDERS, forget_this_run, holders, note_this_run

LEFT = [slurm.QueuedJob("7", "RUNNING"), slurm.QueuedJob("8", "PENDING")]


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the run of `tiny` in this process says; two jobs of `tiny` are in Slurm's queue."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "leftovers", lambda directory, name: LEFT if name == "tiny" else [])
    return []


def begin(said: list[str]) -> None:
    run = hooks.Run.__new__(hooks.Run)
    run.result, run.say = ResultPaths.of("tiny"), said.append
    note_this_run("tiny")
    run._say_whose_jobs_are_queued()


def note(**other: object) -> None:
    """Another run, as its own process has noted it."""
    parent = os.getppid()
    noted = {"simulation": "tiny", "host": socket.gethostname(), "pid": parent, "started": process_start(parent)}
    HOLDERS.mkdir(parents=True)
    (HOLDERS / "another.json").write_text(json.dumps({**noted, **other}))


def test_a_run_notes_itself_and_takes_the_note_back(said: list[str]):
    note_this_run("tiny")
    (holder,) = holders(Path.cwd())
    assert (holder.simulation, holder.pid) == ("tiny", os.getpid())
    assert (holder.is_alive, holder.is_elsewhere, holder.is_this_process) == (True, False, True)
    forget_this_run()
    assert holders(Path.cwd()) == []
    forget_this_run()


@pytest.mark.parametrize("other", [None, {"started": "1"}, {"simulation": "another"}], ids=["alone", "dead", "foreign"])
def test_jobs_are_left_by_a_killed_run_if_no_other_of_the_simulation_is_alive(said: list[str], other: dict | None):
    if other is not None:
        note(**other)
    begin(said)
    (line,) = said
    assert "from a run that was killed (1 pending, 1 running)" in line
    assert line.endswith(": scancel 7 8")


def test_jobs_of_a_living_run_are_its_own(said: list[str]):
    note()
    begin(said)
    assert said == [
        "Slurm has 2 jobs of this simulation (1 pending, 1 running). Another run of it is alive "
        f"(process {os.getppid()}): they are left to that one."
    ]


def test_of_a_run_on_another_machine_nobody_knows(said: list[str]):
    note(host="login2", pid=4711)
    begin(said)
    (line,) = said
    assert "Another run of it, on login2 (process 4711), may be alive: then they are its own." in line
    assert "If you know that it is dead" in line
    assert line.endswith(": scancel 7 8")


def test_without_jobs_nothing_is_said(said: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(slurm, "leftovers", lambda directory, name: [])
    note()
    begin(said)
    assert said == []
