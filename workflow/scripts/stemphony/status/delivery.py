"""How far a spool file is delivered.

Two files stand beside each spool ``name.jsonl``. ``name.delivered`` holds the position of the first line that no
receiver has acknowledged. ``name.dead_letters`` holds the events that a receiver refused permanently. The sender writes
both. After a crash it may send an event twice. The receiver recognises the second copy by its id. If events of another
simulation stand before own events, the spool ``name.other.jsonl`` holds a copy of them.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from stemphony.status.spool import lock

DELIVERED_SUFFIX: Final = ".delivered"
DEAD_LETTERS_SUFFIX: Final = ".dead_letters"
SET_APART_SUFFIX: Final = ".other.jsonl"
"""Suffixes of the files beside a spool: the position up to which it is delivered, its refused events, and its events of
other simulations."""
LARGEST_SET_APART: Final = 16 * 1024 * 1024
"""Most bytes that are set apart from one spool. They are in memory meanwhile. A job writes a few MB."""

_READ_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_WRITE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
"""Flags for reading and for writing. Links are refused, because a link may lead to a private file. With O_NONBLOCK,
opening a named pipe does not wait."""
_DIGITS: Final = 20
"""Digits of the recorded position. With a fixed number of digits, a new position replaces the old one completely. 20
digits hold every number of 64 bits."""
_FIRST_PIECE_BYTES: Final = 4096
_PIECE_BYTES: Final = 65536
"""Sizes of reads [bytes]. The first read is small, because most reads find one new event."""
_LONGEST_LINE_BYTES: Final = 4_194_304
"""Longest line of an event, with its image [bytes]. A longer line is not an event, so it is skipped in pieces of this
size."""


class Delivery:
    """Record the delivery of one spool file. No method raises. An event without a record is sent again.

    Parameters
    ----------
    spool_file : Path
        An existing spool file.
    """

    def __init__(self, spool_file: Path) -> None:
        self._delivered_file = spool_file.with_suffix(DELIVERED_SUFFIX)
        self._dead_letters_file = spool_file.with_suffix(DEAD_LETTERS_SUFFIX)
        self._descriptor: int | None = None
        self._closed = False
        self._lock = threading.Lock()

    def acknowledge(self, end: int) -> None:
        """Record that all lines up to the position `end` [bytes] need no further delivery."""
        with self._lock:
            if self._closed:
                return
            try:
                if self._descriptor is None:
                    self._descriptor = os.open(self._delivered_file, _WRITE_FLAGS, 0o666)
                # The number has a fixed length, so writing it in place replaces the older number completely.
                os.pwrite(self._descriptor, b"%0*d\n" % (_DIGITS, end), 0)
            except OSError:
                return

    def put_aside(self, event: Mapping[str, Any], what: str) -> None:
        """Record an `event` that a receiver refused permanently, with the reason `what`."""
        line = json.dumps({"refused": what, "event": dict(event)}, ensure_ascii=True).encode("ascii") + b"\n"
        try:
            descriptor = os.open(self._dead_letters_file, _WRITE_FLAGS | os.O_APPEND, 0o666)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError:
            # No record is made, but the event is still in the spool.
            return

    def close(self) -> None:
        """Close the files. Later calls record nothing."""
        with self._lock:
            self._closed = True
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


def delivered_until(spool_file: Path) -> int:
    """Return the position of the first undelivered line of `spool_file` [bytes], or 0 without a readable record."""
    try:
        noted = _read(spool_file.with_suffix(DELIVERED_SUFFIX), 0, _DIGITS + 1)
    except OSError:
        return 0
    return int(noted) if len(noted) == _DIGITS + 1 and noted[:_DIGITS].isdigit() else 0


def forget(spool_file: Path) -> None:
    """Mark all events of `spool_file` as undelivered, refused ones too. A monitor recognises events that it has.

    Raises
    ------
    OSError
        The records cannot be removed.
    """
    for suffix in (DELIVERED_SUFFIX, DEAD_LETTERS_SUFFIX):
        spool_file.with_suffix(suffix).unlink(missing_ok=True)


def is_being_sent(spool_file: Path) -> bool | None:
    """Return whether the process that writes `spool_file` is alive and sends it itself. None if this is unknown."""
    try:
        # Locks on network file systems need a file that is open for writing.
        descriptor = os.open(spool_file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        free = lock(descriptor)
    finally:
        os.close(descriptor)
    return None if free is None else not free


def read_events(spool_file: Path, begin: int = 0) -> Iterator[tuple[dict[str, Any] | None, int]]:
    """Read the complete lines of `spool_file` from the position `begin` [bytes] on.

    This includes lines that are appended meanwhile.

    Yields
    ------
    event : dict or None
        None for a line that is not an event. A full disk or a process that died leaves such a line.
    end : int
        Position of the end of the line [bytes].

    Raises
    ------
    OSError
        The file is missing, is a link, or is no ordinary file.
    """
    size, is_too_long = _FIRST_PIECE_BYTES, False
    while True:
        piece = _read(spool_file, begin, size)
        whole = piece.rfind(b"\n") + 1
        if not whole:
            if len(piece) < size:
                return
            if size < _LONGEST_LINE_BYTES:
                size *= 2
            else:
                begin, is_too_long = begin + size, True
            continue
        for line in piece[: whole - 1].split(b"\n"):
            begin += len(line) + 1
            yield None if is_too_long else _event_in(line), begin
            is_too_long = False
        size = _PIECE_BYTES


def last_event(spool_file: Path) -> dict[str, Any] | None:
    """Return the last complete event of `spool_file`, or None if there is none or the file is not readable."""
    try:
        size = spool_file.stat().st_size
        for piece in (_FIRST_PIECE_BYTES, _PIECE_BYTES):
            for line in reversed(_read(spool_file, max(0, size - piece), piece).split(b"\n")[:-1]):
                if (event := _event_in(line)) is not None:
                    return event
    except OSError:
        pass
    return None


def count_undelivered(spool_file: Path, may_send: Callable[[Mapping[str, Any]], bool] = lambda event: True) -> int:
    """Return the number of undelivered lines of `spool_file` up to the last event that may be sent.

    Events for which `may_send(event)` is false do not count. If there is no such event, damaged lines at the end count.
    The number is 0 for a file that cannot be read.
    """
    number = damaged = 0
    passed = False
    try:
        for event, _ in read_events(spool_file, delivered_until(spool_file)):
            if event is None:
                damaged += 1
            elif may_send(event):
                number, damaged = number + 1 + damaged, 0
            elif not passed:
                number, damaged, passed = number + damaged, 0, True
    except OSError:
        return 0
    return number if passed else number + damaged


def set_apart(spool_file: Path, begin: int, end: int, may_send: Callable[[Mapping[str, Any]], bool]) -> bool:
    """Copy the events between two positions of a spool file that may not be sent into another spool beside it.

    `begin` and `end` are positions in `spool_file` [bytes]. `may_send(event)` is false for the events to copy. An event
    that the other spool has already is not copied again.

    Returns
    -------
    bool
        False if the events cannot be written, or are larger than the limit.
    """
    other = spool_file.with_suffix(SET_APART_SUFFIX)
    try:
        descriptor = os.open(other, _WRITE_FLAGS | os.O_APPEND | os.O_NONBLOCK, 0o666)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return False
            size = os.fstat(descriptor).st_size
            if size + end - begin > LARGEST_SET_APART:
                return False
            if size and _read(other, size - 1, 1) != b"\n":
                _write_whole(descriptor, b"\n")  # ends the line of a process that died
            known = {_line_of(event) for event, _ in read_events(other) if event is not None}
            for event, at in read_events(spool_file, begin):
                if at > end:
                    break
                if event is not None and not may_send(event) and (line := _line_of(event)) not in known:
                    _write_whole(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return True


def _line_of(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=True).encode("ascii") + b"\n"


def _write_whole(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]


def _read(file: Path, begin: int, size: int) -> bytes:
    # The file is opened for each piece. This makes a network file system ask its server for appended lines.
    descriptor = os.open(file, _READ_FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise PermissionError(f"{file} is no ordinary file")
        return os.pread(descriptor, size, begin)
    finally:
        os.close(descriptor)


def _event_in(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None
