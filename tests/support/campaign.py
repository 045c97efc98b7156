"""Tiny campaigns for tests: a clone, a config, a working directory, and Snakemake in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import yaml
from stemphony.paths import ResultPaths

from support import forks
from support.evidence import last_part

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
# Folders at the top of the repository that no run needs; the package has rooms of the same names.
NOT_CLONED = frozenset({"results", "logs", "benchmarks", "build", "tests", "docs"})
SIGNAL_GROUPS = ("adf", "images", "cbed")
RULE = re.compile(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)*)", re.MULTILINE)
WILDCARDS = re.compile(r"wildcards: defocus=(\w+), configuration=(\w+)")
STATE = "state of the user"
"""Folder in that of a campaign that holds the user's record of runs."""
DEADLINE_S = 300
"""Longest wait of a test for a process, or for something that a process does [s].

It is long, because a machine that runs several tests at once is slow. Only a failing test waits so long.
"""

# 2 defoci × 2 configurations of 45 atoms: a job computes for milliseconds.
TINY: dict[str, Any] = {
    "simulation": {"name": "tiny", "title": "Tiny campaign", "random_seed": 7},
    "probe": {"defoci_nm": [0.0, 5.0]},
    "specimen": {
        "file": "srtio3.cif",
        "repeat": [3, 3, 1],
        "u_iso_angstrom2": {"Sr": 0.00787, "Ti": 0.00557, "O": 0.009275},
    },
    "grating": {"gpts": [64, 64]},
    "scan": {"x": [0.0, 0.3], "y": [0.0, 0.3], "points": [2, 2]},
    "depths": {"at_angstrom": [2.0, 3.905]},
    "adf": {"detectors": {"bf": [0.0, 10.0], "haadf": [25.0, 40.0]}},
    "cbed": {"enabled": True, "max_mrad": 30.0},
    "frozen_phonon": {"configurations": 2},
}
TINY_JOBS = frozenset({"p0d000/0000", "p0d000/0001", "p5d000/0000", "p5d000/0001"})
AFTER_JOBS = frozenset({"merge_results", "plot_results"})


def changed(config: Mapping[str, Any], **blocks: Mapping[str, Any]) -> dict[str, Any]:
    """A config with some keys of some blocks replaced: ``changed(TINY, probe={"energy_kev": 80.0})``."""
    return {**config, **{name: {**config.get(name, {}), **block} for name, block in blocks.items()}}


def make_clone(folder: Path) -> Path:
    """Copy what a run needs of the repository."""

    def left_out(directory: str, names: list[str]) -> set[str]:
        generated = {name for name in names if name.startswith(".") or name == "__pycache__" or ".egg-info" in name}
        return generated | (NOT_CLONED & set(names) if Path(directory) == REPOSITORY else set())

    return shutil.copytree(REPOSITORY, folder, symlinks=True, ignore=left_out)


def edit(file: Path, pattern: str, replacement: str) -> None:
    """Replace the one place in a text file that matches."""
    text, number = re.subn(pattern, replacement, file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert number == 1, f"{pattern!r} occurs {number} times in {file.name}"
    file.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Outcome:
    """Exit status of a process, and all that it printed to stdout and stderr."""

    status: int
    output: str

    @property
    def jobs(self) -> set[str]:
        """Jobs that Snakemake announced: `defocus/configuration`, or the name of the rule; without `all`."""
        names = set()
        for rule, body in RULE.findall(self.output):
            wildcards = WILDCARDS.search(body)
            names.add(f"{wildcards[1]}/{wildcards[2]}" if wildcards else rule)
        return names - {"all"}

    @property
    def evidence(self) -> str:
        return f"exit status {self.status}\n{last_part(self.output)}"


class Running:
    """A process in a session of its own, so that a signal can be sent to it and its children as a terminal does."""

    def __init__(
        self, command: Iterable[str | Path], log: Path, env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # As in a background process of a shell, from which every child would inherit it.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=dict(env),
                start_new_session=True,
            )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.signal_all(signal.SIGKILL)
            self.process.wait()

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the process and all its children."""
        os.killpg(self.process.pid, number)

    def end(self, timeout_s: float = DEADLINE_S) -> Outcome:
        """Wait for the end."""
        status = self.process.wait(timeout_s)
        return Outcome(status, self.log.read_text(encoding="utf-8", errors="replace"))

    @property
    def evidence(self) -> str:
        return f"{self.log}:\n{last_part(self.log.read_text(encoding='utf-8', errors='replace'))}"


@dataclass(frozen=True)
class Campaign:
    """A config file, the folder it is computed in, and the clone that computes it.

    Attributes
    ----------
    folder : Path
        Holds the config with its crystal in `config`, and the working directory; copied as a whole.
    """

    clone: Path
    folder: Path
    env: Mapping[str, str]
    extra: tuple[str, ...] = field(default=())

    @classmethod
    def make(cls, clone: Path, folder: Path, config: Mapping[str, Any], env: Mapping[str, str]) -> Campaign:
        """Write a config, its crystal and an empty working directory."""
        campaign = cls(clone, folder, _with_records_in(folder, env))
        campaign.config.parent.mkdir(parents=True)
        campaign.directory.mkdir()
        shutil.copy(REPOSITORY / "config" / "srtio3.cif", campaign.config.parent)
        campaign.write(config)
        return campaign

    def copy(self, folder: Path) -> Campaign:
        """Copy config, results and Snakemake's records, with their times. The copy counts as the moved simulation."""
        moved = self.copy_as_users_do(folder)
        members = moved.directory.glob("results/*/*/simulation.json")  # of a sweep
        for identity in (*moved.directory.glob("results/*/simulation.json"), *members):
            content = json.loads(identity.read_text())
            if isinstance(content, dict) and "folder" in content:
                identity.write_text(json.dumps({**content, "folder": str(identity.parent)}))
        for record in (moved.folder / STATE).glob("stemphony/simulations/*"):
            content = json.loads(record.read_text())
            place = Path(content.get("folder", ""))
            if place.is_relative_to(self.folder):
                content["folder"] = str(moved.folder / place.relative_to(self.folder))
                record.write_text(json.dumps(content))
        return moved

    def copy_as_users_do(self, folder: Path) -> Campaign:
        """Copy everything unchanged, so that the next run sees the original beside the copy."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return replace(self, folder=folder, env=_with_records_in(folder, self.env))

    @property
    def evidence(self) -> str:
        """The folder, and the output of the last process in it; the logs of its jobs are in `logs`."""
        outputs = sorted(self.folder.glob("*.out"), key=lambda file: file.stat().st_mtime_ns)
        logs = [str(file.relative_to(self.folder)) for file in sorted(self.folder.rglob("logs/**/*.log"))]
        listed = "\n".join([f"folder {self.folder}", *(f"log {name}" for name in logs[:40])])
        last = outputs[-1].read_text(encoding="utf-8", errors="replace") if outputs else ""
        return f"{listed}\n{outputs[-1].name if outputs else 'no process has run'}:\n{last_part(last)}"

    @property
    def config(self) -> Path:
        return self.folder / "config" / "simulation.yaml"

    @property
    def directory(self) -> Path:
        return self.folder / "work here"

    @property
    def settings(self) -> dict[str, Any]:
        return yaml.safe_load(self.config.read_text(encoding="utf-8"))

    @property
    def result(self) -> ResultPaths:
        return ResultPaths.of(self.settings["simulation"]["name"], self.directory / "results")

    def write(self, config: Mapping[str, Any]) -> None:
        """Replace the config file."""
        self.config.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")

    def change(self, **blocks: Mapping[str, Any]) -> None:
        """Edit the config file, see `changed`."""
        self.write(changed(self.settings, **blocks))

    def job_file(self, job: str) -> Path:
        """Result file of `defocus/configuration`."""
        defocus, configuration = job.split("/")
        return self.result.job(defocus, configuration)

    # --- processes ----------------------------------------------------------------------------------------

    def start(self, *arguments: str | Path, cores: int = 2, prefix: Iterable[str] = ()) -> Running:
        """Start Snakemake as a user would, from a folder that is neither the clone nor the working directory."""
        command = [*prefix, PROGRAMS / "snakemake", *self._words(cores), *arguments]
        return Running(command, self.folder / "snakemake.out", self.env, cwd=self.folder)

    def _words(self, cores: int) -> list[str | Path]:
        """Arguments of Snakemake for this campaign."""
        places = ["--snakefile", self.clone / "Snakefile", "--directory", self.directory, "--configfile", self.config]
        return [*places, "--cores", str(cores)]

    def snakemake(self, *arguments: str | Path, cores: int = 2, prefix: Iterable[str] = ()) -> Outcome:
        """Run Snakemake to its end, with any exit status."""
        if not prefix:
            return self.forked(*arguments, cores=cores)
        with self.start(*arguments, cores=cores, prefix=prefix) as running:
            return running.end()

    def forked(self, *arguments: str | Path, cores: int = 2) -> Outcome:
        """Run Snakemake to its end in a fork that need not import it, as the scripts of its rules need not."""
        log = self.folder / "snakemake.out"
        words = [*self._words(cores), *arguments]
        status = forks.run(["snakemake", *words], self.env, self.folder, log, DEADLINE_S)
        return Outcome(status, log.read_text(encoding="utf-8", errors="replace"))

    def succeed(self, *arguments: str | Path, cores: int = 2, prefix: Iterable[str] = ()) -> Outcome:
        """Run Snakemake, which must succeed."""
        outcome = self.snakemake(*arguments, cores=cores, prefix=prefix)
        assert outcome.status == 0, outcome.output
        return outcome

    def to_run(self) -> set[str]:
        """Jobs that Snakemake would run now."""
        outcome = self.forked("--dry-run")
        assert outcome.status == 0, outcome.output
        return outcome.jobs

    @property
    def _run(self) -> list[str | Path]:
        """Words of `stemphony run` for this campaign."""
        return ["run", self.config, "--directory", self.directory, "--cores", "2"]

    def start_stemphony(self, *arguments: str) -> Running:
        """Start `stemphony run` with the code of the clone."""
        words = [sys.executable, "-m", "stemphony", *self._run, *arguments]
        return Running(words, self.folder / "stemphony.out", self.env, cwd=self.scripts)

    def stemphony(self, *arguments: str) -> Outcome:
        """Run `stemphony run` to its end, in a fork."""
        return self.command(*self._run, *arguments)

    def command(self, *words: str | Path) -> Outcome:
        """Run a command of `stemphony` to its end, in a fork, with the code of the clone."""
        log = self.folder / "command.out"
        status = forks.run(["-m", "stemphony", *words], self.env, self.scripts, log, DEADLINE_S)
        return Outcome(status, log.read_text(encoding="utf-8", errors="replace"))

    @property
    def scripts(self) -> Path:
        """Where `python -m stemphony` finds the clone's package."""
        return self.clone / "workflow" / "scripts"

    # --- what came out ------------------------------------------------------------------------------------

    def states(self, run: int) -> dict[str, dict[str, Any]]:
        """Progress files of a run, by `defocus/configuration`."""
        found = {}
        for file in (self.result.run(run) / "progress").rglob("[!.]*.json"):
            _, defocus, _, configuration = file.stem.split("_")
            found[f"{defocus}/{configuration}"] = json.loads(file.read_text(encoding="utf-8"))
        return found

    def wait_for_jobs(self, run: int, number: int = 1) -> dict[str, dict[str, Any]]:
        """Wait until so many jobs of a run have started, and return the states of those that run now."""
        wait_for(lambda: len(self.states(run)) >= number, f"{number} jobs of run {run} to start")
        return {job: state for job, state in self.states(run).items() if state["state"] == "running"}

    def written(self) -> dict[str, int]:
        """When each job file was last written [ns]."""
        root = self.result.root / "jobs"
        return {str(file.relative_to(root)): file.stat().st_mtime_ns for file in sorted(root.glob("*/*.nc"))}


def _with_records_in(folder: Path, env: Mapping[str, str]) -> dict[str, str]:
    """An environment with the user's record of runs in the folder of a campaign: a copy has its own.

    Tests that run side by side copy one campaign, so their copies have one id and would share its entry.
    """
    return {**env, "XDG_STATE_HOME": str(folder / STATE)}


def clean_environment(cache: Path, *foreign: str) -> dict[str, str]:
    """Environment of all processes of a test: one thread per library, caches in a folder, no setting of the user."""
    prefixes = ("STEMPHONY_", "SNAKEMAKE", "PYTEST", "PYTHONPATH", "PYTHONSAFEPATH", "XDG_", *foreign)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(prefixes)},
        "OMP_NUM_THREADS": "1",
        # A process that a run leaves behind would outlive its test. test_left_behind.py tests such processes.
        "STEMPHONY_COURIER_S": "0",
        "STEMPHONY_CACHE_DIR": str(cache / "plans"),
        "XDG_CACHE_HOME": str(cache),
        "XDG_CONFIG_HOME": str(cache / "no-profiles"),
    }


@contextmanager
def heeding_hangup() -> Iterator[None]:
    """Processes that are started within react to SIGHUP, even if `nohup` made the tests ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def wait_for(ready: Callable[[], object], what: str, timeout_s: float = DEADLINE_S) -> None:
    """Wait until `ready` is true. A check that asks other programs is made less often, so it costs little."""
    deadline = time.monotonic() + timeout_s
    while True:
        began = time.monotonic()
        if ready():
            return
        checked = time.monotonic()
        assert checked < deadline, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(max(0.02, 4 * (checked - began)))


def arrays(file: Path) -> dict[str, np.ndarray]:
    """Every variable of the signals in a result file, by `group/name`."""
    with netCDF4.Dataset(file) as root:
        found = {
            f"{group}/{name}": np.ma.filled(variable[...], np.nan if variable.dtype.kind == "f" else -1)
            for group in SIGNAL_GROUPS
            if group in root.groups
            for name, variable in root[group].variables.items()
        }
    assert found, f"{file} holds no signals"
    return found


def assert_same_arrays(file: Path, expected: Mapping[str, np.ndarray]) -> None:
    """Check that every signal of a result file is the expected one, bit by bit."""
    found = arrays(file)
    assert found.keys() == expected.keys()
    different = [name for name, values in found.items() if not np.array_equal(values, expected[name])]
    assert different == []


def contents(file: Path) -> dict[str, bytes]:
    """Every variable of a result as bytes, except those of the group `runtime`."""
    found: dict[str, bytes] = {}

    def collect(group: netCDF4.Dataset, path: str) -> None:
        for name, variable in group.variables.items():
            variable.set_auto_maskandscale(False)
            content = variable[...]
            found[f"{path}/{name}"] = repr(content.tolist()).encode() if content.dtype == object else content.tobytes()
        for name, child in group.groups.items():
            if name != "runtime":
                collect(child, f"{path}/{name}")

    with netCDF4.Dataset(file) as root:
        collect(root, "")
    return found


def attributes(file: Path, group: str = "/") -> dict[str, Any]:
    """Attributes of one group of a result file."""
    with netCDF4.Dataset(file) as root:
        holder = root if group == "/" else root[group]
        return {name: holder.getncattr(name) for name in holder.ncattrs()}
