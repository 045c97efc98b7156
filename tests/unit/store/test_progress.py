"""Progress of a run: notes of jobs, their sum, and the printed line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from stemphony.paths import ResultPaths
from stemphony.store import progress
from stemphony.store.claims import Holder, process_start
from stemphony.store.progress import Overall, ProgressFile, Tenths, Watch


@pytest.fixture
def result(tmp_path):
    made = ResultPaths(tmp_path / "a")
    made.progress(1, "p0d000", 0).parent.mkdir(parents=True)
    return made


def note(result: ResultPaths, configuration: int, done: int, total: int, end: str = "") -> ProgressFile:
    file = ProgressFile(result.progress(1, "p0d000", configuration), defocus_nm=0.0, configuration=configuration)
    file.update(done, total)
    if end:
        file.end(end, "why")
    return file


def test_jobs_are_summed_up(result):
    note(result, 0, 10, 10, progress.FINISHED)
    note(result, 1, 5, 10)
    note(result, 2, 9, 10, progress.FAILED)
    assert Watch(result, 1).overall(4) == Overall(jobs=4, finished=1, failed=1, running=1, share=1.5 / 4)


def test_interrupted_jobs_and_jobs_whose_process_is_dead_do_not_count_as_running(result):
    note(result, 0, 5, 10)
    note(result, 1, 5, 10, progress.INTERRUPTED)
    dead = note(result, 2, 5, 10)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        dead.state["holder"] = asdict(replace(Holder.here(), pid=process.pid, started=process_start(process.pid)))
        dead.write()
        alive = Watch(result, 1).overall(3)
        process.kill()
    assert (alive.running, alive.failed, alive.interrupted) == (2, 0, 1)
    now = Watch(result, 1).overall(3)
    assert (now.running, now.failed, now.interrupted) == (1, 1, 1)
    assert "1 running, 1 failed, 1 interrupted" in now.line(10.0)


def test_a_job_that_cannot_be_seen_from_here_counts_as_running(result):
    away = note(result, 0, 5, 10)
    for holder in (asdict(replace(Holder.here(), boot="another machine")), None, "damaged"):
        away.state["holder"] = holder
        away.write()
        assert Watch(result, 1).overall(1).running == 1


def test_a_run_without_jobs_is_complete_and_one_without_files_is_not_begun(result):
    assert Watch(result, 1).overall(0).share == 1.0
    assert Watch(result, 1).overall(3) == Overall(3, 0, 0, 0, 0.0)
    assert Watch(result, 99).overall(3).share == 0.0


def test_a_job_that_begins_again_counts_once(result):
    note(result, 0, 10, 10, progress.FAILED)
    note(result, 0, 2, 10)
    assert Watch(result, 1).overall(1) == Overall(1, 0, 0, 1, 0.2)


def test_a_file_that_is_being_written_or_is_damaged_is_left_out(result):
    note(result, 0, 10, 10, progress.FINISHED)
    (result.run(1) / "progress" / "damaged.json").write_text("{")
    (result.run(1) / "progress" / ".hidden.json.123").write_text("{}")
    assert Watch(result, 1).overall(2).finished == 1


def test_progress_is_written_every_two_seconds_at_most(result):
    clock = [100.0]
    file = ProgressFile(result.progress(1, "p0d000", 0), clock=lambda: clock[0])
    file.update(0, 10)
    for done, now, kept in ((1, 100.5, 0), (2, 101.9, 0), (3, 102.1, 3), (4, 102.2, 3)):
        clock[0] = now
        file.update(done, 10)
        assert json.loads(file.file.read_text())["done"] == kept
    file.end(progress.FINISHED)
    state = json.loads(file.file.read_text())
    assert (state["state"], state["done"], state["total"]) == ("finished", 4, 10)


def test_unwritable_progress_stops_nothing(tmp_path):
    file = ProgressFile(tmp_path / "none" / "p.json")
    file.update(1, 2)
    file.end(progress.FAILED, "why")
    assert not (tmp_path / "none").exists()


def test_the_progress_line_is_readable():
    line = Overall(jobs=100, finished=20, failed=1, running=4, share=0.25).line(elapsed_s=1800.0)
    assert "25.0 %" in line
    assert "20/100 jobs" in line
    assert "4 running" in line
    assert "1 failed" in line
    assert "50 jobs/h" in line
    assert "90 min left" in line or "1 h 30 min left" in line
    assert "left" not in Overall(2, 2, 0, 0, 1.0).line(10.0)
    assert Overall(2, 0, 0, 0, 0.0).line(0.0) == "  0.0 %  0/2 jobs"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59.6, "60 s"), (120, "2 min"), (3600, "60 min"), (11100, "3 h 05 min")]
)
def test_durations_are_written_in_words(seconds, words):
    assert progress.duration(seconds) == words


def test_each_tenth_is_printed_once():
    said: list[str] = []
    tenths = Tenths(said.append)
    for percent in range(101):
        tenths.reached(percent / 100, f"{percent}")
        tenths.reached(percent / 100, "again")
    assert said == [str(percent) for percent in range(10, 101, 10)]


def test_skipped_tenths_are_printed_as_one():
    said: list[str] = []
    tenths = Tenths(said.append)
    for share in (0.05, 0.55, 0.58, 1.0, 1.0):
        tenths.reached(share, f"{share}")
    assert said == ["0.55", "1.0"]
    assert [text for text in said if not re.fullmatch(r"[\d.]+", text)] == []
