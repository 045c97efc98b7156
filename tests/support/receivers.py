"""Receivers that know batches, each in a process of its own, and what they have stored."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from support.status_server import closed_port

TESTS: Final = Path(__file__).resolve().parents[1]
SCRIPTS: Final = TESTS.parent / "workflow" / "scripts"


@dataclass(frozen=True)
class Receiver:
    """A receiver that can be started, and asked what it has stored.

    Attributes
    ----------
    command : sequence of str
        How to start it; ``{port}`` and ``{folder}`` stand for its port and its own folder.
    stored : callable
        Reads all stored events, in the order in which they were stored, from its folder.
    """

    name: str
    command: Sequence[str]
    stored: Callable[[Path], list[dict[str, Any]]]

    @contextlib.contextmanager
    def running(self, folder: Path) -> Iterator[int]:
        """Run it, and give its port."""
        port = closed_port()
        command = [word.format(port=port, folder=folder) for word in self.command]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), str(SCRIPTS)))}
        with (folder / f"{self.name}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            deadline = time.monotonic() + 30
            while not _listens(port):
                assert process.poll() is None, (folder / f"{self.name}.log").read_text()
                assert time.monotonic() < deadline, f"{self.name} does not listen"
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def _bodies(folder: Path) -> list[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(folder / "monitor.sqlite")) as database:
        return [json.loads(body) for (body,) in database.execute("SELECT body FROM event ORDER BY row")]


DURABLE: Final = Receiver(
    "durable", [sys.executable, "-m", "support.durable_receiver", "{port}", "{folder}/events.jsonl"], _lines
)
MONITOR: Final = Receiver(
    "monitor",
    [sys.executable, "-m", "stemphony", "monitor", "--port", "{port}", "--db", "{folder}/monitor.sqlite"],
    _bodies,
)


def has_monitor() -> bool:
    """Whether this repository has the command `stemphony monitor`."""
    return importlib.util.find_spec("stemphony.monitor") is not None
