"""Update the summaries of a simulation by its events, through a cache."""

from __future__ import annotations

from sqlalchemy import Connection

from stemphony.monitor.database import images
from stemphony.monitor.intake import limits
from stemphony.monitor.intake.incoming import is_known
from stemphony.monitor.intake.judgement import judge, judge_attempt, judge_pair
from stemphony.monitor.intake.summaries import (
    Change,
    fail_listed,
    note_unknown,
    update_defocus,
    update_pair,
    update_simulation,
)
from stemphony.monitor.intake.summary_cache import SummaryCache
from stemphony.monitor.records import DefocusSummary, IncomingEvent, SimulationSummary
from stemphony.paths import defocus_id
from stemphony.status.events import Event


class Bookkeeping:
    """Judge events, and let the events that count change the summaries of a cache."""

    def __init__(self, cache: SummaryCache) -> None:
        self._cache = cache

    def judge(self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent) -> str:
        """Return why `event` must not change its `simulation`, one of `Held`, or an empty text.

        `connection` is an open transaction, in which missing summaries are read.
        """
        reason = judge(simulation, event)
        if reason or not event.defocus_key:
            return reason
        if reason := judge_pair(simulation, self._cache.defoci(connection, simulation.row), event):
            return reason
        if event.configuration is None or not event.attempt:
            return ""
        place = (simulation.row, event.defocus_key, event.configuration)
        return judge_attempt(self._cache.pair(connection, place), event)

    def update(self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent, row: int) -> Change:
        """Update all summaries by an `event` that counts. Return what else the event changed.

        `simulation` is the summary of its simulation, and `row` the row of the event. `connection` is an open
        transaction.
        """
        known = is_known(event.name)
        change = update_simulation(simulation, event) if known else note_unknown(simulation, event)
        if event.name == Event.START_SIMULATION and not simulation.owner:
            simulation.owner = event.sender
        simulation.revision = row
        self._cache.changed(simulation)
        if known and event.defocus_key:
            self._update_pair(connection, simulation, event, row)
        if event.planned and event.run == simulation.run:
            self._plan_defoci(connection, simulation, event)
        self._update_parameters(connection, simulation, event)
        for indices in change.listed:
            self._fail_listed(connection, simulation, indices, row)
        return change

    def _update_pair(
        self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent, row: int
    ) -> None:
        place = (event.defocus_key, event.defocus, event.defocus_index)
        if not self._note_defocus(connection, simulation, event.run, place):
            return
        if event.configuration is None or event.name == Event.START_DEFOCUS:
            return
        pair = self._cache.pair(connection, (simulation.row, event.defocus_key, event.configuration))
        if update_pair(simulation, pair, event):
            pair.revision = row
            self._cache.changed(pair)
        # An image may arrive after the end of its attempt. The image then does not change the pair.
        if event.preview is not None and pair.attempt == event.attempt:
            images.keep(connection, pair, event.preview, row)

    def _plan_defoci(self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent) -> None:
        """Make a row of the grid for each defocus of the run, before its first job begins."""
        for index, value in enumerate(event.planned[: simulation.num_defoci or None]):
            self._note_defocus(connection, simulation, event.run, (defocus_id(value), value, index))

    def _note_defocus(
        self, connection: Connection, simulation: SimulationSummary, run: int,
        place: tuple[str, float | None, int | None],
    ) -> bool:  # fmt: skip
        """Update a defocus: its key, value [nm] and index. Return False if there are too many to add this one."""
        key, value, index = place
        defoci = self._cache.defoci(connection, simulation.row)
        defocus = defoci.get(key)
        if defocus is None:
            if len(defoci) >= limits.MAX_DEFOCI:
                return False
            defocus = defoci[key] = DefocusSummary(simulation.row, key)
        if update_defocus(defocus, run, value, index):
            self._cache.changed(defocus)
        return True

    def _update_parameters(self, connection: Connection, simulation: SimulationSummary, event: IncomingEvent) -> None:
        known = self._cache.parameters(connection, simulation.row)
        for name, value in event.parameters.items():
            if known.get(name) == value or event.run < simulation.run:
                continue
            if name not in known and len(known) >= limits.MAX_KEYS:
                # A program sends all its parameters with each event. So a parameter that this event lacks is not in use
                # any more.
                unused = next((other for other in known if other not in event.parameters), None)
                if unused is None:
                    continue
                self._cache.drop_parameter(connection, simulation.row, unused)
            self._cache.set_parameter(simulation.row, name, value)

    def _fail_listed(
        self, connection: Connection, simulation: SimulationSummary, indices: tuple[int, int], row: int
    ) -> None:
        """Mark a pair as failed that the end of a run lists. `indices` are its defocus and configuration."""
        for defocus in self._cache.defoci(connection, simulation.row).values():
            if defocus.defocus_index == indices[0] and defocus.run == simulation.run:
                pair = self._cache.pair(connection, (simulation.row, defocus.key, indices[1]))
                if pair.attempt >= 0 and fail_listed(simulation, pair):
                    pair.revision = row
                    self._cache.changed(pair)
