"""`stemphony export`: a finished result in the file formats of other programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from stemphony.errors import ResultError
from stemphony.export.request import ExportRequest
from stemphony.export.request import export as write
from stemphony.paths import ResultPaths, SweepPaths
from stemphony.results.opened import OpenedResult
from stemphony.store import members

ALL = "all"
"""Word of the option `--depth` that stands for all depths."""


def export(given: Path, request: ExportRequest, output: Path, say: Callable[[str], None]) -> int:
    """Write the files of an export.

    Parameters
    ----------
    given : Path
        Folder of a simulation, or a merged file.
    request : ExportRequest
        Format, and the data to export.
    output : Path
        Folder to write into.
    say : callable
        Prints one line.

    Returns
    -------
    int
        Exit status.

    Raises
    ------
    StemphonyError
        The result lacks the requested data, a package is missing, or a file exists already or cannot be written.
    """
    members.require_one(given, f"xarray opens the whole sweep: {SweepPaths(given).combined}.")
    file = ResultPaths(given).merged if given.is_dir() else given
    name = file.resolve().parent.name
    write(OpenedResult(file), request, output, name if file.stem == "stem" else f"{name}_{file.stem}", say)
    return 0


def depths(words: Sequence[str]) -> Sequence[float] | None:
    """Depths [nm] from the `words` of the command line. `all` becomes None.

    Raises
    ------
    ResultError
        A word is neither a number nor `all`.
    """
    if list(words) == [ALL]:
        return None
    try:
        return [float(word) for word in words]
    except ValueError:
        raise ResultError(f"--depth: got {' '.join(words)}; give depths in nm, or `all`.") from None
