"""One job as the rule starts it, in a process that a test can stop, and the files that it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemphony import provenance
from stemphony.experiment import campaign, configuration
from stemphony.experiment.campaign import InputFiles
from stemphony.paths import ResultPaths
from stemphony.specimen.specimen_file import write_specimen
from stemphony.store import checkpoints, ledger

from support.experiments import SCRIPTS
from support.specimens import srtio3

SCRIPT = SCRIPTS / "run_multislice.py"
DEADLINE_S = 300
# The waves take a second or two, so that a signal can hit the job.
SLOW: dict[str, dict[str, Any]] = {
    "simulation": {"name": "slow"},
    "specimen": {"file": "slow.cif"},
    "grating": {"gpts": [96, 96], "slice_thickness_angstrom": 0.2},
    "scan": {"points": [30, 30]},
    "adf": {"bins": 5, "max_mrad": 60.0, "detectors": {"haadf": [40.0, 60.0]}},
    "probe": {"defoci_nm": [0.0, 2.5]},
}


class Job:
    """The first job of a campaign with its specimen and plan on disk.

    Parameters
    ----------
    folder : Path
        Gets the folder `results`.
    env : mapping
        Environment of the processes; every checkpoint is written as soon as it may cost its share.
    logs : Path or None
        Where the logs go, if not into the folder.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], logs: Path | None = None, **simulation: Any) -> None:
        blocks = {**SLOW, "simulation": {**SLOW["simulation"], **simulation}}
        if simulation.get("algorithm") == "probe_basis":
            blocks["grating"] = {**SLOW["grating"], "slice_thickness_angstrom": 0.02}  # few waves, a long way
        self.campaign = campaign.plan(configuration.validate(blocks), InputFiles("5" * 64))
        self.result, self.logs = ResultPaths.of("slow", folder / "results"), logs or folder
        self.result.root.mkdir(parents=True)
        digest = {"specimen_digest": self.campaign.specimen_params["specimen_digest"]}
        write_specimen(self.result.specimen, srtio3((2, 2, 2)), digest)
        ledger.write_plan(self.result, {"defoci_nm": [0.0, 2.5], "budget_mb": 1000.0, "retries": 1})
        self.env = {**env, "STEMPHONY_CHECKPOINT_S": "0", "STEMPHONY_TRY": "1", "OMP_NUM_THREADS": "1"}
        self.output = self.result.job("p0d000", 0)
        self.output.parent.mkdir(parents=True)
        self.checkpoint = self.result.checkpoint("p0d000", 0)
        self.claim = self.result.claim("p0d000", 0)
        self.started = 0

    def prepare(self, **env: str) -> Started:
        """A process that computes it, to be started."""
        self.started += 1
        params = provenance.canonical_json(self.campaign.job_params("p0d000", 0))
        command = [sys.executable, str(SCRIPT), params, str(self.result.specimen), str(self.output), "1"]
        return Started(command, self.logs / f"{self.started}.log", {**os.environ, **self.env, **env})

    def start(self, **env: str) -> Started:
        """Start it once more."""
        started = self.prepare(**env)
        started.begin()
        return started

    def run(self, **env: str) -> tuple[int, str]:
        """Run it to its end: exit status and log."""
        with self.start(**env) as started:
            return started.end()

    @property
    def kept(self) -> float:
        """Share of the waves in the checkpoint, 0 without one."""
        for file in self.result.checkpoints_folder.rglob("*.checkpoint"):
            try:
                with file.open("rb") as stream:
                    header = checkpoints.json.loads(stream.readline())
            except FileNotFoundError:
                continue
            return header["done"] / header["total"]
        return 0.0

    def leftovers(self) -> list[str]:
        """Files that an ended attempt must not leave."""
        folders = (self.result.checkpoints_folder, self.output.parent, self.result.waves_folder)
        found = [file.name for folder in folders for file in folder.rglob("*") if file.is_file()]
        return [name for name in found if not name.endswith((".nc", ".sha256", ".npz"))]


class Started:
    """A process and its log."""

    process: subprocess.Popen[bytes]

    def __init__(self, command: list[str], log: Path, env: Mapping[str, str]) -> None:
        self.command, self.log, self.env = command, log, dict(env)

    def begin(self) -> None:
        """Start the process."""
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(self.command, stdout=stream, stderr=subprocess.STDOUT, env=self.env)

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "process") and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def said(self) -> str:
        """Its log so far."""
        return self.log.read_text(encoding="utf-8")

    def end(self) -> tuple[int, str]:
        """Wait for its end: exit status and log."""
        return self.process.wait(DEADLINE_S), self.said
