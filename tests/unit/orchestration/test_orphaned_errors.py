"""Errors of jobs that could not report them: which attempts have no end, and what is written for them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from stemphony.experiment.campaign import Defocus
from stemphony.orchestration.orphaned_errors import DIED, NEVER_BEGAN, FailedJobs, Orphan, orphans_of
from stemphony.paths import ResultPaths, job_name
from stemphony.status.delivery import read_events
from stemphony.status.reporter import Reporter
from stemphony.status.settings import ReportingSettings
from stemphony.status.spool import Spool, spool_file_of
from stemphony.store import progress


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
    """Note the state of a job whose spool has a beginning and no end."""
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
