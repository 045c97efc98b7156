"""Truths of the electron: published wavelengths and interaction parameters, constants of CODATA, focal spread."""

from __future__ import annotations

from math import pi

import pytest
import scipy.constants
from stemphony.physics import constants
from stemphony.physics.electron import chromatic_focal_spread, interaction_parameter, wavelength

# Recomputed independently with CODATA 2018 and agreeing with the JEOL glossary and Kirkland's table.
TABLE = {  # keV: (wavelength [pm], sigma [1e-3 rad/(V Å)])
    30: (6.97908, 1.54327),
    60: (4.86606, 1.13569),
    80: (4.17572, 1.00871),
    100: (3.70144, 0.92440),
    120: (3.34922, 0.86381),
    200: (2.50793, 0.72884),
    300: (1.96875, 0.65262),
    800: (1.02695, 0.55030),
}


@pytest.mark.parametrize(("energy_kev", "picometres"), [(e, row[0]) for e, row in TABLE.items()])
def test_wavelength_is_the_published_one(energy_kev, picometres):
    # half a unit of the last digit
    assert 100 * wavelength(1e3 * energy_kev) == pytest.approx(picometres, abs=0.5e-5)


@pytest.mark.parametrize(("energy_kev", "milliradians"), [(e, row[1]) for e, row in TABLE.items()])
def test_interaction_parameter_is_the_published_one(energy_kev, milliradians):
    # half a unit of the last digit
    assert 1e3 * interaction_parameter(1e3 * energy_kev) == pytest.approx(milliradians, abs=0.5e-5)


def test_slow_electrons_are_not_relativistic():
    # At 1 eV relativity changes λ = 12.2643 Å/√E by E/(4mc²), 5e-7; six digits are given.
    assert wavelength(1.0) == pytest.approx(12.2643, abs=5e-5)


def test_potential_prefactor_is_that_of_the_contract():
    # half a unit of the last digit
    assert pytest.approx(47.8776, abs=0.5e-4) == constants.POTENTIAL_PREFACTOR


def test_potential_prefactor_and_bohr_radius_belong_together():
    # h²/(2π m e) = 2π a₀ e/(4π ε₀): scattering factors and Coulomb potential share one scale. CODATA holds it
    # to 1e-9.
    expected = 2 * pi * constants.BOHR_RADIUS * constants.COULOMB_POTENTIAL
    assert pytest.approx(expected, rel=1e-9) == constants.POTENTIAL_PREFACTOR
    assert pytest.approx(14.399645, abs=1e-6) == constants.COULOMB_POTENTIAL


@pytest.mark.parametrize(
    ("name", "scipys", "tolerance"),
    [
        # Defined numbers of the SI, and measured ones, which each release of CODATA changes by some 1e-10.
        ("PLANCK", "h", 0.0), ("SPEED_OF_LIGHT", "c", 0.0), ("ELEMENTARY_CHARGE", "e", 0.0), ("BOLTZMANN", "k", 0.0),
        ("ELECTRON_MASS", "m_e", 2e-9), ("ELECTRIC_CONSTANT", "epsilon_0", 2e-9), ("ATOMIC_MASS", "atomic_mass", 2e-9),
    ],
)  # fmt: skip
def test_constants_are_those_of_codata(name: str, scipys: str, tolerance: float):
    assert getattr(constants, name) == pytest.approx(getattr(scipy.constants, scipys), rel=tolerance, abs=0.0)


@pytest.mark.parametrize("energy", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_energy_is_refused(energy):
    with pytest.raises(ValueError, match="energy of the beam"):
        wavelength(energy)
    with pytest.raises(ValueError, match="energy of the beam"):
        interaction_parameter(energy)


@pytest.mark.parametrize("energy_kev", [30, 80, 200, 1000])
def test_the_focal_spread_is_that_of_a_lens_whose_focus_follows_the_wavelength(energy_kev):
    """C_c is df/d(ln U*) with the relativistic voltage U*, and λ ∝ U*^(−1/2), so df = −2 C_c dλ/λ, Eq. (P27)."""
    energy, step = 1e3 * energy_kev, 1.0
    relative = (wavelength(energy - step) - wavelength(energy + step)) / wavelength(energy)
    assert chromatic_focal_spread(1.2e7, 2 * step, energy) == pytest.approx(2 * 1.2e7 * relative, rel=1e-7)


def test_the_relativistic_factor_of_the_focal_spread_has_its_limits():
    """1 for slow electrons; 2 for fast ones, whose voltage U* grows with the square of the energy."""
    assert chromatic_focal_spread(1.0, 1.0, 1.0) == pytest.approx(1.0, abs=2e-6)
    assert chromatic_focal_spread(1.0, 1.0, 1e12) == pytest.approx(2e-12, rel=1e-5)
