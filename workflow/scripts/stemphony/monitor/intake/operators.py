"""The actions of operators on one simulation: repair, share, give, move, delete. The audit records each change.

The commands work beside a running monitor. They write in short transactions. In the pauses between them, the monitor
serves senders. When the audit has a new entry, the monitor reads its summaries again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from sqlalchemy import Connection, delete, func, select, update
from sqlalchemy.exc import DBAPIError

from stemphony.counting import number_of
from stemphony.errors import MonitorError
from stemphony.monitor.database import audit, credentials, images, schema, simulations
from stemphony.monitor.database.connection import Database, reason
from stemphony.monitor.database.credentials import Role
from stemphony.monitor.database.upsert import Upsert, insert
from stemphony.monitor.intake import limits, retention, stored_events
from stemphony.monitor.intake.judgement import Held
from stemphony.monitor.intake.rebuild import EVENTS_AT_ONCE, Rebuild
from stemphony.monitor.intake.summary_cache import SummaryCache
from stemphony.monitor.records import SimulationSummary, columns_of

PORTION_S: Final = 0.2
"""Length of one transaction of a command [s]. The monitor cannot write meanwhile."""

PAUSE_S: Final = 0.15
"""Pause before the next transaction [s]. Others try to lock SQLite every 0.1 s, so the pause must be longer."""


@contextlib.contextmanager
def _writing(database: Database) -> Iterator[Connection]:
    try:
        with database.writer.begin() as connection:
            audit.share_with_operators(connection)
            yield connection
    except DBAPIError as error:
        raise MonitorError(f"{database.name} cannot be changed: {reason(error)}. Try again.") from None


def find(connection: Connection, which: str) -> SimulationSummary:
    """Return the simulation whose row or id is `which`. `connection` is an open transaction.

    Raises
    ------
    MonitorError
        There is no such simulation.
    """
    table = schema.SIMULATION
    row = connection.execute(select(table.c.row).where(table.c.uid == which)).scalar()
    if row is None and which.isascii() and which.isdigit() and len(which) < 16:
        row = int(which)
    found = simulations.simulation(connection, row) if row is not None else None
    if found is None:
        raise MonitorError(
            f"simulation {which!r}: there is none. Give its id, or the number at the end of its page's address."
        )
    return found


def repair(
    database: Database, which: str, reject: Sequence[int] = (), portion_s: float = PORTION_S
) -> SimulationSummary:
    """Decide again which events of a simulation count, and make its summaries again.

    Parameters
    ----------
    database, which : Database, str
        The database, and row or id of the simulation.
    reject : sequence of int
        Rows of events that must not count in any case.
    portion_s : float
        Length of one transaction [s].

    Returns
    -------
    SimulationSummary
        The simulation with its new summary.

    Raises
    ------
    MonitorError
        There is no such simulation or event, or the database cannot be changed.
    """
    with _writing(database) as connection:
        simulation = find(connection, which)
        for row in reject:
            table = schema.EVENT
            here = table.c.row == row, table.c.simulation == simulation.row
            stored = connection.execute(select(table).where(*here)).mappings().first()
            if stored is None:
                raise MonitorError(f"event {row}: simulation {which} has no such event. `show` lists them.")
            if stored["held"]:
                stored_events.note_reason(connection, stored, Held.REJECTED)
            else:
                stored_events.hold(connection, stored, simulation.uid, Held.REJECTED)
        details = f"rejected {', '.join(map(str, reject))}" if reject else ""
        audit.note(connection, time.time(), "repair", simulation.uid, details)
    return _decide_again(database, simulation, portion_s)


def share(database: Database, which: str, name: str, is_shared: bool = True) -> SimulationSummary:
    """Allow another credential to send events of a simulation. With `is_shared` False, end this permission.

    `which` is the row or the id of the simulation in `database`, and `name` the credential. Return the new summary.

    Raises
    ------
    MonitorError
        There is no such simulation or credential, or the database cannot be changed.
    """
    with _writing(database) as connection:
        simulation = find(connection, which)
        _require_writer(connection, name, is_shared)
        others = [other for other in simulation.shared if other != name]
        simulation.shared = [*others, name] if is_shared else others
        _write(database, connection, simulation)
        audit.note(connection, time.time(), "share" if is_shared else "unshare", simulation.uid, name)
    return _decide_again(database, simulation)


def give(database: Database, which: str, name: str) -> SimulationSummary:
    """Make a simulation belong to another credential. Its images are deleted, because the old one may have sent them.

    `which` is the row or the id of the simulation in `database`, and `name` the credential. Return the new summary.

    Raises
    ------
    MonitorError
        There is no such simulation or credential, or the database cannot be changed.
    """
    with _writing(database) as connection:
        simulation = find(connection, which)
        _require_writer(connection, name)
        audit.note(connection, time.time(), "give", simulation.uid, f"from {simulation.owner or 'nobody'} to {name}")
        simulation.owner = name
        _write(database, connection, simulation)
        images.forget(connection, simulation.row)
    return _decide_again(database, simulation)


def move(database: Database, which: str, sender: str, target: str) -> SimulationSummary:
    """Move the present and future events of one sender to a new simulation. Return the new simulation.

    Parameters
    ----------
    database, which : Database, str
        The database, and row or id of the simulation.
    sender : str
        Name of the credential whose events are moved.
    target : str
        Id of the new simulation. Empty: the id of the old simulation with the name of the sender.

    Returns
    -------
    SimulationSummary
        The new simulation with its summary.

    Raises
    ------
    MonitorError
        The sender owns the simulation or has sent nothing, or the new id is not allowed.
    """
    with _writing(database) as connection:
        simulation = find(connection, which)
        if sender == simulation.owner:
            raise MonitorError(f"move: {which} belongs to {sender}. Use `give` first, or name another sender.")
        uid = target or f"{simulation.uid}@{sender}"
        if uid == simulation.uid or len(uid) > limits.MAX_NAME_CHARACTERS:
            raise MonitorError(f"move: {uid!r} cannot be the new id. Give another one by --to.")
        table = schema.EVENT.c
        own = table.simulation == simulation.row, table.sender == sender
        question = select(func.count(), func.min(table.received), func.max(table.received)).where(*own)
        number, first, last = connection.execute(question).one()
        if not number:
            raise MonitorError(f"move: {sender} has sent no event of {which}. `show` lists the senders.")
        new = SummaryCache(connection, database).simulation(connection, uid)
        new.owner, new.first_received, new.last_received = sender, first, last
        _write(database, connection, new)
        moved = insert(database, schema.MOVED).values(uid=simulation.uid, sender=sender, target=uid)
        connection.execute(moved.on_conflict_do_update(index_elements=["uid", "sender"], set_={"target": uid}))
        what = f"{number_of(number, 'event')} of {sender} to {uid}"
        audit.note(connection, time.time(), "move", simulation.uid, what)
    _in_portions(database, lambda connection: _move_some(connection, simulation, new, sender))
    _decide_again(database, simulation)
    return _decide_again(database, new)


def _move_some(connection: Connection, simulation: SimulationSummary, new: SimulationSummary, sender: str) -> bool:
    table = schema.EVENT
    own = table.c.simulation == simulation.row, table.c.sender == sender
    rows = connection.execute(select(table).where(*own).order_by(table.c.row).limit(EVENTS_AT_ONCE)).mappings().all()
    for stored in rows:
        connection.execute(update(table).where(table.c.row == stored["row"]).values(simulation=new.row))
        if not stored["held"]:
            stored_events.hold(connection, stored, new.uid, Held.EARLY)
        elif not stored_events.count(connection, stored, new.uid):
            stored_events.note_reason(connection, stored, Held.CONTENT)
    return len(rows) < EVENTS_AT_ONCE


def delete_simulation(database: Database, which: str) -> int:
    """Delete a simulation with all its events, in portions. Return the number of events.

    `which` is the row or the id of the simulation in `database`.

    Raises
    ------
    MonitorError
        There is no such simulation, or the database cannot be changed.
    """
    with _writing(database) as connection:
        simulation = find(connection, which)
        audit.note(connection, time.time(), "delete", simulation.uid, number_of(simulation.events, "event"))
    number = 0
    while True:
        with _writing(database) as connection:
            deleted = retention.delete_events(simulation.row, connection)
            number += deleted
            if deleted:
                continue
            retention.delete_summary(simulation.row, connection)
            connection.execute(delete(schema.MOVED).where(schema.MOVED.c.uid == simulation.uid))
            audit.note(connection, time.time(), "deleted", simulation.uid, number_of(number, "event"))
            return number


def _decide_again(database: Database, simulation: SimulationSummary, portion_s: float = PORTION_S) -> SimulationSummary:
    """Stop counting events of credentials that may not send. Then judge all events again in the order of arrival."""
    with _writing(database) as connection:
        rebuild = Rebuild(SummaryCache(connection, database), simulation, [], judge_again=True)
    made: list[SimulationSummary | None] = []

    def go_on(connection: Connection) -> bool:
        if not rebuild.step(connection, portion_s):
            return False
        made.append(rebuild.finish(connection))
        audit.note(connection, time.time(), "decided again", simulation.uid)
        return True

    _in_portions(database, go_on)
    if made[0] is None:
        raise MonitorError(f"{simulation.uid} was deleted meanwhile.")
    return made[0]


def _in_portions(database: Database, go_on: Callable[[Connection], bool]) -> None:
    """Call `go_on` until it returns True. Each call has its own transaction, and senders are served in the pauses."""
    while True:
        with _writing(database) as connection:
            if go_on(connection):
                return
        time.sleep(PAUSE_S)


def _write(database: Database, connection: Connection, simulation: SimulationSummary) -> None:
    Upsert(database, schema.SIMULATION).execute(connection, [columns_of(simulation)])


def _require_writer(connection: Connection, name: str, must_exist: bool = True) -> None:
    writers = {entry.name for entry in credentials.listed(connection) if entry.role is Role.WRITER}
    if must_exist and name not in writers:
        known = ", ".join(sorted(writers)) or "none"
        raise MonitorError(f"{name!r} is not the name of a writer. Writers: {known}.")
