"""The one thread that writes to the database.

A request gives its events to the thread and waits until they are on the disk. Events that arrive meanwhile share the
next transaction. So they also share one sync of the disk.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, select
from sqlalchemy.exc import OperationalError

from stemphony.monitor.database import audit, schema
from stemphony.monitor.database.connection import Database, ServedByAnother, is_away, reason
from stemphony.monitor.database.upsert import insert
from stemphony.monitor.intake.event_store import EventStore, Fate
from stemphony.monitor.intake.summary_cache import SummaryCache
from stemphony.monitor.records import IncomingEvent, SimulationSummary

GROUP_EVENTS: Final = 2000
"""Most events of one transaction. A single batch is not divided, even if it is larger."""

_QUEUE: Final = 1000
"""Most tasks that wait for the thread. Further requests wait for a free place."""

_TELL_AGAIN_S: Final = 60.0
"""Shortest time between two lines of the log about the same trouble [s]."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class WriterLimits:
    """Waits of the writer [s].

    Attributes
    ----------
    answer_s : float
        Longest wait of a request for its commit. It is shorter than a sender's wait for an answer. If the commit comes
        later, the sender's next try is a duplicate.
    troubled_s : float
        The same while the database does not answer. It is short, because many senders share the threads, and all of
        them must get status 503 in time.
    action_s : float
        Longest wait of other actions of the monitor, such as a deletion.
    stuck_s : float
        If a transaction takes longer than this, the database counts as not answering. The health page then reports it,
        and new requests wait only `troubled_s`.
    look_s : float
        After this time without events, the thread checks that the database is there and that this monitor has its
        lock. The connection is then made again before an event needs it.
    """

    answer_s: float = 4.0
    troubled_s: float = 0.25
    action_s: float = 30.0
    stuck_s: float = 3.0
    look_s: float = 5.0


LIMITS: Final = WriterLimits()
"""The limits of every monitor."""


class NotStored(Exception):
    """The database did not take the events. None of them is stored, and the sender may send them again."""


@dataclass(frozen=True)
class Receipt:
    """How many events of a request are new (`stored`), and how many the database already had (`duplicates`).

    `conflicts` says how many of the new events are kept but not counted.
    """

    stored: int
    duplicates: int
    conflicts: int = 0


@dataclass
class Counts:
    """Counters of the writer since its start, for the metrics.

    Attributes
    ----------
    stored, duplicates, conflicts : int
        Events, as in `Receipt`.
    commits, failures : int
        Transactions that succeeded, and that the database refused.
    last_commit : float
        Time of the last commit [s since 1970].
    commit_s : float
        Time of all transactions together [s].
    trouble : str
        What is wrong with the database now; empty while it answers.
    """

    stored: int = 0
    duplicates: int = 0
    conflicts: int = 0
    commits: int = 0
    failures: int = 0
    last_commit: float = 0.0
    commit_s: float = 0.0
    trouble: str = ""


@dataclass
class _Task:
    events: Sequence[IncomingEvent] = ()
    action: Callable[[Connection], Any] | None = None
    done: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Write events and everything else from one thread.

    Parameters
    ----------
    database : Database
        No other process may write to it while the writer lives.
    notify : callable
        Returns the rows for the table of notifications when a run has ended: (simulation, event name, now).
    say : callable
        Takes one line for the log about trouble with the database.
    noted : callable
        Called when rows of `notify` are on the disk.
    limits : WriterLimits
    """

    def __init__(
        self,
        database: Database,
        notify: Callable[[SimulationSummary, str, float], list[dict[str, Any]]] = lambda *_: [],
        say: Callable[[str], None] = lambda _: None,
        noted: Callable[[], None] = lambda: None,
        limits: WriterLimits = LIMITS,
    ) -> None:
        self.counts = Counts()
        self._database = database
        self._notify = notify
        self._say = say
        self._noted = noted
        self._limits = limits
        self._said_at = 0.0
        self._tasks: queue.Queue[_Task | None] = queue.Queue(_QUEUE)
        self._closed = threading.Event()
        self._begun: float | None = None
        self._is_away = self._is_displaced = self._is_reached = False
        with database.writer.begin() as connection:
            audit.share_with_operators(connection)
            self._cache = SummaryCache(connection, database)
        self._store = EventStore(self._cache)
        self._connections = database.writer_connections
        self._thread = threading.Thread(target=self._run, name="stemphony-writer", daemon=True)
        self._thread.start()

    @property
    def is_well(self) -> bool:
        """Whether the thread is alive, its last transaction succeeded, and the present one does not take long."""
        begun = self._begun
        is_stuck = begun is not None and time.monotonic() - begun > self._limits.stuck_s
        return self._thread.is_alive() and not self.counts.trouble and not is_stuck

    @property
    def is_displaced(self) -> bool:
        """Whether another monitor serves the database. Then this monitor writes nothing."""
        return self._is_displaced

    @property
    def waiting(self) -> int:
        """Number of requests that wait for the next transaction."""
        return self._tasks.qsize()

    def store(self, events: Sequence[IncomingEvent]) -> Receipt:
        """Store `events` and wait until they are on the disk.

        Raises
        ------
        NotStored
            The events are not on the disk, or not yet.
        """
        result: Receipt = self._wait_for(_Task(events=events))
        return result

    def run(self, action: Callable[[Connection], Result]) -> Result:
        """Run another `action` that writes, in a transaction between two groups of events. Return its result.

        Raises
        ------
        NotStored
            The action has not run, or not yet.
        """
        result: Result = self._wait_for(_Task(action=action))
        return result

    def run_and_forget(self, action: Callable[[Connection], Result]) -> Result:
        """Run an `action` that deletes summaries. The writer then reads summaries from the database again.

        The result and the errors are those of `run`.
        """

        def act(connection: Connection) -> Result:
            self._cache.forget()
            return action(connection)

        return self.run(act)

    def close(self) -> None:
        """Write everything that waits, then end the thread."""
        if not self._closed.is_set():
            self._closed.set()
            self._tasks.put(None)
            self._thread.join(self._limits.action_s)

    def _wait_for(self, task: _Task) -> Any:
        if self._closed.is_set():
            raise NotStored("the monitor is stopping")
        patience = self._limits.answer_s if self.is_well else self._limits.troubled_s
        until = time.monotonic() + (patience if task.action is None else self._limits.action_s)
        try:
            self._tasks.put(task, timeout=max(0.0, until - time.monotonic()))
        except queue.Full:
            raise NotStored(self.counts.trouble or "the database is too slow") from None
        if not task.done.wait(max(0.0, until - time.monotonic())):
            raise NotStored(self.counts.trouble or "the database is too slow")
        if task.error is not None:
            raise task.error
        return task.result

    # --- in the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (task := self._next_task()) is not None:
            group, size, is_last = [task], len(task.events), False
            while size < GROUP_EVENTS and group[-1].action is None:
                try:
                    following = self._tasks.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    is_last = True
                    break
                group.append(following)
                size += len(following.events)
            if with_events := [entry for entry in group if entry.action is None]:
                self._write(with_events)
            if group[-1].action is not None:
                self._write(group[-1:])
            if is_last:
                return

    def _next_task(self) -> _Task | None:
        while True:
            try:
                return self._tasks.get(timeout=self._limits.look_s)
            except queue.Empty:
                self._look()

    def _look(self) -> None:
        """Connect and lock again if necessary, before an event arrives or another monitor takes the lock."""
        try:
            with self._transaction() as connection:
                connection.execute(select(1))
        except Exception as error:
            self._cache.forget()
            self._note_trouble(error)
        else:
            # For a full disk, reading proves nothing. Only a transaction that writes shows that there is room again.
            if self._is_away:
                self._note_success()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Connection]:
        self._is_reached = False
        self._begun = time.monotonic()
        try:
            with self._begin() as connection:
                yield connection
        finally:
            self._begun = None

    @contextlib.contextmanager
    def _begin(self) -> Iterator[Connection]:
        with self._database.writer.begin() as connection:
            self._is_reached = True
            if self._connections != self._database.writer_connections:
                # Another monitor may have written before this connection was made.
                self._cache.begin_anew(connection)
                self._connections = self._database.writer_connections
            audit.share_with_operators(connection)
            self._cache.follow_operators(connection)
            yield connection

    def _write(self, group: Sequence[_Task]) -> None:
        begin = time.perf_counter()
        noted = False
        try:
            with self._transaction() as connection:
                if action := group[0].action:
                    group[0].result = action(connection)
                else:
                    noted = self._store_group(connection, group)
        except Exception as error:
            self._cache.forget()
            if len(group) > 1 and not (isinstance(error, OperationalError) or is_away(error)):
                # The database refuses one task of the group. The other tasks must not fail because of it, so each task
                # gets its own transaction.
                for task in group:
                    self._write([task])
                return
            self._fail(group, error)
        else:
            self._succeed(group, time.perf_counter() - begin)
            if noted:
                self._noted()

    def _store_group(self, connection: Connection, group: Sequence[_Task]) -> bool:
        """Store the events of a group. Returns whether it also wrote notifications."""
        fates, ends = self._store.store(connection, [event for task in group for event in task.events])
        rows = [row for simulation, event in ends for row in self._notify(simulation, event, time.time())]
        if rows:
            connection.execute(insert(self._database, schema.NOTIFICATION).on_conflict_do_nothing(), rows)
        begin = 0
        for task in group:
            own = Counter(fates[begin : begin + len(task.events)])
            begin += len(task.events)
            task.result = Receipt(own[Fate.COUNTED] + own[Fate.HELD], own[Fate.DUPLICATE], own[Fate.HELD])
        return bool(rows)

    def _succeed(self, group: Sequence[_Task], seconds: float) -> None:
        counts = self.counts
        counts.commits += 1
        counts.commit_s += seconds
        counts.last_commit = time.time()
        self._note_success()
        for task in group:
            if isinstance(task.result, Receipt):
                counts.stored += task.result.stored
                counts.duplicates += task.result.duplicates
                counts.conflicts += task.result.conflicts
            task.done.set()

    def _fail(self, group: Sequence[_Task], error: Exception) -> None:
        self.counts.failures += 1
        self._note_trouble(error)
        for task in group:
            task.error = NotStored(self.counts.trouble)
            task.done.set()

    def _note_success(self) -> None:
        self._is_away = self._is_displaced = False
        if self.counts.trouble:
            self._say("the database takes events again")
            self.counts.trouble = ""

    def _note_trouble(self, error: Exception) -> None:
        what, now = reason(error), time.monotonic()
        if what != self.counts.trouble or now - self._said_at > _TELL_AGAIN_S:
            self._said_at = now
            self._say(f"{self._database.name} does not take events: {what}. Senders get status 503 and try again.")
        self.counts.trouble = what
        self._is_displaced = isinstance(error, ServedByAnother)
        self._is_away = not self._is_reached or getattr(error, "connection_invalidated", False)
