"""The schema of the database, version by version. A version that was released is never edited; a new one is added.

The statements are the common part of SQLite and PostgreSQL but for `{key}`, the type of a row's number, and `{bytes}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, inspect, text

from stemphony.errors import MonitorError

_TYPES: Final = {
    # On SQLite only INTEGER makes the number the place of the row.
    "sqlite": {"key": "INTEGER", "bytes": "BLOB"},
    "postgresql": {"key": "BIGINT", "bytes": "BYTEA"},
}

_EVENTS: Final = (
    """CREATE TABLE simulation (
        row {key} PRIMARY KEY, uid TEXT NOT NULL UNIQUE,
        title TEXT NOT NULL, version TEXT NOT NULL, git_commit TEXT NOT NULL,
        num_threads INTEGER NOT NULL, num_processors INTEGER NOT NULL,
        num_defoci INTEGER NOT NULL, num_configurations INTEGER NOT NULL,
        run INTEGER NOT NULL, run_started DOUBLE PRECISION NOT NULL, latest_time DOUBLE PRECISION NOT NULL,
        ended TEXT NOT NULL, ended_at DOUBLE PRECISION, end_message TEXT NOT NULL,
        num_failed INTEGER NOT NULL, num_never_ran INTEGER NOT NULL,
        first_received DOUBLE PRECISION NOT NULL, last_received DOUBLE PRECISION NOT NULL,
        pauses_s DOUBLE PRECISION NOT NULL, pauses INTEGER NOT NULL,
        finished INTEGER NOT NULL, failed INTEGER NOT NULL, running INTEGER NOT NULL,
        work DOUBLE PRECISION NOT NULL, run_work DOUBLE PRECISION NOT NULL, run_finished INTEGER NOT NULL,
        samples TEXT NOT NULL, events INTEGER NOT NULL, revision BIGINT NOT NULL)""",
    """CREATE TABLE defocus (
        simulation BIGINT NOT NULL, key TEXT NOT NULL, defocus DOUBLE PRECISION, defocus_index INTEGER,
        run INTEGER NOT NULL, PRIMARY KEY (simulation, key))""",
    """CREATE TABLE pair (
        simulation BIGINT NOT NULL, defocus_key TEXT NOT NULL, configuration INTEGER NOT NULL,
        state TEXT NOT NULL, progress DOUBLE PRECISION NOT NULL, run INTEGER NOT NULL,
        attempt BIGINT NOT NULL, position BIGINT NOT NULL, job TEXT NOT NULL, message TEXT NOT NULL,
        started DOUBLE PRECISION NOT NULL, updated DOUBLE PRECISION NOT NULL, revision BIGINT NOT NULL,
        PRIMARY KEY (simulation, defocus_key, configuration))""",
    "CREATE INDEX pair_changes ON pair (simulation, revision)",
    """CREATE TABLE parameter (
        simulation BIGINT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (simulation, name))""",
    "CREATE INDEX parameter_names ON parameter (name)",
    """CREATE TABLE event (
        row {key} PRIMARY KEY, simulation BIGINT NOT NULL, key {bytes} NOT NULL UNIQUE, event_id TEXT NOT NULL,
        name TEXT NOT NULL, time DOUBLE PRECISION NOT NULL, received DOUBLE PRECISION NOT NULL,
        run INTEGER NOT NULL, job TEXT NOT NULL, attempt BIGINT NOT NULL, seq BIGINT,
        defocus_key TEXT NOT NULL, configuration INTEGER, notable SMALLINT NOT NULL, body TEXT NOT NULL)""",
    "CREATE INDEX event_order ON event (simulation, row)",
    "CREATE INDEX event_notable ON event (simulation, row) WHERE notable = 1",
    """CREATE TABLE credential (
        name TEXT PRIMARY KEY, role TEXT NOT NULL, digest TEXT NOT NULL, created DOUBLE PRECISION NOT NULL)""",
)

_NOTIFICATIONS: Final = (
    """CREATE TABLE notification (
        simulation BIGINT NOT NULL, run INTEGER NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL,
        created DOUBLE PRECISION NOT NULL, due DOUBLE PRECISION, tries INTEGER NOT NULL, sent DOUBLE PRECISION,
        trouble TEXT NOT NULL, PRIMARY KEY (simulation, run, kind, target))""",
    "CREATE INDEX notification_due ON notification (due) WHERE due IS NOT NULL",
)

_PREVIEWS: Final = (
    """CREATE TABLE preview (
        simulation BIGINT NOT NULL, defocus_key TEXT NOT NULL, configuration INTEGER NOT NULL,
        low DOUBLE PRECISION NOT NULL, high DOUBLE PRECISION NOT NULL, pixels {bytes} NOT NULL,
        PRIMARY KEY (simulation, defocus_key, configuration))""",
    """CREATE TABLE preview_sum (
        simulation BIGINT NOT NULL, defocus_key TEXT NOT NULL, detector TEXT NOT NULL, width INTEGER NOT NULL,
        number INTEGER NOT NULL, revision BIGINT NOT NULL, sums {bytes} NOT NULL,
        PRIMARY KEY (simulation, defocus_key))""",
)

_STARTS: Final = (
    "ALTER TABLE simulation ADD COLUMN start_told INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE simulation ADD COLUMN num_jobs INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE simulation ADD COLUMN run_resumed DOUBLE PRECISION NOT NULL DEFAULT 0",
    "ALTER TABLE pair ADD COLUMN resumed DOUBLE PRECISION NOT NULL DEFAULT 0",
)

# One run of a simulation may end or fall silent more than once: STEMsalabim's have no number. A notification that an
# earlier version wrote has no event; by its run it keeps a number that no event has.
_NOTIFICATIONS_OF_EVENTS: Final = (
    """CREATE TABLE notification_of_event (
        simulation BIGINT NOT NULL, event BIGINT NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL,
        run INTEGER NOT NULL, created DOUBLE PRECISION NOT NULL, due DOUBLE PRECISION, tries INTEGER NOT NULL,
        sent DOUBLE PRECISION, trouble TEXT NOT NULL, notice TEXT NOT NULL,
        PRIMARY KEY (simulation, event, kind, target))""",
    """INSERT INTO notification_of_event
        SELECT simulation, -1 - run, kind, target, run, created, due, tries, sent, trouble, '' FROM notification""",
    "DROP TABLE notification",
    "ALTER TABLE notification_of_event RENAME TO notification",
    "CREATE INDEX notification_due ON notification (due) WHERE due IS NOT NULL",
)

MIGRATIONS: Final[Sequence[Sequence[str]]] = (
    _EVENTS, _NOTIFICATIONS, _PREVIEWS, _STARTS, _NOTIFICATIONS_OF_EVENTS
)  # fmt: skip
"""What leads from each version to the next, beginning with an empty database, version 0."""

VERSION: Final = len(MIGRATIONS)


def version_of(connection: Connection) -> int:
    """Version of the schema in a database, 0 for an empty one."""
    names = inspect(connection).get_table_names()
    if "schema_version" not in names:
        if set(names) & {"simulation", "event"}:
            raise MonitorError(
                "the database has tables of another program with the names of ours. Give another one by --db."
            )
        return 0
    return int(connection.execute(text("SELECT max(version) FROM schema_version")).scalar() or 0)


def known_version_of(connection: Connection) -> int:
    """Version of the schema in a database, which this program knows.

    Raises
    ------
    MonitorError
        A later version of the program has written the database.
    """
    found = version_of(connection)
    if found > VERSION:
        raise MonitorError(
            f"the database has schema version {found}, and this program knows versions up to {VERSION}. Nothing was"
            " changed. Update Stemphony, or give another database by --db."
        )
    return found


def migrate(connection: Connection, target: int = VERSION) -> int:
    """Bring the schema to this program's version, in the transaction of the connection.

    Returns
    -------
    int
        The version that was found.

    Raises
    ------
    MonitorError
        A later version of the program has written the database.
    """
    found = known_version_of(connection)
    types = _TYPES[connection.dialect.name]
    for version in range(found, target):
        if version == 0:
            connection.execute(text("CREATE TABLE schema_version (version INTEGER PRIMARY KEY)"))
        for statement in MIGRATIONS[version]:
            connection.exec_driver_sql(statement.format(**types))
        connection.execute(text("INSERT INTO schema_version VALUES (:version)"), {"version": version + 1})
    return found
