"""Truths of the probe: Airy pattern, apertures, shifts, defocus, aberrations."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from scipy.special import j0, j1
from stemphony.physics.electron import wavelength
from stemphony.physics.grid import Grid, band_limit
from stemphony.physics.probe import (
    Aberrations,
    MovableProbe,
    aberration_phase,
    aperture,
    outermost_angle,
    probe_spectrum,
    probe_tail_fraction,
    shift_factors,
)
from stemphony.physics.propagator import fresnel_propagator

LAM = wavelength(200e3)
GRID = Grid((256, 256), (40.0, 40.0))
ALPHA = 0.02


def intensity(spectrum, grid=GRID):
    """|ψ(r)|² with the probe in the middle of the cell; its sum is 1."""
    ex, ey = shift_factors(grid, (grid.extent[0] / 2, grid.extent[1] / 2))
    return np.abs(np.fft.ifft2(spectrum * ex[:, None] * ey, norm="ortho")) ** 2


def after(spectrum, distance, grid=GRID):
    """The probe at a distance behind the plane it enters."""
    return spectrum * fresnel_propagator(grid, LAM, distance, band_limit(grid, taper=0))


def test_probe_carries_one_electron():
    for soft in (True, False):
        spectrum = probe_spectrum(GRID, LAM, ALPHA, 0.005, soft, Aberrations(C10=-100, C30=1e4))
        assert np.sum(np.abs(spectrum) ** 2) == pytest.approx(1, rel=1e-13)


def test_unaberrated_probe_is_the_airy_pattern():
    # First dark ring at 0.61 λ/α; intensity (2 J₁(v)/v)² with v = 2π α r/λ. The periodic cell and the soft
    # edge leave 3e-3 of the maximum (see the tails below).
    grid = Grid((512, 512), (80.0, 80.0))
    spot = intensity(probe_spectrum(grid, LAM, ALPHA, 0, True, Aberrations()), grid)
    v = 2 * np.pi * ALPHA / LAM * (grid.x - 40.0)
    airy = (2 * j1(v + 1e-12) / (v + 1e-12)) ** 2
    np.testing.assert_allclose(spot[:, 256] / spot.max(), airy, atol=3e-3)
    np.testing.assert_allclose(spot[256, :] / spot.max(), airy, atol=3e-3)


@pytest.mark.parametrize("extent", [(20.3, 20.3), (31.24, 31.24), (24.0, 37.0), (47.1, 46.2)])
def test_soft_aperture_has_the_area_of_the_circle(extent):
    grid = Grid((160, 200), extent)
    pixel = LAM**2 / (extent[0] * extent[1])
    soft, hard = (aperture(grid, LAM, ALPHA, 0, s).sum() * pixel for s in (True, False))
    exact = np.pi * ALPHA**2
    # A linear ramp is not the exact share of a pixel that a circle cuts: 0.3 %. Hard edges are off by up to
    # some per cent.
    assert soft == pytest.approx(exact, rel=3e-3)
    assert hard == pytest.approx(exact, rel=4e-2)
    ring = aperture(grid, LAM, ALPHA, 0.012, True).sum() * pixel
    assert ring == pytest.approx(np.pi * (ALPHA**2 - 0.012**2), rel=5e-3)


def test_hard_aperture_is_closed_on_both_sides():
    grid = Grid((64, 64), (1 / 0.25, 1 / 0.25))
    open_at = aperture(grid, 0.0625, 4 * 0.25 * 0.0625, 2 * 0.25 * 0.0625, False)[:7, 0]
    assert open_at.tolist() == [0, 0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("extent", [(8.0, 8.0), (8.0, 13.0), (24.0, 9.0)])
def test_a_hard_ring_holds_points_up_to_its_outermost_one(extent):
    grid = Grid((64, 80), extent)
    for semiangle in np.linspace(1e-4, 0.02, 40):
        inner = outermost_angle(grid, LAM, semiangle)
        if inner > 0:
            assert aperture(grid, LAM, semiangle, inner, soft=False).any()
        if inner < semiangle:
            assert not aperture(grid, LAM, semiangle, np.nextafter(inner, 1), soft=False).any()
            assert aperture(grid, LAM, semiangle, np.nextafter(inner, 1), soft=True).any()


def test_probe_moves_exactly_between_grid_points():
    spectrum = probe_spectrum(GRID, LAM, ALPHA, 0, True, Aberrations(C10=-80, C21=500, phi21=0.4))
    waves = [np.fft.ifft2(spectrum)]
    for _ in range(2):
        ex, ey = shift_factors(GRID, (1.5 * GRID.sampling[0], -0.5 * GRID.sampling[1]))
        spectrum = spectrum * ex[:, None] * ey
        waves.append(np.fft.ifft2(spectrum))
    # Two moves by (1½, −½) pixels are a roll by (3, −1); each keeps the norm. Rounding only.
    np.testing.assert_allclose(waves[2], np.roll(waves[0], (3, -1), axis=(0, 1)), atol=1e-14)
    assert np.linalg.norm(waves[1]) == pytest.approx(np.linalg.norm(waves[0]), rel=1e-13)


@pytest.mark.parametrize("dtype", [np.complex128, np.complex64])
def test_a_movable_probe_is_the_spectrum_times_its_shifts(dtype):
    spectrum = probe_spectrum(GRID, LAM, ALPHA, 0.005, True, Aberrations(C10=-100, C30=1e4))
    movable = MovableProbe(GRID, spectrum, dtype)
    for position in ((0.0, 0.0), (3.21, 17.6), (-1.0, 39.99)):
        ex, ey = shift_factors(GRID, position)
        wave = movable.at(position)
        assert wave.dtype == dtype
        np.testing.assert_array_equal(wave, (spectrum * ex[:, None] * ey).astype(dtype))


def test_probe_stands_where_it_was_put():
    spectrum = probe_spectrum(GRID, LAM, ALPHA, 0, True, Aberrations())
    ex, ey = shift_factors(GRID, (25 * GRID.sampling[0], 200 * GRID.sampling[1]))
    spot = np.abs(np.fft.ifft2(spectrum * ex[:, None] * ey))
    assert np.unravel_index(spot.argmax(), spot.shape) == (25, 200)


@pytest.mark.parametrize("defocus", [150.0, -150.0])
def test_positive_defocus_focuses_inside_the_specimen(defocus):
    probe = probe_spectrum(GRID, LAM, ALPHA, 0, True, Aberrations(C10=-defocus))
    distances = np.arange(-200.0, 201.0, 25.0)
    peaks = [intensity(after(probe, z)).max() for z in distances]
    assert distances[int(np.argmax(peaks))] == defocus


def test_scherzer_defocus_cancels_spherical_aberration_as_scherzer_said():
    # With Δf = √(1.5 Cs λ) the phase has its extremum at α² = Δf/Cs, where it is −¾π, and passes zero at α² =
    # 2Δf/Cs.
    cs = 1.2e7
    defocus = np.sqrt(1.5 * cs * LAM)
    k = np.sqrt(defocus / cs * np.array([1.0, 2.0])) / LAM
    phase = aberration_phase(Aberrations(C10=-defocus, C30=cs), LAM, k, np.zeros(2))
    # rounding of 1e-16 times phases of order 10
    np.testing.assert_allclose(phase, [-0.75 * np.pi, 0.0], atol=1e-12)


NAMES = [field.name for field in fields(Aberrations) if field.name.startswith("C")]


@pytest.mark.parametrize("name", NAMES)
def test_each_aberration_has_its_symmetry_and_size(name):
    order, fold = int(name[1]), int(name[2])
    azimuth = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    angle = 0.3
    setting = {name: 1.0} if fold == 0 else {name: 1.0, f"phi{order}{fold}": angle}

    def phase(at, alpha=0.03):
        return aberration_phase(Aberrations(**setting), LAM, np.full(np.shape(at), alpha / LAM), at)

    # A path difference C αⁿ⁺¹/(n+1), in wavelengths, along the direction phi. All equalities to rounding.
    largest = 2 * np.pi * 0.03 ** (order + 1) / (order + 1) / LAM
    assert phase(angle) == pytest.approx(largest, rel=1e-12)
    assert np.abs(phase(azimuth)).max() <= largest * (1 + 1e-12)
    if fold == 0:
        np.testing.assert_allclose(phase(azimuth), largest, rtol=1e-12)
    else:
        np.testing.assert_allclose(phase(azimuth + 2 * np.pi / fold), phase(azimuth), atol=1e-11 * largest)
        np.testing.assert_allclose(phase(azimuth + np.pi / fold), -phase(azimuth), atol=1e-11 * largest)
    assert phase(angle, 0.06) == pytest.approx(2 ** (order + 1) * largest, rel=1e-12)


def test_all_twenty_five_coefficients_to_fifth_order_are_there():
    assert " ".join(NAMES) == "C10 C12 C21 C23 C30 C32 C34 C41 C43 C45 C50 C52 C54 C56"
    assert len(fields(Aberrations)) == 25


def moments(spot):
    """Second moments of the spot about its middle, cut at 15 Å to be free of the slow tails."""
    x, y = np.meshgrid(GRID.x - 20, GRID.y - 20, indexing="ij")
    weight = spot * (np.hypot(x, y) < 15)
    return np.array([[np.sum(weight * a * b) for a in (x, y)] for b in (x, y)]) / weight.sum()


@pytest.mark.parametrize("degrees", [0.0, 30.0, 75.0])
def test_astigmatism_makes_line_foci_that_turn_with_its_angle(degrees):
    # C12 > 0 delays the rays along phi12: those across it meet at +C12 behind the plane, so the line lies
    # along phi12.
    astigmatic = Aberrations(C12=200.0, phi12=np.radians(degrees))
    probe = probe_spectrum(GRID, LAM, ALPHA, 0, True, astigmatic)
    widths, axes = np.linalg.eigh(moments(intensity(after(probe, 200.0))))
    assert widths[1] > 3 * widths[0]
    direction = np.degrees(np.arctan2(axes[1, 1], axes[0, 1])) % 180
    # the tails are cut by a circle of pixels; the angle stays within a degree
    assert (direction - degrees + 90) % 180 - 90 == pytest.approx(0, abs=1)


def test_tail_of_an_airy_pattern_lies_between_those_of_two_circles():
    for extent in (12.0, 20.0, 40.0, 80.0):
        share = probe_tail_fraction(LAM, ALPHA, 0, Aberrations(), (extent, extent))
        inscribed, circumscribed = (
            j0(v) ** 2 + j1(v) ** 2 for v in np.pi * ALPHA / LAM * extent * np.array([1, np.sqrt(2)])
        )
        assert circumscribed < share < inscribed
        # The mean of 1/(π² k₀ r) over the directions of a square: its rings average out, 3e-3 at 10 rings and
        # more.
        mean_inverse_radius = 2 * np.sqrt(2) / np.pi / (extent / 2)
        assert share == pytest.approx(mean_inverse_radius / (np.pi**2 * ALPHA / LAM), rel=3e-3)


def test_tail_agrees_with_a_probe_in_a_box_many_times_as_large():
    # The soft-edged probe in a box of 24 and 16 times the cell, its amplitude referred to the area of the
    # hard aperture, because softness only cuts the tails that the box cannot hold. Pixels at the rim leave 1
    # %.
    aberrations = Aberrations(C10=-250.0, C12=40.0, phi12=0.5, C21=900.0, phi21=1.0, C23=500.0, C30=2e4)
    extent = (14.0, 21.0)
    box = Grid((972, 972), (340.2, 340.2))  # 40 × 60 pixels inside
    spot = intensity(probe_spectrum(box, LAM, ALPHA, 0.006, True, aberrations), box)
    weights = np.zeros(972), np.zeros(972)
    for weight, pixels in zip(weights, (20, 30), strict=True):
        weight[486 - pixels : 487 + pixels] = 1
        weight[[486 - pixels, 486 + pixels]] = 0.5
    held = np.sum(aperture(box, LAM, ALPHA, 0.006, True) ** 2) * (LAM / 340.2) ** 2 / np.pi / (ALPHA**2 - 0.006**2)
    outside = 1 - held * (weights[0] @ spot @ weights[1])
    share = probe_tail_fraction(LAM, ALPHA, 0.006, aberrations, extent)
    assert share > 0.02
    assert share == pytest.approx(outside, rel=0.01)


def test_tail_grows_with_defocus_and_shrinks_with_the_cell():
    shares = [probe_tail_fraction(LAM, ALPHA, 0, Aberrations(C10=-z), (30.0, 30.0)) for z in (0, 400, 700, 1000, 2000)]
    assert shares == sorted(shares)
    assert shares[-1] > 0.5
    # Underfocus and overfocus of a round probe differ by the sign of its phase only.
    over = probe_tail_fraction(LAM, ALPHA, 0, Aberrations(C10=700), (30.0, 30.0))
    assert over == pytest.approx(shares[2], rel=1e-9)
    larger = probe_tail_fraction(LAM, ALPHA, 0, Aberrations(C10=-1000), (60.0, 60.0))
    assert larger < 0.2 * shares[3]


@pytest.mark.slow
@pytest.mark.parametrize("defocus", [5e3, 2e4, 4e5])
def test_far_out_of_focus_the_probe_is_the_shadow_of_the_aperture(defocus):
    # A disc of radius αΔf, evenly lit: what a square inside it holds is known. The bright spot on the axis
    # that every round shadow has adds 0.6 % to the first two, the counting of rays 0.5 % to the last.
    side = 40.0 if defocus < 4e5 else 4000.0
    share = probe_tail_fraction(LAM, ALPHA, 0, Aberrations(C10=-defocus), (side, side))
    inside = side**2 / (np.pi * (ALPHA * defocus) ** 2)
    assert 1 - share == pytest.approx(inside, rel=0.01)


def test_tail_of_a_sharp_probe_goes_on_falling_in_huge_cells():
    # As the inverse of the size, whichever way it is computed. The rings of the Airy pattern leave 1e-3.
    for inner in (0.0, 0.01):
        shares = [
            probe_tail_fraction(LAM, ALPHA, inner, Aberrations(C10=-100), (size, 0.8 * size)) for size in (150.0, 900.0)
        ]
        assert shares[1] == pytest.approx(shares[0] / 6, rel=5e-3)


def test_impossible_apertures_are_refused():
    with pytest.raises(ValueError, match="inner < outer"):
        aperture(GRID, LAM, 0.01, 0.02, True)
    with pytest.raises(ValueError, match="carries only 80"):
        aperture(GRID, LAM, 0.09, 0.0, True)
    with pytest.raises(ValueError, match="between the grid points"):
        probe_spectrum(GRID, LAM, 0.0003, 0.0002, False, Aberrations())
    with pytest.raises(ValueError, match="inner < outer"):
        probe_tail_fraction(LAM, 0.0, 0.0, Aberrations(), (10.0, 10.0))
