"""The array of a job's diffraction patterns: in memory, or in a file if the patterns are too many."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from stemphony.errors import StorageError

IN_MEMORY_BYTES = 1e9
"""Largest size of the patterns of one job that stay in memory [bytes]. Larger arrays lie in a file."""

WINDOW_BYTES = 128e6
"""Most bytes of such a file that are in memory at the same time. This limits the memory of a job with many patterns."""


def in_memory_bytes(size: float) -> float:
    """Memory that patterns of `size` bytes take [bytes]: all of it, or the window of a mapped file."""
    return size if size <= IN_MEMORY_BYTES else WINDOW_BYTES


def pattern_array(shape: tuple[int, ...], dtype: np.dtype[Any], folder: Path | None = None) -> np.ndarray:
    """Make an array of zeros with this `shape` and `dtype`.

    A large array is mapped from a file without a name in `folder`, by default the working folder, where results are.
    The system removes the file when the process ends. The file's space on the disk is reserved at once, because a full
    disk would kill the process later.

    Raises
    ------
    StorageError
        The disk has too little room.
    """
    size = math.prod(shape) * dtype.itemsize
    if size <= IN_MEMORY_BYTES:
        return np.zeros(shape, dtype)
    where = folder or Path.cwd()
    try:
        with tempfile.TemporaryFile(dir=where, prefix=".patterns-") as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise StorageError(
            f"{where}: no room for the diffraction patterns of one job, {size / 1e9:.3g} GB ({error.strerror}). Make "
            "room, or store fewer: cbed.scan, cbed.depths, cbed.size and cbed.max_mrad decide how many."
        ) from None


def give_back(array: np.ndarray) -> None:
    """Let the system free the memory of `array` if it is mapped. The values stay in the file."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None:
        with suppress(OSError, ValueError):
            mapped.madvise(mmap.MADV_DONTNEED)
