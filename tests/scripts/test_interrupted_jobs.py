"""Jobs that are killed, stopped, out of time, out of disk or started twice, as real processes, give equal arrays."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from stemphony import paths
from stemphony.orchestration.job_log import last_word
from stemphony.store import checkpoints, ledger, progress
from support.campaign import heeding_hangup, wait_for
from support.interrupted import Job
from support.shared import shared_cache

pytestmark = pytest.mark.slow
RESUMED = "goes on from the checkpoint of an earlier attempt, at "


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Plans of the FFTs are made once for all processes, and not in the user's cache."""
    return {"STEMPHONY_CACHE_DIR": str(shared_cache(tmp_path_factory) / "plans"), "PYTHONWARNINGS": "error"}


@pytest.fixture
def job(tmp_path: Path, env: dict[str, str]) -> Job:
    return Job(tmp_path, env)


def arrays(file: Path) -> dict[str, bytes]:
    with netCDF4.Dataset(file) as root:
        groups = ("AMBER", "params", "adf", "images")
        return {f"{g}/{n}": np.ma.filled(v[...]).tobytes() for g in groups for n, v in root[g].variables.items()}


def runtime(file: Path) -> dict[str, object]:
    with netCDF4.Dataset(file) as root:
        return {name: root["runtime"].getncattr(name) for name in root["runtime"].ncattrs()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> dict[str, dict[str, bytes]]:
    """The arrays of jobs that ran without a stop and without checkpoints."""
    found = {}
    for algorithm in ("multislice", "probe_basis"):
        job = Job(tmp_path_factory.mktemp(algorithm), env, algorithm=algorithm)
        status, log = job.run(STEMPHONY_CHECKPOINT_S="1000")
        assert status == 0, log
        assert "checkpoint" not in log
        assert not job.result.checkpoints_folder.exists() or not list(job.result.checkpoints_folder.glob("*/*"))
        found[algorithm] = arrays(job.output)
    return found


def finish(job: Job, expected: dict[str, bytes], resumed: bool = True, **env: str) -> str:
    """Run a job to its end, and check that its arrays are the expected ones and that no file is left over."""
    status, log = job.run(**env)
    assert status == 0, log
    assert (RESUMED in log) == resumed, log
    assert arrays(job.output) == expected
    assert job.leftovers() == []
    assert ("resumed_at" in runtime(job.output)) == resumed
    return log


def progress_of(job: Job) -> dict[str, object]:
    return json.loads(job.result.progress(0, "p0d000", 0).read_text())


# --- killed, and ended by a signal --------------------------------------------------------------------------------


@pytest.mark.failure("job killed by SIGKILL")
@pytest.mark.parametrize("algorithm", ["multislice", "probe_basis"])
def test_a_killed_job_goes_on_from_its_last_checkpoint(tmp_path, env, undisturbed, algorithm):
    job = Job(tmp_path, env, algorithm=algorithm)
    with job.start() as started:
        wait_for(lambda: job.kept > 0, "a checkpoint")
        started.process.kill()
        started.end()
    assert not job.output.exists()
    kept = job.kept
    log = finish(job, undisturbed[algorithm])
    assert f"{RESUMED}{100 * kept:.0f} %" in log
    assert runtime(job.output)["resumed_at"] == pytest.approx(kept, abs=1e-4)


@pytest.mark.failure("job killed by SIGTERM", "scheduler gets SIGINT", "terminal is closed, connection breaks (SIGHUP)")
@pytest.mark.parametrize(
    ("number", "ends_with", "reason"),
    [
        (signal.SIGTERM, 143, "terminated (SIGTERM)"),
        (signal.SIGHUP, 129, "terminated (SIGHUP)"),
        (signal.SIGINT, 130, "interrupted"),
    ],
    ids=["SIGTERM", "terminal closed", "Ctrl-C"],
)
def test_a_job_that_gets_a_signal_keeps_its_finished_waves(job, undisturbed, number, ends_with, reason):
    with heeding_hangup(), job.start(STEMPHONY_CHECKPOINT_S="1000") as started:
        wait_for(lambda: "10 % of the waves" in started.said, "some waves")
        assert not job.checkpoint.exists()
        started.process.send_signal(number)
        status, log = started.end()
    assert status == ends_with
    assert "Traceback" not in log
    assert job.kept >= 0.1
    assert progress_of(job)["message"] == reason
    # The next attempt's progress begins where this one's ended.
    with job.start() as started:
        wait_for(lambda: progress_of(job)["attempt"] == 2 and progress_of(job)["total"], "progress of attempt 2")
        assert progress_of(job)["done"] > 0
        assert started.end()[0] == 0
    assert arrays(job.output) == undisturbed["multislice"]


@pytest.mark.failure("job ends with an error")
def test_a_job_that_fails_by_itself_keeps_its_checkpoint(job, undisturbed):
    with job.start() as started:
        wait_for(lambda: job.kept > 0, "a checkpoint")
        started.process.kill()
        started.end()
    in_the_way = paths.checksum(job.output)
    in_the_way.mkdir()
    status, log = job.run()
    assert status == 1, log
    assert len([line for line in log.splitlines() if "cannot be written" in line]) == 1
    assert "Traceback" not in log
    assert job.kept > 0
    in_the_way.rmdir()
    finish(job, undisturbed["multislice"])


# --- the time limit -----------------------------------------------------------------------------------------------


@pytest.mark.failure("time limit")
def test_a_job_ends_before_its_time_limit_and_the_next_attempt_goes_on(job, undisturbed):
    # The job keeps back one of a hundred minutes.
    limit = {"STEMPHONY_RUNTIME_MIN": "100", "STEMPHONY_CHECKPOINT_S": "1000"}
    with job.start(**limit, STEMPHONY_JOB_BEGAN=str(time.monotonic() - 1e6)) as started:
        # A time from another machine's clock has no meaning, so the job has all of its time.
        assert started.end()[0] == 0
    job.output.unlink()
    status, log = job.run(**limit, STEMPHONY_JOB_BEGAN=str(time.monotonic() - 5945.0))
    assert status == 1, log
    (line,) = [line for line in log.splitlines() if "time limit" in line]
    # One more wave may be finished before the clock is looked at.
    assert re.sub(r"\d+ %", "0 %", line) == (
        "The time limit of 100 min is near; 0 % of the waves are kept in configuration_0000.checkpoint. "
        "Another attempt goes on from there: Snakemake's retries start it, or you start it with the same command."
    )
    assert "Traceback" not in log
    assert not job.output.exists()
    assert progress_of(job)["message"] == line
    assert not job.claim.exists()
    assert job.kept > 0
    finish(job, undisturbed["multislice"])


def test_the_runtime_ends_no_job_without_a_cluster(job, undisturbed):
    finish(job, undisturbed["multislice"], resumed=False, STEMPHONY_RUNTIME_MIN="0.0001")


@pytest.mark.failure("clock jumps, or is ahead on another machine")
@pytest.mark.parametrize("step_s", [86_400.0, -86_400.0])
def test_a_clock_that_jumps_changes_nothing(job, undisturbed, step_s, tmp_path):
    jumping = tmp_path / "jumping" / "sitecustomize.py"
    jumping.parent.mkdir()
    jumping.write_text(
        f"import time\nreal, jumps = time.time, [0]\n"
        f"def jumped():\n    jumps[0] += 1\n    return real() + {step_s} * (jumps[0] % 7)\n"
        f"time.time = jumped\n"
    )
    clock = {"PYTHONPATH": str(jumping.parent)}
    with job.start(**clock) as started:
        wait_for(lambda: job.kept > 0, "a checkpoint")
        started.process.kill()
        started.end()
    limit = {"STEMPHONY_RUNTIME_MIN": "60", "STEMPHONY_JOB_BEGAN": str(time.monotonic())}
    finish(job, undisturbed["multislice"], **clock, **limit)


# --- checkpoints that cannot be used or written -------------------------------------------------------------------


@pytest.mark.failure("checkpoint damaged or foreign")
@pytest.mark.parametrize("damage", ["cut off", "a bit flipped", "of another job"])
def test_a_damaged_or_foreign_checkpoint_is_refused_with_one_line(job, undisturbed, damage):
    with job.start() as started:
        wait_for(lambda: job.kept > 0, "a checkpoint")
        started.process.kill()
        started.end()
    content = bytearray(job.checkpoint.read_bytes())
    if damage == "cut off":
        content = content[: len(content) // 2]
    elif damage == "a bit flipped":
        content[-200] ^= 1
    else:
        content = content.replace(b'"key": "', b'"key": "0')
    job.checkpoint.write_bytes(content)
    log = finish(job, undisturbed["multislice"], resumed=False)
    (line,) = [line for line in log.splitlines() if "is not used" in line]
    assert "The job starts from the beginning." in line
    assert ("another job" in line) == (damage == "of another job")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB, mounted where a test wants it."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if done.returncode:
        if os.environ.get("STEMPHONY_REQUIRE_ALL"):
            pytest.fail("no tmpfs can be mounted here, and nothing may be skipped")
        pytest.skip("no tmpfs can be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, leave: int = 0) -> Path:
    """Fill a file system except for this number of bytes."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as stream, suppress(OSError):
        while stream.write(bytes(4096)):
            pass
    os.truncate(file, max(0, file.stat().st_size - leave))
    return file


@pytest.mark.failure("disk full while a checkpoint writes")
def test_a_full_disk_for_checkpoints_costs_one_log_line_and_the_job_goes_on(job, undisturbed, small_disk):
    job.result.checkpoints_folder.symlink_to(small_disk)
    filler = fill(small_disk)
    status, log = job.run()
    assert status == 0, log
    assert len([line for line in log.splitlines() if "no checkpoint is kept; the job goes on without one" in line]) == 1
    assert "the job cannot be claimed (No space left on device)" in log
    assert arrays(job.output) == undisturbed["multislice"]
    filler.unlink()
    assert job.leftovers() == []


@pytest.mark.failure("disk full while a job writes")
def test_a_full_disk_fails_the_job_that_writes_its_result_and_the_next_run_finishes_it(
    small_disk, env, undisturbed, tmp_path
):
    job = Job(small_disk / "work", env, logs=tmp_path)
    # Room for the small files of the job, not for its result.
    filler = fill(small_disk, leave=24_000)
    status, log = job.run()
    assert status == 1, log
    (said,) = [line for line in log.splitlines() if "configuration_0000.nc: cannot be written" in line]
    assert re.search(r"The file system has \d+\.\d MB left", said)
    assert "Traceback" not in log
    assert "configuration_0000.nc: cannot be written" in last_word(tmp_path / "1.log")
    assert not job.output.exists()
    assert not [name for name in job.leftovers() if name.endswith(".tmp")]
    filler.unlink()
    finish(job, undisturbed["multislice"], resumed=False)


@pytest.mark.failure("an attempt fails and another one follows")
def test_a_failing_job_notes_the_reason_and_whether_it_is_tried_again(job):
    os.truncate(job.result.specimen, 5000)
    for number, another_try in (("1", True), ("2", False)):
        status, log = job.run(STEMPHONY_TRY=number)
        assert status == 1, log
        noted = progress.job_state(job.result, 0, "p0d000", 0)
        assert (noted["state"], noted["another_try"]) == (progress.FAILED, another_try)
        assert "specimen.nc: is truncated or damaged" in noted["message"]
        assert noted["message"] == log.strip() == last_word(job.logs / f"{number}.log")


def test_notes_and_progress_are_not_taken_for_the_last_message_of_a_log(job):
    status, log = job.run()
    assert status == 0, log
    assert log.strip()
    assert last_word(job.logs / "1.log") == ""


@pytest.mark.failure("read-only results folder")
@pytest.mark.parametrize("known", [False, True])
def test_a_results_folder_that_is_read_only_is_named_in_one_message(small_disk, env, undisturbed, tmp_path, known):
    job = Job(small_disk / "work", env, logs=tmp_path)
    if known:
        ledger.identity(job.result, 0)
    remount = ["mount", "-o", "remount,{}", str(small_disk)]
    subprocess.run([word.format("ro") for word in remount], check=True)
    status, log = job.run()
    assert status == 1, log
    assert "Traceback" not in log
    assert len(log.strip().splitlines()) == 1
    assert "cannot be written" in log
    subprocess.run([word.format("rw") for word in remount], check=True)
    finish(job, undisturbed["multislice"], resumed=False)


# --- started twice ------------------------------------------------------------------------------------------------


@pytest.mark.failure("job started twice", "two stemphony run at once")
def test_a_second_start_of_a_job_waits_and_takes_the_result_of_the_first(job, undisturbed):
    with job.start() as first, job.prepare() as second:
        wait_for(job.claim.exists, "the claim")
        first.process.send_signal(signal.SIGSTOP)
        second.begin()
        wait_for(lambda: "waiting for its result" in second.said, "the second to wait")
        assert f"process {first.process.pid} on " in second.said
        first.process.send_signal(signal.SIGCONT)
        assert first.end()[0] == 0
        by_the_first = job.output.read_bytes()
        status, log = second.end()
    assert status == 0, log
    assert "its result is checked and taken" in log
    assert "of the waves" not in log
    assert job.output.read_bytes() == by_the_first
    assert arrays(job.output) == undisturbed["multislice"]
    assert job.leftovers() == []
    assert progress_of(job)["state"] == "finished"


@pytest.mark.failure("job started twice")
def test_a_second_start_of_a_job_takes_over_at_once_when_the_first_dies(job, undisturbed):
    with job.start() as first, job.prepare() as second:
        wait_for(lambda: job.kept > 0, "a checkpoint")
        first.process.send_signal(signal.SIGSTOP)
        second.begin()
        wait_for(lambda: "waiting for its result" in second.said, "the second to wait")
        first.process.kill()
        status, log = second.end()
    assert status == 0, log
    assert RESUMED in log
    assert arrays(job.output) == undisturbed["multislice"]
    assert job.leftovers() == []


def test_a_waiting_job_ends_before_its_time_is_over(job):
    with job.start() as first:
        wait_for(job.claim.exists, "the claim")
        first.process.send_signal(signal.SIGSTOP)
        limit = {"STEMPHONY_RUNTIME_MIN": "100", "STEMPHONY_JOB_BEGAN": str(time.monotonic() - 5945.0)}
        status, log = job.run(**limit)
        assert status == 1, log
        assert "waiting for another process that computes it" in log
        assert "Traceback" not in log
        assert job.claim.exists()


def test_a_job_takes_an_intact_result_that_another_run_put_aside(job, undisturbed):
    """A restarted Snakemake may delete the result of a job of the killed one; the test does the same."""
    finish(job, undisturbed["multislice"], resumed=False)
    aside = job.result.aside("p0d000", 0)
    checkpoints.put_aside(job.output, aside)
    job.output.unlink()
    status, log = job.run()
    assert status == 0, log
    assert "of the waves" not in log
    assert arrays(job.output) == undisturbed["multislice"]
    assert not aside.exists()

    checkpoints.put_aside(job.output, aside)
    content = bytearray(job.output.read_bytes())
    job.output.unlink()
    content[len(content) // 2] ^= 1
    aside.write_bytes(content)
    finish(job, undisturbed["multislice"], resumed=False)
    assert not aside.exists()


def test_an_outdated_job_puts_its_result_aside(job, undisturbed):
    (job.result.run(3) / "events").mkdir(parents=True)
    job.result.run(2).mkdir()
    status, log = job.run(STEMPHONY_RUN="2")
    assert status == 0, log
    aside = job.result.aside("p0d000", 0)
    assert arrays(aside) == undisturbed["multislice"]
    assert os.path.samestat(aside.stat(), job.output.stat()), "a second name takes no space"
    job.output.unlink()
    assert job.run(STEMPHONY_RUN="3")[0] == 0
    assert not aside.exists()
    assert arrays(job.output) == undisturbed["multislice"]
