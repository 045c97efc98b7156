"""Events on disk: one file of JSON lines for each writer, and the marker that decides which job reports a defocus.

The lines hold neither the URL nor credentials nor custom parameters. A reader of a spool skips a line that is not
complete JSON. A killed process or a full disk leaves such a line.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
import uuid
from pathlib import Path
from typing import Final

from stemphony.paths import job_folder

_FILE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
"""Flags of a new file. It must not exist, not even as a link, and child processes do not inherit it."""
_DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
"""Errors after which the next line is tried, because somebody may make room. After other errors, no line is tried."""
_MAX_NAMESAKES: Final = 9
"""Highest number in the name of a spool whose plain name is taken. Each attempt of a job has its own plain name, so one
is normally free."""
_LOCK_TRIES: Final = 5
"""Tries to lock a new spool, with pauses of 1 ms. A process that only tests the lock holds it for a shorter time."""


def spool_file_of(reports_dir: Path, job: str, attempt: int) -> Path:
    """Return the spool of one attempt of a job: ``<job>.attempt-<a>.jsonl``, with dots for slashes.

    `reports_dir` is the folder of the run's reports. `job` is the name of the job, and `attempt` the number of the
    attempt.
    """
    name = re.sub(r"[^A-Za-z0-9_-]+", ".", job)
    return reports_dir / job_folder(name) / f"{name}.attempt-{attempt}.jsonl"


class Spool:
    """Append lines to a file that only this object writes. No method raises; `failures` counts errors.

    The first line creates the file. If the file exists, the spool is ``name.1.jsonl`` and so on, because
    two writers of one file would damage each other's lines.

    Parameters
    ----------
    path : Path
        Wanted name. A missing folder is created.
    hold : bool
        Hold a lock on the file while it is open. The lock shows that this process sends the events itself.

    Attributes
    ----------
    path : Path
        Name of the file in use.
    end : int
        Position of the end of the last line [bytes].
    failures : int
        Number of lines that are not completely on the disk.
    trouble : str
        Class and code of the first error, without the path.
    """

    def __init__(self, path: Path, *, hold: bool = False) -> None:
        self.path = path
        self.end = 0
        self._hold = hold
        self.failures = 0
        self.trouble = ""
        self._descriptor: int | None = None
        self._given_up = False
        self._torn = False

    def append(self, line: bytes, *, durable: bool = False) -> bool:
        """Append one line.

        Parameters
        ----------
        line : bytes
            The line without its line end.
        durable : bool
            Wait until the line is on the disk.

        Returns
        -------
        bool
            False if the line was not written. After a full disk, the spool tries to write the next line. After any
            other error, it writes no further line.
        """
        if self._given_up:
            self.failures += 1
            return False
        try:
            if self._descriptor is None:
                self._descriptor = self._open()
            self._write(self._descriptor, line + b"\n")
            if durable:
                os.fsync(self._descriptor)
        except OSError as error:
            self.failures += 1
            self.trouble = self.trouble or _name_of(error)
            self._given_up = error.errno not in _DISK_FULL
            return False
        return True

    def close(self) -> None:
        """Close the file. Later lines count as failures."""
        self._given_up = True
        if self._descriptor is not None:
            try:
                os.close(self._descriptor)
            except OSError as error:
                self.trouble = self.trouble or _name_of(error)
            self._descriptor = None

    @property
    def met_full_disk(self) -> bool:
        """Whether lines are missing only because the disk was full."""
        return self.failures > 0 and not self._given_up

    def _open(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        wanted = self.path
        for namesake in range(1, _MAX_NAMESAKES + 1):
            try:
                return self._create(self.path)
            except FileExistsError:
                self.path = wanted.with_name(f"{wanted.stem}.{namesake}{wanted.suffix}")
        return self._create(self.path)

    def _create(self, path: Path) -> int:
        descriptor = os.open(path, _FILE_FLAGS, 0o666)
        if self._hold:
            for _ in range(_LOCK_TRIES):
                if lock(descriptor) is not False:
                    break
                # Another process tests the lock at this moment, and holds it meanwhile.
                time.sleep(0.001)
        return descriptor

    def _write(self, descriptor: int, data: bytes) -> None:
        if self._torn:
            data = b"\n" + data
        rest = memoryview(data)
        while rest:
            written = os.write(descriptor, rest)
            self.end += written
            self._torn = written < len(rest)
            rest = rest[written:]


def lock(descriptor: int) -> bool | None:
    """Lock the open file `descriptor` without waiting. The lock ends with the process, even after SIGKILL.

    Returns
    -------
    bool or None
        True: locked. False: another process holds it. None: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def count_lines(spool_file: Path) -> int:
    """Return the number of complete lines in `spool_file`, or 0 if there is no file."""
    try:
        return spool_file.read_bytes().count(b"\n")
    except OSError:
        return 0


def claim(marker_file: Path, line: bytes) -> bool | None:
    """Claim an event that only one process may report. The marker is a hard link to a file with the event.

    The link appears with the complete event or not at all, also on NFS. So the event is not lost if this process dies
    directly after the claim.

    Parameters
    ----------
    marker_file : Path
        The same path for all processes that may claim the event.
    line : bytes
        The event.

    Returns
    -------
    bool or None
        True: this process reports the event. False: another process reports it. None: this is unknown.
    """
    temporary = marker_file.with_name(f".{marker_file.name}.{uuid.uuid4().hex}.tmp")
    try:
        if marker_file.exists():
            return False
        marker_file.parent.mkdir(parents=True, exist_ok=True)
        try:
            _create(temporary, line)
            os.link(temporary, marker_file)
        except FileExistsError:
            # An NFS server whose first answer was lost reports our own link as existing.
            return temporary.stat().st_nlink == 2
        except OSError:
            # The file system has no hard links, or the disk is full. An empty marker needs no room on the disk.
            return _claim_without_link(marker_file, line)
        return True
    except OSError:
        return None
    finally:
        _remove(temporary)


def _claim_without_link(marker_file: Path, line: bytes) -> bool:
    try:
        _create(marker_file, line)
    except FileExistsError:
        return False
    return True


def _create(path: Path, line: bytes) -> None:
    descriptor = os.open(path, _FILE_FLAGS, 0o666)
    try:
        rest = memoryview(line + b"\n")
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _name_of(error: OSError) -> str:
    return f"{type(error).__name__} {errno.errorcode.get(error.errno or 0, '')}".strip()
