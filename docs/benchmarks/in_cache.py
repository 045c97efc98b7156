"""Count the transforms of a small grid in one second of elapsed time. This is the speed of a core of this machine.

The grid fits into every cache. Several of these processes side by side share no memory, no lock and no threads. So if
they are slower than one process, the machine itself is the reason.
"""

from __future__ import annotations

import json
import time

from stemphony.physics.fft import Plan2D

SECONDS = 1.0
POINTS, AT_ONCE = 64, 200


def main() -> None:
    """Print one JSON object."""
    # FFTW_ESTIMATE does not measure, so all processes have the same plan.
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
