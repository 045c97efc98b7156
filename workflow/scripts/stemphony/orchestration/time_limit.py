"""The time limit that a batch system gives a job."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Self

from stemphony import contract
from stemphony.errors import TimeLimitError


@dataclass(frozen=True)
class TimeLimit:
    """The time after which a batch system ends a job.

    Attributes
    ----------
    minutes : float
        Length of the limit [min].
    ends : float
        End of the limit [s] on the monotonic clock, which is never set.
    """

    minutes: float
    ends: float

    @classmethod
    def of_environment(cls) -> Self | None:
        """The limit of this job, None without a batch system."""
        try:
            minutes, began = float(os.environ[contract.RUNTIME_VARIABLE]), float(os.environ[contract.BEGAN_VARIABLE])
        except (KeyError, ValueError):
            return None
        now = time.monotonic()
        # If the job was moved, the value comes from the clock of another machine and is useless here.
        began = began if now - 60 * minutes < began <= now else now
        return cls(minutes, began + 60 * minutes) if minutes > 0 else None

    def check(self, reserve_s: float = 0.0) -> None:
        """Raise TimeLimitError if the remaining time is below a tenth of the limit (at most 60 s) or three checkpoints.

        Parameters
        ----------
        reserve_s : float
            Time that one checkpoint takes [s].
        """
        if self.ends - time.monotonic() < max(min(6 * self.minutes, 60.0), 3 * reserve_s):
            raise self.error("the job was waiting for another process that computes it")

    def error(self, what: str) -> TimeLimitError:
        """Make the error that ends a job. `what` is the part of its text that says what is kept."""
        return TimeLimitError(
            f"The time limit of {self.minutes:g} min is near; {what}. Another attempt goes on from there: "
            "Snakemake's retries start it, or you start it with the same command."
        )
