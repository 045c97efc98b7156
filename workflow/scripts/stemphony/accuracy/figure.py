"""Figure of an error budget: the change of each detector's image by each choice."""

from __future__ import annotations

from pathlib import Path

from stemphony.accuracy.budget import Budget
from stemphony.accuracy.refinements import INPUT, MODEL, NUMERICAL
from stemphony.store.atomic import write_figure_atomic

LEAST = 1e-3
"""Smallest change that the axis shows [%]. Smaller changes are drawn at its left edge."""

NAMES = {
    "slices": "slice thickness",
    "sampling": "grid spacing",
    "potential": "potential spacing",
    "band_limit": "band limit",
    "cell": "cell size",
    "window": "window size",
    "basis": "basis tolerance",
    "precision": "precision",
    "parametrization": "scattering table",
    "u": "thermal motion U",
}
"""Terms in words."""

_KINDS = (NUMERICAL, MODEL, INPUT)
"""Kinds of terms, in the order in which they are drawn."""


def draw(file: Path, budget: Budget, title: str, target: float | None = None) -> None:
    """Draw the changes by term on a logarithmic axis: a dot for the worst depth, a line over all depths.

    Parameters
    ----------
    file : Path
        Picture to write; its suffix decides the format.
    budget : Budget
        Its terms become the rows, and its detectors the colours.
    title : str
        Text above the axes.
    target : float or None
        Wanted accuracy, as a share of the signal; drawn as a vertical line.

    Raises
    ------
    StorageError
        The picture cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    rows = [line for kind in _KINDS for line in budget.lines if line.kind == kind]
    number = len(budget.detectors)
    figure = Figure(figsize=(6.4, 1.3 + 0.42 * len(rows)))
    axes = figure.subplots()
    largest = LEAST
    for row, line in enumerate(rows):
        for index, name in enumerate(budget.detectors):
            values = [max(LEAST, 100 * abs(change.image)) for change in line.changes[name]]
            y = row + 0.5 * ((index + 0.5) / number - 0.5)
            label = name if row == 0 else None
            axes.plot([min(values), max(values)], [y, y], color=f"C{index}", lw=1.5, alpha=0.5)
            axes.plot(max(values), y, "o", ms=5, color=f"C{index}", label=label, clip_on=False)
            largest = max(largest, *values)
    for row in range(1, len(rows)):
        if rows[row].kind != rows[row - 1].kind:
            axes.axhline(row - 0.5, color="0.5", lw=0.8)
        else:
            axes.axhline(row - 0.5, color="0.9", lw=0.6)
    if target is not None:
        axes.axvline(100 * target, color="0.3", lw=1, ls="--")
        axes.annotate(
            f"{100 * target:g} %", (100 * target, 1), xycoords=("data", "axes fraction"), xytext=(3, -3),
            textcoords="offset points", ha="left", va="top", fontsize=9, color="0.3",
        )  # fmt: skip
    axes.set(
        xscale="log", xlim=(LEAST, max(2.0, 2 * largest)), ylim=(len(rows) - 0.5, -0.5),
        xlabel="change of the image (%, root mean square over the positions)",
    )  # fmt: skip
    axes.set_yticks(range(len(rows)), [NAMES[line.name] for line in rows])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.tick_params(axis="y", length=0)
    axes.set_title(title, fontsize=11, pad=22, loc="left")
    axes.legend(
        frameon=False, fontsize=9, ncols=min(6, number), loc="lower right", bbox_to_anchor=(1.0, 1.0),
        borderaxespad=0.1, handletextpad=0.2, columnspacing=1.0,
    )  # fmt: skip
    write_figure_atomic(file, figure)
