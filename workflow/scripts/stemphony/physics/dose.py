"""Noise of counted electrons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def counted(fractions: Floats, electrons: float, seed: int | Sequence[int]) -> Floats:
    """Return the signals of a detector that counts single electrons, as fractions of the incident electrons.

    Each pixel is a Poisson number with the mean `electrons` × fraction, divided by `electrons`. So its mean is the
    fraction f, and its variance is f / electrons.

    Parameters
    ----------
    fractions : array
        Fractions of the incident electrons. Values below zero, which interpolation can make, count as zero.
    electrons : float
        Incident electrons for each pixel: dose [1/Å²] × area of a pixel [Å²].
    seed : int or sequence of int
        The same seed gives the same noise.
    """
    rng = np.random.default_rng(seed)
    return np.asarray(rng.poisson(np.maximum(fractions, 0.0) * electrons) / electrons)
