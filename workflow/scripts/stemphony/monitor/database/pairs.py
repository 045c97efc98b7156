"""Read pairs (defocus, configuration): the cells of the grid, and the lists of failed and running ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, exists, func, or_, select

from stemphony.monitor.database import schema
from stemphony.monitor.records import FAILED, RUNNING, SimulationSummary
from stemphony.monitor.state import CellState, cell_state

LISTED_FAILED: Final = 200
LISTED_RUNNING: Final = 50
"""Most pairs that a page lists. The grid beside the lists shows all pairs."""

LETTERS: Final = {
    CellState.PENDING: "p",
    CellState.RUNNING: "r",
    CellState.STOPPED: "s",
    CellState.FAILED: "e",
    CellState.FINISHED: "f",
}
"""One character for each state. The grid and its updates use these characters, because they have thousands of cells."""


@dataclass(frozen=True)
class Pair:
    """A pair of which an event has arrived.

    Attributes
    ----------
    defocus_key, defocus : str, float or None
        Key and value of the defocus [nm]; None if no event gives the value.
    configuration : int
        Index of the configuration.
    state : CellState
    progress : float
        Finished part of its latest attempt, 0 to 1.
    run, attempt : int
        Numbers of the run and of the attempt of the latest event.
    job, message : str
        Name of the job, and the error of the attempt; empty without one.
    started, updated : float
        Begin and latest event of the attempt [s since 1970].
    """

    defocus_key: str
    defocus: float | None
    configuration: int
    state: CellState
    progress: float
    run: int
    attempt: int
    job: str
    message: str
    started: float
    updated: float


@dataclass(frozen=True)
class DefocusRow:
    """One row of the grid: the `key` of a defocus, its value `defocus` [nm], and its `index` in the list of defoci."""

    key: str
    defocus: float | None
    index: int | None


def defoci(connection: Connection, simulation: int) -> list[DefocusRow]:
    """Return the defoci of the simulation with row `simulation` that events have named, ordered by value.

    A defocus is left out if only an earlier run planned it and no job of it has begun. `connection` is an open
    transaction.
    """
    table, run, pair = schema.DEFOCUS, schema.SIMULATION.c, schema.PAIR.c
    latest = select(run.run).where(run.row == simulation).scalar_subquery()
    has_begun = exists().where(pair.simulation == simulation, pair.defocus_key == table.c.key)
    question = select(table.c.key, table.c.defocus, table.c.defocus_index).where(
        table.c.simulation == simulation, or_(table.c.run >= latest, has_begun)
    )
    found = [DefocusRow(*row) for row in connection.execute(question)]
    return sorted(found, key=lambda entry: (entry.defocus is None, entry.defocus or 0.0, entry.index or 0, entry.key))


def cells(
    connection: Connection,
    simulation: SimulationSummary,
    since: int = 0,
    after: tuple[str, int] | None = None,
    most: int | None = None,
) -> list[tuple[str, int, str, int, int]]:
    """Return pairs by defocus key and configuration: defocus key, configuration, letter, percent, attempt.

    Parameters
    ----------
    connection : Connection
        An open transaction.
    simulation : SimulationSummary
        The simulation of the pairs. Its latest run decides which pairs have stopped.
    since : int
        Only pairs that changed after this revision.
    after : (str, int) or None
        Only pairs behind the pair with this defocus key and configuration.
    most : int or None
        Largest length of the list.

    Returns
    -------
    list of (str, int, str, int, int)
        In the order of defocus key and configuration. Percent is 0 to 100, rounded down.
    """
    columns = schema.PAIR.c
    question = select(
        columns.defocus_key, columns.configuration, columns.state, columns.progress, columns.attempt, columns.run
    ).where(columns.simulation == simulation.row)
    if since:
        question = question.where(columns.revision > since)
    if after is not None:
        same_defocus = and_(columns.defocus_key == after[0], columns.configuration > after[1])
        question = question.where(or_(columns.defocus_key > after[0], same_defocus))
    question = question.order_by(columns.defocus_key, columns.configuration)
    if most is not None:
        question = question.limit(most)
    return [
        (key, configuration, LETTERS[cell_state(state, run, simulation)], int(100 * progress + 1e-9), attempt)
        for key, configuration, state, progress, attempt, run in connection.execute(question)
    ]


def pair(connection: Connection, simulation: SimulationSummary, key: str, configuration: int) -> Pair | None:
    """Return one pair of a `simulation`, or None if no event has named it.

    `key` is the key of its defocus, and `configuration` the index of its configuration. `connection` is an open
    transaction.
    """
    table = schema.PAIR
    question = _question(simulation).where(table.c.defocus_key == key, table.c.configuration == configuration)
    return next(iter(_pairs(connection, simulation, question)), None)


def failed_pairs(connection: Connection, simulation: SimulationSummary) -> list[Pair]:
    """Return the pairs of a `simulation` whose latest attempt failed, the latest first, at most `LISTED_FAILED`.

    `connection` is an open transaction.
    """
    table = schema.PAIR
    question = _question(simulation).where(table.c.state == FAILED).order_by(table.c.updated.desc())
    return _pairs(connection, simulation, question.limit(LISTED_FAILED))


def failed_earlier(connection: Connection, simulation: SimulationSummary) -> int:
    """Return how many pairs of a `simulation` failed in an earlier run and were not tried again in the latest one.

    `connection` is an open transaction.
    """
    if not simulation.failed:
        return 0
    table = schema.PAIR
    here = and_(table.c.simulation == simulation.row, table.c.state == FAILED, table.c.run < simulation.run)
    return int(connection.execute(select(func.count()).select_from(table).where(here)).scalar() or 0)


def running_pairs(connection: Connection, simulation: SimulationSummary) -> list[Pair]:
    """Return the pairs of a `simulation` that run now, the most advanced first, at most `LISTED_RUNNING`.

    `connection` is an open transaction.
    """
    if simulation.ended:
        return []
    table = schema.PAIR
    question = _question(simulation).where(table.c.state == RUNNING, table.c.run == simulation.run)
    question = question.order_by(table.c.progress.desc(), table.c.started).limit(LISTED_RUNNING)
    return _pairs(connection, simulation, question)


def _question(simulation: SimulationSummary) -> Select[Any]:
    table, defocus = schema.PAIR, schema.DEFOCUS
    here = and_(defocus.c.simulation == table.c.simulation, defocus.c.key == table.c.defocus_key)
    joined = table.outerjoin(defocus, here)
    return select(table, defocus.c.defocus).select_from(joined).where(table.c.simulation == simulation.row)


def _pairs(connection: Connection, simulation: SimulationSummary, question: Select[Any]) -> list[Pair]:
    return [_pair(simulation, row) for row in connection.execute(question).mappings()]


def _pair(simulation: SimulationSummary, row: Mapping[Any, Any]) -> Pair:
    same = (
        "defocus_key",
        "defocus",
        "configuration",
        "progress",
        "run",
        "attempt",
        "job",
        "message",
        "started",
        "updated",
    )
    return Pair(state=cell_state(row["state"], row["run"], simulation), **{name: row[name] for name in same})
