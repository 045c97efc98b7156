"""Rings with a sensitivity: profiles and maps, Eq. (P29)."""

from __future__ import annotations

import numpy as np
import pytest
from stemphony.physics.detectors import DetectorSet
from stemphony.physics.electron import wavelength
from stemphony.physics.grid import Grid, band_limit, band_limit_radius
from stemphony.physics.sensitivity import SensitiveDetector

LAM = wavelength(200e3)
GRID = Grid((256, 240), (24.0, 23.0))
KC = band_limit_radius(GRID)
MRAD = 1e-3
RING = (12 * MRAD, 45 * MRAD)
CENTERS = [(0.0, 0.0), (0.113, -0.071)]


def scattered_wave(seed=0):
    rng = np.random.default_rng(seed)
    wave = rng.normal(size=GRID.gpts) + 1j * rng.normal(size=GRID.gpts)
    wave *= band_limit(GRID) * np.exp(-GRID.k / 1.5)
    return 0.98 * wave / np.linalg.norm(wave)


def profile(*points):
    return SensitiveDetector(*RING, "", None, np.array(points, dtype=float) * [MRAD, 1.0])


def detector_map(values, pixel_mrad, ring=RING):
    return SensitiveDetector(*ring, "", pixel_mrad * MRAD, np.asarray(values, dtype=float))


def signals(detectors, wave, edges="hard", center=(0.0, 0.0)):
    made = DetectorSet(GRID, LAM, None, {"ring": RING}, edges, False, KC, center, sensitive=detectors)
    return dict(zip(made.ring_names, made.measure(wave).rings, strict=True))


@pytest.mark.parametrize("edges", ["hard", "area"])
@pytest.mark.parametrize("center", CENTERS)
def test_a_sensitivity_of_one_is_the_ring_exactly(edges, center):
    ones = {"profile": profile((0, 1), (60, 1)), "map": detector_map(np.ones((33, 32)), 3.0)}
    seen = signals(ones, scattered_wave(), edges, center)
    assert seen["profile"] == seen["ring"]
    assert seen["map"] == seen["ring"]


@pytest.mark.parametrize("edges", ["hard", "area"])
@pytest.mark.parametrize("center", CENTERS)
def test_complementary_sensitivities_add_up(edges, center):
    values = np.random.default_rng(3).random((40, 31))
    detectors = {
        "some": profile((0, 0.1), (20, 0.9), (31, 0.4), (60, 0.7)),
        "rest": profile((0, 0.9), (20, 0.1), (31, 0.6), (60, 0.3)),
        "map": detector_map(values, 3.1),
        "other": detector_map(1 - values, 3.1),
    }
    seen = signals(detectors, scattered_wave(), edges, center)
    assert seen["some"] + seen["rest"] == pytest.approx(seen["ring"], rel=1e-13)
    assert seen["map"] + seen["other"] == pytest.approx(seen["ring"], rel=1e-13)
    assert 0.1 < seen["some"] / seen["ring"] < 0.9


def beam(i, j):
    wave = np.zeros(GRID.gpts, dtype=complex)
    wave[i, j] = 1.0
    return wave


@pytest.mark.parametrize(("i", "j"), [(5, 3), (-5, 3), (5, -3), (-5, -3), (0, 6), (6, 0)])
def test_a_map_is_oriented_with_kx_first_and_both_angles_ascending(i, j):
    """The sensitivity is a linear function of the angles, so each beam tells where it falls."""
    pixel, n = 2.0, (61, 60)
    ax, ay = ((np.arange(number) - 0.5 * (number - 1)) * pixel for number in n)
    plane = 3.0 + 0.02 * ax[:, None] + 0.005 * ay[None, :]
    seen = signals({"map": detector_map(plane, pixel, (0.0, 55 * MRAD))}, beam(i, j))
    steps = [1e3 * LAM / length for length in GRID.extent]
    assert seen["map"] == pytest.approx(3.0 + 0.02 * i * steps[0] + 0.005 * j * steps[1], rel=1e-12)


def test_a_quadrant_map_sees_its_quadrant_alone():
    quadrant = np.zeros((100, 100))
    quadrant[50:, :50] = 1.0  # +kx and −ky
    found = {
        (i, j): signals({"map": detector_map(quadrant, 1.0, (0.0, 50 * MRAD))}, beam(i, j))["map"]
        for i in (-6, 6) for j in (-4, 4)
    }  # fmt: skip
    assert found == {(6, -4): 1.0, (6, 4): 0.0, (-6, 4): 0.0, (-6, -4): 0.0}


def test_a_map_follows_the_beam_that_is_descanned():
    """A beam at k₀ + q is seen with the sensitivity at q."""
    rng = np.random.default_rng(5)
    detector = {"map": detector_map(rng.random((50, 50)), 2.0, (0.0, 45 * MRAD))}
    straight = signals(detector, beam(5, -3))["map"]
    tilted = signals(detector, beam(7, 1), center=(2 / GRID.extent[0], 4 / GRID.extent[1]))["map"]
    assert tilted == pytest.approx(straight, rel=1e-12)


@pytest.mark.parametrize("angle", [13.0, 20.0, 33.3, 44.0])
def test_a_profile_is_linear_between_its_points(angle):
    index = round(angle * MRAD / LAM * GRID.extent[0])
    exact = 1e3 * LAM * index / GRID.extent[0]
    seen = signals({"p": profile((0, 0), (50, 1.0))}, beam(index, 0))
    assert seen["p"] == pytest.approx(exact / 50, rel=1e-12)


@pytest.mark.parametrize("edges", ["hard", "area"])
def test_regions_of_a_basis_give_the_same_signals(edges):
    wave = scattered_wave(2)
    detectors = {"p": profile((0, 0.2), (60, 0.8)), "m": detector_map(np.random.default_rng(1).random((40, 40)), 3.0)}
    made = DetectorSet(GRID, LAM, [0, 10 * MRAD, 50 * MRAD], {"ring": RING}, edges, True, KC, sensitive=detectors)
    intensity = np.abs(wave.T.ravel()[made.pixels]) ** 2
    regions, combination = made.regions()
    sums = [(intensity[r.pixels] * (1 if r.weights is None else r.weights)).sum() for r in regions]
    np.testing.assert_allclose(combination @ np.array(sums), made.values(intensity), rtol=1e-12, atol=1e-15)


def test_a_detector_without_values_measures_nothing():
    with pytest.raises(ValueError, match="was not read"):
        signals({"p": SensitiveDetector(*RING, "abc")}, scattered_wave())
