"""The life of a run: what Stemphony does when Snakemake starts, when it succeeds and when it fails.

A hook that raises makes the run fail. So trouble with status reports only prints a line for the user. A results folder
that cannot be written ends the run, because no job could keep its result.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stemphony import paths
from stemphony.contract import LIVE_VARIABLE, PLAN_VARIABLE, RUN_PREFIX, RUN_VARIABLE, signal_received
from stemphony.counting import number_of
from stemphony.errors import StemphonyError
from stemphony.orchestration import outdated, slurm
from stemphony.orchestration.dag import Graph, is_incomplete
from stemphony.orchestration.orphaned_errors import FailedJobs
from stemphony.orchestration.plan import Preflight
from stemphony.orchestration.run_reports import RunReports
from stemphony.status.events import Event
from stemphony.status.reporter import ONSTART_WAIT_S
from stemphony.store import copies, ledger, own_runs, progress
from stemphony.store.checkpoints import put_aside, sweep
from stemphony.store.holders import forget_run, note_run
from stemphony.store.rounds import last_round, round_in_words
from stemphony.store.unfinished import sweep_unfinished
from stemphony.terminal import plain

WATCH_S = 5.0
"""Time between two looks at the progress [s]. A run prints at most one line per tenth of its work."""


class Run:
    """One invocation of Snakemake.

    Parameters
    ----------
    checked : Preflight
        The campaign.
    graph : Graph
        Snakemake's jobs.
    say : callable
        Prints a line for the user.
    notes : sequence of str
        Lines for the user, printed when the run starts.
    may_replace : bool
        Whether files of finished pairs may be replaced by those of another config.
    sweep : bool
        Whether the campaign is a member of a sweep. Then `SweepRun` prints the plan and the progress, handles signals,
        and gives the number of the run to the jobs.
    """

    def __init__(
        self,
        checked: Preflight,
        graph: Graph,
        say: Callable[[str], None],
        notes: Sequence[str] = (),
        may_replace: bool = False,
        sweep: bool = False,
    ) -> None:
        self.checked, self.graph, self.say, self.notes = checked, graph, say, [*notes]
        self.may_replace, self.sweep = may_replace, sweep
        self.drawn_seed = 0
        self.report_wait_s = ONSTART_WAIT_S
        self.campaign = checked.campaign
        self.result = paths.ResultPaths.of(self.campaign.name)
        self.number = 0
        self.jobs = 0
        self.reports: RunReports | None = None
        self.cancelled_by = ""
        self.ended = threading.Event()
        self.is_forced = False

    def force_outdated(self) -> None:
        """Make Snakemake compute outdated files again, see `outdated`. Call before Snakemake decides which jobs run."""
        if self.is_forced:
            return
        self.is_forced = True
        self._force_foreign()
        if note := outdated.why_merge_again(self.campaign, self.result):
            self.graph.force([self.result.merged])
            self.notes.append(note)

    def extend(self, configurations: int) -> None:
        """Extend the campaign to `configurations`, the total of a further round. A smaller total changes nothing.

        Call this method before Snakemake decides which of its jobs run.
        """
        before = self.campaign.configurations
        if configurations <= before:
            return
        self.checked = self.checked.extended(configurations)
        self.campaign = self.checked.campaign
        self._force_foreign(before)
        if self.number:
            self._begin_round(before)

    def _force_foreign(self, first: int = 0) -> None:
        """Make Snakemake compute job files of another config again, from configuration `first` on, and say so."""
        foreign = outdated.foreign_job_files(self.campaign, self.result, first)
        if not foreign:
            return
        self.graph.force(foreign)
        number = number_of(len(foreign), "job file is", "job files are")
        note = f"{number} of another config: {'it is' if len(foreign) == 1 else 'they are'} computed again"
        # Notes are printed when the run starts. A further round begins later, so its note is printed at once.
        if self.number:
            self.say(note)
        else:
            self.notes.append(note)

    def _begin_round(self, before: int) -> None:
        """Write the plan and the reports of a round that begins in this run. `before` configurations exist already."""
        pairs = [(d.id, index) for d in self.campaign.defoci for index in range(before, self.campaign.configurations)]
        for pair in pairs:
            file = self.result.job(*pair)
            if file.exists() and is_incomplete(file):
                # A job of a killed run finished this file after the run had died. Snakemake will delete the file.
                put_aside(file, self.result.aside(*pair))
        self.jobs += sum(not self.result.job(*pair).exists() for pair in pairs)
        plan = self._write_plan()
        if plan["shared_waves"]:
            self.graph.prefer(self.result.job(*pair) for pair in pairs if pair[0] == self.campaign.defoci[0].id)
        if self.reports is not None:
            self.reports.extend(self.campaign.configurations)
        content = last_round(self.result, before)
        if content is not None:
            self.say(round_in_words(content))

    # --- onstart ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the identity, the run's number and plan.json, then send START_SIMULATION.

        An error budget is no run of the simulation. It has its own plan and sends no events.
        """
        if self.graph.only_touches:
            return
        try:
            if self.graph.only_budgets:
                self._start_budget()
            else:
                self.begin()
        except StemphonyError as error:
            # If the error were raised further, Snakemake would print a traceback.
            self.say(str(error))
            sys.exit(1)

    def require_leave(self) -> None:
        """Refuse to replace finished pairs unless the user allows it. Raises ConfigError."""
        if not self.may_replace and self.checked.standing is not None:
            self.checked.standing.require_leave(self.graph.pairs(), self.checked.replacement_cost)

    def begin(self) -> None:
        """Do what `start` does for a simulation. Raises StemphonyError."""
        self.require_leave()
        seed = self.campaign.config["simulation"]["random_seed"] or self.drawn_seed
        margin = self.campaign.edges.margin_nm
        identity = ledger.identity(self.result, seed, self._recorded_identity(), margin)
        if note := copies.settle_identity(self.result, own_runs.folder_of(identity.id)):
            self.notes.append(note)
        identity = ledger.identity(self.result, seed)
        self.number = ledger.claim_run(self.result, own_runs.latest_run_of(identity.id))
        self.jobs = self.graph.number_of_jobs()
        plan = self._write_plan()
        if not self.sweep:
            self.graph.set_variable(RUN_VARIABLE, str(self.number))
        for (defocus, configuration), file in self.graph.finished_unseen():
            # Snakemake deletes the file. The job then finds its second name, checks it, and takes it as the result.
            put_aside(file, self.result.aside(defocus, configuration))
        sweep_unfinished(self.result)
        if plan["shared_waves"]:
            self.graph.start_one_job_per_configuration()
        if not self.sweep:
            begin_here(self.result.run_name, self.graph, self.say, self._note_signal)
            for line in (*plan["plan"], *self.notes):
                self.say(line)
        self._begin_reports(identity, plan)
        if not self.sweep and not os.environ.get(LIVE_VARIABLE):
            threading.Thread(target=self._watch, daemon=True).start()

    def _begin_reports(self, identity: ledger.Identity, plan: Mapping[str, Any]) -> None:
        files, folder = self.checked.inputs.config_files, self.result.root.resolve()
        recorded = own_runs.note_own_run(identity.id, files, folder, self.number)
        common = {"id": identity.id, "instance": identity.instance, "num_threads": plan["threads"], "run": self.number}
        common |= {key: plan[key] for key in ("num_processors", "num_defoci", "num_configurations")}
        inputs = self.checked.inputs
        self.reports = RunReports(
            inputs.config["http_reporting"]["reporting"],
            inputs.config_files,
            self.result,
            self.number,
            common,
            self.say,
            recorded,
        )
        try:
            self.reports.start(plan["title"], self.jobs, self.checked.description, self.report_wait_s)
        except KeyboardInterrupt:
            self.error()  # after Ctrl-C here, Snakemake calls no further hook
            raise

    def _start_budget(self) -> None:
        ledger.write_budget_plan(self.result, self.checked.plan(0, 1, 0, ledger.now()))
        self.graph.set_variable(PLAN_VARIABLE, str(self.result.accuracy_plan.resolve()))
        note_run(self.result.name, Path.cwd(), os.getpid())
        listen_for_cancel(self._note_signal)

    def _note_signal(self, name: str) -> None:
        self.cancelled_by = name

    def _write_plan(self) -> Mapping[str, Any]:
        processors = self.graph.parallel_jobs(int(self.campaign.config["resources"]["threads"]))
        plan = self.checked.plan(self.number, processors, self.jobs, ledger.now()) | {"retries": self.graph.retries()}
        plan |= ledger.noted_identity(self.result)
        ledger.write_plan(self.result, plan, self.number)
        return plan

    def _recorded_identity(self) -> tuple[str, int] | None:
        """If simulation.json is lost, its id and seed from job files or the plan. A newly drawn seed would not fit."""
        if self.result.identity.exists():
            return None
        from stemphony.results.job_file import recorded_identity

        return recorded_identity(self.result) or ledger.planned_identity(ledger.read_plan(self.result))

    def _watch(self) -> None:
        """Print one line per tenth of the work, for a terminal without `stemphony run`."""
        tenths, watch = progress.Tenths(self.say), progress.Watch(self.result, self.number)
        while not self.ended.wait(WATCH_S):
            now = watch.overall(self.jobs)
            if self.jobs:
                tenths.reached(
                    now.share, f"simulation {100 * now.share:.0f} %: {now.finished} of {self.jobs} jobs finished"
                )

    # --- onsuccess, onerror -------------------------------------------------------------------------------------------

    def success(self) -> None:
        """Send FINISH if the merged result is complete. Else send FAILED: the user has run only a part of the jobs."""
        if self.reports is None:
            self._forget()
            return
        failed = self._write_errors("onsuccess", self.reports)
        if outdated.is_merged(self.campaign, self.result):
            sweep(self.result)
            if self.campaign.goal is not None and (content := last_round(self.result, self.campaign.configurations)):
                self.say(round_in_words(content))
            self.reports.end("onsuccess", Event.FINISH)
        else:
            self.reports.end("onsuccess", Event.FAILED, failed, "the run ended without a merged result")
        self._forget()

    def error(self) -> None:
        """Send ERROR for jobs that died without sending it, then FAILED or CANCELLED."""
        if self.reports is None:
            self._forget()
            return
        self.graph.repeat_failed_merge()
        failed = self._write_errors("onerror", self.reports)
        event = Event.CANCELLED if self.cancelled_by else Event.FAILED
        message = f"cancelled by {self.cancelled_by}" if self.cancelled_by else "a job failed"
        self.reports.end("onerror", event, failed, message)
        self._forget()

    def _forget(self) -> None:
        if not self.sweep:  # a sweep ends after its last member
            forget_run(Path.cwd(), os.getpid())

    def _write_errors(self, hook: str, reports: RunReports) -> FailedJobs:
        self.ended.set()
        failed = FailedJobs(self.campaign, self.result, self.number, self.jobs, self.graph.failed_pairs())
        reports.write_errors(hook, failed)
        return failed


def begin_here(name: str, graph: Graph, say: Callable[[str], None], note: Callable[[str], None]) -> None:
    """Record that this process runs `name` in this directory. On SIGINT and SIGTERM, `note` gets the signal's name.

    `graph` says whether jobs run on this machine. If not, `say` prints a line about jobs of `name` that Slurm has.
    """
    note_run(name, Path.cwd(), os.getpid())
    listen_for_cancel(note)
    if not graph.is_local and (queued := slurm.queued_before_start(Path.cwd(), name)):
        say(queued)


def listen_for_cancel(note: Callable[[str], None]) -> None:
    """On SIGINT and SIGTERM, call `note` and write a line at once, before Snakemake's own handlers act."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        if not callable(before):
            continue  # the signal is ignored, for example in a background process of a shell

        def noted(received: int, frame: Any, before: Any = before) -> None:
            note(signal.Signals(received).name)
            # `say` is not used, because the signal may interrupt a `print`, and a stream cannot be entered twice.
            with suppress(OSError):
                os.write(2, f"{RUN_PREFIX}{signal_received(received)}\n".encode())
            before(received, frame)

        signal.signal(number, noted)


def say(text: str) -> None:
    """Print the line `text` for the user, among those of Snakemake."""
    print(f"{RUN_PREFIX}{plain(text)}", file=sys.stderr, flush=True)
