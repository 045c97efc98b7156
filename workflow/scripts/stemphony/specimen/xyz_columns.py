"""Columns of an extended XYZ file, as its key Properties names them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from stemphony.errors import SpecimenError
from stemphony.specimen import elements, table

SYMBOLS = ("species", "symbols", "element", "elements")
NUMBERS = ("z", "numbers", "atomic_numbers")


def named(header: str) -> list[tuple[str, int, int]]:
    """Name, first column and number of columns of each property of a header line; empty if it names none."""
    match = re.search(r"\bProperties\s*=\s*(\"[^\"]*\"|'[^']*'|\S+)", header, re.IGNORECASE)
    parts = match[1].strip("\"'").split(":") if match is not None else []
    found = []
    column = 0
    for name, count in zip(parts[::3], parts[2::3], strict=False):
        if not table.is_count(count):
            return []
        found.append((name, column, int(count)))
        column += int(count)
    return found


def require_one_element(file: Path, header: str, rows: Sequence[str], first_line: int) -> None:
    """Refuse rows whose symbol and atomic number belong to different elements. ASE silently takes the number.

    Parameters
    ----------
    file : Path
        Structure file, for the message.
    header : str
        Second line of the frame, whose key Properties names the columns.
    rows : sequence of str
        Lines of the atoms.
    first_line : int
        Number of the line of the first row, for the message.

    Raises
    ------
    SpecimenError
        An atom has two elements. The text names its line.
    """
    columns = named(header)
    symbol, number = (
        next((column for name, column, count in columns if count == 1 and name.lower() in names), None)
        for names in (SYMBOLS, NUMBERS)
    )
    if symbol is None or number is None:
        return
    for line, row in enumerate(rows, start=first_line):
        words = row.split()
        if len(words) <= max(symbol, number) or not table.is_count(words[number]):
            continue  # the reader will say what is wrong
        name, of_number = words[symbol].capitalize(), elements.symbols()[int(words[number]) % len(elements.symbols())]
        if name != of_number:
            raise SpecimenError(
                file,
                f"line {line}: contradicts itself: its symbol is {name}, and its atomic number {words[number]} is "
                f"{of_number or 'none'}. Correct one of the two columns, or remove one.",
            )
