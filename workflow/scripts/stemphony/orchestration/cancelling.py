"""Ctrl-C on a cluster: cancel every job that was submitted and has not ended."""

from __future__ import annotations

import sys
from typing import Any, Final

REMOTE: Final = "snakemake_interface_executor_plugins.executors.remote"
"""Module of the class from which the executors of all clusters derive."""


def cancel_every_job() -> None:
    """Make Snakemake's executors cancel all of their jobs. Without effect if no executor of a cluster is loaded.

    A cancelled run cancels the jobs on the executor's list of active jobs. But an executor takes all jobs off this list
    while it queries their states. Ctrl-C during these queries would leave all jobs in the queue. Queries take a large
    part of the time, because there is one per job and a limit on their rate. So this function notes each submitted job
    until its end is reported, and puts it back on the list before the jobs are cancelled.
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
