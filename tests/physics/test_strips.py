"""The strip-wise transforms are the whole ones, on any grid, and carry exactly the columns they promise."""

from __future__ import annotations

import numpy as np
import pytest
from stemphony.physics.grid import Grid, band_limit, band_limit_columns
from stemphony.physics.probe import aperture
from stemphony.physics.strips import StripPlan, padded_zeros

RNG = np.random.default_rng(0)
# Even, odd, prime, a single strip, several of unequal width, a power of two, rows that need no padding.
SHAPES = [(96, 90), (30, 31), (13, 8), (64, 512), (512, 24), (40, 504), (2, 2), (7, 600)]


def random_wave(shape, columns, dtype=np.complex128):
    wave = (RNG.normal(size=shape) + 1j * RNG.normal(size=shape)).astype(dtype)
    wave[:, columns + 1 : shape[1] - columns] = 0
    return wave


def random_transmission(shape, dtype=np.complex128):
    transmission = padded_zeros(shape, dtype)
    transmission[...] = np.exp(1j * RNG.normal(size=shape))
    return transmission


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "accuracy"), [(np.complex128, 1e-13), (np.complex64, 1e-5)])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_slices_are_those_of_whole_transforms(shape, dtype, accuracy, share):
    columns = int(share * (shape[1] // 2))
    plan = StripPlan(shape, columns, dtype, "FFTW_ESTIMATE")
    wave, transmission = random_wave(shape, columns, dtype), random_transmission(shape, dtype)
    factor = random_wave(shape, columns)
    plan.load(wave)
    expected = wave.astype(np.complex128)
    for last in (False, False, True):
        plan.transmit(transmission)
        plan.travel(plan.factor(factor), keep=True, go_on=not last)
        expected = factor * np.fft.fft2(transmission * np.fft.ifft2(expected))
        np.testing.assert_allclose(plan.spectrum, expected, atol=accuracy * np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_wave_in_real_space_may_be_filtered(shape):
    columns = shape[1] // 2
    plan = StripPlan(shape, columns, np.complex128, "FFTW_ESTIMATE")
    wave, factor = random_wave(shape, columns), random_wave(shape, columns)
    plan.wave[...] = wave
    plan.from_real_space()
    plan.travel(plan.factor(factor))
    plan.to_real_space()
    np.testing.assert_allclose(plan.wave, np.fft.ifft2(factor * np.fft.fft2(wave)), atol=1e-12)


def test_a_wave_leaves_nothing_behind_for_the_next():
    shape, columns = (48, 40), 12
    plan = StripPlan(shape, columns, np.complex64, "FFTW_ESTIMATE")
    transmission, factor = random_transmission(shape, np.complex64), plan.factor(random_wave(shape, columns))
    first, second = random_wave(shape, columns, np.complex64), random_wave(shape, columns, np.complex64)

    def through(wave):
        plan.load(wave)
        plan.transmit(transmission)
        plan.travel(factor, keep=True, go_on=False)
        return plan.spectrum.copy()

    alone = through(first)
    through(second)
    np.testing.assert_array_equal(through(first), alone)


def test_what_the_plan_does_not_carry_is_refused():
    plan = StripPlan((48, 120), 20, np.complex128, "FFTW_ESTIMATE")
    beyond = np.zeros((48, 120))
    beyond[3, 60] = 1e-30
    for attempt in (plan.load, plan.factor):
        with pytest.raises(ValueError, match="not zero beyond column"):
            attempt(beyond)
        with pytest.raises(ValueError, match="shape"):
            attempt(np.zeros((120, 48)))
    for wrong in (np.ones((48, 120), complex), padded_zeros((48, 60), np.complex128)):
        with pytest.raises(ValueError, match="padded_zeros"):
            plan.transmit(wrong)
    for columns in (-1, 61):
        with pytest.raises(ValueError, match="must be from 0 to 60"):
            StripPlan((48, 120), columns, np.complex128)
    with pytest.raises(ValueError, match="complex64 or complex128"):
        StripPlan((8, 8), 2, np.float32)


@pytest.mark.parametrize("shape", [*SHAPES, (512, 512), (800, 800), (64, 1024)])
def test_rows_lie_an_odd_number_of_cache_lines_apart(shape):
    # Rows of a power of two would all fall into the same few places of the cache.
    for dtype in (np.complex64, np.complex128):
        array = padded_zeros(shape, dtype, 2)
        assert array.shape == (2, *shape)
        assert array.strides[1] % 64 == 0
        assert array.strides[1] // 64 % 2 == 1
        assert array.ctypes.data % 64 == 0
        assert not array.any()


@pytest.mark.parametrize("gpts", [(512, 512), (96, 90), (64, 72), (80, 60), (800, 800), (9, 12)])
@pytest.mark.parametrize("bandlimit", [2 / 3, 0.6666666, 0.5, 1.0])
@pytest.mark.parametrize("extent", [(10.0, 10.0), (10.0, 31.0), (23.0, 11.0)])
def test_columns_hold_the_band_and_an_aperture_that_fills_it(gpts, bandlimit, extent):
    grid = Grid(gpts, extent)
    columns = band_limit_columns(grid, bandlimit)
    beyond = slice(columns + 1, gpts[1] - columns)
    for taper in (0.0, 0.02):
        limit = band_limit(grid, bandlimit, taper)
        assert not limit[:, beyond].any()
    edge = 0.0251 * bandlimit * grid.nyquist
    assert not aperture(grid, 0.0251, edge)[:, beyond].any()
    # And hardly more: two columns of the band's own number.
    assert columns <= bandlimit * grid.nyquist * extent[1] + 2
