"""The objects that all routes share: the database and its writer, credentials, limits, the clock."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from stemphony.monitor.database.connection import Database
from stemphony.monitor.intake.writer import Writer
from stemphony.monitor.state import STALE_AFTER_S
from stemphony.monitor.web.gate import Gate
from stemphony.monitor.web.rate_limit import RateLimit

TELL_AGAIN_S: Final = 60.0
"""Shortest time between two lines of the log which say that the database cannot be read [s]."""


@dataclass
class Services:
    """The parts of one monitor that its routes use.

    Attributes
    ----------
    database, writer, gate, rate
        Database, its writer, the check of credentials, and the limit of requests.
    stale_after_s : float
        Shortest silence after which a run is stale [s].
    hosts : frozenset of str
        Allowed values of the header `Host` while there are no credentials. Without this check, a page of any web site
        could read a monitor on the loopback (DNS rebinding).
    clock : callable
        Seconds since 1970.
    say : callable
        Takes one line for the log.
    refusals : Counter
        Number of answers with each error status.
    """

    database: Database
    writer: Writer
    gate: Gate
    rate: RateLimit = field(default_factory=RateLimit)
    stale_after_s: float = STALE_AFTER_S
    hosts: frozenset[str] = frozenset({"localhost", "127.0.0.1", "::1"})
    clock: Callable[[], float] = time.time
    say: Callable[[str], None] = lambda _: None
    refusals: Counter[int] = field(default_factory=Counter)
    _counting: threading.Lock = field(default_factory=threading.Lock)
    _away_said_at: float | None = None

    def count_refusal(self, status: int) -> None:
        """Count a request that was answered with the error `status`."""
        with self._counting:
            self.refusals[status] += 1

    def note_away(self, what: str) -> None:
        """Log that the database cannot be read, at most once a minute. `what` is the reason."""
        now = time.monotonic()
        with self._counting:
            if self._away_said_at is not None and now - self._away_said_at < TELL_AGAIN_S:
                return
            self._away_said_at = now
        self.say(f"{self.database.name} cannot be read: {what}. Pages and the API answer 503.")

    def note_read(self) -> None:
        """Log that the database can be read again, if the log said that it could not."""
        if self._away_said_at is None:
            return
        with self._counting:
            was_away, self._away_said_at = self._away_said_at is not None, None
        if was_away:
            self.say("the database can be read again")
