"""Where images and their colour bars stand in a figure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stemphony.figures.style import Style

FEW = {1: 0.42, 2: 0.75}
"""Share of the width of a slide or page, for one or for two images side by side. Wider images would be too high."""

BAR, BAR_GAP, NUMBERS, COLUMN_GAP, BAR_LABEL, LINE, PAD = 0.9, 0.4, 2.7, 0.7, 1.4, 1.25, 0.5
"""Lengths [heights of the text]: width of a colour bar, gap in front of it, room for its numbers, gap between two
columns, room for the name of a bar, height of a line, and margin of the figure. They are in heights of the text so that
all sizes of a figure look alike."""
NOTE_SIZE = 0.8
"""Size of the notes below the panels, as a share of the size of the text: they matter less than the titles."""
NOTE_LETTER = 0.53
"""Width of a letter of a note [heights of its text]."""

HANDLE, HANDLE_PAD, ENTRY_GAP, LETTER = 1.6, 0.5, 1.6, 0.62
"""Lengths [heights of the legend's text]: line or marker of an entry, gap behind it, gap between entries, one
letter."""
LEGEND_SIZE = 0.85
"""Size of the text of a legend, as a share of the size of the text. It is that of the ticks, see `Style.applied`."""


@dataclass(frozen=True)
class Panel:
    """One image of a figure: its `axes`, those of its colour `bar`, and whether it `is_first_of_row`."""

    axes: Any
    bar: Any
    is_first_of_row: bool
    pitch: float
    """Distance between two rows [pt]."""

    def name_bar(self, bar: Any, text: str) -> None:
        """Write beside a colour bar what it shows. The text is so small that it does not reach into the next row."""
        bar.set_label(text)
        label = bar.ax.yaxis.label
        label.set_size(min(label.get_size(), self.pitch / (LETTER * len(text))))


@dataclass(frozen=True)
class PanelGrid:
    """A figure with panels of one shape, lines of notes and perhaps a legend below them.

    Attributes
    ----------
    columns, legend_columns : int
        Panels in one row, and entries in one row of the legend.
    """

    figure: Any
    panels: list[Panel]
    columns: int
    legend_height: float
    """Height of the legend's middle in the figure, as a fraction of it."""
    legend_columns: int

    @property
    def lower_left(self) -> Panel:
        """The first panel of the last row."""
        return self.panels[(len(self.panels) - 1) // self.columns * self.columns]

    def add_legend(self, handles: Sequence[Any]) -> None:
        """Draw a legend of `handles`, artists of matplotlib. Their labels were given when the grid was made."""
        self.figure.legend(
            handles=handles, loc="center", bbox_to_anchor=(0.5, self.legend_height), ncols=self.legend_columns,
            borderpad=0, handletextpad=HANDLE_PAD, handlelength=HANDLE, columnspacing=ENTRY_GAP,
        )  # fmt: skip


def grid_of(
    number: int,
    columns: int,
    aspect: float,
    title_lines: int,
    notes: Sequence[str],
    style: Style,
    legend: Sequence[str],
    axis_lines: int = 0,
    numbers: float = NUMBERS,
    has_scale_bar: bool = False,
) -> PanelGrid:
    """Make a figure. Call this function inside `style.applied`.

    Parameters
    ----------
    number, columns : int
        Panels in all, and in one row.
    aspect : float
        Height of an image divided by its width.
    title_lines : int
        Lines above each panel.
    notes : sequence of str
        Lines below the panels.
    legend : sequence of str
        Labels of a legend below the panels. The legend has as many lines as the labels need.
    axis_lines : int
        Room for ticks and names of axes, below each panel and left of each row [lines of text].
    numbers : float
        Room for the numbers of a colour bar [heights of the text].
    has_scale_bar : bool
        Whether a line below the last row needs room for a scale bar.

    Returns
    -------
    PanelGrid
        The figure with one empty panel for each of `number`.
    """
    text, rows = style.points / 72, math.ceil(number / columns)
    width = style.width * (1.0 if style.size == "column" else FEW.get(columns, 1.0))
    beside = (BAR_GAP + BAR + numbers + BAR_LABEL) * text
    left_of_row = (PAD + (1 + axis_lines if axis_lines else 0)) * text
    image = (width - left_of_row - PAD * text - (columns - 1) * COLUMN_GAP * text) / columns - beside
    letters = int(width / (NOTE_LETTER * NOTE_SIZE * text))
    lines = textwrap.wrap("; ".join(notes), letters, break_on_hyphens=False) if notes else []
    above = (LINE * title_lines + PAD) * text
    entries = _legend_columns(legend, width / (LEGEND_SIZE * text))
    legend_lines = math.ceil(len(legend) / entries)
    legend_room = (0.55 + 1.25 * legend_lines) * LINE if legend else 0.0
    scale_room = LINE if has_scale_bar else 0.0
    below = (NOTE_SIZE * LINE * len(lines) + legend_room + scale_room + PAD) * text
    pitch = above + image * aspect + (PAD + LINE * axis_lines) * text
    height = rows * pitch + below
    figure = style.figure(height, width, layout=None)
    panels = []
    for index in range(number):
        row, column = divmod(index, columns)
        left = left_of_row + column * (image + beside + COLUMN_GAP * text)
        bottom = height - row * pitch - above - image * aspect
        box = [left / width, bottom / height, image / width, image * aspect / height]
        bar = [(left + image + BAR_GAP * text) / width, box[1], BAR * text / width, box[3]]
        panels.append(Panel(figure.add_axes(box), figure.add_axes(bar), column == 0, 72 * pitch))
    note_height = PAD * text / 2 / height
    figure.text(0.5, note_height, "\n".join(lines), ha="center", va="bottom", fontsize=NOTE_SIZE * style.points)
    middle = note_height + (NOTE_SIZE * LINE * len(lines) + legend_room / 2) * text / height
    return PanelGrid(figure, panels, columns, middle, entries)


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """Number of entries that fit side by side into `width` [heights of the legend's text], at least one."""
    widest = max((LETTER * len(label) for label in labels), default=0.0) + HANDLE + HANDLE_PAD + ENTRY_GAP
    return max(1, min(len(labels), int((width + ENTRY_GAP) / widest)))
