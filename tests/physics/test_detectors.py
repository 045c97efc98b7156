"""Truths of detectors: areas, edges, radial bins, and the centre of mass as the mean force on the probe."""

from __future__ import annotations

import numpy as np
import pytest
from stemphony.physics.detectors import CbedGeometry, DetectorSet, bin_edges
from stemphony.physics.electron import interaction_parameter, wavelength
from stemphony.physics.grid import Grid, band_limit, band_limit_radius
from stemphony.physics.probe import Aberrations, probe_spectrum, shift_factors

from physics.waves import propagate, transmission_function

LAM, SIGMA = wavelength(200e3), interaction_parameter(200e3)
GRID = Grid((256, 240), (24.0, 23.0))
KC = band_limit_radius(GRID)
MRAD = 1e-3


def scattered_wave(seed=0, dtype=np.complex128, grid=GRID):
    """Any wave inside the band limit, brighter in the middle."""
    rng = np.random.default_rng(seed)
    wave = rng.normal(size=grid.gpts) + 1j * rng.normal(size=grid.gpts)
    wave *= band_limit(grid) * np.exp(-grid.k / 1.5)
    return (0.98 * wave / np.linalg.norm(wave)).astype(dtype)


def uniform_disc(semiangle, grid=GRID):
    return probe_spectrum(grid, LAM, semiangle, 0, True, Aberrations())


@pytest.mark.parametrize("edges", ["hard", "area"])
def test_bins_sum_to_the_total(edges):
    wave = scattered_wave()
    outermost = 2 * KC * LAM
    for exponent in (1.0, 2.0):
        steps = bin_edges(0.0, outermost, 57, exponent)
        signals = DetectorSet(GRID, LAM, steps, {}, edges, False, KC).measure(wave)
        # rounding of 57 sums
        assert signals.bins.sum() == pytest.approx(signals.total, rel=1e-13)
        assert signals.total == pytest.approx(np.sum(np.abs(wave) ** 2), rel=1e-12)
        assert (signals.bins >= 0).all()


@pytest.mark.parametrize("edges", ["hard", "area"])
def test_bins_between_two_angles_sum_to_the_ring_between_them(edges):
    steps = bin_edges(5 * MRAD, 65 * MRAD, 60)
    rings = {
        "all": (5 * MRAD, 65 * MRAD),
        "part": (steps[12], steps[31]),
        "narrow": (20.0 * MRAD, 20.1 * MRAD),
    }
    detectors = DetectorSet(GRID, LAM, steps, rings, edges, False, KC)
    signals = detectors.measure(scattered_wave())
    assert detectors.ring_names == ("all", "part", "narrow")
    # rounding only
    assert signals.bins.sum() == pytest.approx(signals.rings[0], rel=1e-13)
    assert signals.bins[12:31].sum() == pytest.approx(signals.rings[1], rel=1e-13)
    assert signals.rings[2] >= 0


def test_hard_edges_take_the_inner_and_leave_the_outer_angle():
    grid = Grid((64, 64), (8.0, 8.0))
    step = LAM / 8.0
    wave = np.zeros(grid.gpts, dtype=complex)
    wave[5, 0] = 1  # exactly at 5 steps, not rounded: 5/8 is a binary fraction
    rings = {"ends": (2 * step, 5 * step), "begins": (5 * step, 9 * step), "bright": (0.0, 5 * step)}
    signals = DetectorSet(grid, LAM, None, rings, "hard", False, None).measure(wave)
    assert signals.rings.tolist() == [0.0, 1.0, 0.0]
    assert signals.bins.size == 0


def test_inner_edge_of_zero_takes_in_the_direct_beam():
    wave = np.zeros(GRID.gpts, dtype=complex)
    wave[0, 0] = 1
    for edges in ("hard", "area"):
        signals = DetectorSet(GRID, LAM, [0.0, 0.01], {"bf": (0.0, 0.005)}, edges, False, KC).measure(wave)
        assert signals.rings.tolist() == [1.0]
        assert signals.bins.tolist() == [1.0]


@pytest.mark.parametrize("extent", [(20.3, 20.3), (23.7, 31.1), (41.0, 40.0)])
def test_area_edges_count_the_area_of_the_detector_in_any_cell(extent):
    # Every direction lit evenly: a detector up to β holds πβ² of the pixels' area.
    grid = Grid((180, 240), extent)
    angles = np.linspace(8, 27, 60) * MRAD
    expected = np.pi * angles**2 * extent[0] * extent[1] / LAM**2
    errors = {}
    for edges in ("area", "hard"):
        detectors = DetectorSet(grid, LAM, None, {str(a): (0.0, a) for a in angles}, edges, False, None)
        errors[edges] = np.abs(detectors.measure(np.ones(grid.gpts, dtype=complex)).rings / expected - 1)
    # A linear ramp is not the exact cut of circle and pixel: 0.6 % where the circle has a radius of 6 pixels,
    # much less elsewhere. Hard edges jump by several per cent.
    assert errors["area"].max() < 6e-3
    assert errors["area"].mean() < 0.2 * errors["hard"].mean()


def test_area_edges_are_continuous_in_their_radius():
    disc = uniform_disc(30 * MRAD)
    radii = np.linspace(10, 12, 401) * MRAD  # steps of a hundredth of an angular pixel
    signals = {
        edges: DetectorSet(GRID, LAM, None, {str(r): (0.0, r) for r in radii}, edges, False, KC).measure(disc).rings
        for edges in ("area", "hard")
    }
    jumps = {edges: np.diff(values).max() for edges, values in signals.items()}
    growth = (signals["area"][-1] - signals["area"][0]) / 400
    # A straight cut through evenly spread pixels would grow evenly. Hard edges jump by eight pixels at once.
    assert jumps["area"] < 3 * growth
    assert jumps["hard"] > 10 * growth
    assert (np.diff(signals["area"]) >= 0).all()


def test_center_of_mass_follows_a_tilt_of_the_wave():
    probe = uniform_disc(20 * MRAD)
    detectors = DetectorSet(GRID, LAM, None, {}, "hard", True, KC)
    np.testing.assert_allclose(detectors.measure(probe).center_of_mass, 0, atol=1e-15)
    tilted = np.roll(probe, (7, -4), axis=(0, 1))
    # 7 and −4 reciprocal pixels, to rounding
    expected = LAM * np.array([7 / 24.0, -4 / 23.0])
    np.testing.assert_allclose(detectors.measure(tilted).center_of_mass, expected, rtol=1e-12)
    ex, ey = shift_factors(GRID, (3.21, 9.87))
    np.testing.assert_allclose(detectors.measure(tilted * ex[:, None] * ey).center_of_mass, expected, rtol=1e-12)


def test_center_of_mass_is_the_mean_force_on_the_probe(make_plan):
    # Ehrenfest: behind a thin object the mean angle is (λ/2π) Σ |ψ|² ∇(σV), for any shape of V (here without
    # loss at the band limit).
    plan = make_plan(GRID.gpts)
    u, v = 2 * np.pi * GRID.x / 24.0, 2 * np.pi * GRID.y / 23.0
    potential = 150 * np.sin(u)[:, None] * np.cos(2 * v)[None, :]
    gradient = (
        150 * 2 * np.pi / 24.0 * np.cos(u)[:, None] * np.cos(2 * v)[None, :],
        -150 * 4 * np.pi / 23.0 * np.sin(u)[:, None] * np.sin(2 * v)[None, :],
    )
    ex, ey = shift_factors(GRID, (2.0, 4.0))
    probe = uniform_disc(20 * MRAD) * ex[:, None] * ey
    spot = np.abs(np.fft.ifft2(probe, norm="ortho")) ** 2
    limit = band_limit(GRID)
    transmission = transmission_function(potential, SIGMA, limit, plan)
    ((_, wave),) = propagate(plan, probe, [transmission], limit.astype(complex), [1])
    measured = DetectorSet(GRID, LAM, None, {}, "hard", True, KC).measure(wave).center_of_mass
    expected = [LAM * SIGMA / (2 * np.pi) * np.sum(spot * slope) for slope in gradient]
    assert min(np.abs(expected)) > 0.05 * MRAD
    # rounding only
    np.testing.assert_allclose(measured, expected, rtol=1e-10)


def test_without_intensity_there_is_no_center_of_mass():
    nothing = np.zeros(GRID.gpts, dtype=complex)
    signals = DetectorSet(GRID, LAM, [0.0, 0.05], {}, "hard", True, KC).measure(nothing)
    assert signals.total == 0
    assert np.isnan(signals.center_of_mass).all()
    unasked = DetectorSet(GRID, LAM, [0.0, 0.05], {}, "hard", False, KC).measure(scattered_wave())
    assert np.isnan(unasked.center_of_mass).all()


def test_single_precision_waves_are_summed_in_double():
    detectors = DetectorSet(GRID, LAM, bin_edges(0, 60 * MRAD, 60), {"haadf": (40 * MRAD, 60 * MRAD)}, "area", True, KC)
    double, single = (detectors.measure(scattered_wave(3, dtype)) for dtype in (np.complex128, np.complex64))
    # 6e-8 per pixel, averaged over many
    np.testing.assert_allclose(single.bins, double.bins, rtol=1e-6)
    np.testing.assert_allclose(single.rings, double.rings, rtol=1e-6)
    assert single.bins.dtype == np.float64


def test_bin_edges_begin_end_and_widen_as_asked():
    np.testing.assert_allclose(bin_edges(0.0, 10.0, 5), [0, 2, 4, 6, 8, 10], rtol=1e-15)
    np.testing.assert_allclose(bin_edges(2.0, 10.0, 4, 2.0), [2, 2.5, 4, 6.5, 10], rtol=1e-15)
    assert bin_edges(0.1, 0.7, 7, 1.3)[-1] == 0.7


def test_impossible_detectors_are_refused():
    with pytest.raises(ValueError, match="'hard' or 'area'"):
        DetectorSet(GRID, LAM, None, {}, "soft", False, KC)
    with pytest.raises(ValueError, match="'haadf' from 80 to 60 mrad"):
        DetectorSet(GRID, LAM, None, {"haadf": (0.08, 0.06)}, "hard", False, KC)
    with pytest.raises(ValueError, match="bin 1"):
        DetectorSet(GRID, LAM, [0.0, 0.02, 0.01], {}, "hard", False, KC)
    for arguments in ((0.0, 0.0, 5), (0.0, 1.0, 0), (-1.0, 1.0, 5), (0.0, 1.0, 5, 0.0)):
        with pytest.raises(ValueError, match="bins from"):
            bin_edges(*arguments)


def test_diffraction_pattern_of_vacuum_is_the_image_of_the_aperture():
    geometry = CbedGeometry(GRID, LAM, 40 * MRAD)
    ex, ey = shift_factors(GRID, (3.3, 4.4))
    pattern = geometry.pattern(uniform_disc(20 * MRAD) * ex[:, None] * ey)
    angle = np.hypot(geometry.angles_x[:, None], geometry.angles_y)
    pixel = LAM / 23.0
    # rounding of the position phase; the soft rim is one pixel wide
    inside = pattern[angle < 20 * MRAD - pixel / 2]
    np.testing.assert_allclose(inside, inside[0], rtol=1e-12)
    assert not pattern[angle > 20 * MRAD + pixel / 2].any()
    assert pattern.sum() == pytest.approx(1, rel=1e-12)


def test_diffraction_pattern_has_ascending_axes_with_zero_and_the_beams_at_their_angles():
    wave = np.zeros(GRID.gpts, dtype=complex)
    wave[3, -5] = 0.6
    wave[0, 0] = 0.8j
    geometry = CbedGeometry(GRID, LAM, 30 * MRAD)
    pattern = geometry.pattern(wave)
    assert pattern.shape == geometry.shape == (len(geometry.angles_x), len(geometry.angles_y))
    i, j = (
        np.searchsorted(geometry.angles_x, 2.5 * LAM / 24.0),
        np.searchsorted(geometry.angles_y, -5.5 * LAM / 23.0),
    )
    assert pattern[i, j] == pytest.approx(0.36)
    assert geometry.angles_x[i] == pytest.approx(3 * LAM / 24.0)
    assert geometry.angles_y[j] == pytest.approx(-5 * LAM / 23.0)
    for angles in (geometry.angles_x, geometry.angles_y):
        assert (np.diff(angles) > 0).all()
        assert angles[len(angles) // 2] == 0
        assert angles[-1] == -angles[0] <= 30 * MRAD < angles[-1] + (angles[1] - angles[0])


@pytest.mark.parametrize("size", [(9, 11), (57, 57), (201, 7), (1, 1)])
def test_rebinning_to_odd_sizes_conserves_the_sum(size):
    wave = scattered_wave(4)
    native = CbedGeometry(GRID, LAM, 50 * MRAD).pattern(wave)
    geometry = CbedGeometry(GRID, LAM, 50 * MRAD, size)
    rebinned = geometry.pattern(wave)
    assert rebinned.shape == size
    # rounding only
    assert rebinned.sum() == pytest.approx(native.sum(), rel=1e-12)
    assert geometry.angles_x[size[0] // 2] == geometry.angles_y[size[1] // 2] == 0


@pytest.mark.parametrize("size", [(64, 50), (256, 256)])
def test_rebinning_keeps_beams_at_their_angles_for_even_sizes_too(size):
    # A disc off the axis, well inside the range: its sum stays, and so does its centre but for the shape of
    # the pixels.
    wave = np.roll(uniform_disc(10 * MRAD), (6, -9), axis=(0, 1))
    geometry = CbedGeometry(GRID, LAM, 40 * MRAD, size)
    pattern = geometry.pattern(wave)
    assert pattern.sum() == pytest.approx(1, rel=1e-12)
    # a hundredth of a native pixel
    assert pattern.sum(axis=1) @ geometry.angles_x == pytest.approx(6 * LAM / 24.0, abs=0.01 * LAM / 24.0)
    assert pattern.sum(axis=0) @ geometry.angles_y == pytest.approx(-9 * LAM / 23.0, abs=0.01 * LAM / 23.0)


def test_native_size_changes_nothing():
    wave = scattered_wave(5)
    native = CbedGeometry(GRID, LAM, 50 * MRAD)
    same = CbedGeometry(GRID, LAM, 50 * MRAD, native.shape)
    np.testing.assert_array_equal(same.pattern(wave), native.pattern(wave))
    np.testing.assert_array_equal(same.angles_x, native.angles_x)


def test_diffraction_pattern_ends_with_the_grid():
    geometry = CbedGeometry(GRID, LAM, 10.0)
    assert geometry.shape == (255, 239)
    with pytest.raises(ValueError, match="must be positive"):
        CbedGeometry(GRID, LAM, 0.0)
    with pytest.raises(ValueError, match="at least"):
        CbedGeometry(GRID, LAM, 0.05, (0, 5))


CELL_4_BY_5 = Grid((96, 128), (20.0, 25.0))
"""A cell that is not square: its native pixels are λ/20 Å by λ/25 Å."""


@pytest.mark.parametrize("pixel", [0.2, 0.77, 1.9, 3.0])
def test_a_camera_with_square_pixels_keeps_the_intensity(pixel):
    geometry = CbedGeometry(CELL_4_BY_5, LAM, 45 * MRAD, pixel=pixel * MRAD)
    native = np.random.default_rng(3).random(geometry.native_pixels.shape)
    made = geometry.resized(native)
    assert made.sum() == pytest.approx(native.sum(), rel=1e-12)
    assert made.astype(np.float32).sum(dtype=float) == pytest.approx(native.sum(), rel=1e-6)
    for axis, angles in enumerate((geometry.angles_x, geometry.angles_y)):
        assert np.diff(angles) == pytest.approx(pixel * MRAD)
        assert angles == pytest.approx(-angles[::-1], abs=1e-15)
        # The first moment along each axis is that of the native pixels too, to half a pixel's second difference.
        steps = LAM / CELL_4_BY_5.extent[axis]
        middle = (np.arange(native.shape[axis]) - native.shape[axis] // 2) * steps
        of_native = (native.sum(axis=1 - axis) @ middle) / native.sum()
        if pixel * MRAD < steps:
            assert (made.sum(axis=1 - axis) @ angles) / made.sum() == pytest.approx(of_native, abs=0.01 * pixel * MRAD)


def test_a_camera_sees_a_round_disk_of_a_cell_that_is_not_square():
    alpha = 15 * MRAD
    grid = Grid((200, 256), (80.0, 100.0))
    spectrum = np.where(np.hypot(grid.kx[:, None], grid.ky[None, :]) * LAM < alpha, 1.0, 0.0)
    spectrum = spectrum / np.sqrt((spectrum**2).sum())
    geometry = CbedGeometry(grid, LAM, 30 * MRAD, (81, 81), pixel=0.5 * MRAD)
    disk = geometry.pattern(spectrum.astype(complex))
    assert disk.shape == (81, 81)
    assert disk.sum() == pytest.approx(1.0, rel=1e-12)
    # ⟨θx²⟩ of a uniform disk is α²/4, whatever the cell.
    for axis, angles in enumerate((geometry.angles_x, geometry.angles_y)):
        assert disk.sum(axis=1 - axis) @ angles**2 == pytest.approx(alpha**2 / 4, rel=0.02)
    assert not geometry.is_finer_than_the_grid
    assert CbedGeometry(grid, LAM, 30 * MRAD, pixel=0.2 * MRAD).is_finer_than_the_grid


def test_a_camera_of_chosen_size_cuts_what_lies_beyond_it():
    geometry = CbedGeometry(CELL_4_BY_5, LAM, 45 * MRAD, (6, 4), pixel=3.0 * MRAD)
    uniform = geometry.resized(np.ones(geometry.native_pixels.shape))
    area = (3.0 * MRAD) ** 2 / (LAM / 20.0 * LAM / 25.0)
    assert uniform == pytest.approx(area)
    assert 1e3 * geometry.angles_x == pytest.approx([-9, -6, -3, 0, 3, 6])
    with pytest.raises(ValueError, match="pixels of the diffraction pattern"):
        CbedGeometry(CELL_4_BY_5, LAM, 45 * MRAD, pixel=0.0)
