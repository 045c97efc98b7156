"""Find keys and texts of a config that may hold a secret although they are at another place.

For example, a misspelt block `http_reportin` has passwords too. A message about the block must not show them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from stemphony.status.block import BLOCK
from stemphony.status.events import names_a_secret

_NAMES: Final = (BLOCK, "http_report", "reporting", "auth_user", "auth_pass", "password")
"""Names that mark a secret. Misspelt forms of these names mark a secret too."""

_ALIKE: Final = 0.75
"""Smallest share of equal letters with which a key counts as one of these names, misspelt. All keys of a config have a
smaller share."""

_WORD: Final = re.compile(r"[\w.-]+")
"""A word of a text, or a dotted path of keys."""


def may_be_secret(path: object) -> bool:
    """Whether the value at a dotted `path` may be a secret: a part of the path has such a name, perhaps misspelt."""
    return any(map(_marks_a_secret, str(path).split(".")))


def may_hold_secret(text: str) -> bool:
    """Whether `text` may hold a secret, because it has an address, or a word that is a name of a secret."""
    return "://" in text or any(may_be_secret(word) for word in _WORD.findall(text))


def secret_keys_in(value: Any) -> Iterator[str]:
    """Keys in `value`, maps and lists at any depth, whose values may be secrets."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if may_be_secret(key):
                yield str(key)
            yield from secret_keys_in(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from secret_keys_in(entry)


def _marks_a_secret(part: str) -> bool:
    name = part.strip().lower().replace("-", "_")
    if names_a_secret(part) or name.startswith("http"):
        return True
    return any(difflib.SequenceMatcher(None, name, one).ratio() >= _ALIKE for one in _NAMES)
