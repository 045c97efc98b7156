"""What happens to chosen jobs of a test's clone. It lies beside the scripts; `befalls` makes run_multislice call it.

A file in the folder STEMPHONY_TEST_GATES says what: `<configuration>.gate` has the job wait while it is there,
`<configuration>.hungry` has it take MEMORY_MB and hold it for longer than Slurm's look at memory lasts,
`<configuration>.hurried` has the clock of its first attempt run ahead by a minute once the job has kept a checkpoint.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

MEMORY_MB = 600
HELD_S = 3.0


def meet(params: dict[str, Any]) -> None:
    """Wait, take memory or hurry, as the gate of the job says. A job calls it after its start."""
    folder, number = Path(os.environ["STEMPHONY_TEST_GATES"]), f"{params['configuration']:04d}"
    (folder / f"{number}.reached.{os.getpid()}").touch()
    if (folder / f"{number}.hungry").exists():
        taken = bytearray(MEMORY_MB * 1_000_000)
        taken[::4096] = b"\1" * len(taken[::4096])
        time.sleep(HELD_S)
    if (folder / f"{number}.hurried").exists() and os.environ["STEMPHONY_TRY"] == "1":
        run_ahead(Path(sys.argv[3]).parents[2] / "checkpoints", number)
    while (folder / f"{number}.gate").exists():
        time.sleep(0.05)


def run_ahead(checkpoints: Path, number: str) -> None:
    """Move the clock by which a job knows how much of its time is over."""
    true = time.monotonic

    def monotonic() -> float:
        return true() + 60.0 * any(checkpoints.glob(f"defocus_*/configuration_{number}.checkpoint"))

    time.monotonic = monotonic
