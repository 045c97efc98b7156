"""Remove temporary files of killed processes. The name of a file tells which process of which machine made it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from stemphony.paths import ResultPaths
from stemphony.store.claims import place, process_start

# Names that `atomic.temporary_beside` makes.
_NAME = re.compile(r"\..+\.(?P<place>[0-9a-f]{8}|nowhere)\.(?P<pid>\d+)-[0-9a-f]{12}\.tmp")
_PLACES = (".*.tmp", "jobs/*/.*.tmp", "waves/.*.tmp", "checkpoints/*/.*.tmp", "figures/.*.tmp", "reports/run-*/.*.tmp")


def sweep_unfinished(result: ResultPaths) -> tuple[list[Path], list[Path]]:
    """Remove temporary files of dead processes of this machine from the folder of the simulation `result`.

    Returns
    -------
    removed : list of Path
    left : list of Path
        Files of other machines, or of this one before its last boot. Their processes cannot be seen from here and may
        still write them.
    """
    return _sweep(file for pattern in _PLACES for file in result.root.glob(pattern))


def sweep_exports(folder: Path, name: str) -> list[Path]:
    """Remove temporary files and stores that killed exports or plots of this machine left in `folder`.

    They begin with a dot and `name`, the name of the export or plot.

    Returns
    -------
    list of Path
        What was removed.
    """
    begin = f".{name}"
    with suppress(OSError):
        return _sweep(file for file in folder.glob(".*.tmp") if file.name.startswith(begin))[0]
    return []


def _sweep(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    removed, left = [], []
    for file in sorted(files):
        owner = _NAME.fullmatch(file.name)
        if owner is None:
            continue
        if owner["place"] != place():
            left.append(file)
        elif int(owner["pid"]) != os.getpid() and not process_start(int(owner["pid"])):
            with suppress(OSError):
                if file.is_dir() and not file.is_symlink():
                    shutil.rmtree(file)
                else:
                    file.unlink()
                removed.append(file)
    return removed, left
