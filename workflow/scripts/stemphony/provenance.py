"""Who computed what with which code: versions and digests."""

from __future__ import annotations

import hashlib
import json
import platform
import socket
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from . import __version__

# Bumped in the commit that changes numbers: it is part of every job's params, so everything recomputes.
# tests/golden fails when numbers move and this does not.
PHYSICS_VERSION = 1

PROGRAM = "Stemphony"
VERSION = __version__


def canonical_json(value: Any) -> str:
    """JSON text that is equal for equal content: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def git_commit() -> str:
    """Commit of the working copy that this package runs from, `-dirty` if edited; empty outside git."""
    folder = Path(__file__).resolve().parent
    try:
        head = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return head.stdout.strip()


def host() -> str:
    """Name of this machine."""
    return socket.gethostname()


def runtime_attributes() -> dict[str, Any]:
    """Program and library versions, as they stand in a result file's group `runtime`."""
    import netCDF4
    import numpy
    import pyfftw
    import scipy

    major, minor, patch = [*VERSION.split("."), "0", "0"][:3]
    return {
        "program": PROGRAM,
        "programVersionMajor": major,
        "programVersionMinor": minor,
        "programVersionPatch": patch,
        "gitCommit": git_commit(),
        "git_commit": git_commit(),
        "versions": canonical_json(
            {
                "python": platform.python_version(),
                "numpy": numpy.__version__,
                "scipy": scipy.__version__,
                "pyfftw": pyfftw.__version__,
                "netCDF4": netCDF4.__version__,
                "hdf5": netCDF4.__hdf5libversion__,
            }
        ),
    }
