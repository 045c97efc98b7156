"""Make the summaries of one simulation again from its events. Short portions keep senders from waiting long."""

from __future__ import annotations

import time
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, false, not_, select

from stemphony.monitor.database import schema
from stemphony.monitor.intake import stored_events
from stemphony.monitor.intake.bookkeeping import Bookkeeping
from stemphony.monitor.intake.incoming import Refused
from stemphony.monitor.intake.judgement import FINAL, Held
from stemphony.monitor.intake.summaries import in_its_run
from stemphony.monitor.intake.summary_cache import SummaryCache
from stemphony.monitor.records import IncomingEvent, SimulationSummary

EVENTS_AT_ONCE: Final = 200
"""Number of events between two checks of the time. They take some hundredths of a second."""

Wrong = tuple[ColumnElement[bool], Held]
"""A condition of SQL for counted events that must stop counting, and the reason."""


class Rebuild:
    """One rebuild. Call `step` until it returns True, each time in a new transaction. Call `finish` in the last one.

    Events that arrive between two portions belong to a later portion. The summaries in the database do not change
    before `finish`. Images are not made again, because the stored events do not contain them.

    Parameters
    ----------
    cache : SummaryCache
        Takes the new summaries. While several transactions are needed, nothing else may use it.
    simulation : SimulationSummary
        The present summary. Its owner decides which events may count.
    wrong : list of (condition, Held)
        Counted events that stop counting before all others are judged.
    judge_again : bool
        Whether to decide again which events count. Events that a start contradicts, or that an operator rejected, do
        not count in any case.
    """

    def __init__(
        self, cache: SummaryCache, simulation: SimulationSummary, wrong: list[Wrong], judge_again: bool = False
    ) -> None:
        self._cache, self._books = cache, Bookkeeping(cache)
        self._uid, self._judge_again = simulation.uid, judge_again
        self._wrong = [*wrong]
        own = schema.EVENT.c
        self._foreign: ColumnElement[bool] = false()
        if simulation.owner:
            self._foreign = own.sender.not_in(["", simulation.owner, *simulation.shared])
            self._wrong.append((self._foreign, Held.SENDER))
        # Other credentials may have sent any number of events, so their events are not read. They are kept with this
        # reason.
        self._to_note = judge_again and bool(simulation.owner)
        self._before = simulation
        self._fresh: SimulationSummary | None = None
        self._last = 0

    def step(self, connection: Connection, most_s: float) -> bool:
        """Continue for about `most_s` [s]. Return whether all events are read. `connection` is a new transaction."""
        until = time.monotonic() + most_s
        while True:
            if self._wrong:
                self._hold_some(connection)
            elif self._to_note:
                self._note_some(connection)
            elif not self._read_some(connection):
                return True
            if time.monotonic() >= until:
                return False

    def finish(self, connection: Connection) -> SimulationSummary | None:
        """Write the new summaries in place of the old ones. `connection` is the last transaction.

        Return the new summary, or None if the simulation was deleted meanwhile.
        """
        table = schema.SIMULATION
        found = connection.execute(select(table).where(table.c.row == self._before.row)).mappings().first()
        if found is None:
            return None
        fresh, present = self._begun(), SimulationSummary.from_columns(found)
        fresh.held = stored_events.number_held(connection, fresh.row)
        fresh.last_received = max(fresh.last_received, present.last_received)
        # The revision must not become smaller, or the page of the simulation would not notice the change.
        fresh.revision = max(fresh.revision, present.revision)
        self._cache.replace(connection, fresh)
        return fresh

    def _begun(self) -> SimulationSummary:
        if self._fresh is None:
            self._fresh = self._cache.renew(self._before)
        return self._fresh

    def _hold_some(self, connection: Connection) -> None:
        table = schema.EVENT
        condition, reason = self._wrong[0]
        question = select(table).where(table.c.simulation == self._before.row, table.c.held == "", condition)
        found = connection.execute(question.order_by(table.c.row).limit(EVENTS_AT_ONCE)).mappings().all()
        stored_events.hold_all(connection, found, self._uid, reason)
        if len(found) < EVENTS_AT_ONCE:
            del self._wrong[0]

    def _note_some(self, connection: Connection) -> None:
        """Give uncounted events of other credentials the reason SENDER if they have another reason."""
        table = schema.EVENT
        others = table.c.held.not_in(["", Held.SENDER, *FINAL]), self._foreign
        some = select(table.c.row).where(table.c.simulation == self._before.row, *others).limit(EVENTS_AT_ONCE)
        noted = connection.execute(
            table.update().where(table.c.row.in_(some.scalar_subquery())).values(held=Held.SENDER)
        )
        self._to_note = noted.rowcount == EVENTS_AT_ONCE

    def _read_some(self, connection: Connection) -> bool:
        table, fresh = schema.EVENT, self._begun()
        question = select(table).where(
            table.c.simulation == fresh.row, table.c.row > self._last, not_((table.c.held != "") & self._foreign)
        )
        found = connection.execute(question.order_by(table.c.row).limit(EVENTS_AT_ONCE)).mappings().all()
        for stored in found:
            self._last = stored["row"]
            if stored["held"] and not (self._judge_again and stored["held"] not in FINAL):
                continue
            event = self._event_again(connection, fresh, stored)
            if event is not None:
                self._books.update(connection, fresh, event, stored["row"])
        return len(found) == EVENTS_AT_ONCE

    def _event_again(self, connection: Connection, simulation: SimulationSummary, stored: Any) -> IncomingEvent | None:
        """Return a stored event if it counts now, and note that it does. Otherwise, note why it does not count."""
        try:
            event = in_its_run(simulation, stored_events.event_of(stored, self._uid))
        except Refused:
            # An earlier version accepted this event. The event keeps its key, so that it is a duplicate when it is sent
            # again.
            stored_events.note_reason(connection, stored, Held.TOTALS)
            return None
        reason = self._books.judge(connection, simulation, event) if self._judge_again else ""
        if reason and not stored["held"]:
            stored_events.hold(connection, stored, self._uid, Held(reason))
        elif reason and reason != stored["held"]:
            stored_events.note_reason(connection, stored, reason)
        elif not reason and stored["held"] and not stored_events.count(connection, stored, self._uid):
            stored_events.note_reason(connection, stored, Held.CONTENT)
            return None
        return None if reason else event


def rebuild_at_once(
    connection: Connection, cache: SummaryCache, simulation: SimulationSummary, wrong: list[Wrong]
) -> SimulationSummary:
    """Make the summaries of a small `simulation` again in the transaction of `connection`. Return the new summary.

    `cache` and `wrong` are as for `Rebuild`.
    """
    rebuild = Rebuild(cache, simulation, wrong)
    while not rebuild.step(connection, most_s=1.0):
        pass
    return rebuild.finish(connection) or simulation
