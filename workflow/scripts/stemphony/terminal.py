"""Show control characters in text of files and of others on a terminal, so that they do nothing there.

A file of a received results folder, or the name of a structure file, may hold escape sequences that rewrite the screen.
"""

from __future__ import annotations

import unicodedata
from typing import TextIO

_ACTIVE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))  # control, format (direction of text), surrogates, separators
_KEPT = "\n\t"
_MARK = "_stemphony_plain"


def plain(text: str) -> str:
    """The text with each control and format character as an escape of Python, such as `\\x1b`; lines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter in _KEPT or unicodedata.category(letter) not in _ACTIVE else ascii(letter)[1:-1]
        for letter in text
    )


def write_plainly(stream: TextIO) -> None:
    """Let everything that is written to a stream pass through `plain`."""
    if getattr(stream, _MARK, False):
        return
    write = stream.write
    setattr(stream, "write", lambda text: write(plain(text)))  # noqa: B010  (it is a method for mypy)
    setattr(stream, _MARK, True)
