"""Refusal of sites that are not one whole atom of a known element, which ASE resolves in silence."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stemphony.errors import SpecimenError


def require_clear_cif(file: Path, atoms: Any, elements: Collection[str]) -> None:
    """Refuse CIF content that ASE resolves in silence: deuterium, disorder, doubled sites, lost atoms."""
    tags = atoms.info
    types, labels = _column(tags, "_atom_site_type_symbol"), _column(tags, "_atom_site_label")
    names = types or labels
    for site, name in enumerate(names):
        label = labels[site] if site < len(labels) else name
        _require_clear_symbol(file, str(name), f"site {label}", elements, is_label=not types)
    for site, value in enumerate(_column(tags, "_atom_site_occupancy")):
        label = labels[site] if site < len(labels) else f"number {site + 1}"
        occupancy = 1.0 if value in (".", "?") else value
        if not isinstance(occupancy, int | float) or not abs(occupancy - 1) <= 1e-6:
            raise SpecimenError(file, _partial(f"site {label}", occupancy))
    kinds = atoms.arrays.get("spacegroup_kinds")
    if kinds is not None:
        lost = sorted(set(range(len(names))) - set(np.asarray(kinds).tolist()))
        if lost:
            label = labels[lost[0]] if lost[0] < len(labels) else f"number {lost[0] + 1}"
            raise SpecimenError(
                file,
                f"site {label} is the same position as another one. Sites shared by elements and doubled "
                "sites are not available: keep one line per atom, each with an occupancy of 1.",
            )
    _require_formula(file, atoms)


def _column(tags: Mapping[str, Any], name: str) -> list[Any]:
    value = tags.get(name)
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple | np.ndarray) else [value]


def _require_clear_symbol(file: Path, name: str, where: str, elements: Collection[str], *, is_label: bool) -> None:
    """ASE takes a CIF symbol's capital and the small letter after it, so SR is sulphur and D hydrogen."""
    match = re.match(r"[A-Za-z]+", name)
    letters = match.group(0) if match else name
    taken = re.search(r"[A-Z][a-z]?", name)
    symbol = taken.group(0) if taken else letters
    if symbol not in elements:
        raise SpecimenError(file, unknown_symbol(symbol if taken else name, where))
    if not is_label and letters != symbol:
        raise SpecimenError(file, unknown_symbol(name, where))
    other = letters[:2].capitalize()
    if is_label and other != symbol and other in elements:
        raise SpecimenError(
            file,
            f"{where}: the label {name!r} could be {symbol} or {other}. Add the column _atom_site_type_symbol.",
        )


def _require_formula(file: Path, atoms: Any) -> None:
    """A CIF that states its formula shows by it that atoms were lost, or made in a wrong setting."""
    formula = str(atoms.info.get("_chemical_formula_sum", "")).strip("'\" ")
    terms = [re.fullmatch(r"([A-Z][a-z]?)(\d*\.?\d*)", word) for word in formula.split()]
    if not terms or None in terms:
        return
    stated: dict[str, float] = {}
    for term in terms:
        if term is not None:
            stated[term[1]] = stated.get(term[1], 0.0) + float(term[2] or 1)
    symbols = atoms.get_chemical_symbols()
    found = {symbol: symbols.count(symbol) for symbol in dict.fromkeys(symbols)}
    # Only proportions: programs disagree on whether the sum counts the cell or the formula unit.
    ratio = len(symbols) / (sum(stated.values()) or 1)
    if set(stated) != set(found) or any(abs(found[s] - ratio * n) > 0.01 * found[s] for s, n in stated.items()):
        got = " ".join(f"{symbol}{n}" for symbol, n in found.items())
        raise SpecimenError(
            file,
            f"its formula is {formula}, but its atoms are {got}: sites are missing or the symmetry is not "
            "clear. Export it again with all symmetry operations, or correct _chemical_formula_sum.",
        )


def require_full_occupancy(file: Path, atoms: Any) -> None:
    """Refuse occupancies other than 1, wherever ASE's reader of the format keeps them."""
    sites = atoms.info.get("occupancy")
    for site in sites.values() if isinstance(sites, dict) else ():
        if isinstance(site, dict):
            parts = {symbol: 1.0 if value in (".", "?") else value for symbol, value in site.items()}
            if len(parts) > 1 or any(not isinstance(v, int | float) or not abs(v - 1) <= 1e-6 for v in parts.values()):
                text = " + ".join(f"{symbol} {value}" for symbol, value in parts.items())
                raise SpecimenError(file, _partial("a site", text))
    for name in ("occupancy", "occupancies"):
        if name in atoms.arrays:
            values = np.asarray(atoms.arrays[name])
            partial = [i for i, v in enumerate(values.ravel().tolist()) if not isinstance(v, int | float) or v != 1]
            if partial:
                where = f"atom {partial[0]} (counted from 0, {atoms.get_chemical_symbols()[partial[0]]})"
                raise SpecimenError(file, _partial(where, values.ravel()[partial[0]]))


def _partial(where: str, occupancy: object) -> str:
    return (
        f"{where} has an occupancy of {occupancy}, only 1 is available. Write a supercell in which every "
        "site is one whole atom."
    )


def unknown_symbol(symbol: str, where: str) -> str:
    """What is told about a symbol that is no element."""
    place = f"{where}: " if where else ""
    hint = {
        "D": "deuterium scatters electrons as hydrogen: write H",
        "T": "tritium scatters electrons as hydrogen: write H",
        "X": "X is no element: replace it or delete the atom",
    }.get(symbol, "use the symbols of the periodic table, such as Sr")
    return f"{place}unknown element symbol '{symbol}'; {hint}."
