"""Unfinished files of killed processes are removed; those of living processes and other machines stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stemphony.cli import main
from stemphony.paths import ResultPaths
from stemphony.store import atomic, ledger, unfinished
from stemphony.store.unfinished import sweep_unfinished
from support.campaign import wait_for
from support.experiments import SCRIPTS

HANGS = """
import sys, time
from pathlib import Path
from stemphony.store.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    time.sleep(600)
"""


@pytest.fixture
def result(tmp_path: Path) -> ResultPaths:
    result = ResultPaths.of("one", tmp_path)
    ledger.identity(result, 1)
    result.job("p0d000", 0).parent.mkdir(parents=True)
    return result


def begin(file: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """A process that writes a file, and the unfinished file."""
    process = subprocess.Popen([sys.executable, "-c", HANGS, file], env={**os.environ, "PYTHONPATH": str(SCRIPTS)})
    wait_for(lambda: list(file.parent.glob(f".{file.name}.*")), "a file that is begun")
    (begun,) = file.parent.glob(f".{file.name}.*")
    return process, begun


@pytest.mark.failure("killed while it writes a file")
def test_unfinished_files_of_killed_processes_are_removed_and_those_of_living_ones_stay(result):
    (killed, of_killed), (living, of_living) = begin(result.job("p0d000", 0)), begin(result.merged)
    try:
        assert sweep_unfinished(result) == ([], [])
        killed.send_signal(signal.SIGKILL)
        wait_for(lambda: not unfinished.process_start(killed.pid), "the process to end")
        with atomic.atomic_path(result.specimen) as of_this:
            of_this.write_text("half")
            assert sweep_unfinished(result) == ([of_killed], [])
            assert of_this.exists()
        assert not of_killed.exists()
        assert of_living.exists()
    finally:
        for process in (killed, living):
            process.kill()
            process.wait()


@pytest.mark.failure("killed while it writes a file")
def test_unfinished_files_of_other_machines_stay_and_are_named_by_clean(result, monkeypatch, capsys):
    monkeypatch.setattr(atomic, "place", lambda: "0123abcd")
    elsewhere = atomic.temporary_beside(result.merged)
    monkeypatch.setattr(atomic, "place", lambda: "")
    nowhere = atomic.temporary_beside(result.merged)
    foreign = [result.root / ".notes.tmp", result.root / ".stem.nc.1-0a.tmp"]
    for file in (elsewhere, nowhere, *foreign):
        file.touch()
    assert sweep_unfinished(result) == ([], sorted((elsewhere, nowhere)))
    assert main(["clean", str(result.root)]) == 0
    said = capsys.readouterr().out
    assert "2 unfinished files that other machines made" in said
    assert str(elsewhere) in said
    assert [file for file in (elsewhere, nowhere, *foreign) if not file.exists()] == []


def test_clean_says_what_it_removed(result, capsys):
    killed, begun = begin(result.merged)
    killed.kill()
    killed.wait()
    assert main(["clean", str(result.root)]) == 0
    assert "removed 1 unfinished file of processes that were killed" in capsys.readouterr().out
    assert not begun.exists()
