"""Errors of jobs that could not report them: attempts without an end, and the events for them."""

from __future__ import annotations

import json
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from stemphony.experiment.campaign import Defocus
from stemphony.orchestration.orphaned_errors import DIED, NEVER_BEGAN, FailedJobs, Orphan, orphans_of
from stemphony.paths import ResultPaths, job_name
from stemphony.status.backlog import left_in
from stemphony.status.courier import Courier
from stemphony.status.delivery import read_events
from stemphony.status.reporter import JobReporter, Reporter
from stemphony.status.settings import ReportingSettings
from stemphony.status.spool import Spool, spool_file_of
from stemphony.store import progress
from support.status_server import EchoServer, closed_port


def attempt(result: ResultPaths, job: str, number: int, *events: str, torn: bool = False) -> None:
    target = Spool(spool_file_of(result.events(3), job, number))
    for event in events:
        target.append(json.dumps({"event": event, "job": job, "attempt": number}).encode())
    target.close()
    if torn:
        with target.path.open("ab") as file:
            file.write(b'{"event": "FINISH_FP_CONF')


def test_orphans_are_attempts_without_an_end(tmp_path):
    result = ResultPaths(tmp_path / "results/x")
    attempt(result, "finished", 1, "START_FP_CONFIGURATION", "FINISH_FP_CONFIGURATION")
    attempt(result, "failed", 2, "START_FP_CONFIGURATION", "ERROR")
    attempt(result, "killed", 1, "START_FP_CONFIGURATION", "PROGRESS", torn=True)
    attempt(result, "retried", 4, "START_FP_CONFIGURATION", "PROGRESS")
    attempt(result, "retried", 5, "START_FP_CONFIGURATION", "FINISH_FP_CONFIGURATION")
    attempt(result, "told", 1, "START_FP_CONFIGURATION")
    attempt(result, "told", 1, "ERROR")  # by a hook, in the file beside it
    attempt(result, "empty", 1)
    assert orphans_of(result, 3) == [Orphan("killed", 1, False), Orphan("retried", 4, True)]
    assert orphans_of(result, 2) == []


ONE, TWO = Defocus(0.0, "p0d000", 0, 1.0), Defocus(2.5, "p2d500", 1, 1.0)
COMMON = {"id": "00000000-0000-0000-0000-000000000001", "num_threads": 1, "run": 3}


def job_of(result: ResultPaths, defocus: Defocus, configuration: int, **state: Any) -> None:
    """Write the state of a job whose spool has a beginning and no end."""
    attempt(result, job_name(defocus.id, configuration), 1, "START_FP_CONFIGURATION")
    noted = progress.ProgressFile(
        result.progress(3, defocus.id, configuration),
        defocus_nm=defocus.value_nm,
        configuration=configuration,
        attempt=1,
    )
    noted.file.parent.mkdir(parents=True, exist_ok=True)
    noted.state.update(state)
    noted.write()


def test_each_silent_job_has_one_error_with_its_reason(tmp_path):
    result = ResultPaths(tmp_path / "results/x")
    (result.run(3)).mkdir(parents=True)
    job_of(result, ONE, 0)
    job_of(result, ONE, 1, state=progress.FAILED, message="out of memory")
    job_of(result, TWO, 0, state=progress.FINISHED)
    campaign: Any = SimpleNamespace(defocus={d.id: d for d in (ONE, TWO)}.__getitem__)
    failed = FailedJobs(campaign, result, 3, 5, [(ONE.id, 0), (ONE.id, 1), (TWO.id, 1)])
    settings = ReportingSettings(reporting=True, url="http://127.0.0.1:9")
    run = Reporter(settings, COMMON, None, send=False, warn=lambda text: None)
    failed.write_errors(run, settings, COMMON)
    found = {}
    for file in result.events(3).rglob("*.jsonl"):
        for event, _ in read_events(file):
            if event is not None and event["event"] == "ERROR":
                found[event["job"]] = event["message"], event["will_retry"], event["seq"], event["defocus_index"]
    assert found == {
        job_name(ONE.id, 0): (DIED, False, 1, 0),
        job_name(ONE.id, 1): ("out of memory", False, 1, 0),
        job_name(TWO.id, 1): (NEVER_BEGAN, False, 0, 1),
    }
    assert failed.keys()["num_failed"] == 3
    assert failed.keys()["num_never_ran"] == 1, "5 jobs, 3 began, 1 failed before it began"


# --- one ERROR for each attempt, with one content ---------------------------------------------------------------------

RUN: Any = SimpleNamespace(defocus={ONE.id: ONE}.__getitem__)


def job_reporter(result: ResultPaths, url: str) -> JobReporter:
    """The reporter of an attempt at job (ONE, 0), as the job itself makes it."""
    return JobReporter(
        ReportingSettings(reporting=True, url=url), COMMON, defocus_nm=0.0, defocus_index=0, configuration_index=0,
        run=3, attempt=1, job=job_name(ONE.id, 0), reports_dir=result.events(3),
        marker_file=result.defocus_claim(3, ONE.id), warn=lambda text: None,
    )  # fmt: skip


def write_errors(result: ResultPaths, url: str) -> None:
    """Do what the hook does at the end of a run."""
    settings = ReportingSettings(reporting=True, url=url)
    run = Reporter(settings, COMMON, None, send=False, warn=lambda text: None)
    FailedJobs(RUN, result, 3, 1, [(ONE.id, 0)]).write_errors(run, settings, COMMON)


def errors_in(result: ResultPaths) -> list[dict[str, Any]]:
    spools = sorted(result.events(3).rglob("*.jsonl"))
    return [event for file in spools for event, _ in read_events(file) if event and event["event"] == "ERROR"]


def noted(result: ResultPaths, state: str) -> None:
    """The progress file of job (ONE, 0)."""
    file = result.progress(3, ONE.id, 0)
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = progress.ProgressFile(file, defocus_nm=0.0, configuration=0, attempt=1)
    kept.state.update(state=state)
    kept.write()


@pytest.mark.parametrize("state", [progress.FAILED, progress.RUNNING])
def test_an_error_in_the_spool_of_a_killed_job_is_the_only_one(tmp_path, state):
    """With RUNNING, the disk had no room for the job's last state. The courier sends what the job wrote, once."""
    result = ResultPaths(tmp_path / "results/x")
    reporter = job_reporter(result, f"http://127.0.0.1:{closed_port()}/")
    noted(result, state)
    reporter.start()
    reporter.error("terminated (SIGTERM)")
    reporter.close(0.0)
    with EchoServer() as server:
        write_errors(result, server.url)
        courier = Courier(result, ReportingSettings(reporting=True, url=server.url), run=3)
        courier.start()
        assert courier.drain(30.0, patient=True)
        courier.stop()
        told = [event for event in server.events if event["event"] == "ERROR"]
    assert left_in(result) == 0
    assert told == errors_in(result)
    assert [(event["message"], event["seq"]) for event in told] == [("terminated (SIGTERM)", 3)]


def test_a_job_that_is_just_ending_writes_its_error_itself(tmp_path):
    """A cancelled cluster job still ends while the run writes errors. Both events would have one id."""
    result = ResultPaths(tmp_path / "results/x")
    reporter = job_reporter(result, f"http://127.0.0.1:{closed_port()}/")
    noted(result, progress.RUNNING)
    reporter.start()

    def end() -> None:
        time.sleep(0.5)
        reporter.error("terminated (SIGTERM)")
        reporter.close(0.0)

    job = threading.Thread(target=end)
    job.start()
    write_errors(result, f"http://127.0.0.1:{closed_port()}/")
    job.join()
    assert [event["message"] for event in errors_in(result)] == ["terminated (SIGTERM)"]


def test_a_job_that_lives_on_has_no_error(tmp_path):
    result = ResultPaths(tmp_path / "results/x")
    reporter = job_reporter(result, f"http://127.0.0.1:{closed_port()}/")
    name = job_name(ONE.id, 0)
    reporter.start()
    assert orphans_of(result, 3, ending_s=0.3) == []
    # The lock may belong to a failed node.
    assert orphans_of(result, 3, {name}, ending_s=0.3) == [Orphan(name, 1, False)]
    reporter.close(0.0)
    assert orphans_of(result, 3, ending_s=0.3) == [Orphan(name, 1, False)]


def test_the_error_of_the_run_has_the_place_that_the_jobs_own_would_have_and_an_id_of_its_own(tmp_path):
    killed, whole = ResultPaths(tmp_path / "a/x"), ResultPaths(tmp_path / "b/x")
    for result in (killed, whole):
        reporter = job_reporter(result, f"http://127.0.0.1:{closed_port()}/")
        noted(result, progress.RUNNING)
        reporter.start()
        if result is whole:
            reporter.error(DIED, will_retry=False)
        reporter.close(0.0)
    write_errors(killed, f"http://127.0.0.1:{closed_port()}/")
    ((by_run,), (by_job,)) = errors_in(killed), errors_in(whole)
    assert by_run.pop("event_id") != by_job.pop("event_id")
    del by_run["time"], by_job["time"]
    assert by_run == by_job
