"""Physical constants in the units of this package: eV, Å, V.

All values derive from those that CODATA recommends (2022). They stand here for two reasons: a later release of SciPy
must not change results, and importing SciPy takes longer than most commands. A test compares them with SciPy's values.
"""

from __future__ import annotations

from math import log, pi, sqrt

PLANCK: float = 6.62607015e-34
"""Planck constant h [J s]."""

SPEED_OF_LIGHT: float = 299792458.0
"""Speed of light in vacuum c [m/s]."""

ELECTRON_MASS: float = 9.1093837139e-31
"""Rest mass of the electron m₀ [kg]."""

ELEMENTARY_CHARGE: float = 1.602176634e-19
"""Elementary charge e [C]."""

ELECTRIC_CONSTANT: float = 8.8541878188e-12
"""Permittivity of vacuum ε₀ [F/m]."""

ATOMIC_MASS: float = 1.66053906892e-27
"""Atomic mass unit u [kg]."""

BOLTZMANN: float = 1.380649e-23
"""Boltzmann constant k_B [J/K]."""

NM = 10.0
"""One nanometre in Å. Configs and results have lengths in nm, the program computes in Å."""

MRAD = 1e-3
"""One milliradian in rad. Configs and results have angles in mrad, the program computes in rad."""

_ANGSTROM = 1e-10
_ANGSTROM_PER_METRE = 1.0 / _ANGSTROM

REST_ENERGY: float = ELECTRON_MASS * SPEED_OF_LIGHT**2 / ELEMENTARY_CHARGE
"""Rest energy of the electron m₀c² [eV]."""

PLANCK_TIMES_LIGHT: float = PLANCK * SPEED_OF_LIGHT / ELEMENTARY_CHARGE * _ANGSTROM_PER_METRE
"""h c [eV Å]."""

POTENTIAL_PREFACTOR: float = PLANCK**2 / (2 * pi * ELECTRON_MASS * ELEMENTARY_CHARGE) * _ANGSTROM_PER_METRE**2
"""h²/(2π m₀ e) [V Å²], the potential per unit of scattering factor in Eq. (P2)."""

COULOMB_POTENTIAL: float = ELEMENTARY_CHARGE / (4 * pi * ELECTRIC_CONSTANT) * _ANGSTROM_PER_METRE
"""e/(4π ε₀) [V Å], the potential of a unit charge times its distance."""

BOHR_RADIUS: float = ELECTRIC_CONSTANT * PLANCK**2 / (pi * ELECTRON_MASS * ELEMENTARY_CHARGE**2) * _ANGSTROM_PER_METRE
"""Bohr radius a₀ [Å], computed from the constants above for scattering factors."""

BOHR: float = 0.529177210544
"""Bohr radius as published, CODATA 2022 [Å]: the unit of length of structure files in atomic units. It differs from
`BOHR_RADIUS` only in the 13th digit."""

FWHM_PER_SIGMA: float = 2 * sqrt(2 * log(2))
"""Full width at half maximum of a Gaussian of standard deviation 1 [1]."""

DEBYE_PREFACTOR: float = 3 * (PLANCK / (2 * pi)) ** 2 / (ATOMIC_MASS * BOLTZMANN) * _ANGSTROM_PER_METRE**2
"""3ħ²/(u k_B) [Å² K]. Divided by a mass [u] and a Debye temperature [K], it gives a mean square displacement [Å²]."""

GRAM_PER_CM3: float = ATOMIC_MASS * 1e3 / (_ANGSTROM * 1e2) ** 3
"""Density [g/cm³] of one atomic mass unit in one Å³."""
