"""Access to Snakemake's own objects: the graph of jobs, the records of outputs, the scheduler.

Snakemake does not document these names. `tests/unit/orchestration/test_dag.py` checks that the pinned version of
Snakemake still has each of them. Two kinds of such names stand elsewhere: `snakefile.py` and `as_module.py` read the
settings of the `workflow` object, and `slurm.py` and `cancelling.py` replace methods of executors for clusters.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stemphony.contract import ACCURACY_RULES, MERGE_RULE, MULTISLICE_RULE

RECORDS = Path(".snakemake")
"""Folder of Snakemake's records, below the working directory."""

Pair = tuple[str, int]
"""Id of a defocus and number of a configuration: one job."""


class Graph:
    """The jobs of one invocation of Snakemake.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
        The object `workflow` of the Snakefile. Its graph exists from `onstart` on.
    member : str
        Label of a member of a sweep, to see only its jobs. Empty for all jobs.
    """

    def __init__(self, workflow: Any, member: str = "") -> None:
        self.workflow, self.member = workflow, member

    @property
    def only_touches(self) -> bool:
        """Whether Snakemake only renews the times of files (`--touch`)."""
        return bool(self.workflow.touch)

    @property
    def is_local(self) -> bool:
        """Whether the jobs run on this machine."""
        return bool(self.workflow.local_exec)

    @property
    def only_budgets(self) -> bool:
        """Whether all jobs of this invocation belong to an error budget. Such an invocation is no run."""
        return {job.rule.name for job in self.workflow.dag.needrun_jobs()} <= ACCURACY_RULES

    @property
    def has_jobs(self) -> bool:
        """Whether this invocation has any job that is waiting, running or failed."""
        return any(map(self._is_ours, self.workflow.dag.needrun_jobs()))

    def number_of_jobs(self) -> int:
        """Count the jobs of rule run_multislice that this invocation will start."""
        return sum(1 for _ in self._multislice_jobs())

    def pairs(self) -> list[Pair]:
        """The jobs of rule run_multislice that this invocation will start."""
        return [_pair(job) for job in self._multislice_jobs()]

    def retries(self) -> int:
        """How often Snakemake tries a failed job of rule run_multislice again."""
        return next((int(rule.restart_times) for rule in self.workflow.rules if rule.name == MULTISLICE_RULE), 0)

    def parallel_jobs(self, threads: int) -> int:
        """How many jobs of `threads` threads may run at once: cores / threads here, option `--jobs` on a cluster."""
        settings = self.workflow.resource_settings
        if settings.nodes is not None and not self.is_local:
            return int(settings.nodes)
        return max(1, int(settings.cores or 1) // threads)

    def set_variable(self, name: str, value: str) -> None:
        """Set the environment variable `name` to `value` for all jobs.

        The jobs get it even if the executor does not pass the environment on.
        """
        os.environ[name] = value
        self.workflow.register_envvars(name)

    def finished_unseen(self) -> Iterator[tuple[Pair, Path]]:
        """Job files that exist and that Snakemake is about to delete, because it did not see their jobs end.

        If Snakemake is killed, its jobs still finish these files. The next Snakemake treats them as missing or
        incomplete.

        Yields
        ------
        pair : (str, int)
        file : Path
        """
        workflow, graph, settings = self.workflow, self.workflow.dag, self.workflow.dag_settings
        for job in self._multislice_jobs():
            file = Path(str(job.output[0]))
            # The user wants these files to be computed again.
            is_forced = settings.forceall or settings.forcerun & {MULTISLICE_RULE, str(file)}
            if is_forced or not file.exists():
                continue
            # Snakemake's reason "forced" is not used, because incomplete files have it, too. Files of other params are
            # neither missing nor incomplete, so they are not kept.
            if graph.reason(job).missing_output or workflow.async_run(workflow.persistence.incomplete(job)):
                yield _pair(job), file

    def start_one_job_per_configuration(self) -> None:
        """Give priority to one job of each configuration. This job computes the waves that the other defoci use.

        The other jobs do not depend on it. Otherwise, one lost job file would recompute all other defoci, and one
        failed job would stop them.
        """
        graph = self.workflow.dag
        first: dict[int, Any] = {}
        for job in sorted(self._multislice_jobs(), key=lambda job: str(job.output)):
            first.setdefault(_pair(job)[1], job)
        for job in first.values():
            graph.priorityfiles.update(job.output)
        graph.update_priority()

    def start_first(self, files: Iterable[Path]) -> None:
        """Give priority to the jobs that make `files`, after Snakemake has decided which jobs run."""
        self.workflow.dag.priorityfiles.update(map(str, files))
        self.workflow.dag.update_priority()

    def prefer(self, files: Iterable[Path]) -> None:
        """Give priority to the jobs that make `files`. Call before Snakemake decides which jobs run."""
        self.workflow.dag.priorityfiles.update(map(str, files))

    def force(self, files: Iterable[Path]) -> None:
        """Make Snakemake compute `files` again. Call before Snakemake decides which jobs run."""
        self.workflow.dag.forcefiles.update(map(str, files))

    def failed_pairs(self) -> list[Pair]:
        """Jobs of rule run_multislice that Snakemake counts as failed."""
        failed = (job for job in self.workflow.scheduler.failed if job.rule.name == MULTISLICE_RULE)
        return [_pair(job) for job in failed if self._is_ours(job)]

    def repeat_failed_merge(self) -> None:
        """Make the next run merge again if the merge of this run failed.

        Snakemake puts the old stem.nc back, because the rule marks it `update`. But the file gets a new time, and
        Snakemake records the params of the failed merge. So the file would look current to the next run. This method
        records it as incomplete, so that it is merged again.
        """
        for job in self.workflow.scheduler.failed:
            if job.rule.name == MERGE_RULE and self._is_ours(job):
                self.workflow.persistence.started(job)

    def _multislice_jobs(self) -> Iterator[Any]:
        jobs = (job for job in self.workflow.dag.needrun_jobs() if job.rule.name == MULTISLICE_RULE)
        return filter(self._is_ours, jobs)

    def _is_ours(self, job: Any) -> bool:
        return not self.member or getattr(job.wildcards, "member", "") == self.member


def is_module(workflow: Any) -> bool:
    """Whether Snakemake reads the Snakefile as a `module` of another workflow."""
    return not workflow.modifier.is_main_snakefile()


def moves_files(workflow: Any) -> bool:
    """Whether the statement `module` has `prefix` or `replace_prefix`, which change the paths of all files.

    `workflow` is Snakemake's object of this name.
    """
    modifier = workflow.modifier.path_modifier
    return bool(modifier.prefix or modifier._prefix_replacements)


def has_record(file: Path) -> bool:
    """Whether Snakemake has a record of how a file was made. `file` is relative to the working directory."""
    return _record("metadata", file).exists()


def is_incomplete(file: Path) -> bool:
    """Whether Snakemake began to make a file and did not finish. `file` is relative to the working directory."""
    return _record("incomplete", file).exists()


def _record(kind: str, file: Path) -> Path:
    return RECORDS / kind / base64.urlsafe_b64encode(str(file).encode()).decode()


def _pair(job: Any) -> Pair:
    return job.wildcards.defocus, int(job.wildcards.configuration)
