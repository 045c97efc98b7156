"""Draw waves: the incident probe, amplitude and phase of an exit wave, and the section along the depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stemphony.figures.grid import Panel, grid_of
from stemphony.figures.style import Style
from stemphony.results.wave_group import PROBE, SECTION
from stemphony.results.wave_pictures import AMPLITUDE, PHASE, WavePicture

TICKS_LINES = 2
"""Room below a panel for its ticks and the name of its axis [lines of text]."""

BLANK = 0.01
"""Smallest amplitude whose phase is drawn, as a share of the largest amplitude. Weaker parts of a wave have no visible
effect."""

_TITLES = {
    PROBE: "incident probe, √|ψ|²", AMPLITUDE: "exit wave, |ψ|", PHASE: "exit wave, phase", SECTION: "section, √|ψ|²",
}  # fmt: skip
"""Titles of the pictures. The root of an intensity is drawn, because a focused probe would outshine everything else."""

_UNITS = {"nm-2": "1/nm", "nm-1": "1/nm", "rad": "rad", "1": "incident wave = 1"}
"""For each unit of a stored picture, the unit of the values that are drawn."""


def draw(pictures: Sequence[WavePicture], style: Style, remarks: Sequence[str] = ()) -> Any:
    """Draw the `pictures` of one position with axes in nm: x to the right, y upwards, depth downwards, in this `style`.

    Parameters
    ----------
    remarks : sequence of str
        Remarks on the whole figure. They are the first lines below it.

    Returns
    -------
    matplotlib Figure
        One panel for each picture.
    """
    plane = next((one for one in pictures if one.second == "y"), pictures[0])
    extent = _extent(plane)
    aspect = (extent[3] - extent[2]) / (extent[1] - extent[0])
    amplitude = next((one.values for one in pictures if one.name == AMPLITUDE), None)
    with style.applied():
        grid = grid_of(
            len(pictures), min(2, len(pictures)), aspect, 1, [*remarks, _notes(pictures)], style, [],
            axis_lines=TICKS_LINES,
        )  # fmt: skip
        for panel, one in zip(grid.panels, pictures, strict=True):
            _picture(panel, one, amplitude)
    return grid.figure


def _picture(panel: Panel, one: WavePicture, amplitude: Any) -> None:
    left, right, low, high = _extent(one)
    is_section = one.second == "depth"
    values, look = one.values, {"cmap": "inferno", "vmin": 0.0}
    if one.name in (PROBE, SECTION):
        values = np.sqrt(np.clip(values, 0.0, None))
    if one.name == PHASE:
        look = {"cmap": "twilight", "vmin": -np.pi, "vmax": np.pi}
        if amplitude is not None:
            values = np.where(amplitude >= BLANK * amplitude.max(), values, np.nan)
    image = panel.axes.imshow(
        values.T, origin="upper" if is_section else "lower", aspect="auto" if is_section else "equal",
        extent=(left, right, high, low) if is_section else (left, right, low, high), **look,
    )  # fmt: skip
    panel.axes.set(xlabel="x (nm)", title=f"{_TITLES[one.name]} ({_UNITS[one.units]})")
    panel.axes.set_ylabel("depth (nm)" if is_section else "y (nm)", labelpad=0)
    if is_section and one.at_nm is not None:
        panel.axes.plot([one.at_nm[0]], [low], marker="v", color="C0", clip_on=False, ls="")
    panel.axes.spines[:].set_visible(False)
    bar = panel.axes.figure.colorbar(image, cax=panel.bar)
    bar.outline.set_visible(False)


def _extent(one: WavePicture) -> tuple[float, float, float, float]:
    """Edges of the outermost pixels [nm]."""
    edges = []
    for axis in (one.x_nm, one.second_nm):
        half = (axis[-1] - axis[0]) / max(1, len(axis) - 1) / 2 or 0.5
        edges += [float(axis[0] - half), float(axis[-1] + half)]
    return edges[0], edges[1], edges[2], edges[3]


def _notes(pictures: Sequence[WavePicture]) -> str:
    """The note below the figure: the position of the probe, and what is drawn."""
    first, names = pictures[0], {one.name for one in pictures}
    notes = [f"defocus {first.defocus_nm:.4g} nm"]
    if first.at_nm is not None:
        notes.insert(0, f"probe at ({first.at_nm[0]:.3g}, {first.at_nm[1]:.3g}) nm")
    if PHASE in names:
        notes.append(
            f"the exit wave is the mean over configurations; phases below {BLANK:.0%} of the amplitude are blank"
        )
    if SECTION in names:
        notes.append("section: plane of x and depth through the probe")
    if PROBE in names:
        notes.append("incident probe: x and y count from its middle")
    return "; ".join(notes)


def record(one: WavePicture) -> dict[str, Any]:
    """The numbers of a picture as a JSON object. `values` has one row for each y or depth."""
    return {
        "what": "probe_intensity" if one.name == PROBE else one.name, "at_nm": one.at_nm, "defocus_nm": one.defocus_nm,
        "unit": one.units, "x_nm": one.x_nm.tolist(), f"{one.second}_nm": one.second_nm.tolist(),
        "values": one.values.T.tolist(),
    }  # fmt: skip
