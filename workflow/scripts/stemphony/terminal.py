"""Replace control characters in text that is written to a terminal, so that they have no effect there.

A file in a results folder of another person, or the name of a structure file, may hold escape sequences. A terminal
would let them rewrite the screen.
"""

from __future__ import annotations

import unicodedata
from typing import TextIO

_ACTIVE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))  # control, format (direction of text), surrogates, separators
_KEPT = "\n\t"
_MARK = "_stemphony_plain"


def plain(text: str) -> str:
    """The text, with control and format characters as escapes of Python, such as `\\x1b`. Line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter in _KEPT or unicodedata.category(letter) not in _ACTIVE else ascii(letter)[1:-1]
        for letter in text
    )


def write_plainly(stream: TextIO) -> None:
    """Change a stream so that everything written to it passes through `plain`."""
    if getattr(stream, _MARK, False):
        return
    write = stream.write
    setattr(stream, "write", lambda text: write(plain(text)))  # noqa: B010  (it is a method for mypy)
    setattr(stream, _MARK, True)
