"""Find out whether a results folder is a copy of another one, and give a copy its own id.

simulation.json records the folder and the machine of the last run. A run that starts elsewhere looks into that folder.
"""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from stemphony import ordinary_files
from stemphony.paths import ResultPaths
from stemphony.store import own_runs
from stemphony.store.atomic import write_text_atomic


class Other(Enum):
    """What the folder of the last run of a simulation holds now."""

    ITSELF = "the same folder, under another path"
    THE_SAME_SIMULATION = "the same simulation in another folder"
    GONE = "no such simulation"
    UNSEEN = "cannot be seen from here"


def settle_identity(result: ResultPaths, further_place: Path | None = None, this_host: str = "") -> str:
    """Give a copy its own id, and note where the simulation is. Call this function once, when a run starts.

    Parameters
    ----------
    result : ResultPaths
        A simulation whose simulation.json exists.
    further_place : Path or None
        Another folder in which this user ran the simulation, see `own_runs`.
    this_host : str
        Machine of the run; by default this machine. A job may run on another machine and sees the same folders.

    Returns
    -------
    str
        A line for the user; empty if there is nothing to say.

    Notes
    -----
    What the other folder holds decides:

    - The same simulation: this folder is a copy. It gets a new id and the keys `copied_from` and `originals`;
      `originals` lists the originals of the original, too. The seed stays, so computed results stay valid.
    - No such simulation: the simulation was moved, and its id stays.
    - It cannot be seen from here: the id stays.

    In the last two cases, another copy may continue with the same id. The key `instance` then makes the ids of the
    events of the two folders different.

    Raises
    ------
    StorageError
        simulation.json cannot be written.
    """
    kept: dict[str, Any] = json.loads(ordinary_files.read_text(result.identity))
    this_host = this_host or socket.gethostname()
    place = {"folder": str(result.root.resolve()), "host": this_host}
    is_here = {key: kept.get(key) for key in place} == place
    was, host = kept.get("folder"), kept.get("host")
    if not isinstance(was, str):  # made by an earlier version
        _write(result, {**kept, **place})
        return ""
    found = {
        Path(folder): _look(Path(folder), result, kept, host == this_host)
        for folder in (was, further_place)
        if folder is not None and str(folder) != place["folder"]
    }
    for folder, other in found.items():
        if other is Other.THE_SAME_SIMULATION:
            fresh = {key: value for key, value in kept.items() if key != "instance"}
            originals = [*own_runs.originals_in(kept), own_runs.same_form(kept["id"])]
            copy = {"id": str(uuid.uuid4()), "copied_from": kept["id"], "originals": originals}
            _write(result, {**fresh, **copy, **place})
            return f"this folder is a copy of {folder}: it has a new id now. What is computed stays valid."
    if is_here:
        return ""
    if not found or Other.UNSEEN in found.values():
        # If `found` is empty, the last run had this path on another machine: one shared disk, or a copy.
        _write(result, {**kept, **(place if not found else {}), "instance": uuid.uuid4().hex})
        if found:
            return (
                f"the last run was in {was} on {host}, which cannot be seen from here. If that is another copy of this "
                "simulation, both report with one id."
            )
        return ""
    if Other.GONE in found.values():
        # The simulation was moved, or copies were made before the original was deleted. Events of copies must differ.
        _write(result, {**kept, **place, "instance": uuid.uuid4().hex})
    return ""


def _look(folder: Path, result: ResultPaths, kept: Mapping[str, Any], was_here: bool) -> Other:
    try:
        if folder.samefile(result.root):
            return Other.ITSELF
        there = json.loads(ordinary_files.read_text(ResultPaths(folder).identity))
    except (FileNotFoundError, NotADirectoryError):
        # On another machine, a folder may seem missing because its disk is not mounted there.
        return Other.GONE if was_here else Other.UNSEEN
    except (OSError, ValueError, RecursionError):
        return Other.UNSEEN
    is_same = isinstance(there, dict) and own_runs.same_form(there.get("id")) == own_runs.same_form(kept["id"])
    return Other.THE_SAME_SIMULATION if is_same else Other.GONE


def _write(result: ResultPaths, content: Mapping[str, Any]) -> None:
    write_text_atomic(result.identity, json.dumps(content, indent=1) + "\n")
