"""`make demo-monitor`: a monitor on the loopback, and a small simulation that reports to it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final

from stemphony.errors import MonitorError
from stemphony.interpreters import KEEP_OUT, PATH_VARIABLE
from stemphony.monitor.server import Monitor, Options, say

PACKAGES: Final = Path(__file__).resolve().parents[2]
"""Folder that holds the package, for the processes that the demonstration starts."""
REPOSITORY: Final = PACKAGES.parents[1]
"""Folder of Stemphony with the config of the demonstration."""
FOLDER: Final = Path("build") / "demo-monitor"
"""Folder of the demonstration. It is in the working directory, because an installed package is not writable."""
_END_S: Final = 30
"""Time that the simulation has to end after Ctrl-C [s]. Then it is killed."""


def demonstrate(port: int, database: str | None) -> int:
    """Start a monitor, run the simulation of `make run` with reports to it, and serve until Ctrl-C.

    Parameters
    ----------
    port : int
        Port to listen on. If this port is taken, the next free port is used.
    database : str or None
        File or URL of a database. None: a file that all demonstrations share.

    Returns
    -------
    int
        Exit status.

    Raises
    ------
    MonitorError
        The folder of the demonstration cannot be written, or the monitor cannot start.
    """
    folder = FOLDER.resolve() / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    try:
        folder.mkdir(parents=True)
        options = Options(port=port, database=database or str(FOLDER / "monitor.sqlite"), any_port=True)
        monitor = Monitor(options, say)
        config = _config(folder, monitor.url)
    except OSError as error:
        raise MonitorError(
            f"demo: {folder} cannot be written: {error.strerror}. Start it in a folder that is writable for you."
        ) from None
    say(f"open {monitor.url} in a browser; the simulation takes about a minute. Ctrl-C ends both.")
    # While the simulation starts, a signal is only recorded, because there is no process yet that could be stopped.
    early: list[int] = []
    _on_signals(lambda number, _: early.append(number))
    monitor.start()
    simulation = _simulate(folder, config)
    try:
        _on_signals(_interrupt)
        if early:
            raise KeyboardInterrupt
        status = simulation.wait()
        what = "has finished" if status == 0 else f"ended with status {status}"
        say(f"the simulation {what}; {monitor.url} still shows it. Ctrl-C ends the monitor.")
        signal.pause()
    except KeyboardInterrupt:
        _stop(simulation)
    monitor.close()
    return 0


def _config(folder: Path, url: str) -> Path:
    """Write the config of `make run` with the address of this monitor, and copy its structure file.

    Return the config.
    """
    import yaml

    source = REPOSITORY / "config"
    config: dict[str, Any] = yaml.safe_load((source / "config.yaml").read_text(encoding="utf-8"))
    config["http_reporting"] = {
        "reporting": True, "url": url, "preview": True, "parameters": {"project": "demonstration"},
    }  # fmt: skip
    shutil.copy(source / config["specimen"]["file"], folder)
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return file


def _simulate(folder: Path, config: Path) -> subprocess.Popen[bytes]:
    # The command `stemphony` in PATH may be missing, or belong to another installation. So it is not used.
    command = [sys.executable, KEEP_OUT, "-m", "stemphony", "run", str(config), "--directory", str(folder)]
    path = os.pathsep.join(filter(None, (str(PACKAGES), os.environ.get(PATH_VARIABLE))))
    return subprocess.Popen(command, start_new_session=True, env={**os.environ, PATH_VARIABLE: path})


def _stop(simulation: subprocess.Popen[bytes]) -> None:
    if simulation.poll() is None:
        os.killpg(simulation.pid, signal.SIGINT)
        try:
            simulation.wait(_END_S)
        except subprocess.TimeoutExpired:
            os.killpg(simulation.pid, signal.SIGKILL)


def _on_signals(handler: Callable[[int, FrameType | None], object]) -> None:
    """Handle Ctrl-C and SIGTERM. A child starts without the handler."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
