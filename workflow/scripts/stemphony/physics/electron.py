"""The beam electron: wavelength and strength of its interaction with a potential, Eq. (P1)."""

from __future__ import annotations

from math import isfinite, pi, sqrt

from stemphony.physics.constants import PLANCK_TIMES_LIGHT, REST_ENERGY


def wavelength(energy_ev: float) -> float:
    """Relativistic de Broglie wavelength λ of the beam electrons, Eq. (P1).

    Parameters
    ----------
    energy_ev : float
        Kinetic energy E = e·(acceleration voltage) [eV], positive.

    Returns
    -------
    float
        Wavelength λ = hc/√(E(E + 2m₀c²)) [Å].

    Raises
    ------
    ValueError
        If the energy is not a positive finite number.
    """
    if not (isfinite(energy_ev) and energy_ev > 0):
        raise ValueError(f"energy of the beam = {energy_ev} eV: must be a positive finite number")
    return PLANCK_TIMES_LIGHT / sqrt(energy_ev * (energy_ev + 2 * REST_ENERGY))


def chromatic_focal_spread(cc: float, energy_spread: float, energy_ev: float) -> float:
    """Spread of the defocus that a spread of the beam energy causes, Eq. (P27).

    Parameters
    ----------
    cc : float
        Coefficient of chromatic aberration, in any unit of length.
    energy_spread : float
        Width ΔE of the energy distribution [eV]. Any definition is allowed, such as FWHM or standard deviation.
    energy_ev : float
        Kinetic energy E [eV], positive.

    Returns
    -------
    float
        Δf = C_c (ΔE/E) (1 + E/m₀c²)/(1 + E/2m₀c²), in the unit of `cc`. The width is defined as in `energy_spread`.

    References
    ----------
    Reimer & Kohl, Transmission Electron Microscopy, 5th ed. (2008), ch. 2 and 6.
    """
    # ASSUME: C_c belongs to the relativistic voltage E(1 + E/2m₀c²), as usual; high voltage and currents are stable.
    ratio = energy_ev / REST_ENERGY
    return cc * energy_spread / energy_ev * (1 + ratio) / (1 + ratio / 2)


def interaction_parameter(energy_ev: float) -> float:
    """Phase shift σ of the beam electron per unit of projected potential, Eq. (P1).

    Parameters
    ----------
    energy_ev : float
        Kinetic energy [eV], positive.

    Returns
    -------
    float
        Interaction parameter σ = 2π m e λ/h² with the relativistic mass m = γm₀ [rad/(V Å)]. The code computes the
        equal expression (2π/λE)·(E + m₀c²)/(E + 2m₀c²).

    Raises
    ------
    ValueError
        If the energy is not a positive finite number.
    """
    mass_factor = (energy_ev + REST_ENERGY) / (energy_ev + 2 * REST_ENERGY)
    return 2 * pi / (wavelength(energy_ev) * energy_ev) * mass_factor
