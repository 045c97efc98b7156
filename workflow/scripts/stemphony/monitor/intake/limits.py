"""Largest sizes of an event and of a request. docs/monitor.md lists them."""

from __future__ import annotations

from typing import Final

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_EVENT_BYTES: Final = 65_536
MAX_BATCH_EVENTS: Final = 1000
MAX_DEPTH: Final = 8
MAX_KEYS: Final = 200
MAX_NAME_CHARACTERS: Final = 200
MAX_TEXT_CHARACTERS: Final = 4096
MAX_INDEX: Final = 999_999
MAX_COUNT: Final = 1_000_000
MAX_PAIRS: Final = 1_000_000
"""Most defoci × configurations of one simulation."""

MAX_DEFOCI: Final = 10_000
"""Most different defoci of one simulation that have a row. Events of further defoci are stored, but have no row."""

MAX_INTEGER: Final = 2**53
"""Largest whole number that all JSON readers read exactly."""
