"""Physical constants in the units of this package: eV, Å, V.

All values derive from the CODATA values in SciPy.
"""

from __future__ import annotations

from math import log, pi, sqrt

import scipy.constants as codata

PLANCK: float = codata.h
"""Planck constant h [J s]."""

SPEED_OF_LIGHT: float = codata.c
"""Speed of light in vacuum c [m/s]."""

ELECTRON_MASS: float = codata.m_e
"""Rest mass of the electron m₀ [kg]."""

ELEMENTARY_CHARGE: float = codata.e
"""Elementary charge e [C]."""

ELECTRIC_CONSTANT: float = codata.epsilon_0
"""Permittivity of vacuum ε₀ [F/m]."""

_ANGSTROM_PER_METRE = 1.0 / codata.angstrom

REST_ENERGY: float = ELECTRON_MASS * SPEED_OF_LIGHT**2 / ELEMENTARY_CHARGE
"""Rest energy of the electron m₀c² [eV]."""

PLANCK_TIMES_LIGHT: float = PLANCK * SPEED_OF_LIGHT / ELEMENTARY_CHARGE * _ANGSTROM_PER_METRE
"""h c [eV Å]."""

POTENTIAL_PREFACTOR: float = PLANCK**2 / (2 * pi * ELECTRON_MASS * ELEMENTARY_CHARGE) * _ANGSTROM_PER_METRE**2
"""h²/(2π m₀ e) [V Å²], the potential per unit of scattering factor in Eq. (P2)."""

COULOMB_POTENTIAL: float = ELEMENTARY_CHARGE / (4 * pi * ELECTRIC_CONSTANT) * _ANGSTROM_PER_METRE
"""e/(4π ε₀) [V Å], the potential of a unit charge times its distance."""

BOHR_RADIUS: float = ELECTRIC_CONSTANT * PLANCK**2 / (pi * ELECTRON_MASS * ELEMENTARY_CHARGE**2) * _ANGSTROM_PER_METRE
"""Bohr radius a₀ [Å]."""

FWHM_PER_SIGMA: float = 2 * sqrt(2 * log(2))
"""Full width at half maximum of a Gaussian of standard deviation 1 [1]."""

DEBYE_PREFACTOR: float = 3 * codata.hbar**2 / (codata.atomic_mass * codata.k) * _ANGSTROM_PER_METRE**2
"""3ħ²/(u k_B) [Å² K], which over a mass in atomic mass units and a Debye temperature is a mean square displacement."""

GRAM_PER_CM3: float = codata.atomic_mass * 1e3 / (codata.angstrom * 1e2) ** 3
"""Density [g/cm³] of one atomic mass unit in one Å³."""
