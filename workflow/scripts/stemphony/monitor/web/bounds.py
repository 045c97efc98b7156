"""Keep each answer below 1 MB, whatever senders wrote. What is left out is marked or on the next page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeVar

ANSWER_BYTES: Final = 1_000_000
"""Largest answer [bytes]."""

PAIRS_PER_PAGE: Final = 5000
"""Pairs of one answer of the API. Each takes at most 190 bytes."""

EVENTS_BYTES: Final = 700_000
"""Events of one answer end at this length [bytes]. One event has at most 200,000."""

LISTED_TITLE: Final = 200
LISTED_MESSAGE: Final = 200
"""Characters of title and message of one simulation in a list."""

LISTED_DESCRIPTION: Final = 1000
"""Characters of each value that says what is simulated, on the page of a simulation."""

LISTED_PARAMETERS: Final = 8
LISTED_NAME: Final = 40
LISTED_VALUE: Final = 80
"""A list shows this many custom parameters of a simulation, and this many characters of their names and values."""

ALL_PARAMETERS_BYTES: Final = 300_000
"""The page and the API of one simulation show custom parameters of this length together [bytes of JSON]."""

LISTED_JSON_BYTES: Final = 1200
"""Custom parameters of one simulation in the list of the API [bytes of JSON]."""

FAILURE_CHARACTERS: Final = 300
"""Characters of one message in the list of failed configurations. Its cell shows all of it."""

Item = TypeVar("Item")


def cut(text: str, characters: int) -> str:
    """Return a text, or its begin with a sign that something is missing."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def cut_parameters(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the custom parameters that a list shows of a simulation."""
    first = list(parameters.items())[:LISTED_PARAMETERS]
    return {cut(name, LISTED_NAME): cut(value, LISTED_VALUE) for name, value in first}


def fitting_parameters(parameters: Mapping[str, str], most_bytes: int) -> dict[str, str]:
    """Return the first custom parameters whose JSON has at most this length, long values cut."""
    found: dict[str, str] = {}
    left = most_bytes
    for name, value in parameters.items():
        shown = value if len(value) * 6 <= left else cut(value, LISTED_VALUE)
        left -= len(json.dumps([name, shown]))
        if left < 0:
            break
        found[name] = shown
    return found


def fitting(items: Iterable[tuple[Item, int]], most_bytes: int) -> Iterator[Item]:
    """Give items until their lengths together exceed a limit, and at least one."""
    total = 0
    for item, size in items:
        if total and total + size > most_bytes:
            return
        total += size
        yield item
