"""What is left in spool files, delivered: of earlier runs, of jobs that died, of jobs that do not send by themselves.

One thread per simulation, in the main process of a run or in the command that replays. It takes the events of all
files in the order in which they happened, so that a receiver sees a simulation begin, run and end; it never
overtakes an event that the receiver may still take.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stemphony.paths import ResultPaths
from stemphony.status.delivery import Delivery, count_undelivered, delivered_until, is_being_sent, read_events
from stemphony.status.events import Event
from stemphony.status.limits import LIMITS, Limits
from stemphony.status.settings import VIA_SUBMIT_HOST, ReportingSettings
from stemphony.status.spool import lock, spool_file_of
from stemphony.status.transport import Answer, HttpTransport, Transport, Trouble, Verdict

TAIL_INTERVAL_S: Final = 1.0
"""Between two looks at the spools of jobs that do not send by themselves."""

SWEEP_INTERVAL_S: Final = 10.0
"""Between two looks for what jobs have left behind."""

STOPPED_PAUSE_S: Final = 300.0
"""Pause after an answer that would meet every event, such as 401, while the run goes on."""

ANOTHER_SENDS: Final = "another process sends them just now"
NO_TIME: Final = "there was no time for all"

BATCH_BYTES: Final = 256 * 1024
FEWEST_FOR_A_BATCH: Final = 10
"""Fewer go one by one, as every receiver takes them."""

THREAD_NAME: Final = "stemphony-courier"

_LOCK_NAME: Final = "delivery.lock"
# A look takes at most a twentieth of the time: with thousands of files on a network file system it is not for nothing.
_LOOK_SHARE: Final = 20.0
_ENDS_OF_A_RUN: Final = (Event.FINISH, Event.FAILED, Event.CANCELLED)


@dataclass(frozen=True)
class SpoolFile:
    """One file with events, and the run that they belong to."""

    path: Path
    run: int


def spools_of(result: ResultPaths) -> list[SpoolFile]:
    """All spool files of a simulation, of all its runs; the marker of a defocus too, where its claimant died."""
    found = []
    for run in runs_of(result):
        files = [*result.events(run).rglob("*.jsonl"), *_orphaned_markers(result, run)]
        found += [SpoolFile(file, run) for file in sorted(files)]
    return found


def runs_of(result: ResultPaths) -> list[int]:
    """Numbers of the runs that have a folder."""
    names = [entry.name for entry in result.reports.glob("run-*")]
    return sorted(int(name[4:]) for name in names if re.fullmatch(r"run-[0-9]{1,9}", name))


def _orphaned_markers(result: ResultPaths, run: int) -> Iterator[Path]:
    """Markers whose event is not in the spool of the job that claimed it: it was killed between the two."""
    for marker in result.run(run).glob("*.START_DEFOCUS.json"):
        with contextlib.suppress(OSError, KeyError, TypeError):
            for event, _ in read_events(marker):
                if event is None:
                    continue
                spool = spool_file_of(result.events(run), event["job"], event["attempt"])
                first = next(read_events(spool), (None, 0))[0] if spool.exists() else None
                if first is None or first.get("event_id") != event["event_id"]:
                    yield marker


class _Reader:
    """The undelivered events of one spool file, and its place among the others."""

    def __init__(self, spool: SpoolFile) -> None:
        self.spool = spool
        self.delivery = Delivery(spool.path)
        self.begin = delivered_until(spool.path)
        self.event: dict[str, Any] | None = None
        self.end = self.begin
        self._events = read_events(spool.path, self.begin)

    def advance(self) -> bool:
        """Go to the next event; False at the end of the file."""
        for event, end in self._events:
            self.end = end
            if event is not None:
                self.event = event
                return True
        self.event = None
        return False

    @property
    def rank(self) -> tuple[int, int, str, str]:
        """Runs one after the other; in each its start first and its end last, the rest by time."""
        event = self.event or {}
        name = event.get("event")
        phase = 0 if name == Event.START_SIMULATION else 2 if name in _ENDS_OF_A_RUN else 1
        return self.spool.run, phase, str(event.get("time")), self.spool.path.name

    def __lt__(self, other: _Reader) -> bool:
        return self.rank < other.rank


_Taken = tuple[_Reader, Mapping[str, Any], int]


class Courier:
    """Deliver what the spool files of a simulation hold and nobody has acknowledged. No method raises.

    Parameters
    ----------
    result : ResultPaths
        The simulation.
    settings : ReportingSettings
        Where to, and with what.
    run : int
        The run that is alive, 0 for none. Spools that its jobs send by themselves are left to them.
    interval_s : float
        Shortest time between two looks at the files.
    transport : callable, optional
        Makes the transport, in the thread. Without it: `HttpTransport`.
    limits : Limits
        Waits, pauses, and the size of a batch.

    Attributes
    ----------
    arrived, refused : int
        Events that were delivered, and those that the receiver refused permanently.
    trouble : str
        What keeps the rest from being delivered; empty if nothing does. What has ended a `drain` stays until the next.
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
    ) -> None:
        self.arrived = self.refused = 0
        self.trouble = ""
        self._result, self._settings, self._run, self._interval_s = result, settings, run, interval_s
        self._limits = limits
        self._make_transport = transport or (lambda settings: HttpTransport(settings, limits))
        self._transport: Transport | None = None
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=THREAD_NAME, daemon=True)
        self._lock_descriptor: int | None = None
        self._last_arrival = time.monotonic()
        self._come_back = 0.0
        self._failures = 0
        self._asked_at: float | None = None
        self._slow = self._given_up = False
        self._look_s = 0.0
        self._wanted = self._done = 0
        self._complete = False
        self._stopping = self._broken = False
        self._settled: dict[Path, int] = {}

    def start(self) -> None:
        """Begin, in a thread of its own."""
        try:
            self._thread.start()
        except RuntimeError as error:
            self.trouble, self._broken = type(error).__name__, True

    def drain(self, wait_s: float, tell: Callable[[], None] = lambda: None) -> bool:
        """Wait until everything that is in the files now is delivered.

        Parameters
        ----------
        wait_s : float
            Longest wait [s]. It ends earlier for a receiver that takes nothing for `Limits.quiet_s`.
        tell : callable
            Called every second or so meanwhile.

        Returns
        -------
        bool
            True if all has arrived or was refused permanently. False: `trouble` says why.
        """
        began = time.monotonic()
        with self._condition:
            self._wanted += 1
            wanted = self._wanted
            self._last_arrival, self._failures, self._complete, self._given_up = began, 0, False, False
            self._condition.notify_all()
            while self._done < wanted and not self._broken:
                # Who says when to come back is alive.
                heard = max(self._last_arrival, self._come_back)
                left = min(began + wait_s, heard + self._limits.quiet_s) - time.monotonic()
                left = 0.0 if self._come_back > began + wait_s else left
                if left <= 0:
                    self.trouble = self.trouble or self._why_not_yet()
                    self._given_up = True
                    return False
                self._condition.wait(min(left, 1.0))
                tell()
            return self._complete

    def _why_not_yet(self) -> str:
        """Say what takes so long although nothing has failed."""
        if self._slow:
            return Trouble.SLOW.value
        asked_at = self._asked_at
        if asked_at is not None and time.monotonic() - asked_at > self._limits.unanswered_s:
            return Trouble.NO_ANSWER.value
        return NO_TIME

    def _nothing_hinders(self) -> None:
        if not self._given_up:
            self.trouble = ""

    def stop(self) -> None:
        """End the thread after the request it is in, if any. What is left stays in the spool."""
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
            # Among them: requests cannot be imported.
            self.trouble = type(error).__name__
        finally:
            with self._condition:
                self._broken = True
                self._condition.notify_all()
            self._let_go()

    def _hold(self) -> bool:
        """Be the only one who delivers the files of this simulation, where the file system can tell."""
        if self._lock_descriptor is not None:
            return True
        try:
            file = self._result.reports / _LOCK_NAME
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return True
        if lock(descriptor) is False:
            os.close(descriptor)
            self.trouble = ANOTHER_SENDS
            return False
        self._lock_descriptor = descriptor
        return True

    def _let_go(self) -> None:
        with contextlib.suppress(Exception):
            if self._transport is not None:
                self._transport.close()
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    def _deliver(self) -> bool:
        """Deliver what there is; False if something is left."""
        self._nothing_hinders()
        began = time.monotonic()
        readers = list(self._readers())
        self._look_s = time.monotonic() - began
        heapq.heapify(readers)
        try:
            while readers:
                if not self._send_some(readers):
                    return False
        finally:
            for reader in readers:
                reader.delivery.close()
        return True

    def _readers(self) -> Iterator[_Reader]:
        for spool in spools_of(self._result):
            if self._stopping:
                return
            with contextlib.suppress(OSError):
                if self._settled.get(spool.path) == spool.path.stat().st_size or self._belongs_to_another(spool):
                    continue
                reader = _Reader(spool)
                if reader.advance():
                    yield reader
                else:
                    self._note_as_settled(reader)

    def _belongs_to_another(self, spool: SpoolFile) -> bool:
        if spool.run != self._run:
            return bool(is_being_sent(spool.path))
        if spool.path == self._result.hook_events(spool.run):
            return True
        draining = self._wanted > self._done
        if spool.path.suffix == ".json":
            # A claim that is a moment old: its job is about to write the event down, or has died.
            return not draining and time.time() - spool.path.stat().st_mtime < SWEEP_INTERVAL_S
        if self._settings.via == VIA_SUBMIT_HOST:
            return False
        held = is_being_sent(spool.path)
        # Where the file system knows no locks, jobs are left alone until their run ends.
        return not draining if held is None else held

    def _note_as_settled(self, reader: _Reader) -> None:
        self._settled[reader.spool.path] = reader.end
        if reader.end > reader.begin:
            # Also past lines that are no events.
            reader.delivery.acknowledge(reader.end)
        reader.delivery.close()

    def _send_some(self, readers: list[_Reader]) -> bool:
        """Send the next event or the next few; False when it is no use to go on."""
        taken = self._take(readers)
        if not (self._sent_at_once(taken) if len(taken) >= FEWEST_FOR_A_BATCH else False):
            for reader, event, end in taken:
                if self._stopping or not self._sent(reader, event, end):
                    return False
        for reader in dict.fromkeys(reader for reader, _, _ in taken):
            if reader.event is None:
                self._note_as_settled(reader)
        return True

    def _sent_at_once(self, taken: list[_Taken]) -> bool:
        """Send several events in one request; False if they have to go one by one."""
        answer = self._until_answered(lambda transport: transport.post_batch([event for _, event, _ in taken]))
        if answer is None or answer.verdict is not Verdict.ARRIVED:
            return False
        for reader, _, end in taken:
            reader.delivery.acknowledge(end)
        self._count(len(taken))
        return True

    def _sent(self, reader: _Reader, event: Mapping[str, Any], end: int) -> bool:
        """Send one event; False if it has neither arrived nor was refused permanently."""
        answer = self._until_answered(lambda transport: transport.post(event))
        if answer is None or answer.verdict not in (Verdict.ARRIVED, Verdict.NEVER):
            return False
        if answer.verdict is Verdict.NEVER:
            reader.delivery.put_aside(event, answer.what)
            self.refused += 1
        reader.delivery.acknowledge(end)
        self._count(int(answer.verdict is Verdict.ARRIVED))
        return True

    def _take(self, readers: list[_Reader]) -> list[_Taken]:
        """Take the next events in order, as many as one request may hold."""
        taken: list[_Taken] = []
        size = 0
        while readers and len(taken) < self._limits.batch_events and size < BATCH_BYTES:
            reader = readers[0]
            assert reader.event is not None  # by construction: a reader without an event is not in the heap
            taken.append((reader, reader.event, reader.end))
            size += len(str(reader.event))
            if reader.advance():
                heapq.heapreplace(readers, reader)
            else:
                heapq.heappop(readers)
        return taken

    def _until_answered(self, request: Callable[[Transport], Answer | None]) -> Answer | None:
        """Repeat a request until it has an answer that will not change; None if the process is to stop before."""
        while not self._stopping:
            if self._transport is None:
                self._transport = self._make_transport(self._settings)
            self._asked_at = time.monotonic()
            answer = request(self._transport)
            self._asked_at = None
            self._slow = answer is not None and answer.slow
            if answer is None or answer.verdict in (Verdict.ARRIVED, Verdict.NEVER):
                return answer
            self.trouble = answer.what
            if answer.verdict is Verdict.STOP:
                return answer
            self._failures += 1
            if answer.retry_after_s:
                self._come_back = time.monotonic() + answer.retry_after_s
                self._rest(answer.retry_after_s)
            else:
                self._rest(self._limits.backoff_s(self._failures), unless_wanted_after=self._wanted)
        return None

    def _count(self, arrived: int) -> None:
        with self._condition:
            self.arrived += arrived
            self._failures, self._come_back = 0, 0.0
            self._nothing_hinders()
            self._last_arrival = time.monotonic()
            self._condition.notify_all()

    def _rest(self, seconds: float, unless_wanted_after: int | None = None) -> None:
        """Wait; but not once somebody wants everything delivered who did not want so before."""
        until = time.monotonic() + seconds
        with self._condition:
            while not self._stopping and (left := until - time.monotonic()) > 0:
                if unless_wanted_after is not None and self._wanted > unless_wanted_after:
                    return
                self._condition.wait(left)


def left_in(result: ResultPaths) -> int:
    """Number of events of a simulation that are written down and not delivered."""
    return sum(count_undelivered(spool.path) for spool in spools_of(result))
