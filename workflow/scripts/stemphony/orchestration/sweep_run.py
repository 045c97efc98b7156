"""The life of a run of a sweep: each member that has jobs starts, succeeds or fails like a separate simulation."""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stemphony import paths, provenance
from stemphony.contract import LIVE_VARIABLE, MEMBERS_VARIABLE, RUN_VARIABLE
from stemphony.counting import number_of
from stemphony.errors import StemphonyError
from stemphony.experiment.sweeps import Sweep
from stemphony.orchestration import outdated
from stemphony.orchestration.dag import Graph
from stemphony.orchestration.hooks import WATCH_S, Run, begin_here
from stemphony.orchestration.session import Session
from stemphony.orchestration.sweep_inputs import plan_lines
from stemphony.status.reporter import ONSTART_WAIT_S
from stemphony.store import ledger, progress
from stemphony.store.atomic import write_text_atomic
from stemphony.store.holders import forget_run


class SweepRun:
    """One invocation of Snakemake for a sweep.

    Parameters
    ----------
    files : SweepPaths
    sweep : Sweep
    sessions : mapping
        The session of each member, by its label.
    environment : mapping
        Environment variables of each member, by its label.
    graph : Graph
        Snakemake's jobs, of all members.
    say : callable
        Prints a line for the user.
    """

    def __init__(
        self,
        files: paths.SweepPaths,
        sweep: Sweep,
        sessions: Mapping[str, Session],
        environment: Mapping[str, Mapping[str, str]],
        graph: Graph,
        say: Callable[[str], None],
    ) -> None:
        self.files, self.sweep, self.environment, self.graph, self.say = files, sweep, environment, graph, say
        self.runs: dict[str, Run] = {label: one.run for label, one in sessions.items() if one.run is not None}
        self.started: dict[str, Run] = {}
        self.ended = threading.Event()

    # --- onstart ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start each member that has jobs, as `Run.start` does, and write the record of the sweep."""
        if self.graph.only_touches:
            return
        try:
            self._start()
        except StemphonyError as error:
            # If the error were raised further, Snakemake would print a traceback. It calls no further hook.
            self.say(str(error))
            self.error()
            sys.exit(1)
        except KeyboardInterrupt:
            self.error()
            raise

    def _start(self) -> None:
        chosen = {label: run for label, run in self.runs.items() if run.graph.has_jobs}
        for run in chosen.values():
            run.require_leave()  # all members are checked before the first one changes anything
        self.files.root.mkdir(parents=True, exist_ok=True)
        self._write_record()
        for line in self._plan(chosen):
            self.say(line)
        begin_here(self.files.root.name, self.graph, self.say, self._note_signal)
        self._compute_shared_jobs_first(chosen)
        seed, ends = self._drawn_seed(), time.monotonic() + ONSTART_WAIT_S
        for label, run in chosen.items():
            run.drawn_seed = seed
            run.report_wait_s = max(0.0, ends - time.monotonic())
            run.begin()
            self.started[label] = run
        numbers = {label: {RUN_VARIABLE: str(run.number)} for label, run in self.started.items()}
        variables = {label: {**own, **numbers.get(label, {})} for label, own in self.environment.items()}
        self.graph.set_variable(MEMBERS_VARIABLE, json.dumps(variables))
        if not os.environ.get(LIVE_VARIABLE):
            threading.Thread(target=self._watch, daemon=True).start()

    def _compute_shared_jobs_first(self, chosen: Mapping[str, Run]) -> None:
        """Of jobs with the same params, give priority to one. The other members copy its result."""
        same: dict[str, list[Path]] = {}
        for _, run in sorted(chosen.items()):
            for pair in run.graph.pairs():
                digest = provenance.digest(run.campaign.job_params(*pair))
                same.setdefault(digest, []).append(run.result.job(*pair))
        self.graph.start_first(files[0] for files in same.values() if len(files) > 1)

    def _note_signal(self, name: str) -> None:
        for run in self.runs.values():
            run.cancelled_by = name

    def _drawn_seed(self) -> int:
        """The seed of all members for `random_seed: 0`: that of a member that has run, else a drawn seed."""
        for label in self.runs:
            result = self.files.member(label)
            if result.identity.exists():
                return ledger.identity(result, 0).seed
        return 1 + secrets.randbelow(ledger.LARGEST_SEED)

    def _write_record(self) -> None:
        """Write the record of the sweep: its members, with their values."""
        record: dict[str, Any] = {
            "created": ledger.now(),
            "title": self.sweep.title,
            "axes": self.sweep.axes,
            "members": [{"label": member.label, "values": member.values} for member in self.sweep.members],
        }
        write_text_atomic(self.files.record, json.dumps(record, indent=1, ensure_ascii=False) + "\n")

    def _plan(self, chosen: Mapping[str, Run]) -> list[str]:
        """Lines for the user. A note of several members appears once."""
        lines = plan_lines(self.sweep, {label: run.checked for label, run in self.runs.items()})
        current = len(self.runs) - len(chosen)
        if current:
            verb = "has" if 1 in (current, len(self.runs)) else "have"
            lines.append(f"{current} of {number_of(len(self.runs), 'simulation')} {verb} nothing to do")
        return [*lines, *dict.fromkeys(note for run in chosen.values() for note in run.notes)]

    def _watch(self) -> None:
        """Print one line per tenth of the work, for a terminal without `stemphony run`."""
        tenths = progress.Tenths(self.say)
        watches = [(progress.Watch(run.result, run.number), run) for run in self.started.values()]
        while not self.ended.wait(WATCH_S):
            now = progress.together([watch.overall(run.jobs) for watch, run in watches])
            if now.jobs:
                tenths.reached(now.share, f"sweep {100 * now.share:.0f} %: {now.finished} of {now.jobs} jobs finished")

    # --- onsuccess, onerror -------------------------------------------------------------------------------------------

    def success(self) -> None:
        """Send FINISH for each member with a merged result."""
        self.ended.set()
        for run in self.started.values():
            run.success()
        forget_run(Path.cwd(), os.getpid())

    def error(self) -> None:
        """Send FINISH for the members that are complete, and FAILED or CANCELLED for the others."""
        self.ended.set()
        for run in self.started.values():
            # stem.nc may be of an earlier run, so this run must also have no unfinished jobs.
            is_complete = not run.graph.has_jobs and outdated.is_merged(run.campaign, run.result)
            (run.success if is_complete else run.error)()
        forget_run(Path.cwd(), os.getpid())
