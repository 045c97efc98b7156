"""Read lines of numbers in simple text formats. Error messages name file and line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stemphony.errors import SpecimenError
from stemphony.specimen import elements
from stemphony.specimen.lattice import Floats

MOST_DIGITS = 18
"""Most digits of a whole number, so that it fits into 64 bits."""

_FORTRAN = re.compile(r"(?<=[\d.])[dD](?=[-+]?\d+$)")  # the exponent of 1.0D-3


_FORTRAN_IN_TEXT = re.compile(r"(?<=\d)[dD](?=[-+]?\d+(?:\s|$))|(?<=\d\.)[dD](?=[-+]?\d+(?:\s|$))")


def has_fortran(text: str) -> bool:
    """Whether numbers in a text have exponents as Fortran writes them."""
    return _FORTRAN_IN_TEXT.search(text) is not None


def in_c(text: str) -> str:
    """The text with the exponents of its numbers as C writes them."""
    return _FORTRAN_IN_TEXT.sub("e", text)


def number(word: str) -> float:
    """The number that a `word` means, as programs in C or Fortran write it: `0.1e-2`, `1.0D-3`.

    Raises
    ------
    ValueError
        The word is any other text.
    """
    if "_" in word:  # Python allows this between digits
        raise ValueError(word)
    return float(_FORTRAN.sub("e", word))


def numbers(text: str, count: int) -> list[float] | None:
    """Exactly `count` numbers; None for any other text."""
    words = text.replace(",", " ").split()
    if len(words) != count:
        return None
    try:
        return [number(word) for word in words]
    except ValueError:
        return None


def is_count(word: str, digits: int = MOST_DIGITS) -> bool:
    """Whether a word is a whole number from 0: plain digits, and at most `digits` of them."""
    return word.isascii() and word.isdigit() and len(word) <= digits


def cell_of(parameters: Sequence[float]) -> Floats | None:
    """Edges as rows [Å] of the cell with the `parameters` a, b, c [Å] and α, β, γ [°]; None if it is impossible.

    a is along x, and b in the plane of x and y.
    """
    from ase.geometry import cellpar_to_cell

    if not np.isfinite(parameters).all() or min(parameters) <= 0:
        return None
    try:
        cell = np.asarray(cellpar_to_cell(list(parameters)), dtype=float)
    except AssertionError:  # the angles do not meet in a corner
        return None
    return cell if np.isfinite(cell).all() else None


def required_cell(file: Path, number: int, parameters: Sequence[float]) -> Floats:
    """Edges as rows [Å] of the cell with these `parameters`, see `cell_of`, which line `number` of `file` gives.

    Raises
    ------
    SpecimenError
        Such a cell is impossible. The text names the line.
    """
    cell = cell_of(parameters)
    if cell is None:
        raise SpecimenError(
            file, f"line {number}: lengths and angles {list(parameters)} make no cell. Correct the line."
        )
    return cell


def row(file: Path, line: int, words: Sequence[str], what: str, least: int = 0) -> list[float]:
    """The `words` of line `line` of `file` as at least `least` finite numbers.

    Raises
    ------
    SpecimenError
        They are not. The text says that `what` is expected.
    """
    try:
        values = [number(word) for word in words]
    except ValueError:
        values = [np.nan]
    if not np.isfinite(values).all() or len(values) < least:
        raise SpecimenError(file, f"line {line}: got {' '.join(words)[:60]!r}, expected {what}. Correct the line.")
    return values


def behind_the_end(lines: Sequence[str], number: int, mark: str) -> set[str]:
    """Note on text of `lines` behind line `number`, which ends the file by its `mark`.

    The note is the only item of the set, which is empty if there is no such text.
    """
    rest = next((i for i, line in enumerate(lines[number:], start=number + 1) if line.strip()), None)
    if rest is None:
        return set()
    return {f"line {number} ({mark}) ends the file: what follows from line {rest} is not used"}


def element(file: Path, name: str, number: int, notes: set[str]) -> str:
    """Element from a `name` such as `Sr`, `Sr2+`, `D`, or from an atomic number such as `38` or `38.0`.

    Parameters
    ----------
    file, number : Path, int
        File and number of the line, for the message.
    notes : set of str
        The function adds a note on isotopes to this set.

    Returns
    -------
    str
        Symbol of the element, such as `Sr`.

    Raises
    ------
    SpecimenError
        No element has this symbol or number.
    """
    try:
        atomic = float(name)
    except ValueError:
        found = elements.from_type(name)
        if found is None:
            raise SpecimenError(file, elements.unknown_symbol(name, f"line {number}")) from None
        if found[0] in elements.ISOTOPES:
            notes.add("deuterium and tritium scatter electrons as hydrogen and become H")
            return "H"
        return found[0]
    symbols = elements.symbols()
    if not np.isfinite(atomic) or atomic != int(atomic) or not 1 <= atomic < len(symbols):
        raise SpecimenError(
            file, f"line {number}: the atomic number {name} is none of 1 to {len(symbols) - 1}. Correct the line."
        )
    return symbols[int(atomic)]


def checked_occupancy(file: Path, values: Floats) -> Floats | None:
    """Occupancies `values` (N,) from 0 to 1; None if all are 1.

    Raises
    ------
    SpecimenError
        A value is outside. The text names `file` and the atom.
    """
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(bad):
        raise SpecimenError(
            file,
            f"atom {bad[0]} (counted from 0) has an occupancy of {values[bad[0]]:g}; 0 to 1 is allowed. Correct it.",
        )
    return None if (values == 1).all() else values
