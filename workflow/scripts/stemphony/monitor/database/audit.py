"""Record what operators change. Keep their commands and a running monitor from writing at the same time."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, select, text

from stemphony.monitor.database import schema

_LOCK_NUMBER: Final = 0x53544F50
"""Number of the lock in PostgreSQL that each transaction of the monitor or of a command takes: "STOP" in ASCII."""

LISTED: Final = 200
"""Most entries that `stemphony monitor simulation log` shows."""


@dataclass(frozen=True)
class Entry:
    """One action of an operator. `time` is in seconds since 1970. The other attributes are as for `note`."""

    time: float
    operator: str
    action: str
    uid: str
    details: str


def share_with_operators(connection: Connection) -> None:
    """Make other transactions that call this function wait for the end of the transaction of `connection`.

    With SQLite, they always wait.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})


def note(connection: Connection, now: float, action: str, uid: str, details: str = "") -> None:
    """Record an action. A running monitor then reads all summaries again.

    Parameters
    ----------
    connection : Connection
        An open transaction, in which the action happens.
    now : float
        Time of the action [s since 1970].
    action : str
        Name of the action, in one word.
    uid : str
        Id of the simulation, or empty.
    details : str
        What exactly was done, in words.
    """
    table = schema.AUDIT
    row = int(connection.execute(select(func.max(table.c.row))).scalar() or 0) + 1
    values = {
        "row": row,
        "time": now,
        "operator": operator_name(),
        "action": action,
        "uid": uid,
        "details": details,
    }
    connection.execute(table.insert(), values)


def listed(connection: Connection, uid: str = "") -> list[Entry]:
    """Return the latest actions, at most `LISTED`, the latest first. With `uid`, only those of this simulation.

    `connection` is an open transaction.
    """
    table = schema.AUDIT
    question = select(table.c.time, table.c.operator, table.c.action, table.c.uid, table.c.details)
    if uid:
        question = question.where(table.c.uid == uid)
    return [Entry(*row) for row in connection.execute(question.order_by(table.c.row.desc()).limit(LISTED))]


def operator_name() -> str:
    """Return the name of the user of this process, or the user's number if the system has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        import os

        return f"uid {os.getuid()}"
