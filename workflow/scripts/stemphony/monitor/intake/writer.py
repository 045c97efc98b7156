"""The one thread that writes. Whoever hands it events waits until they are on the disk, together with all others that
came meanwhile: one transaction, one sync of the disk, for a whole group.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from stemphony.monitor.database import tables
from stemphony.monitor.database.connection import Database, ServedByAnother, is_away, reason
from stemphony.monitor.intake import limits, preview
from stemphony.monitor.intake.incoming import IncomingEvent, is_known
from stemphony.monitor.summaries import (
    Change,
    DefocusSummary,
    PairSummary,
    SimulationSummary,
    fail_listed,
    in_its_run,
    update_defocus,
    update_pair,
    update_simulation,
)
from stemphony.status.events import Event

GROUP_EVENTS: Final = 2000
"""Events of one transaction, if so many wait; a batch is not divided."""

ANSWER_DEADLINE_S: Final = 20.0
"""Longest wait for a commit; what is committed later is recognised when it is sent again."""

LOOK_S: Final = 5.0
"""After so long without events the writer looks whether the database is there, and still its own."""

_QUEUE: Final = 1000
_KEYS_PER_QUESTION: Final = 500
_KEPT_SIMULATIONS: Final = 500
_KEPT_PAIRS: Final = 50_000
_TELL_AGAIN_S: Final = 60.0

Result = TypeVar("Result")
Row = TypeVar("Row", bound=Any)


class NotStored(Exception):
    """The database did not take what was handed to it; nothing of it is stored, and it may be sent again."""


@dataclass(frozen=True)
class Receipt:
    """What became of events that are on the disk now."""

    stored: int
    duplicates: int


@dataclass
class Counts:
    """What the writer has done since it started; for the metrics."""

    stored: int = 0
    duplicates: int = 0
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
    """Write events and what follows from them, in a thread of its own.

    Parameters
    ----------
    database : Database
        Where to; nobody else writes to it while this lives.
    notify : callable
        Rows for the table of notifications when a run has ended: (simulation, run, event, now).
    say : callable
        Takes one line about trouble with the database.
    noted : callable
        Called when such rows are on the disk.
    """

    def __init__(
        self,
        database: Database,
        notify: Callable[[SimulationSummary, str, float], list[dict[str, Any]]] = lambda *_: [],
        say: Callable[[str], None] = lambda _: None,
        noted: Callable[[], None] = lambda: None,
    ) -> None:
        self.counts = Counts()
        self._database = database
        self._notify = notify
        self._say = say
        self._noted = noted
        self._said_at = 0.0
        self._tasks: queue.Queue[_Task | None] = queue.Queue(_QUEUE)
        self._closed = threading.Event()
        self._is_away = self._is_displaced = self._is_reached = False
        with database.writer.begin() as connection:
            self._session = _Session(connection, database)
        self._connections = database.writer_connections
        self._thread = threading.Thread(target=self._run, name="stemphony-writer", daemon=True)
        self._thread.start()

    @property
    def is_well(self) -> bool:
        """Whether the thread lives and its last transaction succeeded."""
        return self._thread.is_alive() and not self.counts.trouble

    @property
    def is_displaced(self) -> bool:
        """Whether another monitor serves the database, so that this one writes nothing."""
        return self._is_displaced

    @property
    def waiting(self) -> int:
        """Requests that wait for the next transaction."""
        return self._tasks.qsize()

    def store(self, events: Sequence[IncomingEvent]) -> Receipt:
        """Store events and wait until they are on the disk.

        Raises
        ------
        NotStored
            They are not, or not yet.
        """
        result: Receipt = self._wait_for(_Task(events=events))
        return result

    def run(self, action: Callable[[Connection], Result]) -> Result:
        """Do something else that writes, between two groups of events, in a transaction of its own."""
        result: Result = self._wait_for(_Task(action=action))
        return result

    def forget_after(self, action: Callable[[Connection], Result]) -> Result:
        """The same for what takes summaries away: the writer reads them anew when it needs them."""

        def act(connection: Connection) -> Result:
            self._session.forget()
            return action(connection)

        return self.run(act)

    def close(self) -> None:
        """Write what waits, then end the thread."""
        if not self._closed.is_set():
            self._closed.set()
            self._tasks.put(None)
            self._thread.join(ANSWER_DEADLINE_S)

    def _wait_for(self, task: _Task) -> Any:
        if self._closed.is_set():
            raise NotStored("the monitor is stopping")
        try:
            self._tasks.put(task, timeout=ANSWER_DEADLINE_S)
        except queue.Full:
            raise NotStored("the database is too slow") from None
        if not task.done.wait(ANSWER_DEADLINE_S):
            raise NotStored("the database is too slow")
        if task.error is not None:
            raise task.error
        return task.result

    # --- in the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (task := self._next_task()) is not None:
            group, size, last = [task], len(task.events), False
            while size < GROUP_EVENTS and task.action is None:
                try:
                    following = self._tasks.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    last = True
                    break
                group.append(following)
                size += len(following.events)
                if following.action is not None:
                    break
            self._write([entry for entry in group if entry.action is None])
            for entry in group:
                if entry.action is not None:
                    self._write([entry])
            if last:
                return

    def _next_task(self) -> _Task | None:
        while True:
            try:
                return self._tasks.get(timeout=LOOK_S)
            except queue.Empty:
                self._look()

    def _look(self) -> None:
        """Connect again, and take the lock again, before another monitor does or an event needs it."""
        try:
            with self._transaction() as connection:
                connection.execute(select(1))
        except Exception as error:
            self._session.forget()
            self._note_trouble(error)
        else:
            # Of a full disk this says nothing: only a transaction that writes shows that it has room again.
            if self._is_away:
                self._note_success()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Connection]:
        self._is_reached = False
        with self._database.writer.begin() as connection:
            self._is_reached = True
            if self._connections != self._database.writer_connections:
                # Until now, and not from now on, another monitor may have written.
                self._session.begin_anew(connection)
                self._connections = self._database.writer_connections
            yield connection

    def _write(self, group: Sequence[_Task]) -> None:
        if not group:
            return
        begin = time.perf_counter()
        noted = False
        try:
            with self._transaction() as connection:
                for task in group:
                    task.result = task.action(connection) if task.action else None
                if not group[0].action:
                    noted = self._store(connection, group)
        except Exception as error:
            self._session.forget()
            if len(group) > 1 and not (isinstance(error, OperationalError) or is_away(error)):
                # One of them is what the database does not take; the others shall not suffer for it.
                for task in group:
                    self._write([task])
                return
            self._fail(group, error)
        else:
            self._succeed(group, time.perf_counter() - begin)
            if noted:
                self._noted()

    def _store(self, connection: Connection, group: Sequence[_Task]) -> bool:
        new = self._session.new_ones(connection, (event for task in group for event in task.events))
        ends = self._session.take(connection, [event for event in new.values()])
        self._session.flush(connection)
        rows = [row for simulation, event in ends for row in self._notify(simulation, event, time.time())]
        if rows:
            connection.execute(_insert(self._database, tables.NOTIFICATION).on_conflict_do_nothing(), rows)
        left = set(new)
        for task in group:
            first = {event.key for event in task.events} & left
            left -= first
            task.result = Receipt(len(first), len(task.events) - len(first))
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
            self._say(f"{self._database.name} does not take events: {what}. Senders are told to try again.")
        self.counts.trouble = what
        self._is_displaced = isinstance(error, ServedByAnother)
        self._is_away = not self._is_reached or getattr(error, "connection_invalidated", False)


class _Session:
    """Summaries in memory, read when they are first needed and written after each group."""

    def __init__(self, connection: Connection, database: Database) -> None:
        self._database = database
        self._next_event = _next(connection, tables.EVENT)
        self._next_simulation = _next(connection, tables.SIMULATION)
        self._simulations: OrderedDict[str, SimulationSummary] = OrderedDict()
        self._pairs: OrderedDict[tuple[int, str, int], PairSummary] = OrderedDict()
        self._defoci: dict[int, dict[str, DefocusSummary]] = {}
        self._parameters: dict[int, dict[str, str]] = {}
        self._changed: dict[str, dict[Any, Any]] = {}
        self._upserts = {table.name: _Upsert(database, table) for table in _SUMMARIES}
        self._clear_changes()

    def forget(self) -> None:
        """Forget what memory has: a transaction did not come to its end, or rows went by another way."""
        self._simulations.clear()
        self._pairs.clear()
        self._defoci.clear()
        self._parameters.clear()
        self._clear_changes()

    def begin_anew(self, connection: Connection) -> None:
        """Forget all: others may have written. Numbers only grow, as pages ask for what is later than the last one."""
        self.forget()
        self._next_event = max(self._next_event, _next(connection, tables.EVENT))
        self._next_simulation = max(self._next_simulation, _next(connection, tables.SIMULATION))

    def _clear_changes(self) -> None:
        self._changed = {name: {} for name in ("simulation", "pair", "defocus", "parameter")}

    def new_ones(self, connection: Connection, events: Iterable[IncomingEvent]) -> dict[bytes, IncomingEvent]:
        """Those that are not stored yet, each once."""
        wanted: dict[bytes, IncomingEvent] = {}
        for event in events:
            wanted.setdefault(event.key, event)
        keys = list(wanted)
        for start in range(0, len(keys), _KEYS_PER_QUESTION):
            column = tables.EVENT.c.key
            question = select(column).where(column.in_(keys[start : start + _KEYS_PER_QUESTION]))
            for (key,) in connection.execute(question):
                del wanted[bytes(key)]
        return wanted

    def take(self, connection: Connection, events: Sequence[IncomingEvent]) -> list[tuple[SimulationSummary, str]]:
        """Insert events and let their simulations know. Gives the runs that ended, with the event."""
        ends, rows = [], []
        for event in events:
            row = self._next_event
            self._next_event += 1
            if event.name == Event.TEST:
                rows.append(_event_row(event, row, tables.NO_SIMULATION))
                continue
            simulation = self._simulation(connection, event.simulation)
            event = in_its_run(simulation, event)
            change = update_simulation(simulation, event) if is_known(event.name) else _only_arrived(simulation, event)
            simulation.revision = row
            self._changed["simulation"][simulation.row] = simulation
            if is_known(event.name) and event.defocus_key:
                self._take_pair(connection, simulation, event, row)
            self._take_parameters(connection, simulation, event)
            for indices in change.listed:
                self._take_listed(connection, simulation, indices, row)
            if change.ended:
                # As it is now: the next event of the group may begin the next run.
                ends.append((dataclasses.replace(simulation), change.ended))
            rows.append(_event_row(event, row, simulation.row))
        if rows:
            connection.execute(tables.EVENT.insert(), rows)
        return ends

    def _take_pair(self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent, row: int) -> None:
        defoci = self._defoci_of(connection, simulation.row)
        defocus = defoci.get(event.defocus_key)
        if defocus is None:
            if len(defoci) >= limits.MAX_DEFOCI:
                return
            defocus = defoci[event.defocus_key] = DefocusSummary(simulation.row, event.defocus_key)
        if update_defocus(defocus, event):
            self._changed["defocus"][simulation.row, defocus.key] = defocus
        if event.configuration is not None and event.name != Event.START_DEFOCUS:
            pair = self._pair(connection, (simulation.row, event.defocus_key, event.configuration))
            if update_pair(simulation, pair, event):
                pair.revision = row
                self._changed["pair"][pair.simulation, pair.defocus_key, pair.configuration] = pair
                if event.preview is not None and pair.attempt == event.attempt:
                    preview.keep(connection, pair, event.preview)

    def _take_listed(
        self, connection: Connection, simulation: SimulationSummary, indices: tuple[int, int], row: int
    ) -> None:
        for defocus in self._defoci_of(connection, simulation.row).values():
            if defocus.defocus_index == indices[0] and defocus.run == simulation.run:
                pair = self._pair(connection, (simulation.row, defocus.key, indices[1]))
                if pair.attempt >= 0 and fail_listed(simulation, pair):
                    pair.revision = row
                    self._changed["pair"][pair.simulation, pair.defocus_key, pair.configuration] = pair

    def _take_parameters(self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent) -> None:
        known = self._parameters_of(connection, simulation.row)
        for name, value in event.parameters.items():
            if known.get(name) != value and event.run >= simulation.run:
                if name not in known and len(known) >= limits.MAX_KEYS:
                    continue
                known[name] = value
                self._changed["parameter"][simulation.row, name] = {
                    "simulation": simulation.row, "name": name, "value": value,
                }  # fmt: skip

    def flush(self, connection: Connection) -> None:
        """Write the summaries that changed."""
        for name, upsert in self._upserts.items():
            if changed := self._changed[name].values():
                upsert.execute(connection, map(_row, changed))
        self._clear_changes()
        while len(self._simulations) > _KEPT_SIMULATIONS:
            _, oldest = self._simulations.popitem(last=False)
            self._defoci.pop(oldest.row, None)
            self._parameters.pop(oldest.row, None)
        while len(self._pairs) > _KEPT_PAIRS:
            self._pairs.popitem(last=False)

    # --- what memory has, or the database ---------------------------------------------------------------------------

    def _simulation(self, connection: Connection, uid: str) -> SimulationSummary:
        if uid in self._simulations:
            self._simulations.move_to_end(uid)
            return self._simulations[uid]
        table = tables.SIMULATION
        found = connection.execute(select(table).where(table.c.uid == uid)).mappings().first()
        if found is None:
            simulation = SimulationSummary(self._next_simulation, uid)
            self._next_simulation += 1
        else:
            simulation = SimulationSummary(**{**found, "samples": json.loads(found["samples"])})
        self._simulations[uid] = simulation
        return simulation

    def _pair(self, connection: Connection, place: tuple[int, str, int]) -> PairSummary:
        if place in self._pairs:
            self._pairs.move_to_end(place)
            return self._pairs[place]
        table = tables.PAIR
        question = select(table).where(
            table.c.simulation == place[0], table.c.defocus_key == place[1], table.c.configuration == place[2]
        )
        found = connection.execute(question).mappings().first()
        pair = PairSummary(*place) if found is None else PairSummary(**found)
        self._pairs[place] = pair
        return pair

    def _defoci_of(self, connection: Connection, simulation: int) -> dict[str, DefocusSummary]:
        if simulation not in self._defoci:
            table = tables.DEFOCUS
            found = connection.execute(select(table).where(table.c.simulation == simulation)).mappings()
            self._defoci[simulation] = {row["key"]: DefocusSummary(**row) for row in found}
        return self._defoci[simulation]

    def _parameters_of(self, connection: Connection, simulation: int) -> dict[str, str]:
        if simulation not in self._parameters:
            table = tables.PARAMETER
            question = select(table.c.name, table.c.value).where(table.c.simulation == simulation)
            self._parameters[simulation] = {name: value for name, value in connection.execute(question)}
        return self._parameters[simulation]


_SUMMARIES: Final = (tables.SIMULATION, tables.DEFOCUS, tables.PAIR, tables.PARAMETER)


def _only_arrived(simulation: SimulationSummary, event: IncomingEvent) -> Change:
    """An event of a name that is not known: it is stored, and it is a sign of life."""
    if not simulation.events:
        simulation.first_received = event.received
        simulation.run = max(simulation.run, event.run)
        simulation.run_started = simulation.latest_time = event.time
    simulation.events += 1
    simulation.last_received = max(simulation.last_received, event.received)
    return Change()


def _event_row(event: IncomingEvent, row: int, simulation: int) -> dict[str, Any]:
    return {
        "row": row,
        "simulation": simulation,
        "key": event.key,
        "event_id": event.event_id,
        "name": event.name,
        "time": event.time,
        "received": event.received,
        "run": event.run,
        "job": event.job,
        "attempt": event.attempt,
        "seq": event.seq,
        "defocus_key": event.defocus_key,
        "configuration": event.configuration,
        "notable": int(not event.is_progress),
        "body": event.body,
    }


def _row(entry: Any) -> Mapping[str, Any]:
    if isinstance(entry, dict):
        return entry
    row = {name: getattr(entry, name) for name in _FIELDS[type(entry)]}
    if isinstance(entry, SimulationSummary):
        row["samples"] = json.dumps(entry.samples)
    return row


_FIELDS: Final = {
    kind: tuple(column.name for column in dataclasses.fields(kind))
    for kind in (SimulationSummary, PairSummary, DefocusSummary)
}


def _next(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.max(table.c.row))).scalar() or 0) + 1


def _insert(database: Database, table: Table) -> Any:
    return sqlite.insert(table) if database.is_sqlite else postgresql.insert(table)


class _Upsert:
    """Insert rows, or replace what is there. SQLAlchemy itself would compile this anew each time, a millisecond."""

    def __init__(self, database: Database, table: Table) -> None:
        statement = _insert(database, table)
        keys = [column.name for column in table.primary_key]
        others = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
        compiled = statement.on_conflict_do_update(index_elements=keys, set_=others).compile(
            dialect=database.writer.dialect, column_keys=[column.name for column in table.columns]
        )
        self._text = str(compiled)
        self._positions: Sequence[str] | None = compiled.positiontup

    def execute(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows, in one go."""
        values: list[Any] = list(rows)
        if self._positions is not None:
            values = [tuple(row[name] for name in self._positions) for row in values]
        connection.exec_driver_sql(self._text, values)
