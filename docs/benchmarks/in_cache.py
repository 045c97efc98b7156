"""Transforms of a grid that fits every cache, counted for a second of elapsed time: what a core of this machine gives.

Several of these side by side know no memory, no lock and no other thread: what they lose, the machine lacks.
"""

from __future__ import annotations

import json
import time

from stemphony.physics.fft import Plan2D

SECONDS = 1.0
POINTS, AT_ONCE = 64, 200


def main() -> None:
    """Print one JSON object."""
    # Not sought by time: all processes must have the same.
    plan = Plan2D((POINTS, POINTS), "complex64", "FFTW_ESTIMATE")
    done, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        for _ in range(AT_ONCE // 2):
            plan.forward()
            plan.inverse()
        done += AT_ONCE
    print(json.dumps({"transforms_per_s": done / (time.perf_counter() - begin)}))


if __name__ == "__main__":
    main()
