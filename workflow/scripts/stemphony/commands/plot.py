"""`stemphony plot`: draw a figure of a finished result for a slide or a paper, or print its numbers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from stemphony.errors import ResultError
from stemphony.figures.pictures import Treatment
from stemphony.figures.request import IMAGES, FigureRequest, draw
from stemphony.figures.style import Style, save
from stemphony.paths import ResultPaths, SweepPaths
from stemphony.results.opened import Detector, OpenedResult
from stemphony.store import members


def plot(
    given: Path, request: FigureRequest, style: Style, output: Path | None, as_json: bool, say: Callable[[str], None]
) -> int:
    """Draw a figure.

    Parameters
    ----------
    given : Path
        Folder of a simulation or of a sweep, or a merged file.
    request : FigureRequest
        Kind of the figure, and what it shows.
    style : Style
        Size, colours and fonts.
    output : Path or None
        Figure to write. None: `<name>_<kind>.png` in the working directory.
    as_json : bool
        Print the numbers as one JSON object, and draw only if `output` is given.
    say : callable
        Prints one line.

    Returns
    -------
    int
        Exit status.

    Raises
    ------
    StemphonyError
        The result lacks the requested data, or a file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    if members.members_of(given):
        return _plot_sweep(given, request, style, output, as_json, say)
    file = ResultPaths(given).merged if given.is_dir() else given
    result = OpenedResult(file)
    drawn = draw(result, request, style)
    if as_json:
        content = {"result": str(file), "title": result.title, "figure": request.kind, "remarks": drawn.remarks}
        say(json.dumps({**content, "panels": drawn.records}))
    if output is None and as_json:
        return 0
    preview = "_preview" if result.preview else ""
    place = output or Path(f"{file.resolve().parent.name}{preview}_{request.kind}.png")
    save(drawn.figure, place)
    if not as_json:
        say(f"wrote {os.path.relpath(place)}")
    return 0


def _plot_sweep(
    given: Path, request: FigureRequest, style: Style, output: Path | None, as_json: bool, say: Callable[[str], None]
) -> int:
    """Draw the figure of a sweep."""
    from stemphony.figures import sweep_figure
    from stemphony.results.combined_sweep import Combined

    options = (
        request.detectors, request.depths_nm, request.defocus_nm is not None, request.at_nm, request.begin_nm,
        request.end_nm, request.shows_atoms, request.is_linear, request.treatment != Treatment(),
    )  # fmt: skip
    if as_json or request.kind != IMAGES or any(options):
        members.require_one(given, f"The numbers of the whole sweep are in {SweepPaths(given).combined}.")
    record = members.record_of(given)
    combined = Combined.of({"title": given.resolve().name, **record}, SweepPaths(given))
    place = output or Path(f"{given.resolve().name}_sweep.png")
    save(sweep_figure.draw(combined, style), place)
    say(f"wrote {os.path.relpath(place)}")
    return 0


def detector(text: str) -> Detector:
    """The detector that `text` names: a named detector, or two angles [mrad] such as `60-120`."""
    inner, dash, outer = text.partition("-")
    try:
        return (float(inner), float(outer)) if dash else text
    except ValueError:
        return text


def copies(text: str) -> tuple[int, int]:
    """Copies along x and y, from `text` such as `3x2`.

    Raises
    ------
    ResultError
        The text is not of this form, or it asks for too many copies.
    """
    x, _, y = text.lower().replace("×", "x").partition("x")
    if not (x.isdecimal() and y.isdecimal() and int(x) > 0 and int(y) > 0):
        raise ResultError(f"--tile: got {text!r}; give copies along x and y, for example 3x3.")
    if int(x) * int(y) > MOST_COPIES:
        raise ResultError(f"--tile: got {text}; at most {MOST_COPIES} copies are drawn.")
    return int(x), int(y)


MOST_COPIES = 400
"""Most copies of the window. With this limit, a drawn image has less than about ten megapixels."""


def pair(values: list[float] | None) -> tuple[float, float] | None:
    """The two numbers of a place (x, y) from the command line. `values` has two numbers, or is None for no place."""
    return None if values is None else (values[0], values[1])
