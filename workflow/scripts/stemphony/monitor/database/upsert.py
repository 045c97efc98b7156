"""Insert rows that may already exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from stemphony.monitor.database.connection import Database


def insert(database: Database, table: Table) -> Any:
    """Return the INSERT statement into `table` in the dialect of the `database`, which has `on_conflict_…`."""
    return sqlite.insert(table) if database.is_sqlite else postgresql.insert(table)


class Upsert:
    """Insert rows into a `table` of the `database`, or replace rows with the same primary key.

    The statement is compiled once. SQLAlchemy itself would compile it at each call, which takes a millisecond.
    """

    def __init__(self, database: Database, table: Table) -> None:
        statement = insert(database, table)
        keys = [column.name for column in table.primary_key]
        others = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
        compiled = statement.on_conflict_do_update(index_elements=keys, set_=others).compile(
            dialect=database.writer.dialect, column_keys=[column.name for column in table.columns]
        )
        self._text = str(compiled)
        self._positions: Sequence[str] | None = compiled.positiontup

    def execute(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write `rows` in one statement. Each row has all columns by name. `connection` is an open transaction."""
        values: list[Any] = list(rows)
        if self._positions is not None:
            values = [tuple(row[name] for name in self._positions) for row in values]
        connection.exec_driver_sql(self._text, values)
