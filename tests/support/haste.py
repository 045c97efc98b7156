"""Shorter waits for tests with many faults. The sender does the same, in seconds instead of minutes."""

from __future__ import annotations

from typing import Final

from stemphony.status.courier import FEWEST_FOR_A_BATCH
from stemphony.status.limits import Limits

HASTE: Final = Limits(
    read_s=1.0,
    answer_s=1.5,
    retry_after_cap_s=0.2,
    backoff_base_s=0.05,
    backoff_cap_s=0.2,
    # With batches of a hundred, a dozen requests would carry all events.
    batch_events=FEWEST_FOR_A_BATCH,
)
