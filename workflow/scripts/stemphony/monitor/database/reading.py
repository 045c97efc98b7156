"""What pages and the API read of the database. Each function takes a connection; nothing here writes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, case, exists, func, or_, select

from stemphony.monitor.database import tables
from stemphony.monitor.intake.incoming import HIDDEN, key_of
from stemphony.monitor.state import STALE_AFTER_S, PairState, State, pair_state, state_of
from stemphony.monitor.summaries import FAILED, RUNNING, SimulationSummary
from stemphony.status.events import Event as Name
from stemphony.status.events import clean_text, event_id

PER_PAGE: Final = 200
EVENTS_PER_PAGE: Final = 100
LISTED_PAIRS: Final = 200
LISTED_RUNNING: Final = 50
LISTED_PREVIEWS: Final = 24
PARAMETER_NAMES: Final = 30
PARAMETER_VALUES: Final = 50

RESULT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
"""What `simulation.name` of a config may be. No other name becomes part of a command that somebody pastes."""

# One character for each state of a pair; `live` and the grid speak of cells in these.
LETTERS: Final = {
    PairState.PENDING: "p",
    PairState.RUNNING: "r",
    PairState.STOPPED: "s",
    PairState.FAILED: "e",
    PairState.FINISHED: "f",
}


@dataclass(frozen=True)
class Filter:
    """Which simulations are wanted.

    Attributes
    ----------
    state : str
        One of `state.State`, or empty.
    text : str
        Part of the title or of the id, whatever the case.
    parameters : tuple of (str, str)
        Custom parameters with their values.
    page : int
        From 0, of `PER_PAGE` simulations each.
    """

    state: str = ""
    text: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    page: int = 0


@dataclass(frozen=True)
class Pair:
    """One pair that has something to tell."""

    defocus_key: str
    defocus: float | None
    configuration: int
    state: PairState
    progress: float
    run: int
    attempt: int
    job: str
    message: str
    started: float
    updated: float


@dataclass(frozen=True)
class Defocus:
    """One row of the grid."""

    key: str
    defocus: float | None
    index: int | None


@dataclass(frozen=True)
class PreviewRow:
    """What is known of the averaged image of a defocus, without the image."""

    defocus_key: str
    defocus: float | None
    detector: str
    number: int
    revision: int
    width: int
    height: int


@dataclass(frozen=True)
class Event:
    """One event of the timeline."""

    row: int
    name: str
    event_id: str
    time: float
    received: float
    run: int
    attempt: int
    seq: int | None
    job: str
    defocus: float | None
    configuration: int | None
    message: str = ""
    progress: float | None = None
    body: dict[str, Any] = field(default_factory=dict)


def simulations(
    connection: Connection, wanted: Filter, now: float, stale_after_s: float = STALE_AFTER_S
) -> list[SimulationSummary]:
    """One page of simulations: those without an end first, then the latest ones."""
    table = tables.SIMULATION
    question = select(table).order_by(case((table.c.ended == "", 0), else_=1), table.c.row.desc())
    if wanted.text:
        part = "%" + wanted.text.lower().replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%"
        question = question.where(
            or_(
                func.lower(table.c.title).like(part, escape="!"), func.lower(table.c.uid).like(part, escape="!"),
            )
        )  # fmt: skip
    for name, value in wanted.parameters:
        parameter = tables.PARAMETER
        question = question.where(
            exists().where(
                and_(
                    parameter.c.simulation == table.c.row, parameter.c.name == name, parameter.c.value == value,
                )
            )
        )  # fmt: skip
    first = wanted.page * PER_PAGE
    if wanted.state not in (State.RUNNING, State.STALE):
        question = _with_end(question, wanted.state).limit(PER_PAGE).offset(first)
        return [_summary(row) for row in connection.execute(question).mappings()]
    # Whether a run is stale depends on its usual pause, which the database does not know.
    found = [_summary(row) for row in connection.execute(question.where(table.c.ended == "")).mappings()]
    fitting = [entry for entry in found if state_of(entry, now, stale_after_s) == wanted.state]
    return fitting[first : first + PER_PAGE]


def _with_end(question: Select[Any], state: str) -> Select[Any]:
    names = {State.FINISHED: "FINISH", State.FAILED: "FAILED", State.CANCELLED: "CANCELLED"}
    return question.where(tables.SIMULATION.c.ended == names[State(state)]) if state else question


def simulation(connection: Connection, row: int) -> SimulationSummary | None:
    """One simulation, or None."""
    table = tables.SIMULATION
    found = connection.execute(select(table).where(table.c.row == row)).mappings().first()
    return _summary(found) if found else None


def unended(connection: Connection) -> list[SimulationSummary]:
    """Simulations whose run has no end yet."""
    table = tables.SIMULATION
    return [_summary(row) for row in connection.execute(select(table).where(table.c.ended == "")).mappings()]


def _summary(row: Mapping[Any, Any]) -> SimulationSummary:
    return SimulationSummary(**{**row, "samples": json.loads(row["samples"])})


def counts(connection: Connection, now: float, stale_after_s: float = STALE_AFTER_S) -> dict[State, int]:
    """How many simulations are in each state."""
    table = tables.SIMULATION
    names = {"FINISH": State.FINISHED, "FAILED": State.FAILED, "CANCELLED": State.CANCELLED}
    found = dict.fromkeys(State, 0)
    for ended, number in connection.execute(select(table.c.ended, func.count()).group_by(table.c.ended)):
        if ended:
            found[names[ended]] = number
    for running in unended(connection):
        found[state_of(running, now, stale_after_s)] += 1
    return found


def parameters(connection: Connection, rows: Sequence[int]) -> dict[int, dict[str, str]]:
    """Custom parameters of simulations, by row."""
    table = tables.PARAMETER
    found: dict[int, dict[str, str]] = {row: {} for row in rows}
    question = select(table).where(table.c.simulation.in_(rows)).order_by(table.c.name)
    for row, name, value in connection.execute(question):
        found[row][name] = value
    return found


def parameter_choices(connection: Connection) -> dict[str, list[str]]:
    """Names of custom parameters with the values that there are, for the filters; the most used ones."""
    table = tables.PARAMETER
    question = (
        select(table.c.name, table.c.value, func.count().label("number"))
        .where(table.c.value != HIDDEN)
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


def defoci(connection: Connection, simulation: int) -> list[Defocus]:
    """Defoci that events have named, in the order of their values."""
    table = tables.DEFOCUS
    question = select(table.c.key, table.c.defocus, table.c.defocus_index).where(table.c.simulation == simulation)
    found = [Defocus(*row) for row in connection.execute(question)]
    return sorted(found, key=lambda entry: (entry.defocus is None, entry.defocus or 0.0, entry.index or 0, entry.key))


def previews(connection: Connection, simulation: int) -> list[PreviewRow]:
    """Averaged images that there are, in the order of their defoci, at most `LISTED_PREVIEWS`."""
    table, defocus = tables.PREVIEW_SUM, tables.DEFOCUS
    here = and_(defocus.c.simulation == table.c.simulation, defocus.c.key == table.c.defocus_key)
    question = (
        select(
            table.c.defocus_key,
            table.c.detector,
            table.c.number,
            table.c.revision,
            table.c.width,
            func.length(table.c.sums).label("bytes"),
            defocus.c.defocus,
        )
        .select_from(table.outerjoin(defocus, here))
        .where(table.c.simulation == simulation)
        .order_by(defocus.c.defocus, table.c.defocus_key)
        .limit(LISTED_PREVIEWS)
    )
    return [
        PreviewRow(
            row.defocus_key, row.defocus, row.detector, row.number, row.revision, row.width, row.bytes // 8 // row.width
        )
        for row in connection.execute(question)
    ]


def cells(
    connection: Connection, simulation: SimulationSummary, since: int = 0
) -> list[tuple[str, int, str, int, int]]:
    """Pairs that changed after a revision: defocus, configuration, letter of the state, percent, attempt."""
    table = tables.PAIR
    columns = (
        table.c.defocus_key,
        table.c.configuration,
        table.c.state,
        table.c.progress,
        table.c.attempt,
        table.c.run,
    )
    question = select(*columns).where(table.c.simulation == simulation.row)
    if since:
        question = question.where(table.c.revision > since)
    return [
        (key, configuration, LETTERS[pair_state(state, run, simulation)], int(100 * progress + 1e-9), attempt)
        for key, configuration, state, progress, attempt, run in connection.execute(question)
    ]


def pair(connection: Connection, simulation: SimulationSummary, key: str, configuration: int) -> Pair | None:
    """One pair, or None if no event has named it."""
    table = tables.PAIR
    question = _pairs(simulation).where(table.c.defocus_key == key, table.c.configuration == configuration)
    found = connection.execute(question).mappings().first()
    return _pair(simulation, found) if found else None


def result_name(connection: Connection, simulation: SimulationSummary) -> str:
    """Name of the result's folder, as the start of the latest run tells it; empty if it does not, or has not come."""
    table = tables.EVENT
    start = event_id(simulation.uid, simulation.run, Name.START_SIMULATION)
    body = connection.execute(select(table.c.body).where(table.c.key == key_of(simulation.uid, start))).scalar()
    told = json.loads(body).get("result_name") if body else None
    return told if isinstance(told, str) and RESULT_NAME.fullmatch(told) else ""


def failed_earlier(connection: Connection, simulation: SimulationSummary) -> int:
    """How many pairs failed in a run before the latest one, which has not tried them again."""
    if not simulation.failed:
        return 0
    table = tables.PAIR
    here = and_(table.c.simulation == simulation.row, table.c.state == FAILED, table.c.run < simulation.run)
    return int(connection.execute(select(func.count()).select_from(table).where(here)).scalar() or 0)


def failed_pairs(connection: Connection, simulation: SimulationSummary) -> list[Pair]:
    """Pairs whose latest attempt failed, the latest first, at most `LISTED_PAIRS`."""
    table = tables.PAIR
    question = _pairs(simulation).where(table.c.state == FAILED).order_by(table.c.updated.desc()).limit(LISTED_PAIRS)
    return [_pair(simulation, row) for row in connection.execute(question).mappings()]


def running_pairs(connection: Connection, simulation: SimulationSummary) -> list[Pair]:
    """Pairs that run now, the furthest first, at most `LISTED_RUNNING`."""
    if simulation.ended:
        return []
    table = tables.PAIR
    question = (
        _pairs(simulation)
        .where(table.c.state == RUNNING, table.c.run == simulation.run)
        .order_by(table.c.progress.desc(), table.c.started)
        .limit(LISTED_RUNNING)
    )
    return [_pair(simulation, row) for row in connection.execute(question).mappings()]


def _pairs(simulation: SimulationSummary) -> Select[Any]:
    table, defocus = tables.PAIR, tables.DEFOCUS
    here = and_(defocus.c.simulation == table.c.simulation, defocus.c.key == table.c.defocus_key)
    joined = table.outerjoin(defocus, here)
    return select(table, defocus.c.defocus).select_from(joined).where(table.c.simulation == simulation.row)


def _pair(simulation: SimulationSummary, row: Mapping[Any, Any]) -> Pair:
    return Pair(
        defocus_key=row["defocus_key"],
        defocus=row["defocus"],
        configuration=row["configuration"],
        state=pair_state(row["state"], row["run"], simulation),
        progress=row["progress"],
        run=row["run"],
        attempt=row["attempt"],
        job=row["job"],
        message=row["message"],
        started=row["started"],
        updated=row["updated"],
    )


def events(
    connection: Connection, simulation: int, before: int = 0, all_of_them: bool = False, most: int = EVENTS_PER_PAGE
) -> list[Event]:
    """Events of a simulation as they arrived, the latest first; without progress reports unless all are wanted."""
    table, defocus = tables.EVENT, tables.DEFOCUS
    here = and_(defocus.c.simulation == table.c.simulation, defocus.c.key == table.c.defocus_key)
    question = (
        select(table, defocus.c.defocus)
        .select_from(table.outerjoin(defocus, here))
        .where(table.c.simulation == simulation)
        .order_by(table.c.row.desc())
        .limit(most)
    )
    if before:
        question = question.where(table.c.row < before)
    if not all_of_them:
        question = question.where(table.c.notable == 1)
    return [_event(row, json.loads(row["body"])) for row in connection.execute(question).mappings()]


def _event(row: Mapping[Any, Any], body: dict[str, Any]) -> Event:
    progress, message = body.get("progress"), body.get("message")
    return Event(
        row=row["row"],
        name=row["name"],
        event_id=row["event_id"],
        time=row["time"],
        received=row["received"],
        run=row["run"],
        attempt=row["attempt"],
        seq=row["seq"],
        job=row["job"],
        defocus=row["defocus"],
        configuration=row["configuration"],
        # The body is as it came; a page cannot be made of half a character pair.
        message=clean_text(message) if isinstance(message, str) else "",
        progress=float(progress) if isinstance(progress, int | float) and 0 <= progress <= 1 else None,
        body=body,
    )


def revision(connection: Connection) -> int:
    """Number of the latest event of all; it grows with each."""
    return int(connection.execute(select(func.max(tables.EVENT.c.row))).scalar() or 0)
