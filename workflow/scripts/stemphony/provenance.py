"""Versions of the code that computed a result, and digests of the data that decide the result."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from stemphony import ordinary_files
from stemphony.contract import COMMIT_VARIABLE
from stemphony.version import __version__

PHYSICS_VERSION = 2
"""Version of the computed numbers. Add 1 in the commit that changes numbers.

It is part of the params of each job, so all jobs then run again. tests/golden fails if the numbers change but this
version does not.
"""

PROGRAM = "Stemphony"
VERSION = __version__


def canonical_json(value: Any) -> str:
    """JSON text that is the same for the same content of `value`: sorted keys, no spaces.

    Raises
    ------
    ValueError
        `value` contains NaN or an infinity.
    TypeError
        `value` contains something that JSON does not know.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with ordinary_files.open_file(Path(file)) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def git_commit() -> str:
    """Commit of the working copy that this package runs from, with `-dirty` if it is edited.

    An installed wheel has a file that names its commit. Without a repository and without this file, as in a container
    image, this is the value of STEMPHONY_GIT_COMMIT, or empty.
    """
    folder = Path(__file__).resolve().parents[3]
    if not (folder / ".git").exists():
        # A git repository in a folder further up is not Stemphony's. Stemphony is only installed in it.
        recorded = folder / "COMMIT"
        text = recorded.read_text(encoding="utf-8").strip() if recorded.is_file() else ""
        return text or os.environ.get(COMMIT_VARIABLE, "")
    try:
        head = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return os.environ.get(COMMIT_VARIABLE, "")
    return head.stdout.strip()


@cache
def packages() -> list[str]:
    """Every package that this Python finds: `name=version=build` from conda, `name==version` from pip."""
    # conda has a file for each of its packages, also for libraries such as BLAS and HDF5.
    of_conda = [file.stem for file in Path(sys.prefix, "conda-meta").glob("*-*-*.json")]
    found = {"=".join(stem.rsplit("-", 2)) for stem in of_conda}
    # The names of the folders suffice. importlib.metadata would open every file, which costs each job 0.1 s.
    for folder in sys.path:
        for info in Path(folder).glob("*-*.dist-info"):
            name, _, version = info.stem.partition("-")
            if not (of_conda and _is_of_conda(info)):
                found.add(f"{name.replace('_', '-').lower()}=={version}")
    return sorted(found)


def _is_of_conda(info: Path) -> bool:
    try:
        return (info / "INSTALLER").read_text(encoding="utf-8").strip() == "conda"
    except OSError:
        return False


def environment() -> dict[str, Any]:
    """Environment of this process: Python, operating system, packages."""
    return {"python": platform.python_version(), "system": platform.platform(aliased=True), "packages": packages()}


def runtime_attributes() -> dict[str, Any]:
    """Versions of the program and of libraries: attributes of the group `runtime` of a result file."""
    import netCDF4
    import numpy
    import scipy

    from stemphony.physics import fft

    major, minor, patch = [*VERSION.split("."), "0", "0"][:3]
    built = numpy.show_config(mode="dicts")
    blas, simd = built["Build Dependencies"]["blas"], built["SIMD Extensions"]
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
                "pyfftw": fft.library().__version__,
                "fftw": fft.library().fftw_version,
                "blas": f"{blas['name']} {blas['version']}",
                "netCDF4": netCDF4.__version__,
                "netcdf_c": netCDF4.__netcdf4libversion__,
                "hdf5": netCDF4.__hdf5libversion__,
                # The digest shows whether jobs of one simulation ran in different environments.
                "packages_digest": digest(packages()),
            }
        ),
        "system": platform.platform(aliased=True),
        # Instruction sets of this CPU that NumPy uses. On a CPU with other sets, the last digits differ.
        "instruction_sets": " ".join([*simd["baseline"], *simd["found"]]),
        "packages": canonical_json(packages()),
    }
