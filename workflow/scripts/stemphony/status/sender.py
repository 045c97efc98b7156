"""Send events over HTTP, in order, from a thread, so that the computation does not wait.

The sender takes events from a reporter. After each answer it decides whether the event has arrived, needs another try,
or can never arrive.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from stemphony.status.limits import LIMITS, Limits
from stemphony.status.settings import ReportingSettings
from stemphony.status.transport import Answer, HttpTransport, Transport, Trouble, Verdict

THREAD_NAME: Final = "stemphony-status"
"""Name of the sender's thread, for debuggers and tests."""

_STOP_JOIN_S: Final = 0.2
"""Longest wait of `stop` for the thread [s]. Without an attempt under way, the thread ends at once."""
_MAX_WAIT_S: Final = 3600.0
"""Longest wait of one `flush` [s]. A condition variable cannot wait for an infinite time."""


class _Notices:
    """Texts about trouble for the user, one for each kind. The caller holds the lock of the sender."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._kinds: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._texts)

    def add(self, kind: str, text: str) -> None:
        """Keep a text for the user, unless there was one of this kind before."""
        if kind not in self._kinds:
            self._kinds.add(kind)
            self._texts.append(f"status reports: {text}. The simulation goes on.")

    def take(self) -> list[str]:
        """Return the texts since the last call."""
        taken = list(self._texts)
        self._texts.clear()
        return taken


class _Attempts:
    """Decide when the next attempt may begin after failed attempts. The caller holds the lock of the sender."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.failures = 0
        self.next_at = 0.0
        self.told_to_wait = False
        self._patient_until = 0.0

    def succeeded(self) -> None:
        """Let the next attempt begin at once."""
        self.failures = 0
        self.next_at = 0.0
        self.told_to_wait = False

    def be_patient(self, until: float) -> None:
        """Try more often until this moment, and now unless the receiver asked for a pause."""
        self._patient_until = until
        if not self.told_to_wait:
            self.failures = min(self.failures, 1)
            self.next_at = 0.0

    def failed(self, asked_s: float | None) -> None:
        """Choose the pause after an attempt that failed, with the pause that the receiver asked for [s]."""
        self.failures += 1
        now = time.monotonic()
        base_s = self._limits.backoff_base_s
        pause = self._limits.backoff_s(self.failures)
        self.told_to_wait = asked_s is not None and asked_s > 0
        if asked_s is not None and self.told_to_wait:
            pause = min(asked_s + min(pause, base_s), self._limits.retry_after_cap_s)
        elif self._patient_until > now:
            # A patient `flush` gets tries until its end. The last pause must not exceed the time that is left.
            pause = min(pause, max(base_s, (self._patient_until - now) / 2))
        self.next_at = now + pause


class Sender:
    """Deliver events in order from a daemon thread.

    Parameters
    ----------
    settings : ReportingSettings
        Address of the receiver, credentials and custom parameters.
    transport : callable, optional
        Makes the transport. The thread calls it, so a process that sends nothing never imports requests. Default:
        `HttpTransport`.
    limits : Limits
        Waits, pauses, and the length of the queue.
    settled : callable
        The thread calls this function in order for each event that has arrived or can never arrive. The arguments are
        the event, the place where its line ends in the spool, and the answer.
    """

    def __init__(
        self,
        settings: ReportingSettings,
        transport: Callable[[ReportingSettings], Transport] | None = None,
        limits: Limits = LIMITS,
        settled: Callable[[Mapping[str, Any], int | None, Answer], None] = lambda event, end, answer: None,
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._make_transport = transport or (lambda settings: HttpTransport(settings, limits))
        self._settled = settled
        self._condition = threading.Condition()
        self._queue: deque[tuple[bytes, int | None]] = deque()
        self._held_back: list[tuple[bytes, int | None]] | None = None
        self._thread: threading.Thread | None = None
        self._notices = _Notices()
        self._taken = 0
        self._arrived = 0
        self._attempts = _Attempts(limits)
        self._attempt_since: float | None = None
        self._idle = False
        self._last_arrival = 0.0
        self._open_circuit = False
        self._overflown = False
        self._stopping = False

    def put(self, line: bytes, end: int | None = None) -> None:
        """Take an event for delivery and return at once.

        Parameters
        ----------
        line : bytes
            The event as JSON, without the custom parameters.
        end : int, optional
            Where the line of the event ends in the spool, if the event is in the spool.
        """
        with self._condition:
            self._taken += 1
            if self._open_circuit or self._stopping or self._overflown:
                return
            if len(self._queue) >= self._limits.queue_length:
                # Later events are not taken either. The events of the receiver must be the first events of the spool.
                self._overflown = True
                self._notices.add("queue", f"more than {self._limits.queue_length} wait; later ones stay in the spool")
                return
            if self._held_back is not None:
                self._held_back.append((line, end))
                return
            self._queue.append((line, end))
            if self._thread is None:
                self._start()
            elif self._idle:
                # During an attempt or a pause, the thread is not woken, because that takes half the time of this call.
                # It reads the queue afterwards.
                self._condition.notify_all()

    def hold_back(self) -> None:
        """Keep the events that are put from now on until `release`. Earlier events are still sent."""
        with self._condition:
            self._held_back = self._held_back or []

    def release(self) -> None:
        """Send the events that were held back."""
        with self._condition:
            held_back, self._held_back = self._held_back or [], None
            if held_back and not (self._open_circuit or self._stopping):
                self._queue.extend(held_back)
                if self._thread is None:
                    self._start()
                self._condition.notify_all()

    def flush(self, wait_s: float, patient: bool = False) -> bool:
        """Wait until all events have arrived, at most for `wait_s`.

        Parameters
        ----------
        wait_s : float
            Longest wait [s].
        patient : bool
            False: return at once when the last attempt failed or has no answer after `Limits.unanswered_s`. True: try
            until no event has arrived for `Limits.quiet_s`. A pause that the receiver asks for restarts this time.

        Returns
        -------
        bool
            True if every event taken so far has arrived.
        """
        began = time.monotonic()
        deadline = began + min(max(wait_s, 0.0), _MAX_WAIT_S)
        with self._condition:
            if patient:
                self._last_arrival = began
                self._attempts.be_patient(deadline)
                self._condition.notify_all()
            while self._queue and not self._open_circuit:
                limit = self._worth_waiting_s(deadline, patient)
                if limit <= 0:
                    break
                self._condition.wait(limit)
            return self._taken == self._arrived

    def stop(self) -> None:
        """End the thread after its present attempt, if any. Waiting events are not sent."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
            thread = self._thread if self._attempt_since is None else None
        if thread is not None:
            thread.join(_STOP_JOIN_S)

    @property
    def is_hopeless(self) -> bool:
        """Whether sending again does not help, because the receiver refuses every event."""
        return self._open_circuit

    def notices(self) -> list[str]:
        """Return what went wrong since the last call, each kind of trouble once, without secrets.

        The thread does not print the notices: a daemon thread that holds the lock of stderr while the interpreter ends
        would abort the process.
        """
        if not self._notices:
            return []
        with self._condition:
            return self._notices.take()

    def _worth_waiting_s(self, deadline: float, patient: bool) -> float:
        now = time.monotonic()
        if patient:
            if self._attempts.next_at > deadline:
                return 0.0
            # A receiver that asks for a pause is alive.
            heard = max(self._last_arrival, self._attempts.next_at if self._attempts.told_to_wait else 0.0)
            return min(deadline, heard + self._limits.quiet_s) - now
        if self._attempts.failures:
            return 0.0
        if self._attempt_since is not None:
            deadline = min(deadline, self._attempt_since + self._limits.unanswered_s)
        return deadline - now

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._settle(Answer(Verdict.STOP, type(error).__name__))
        else:
            self._thread = thread

    def _run(self) -> None:
        transport: Transport | None = None
        try:
            while (head := self._next()) is not None:
                if transport is None:
                    transport = self._make_transport(self._settings)
                event = json.loads(head[0])
                answer = transport.post(event)
                if answer.verdict in (Verdict.ARRIVED, Verdict.NEVER):
                    self._settled(event, head[1], answer)
                self._settle(answer)
                self._pause()
        except Exception as error:
            # For example, the package requests cannot be imported.
            self._settle(Answer(Verdict.STOP, type(error).__name__))
        finally:
            if transport is not None:
                with contextlib.suppress(Exception):
                    transport.close()

    def _next(self) -> tuple[bytes, int | None] | None:
        with self._condition:
            while not self._queue and not self._stopping:
                self._idle = True
                self._condition.wait()
            self._idle = False
            if self._stopping or self._open_circuit:
                return None
            self._attempt_since = time.monotonic()
            # `flush` waits for the answer to this attempt for a limited time, which starts now.
            self._condition.notify_all()
            return self._queue[0]

    def _settle(self, answer: Answer) -> None:
        with self._condition:
            self._attempt_since = None
            if answer.verdict is Verdict.ARRIVED:
                self._arrived += 1
                if answer.slow:
                    self._notices.add(
                        "slow", f"{Trouble.SLOW}, though it says {answer.what}; those that wait stay in the spool"
                    )
                self._last_arrival = time.monotonic()
                self._done_with_head()
            elif answer.verdict is Verdict.AGAIN:
                self._attempts.failed(answer.retry_after_s)
                kind = "status" if answer.what.startswith("status") else "connection"
                self._notices.add(kind, f"{answer.what}; they stay in the spool and are tried again")
            elif answer.verdict is Verdict.NEVER:
                self._done_with_head()
                self._notices.add("refused", f"{answer.what} for one event; it is put aside and not sent again")
            else:
                self._open_circuit = True
                self._stopping = True
                self._queue.clear()
                self._notices.add(
                    "stop", f"{answer.what}; this process sends nothing more, and the reports stay in the spool"
                )
            self._condition.notify_all()

    def _done_with_head(self) -> None:
        self._queue.popleft()
        self._attempts.succeeded()

    def _pause(self) -> None:
        with self._condition:
            while not self._stopping and (left := self._attempts.next_at - time.monotonic()) > 0:
                self._condition.wait(left)
