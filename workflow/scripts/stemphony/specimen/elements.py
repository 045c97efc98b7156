"""Element symbols in the forms that files use: with charges, in capitals, for isotopes."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache

ISOTOPES = {"D": "deuterium", "T": "tritium"}  # both scatter electrons as hydrogen does
WATER = {"Wat": "O", "Ow": "O", "Oh": "O", "Hw": "H"}
"""Labels of mineral databases for the oxygen of water and of hydroxyl, and for the hydrogen of water. More letters may
follow `Wat`, as in `WatA` or `WatOW`, because no element begins with `Wat`."""

GROUPS = ("CO", "NO", "PO")
"""Carbonate, nitrate and phosphate in capitals. They are meant if a negative charge follows, because Co, No and Po have
no negative charge."""

# Tables of X-ray factors add `val` or `va` to the name of an element with the electrons of a bond: Cval, Siva.
_TYPE = re.compile(r"([A-Za-z]{1,2})(?:val|va)?(?:(\d*\.?\d*)([+-])|([+-])(\d*\.?\d*)|(\d+))?")


@cache
def numbers() -> dict[str, int]:
    """Atomic number of each element symbol."""
    from ase.data import chemical_symbols

    return {symbol: number for number, symbol in enumerate(chemical_symbols) if number > 0}


@cache
def symbols() -> tuple[str, ...]:
    """Element symbols by atomic number; entry 0 is empty."""
    return ("", *numbers())


def unknown_symbol(symbol: str, where: str) -> str:
    """Message for a `symbol` that is no element. `where` names its place in the file, and may be empty."""
    place = f"{where}: " if where else ""
    hint = {
        "D": "deuterium scatters electrons as hydrogen: write H",
        "T": "tritium scatters electrons as hydrogen: write H",
        "X": "X is no element: replace it or delete the atom",
        **dict.fromkeys(("Wat", "H2O", "OH", "OH-", "D2O"), "write O, and give hydrogen sites of its own"),
    }.get(symbol, "use the symbols of the periodic table, such as Sr")
    if symbol.isdigit():
        hint = "the number of an atom type does not say which element it is: write symbols, such as Sr"
    return f"{place}unknown element symbol '{symbol[:40]}'; {hint}."


def from_type(name: str) -> tuple[str, float | None] | None:
    """Element and charge [e] of an atom type `name` such as `Sr`, `Na1+`, `O2-`, `Fe+3`, `D`; None for any other text.

    The second letter may be a capital, because an atom type names only one element. If two capitals are elements
    themselves, a number behind them may count the atoms of a group (`CO3`, `PO4`). Such a text is no atom type.
    """
    match = _TYPE.fullmatch(name.strip())
    if match is None:
        return None
    letters, before, sign_after, sign_before, after, count = match.groups()
    symbol = letters.capitalize()
    if count and letters.isupper() and len(letters) == 2 and all(letter in numbers() for letter in letters):
        return None  # a group such as CO3, NH4, NO3 or PO4, not Co, Nh, No or Po
    if letters == "NH" or (letters in GROUPS and "-" in (sign_after, sign_before)):
        return None  # the same with a charge, such as NH4+ or NO3-
    if symbol not in numbers() and symbol not in ISOTOPES:
        return None
    sign, size = sign_after or sign_before, before or after
    charge = None if sign is None else float(f"{sign}{size or 1}")
    return symbol, charge


def is_of_water(label: str) -> bool:
    """Whether the label of a site is in WATER, with or without a number."""
    return label.startswith("Wat") or re.sub(r"[^A-Za-z].*", "", label) in WATER


def from_label(label: str, known: Collection[str] = ()) -> list[str]:
    """Elements that the label of a site, such as `Sr1`, `O2a`, `CaM1`, may mean; the most likely first.

    If a formula gives the elements `known`, no other elements count. Symbols of two letters come before those of one
    letter. If the second letter is a capital, it may belong to the rest of the label, so one letter comes first. T is
    the name of a site in a tetrahedron, not tritium.
    """
    if re.match(r"[HD]2O", label):
        return ["H", "O"]  # a hydrogen that belongs to an oxygen, or water
    match = re.match(r"[A-Za-z]+", label)
    if match is None:
        return []
    letters = match[0]
    if is_of_water(label):
        return [WATER.get(letters, "O")]
    two, one = letters[:2].capitalize(), letters[:1].upper()
    order = [two, one] if len(letters) > 1 else [one]
    valid = [symbol for symbol in order if symbol in numbers() or symbol == "D"]
    if known:
        hydrogen = "H" in known or "D" in known
        named = [s for s in valid if s in known or (s == "D" and hydrogen)]
        return named[:1] if named else valid
    if len(letters) > 1 and letters[1].islower():
        return valid[:1] if valid and valid[0] == two else []
    return valid
