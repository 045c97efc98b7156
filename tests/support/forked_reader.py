"""ASE in a fork of the test's process, under the same limits: a new process would import ASE again, for a second each.

`tests/unit/specimen/test_ase_process.py` starts the real process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import warnings
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Self

from stemphony.specimen import ase_process, ase_reader


class ForkedReader:
    """What `ase_process` uses of `subprocess.Popen`."""

    def __init__(self, words: Sequence[str], **_streams: Any) -> None:
        ase_reader.load()
        reading, writing = os.pipe()
        self.returncode: int | None = None
        self._pid = os.fork()
        if not self._pid:
            _serve(words[-5:], writing)
        os.close(writing)
        self.stdout = os.fdopen(reading, "rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stdout.close()
        self.wait()

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self._pid, signal.SIGKILL)


def _serve(words: Sequence[str], writing: int) -> None:
    status = 1
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor, stream in enumerate((nothing, writing, nothing)):
            os.dup2(stream, descriptor)
        warnings.resetwarnings()  # pytest makes errors of them
        ase_process.serve(*words)
        status = 0
    finally:
        os._exit(status)


FORKS = SimpleNamespace(Popen=ForkedReader, PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL)
"""Takes the place of the module `subprocess` in `ase_process`."""
