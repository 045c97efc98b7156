"""Turn signals that stop a job into exceptions of the main thread, and lose none.

Python drops an exception that is raised while it frees an object (`__del__`, callbacks of weak references), and prints
"Exception ignored". The job would continue as if there had been no signal. So this module raises a dropped exception
again. If the import system is interrupted, one of its locks may stay closed, and other threads would wait for it
forever. So no exception is raised within the import system.
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
"""Time after which an exception that could not be raised is tried again [s]. An import takes a few such times."""
_IMPORT_SYSTEM: Final = "<frozen importlib._bootstrap"
"""Beginning of the file names in frames of Python's import system."""


class Terminated(SystemExit):
    """Exception for a signal that stops the job. The job catches it and reports its end."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number)


_waiting: BaseException | None = None
"""The exception that is raised at the next SIGALRM."""


@contextmanager
def as_exceptions() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into Terminated, and SIGINT into KeyboardInterrupt. Restore the old handlers at the end.

    A signal that was ignored before stays ignored. For example, `nohup` makes its command ignore SIGHUP, and a shell
    makes a background process ignore SIGINT.
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
    """From now on, ignore SIGTERM and SIGHUP. Drop an exception that waits to be raised."""
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
    """Raise in the interrupted frame. If this frame belongs to the import system, raise a little later."""
    if frame is not None and frame.f_code.co_filename.startswith(_IMPORT_SYSTEM):
        _wait_with(error)
        return
    _wait_with(None)
    raise error


def _dropped(unraisable: Any) -> None:
    """Replacement of `sys.unraisablehook`, which gets exceptions that could not be raised."""
    if isinstance(unraisable.exc_value, Terminated | KeyboardInterrupt):
        _wait_with(unraisable.exc_value)
    else:
        sys.__unraisablehook__(unraisable)


def _wait_with(error: BaseException | None) -> None:
    global _waiting
    _waiting = error
    signal.setitimer(signal.ITIMER_REAL, 0.0 if error is None else AGAIN_S)
