"""Electron scattering factors of neutral atoms, from published parametrizations."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
}
"""Publication that each parametrization is taken from."""


def elements(parametrization: str) -> frozenset[str]:
    """Return the chemical symbols that have scattering factors in a parametrization.

    Raises
    ------
    ValueError
        If the parametrization is unknown.
    """
    return frozenset(_coefficients(parametrization))


def scattering_factor(symbol: str, k_squared: ArrayLike, parametrization: str) -> NDArray[np.float64]:
    """Electron scattering factor f_e of one neutral atom at rest, in the first Born approximation.

    "kirkland" is Σ aᵢ/(k² + bᵢ) + Σ cᵢ exp(−dᵢk²) with three terms each. "lobato" is Σ aᵢ(2 + bᵢk²)/(1 + bᵢk²)² with
    five terms; for large k it falls as the nuclear charge demands.

    Parameters
    ----------
    symbol : str
        Chemical symbol.
    k_squared : array_like
        k² with k = 1/d = 2 sin θ/λ [Å⁻²].
    parametrization : str
        "kirkland" or "lobato".

    Returns
    -------
    ndarray
        f_e [Å] in the shape of `k_squared`, without relativistic correction, which σ contains.

    Raises
    ------
    ValueError
        If the parametrization is unknown or has no such element.

    References
    ----------
    See `REFERENCES`.
    """
    # ASSUME: the specimen is made of independent neutral atoms; bonding and ionic charge are left out.
    table = _coefficients(parametrization)
    if symbol not in table:
        raise ValueError(f"element {symbol!r}: no {parametrization} scattering factor; there are {len(table)}, H to Lr")
    k2 = np.asarray(k_squared, dtype=np.float64)
    terms = table[symbol]
    factor = np.zeros_like(k2)
    if parametrization == "kirkland":
        for a, b in zip(terms["a"], terms["b"], strict=True):
            factor += a / (k2 + b)
        for c, d in zip(terms["c"], terms["d"], strict=True):
            factor += c * np.exp(-d * k2)
    else:
        for a, b in zip(terms["a"], terms["b"], strict=True):
            factor += a * (2 + b * k2) / (1 + b * k2) ** 2
    return factor


@cache
def _coefficients(parametrization: str) -> dict[str, dict[str, list[float]]]:
    if parametrization not in REFERENCES:
        raise ValueError(f"parametrization {parametrization!r}: must be one of {', '.join(REFERENCES)}")
    text = files(__package__).joinpath("data", f"{parametrization}.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table["elements"]
