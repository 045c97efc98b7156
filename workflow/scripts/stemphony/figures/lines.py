"""Draw curves with error bands: signals against the depth, or along a line. Each detector has a panel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.figures.style import UNITS, Style, colour, label, unit_in_words
from stemphony.results.line_profile import Place, Profile
from stemphony.results.opened import Signal
from stemphony.results.thickness_curve import ThicknessCurve

Floats = NDArray[np.float64]

MOST_COLUMNS = {"slide": 3, "page": 3, "column": 1}
"""Most panels in one row, for each size of the figure."""


SINGLE_WIDTH = 8.0
"""Width of the bar that shows the error of a single value [pt]."""


@dataclass(frozen=True)
class Line:
    """One panel.

    Attributes
    ----------
    title, x_label : str
    x_nm, values : (P,) array
        Places, and values in `unit`.
    errors : (P,) array or None
        Standard error of the values.
    smallest, largest : (P,) array or None
        Range over the scan.
    has_dots : bool
        Whether to draw a dot for each value, because the result stores exactly these values.
    note : str
        Explains the band.
    unit : str
        As in `Signal`.
    """

    title: str
    x_label: str
    x_nm: Floats
    values: Floats
    errors: Floats | None
    smallest: Floats | None
    largest: Floats | None
    has_dots: bool
    note: str
    unit: str = "1"

    def record(self) -> dict[str, Any]:
        """The numbers as a JSON object."""
        arrays = {"values": self.values, "standard_errors": self.errors, "smallest": self.smallest,
                  "largest": self.largest}  # fmt: skip
        return {
            "title": self.title, "x_label": self.x_label, "x": self.x_nm.tolist(),
            "unit": unit_in_words(self.unit), "note": self.note,
            **{name: None if values is None else values.tolist() for name, values in arrays.items()},
        }  # fmt: skip


def of_curve(curve: ThicknessCurve, at_nm: Place | None) -> Line:
    """The panel of a thickness `curve` of the position `at_nm` (x, y) [nm]; None for the mean over the scan."""
    has_range = at_nm is None
    parts = ["mean over the scan" if has_range else f"position ({at_nm[0]:g}, {at_nm[1]:g}) nm" if at_nm else ""]
    if curve.errors is not None:
        parts.append("dark band: standard error" + (", an upper limit" if has_range else ""))
    if has_range:
        parts.append("light band: smallest to largest of the scan")
    return Line(
        _title(curve.name, curve.ring_mrad), "depth (nm)", curve.depths_nm, curve.values, curve.errors,
        curve.smallest if has_range else None, curve.largest if has_range else None, True, "; ".join(parts),
        curve.unit,
    )  # fmt: skip


def of_profile(signal: Signal, along: Profile, begin: Place | None, end: Place | None) -> Line:
    """The panel of a line profile `along`, read from `signal` between the places `begin` and `end` (x, y) [nm].

    The places are None if the scan is a line itself.
    """
    parts = (
        [] if begin is None or end is None else [f"from ({begin[0]:g}, {begin[1]:g}) to ({end[0]:g}, {end[1]:g}) nm"]
    )
    if along.errors is not None:
        parts.append("band: standard error")
    return Line(
        f"{_title(signal.name, signal.ring_mrad)}, {signal.depth_nm:.3g} nm", "distance (nm)", along.distance_nm,
        along.values, along.errors, None, None, len(along.values) <= 40, "; ".join(parts), signal.unit,
    )  # fmt: skip


def of_list(signal: Signal) -> Line:
    """The panel of the image `signal` of a list of positions. `x_nm` holds the numbers of the positions."""
    errors = None if signal.errors is None else signal.errors[:, 0]
    return Line(
        f"{_title(signal.name, signal.ring_mrad)}, {signal.depth_nm:.3g} nm", "number of the position",
        np.arange(len(signal.values), dtype=float), signal.values[:, 0], errors, None, None, True,
        "" if errors is None else "band: standard error", signal.unit,
    )  # fmt: skip


def draw(lines: Sequence[Line], style: Style, remarks: Sequence[str] = ()) -> Any:
    """Draw the panels `lines` with a common axis along x, in % of the beam, mrad or rad, in this `style`.

    `remarks` stand first below the panels, before the note of the first line.
    """
    from matplotlib.ticker import MaxNLocator

    columns = min(len(lines), MOST_COLUMNS[style.size])
    rows = math.ceil(len(lines) / columns)
    with style.applied():
        whole = style.width * (1.0 if style.size == "column" else {1: 0.5, 2: 0.8}.get(columns, 1.0))
        panel = whole / columns * (0.62 if style.size == "column" else 0.8)
        figure = style.figure(rows * (panel + 1.2 * style.points / 72) + 2 * style.points / 72, whole)
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
        for axes in grid.flat[len(lines) :]:
            axes.set_axis_off()
        for index, (axes, line) in enumerate(zip(grid.flat, lines, strict=False)):
            _panel(axes, line, colour(index))
            if index + columns >= len(lines):
                axes.set_xlabel(line.x_label)
                axes.xaxis.set_tick_params(labelbottom=True)
            if index % columns == 0 or len({one.unit for one in lines}) > 1:
                axes.set_ylabel(UNITS[line.unit][1])
            axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
        note = "; ".join(filter(None, [*remarks, lines[0].note]))
        if note:
            letters = int(whole * 72 / (0.42 * style.points))
            figure.supxlabel(_wrapped(note, letters), fontsize=0.8 * style.points)
        figure.draw_without_rendering()
    return figure


def _panel(axes: Any, line: Line, ink: str) -> None:
    factor = UNITS[line.unit][0]
    if line.smallest is not None and line.largest is not None:
        _band(axes, line.x_nm, factor * line.smallest, factor * line.largest, ink, 0.15)
    if line.errors is not None:
        low, high = line.values - line.errors, line.values + line.errors
        _band(axes, line.x_nm, factor * low, factor * high, ink, 0.4)
    axes.plot(line.x_nm, factor * line.values, color=ink, marker="o" if line.has_dots else "", markersize=3)
    axes.set_title(line.title)
    if line.unit == "1":
        axes.set_ylim(bottom=0)
    axes.margins(x=0.02)
    if len(line.x_nm) == 1:
        axes.set_xticks(line.x_nm, [f"{line.x_nm[0]:.4g}"])


def _band(axes: Any, x_nm: Floats, low: Floats, high: Floats, ink: str, alpha: float) -> None:
    """Fill the area between two lines. With a single value, for example of one depth, draw a bar."""
    if len(x_nm) == 1:
        axes.vlines(x_nm, low, high, color=ink, alpha=alpha, lw=SINGLE_WIDTH)
    else:
        axes.fill_between(x_nm, low, high, color=ink, alpha=alpha, lw=0)


def _title(name: str, ring: tuple[float, float] | None) -> str:
    if ring is None:
        return label(name)
    angles = f"{ring[0]:.4g}–{ring[1]:.4g} mrad"
    return angles if name == angles else f"{label(name)}, {angles}"


def _wrapped(text: str, letters: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, letters, break_on_hyphens=False))
