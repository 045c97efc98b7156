"""Signals that stop a job: each becomes an exception of the main thread, and none is lost.

Python drops an exception that is raised while it frees an object (`__del__`, callbacks of weak references), and prints
"Exception ignored". The job would go on as if nothing had been said. If the callback belongs to the import system, a
lock of it may stay closed, and other threads wait for it without end. So a dropped exception is raised again, and none
is raised within the import system.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

STOPPING: Final = (signal.SIGTERM, signal.SIGHUP)
"""Signals of `kill`, of a batch system and of a closed terminal. After them, and after Ctrl-C, a job ends cleanly."""
AGAIN_S: Final = 0.02
"""Time after which an exception that could not be raised is raised [s]. An import takes a few of them."""
_IMPORT_SYSTEM: Final = "<frozen importlib._bootstrap"
"""Beginning of the file names of Python's import system, as its frames have them."""


class Terminated(SystemExit):
    """A signal that stops the job, as an exception, so that the job reports its end."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


_waiting: BaseException | None = None
"""The exception that is raised at the next SIGALRM."""


@contextmanager
def as_exceptions() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into Terminated and SIGINT into KeyboardInterrupt; put the old handlers back at the end.

    A signal that is ignored stays so: `nohup` makes its command ignore SIGHUP, and a shell makes a process in the
    background ignore SIGINT.
    """
    heeded = [number for number in (*STOPPING, signal.SIGINT) if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, _stop) for number in heeded}
    handlers[signal.SIGALRM] = signal.signal(signal.SIGALRM, _again)
    hook, sys.unraisablehook = sys.unraisablehook, _dropped
    try:
        yield
    finally:
        _wait_with(None)
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler)


def ignore() -> None:
    """Ignore SIGTERM and SIGHUP from now on, and an exception that waits."""
    _wait_with(None)
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, frame: FrameType | None) -> None:
    error = KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)
    if number in STOPPING:
        ignore()  # a second signal must not interrupt the end of the job
    _raise(error, frame)


def _again(_number: int, frame: FrameType | None) -> None:
    if _waiting is not None:
        _raise(_waiting, frame)


def _raise(error: BaseException, frame: FrameType | None) -> None:
    """Raise in the interrupted frame, or a little later if that belongs to the import system."""
    if frame is not None and frame.f_code.co_filename.startswith(_IMPORT_SYSTEM):
        _wait_with(error)
        return
    _wait_with(None)
    raise error


def _dropped(unraisable: Any) -> None:
    """Take the place of `sys.unraisablehook`, which prints what could not be raised."""
    if isinstance(unraisable.exc_value, Terminated | KeyboardInterrupt):
        _wait_with(unraisable.exc_value)
    else:
        sys.__unraisablehook__(unraisable)


def _wait_with(error: BaseException | None) -> None:
    global _waiting
    _waiting = error
    signal.setitimer(signal.ITIMER_REAL, 0.0 if error is None else AGAIN_S)
