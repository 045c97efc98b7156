"""Write a file so that it appears whole or not at all: a temporary name in the same folder, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stemphony.errors import StorageError
from stemphony.store.claims import place
from stemphony.store.hdf5_locks import VARIABLE as HDF5_LOCKS
from stemphony.store.hdf5_locks import refused_in

DOTS_PER_INCH = 160
"""Resolution of figures that `write_figure_atomic` writes as PNG. Their 6.4 inches then have about 1000 pixels."""

_NO_LOCKS = (
    f"its file system refuses file locks, and {HDF5_LOCKS}={{}} asks for them. Set {HDF5_LOCKS}=FALSE and run again"
)
_REASONS = {
    errno.ENOSPC: "the disk is full. Free some space and run again",
    errno.EDQUOT: "the disk quota is used up. Free some space and run again",
    errno.EFBIG: "the file would be larger than allowed (`ulimit -f`). Raise the limit and run again",
    errno.EROFS: "the file system is read-only. Use a folder that can be written",
    errno.EACCES: "permission denied. Check the owner and mode of the folder, or use another one",
    errno.EPERM: "permission denied. Check the owner and mode of the folder, or use another one",
    errno.ENOENT: "the folder does not exist. Create it",
    errno.ENOTDIR: "a part of the path is a file, not a folder. Use another path",
    errno.EISDIR: "a folder has this name. Move it away",
    errno.ENAMETOOLONG: "the name is too long. Use a shorter simulation name or folder",
    errno.EIO: "the disk reports an input/output error. Check the disk and run again",
    errno.ESTALE: "the network file system lost the folder. Check the mount and run again",
}


def temporary_beside(final: Path) -> Path:
    """A new name in the folder of `final`. It contains the id of this process, see `unfinished`."""
    return final.with_name(f".{final.name}.{place() or 'nowhere'}.{os.getpid()}-{secrets.token_hex(6)}.tmp")


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path. At the end of the block it is renamed to `final`. After an error it is removed.

    Two processes may write the same file: each has its own temporary name, and the last rename wins. An existing
    `final` stays untouched until the rename.

    Parameters
    ----------
    final : Path
        The file to make; its folder must exist.

    Yields
    ------
    Path
        A new name in the same folder.

    Raises
    ------
    StorageError
        The folder cannot be written, or the disk is full. Errors that concern other files pass unchanged.
    """
    final = Path(final)
    temporary = temporary_beside(final)
    try:
        yield temporary
        _fsync(temporary)
        temporary.replace(final)
    except OSError as error:
        if not _concerns(error, temporary, final):
            raise
        raise _storage_error(final, error) from error
    except RuntimeError as error:
        # netCDF4 reports a full disk as "NetCDF: HDF error".
        if not str(error).startswith("NetCDF:"):
            raise
        raise StorageError(
            f"{final}: cannot be written ({error}). {_free_space(final.parent)}"
            "Check the disk's space, quota and health, then run again."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    # Without this fsync, a crash of the machine may undo the rename. Some network file systems refuse it for folders.
    with contextlib.suppress(OSError):
        _fsync(final.parent)


def write_text_atomic(path: Path, text: str, mode: int = 0o666) -> None:
    """Write `text` as UTF-8 to `path` atomically; the umask restricts `mode`. Raises StorageError."""
    with atomic_path(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)


def write_figure_atomic(path: Path, figure: Any) -> None:
    """Write a `figure` of matplotlib to `path` atomically. The suffix decides the format; without one, it is PNG.

    The folder may come from somebody else and hold a link of this name. The rename replaces the link, not its target.

    Raises
    ------
    StorageError
        See `atomic_path`.
    ValueError
        Matplotlib does not know the format.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH, bbox_inches="tight", format=path.suffix.removeprefix(".") or "png")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _concerns(error: OSError, temporary: Path, final: Path) -> bool:
    """Whether an error concerns the file being written. If it names another file, reading that file failed."""
    if error.errno not in _REASONS:
        return False
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return error.errno != errno.ENOENT
    return Path(os.fsdecode(error.filename)) in (temporary, final)


def _storage_error(final: Path, error: OSError) -> StorageError:
    reason = _REASONS[error.errno or 0]
    if not final.parent.is_dir():
        reason = _REASONS[errno.ENOENT]  # netCDF4 calls a missing folder "permission denied"
    elif error.errno == errno.ENOENT:
        reason = "nothing was written under its temporary name. Run again"
    elif error.errno == errno.EACCES and _is_full(final.parent):
        reason = _REASONS[errno.ENOSPC]  # netCDF4 calls a full disk "permission denied", too
    elif error.errno == errno.EACCES and os.access(final.parent, os.W_OK | os.X_OK) and refused_in(final.parent):
        reason = _NO_LOCKS.format(os.environ.get(HDF5_LOCKS, ""))  # and refused locks "permission denied", too
    free = _free_space(final.parent) if reason in (_REASONS[errno.ENOSPC], _REASONS[errno.EDQUOT]) else ""
    return StorageError(f"{final}: cannot be written: {reason}. {free}".rstrip())


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free == 0
    except OSError:
        return False


def _free_space(folder: Path) -> str:
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return ""
    return f"The file system has {free / 1e6:.1f} MB left. "
