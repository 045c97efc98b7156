"""Errors of jobs that could not report them: killed, out of memory, on a node that failed, or never started.

The process of Snakemake writes an ERROR event for each of them when the run ends.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from stemphony import paths
from stemphony.experiment.campaign import Campaign, Defocus
from stemphony.orchestration.dag import Pair
from stemphony.orchestration.job_log import last_word
from stemphony.paths import ResultPaths
from stemphony.status.delivery import is_being_sent, last_event
from stemphony.status.events import Event, event_id, failure_keys
from stemphony.status.reporter import Reporter
from stemphony.status.settings import ReportingSettings
from stemphony.status.spool import count_lines, spool_file_of
from stemphony.store import ledger, progress

DIED: Final = "the job ended without a message (killed, out of memory, or its node failed)"
NEVER_BEGAN: Final = "the job failed before it began"
BY_THE_RUN: Final = "by the run"
"""Part of the id of an ERROR that the run writes for a job."""

ENDING_S: Final = 8.0
"""Longest wait for jobs that are just ending [s]. After SIGTERM, a job writes a checkpoint and reports its end."""

_LOOK_S: Final = 0.1
"""Time between two looks at these jobs [s]."""
_ENDS: Final = (Event.FINISH_FP_CONFIGURATION, Event.ERROR)


@dataclass(frozen=True)
class Orphan:
    """An attempt at a job whose spool has no end.

    Attributes
    ----------
    job : str
        Name of the job, see `paths.job_name`.
    was_retried : bool
        Whether a later attempt at the same job began in the same run.
    """

    job: str
    attempt: int
    was_retried: bool


def orphans_of(result: ResultPaths, run: int, over: Collection[str] = (), ending_s: float = ENDING_S) -> list[Orphan]:
    """Attempts of a run whose spool ends neither with FINISH_FP_CONFIGURATION nor with ERROR, and whose job is over.

    A job that was cancelled on a cluster may still be writing its own ERROR, so this function waits for it. A job that
    is alive after `ending_s` reports its end itself.

    Parameters
    ----------
    result, run : ResultPaths, int
        The simulation and the number of the run.
    over : collection of str
        Names of jobs that are over according to Snakemake. If a node fails, the lock of its job may remain.
    ending_s : float
        Longest wait for such jobs [s].

    Returns
    -------
    list of Orphan
        Ordered by pair and attempt.
    """
    until = time.monotonic() + ending_s
    while (living := _living_without_end(result, run)) and time.monotonic() < until:
        time.sleep(_LOOK_S)
    ended = _ends_of(result, run)
    newest: dict[str, int] = {}
    for name, attempt in ended:
        newest[name] = max(attempt, newest.get(name, 0))
    return [
        Orphan(name, attempt, attempt < newest[name])
        for (name, attempt), end in sorted(ended.items())
        if not end and (name in over or (name, attempt) not in living)
    ]


def _living_without_end(result: ResultPaths, run: int) -> set[tuple[str, int]]:
    """Attempts that have not written their end, and whose process is alive according to the lock of the spool."""
    open_ones = {key for key, end in _ends_of(result, run).items() if not end}
    return {key for key in open_ones if is_being_sent(spool_file_of(result.events(run), *key))}


def _ends_of(result: ResultPaths, run: int) -> dict[tuple[str, int], bool]:
    """Whether each attempt of a run has written its end, by name of the job and number of the attempt."""
    ended: dict[tuple[str, int], bool] = {}
    for spool in result.events(run).rglob("*.attempt-*.jsonl"):
        event = last_event(spool)
        if event is not None and isinstance(event.get("job"), str) and isinstance(event.get("attempt"), int):
            key = event["job"], event["attempt"]
            ended[key] = ended.get(key, False) or event["event"] in _ENDS
    return ended


@dataclass(frozen=True)
class FailedJobs:
    """The jobs of one run that did not succeed, after all of its jobs have ended.

    Attributes
    ----------
    campaign, result : Campaign, ResultPaths
        The campaign and the paths of its files.
    run, jobs : int
        Number of the run, and number of jobs that it had to compute.
    failed : list of (str, int)
        Jobs that Snakemake counts as failed, by defocus id and configuration.
    """

    campaign: Campaign
    result: ResultPaths
    run: int
    jobs: int
    failed: list[Pair]

    def keys(self) -> dict[str, Any]:
        """Keys `failed`, `num_failed` and `num_never_ran` of the events FAILED and CANCELLED."""
        states = self._states()
        bad = [state for state in states if state["state"] in progress.NOT_WELL or state["died"]]
        pairs = [(self._defocus(state).index, int(state["configuration"])) for state in bad]
        never_began = [(defocus.index, configuration) for defocus, configuration in self._never_began()]
        return failure_keys([*pairs, *never_began], max(0, self.jobs - len(states) - len(never_began)))

    def write_errors(self, reporter: Reporter, settings: ReportingSettings, common: Mapping[str, Any]) -> None:
        """Write an ERROR event for each attempt that ended without writing one. The courier sends it after the others.

        This includes failed attempts at jobs that succeeded later in this run.

        Parameters
        ----------
        reporter : Reporter
            The reporter of the run. It sends an event that could not be written because the disk is full.
        settings : ReportingSettings
        common : mapping
            Keys of every event of the run.
        """
        states = {self._attempt_of(state): state for state in self._states()}
        over = {paths.job_name(*pair) for pair in self.failed}
        orphans = orphans_of(self.result, self.run, over)
        silent = {(orphan.job, orphan.attempt): orphan.was_retried for orphan in orphans}
        # Dead jobs without a spool: the disk was full.
        in_spools = _ends_of(self.result, self.run)
        silent |= {key: False for key, state in states.items() if state["died"] and key not in in_spools}
        errors: list[tuple[Defocus, int, int, str, bool]] = []
        for (name, attempt), was_retried in silent.items():
            state = states.get((name, attempt), {})
            if state.get("state") != progress.FINISHED:
                defocus_id, configuration = paths.pair_of_job(name)
                # The log and the state belong to the last attempt.
                said = last_word(self.result.log(defocus_id, configuration)) if state else ""
                message = str(state.get("message") or said or DIED)
                errors.append((self.campaign.defocus(defocus_id), configuration, attempt, message, was_retried))
        for defocus, configuration in self._never_began():
            attempt = ledger.claim_attempt(self.result, defocus.id, configuration)
            errors.append((defocus, configuration, attempt, NEVER_BEGAN, False))
        for defocus, configuration, attempt, message, will_retry in errors:
            name = paths.job_name(defocus.id, configuration)
            of_job: dict[str, Any] = {"job": name, "attempt": attempt}
            spool = spool_file_of(self.result.events(self.run), name, attempt)
            keys: dict[str, Any] = {
                # The job's own ERROR has another id: on a full disk, the job may have sent it with another text.
                "event_id": event_id(
                    common["id"], self.run, Event.ERROR, name, attempt, common.get("instance", ""), BY_THE_RUN
                ),
                "defocus": defocus.value_nm, "defocus_index": defocus.index, "configuration_index": configuration,
                "message": message, "will_retry": will_retry,
                # The last event of this attempt, after all that the job has written.
                "seq": count_lines(spool),
            }  # fmt: skip
            writer = Reporter(settings, {**common, **of_job}, spool, send=False, warn=lambda text: None)
            writer.emit(Event.ERROR, **keys)
            writer.close(0.0)
            if not writer.has_written_all:
                # The disk is full: the run sends the event from memory, and warns.
                reporter.emit(Event.ERROR, **of_job, **keys)

    def _states(self) -> list[dict[str, Any]]:
        """States of the run's jobs. If a state is still `running` and there is no result, the job has died."""
        found = progress.states(self.result, self.run)
        for state in found:
            file = self.result.job(paths.defocus_id(state["defocus_nm"]), state["configuration"])
            state["died"] = state["state"] == progress.RUNNING and not file.exists()
        return found

    def _never_began(self) -> list[tuple[Defocus, int]]:
        """Jobs that failed before they could write a progress file: not submitted, or killed while Python started."""
        return [
            (self.campaign.defocus(defocus), configuration)
            for defocus, configuration in self.failed
            if not self.result.progress(self.run, defocus, configuration).exists()
        ]

    def _defocus(self, state: Mapping[str, Any]) -> Defocus:
        return self.campaign.defocus(paths.defocus_id(state["defocus_nm"]))

    @staticmethod
    def _attempt_of(state: Mapping[str, Any]) -> tuple[str, int]:
        name = paths.job_name(paths.defocus_id(state["defocus_nm"]), int(state["configuration"]))
        return name, int(state["attempt"])
