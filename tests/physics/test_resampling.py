"""Interpolation and tiling of periodic images: true for every image, exact for images within the scan's band limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from stemphony.physics.resampling import interpolated, sampled, straight_copies, tiled, without_shift

PERIODIC, OPEN = (True, True), (False, False)


@pytest.fixture(params=[(6, 8), (7, 5), (2, 1), (1, 3)])
def image(request):
    return np.random.default_rng(3).random(request.param)


@pytest.mark.parametrize("periodic", [PERIODIC, OPEN, (True, False)])
@pytest.mark.parametrize("finer", [2, 3, 8])
def test_interpolation_passes_through_the_samples(image, periodic, finer):
    fine = interpolated(image, finer, periodic)
    assert fine[::finer, ::finer] == pytest.approx(image, abs=1e-12)


@pytest.mark.parametrize("finer", [2, 5])
def test_interpolation_of_a_period_conserves_the_mean(image, finer):
    fine = interpolated(image, finer, PERIODIC)
    assert fine.shape == (finer * image.shape[0], finer * image.shape[1])
    assert fine.mean() == pytest.approx(image.mean(), rel=1e-12)


def wave(x, y):
    """A lattice image: a mean and three plane waves, the shortest 2.5 samples of 10 long."""
    turn = 2 * math.pi
    return 1 + 0.5 * np.cos(turn * (4 * x + 0.1)) + 0.3 * np.cos(turn * (x - 2 * y)) + 0.2 * np.sin(turn * 3 * y)


def test_interpolation_is_exact_within_the_band_limit_of_the_scan():
    x, y = np.arange(10) / 10, np.arange(8) / 8
    fine = interpolated(wave(x[:, None], y), 7, PERIODIC)
    assert fine == pytest.approx(wave((np.arange(70) / 70)[:, None], np.arange(56) / 56), abs=1e-12)


def test_values_at_any_place_are_those_of_the_wave_also_in_other_periods():
    x, y = np.arange(10) / 10, np.arange(8) / 8
    places = np.random.default_rng(1).uniform(-2, 3, (50, 2))
    found = sampled(wave(x[:, None], y), places * [10, 8], PERIODIC)
    assert found == pytest.approx(wave(places[:, 0], places[:, 1]), abs=1e-11)


def test_a_cubic_without_a_period_is_reproduced():
    x, y = np.arange(7.0), np.arange(6.0)
    cubic = (x**3 - 2 * x)[:, None] * (1 + y**2)
    places = np.random.default_rng(1).uniform(0, 5, (20, 2))
    found = sampled(cubic, places, OPEN)
    u, v = places.T
    assert found == pytest.approx((u**3 - 2 * u) * (1 + v**2), rel=1e-9)


def test_linear_values_lie_between_their_neighbours(image):
    places = np.random.default_rng(1).uniform(-3, 9, (200, 2))
    found = sampled(image, places, PERIODIC, linear=True)
    assert image.min() <= found.min()
    assert found.max() <= image.max()
    halfway = sampled(image, np.array([[0.5, 0.0]]), PERIODIC, linear=True)
    assert halfway == pytest.approx((image[0, 0] + image[1 % len(image), 0]) / 2)


@pytest.mark.parametrize("repeats", [(0, 0), (0, 2), (2, 0)])
def test_a_tiled_window_is_the_larger_image(repeats):
    """A crystal whose next cell along one axis is shifted by two of eight positions along the other."""
    n = 8
    shift = (repeats[1] or 0) / n, (repeats[0] or 0) / n  # of x per step along y, of y per step along x

    def crystal(x, y):
        # Functions of coordinates that follow the shift repeat with the sheared lattice.
        return np.cos(2 * np.pi * (x - shift[0] * y)) + np.sin(2 * np.pi * (y - shift[1] * x))

    x = np.arange(4 * n) / n
    whole = crystal(x[:, None], x)
    assert tiled(whole[:n, :n], (4, 4), repeats) == pytest.approx(whole, abs=1e-12)
    straight, periodic = without_shift(whole[:n, :n], repeats)
    assert periodic == PERIODIC
    assert straight.shape == tuple(n * count for count in straight_copies((n, n), repeats))
    places = np.random.default_rng(1).uniform(0, 3, (30, 2))
    assert sampled(straight, places * n, periodic) == pytest.approx(crystal(*places.T), abs=1e-9)


def test_an_axis_without_a_period_is_not_tiled():
    with pytest.raises(ValueError, match="does not repeat along y"):
        tiled(np.ones((2, 2)), (1, 2), (0, None))
