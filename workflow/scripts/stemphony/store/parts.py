"""Arrays of a checkpoint, which are written piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np


@dataclass(frozen=True)
class Part:
    """One array of a checkpoint. It is written piece by piece along its first axis, so it is not in memory twice.

    Attributes
    ----------
    dtype, shape
        Of the whole array.
    pieces : callable
        Returns the pieces. The writer calls it after it has written the parts before this one.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[np.ndarray]]

    @classmethod
    def of(cls, values: Any) -> Self:
        """Make a part from `values`: an array, a number or a text. The part holds the array itself, not a copy."""
        array = np.asarray(values)
        return cls(array.dtype, array.shape, lambda: iter((array,)))

    @property
    def nbytes(self) -> int:
        """Size in a checkpoint [bytes]."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


Parts = Mapping[str, Part]
"""The arrays by name."""
