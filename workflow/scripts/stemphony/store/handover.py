"""Hand the plan over to the jobs of a simulation if Stemphony is a module of another workflow.

Snakemake does not run the hooks of a module (`onstart`, `onsuccess`). So the plan is written while Snakemake reads the
Snakefile, and the first job makes it the plan of a run, see `orchestration.module_run`. Each invocation of Snakemake
has its own folder, so a dry run does not change the plan of a run that is alive.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stemphony import ordinary_files
from stemphony.errors import StorageError
from stemphony.store.atomic import write_text_atomic
from stemphony.store.claims import process_start

FOLDER: Final = Path(".snakemake") / "stemphony-module"
"""Folder in the working directory for all handovers, and for the config of the last run of each simulation."""
ENVIRONMENT: Final = "environment.sh"
"""Name of the file that sets the environment of jobs. The shell commands of the rules read this file."""
OLD_S: Final = 30 * 86400.0
"""Age at which the handover of a killed invocation is removed [s]. Its jobs may wait in a queue that long."""


@dataclass(frozen=True)
class Handover:
    """Files of one simulation in one invocation; `folder` is `.snakemake/stemphony-module/<token>/<name>`."""

    folder: Path

    @property
    def config(self) -> Path:
        """The config, from which jobs take url and credentials of status reports. Only its owner may read it."""
        return self.folder / "config.yaml"

    @property
    def kept_config(self) -> Path:
        """The config of the last run, which stays for `stemphony rerun` and `stemphony report replay`."""
        return self.folder.parents[1] / f"{self.folder.name}.yaml"

    @property
    def environment(self) -> Path:
        """Shell code that sets the environment of the simulation's jobs."""
        return self.folder / ENVIRONMENT

    @property
    def content(self) -> Path:
        """The plan, and what the first job needs to begin a run."""
        return self.folder / "handover.json"

    @property
    def claim(self) -> Path:
        """Claim of the job that begins the run."""
        return self.folder / "begin.claim"

    @property
    def run_file(self) -> Path:
        """File with the number of the run. It exists as soon as the plan of the run is written."""
        return self.folder / "run"

    @property
    def begun(self) -> Path:
        """File that exists as soon as START_SIMULATION is sent."""
        return self.folder / "begun"

    def write(self, config: str, environment: str, content: Mapping[str, Any]) -> None:
        """Write all that the jobs need.

        `config` is the text of `config.yaml`, `environment` that of the shell script, and `content` becomes
        `handover.json`. Raises StorageError if the folder cannot be made or written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{self.folder} cannot be made: {error.strerror}. Make it writable, or work elsewhere."
            ) from None
        write_text_atomic(self.config, config, 0o600)
        write_text_atomic(self.environment, environment)
        write_text_atomic(self.content, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def read(self) -> dict[str, Any]:
        """Read the plan, and what the first job needs to begin a run.

        Raises
        ------
        StorageError
            The file is missing or damaged.
        """
        try:
            content = json.loads(ordinary_files.read_text(self.content))
        except (OSError, ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise StorageError(
                f"{self.content} is missing or damaged. It holds the plan that this job needs. Start the workflow "
                "again; finished jobs are kept."
            )
        return content

    @property
    def run(self) -> int:
        """Number of the run, 0 if no job has begun it."""
        try:
            return int(ordinary_files.read_text(self.run_file))
        except (OSError, ValueError):
            return 0

    def keep_config(self) -> None:
        """Keep the config as that of the last run, see `kept_config`. Raises StorageError."""
        write_text_atomic(self.kept_config, ordinary_files.read_text(self.config), 0o600)


def new_invocation(directory: Path) -> Path:
    """A new name of a folder for the handovers of this process, in the working directory `directory`.

    The folder is not made yet.
    """
    return directory / FOLDER / f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(6)}"


def remove(folder: Path) -> None:
    """Remove `folder`, that of an invocation; no error is raised if this fails."""
    shutil.rmtree(folder, ignore_errors=True)


def sweep_old(directory: Path) -> None:
    """Remove the folders of killed invocations of this machine from the working directory `directory`.

    A folder is removed if its process is dead and it is older than `OLD_S`. A folder that cannot be removed stays.
    """
    for folder in (directory / FOLDER).glob("*.*.*/"):
        of_host, pid, _ = folder.name.rsplit(".", 2)
        with suppress(OSError):
            is_dead = of_host == socket.gethostname() and pid.isdigit() and not process_start(int(pid))
            if is_dead and time.time() - folder.stat().st_mtime > OLD_S:
                remove(folder)
