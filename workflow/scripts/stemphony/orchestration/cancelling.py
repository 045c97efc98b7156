"""Ctrl-C on a cluster: every job that was submitted and has not ended is cancelled."""

from __future__ import annotations

import sys
from typing import Any, Final

REMOTE: Final = "snakemake_interface_executor_plugins.executors.remote"
"""Module of the class from which the executors of all clusters derive."""


def cancel_every_job() -> None:
    """Make Snakemake's executors cancel all of their jobs; without effect if none of them is loaded.

    An executor takes all jobs off its list of active jobs while it asks for their states, and a cancelled run cancels
    the jobs on this list. So Ctrl-C in the middle of the questions would leave all jobs in the queue. With one question
    per job and a limit on the questions per second, this is a large part of the time. Here each submitted job is noted
    until its end is reported, and is put back on the list before the jobs are cancelled.
    """
    remote: Any = sys.modules.get(REMOTE)
    if remote is None:
        return
    executor = remote.RemoteExecutor
    submission, cancel = executor.report_job_submission, executor.cancel
    success, failure = executor.report_job_success, executor.report_job_error
    submitted: dict[int, Any] = {}

    def report_job_submission(self: Any, job: Any, *arguments: Any, **options: Any) -> None:
        submitted[id(job)] = job
        submission(self, job, *arguments, **options)

    def report_job_success(self: Any, job: Any, *arguments: Any, **options: Any) -> None:
        submitted.pop(id(job), None)
        success(self, job, *arguments, **options)

    def report_job_error(self: Any, job: Any, *arguments: Any, **options: Any) -> None:
        submitted.pop(id(job), None)
        failure(self, job, *arguments, **options)

    def cancel_all(self: Any) -> None:
        with self.lock:
            listed = {id(job) for job in self.active_jobs}
            self.active_jobs.extend(job for job in [*submitted.values()] if id(job) not in listed)
        cancel(self)

    executor.report_job_submission = report_job_submission
    executor.report_job_success = report_job_success
    executor.report_job_error = report_job_error
    executor.cancel = cancel_all
