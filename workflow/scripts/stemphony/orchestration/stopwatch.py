"""Elapsed time, CPU time and peak memory of a process."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

from stemphony.store import ledger


class Stopwatch:
    """Elapsed time since this object was made, and CPU time and peak memory of the process."""

    def __init__(self) -> None:
        self.wall = time.monotonic()
        self.started = ledger.now()

    def record(self) -> dict[str, Any]:
        """Attributes of a result file's group `runtime`."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "time_start": self.started,
            "time_stop": ledger.now(),
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
            "wall_seconds": round(time.monotonic() - self.wall, 3),
            "peak_memory_mb": round(_peak_memory_kib() / 1024, 1),
        }


def _peak_memory_kib() -> int:
    """Peak resident memory of this process [KiB]. `ru_maxrss` is worse: it starts from that of the parent process."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
