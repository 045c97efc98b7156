"""Transmission functions from a potential on a finer grid, Eq. (P3): exact coefficients, against theory."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import j0, jv, k0
from stemphony.physics.constants import POTENTIAL_PREFACTOR
from stemphony.physics.electron import interaction_parameter, wavelength
from stemphony.physics.grid import Grid, band_limit, band_limit_radius
from stemphony.physics.multislice import cropped_transmission
from stemphony.physics.potential import SlicePotentials
from stemphony.physics.scattering import _coefficients

SIGMA = interaction_parameter(200e3)
LAM = wavelength(200e3)


def cropped(potential, grid, dtype=complex, **limit):
    return cropped_transmission(potential, SIGMA, band_limit(grid, **limit), np.empty(grid.gpts, dtype))


def smooth(grid):
    """A potential of a few low frequencies, 600 V Å: a phase of 0.4 rad."""
    x, y = grid.x[:, None] / grid.extent[0], grid.y[None, :] / grid.extent[1]
    return 300 * (np.cos(2 * np.pi * x) + np.sin(2 * np.pi * (x + 2 * y)))


@pytest.mark.parametrize("gpts", [(48, 45), (45, 48), (7, 30), (64, 64)])
@pytest.mark.parametrize("limit", [{}, {"taper": 0.0}, {"bandlimit": 1.0, "taper": 0.0}])
def test_a_factor_of_one_is_the_usual_transmission_function(gpts, limit):
    grid = Grid(gpts, (7.0, 6.5))
    potential = np.random.default_rng(0).normal(0, 300, gpts)
    usual = np.fft.ifft2(band_limit(grid, **limit) * np.fft.fft2(np.exp(1j * SIGMA * potential)))
    np.testing.assert_allclose(cropped(potential, grid, **limit), usual, atol=1e-13)


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("gpts", [(48, 45), (45, 48)])
def test_a_smooth_potential_gives_the_same_on_a_finer_grid(gpts, factor):
    grid = Grid(gpts, (7.0, 6.5))
    fine = grid.finer(factor)
    assert fine.extent == grid.extent
    np.testing.assert_allclose(cropped(smooth(fine), grid), cropped(smooth(grid), grid), atol=1e-13)


def test_single_precision_agrees_with_double():
    grid = Grid((48, 45), (7.0, 6.5))
    single = cropped(smooth(grid.finer(2)), grid, np.complex64)
    np.testing.assert_allclose(single, cropped(smooth(grid.finer(2)), grid), atol=1e-6)


def test_coefficients_of_a_strong_phase_grating_are_bessel_functions():
    """exp(ia cos 2πx/L) = Σ iⁿ Jₙ(a) exp(2πi n x/L) (Jacobi, Anger); on 16 points a phase of 12 rad aliases."""
    grid, strength = Grid((16, 16), (4.0, 4.0)), 12.0
    order = np.arange(-4, 5)
    exact = 1j**order * jv(order, strength)

    def coefficients(factor):
        fine = grid.finer(factor)
        potential = np.broadcast_to(strength / SIGMA * np.cos(2 * np.pi * fine.x[:, None] / 4.0), fine.gpts)
        return np.fft.fft2(cropped(potential, grid), norm="forward")[order, 0]

    assert np.abs(coefficients(1) - exact).max() > 0.1
    np.testing.assert_allclose(coefficients(4), exact, atol=1e-12)


def moliere_amplitude(symbol, k):
    """2π ∫ (exp(iσV) − 1) J₀(2πkr) r dr of one atom, with the analytic projection V(r) of Kirkland's f_e [Å²].

    Molière's amplitude in the phase object approximation (Molière, Z. Naturforsch. 2a (1947) 133). No grid takes part.
    """
    terms = _coefficients("kirkland")[symbol]

    def potential(r):
        rings = sum(2 * np.pi * a * k0(2 * np.pi * r * np.sqrt(b)) for a, b in zip(terms["a"], terms["b"], strict=True))
        bells = sum(
            np.pi * c / d * np.exp(-((np.pi * r) ** 2) / d) for c, d in zip(terms["c"], terms["d"], strict=True)
        )
        return POTENTIAL_PREFACTOR * (rings + bells)

    def part(function, radius):
        # r = eᵘ, because V has a logarithmic peak at the nucleus.
        def integrand(u):
            r = np.exp(u)
            return function(SIGMA * potential(r)) * j0(2 * np.pi * k * r) * r * r

        edges = np.concatenate([[np.log(1e-6)], np.log(np.arange(0.02, radius, 0.02))])
        return sum(quad(integrand, a, b, epsabs=1e-12)[0] for a, b in pairwise(edges))

    return 2 * np.pi * (part(lambda v: np.cos(v) - 1, 6.0) + 1j * part(np.sin, 6.0))


@pytest.mark.slow
@pytest.mark.parametrize("symbol", ["Si", "Sr"])
def test_an_atom_scatters_as_its_radial_integral_says(symbol):
    """One atom between the points of a grid of 0.0625 Å: intensity at 50 to 115 mrad.

    At a factor of 1 the potential lacks its frequencies beyond those of the waves, and Sr scatters up to 6 % too much.
    From a factor of 2 on the error falls as the square of the factor.
    """
    grid = Grid((192, 192), (12.0, 12.0))
    orders = np.array([24, 36, 48, 55])  # k = 2.0, 3.0, 4.0 and 4.58 Å⁻¹; the band limit is 5.33 Å⁻¹
    assert orders[-1] / 12.0 < 0.9 * band_limit_radius(grid)
    exact = np.array([abs(moliere_amplitude(symbol, k)) ** 2 for k in orders / 12.0])

    def errors(factor):
        fine = grid.finer(factor)
        potential = SlicePotentials(fine, [[5.02, 4.97, 0]], [symbol], [0], 1, "kirkland").projected(0)
        coefficients = np.fft.fft2(cropped(potential, grid), norm="forward")[orders, 0] * 144.0
        return np.abs(np.abs(coefficients) ** 2 / exact - 1)

    found = {factor: errors(factor) for factor in (1, 2, 4)}
    assert found[1].max() > {"Si": 0.01, "Sr": 0.05}[symbol]
    assert found[4].max() < {"Si": 0.002, "Sr": 0.009}[symbol]
    assert found[4].max() < 0.3 * found[2].max()
