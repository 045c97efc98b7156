"""Python files with the names of common modules: each leaves a trace where it is imported, and ends the process.

The folder also gets files of settings with which matplotlib and other programs fail.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

NAMES = (
    "random", "json", "numpy", "logging", "types", "yaml", "re", "typing", "socket", "hashlib", "tempfile",
    "subprocess", "enum", "dataclasses", "pathlib", "signal", "pickle", "struct", "netCDF4", "scipy", "matplotlib",
    "requests", "jsonschema", "psutil", "ase", "spglib", "platform", "uuid", "sitecustomize", "usercustomize",
)  # fmt: skip

SETTINGS = (
    "pyproject.toml", "setup.cfg", "pip.conf", ".condarc", "condarc", ".netrc", ".pgpass", ".pg_service.conf",
    "pg_service.conf", ".gitconfig", "snakemake.yaml", "pyvenv.cfg",
)  # fmt: skip
"""Files in which other programs look for their settings. Each is wrong in the language of all of them."""


def plant(folder: Path, trace: Path, names: Iterable[str] = NAMES) -> None:
    """Write the files into a folder; `trace` gets the path of each file that Python runs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.py").write_text(
            f"with open({str(trace)!r}, 'a') as trace:\n    print(__file__, file=trace)\n"
            f"raise SystemExit('{name}.py of a user was imported')\n"
        )
    # LaTeX would be started, which most machines do not have.
    (folder / "matplotlibrc").write_text("text.usetex: True\n")
    for name in SETTINGS:
        (folder / name).write_text("[[[ settings of\n\tsomebody: else\n")


def imported(trace: Path) -> list[str]:
    """Files that Python ran."""
    return trace.read_text().splitlines() if trace.exists() else []
