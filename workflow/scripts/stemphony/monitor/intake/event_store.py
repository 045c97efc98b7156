"""Insert events into the database and update the summaries of their simulations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, select

from stemphony.monitor.database import images, schema
from stemphony.monitor.intake import stored_events
from stemphony.monitor.intake.bookkeeping import Bookkeeping
from stemphony.monitor.intake.judgement import MAX_UNCLAIMED_EVENTS, Held, claims, contradicts_end, contradicts_run
from stemphony.monitor.intake.rebuild import Wrong, rebuild_at_once
from stemphony.monitor.intake.summaries import ENDS, in_its_run
from stemphony.monitor.intake.summary_cache import SummaryCache
from stemphony.monitor.records import IncomingEvent, SimulationSummary, event_key, held_key, trial_key
from stemphony.status.events import Event

MAX_REBUILT_EVENTS: Final = 20_000
"""Most events of a simulation whose summaries the monitor makes again on its own, because senders wait meanwhile. For a
larger simulation, an operator must run `stemphony monitor simulation repair`."""


class Fate(Enum):
    """The result for one event of a request."""

    COUNTED = "counted"
    HELD = "held"
    DUPLICATE = "duplicate"


class EventStore:
    """Store groups of events through a cache of summaries."""

    def __init__(self, cache: SummaryCache) -> None:
        self._cache = cache
        self._books = Bookkeeping(cache)
        self._keys_changed = False
        self._group: Sequence[IncomingEvent] = ()
        self._held_keys: set[bytes] | None = None

    def store(
        self, connection: Connection, events: Sequence[IncomingEvent]
    ) -> tuple[list[Fate], list[tuple[SimulationSummary, str]]]:
        """Insert `events` and update the summaries. `connection` is an open transaction.

        An event that the database already has is a duplicate. An event that must not change its simulation is inserted,
        but not counted.

        Returns
        -------
        list of Fate
            The result for each event.
        list of (SimulationSummary, str)
            The runs that ended: a copy of the summary at the end of the run, and the name of the event that ended it.
        """
        moved = [_on_trial(event) if event.name == Event.TEST else self._moved(event) for event in events]
        self._group, self._held_keys = moved, None
        known = stored_events.contents_of(connection, (event.key for event in moved))
        fates: list[Fate] = []
        rows: list[dict[str, Any]] = []
        ends: list[tuple[SimulationSummary, str]] = []
        for event in moved:
            if self._keys_changed:
                _insert(connection, rows)
                known = stored_events.contents_of(connection, (event.key for event in moved))
                self._keys_changed, self._held_keys = False, None
            if event.name == Event.TEST:
                fates.append(Fate.DUPLICATE if event.key in known else Fate.COUNTED)
                if event.key not in known:
                    known[event.key] = event.content
                    rows.append(_columns(event, self._cache.new_event_row(), schema.NO_SIMULATION))
                continue
            simulation = self._cache.simulation(connection, event.simulation)
            takes_ownership = claims(simulation, event)
            if takes_ownership:
                simulation.owner = event.sender
                self._cache.changed(simulation)
            if takes_ownership and simulation.events:
                _insert(connection, rows)
                simulation = self._without_others(connection, simulation)
                known = stored_events.contents_of(connection, (event.key for event in moved))
                self._held_keys = None
            counted = known.get(event.key)
            if counted == event.content:
                fates.append(Fate.DUPLICATE)
                continue
            event = in_its_run(simulation, event)
            reason = self._books.judge(connection, simulation, event)
            if counted is not None and reason != Held.SENDER:
                reason = Held.CONTENT
            if not reason and _needs_order(simulation, event):
                _insert(connection, rows)
                simulation = self._put_in_order(connection, simulation, event)
            if reason:
                fates.append(self._hold(connection, simulation, event, reason, rows))
                continue
            known[event.key] = event.content
            row = self._cache.new_event_row()
            rows.append(_columns(event, row, simulation.row))
            ends += self._count(connection, simulation, event, row)
            if takes_ownership and simulation.held:
                ends += self._release(connection, simulation, row, _unclaimed(simulation))
            fates.append(Fate.COUNTED)
        _insert(connection, rows)
        self._keys_changed = False
        self._cache.flush(connection)
        return fates, ends

    # --- events that count ----------------------------------------------------------------------------------------

    def _count(
        self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent, row: int
    ) -> list[tuple[SimulationSummary, str]]:
        """Update all summaries. Return the run that ended, in the form that `store` returns, or an empty list."""
        begins = event.run > simulation.run
        change = self._books.update(connection, simulation, event, row)
        # The summary is copied, because a later event of the group may begin the next run.
        ends = [(dataclasses.replace(simulation), change.ended)] if change.ended else []
        if begins and simulation.held:
            ends += self._release(connection, simulation, row, _early(simulation))
        return ends

    # --- events that are kept and do not count --------------------------------------------------------------------

    def _moved(self, event: IncomingEvent) -> IncomingEvent:
        target = self._cache.target(event.simulation, event.sender)
        if target == event.simulation:
            return event
        return dataclasses.replace(event, simulation=target, key=event_key(target, event.event_id))

    def _hold(
        self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent, reason: str,
        rows: list[dict[str, Any]],
    ) -> Fate:  # fmt: skip
        key = held_key(event)
        if self._held_keys is None:
            # One query serves the whole group, so that many such events do not delay other events.
            self._held_keys = set(stored_events.contents_of(connection, map(held_key, self._group)))
            self._held_keys.update(row["key"] for row in rows)
        if key in self._held_keys:
            return Fate.DUPLICATE
        self._held_keys.add(key)
        row = self._cache.new_event_row()
        rows.append({**_columns(event, row, simulation.row), "key": key, "held": reason})
        if not simulation.events:
            simulation.first_received = simulation.first_received or event.received
            simulation.last_received = max(simulation.last_received, event.received)
        simulation.held += 1
        self._cache.changed(simulation)
        return Fate.HELD

    def _release(
        self, connection: Connection, simulation: SimulationSummary, row: int, which: ColumnElement[bool]
    ) -> list[tuple[SimulationSummary, str]]:
        """Count events that arrived too early. Their number is limited, because senders wait meanwhile."""
        table = schema.EVENT
        question = select(table).where(table.c.simulation == simulation.row, which).order_by(table.c.row)
        ends: list[tuple[SimulationSummary, str]] = []
        for stored in connection.execute(question.limit(MAX_UNCLAIMED_EVENTS)).mappings().all():
            event = stored_events.event_of(stored, simulation.uid)
            reason = self._books.judge(connection, simulation, event)
            if reason or not stored_events.count(connection, stored, simulation.uid):
                continue
            simulation.held -= 1
            self._keys_changed = True
            ends += self._count(connection, simulation, event, row)
        return ends

    # --- a simulation whose events contradict each other ----------------------------------------------------------

    def _without_others(self, connection: Connection, simulation: SimulationSummary) -> SimulationSummary:
        """Stop counting events of other senders that arrived before the owner's START_SIMULATION."""
        images.forget(connection, simulation.row)
        self._cache.flush(connection)
        return rebuild_at_once(connection, self._cache, simulation, [])

    def _put_in_order(
        self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent
    ) -> SimulationSummary:
        """Stop counting the events that a start contradicts."""
        own = schema.EVENT.c
        wrong: list[Wrong] = []
        if contradicts_end(simulation, event):
            wrong.append(((own.run == event.run) & own.name.in_(ENDS), Held.CONTRADICTED))
        if contradicts_run(simulation, event):
            wrong.append((own.run > event.run, Held.CONTRADICTED))
        self._keys_changed = True
        self._cache.flush(connection)
        return rebuild_at_once(connection, self._cache, simulation, wrong)


def _early(simulation: SimulationSummary) -> ColumnElement[bool]:
    """Ends of the present run that arrived before the start of the run."""
    return (schema.EVENT.c.held == Held.EARLY) & (schema.EVENT.c.run == simulation.run)


def _unclaimed(simulation: SimulationSummary) -> ColumnElement[bool]:
    """Events of the owner that arrived before its START_SIMULATION, so that the monitor did not know the owner."""
    return (schema.EVENT.c.held == Held.UNCLAIMED) & (schema.EVENT.c.sender == simulation.owner)


def _needs_order(simulation: SimulationSummary, event: IncomingEvent) -> bool:
    """Return whether a start contradicts events that count. Then the summaries must be made again."""
    if simulation.events > MAX_REBUILT_EVENTS:
        return False
    return contradicts_end(simulation, event) or contradicts_run(simulation, event)


def _on_trial(event: IncomingEvent) -> IncomingEvent:
    return dataclasses.replace(event, key=trial_key(event))


def _insert(connection: Connection, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(schema.EVENT.insert(), rows)
        rows.clear()


_SAME_NAMES: Final = (
    "key", "event_id", "name", "time", "received", "run", "job", "attempt", "seq", "defocus_key", "configuration",
    "body", "sender", "content",
)  # fmt: skip
"""Attributes of an event that are columns of the same name."""


def _columns(event: IncomingEvent, row: int, simulation: int) -> dict[str, Any]:
    same = {name: getattr(event, name) for name in _SAME_NAMES}
    return {"row": row, "simulation": simulation, "notable": int(event.is_notable), "held": "", **same}
