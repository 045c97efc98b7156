"""A record, in the user's own folder, of what this user ran and where this user sent reports.

A results folder may come from somebody else, so the config files that its plan names are not trusted. Only this record,
or a config that the user names, decides where reports go and which password is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stemphony import ordinary_files
from stemphony.errors import StorageError
from stemphony.paths import ResultPaths
from stemphony.store.atomic import write_text_atomic

LARGEST_RUN = 999_999_999
"""Largest number of a run: the name of its folder has at most nine digits."""

LARGEST_BYTES = 1_000_000
"""Largest file of the record that is read [bytes]. A file of the record holds a few paths."""

MOST_ORIGINALS = 100
"""Most ids of originals that are read. Each copy of a copy adds one id."""


def state_folder() -> Path | None:
    """Folder of this user for records: `$XDG_STATE_HOME/stemphony`, by default `~/.local/state/stemphony`.

    Returns
    -------
    Path or None
        None for a user without a home folder.
    """
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    if given.is_absolute():
        return given / "stemphony"
    try:
        return Path.home() / ".local" / "state" / "stemphony"
    except RuntimeError:
        return None


def note_own_run(simulation_id: str, config_files: Sequence[Path], folder: Path, run: int = 0) -> bool:
    """Note where, with which config files and as which run this user runs a simulation.

    Parameters
    ----------
    simulation_id : str
        Id of the simulation.
    config_files : sequence of Path
        Config files of the run.
    folder : Path
        Folder of the results.
    run : int
        Number of the run; 0 if it is not known.

    Returns
    -------
    bool
        False if the note cannot be written.
    """
    content = {"config_files": [str(file) for file in config_files], "folder": str(folder), "run": run}
    return _write("simulations", simulation_id, content)


def folder_of(simulation_id: str) -> Path | None:
    """Folder of this user's last run of the simulation with the id `simulation_id`.

    None if there is no record of a run.
    """
    folder = _read("simulations", simulation_id).get("folder")
    return Path(folder) if isinstance(folder, str) else None


def latest_run_of(simulation_id: str) -> int:
    """Number of this user's last run of the simulation with the id `simulation_id`; 0 if there is no record of one."""
    run = _read("simulations", simulation_id).get("run")
    return run if isinstance(run, int) and 0 <= run <= LARGEST_RUN else 0


def same_form(simulation_id: object) -> str:
    """Return `simulation_id` in the one form that events have.

    In simulation.json, a UUID may be written in several forms. A value that is no UUID is returned as text.
    """
    try:
        return str(uuid.UUID(str(simulation_id)))
    except ValueError:
        return str(simulation_id)


def originals_in(kept: Mapping[str, Any]) -> tuple[str, ...]:
    """Ids of the simulations that a simulation was copied from, by its simulation.json `kept`; the oldest is first."""
    listed = kept.get("originals")
    earlier = listed if isinstance(listed, list) else []
    named = [*earlier[:MOST_ORIGINALS], kept.get("copied_from")]
    return tuple(dict.fromkeys(same_form(one) for one in named if isinstance(one, str) and one))


def ids_of(result: ResultPaths) -> tuple[str, tuple[str, ...]]:
    """Id of the simulation `result`, and ids of its originals, see `originals_in`.

    Both are empty if simulation.json does not have them.
    """
    with suppress(OSError, ValueError, RecursionError):
        kept = json.loads(ordinary_files.read_text(result.identity))
        if isinstance(kept, dict):
            return same_form(kept.get("id", "")), originals_in(kept)
    return "", ()


def other_place_of(simulation_id: str, result: ResultPaths) -> Path | None:
    """Another folder in which this user ran the simulation with the id `simulation_id` last.

    Returns None if that folder is the one of `result`, does not hold this simulation any more, or is not recorded.
    """
    folder = folder_of(simulation_id)
    with suppress(OSError, ValueError):
        if folder is not None and not folder.samefile(result.root):
            return folder if ids_of(ResultPaths(folder))[0] == simulation_id else None
    return None


def is_place_of(simulation_id: str, result: ResultPaths) -> bool:
    """Whether this user's last run of the simulation with the id `simulation_id` was in the folder of `result`.

    False without a record.
    """
    folder = folder_of(simulation_id)
    with suppress(OSError, ValueError):
        return folder is not None and folder.samefile(result.root)
    return False


def config_files_of(result: ResultPaths) -> list[Path]:
    """Config files of this user's last run of the simulation `result`; empty if this user has no record of one.

    The simulation is found by its id, so a folder that was moved is found as well.
    """
    try:
        kept = json.loads(ordinary_files.read_text(result.identity))
        simulation_id = str(uuid.UUID(kept["id"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    files = _read("simulations", simulation_id).get("config_files")
    return [Path(file) for file in files] if isinstance(files, list) else []


def note_receiver(address: str) -> None:
    """Note that this user sends reports to `address`, `scheme://host:port`.

    Nothing happens if the note cannot be written.
    """
    _write("receivers", address, {"address": address})


def knows_receiver(address: str) -> bool:
    """Whether this user sent reports to `address`, `scheme://host:port`, before."""
    return _read("receivers", address).get("address") == address


def _file(kind: str, name: str) -> Path | None:
    folder = state_folder()
    # An address has characters that no file name may have.
    return None if folder is None else folder / kind / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _write(kind: str, name: str, content: dict[str, Any]) -> bool:
    file = _file(kind, name)
    if file is None:
        return False
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_text_atomic(file, json.dumps(content) + "\n", 0o600)
    except (OSError, StorageError):
        return False
    return True


def _read(kind: str, name: str) -> dict[str, Any]:
    """One file of the record; empty if it is missing, damaged, or could have been written by another user."""
    file = _file(kind, name)
    with suppress(OSError, ValueError, RecursionError):
        if file is not None:
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, encoding="utf-8") as stream:
                status = os.fstat(descriptor)
                is_own = status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
                if is_own and stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_BYTES:
                    content = json.loads(stream.read())
                    return content if isinstance(content, dict) else {}
    return {}
