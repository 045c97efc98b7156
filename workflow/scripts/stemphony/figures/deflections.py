"""Draw the deflection of the beam, measured by the centre of mass or by segments, as colours and as arrows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import ResultError
from stemphony.experiment.scan import WINDOW
from stemphony.figures.atoms import mark_columns
from stemphony.figures.grid import grid_of
from stemphony.figures.images import scale_bar
from stemphony.figures.pictures import Treatment, copies, finer
from stemphony.figures.style import Style, colour
from stemphony.results.opened import Positions
from stemphony.results.rest_atoms import RestAtoms

Floats = NDArray[np.float64]

CENTER_OF_MASS, DPC = "centre of mass", "DPC"
ARROWS = {"slide": 20, "page": 18, "column": 12}
"""Most arrows along the longer side of a map, for each size of the figure."""

EXPLAINED = {
    CENTER_OF_MASS: "centre of mass: mean scattering angle of the electrons",
    DPC: "DPC: deflection that the segments of the detector show",
}


@dataclass(frozen=True)
class Deflection:
    """The deflection at each drawn pixel.

    Attributes
    ----------
    values_mrad : (nx, ny, 2) array
        Components along x and y.
    origin_nm, step_nm : (float, float)
        Place of the first pixel, and distances of neighbouring pixels.
    depth_nm : float
    what : str
        `centre of mass` or `DPC`.
    defocus_nm : float or None
        None for the mean over several.
    period : (int, int)
        Numbers of pixels of one copy of the window along x and y.
    """

    values_mrad: Floats
    origin_nm: tuple[float, float]
    step_nm: tuple[float, float]
    depth_nm: float
    what: str
    defocus_nm: float | None
    period: tuple[int, int]

    @property
    def places_nm(self) -> tuple[Floats, Floats]:
        """Coordinates of the pixels along x (nx,) and y (ny,) [nm]."""
        nx, ny = self.values_mrad.shape[:2]
        x = np.asarray(self.origin_nm[0] + self.step_nm[0] * np.arange(nx), dtype=float)
        y = np.asarray(self.origin_nm[1] + self.step_nm[1] * np.arange(ny), dtype=float)
        return x, y

    @property
    def extent_nm(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top edge [nm]."""
        (x, y), (dx, dy) = self.places_nm, self.step_nm
        return float(x[0] - dx / 2), float(x[-1] + dx / 2), float(y[0] - dy / 2), float(y[-1] + dy / 2)

    def record(self) -> dict[str, Any]:
        """The numbers as a JSON object. `x_mrad` and `y_mrad` have one row for each y."""
        x, y = self.places_nm
        return {
            "what": self.what, "depth_nm": self.depth_nm, "defocus_nm": self.defocus_nm,
            "x_nm": x.tolist(), "y_nm": y.tolist(),
            "x_mrad": self.values_mrad[..., 0].T.tolist(), "y_mrad": self.values_mrad[..., 1].T.tolist(),
        }  # fmt: skip


def deflection(
    positions: Positions, values_mrad: Floats, depth_nm: float, treatment: Treatment, what: str,
    defocus_nm: float | None,
) -> Deflection:  # fmt: skip
    """Prepare a deflection for drawing: make copies and interpolate, as for images.

    Parameters
    ----------
    positions : Positions
        The positions of the scan.
    values_mrad : (nx, ny, 2) array
        Components along x and y [mrad].
    depth_nm, defocus_nm : float, float or None
        Where they were measured. `defocus_nm` is None for the mean over several defoci.
    treatment : Treatment
        Only its copies and its interpolation are used.
    what : str
        Name of the measurement, for titles.

    Returns
    -------
    Deflection
        Values [mrad], (nx, ny, 2), with lengths in nm.

    Raises
    ------
    ResultError
        The scan is not a window, or does not repeat along an axis with copies.
    """
    if positions.kind != WINDOW:
        raise ResultError("the scan is a line or a list, not a window: it has no map of the deflection.")
    repeats = treatment.repeats(positions)
    parts = [
        finer(copies(values_mrad[..., axis], treatment, repeats), values_mrad.shape[:2], treatment, repeats)
        for axis in (0, 1)
    ]
    step = (positions.step_nm[0] / treatment.finer, positions.step_nm[1] / treatment.finer)
    origin = (float(positions.x_nm[0]), float(positions.y_nm[0]))
    period = values_mrad.shape[0] * treatment.finer, values_mrad.shape[1] * treatment.finer
    return Deflection(np.stack(parts, axis=-1), origin, step, depth_nm, what, defocus_nm, period)


def colours(values: Floats, largest: float) -> Floats:
    """RGB colours (…, 3) from 0 to 1 of vectors `values` (…, 2). The hue is the direction, the brightness the length.

    Red is +x. From there, the hue goes counter-clockwise through yellow and green to +y. A vector of the length
    `largest` has the brightest colour.
    """
    from matplotlib.colors import hsv_to_rgb

    length = np.hypot(values[..., 0], values[..., 1]) / (largest or 1.0)
    hue = np.mod(np.arctan2(values[..., 1], values[..., 0]) / (2 * math.pi), 1.0)
    hsv = np.stack([hue, np.ones_like(hue), np.clip(length, 0, 1)], axis=-1)
    return np.asarray(hsv_to_rgb(hsv))


def draw(
    fields: Sequence[Deflection], style: Style, atoms: RestAtoms | None = None, remarks: Sequence[str] = ()
) -> Any:
    """Draw two panels for each depth: the directions as colours with a colour wheel, and arrows over the length.

    Parameters
    ----------
    fields : sequence of Deflection
        The depths in the order of the rows, with the same pixels.
    style : Style
    atoms : RestAtoms or None
        Atoms to draw over the panels.
    remarks : sequence of str
        Remarks on the whole figure. They are the first lines below it.

    Returns
    -------
    matplotlib.figure.Figure
        Not saved yet.
    """
    left, right, bottom, top = fields[0].extent_nm
    with style.applied():
        elements = () if atoms is None else atoms.elements
        notes = [*remarks, *_notes(fields)]
        grid = grid_of(
            2 * len(fields), 2, (top - bottom) / (right - left), 1, notes, style, elements, has_scale_bar=True
        )
        for index, one in enumerate(fields):
            first, second = grid.panels[2 * index : 2 * index + 2]
            depth = f", {one.depth_nm:.3g} nm" if len(fields) > 1 else ""
            _colour_panel(first, one, f"direction{depth}")
            _arrow_panel(second, one, f"length{depth}", ARROWS[style.size])
        scale_bar(grid.lower_left.axes, style.points)
        if atoms is not None:
            mark_columns(grid, atoms, style.points)
    return grid.figure


def _notes(fields: Sequence[Deflection]) -> list[str]:
    first = fields[0]
    notes = [f"depth {first.depth_nm:.3g} nm"] if len(fields) == 1 else []
    if first.defocus_nm is not None:
        notes.append(f"defocus {first.defocus_nm:g} nm")
    return [*notes, EXPLAINED[first.what]]


def _bare(axes: Any, title: str) -> None:
    axes.set_title(title)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _colour_panel(panel: Any, one: Deflection, title: str) -> None:
    largest = float(np.hypot(*np.moveaxis(one.values_mrad, -1, 0)).max())
    rgb = colours(one.values_mrad, largest)
    panel.axes.imshow(np.swapaxes(rgb, 0, 1), origin="lower", extent=one.extent_nm)
    _bare(panel.axes, title)
    # The wheel stands where other figures have a colour bar.
    box = panel.bar.get_position()
    figure = panel.axes.figure
    panel.bar.set_axis_off()
    width, height = figure.get_size_inches()
    side = 2.9 * box.width * width
    wheel = figure.add_axes([box.x0, box.y1 - side / height, side / width, side / height])
    x, y = np.meshgrid(np.linspace(-1, 1, 201), np.linspace(-1, 1, 201))
    disk = colours(np.stack([x, y], axis=-1), 1.0)
    shown = np.concatenate([disk, (np.hypot(x, y) <= 1)[..., None].astype(float)], axis=-1)
    wheel.imshow(shown, origin="lower", extent=(-1, 1, -1, 1))
    wheel.set_axis_off()
    wheel.text(0, -1.15, f"{largest:.3g}\nmrad", ha="center", va="top", fontsize="small")


def arrow_step(one: Deflection, most: int) -> int:
    """Pixels between arrows over the pixels of `one`, for at most `most` arrows along the longer side.

    If possible, the arrows are at the same places in each copy of the window.
    """
    nx, ny = one.values_mrad.shape[:2]
    least = max(1, math.ceil(max(nx, ny) / most))
    common = math.gcd(*one.period)
    return next((step for step in range(least, min(2 * least, common) + 1) if common % step == 0), least)


def _arrow_panel(panel: Any, one: Deflection, title: str, most: int) -> None:
    axes, (x, y) = panel.axes, one.places_nm
    length = np.hypot(*np.moveaxis(one.values_mrad, -1, 0))
    image = axes.imshow(length.T, origin="lower", extent=one.extent_nm, cmap="gray")
    each = arrow_step(one, most)
    some = (slice(each // 2, None, each), slice(each // 2, None, each))
    chosen = one.values_mrad[some]
    axes.quiver(
        x[some[0]], y[some[1]], chosen[..., 0].T, chosen[..., 1].T, color=colour(1), pivot="mid", angles="xy",
        scale_units="xy", scale=(length.max() or 1.0) / (1.6 * each * max(one.step_nm)), width=0.006,
    )  # fmt: skip
    _bare(axes, title)
    bar = axes.figure.colorbar(image, cax=panel.bar)
    bar.outline.set_visible(False)
    bar.set_label("mrad")
