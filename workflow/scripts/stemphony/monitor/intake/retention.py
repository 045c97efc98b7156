"""Delete old simulations in small portions, between two groups of events.

A clock may be wrong. So the monitor does not delete a simulation at once when the clock says that it is old. It first
marks the simulation, and deletes it after the monitor has run for some more time. A clock that cannot be set measures
this time, and the monitor adds it up over all its starts. Each sweep deletes only a small share of the simulations. The
log names the deleted simulations.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import DBAPIError

from stemphony.counting import number_of
from stemphony.monitor.database import schema
from stemphony.monitor.intake.writer import NotStored, Writer

PORTION: Final = 2000
"""Events that one transaction deletes. Senders wait for such a transaction, which takes some milliseconds."""

CHECK_S: Final = 3600.0
"""Time between two searches for old simulations [s]."""

RIPE_S: Final = 86_400.0
"""How long the monitor runs between the mark and the deletion of a simulation that has ended [s]."""

RIPE_UNENDED_S: Final = 7 * 86_400.0
"""The same for a simulation without an end [s]. If an event arrives in this time, the simulation still runs."""

SHARE: Final = 0.1
SHARE_AT_LEAST: Final = 5
"""Most simulations that one sweep deletes: this share of all simulations, or this number if the number is larger."""

FUTURE_S: Final = 60.0
"""If an arrival time is later than the present by more than this, the clock was wrong when the event arrived [s]."""

JUMP_S: Final = 3600.0
"""Since the first sweep, the clock of the machine and the clock that is never set may differ by this time [s]. If they
differ by more, the clock of the machine has jumped."""

LONGEST_DUE_S: Final = 2 * 3600.0
"""Longest wait of a notification for its next try [s]."""

NAMED: Final = 5
"""Most deleted simulations of one sweep that the log names."""

_DAY_S: Final = 86_400.0
"""Length of a day [s]."""
_OF_SIMULATIONS: Final = (
    schema.PAIR, schema.DEFOCUS, schema.PARAMETER, schema.NOTIFICATION, schema.PREVIEW, schema.PREVIEW_SUM,
    schema.OLD,
)  # fmt: skip
"""Tables with rows of a simulation that are deleted together with it. Its events are deleted before, in portions."""


@dataclass(frozen=True)
class _Old:
    """A marked simulation that may be deleted."""

    row: int
    uid: str
    title: str
    last_received: float


class Retention:
    """Delete simulations whose last event arrived more than `keep_days` ago, and correct times from the future.

    Parameters
    ----------
    keep_days : float
        Days to keep a simulation after its last event [d]. 0: keep all.
    writer : Writer
        The writer, whose thread deletes.
    say : callable
        Takes one line for the log about marks and deletions.
    monotonic : callable
        Seconds on a clock that is never set.
    """

    def __init__(
        self,
        keep_days: float,
        writer: Writer,
        say: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep_s = keep_days * _DAY_S
        self._writer = writer
        self._say = say
        self._monotonic = monotonic
        self._counted_until = monotonic()
        self._first_sweep: tuple[float, float] | None = None
        self._said_jump = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Search now, and then once an hour, in a thread."""
        self._thread = threading.Thread(target=self._run, name="stemphony-retention", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread after the present portion."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(NotStored, DBAPIError):
                self.sweep(time.time())
            self._stop.wait(CHECK_S)

    def sweep(self, now: float) -> int:
        """Correct, mark and delete at the time `now`. Return the number of deleted simulations."""
        judged = self._without_jump(now)
        # If the clock jumps back, all arrivals seem to be in the future. They are not, so they are not corrected.
        jumped_back = now < self._own_time() - JUMP_S
        corrected = 0 if jumped_back else self._writer.run_and_forget(partial(_correct_future, now))
        if corrected:
            self._say(
                f"{number_of(corrected, 'simulation')} had arrival times in the future, because the clock was wrong."
                " These times are now set to the present"
            )
        ran_s, until = self._monotonic() - self._counted_until, self._monotonic()
        uptime = self._writer.run(partial(_count_uptime, ran_s))
        self._counted_until = until
        if self._keep_s <= 0:
            return 0
        now = judged
        before = now - self._keep_s
        self._writer.run(partial(_delete_trials, before))
        if marked := self._writer.run(partial(_mark, before, now, uptime)):
            silent = number_of(marked, "simulation is", "simulations are")
            which = "It is" if marked == 1 else "They are"
            self._say(
                f"{silent} silent for more than {_days(self._keep_s)} by the clock of this machine"
                f" ({time.strftime('%Y-%m-%d', time.gmtime(now))}). {which} deleted when the monitor has"
                f" run {_days(RIPE_S)} more, those without an end after {_days(RIPE_UNENDED_S)}"
            )
        deleted = []
        for old in self._writer.run(partial(_ripe, before, now, uptime)):
            while not self._stop.is_set() and self._writer.run(partial(delete_events, old.row, before=before)):
                continue
            if self._stop.is_set():
                break
            if self._writer.run_and_forget(partial(delete_summary, old.row, before=before)):
                deleted.append(old)
        if deleted:
            named = ", ".join(f"{old.title or old.uid} ({_day(old.last_received)})" for old in deleted[:NAMED])
            more = f" and {len(deleted) - NAMED} more" if len(deleted) > NAMED else ""
            what = number_of(len(deleted), "simulation that was", "simulations that were")
            self._say(f"deleted {what} silent for more than the days to keep: {named}{more}")
        return len(deleted)

    def _own_time(self) -> float:
        """Return the time of the first sweep plus the time since then by the monotonic clock, which cannot be set."""
        assert self._first_sweep is not None
        began, monotonic = self._first_sweep
        return began + self._monotonic() - monotonic

    def _without_jump(self, now: float) -> float:
        """Return the time that decides which simulations are old.

        If the clock jumps ahead while the monitor runs, this time does not jump. If the clock was behind at the start
        and is then corrected, this looks the same as a jump. In both cases, no simulation is deleted too early.
        """
        if self._first_sweep is None:
            self._first_sweep = now, self._monotonic()
        own = self._own_time()
        if now <= own + JUMP_S:
            return now
        if not self._said_jump:
            self._said_jump = True
            self._say(
                f"the clock jumped ahead by {(now - own) / _DAY_S:.1f} days. Until the monitor is started again, it"
                " judges ages without this jump"
            )
        return own


def _days(span_s: float) -> str:
    days = span_s / _DAY_S
    return number_of(int(days), "day") if days.is_integer() else f"{days:g} days"


def _day(seconds: float) -> str:
    return "last event " + time.strftime("%Y-%m-%d", time.gmtime(max(0.0, seconds)))


def _correct_future(now: float, connection: Connection) -> int:
    """Replace times in the future, which a wrong clock has written, by `now`. Return the number of such simulations."""
    simulation, event, note = schema.SIMULATION, schema.EVENT, schema.NOTIFICATION
    latest = now + FUTURE_S
    rows = [row for (row,) in connection.execute(select(simulation.c.row).where(simulation.c.last_received > latest))]
    for row in rows:
        own = simulation.c.row == row
        connection.execute(update(simulation).where(own).values(last_received=now))
        connection.execute(
            update(simulation).where(own, simulation.c.first_received > latest).values(first_received=now)
        )
        connection.execute(
            update(event).where(event.c.simulation == row, event.c.received > latest).values(received=now)
        )
    connection.execute(update(note).where(note.c.due > now + LONGEST_DUE_S).values(due=now))
    connection.execute(update(note).where(note.c.created > latest).values(created=now))
    return len(rows)


def _count_uptime(seconds: float, connection: Connection) -> float:
    """Add to the time that monitors of this database have run. Return the sum [s]."""
    table = schema.UPTIME
    before = connection.execute(select(table.c.seconds)).scalar()
    if before is None:
        connection.execute(insert(table), {"row": 1, "seconds": seconds})
        return seconds
    connection.execute(update(table).values(seconds=before + seconds))
    return float(before) + seconds


def _is_before(before: float) -> ColumnElement[bool]:
    """Return the condition that the last event of a simulation is older than a time.

    Both the arrival and the sender's time of the event must be older. The arrival alone is not enough: if the clock of
    the monitor was in the past for some time, it gave new events old arrival times.
    """
    own = schema.SIMULATION.c
    return and_(own.last_received < before, own.latest_time < before)


def _mark(before: float, now: float, uptime: float, connection: Connection) -> int:
    """Mark old simulations. Drop marks that a wrong clock made, and marks of simulations that had an event since.

    Return the number of new marks.
    """
    simulation, old = schema.SIMULATION.c, schema.OLD
    mine = simulation.row == old.c.simulation
    alive = select(simulation.row).where(mine, simulation.events == old.c.events, _is_before(before))
    connection.execute(delete(old).where(or_(~alive.exists(), old.c.marked > now)))
    new = select(simulation.row, simulation.events).where(
        _is_before(before), simulation.row.not_in(select(old.c.simulation))
    )
    rows = [
        {"simulation": row, "events": events, "marked": now, "uptime": uptime}
        for row, events in connection.execute(new)
    ]
    if rows:
        connection.execute(insert(old), rows)
    return len(rows)


def _ripe(before: float, now: float, uptime: float, connection: Connection) -> list[_Old]:
    """Return the marked simulations that may be deleted now, the oldest first."""
    simulation, old = schema.SIMULATION, schema.OLD.c
    total = int(connection.execute(select(func.count()).select_from(simulation)).scalar() or 0)
    ended = and_(simulation.c.ended != "", old.uptime <= uptime - RIPE_S)
    unended = old.uptime <= uptime - RIPE_UNENDED_S
    question = (
        select(simulation.c.row, simulation.c.uid, simulation.c.title, simulation.c.last_received)
        .join(schema.OLD, old.simulation == simulation.c.row)
        .where(_is_before(before), old.marked <= now, or_(ended, unended))
        .order_by(simulation.c.last_received)
        .limit(max(SHARE_AT_LEAST, int(SHARE * total)))
    )
    return [_Old(*row) for row in connection.execute(question)]


def _delete_trials(before: float, connection: Connection) -> None:
    table = schema.EVENT
    connection.execute(delete(table).where(table.c.simulation == schema.NO_SIMULATION, table.c.received < before))


def delete_events(simulation: int, connection: Connection, before: float = math.inf) -> int:
    """Delete a portion of the events of the simulation with row `simulation`. Return their number.

    Only events that arrived before `before` [s since 1970] are deleted. `connection` is an open transaction.
    """
    table = schema.EVENT
    some = select(table.c.row).where(table.c.simulation == simulation)
    if before < math.inf:
        some = some.where(table.c.received < before)
    return connection.execute(delete(table).where(table.c.row.in_(some.limit(PORTION).scalar_subquery()))).rowcount


def delete_summary(simulation: int, connection: Connection, before: float = math.inf) -> bool:
    """Delete the rest of the simulation with row `simulation`. `connection` is an open transaction.

    Return False if its latest event did not arrive before `before` [s since 1970]. Then nothing is deleted. The reason
    is a new event that has arrived between two portions.
    """
    last = select(schema.SIMULATION.c.last_received).where(schema.SIMULATION.c.row == simulation)
    if connection.execute(last).scalar_one() >= before:
        return False
    for table in _OF_SIMULATIONS:
        connection.execute(delete(table).where(table.c.simulation == simulation))
    connection.execute(delete(schema.SIMULATION).where(schema.SIMULATION.c.row == simulation))
    return True
