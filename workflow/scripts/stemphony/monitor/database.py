"""The database: SQLite in a file on a local disk, or PostgreSQL by URL."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from stemphony.errors import MonitorError

from . import migrations

DATABASE_VARIABLE: Final = "STEMPHONY_MONITOR_DB"
"""Where a database URL with a password is given, so that it is in no list of processes."""

BUSY_TIMEOUT_S: Final = 10
READERS: Final = 8
# "STEM" in ASCII: two monitors of one PostgreSQL database would count twice.
_LOCK_NUMBER: Final = 0x5354454D
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        "9p", "acfs", "afs", "afpfs", "beegfs", "ceph", "cifs", "davfs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs",
        "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2",
        "smb3", "smbfs", "wekafs",
    }
)  # fmt: skip


def default_file() -> Path:
    """Where the database is when nothing else is said."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "stemphony" / "monitor.sqlite"


def database_url(given: str | None) -> URL:
    """Read the URL of a database: that given, else that of the environment, else the default file.

    Raises
    ------
    MonitorError
        It is neither a file nor a URL of SQLite or PostgreSQL. The text is in no message: it may hold a password.
    """
    wanted = given or os.environ.get(DATABASE_VARIABLE) or str(default_file())
    allowed = "Give a file, sqlite:///FILE, or postgresql://USER:PASSWORD@HOST/DATABASE."
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", wanted):
        return URL.create("sqlite", database=str(Path(wanted).expanduser().absolute()))
    try:
        url = make_url(wanted)
    except (ArgumentError, ValueError):
        raise MonitorError(f"--db is not the URL of a database. {allowed}") from None
    kind = url.get_backend_name()
    if kind == "sqlite":
        if not url.database or url.database == ":memory:":
            raise MonitorError("--db names no file, and events in memory alone would be lost. Give sqlite:///FILE.")
        return URL.create("sqlite", database=str(Path(url.database).absolute()))
    if kind in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    raise MonitorError(f"--db has the scheme {kind!r}. {allowed}")


def file_system_of(path: Path, mounts: str) -> str:
    """Type of the file system that a path is on, from the text of /proc/self/mountinfo; empty if it does not say."""
    best, kind = "", ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        if len(fields) > 4 and right:
            point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])
            inside = path.as_posix() == point or path.as_posix().startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, right.split()[0]
    return kind


def refuse_network_file_system(file: Path) -> None:
    """SQLite's write-ahead log needs memory that processes share, which no network file system has."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    folder = file.parent.resolve()
    kind = file_system_of(folder, mounts)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise MonitorError(
            f"{folder} is on a network file system ({kind}), where SQLite may lose events. Give a file on a local disk"
            " by --db, for example --db /var/tmp/monitor.sqlite, or a PostgreSQL database."
        )


@dataclass
class Database:
    """An open database whose schema is of this version or an earlier one.

    Attributes
    ----------
    reader, writer : Engine
        Connections for reading, and the one for writing.
    """

    url: URL
    reader: Engine
    writer: Engine
    _lock: IO[str] | Connection | None = None

    @classmethod
    def open(cls, given: str | None, create: bool = True) -> Self:
        """Open a database. An empty one gets the schema, if `create`; one that has a schema is left as it is.

        Raises
        ------
        MonitorError
            It cannot be opened, is none of ours or of a later version, or its place is not fit for it; or it is empty,
            and nothing is to be created.
        """
        url = database_url(given)
        if url.get_backend_name() == "sqlite":
            _prepare_file(Path(str(url.database)), create)
        elif importlib.util.find_spec("psycopg") is None:
            raise MonitorError(
                "PostgreSQL needs the package psycopg, not installed here. Do: pip install psycopg[binary]"
            )
        database = cls(url, _engine(url, READERS, "BEGIN"), _engine(url, 1, "BEGIN IMMEDIATE"))
        try:
            with database.reader.begin() as connection:
                found = migrations.known_version_of(connection)
            if found == 0 and not create:
                raise MonitorError(f"{database.name} is empty. Give the one that the monitor uses by --db.")
            if found == 0:
                database.migrate()
        except DBAPIError as error:
            database.close()
            raise MonitorError(f"{database.name} cannot be used: {reason(error)}.") from None
        except BaseException:
            database.close()
            raise
        return database

    def migrate(self) -> None:
        """Bring the schema to this version; whoever serves a database does so, once it is locked.

        Raises
        ------
        MonitorError
            It cannot be written, or is of a later version.
        """
        try:
            with self.writer.begin() as connection:
                migrations.migrate(connection)
        except DBAPIError as error:
            raise MonitorError(f"{self.name} cannot be used: {reason(error)}.") from None

    @staticmethod
    def exists(given: str | None) -> bool:
        """Whether there may be something to open: a file of SQLite is there, or a server has it."""
        url = database_url(given)
        return url.get_backend_name() != "sqlite" or Path(str(url.database)).exists()

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of SQLite."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def name(self) -> str:
        """What messages call it; without a password."""
        return f"the database {self.url.database if self.is_sqlite else self.url.render_as_string(hide_password=True)}"

    def lock(self) -> None:
        """See that no second monitor writes to this database as long as this process lives.

        Raises
        ------
        MonitorError
            Another one does.
        """
        if self.is_sqlite:
            held = os.fdopen(os.open(f"{self.url.database}.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "w")
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                held.close()
                taken = True
            else:
                self._lock, taken = held, False
        else:
            connection = self.reader.connect()
            question = text("SELECT pg_try_advisory_lock(:number)")
            taken = not connection.execute(question, {"number": _LOCK_NUMBER}).scalar()
            connection.commit()
            if taken:
                connection.close()
            else:
                self._lock = connection
        if taken:
            raise MonitorError(f"{self.name} is served by another monitor. Stop that one, or give another by --db.")

    def close(self) -> None:
        """Let go of the database."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        self.reader.dispose()
        self.writer.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def reason(error: DBAPIError) -> str:
    """The first line of what a database says, without SQL and values."""
    lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
    return lines[0].rstrip(".")[:300]


def _prepare_file(file: Path, create: bool) -> None:
    if not create and not file.exists():
        raise MonitorError(f"there is no database {file}. Give the one that the monitor uses by --db.")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_network_file_system(file)
        # Made here, so that neither it nor the files that SQLite puts beside it can be read by others.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise MonitorError(f"{file} cannot be written: {error.strerror}. Give another file by --db.") from None


def _engine(url: URL, connections: int, begin: str) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_size=connections, max_overflow=0, pool_pre_ping=True, pool_recycle=1800)
    engine = create_engine(
        url, pool_size=connections, max_overflow=0, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}
    )

    def connect(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver's own idea of when a transaction begins leaves SELECTs outside.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY", "cache_size=-16000"):
            connection.execute(f"PRAGMA {pragma}")

    listen: Callable[..., None] = event.listen
    listen(engine, "connect", connect)
    listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine
