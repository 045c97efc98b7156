"""Summaries in memory, between the events that change them and the tables of the database."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, func, select

from stemphony.monitor.database import schema
from stemphony.monitor.database.connection import Database
from stemphony.monitor.database.upsert import Upsert
from stemphony.monitor.records import DefocusSummary, PairSummary, SimulationSummary, columns_of

KEPT_SIMULATIONS: Final = 500
KEPT_PAIRS: Final = 50_000
"""Most summaries that stay in memory after a group of events. They take some tens of megabytes. The summaries that were
unused for the longest time are dropped first."""

_TABLES: Final = (schema.SIMULATION, schema.DEFOCUS, schema.PAIR, schema.PARAMETER)
"""Tables of the summaries, in which `flush` writes."""


class SummaryCache:
    """Read summaries when an event needs them, and write the changed ones after each group of events.

    `changed` marks a summary for the next `flush`. The caller changes summaries only inside the transaction that ends
    with `flush`. If that transaction fails, the caller calls `forget`.

    `connection` is an open transaction of the `database`, which reads the numbers of the next rows.
    """

    def __init__(self, connection: Connection, database: Database) -> None:
        self._next_event = next_row(connection, schema.EVENT)
        self._next_simulation = next_row(connection, schema.SIMULATION)
        self._moved = _moved(connection)
        self._audited = next_row(connection, schema.AUDIT)
        self._simulations: OrderedDict[str, SimulationSummary] = OrderedDict()
        self._pairs: OrderedDict[tuple[int, str, int], PairSummary] = OrderedDict()
        self._defoci: dict[int, dict[str, DefocusSummary]] = {}
        self._parameters: dict[int, dict[str, str]] = {}
        self._renewed: set[int] = set()
        self._changed: dict[str, dict[Any, Any]] = {table.name: {} for table in _TABLES}
        self._upserts = {table.name: Upsert(database, table) for table in _TABLES}

    def forget(self) -> None:
        """Drop everything in memory. After a failed transaction or a deletion, it may differ from the database."""
        everything: list[dict[Any, Any]] = [
            self._simulations, self._pairs, self._defoci, self._parameters, *self._changed.values(),
        ]  # fmt: skip
        for kept in everything:
            kept.clear()
        self._renewed.clear()

    def begin_anew(self, connection: Connection) -> None:
        """Drop everything and read the row numbers again, because another monitor may have written meanwhile.

        `connection` is an open transaction. Row numbers never become smaller, because a page asks for the events after
        the last row that it knows.
        """
        self.forget()
        self._next_event = max(self._next_event, next_row(connection, schema.EVENT))
        self._next_simulation = max(self._next_simulation, next_row(connection, schema.SIMULATION))
        self._moved = _moved(connection)

    def follow_operators(self, connection: Connection) -> None:
        """Begin anew if `stemphony monitor simulation` has changed something. Call this first in each transaction.

        `connection` is this transaction.
        """
        audited = next_row(connection, schema.AUDIT)
        if audited != self._audited:
            self.begin_anew(connection)
            self._audited = audited

    def forget_simulation(self, simulation: SimulationSummary) -> None:
        """Drop the summaries of one `simulation`, so that they are read from the database again."""
        self._simulations.pop(simulation.uid, None)
        self._defoci.pop(simulation.row, None)
        self._parameters.pop(simulation.row, None)
        for place in [place for place in self._pairs if place[0] == simulation.row]:
            del self._pairs[place]
        for name in ("defocus", "pair", "parameter"):
            changed = self._changed[name]
            for key in [key for key, value in changed.items() if _simulation_of(value) == simulation.row]:
                del changed[key]

    def renew(self, simulation: SimulationSummary) -> SimulationSummary:
        """Return an empty summary of a `simulation`. Until `replace`, its pairs and defoci count as empty too."""
        self.forget_simulation(simulation)
        fresh = SimulationSummary(
            simulation.row, simulation.uid, owner=simulation.owner, shared=simulation.shared,
            first_received=simulation.first_received, last_received=simulation.last_received,
        )  # fmt: skip
        self._simulations[fresh.uid] = fresh
        self._renewed.add(fresh.row)
        self.changed(fresh)
        return fresh

    def replace(self, connection: Connection, simulation: SimulationSummary) -> None:
        """Write a renewed `simulation` in place of its old rows in the database.

        `connection` is an open transaction.
        """
        for table in (schema.PAIR, schema.DEFOCUS, schema.PARAMETER):
            connection.execute(table.delete().where(table.c.simulation == simulation.row))
        self._renewed.discard(simulation.row)
        self.changed(simulation)
        self.flush(connection)

    def target(self, uid: str, sender: str) -> str:
        """Return the id under which events of `sender` are kept: `uid`, unless an operator has moved them."""
        return self._moved.get((uid, sender), uid)

    def new_event_row(self) -> int:
        """Return the row of the next event to be inserted."""
        self._next_event += 1
        return self._next_event - 1

    def changed(self, summary: SimulationSummary | PairSummary | DefocusSummary) -> None:
        """Mark `summary` for the next `flush`."""
        if isinstance(summary, SimulationSummary):
            self._changed["simulation"][summary.row] = summary
        elif isinstance(summary, PairSummary):
            self._changed["pair"][summary.simulation, summary.defocus_key, summary.configuration] = summary
        else:
            self._changed["defocus"][summary.simulation, summary.key] = summary

    def set_parameter(self, simulation: int, name: str, value: str) -> None:
        """Set the custom parameter `name` of the simulation with row `simulation` to `value`.

        It is marked for the next `flush`.
        """
        self._parameters[simulation][name] = value
        self._changed["parameter"][simulation, name] = {"simulation": simulation, "name": name, "value": value}

    def drop_parameter(self, connection: Connection, simulation: int, name: str) -> None:
        """Delete the custom parameter `name` of the simulation with row `simulation`.

        `connection` is an open transaction. The simulation must have this parameter.
        """
        del self._parameters[simulation][name]
        self._changed["parameter"].pop((simulation, name), None)
        if simulation in self._renewed:
            return
        own = schema.PARAMETER.c
        connection.execute(delete(schema.PARAMETER).where(own.simulation == simulation, own.name == name))

    def flush(self, connection: Connection) -> None:
        """Write the changed summaries. Drop those from memory that were unused for the longest time.

        `connection` is the transaction in which they were changed.
        """
        for name, upsert in self._upserts.items():
            if changed := self._changed[name].values():
                upsert.execute(connection, (each if isinstance(each, dict) else columns_of(each) for each in changed))
            self._changed[name].clear()
        while len(self._simulations) > KEPT_SIMULATIONS:
            _, oldest = self._simulations.popitem(last=False)
            self._defoci.pop(oldest.row, None)
            self._parameters.pop(oldest.row, None)
        while len(self._pairs) > KEPT_PAIRS:
            self._pairs.popitem(last=False)

    def simulation(self, connection: Connection, uid: str) -> SimulationSummary:
        """Return the summary of the simulation with id `uid`, or a new summary if the database has none.

        `connection` is an open transaction.
        """
        if uid in self._simulations:
            self._simulations.move_to_end(uid)
            return self._simulations[uid]
        table = schema.SIMULATION
        found = connection.execute(select(table).where(table.c.uid == uid)).mappings().first()
        if found is None:
            simulation = SimulationSummary(self._next_simulation, uid)
            self._next_simulation += 1
        else:
            simulation = SimulationSummary.from_columns(found)
        self._simulations[uid] = simulation
        return simulation

    def pair(self, connection: Connection, place: tuple[int, str, int]) -> PairSummary:
        """Return the summary of the pair at `place`, or a new summary if there is none.

        `place` is (row of the simulation, key of the defocus, configuration). `connection` is an open transaction.
        """
        if place in self._pairs:
            self._pairs.move_to_end(place)
            return self._pairs[place]
        table = schema.PAIR
        keys = zip(table.primary_key, place, strict=True)
        question = select(table).where(*(column == value for column, value in keys))
        found = None if place[0] in self._renewed else connection.execute(question).mappings().first()
        self._pairs[place] = PairSummary(*place) if found is None else PairSummary(**found)
        return self._pairs[place]

    def defoci(self, connection: Connection, simulation: int) -> dict[str, DefocusSummary]:
        """Return the defoci of the simulation with row `simulation`, by key.

        A caller that adds one also calls `changed`. `connection` is an open transaction.
        """
        if simulation not in self._defoci and simulation in self._renewed:
            self._defoci[simulation] = {}
        if simulation not in self._defoci:
            table = schema.DEFOCUS
            found = connection.execute(select(table).where(table.c.simulation == simulation)).mappings()
            self._defoci[simulation] = {row["key"]: DefocusSummary(**row) for row in found}
        return self._defoci[simulation]

    def parameters(self, connection: Connection, simulation: int) -> Mapping[str, str]:
        """Return the custom parameters of the simulation with row `simulation`. Use `set_parameter` to change them.

        `connection` is an open transaction.
        """
        if simulation not in self._parameters and simulation in self._renewed:
            self._parameters[simulation] = {}
        if simulation not in self._parameters:
            table = schema.PARAMETER
            question = select(table.c.name, table.c.value).where(table.c.simulation == simulation)
            self._parameters[simulation] = {name: value for name, value in connection.execute(question)}
        return self._parameters[simulation]


def _moved(connection: Connection) -> dict[tuple[str, str], str]:
    table = schema.MOVED.c
    found = connection.execute(select(table.uid, table.sender, table.target))
    return {(uid, sender): target for uid, sender, target in found}


def _simulation_of(changed: Any) -> int:
    return int(changed["simulation"] if isinstance(changed, dict) else changed.simulation)


def next_row(connection: Connection, table: Table) -> int:
    """Return the number after the largest row of a `table`. `connection` is an open transaction."""
    return int(connection.execute(select(func.max(table.c.row))).scalar() or 0) + 1
