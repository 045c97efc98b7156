"""Write and read checkpoints, and keep finished results under second names.

A checkpoint is one line of JSON (`format`, `key`, `done`, `total`, and the name, dtype and shape of each array), then
the bytes of the arrays in this order, then the SHA-256 of all of it. `key` is the digest of everything that decides the
job. A file with another key or wrong bytes is not used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from stemphony import ordinary_files
from stemphony.errors import StorageError
from stemphony.paths import ResultPaths, checksum
from stemphony.store.atomic import atomic_path, temporary_beside
from stemphony.store.claims import holder_of

if TYPE_CHECKING:
    import numpy as np

    from stemphony.store.parts import Parts

FORMAT = 1
"""Version of the file format. A file of another version is not used."""

FREE_SHARE = 10
"""A checkpoint takes at most 1/10 of the free space, because results need the rest."""

_DIGEST_BYTES = 64
"""Length of a SHA-256 digest in hexadecimal digits [bytes]."""

_LONGEST_HEADER = 1_000_000
"""Most bytes that are read as the header, so that a damaged file cannot fill the memory."""

_BLOCK_BYTES = 8_000_000
"""Size of the pieces in which a file is read if only its digest is checked [bytes]; it limits the memory."""


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint: `done` of `total` waves, and the arrays by name, if they were read."""

    done: int
    total: int
    arrays: dict[str, np.ndarray]

    @property
    def share(self) -> float:
        """Finished part of the job, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


def write_checkpoint(file: Path, key: str, parts: Parts, done: int, total: int) -> None:
    """Write a checkpoint atomically in place of the previous one.

    Parameters
    ----------
    file : Path
        The checkpoint; its folder is made if it does not exist.
    key : str
        Digest of everything that decides the job.
    parts : Parts
        The arrays, by name.
    done, total : int
        Finished waves and all waves.

    Raises
    ------
    StorageError
        The folder cannot be written, or the disk has too little free space.
    """
    listed = [{"name": name, "dtype": part.dtype.str, "shape": part.shape} for name, part in parts.items()]
    header = {"format": FORMAT, "key": key, "done": done, "total": total, "arrays": listed}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(file.parent).free
    except OSError as error:
        raise StorageError(
            f"{file.parent} cannot be written: {error.strerror}. Make this folder writable, or free some space."
        ) from None
    size = sum(part.nbytes for part in parts.values())
    if size * FREE_SHARE > free:
        raise StorageError(
            f"{file.name} would take {size / 1e6:.3g} MB, and the disk has only {free / 1e6:.3g} MB left. "
            "Free some space."
        )
    with atomic_path(file) as temporary, temporary.open("wb") as stream:
        digest = hashlib.sha256()

        def put(content: Any) -> None:
            digest.update(content)
            stream.write(content)

        put(json.dumps(header).encode() + b"\n")
        for part in parts.values():
            for piece in part.pieces():
                put(piece.astype(part.dtype, order="C", copy=False).reshape(-1).view("u1").data)
        stream.write(digest.hexdigest().encode())


def read_checkpoint(file: Path, key: str, with_arrays: bool = True) -> tuple[Checkpoint | None, str]:
    """Read the checkpoint of a job.

    Parameters
    ----------
    file : Path
        The checkpoint; it may be missing.
    key : str
        As for `write_checkpoint`; a file with another key is not used.
    with_arrays : bool
        False: check the whole file, but keep only the numbers of waves.

    Returns
    -------
    checkpoint : Checkpoint or None
    refused : str
        Why the file is not used. Empty if it is used, or if it does not exist.
    """
    try:
        with ordinary_files.open_file(file) as stream:
            return _read(stream, os.fstat(stream.fileno()).st_size, key, with_arrays)
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return None, f"it is damaged ({type(error).__name__})"


def _read(stream: BinaryIO, size: int, key: str, with_arrays: bool) -> tuple[Checkpoint | None, str]:
    line = stream.readline(_LONGEST_HEADER)
    header = json.loads(line)
    if header["format"] != FORMAT or header["key"] != key:
        return None, "it belongs to another job, config or version"
    digest = hashlib.sha256(line)
    arrays = {}
    if with_arrays:
        import numpy as np

        shapes = [
            (entry["name"], np.dtype(entry["dtype"]), tuple(map(int, entry["shape"]))) for entry in header["arrays"]
        ]
        sizes = [int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for _, dtype, shape in shapes]
        if min(sizes, default=0) < 0 or len(line) + sum(sizes) + _DIGEST_BYTES != size:
            return None, "it is damaged (its size is wrong)"
        for name, dtype, shape in shapes:
            array = arrays[name] = np.empty(shape, dtype=dtype)
            content = array.reshape(-1).view("u1").data
            stream.readinto(content)  # type: ignore[attr-defined]
            digest.update(content)
    else:
        left = size - len(line) - _DIGEST_BYTES
        while left > 0:
            block = stream.read(min(left, _BLOCK_BYTES))
            if not block:
                break
            digest.update(block)
            left -= len(block)
    if stream.read() != digest.hexdigest().encode():
        return None, "it is damaged (its bytes do not match its digest)"
    return Checkpoint(int(header["done"]), int(header["total"]), arrays), ""


# --- finished results that Snakemake deletes -------------------------------------------------------------------------


def put_aside(result: Path, aside: Path) -> None:
    """Give a finished job file and its checksum second names, because Snakemake is about to delete them.

    `result` is the job file and `aside` its second name, see `ResultPaths.aside`; the checksum files are named after
    them. A hard link takes no space. On a file system without hard links nothing is kept, and no error is raised.
    """
    with suppress(OSError):
        aside.parent.mkdir(parents=True, exist_ok=True)
        for source, target in ((checksum(result), checksum(aside)), (result, aside)):
            temporary = temporary_beside(target)
            os.link(source, temporary)
            temporary.replace(target)
            temporary.unlink(missing_ok=True)  # `replace` does nothing if both names are the same file already


def take_back(aside: Path, result: Path) -> None:
    """Give a job file that was put aside, and its checksum, their own names again.

    `aside` is the second name of the job file, `result` its own name, see `put_aside`. Raises StorageError or OSError
    if a second name does not exist, or the folder of `result` cannot be written.
    """
    for source, target in ((checksum(aside), checksum(result)), (aside, result)):
        with atomic_path(target) as temporary:
            os.link(source, temporary)
        with suppress(OSError):
            os.utime(target)  # Snakemake expects outputs of a job to be new


def discard(*files: Path) -> None:
    """Remove files that are not needed any more. A file that cannot be removed does no harm."""
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)


def sweep(result: ResultPaths) -> None:
    """Remove checkpoints and claims of the simulation `result` after all jobs are merged.

    Claims of living processes stay, and so does a file that cannot be removed. Raises OSError if the folder of
    checkpoints cannot be listed.
    """
    if not result.checkpoints_folder.is_dir():
        return
    for folder in [*result.checkpoints_folder.iterdir(), result.checkpoints_folder]:
        with suppress(OSError):
            for file in folder.iterdir() if folder.is_dir() else ():
                holder = holder_of(file) if file.suffix == ".claim" else None
                if file.is_file() and (file.suffix != ".claim" or holder is None or holder.is_gone):
                    discard(file)
            folder.rmdir()
