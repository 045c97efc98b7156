"""`stemphony clean`: remove files that no result needs: kept waves, unfinished files and, with an option, leftovers.

Leftovers are finished job files of older plans.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from stemphony import paths
from stemphony.commands.locks import require_free
from stemphony.commands.status import planned_in
from stemphony.counting import number_of
from stemphony.errors import DamagedResultError, StorageError
from stemphony.orchestration.standing import leftovers_of
from stemphony.paths import ResultPaths
from stemphony.results.kept_waves import kept_and_foreign
from stemphony.store import members
from stemphony.store.unfinished import sweep_unfinished

SHOWN = 20
"""Most files that a message lists one by one."""


def clean(given: Path, with_leftovers: bool, say: Callable[[str], None]) -> None:
    """Remove kept waves and unfinished files of a simulation, and list finished job files of older plans.

    Parameters
    ----------
    given : Path
        Folder of the simulation, or of a sweep for all its members.
    with_leftovers : bool
        Remove the job files that belong to no pair of the last plan.
    say : callable
        Prints one line.

    Raises
    ------
    StorageError
        There is no such simulation, or a file cannot be removed.
    DamagedResultError
        There is no readable plan.json, which says which files belong to the simulation.
    """
    if parts := members.all_members_of(given):
        for part in parts:
            if part.root.is_symlink():
                say(f"kept: {part.root} is a link; clean the folder that it leads to by its own name")
                continue
            clean(part.root, with_leftovers, say)
        wanted = {part.root for part in members.members_of(given)}
        if earlier := [part.root for part in parts if wanted and part.root not in wanted]:
            what = number_of(len(earlier), "simulation that is", "simulations that are")
            say(f"kept: {what} not in the sweep any more; delete what you do not need:")
            _list(earlier, say)
        return
    result = ResultPaths(given)
    if not result.identity.exists():
        raise StorageError(f"{given} is no result of a simulation: it has no {result.identity.name}.")
    _remove_waves(result, given, say)
    removed, left = sweep_unfinished(result)
    with suppress(OSError):  # the folder is not empty
        result.waves_folder.rmdir()
    if removed:
        say(f"removed {number_of(len(removed), 'unfinished file')} of processes that were killed")
    if left:
        unfinished = number_of(len(left), "unfinished file")
        say(f"kept: {unfinished} that other machines made, or this machine before its last start:")
        _list(left, say)
        say("If no process computes this simulation there any more, delete them.")
    _leftovers(result, given, with_leftovers, say)


def _remove_waves(result: ResultPaths, given: Path, say: Callable[[str], None]) -> None:
    files, foreign = kept_and_foreign(result.waves_folder)
    size = sum(file.lstat().st_size for file in files)
    _unlink(files)
    kept = "no waves were kept" if not files else f"removed the kept waves, {size / 1e6:.3g} MB; results stay"
    say(f"{given}: {kept}")
    if foreign:
        say(f"kept: {number_of(len(foreign), 'entry', 'entries')} of {result.waves_folder} that Stemphony did not make")
        _list(foreign, say)


def _leftovers(result: ResultPaths, given: Path, remove: bool, say: Callable[[str], None]) -> None:
    try:
        found = leftovers_of(planned_in(result), result)
    except DamagedResultError:
        if remove:
            raise
        return
    if not found:
        return
    size = sum(file.lstat().st_size for file in found) / 1e6
    if not remove:
        say(f"kept: {number_of(len(found), 'finished job file')} of an older plan, {size:.3g} MB:")
        _list(found, say)
        say(f"To remove them: stemphony clean --leftovers {shlex.quote(str(given))}")
        return
    require_free(ResultPaths(result.root.resolve()).directory, result.run_name)
    # The checksum is removed after its data file. A data file without a checksum would count as damaged.
    _unlink([file for data in found for file in (data, paths.checksum(data))])
    for folder in {file.parent for file in found}:
        with suppress(OSError):  # the folder is not empty
            folder.rmdir()
    say(f"removed {number_of(len(found), 'job file')} of an older plan, {size:.3g} MB")


def _unlink(files: Sequence[Path]) -> None:
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{file.parent} cannot be emptied: {error.strerror}. Make it writable.") from None


def _list(files: Sequence[Path], say: Callable[[str], None]) -> None:
    for file in files[:SHOWN]:
        say(f"  {file}")
    if len(files) > SHOWN:
        say(f"  … and {len(files) - SHOWN} more")
