"""Read the stored events of a simulation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, and_, func, select

from stemphony.monitor.database import schema
from stemphony.monitor.records import SimulationSummary, event_key
from stemphony.paths import is_label
from stemphony.status.events import Event, clean_text, event_id

EVENTS_PER_PAGE: Final = 100
"""Most events in one list. A link leads to the events before them."""

RESULT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
"""Allowed values of `simulation.name` in a config. Users paste commands from the pages, so the pages show no command
with another name."""
LABEL: Final = re.compile(r"[A-Za-z0-9_.+-]{1,200}")
"""Allowed characters of the label of a member of a sweep."""


@dataclass(frozen=True)
class TimelineEvent:
    """One stored event.

    Attributes
    ----------
    row : int
        Its number in the order of arrival.
    name, event_id, seq, job, run, attempt, configuration, message, progress
        As in the event.
    time, received : float
        When it happened by the clock of the sender, and when it arrived [s since 1970].
    defocus : float or None
        Defocus [nm].
    sender, held : str
        Name of the credential that sent it, and why it does not count. Empty: it counts.
    body : dict
        The whole event.
    """

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
    sender: str = ""
    held: str = ""
    message: str = ""
    progress: float | None = None
    body: dict[str, Any] = field(default_factory=dict)
    size: int = 0
    """Length of the stored event [bytes]."""


def events(
    connection: Connection,
    simulation: int,
    before: int = 0,
    all_of_them: bool = False,
    most: int = EVENTS_PER_PAGE,
    held: bool = False,
) -> list[TimelineEvent]:
    """Return events of a simulation in reverse order of arrival.

    Parameters
    ----------
    connection : Connection
        An open transaction.
    simulation : int
        Row of the simulation.
    before : int
        Only events with a smaller row. 0: all rows.
    all_of_them : bool
        False leaves out progress reports.
    most : int
        Largest length of the list.
    held : bool
        Only events that are kept but not counted.

    Returns
    -------
    list of TimelineEvent
        The latest event first.
    """
    table, defocus = schema.EVENT, schema.DEFOCUS
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
    if held:
        question = question.where(table.c.held != "")
    if not all_of_them:
        question = question.where(table.c.notable == 1)
    return [_event(row, json.loads(row["body"])) for row in connection.execute(question).mappings()]


def _event(row: Mapping[Any, Any], body: dict[str, Any]) -> TimelineEvent:
    progress, message = body.get("progress"), body.get("message")
    same = (
        "row", "name", "event_id", "time", "received", "run", "attempt", "seq", "job", "defocus", "configuration",
        "sender", "held",
    )  # fmt: skip
    return TimelineEvent(
        **{name: row[name] for name in same},
        # The body is stored as it arrived. If it has half of a character pair, the text must be cleaned for the page.
        message=clean_text(message) if isinstance(message, str) else "",
        progress=float(progress) if isinstance(progress, int | float) and 0 <= progress <= 1 else None,
        body=body,
        size=len(row["body"]),
    )


@dataclass(frozen=True)
class HeldEvents:
    """The `number` of events of one sender that are kept but not counted for one reason.

    `reason` is a value of `Held`.
    """

    sender: str
    reason: str
    number: int


def held_events(connection: Connection, simulation: SimulationSummary) -> list[HeldEvents]:
    """Return how many events of a `simulation` are kept but not counted, by sender and reason.

    `connection` is an open transaction.
    """
    if not simulation.held:
        return []
    table = schema.EVENT.c
    question = select(table.sender, table.held, func.count()).where(
        table.simulation == simulation.row, table.held != ""
    )
    found = connection.execute(question.group_by(table.sender, table.held).order_by(table.sender, table.held))
    return [HeldEvents(*row) for row in found]


def result_name(connection: Connection, simulation: SimulationSummary) -> str:
    """Return the name of the result folder of a `simulation`, from START_SIMULATION of its latest run.

    The name is empty if it is not known. `connection` is an open transaction.
    """
    table = schema.EVENT
    start = event_id(simulation.uid, simulation.run, Event.START_SIMULATION)
    body = connection.execute(select(table.c.body).where(table.c.key == event_key(simulation.uid, start))).scalar()
    name = json.loads(body).get("result_name") if body else None
    return name if isinstance(name, str) and is_result_name(name) else ""


def is_result_name(name: str) -> bool:
    """Whether a text may stand in a command: the name of a simulation, or of a member of a sweep, `name/label`."""
    first, slash, label = name.partition("/")
    is_member = is_label(label) and LABEL.fullmatch(label) is not None
    return RESULT_NAME.fullmatch(first) is not None and (not slash or is_member)
