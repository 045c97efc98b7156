"""Segmented detectors, and the deflection and phase that they and the centre of mass show."""

from __future__ import annotations

from dataclasses import replace
from math import pi

import numpy as np
import pytest
from stemphony.physics.detectors import DetectorSet
from stemphony.physics.electron import interaction_parameter, wavelength
from stemphony.physics.grid import Grid, band_limit, band_limit_radius
from stemphony.physics.integration import phase_of_deflection
from stemphony.physics.probe import Aberrations, probe_spectrum, shift_factors
from stemphony.physics.segments import SegmentedDetector

LAM, SIGMA = wavelength(200e3), interaction_parameter(200e3)
GRID = Grid((256, 240), (24.0, 23.0))
SQUARE = Grid((240, 240), (23.0, 23.0))
KC = band_limit_radius(GRID)
MRAD = 1e-3


def scattered_wave(seed=0, grid=GRID):
    rng = np.random.default_rng(seed)
    wave = rng.normal(size=grid.gpts) + 1j * rng.normal(size=grid.gpts)
    wave *= band_limit(grid) * np.exp(-grid.k / 1.5)
    return 0.98 * wave / np.linalg.norm(wave)


def segments(detector, wave, edges="hard", grid=GRID, center=(0.0, 0.0)):
    made = DetectorSet(grid, LAM, None, {}, edges, False, KC, center, {"s": detector})
    assert made.ring_names == tuple(f"s_{i}" for i in range(detector.number))
    return made.measure(wave).rings


def quadrants(**settings):
    return SegmentedDetector(**{"inner": 0.0, "outer": 30 * MRAD, "segments": 4, **settings})


# --- geometry -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edges", ["hard", "area"])
@pytest.mark.parametrize("center", [(0.0, 0.0), (0.113, -0.071)])
@pytest.mark.parametrize(("inner", "number", "radial"), [(0.0, 4, 1), (11 * MRAD, 3, 1), (5 * MRAD, 7, 3), (0.0, 1, 2)])
def test_segments_add_up_to_the_ring(edges, center, inner, number, radial):
    wave = scattered_wave()
    detector = SegmentedDetector(inner, 40 * MRAD, number, 0.3, radial)
    ring = DetectorSet(GRID, LAM, None, {"r": (inner, 40 * MRAD)}, edges, False, KC, center).measure(wave).rings[0]
    seen = segments(detector, wave, edges, center=center)
    assert seen.sum() == pytest.approx(ring, rel=1e-13)
    assert (seen > 0).all()
    # and each of its rings to a ring of the same angles
    limits = detector.edges
    rings = DetectorSet(GRID, LAM, limits, {}, edges, False, KC, center).measure(wave).bins
    assert seen.reshape(radial, number).sum(axis=1) == pytest.approx(rings, rel=1e-13)


@pytest.mark.parametrize("edges", ["hard", "area"])
@pytest.mark.parametrize("number", [2, 3, 4, 8])
@pytest.mark.parametrize("rotation", [0.0, 0.4])
def test_a_turn_by_one_sector_permutes_the_segments(edges, number, rotation):
    wave = scattered_wave()
    detector = SegmentedDetector(0.0, 40 * MRAD, number, rotation, 2)
    turned = replace(detector, rotation=rotation + 2 * pi / number)
    expected = segments(detector, wave, edges).reshape(2, number)
    assert segments(turned, wave, edges).reshape(2, number) == pytest.approx(np.roll(expected, -1, axis=1), rel=1e-12)


@pytest.mark.parametrize("edges", ["hard", "area"])
def test_sectors_run_counter_clockwise_from_x_to_y(edges):
    wave = np.zeros(GRID.gpts, dtype=complex)
    for (i, j), amplitude in {(5, 3): 1.0, (-5, 3): 2.0, (-5, -3): 3.0, (5, -3): 4.0}.items():
        wave[i, j] = amplitude
    assert segments(quadrants(), wave, edges) == pytest.approx([1, 4, 9, 16])
    # a second ring begins at half of the outer angle: here these beams are in it
    assert segments(quadrants(outer=10 * MRAD, radial=2), wave, edges) == pytest.approx([0, 0, 0, 0, 1, 4, 9, 16])
    # turned by 180° sector 0 is where sector 2 was
    assert segments(quadrants(rotation=pi), wave, edges) == pytest.approx([9, 16, 1, 4])


@pytest.mark.parametrize("edges", ["hard", "area"])
def test_the_beam_in_the_middle_falls_on_all_sectors_alike(edges):
    wave = np.zeros(GRID.gpts, dtype=complex)
    wave[0, 0] = 1.0
    assert segments(quadrants(), wave, edges) == pytest.approx([0.25] * 4)


@pytest.mark.parametrize("edges", ["hard", "area"])
def test_a_pattern_with_four_mirrors_lights_sectors_alike(edges):
    disk = probe_spectrum(SQUARE, LAM, 20 * MRAD, 0, True, Aberrations())
    for rotation in (0.0, pi / 4):
        seen = segments(quadrants(rotation=rotation), disk, edges, SQUARE)
        assert seen == pytest.approx([seen[0]] * 4, rel=1e-12)


def test_an_offset_moves_the_middle():
    disk = probe_spectrum(GRID, LAM, 20 * MRAD, 0, True, Aberrations())
    tilt = (5 * MRAD / LAM, -3 * MRAD / LAM)
    moved = probe_spectrum(GRID, LAM, 20 * MRAD, 0, True, Aberrations(), tilt)
    seen = segments(quadrants(offset=(5 * MRAD, -3 * MRAD)), moved, "area")
    assert seen == pytest.approx(segments(quadrants(), disk, "area"), abs=2e-3)
    assert np.ptp(segments(quadrants(), moved, "area")) > 0.1


@pytest.mark.slow
def test_area_edges_are_continuous_in_the_rotation():
    wave = scattered_wave()
    turns = np.linspace(0, 0.1, 201)
    jumps = {
        edges: np.abs(np.diff([segments(quadrants(rotation=turn), wave, edges)[0] for turn in turns])).max()
        for edges in ("hard", "area")
    }
    assert jumps["area"] < 0.4 * jumps["hard"]


def test_segments_are_seen_through_matrices_as_through_waves():
    wave, detectors = scattered_wave(), {"a": quadrants(), "b": SegmentedDetector(9 * MRAD, 33 * MRAD, 3, 0.2, 2)}
    for edges in ("hard", "area"):
        made = DetectorSet(GRID, LAM, [0, 0.01, 0.03], {"r": (0.01, 0.02)}, edges, True, KC, segmented=detectors)
        intensity = np.abs(wave.T.ravel()[made.pixels]) ** 2
        regions, combination = made.regions()
        sums = [np.sum(intensity[r.pixels] * (1 if r.weights is None else r.weights)) for r in regions]
        assert combination @ np.array(sums) == pytest.approx(made.values(intensity), rel=1e-12)


# --- deflection and phase -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("aperture", "number", "rotation"), [((0.0, 20), 4, pi / 4), ((8, 20), 4, 0.3), ((0.0, 20), 6, 0.1)]
)
def test_segments_show_a_small_shift_of_the_disk(aperture, number, rotation):
    inner, outer = (angle * MRAD for angle in aperture)
    grid = Grid((512, 512), (90.0, 90.0))
    detector = SegmentedDetector(2 * MRAD, 40 * MRAD, number, rotation)
    if inner:
        assert detector.deflection_per_signal(outer, inner) == pytest.approx(
            pi * (outer + inner) / (number * np.sin(pi / number))
        )
    factor = detector.deflection_per_signal(outer, inner)
    shift = np.array([0.4, -0.25]) * MRAD
    disk = probe_spectrum(grid, LAM, outer, inner, True, Aberrations(), tuple(shift / LAM))
    made = DetectorSet(grid, LAM, None, {}, "area", False, None, segmented={"s": detector})
    seen = factor * made.measure(disk).rings @ detector.directions
    assert seen == pytest.approx(shift, abs=0.02 * MRAD)


def test_no_deflection_is_shown_without_an_edge_of_the_disk_or_with_two_sectors():
    assert quadrants(inner=25 * MRAD).deflection_per_signal(20 * MRAD) == 0
    assert quadrants(outer=15 * MRAD).deflection_per_signal(20 * MRAD) == 0
    assert quadrants(segments=2).deflection_per_signal(20 * MRAD) == 0


def thin_object(strength):
    """A smooth periodic phase [rad], mean zero, and its grid."""
    grid = Grid((96, 90), (12.0, 11.0))
    x, y = 2 * pi * grid.x[:, None] / 12.0, 2 * pi * grid.y[None, :] / 11.0
    phase = np.cos(x) + 0.5 * np.sin(2 * x + y) + 0.3 * np.cos(3 * y - x) + 0.2 * np.sin(5 * x) * np.cos(4 * y)
    return grid, strength * phase


def scanned(grid, phase, detectors, step):
    """Signals of a phase object at each `step`-th grid point, and the probe's intensity."""
    probe = probe_spectrum(grid, LAM, 20 * MRAD, 0, True, Aberrations(C10=-20.0))
    rows, columns = range(0, grid.gpts[0], step), range(0, grid.gpts[1], step)
    seen = []
    for i in rows:
        for j in columns:
            ex, ey = shift_factors(grid, (grid.x[i], grid.y[j]))
            wave = np.fft.ifft2(probe * ex[:, None] * ey) * np.exp(1j * phase)
            seen.append(detectors.measure(np.fft.fft2(wave)))
    shape = (len(rows), len(columns))
    center = np.array([s.center_of_mass for s in seen]).reshape(*shape, 2)
    rings = np.array([s.rings for s in seen]).reshape(*shape, -1)
    intensity = np.abs(np.fft.ifft2(probe)) ** 2
    # φ ⋆ |ψ|²: the mean of φ over the probe at each position
    mean = np.fft.ifft2(np.fft.fft2(phase) * np.fft.fft2(intensity / intensity.sum()).conj()).real
    return center, rings, mean[::step, ::step]


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.02, 0.5])
@pytest.mark.parametrize("step", [2, 3])
def test_center_of_mass_of_a_phase_object_is_its_slope_and_the_integral_its_phase(strength, step):
    grid, phase = thin_object(strength)
    detectors = DetectorSet(grid, LAM, None, {}, "hard", True)
    center, _, expected = scanned(grid, phase, detectors, step)
    # CoM = (λ/2π) ∇φ ⋆ |ψ|², for phases of any size
    qx, qy = (np.fft.fftfreq(n, d * step) for n, d in zip(expected.shape, grid.sampling, strict=True))
    gradient = [np.fft.ifft2(2j * pi * q * np.fft.fft2(expected)).real for q in (qx[:, None], qy[None, :])]
    slope = LAM / (2 * pi) * np.stack(gradient, axis=-1)
    assert center == pytest.approx(slope, abs=1e-8 * np.abs(slope).max())
    # iCoM = φ ⋆ |ψ|², mean zero
    spacing = (grid.sampling[0] * step, grid.sampling[1] * step)
    found = phase_of_deflection(center, LAM, spacing, (0, 0))
    assert found == pytest.approx(expected - expected.mean(), abs=1e-8 * strength)
    assert found.mean() == pytest.approx(0, abs=1e-12)


def test_segments_show_the_slow_part_of_a_weak_phase():
    grid, _ = thin_object(1.0)
    x = 2 * pi * grid.x[:, None] / 12.0 + 0 * grid.y
    detector = SegmentedDetector(0.0, 30 * MRAD, 4, pi / 4)
    for period, close in ((1, 0.05), (2, 0.1)):
        phase = 0.01 * np.cos(period * x)
        detectors = DetectorSet(grid, LAM, None, {}, "area", True, segmented={"s": detector})
        _, rings, expected = scanned(grid, phase, detectors, 6)
        deflection = detector.deflection_per_signal(20 * MRAD) * rings @ detector.directions
        spacing = (grid.sampling[0] * 6, grid.sampling[1] * 6)
        found = phase_of_deflection(deflection, LAM, spacing, (0, 0))
        assert found == pytest.approx(expected, abs=close * np.abs(expected).max())


# --- edges of the scan --------------------------------------------------------------------------------------------


def image_and_slope(nx, ny, width, periods):
    """An image with these numbers of periods along x and y, and the deflection that belongs to it."""
    x, y = (np.arange(n) * w / n for n, w in zip((nx, ny), width, strict=True))
    x, y = x[:, None], y[None, :]
    image, slope = np.zeros((nx, ny)), np.zeros((nx, ny, 2))
    for amplitude, a, b, offset in ((1.0, 1, 0, 0.2), (0.6, 2, -1, 1.0), (0.4, 0, 3, 2.0)):
        qx, qy = a * periods[0] / width[0], b * periods[1] / width[1]
        argument = 2 * pi * (qx * x + qy * y) + offset
        image += amplitude * np.cos(argument)
        slope -= amplitude * np.sin(argument)[..., None] * 2 * pi * np.array([qx, qy])
    return image, LAM / (2 * pi) * slope


@pytest.mark.parametrize("shape", [(12, 15), (13, 16), (12, 16)])
def test_windows_of_whole_periods_are_integrated_exactly(shape):
    image, deflection = image_and_slope(*shape, (4.0, 5.0), (1, 1))
    spacing = (4.0 / shape[0], 5.0 / shape[1])
    found = phase_of_deflection(deflection, LAM, spacing, (0, 0))
    assert found == pytest.approx(image - image.mean(), abs=1e-12)


def test_several_depths_are_integrated_alike():
    image, deflection = image_and_slope(12, 15, (4.0, 5.0), (1, 1))
    both = np.stack([deflection, 3 * deflection], axis=2)
    found = phase_of_deflection(both, LAM, (4 / 12, 5 / 15), (0, 0))
    assert found[:, :, 1] == pytest.approx(3 * (image - image.mean()), abs=1e-12)


def test_a_centred_cell_repeats_moved_sideways():
    # Half of a centred cell: the next copy along x is moved by half of the window along y.
    image, deflection = image_and_slope(24, 16, (8.0, 5.0), (2, 2))
    x, y = np.arange(24)[:, None] * 8.0 / 24, np.arange(16)[None, :] * 5.0 / 16
    q = 2 * pi * np.array([1 / 8.0, 1 / 5.0])
    centred = np.cos(q[0] * x + q[1] * y)
    image = image + centred
    deflection = deflection - LAM / (2 * pi) * np.sin(q[0] * x + q[1] * y)[..., None] * q
    half = phase_of_deflection(deflection[:12], LAM, (8 / 24, 5 / 16), (8, 0))
    assert half == pytest.approx(image[:12] - image[:12].mean(), abs=1e-12)


def test_the_nyquist_frequency_of_an_axis_carries_no_slope_along_it():
    comb = np.zeros((8, 8, 2))
    comb[..., 0] = (-1.0) ** np.arange(8)[:, None]
    assert phase_of_deflection(comb, LAM, (1.0, 1.0), (0, 0)) == pytest.approx(0, abs=1e-12)
    # along the other axis it has its slope
    y = np.arange(8)[None, :]
    image = (-1.0) ** np.arange(8)[:, None] * np.cos(2 * pi * y / 8)
    comb = np.zeros((8, 8, 2))
    comb[..., 1] = -LAM / 8 * (-1.0) ** np.arange(8)[:, None] * np.sin(2 * pi * y / 8)
    assert phase_of_deflection(comb, LAM, (1.0, 1.0), (0, 0)) == pytest.approx(image, abs=1e-12)


@pytest.mark.parametrize("repeats", [(None, None), (None, 0), (0, None)])
def test_mirrored_edges_are_exact_for_a_phase_without_slope_across_them(repeats):
    nx, ny, step = 20, 24, 0.2
    x, y = (np.arange(nx)[:, None] + 0.5) * step, (np.arange(ny)[None, :] + 0.5) * step
    # cosines that are flat at the edges, half a step beyond the outermost positions
    kx = pi / (nx * step) * (1 if repeats[0] is None else 2)
    ky = pi / (ny * step) * (3 if repeats[1] is None else 4)
    image = np.cos(kx * x) * np.cos(ky * y)
    slope = np.stack([-kx * np.sin(kx * x) * np.cos(ky * y), -ky * np.cos(kx * x) * np.sin(ky * y)], axis=-1)
    found = phase_of_deflection(LAM / (2 * pi) * slope, LAM, (step, step), repeats)
    assert found == pytest.approx(image - image.mean(), abs=1e-12)


def test_a_window_that_does_not_repeat_is_better_mirrored_than_wrapped():
    image, deflection = image_and_slope(96, 90, (12.0, 11.0), (1, 1))
    part, slope = image[:40, :33], deflection[:40, :33]
    spacing = (12.0 / 96, 11.0 / 90)
    errors = {}
    for name, repeats in {"mirrored": (None, None), "wrapped": (0, 0)}.items():
        found = phase_of_deflection(slope, LAM, spacing, repeats)
        errors[name] = np.std(found - part + part.mean()) / np.std(part)
    assert errors["mirrored"] < 0.5 * errors["wrapped"]
    assert errors["mirrored"] < 0.1
