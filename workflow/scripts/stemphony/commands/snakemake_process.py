"""The Snakemake process of `stemphony run`. Its output goes to a log file, and its progress to the terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil

from stemphony.commands.run_watch import RunWatch
from stemphony.contract import LIVE_VARIABLE, RUN_PREFIX, signal_received
from stemphony.errors import StorageError
from stemphony.paths import ResultPaths, snakemake_logs
from stemphony.store import progress
from stemphony.store.holders import forget_run, note_run

POLL_S = 0.5
"""Time between two checks of the process and its progress [s]."""
READ_S = 0.1
"""Time between two reads of the log [s]."""
HEARD_S = 2.0
"""Snakemake writes a line as soon as it receives a signal. If this line is missing for this time, Snakemake has not
received the signal [s]."""


class SnakemakeProcess:
    """A running Snakemake process.

    Parameters
    ----------
    command : sequence of str
    directory : Path
        Working directory.
    result : ResultPaths
        The simulation that the command computes.
    holds : bool
        Whether Snakemake takes its lock. A dry run does not.
    clock : callable
        Returns the time [s].

    Attributes
    ----------
    lines : list of str
        Output of Snakemake so far.
    log_file : Path
        File with the whole output of Snakemake.
    interrupted : bool
        Whether this process, `stemphony run`, received SIGINT or SIGTERM.
    """

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        result: ResultPaths,
        holds: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory, self.result = directory, result
        self.lines: list[str] = []
        self.interrupted = False
        self._clock = clock
        self._begin = clock()
        self._display, self._watch = _Display(), RunWatch(result)
        self._not_passed_on: signal.Signals | None = None
        self._signalled = 0.0
        self._has_begun = False
        self._ended = threading.Event()
        stamp = time.strftime("%Y-%m-%dT%H%M%S")
        self.log_file = snakemake_logs(directory, result.name) / f"{stamp}.{os.getpid()}.log"
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            # If a shell script starts a command with `&`, the command ignores SIGINT, so that Ctrl-C in the terminal of
            # the script does not end it. Snakemake and its jobs inherit this, so no handler is set.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note_signal)
        # The output goes to a file and not to a pipe. If this process is killed, nothing reads a pipe any more, and
        # Snakemake would block.
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, LIVE_VARIABLE: "1"}
            )
        if holds:
            # Snakemake also records its process, but only after it takes the lock. It may be killed between both steps.
            with suppress(StorageError):
                note_run(result.name, directory, self.process.pid)

    @property
    def elapsed_s(self) -> float:
        """Time since the start of Snakemake [s]."""
        return self._clock() - self._begin

    def wait(self) -> int:
        """Show the progress until the process ends. Returns its exit status, or minus the signal that ended it."""
        reader = threading.Thread(target=self._read, daemon=True)
        reader.start()
        while True:
            try:
                status = self.process.wait(POLL_S)
                break
            except subprocess.TimeoutExpired:
                self._pass_on_signal()
                self._show()
        if status >= 0:
            # Snakemake may have ended before its hooks ran, so its record is removed here. The record of a killed
            # process stays.
            forget_run(self.directory, self.process.pid)
        self._ended.set()
        reader.join(5)
        self._show(last=True)
        return status

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        self.interrupted = True
        self._not_passed_on, self._signalled = signal.Signals(number), self._clock()

    def _pass_on_signal(self) -> None:
        """Send a signal to Snakemake if only this process received it. This process continues, to say how the run ends.

        Ctrl-C in a terminal, or `kill %1`, sends the signal to all processes of a group. Then Snakemake and its jobs
        have received it already. A second signal would interrupt the clean-up of Snakemake.
        """
        number = self._not_passed_on
        if number is None or self._clock() - self._signalled < HEARD_S:
            return
        self._not_passed_on = None
        if any(signal_received(number) in line for line in self.lines):
            return
        # If only Snakemake received SIGINT, it would wait for its jobs and then delete their results. So SIGINT also
        # goes to the jobs.
        for pid in with_descendants(self.process.pid) if number == signal.SIGINT else [self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _read(self) -> None:
        """Follow the log until the process has ended."""
        with self.log_file.open("rb") as log:
            rest, ended = b"", False
            while not ended:
                ended = self._ended.wait(READ_S)  # `ended` is set before the file is read, so the last lines are read
                *lines, rest = (rest + log.read()).split(b"\n")
                for line in [*lines, *([rest] if ended and rest else [])]:
                    text = line.decode("utf-8", errors="replace")
                    self.lines.append(text)
                    if text.startswith(RUN_PREFIX):
                        self._has_begun = True
                        self._display.print(text.removeprefix(RUN_PREFIX))

    def _show(self, last: bool = False) -> None:
        # Before this Snakemake holds its lock, the progress may belong to another run of the same simulation.
        now = self._watch.overall() if self._has_begun else None
        if now is None:
            return
        self._display.progress(now.share, now.line(self.elapsed_s), last)


class _Display:
    """The output on the terminal: lines, and below them one line of progress that is drawn again and again.

    If stderr is not a terminal, each tenth of the progress is a separate line.
    """

    def __init__(self) -> None:
        self.is_live = sys.stderr.isatty()
        self._tenths = progress.Tenths(self._print_tenth)
        self._drawn = 0
        self._lock = threading.Lock()

    def print(self, text: str) -> None:
        """Print a line above the progress."""
        with self._lock, suppress(BrokenPipeError):  # the run continues if the program that reads its output has ended
            self._clear()
            print(text, flush=True)

    @staticmethod
    def _print_tenth(text: str) -> None:
        with suppress(BrokenPipeError):
            print(text, flush=True)

    def progress(self, share: float, line: str, last: bool) -> None:
        """Draw the progress. `share` is the finished part, 0 to 1. With `last`, the line stays on the terminal."""
        if not self.is_live:
            self._tenths.reached(share, line)
            return
        with self._lock:
            self._clear()
            line = line[: max(20, os.get_terminal_size(sys.stderr.fileno()).columns - 1)]
            self._draw(line + ("\n" if last else ""))
            self._drawn = 0 if last else len(line)

    def _clear(self) -> None:
        if self._drawn:
            self._draw("\r" + " " * self._drawn + "\r")
            self._drawn = 0

    @staticmethod
    def _draw(text: str) -> None:
        # The text does not pass through `terminal.plain`, which would replace the carriage return.
        sys.stderr.flush()
        sys.stderr.buffer.write(text.encode(errors="replace"))
        sys.stderr.buffer.flush()


def with_descendants(pid: int) -> list[int]:
    """The process `pid`, and its descendants in the process group of this process. Parents come first."""
    try:
        below = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return [pid]
    return [pid, *(child.pid for child in below if _is_in_our_group(child.pid))]


def _is_in_our_group(pid: int) -> bool:
    with suppress(ProcessLookupError):
        return os.getpgid(pid) == os.getpgrp()
    return False  # the process has ended
