"""Runs note themselves in a working directory, and a run reports Slurm jobs that existed before its own."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest
from stemphony.commands.snakemake_process import SnakemakeProcess
from stemphony.orchestration import slurm
from stemphony.paths import ResultPaths
from stemphony.store.claims import process_start
from stemphony.store.holders import HOLDERS, forget_run, holders, note_run

LEFT = [slurm.QueuedJob("7", "RUNNING"), slurm.QueuedJob("8", "PENDING")]


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Messages of a run of `tiny` in this process, while two jobs of `tiny` are in Slurm's queue."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "leftovers", lambda directory, name: LEFT if name == "tiny" else [])
    return []


def begin(said: list[str]) -> None:
    note_run("tiny", Path.cwd(), os.getpid())
    if line := slurm.queued_before_start(Path.cwd(), "tiny"):
        said.append(line)


def note(**other: object) -> None:
    """Write the note of another run."""
    parent = os.getppid()
    noted = {"simulation": "tiny", "host": socket.gethostname(), "pid": parent, "started": process_start(parent)}
    HOLDERS.mkdir(parents=True)
    (HOLDERS / "another.json").write_text(json.dumps({**noted, **other}))


def test_a_run_notes_itself_and_removes_the_note(said: list[str]):
    note_run("tiny", Path.cwd(), os.getpid())
    (holder,) = holders(Path.cwd())
    assert (holder.simulation, holder.pid) == ("tiny", os.getpid())
    assert (holder.is_alive, holder.is_elsewhere, holder.is_this_process) == (True, False, True)
    forget_run(Path.cwd(), os.getpid())
    assert holders(Path.cwd()) == []
    forget_run(Path.cwd(), os.getpid())


def test_a_snakemake_that_is_killed_early_has_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`stemphony run` writes the note, because Snakemake takes its lock before it could write the note itself."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers
    result = ResultPaths.of("tiny", tmp_path / "results")
    sleeping = SnakemakeProcess(["sleep", "100"], tmp_path, result, holds=True)
    (holder,) = holders(tmp_path)
    assert (holder.simulation, holder.pid, holder.is_alive) == ("tiny", sleeping.process.pid, True)
    sleeping.process.kill()
    assert sleeping.wait() == -signal.SIGKILL
    assert [(one.pid, one.is_alive) for one in holders(tmp_path)] == [(holder.pid, False)]
    holder.file.unlink()
    assert SnakemakeProcess(["true"], tmp_path, result, holds=True).wait() == 0
    assert holders(tmp_path) == [], "it has ended by itself"


@pytest.mark.parametrize("other", [None, {"started": "1"}, {"simulation": "another"}], ids=["alone", "dead", "foreign"])
def test_jobs_are_left_by_a_killed_run_if_no_other_of_the_simulation_is_alive(said: list[str], other: dict | None):
    if other is not None:
        note(**other)
    begin(said)
    (line,) = said
    assert "from a run that was killed (1 pending, 1 running)" in line
    assert line.endswith(": scancel 7 8")


def test_jobs_of_a_living_run_belong_to_that_run(said: list[str]):
    note()
    begin(said)
    assert said == [
        "Slurm has 2 jobs of this simulation (1 pending, 1 running). Another run of it is alive "
        f"(process {os.getppid()}), and the jobs belong to that run."
    ]


def test_a_run_on_another_machine_may_be_alive(said: list[str]):
    note(host="login2", pid=4711)
    begin(said)
    (line,) = said
    assert "Another run of it, on login2 (process 4711), may be alive; then they belong to it." in line
    assert "If you know that it is dead" in line
    assert line.endswith(": scancel 7 8")


def test_no_jobs_give_no_message(said: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(slurm, "leftovers", lambda directory, name: [])
    note()
    begin(said)
    assert said == []
