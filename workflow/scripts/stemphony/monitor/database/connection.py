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

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from stemphony.errors import MonitorError
from stemphony.monitor.database import migrations

DATABASE_VARIABLE: Final = "STEMPHONY_MONITOR_DB"
"""Where a database URL with a password is given, so that it is in no list of processes."""

BUSY_TIMEOUT_S: Final = 10
CONNECT_TIMEOUT_S: Final = 5
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


class ServedByAnother(Exception):
    """Another monitor has the lock of the database; nothing may be written."""

    def __init__(self) -> None:
        super().__init__("another monitor serves it now; stop one of the two")


class FileGone(Exception):
    """Where the file of SQLite was there is none, or another one: what was written now would be in no database."""

    def __init__(self) -> None:
        super().__init__("its file is not there any more, or another one is in its place; put it back, or start again")


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
    writer_connections : int
        How often the latter was made. Before another one others may have written, after it nobody else does.
    """

    url: URL
    reader: Engine
    writer: Engine
    writer_connections: int = 0
    _lock: IO[str] | None = None
    _is_locked: bool = False

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
        _listen(database.writer, "connect", database._writer_connected)
        try:
            with database.reader.begin() as connection:
                found = migrations.version_of(connection)
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

        The lock of PostgreSQL lasts as long as the connection that has it, so it is the writer's own that takes it,
        each time that it is made: whoever cannot have the lock has nothing to write with, and gets ServedByAnother.

        Raises
        ------
        MonitorError
            Another one does.
        """
        taken = False
        if self.is_sqlite:
            held = os.fdopen(os.open(f"{self.url.database}.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "w")
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                held.close()
                taken = True
            else:
                self._lock = held
        else:
            self._is_locked = True
            # The connection that there may be is one without the lock.
            self.writer.dispose()
            try:
                self.writer.connect().close()
            except ServedByAnother:
                taken = True
            except DBAPIError as error:
                raise MonitorError(f"{self.name} cannot be used: {reason(error)}.") from None
        if taken:
            raise MonitorError(f"{self.name} is served by another monitor. Stop that one, or give another by --db.")

    def _writer_connected(self, connection: Any, _record: Any) -> None:
        if self._is_locked:
            try:
                found = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK_NUMBER,)).fetchone()
                connection.commit()
                if not found[0]:
                    raise ServedByAnother
            except BaseException:
                connection.close()
                raise
        self.writer_connections += 1

    def close(self) -> None:
        """Let go of the database."""
        self.reader.dispose()
        self.writer.dispose()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def reason(error: Exception) -> str:
    """The first line of what a database says, without SQL and values."""
    if isinstance(error, ServedByAnother | FileGone):
        return str(error)
    if isinstance(error, NoConnectionFree):
        return "it does not answer in time"
    if not isinstance(error, DBAPIError):
        return type(error).__name__
    lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
    return lines[0].rstrip(".")[:300]


def is_away(error: Exception) -> bool:
    """Whether the database itself is in trouble, and not what was asked of it: the same may succeed later."""
    if isinstance(error, OperationalError | InterfaceError):
        # SQLite says this also of statements that it does not understand.
        return getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    return isinstance(error, ServedByAnother | FileGone | NoConnectionFree)


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


_listen: Callable[..., None] = event.listen


def _engine(url: URL, connections: int, begin: str) -> Engine:
    if url.get_backend_name() != "sqlite":
        # A lock lasts as long as its connection, which is not made anew without need therefore.
        recycle = 1800 if connections > 1 else -1
        limit = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_TIMEOUT_S}
        return create_engine(
            url, pool_size=connections, max_overflow=0, pool_pre_ping=True, pool_recycle=recycle, connect_args=limit
        )
    file = Path(str(url.database))
    known = _identity(file)

    def require_file() -> None:
        if _identity(file) != known:
            raise FileGone

    def make() -> sqlite3.Connection:
        require_file()
        # `rw`: a file that went away just now is not made anew, empty.
        return sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False)

    def connect(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver's own idea of when a transaction begins leaves SELECTs outside.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY", "cache_size=-16000"):
            connection.execute(f"PRAGMA {pragma}")

    def start(connection: Connection) -> None:
        # A connection outlives the name of its file. It is kept, so that the number of the file is given to no other.
        require_file()
        connection.exec_driver_sql(begin)

    engine = create_engine(url, pool_size=connections, max_overflow=0, creator=make)
    _listen(engine, "connect", connect)
    _listen(engine, "begin", start)
    return engine


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
