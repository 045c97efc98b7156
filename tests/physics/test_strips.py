"""Transforms strip by strip equal whole transforms on any grid, and keep exactly their columns."""

from __future__ import annotations

from contextlib import suppress
from unittest import mock

import numpy as np
import pytest
from stemphony.physics.grid import Grid, band_limit, band_limit_columns
from stemphony.physics.probe import aperture
from stemphony.physics.strips import two_arrays
from stemphony.physics.strips.one_array import LARGE, OneArrayPlan, plan_of_strips
from stemphony.physics.strips.plan import StripPlan, padded_zeros
from stemphony.physics.strips.two_arrays import TwoArrayPlan

RNG = np.random.default_rng(0)
# Even, odd, prime, a single strip, several of unequal width, a power of two, rows that need no padding.
SHAPES = [(96, 90), (30, 31), (13, 8), (64, 512), (512, 24), (40, 504), (2, 2), (7, 600)]


def plans(shape, columns, dtype):
    """Every plan for such a wave, and the first with many narrow strips too."""
    made = [TwoArrayPlan(shape, columns, dtype, "FFTW_ESTIMATE")]
    with mock.patch.multiple(two_arrays, ROWS=16, COLUMNS=24):
        made.append(TwoArrayPlan(shape, columns, dtype, "FFTW_ESTIMATE"))
    with suppress(ValueError):  # too many columns for strips of one width
        made.append(OneArrayPlan(shape, columns, dtype, "FFTW_ESTIMATE"))
    return made


@pytest.fixture(params=[TwoArrayPlan, OneArrayPlan])
def layout(request) -> type[StripPlan]:
    return request.param


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
    wave, transmission = random_wave(shape, columns, dtype), random_transmission(shape, dtype)
    factor = random_wave(shape, columns)
    for plan in plans(shape, columns, dtype):
        plan.load(wave)
        expected = wave.astype(np.complex128)
        for last in (False, False, True):
            plan.transmit(plan.transmission(transmission))
            plan.travel(plan.factor(factor), keep=True, go_on=not last)
            expected = factor * np.fft.fft2(transmission * np.fft.ifft2(expected))
            np.testing.assert_allclose(plan.spectrum, expected, atol=accuracy * np.abs(expected).max())


def test_the_layout_follows_the_size_of_the_wave():
    side = int((LARGE / 8) ** 0.5) // 32 * 32
    for n, columns, layout in ((side, side // 3, TwoArrayPlan), (side + 32, side // 3, OneArrayPlan)):
        assert type(plan_of_strips((n, n), columns, np.complex64, "FFTW_ESTIMATE")) is layout
    # With all columns, strips of one width may not fit the grid, so the other layout is used.
    assert type(plan_of_strips((1000, 1000), 500, np.complex64, "FFTW_ESTIMATE")) is TwoArrayPlan
    with pytest.raises(ValueError, match="too many of 1000"):
        OneArrayPlan((1000, 1000), 500, np.complex64)


def test_at_usual_band_limits_there_is_room_for_the_compact_layout():
    for shape in SHAPES:
        kept = [len(plans(shape, int(share * (shape[1] // 2)), np.complex64)) for share in (0.0, 0.4)]
        assert kept == [3, 3] or min(shape) < 64, shape


@pytest.mark.parametrize("shape", SHAPES)
def test_a_wave_in_real_space_may_be_filtered(shape):
    for columns in (shape[1] // 3, shape[1] // 2):
        wave, factor = random_wave(shape, shape[1] // 2), random_wave(shape, columns)
        for plan in plans(shape, columns, np.complex128):
            plan.wave[...] = wave
            plan.from_real_space()
            plan.travel(plan.factor(factor))
            plan.to_real_space()
            np.testing.assert_allclose(plan.wave, np.fft.ifft2(factor * np.fft.fft2(wave)), atol=1e-12)


def test_a_wave_leaves_nothing_behind_for_the_next(layout):
    shape, columns = (48, 72), 12
    plan = layout(shape, columns, np.complex64, "FFTW_ESTIMATE")
    transmission = plan.transmission(random_transmission(shape, np.complex64))
    factor = plan.factor(random_wave(shape, columns))
    first, second = random_wave(shape, columns, np.complex64), random_wave(shape, columns, np.complex64)

    def through(wave):
        plan.load(wave)
        plan.transmit(transmission)
        plan.travel(factor, keep=True, go_on=False)
        return plan.spectrum.copy()

    alone = through(first)
    through(second)
    np.testing.assert_array_equal(through(first), alone)


def test_content_beyond_the_columns_of_the_plan_is_refused(layout):
    plan = layout((48, 120), 20, np.complex128, "FFTW_ESTIMATE")
    beyond = np.zeros((48, 120))
    beyond[3, 60] = 1e-30
    for attempt in (plan.load, plan.factor):
        with pytest.raises(ValueError, match="not zero beyond column"):
            attempt(beyond)
        with pytest.raises(ValueError, match="shape"):
            attempt(np.zeros((120, 48)))
    for wrong in (np.ones((48, 120), complex), padded_zeros((48, 60), np.complex128)):
        with pytest.raises(ValueError, match="padded_zeros"):
            plan.transmission(wrong)
    for columns in (-1, 61):
        with pytest.raises(ValueError, match="must be from 0 to 60"):
            layout((48, 120), columns, np.complex128)
    with pytest.raises(ValueError, match="complex64 or complex128"):
        layout((8, 8), 2, np.float32)


@pytest.mark.parametrize("shape", [*SHAPES, (512, 512), (800, 800), (64, 1024)])
def test_rows_lie_an_odd_number_of_cache_lines_apart(shape):
    # Rows a power of two apart would share a few places of the cache.
    for dtype in (np.complex64, np.complex128):
        array = padded_zeros(shape, dtype, 2)
        assert array.shape == (2, *shape)
        assert array.strides[1] % 64 == 0
        assert array.strides[1] // 64 % 2 == 1
        assert array.ctypes.data % 64 == 0
        assert not array.any()


@pytest.mark.slow
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
    # The plan keeps hardly more: at most two further columns.
    assert columns <= bandlimit * grid.nyquist * extent[1] + 2
