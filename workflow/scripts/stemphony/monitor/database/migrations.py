"""Create the schema of a new database, and bring the schema of an older one up to date."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, inspect, text

from stemphony.errors import MonitorError
from stemphony.monitor.database import schema

CHANGES: Final[Sequence[Sequence[str]]] = ()
"""SQL statements that lead from each version of the schema to the next version, beginning at version 1.

The list is empty until the first release. After that, a change of `schema` adds one entry here. A released entry is
never edited. The statements must run on both SQLite and PostgreSQL. `{bytes}` and `{row}` stand for types that differ
between the two.
"""

_TYPES: Final = {
    "sqlite": {"bytes": "BLOB", "row": "INTEGER"},
    "postgresql": {"bytes": "BYTEA", "row": "BIGINT"},
}
"""Types that replace `{bytes}` and `{row}` in `CHANGES`, for each database."""


def latest_version() -> int:
    """Return the version of `schema`."""
    return 1 + len(CHANGES)


def version_of(connection: Connection) -> int:
    """Return the version of the schema in the database of `connection`, 0 for an empty database.

    Raises
    ------
    MonitorError
        The tables belong to another program, or to a later version of this one.
    """
    names = inspect(connection).get_table_names()
    if "schema_version" not in names:
        if set(names) & schema.METADATA.tables.keys():
            raise MonitorError(
                "another program has made tables with Stemphony's names in this database. Give another one by --db."
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
    """Bring the schema to the latest version, in the transaction of `connection`.

    Returns
    -------
    int
        The version of the schema before the migration.

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
