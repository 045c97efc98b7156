"""Dry runs of Snakemake that start quickly: a process imports the packages once and forks for each dry run.

Imports take most of the time of a dry run. The forked process has its own environment, working directory and output,
and imports the program's own modules itself, so each dry run sees the code of its clone.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

# Packages of others that a dry run of a CIF imports; Snakemake's own submodules come with them.
_PACKAGES = (
    "snakemake.cli, snakemake.api, ase.io.cif, scipy.spatial, netCDF4, pyfftw, jsonschema, gemmi, requests, psutil"
)
_SERVER = f"""
import json, os, sys
import {_PACKAGES}

def run(words, env, folder, log):
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.argv = ["snakemake", *words]
    try:
        snakemake.cli.main(words)
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback
        traceback.print_exc()
        return 1

for line in sys.stdin:
    child = os.fork()
    if not child:
        status = run(*json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

_server: subprocess.Popen[str] | None = None
_lock = threading.Lock()


def dry_run(arguments: Sequence[str | Path], env: Mapping[str, str], folder: Path, log: Path) -> int:
    """Run ``snakemake --dry-run`` with these arguments, and return its exit status; the output goes to `log`."""
    global _server
    with _lock:
        if _server is None or _server.poll() is not None:
            _server = subprocess.Popen(
                [sys.executable, "-P", "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env=dict(env),
            )  # fmt: skip
            atexit.register(_server.kill)
        assert _server.stdin is not None
        assert _server.stdout is not None
        words = [str(word) for word in ("--dry-run", *arguments)]
        _server.stdin.write(json.dumps([words, dict(env), os.fspath(folder), os.fspath(log)]) + "\n")
        _server.stdin.flush()
        return int(_server.stdout.readline())
