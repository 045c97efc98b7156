"""Truths of the multislice loop: conservation of intensity, reciprocity, convergence to the coupled-beam equations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm
from stemphony.physics.detectors import DetectorSet
from stemphony.physics.electron import interaction_parameter, wavelength
from stemphony.physics.grid import Grid, band_limit, band_limit_radius
from stemphony.physics.potential import SlicePotentials
from stemphony.physics.probe import Aberrations, probe_spectrum, shift_factors
from stemphony.physics.propagator import fresnel_propagator
from stemphony.physics.slicing import equal_slices, number_of_slices

from physics.specimens import LATTICE, crystal
from physics.waves import propagate, transmission_function

ENERGY = 200e3
LAM, SIGMA = wavelength(ENERGY), interaction_parameter(ENERGY)
GRID = Grid((96, 90), (16.0, 15.0))


def last(waves):
    """The wave behind the last stored slice, as an array of its own."""
    return [wave.copy() for _, wave in waves][-1]


def focused_probe(grid, semiangle=0.02, at=(0.0, 0.0)):
    ex, ey = shift_factors(grid, at)
    return probe_spectrum(grid, LAM, semiangle, 0, True, Aberrations()) * ex[:, None] * ey


def plane_wave(grid, index=(0, 0)):
    spectrum = np.zeros(grid.gpts, dtype=complex)
    spectrum[index] = 1
    return spectrum


def random_slices(plan, grid, count=3, seed=0, atoms=10, symbol="Si"):
    """Transmission functions of slices with a few atoms anywhere."""
    rng = np.random.default_rng(seed)
    positions = rng.uniform(0, 1, (atoms * count, 3)) * (*grid.extent, 1)
    slices = np.repeat(np.arange(count), atoms)
    potentials = SlicePotentials(grid, positions, [symbol] * len(slices), slices, count, "kirkland")
    return [transmission_function(potentials.projected(i), SIGMA, band_limit(grid), plan) for i in range(count)]


def test_vacuum_propagation_is_identity_in_intensity(make_plan):
    plan = make_plan(GRID.gpts)
    vacuum = transmission_function(np.zeros(GRID.gpts), SIGMA, band_limit(GRID), plan)
    # rounding of two transforms
    np.testing.assert_allclose(vacuum, 1, atol=1e-13)
    probe = focused_probe(GRID)
    propagator = fresnel_propagator(GRID, LAM, 2.0, band_limit(GRID))
    exit_wave = last(propagate(plan, probe, [vacuum] * 50, propagator, [50]))
    np.testing.assert_allclose(np.abs(exit_wave) ** 2, np.abs(probe) ** 2, atol=1e-14)
    assert np.sum(np.abs(exit_wave) ** 2) == pytest.approx(1, rel=1e-12)
    far = fresnel_propagator(GRID, LAM, 100.0, band_limit(GRID))
    np.testing.assert_allclose(exit_wave, probe * far, atol=1e-12)


def test_norm_is_conserved_inside_the_band_limit(make_plan):
    # A phase object so smooth that nothing is scattered to the band limit: 20 slices deflect by less than
    # half of it.
    plan = make_plan(GRID.gpts)
    potential = 60 * np.cos(2 * np.pi * GRID.x / 16.0)[:, None] * np.sin(2 * np.pi * GRID.y / 15.0)[None, :]
    transmission = transmission_function(potential, SIGMA, band_limit(GRID), plan)
    propagator = fresnel_propagator(GRID, LAM, 2.0, band_limit(GRID))
    for passed, wave in propagate(plan, focused_probe(GRID, 0.01), [transmission] * 20, propagator, [1, 5, 20]):
        # rounding only
        assert np.sum(np.abs(wave) ** 2) == pytest.approx(1, abs=1e-12), passed


def test_total_intensity_never_grows_by_more_than_the_ripples_of_the_band_limit(make_plan):
    plan = make_plan(GRID.gpts)
    propagator = fresnel_propagator(GRID, LAM, 2.0, band_limit(GRID))
    slices = random_slices(plan, GRID, count=10, atoms=30, symbol="Au")
    totals = [
        np.sum(np.abs(wave) ** 2) for _, wave in propagate(plan, focused_probe(GRID), slices, propagator, range(1, 11))
    ]
    # The band limit takes away what is scattered beyond; a band-limited t overshoots 1 by ripples near atoms.
    assert totals[-1] < 0.999
    assert max(np.diff([1.0, *totals])) < 1e-3


def test_weak_phase_object_scatters_in_proportion_to_its_potential(make_plan):
    # F[ψ](k) = δ + iσ V(k), the neglected part quadratic in σ.
    plan = make_plan(GRID.gpts)
    rng = np.random.default_rng(2)
    positions = rng.uniform(0, 1, (6, 3)) * (16, 15, 1)
    potential = SlicePotentials(GRID, positions, ["C"] * 6, [0] * 6, 1, "kirkland").projected(0)
    limit = band_limit(GRID)
    kinematic = 1j * np.fft.fft2(potential, norm="forward") * limit**2  # once for t, once for the propagator
    errors = []
    for sigma in (1e-6, 2e-6, 4e-6):
        transmission = transmission_function(potential, sigma, limit, plan)
        wave = last(propagate(plan, plane_wave(GRID), [transmission], limit.astype(complex), [1]))
        wave[0, 0] -= 1
        errors.append(np.abs(wave - sigma * kinematic).max() / np.abs(sigma * kinematic).max())
    # σV is below 4e-3 here; the error is of that order and grows with it.
    assert errors[2] < 1e-3
    np.testing.assert_allclose(np.divide(errors[1:], errors[:-1]), 2, rtol=0.01)


def test_source_and_detector_may_be_exchanged(make_plan):
    # Reciprocity: k → k' through the slices as −k' → −k through them in reverse; the propagator stands behind
    # a slice each time, so the free paths in front of the first and behind the last one are made equal by one
    # more step.
    plan = make_plan(GRID.gpts)
    slices = random_slices(plan, GRID, count=4)
    propagator = fresnel_propagator(GRID, LAM, 6.0, band_limit(GRID))
    for start, end in [((3, 2), (-5, 7)), ((0, 0), (12, 0)), ((-8, 1), (9, -9))]:
        back_start, back_end = (-end[0], -end[1]), (-start[0], -start[1])
        there = last(propagate(plan, plane_wave(GRID, start), slices, propagator, [4]))[end] * propagator[start]
        back = last(propagate(plan, plane_wave(GRID, back_start), slices[::-1], propagator, [4]))[back_end]
        back *= propagator[back_start]
        assert abs(there) > 1e-4
        # rounding only
        assert there == pytest.approx(back, abs=1e-14)


def test_wave_may_go_on_from_any_slice(make_plan):
    plan = make_plan(GRID.gpts)
    slices = random_slices(plan, GRID, count=5)
    propagator = fresnel_propagator(GRID, LAM, 2.0, band_limit(GRID))
    probe = focused_probe(GRID, at=(3.3, 4.4))
    kept = {passed: wave.copy() for passed, wave in propagate(plan, probe, slices, propagator, [2, 3, 5])}
    assert list(kept) == [2, 3, 5]
    continued = last(propagate(plan, kept[2], slices[2:], propagator, [3]))
    # the same operations in the same order
    np.testing.assert_array_equal(continued, kept[5])
    assert not list(propagate(plan, probe, slices, propagator, []))
    np.testing.assert_array_equal(probe, focused_probe(GRID, at=(3.3, 4.4)))


def test_slices_without_distance_act_as_one(make_plan):
    # exp(iσV₁)·exp(iσV₂) = exp(iσ(V₁+V₂)) when both are smooth enough for the band limit
    plan = make_plan(GRID.gpts)
    limit = band_limit(GRID)
    first = 300 * np.cos(2 * np.pi * GRID.x / 16.0)[:, None] * np.ones(90)
    second = 200 * np.sin(4 * np.pi * GRID.y / 15.0)[None, :] * np.ones((96, 1))
    here = fresnel_propagator(GRID, LAM, 0.0, limit)
    transmissions = [transmission_function(v, SIGMA, limit, plan) for v in (first, second)]
    both = transmission_function(first + second, SIGMA, limit, plan)
    probe = focused_probe(GRID, 0.01)
    apart = last(propagate(plan, probe, transmissions, here, [2]))
    # rounding only
    np.testing.assert_allclose(last(propagate(plan, probe, [both], here, [1])), apart, atol=1e-12)


def test_multislice_converges_to_the_coupled_beam_equations(make_plan):
    # A crystal that varies sinusoidally across the beam: its beams obey dψ_g/dz = −iπλg²ψ_g + iσ Σ_h V_{g−h}
    # ψ_h (Howie & Whelan), which a matrix exponential solves without slices. Slices, with the whole potential
    # at their start, approach it in first order.
    grid = Grid((64, 16), (4.0, 1.0))
    depth, strength = 120.0, 12.0  # Å, V
    plan, limit = make_plan(grid.gpts), band_limit(grid, taper=0)
    potential = strength * np.cos(2 * np.pi * grid.x / 4.0)[:, None] * np.ones(16)

    beams = np.arange(-20, 21)
    couplings = SIGMA * strength / 2 * (np.abs(beams[:, None] - beams) == 1)
    generator = 1j * (couplings - np.diag(np.pi * LAM * (beams / 4.0) ** 2))
    exact = expm(depth * generator)[:, 20]
    assert np.abs(exact[20]) ** 2 < 0.8  # far from kinematic

    errors = []
    for count in (30, 60, 120, 240):
        transmission = transmission_function(potential * depth / count, SIGMA, limit, plan)
        propagator = fresnel_propagator(grid, LAM, depth / count, limit)
        wave = last(propagate(plan, plane_wave(grid), [transmission] * count, propagator, [count]))
        errors.append(np.abs(wave[beams, 0] - exact).max())
    assert errors[-1] < 1e-3
    # first order: halved with the thickness, up to the second order
    np.testing.assert_allclose(np.divide(errors[1:], errors[:-1]), 0.5, atol=0.005)


@pytest.mark.slow
def test_thinner_slices_converge_for_atoms_anywhere(make_plan):
    grid = Grid((96, 96), (12.0, 12.0))
    plan, limit = make_plan(grid.gpts), band_limit(grid)
    positions = np.random.default_rng(5).uniform(0, 1, (60, 3)) * (12, 12, 32)

    def exit_wave(count):
        index = equal_slices(32.0, count).index(positions[:, 2])
        potentials = SlicePotentials(grid, positions, ["Si"] * 60, index, count, "kirkland")
        slices = [transmission_function(potentials.projected(i), SIGMA, limit, plan) for i in range(count)]
        propagator = fresnel_propagator(grid, LAM, 32.0 / count, limit)
        return last(propagate(plan, focused_probe(grid), slices, propagator, [count]))

    reference = exit_wave(1024)
    errors = [np.linalg.norm(exit_wave(count) - reference) for count in (16, 64, 256)]
    # Atoms are moved to the start of their slice: first order, a factor 4 each time, less what the reference
    # lacks.
    assert errors[0] > 2.5 * errors[1] > 2.5**2 * errors[2]
    assert errors[1] < 5e-3


def test_finer_sampling_converges(make_plan):
    specimen = crystal("Si", (2, 2, 1))
    length, a = specimen.cell[2], LATTICE["Si"]
    n = number_of_slices(length, a / 4)
    index = equal_slices(length, n).index(specimen.positions[:, 2])

    def bright_field(points):
        grid = Grid((points, points), specimen.cell[:2])
        plan, limit = make_plan(grid.gpts), band_limit(grid)
        potentials = SlicePotentials(grid, specimen.positions, specimen.symbols, index, n, "kirkland")
        slices = [transmission_function(potentials.projected(i), SIGMA, limit, plan) for i in range(n)]
        propagator = fresnel_propagator(grid, LAM, length / n, limit)
        wave = last(propagate(plan, focused_probe(grid), slices * 10, propagator, [n * 10]))
        detectors = DetectorSet(grid, LAM, None, {"bf": (0, 0.01)}, "area", False, band_limit_radius(grid))
        return detectors.measure(wave).rings[0]

    exact = bright_field(320)
    errors = [abs(bright_field(points) / exact - 1) for points in (72, 108, 160, 240)]
    # The signal on a column settles as the band limit takes in the scattering: 0.15, 0.10, 0.068 and 0.045 Å.
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 5e-3


def test_single_precision_agrees_with_double(make_plan):
    specimen = crystal("SrTiO3", (4, 4, 1))
    grid = Grid((192, 192), specimen.cell[:2])
    index = equal_slices(3.905, 2).index(specimen.positions[:, 2])
    potentials = SlicePotentials(grid, specimen.positions, specimen.symbols, index, 2, "kirkland")
    limit = band_limit(grid)
    patterns = []
    for dtype in (np.complex128, np.complex64):
        plan = make_plan(grid.gpts, dtype)
        slices = [transmission_function(potentials.projected(i), SIGMA, limit, plan) for i in (0, 1)]
        propagator = fresnel_propagator(grid, LAM, 3.905 / 2, limit, dtype)
        wave = last(propagate(plan, focused_probe(grid), slices * 20, propagator, [40]))
        assert wave.dtype == dtype
        patterns.append(np.abs(wave.astype(complex)) ** 2)
    # 80 transforms with errors of some 1e-7 each; what is asked for is 1e-4 of the maximum
    assert np.abs(patterns[0] - patterns[1]).max() < 1e-5 * patterns[0].max()
    assert patterns[1].sum() == pytest.approx(patterns[0].sum(), rel=1e-5)


def test_impossible_stops_are_refused(make_plan):
    plan = make_plan(GRID.gpts)
    slices = random_slices(plan, GRID, count=2)
    propagator = fresnel_propagator(GRID, LAM, 2.0, band_limit(GRID))
    for stops in ([0, 1], [2, 1], [1, 1], [3]):
        with pytest.raises(ValueError, match="must ascend from 1 to at most 2"):
            next(propagate(plan, plane_wave(GRID), slices, propagator, stops))
