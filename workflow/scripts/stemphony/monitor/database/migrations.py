"""Create the schema of a new database, and bring the schema of an older one up to date."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, inspect, text

from stemphony.errors import MonitorError
from stemphony.monitor.database import schema

CHANGES: Final[Sequence[Sequence[str]]] = (
    (
        "ALTER TABLE simulation ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE simulation ADD COLUMN shared TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE simulation ADD COLUMN held INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE event ADD COLUMN sender TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE event ADD COLUMN content {bytes}",
        "ALTER TABLE event ADD COLUMN held TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX event_held ON event (simulation, row) WHERE held <> ''",
        "CREATE TABLE moved (uid TEXT NOT NULL, sender TEXT NOT NULL, target TEXT NOT NULL, PRIMARY KEY (uid, sender))",
        "CREATE TABLE audit (row {row} NOT NULL, time DOUBLE PRECISION NOT NULL, operator TEXT NOT NULL,"
        " action TEXT NOT NULL, uid TEXT NOT NULL, details TEXT NOT NULL, PRIMARY KEY (row))",
    ),
    (
        "CREATE TABLE old (simulation BIGINT NOT NULL, events INTEGER NOT NULL, marked DOUBLE PRECISION NOT NULL,"
        " uptime DOUBLE PRECISION NOT NULL, PRIMARY KEY (simulation))",
        "CREATE TABLE uptime (row INTEGER NOT NULL, seconds DOUBLE PRECISION NOT NULL, PRIMARY KEY (row))",
    ),
    (
        # The keys of both tables get the detector. SQLite changes no key, so tables are made anew.
        "ALTER TABLE preview RENAME TO preview_2",
        "ALTER TABLE preview_sum RENAME TO preview_sum_2",
        "CREATE TABLE preview (simulation BIGINT NOT NULL, defocus_key TEXT NOT NULL, configuration INTEGER NOT NULL,"
        " detector TEXT NOT NULL, low DOUBLE PRECISION NOT NULL, high DOUBLE PRECISION NOT NULL,"
        " pixels {bytes} NOT NULL, PRIMARY KEY (simulation, defocus_key, configuration, detector))",
        "INSERT INTO preview SELECT one.simulation, one.defocus_key, one.configuration, total.detector, one.low,"
        " one.high, one.pixels FROM preview_2 AS one JOIN preview_sum_2 AS total"
        " ON total.simulation = one.simulation AND total.defocus_key = one.defocus_key",
        "CREATE TABLE preview_sum (simulation BIGINT NOT NULL, defocus_key TEXT NOT NULL, detector TEXT NOT NULL,"
        " width INTEGER NOT NULL, number INTEGER NOT NULL, revision BIGINT NOT NULL, sums {bytes} NOT NULL,"
        " width_nm DOUBLE PRECISION, height_nm DOUBLE PRECISION, repeats TEXT NOT NULL DEFAULT '',"
        " PRIMARY KEY (simulation, defocus_key, detector))",
        "INSERT INTO preview_sum (simulation, defocus_key, detector, width, number, revision, sums)"
        " SELECT simulation, defocus_key, detector, width, number, revision, sums FROM preview_sum_2",
        "DROP TABLE preview_2",
        "DROP TABLE preview_sum_2",
    ),
)
"""SQL statements that lead from each version of the schema to the next one, beginning at version 1.

A change of `schema` adds one entry here. An entry that was released is never edited. The statements must run on both
SQLite and PostgreSQL. `{bytes}` and `{row}` stand for the types that differ.
"""

_TYPES: Final = {
    "sqlite": {"bytes": "BLOB", "row": "INTEGER"},
    "postgresql": {"bytes": "BYTEA", "row": "BIGINT"},
}


def latest_version() -> int:
    """Return the version of `schema`."""
    return 1 + len(CHANGES)


def version_of(connection: Connection) -> int:
    """Return the version of the schema in a database, 0 for an empty database.

    Raises
    ------
    MonitorError
        The tables belong to another program, or to a later version of this one.
    """
    names = inspect(connection).get_table_names()
    if "schema_version" not in names:
        if set(names) & schema.METADATA.tables.keys():
            raise MonitorError(
                "another program has made tables with our names in this database. Give another database by --db."
            )
        return 0
    found = int(connection.execute(text("SELECT max(version) FROM schema_version")).scalar() or 0)
    if found > latest_version():
        raise MonitorError(
            f"the database has schema version {found}, and this program knows versions up to {latest_version()}."
            " Nothing was changed. Update Stemphony, or give another database by --db."
        )
    return found


def migrate(connection: Connection) -> int:
    """Bring the schema to the latest version, in the transaction of the connection.

    Returns
    -------
    int
        The version before.

    Raises
    ------
    MonitorError
        See `version_of`.
    """
    found = version_of(connection)
    if found == 0:
        schema.METADATA.create_all(connection, checkfirst=False)
        connection.execute(text("CREATE TABLE schema_version (version INTEGER PRIMARY KEY)"))
    else:
        for statement in (statement for change in CHANGES[found - 1 :] for statement in change):
            connection.exec_driver_sql(statement.format(**_TYPES[connection.dialect.name]))
    if found < latest_version():
        connection.execute(text("INSERT INTO schema_version VALUES (:version)"), {"version": latest_version()})
    return found
