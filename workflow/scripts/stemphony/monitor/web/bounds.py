"""Keep each answer below 1 MB, whatever senders wrote. A mark shows what is left out, or the next page has it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeVar

ANSWER_BYTES: Final = 1_000_000
"""Largest answer [bytes]."""

PAIRS_PER_PAGE: Final = 5000
"""Most pairs in one answer of the API. Each pair takes at most 190 bytes."""

EVENTS_BYTES: Final = 700_000
"""Length after which an answer gets no further event [bytes]. One event takes at most 200,000 bytes: `MAX_EVENT_BYTES`,
three times as long with the escapes of ASCII."""

LISTED_TITLE: Final = 200
LISTED_MESSAGE: Final = 200
"""Most characters of the title, and of the message, of one simulation in a list."""

LISTED_DESCRIPTION: Final = 1000
"""Most characters of each value that describes what is simulated, on the page of a simulation."""

LISTED_PARAMETERS: Final = 8
LISTED_NAME: Final = 40
LISTED_VALUE: Final = 80
"""Most custom parameters of a simulation in a list, and most characters of their names and values."""

ALL_PARAMETERS_BYTES: Final = 300_000
"""Most bytes of all custom parameters on the page and in the API of one simulation [bytes of JSON]."""

LISTED_JSON_BYTES: Final = 1200
"""Most bytes of all custom parameters of one simulation in the list of the API [bytes of JSON]."""

FAILURE_CHARACTERS: Final = 300
"""Most characters of one message in the list of failed configurations. The cell of the pair shows the whole message."""

Item = TypeVar("Item")


def cut(text: str, characters: int) -> str:
    """Return `text`. If it has more than this number of `characters`, it is cut, and ends with a sign for that."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def cut_parameters(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return those of the custom `parameters` of a simulation that a list shows, cut to its lengths."""
    first = list(parameters.items())[:LISTED_PARAMETERS]
    return {cut(name, LISTED_NAME): cut(value, LISTED_VALUE) for name, value in first}


def fitting_parameters(parameters: Mapping[str, str], most_bytes: int) -> dict[str, str]:
    """Return the first of the custom `parameters` whose JSON has at most `most_bytes` bytes. Long values are cut."""
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
    """Yield the first of the `items`, as many as together have at most `most_bytes` bytes. Yield at least one.

    An item is a pair: what is yielded, and its length [bytes].
    """
    total = 0
    for item, size in items:
        if total and total + size > most_bytes:
            return
        total += size
        yield item
