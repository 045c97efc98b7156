"""The data that the rooms of the monitor pass to each other: a checked event, its image, and summaries of events."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from stemphony.status.events import Event

HIDDEN: Final = "<hidden>"
"""Text that replaces the value of a custom parameter whose name marks a secret. The value itself is not stored."""

RUNNING: Final = "running"
FINISHED: Final = "finished"
FAILED: Final = "failed"
"""States of a pair in the database."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One image of a `detector`: 8-bit pixels, row by row from the top. 0 means `low`, 255 means `high`.

    `size_nm` is the width and height [nm], or None if the event does not have them. `repeats` names the axes along
    which the image repeats: a part of `xy`.
    """

    detector: str
    width: int
    low: float
    high: float
    pixels: bytes
    size_nm: tuple[float, float] | None = None
    repeats: str = ""


@dataclass(slots=True)
class IncomingEvent:
    """One checked event.

    Attributes
    ----------
    simulation : str
        `id` of the event, any text.
    event_id : str
        The id that the sender gave. An event without id, such as an event of STEMsalabim, gets a hash of its content.
    key : bytes
        Equal for two copies of the same event; see `event_key`.
    name : str
        PROGRESS for both names of a progress report.
    time : float
        Seconds since 1970 by the sender's clock, never later than the arrival. If this time is not readable, the time
        of arrival.
    received : float
        Time of arrival, seconds since 1970 by the receiver's clock.
    run, attempt : int
        0 if the event has none.
    position : int
        Orders the events of an attempt: `seq`, or the time in milliseconds if there is no `seq`.
    defocus_key : str
        Name of the defocus. Empty if the event has none.
    defocus : float or None
        Defocus [nm].
    progress : float or None
        Finished part of the attempt, 0 to 1. Only PROGRESS has it.
    foreign : bool
        The event has no `event_id`, so another program sent it.
    body : str
        The event as JSON in ASCII, with secrets hidden and without its image.
    numbers, texts : dict
        Known keys with values of these types.
    failed : list of (int, int)
        Pairs (defocus index, configuration index) that FAILED lists.
    parameters : dict
        Custom parameters as text, with secrets hidden.
    preview : Preview or None
        An image of a finished job.
    planned : list of float
        Defoci [nm] that START_SIMULATION lists, in the order of their indices.
    content : bytes
        Hash of the event as the sender's program wrote it. Custom parameters are not part of it, because the sender
        reads them again from the config each time that it sends an event.
    sender : str
        Name of the credential that sent the event. Empty on a monitor without credentials.
    """

    simulation: str
    event_id: str
    key: bytes
    name: str
    time: float
    received: float
    run: int
    attempt: int
    position: int
    seq: int | None
    job: str
    defocus_key: str
    defocus: float | None
    defocus_index: int | None
    configuration: int | None
    progress: float | None
    message: str
    foreign: bool
    body: str
    numbers: dict[str, int]
    texts: dict[str, str]
    failed: list[tuple[int, int]]
    parameters: dict[str, str] = field(default_factory=dict)
    preview: Preview | None = None
    planned: list[float] = field(default_factory=list)
    content: bytes = b""
    sender: str = ""

    @property
    def is_notable(self) -> bool:
        """Whether short lists of events show the event. They leave out progress reports and images."""
        return self.name not in (Event.PROGRESS, Event.PREVIEW)


@dataclass(slots=True)
class SimulationSummary:
    """One simulation. The attributes are the columns of the table; `database/schema.py` explains them."""

    row: int
    uid: str
    title: str = ""
    version: str = ""
    git_commit: str = ""
    num_threads: int = 0
    num_processors: int = 0
    num_defoci: int = 0
    num_configurations: int = 0
    run: int = -1
    run_started: float = 0.0
    start_told: int = 0
    num_jobs: int = 0
    latest_time: float = 0.0
    ended: str = ""
    ended_at: float | None = None
    end_message: str = ""
    num_failed: int = 0
    num_never_ran: int = 0
    first_received: float = 0.0
    last_received: float = 0.0
    pauses_s: float = 0.0
    pauses: int = 0
    finished: int = 0
    failed: int = 0
    running: int = 0
    work: float = 0.0
    run_work: float = 0.0
    run_resumed: float = 0.0
    run_finished: int = 0
    samples: list[list[float]] = field(default_factory=list)
    events: int = 0
    revision: int = 0
    owner: str = ""
    shared: list[str] = field(default_factory=list)
    held: int = 0

    @classmethod
    def from_columns(cls, columns: Mapping[Any, Any]) -> Self:
        """Make a summary from `columns`, a row of the table with its values by column name."""
        lists = {name: json.loads(columns[name]) for name in _LISTS}
        return cls(**{**columns, **lists})

    def takes_from(self, sender: str) -> bool:
        """Return whether the credential `sender` may change this simulation.

        A simulation belongs to the credential that sent its START_SIMULATION. A monitor without credentials has no
        names of senders, and so no owners.
        """
        return not self.owner or not sender or sender == self.owner or sender in self.shared


@dataclass(slots=True)
class PairSummary:
    """The latest attempt of one pair (defocus, configuration). The attributes are the columns of the table.

    `simulation` is the row of the simulation. `progress` and `resumed` are parts of the work, 0 to 1: finished, and
    taken from a checkpoint. `position` gives the place of the latest event in the order of its sender. `started` and
    `updated` are the begin and the latest event of the attempt [s since 1970]. `revision` is the row of the event that
    changed the pair last. All others are as in events.
    """

    simulation: int
    defocus_key: str
    configuration: int
    state: str = RUNNING
    progress: float = 0.0
    resumed: float = 0.0
    run: int = 0
    attempt: int = -1
    position: int = -1
    job: str = ""
    message: str = ""
    started: float = 0.0
    updated: float = 0.0
    revision: int = 0


@dataclass(slots=True)
class DefocusSummary:
    """One defocus of the simulation with row `simulation`. The attributes are the columns of the table.

    `defocus` is in nm, `defocus_index` is its position in the list of defoci, and `run` the latest run with it.
    """

    simulation: int
    key: str
    defocus: float | None = None
    defocus_index: int | None = None
    run: int = -1


_LISTS: Final = ("samples", "shared")
"""Attributes of a simulation that are stored as JSON."""

_COLUMNS: Final = {
    kind: tuple(attribute.name for attribute in dataclasses.fields(kind))
    for kind in (SimulationSummary, PairSummary, DefocusSummary)
}
"""Columns of each table of summaries. Each attribute of the class is one column."""


def columns_of(summary: SimulationSummary | PairSummary | DefocusSummary) -> dict[str, Any]:
    """Return the row of the table for a `summary`, by column name."""
    columns = {name: getattr(summary, name) for name in _COLUMNS[type(summary)]}
    if isinstance(summary, SimulationSummary):
        columns |= {name: json.dumps(columns[name]) for name in _LISTS}
    return columns


def event_key(simulation: str, event_id: str) -> bytes:
    """Return 16 bytes that are equal for two copies of the same event. The database uses them to find duplicates.

    `simulation` is the id of the simulation, and `event_id` that of the event.
    """
    return hashlib.sha256(f"{simulation}\n{event_id}".encode()).digest()[:16]


def trial_key(event: IncomingEvent) -> bytes:
    """Return 16 bytes for a TEST `event`. They are never equal to those of an event that belongs to a simulation."""
    parts = ("test", event.simulation, event.event_id, event.sender)
    return hashlib.sha256("\n".join(parts).encode()).digest()[:16]


def held_key(event: IncomingEvent) -> bytes:
    """Return 16 bytes for an `event` that is kept but not counted. They differ from those of every counted event."""
    return held_key_of(event.simulation, event.event_id, event.sender, event.content)


def held_key_of(simulation: str, event_id: str, sender: str, content: bytes) -> bytes:
    """Return the key of `held_key` from the parts of an event.

    `simulation` is the id of the simulation, `event_id` that of the event, `sender` the credential, and `content` the
    16 bytes that distinguish what a program wrote.
    """
    parts = (simulation, event_id, sender, content.hex())
    return hashlib.sha256("\n".join(("held", *parts)).encode()).digest()[:16]
