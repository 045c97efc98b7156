"""A process that sends the reports of a run after the run has ended. So no run waits for a receiver that is down.

The process belongs to no terminal. It ends when all reports are sent, when the receiver refuses them all, or when its
time is over. It holds the lock of the delivery, so nothing is sent twice. The next run, or a replay, sends the rest.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from stemphony.contract import COURIER_VARIABLE
from stemphony.errors import StemphonyError
from stemphony.interpreters import KEEP_OUT
from stemphony.paths import ResultPaths
from stemphony.status import settings
from stemphony.status.backlog import left_in
from stemphony.status.courier import Courier
from stemphony.status.limits import LIMITS, Limits

LONGEST_S: Final = 3600.0
"""Longest life of the process [s]. A receiver that restarts is back before that."""
LOOK_S: Final = 1.0
"""Pause before the process looks again for reports that another process holds [s]."""

SLICE_S: Final = 30.0
"""Longest wait for a receiver before the process looks whether there is still something to send [s]."""

# Without O_NONBLOCK, a named pipe of this name, in a folder from somebody else, would block the run forever.
_LOG_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
_CODE: Final = (
    # The process closes files that a shell left open, such as the lock file of `flock`. Otherwise it would hold them.
    "import os, sys; os.closerange(3, 65536); sys.path.insert(0, sys.argv[1]); "
    "from stemphony.orchestration import left_behind; "
    "left_behind.deliver(*sys.argv[2:])"
)


def longest_s() -> float:
    """Longest life of the process [s], from the environment; 0 if no process shall be started."""
    try:
        given = float(os.environ.get(COURIER_VARIABLE, LONGEST_S))
    except ValueError:
        return LONGEST_S
    return given if math.isfinite(given) and given > 0 else 0.0


def start(result: ResultPaths, config_files: Sequence[Path]) -> bool:
    """Start the process for the simulation `result`. Return False if that is not possible.

    Parameters
    ----------
    config_files : sequence of Path
        Files with url, credentials and custom parameters.

    Returns
    -------
    bool
        Whether the process was started.
    """
    folder = str(Path(__file__).resolve().parents[2])
    words = [sys.executable, KEEP_OUT, "-c", _CODE, folder, str(result.root.resolve()), str(longest_s())]
    words += [str(file) for file in config_files]
    log = (os.POSIX_SPAWN_OPEN, 1, str(result.courier_log), _LOG_FLAGS, 0o666)
    streams = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), log, (os.POSIX_SPAWN_DUP2, 1, 2)]
    try:
        os.posix_spawn(sys.executable, words, os.environ, file_actions=streams, setsid=True)
    except (OSError, NotImplementedError):
        return False
    return True


def deliver(root: str, longest: str, *config_files: str, limits: Limits = LIMITS) -> None:
    """Send the unsent reports of a simulation. `start` runs this function in a separate process.

    `root` is the folder of the simulation, `longest` the longest life of the process [s] as text, and `config_files`
    are those of `start`. `limits` are those of `Courier`.
    """
    result, until = ResultPaths(Path(root)), time.monotonic() + float(longest)
    try:
        given = settings.load([Path(file) for file in config_files])
    except StemphonyError as error:
        _say(str(error))
        return
    courier = Courier(result, given, limits=limits)
    courier.start()
    while left_in(result) and (rest := until - time.monotonic()) > 0 and not courier.is_hopeless:
        # If the folder was deleted meanwhile, nothing is left to send.
        courier.drain(min(rest, SLICE_S))
        time.sleep(min(LOOK_S, rest))
    courier.stop()
    why = f" ({courier.trouble})" if courier.trouble else ""
    _say(f"{courier.arrived} delivered, {left_in(result)} left{why}.")


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}", flush=True)
