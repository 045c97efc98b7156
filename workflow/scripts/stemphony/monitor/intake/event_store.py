"""Insert events into the database and update the summaries of their simulations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, select

from stemphony.monitor.database import images, schema
from stemphony.monitor.intake import limits
from stemphony.monitor.intake.incoming import is_known
from stemphony.monitor.intake.summaries import (
    Change,
    fail_listed,
    in_its_run,
    note_unknown,
    update_defocus,
    update_pair,
    update_simulation,
)
from stemphony.monitor.intake.summary_cache import SummaryCache
from stemphony.monitor.records import DefocusSummary, IncomingEvent, SimulationSummary
from stemphony.status.events import Event

_KEYS_PER_QUESTION: Final = 500
"""Keys in one query for duplicates. SQLite limits the number of bound values."""


class EventStore:
    """Store groups of events through a cache of summaries."""

    def __init__(self, cache: SummaryCache) -> None:
        self._cache = cache

    def new_events(self, connection: Connection, events: Iterable[IncomingEvent]) -> dict[bytes, IncomingEvent]:
        """Return the events that the database does not have yet, by key. A duplicate appears once."""
        wanted: dict[bytes, IncomingEvent] = {}
        for event in events:
            wanted.setdefault(event.key, event)
        keys = list(wanted)
        for start in range(0, len(keys), _KEYS_PER_QUESTION):
            column = schema.EVENT.c.key
            question = select(column).where(column.in_(keys[start : start + _KEYS_PER_QUESTION]))
            for (key,) in connection.execute(question):
                del wanted[bytes(key)]
        return wanted

    def store(self, connection: Connection, events: Iterable[IncomingEvent]) -> list[tuple[SimulationSummary, str]]:
        """Insert new events and update the summaries.

        Returns
        -------
        list of (SimulationSummary, str)
            The runs that ended: a copy of the summary at that moment, and the name of the event.
        """
        ends: list[tuple[SimulationSummary, str]] = []
        rows: list[dict[str, Any]] = []
        for event in events:
            row = self._cache.new_event_row()
            if event.name == Event.TEST:
                rows.append(_columns(event, row, schema.NO_SIMULATION))
                continue
            simulation = self._cache.simulation(connection, event.simulation)
            event = in_its_run(simulation, event)
            change = self._update(connection, simulation, event, row)
            if change.ended:
                # A copy: a later event of the group may begin the next run.
                ends.append((dataclasses.replace(simulation), change.ended))
            rows.append(_columns(event, row, simulation.row))
        if rows:
            connection.execute(schema.EVENT.insert(), rows)
        self._cache.flush(connection)
        return ends

    def _update(self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent, row: int) -> Change:
        known = is_known(event.name)
        change = update_simulation(simulation, event) if known else note_unknown(simulation, event)
        simulation.revision = row
        self._cache.changed(simulation)
        if known and event.defocus_key:
            self._update_pair(connection, simulation, event, row)
        self._update_parameters(connection, simulation, event)
        for indices in change.listed:
            self._fail_listed(connection, simulation, indices, row)
        return change

    def _update_pair(
        self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent, row: int
    ) -> None:
        defoci = self._cache.defoci(connection, simulation.row)
        defocus = defoci.get(event.defocus_key)
        if defocus is None:
            if len(defoci) >= limits.MAX_DEFOCI:
                return
            defocus = defoci[event.defocus_key] = DefocusSummary(simulation.row, event.defocus_key)
        if update_defocus(defocus, event):
            self._cache.changed(defocus)
        if event.configuration is None or event.name == Event.START_DEFOCUS:
            return
        pair = self._cache.pair(connection, (simulation.row, event.defocus_key, event.configuration))
        if update_pair(simulation, pair, event):
            pair.revision = row
            self._cache.changed(pair)
            if event.preview is not None and pair.attempt == event.attempt:
                images.keep(connection, pair, event.preview)

    def _fail_listed(
        self, connection: Connection, simulation: SimulationSummary, indices: tuple[int, int], row: int
    ) -> None:
        for defocus in self._cache.defoci(connection, simulation.row).values():
            if defocus.defocus_index == indices[0] and defocus.run == simulation.run:
                pair = self._cache.pair(connection, (simulation.row, defocus.key, indices[1]))
                if pair.attempt >= 0 and fail_listed(simulation, pair):
                    pair.revision = row
                    self._cache.changed(pair)

    def _update_parameters(self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent) -> None:
        known = self._cache.parameters(connection, simulation.row)
        for name, value in event.parameters.items():
            has_room = name in known or len(known) < limits.MAX_KEYS
            if known.get(name) != value and event.run >= simulation.run and has_room:
                self._cache.set_parameter(simulation.row, name, value)


_SAME_NAMES: Final = (
    "key", "event_id", "name", "time", "received", "run", "job", "attempt", "seq", "defocus_key", "configuration",
    "body",
)  # fmt: skip


def _columns(event: IncomingEvent, row: int, simulation: int) -> dict[str, Any]:
    same = {name: getattr(event, name) for name in _SAME_NAMES}
    return {"row": row, "simulation": simulation, "notable": int(not event.is_progress), **same}
