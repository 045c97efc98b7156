"""Deliver the events in spool files that no other process sends.

These are events of earlier runs, of jobs that died, and of jobs that do not send their own events. One thread per
simulation sends them, in the main process of a run or in the command `stemphony report replay`. It sends them in the
order of `backlog`. While the receiver may still accept an event later, no later event is sent.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from stemphony.paths import ResultPaths
from stemphony.status.backlog import Backlog, Reader, Taken
from stemphony.status.limits import LIMITS, Limits
from stemphony.status.settings import VIA_SUBMIT_HOST, ReportingSettings
from stemphony.status.spool import lock
from stemphony.status.transport import Answer, HttpTransport, Transport, Trouble, Verdict

TAIL_INTERVAL_S: Final = 1.0
"""Time between two searches in the spools of jobs that do not send their own events [s]."""

SWEEP_INTERVAL_S: Final = 10.0
"""Time between two searches for events that dead jobs have left [s]."""

STOPPED_PAUSE_S: Final = 300.0
"""Pause during a run after an answer that every event would get, such as 401 [s]."""

ANOTHER_SENDS: Final = "another process sends them just now"
NO_TIME: Final = "there was no time for all"
"""Values of `Courier.trouble`: why events are left, if not for an answer of the receiver."""

BATCH_BYTES: Final = 256 * 1024
"""Size after which a batch gets no further event [bytes]. docs/status-api.md names it for receivers. Stemphony's
monitor takes four times as much."""
FEWEST_FOR_A_BATCH: Final = 10
"""Smallest number of events for a batch. Fewer events are sent one by one, because every receiver accepts single
events."""

THREAD_NAME: Final = "stemphony-courier"
"""Name of the courier's thread, for debuggers."""

# Shortest pause after a search, in units of the duration of the search. A search in thousands of files on a network
# file system is slow. With this pause, searches take at most about a twentieth of the time.
_LOOK_SHARE: Final = 20.0


class _DeliveryLock:
    """The lock of a simulation's delivery. Only one process sends the events that jobs have left."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Lock the delivery. Returns False if another process holds the lock, and True if there are no locks."""
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError:
            return True
        if lock(descriptor) is False:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def free(self) -> None:
        """Unlock the delivery, if this process holds the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class _Contact:
    """Facts about the exchange with the receiver. They decide how long a `drain` waits.

    Attributes
    ----------
    failures : int
        Number of requests that failed since the last event arrived.
    last_arrival, come_back : float
        When the last event arrived, and when the last pause ends that the receiver asked for, as `time.monotonic`.
    asked_at : float or None
        When the present request began. None without a request.
    slow : bool
        Whether the last answer came late.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.failures = 0
        self.last_arrival = time.monotonic()
        self.come_back = 0.0
        self.asked_at: float | None = None
        self.slow = False

    def arrived(self) -> None:
        """Note that an event has arrived."""
        self.failures, self.come_back, self.last_arrival = 0, 0.0, time.monotonic()

    def worth_waiting_s(self, began: float, wait_s: float, patient: bool) -> float:
        """Return how much longer a `drain` that began at `began` waits [s]. See `drain` for the parameters."""
        # A receiver that asks for a pause is alive, so the time counts from the end of the pause.
        heard = max(self.last_arrival, self.come_back)
        quiet_s = self._limits.quiet_s if patient else self._limits.unanswered_s
        left = min(began + wait_s, heard + quiet_s) - time.monotonic()
        left = 0.0 if self.come_back > began + wait_s else left
        return left if patient or not (self.failures or self.come_back > time.monotonic()) else 0.0

    def why_not_yet(self) -> str:
        """Return the reason why the delivery is slow although no request has failed."""
        if self.slow:
            return Trouble.SLOW.value
        asked_at = self.asked_at
        if asked_at is not None and time.monotonic() - asked_at > self._limits.unanswered_s:
            return Trouble.NO_ANSWER.value
        return NO_TIME


class Courier:
    """Deliver the events in the spool files of a simulation that no receiver has acknowledged. No method raises.

    Parameters
    ----------
    result : ResultPaths
        The simulation.
    settings : ReportingSettings
        Address of the receiver, credentials and custom parameters.
    run : int
        The run that is alive, or 0 if no run is alive. If the jobs of this run send their own events, the courier does
        not send them.
    interval_s : float
        Shortest time between two searches in the files [s].
    transport : callable, optional
        Makes the transport. The thread calls this function. Default: `HttpTransport`.
    limits : Limits
        Waits, pauses, and the size of a batch.
    with_original : bool
        Whether events of the original of a copy are sent, see `backlog.Own`.

    Attributes
    ----------
    arrived, refused : int
        Events that were delivered, and those that the receiver refused permanently.
    trouble : str
        Why some events are not delivered, empty without trouble. The reason that ended a `drain` stays until the next
        `drain`.
    """

    def __init__(
        self,
        result: ResultPaths,
        settings: ReportingSettings,
        *,
        run: int = 0,
        interval_s: float = SWEEP_INTERVAL_S,
        transport: Callable[[ReportingSettings], Transport] | None = None,
        limits: Limits = LIMITS,
        with_original: bool = False,
    ) -> None:
        self.arrived = self.refused = 0
        self.trouble = ""
        self._settings, self._interval_s = settings, interval_s
        self._limits = limits
        self._backlog = Backlog(result, run, jobs_send=settings.via != VIA_SUBMIT_HOST, with_original=with_original)
        self._make_transport = transport or (lambda settings: HttpTransport(settings, limits))
        self._transport: Transport | None = None
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=THREAD_NAME, daemon=True)
        self._lock = _DeliveryLock(result.delivery_lock)
        self._contact = _Contact(limits)
        self._given_up = self._refuses_all = False
        self._look_s = 0.0
        self._wanted = self._done = 0
        self._complete = False
        self._stopping = self._broken = False

    @property
    def is_hopeless(self) -> bool:
        """Whether sending again does not help: the receiver refuses every event, or the thread has ended."""
        return self._refuses_all or self._broken

    def start(self) -> None:
        """Start the thread."""
        try:
            self._thread.start()
        except RuntimeError as error:
            self.trouble, self._broken = type(error).__name__, True

    def drain(self, wait_s: float, tell: Callable[[], None] = lambda: None, patient: bool = True) -> bool:
        """Wait until all events that are in the files now are delivered.

        Parameters
        ----------
        wait_s : float
            Longest wait [s]. The wait ends earlier if the receiver accepts nothing for `Limits.quiet_s`.
        tell : callable
            Called about every second during the wait.
        patient : bool
            False: stop waiting after the first request that fails, and for a receiver that takes nothing for
            `Limits.unanswered_s` or asks for a pause.

        Returns
        -------
        bool
            True if all events have arrived or were refused permanently. If False, `trouble` says why.
        """
        began = time.monotonic()
        with self._condition:
            self._wanted += 1
            wanted = self._wanted
            self._contact.last_arrival, self._contact.failures = began, 0
            self._complete = self._given_up = self._refuses_all = False
            self._condition.notify_all()
            while self._done < wanted and not self._broken:
                left = self._contact.worth_waiting_s(began, wait_s, patient)
                if left <= 0:
                    self.trouble = self.trouble or self._contact.why_not_yet()
                    self._given_up = True
                    return False
                self._condition.wait(min(left, 1.0))
                tell()
            return self._complete

    def _nothing_hinders(self) -> None:
        if not self._given_up:
            self.trouble = ""

    def stop(self) -> None:
        """End the thread after its present request. Undelivered events stay in the spool."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join(0.2)

    # --- in the thread ----------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._stopping:
                wanted = self._wanted
                complete = self._hold() and self._deliver()
                with self._condition:
                    if wanted > self._done:
                        self._done, self._complete = wanted, complete
                        self._condition.notify_all()
                pause = max(self._interval_s, _LOOK_SHARE * self._look_s)
                if not complete:
                    pause = max(pause, SWEEP_INTERVAL_S if self.trouble == ANOTHER_SENDS else STOPPED_PAUSE_S)
                self._rest(pause, unless_wanted_after=self._done)
        except Exception as error:
            # For example, the package requests cannot be imported.
            self.trouble = type(error).__name__
        finally:
            with self._condition:
                self._broken = True
                self._condition.notify_all()
            self._let_go()

    def _hold(self) -> bool:
        """Lock the delivery for this simulation. Returns False if another process sends."""
        if self._lock.take():
            return True
        self.trouble = ANOTHER_SENDS
        return False

    def _let_go(self) -> None:
        with contextlib.suppress(Exception):
            if self._transport is not None:
                self._transport.close()
        self._lock.free()

    def _deliver(self) -> bool:
        """Deliver the backlog. Returns False if events are left."""
        self._nothing_hinders()
        began = time.monotonic()
        self._backlog.look(draining=lambda: self._wanted > self._done, is_over=lambda: self._stopping)
        self._look_s = time.monotonic() - began
        try:
            while self._backlog:
                if not self._send_some():
                    return False
        finally:
            self._backlog.close()
        return True

    def _send_some(self) -> bool:
        """Send the next event or the next few. Returns False if the rest cannot be sent now."""
        taken = self._backlog.take(self._limits.batch_events, BATCH_BYTES)
        if not (self._sent_at_once(taken) if len(taken) >= FEWEST_FOR_A_BATCH else False):
            for reader, event, end in taken:
                if self._stopping or not self._sent(reader, event, end):
                    return False
        self._backlog.settle(taken)
        return True

    def _sent_at_once(self, taken: list[Taken]) -> bool:
        """Send several events in one request. Returns False if they must be sent one by one."""
        answer = self._until_answered(lambda transport: transport.post_batch([event for _, event, _ in taken]))
        if answer is None or answer.verdict is not Verdict.ARRIVED:
            return False
        for reader, _, end in taken:
            reader.delivery.acknowledge(end)
        self._count(len(taken))
        return True

    def _sent(self, reader: Reader, event: Mapping[str, Any], end: int) -> bool:
        """Send one event. Returns False if the event has not arrived and was not refused permanently."""
        answer = self._until_answered(lambda transport: transport.post(event))
        if answer is None or answer.verdict not in (Verdict.ARRIVED, Verdict.NEVER):
            return False
        if answer.verdict is Verdict.NEVER:
            reader.delivery.put_aside(event, answer.what)
            self.refused += 1
        reader.delivery.acknowledge(end)
        self._count(int(answer.verdict is Verdict.ARRIVED))
        return True

    def _until_answered(self, request: Callable[[Transport], Answer | None]) -> Answer | None:
        """Repeat a request until it has a final answer. Returns None if the courier is stopped before that."""
        while not self._stopping:
            if self._transport is None:
                self._transport = self._make_transport(self._settings)
            self._contact.asked_at = time.monotonic()
            answer = request(self._transport)
            self._contact.asked_at = None
            self._contact.slow = answer is not None and answer.slow
            if answer is None or answer.verdict in (Verdict.ARRIVED, Verdict.NEVER):
                return answer
            self.trouble = answer.what
            if answer.verdict is Verdict.STOP:
                self._refuses_all = True
                return answer
            with self._condition:
                self._contact.failures += 1
                self._condition.notify_all()
            if answer.retry_after_s:
                self._contact.come_back = time.monotonic() + answer.retry_after_s
                self._rest(answer.retry_after_s)
            else:
                self._rest(self._limits.backoff_s(self._contact.failures), unless_wanted_after=self._wanted)
        return None

    def _count(self, arrived: int) -> None:
        with self._condition:
            self.arrived += arrived
            self._contact.arrived()
            self._nothing_hinders()
            self._condition.notify_all()

    def _rest(self, seconds: float, unless_wanted_after: int | None = None) -> None:
        """Wait. End early if the number of calls of `drain` exceeds `unless_wanted_after`."""
        until = time.monotonic() + seconds
        with self._condition:
            while not self._stopping and (left := until - time.monotonic()) > 0:
                if unless_wanted_after is not None and self._wanted > unless_wanted_after:
                    return
                self._condition.wait(left)
