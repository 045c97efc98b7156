"""Programs that start quickly: a process imports the packages once, and forks for each program.

A tiny campaign computes for milliseconds; Snakemake, each job, the merge and the figures import for half a second to a
second. A fork has its own session, environment, working directory and streams, and imports the program's own modules
itself, so it runs the code of its clone.

In a fork of Snakemake, the shell commands of rules find a function `python` (bash reads `BASH_ENV`). For a script of a
rule it starts `fork_client.py`; everything else starts the real Python.

`Campaign.start` and `start_stemphony` start real processes, which get signals. Tests on Slurm, in conda environments,
of the tutorials and with hostile files use real ones as well.
"""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from support import fork_client

PROGRAMS = Path(sys.executable).parent

# In a conda environment another Python stands first in PATH.
_PYTHON = """
python() {{
  case "$PATH|$1" in
    {programs}:*"|"*/workflow/scripts/*.py) {client} "$@" ;;
    *) command python "$@" ;;
  esac
}}
"""

_folder: Path | None = None


def run(words: Sequence[str | Path], env: Mapping[str, str], folder: Path, log: Path, timeout_s: float) -> int:
    """Run `snakemake …` or `-m stemphony …` and return its exit status; the output goes to `log`.

    Raises
    ------
    TimeoutError
        If it has not ended after `timeout_s`; it is killed with its jobs.
    """
    server = start()
    env = {**env, "BASH_ENV": str(server / "python.sh")}
    with log.open("wb") as output, Path(os.devnull).open("rb") as nothing:
        streams = (nothing.fileno(), output.fileno(), output.fileno())
        asked = fork_client.ask(str(server / "door"), [str(word) for word in words], env, str(folder), streams)
    with asked, asked.makefile() as answers:
        asked.settimeout(timeout_s)
        answers.readline()
        return int(answers.readline())


def start() -> Path:
    """The folder of the server of this process, which is started at the first call."""
    global _folder
    if _folder is None:
        folder = Path(tempfile.mkdtemp(prefix="forks"))
        here = Path(__file__).parent
        door = folder / "door"
        # A test may have left PYTHONSAFEPATH, with which the server would not find its client.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
        server = subprocess.Popen(
            [sys.executable, here / "fork_server.py", door, PROGRAMS],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", start_new_session=True,
            env={**inherited, "OMP_NUM_THREADS": "1", "HDF5_USE_FILE_LOCKING": "FALSE"},
        )  # fmt: skip
        atexit.register(_end, server, folder)
        client = shlex.join([sys.executable, "-I", "-S", str(here / "fork_client.py"), str(door)])
        text = _PYTHON.format(programs=shlex.quote(str(PROGRAMS)), client=client)
        (folder / "python.sh").write_text(text, encoding="utf-8")
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        _folder = folder
    return _folder


def _end(server: subprocess.Popen[bytes], folder: Path) -> None:
    """Kill the server, and close what connects it, of which Python would warn."""
    server.send_signal(signal.SIGKILL)
    server.wait()
    for stream in (server.stdin, server.stdout):
        if stream is not None:
            stream.close()
    shutil.rmtree(folder, ignore_errors=True)
