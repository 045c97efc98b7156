"""Limit how many requests a client may send."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

REQUESTS_PER_S: Final = 1000.0
"""Most requests per second of one credential or address in the long run. A client may send the requests of five seconds
at once."""

_BURST_S: Final = 5.0
"""Time whose requests a client may send at once [s], see `REQUESTS_PER_S`."""
_MOST_CLIENTS: Final = 10_000
"""Most token buckets in memory. Beyond this number, the client that was silent for the longest time loses its own."""


class RateLimit:
    """Keep one token bucket for each client.

    Parameters
    ----------
    per_s : float
        Most requests per second of one client in the long run. 0: no limit.
    clock : callable
        Returns seconds since a fixed moment.
    """

    def __init__(self, per_s: float = REQUESTS_PER_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = max(1.0, per_s * _BURST_S)
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """Take one request from the bucket of `client`, a credential or an address.

        Return 0 if it may pass, else the time until one may pass [s].
        """
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
