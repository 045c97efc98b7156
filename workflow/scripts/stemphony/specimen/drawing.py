"""Draw a specimen, seen along the beam and from the side, with the probe, the scan and the films."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.specimen.specimen import Specimen

ATOM_SHARE = 0.42
"""Radius of a drawn atom, in covalent radii. With this radius columns stay apart, and light atoms stay visible."""

MARGIN = 0.12
"""Part of the cell that is drawn again, faintly, around the cell, to show that the cell is periodic."""

COINCIDENT = 0.1
"""Atoms of one element that are nearer than this [Å] in the projection are drawn once."""

ALIKE = 0.3
"""Two RGB colours with a smaller distance are hard to distinguish."""

SPARE_COLOURS = ((0.11, 0.62, 0.47), (0.46, 0.44, 0.70), (0.90, 0.67, 0.01), (0.40, 0.65, 0.12), (0.91, 0.16, 0.54))
"""Colours for elements whose own colour looks like that of another element (Dark2 of ColorBrewer)."""

FILM_COLOUR, SCAN_COLOUR, PROBE_COLOUR, CELL_COLOUR = "#b8c4d6", "#e07b00", "#c02a2a", "#1f5f99"


@dataclass(frozen=True)
class Scene:
    """What the picture shows in addition to the atoms; lengths in Å.

    Attributes
    ----------
    title : str
    window : ((x0, x1), (y0, y1))
        Scan window, or the extent of a line or list.
    places : tuple of (float, float) or None
        Positions of a line or list; None for a window.
    semiangle : float
        Semi-angle of the probe [rad].
    wavelength : float
        Wavelength of the electron.
    defocus : float
        Depth of the crossover below the entrance surface, positive inside.
    """

    title: str
    window: tuple[tuple[float, float], tuple[float, float]]
    semiangle: float
    wavelength: float
    defocus: float
    places: tuple[tuple[float, float], ...] | None = None

    def probe_radius(self, depth: float) -> float:
        """Radius of the probe at a depth [Å]: √((0.61 λ/α)² + (α·(z − Δf))²), no aberrations, no specimen."""
        return math.hypot(0.61 * self.wavelength / self.semiangle, self.semiangle * (depth - self.defocus))


def draw(specimen: Specimen, scene: Scene) -> Any:
    """A matplotlib figure of a `specimen` and a `scene`: probe, scan and title.

    On the left, x points to the right and y up; on the right, x points to the right and the beam down.
    """
    from matplotlib.figure import Figure

    lx, ly, lz = specimen.cell
    # Both panels have the same scale. If a specimen is thicker than three times its width, the panel from the side is
    # compressed, and its title says so.
    across = 4.6 * min(1.0, 7.0 / (4.6 * max(ly, min(lz, 3 * lx)) / lx))
    heights = [max(across * length / lx, 1.6) for length in (ly, min(lz, 3 * lx))]
    # The legend needs 8.5 inches.
    figure = Figure(figsize=(max(2 * across + 2.6, 8.5), max(heights) + 1.7), layout="constrained")
    top, side = figure.subplots(1, 2)
    _seen_along_beam(top, specimen, scene)
    _seen_from_side(side, specimen, scene)
    figure.suptitle(scene.title, fontsize=12)
    _legend(figure, specimen)
    _with_one_scale(figure, top, side)
    return figure


def _with_one_scale(figure: Any, top: Any, side: Any) -> None:
    """Give both panels the same scale: shrink the panel with the larger scale about its centre."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    scales = [axes.get_window_extent().width / np.ptp(axes.get_xlim()) for axes in (top, side)]
    for axes, scale in zip((top, side), scales, strict=True):
        share = min(scales) / scale
        box = axes.get_position()
        axes.set_position(
            [box.x0 + (1 - share) * box.width / 2, box.y0 + (1 - share) * box.height / 2, share * box.width,
             share * box.height]
        )  # fmt: skip


def _seen_along_beam(axes: Any, specimen: Specimen, scene: Scene) -> None:
    from matplotlib.patches import Circle, Rectangle

    lx, ly, lz = specimen.cell
    _atoms(axes, specimen, (0, 1), wraps=(True, True))
    axes.add_patch(Rectangle((0, 0), lx, ly, fill=False, ec="black", lw=1.2, zorder=5))
    building = specimen.building
    if building is not None:
        a, b, _ = building.orientation.lengths
        axes.add_patch(Rectangle((0, 0), a, b, fill=False, ec=CELL_COLOUR, lw=1.6, ls="--", zorder=6))
    (x0, x1), (y0, y1) = scene.window
    if scene.places is not None:
        axes.plot(*np.transpose(scene.places), ls="", marker=".", ms=4, color=SCAN_COLOUR, zorder=6)
    else:
        axes.add_patch(
            Rectangle((x0, y0), x1 - x0, y1 - y0, fc=SCAN_COLOUR, alpha=0.22, ec=SCAN_COLOUR, lw=1.4, zorder=6)
        )
    centre = ((x0 + x1) / 2, (y0 + y1) / 2)
    for depth, style in ((0.0, "-"), (lz, "--")):
        axes.add_patch(
            Circle(centre, scene.probe_radius(depth), fill=False, ec=PROBE_COLOUR, lw=1.4, ls=style, zorder=7)
        )
    axes.set_xlim(-MARGIN * lx, (1 + MARGIN) * lx)
    axes.set_ylim(-MARGIN * ly, (1 + MARGIN) * ly)
    axes.set_aspect("equal")
    axes.set_title("against the beam", fontsize=10)
    axes.set_xlabel(f"x / Å{_along(specimen, 0)}")
    axes.set_ylabel(f"y / Å{_along(specimen, 1)}")


def _seen_from_side(axes: Any, specimen: Specimen, scene: Scene) -> None:
    from matplotlib.patches import Rectangle

    lx, _, lz = specimen.cell
    _atoms(axes, specimen, (0, 2), wraps=(True, False))
    axes.add_patch(Rectangle((0, 0), lx, lz, fill=False, ec="black", lw=1.2, zorder=5))
    for film in specimen.films:
        axes.axhspan(film.bottom, film.top, color=FILM_COLOUR, alpha=0.45, lw=0, zorder=0)
    if specimen.vacuum[2] > 0:
        axes.axhspan(lz - specimen.vacuum[2], lz, facecolor="none", edgecolor="0.7", hatch="//", lw=0, zorder=0)
    centre = sum(scene.window[0]) / 2
    depths = np.linspace(0.0, lz, 200)
    radii = np.array([scene.probe_radius(depth) for depth in depths])
    axes.fill_betweenx(depths, centre - radii, centre + radii, color=PROBE_COLOUR, alpha=0.13, lw=0, zorder=6)
    for sign in (-1, 1):
        axes.plot(centre + sign * radii, depths, color=PROBE_COLOUR, lw=1.2, zorder=7)
    axes.set_xlim(-MARGIN * lx, (1 + MARGIN) * lx)
    room = max(0.04 * lz, 1.0)
    axes.set_ylim(lz + room, -room)
    equal = lz <= 3 * lx
    axes.set_aspect("equal" if equal else "auto")
    axes.set_title("from the side, beam downwards" + ("" if equal else "\n(compressed along the beam)"), fontsize=10)
    axes.set_xlabel(f"x / Å{_along(specimen, 0)}")
    axes.set_ylabel(f"depth z / Å{_along(specimen, 2)}")


def _along(specimen: Specimen, axis: int) -> str:
    building = specimen.building
    return "" if building is None else f"   along {building.orientation.direction(axis)}"


def _atoms(axes: Any, specimen: Specimen, plane: tuple[int, int], wraps: tuple[bool, bool]) -> None:
    """Atoms of a projection, the nearest ones on top, and faint copies around a periodic cell."""
    from matplotlib.collections import EllipseCollection

    along = 3 - sum(plane)
    film = np.zeros(len(specimen.symbols), dtype=bool)
    for layer in specimen.films:
        film[layer.first : layer.last] = True
    order = np.argsort(specimen.positions[:, along], kind="stable")
    kept = order[_distinct(specimen, order, plane)]
    flat, lengths = specimen.positions[kept][:, plane], np.array(specimen.cell)[list(plane)]
    diameters = 2 * ATOM_SHARE * np.where(specimen.radius[kept] > 0, specimen.radius[kept], 1.0)
    colours = element_colours(specimen.symbols)[kept]
    if specimen.occupancy is not None:
        colours[:, 3] = 0.25 + 0.75 * specimen.occupancy[kept]
    if along == 2:  # a film must not hide the crystal behind it
        diameters[film[kept]] *= 0.5
        colours[film[kept], 3] *= 0.3
    edges = np.tile([0.0, 0.0, 0.0, 0.55], (len(kept), 1))
    edges[film[kept], 3] = 0.15
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (not i or wraps[0]) and (not j or wraps[1])]
    for shift in sorted(shifts, key=lambda pair: pair == (0, 0)):
        moved = flat + np.array(shift) * lengths
        near = ((moved > -MARGIN * lengths) & (moved < (1 + MARGIN) * lengths)).all(axis=1)
        faint = shift != (0, 0)
        shown = np.array([1.0, 1.0, 1.0, 0.3 if faint else 1.0])
        axes.add_collection(
            EllipseCollection(
                diameters[near], diameters[near], np.zeros(int(near.sum())), units="x", offsets=moved[near],
                offset_transform=axes.transData, facecolors=colours[near] * shown, edgecolors=edges[near] * shown,
                linewidths=0.35, zorder=2 if faint else 3,
            )
        )  # fmt: skip


def _distinct(specimen: Specimen, order: NDArray[np.intp], plane: tuple[int, int]) -> NDArray[np.intp]:
    """Atoms of `order` to draw. If atoms coincide in the projection, only the last, because it lies on top."""
    _, kind = np.unique(specimen.symbols, return_inverse=True)
    places = np.rint(specimen.positions[:, plane] / COINCIDENT).astype(np.int64)
    keys = np.column_stack([kind.ravel(), places])[order]
    _, last = np.unique(keys[::-1], axis=0, return_index=True)
    return np.sort(len(order) - 1 - last)


def element_colours(symbols: NDArray[np.str_]) -> NDArray[np.float64]:
    """Opaque colours (N, 4) of the atoms `symbols` (N,).

    They are those of Jmol, or spare colours if two elements would look alike.
    """
    from ase.data import atomic_numbers
    from ase.data.colors import jmol_colors

    names, first, inverse = np.unique(symbols, return_index=True, return_inverse=True)
    spare = iter(SPARE_COLOURS)
    palette = np.ones((len(names), 4))
    taken: list[NDArray[np.float64]] = []
    for index in np.argsort(first).tolist():
        colour = np.array(jmol_colors[atomic_numbers[str(names[index])]])
        while any(np.linalg.norm(colour - other) < ALIKE for other in taken):
            colour = np.array(next(spare, (0.5, 0.5, 0.5)))
            if (colour == 0.5).all():
                break
        taken.append(colour)
        palette[index, :3] = colour
    return np.asarray(palette[inverse.ravel()], dtype=float)


def _legend(figure: Any, specimen: Specimen) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    names = list(dict.fromkeys(specimen.symbols.tolist()))
    handles: list[Any] = [
        Line2D([], [], marker="o", ls="", ms=8, mfc=colour, mec="black", mew=0.5, label=name)
        for name, colour in zip(names, element_colours(np.array(names)), strict=True)
    ]
    handles += [
        Line2D([], [], color="black", lw=1.2, label="cell, periodic in x and y"),
        Line2D([], [], color=CELL_COLOUR, lw=1.6, ls="--", label="oriented cell of the crystal"),
        Patch(fc=SCAN_COLOUR, alpha=0.4, ec=SCAN_COLOUR, label="scan"),
        Line2D([], [], color=PROBE_COLOUR, lw=1.4, label="probe at the entrance"),
        Line2D([], [], color=PROBE_COLOUR, lw=1.4, ls="--", label="probe at the exit"),
    ]
    if specimen.films:
        handles.append(Patch(fc=FILM_COLOUR, label="amorphous layer"))
    if specimen.vacuum[2] > 0:
        handles.append(Patch(fc="none", ec="0.7", hatch="//", label="vacuum"))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=int(figure.get_figwidth() / 2.2), fontsize=9, frameon=False
    )
