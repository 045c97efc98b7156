"""Copy a live database, and check the copy before it gets its name."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from sqlalchemy import URL, func, select
from sqlalchemy.exc import DBAPIError

from stemphony.counting import number_of
from stemphony.errors import MonitorError
from stemphony.monitor.database import schema
from stemphony.monitor.database.connection import Database, reason

_NO_HARD_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""Errors of a file system that has no hard links. The backup then gets its name in another way."""


_SECRETS: Final = ("sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
"""Keywords of libpq that hold a secret and have no environment variable. `password` has a variable."""

_SERVICE: Final = "stemphony"
"""Name of the section in the service file of libpq that carries the secrets of a connection to pg_dump."""


def backup(database: Database, file: Path) -> str:
    """Copy `database` into `file`, even while a monitor writes to it, and check the copy.

    The copy is made in a new folder that only this user can enter. After the check it gets its final name, unless a
    file or link of this name exists by then.

    Returns
    -------
    str
        A line for the user about the new file.

    Raises
    ------
    MonitorError
        The file exists already or cannot be written, or the copy is damaged or lacks events. Then no new file is left.
    """
    if os.path.lexists(file):
        raise _exists(file)
    try:
        with tempfile.TemporaryDirectory(prefix=".stemphony-backup-", dir=file.parent) as private:
            copy = Path(private) / "copy"
            os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            latest, before = _events(database, None)
            if database.is_sqlite:
                number, copied = _copy_sqlite(Path(str(database.url.database)), copy, latest)
            else:
                number, copied = _dump_postgresql(database, copy, latest)
            # Later events have larger rows. So this number can only become smaller, if events are deleted meanwhile.
            _, after = _events(database, latest)
            if not after <= copied <= before:
                raise MonitorError(f"backup: the copy has {copied} of {before} events. It was not kept. Try again.")
            _name(copy, file)
    except FileExistsError:
        raise _exists(file) from None
    except OSError as error:
        raise MonitorError(
            f"backup: {file} cannot be written: {error.strerror or error}. Give a file in a folder that exists, is "
            "writable for you and has enough space."
        ) from None
    except sqlite3.Error as error:
        raise MonitorError(
            f"backup: {database.name} cannot be copied: {error}. Check that it is the monitor's database and readable "
            "for you."
        ) from None
    except DBAPIError as error:
        raise MonitorError(
            f"backup: {database.name} cannot be read: {reason(error)}. Check that it is the monitor's database and "
            "that it answers."
        ) from None
    how = "a database for --db" if database.is_sqlite else "for pg_restore"
    return f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB, {number_of(number, 'event')}, {how})"


def _exists(file: Path) -> MonitorError:
    return MonitorError(f"backup: {file} exists already. A backup overwrites nothing. Give another name.")


def _name(copy: Path, file: Path) -> None:
    """Give a complete file its final name, and fail if this name exists already."""
    with copy.open("rb") as complete:
        os.fsync(complete.fileno())
    try:
        os.link(copy, file, follow_symlinks=False)
        return
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as target, copy.open("rb") as complete:
            shutil.copyfileobj(complete, target)
            target.flush()
            os.fsync(target.fileno())
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _events(database: Database, until: int | None) -> tuple[int, int]:
    """Return the largest row of an event, and the number of events up to the row `until`. None counts all events."""
    table = schema.EVENT.c
    with database.reader.begin() as connection:
        latest = int(connection.execute(select(func.max(table.row))).scalar() or 0)
        question = (
            select(func.count()).select_from(schema.EVENT).where(table.row <= (latest if until is None else until))
        )
        return latest, int(connection.execute(question).scalar() or 0)


def _copy_sqlite(source: Path, copy: Path, latest: int) -> tuple[int, int]:
    """Copy the database and check the copy. Return the number of all events, and of events up to the row `latest`."""
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(copy)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE")
        (answer,) = new.execute("PRAGMA integrity_check").fetchone()
        if answer != "ok":
            raise MonitorError(f"backup: the copy is damaged ({answer}). The database itself may be damaged, too.")
        (number,) = new.execute("SELECT count(*) FROM event").fetchone()
        (copied,) = new.execute("SELECT count(*) FROM event WHERE row <= ?", (latest,)).fetchone()
    return int(number), int(copied)


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MonitorError(f"backup: {name} is not installed here. Install PostgreSQL's client programs.")
    return found


def _without_secrets(url: URL, service: Path) -> tuple[str, dict[str, str]]:
    """Return an address without secrets, and an environment with the secrets.

    The address is an argument of a program, and all users can read the arguments in the list of processes.

    Parameters
    ----------
    service : Path
        A file for further secrets, in a folder that only this user can enter. libpq reads it.
    """
    environment = dict(os.environ)
    address = url.set(drivername="postgresql", password=None)
    if password := url.query.get("password") or url.password:
        environment["PGPASSWORD"] = str(password)
    kept = {name: str(url.query[name]) for name in _SECRETS if name in url.query}
    address = address.difference_update_query(["password", *kept])
    if kept:
        lines = [f"[{_SERVICE}]", *(f"{name}={value}" for name, value in kept.items())]
        if "service" in url.query or any("\n" in line for line in lines):
            raise MonitorError(f"backup: give {' and '.join(kept)} in the file of your service, not in --db.")
        descriptor = os.open(service, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write("\n".join(lines) + "\n")
        environment["PGSERVICEFILE"] = str(service)
        address = address.update_query_dict({"service": _SERVICE})
    return address.render_as_string(hide_password=False), environment


def _dump_postgresql(database: Database, copy: Path, latest: int) -> tuple[int, int]:
    """Dump the database, and read the events of the dump again. Returns the same as `_copy_sqlite`."""
    address, environment = _without_secrets(database.url, copy.with_name("service"))
    done = subprocess.run(
        [_program("pg_dump"), "--format=custom", f"--file={copy}", f"--dbname={address}"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise MonitorError(f"backup: pg_dump says: {said[-1]}")
    read = [_program("pg_restore"), "--data-only", "--table=event", "--file=-", str(copy)]
    number = copied = 0
    is_data = False
    with subprocess.Popen(read, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not is_data:
                is_data = line.startswith(b"COPY ")
            elif line == b"\\.\n":
                is_data = False
            else:
                number += 1
                copied += int(line.split(b"\t", 1)[0]) <= latest
    if process.returncode != 0:
        raise MonitorError("backup: pg_restore cannot read the dump. It was not kept. Try again.")
    return number, copied
