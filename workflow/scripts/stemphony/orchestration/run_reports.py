"""Status events that the hooks of Snakemake send for one run: its start, errors of its jobs, its end.

No method raises. If a report fails, the simulation continues.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stemphony import provenance
from stemphony.counting import number_of
from stemphony.errors import StemphonyError
from stemphony.orchestration import left_behind
from stemphony.orchestration.orphaned_errors import FailedJobs
from stemphony.paths import ResultPaths
from stemphony.status import settings as status_settings
from stemphony.status.backlog import foreign_in, foreign_in_words, left_in
from stemphony.status.courier import SWEEP_INTERVAL_S, TAIL_INTERVAL_S, Courier
from stemphony.status.events import Event
from stemphony.status.reporter import ONSTART_WAIT_S, RUN_END_WAIT_S, Reporter
from stemphony.store import own_runs

LAST_EVENT_S = 5.0
"""Part of the wait at the end of a run that is reserved for its last event [s]."""


class RunReports:
    """The reporter and the courier of one run.

    Parameters
    ----------
    enabled : bool
        `http_reporting.reporting`. If it is false, every method returns at once.
    config_files : sequence of Path
        Files with url, credentials and custom parameters.
    result : ResultPaths
        Paths of the simulation.
    run : int
        Number of the run.
    common : mapping
        Keys of every event: id, num_threads, num_processors, num_defoci, num_configurations, run.
    say : callable
        Prints a line for the user.
    recorded : bool
        Whether the config files are recorded for `stemphony report replay`.
    settings : ReportingSettings or None
        By default, settings are read from the config files.
    sends : bool
        Whether this process sends its events. If not, it only writes them to disk.
    """

    def __init__(
        self,
        enabled: bool,
        config_files: Sequence[Path],
        result: ResultPaths,
        run: int,
        common: Mapping[str, Any],
        say: Callable[[str], None],
        recorded: bool = True,
        settings: status_settings.ReportingSettings | None = None,
        sends: bool = True,
    ) -> None:
        self.enabled, self.config_files, self.result, self.run = enabled, config_files, result, run
        self.common, self.say, self.recorded = common, say, recorded
        self._courier: Courier | None = None
        self._kept_reporter: Reporter | None = None
        self._kept_settings = settings
        self._sends = sends
        self._file = result.hook_events(run)

    def start(self, title: str, jobs: int, description: Mapping[str, Any], wait_s: float = ONSTART_WAIT_S) -> None:
        """Send START_SIMULATION and wait at most `wait_s` [s]. The reporter and the courier work until `end`.

        Parameters
        ----------
        title : str
            Title of the simulation.
        jobs : int
            Number of jobs that the run has to compute.
        description : mapping
            Values of `events.DESCRIPTION_KEYS`, and `planned_defoci_nm`.
        """
        self._guard("onstart", self._start, title, jobs, description, wait_s)

    def announce(self, title: str, jobs: int, description: Mapping[str, Any], wait_s: float) -> None:
        """Send only START_SIMULATION. Another process calls `follow` and `end`, and sends the rest.

        `title`, `jobs`, `description` and `wait_s` are those of `start`.
        """
        # This process ends soon, so it uses another file. The file of the hooks belongs to a process that lives.
        self._file = self.result.start_event(self.run)
        self._guard("start", self._announce, title, jobs, description, wait_s)
        if self._kept_reporter is not None:
            self._kept_reporter.close(0.0)

    def follow(self) -> None:
        """Start to deliver what earlier runs left, and what jobs of this run leave."""
        if self._sends:
            self._guard("start", self._follow)

    def extend(self, configurations: int) -> None:
        """Put the total number of configurations after a further round into later events."""
        self.common = {**self.common, "num_configurations": configurations}
        if self._kept_reporter is not None:
            self._kept_reporter.extend(configurations)

    def write_errors(self, hook: str, failed: FailedJobs) -> None:
        """Write an ERROR event for each of the jobs `failed` that died without one.

        `hook` names the hook of Snakemake that calls, for the message if this fails.
        """
        self._guard(hook, lambda: failed.write_errors(self._reporter(), self._settings(), self.common))

    def end(
        self, hook: str, event: str, failed: FailedJobs | None = None, message: str = "", number: int | None = None
    ) -> None:
        """Deliver all events of the run, then send the last event, and say what is left.

        If the receiver does not accept the events at once, a separate process sends them later, see `left_behind`.
        Without such a process, this method waits at most 60 s.

        Parameters
        ----------
        hook : str
            Name of the hook, for a message about an error of the report.
        event : str
            FINISH, FAILED or CANCELLED.
        failed : FailedJobs or None
            The failed jobs, for FAILED and CANCELLED.
        message : str
            Reason, for FAILED and CANCELLED.
        number : int or None
            `seq` of the event, if another process sent those before it.
        """
        self._guard(hook, self._end, event, failed, message, number)

    def _guard(self, hook: str, send: Callable[..., None], *arguments: Any) -> None:
        if not self.enabled:
            return
        try:
            send(*arguments)
        except Exception as error:
            what = str(error) if isinstance(error, StemphonyError) else type(error).__name__
            self.say(f"status reporting ({hook}): {what}")

    def _start(self, title: str, jobs: int, description: Mapping[str, Any], wait_s: float) -> None:
        self._announce(title, jobs, description, wait_s)
        self._follow()

    def _announce(self, title: str, jobs: int, description: Mapping[str, Any], wait_s: float) -> None:
        settings = self._settings()
        if not own_runs.knows_receiver(settings.address):
            self.say(f"status reporting: to {settings.address}, where you have sent no reports before")
            own_runs.note_receiver(settings.address)
        reporter = self._reporter()
        if own := [key for key in description if key in settings.parameters]:
            named = " and ".join(f"parameters.{key}" for key in own)
            self.say(f"status reporting: {named} takes the place of the value from the config")
        description = {key: value for key, value in description.items() if key not in own}
        reporter.emit(
            Event.START_SIMULATION, version=provenance.VERSION, git_commit=provenance.git_commit(), title=title,
            result_name=self.result.name, num_jobs=jobs, **description,
        )  # fmt: skip
        reporter.flush(wait_s)

    def _follow(self) -> None:
        settings = self._settings()
        if foreign := foreign_in(self.result):
            file, simulation_id = next(iter(foreign.items()))
            others = number_of(len(foreign) - 1, "more file has", "more files have")
            more = f" {others} such reports." if len(foreign) > 1 else ""
            self.say(f"status reporting: {foreign_in_words(self.result, file, simulation_id)}{more}")
        # The courier delivers what earlier runs left, and what jobs of this run leave.
        interval_s = TAIL_INTERVAL_S if settings.via == status_settings.VIA_SUBMIT_HOST else SWEEP_INTERVAL_S
        self._courier = Courier(self.result, settings, run=self.run, interval_s=interval_s)
        self._courier.start()

    def _end(self, event: str, failed: FailedJobs | None, message: str, number: int | None) -> None:
        began = time.monotonic()
        reporter, courier = self._reporter(), self._courier
        # The event is written to disk first, so it is not lost if the receiver does not answer.
        reporter.hold_back()
        keys: dict[str, Any] = {} if failed is None else {"message": message, **failed.keys()}
        keys |= {} if number is None else {"seq": number}
        reporter.emit(event, **keys)
        waits = not left_behind.longest_s()
        through = False
        try:
            through = courier is None or courier.drain(RUN_END_WAIT_S - LAST_EVENT_S, patient=waits)
            if through or waits:
                reporter.release()
            longest = max(LAST_EVENT_S, RUN_END_WAIT_S - (time.monotonic() - began)) if waits else LAST_EVENT_S
            through = reporter.close(longest if through or waits else 0.0, patient=through and waits)
        except KeyboardInterrupt:
            # The computation is over, so an interrupt ends only this wait.
            self.say("status reporting: the wait for the receiver was interrupted, what is left stays in the spool")
        self._say_what_is_left(not waits)
        if courier is not None:
            courier.stop()

    def _say_what_is_left(self, by_another: bool) -> None:
        refused, trouble = (self._courier.refused, self._courier.trouble) if self._courier is not None else (0, "")
        hopeless = any(sends is not None and sends.is_hopeless for sends in (self._courier, self._kept_reporter))
        reports = self.result.reports
        if refused:
            what = number_of(refused, "report")
            self.say(f"status reporting: the receiver refused {what} permanently, kept in {reports}")
        if left := left_in(self.result):
            why = f" ({trouble})" if trouble else ""
            with_config = "" if self.recorded else "--config FILE "
            command = f"stemphony report replay {with_config}{shlex.quote(str(self.result.root.resolve()))}"
            undelivered = number_of(left, "report is", "reports are")
            stay = "stays" if left == 1 else "stay"
            what = f"status reporting: {undelivered} not delivered{why} and {stay} in {reports}. "
            if by_another and not hopeless and left_behind.start(self.result, self.config_files):
                hours = left_behind.longest_s() / 3600
                self.say(
                    f"{what}A process goes on sending them for {hours:.3g} h, also after this run; then the next run "
                    f"sends the rest, or do: {command}"
                )
            else:
                self.say(f"{what}The next run sends them, or do: {command}")

    def _reporter(self) -> Reporter:
        """The one reporter of the run, so that the events of the hooks keep their order."""
        if self._kept_reporter is None:
            settings = self._settings()
            self._kept_reporter = Reporter(settings, self.common, self._file, send=self._sends, warn=self.say)
        return self._kept_reporter

    def _settings(self) -> status_settings.ReportingSettings:
        """Settings as they were when the run started. Later changes of the config hold for the next run."""
        if self._kept_settings is None:
            self._kept_settings = status_settings.load(self.config_files)
        return self._kept_settings
