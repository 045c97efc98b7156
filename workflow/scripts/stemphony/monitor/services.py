"""What the routes share: the database and its writer, credentials, limits, the clock."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from .credentials import Gate
from .database import Database
from .limits import RateLimit
from .state import STALE_AFTER_S
from .writer import Writer


@dataclass
class Services:
    """One monitor.

    Attributes
    ----------
    hosts : frozenset of str
        Names that the header `Host` may have while there are no credentials: without this, a page of any web site
        could be made to read a monitor on the loopback (DNS rebinding).
    """

    database: Database
    writer: Writer
    gate: Gate
    rate: RateLimit = field(default_factory=RateLimit)
    stale_after_s: float = STALE_AFTER_S
    hosts: frozenset[str] = frozenset({"localhost", "127.0.0.1", "::1"})
    clock: Callable[[], float] = time.time
    refusals: Counter[int] = field(default_factory=Counter)
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def count_refusal(self, status: int) -> None:
        """Count a request that was answered with an error."""
        with self._counting:
            self.refusals[status] += 1
