"""Upper limits of the time that something takes, for tests that nothing waits longer than it says."""

from __future__ import annotations

import time


def require_within(limit_s: float, began_s: float, what: str) -> None:
    """Require that `what`, which began at that moment of `time.monotonic`, has taken less than `limit_s`."""
    took_s = time.monotonic() - began_s
    assert took_s < limit_s, f"{what} took {took_s:.1f} s; the limit is {limit_s:g} s"
