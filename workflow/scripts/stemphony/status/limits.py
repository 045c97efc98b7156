"""Limits for sending status events: how long it waits, and how much it sends at once.

The sender, the courier and the transport take a `Limits` object as an argument. A program that wants other waits
passes another object.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Limits:
    """Waits [s] and sizes of delivery.

    Attributes
    ----------
    connect_s : float
        Longest wait for a connection. A receiver that works accepts a connection in a much shorter time.
    read_s : float
        Longest silence within an answer.
    answer_s : float
        Longest time from the last byte of a request to the end of its answer, even if bytes arrive all the time.
    idle_connection_s : float
        Longest pause after which a connection is used again. Firewalls drop connections after a longer pause and tell
        neither side.
    retry_after_cap_s : float
        Longest pause that a receiver can ask for (`Retry-After`).
    backoff_base_s, backoff_cap_s : float
        Longest pause after the first failure, and longest pause after any number of failures.
    unanswered_s : float
        Longest wait of an impatient flush for the answer to an attempt, from the start of the attempt.
    quiet_s : float
        Longest wait of a flush for a receiver that accepts nothing. If the receiver has asked for a pause, the time
        counts from the end of the pause.
    queue_length : int
        Most events that wait in the memory of one process. Later events stay in the spool.
    batch_events : int
        Most events in one request.
    """

    connect_s: float = 3.0
    read_s: float = 5.0
    answer_s: float = 10.0
    idle_connection_s: float = 10.0
    retry_after_cap_s: float = 60.0
    backoff_base_s: float = 0.5
    backoff_cap_s: float = 60.0
    unanswered_s: float = 2.0
    quiet_s: float = 10.0
    queue_length: int = 1000
    batch_events: int = 100

    def backoff_s(self, failures: int) -> float:
        """Draw a random pause [s] after this number of `failures` in a row, at least 1.

        Its upper limit is `backoff_base_s`, twice as much, and so on up to `backoff_cap_s` (full jitter).
        """
        longest = min(self.backoff_cap_s, self.backoff_base_s * 2.0 ** min(failures - 1, 10))
        return random.uniform(0.0, longest)


LIMITS: Final = Limits()
"""The limits of every run."""
