"""The command line of the monitor. It imports Flask and SQLAlchemy only when one of its commands runs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from stemphony.errors import MonitorError
from stemphony.monitor import simulation_command
from stemphony.monitor.packages import require_packages

DATABASE_HELP: Final = (
    "SQLite file or postgresql://… (default: $STEMPHONY_MONITOR_DB, else a file below ~/.local/share)"
)
"""Help text of the option `--db`, which several commands have."""


def add_parser(commands: Any) -> None:
    """Register `stemphony monitor` and its actions.

    Parameters
    ----------
    commands : argparse action
        Takes the parsers of the commands of `stemphony`.
    """
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--db", default=argparse.SUPPRESS, metavar="URL", help=DATABASE_HELP)
    monitor = commands.add_parser(
        "monitor", parents=[shared], help="receive status reports and show them on a page",
        description="Receives status reports of simulations and shows them on a page. See docs/monitor.md.",
    )  # fmt: skip
    monitor.set_defaults(command=_serve)
    monitor.add_argument("--port", type=int, default=8000, help="port to listen on (default: 8000)")
    monitor.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    monitor.add_argument(
        "--keep-days",
        type=float,
        default=0.0,
        metavar="N",
        help="delete simulations that sent no event for N days (default: keep all)",
    )  # fmt: skip
    monitor.add_argument(
        "--stale-after",
        type=float,
        default=15.0,
        metavar="MIN",
        help="shortest silence, in minutes, after which a simulation counts as stale (default: 15)",
    )
    monitor.add_argument("--notify", type=Path, metavar="FILE", help="YAML file with the targets of notifications")
    monitor.add_argument(
        "--rate",
        type=float,
        default=1000.0,
        metavar="N",
        help="largest number of requests per second from one sender (default: 1000; 0: no limit)",
    )
    actions = monitor.add_subparsers(metavar="[ACTION]")

    token = actions.add_parser("token", help="manage the credentials of senders and readers")
    tokens = token.add_subparsers(required=True, metavar="ACTION")
    add = tokens.add_parser("add", parents=[shared], help="create a credential and show its secret once")
    add.set_defaults(command=_add_token)
    add.add_argument("name", metavar="NAME", help="name of the new credential")
    add.add_argument(
        "--role", choices=("writer", "reader"), required=True, help="writers send events, readers see pages"
    )
    revoke = tokens.add_parser("revoke", parents=[shared], help="remove a credential")
    revoke.set_defaults(command=_revoke_token)
    revoke.add_argument("name", metavar="NAME", help="name of the credential")
    listing = tokens.add_parser("list", parents=[shared], help="list the names and roles of all credentials")
    listing.set_defaults(command=_list_tokens)

    simulation_command.add_parser(actions, shared)

    backup = actions.add_parser("backup", parents=[shared], help="copy the database, even while a monitor runs")
    backup.set_defaults(command=_backup)
    backup.add_argument("file", type=Path, metavar="FILE", help="new file for the copy")

    demo = actions.add_parser(
        "demo", parents=[shared], help="start a monitor and a small simulation that reports to it"
    )
    demo.set_defaults(command=_demo)
    demo.add_argument("--port", type=int, default=argparse.SUPPRESS, help="first port to try (default: 8000)")


def _require_between(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise MonitorError(f"{name}: got {value}. Allowed: {least:g} to {most:g}.")


def _given(parsed: argparse.Namespace) -> str | None:
    given: str | None = getattr(parsed, "db", None)
    return given


def _serve(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    require_packages()
    for name, value, least, most in (
        ("--port", parsed.port, 0, 65_535),
        ("--keep-days", parsed.keep_days, 0, 1e6),
        ("--stale-after", parsed.stale_after, 0.01, 1e6),
        ("--rate", parsed.rate, 0, 1e9),
    ):
        _require_between(name, value, least, most)
    from stemphony.monitor.server import Options, serve

    return serve(
        Options(
            host=parsed.host, port=parsed.port, database=_given(parsed), stale_after_s=60 * parsed.stale_after,
            keep_days=parsed.keep_days, requests_per_s=parsed.rate, notify=parsed.notify,
        )
    )  # fmt: skip


def _add_token(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    require_packages()
    from stemphony.monitor.database import credentials
    from stemphony.monitor.database.connection import Database

    role = credentials.Role(parsed.role)
    # The name is checked first, so that a refused name makes no new database.
    credentials.require_name(parsed.name)
    with Database.open(_given(parsed)) as database, database.changing() as connection:
        secret = credentials.add(connection, parsed.name, role, time.time())
    print(f"{parsed.name} is now a {role.value}. This is its secret, which is not shown again:\n\n  {secret}\n")
    if role is credentials.Role.WRITER:
        print(
            "Export it as an environment variable where you start simulations, and add to their config:\n\n"
            f"http_reporting:\n  reporting: true\n  url: http://…\n  auth_user: {parsed.name}\n"
            "  auth_pass_env: STEM_PASSWORD"
        )
    else:
        print(f"The page asks for a user and a password: {parsed.name} and the secret.")
    return 0


def _revoke_token(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    require_packages()
    from stemphony.monitor.database import credentials
    from stemphony.monitor.database.connection import Database

    with Database.open(_given(parsed), create=False) as database, database.changing() as connection:
        credentials.revoke(connection, parsed.name)
    print(f"the monitor now refuses {parsed.name}")
    return 0


def _list_tokens(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    require_packages()
    from stemphony.monitor.database import credentials
    from stemphony.monitor.database.connection import Database

    with Database.open(_given(parsed), create=False) as database, database.reader.begin() as connection:
        for credential in credentials.listed(connection):
            made = time.strftime("%Y-%m-%d", time.gmtime(credential.created))
            print(f"{credential.name}\t{credential.role.value}\tsince {made}")
    return 0


def _backup(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    require_packages()
    from stemphony.monitor.database.backup import backup
    from stemphony.monitor.database.connection import Database

    with Database.open(_given(parsed), create=False) as database:
        print(backup(database, parsed.file))
    return 0


def _demo(parsed: argparse.Namespace, _rest: Sequence[str]) -> int:
    require_packages()
    _require_between("--port", parsed.port, 0, 65_535)
    from stemphony.monitor.demonstration import demonstrate

    return demonstrate(parsed.port, _given(parsed))
