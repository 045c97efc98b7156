"""What happens around a run of Snakemake: identity, plan and events, from onstart, onsuccess and onerror.

A hook that raises fails the run, so status reporting never raises here; a results folder that cannot be written
does, because no job could keep its result.
"""

from __future__ import annotations

import base64
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stemphony import paths, provenance
from stemphony.errors import StemphonyError
from stemphony.experiment.campaign import Defocus
from stemphony.orchestration import job, slurm
from stemphony.orchestration.preflight import Preflight
from stemphony.status import settings as status_settings
from stemphony.status.courier import SWEEP_INTERVAL_S, TAIL_INTERVAL_S, Courier, left_in
from stemphony.status.events import Event, event_id, failure_keys
from stemphony.status.orphans import orphans_of
from stemphony.status.reporter import ONSTART_WAIT_S, RUN_END_WAIT_S, Reporter
from stemphony.status.spool import count_lines, spool_file_of
from stemphony.store import ledger, progress
from stemphony.store.checkpoints import put_aside, sweep
from stemphony.store.holders import forget_run, holders, note_run
from stemphony.store.unfinished import sweep_unfinished

LIVE_VARIABLE = "STEMPHONY_LIVE"
MERGE_RULE = "merge_results"
WATCH_S = 5.0
LAST_WORD_S = 5.0
"""Part of the wait at the end of a run that is kept for the event that ends it."""
OURS = "stemphony: "
"""What each line of a hook begins with."""
DIED = "the job died without a word (killed, out of memory, or its node failed)"


class Run:
    """One invocation of Snakemake.

    Parameters
    ----------
    checked : Preflight
        The campaign.
    workflow : snakemake.workflow.Workflow
        For what Snakemake alone knows: cores, the jobs to run, whether it only touches files.
    say : callable
        Prints a line for the user.
    notes : sequence of str
        What is to be said when it starts.
    """

    def __init__(
        self, checked: Preflight, workflow: Any, say: Callable[[str], None], notes: Sequence[str] = ()
    ) -> None:
        self.checked, self.workflow, self.say, self.notes = checked, workflow, say, [*notes]
        self.result = paths.ResultPaths.of(checked.campaign.name)
        self.number = 0
        self.jobs = 0
        self.reporter: Reporter | None = None
        self.courier: Courier | None = None
        self.settings: status_settings.ReportingSettings | None = None
        self.cancelled_by = ""
        self.ended = threading.Event()
        self.common: dict[str, Any] = {}
        self.is_forced = False

    # --- onstart ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the identity, the run's number and plan.json, then send START_SIMULATION."""
        if self.workflow.touch:
            return
        try:
            self._start()
        except StemphonyError as error:
            # No job could keep its result. Snakemake would print a traceback.
            self.say(str(error))
            sys.exit(1)

    def _start(self) -> None:
        checked, campaign = self.checked, self.checked.campaign
        seed = campaign.config["simulation"]["random_seed"]
        identity = ledger.identity(self.result, seed, self._recorded_identity())
        self.number = ledger.claim_run(self.result)
        self.jobs = sum(1 for job in self.workflow.dag.needrun_jobs() if job.rule.name == "run_multislice")
        processors = self._processors()
        plan = {**checked.plan(self.number, processors, self.jobs, ledger.now()), "retries": self._retries()}
        ledger.write_plan(self.result, plan, self.number)
        os.environ[job.RUN_VARIABLE] = str(self.number)
        # Executors that hand no environment on put what is registered into the job's command, or its description.
        self.workflow.register_envvars(job.RUN_VARIABLE)
        self._keep_what_orphans_finished()
        sweep_unfinished(self.result)
        note_run(self.result.name, Path.cwd(), os.getpid())
        self._listen_for_cancel()
        if plan["shared_waves"]:
            self._one_job_of_each_configuration_first()
        for line in (*plan["plan"], *self.notes):
            self.say(line)
        if not self.workflow.local_exec:
            self._say_whose_jobs_are_queued()
        self.common = {
            "id": identity.id,
            "num_threads": plan["threads"],
            "num_processors": processors,
            "num_defoci": plan["num_defoci"],
            "num_configurations": plan["num_configurations"],
            "run": self.number,
        }
        try:
            self._report("onstart", self._send_start, plan)
        except KeyboardInterrupt:
            self.error()  # Snakemake calls no further hook then
            raise
        if not os.environ.get(LIVE_VARIABLE):
            threading.Thread(target=self._watch, daemon=True).start()

    def _recorded_identity(self) -> tuple[str, int] | None:
        """What job files tell of a simulation.json that was lost: another drawn seed would not fit to them."""
        if self.result.identity.exists():
            return None
        from stemphony.results.job_file import recorded_identity

        return recorded_identity(self.result)

    def _send_start(self, plan: Mapping[str, Any]) -> None:
        reporter = self._open_reporter()
        reporter.emit(
            Event.START_SIMULATION,
            version=provenance.VERSION,
            git_commit=provenance.git_commit(),
            title=plan["title"],
            result_name=self.result.name,
            num_jobs=self.jobs,
        )
        # Kept open: what is not through after this wait goes on being sent while the jobs run.
        reporter.flush(ONSTART_WAIT_S)
        # What earlier runs have left, and what jobs of this one leave.
        settings = self._settings()
        interval_s = TAIL_INTERVAL_S if settings.via == status_settings.VIA_SUBMIT_HOST else SWEEP_INTERVAL_S
        self.courier = Courier(self.result, settings, run=self.number, interval_s=interval_s)
        self.courier.start()

    def _retries(self) -> int:
        """How often Snakemake tries a failed job again."""
        return next((int(rule.restart_times) for rule in self.workflow.rules if rule.name == "run_multislice"), 0)

    def _processors(self) -> int:
        """Jobs that may run side by side: cores/threads, or `jobs` on a cluster."""
        settings = self.workflow.resource_settings
        if settings.nodes is not None and not self.workflow.local_exec:
            return int(settings.nodes)
        return max(1, int(settings.cores or 1) // int(self.checked.campaign.config["resources"]["threads"]))

    def _keep_what_orphans_finished(self) -> None:
        """Keep files that jobs of a killed Snakemake have finished since, which this one would delete.

        It did not see them end, so they are incomplete or missing to it. The job finds the file, checks it and is done.
        """
        workflow, dag, settings = self.workflow, self.workflow.dag, self.workflow.dag_settings
        for needed in dag.needrun_jobs():
            file = Path(str(needed.output[0])) if needed.rule.name == "run_multislice" else None
            if file is None or not file.exists():
                continue
            # A file that the user wants computed again is not kept, nor one of other params. (Snakemake's reason does
            # not tell: it calls incomplete files forced as well.)
            if settings.forceall or settings.forcerun & {needed.rule.name, str(file)}:
                continue
            if dag.reason(needed).missing_output or workflow.async_run(workflow.persistence.incomplete(needed)):
                defocus, configuration = needed.wildcards.defocus, int(needed.wildcards.configuration)
                put_aside(file, self.result.aside(defocus, configuration))

    def _say_whose_jobs_are_queued(self) -> None:
        """Nothing is submitted yet: what is queued is of a run that was killed, or of one beside this.

        `stemphony run` has waited for the former, and refuses to begin beside the latter; Snakemake alone does neither.
        """
        try:
            queued = slurm.leftovers(Path.cwd(), self.result.name)
        except slurm.SlurmIsSilentError:
            return
        others = [one for one in holders(Path.cwd()) if one.simulation == self.result.name and not one.is_this_process]
        beside = next((one for one in others if one.is_alive), next((one for one in others if one.is_elsewhere), None))
        if queued and beside is not None:
            self.say(slurm.of_a_run_beside(queued, beside.pid, beside.host if beside.is_elsewhere else None))
        elif queued:
            self.say(f"{slurm.of_a_killed_run(queued)}. What they compute is computed twice, unless you end them: "
                     f"{slurm.cancel(queued)}")  # fmt: skip

    def _one_job_of_each_configuration_first(self) -> None:
        """Start with jobs that compute the waves of their configuration; the others then find them.

        No dependency, which would make a lost job file recompute those of the other defoci, and let a failing one
        take them along.
        """
        dag, led = self.workflow.dag, set()
        for needed in sorted(dag.needrun_jobs(), key=lambda needed: str(needed.output)):
            if needed.rule.name == "run_multislice" and needed.wildcards.configuration not in led:
                led.add(needed.wildcards.configuration)
                dag.priorityfiles.update(needed.output)
        dag.update_priority()

    def _listen_for_cancel(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)
            if not callable(before):
                continue  # ignored: as in a background process of a shell

            def noted(received: int, frame: Any, before: Any = before) -> None:
                self.cancelled_by = signal.Signals(received).name
                # Not `say`: where the signal came in the midst of a line, the stream cannot be entered again.
                with suppress(OSError):
                    os.write(2, f"{OURS}{heard(received)}\n".encode())
                before(received, frame)

            signal.signal(number, noted)

    def _watch(self) -> None:
        """One line per tenth, for a terminal without `stemphony run`."""
        tenths, watch = progress.Tenths(self.say), progress.Watch(self.result, self.number)
        while not self.ended.wait(WATCH_S):
            now = watch.overall(self.jobs)
            if self.jobs:
                tenths.reached(
                    now.share, f"simulation {100 * now.share:.0f} %: {now.finished} of {self.jobs} jobs finished"
                )

    # --- onsuccess, onerror -------------------------------------------------------------------------------------

    def success(self) -> None:
        """Send FINISH if the merged result is complete, else FAILED: only a part was asked for."""
        if not self.number:
            return
        self.ended.set()
        self._report("onsuccess", self._write_orphaned_errors)
        if self._is_complete():
            sweep(self.result)
            self._report("onsuccess", self._end, Event.FINISH)
        else:
            self._report("onsuccess", self._end, Event.FAILED, "the run ended without a merged result")
        forget_run(Path.cwd(), os.getpid())

    def error(self) -> None:
        """Send ERROR for jobs that died without their own, then FAILED or CANCELLED."""
        if not self.number:
            return
        self.ended.set()
        self._have_it_merged_again()
        self._report("onerror", self._write_orphaned_errors)
        if self.cancelled_by:
            self._report("onerror", self._end, Event.CANCELLED, f"cancelled by {self.cancelled_by}")
        else:
            self._report("onerror", self._end, Event.FAILED, "a job failed")
        forget_run(Path.cwd(), os.getpid())

    def force_what_snakemake_cannot_see(self) -> None:
        """Before Snakemake decides what runs: it goes by times, and by records that may be gone.

        A stem.nc that is not readable is merged again. Of a file without a record, because `.snakemake` was deleted or
        the results were copied, the file itself tells whether it is the planned one.
        """
        if self.is_forced:
            return
        self.is_forced = True
        foreign = self._foreign_job_files()
        if foreign:
            self._force(foreign, f"{len(foreign)} job files are of another config: they are computed anew")
        merged = self.result.merged
        if not (merged.is_file() and os.access(merged, os.R_OK)):
            return
        # The package netCDF4 is imported only where there is a file to read.
        from stemphony.results.origin import origin_of

        origin = origin_of(merged)
        if origin is None:
            self._force([merged], f"{merged} is truncated or damaged: it is merged anew")
        elif self._has_no_record(merged) and origin.merge_digest != self._merge_digest:
            self._force([merged], f"{merged} is of another config: it is merged anew")

    def _force(self, files: Sequence[Path], note: str) -> None:
        self.workflow.dag.forcefiles.update(map(str, files))
        self.notes.append(note)

    def _has_no_record(self, file: Path) -> bool:
        """Whether Snakemake does not know from what a file was made."""
        return not record_of("metadata", file).exists()

    def _foreign_job_files(self) -> list[Path]:
        """Job files without a record that are of another campaign, by their checksum files."""
        planned = self.checked.campaign
        pairs = [(defocus.id, number) for defocus in planned.defoci for number in range(planned.configurations)]
        files = {pair: self.result.job(*pair) for pair in pairs}
        unrecorded = {pair: file for pair, file in files.items() if file.exists() and self._has_no_record(file)}
        if not unrecorded:
            return []
        # The package netCDF4 is imported only where there is a file to read.
        from stemphony.results.job_file import read_checksum

        found = []
        for pair, file in unrecorded.items():
            kept = read_checksum(file)
            if kept is not None and kept.job_digest not in ("", provenance.digest(planned.job_params(*pair))):
                found.append(file)
        return found

    def _have_it_merged_again(self) -> None:
        """After a merge that refused its inputs, see that the next run tries again.

        Snakemake puts the present stem.nc back, because it is marked `update`, with a new time and the params of the
        merge that failed: the next run would find it up to date. Marked incomplete, it is merged again.
        """
        for failed in self.workflow.scheduler.failed:
            if failed.rule.name == MERGE_RULE:
                self.workflow.persistence.started(failed)

    def _is_complete(self) -> bool:
        """Whether stem.nc is readable and was merged from what this run planned."""
        from stemphony.results.origin import origin_of

        origin = origin_of(self.result.merged)
        return origin is not None and origin.merge_digest == self._merge_digest

    @property
    def _merge_digest(self) -> str:
        """Digest of what this run's campaign is merged from."""
        return provenance.digest(self.checked.campaign.merge_params)

    def _states(self) -> list[dict[str, Any]]:
        """States of this run's jobs; one that is still `running` now, without its result, has died silently."""
        found = progress.states(self.result, self.number)
        for state in found:
            file = self.result.job(paths.defocus_id(state["defocus_nm"]), state["configuration"])
            state["died"] = state["state"] == progress.RUNNING and not file.exists()
        return found

    def _failure(self, message: str) -> dict[str, Any]:
        states = self._states()
        bad = [state for state in states if state["state"] == progress.FAILED or state["died"]]
        pairs = [(self._defocus(state).index, int(state["configuration"])) for state in bad]
        never_began = [(defocus.index, configuration) for defocus, configuration in self._failed_before_they_began()]
        started = len(states) + len(never_began)
        return {"message": message, **failure_keys([*pairs, *never_began], max(0, self.jobs - started))}

    def _defocus(self, state: Mapping[str, Any]) -> Defocus:
        return self.checked.campaign.defocus(paths.defocus_id(state["defocus_nm"]))

    def _failed_before_they_began(self) -> list[tuple[Defocus, int]]:
        """Jobs that failed before they could note anything: not submitted, killed while Python was starting."""
        campaign, found = self.checked.campaign, []
        for failed in self.workflow.scheduler.failed:
            if failed.rule.name == "run_multislice":
                defocus = campaign.defocus(failed.wildcards.defocus)
                configuration = int(failed.wildcards.configuration)
                if not self.result.progress(self.number, defocus.id, configuration).exists():
                    found.append((defocus, configuration))
        return found

    def _write_orphaned_errors(self) -> None:
        """ERROR for each attempt that ended without its own, written beside its spool: the courier sends both in order.

        Among them are attempts that Snakemake tried again, with success.
        """
        states = {self._attempt_of(state): state for state in self._states()}
        silent = {(orphan.job, orphan.attempt): orphan.was_retried for orphan in orphans_of(self.result, self.number)}
        # Without a spool: the disk was full.
        silent |= {key: False for key, state in states.items() if state["died"] and key not in silent}
        for (name, attempt), was_retried in silent.items():
            state = states.get((name, attempt), {})
            if state.get("state") != progress.FINISHED:
                defocus, configuration = self._pair_of(name)
                # The log is that of the last attempt, of which alone there is a state.
                said = job.last_word(self.result.log(defocus.id, configuration)) if state else ""
                message = str(state.get("message") or said or DIED)
                self._write_error_of(defocus, configuration, attempt, message, will_retry=was_retried)
        for defocus, configuration in self._failed_before_they_began():
            attempt = ledger.claim_attempt(self.result, defocus.id, configuration)
            message = "the job failed before it began"
            self._write_error_of(defocus, configuration, attempt, message, will_retry=False)

    def _attempt_of(self, state: Mapping[str, Any]) -> tuple[str, int]:
        name = paths.job_name(paths.defocus_id(state["defocus_nm"]), int(state["configuration"]))
        return name, int(state["attempt"])

    def _pair_of(self, name: str) -> tuple[Defocus, int]:
        defocus, configuration = paths.pair_of_job(name)
        return self.checked.campaign.defocus(defocus), configuration

    def _write_error_of(
        self, defocus: Defocus, configuration: int, attempt: int, message: str, *, will_retry: bool
    ) -> None:
        name = paths.job_name(defocus.id, configuration)
        spool = spool_file_of(self.result.events(self.number), name, attempt)
        of_job: dict[str, Any] = {"job": name, "attempt": attempt}
        keys: dict[str, Any] = {
            # The id that the job's own ERROR would have had, so that the two are never counted twice.
            "event_id": event_id(self.common["id"], self.number, Event.ERROR, name, attempt),
            "defocus": defocus.value_nm,
            "defocus_index": defocus.index,
            "configuration_index": configuration,
            "message": message,
            "will_retry": will_retry,
            # After all that the job has written: it is the last event of this attempt.
            "seq": count_lines(spool),
        }
        writer = Reporter(self._settings(), {**self.common, **of_job}, spool, send=False, warn=lambda text: None)
        writer.emit(Event.ERROR, **keys)
        writer.close(0.0)
        if not writer.has_written_all:
            # A full disk: this one is sent from memory, and says so.
            self._open_reporter().emit(Event.ERROR, **of_job, **keys)

    def _end(self, event: str, failure: str = "") -> None:
        """Write the last event down, see that all others are delivered, then send it, all in bounded time."""
        began = time.monotonic()
        reporter = self._open_reporter()
        reporter.hold_back()
        reporter.emit(event, **(self._failure(failure) if failure else {}))
        try:
            through = self.courier is None or self.courier.drain(RUN_END_WAIT_S - LAST_WORD_S)
            reporter.release()
            reporter.close(max(LAST_WORD_S, RUN_END_WAIT_S - (time.monotonic() - began)), patient=through)
        except KeyboardInterrupt:
            # The computation is over: who is tired of waiting for the receiver loses nothing else.
            self.say("status reporting: the wait for the receiver was interrupted, what is left stays in the spool")
        if self.courier is not None:
            self.courier.stop()
        self._say_what_is_left()

    def _say_what_is_left(self) -> None:
        refused = self.courier.refused if self.courier is not None else 0
        left = left_in(self.result)
        why = f" ({self.courier.trouble})" if self.courier is not None and self.courier.trouble else ""
        if refused:
            self.say(
                f"status reporting: the receiver refused {refused} reports for good; {self.result.reports} has them"
            )
        if left:
            command = f"stemphony report replay {shlex.quote(str(self.result.root.resolve()))}"
            self.say(
                f"status reporting: {left} reports are not delivered{why} and stay in {self.result.reports}. "
                f"The next run sends them, or do: {command}"
            )

    # --- reporting ----------------------------------------------------------------------------------------------

    def _open_reporter(self) -> Reporter:
        """The run's one reporter, so that events of the hooks keep their order."""
        if self.reporter is None:
            self.reporter = Reporter(self._settings(), self.common, self.result.hook_events(self.number), warn=self.say)
        return self.reporter

    def _settings(self) -> status_settings.ReportingSettings:
        """Read once, when the run starts: a config that is edited meanwhile belongs to the next one."""
        if self.settings is None:
            self.settings = status_settings.load(self.checked.inputs.config_files)
        return self.settings

    def _report(self, hook: str, send: Callable[..., None], *arguments: Any) -> None:
        if not self.checked.inputs.config["http_reporting"]["reporting"]:
            return
        try:
            send(*arguments)
        except Exception as error:  # whatever goes wrong with reports, the simulation is not touched
            what = str(error) if isinstance(error, StemphonyError) else type(error).__name__
            self.say(f"status reporting ({hook}): {what}")


def record_of(kind: str, file: Path) -> Path:
    """Where Snakemake notes something of a file, `metadata` or that it is `incomplete`, in the working directory."""
    return Path(".snakemake", kind, base64.urlsafe_b64encode(str(file).encode()).decode())


def say(text: str) -> None:
    """A line for the user, beside Snakemake's own."""
    print(f"{OURS}{text}", file=sys.stderr, flush=True)


def heard(number: int) -> str:
    """What a run says at once when SIGINT or SIGTERM comes. `stemphony run` sees by it that Snakemake has got it."""
    if number == signal.SIGINT:
        return "SIGINT: the run is cancelled; what is finished is kept"
    return "SIGTERM: no other pair is begun; the run ends when those that run now are finished"
