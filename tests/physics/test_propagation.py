"""Truths of propagation in vacuum: Gaussian beam, Talbot length, curvature, band limit."""

from __future__ import annotations

import numpy as np
import pytest
from stemphony.physics.electron import wavelength
from stemphony.physics.grid import Grid, band_limit
from stemphony.physics.propagator import fresnel_propagator

LAM = wavelength(100e3)
GRID = Grid((180, 160), (40.0, 36.0))


def test_gaussian_beam_spreads_as_in_optics_textbooks():
    # w(z) = w₀ √(1 + (z/z_R)²) with z_R = π w₀²/λ
    waist = 3.0
    rayleigh = np.pi * waist**2 / LAM
    x, y = GRID.x - 20.0, GRID.y - 18.0
    wave = np.exp(-(x[:, None] ** 2 + y[None, :] ** 2) / waist**2)
    for z in (0.5 * rayleigh, rayleigh, -rayleigh):
        propagator = fresnel_propagator(GRID, LAM, z, np.ones(GRID.gpts))
        spot = np.abs(np.fft.ifft2(np.fft.fft2(wave) * propagator)) ** 2
        variance = np.sum(spot * x[:, None] ** 2) / spot.sum()
        width = 2 * np.sqrt(variance)
        # The beam is cut by the cell at 6.7 half-widths of its spread form: exp(−2·4.7²) and less.
        assert width == pytest.approx(waist * np.sqrt(1 + (z / rayleigh) ** 2), rel=1e-9)


def test_grating_repeats_itself_after_the_talbot_length():
    # A period p images itself at z = 2p²/λ and, shifted by half a period, at half of that.
    period = 40.0 / 5
    wave = (
        1 + 0.7 * np.cos(2 * np.pi * 5 * GRID.x / 40.0)[:, None] + 0.2 * np.cos(2 * np.pi * 10 * GRID.x / 40)[:, None]
    )
    wave = np.broadcast_to(wave, GRID.gpts)

    def travelled(z):
        return np.fft.ifft2(np.fft.fft2(wave) * fresnel_propagator(GRID, LAM, z, np.ones(GRID.gpts)))

    # rounding only
    np.testing.assert_allclose(travelled(2 * period**2 / LAM), wave, atol=1e-12)
    np.testing.assert_allclose(travelled(period**2 / LAM), np.roll(wave, 180 // 10, axis=0), atol=1e-12)


def test_a_beam_runs_over_half_of_its_cell_at_most_before_it_comes_back_on_the_other_side():
    # A beam of angle θ moves by Δz·θ; the longest distance is half of the cell divided by its angle.
    k = 60 / 40.0
    longest = 40.0 / (2 * k * LAM)
    x = GRID.x[:, None] - 20.0
    beam = np.exp(-((x / 4.0) ** 2) + 2j * np.pi * k * x) * np.ones(GRID.gpts)
    for share, centre in ((0.5, 10.0), (0.8, 16.0), (1.2, -16.0)):
        propagator = fresnel_propagator(GRID, LAM, share * longest, np.ones(GRID.gpts))
        spot = np.abs(np.fft.ifft2(np.fft.fft2(beam) * propagator)) ** 2
        mean = np.angle(np.sum(spot * np.exp(2j * np.pi * x / 40.0))) * 40.0 / (2 * np.pi)
        assert mean == pytest.approx(centre, abs=1e-6)


def test_wave_behind_the_focus_curves_outwards():
    # Behind a point the phase grows with the distance from the axis (k·r² /2z, a forward wave is exp(+2πi
    # k·r)).
    spectrum = np.exp(-GRID.k_squared / 0.5**2)
    wave = np.fft.ifft2(spectrum * fresnel_propagator(GRID, LAM, 60.0, np.ones(GRID.gpts)))
    assert np.angle(wave[4, 0] / wave[0, 0]) > 0
    assert np.angle(wave[0, 4] / wave[0, 0]) > 0


def test_vacuum_keeps_all_intensity_inside_the_band_limit():
    propagator = fresnel_propagator(GRID, LAM, 123.4, band_limit(GRID, taper=0))
    inside = band_limit(GRID, taper=0) == 1
    # modulus of a complex exponential, to rounding
    np.testing.assert_allclose(np.abs(propagator[inside]), 1, rtol=1e-14)
    assert not propagator[~inside].any()


def test_distances_add_up_and_cancel():
    ones = np.ones(GRID.gpts)
    step = {z: fresnel_propagator(GRID, LAM, z, ones) for z in (12.5, 30.0, 42.5, -12.5)}
    # rounding of phases of some hundred radians
    np.testing.assert_allclose(step[12.5] * step[30.0], step[42.5], atol=1e-12)
    np.testing.assert_allclose(step[12.5] * step[-12.5], 1, atol=1e-12)


def test_single_precision_is_rounded_double_precision():
    arguments = GRID, LAM, 5000.0, band_limit(GRID)
    single = fresnel_propagator(*arguments, dtype=np.complex64)
    assert single.dtype == np.complex64
    # half a unit in the last place of single precision, although the phase turns a hundred times
    np.testing.assert_allclose(single, fresnel_propagator(*arguments), atol=6e-8)
