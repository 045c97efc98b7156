"""Read events again that are in the database, and change whether they count."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, select, update

from stemphony.monitor.database import schema
from stemphony.monitor.intake.incoming import read_stored
from stemphony.monitor.intake.judgement import Held
from stemphony.monitor.records import IncomingEvent, event_key, held_key, held_key_of

KEYS_PER_QUESTION: Final = 500
"""Most keys in one query for duplicates. SQLite limits the number of bound values."""


def contents_of(connection: Connection, keys: Iterable[bytes]) -> dict[bytes, bytes]:
    """Return the contents of those events that the database has, by key. `keys` are the keys that are searched.

    `connection` is an open transaction.
    """
    wanted, table = list(dict.fromkeys(keys)), schema.EVENT
    found: dict[bytes, bytes] = {}
    for start in range(0, len(wanted), KEYS_PER_QUESTION):
        part = wanted[start : start + KEYS_PER_QUESTION]
        question = select(table.c.key, table.c.content).where(table.c.key.in_(part))
        found |= {bytes(key): bytes(content) for key, content in connection.execute(question)}
    return found


def event_of(stored: Any, uid: str) -> IncomingEvent:
    """Return the event of the row `stored` as it was when it arrived, as an event of the simulation `uid`.

    Raises
    ------
    Refused
        An earlier version accepted the event, and this version refuses it.
    """
    event = read_stored(stored["body"], stored["received"], stored["event_id"], stored["sender"])
    return dataclasses.replace(
        event, simulation=uid, key=event_key(uid, stored["event_id"]), run=stored["run"],
        content=bytes(stored["content"]),
    )  # fmt: skip


def hold(connection: Connection, stored: Any, uid: str, reason: Held) -> bool:
    """Stop counting one event for a `reason`. If the same event is held already, delete this one and return False.

    `stored` is the row of the event, and `uid` the id of its simulation. `connection` is an open transaction.
    """
    table, key = schema.EVENT, held_key(event_of(stored, uid))
    here = table.c.row == stored["row"]
    if contents_of(connection, [key]):
        connection.execute(table.delete().where(here))
        return False
    connection.execute(update(table).where(here).values(held=reason, key=key))
    return True


def hold_all(connection: Connection, rows: Sequence[Any], uid: str, reason: Held) -> None:
    """Stop counting many events, as `hold` does for one. This function queries the database once and reads no event.

    `rows` has a row of the table for each event. `connection`, `uid` and `reason` are as for `hold`.
    """
    table = schema.EVENT
    keys = {row["row"]: held_key_of(uid, row["event_id"], row["sender"], bytes(row["content"])) for row in rows}
    known = set(contents_of(connection, keys.values()))
    changes = []
    for row in rows:
        key = keys[row["row"]]
        if key in known:
            hold(connection, row, uid, reason)
        else:
            known.add(key)
            changes.append({"changed": row["row"], "new_key": key})
    if changes:
        values = {"held": reason, "key": bindparam("new_key")}
        connection.execute(update(table).where(table.c.row == bindparam("changed")).values(**values), changes)


def note_reason(connection: Connection, stored: Any, reason: str) -> None:
    """Give an event another `reason` why it does not count. Its key stays.

    `stored` is the row of the event. `connection` is an open transaction.
    """
    connection.execute(update(schema.EVENT).where(schema.EVENT.c.row == stored["row"]).values(held=reason))


def count(connection: Connection, stored: Any, uid: str) -> bool:
    """Count one held event from now on. Return False if another event with its id is counted.

    `stored` is the row of the event, and `uid` the id of its simulation. `connection` is an open transaction.
    """
    table, key = schema.EVENT, event_key(uid, stored["event_id"])
    if contents_of(connection, [key]):
        return False
    connection.execute(update(table).where(table.c.row == stored["row"]).values(held="", key=key))
    return True


def number_held(connection: Connection, simulation: int) -> int:
    """Return how many events of the simulation with row `simulation` are kept but not counted.

    `connection` is an open transaction.
    """
    table = schema.EVENT.c
    question = select(func.count()).where(table.simulation == simulation, table.held != "")
    return int(connection.execute(question).scalar() or 0)
