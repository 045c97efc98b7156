"""Copy a live database."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

from stemphony.errors import MonitorError
from stemphony.monitor.database.connection import Database


def backup(database: Database, file: Path) -> str:
    """Copy a database, even while a monitor writes to it, and check the copy.

    Returns
    -------
    str
        A line for the user about the new file.

    Raises
    ------
    MonitorError
        The file exists already or cannot be written, or the copy is damaged. There is no new file then.
    """
    if file.exists():
        raise _exists(file)
    partial = file.with_name(f".{file.name}.partial")
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        if database.is_sqlite:
            _copy_sqlite(Path(str(database.url.database)), partial)
        else:
            _dump_postgresql(database, partial)
        os.link(partial, file)
    except FileExistsError:
        raise _exists(file) from None
    except OSError as error:
        raise MonitorError(f"backup: {file} cannot be written: {error.strerror}.") from None
    except sqlite3.Error as error:
        raise MonitorError(f"backup: {database.name} cannot be copied: {error}.") from None
    finally:
        partial.unlink(missing_ok=True)
    how = "a database for --db" if database.is_sqlite else "for pg_restore"
    return f"wrote {file} ({file.stat().st_size / 1e6:.1f} MB, {how})"


def _exists(file: Path) -> MonitorError:
    return MonitorError(f"backup: {file} exists already. A backup overwrites nothing. Give another name.")


def _copy_sqlite(source: Path, copy: Path) -> None:
    with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(copy)) as new:
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE")
        (answer,) = new.execute("PRAGMA integrity_check").fetchone()
    if answer != "ok":
        raise MonitorError(f"backup: the copy is damaged ({answer}). The database itself may be damaged, too.")


def _dump_postgresql(database: Database, copy: Path) -> None:
    program = shutil.which("pg_dump")
    if program is None:
        raise MonitorError("backup: pg_dump is not installed here. Install PostgreSQL's client programs.")
    url = database.url
    environment = dict(os.environ)
    if url.password:
        environment["PGPASSWORD"] = str(url.password)
    address = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    done = subprocess.run(
        [program, "--format=custom", f"--file={copy}", f"--dbname={address}"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise MonitorError(f"backup: pg_dump says: {said[-1]}")
