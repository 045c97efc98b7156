"""Locks that HDF5 puts on its files, and that some file systems refuse."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

VARIABLE: Final = "HDF5_USE_FILE_LOCKING"
"""Environment variable that HDF5 reads when it is loaded."""


def do_without() -> None:
    """Let HDF5 open files without locks, unless the user has set the variable. Call this before HDF5 is loaded.

    NFS without a lock service answers ENOLCK, and HDF5 then opens no file. Stemphony needs no locks: each process
    writes its own file under a temporary name, and renames the file when it is complete.
    """
    os.environ.setdefault(VARIABLE, "FALSE")


def refused_in(folder: Path) -> bool:
    """Whether files in `folder` cannot be locked because their file system refuses locks.

    False if this is not known.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.ENOLCK, errno.ENOTSUP)
    finally:
        os.close(descriptor)
    return False
