"""Signals that stop a job: each becomes an exception of the main thread, and no signal is lost.

Python drops an exception that is raised while it frees an object (`__del__`, callbacks of weak references). Some code
written in C clears any exception. The job would then continue as if no signal had come. So the exception is raised
again, until `caught` says that it has arrived.

If an exception interrupts the import system, a lock of it may stay closed, and other threads wait for it without end.
So no exception is raised there.
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
AGAIN_S: Final = 0.05
"""Time between two attempts to raise an exception [s]. The longest import takes a few of them."""
_IMPORT_SYSTEM: Final = "<frozen importlib._bootstrap"
"""Beginning of the file names in frames of Python's import system."""


class Terminated(SystemExit):
    """Exception for the signal `number` that stops the job. The job catches it and reports its end."""

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


def caught() -> None:
    """Say that the exception has arrived where the job ends: it is not raised again."""
    _wait_with(None)


def _stop(number: int, frame: FrameType | None) -> None:
    error = KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)
    if number in STOPPING:
        ignore()  # a second signal must not interrupt the end of the job
    _raise(error, frame)


def _again(_number: int, frame: FrameType | None) -> None:
    if _waiting is not None:
        _raise(_waiting, frame)


def _raise(error: BaseException, frame: FrameType | None) -> None:
    """Raise in the interrupted frame, unless the error is handled already or the frame is of the import system."""
    _wait_with(error)
    is_import = frame is not None and frame.f_code.co_filename.startswith(_IMPORT_SYSTEM)
    if not is_import and not _is_handled(error):
        raise error


def _is_handled(error: BaseException) -> bool:
    """Whether an `except`, a `finally` or the end of a `with` handles the error in the interrupted code."""
    handled = sys.exception()
    while handled is not None and handled is not error:
        handled = handled.__context__
    return handled is not None


def _dropped(unraisable: Any) -> None:
    """Take the place of `sys.unraisablehook`, which prints the dropped exception. Ours are raised again."""
    if not isinstance(unraisable.exc_value, Terminated | KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


def _wait_with(error: BaseException | None) -> None:
    global _waiting
    _waiting = error
    signal.setitimer(signal.ITIMER_REAL, 0.0 if error is None else AGAIN_S)
