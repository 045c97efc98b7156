"""Events on disk: one file of JSON lines per writer, and the marker that decides who reports a defocus.

The lines hold neither the URL nor credentials nor custom parameters. Whoever reads a spool skips a line
that is not complete JSON: the last one of a process that was killed, or one that met a full disk.
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
_DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_MAX_NAMESAKES: Final = 9
_LOCK_TRIES: Final = 5


def spool_file_of(reports_dir: Path, job: str, attempt: int) -> Path:
    """Name the spool of one attempt of a job: ``<job>.attempt-<a>.jsonl``, slashes turned to dots, by defocus."""
    name = re.sub(r"[^A-Za-z0-9_-]+", ".", job)
    return reports_dir / job_folder(name) / f"{name}.attempt-{attempt}.jsonl"


class Spool:
    """Append lines to a file that only this object writes. No method raises; what goes wrong is counted.

    The file is made at the first line, with mode 0600 and never over an existing one: then ``name.1.jsonl``
    and so on are tried, because two writers of one file would tear each other's lines.

    Parameters
    ----------
    path : Path
        Wanted name. A missing folder is made, with mode 0700.
    hold : bool
        Hold a lock on the file for as long as it is open: this process sends what is in it.

    Attributes
    ----------
    path : Path
        Name of the file in use.
    end : int
        Where the last line ends [bytes].
    failures : int
        Lines that are not, or not completely, on disk.
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
            Without its line end.
        durable : bool
            Wait until the disk has it.

        Returns
        -------
        bool
            False if it could not be written. A full disk is tried again with the next line, anything else
            is not.
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
        """Close the file; later lines are counted as failures."""
        self._given_up = True
        if self._descriptor is not None:
            try:
                os.close(self._descriptor)
            except OSError as error:
                self.trouble = self.trouble or _name_of(error)
            self._descriptor = None

    @property
    def met_full_disk(self) -> bool:
        """Whether lines are missing because there was no room for them, and not for another reason."""
        return self.failures > 0 and not self._given_up

    def _open(self) -> int:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        wanted = self.path
        for namesake in range(1, _MAX_NAMESAKES + 1):
            try:
                return self._create(self.path)
            except FileExistsError:
                self.path = wanted.with_name(f"{wanted.stem}.{namesake}{wanted.suffix}")
        return self._create(self.path)

    def _create(self, path: Path) -> int:
        descriptor = os.open(path, _FILE_FLAGS, 0o600)
        if self._hold:
            for _ in range(_LOCK_TRIES):
                if lock(descriptor) is not False:
                    break
                # Somebody looks just now whether the file is held.
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
    """Lock an open file without waiting; the lock ends with the process, however that ends.

    Returns
    -------
    bool or None
        True: locked. False: another process holds it. None: the file system knows no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def count_lines(spool_file: Path) -> int:
    """Number of events in a spool file, 0 without one; a torn last line is none."""
    try:
        return spool_file.read_bytes().count(b"\n")
    except OSError:
        return 0


def claim(marker_file: Path, line: bytes) -> bool | None:
    """Claim an event that must be reported once, by linking a file that holds the event to the marker's name.

    The link appears complete or not at all, on NFS too, and still tells the event if the claimant dies
    right after.

    Parameters
    ----------
    marker_file : Path
        The same for all who may claim.
    line : bytes
        The event.

    Returns
    -------
    bool or None
        True: this process reports it. False: another one does. None: the file system does not say.
    """
    temporary = marker_file.with_name(f".{marker_file.name}.{uuid.uuid4().hex}.tmp")
    try:
        if marker_file.exists():
            return False
        marker_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _create(temporary, line)
            os.link(temporary, marker_file)
        except FileExistsError:
            # An NFS server that lost its first answer says so of our own link.
            return temporary.stat().st_nlink == 2
        except OSError:
            # No hard links here, or a full disk, where an empty marker still fits.
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
    descriptor = os.open(path, _FILE_FLAGS, 0o600)
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
