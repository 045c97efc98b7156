"""Read simulations, their custom parameters, and how many are in each state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, func, not_, or_, select

from stemphony.monitor.database import schema
from stemphony.monitor.records import HIDDEN, SimulationSummary
from stemphony.monitor.state import END_STATES, MAX_STALE_AFTER_S, STALE_AFTER_S, STALE_PAUSES, State

PER_PAGE: Final = 200
"""Number of simulations on one page of the list."""

PARAMETER_NAMES: Final = 30
PARAMETER_VALUES: Final = 50
CHOICE_CHARACTERS: Final = 60
CHOICE_SIMULATIONS: Final = 1000
"""Limits of the filters: most names, most values of each name, longest name or value [characters], and the number of
latest simulations from which they are taken."""


@dataclass(frozen=True)
class Filter:
    """Which simulations to list.

    Attributes
    ----------
    state : str
        A value of `State`. Empty: any state.
    text : str
        Part of the title or of the id. Upper and lower case count as equal.
    parameters : tuple of (str, str)
        Names of custom parameters with their values.
    page : int
        Page of the list, from 0. A page has `PER_PAGE` simulations.
    """

    state: str = ""
    text: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    page: int = 0


def listed(
    connection: Connection, wanted: Filter, now: float, stale_after_s: float = STALE_AFTER_S
) -> list[SimulationSummary]:
    """Return one page of the simulations that the filter `wanted` selects.

    Simulations without an end come first, then the latest. `now` [s since 1970] and `stale_after_s` [s] decide which
    simulations are silent. `connection` is an open transaction.
    """
    table = schema.SIMULATION
    question = select(table).order_by(case((table.c.ended == "", 0), else_=1), table.c.row.desc())
    if wanted.text:
        part = "%" + wanted.text.lower().replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%"
        columns = (func.lower(table.c.title), func.lower(table.c.uid))
        question = question.where(or_(*(column.like(part, escape="!") for column in columns)))
    for name, value in wanted.parameters:
        own = schema.PARAMETER.c
        question = question.where(
            exists().where(and_(own.simulation == table.c.row, own.name == name, own.value == value))
        )
    first = wanted.page * PER_PAGE
    if wanted.state not in (State.RUNNING, State.STALE):
        if wanted.state:
            ends = [name for name, state in END_STATES.items() if state == wanted.state]
            question = question.where(table.c.ended.in_(ends))
        return _summaries(connection, question.limit(PER_PAGE).offset(first))
    silent = _is_silent(now, stale_after_s)
    question = question.where(table.c.ended == "", silent if wanted.state == State.STALE else not_(silent))
    return _summaries(connection, question.limit(PER_PAGE).offset(first))


def _is_silent(now: float, stale_after_s: float) -> ColumnElement[bool]:
    """Return the condition that a run without an end is stale, as `state.state_of` decides it."""
    own = schema.SIMULATION.c
    usual = case((own.pauses > 0, STALE_PAUSES * own.pauses_s / own.pauses), else_=0.0)
    capped = case((usual > MAX_STALE_AFTER_S, MAX_STALE_AFTER_S), else_=usual)
    allowed = case((capped > stale_after_s, capped), else_=stale_after_s)
    return now - own.last_received > allowed


def simulation(connection: Connection, row: int) -> SimulationSummary | None:
    """Return the simulation with this `row`, or None if there is none. `connection` is an open transaction."""
    table = schema.SIMULATION
    return next(iter(_summaries(connection, select(table).where(table.c.row == row))), None)


def newly_silent(
    connection: Connection, now: float, stale_after_s: float, silent_at_most_s: float, again_s: float
) -> list[SimulationSummary]:
    """Return the simulations without an end that are silent for too long and have no notification about the silence.

    Parameters
    ----------
    connection : Connection
        An open transaction.
    now : float
        Seconds since 1970.
    stale_after_s : float
        Silence after which a run counts as silent [s].
    silent_at_most_s : float
        Simulations that are silent for longer are left out [s].
    again_s : float
        After a notification, a run that falls silent once more is left out for this time [s].

    Returns
    -------
    list of SimulationSummary
        Empty if none is newly silent.

    Notes
    -----
    The database itself compares, because thousands of silences may be known already. Their rows are not read.
    """
    table, told = schema.SIMULATION, schema.NOTIFICATION.c
    known = exists().where(
        told.simulation == table.c.row,
        told.kind == State.STALE.value,
        or_(told.created >= table.c.last_received, and_(told.run == table.c.run, told.created >= now - again_s)),
    )
    question = select(table).where(
        table.c.ended == "", table.c.last_received > now - silent_at_most_s, _is_silent(now, stale_after_s), ~known
    )
    return _summaries(connection, question)


def _summaries(connection: Connection, question: Select[Any]) -> list[SimulationSummary]:
    return [SimulationSummary.from_columns(row) for row in connection.execute(question).mappings()]


def counts(connection: Connection, now: float, stale_after_s: float = STALE_AFTER_S) -> dict[State, int]:
    """Return how many simulations are in each state at `now` [s since 1970].

    `stale_after_s` [s] decides which simulations are silent. `connection` is an open transaction.
    """
    table = schema.SIMULATION
    found = dict.fromkeys(State, 0)
    for ended, number in connection.execute(select(table.c.ended, func.count()).group_by(table.c.ended)):
        if ended:
            found[END_STATES[ended]] = number
    own = table.c
    silent = case((_is_silent(now, stale_after_s), 1), else_=0)
    question = select(func.count(), func.sum(silent)).where(own.ended == "")
    unended, number = connection.execute(question).one()
    found[State.STALE] = int(number or 0)
    found[State.RUNNING] = int(unended) - found[State.STALE]
    return found


def parameters(connection: Connection, rows: Sequence[int]) -> dict[int, dict[str, str]]:
    """Return the custom parameters of the simulations with these `rows`, by row.

    `connection` is an open transaction.
    """
    table = schema.PARAMETER
    found: dict[int, dict[str, str]] = {row: {} for row in rows}
    question = select(table).where(table.c.simulation.in_(rows)).order_by(table.c.name)
    for row, name, value in connection.execute(question):
        found[row][name] = value
    return found


def parameter_choices(connection: Connection) -> dict[str, list[str]]:
    """Return names of custom parameters with their values, for the filters. The most frequent ones are chosen.

    `connection` is an open transaction.
    """
    table, newest = schema.PARAMETER, schema.SIMULATION.c.row
    question = (
        select(table.c.name, table.c.value, func.count().label("number"))
        .where(
            table.c.simulation > select(func.coalesce(func.max(newest), 0) - CHOICE_SIMULATIONS).scalar_subquery(),
            table.c.value != HIDDEN,
            func.length(table.c.value) <= CHOICE_CHARACTERS,
            func.length(table.c.name) <= CHOICE_CHARACTERS,
        )
        .group_by(table.c.name, table.c.value)
        .order_by(func.count().desc())
        .limit(PARAMETER_NAMES * PARAMETER_VALUES)
    )
    found: dict[str, list[str]] = {}
    for name, value, _ in connection.execute(question):
        if name in found or len(found) < PARAMETER_NAMES:
            values = found.setdefault(name, [])
            if len(values) < PARAMETER_VALUES:
                values.append(value)
    return {name: sorted(found[name]) for name in sorted(found)}
