"""The process of Snakemake that `stemphony run` starts: its output goes to a log, its progress to the terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil

from stemphony.commands.run_watch import RunWatch
from stemphony.contract import LIVE_VARIABLE, RUN_PREFIX, signal_received
from stemphony.errors import StorageError
from stemphony.paths import ResultPaths
from stemphony.store import progress
from stemphony.store.holders import forget_run, note_run

POLL_S = 0.5
"""Time between two looks at the process and its progress [s]."""
READ_S = 0.1
"""Time between two looks at its log [s]."""
HEARD_S = 2.0
"""Snakemake writes a line as soon as it receives a signal. Without this line for so long [s] it did not receive it."""


class SnakemakeProcess:
    """A running Snakemake.

    Parameters
    ----------
    command : sequence of str
    directory : Path
        Working directory.
    holds : bool
        Whether it takes Snakemake's lock; a dry run does not.

    Attributes
    ----------
    lines : list of str
        Its output so far.
    log_file : Path
        File with its whole output.
    interrupted : bool
        Whether this process received SIGINT or SIGTERM.
    """

    def __init__(self, command: Sequence[str], directory: Path, result: ResultPaths, holds: bool) -> None:
        self.directory, self.result = directory, result
        self.lines: list[str] = []
        self.interrupted = False
        self._begin = time.monotonic()
        self._display, self._watch = _Display(), RunWatch(result)
        self._not_passed_on: signal.Signals | None = None
        self._signalled = 0.0
        self._has_begun = False
        self._ended = threading.Event()
        stamp = time.strftime("%Y-%m-%dT%H%M%S")
        self.log_file = directory / "logs" / "snakemake" / result.name / f"{stamp}.{os.getpid()}.log"
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            # A shell script that starts a command with `&` lets it ignore SIGINT, so that Ctrl-C at the script does not
            # hit it. Snakemake and its jobs inherit this.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note_signal)
        # A file and not a pipe: if this process is killed, Snakemake would block on a pipe without a reader.
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, LIVE_VARIABLE: "1"}
            )
        if holds:
            # Snakemake notes itself, but only after it takes the lock. It may be killed in between.
            with suppress(StorageError):
                note_run(result.name, directory, self.process.pid)

    @property
    def elapsed_s(self) -> float:
        """Time since its start [s]."""
        return time.monotonic() - self._begin

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
            # It may have ended before it began. The note of a killed process stays.
            forget_run(self.directory, self.process.pid)
        self._ended.set()
        reader.join(5)
        self._show(last=True)
        return status

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        self.interrupted = True
        self._not_passed_on, self._signalled = signal.Signals(number), time.monotonic()

    def _pass_on_signal(self) -> None:
        """Send a signal to Snakemake if only this process received it. This process goes on, to say how it ends.

        A terminal sends Ctrl-C to all processes of its foreground group, and so does `kill %1`: then Snakemake and its
        jobs have it already. A second one would interrupt Snakemake's cleaning up.
        """
        number = self._not_passed_on
        if number is None or time.monotonic() - self._signalled < HEARD_S:
            return
        self._not_passed_on = None
        if any(signal_received(number) in line for line in self.lines):
            return
        # A Snakemake that alone receives SIGINT waits for its jobs, and then deletes their results.
        for pid in with_descendants(self.process.pid) if number == signal.SIGINT else [self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _read(self) -> None:
        """Follow the log until the process has ended."""
        with self.log_file.open("rb") as log:
            rest, ended = b"", False
            while not ended:
                ended = self._ended.wait(READ_S)  # asked before reading, so that the last lines are read
                *lines, rest = (rest + log.read()).split(b"\n")
                for line in [*lines, *([rest] if ended and rest else [])]:
                    text = line.decode("utf-8", errors="replace")
                    self.lines.append(text)
                    if text.startswith(RUN_PREFIX):
                        self._has_begun = True
                        self._display.print(text.removeprefix(RUN_PREFIX))

    def _show(self, last: bool = False) -> None:
        # Before it holds its lock, the progress may be that of a run beside it.
        now = self._watch.overall() if self._has_begun else None
        if now is None:
            return
        self._display.progress(now.share, now.line(self.elapsed_s), last)


class _Display:
    """The terminal: lines, and below them one line of progress that is drawn again and again.

    If stderr is no terminal, each tenth of the progress is a line of its own.
    """

    def __init__(self) -> None:
        self.is_live = sys.stderr.isatty()
        self._tenths = progress.Tenths(self._print_tenth)
        self._drawn = 0
        self._lock = threading.Lock()

    def print(self, text: str) -> None:
        """Print a line above the progress."""
        with self._lock, suppress(BrokenPipeError):  # the run goes on when its reader has enough
            self._clear()
            print(text, flush=True)

    @staticmethod
    def _print_tenth(text: str) -> None:
        with suppress(BrokenPipeError):
            print(text, flush=True)

    def progress(self, share: float, line: str, last: bool) -> None:
        """Draw the progress; `share` is the finished part, 0 to 1. The `last` one stays."""
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
        # Not through `terminal`, which shows a carriage return instead of doing it.
        sys.stderr.flush()
        sys.stderr.buffer.write(text.encode(errors="replace"))
        sys.stderr.buffer.flush()


def with_descendants(pid: int) -> list[int]:
    """A process and its descendants in the process group of this process, parents first."""
    try:
        below = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return [pid]
    return [pid, *(child.pid for child in below if _is_in_our_group(child.pid))]


def _is_in_our_group(pid: int) -> bool:
    with suppress(ProcessLookupError):
        return os.getpgid(pid) == os.getpgrp()
    return False  # it has ended
