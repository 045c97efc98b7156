"""Atoms over an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemphony.figures.grid import Grid
from stemphony.results.rest_atoms import RestAtoms
from stemphony.specimen.drawing import element_colours

Floats = NDArray[np.float64]

COINCIDENT_NM = 0.02
"""Atoms of one element that the projection along the beam brings this near are drawn once."""
RADIUS_SHARE = 0.22
"""Radius of a drawn atom in covalent radii: small, so that the image stays visible."""


def projected(
    atoms: RestAtoms, extent_nm: tuple[float, float, float, float]
) -> tuple[NDArray[np.str_], Floats, Floats]:
    """Columns of atoms inside an extent (left, right, bottom, top), periodic copies included.

    Returns
    -------
    (N,), (N, 2), (N,) arrays
        Elements, places (x, y) [nm] and covalent radii [nm]; the largest first, so that smaller ones lie on top.
    """
    left, right, bottom, top = extent_nm
    cell = atoms.cell_nm[:2]
    _, kinds = np.unique(atoms.symbols, return_inverse=True)
    wrapped = np.mod(atoms.positions_nm[:, :2], cell)
    wrapped[cell - wrapped < COINCIDENT_NM / 2] = 0.0  # rounding below zero
    keys = np.column_stack([kinds.ravel(), np.rint(wrapped / COINCIDENT_NM).astype(np.int64)])
    _, first = np.unique(keys, axis=0, return_index=True)
    # np.unique takes the first of equal rows, so the columns keep the order of the atoms.
    places, copies = wrapped[first], []
    low = np.floor(np.array([left, bottom]) / cell).astype(int)
    high = np.floor(np.array([right, top]) / cell).astype(int)
    for i in range(low[0], high[0] + 1):
        copies += [places + np.array([i, j]) * cell for j in range(low[1], high[1] + 1)]
    everywhere = np.concatenate(copies)
    which = np.tile(first, len(copies))
    inside = (
        (everywhere[:, 0] >= left) & (everywhere[:, 0] <= right)
        & (everywhere[:, 1] >= bottom) & (everywhere[:, 1] <= top)
    )  # fmt: skip
    which, everywhere = which[inside], everywhere[inside]
    order = np.argsort(-atoms.radius_nm[which], kind="stable")
    return atoms.symbols[which][order], everywhere[order], atoms.radius_nm[which][order]


def draw_atoms(grid: Grid, atoms: RestAtoms) -> None:
    """Draw the columns of atoms over images, and a legend of the elements below them."""
    from matplotlib.collections import EllipseCollection
    from matplotlib.lines import Line2D

    names = list(dict.fromkeys(atoms.symbols.tolist()))
    colours = dict(zip(names, element_colours(np.array(names)), strict=True))
    for axes in [panel.axes for panel in grid.panels]:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        symbols, places, radii = projected(atoms, (left, right, bottom, top))
        diameters = 2 * RADIUS_SHARE * np.where(radii > 0, radii, 0.1)
        axes.add_collection(
            EllipseCollection(
                diameters, diameters, np.zeros(len(radii)), units="xy", offsets=places,
                offset_transform=axes.transData, facecolors=[colours[name] for name in symbols.tolist()],
                edgecolors="black", linewidths=0.5,
            )
        )  # fmt: skip
        axes.set(xlim=(left, right), ylim=(bottom, top))
    handles = [
        Line2D([], [], marker="o", ls="", mfc=colour, mec="black", mew=0.5, label=name)
        for name, colour in colours.items()
    ]
    grid.figure.legend(
        handles=handles, loc="center", bbox_to_anchor=(0.5, grid.legend_height), ncols=min(8, len(handles)), borderpad=0
    )
