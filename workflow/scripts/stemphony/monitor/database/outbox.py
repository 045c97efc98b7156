"""Notifications that wait for delivery, in the table `notification`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, case, func, select, update

from stemphony.monitor.database import schema
from stemphony.monitor.state import State

DUE_AT_ONCE: Final = 1000
"""Most notifications that are read for a target at once. Many of them become one message."""

URGENCY: Final = (State.FAILED.value, State.STALE.value, State.CANCELLED.value, State.FINISHED.value)
"""Kinds of notifications. The kinds that need a reaction come first."""

_TABLE: Final = schema.NOTIFICATION
"""The table of notifications."""


def due(connection: Connection, target: str, now: float) -> list[Mapping[str, Any]]:
    """Return the notifications of a `target` that are due at `now` [s since 1970], at most `DUE_AT_ONCE`.

    Failures come first, then the oldest ones. Each notification is a row of the table, by column name. `connection` is
    an open transaction.
    """
    question = select(_TABLE).where(_TABLE.c.target == target, _TABLE.c.due <= now)
    urgency = case({kind: number for number, kind in enumerate(URGENCY)}, value=_TABLE.c.kind, else_=len(URGENCY))
    rows = connection.execute(question.order_by(urgency, _TABLE.c.created, _TABLE.c.event).limit(DUE_AT_ONCE))
    return [dict(row) for row in rows.mappings()]


def targets_with_due(connection: Connection, now: float) -> set[str]:
    """Return the names of targets for which something is due at `now` [s since 1970].

    `connection` is an open transaction.
    """
    question = select(_TABLE.c.target).where(_TABLE.c.due.is_not(None), _TABLE.c.due <= now).distinct()
    return set(connection.execute(question).scalars())


def note(results: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], connection: Connection) -> None:
    """Write the `results` of notifications. Each item has a row and its new values.

    `connection` is an open transaction. One statement changes all rows with the same columns. A digest has hundreds of
    rows, and senders wait meanwhile.
    """
    keys = [column.name for column in _TABLE.primary_key]
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row, values in results:
        entry = {**{f"of_{key}": row[key] for key in keys}, **{f"new_{name}": values[name] for name in values}}
        alike.setdefault(tuple(sorted(values)), []).append(entry)
    for names, entries in alike.items():
        same = (_TABLE.c[key] == bindparam(f"of_{key}") for key in keys)
        statement = update(_TABLE).where(*same).values({name: bindparam(f"new_{name}") for name in names})
        connection.execute(statement, entries)


def add(rows: Sequence[Mapping[str, Any]], connection: Connection) -> None:
    """Insert notifications. `rows` has their columns by name. `connection` is an open transaction."""
    connection.execute(_TABLE.insert(), rows)


def has_strangers(connection: Connection, targets: Sequence[str]) -> bool:
    """Return whether notifications wait for targets that are not in `targets`. `connection` is an open transaction."""
    question = select(_TABLE.c.target).where(_TABLE.c.due.is_not(None), _TABLE.c.target.not_in(targets))
    return connection.execute(question.limit(1)).first() is not None


def drop_strangers(targets: Sequence[str], connection: Connection) -> None:
    """Give up the notifications that wait for targets that are not in `targets`.

    `connection` is an open transaction.
    """
    strangers = _TABLE.c.due.is_not(None), _TABLE.c.target.not_in(targets)
    values = {"due": None, "trouble": "the target is no longer configured"}
    connection.execute(update(_TABLE).where(*strangers).values(**values))


def waiting(connection: Connection) -> int:
    """Return the number of notifications that wait for delivery. `connection` is an open transaction."""
    return int(connection.execute(select(func.count()).where(_TABLE.c.due.is_not(None))).scalar() or 0)
