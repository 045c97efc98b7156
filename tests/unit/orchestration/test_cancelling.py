"""A run that is cancelled at any moment cancels every job that it submitted."""

from __future__ import annotations

import importlib
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from stemphony.orchestration import cancelling

NAMES = ("report_job_submission", "report_job_success", "report_job_error", "cancel")


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An executor of Snakemake's own class, adapted, without a cluster."""
    remote = importlib.import_module(cancelling.REMOTE)
    for name in NAMES:
        monkeypatch.setattr(remote.RemoteExecutor, name, getattr(remote.RemoteExecutor, name))
    cancelling.cancel_every_job()

    class Executor(remote.RemoteExecutor):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            self.active_jobs: list[Any] = []
            self.cancelled: list[str] = []
            self.lock = threading.Lock()
            callbacks = ("submit_callback", "finish_callback", "error_callback")
            self.workflow = SimpleNamespace(scheduler=SimpleNamespace(**dict.fromkeys(callbacks, lambda job: None)))

        def run_job(self, job: Any) -> None: ...

        async def check_active_jobs(self, active_jobs: Any) -> Any: ...

        def cancel_jobs(self, active_jobs: list[Any]) -> None:
            self.cancelled += [job.external_jobid for job in active_jobs]

        def shutdown(self) -> None: ...

        def print_job_error(self, *_: Any, **__: Any) -> None: ...

        def submit(self, number: str) -> Any:
            from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

            info = SubmittedJobInfo(SimpleNamespace(register=lambda **_: None), external_jobid=number)
            self.report_job_submission(info)
            return info

    return Executor()


def test_jobs_whose_state_is_being_asked_for_are_cancelled(executor: Any):
    for number in ("1", "2"):
        executor.submit(number)
    # As in RemoteExecutor._wait_for_jobs, before it asks.
    executor.active_jobs.clear()
    executor.submit("3")
    executor.cancel()
    assert sorted(executor.cancelled) == ["1", "2", "3"]


def test_a_job_that_has_ended_is_not_cancelled(executor: Any):
    jobs = [executor.submit(number) for number in ("1", "2", "3")]
    executor.report_job_success(jobs[0])
    executor.report_job_error(jobs[1], msg="killed")
    executor.active_jobs = jobs[2:]
    executor.cancel()
    assert executor.cancelled == ["3"]
