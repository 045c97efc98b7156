"""Files that killed processes have begun and not finished: their names tell which process of which machine it was."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from stemphony.paths import ResultPaths
from stemphony.store.claims import place, process_start

# As `atomic.temporary_beside` makes them.
_NAME = re.compile(r"\..+\.(?P<place>[0-9a-f]{8}|nowhere)\.(?P<pid>\d+)-[0-9a-f]{12}\.tmp")
_PLACES = (".*.tmp", "jobs/*/.*.tmp", "waves/.*.tmp", "checkpoints/*/.*.tmp", "figures/.*.tmp", "reports/run-*/.*.tmp")


def sweep_unfinished(result: ResultPaths) -> tuple[list[Path], list[Path]]:
    """Remove what dead processes of this machine have begun; those of living ones and of other machines stay.

    Returns
    -------
    removed, left : list of Path
        What was removed, and what other machines, or this one before it was started anew, have left: nobody can tell
        from here whether it is still being written.
    """
    removed, left = [], []
    for file in sorted(file for pattern in _PLACES for file in result.root.glob(pattern)):
        owner = _NAME.fullmatch(file.name)
        if owner is None:
            continue
        if owner["place"] != place():
            left.append(file)
        elif int(owner["pid"]) != os.getpid() and not process_start(int(owner["pid"])):
            with suppress(OSError):
                file.unlink()
                removed.append(file)
    return removed, left
