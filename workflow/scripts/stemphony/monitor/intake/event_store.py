"""Insert events into the database and update the summaries of their simulations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

from sqlalchemy import Connection, select

from stemphony.monitor.database import images, schema
from stemphony.monitor.intake import limits, stored_events
from stemphony.monitor.intake.incoming import Refused, is_known
from stemphony.monitor.intake.judgement import (
    FINAL,
    Held,
    contradicts_end,
    contradicts_run,
    judge,
    judge_attempt,
    judge_pair,
)
from stemphony.monitor.intake.summaries import (
    ENDS,
    Change,
    fail_listed,
    in_its_run,
    note_unknown,
    update_defocus,
    update_pair,
    update_simulation,
)
from stemphony.monitor.intake.summary_cache import SummaryCache
from stemphony.monitor.records import DefocusSummary, IncomingEvent, SimulationSummary, event_key, held_key, trial_key
from stemphony.paths import defocus_id
from stemphony.status.events import Event

MAX_REBUILT_EVENTS: Final = 20_000
"""A larger simulation is put in order by `stemphony monitor simulation repair` only, because senders wait meanwhile."""


class Fate(Enum):
    """The result for one event of a request."""

    COUNTED = "counted"
    HELD = "held"
    DUPLICATE = "duplicate"


class EventStore:
    """Store groups of events through a cache of summaries."""

    def __init__(self, cache: SummaryCache) -> None:
        self._cache = cache
        self._keys_changed = False

    def store(
        self, connection: Connection, events: Sequence[IncomingEvent]
    ) -> tuple[list[Fate], list[tuple[SimulationSummary, str]]]:
        """Insert events and update the summaries.

        An event that the database has is a duplicate. An event that must not change its simulation is inserted, but
        not counted.

        Returns
        -------
        list of Fate
            What became of each event.
        list of (SimulationSummary, str)
            The runs that ended: a copy of the summary at that moment, and the name of the event.
        """
        moved = [_on_trial(event) if event.name == Event.TEST else self._moved(event) for event in events]
        known = stored_events.contents_of(connection, (event.key for event in moved))
        fates: list[Fate] = []
        rows: list[dict[str, Any]] = []
        ends: list[tuple[SimulationSummary, str]] = []
        for event in moved:
            if self._keys_changed:
                _insert(connection, rows)
                known = stored_events.contents_of(connection, (event.key for event in moved))
                self._keys_changed = False
            if event.name == Event.TEST:
                fates.append(Fate.DUPLICATE if event.key in known else Fate.COUNTED)
                if event.key not in known:
                    known[event.key] = event.content
                    rows.append(_columns(event, self._cache.new_event_row(), schema.NO_SIMULATION))
                continue
            simulation = self._cache.simulation(connection, event.simulation)
            counted = known.get(event.key)
            if counted is not None and counted in (stored_events.ANY_CONTENT, event.content):
                fates.append(Fate.DUPLICATE)
                continue
            event = in_its_run(simulation, event)
            reason = _judge(self._cache, connection, simulation, event)
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
            fates.append(Fate.COUNTED)
        _insert(connection, rows)
        self._keys_changed = False
        self._cache.flush(connection)
        return fates, ends

    # --- events that count ----------------------------------------------------------------------------------------

    def _count(
        self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent, row: int
    ) -> list[tuple[SimulationSummary, str]]:
        """Update all summaries. Return the run that ended, as `store` does, or nothing."""
        begins = event.run > simulation.run
        change = self._update(connection, simulation, event, row)
        # A copy: a later event of the group may begin the next run.
        ends = [(dataclasses.replace(simulation), change.ended)] if change.ended else []
        if begins and simulation.held:
            ends += self._release(connection, simulation, row)
        return ends

    def _update(self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent, row: int) -> Change:
        known = is_known(event.name)
        change = update_simulation(simulation, event) if known else note_unknown(simulation, event)
        if event.name == Event.START_SIMULATION and not simulation.owner:
            simulation.owner = event.sender
        simulation.revision = row
        self._cache.changed(simulation)
        if known and event.defocus_key:
            self._update_pair(connection, simulation, event, row)
        if event.planned and event.run == simulation.run:
            _plan_defoci(self._cache, connection, simulation, event)
        self._update_parameters(connection, simulation, event)
        for indices in change.listed:
            _fail_listed(self._cache, connection, simulation, indices, row)
        return change

    def _update_pair(
        self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent, row: int
    ) -> None:
        place = (event.defocus_key, event.defocus, event.defocus_index)
        if not _note_defocus(self._cache, connection, simulation, event.run, place):
            return
        if event.configuration is None or event.name == Event.START_DEFOCUS:
            return
        pair = self._cache.pair(connection, (simulation.row, event.defocus_key, event.configuration))
        if update_pair(simulation, pair, event):
            pair.revision = row
            self._cache.changed(pair)
        # An image may arrive after the end of its attempt, and then it does not change the pair.
        if event.preview is not None and pair.attempt == event.attempt:
            images.keep(connection, pair, event.preview, row)

    def _update_parameters(self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent) -> None:
        known = self._cache.parameters(connection, simulation.row)
        for name, value in event.parameters.items():
            if known.get(name) == value or event.run < simulation.run:
                continue
            if name not in known and len(known) >= limits.MAX_KEYS:
                # A program sends its parameters with each event, so one that this event lacks is no longer in use.
                unused = next((other for other in known if other not in event.parameters), None)
                if unused is None:
                    continue
                self._cache.drop_parameter(connection, simulation.row, unused)
            self._cache.set_parameter(simulation.row, name, value)

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
        if any(row["key"] == key for row in rows) or stored_events.contents_of(connection, [key]):
            return Fate.DUPLICATE
        row = self._cache.new_event_row()
        rows.append({**_columns(event, row, simulation.row), "key": key, "held": reason})
        if not simulation.events:
            simulation.first_received = simulation.first_received or event.received
            simulation.last_received = max(simulation.last_received, event.received)
        simulation.held += 1
        self._cache.changed(simulation)
        return Fate.HELD

    def _release(
        self, connection: Connection, simulation: SimulationSummary, row: int
    ) -> list[tuple[SimulationSummary, str]]:
        """Count the ends of the present run that arrived before its begin."""
        table = schema.EVENT
        question = select(table).where(
            table.c.simulation == simulation.row, table.c.held == Held.EARLY, table.c.run == simulation.run
        )
        ends: list[tuple[SimulationSummary, str]] = []
        for stored in connection.execute(question.order_by(table.c.row)).mappings().all():
            event = stored_events.event_of(stored, simulation.uid)
            if judge(simulation, event) or not stored_events.count(connection, stored, simulation.uid):
                continue
            simulation.held -= 1
            self._keys_changed = True
            ends += self._count(connection, simulation, event, row)
        return ends

    # --- a simulation whose events contradict each other ----------------------------------------------------------

    def _put_in_order(
        self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent
    ) -> SimulationSummary:
        """Stop counting the events that a start contradicts, and those of others before their simulation was known."""
        table = schema.EVENT
        counted = (table.c.simulation == simulation.row, table.c.held == "")
        if event.name == Event.START_SIMULATION and not simulation.owner:
            simulation.owner = event.sender
        wrong: list[tuple[Any, Held]] = [
            (table.c.sender.not_in(["", simulation.owner, *simulation.shared]), Held.SENDER)
        ]
        if contradicts_end(simulation, event):
            wrong.append(((table.c.run == event.run) & table.c.name.in_(ENDS), Held.CONTRADICTED))
        if contradicts_run(simulation, event):
            wrong.append((table.c.run > event.run, Held.CONTRADICTED))
        changed = 0
        for condition, reason in wrong if simulation.owner else wrong[1:]:
            question = select(table).where(*counted, condition)
            for stored in connection.execute(question).mappings().all():
                changed += stored_events.hold(connection, stored, simulation.uid, reason)
        if not changed:
            return simulation
        self._keys_changed = True
        self._cache.flush(connection)
        return self.rebuild(connection, simulation)

    def rebuild(
        self, connection: Connection, simulation: SimulationSummary, judge_again: bool = False
    ) -> SimulationSummary:
        """Make the summaries of a simulation again from its events. Return the new one.

        Images are not made again. They are not part of the stored events.

        Parameters
        ----------
        judge_again : bool
            Whether to decide anew which events count. Events that a start contradicts or an operator rejected do not.
        """
        self._cache.forget_simulation(simulation)
        for table in (schema.PAIR, schema.DEFOCUS, schema.PARAMETER):
            connection.execute(table.delete().where(table.c.simulation == simulation.row))
        fresh = SimulationSummary(
            simulation.row, simulation.uid, owner=simulation.owner, shared=simulation.shared,
            first_received=simulation.first_received, last_received=simulation.last_received,
        )  # fmt: skip
        self._cache.take(fresh)
        for stored in stored_events.events_of(connection, fresh.row):
            if stored["held"] and not (judge_again and stored["held"] not in FINAL):
                continue
            event = self._event_again(connection, fresh, stored, judge_again)
            if event is not None:
                self._update(connection, fresh, event, stored["row"])
        fresh.held = stored_events.number_held(connection, fresh.row)
        # The page of the simulation must notice.
        fresh.revision = max(fresh.revision, simulation.revision)
        self._cache.flush(connection)
        return fresh

    def _event_again(
        self, connection: Connection, simulation: SimulationSummary, stored: Any, judge_again: bool
    ) -> IncomingEvent | None:
        """Return a stored event if it counts now, and note that it does. Otherwise, note why it does not count."""
        try:
            event = in_its_run(simulation, stored_events.event_of(stored, simulation.uid))
        except Refused:
            # An earlier version accepted it. It keeps its key, so that it is a duplicate when it is sent again.
            stored_events.note_reason(connection, stored, Held.TOTALS)
            return None
        reason = _judge(self._cache, connection, simulation, event) if judge_again else ""
        if reason and not stored["held"]:
            stored_events.hold(connection, stored, simulation.uid, Held(reason))
        elif reason:
            stored_events.note_reason(connection, stored, reason)
        elif stored["held"] and not stored_events.count(connection, stored, simulation.uid):
            stored_events.note_reason(connection, stored, Held.CONTENT)
            return None
        return None if reason else event


def _judge(cache: SummaryCache, connection: Connection, simulation: SimulationSummary, event: IncomingEvent) -> str:
    """Return why an event must not change its simulation, one of `Held`, or an empty text."""
    reason = judge(simulation, event)
    if reason or not event.defocus_key:
        return reason
    if reason := judge_pair(simulation, cache.defoci(connection, simulation.row), event):
        return reason
    if event.configuration is None or not event.attempt:
        return ""
    place = (simulation.row, event.defocus_key, event.configuration)
    return judge_attempt(cache.pair(connection, place), event)


def _needs_order(simulation: SimulationSummary, event: IncomingEvent) -> bool:
    """Return whether a start contradicts events that count, so that the summaries must be made again."""
    if simulation.events > MAX_REBUILT_EVENTS:
        return False
    takes_ownership = event.name == Event.START_SIMULATION and bool(event.sender) and not simulation.owner
    return (
        contradicts_end(simulation, event)
        or contradicts_run(simulation, event)
        or (takes_ownership and simulation.events > 0)
    )


def _plan_defoci(
    cache: SummaryCache, connection: Connection, simulation: SimulationSummary, event: IncomingEvent
) -> None:
    """Make a row of the grid for each defocus of the run, before its first job begins."""
    for index, value in enumerate(event.planned[: simulation.num_defoci or None]):
        _note_defocus(cache, connection, simulation, event.run, (defocus_id(value), value, index))


def _note_defocus(
    cache: SummaryCache, connection: Connection, simulation: SimulationSummary, run: int,
    place: tuple[str, float | None, int | None],
) -> bool:  # fmt: skip
    """Update a defocus: its key, value [nm] and index. Return False if the simulation has too many to add this one."""
    key, value, index = place
    defoci = cache.defoci(connection, simulation.row)
    defocus = defoci.get(key)
    if defocus is None:
        if len(defoci) >= limits.MAX_DEFOCI:
            return False
        defocus = defoci[key] = DefocusSummary(simulation.row, key)
    if update_defocus(defocus, run, value, index):
        cache.changed(defocus)
    return True


def _fail_listed(
    cache: SummaryCache, connection: Connection, simulation: SimulationSummary, indices: tuple[int, int], row: int
) -> None:
    """Let a pair have failed that the end of a run lists: its defocus and configuration are `indices`."""
    for defocus in cache.defoci(connection, simulation.row).values():
        if defocus.defocus_index == indices[0] and defocus.run == simulation.run:
            pair = cache.pair(connection, (simulation.row, defocus.key, indices[1]))
            if pair.attempt >= 0 and fail_listed(simulation, pair):
                pair.revision = row
                cache.changed(pair)


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


def _columns(event: IncomingEvent, row: int, simulation: int) -> dict[str, Any]:
    same = {name: getattr(event, name) for name in _SAME_NAMES}
    return {"row": row, "simulation": simulation, "notable": int(event.is_notable), "held": "", **same}
