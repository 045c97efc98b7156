"""Draw the signals of all members of a sweep side by side: a row for each detector, a column for each value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stemphony.figures.images import scale_bar
from stemphony.figures.pictures import Treatment, picture
from stemphony.figures.style import UNITS, Style, label
from stemphony.results.combined_sweep import Combined

MOST_COLUMNS = 6
"""Most values side by side. Further values stand in further rows."""
MOST_ROWS = 24
"""Most rows of a figure."""


@dataclass(frozen=True)
class Row:
    """A row of panels: a detector, the members in the row, and the text beside the row."""

    detector: str
    members: tuple[int, ...]
    text: str


def draw(combined: Combined, style: Style) -> Any:
    """Draw the exit surface of all members of the sweep `combined`, in this `style`.

    Panels of a detector share one scale, so that they can be compared. At most `MOST_ROWS` rows are drawn.
    """
    everything = rows(combined)
    shown = everything[:MOST_ROWS]
    columns = max((len(row.members) for row in shown), default=1)
    left_out = [f"{len(shown)} of {len(everything)} rows are shown"] if len(everything) > len(shown) else []
    with style.applied():
        if not shown:
            figure = style.figure(2.0)
            figure.text(0.5, 0.5, "the members have no images", ha="center", va="center")
            return figure
        is_window = combined.results[0].positions.kind == "window"
        panel = 0.86 * style.width / columns
        aspect = _aspect(combined) if is_window else 0.7
        figure = style.figure(len(shown) * min(panel * aspect, 3.2) + 4 * style.points / 72, style.width)
        figure.suptitle(combined.title, fontsize=style.points)
        grid = figure.subplots(len(shown), columns, squeeze=False, sharey="row" if not is_window else False)
        for index, (row, axes) in enumerate(zip(shown, grid, strict=True)):
            _row(combined, row, axes, is_window, _limits(combined, row.detector), style)
            titles = [_column_text(combined, member) for member in row.members]
            if index == 0 or titles != [_column_text(combined, member) for member in shown[index - 1].members]:
                for one, title in zip(axes, titles, strict=False):
                    one.set_title(title)
        notes = [*_keys(combined), *left_out]
        if notes:
            figure.supxlabel("; ".join(notes), fontsize=0.8 * style.points)
    return figure


def _keys(combined: Combined) -> list[str]:
    """Notes that say which swept keys the columns and the rows show."""
    *outer, last = combined.axes
    if last.key == "member":
        return []
    return [f"columns: {last.key}", *([f"rows: {', '.join(axis.key for axis in outer)}"] if outer else [])]


def rows(combined: Combined) -> list[Row]:
    """The rows of the figure of a sweep `combined`.

    Each detector has one for each combination of the swept keys, without the key of the columns. A row with more than
    `MOST_COLUMNS` values continues in the next row.
    """
    *outer, last = combined.axes
    number = len(last.values)
    made = []
    for detector in combined.detectors:
        for block, values in enumerate(itertools.product(*(axis.values for axis in outer))):
            text = "\n".join(axis.text(value) for axis, value in zip(outer, values, strict=True))
            members = range(block * number, (block + 1) * number)
            for begin in range(0, number, MOST_COLUMNS):
                made.append(Row(detector, tuple(members[begin : begin + MOST_COLUMNS]), text))
    return made


def _row(
    combined: Combined, row: Row, axes: Sequence[Any], is_window: bool, limits: tuple[float, float], style: Style
) -> None:
    from matplotlib.ticker import MaxNLocator

    drawn, unit = None, "1"
    for one, member in itertools.zip_longest(axes, row.members):
        one.set(xticks=[], yticks=[])
        if member is None:
            one.set_visible(False)
            continue
        result = combined.results[member]
        if row.detector not in result.detectors and row.detector not in result.maps:
            one.text(0.5, 0.5, "not stored", ha="center", va="center", transform=one.transAxes)
            continue
        signal = result.signal(row.detector)
        factor, unit = UNITS[signal.unit]
        if is_window:
            image = picture(result.positions, signal, Treatment())
            drawn = one.imshow(
                factor * image.values.T, origin="lower", extent=image.extent_nm, vmin=limits[0], vmax=limits[1]
            )
            one.spines[:].set_visible(False)
            if member == row.members[0]:
                scale_bar(one, style.points)
        else:
            one.plot(result.positions.x_nm, factor * signal.values.ravel())
            one.yaxis.set_major_locator(MaxNLocator(nbins=3))
            one.set_xlabel("nm" if result.positions.kind == "line" else "position")
    name = label(row.detector)
    axes[0].set_ylabel(f"{name}\n{row.text}" if row.text else name)
    if drawn is not None:
        bar = axes[0].figure.colorbar(drawn, ax=list(axes), pad=0.01, aspect=15)
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=4))
        bar.set_label(unit)


def _limits(combined: Combined, detector: str) -> tuple[float, float]:
    """Smallest and largest value of a detector in all members, in the unit of the figure."""
    low, high = math.inf, -math.inf
    for result in combined.results:
        if detector in result.detectors or detector in result.maps:
            signal = result.signal(detector)
            factor = UNITS[signal.unit][0]
            low = min(low, factor * float(signal.values.min()))
            high = max(high, factor * float(signal.values.max()))
    return low, high


def _aspect(combined: Combined) -> float:
    """Largest height of an image divided by its width."""
    found = []
    for result in combined.results:
        places = result.positions
        found.append(len(places.y_nm) * places.step_nm[1] / (len(places.x_nm) * places.step_nm[0]))
    return max(found)


def _column_text(combined: Combined, member: int) -> str:
    """The value of a column. In a sweep over a list of members, the values of the column's member."""
    last = combined.axes[-1]
    if last.key != "member":
        return last.text(last.values[member % len(last.values)])
    return "\n".join(f"{key.rpartition('.')[2]} {value}" for key, value in combined.values[member].items())
