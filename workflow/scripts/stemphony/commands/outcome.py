"""Print the end of `stemphony run` when Snakemake has ended: where the results are, or what failed and what to do."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stemphony import ordinary_files, paths
from stemphony.commands import profiles
from stemphony.commands.locks import who_holds_the_lock
from stemphony.commands.status import PairState, first_line, status_of
from stemphony.contract import (
    COMPLAINT,
    FAILED_RULE_LOG,
    FULL_DISK,
    LOCKED,
    NO_ROOM,
    NOISE,
    NOTHING_TO_DO,
    REFUSAL,
    REPLACES,
    RUN_PREFIX,
    UNKNOWN_EXECUTOR,
)
from stemphony.counting import number_of
from stemphony.errors import StemphonyError
from stemphony.orchestration.job_log import last_word
from stemphony.orchestration.orphaned_errors import DIED, NEVER_BEGAN
from stemphony.paths import ResultPaths
from stemphony.status.backlog import left_in
from stemphony.store import ledger, progress

if TYPE_CHECKING:
    from stemphony.results.precision import Precision

REPOSITORY = Path(__file__).resolve().parents[4]
"""Folder of Stemphony with the folder `profiles`."""
SHOWN_PAIRS = 20
"""Most failed pairs that the message lists."""
SHOWN_LOGS = 3
"""Most logs whose last lines the message shows."""
ROUND_NUMBERS = (10, 30, 100, 300, 1000, 3000, 9999)
"""Numbers of configurations from which the summary proposes one."""
SHOWN_LINES = 12
"""How many last lines of a log are shown."""


@dataclass(frozen=True)
class FailedPair:
    """A pair that has no result: its defocus [nm], its configuration, the reason, and the path of its log.

    The log need not exist.
    """

    defocus_nm: float
    configuration: int
    reason: str
    log: Path


@dataclass(frozen=True)
class Outcome:
    """The end of a Snakemake process.

    Attributes
    ----------
    status : int
        Exit status of Snakemake, or minus the number of the signal that ended it.
    lines : list of str
        Output of Snakemake.
    log_file : Path
        File with this output.
    directory : Path
        Working directory.
    result : ResultPaths
        The simulation.
    interrupted : bool
        Whether the user cancelled the run.
    elapsed_s : float
        How long Snakemake ran [s].
    """

    status: int
    lines: list[str]
    log_file: Path
    directory: Path
    result: ResultPaths
    interrupted: bool
    elapsed_s: float

    @property
    def exit_status(self) -> int:
        """Exit status of Snakemake, or 128 + the number of the signal that ended it."""
        return self.status if self.status >= 0 else 128 - self.status

    def show(self) -> None:
        """Print a success to stdout, or a failure to stderr."""
        if self.status == 0:
            self._show_results()
        else:
            print(self._failure(), file=sys.stderr)

    def _show_results(self) -> None:
        if any(NOTHING_TO_DO in line for line in self.lines):
            print("nothing to compute: all results are up to date.")
            self._warn_of_unusable_files()
            # Snakemake called no hook, so no hook has delivered or mentioned these reports.
            if left := left_in(self.result):
                root = shlex.quote(os.path.relpath(self.result.root))
                undelivered = number_of(left, "status report is", "status reports are")
                print(f"{undelivered} not delivered: stemphony report replay {root}")
        elif not self._has_begun:
            # The user asked for something else, such as --dry-run.
            print(self._lines_that_matter())
            return
        elif not self.result.merged.exists():
            return
        else:
            print(f"finished in {progress.duration(self.elapsed_s)}{self._cpu()}.")
        for name, place in (("result", self.result.merged), ("images", self.result.figures), ("log", self.log_file)):
            if place.exists():
                print(f"{name:<8}{os.path.relpath(place)}")

        if self.result.merged.exists():
            for line in self._precision():
                print(line)
            if self.result.figures.exists():
                print(f"next    stemphony plot {shlex.quote(os.path.relpath(self.result.root))}")

    def _cpu(self) -> str:
        """CPU time of the jobs of this run, and its estimate, as the last part of a sentence."""
        run = ledger.latest_run(self.result)
        states = progress.states(self.result, run)
        # A plan from the cache takes milliseconds, so longer times are those of new plans.
        planning_s = sum(state["fft_plans_s"] for state in states if state["fft_plans_s"] > 1.0)
        used = (sum(state["cpu_s"] for state in states) - planning_s) / 3600
        if not used:
            return ""
        plan = ledger.read_plan(self.result, run)
        estimated = plan.get("cpu_hours")
        # With a goal, the last plan has only the last round, so its estimate does not fit the CPU time of all rounds.
        has_rounds = isinstance(plan.get("config", {}).get("frozen_phonon", {}).get("configurations"), Mapping)
        text = f", with {progress.duration(3600 * used)} of CPU in the jobs"
        if has_rounds or not isinstance(estimated, int | float):
            return text
        planned = f", and {progress.duration(planning_s)} more for FFT plans, which are kept" if planning_s else ""
        return f"{text} (estimated: {progress.duration(3600 * estimated)}{planned})"

    def _precision(self) -> list[str]:
        """Lines with the statistical errors, and the next command."""
        from stemphony.results.precision import precisions

        with suppress(StemphonyError):
            finite = [one for one in precisions(self.result.merged) if math.isfinite(one.median)]
            # Segments would make a long list. `stemphony converge` shows them.
            found = [one for one in finite if not one.is_segment] or finite
            if found:
                root = shlex.quote(os.path.relpath(self.result.root))
                return [*map(_line_of_errors, found), f"more    stemphony converge {root}"]
        return []

    def _warn_of_unusable_files(self) -> None:
        """Print a line if job files are damaged. Snakemake compares only times, so it accepts a newer damaged file."""
        with suppress(StemphonyError):
            found = status_of(self.result)
            if bad := len(found.of(PairState.UNUSABLE)):
                place = shlex.quote(os.path.relpath(self.result.root))
                verb, which = ("is", "it") if bad == 1 else ("are", "them")
                print(
                    f"But {bad} of {number_of(len(found.pairs), 'job file')} {verb} not usable: stemphony status "
                    f"{place} says why, stemphony rerun {place} computes {which} again."
                )

    def _failure(self) -> str:
        log = f"whole log: {os.path.relpath(self.log_file)}"
        if any(LOCKED in line for line in self.lines):
            return f"{RUN_PREFIX}{who_holds_the_lock(self.directory)}"
        if any(line.startswith(RUN_PREFIX) and REPLACES in line for line in self.lines):
            # The progress display has shown the refusal already.
            return f"\nNothing was computed or replaced.\n{log}"
        if self.interrupted:
            return f"\ninterrupted. Nothing that was finished is lost: run the same command to go on.\n{log}"
        if unknown := next(filter(None, map(UNKNOWN_EXECUTOR.search, self.lines)), None):
            return f"{RUN_PREFIX}{profiles.missing_plugin(REPOSITORY, unknown[1])}"
        if not self._has_begun:
            # The output has a mistake in the config, or an error of Snakemake itself.
            is_full = any(map(NO_ROOM.search, self.lines))
            return self._no_room() if is_full else self._lines_that_matter() or self._silence()
        killed = ["\nSnakemake was killed."] if self._was_killed else []
        return "\n".join(
            [*self._failed_jobs(), *killed, f"\nNothing that was computed is lost. {self._what_to_do()}", log]
        )

    def _failed_jobs(self) -> list[str]:
        """The failed pairs and the ends of their logs. If the logs say nothing, the errors that Snakemake printed."""
        failed = self._failed_pairs()
        logs = [log for log in self._failed_logs() if log.stat().st_size]
        ends = logs[:SHOWN_LOGS]
        lines = []
        for pair in failed[:SHOWN_PAIRS]:
            lines.append(f"failed: defocus {pair.defocus_nm:g} nm, configuration {pair.configuration}: {pair.reason}")
            if pair.log not in ends:
                lines.append(f"        log: {os.path.relpath(pair.log)}")
        if len(failed) > SHOWN_PAIRS:
            root = shlex.quote(os.path.relpath(self.result.root))
            lines.append(f"… and {number_of(len(failed) - SHOWN_PAIRS, 'more pair')}: stemphony status {root}")
        for log in ends:
            text = ordinary_files.read_end(log).rstrip().splitlines()
            lines += [f"\nend of {os.path.relpath(log)}:", *(f"  {line}" for line in text[-SHOWN_LINES:])]
        if not logs and all(pair.reason in (DIED, NEVER_BEGAN) for pair in failed):
            complaints = self.complaints()
            lines += [self._full_disk(complaints)] if any(map(FULL_DISK.search, complaints)) else complaints
        return lines

    def _failed_pairs(self) -> list[FailedPair]:
        """Pairs of this run that ended without a result, including jobs that died before they recorded why."""
        run = ledger.latest_run(self.result)
        found, seen = [], set()
        for state in progress.states(self.result, run):
            pair = paths.defocus_id(state["defocus_nm"]), int(state["configuration"])
            seen.add(pair)
            log = self.directory / self.result.log(*pair)
            if state["state"] == progress.FAILED:
                found.append(FailedPair(state["defocus_nm"], pair[1], first_line(str(state.get("message") or "")), log))
            elif self._died(state, self.result.job(*pair)):
                found.append(FailedPair(state["defocus_nm"], pair[1], last_word(log) or DIED, log))
        # A job that was killed while Python started, or that was never submitted, has no state. But Snakemake names its
        # log.
        named = set(self._failed_logs(existing=False))
        plan = ledger.read_plan(self.result, run)
        for defocus_nm, identifier in zip(plan.get("defoci_nm", []), plan.get("defoci_ids", []), strict=False):
            for configuration in range(plan.get("num_configurations", 0)):
                log = self.directory / self.result.log(identifier, configuration)
                if log in named and (identifier, configuration) not in seen:
                    found.append(FailedPair(defocus_nm, configuration, last_word(log) or NEVER_BEGAN, log))
        return found

    def _died(self, state: Mapping[str, Any], file: Path) -> bool:
        """Whether a job ended without recording how. If Snakemake was not killed, no job is alive any more."""
        if state["state"] != progress.RUNNING or file.exists():
            return False
        return progress.has_died(state) or not self._was_killed

    @property
    def _was_killed(self) -> bool:
        return self.status < 0 or self.status > 128

    def _what_to_do(self) -> str:
        if any(REFUSAL in log.read_text(encoding="utf-8", errors="replace") for log in self._failed_logs()):
            # If the user only repeated the command, the merge would refuse the same files again.
            command = f"stemphony rerun --verify {shlex.quote(os.path.relpath(self.result.root))}"
            return f"To compute the files again that the merge refuses, and to merge: {command}"
        return "Run the same command again. It computes only what is missing."

    @property
    def _has_begun(self) -> bool:
        """Whether the hook onstart of this run printed a line."""
        return any(line.startswith(RUN_PREFIX) for line in self.lines)

    def _lines_that_matter(self) -> str:
        return "\n".join(line for line in self.lines if line.strip() and not NOISE.match(line))

    def complaints(self) -> list[str]:
        """The last lines in which Snakemake, or the program that submits its jobs, says what is wrong."""
        found = [line.strip() for line in self.lines if COMPLAINT.search(line) and not line.startswith(RUN_PREFIX)]
        return [f"Snakemake says: {line}" for line in dict.fromkeys(found)][-SHOWN_LINES:]

    def _failed_logs(self, existing: bool = True) -> list[Path]:
        """Logs that Snakemake names for failed jobs, in its order."""
        found = (FAILED_RULE_LOG.match(line) for line in self.lines)
        logs = dict.fromkeys(self.directory / match[1] for match in found if match)
        return [log for log in logs if log.is_file() or not existing]

    # --- full disks ---------------------------------------------------------------------------------------------------

    def _full_disk(self, complaints: Sequence[str]) -> str:
        """Message if Snakemake itself could not write a file. Most often this is its copy of stem.nc before a merge."""
        (*_, file) = [self.directory / match[1] for line in complaints if (match := FULL_DISK.search(line))]
        folder = next(folder for folder in file.parents if folder.is_dir())
        full = f"the disk of {folder} ({_free_mb(folder)} left), or your quota on it, is full"
        merged = self.result.merged
        if file.name != merged.name or not merged.exists():
            return f"{full}: Snakemake could not write {file.name}. Make room there."
        return (
            f"{full}: Snakemake could not copy the present {merged.name} there, as it does before each merge. "
            f"That file and all job files are unchanged. Make room for {merged.stat().st_size / 1e6:.1f} MB there, "
            f"and as much beside {os.path.relpath(merged)}."
        )

    def _no_room(self) -> str:
        """Message if the disk had no room for Snakemake's lock or for the record of the run."""
        own = self.directory / ".snakemake"
        folder = own if own.is_dir() else self.directory
        return (
            f"The run could not start: the disk of {folder}, or your quota on it, is full ({_free_mb(folder)} left). "
            "Nothing is lost. Make room there and run the same command again."
        )

    def _silence(self) -> str:
        """Message if Snakemake wrote nothing. A full disk is one reason, because it holds Snakemake's log."""
        return (
            f"Snakemake ended before the first job and left no message. The disk of {self.directory} has "
            f"{_free_mb(self.directory)} left; if that is nothing, make room and run the same command again."
        )


def _line_of_errors(one: Precision) -> str:
    """A line with the standard errors of a detector, and with the error that more configurations would give."""
    more = next(number for number in ROUND_NUMBERS if number >= 4 * one.configurations or number == ROUND_NUMBERS[-1])
    uncertain = ", uncertain" if one.is_uncertain else ""
    of_what = " of its contrast" if one.is_signed else ""
    text = (
        f"error   {one.detector}: {_percent(one.median)}{of_what} at the median, {_percent(one.brightest)} at the "
        f"brightest pixel ({number_of(one.configurations, 'configuration')}{uncertain})"
    )
    return (
        text
        if more <= one.configurations
        else (f"{text}; {more} configurations would give {_percent(one.median * one.after(more))}")
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _free_mb(folder: Path) -> str:
    return f"{shutil.disk_usage(folder).free / 1e6:.1f} MB"
