"""What one request may be, and how many may come."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
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

REQUESTS_PER_S: Final = 1000.0
"""Requests that one credential or address may send in the long run; five seconds' worth at once."""

_BURST_S: Final = 5.0
_MOST_CLIENTS: Final = 10_000


class RateLimit:
    """Token buckets, one for each client.

    Parameters
    ----------
    per_s : float
        Requests per second of one client in the long run; 0: no limit.
    clock : callable
        Seconds since some moment.
    """

    def __init__(self, per_s: float = REQUESTS_PER_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = max(1.0, per_s * _BURST_S)
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """Take one request from a client's bucket: 0 if it may pass, else after how many seconds one will."""
        if self._per_s <= 0:
            return 0.0
        now = self._clock()
        with self._lock:
            level, since = self._buckets.pop(client, (self._burst, now))
            level = min(self._burst, level + (now - since) * self._per_s)
            passes = level >= 1
            self._buckets[client] = (level - 1 if passes else level, now)
            if len(self._buckets) > _MOST_CLIENTS:
                self._buckets.popitem(last=False)
        return 0.0 if passes else (1 - level) / self._per_s
