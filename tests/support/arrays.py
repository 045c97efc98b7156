"""Messages of tests that compare arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def differences(found: ArrayLike, expected: ArrayLike) -> str:
    """Return where two arrays differ, for ``assert not differences(…)``; empty if all values are equal.

    NaN is equal to nothing. pytest itself prints only the corners of long arrays.
    """
    one, other = np.atleast_1d(np.asarray(found)), np.atleast_1d(np.asarray(expected))
    if one.shape != other.shape:
        return f"the shape is {one.shape}, not {other.shape}"
    places = np.argwhere(one != other)
    if not len(places):
        return ""
    first = tuple(int(index) for index in places[0])
    return f"{len(places)} of {one.size} values differ; the first, at {first}, is {one[first]}, not {other[first]}"
