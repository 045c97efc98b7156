"""Which runs hold a working directory: each run writes down its process in a file, and removes the file at its end."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from stemphony import ordinary_files
from stemphony.store.atomic import write_text_atomic
from stemphony.store.claims import process_start

HOLDERS = Path(".snakemake") / "stemphony-runs"
"""Folder of these files in the working directory. The file of a killed run stays."""


@dataclass(frozen=True)
class RunHolder:
    """A run that holds, or held, a working directory.

    Attributes
    ----------
    simulation : str
        Name of the simulation that it computes.
    host, pid, started : str, int, str
        Its process, see `claims.Holder`.
    """

    file: Path
    simulation: str
    host: str
    pid: int
    started: str

    @property
    def is_elsewhere(self) -> bool:
        """Whether it runs on another machine, so that its process cannot be seen from here."""
        return self.host != socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether its process lives here: the same process, not another one with the same id."""
        return not self.is_elsewhere and process_start(self.pid) == self.started

    @property
    def is_this_process(self) -> bool:
        """Whether it is the run of this process."""
        return not self.is_elsewhere and self.pid == os.getpid()


def note_run(simulation: str, directory: Path, pid: int, host: str = "", started: str = "") -> None:
    """Write down that process `pid` of a machine runs a simulation in a working directory.

    Parameters
    ----------
    simulation : str
        Name of the simulation.
    directory : Path
        The working directory.
    pid : int
        Id of the process.
    host : str
        Machine of the process; by default this machine.
    started : str
        When it started, see `claims.Holder`; needed for a process of another machine.

    Raises
    ------
    StorageError, OSError
        The file cannot be written, or its folder cannot be made.
    """
    host = host or socket.gethostname()
    content = {"simulation": simulation, "host": host, "pid": pid, "started": started or process_start(pid)}
    file = _file_of(directory, pid, host)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(file, json.dumps(content))


def forget_run(directory: Path, pid: int) -> None:
    """Remove the note of a run that has ended cleanly.

    `directory` is its working directory, and `pid` its process on this machine. Nothing happens if there is no note.
    Raises OSError if the file cannot be removed.
    """
    _file_of(directory, pid, socket.gethostname()).unlink(missing_ok=True)


def _file_of(directory: Path, pid: int, host: str) -> Path:
    return directory / HOLDERS / f"{host}.{pid}.json"


def holders(directory: Path) -> list[RunHolder]:
    """Runs that hold `directory`, and runs that held it and were killed."""
    found = []
    for file in sorted((directory / HOLDERS).glob("*.json")):
        try:
            noted = json.loads(ordinary_files.read_text(file))
            holder = RunHolder(
                file, str(noted["simulation"]), str(noted["host"]), int(noted["pid"]), str(noted["started"])
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        found.append(holder)
    return found
