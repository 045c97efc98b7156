"""`stemphony monitor simulation`: show one simulation of a monitor, or correct which of its events count."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any, Final

from stemphony.counting import number_of
from stemphony.errors import MonitorError
from stemphony.monitor.packages import require_packages

LISTED_HELD: Final = 50
"""Most events that `show` lists of those that are kept but not counted."""


def add_parser(actions: Any, shared: argparse.ArgumentParser) -> None:
    """Register `simulation` and its actions.

    Parameters
    ----------
    actions : argparse action
        Takes the parsers of the actions of `stemphony monitor`.
    shared : argparse.ArgumentParser
        Has `--db`.
    """
    simulation = actions.add_parser(
        "simulation", help="show, repair, share, give, move or delete one simulation",
        description="Shows or changes one simulation in the database. The command may be used while a monitor runs.  "
        "docs/monitor.md explains when to use it.",
    )  # fmt: skip
    own = simulation.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, run: Any, what: str, has_simulation: bool = True) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = own.add_parser(name, parents=[shared], help=what, description=what)
        parser.set_defaults(command=run)
        if has_simulation:
            parser.add_argument("simulation", metavar="SIMULATION", help="id, or the number in its page's address")
        return parser

    action("show", _show, "show state, owner, senders, and the stored events that do not count")
    repair = action("repair", _repair, "decide again which events count, and compute the state again")
    repair.add_argument(
        "--reject",
        type=int,
        action="append",
        default=[],
        metavar="EVENT",
        help="number of an event that must not count",
    )
    share = action("share", _share, "let another credential send events of a simulation")
    share.add_argument("name", metavar="NAME", help="name of the other credential")
    share.add_argument("--stop", action="store_true", help="end the sharing")
    give = action("give", _give, "make a simulation belong to another credential")
    give.add_argument("name", metavar="NAME", help="name of the other credential")
    move = action("move", _move, "move the events of one credential to a simulation of their own")
    move.add_argument("--sender", required=True, metavar="NAME", help="name of the credential")
    move.add_argument("--to", default="", metavar="ID", help="id of the new simulation (default: ID@NAME)")
    remove = action("delete", _delete, "delete a simulation with all its events")
    remove.add_argument("--yes", action="store_true", help="confirm; without it, nothing is deleted")
    action("log", _log, "list the changes that operators made", has_simulation=False)


def _open(parsed: argparse.Namespace) -> Any:
    from stemphony.monitor.database.connection import Database

    require_packages()
    database = Database.open(getattr(parsed, "db", None), create=False)
    try:
        # A running monitor of an earlier version could not use a newer schema.
        database.require_present_schema()
    except BaseException:
        database.close()
        raise
    return database


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(max(0.0, seconds)))


def _show(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.monitor.database import audit, timeline
    from stemphony.monitor.intake import operators
    from stemphony.monitor.intake.judgement import REASONS
    from stemphony.monitor.state import finished_of, pairs_of, state_of

    with _open(parsed) as database, database.reader.begin() as connection:
        found = operators.find(connection, parsed.simulation)
        print(f"{found.title or 'no title'}\nid         {found.uid}\nnumber     {found.row}")
        print(f"state      {state_of(found, time.time()).value}, run {found.run}")
        print(f"finished   {finished_of(found)} of {number_of(pairs_of(found), 'configuration')}")
        print(f"owner      {found.owner or 'none'}{', shared with ' + ', '.join(found.shared) if found.shared else ''}")
        print(f"events     {found.events}, the last one {_moment(found.last_received)}")
        for entry in timeline.held_events(connection, found):
            print(f"not counted: {entry.number} of {entry.sender or 'no credential'}: {REASONS[entry.reason]}")
        for event in timeline.events(connection, found.row, held=True, all_of_them=True, most=LISTED_HELD):
            where = f" {event.job} attempt {event.attempt}" if event.job else ""
            print(f"  event {event.row}  {_moment(event.time)}  {event.name} run {event.run}{where}  {event.sender}")
        for done in audit.listed(connection, found.uid):
            print(f"{_moment(done.time)}  {done.operator}: {done.action} {done.details}".rstrip())
    return 0


def _said(found: Any) -> int:
    held = f", {found.held} kept and not counted" if found.held else ""
    counted = number_of(found.events, "event counts", "events count")
    print(f"{found.uid}: owner {found.owner or 'none'}, run {found.run}, {counted}{held}")
    return 0


def _repair(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.monitor.intake import operators

    with _open(parsed) as database:
        return _said(operators.repair(database, parsed.simulation, parsed.reject))


def _share(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.monitor.intake import operators

    with _open(parsed) as database:
        return _said(operators.share(database, parsed.simulation, parsed.name, not parsed.stop))


def _give(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.monitor.intake import operators

    with _open(parsed) as database:
        return _said(operators.give(database, parsed.simulation, parsed.name))


def _move(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.monitor.intake import operators

    with _open(parsed) as database:
        return _said(operators.move(database, parsed.simulation, parsed.sender, parsed.to))


def _delete(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.monitor.intake import operators

    with _open(parsed) as database:
        with database.reader.begin() as connection:
            found = operators.find(connection, parsed.simulation)
        if not parsed.yes:
            what = number_of(found.events, "event")
            raise MonitorError(f"delete: {found.uid} has {what}. Add --yes to delete all of it.")
        deleted = number_of(operators.delete_simulation(database, parsed.simulation), "event")
        print(f"deleted {found.uid} with {deleted}")
    return 0


def _log(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    from stemphony.monitor.database import audit

    with _open(parsed) as database, database.reader.begin() as connection:
        for done in audit.listed(connection):
            print(f"{_moment(done.time)}  {done.operator}: {done.action} {done.uid} {done.details}".rstrip())
    return 0
