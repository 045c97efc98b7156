"""Delete old simulations in small portions, between two groups of events."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from sqlalchemy import Connection, delete, select
from sqlalchemy.exc import DBAPIError

from stemphony.monitor.database import schema
from stemphony.monitor.intake.writer import NotStored, Writer

PORTION: Final = 2000
"""Events deleted in one transaction. Senders wait that long for theirs, some milliseconds."""

CHECK_S: Final = 3600.0
"""Time between two searches for old simulations [s]."""

_DAY_S: Final = 86_400.0
_OF_SIMULATIONS: Final = (
    schema.PAIR, schema.DEFOCUS, schema.PARAMETER, schema.NOTIFICATION, schema.PREVIEW, schema.PREVIEW_SUM,
)  # fmt: skip


class Retention:
    """Delete simulations whose last event arrived more than `keep_days` ago.

    Parameters
    ----------
    keep_days : float
        Days [d]. 0: keep all.
    writer : Writer
        Deletes in its own thread.
    say : callable
        Takes one line for the log after a deletion.
    """

    def __init__(self, keep_days: float, writer: Writer, say: Callable[[str], None]) -> None:
        self._keep_s = keep_days * _DAY_S
        self._writer = writer
        self._say = say
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Search now, and then once an hour, in a thread."""
        if self._keep_s > 0:
            self._thread = threading.Thread(target=self._run, name="stemphony-retention", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread after the present portion."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(NotStored, DBAPIError):
                self.sweep(time.time())
            self._stop.wait(CHECK_S)

    def sweep(self, now: float) -> int:
        """Delete what is too old at the time `now`. Return the number of simulations."""
        number = 0
        before = now - self._keep_s
        self._writer.run(partial(_delete_trials, before))
        while not self._stop.is_set():
            row = self._writer.run(partial(_oldest, before))
            if row is None:
                break
            while not self._stop.is_set() and self._writer.run(partial(delete_events, row, before=before)):
                continue
            if not self._stop.is_set():
                self._writer.run_and_forget(partial(delete_summary, row, before=before))
                number += 1
        if number:
            self._say(f"deleted {number} simulations that were silent for more than {self._keep_s / _DAY_S:g} days")
        return number


def _oldest(before: float, connection: Connection) -> int | None:
    table = schema.SIMULATION
    question = select(table.c.row).where(table.c.last_received < before).order_by(table.c.row).limit(1)
    return connection.execute(question).scalar()


def _delete_trials(before: float, connection: Connection) -> None:
    table = schema.EVENT
    connection.execute(delete(table).where(table.c.simulation == schema.NO_SIMULATION, table.c.received < before))


def delete_events(simulation: int, connection: Connection, before: float = math.inf) -> int:
    """Delete a portion of a simulation's events that arrived before a time. Return their number."""
    table = schema.EVENT
    some = select(table.c.row).where(table.c.simulation == simulation)
    if before < math.inf:
        some = some.where(table.c.received < before)
    return connection.execute(delete(table).where(table.c.row.in_(some.limit(PORTION).scalar_subquery()))).rowcount


def delete_summary(simulation: int, connection: Connection, before: float = math.inf) -> None:
    """Delete the rest of a simulation, unless new events have arrived between two portions."""
    last = select(schema.SIMULATION.c.last_received).where(schema.SIMULATION.c.row == simulation)
    if connection.execute(last).scalar_one() >= before:
        return
    for table in _OF_SIMULATIONS:
        connection.execute(delete(table).where(table.c.simulation == simulation))
    connection.execute(delete(schema.SIMULATION).where(schema.SIMULATION.c.row == simulation))
