"""Old simulations go, whole: their events, pairs and parameters, in small portions between two groups of events."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from sqlalchemy import Connection, delete, select
from sqlalchemy.exc import DBAPIError

from stemphony.monitor.database import tables
from stemphony.monitor.intake.writer import NotStored, Writer

PORTION: Final = 2000
CHECK_S: Final = 3600.0

_DAY_S: Final = 86_400.0
_OF_SIMULATIONS: Final = (
    tables.PAIR, tables.DEFOCUS, tables.PARAMETER, tables.NOTIFICATION, tables.PREVIEW, tables.PREVIEW_SUM,
)  # fmt: skip


class Retention:
    """Delete simulations whose last event came more than so many days ago.

    Parameters
    ----------
    keep_days : float
        0: keep all.
    """

    def __init__(self, keep_days: float, writer: Writer, say: Callable[[str], None]) -> None:
        self._keep_s = keep_days * _DAY_S
        self._writer = writer
        self._say = say
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look now, and then once an hour."""
        if self._keep_s > 0:
            self._thread = threading.Thread(target=self._run, name="stemphony-retention", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End after the portion it is at."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(NotStored, DBAPIError):
                self.sweep(time.time())
            self._stop.wait(CHECK_S)

    def sweep(self, now: float) -> int:
        """Delete what is too old. Gives the number of simulations."""
        number = 0
        before = now - self._keep_s
        self._writer.run(partial(_delete_trials, before))
        while not self._stop.is_set():
            row = self._writer.run(partial(_oldest, before))
            if row is None:
                break
            while not self._stop.is_set() and self._writer.run(partial(_delete_events, row, before)):
                continue
            if not self._stop.is_set():
                self._writer.forget_after(partial(_delete_summary, row, before))
                number += 1
        if number:
            self._say(f"{number} simulations were older than {self._keep_s / _DAY_S:g} days and have been deleted")
        return number


def _oldest(before: float, connection: Connection) -> int | None:
    table = tables.SIMULATION
    question = select(table.c.row).where(table.c.last_received < before).order_by(table.c.row).limit(1)
    return connection.execute(question).scalar()


def _delete_trials(before: float, connection: Connection) -> None:
    table = tables.EVENT
    connection.execute(delete(table).where(table.c.simulation == tables.NO_SIMULATION, table.c.received < before))


def _delete_events(simulation: int, before: float, connection: Connection) -> int:
    table = tables.EVENT
    some = select(table.c.row).where(table.c.simulation == simulation, table.c.received < before).limit(PORTION)
    return connection.execute(delete(table).where(table.c.row.in_(some.scalar_subquery()))).rowcount


def _delete_summary(simulation: int, before: float, connection: Connection) -> None:
    """Unless it has come to life again between two portions: what was acknowledged meanwhile stays, and is shown."""
    last = select(tables.SIMULATION.c.last_received).where(tables.SIMULATION.c.row == simulation)
    if connection.execute(last).scalar_one() >= before:
        return
    for table in _OF_SIMULATIONS:
        connection.execute(delete(table).where(table.c.simulation == simulation))
    connection.execute(delete(tables.SIMULATION).where(tables.SIMULATION.c.row == simulation))
