"""Electron scattering factors of atoms and ions, from published parametrizations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from math import pi
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemphony.physics.constants import BOHR_RADIUS

_SYMBOLS = """
    H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb
    Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu
    Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr
"""

ATOMIC_NUMBERS: dict[str, int] = {symbol: z for z, symbol in enumerate(_SYMBOLS.split(), start=1)}
"""Atomic number Z of each chemical symbol, H to Lr."""

REFERENCES: dict[str, str] = {
    "kirkland": "E. J. Kirkland, Advanced Computing in Electron Microscopy, 2nd ed. (2010), Appendix C",
    "lobato": "I. Lobato & D. Van Dyck, Acta Cryst. A 70 (2014) 636-649",
    "peng": "L.-M. Peng, G. Ren, S. L. Dudarev & M. J. Whelan, Acta Cryst. A 52 (1996) 257-276",
}
"""Publication that each parametrization is taken from."""

IONS_REFERENCE = "L.-M. Peng, Acta Cryst. A 54 (1998) 481-485"
"""Publication that the factors of ions are taken from."""

_IONS = "peng_ions"


@dataclass(frozen=True)
class FactorChoice:
    """Parametrization of neutral atoms: a default, and others for single elements. Ions have their own table."""

    default: str
    of: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, symbol: str) -> str:
        """Parametrization of an element."""
        return self.of.get(symbol, self.default)


def ion(symbol: str, charge: int) -> str:
    """Return the name of an ion, such as `Sr2+` or `O2-`. If the charge is 0, return the symbol of the element."""
    return f"{symbol}{abs(charge)}{'+' if charge > 0 else '-'}" if charge else symbol


def ions() -> frozenset[str]:
    """Return the names of the ions that have scattering factors."""
    return frozenset(_table(_IONS))


def elements(parametrization: str) -> frozenset[str]:
    """Return the chemical symbols that have scattering factors in a parametrization.

    Raises
    ------
    ValueError
        If the parametrization is unknown.
    """
    return frozenset(_coefficients(parametrization))


def scattering_factor(symbol: str, k_squared: ArrayLike, parametrization: str) -> NDArray[np.float64]:
    """Electron scattering factor f_e of one atom or ion at rest, in the first Born approximation.

    "kirkland" is Σ aᵢ/(k² + bᵢ) + Σ cᵢ exp(−dᵢk²) with three terms each. "lobato" is Σ aᵢ(2 + bᵢk²)/(1 + bᵢk²)² with
    five terms. For large k it falls as the charge of the nucleus requires. "peng" is Σ aᵢ exp(−bᵢk²/4) with five terms,
    which vanish beyond k = 12 Å⁻¹.

    In any parametrization, the factor of an ion of charge q, such as `Sr2+`, is Peng's Gaussians plus the term
    q/(2π² a₀ k²) of its charge, Eq. (P32). At k = 0 this term is 0.

    Parameters
    ----------
    symbol : str
        Chemical symbol, or name of an ion, see `ion`.
    k_squared : array_like
        k² with k = 1/d = 2 sin θ/λ [Å⁻²].
    parametrization : str
        "kirkland", "lobato" or "peng".

    Returns
    -------
    ndarray
        f_e [Å] in the shape of `k_squared`, without relativistic correction, because σ contains this correction.

    Raises
    ------
    ValueError
        If the parametrization is unknown or has no such element.

    References
    ----------
    See `REFERENCES`.
    """
    # ASSUME: the specimen consists of independent spherical atoms or ions. Bonds do not change their charge densities.
    k2 = np.asarray(k_squared, dtype=np.float64)
    if symbol.endswith(("+", "-")):
        return _of_ion(symbol, k2)
    table = _coefficients(parametrization)
    if symbol not in table:
        raise ValueError(
            f"element {symbol!r}: no {parametrization} scattering factor; there are {len(table)}, H to "
            f"{list(table)[-1]}"
        )
    terms = table[symbol]
    factor = np.zeros_like(k2)
    if parametrization == "kirkland":
        for a, b in zip(terms["a"], terms["b"], strict=True):
            factor += a / (k2 + b)
        for c, d in zip(terms["c"], terms["d"], strict=True):
            factor += c * np.exp(-d * k2)
    elif parametrization == "peng":
        factor = _gaussians(terms, k2)
    else:
        for a, b in zip(terms["a"], terms["b"], strict=True):
            factor += a * (2 + b * k2) / (1 + b * k2) ** 2
    return factor


def _gaussians(terms: Mapping[str, list[float]], k2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Σ aᵢ exp(−bᵢ s²) with s = k/2."""
    factor = np.zeros_like(k2)
    for a, b in zip(terms["a"], terms["b"], strict=True):
        factor += a * np.exp(-b * k2 / 4)
    return factor


def _of_ion(name: str, k2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scattering factor of an ion, Eq. (P32)."""
    table = _table(_IONS)
    if name not in table:
        raise ValueError(f"ion {name!r}: no scattering factor; there are {', '.join(table)}")
    charge = int(name[-2]) * (1 if name[-1] == "+" else -1)
    # In a periodic cell, the mean potential of a charge diverges. A uniform background charge removes this mean.
    coulomb = np.divide(charge / (2 * pi**2 * BOHR_RADIUS), k2, out=np.zeros_like(k2), where=k2 > 0)
    return np.asarray(_gaussians(table[name], k2) + coulomb)


def _coefficients(parametrization: str) -> dict[str, dict[str, list[float]]]:
    if parametrization not in REFERENCES:
        raise ValueError(f"parametrization {parametrization!r}: must be one of {', '.join(REFERENCES)}")
    return _table(parametrization)


@cache
def _table(name: str) -> dict[str, dict[str, list[float]]]:
    text = files(__package__).joinpath("data", f"{name}.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    coefficients: dict[str, dict[str, list[float]]] = table["elements"]
    return coefficients
