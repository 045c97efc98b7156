"""Values of images between and beyond their samples: interpolation, values at any place, copies side by side."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stemphony.physics.source_size import Repeats

Floats = NDArray[np.float64]


def weights(number: int, places: Floats, is_periodic: bool) -> Floats:
    """Return the matrix that turns the samples along one axis into the values at other places.

    Along a periodic axis, it evaluates the Fourier series of the samples (trigonometric interpolation). For an even
    number of samples, the coefficient at the Nyquist frequency is a cosine, so real samples give real values. The
    values are exact if the image has no frequencies beyond the Nyquist limit. Along other axes, it evaluates the cubic
    spline through the samples (of lower degree for less than four samples). A Fourier series would ring there if the
    two edges differ.

    Parameters
    ----------
    number : int
        Number n of samples, at the places 0, 1 … n − 1.
    places : (P,) array
        Places in steps of the samples. If the axis is not periodic, they lie between 0 and n − 1.
    is_periodic : bool
        Whether the samples go on with the period n.

    Returns
    -------
    (P, n) array
        Its rows sum to 1.
    """
    places = np.asarray(places, dtype=float)
    if number == 1:
        return np.ones((len(places), 1))
    if is_periodic:
        apart = places[:, None] - np.arange(number)
        found = np.ones_like(apart)
        for k in range(1, (number - 1) // 2 + 1):
            found += 2 * np.cos(2 * math.pi * k * apart / number)
        if number % 2 == 0:
            found += np.cos(math.pi * places)[:, None] * np.cos(math.pi * np.arange(number))
        return np.asarray(found / number)
    from scipy.interpolate import make_interp_spline

    spline = make_interp_spline(np.arange(number), np.eye(number), k=min(3, number - 1))
    return np.asarray(spline(places), dtype=float)


def linear_weights(number: int, places: Floats, is_periodic: bool) -> Floats:
    """Return the matrix of linear interpolation, as `weights`. Each value lies between two neighbouring samples."""
    places = np.asarray(places, dtype=float)
    apart = np.abs(places[:, None] - np.arange(number))
    if number == 1:
        return np.ones((len(places), 1))
    if is_periodic:
        apart = np.abs(apart - number * np.rint(apart / number))
    return np.asarray(np.maximum(0.0, 1.0 - apart))


def interpolated(image: Floats, finer: int, periodic: tuple[bool, bool], linear: bool = False) -> Floats:
    """Interpolate an image to `finer` times as many samples along each axis, see `weights`.

    With `linear`, the interpolation is linear and never leaves the range of the samples.

    Returns
    -------
    array
        (finer·n) values along a periodic axis, (finer·(n − 1) + 1) along others. Every `finer`-th value is a sample of
        the image. Along periodic axes the mean does not change.
    """
    for axis in (0, 1):
        number = image.shape[axis]
        count = finer * number if periodic[axis] else finer * (number - 1) + 1
        matrix = (linear_weights if linear else weights)(number, np.arange(count) / finer, periodic[axis])
        image = matrix @ image if axis == 0 else image @ matrix.T
    return image


def sampled(image: Floats, places: Floats, periodic: tuple[bool, bool], linear: bool = False) -> Floats:
    """Return the values of an image (nx, ny) at places (P, 2), in steps of its samples along x and y.

    With `linear`, the interpolation is linear and never leaves the range of the samples.
    """
    make = linear_weights if linear else weights
    along_x = make(image.shape[0], places[:, 0], periodic[0])
    along_y = make(image.shape[1], places[:, 1], periodic[1])
    return np.asarray(np.einsum("pi,ij,pj->p", along_x, image, along_y, optimize=True))


def tiled(image: Floats, times: tuple[int, int], repeats: Repeats) -> Floats:
    """Put copies of a window (nx, ny, …) side by side, each where the next period of the specimen is.

    Parameters
    ----------
    times : (int, int)
        Number of copies along x and y.
    repeats : (int or None, int or None)
        How the window repeats, see `source_size.Repeats`. Along an axis with a shift, each next copy is moved along the
        other axis.

    Raises
    ------
    ValueError
        More than one copy along an axis that does not repeat.
    """
    for axis in (0, 1):
        if times[axis] > 1 and repeats[axis] is None:
            raise ValueError(f"the window does not repeat along {'xy'[axis]}")
    # The axis with the shift comes first, so that the copies along the other axis are not moved.
    for axis in sorted((0, 1), key=lambda axis: not repeats[axis]):
        shift, other = repeats[axis] or 0, 1 - axis
        copies = [np.roll(image, number * shift, axis=other) for number in range(times[axis])]
        image = np.concatenate(copies, axis=axis)
    return image


def straight_copies(shape: tuple[int, int], repeats: Repeats) -> tuple[int, int]:
    """How many copies of a window along x and y make a window that repeats without shifts."""
    counts = [1, 1]
    for axis in (0, 1):
        shift, other = repeats[axis], shape[1 - axis]
        if shift:
            counts[axis] = other // math.gcd(other, shift)
    return counts[0], counts[1]


def without_shift(image: Floats, repeats: Repeats) -> tuple[Floats, tuple[bool, bool]]:
    """Return a window that repeats without shifts, and along which axes it repeats.

    If the next copies of the image are shifted, several copies make this window.
    """
    first, second = (repeat is not None for repeat in repeats)
    return tiled(image, straight_copies((image.shape[0], image.shape[1]), repeats), repeats), (first, second)
