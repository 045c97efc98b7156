"""Compare the statements of a file about its own structure with the atoms that were read from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stemphony.specimen.elements import ISOTOPES, numbers
from stemphony.specimen.lattice import Floats

GRAMS_PER_DALTON_A3 = 1.66053906892
"""Density of 1 u per Å³ [g/cm³]."""
PROPORTION_TOLERANCE = 0.01
"""Share of an element by which the atoms may differ from the formula. Files round occupancies to three digits."""
PARTIAL_TOLERANCE = 0.05
"""The same share if sites are partly occupied, because formulas are rounded."""
PLACEHOLDER_MASS = 1.1
"""Largest mass [u] that is a placeholder. Programs write 0 or 1 if they know no mass."""
MASS_TOLERANCE = 0.03
"""Share by which a mass may differ from the standard weight of its element: isotopes do."""
SAME_MASS = 0.003
"""Share by which two tables of standard weights may differ in the weight of one element."""
DENSITY_TOLERANCE = 0.05
"""Share by which the density may differ from a calculated one. Wrong symmetry changes the density by a third or
more."""
MEASURED_TOLERANCE = 0.1
"""Share by which the density may differ from a measured one. Pores, bubbles and mother liquor change it by a few per
cent."""
ELECTRONS_TOLERANCE = 0.1
"""Share by which the number of electrons may differ from F(000), which may include anomalous dispersion: some electrons
of an atom near an edge."""
WEIGHT_TOLERANCE = 0.03
"""Share by which the weight of the cell may differ from a whole number of formula weights, because files round
occupancies."""
MOST_UNITS = 8
"""Most formula units in a cell that are compared. For larger numbers, a whole number is near every ratio of two
weights."""
DEUTERIUM_EXCESS = 1.00628
"""Mass [u] by which deuterium is heavier than hydrogen of standard weight."""


HYDROGEN = "hydrogen"
"""Name of a difference that is no reason to refuse the atoms: the formula has hydrogen that has no sites. Diffraction
often does not find hydrogen."""


@dataclass(frozen=True)
class Agreement:
    """What a comparison of a file's statements with its atoms found.

    Attributes
    ----------
    agrees : frozenset of str
        Statements that agree.
    differs : mapping
        For each statement that does not, the difference in words.
    notes : tuple of str
        Notes on statements that decide nothing.
    """

    agrees: frozenset[str]
    differs: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def consistent(self) -> bool:
        """Whether no difference is a reason to refuse the atoms."""
        # Z and density state the same quantity. If one of them agrees, the other is a mistake in the file.
        remaining = set(self.differs) - {HYDROGEN}
        if {"z", "density"} & self.agrees:
            remaining -= {"z", "density"}
        return not remaining


@cache
def masses() -> Mapping[str, float]:
    """Standard atomic weight [u] of each element."""
    from ase.data import atomic_masses, chemical_symbols

    return dict(zip(chemical_symbols, atomic_masses.tolist(), strict=True))


def mass_difference(where: str, symbol: str, mass: float) -> str | None:
    """Note on a `mass` [u] that does not fit the element `symbol`; None if the mass fits or is a placeholder.

    QSTEM writes 2 Z as the mass. Other programs write 0 or 1 if they know no mass. The note begins with `where`, the
    place in the file.
    """
    own = masses()[symbol]
    placeholder = mass <= PLACEHOLDER_MASS or mass == 2 * numbers()[symbol]
    if placeholder or abs(mass - own) <= MASS_TOLERANCE * own or (symbol == "H" and mass < 3.1):
        return None
    others = [name for name, value in masses().items() if name != "X" and abs(value - mass) <= SAME_MASS * mass]
    what = f"that of {' or '.join(others)}, not" if others else "not that"
    return f"{where}: the mass {mass:g} u is {what} of {symbol} ({own:.4g} u); the element is used. Check it"


def mass(counts: Mapping[str, float], deuterium: float = 0.0) -> float:
    """Mass [u] of `counts` atoms. `deuterium` is the share of the hydrogen that is deuterium."""
    table = masses()
    total = sum(table[symbol] * number for symbol, number in counts.items())
    return total + DEUTERIUM_EXCESS * deuterium * counts.get("H", 0.0)


def density(counts: Mapping[str, float], volume: float, deuterium: float = 0.0) -> float:
    """Mass density [g/cm³] of `counts` atoms in `volume` [Å³]; `deuterium` as in `mass`."""
    return GRAMS_PER_DALTON_A3 * mass(counts, deuterium) / volume


def counted(symbols: NDArray[np.str_], occupancy: Floats | None) -> dict[str, float]:
    """Atoms of each element of `symbols` (N,), in the order of appearance.

    A partly occupied site counts with its `occupancy` (N,); None if all are 1.
    """
    names, first, inverse = np.unique(symbols, return_index=True, return_inverse=True)
    weights = np.ones(len(symbols)) if occupancy is None else occupancy
    sums = np.bincount(inverse.ravel(), weights=weights, minlength=len(names))
    return {str(names[i]): float(sums[i]) for i in np.argsort(first)}


def formula_text(counts: Mapping[str, float]) -> str:
    """Write counts as a formula, such as `Sr1 Ti1 O3`."""
    return " ".join(f"{symbol}{_short(number)}" for symbol, number in counts.items())


def _short(number: float) -> str:
    return f"{number:.3f}".rstrip("0").rstrip(".")


_FORMULA = re.compile(r"([A-Z][a-z]?|[()])(\d*\.?\d*)")


def parsed_formula(text: str) -> dict[str, float] | None:
    """Atoms of each element of a formula such as `Sr Ti O3`, `SrTiO3` or `Mg3 (Si3 Al) O10 (O H)2`; D counts as H.

    Mineral databases write brackets, which may be nested. None if the text is no formula.
    """
    found: dict[str, float] = {}
    for name, count in (_parsed(text) or {}).items():
        element = "H" if name in ISOTOPES else name
        found[element] = found.get(element, 0.0) + count
    return found or None


def deuterium_share(text: str) -> float:
    """Share of the hydrogen of a formula, given as `text` such as `D2 O`, that is deuterium; 0 without hydrogen."""
    found = _parsed(text) or {}
    hydrogen = sum(found.get(name, 0.0) for name in ("H", *ISOTOPES))
    return found.get("D", 0.0) / hydrogen if hydrogen > 0 else 0.0


def _parsed(text: str) -> dict[str, float] | None:
    """Numbers of a formula by element and isotope."""
    squeezed = re.sub(r"[\s'\"]", "", text).translate(str.maketrans("[]{}", "()()"))
    if not re.fullmatch(f"(?:{_FORMULA.pattern})+", squeezed):
        return None
    levels: list[dict[str, float]] = [{}]
    for name, number in _FORMULA.findall(squeezed):
        if number == "." or (name == "(" and number):
            return None
        if name == "(":
            levels.append({})
            continue
        if name == ")":
            if len(levels) < 2:
                return None
            inner = levels.pop()
        else:
            inner = {name: 1.0}
        for element, count in inner.items():
            levels[-1][element] = levels[-1].get(element, 0.0) + count * float(number or 1)
    found = levels[0]
    known = all(name in numbers() or name in ISOTOPES for name in found)
    return found if len(levels) == 1 and known and sum(found.values()) > 0 else None


def compare(
    counts: Mapping[str, float], volume: float, stated: Mapping[str, str | float], *, partial: bool = False
) -> Agreement:
    """Compare atoms, `counts` by element, in a cell of `volume` [Å³] with what the file states.

    Of `stated`, `formula`, `z` and `density_g_cm3` must agree. `formula_weight` [u], `electrons` and
    `measured_density_g_cm3` make notes. `deuterium` is the share of the hydrogen that is deuterium. `partial` says that
    some sites are partly occupied, so that the formula may be rounded more coarsely.
    """
    agrees: set[str] = set()
    differs: dict[str, str] = {}
    formula = parsed_formula(str(stated.get("formula", "")))
    tolerance = PARTIAL_TOLERANCE if partial else PROPORTION_TOLERANCE
    if formula is not None and (lost := _missing_hydrogen(counts, formula, tolerance)):
        differs[HYDROGEN] = (
            f"its formula is {stated['formula']}, but {_short(lost)} of its {_short(lost + counts.get('H', 0.0))} "
            "hydrogen atoms in the cell have no site: they are left out"
        )
        counts = {**counts, "H": counts.get("H", 0.0) + lost}
    if formula is not None:
        text = _formula_difference(counts, formula, tolerance)
        if text is not None:
            differs["formula"] = f"its formula is {stated['formula']}, but its atoms are {formula_text(counts)}{text}"
        else:
            agrees.add("formula")
    z = stated.get("z")
    if formula is not None and isinstance(z, float) and z > 0 and "formula" not in differs:
        expected = (z, z / _common_factor(formula))  # the formula may be that of a unit or of the whole cell
        units = sum(counts.values()) / sum(formula.values())
        if any(abs(units - n) <= 0.02 * n for n in expected):
            agrees.add("z")
        else:
            differs["z"] = (
                f"it states {z:g} formula units ({stated['formula']}) per cell, but the cell gets {units:.4g}"
            )
    measured = stated.get("density_g_cm3")
    if isinstance(measured, float) and measured > 0.05:
        found = density(counts, volume, _number(stated, "deuterium"))
        if abs(found - measured) <= DENSITY_TOLERANCE * measured:
            agrees.add("density")
        else:
            differs["density"] = f"it states a density of {measured:g} g/cm³, but its atoms make {found:.3f} g/cm³"
    return Agreement(frozenset(agrees), differs, tuple(_notes(counts, volume, stated, formula)))


def _number(stated: Mapping[str, str | float], name: str) -> float:
    """A statement as a number; 0 if there is no such statement."""
    value = stated.get(name)
    return value if isinstance(value, float) else 0.0


def _notes(
    counts: Mapping[str, float],
    volume: float,
    stated: Mapping[str, str | float],
    formula: Mapping[str, float] | None,
) -> list[str]:
    """Notes on statements that differ from the atoms but are no reason to refuse them, because of other causes."""
    notes = []
    deuterium = _number(stated, "deuterium")
    if (weight := _number(stated, "formula_weight")) > 0:
        ratio = mass(counts, deuterium) / weight
        units = [_number(stated, "z"), sum(counts.values()) / sum(formula.values()) if formula else 0.0]
        # The weight may belong to another multiple of the atoms than the formula.
        expected = [*(number for number in units if number > 0), *range(1, MOST_UNITS + 1)]
        if ratio < MOST_UNITS + 0.5 and not any(abs(ratio - n) <= WEIGHT_TOLERANCE * n for n in expected):
            notes.append(
                f"it states a formula weight of {weight:g} u, but the atoms of its cell weigh {ratio:.3g} times as "
                "much. Check _chemical_formula_weight, the symmetry, the occupancies, and hydrogen without sites"
            )
    if (electrons := _number(stated, "electrons")) > 0:
        table = numbers()
        found = sum(table[symbol] * number for symbol, number in counts.items())
        if abs(found - electrons) > ELECTRONS_TOLERANCE * max(found, electrons):
            notes.append(
                f"it states F(000) = {electrons:g} electrons per cell, but its atoms have {found:.4g}. Check "
                "_exptl_crystal_F_000, the symmetry, the occupancies, and hydrogen without sites"
            )
    if (measured := _number(stated, "measured_density_g_cm3")) > 0:
        found = density(counts, volume, deuterium)
        if abs(found - measured) > MEASURED_TOLERANCE * measured:
            notes.append(
                f"its measured density is {measured:g} g/cm³, but its atoms make {found:.3f} g/cm³. A porous crystal "
                "is lighter than its atoms; otherwise check the symmetry and the occupancies"
            )
    return notes


def _missing_hydrogen(counts: Mapping[str, float], formula: Mapping[str, float], tolerance: float) -> float:
    """Hydrogen atoms in the cell that the formula has and the sites lack; 0 if other elements differ as well."""
    others = {symbol: number for symbol, number in formula.items() if symbol != "H"}
    found = {symbol: number for symbol, number in counts.items() if symbol != "H"}
    if "H" not in formula or not others or not found:
        return 0.0
    if _formula_difference(found, others, tolerance) is not None:
        return 0.0
    wanted, present = formula["H"] * sum(found.values()) / sum(others.values()), counts.get("H", 0.0)
    return wanted - present if wanted - present > tolerance * wanted else 0.0


def _formula_difference(counts: Mapping[str, float], formula: Mapping[str, float], tolerance: float) -> str | None:
    """None if the proportions agree, else the text that a message adds to both formulas."""
    # Only proportions count, because some programs write the sum of the cell and others that of the formula unit.
    ratio = sum(counts.values()) / sum(formula.values())
    missing = sorted(set(formula) - set(counts))
    if missing:
        return f" ({', '.join(missing)}: no site)"
    if set(counts) - set(formula):
        return f" ({', '.join(sorted(set(counts) - set(formula)))}: not in the formula)"
    if any(abs(counts[s] - ratio * n) > tolerance * max(counts[s], ratio * n) for s, n in formula.items()):
        return ""
    return None


def _common_factor(formula: Mapping[str, float]) -> float:
    """Largest whole number that divides all counts: 4 for Sr4 Ti4 O12. Some programs write this formula with Z = 4."""
    values = list(formula.values())
    if any(value != int(value) for value in values):
        return 1.0
    return float(np.gcd.reduce(np.array(values, dtype=int)))
