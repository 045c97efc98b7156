"""Truths of the grid: frequencies, band limit, aliasing, angular pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stemphony.physics.grid import Grid, angular_pixel, band_limit, band_limit_radius, fft_friendly_size


def test_plane_wave_with_positive_sign_falls_on_its_own_frequency():
    grid = Grid((12, 10), (6.0, 7.0))
    i, j = 2, 7  # kx = +2/Lx, ky = −3/Ly
    wave = np.exp(2j * np.pi * (grid.kx[i] * grid.x[:, None] + grid.ky[j] * grid.y[None, :]))
    spectrum = np.fft.fft2(wave, norm="forward")
    expected = np.zeros(grid.gpts)
    expected[i, j] = 1
    # rounding of 120 terms
    np.testing.assert_allclose(spectrum, expected, atol=1e-13)
    assert grid.kx[i] == pytest.approx(2 / 6.0)
    assert grid.ky[j] == pytest.approx(-3 / 7.0)


@pytest.mark.parametrize("gpts", [(8, 9), (9, 8)])
def test_frequencies_are_in_fft_order(gpts):
    grid = Grid(gpts, (4.0, 5.0))
    np.testing.assert_allclose(grid.kx, np.fft.fftfreq(gpts[0], grid.sampling[0]), rtol=1e-15)
    np.testing.assert_allclose(grid.ky, np.fft.fftfreq(gpts[1], grid.sampling[1]), rtol=1e-15)


def test_azimuth_runs_from_x_to_y():
    grid = Grid((8, 8), (4.0, 4.0))
    assert grid.azimuth[1, 0] == 0
    assert grid.azimuth[0, 1] == pytest.approx(np.pi / 2)
    assert grid.azimuth[2, 2] == pytest.approx(np.pi / 4)


def test_coarser_axis_sets_the_band_limit():
    grid = Grid((100, 50), (10.0, 10.0))  # 0.1 and 0.2 Å
    assert grid.nyquist == pytest.approx(2.5)
    assert band_limit_radius(grid) == pytest.approx(5 / 3)


@pytest.mark.parametrize("share", [2 / 3, 0.8, 0.9])
def test_product_of_band_limited_functions_aliases_only_beyond_twice_what_is_left_to_nyquist(share):
    rng = np.random.default_rng(1)
    grid, fine = Grid((24, 30), (5.0, 6.0)), Grid((48, 60), (5.0, 6.0))
    # With 2/3 this is the whole band.
    clean = 2 * (1 - share) * grid.nyquist
    band = band_limit(grid, share, taper=0)
    coefficients = [band * (rng.normal(size=grid.gpts) + 1j * rng.normal(size=grid.gpts)) for _ in range(2)]

    def product(on: Grid) -> dict[tuple[int, int], complex]:
        """Spectrum of the product of both functions, sampled on a grid, where the coarse one holds it."""
        waves = []
        for spectrum in coefficients:
            embedded = np.zeros(on.gpts, dtype=complex)
            for i, j in np.argwhere(band > 0):
                m, n = round(grid.kx[i] * 5.0), round(grid.ky[j] * 6.0)
                embedded[m, n] = spectrum[i, j]
            waves.append(np.fft.ifft2(embedded, norm="forward"))
        result = np.fft.fft2(waves[0] * waves[1], norm="forward")
        inside = np.argwhere(on.k < 0.99 * grid.nyquist)
        return {(round(on.kx[i] * 5.0), round(on.ky[j] * 6.0)): result[i, j] for i, j in inside}

    coarse, exact = product(grid), product(fine)
    assert coarse.keys() == exact.keys()
    wrong = {key: abs(coarse[key] - exact[key]) for key in exact}
    is_clean = {key: np.hypot(key[0] / 5.0, key[1] / 6.0) < clean * (1 - 1e-9) for key in exact}
    # rounding only: sums of 1e3 terms of order 1
    assert max(wrong[key] for key in wrong if is_clean[key]) < 1e-11
    assert max(wrong[key] for key in wrong if not is_clean[key]) > 1


def test_band_limit_falls_smoothly_to_zero_at_its_radius():
    grid = Grid((600, 600), (60.0, 60.0))
    radius, width = band_limit_radius(grid), 0.1 * grid.nyquist
    limit = band_limit(grid, taper=0.1)
    line, k = limit[:300, 0], grid.kx[:300]
    assert (limit[grid.k >= radius] == 0).all()
    assert (line[k <= radius - width] == 1).all()
    assert np.interp(radius - width / 2, k, line) == pytest.approx(0.5, abs=1e-3)  # interpolated over 1/15 of the edge
    assert (np.diff(line) <= 0).all()


def test_hard_band_limit_treats_both_axes_alike():
    # With multiples of 3 points lie exactly on the radius.
    for n in (24, 48, 96, 300):
        limit = band_limit(Grid((n, n), (7.3, 7.3)), taper=0)
        assert limit[n // 3, 0] == limit[0, n // 3] == limit[-n // 3, 0] == 1
        assert set(np.unique(limit)) == {0.0, 1.0}


def test_angular_pixel_is_that_of_the_direction():
    grid = Grid((64, 64), (10.0, 20.0))
    pixel = angular_pixel(grid, 0.025)
    assert pixel[5, 0] == pytest.approx(0.025 / 10)
    assert pixel[0, 5] == pytest.approx(0.025 / 20)


@given(st.integers(min_value=1, max_value=5000))
def test_fft_friendly_size_is_the_next_product_of_small_primes(n):
    products = sorted(
        2**a * 3**b * 5**c * 7**d for a in range(14) for b in range(9) for c in range(7) for d in range(6)
    )
    assert fft_friendly_size(n) == next(size for size in products if size >= n)


@pytest.mark.parametrize(
    ("gpts", "extent"), [((1, 8), (1.0, 1.0)), ((8, 8), (0.0, 1.0)), ((8, 8), (1.0, float("nan")))]
)
def test_impossible_grid_is_refused(gpts, extent):
    with pytest.raises(ValueError, match="grid"):
        Grid(gpts, extent)


def test_impossible_band_limit_is_refused():
    grid = Grid((8, 8), (1.0, 1.0))
    with pytest.raises(ValueError, match="band limit"):
        band_limit_radius(grid, 1.5)
    with pytest.raises(ValueError, match="taper"):
        band_limit(grid, 0.5, 0.6)
    with pytest.raises(ValueError, match="at least 1"):
        fft_friendly_size(0)
