"""A signal that stops a job becomes an exception, at any place of the job."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from stemphony.orchestration import stop_signals

SIGNALS = pytest.mark.parametrize(
    ("number", "exception"),
    [
        (signal.SIGTERM, stop_signals.Terminated),
        (signal.SIGHUP, stop_signals.Terminated),
        (signal.SIGINT, KeyboardInterrupt),
    ],
    ids=["SIGTERM", "SIGHUP", "SIGINT"],
)


def compute(disturb: Callable[[], object]) -> None:
    """Continue after a signal until its exception comes, as a job does. Without one this takes long."""
    disturb()
    ends = time.monotonic() + 20.0
    while time.monotonic() < ends:
        time.sleep(0.001)


@contextmanager
def heeded() -> Iterator[None]:
    """React to SIGINT and SIGHUP even if the tests run in the background, which ignores them."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        with stop_signals.as_exceptions():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@SIGNALS
def test_a_signal_is_an_exception(number: signal.Signals, exception: type[BaseException]):
    with pytest.raises(exception), heeded():
        compute(lambda: os.kill(os.getpid(), number))


@SIGNALS
def test_an_exception_that_python_drops_is_raised_again(number: signal.Signals, exception: type[BaseException]):
    class Freed:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)
            time.sleep(0)

    with pytest.raises(exception), heeded():
        compute(Freed)


@SIGNALS
def test_an_exception_that_other_code_clears_is_raised_again(number: signal.Signals, exception: type[BaseException]):
    def clear() -> None:
        with suppress(BaseException):
            os.kill(os.getpid(), number)
            time.sleep(0.01)

    with pytest.raises(exception), heeded():
        compute(clear)


@SIGNALS
def test_the_end_of_a_job_is_not_interrupted_once_more(number: signal.Signals, exception: type[BaseException]):
    ended: list[str] = []

    def end(step: str) -> None:
        time.sleep(3 * stop_signals.AGAIN_S)
        ended.append(step)

    def job() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(1.0)
        finally:
            end("a file is closed")

    with heeded():
        try:
            job()
        except exception:
            stop_signals.caught()
            end("the end is reported")
        end("the claim is released")
    assert ended == ["a file is closed", "the end is reported", "the claim is released"]


@SIGNALS
def test_a_signal_raises_nothing_within_the_import_system(number: signal.Signals, exception: type[BaseException]):
    """An exception there may leave a lock closed, so that other threads wait for ever."""
    where: list[str] = []
    code = compile(
        "kill()\nfor _ in range(100): sleep(0.001)\nended('import')", "<frozen importlib._bootstrap>", "exec"
    )
    later = threading.Timer(0.02, lambda: os.kill(os.getpid(), number))
    names: dict[str, Callable[..., object]] = {"kill": later.start, "sleep": time.sleep, "ended": where.append}
    with pytest.raises(exception), heeded():
        compute(lambda: exec(code, names))
    assert where == ["import"]


def test_a_signal_after_the_end_of_a_job_raises_nothing():
    with heeded():
        stop_signals.ignore()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(2 * stop_signals.AGAIN_S)


def test_ignored_signals_stay_ignored_and_handlers_are_put_back():
    def own(*_: object) -> None:
        pass

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGTERM, own)
    try:
        with stop_signals.as_exceptions():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not own
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGTERM, before[1])
