"""Check and run a simulation from Python, as `stemphony check` and `stemphony run` do."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from stemphony.commands import convert
from stemphony.errors import ConfigError, StemphonyError
from stemphony.experiment import configuration
from stemphony.experiment import overrides as overriding
from stemphony.interface.result import Result, open_result
from stemphony.orchestration import sweep_inputs
from stemphony.paths import RESULTS, ResultPaths
from stemphony.store import ledger, progress

POLL_S = 0.5
"""Time between two updates of the progress bar [s]."""
BAR = 30
"""Width of the progress bar [characters]."""
LAST_LINES = 30
"""Most lines of the run's output that an error shows."""


def check(
    config: str | Path, *, directory: str | Path = ".", overrides: Sequence[str] = (), measures: bool = False
) -> str:
    """Check a config, and return its plan: specimen, grid, detectors, jobs, memory, computing time, notes.

    Parameters
    ----------
    config : str or Path
        Config file, or parameter file of STEMsalabim.
    directory : str or Path
        Folder that would contain `results`.
    overrides : sequence of str
        Keys that override those of the config, for example `"probe.energy_kev=100"`.
    measures : bool
        Whether to measure the speed of this machine first, to estimate the computing time. This takes some seconds.

    Returns
    -------
    str
        The plan, as text to print.

    Raises
    ------
    StemphonyError
        The config or the specimen has a mistake. The text says what to change.
    """
    notes: list[str] = []
    files = [convert.as_config(Path(config), notes.append)]
    given = _overridden(files[0], overrides)
    if measures:
        from stemphony.compute import calibration

        calibration.calibrate()
    return "\n".join([*notes, *sweep_inputs.planned_lines(given, files, Path(directory) / RESULTS)])


def run(
    config: str | Path,
    *,
    cores: int | None = None,
    directory: str | Path = ".",
    overrides: Sequence[str] = (),
    profile: str | None = None,
    replace: bool = False,
) -> Result:
    """Run a simulation with Snakemake, show its progress, and open its result. Finished jobs are kept.

    Parameters
    ----------
    config : str or Path
        Config file, or parameter file of STEMsalabim.
    cores : int or None
        Cores to use; None for all of this machine.
    directory : str or Path
        Folder for `results` and `logs`.
    overrides : sequence of str
        Keys that override those of the config, for example `"probe.energy_kev=100"`.
    profile : str or None
        Snakemake profile, for example `slurm`.
    replace : bool
        Compute the finished pairs of another config again, and replace their files.

    Returns
    -------
    Result
        The merged result.

    Raises
    ------
    ConfigError
        The config describes a sweep, or has no name.
    StemphonyError
        The config has another mistake, or the run failed. The text ends with the last output of the run.
    KeyboardInterrupt
        The run was interrupted. The same call continues it.
    """
    file = convert.as_config(Path(config), _say)
    whole = _overridden(file, overrides)
    if configuration.is_swept(whole):
        raise ConfigError(
            configuration.SWEEP,
            "this call runs one simulation. Run the sweep with `stemphony run`, and open its members with "
            "stemphony.open; xarray opens sweep.nc.",
        )  # fmt: skip
    given = whole.get("simulation")
    name = given.get("name") if isinstance(given, dict) else None
    if not isinstance(name, str):
        raise ConfigError("simulation.name", f"missing in {file}; it names the folder of the results.")
    result = ResultPaths.of(name, Path(directory) / RESULTS)
    command = [
        sys.executable, "-P", "-m", "stemphony", "run", str(file), "--directory", str(directory),
        *(["--cores", str(cores)] if cores is not None else []), *(["--profile", profile] if profile else []),
        *(["--replace"] if replace else []), *(["--config", *overrides] if overrides else []),
    ]  # fmt: skip
    status, lines = _Running(command, result).wait()
    if status != 0:
        raise StemphonyError("\n".join([f"the run of {file} ended with exit status {status}:", *lines[-LAST_LINES:]]))
    return open_result(result.root)


def _overridden(file: Path, entries: Sequence[str]) -> dict[str, object]:
    return dict(overriding.overridden(configuration.load([file]), entries))


def _say(text: str) -> None:
    print(text, flush=True)


class _Running:
    """A run in a separate process, because Snakemake and this process must not share signals and modules."""

    def __init__(self, command: Sequence[str], result: ResultPaths) -> None:
        self.result, self.lines = result, list[str]()
        self._begin, self._earlier = time.monotonic(), ledger.latest_run(result)
        self._watch: progress.Watch | None = None
        self._show = _bar()
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace",
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self) -> tuple[int, list[str]]:
        """Show the progress until the run ends. Returns its exit status and what it printed."""
        try:
            while True:
                try:
                    status = self._process.wait(POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    self._progress()
        except KeyboardInterrupt:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            raise
        finally:
            self._reader.join(5)  # not for ever: a process that outlives the run may keep the pipe open
            if not self._reader.is_alive() and self._process.stdout is not None:
                self._process.stdout.close()
        self._progress(last=True)
        return status, self.lines

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(line.rstrip("\n") for line in self._process.stdout)

    def _progress(self, last: bool = False) -> None:
        number = ledger.latest_run(self.result)
        jobs = ledger.read_plan(self.result, number).get("jobs_to_run", 0) if number > self._earlier else 0
        if not jobs:
            return
        if self._watch is None:
            self._watch = progress.Watch(self.result, number)
        now = self._watch.overall(jobs)
        self._show(now.share, now.line(time.monotonic() - self._begin), last)


def _bar() -> Callable[[float, str, bool], None]:
    """Function that shows progress. Notebooks and terminals get a bar that is drawn again, other outputs get lines."""
    if not ("ipykernel" in sys.modules or sys.stdout.isatty()):
        tenths = progress.Tenths(_say)
        return lambda share, text, _last: tenths.reached(share, text)

    def draw(share: float, text: str, last: bool) -> None:
        full = round(BAR * share)
        print(f"\r{'█' * full}{'░' * (BAR - full)} {text:<60}", end="\n" if last else "", flush=True)

    return draw
