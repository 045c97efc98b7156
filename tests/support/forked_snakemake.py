"""Runs of Snakemake that start quickly: a process imports the packages once and forks for each run.

Imports take most of the time of a small run. The forked process has its own session, environment, working directory
and output, and imports the program's own modules itself, so each run sees the code of its clone. Tests that look at
the process itself or send it signals start a real one, `Campaign.start`.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

PROGRAM = Path(sys.executable).parent / "snakemake"

# Packages of others that a run with a CIF imports; Snakemake's own submodules come with them.
_PACKAGES = (
    "snakemake.cli, snakemake.api, ase.io.cif, scipy.spatial, netCDF4, jsonschema, gemmi, requests, psutil, "
    "snakemake.scheduling.job_scheduler, snakemake_interface_executor_plugins.registry"
)
ENDING = """
import atexit, sys, threading

def end_as(call):
    '''Call, and end this process as Python does, but for freeing all that was imported before the fork.'''
    status = 0
    try:
        call()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
"""
"""Code of a server: how a fork ends."""

_SERVER = f"""
import gc, json, os, sys
sys.path[0] = os.path.dirname({os.fspath(PROGRAM)!r})
import signal
import {_PACKAGES}

def enter(words, env, folder, log):
    os.setsid()
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(out)
    sys.argv = [{os.fspath(PROGRAM)!r}, *words]

{ENDING}
gc.collect()
gc.freeze()  # or the first collection of each fork would copy all pages
while line := sys.stdin.readline():
    child = os.fork()
    if not child:
        enter(*json.loads(line))
        # It ends the process as the real program does, with all that is registered for its end.
        end_as(lambda: sys.exit(snakemake.cli.main(sys.argv[1:])))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

_server: subprocess.Popen[bytes] | None = None
_lock = threading.Lock()


def run(arguments: Sequence[str | Path], env: Mapping[str, str], folder: Path, log: Path, timeout_s: float) -> int:
    """Run `snakemake` with these arguments and return its exit status; the output goes to `log`.

    Raises
    ------
    TimeoutError
        If it has not ended after `timeout_s`; it is killed with its jobs.
    """
    with _lock:
        server = _started(env)
        assert server.stdin is not None
        request = [[str(word) for word in arguments], dict(env), os.fspath(folder), os.fspath(log)]
        server.stdin.write(json.dumps(request).encode() + b"\n")
        child = _answer(server, 60.0)
        try:
            return _answer(server, timeout_s)
        except TimeoutError:
            os.killpg(child, signal.SIGKILL)
            _end(server)
            raise


def _started(env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """The server, which is started at the first run and again after it was killed."""
    global _server
    if _server is None or _server.poll() is not None:
        _server = subprocess.Popen(
            [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(env), cwd="/",
            bufsize=0,
        )  # fmt: skip
        atexit.register(_end, _server)
    return _server


def _end(server: subprocess.Popen[bytes]) -> None:
    """Kill the server, and close what connects it, of which Python would warn."""
    server.kill()
    server.wait()
    for stream in (server.stdin, server.stdout):
        if stream is not None:
            stream.close()


def _answer(server: subprocess.Popen[bytes], timeout_s: float) -> int:
    """The next number that the server writes. Without a buffer, or `select` would miss what waits there."""
    assert server.stdout is not None
    if not select.select([server.stdout], [], [], timeout_s)[0]:
        raise TimeoutError(f"snakemake has not ended after {timeout_s:.0f} s")
    return int(server.stdout.readline())
