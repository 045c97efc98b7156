"""How large an event and a request may be. docs/monitor.md lists these."""

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
"""Most different defoci of one simulation that get a row of their own; events of others are stored all the same."""

MAX_INTEGER: Final = 2**53
"""Largest whole number that JSON readers agree on."""
