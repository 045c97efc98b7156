"""Diffraction patterns with axes in mrad and the rings of the detectors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemphony.figures.grid import grid_of
from stemphony.figures.style import Style, colour, label
from stemphony.results.patterns import Pattern

FAINTEST = 1e-6
"""Smallest beginning of the logarithmic scale, as a share of the pattern's largest value. Otherwise the scale begins at
the smallest value."""
TICKS_LINES = 2
"""Room below a panel for its ticks and the name of its axis [lines of text]."""
POWERS = 3.6
"""Room for powers of ten beside the colour bar [heights of the text]."""


@dataclass(frozen=True)
class Ring:
    """The angles of a detector: `inner_mrad` and `outer_mrad` about `middle_mrad`, its middle (x, y)."""

    inner_mrad: float
    outer_mrad: float
    middle_mrad: tuple[float, float] = (0.0, 0.0)


def draw(
    patterns: Sequence[Pattern],
    style: Style,
    detectors: Mapping[str, Ring],
    semiangle_mrad: float,
    is_linear: bool = False,
    remarks: Sequence[str] = (),
) -> Any:
    """Draw patterns of one position at several depths, kx to the right and ky upwards, in this `style`.

    Parameters
    ----------
    patterns : sequence of Pattern
        They have the same pixels.
    detectors : mapping
        The ring of each name. Rings outside of the pattern are left out.
    semiangle_mrad : float
        Semiangle of the probe. A dashed circle of this radius shows the edge of the bright-field disk.
    is_linear : bool
        Use a linear scale in place of a logarithmic one.
    remarks : sequence of str
        Remarks on the whole figure. They are the first lines below it.

    Returns
    -------
    matplotlib Figure
        One panel for each pattern.
    """
    from matplotlib.lines import Line2D

    extent = _extent(patterns[0])
    corner = max(map(abs, extent))
    shown = {name: ring for name, ring in detectors.items() if ring.inner_mrad < corner + math.hypot(*ring.middle_mrad)}
    with style.applied():
        notes = [*remarks, _place(patterns[0])]
        left_out = [label(name) for name in detectors if name not in shown]
        if left_out:
            notes.append(f"beyond this pattern: {', '.join(left_out)}")
        columns = min(3, len(patterns))
        aspect = (extent[3] - extent[2]) / (extent[1] - extent[0])
        names = [label(name) for name in shown]
        grid = grid_of(
            len(patterns), columns, aspect, 1, notes, style, names, axis_lines=TICKS_LINES, numbers=POWERS
        )  # fmt: skip
        for panel, pattern in zip(grid.panels, patterns, strict=True):
            _pattern(panel, pattern, extent, is_linear)
            panel.axes.set_title(f"{'PACBED' if pattern.at_nm is None else 'CBED'}, {pattern.depth_nm:.3g} nm")
            for index, ring in enumerate(shown.values()):
                _circles(panel.axes, (ring.inner_mrad, ring.outer_mrad), colour(index), "-", ring.middle_mrad)
            _circles(panel.axes, (semiangle_mrad,), "white", "--")
            panel.axes.set(xlim=extent[:2], ylim=extent[2:])
        if shown:
            grid.add_legend([Line2D([], [], color=colour(index), label=name) for index, name in enumerate(names)])
    return grid.figure


def _pattern(panel: Any, pattern: Pattern, extent: tuple[float, float, float, float], is_linear: bool) -> None:
    from matplotlib.colors import LogNorm, Normalize

    percent = 100 * pattern.values.T
    high = float(percent.max()) or 1.0
    positive = percent[percent > 0]
    low = max(FAINTEST * high, float(positive.min()) if len(positive) else FAINTEST * high)
    norm = Normalize(0, high) if is_linear else LogNorm(min(low, 0.5 * high), high, clip=True)
    image = panel.axes.imshow(percent, origin="lower", extent=extent, cmap="inferno", norm=norm)
    panel.axes.set(xlabel="kx (mrad)", ylabel="ky (mrad)" if panel.is_first_of_row else "")
    if not panel.is_first_of_row:
        panel.axes.tick_params(labelleft=False)
    panel.axes.spines[:].set_visible(False)
    bar = panel.axes.figure.colorbar(image, cax=panel.bar)
    bar.outline.set_visible(False)
    panel.name_bar(bar, "% per pixel")


def _extent(pattern: Pattern) -> tuple[float, float, float, float]:
    edges = []
    for angles in (pattern.kx_mrad, pattern.ky_mrad):
        half = (angles[1] - angles[0]) / 2 if len(angles) > 1 else 0.5
        edges += [float(angles[0] - half), float(angles[-1] + half)]
    return edges[0], edges[1], edges[2], edges[3]


def _circles(
    axes: Any, radii: Sequence[float], ink: str, dashes: str, middle: tuple[float, float] = (0.0, 0.0)
) -> None:
    turn = np.linspace(0, 2 * np.pi, 361)
    for radius in radii:
        if radius > 0:
            x, y = middle[0] + radius * np.cos(turn), middle[1] + radius * np.sin(turn)
            axes.plot(x, y, color=ink, ls=dashes, lw=1.0)


def _place(pattern: Pattern) -> str:
    if pattern.at_nm is None:
        return "mean over the scan; dashed: edge of the bright-field disk"
    return f"probe at ({pattern.at_nm[0]:.3g}, {pattern.at_nm[1]:.3g}) nm; dashed: edge of the bright-field disk"


def record(pattern: Pattern) -> dict[str, Any]:
    """The numbers of a pattern as a JSON object. `values` has one row for each ky."""
    return {
        "what": "cbed" if pattern.at_nm else "pacbed", "at_nm": pattern.at_nm, "depth_nm": pattern.depth_nm,
        "unit": "fraction of the incident beam per pixel", "kx_mrad": pattern.kx_mrad.tolist(),
        "ky_mrad": pattern.ky_mrad.tolist(), "values": pattern.values.T.tolist(),
    }  # fmt: skip
