"""Read files in a results folder, which may come from another person.

Reading a named pipe would never end. A sparse file is small on the disk, but may be larger than the memory.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Final

LARGEST_BYTES: Final = 32_000_000
"""Largest file that is read as a whole [bytes]. The largest plans have a few MB."""

END_BYTES: Final = 262_144
"""How much is read from the end of a log [bytes]."""

_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


def open_file(file: Path) -> BufferedReader:
    """Open the ordinary `file` for reading bytes.

    Raises
    ------
    OSError
        The file cannot be read, or it is a pipe, a device or a folder.
    """
    descriptor = os.open(file, _FLAGS)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no ordinary file", str(file))
    return os.fdopen(descriptor, "rb")


def read_bytes(file: Path, most: int = LARGEST_BYTES) -> bytes:
    """Return the content of `file`, which has at most `most` bytes.

    Raises
    ------
    OSError
        The file cannot be read, is no ordinary file, or is larger.
    """
    with open_file(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"{size} bytes, and at most {most} are read", str(file))
        # `size` and not `most`, because Python reserves memory for all the bytes that it is asked for.
        return stream.read(size)


def read_text(file: Path, encoding: str = "utf-8", most: int = LARGEST_BYTES) -> str:
    """Return the text of `file`, which has at most `most` bytes and this `encoding`.

    Raises
    ------
    OSError
        See `read_bytes`.
    UnicodeDecodeError
        The file is not text in this encoding.
    """
    return read_bytes(file, most).decode(encoding)


def read_end(file: Path, most: int = END_BYTES) -> str:
    """Return the last `most` bytes of the log `file` as text. Bytes that are not UTF-8 become a mark.

    Raises
    ------
    OSError
        See `open_file`.
    """
    with open_file(file) as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - most))
        return stream.read(most).decode("utf-8", errors="replace")
