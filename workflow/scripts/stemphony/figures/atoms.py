"""Atoms over an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.figures.grid import PanelGrid
from stemphony.results.rest_atoms import RestAtoms
from stemphony.specimen.drawing import element_colours

Floats = NDArray[np.float64]

COINCIDENT_NM = 0.02
"""Distance of two atoms in the projection along the beam [nm]. Nearer atoms of one element get one ring together."""
RADIUS_SHARE = 0.3
"""Radius of a ring, in covalent radii. It is so small that rings of neighbouring columns do not touch."""
RADIUS_NM = 0.1
"""Radius that is used for an element without a known covalent radius [nm]."""
RING = 1 / 7
"""Line width of a ring [heights of the text]. A dark line of twice this width lies below it, so that rings are visible
on any image."""
WIDEST_RING = 0.4
"""Largest line width of a ring, as a share of its radius. It keeps the image visible inside small rings."""


def projected(
    atoms: RestAtoms, extent_nm: tuple[float, float, float, float]
) -> tuple[NDArray[np.str_], Floats, Floats]:
    """Columns of `atoms` whose rings reach into `extent_nm` (left, right, bottom, top) [nm], periodic copies included.

    Pixels are centred on their positions. So an atom at the far edge of the window is half a pixel outside the extent.

    Returns
    -------
    (N,), (N, 2), (N,) arrays
        Elements, places (x, y) [nm] and covalent radii [nm]; the largest first, so that smaller ones lie on top.
    """
    left, right, bottom, top = extent_nm
    cell = atoms.cell_nm[:2]
    _, kinds = np.unique(atoms.symbols, return_inverse=True)
    wrapped = np.mod(atoms.positions_nm[:, :2], cell)
    wrapped[cell - wrapped < COINCIDENT_NM / 2] = 0.0  # rounding errors put an atom at 0 just below the cell's edge
    keys = np.column_stack([kinds.ravel(), np.rint(wrapped / COINCIDENT_NM).astype(np.int64)])
    _, first = np.unique(keys, axis=0, return_index=True)
    # np.unique returns the first index of equal rows, so the columns keep the order of the atoms.
    places, copies = wrapped[first], []
    drawn = drawn_radius(atoms.radius_nm)
    most = float(drawn.max(initial=0.0))
    low = np.floor((np.array([left, bottom]) - most) / cell).astype(int)
    high = np.floor((np.array([right, top]) + most) / cell).astype(int)
    for i in range(low[0], high[0] + 1):
        copies += [places + np.array([i, j]) * cell for j in range(low[1], high[1] + 1)]
    everywhere = np.concatenate(copies)
    which = np.tile(first, len(copies))
    reach = drawn[which]
    inside = (
        (everywhere[:, 0] >= left - reach) & (everywhere[:, 0] <= right + reach)
        & (everywhere[:, 1] >= bottom - reach) & (everywhere[:, 1] <= top + reach)
    )  # fmt: skip
    which, everywhere = which[inside], everywhere[inside]
    order = np.argsort(-atoms.radius_nm[which], kind="stable")
    return atoms.symbols[which][order], everywhere[order], atoms.radius_nm[which][order]


def drawn_radius(radius_nm: Floats) -> Floats:
    """Radius of a ring [nm] for covalent radii `radius_nm` [nm]. For a radius of 0, `RADIUS_NM` is used."""
    return RADIUS_SHARE * np.where(radius_nm > 0, radius_nm, RADIUS_NM)


def mark_columns(grid: PanelGrid, atoms: RestAtoms, points: float) -> None:
    """Draw a ring around each column of `atoms` in each panel of `grid`, and a legend of the elements below the images.

    `points` is the size of the text [pt], on which the width of the lines depends.
    """
    from matplotlib.collections import EllipseCollection
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    names = atoms.elements
    colours = dict(zip(names, element_colours(np.array(names)), strict=True))
    for axes in [panel.axes for panel in grid.panels]:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        symbols, places, radii = projected(atoms, (left, right, bottom, top))
        diameters = 2 * drawn_radius(radii)
        per_nm = 72 * axes.figure.get_figwidth() * axes.get_position().width / (right - left)  # points
        width = np.minimum(RING * points, WIDEST_RING * drawn_radius(radii) * per_nm)
        inks: list[tuple[Any, Floats]] = [("black", 2 * width), ([colours[name] for name in symbols.tolist()], width)]
        for ink, widths in inks:
            axes.add_collection(
                EllipseCollection(
                    diameters, diameters, np.zeros(len(radii)), units="xy", offsets=places,
                    offset_transform=axes.transData, facecolors="none", edgecolors=ink, linewidths=widths,
                )
            )  # fmt: skip
        axes.set(xlim=(left, right), ylim=(bottom, top))
    grid.add_legend(
        [
            Line2D(
                [], [], marker="o", ls="", mfc="none", mec=colour, mew=RING * points, ms=0.6 * points, label=name,
                path_effects=[withStroke(linewidth=2 * RING * points, foreground="black")],
            )
            for name, colour in colours.items()
        ]
    )  # fmt: skip
