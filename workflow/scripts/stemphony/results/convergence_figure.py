"""Figure of the statistical error against the number of configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stemphony.results.precision import Precision
from stemphony.store.atomic import write_figure_atomic

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""The colours of `stemphony plot`. If there are more than six lines, the next six are dashed."""


def draw(
    file: Path,
    found: Sequence[Precision],
    measured: Mapping[str, Mapping[int, float]],
    targets: Sequence[float],
    title: str,
) -> None:
    """Draw errors of all detectors on double logarithmic axes.

    Parameters
    ----------
    file : Path
        Picture to write; its suffix decides the format.
    found : sequence of Precision
        The line of each detector: its error, continued as 1/√N.
    measured : mapping
        For each detector, the errors of the first k configurations, drawn as dots.
    targets : sequence of float
        Errors that are marked by horizontal lines.
    title : str
        Text above the axes.

    Raises
    ------
    StorageError
        The picture cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    # Segments of one detector have nearly the same error and would fill the figure. The table still lists them.
    found = [one for one in found if not one.is_segment] or found
    figure = Figure(figsize=(6.4, 3.8))
    axes = figure.subplots()
    largest = max(10, *(one.needed(min(targets)) for one in found))
    numbers = np.geomspace(2, 1.5 * largest, 200)
    for index, one in enumerate(found):
        colour, dashes = COLOURS[index % len(COLOURS)], ("-", "--", ":")[index // len(COLOURS) % 3]
        errors = [100 * one.error * one.after(n) for n in numbers]
        axes.plot(numbers, errors, color=colour, ls=dashes, lw=1.2, label=one.detector)
        dots = measured.get(one.detector, {})
        axes.plot([*dots], [100 * value for value in dots.values()], "o", ms=3, color=colour, alpha=0.6)
        axes.plot(one.configurations, 100 * one.error, "s", ms=6, color=colour)
    for target in targets:
        axes.axhline(100 * target, color="0.6", lw=0.8, ls="--")
        axes.text(numbers[-1], 100 * target, f" {100 * target:g} %", va="center", fontsize=9)
    axes.set(xscale="log", yscale="log", xlabel="configurations", ylabel="standard error (%)", title=title)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlim(1.8, numbers[-1])
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.1, 1.0))
    write_figure_atomic(file, figure)
