"""Open the database: SQLite in a file on a local disk, or PostgreSQL by URL."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
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
"""Environment variable with the URL of the database. A password in it does not appear in the list of processes."""

BUSY_TIMEOUT_S: Final = 2
"""Longest wait of a statement for a lock of another process, such as `stemphony monitor token` [s].

A sender gives up after 5 s. This wait is shorter, so that the sender gets status 503.
"""

STATEMENT_S: Final = 10
"""Longest time of a query. PostgreSQL ends a query that takes longer [s]."""

FREE_CONNECTION_S: Final = 2
"""Longest wait of a request for a free connection for reading [s]."""

CONNECT_TIMEOUT_S: Final = 5
"""Longest time to connect to PostgreSQL [s]. A `connect_timeout` in the URL overrides this value."""

READERS: Final = 12
"""Number of connections for reading."""

_LOCK_NUMBER: Final = 0x5354454D
"""Number of the advisory lock in PostgreSQL, "STEM" in ASCII. Only one monitor may write to a database."""

_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {
        "9p", "acfs", "afs", "afpfs", "beegfs", "ceph", "cifs", "davfs", "fuse.ceph", "fuse.glusterfs", "fuse.s3fs",
        "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2",
        "smb3", "smbfs", "wekafs",
    }
)  # fmt: skip
"""Types of network file systems in /proc/self/mountinfo. On these, SQLite may lose events."""


_KEYWORDS: Final = re.compile(
    r"\b(host|hostaddr|port|dbname|user|password|passfile|service|sslmode)\s*=", re.IGNORECASE
)
"""A keyword of a connection string of libpq. Such a string is not a URL, and it may hold a password."""


class ServedByAnother(Exception):
    """Another monitor has the lock of the database, so this one must not write."""

    def __init__(self) -> None:
        super().__init__("another monitor serves it now; stop one of the two")


class FileGone(Exception):
    """The file of SQLite is missing, or another file has its name. Events written now would be lost."""

    def __init__(self) -> None:
        super().__init__("its file is missing, or another file is in its place; put it back, or restart the monitor")


def default_file() -> Path:
    """Return the default file of the database, below XDG_DATA_HOME or ~/.local/share.

    Raises
    ------
    MonitorError
        The user has no home folder.
    """
    base = os.environ.get("XDG_DATA_HOME")
    try:
        folder = Path(base) if base else Path.home() / ".local" / "share"
    except RuntimeError:
        # A container may run under a number for which the system has no user.
        raise MonitorError("this user has no home folder. Give the file of the database by --db.") from None
    return folder / "stemphony" / "monitor.sqlite"


def database_url(given: str | None) -> URL:
    """Return the URL of a database: `given`, else that of the environment, else the default file.

    `given` is a file or a URL, as the option `--db` takes it.

    Raises
    ------
    MonitorError
        It is neither a file nor a URL of SQLite or PostgreSQL. The message does not show it, because it may contain a
        password.
    """
    wanted = given or os.environ.get(DATABASE_VARIABLE) or str(default_file())
    allowed = "Give a file, sqlite:///FILE, or postgresql://USER:PASSWORD@HOST/DATABASE."
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", wanted):
        if _KEYWORDS.search(wanted):
            # Without this check, the text would count as a file name, and messages would show its password.
            raise MonitorError(f"--db is a connection string of keywords, such as host=…. {allowed}")
        try:
            return URL.create("sqlite", database=str(Path(wanted).expanduser().absolute()))
        except RuntimeError:
            raise MonitorError(f"--db {wanted}: there is no such home folder. Give the whole path.") from None
    try:
        url = make_url(wanted)
    except (ArgumentError, ValueError):
        raise MonitorError(f"--db is not the URL of a database. {allowed}") from None
    kind = url.get_backend_name()
    if kind == "sqlite":
        if not url.database or url.database == ":memory:":
            raise MonitorError("--db names no file, and a database in memory loses its events. Give sqlite:///FILE.")
        return URL.create("sqlite", database=str(Path(url.database).absolute()))
    if kind in ("postgresql", "postgres"):
        if "@" in f"{url.host}{url.database}":
            # A part of the password would count as the host, and messages would show it.
            raise MonitorError("--db: it is not clear where the password ends. Write @ as %40 in it, and : as %3A.")
        return url.set(drivername="postgresql+psycopg")
    raise MonitorError(f"--db has the scheme {kind!r}. {allowed}")


def file_system_of(path: Path, mounts: str) -> str:
    """Return the type of the file system of an absolute `path`.

    `mounts` is the text of /proc/self/mountinfo. The result is empty if the path is in none of its entries.
    """
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
    """Refuse a `file` on a network file system, because SQLite's write-ahead log needs shared memory.

    Raises
    ------
    MonitorError
        The file is on such a file system.
    """
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
    """An open database whose schema has this version or an earlier one.

    Attributes
    ----------
    url : URL
        Address with the password, which messages must not show.
    reader, writer : Engine
        Connections for reading, and one connection for writing.
    writer_connections : int
        How often the connection for writing was made. Before each time, another monitor may have written.
    """

    url: URL
    reader: Engine
    writer: Engine
    writer_connections: int = 0
    _lock: IO[str] | None = None
    _is_locked: bool = False

    @classmethod
    def open(cls, given: str | None, create: bool = True) -> Self:
        """Open a database.

        Parameters
        ----------
        given : str or None
            File or URL; see `database_url`.
        create : bool
            Whether to create the schema in an empty database. An existing schema stays unchanged.

        Returns
        -------
        Database
            An open database. Its caller closes it.

        Raises
        ------
        MonitorError
            The database cannot be opened, belongs to another program or a later version, or is on a network file
            system. Or the database is empty and `create` is False.
        """
        url = database_url(given)
        if url.get_backend_name() == "sqlite":
            _prepare_file(Path(str(url.database)), create)
        elif importlib.util.find_spec("psycopg") is None:
            raise MonitorError(
                "PostgreSQL needs the package psycopg, not installed here. Run: pip install psycopg[binary]"
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
            raise _unusable(database.name, error) from None
        except BaseException:
            database.close()
            raise
        return database

    def migrate(self) -> None:
        """Bring the schema to the latest version. A monitor calls this when it has the lock.

        Raises
        ------
        MonitorError
            The database cannot be written, or has a later version.
        """
        try:
            with self.writer.begin() as connection:
                migrations.migrate(connection)
        except DBAPIError as error:
            raise _unusable(self.name, error) from None

    def require_present_schema(self) -> None:
        """Check that the schema has the latest version.

        Raises
        ------
        MonitorError
            The schema has an earlier version. A monitor of this version brings it up to date.
        """
        with self.reader.begin() as connection:
            found = migrations.version_of(connection)
        if found < migrations.latest_version():
            raise MonitorError(
                f"{self.name} belongs to an earlier version of Stemphony. Start the monitor of this version once."
            )

    @staticmethod
    def exists(given: str | None) -> bool:
        """Return whether the file of SQLite exists. True for PostgreSQL, where only the server knows.

        `given` is the value of `--db`, see `database_url`.
        """
        url = database_url(given)
        return url.get_backend_name() != "sqlite" or Path(str(url.database)).exists()

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a file of SQLite."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def name(self) -> str:
        """The name in messages. Several parts of a URL may hold a password, so the name has only host and database."""
        if self.is_sqlite:
            return f"the database {self.url.database}"
        host = self.url.host or "local socket"
        return (
            f"the PostgreSQL database {self.url.database or ''} on {host}{f':{self.url.port}' if self.url.port else ''}"
        )

    @contextlib.contextmanager
    def changing(self) -> Iterator[Connection]:
        """Give a connection whose changes are stored at the end of the block.

        Raises
        ------
        MonitorError
            The database does not accept the changes.
        """
        try:
            with self.writer.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise MonitorError(f"{self.name} cannot be changed: {reason(error)}. Nothing was changed.") from None

    def lock(self) -> None:
        """Keep other monitors from writing to this database while this process lives.

        A lock in PostgreSQL ends with its connection. So the connection for writing takes the lock itself, each time
        that it is made. If another monitor has the lock, making the connection fails with `ServedByAnother`.

        Raises
        ------
        MonitorError
            Another monitor has the lock.
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
            # A connection that was made before does not have the lock, so a new one is needed.
            self.writer.dispose()
            try:
                self.writer.connect().close()
            except ServedByAnother:
                taken = True
            except DBAPIError as error:
                raise _unusable(self.name, error) from None
        if taken:
            raise MonitorError(
                f"{self.name} is served by another monitor. Stop that one, or give another database by --db."
            )

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
        """Close all connections and give up the lock."""
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


def _unusable(name: str, error: Exception) -> MonitorError:
    return MonitorError(
        f"{name} cannot be used: {reason(error)}. Check that it runs and that you may write it, or give another "
        "database by --db."
    )


def reason(error: Exception) -> str:
    """Return the first line of `error`, which the database has caused, without SQL and values."""
    if isinstance(error, ServedByAnother | FileGone):
        return str(error)
    if isinstance(error, NoConnectionFree):
        return "it does not answer in time"
    if not isinstance(error, DBAPIError):
        return type(error).__name__
    lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
    return lines[0].rstrip(".")[:300]


def is_away(error: Exception) -> bool:
    """Return whether `error` shows that the database failed and not the statement.

    Then the same statement may succeed later.
    """
    if isinstance(error, OperationalError | InterfaceError):
        # SQLite raises the same class of error for a statement that it does not understand.
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
        # With this mode, other users can read neither this file nor those that SQLite creates beside it.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise MonitorError(f"{file} cannot be written: {error.strerror}. Give another file by --db.") from None


_listen: Callable[..., None] = event.listen


def _engine(url: URL, connections: int, begin: str) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, connections, begin)
    return _postgresql_engine(url, connections)


def _postgresql_engine(url: URL, connections: int) -> Engine:
    # The lock ends with the connection for writing, so the pool must not replace this connection.
    recycle = 1800 if connections > 1 else -1
    limit = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_TIMEOUT_S}
    engine = create_engine(
        url, pool_size=connections, max_overflow=0, pool_pre_ping=True, pool_recycle=recycle, connect_args=limit,
        pool_timeout=FREE_CONNECTION_S,
    )  # fmt: skip
    _listen(engine, "connect", _limit_waits_of_readers if connections > 1 else _limit_waits)
    return engine


def _limit_waits(connection: Any, _record: Any) -> None:
    connection.execute(f"SET lock_timeout = '{BUSY_TIMEOUT_S}s'")
    connection.commit()


def _limit_waits_of_readers(connection: Any, record: Any) -> None:
    # A change of the schema, through the connection for writing, may take longer.
    connection.execute(f"SET statement_timeout = '{STATEMENT_S}s'")
    _limit_waits(connection, record)


def _sqlite_engine(url: URL, connections: int, begin: str) -> Engine:
    path = Path(str(url.database))
    file = _SqliteFile(path, _identity(path), begin)
    engine = create_engine(
        url, pool_size=connections, max_overflow=0, creator=file.connected, pool_timeout=FREE_CONNECTION_S
    )  # fmt: skip
    _listen(engine, "connect", file.prepare)
    _listen(engine, "begin", file.start)
    return engine


@dataclass(frozen=True)
class _SqliteFile:
    """Makes connections to a SQLite file as long as its name belongs to the same file.

    Attributes
    ----------
    path : Path
        The file.
    known : (int, int) or None
        Identity of the file when the engine was made.
    begin : str
        SQL that begins a transaction.
    """

    path: Path
    known: tuple[int, int] | None
    begin: str

    def require(self) -> None:
        """Raise FileGone if the name now belongs to another file, or to none."""
        if _identity(self.path) != self.known:
            raise FileGone

    def connected(self) -> sqlite3.Connection:
        self.require()
        # `rw` does not create a file that has just disappeared.
        address = f"{self.path.as_uri()}?mode=rw"
        return sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False)

    def prepare(self, connection: sqlite3.Connection, _record: Any) -> None:
        # The driver's own transactions would not include SELECT.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "temp_store=MEMORY", "cache_size=-16000"):
            connection.execute(f"PRAGMA {pragma}")

    def start(self, connection: Connection) -> None:
        # A connection also works after its file was renamed or deleted, so the name is checked again. While the
        # connection is open, no new file can get the same inode number.
        self.require()
        connection.exec_driver_sql(self.begin)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
