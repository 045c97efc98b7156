"""Which runs hold a working directory: each notes its process in a file of its own, which goes when it ends."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from stemphony.store.atomic import write_text_atomic
from stemphony.store.claims import process_start

HOLDERS = Path(".snakemake") / "stemphony-runs"
"""Folder of these files in the working directory; a file that is left tells of a run that was killed."""


@dataclass(frozen=True)
class RunHolder:
    """A run that holds, or held, a working directory."""

    file: Path
    simulation: str
    host: str
    pid: int
    started: str

    @property
    def is_elsewhere(self) -> bool:
        """Whether it ran on another machine, where its process cannot be seen from here."""
        return self.host != socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether its process is there: the same one, not another that got its number."""
        return not self.is_elsewhere and process_start(self.pid) == self.started

    @property
    def is_this_process(self) -> bool:
        """Whether it is the run that asks."""
        return not self.is_elsewhere and self.pid == os.getpid()


def note_run(simulation: str, directory: Path, pid: int) -> None:
    """Note a process of this machine as a run of a simulation in a working directory."""
    content = {"simulation": simulation, "host": socket.gethostname(), "pid": pid, "started": process_start(pid)}
    file = _file_of(directory, pid)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(file, json.dumps(content))


def forget_run(directory: Path, pid: int) -> None:
    """Take the note back: the run has ended in good order."""
    _file_of(directory, pid).unlink(missing_ok=True)


def _file_of(directory: Path, pid: int) -> Path:
    return directory / HOLDERS / f"{socket.gethostname()}.{pid}.json"


def holders(directory: Path) -> list[RunHolder]:
    """Runs that hold a working directory, or held it and were killed."""
    found = []
    for file in sorted((directory / HOLDERS).glob("*.json")):
        try:
            noted = json.loads(file.read_text(encoding="utf-8"))
            holder = RunHolder(
                file, str(noted["simulation"]), str(noted["host"]), int(noted["pid"]), str(noted["started"])
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found.append(holder)
    return found
