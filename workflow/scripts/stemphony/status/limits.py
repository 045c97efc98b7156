"""How long the sending of status events waits, and how much it takes at once.

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
        Longest wait for a connection. A receiver that is there accepts one in far less.
    read_s : float
        Longest silence within an answer.
    answer_s : float
        From the last byte of a request to the end of its answer, however slowly the answer drips.
    idle_connection_s : float
        Connections that were unused for longer are not used again, because firewalls forget them silently.
    retry_after_cap_s : float
        Longest pause that a receiver can ask for (`Retry-After`).
    backoff_base_s, backoff_cap_s : float
        Longest pause after the first failure, and after any number of failures.
    unanswered_s : float
        An attempt that is older does not hold an impatient flush.
    quiet_s : float
        A flush stops waiting for a receiver that takes nothing for this long. Where the receiver has said when to
        come back, the time counts from then.
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
        """Draw the pause [s] after some failures in a row: up to 0.5, 1, 2 … 60 s, evenly (full jitter)."""
        longest = min(self.backoff_cap_s, self.backoff_base_s * 2.0 ** min(failures - 1, 10))
        return random.uniform(0.0, longest)


LIMITS: Final = Limits()
"""The limits of every run."""
