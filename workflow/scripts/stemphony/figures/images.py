"""Draw images side by side. A row has the detectors of one depth, and a column has the depths of one detector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stemphony.figures.atoms import mark_columns
from stemphony.figures.grid import Panel, grid_of
from stemphony.figures.pictures import Picture
from stemphony.figures.style import UNITS, Style
from stemphony.results.rest_atoms import RestAtoms

MOST_COLUMNS = {"slide": 4, "page": 4, "column": 2}
"""Most images in one row, if all have the same depth."""

BAR_HEIGHT = 0.02
"""Height of a scale bar, as a share of the width of the image."""
BAR_PAD = 0.3
"""Distance of a scale bar from the lower and from the left edge of the image [heights of the text]."""


def draw(pictures: Sequence[Picture], style: Style, atoms: RestAtoms | None = None, remarks: Sequence[str] = ()) -> Any:
    """Draw images with one scale bar below them. Each image has a colour bar in % of the beam, mrad or rad.

    Parameters
    ----------
    pictures : sequence of Picture
        Ordered by depth, then by detector.
    style : Style
    atoms : RestAtoms or None
        Atoms to draw over the images.
    remarks : sequence of str
        Remarks on the whole figure. They are the first lines below it.

    Returns
    -------
    matplotlib Figure
        One panel for each picture.
    """
    left, right, bottom, top = pictures[0].extent_nm
    titles = [_title(picture, pictures) for picture in pictures]
    with style.applied():
        grid = grid_of(
            len(pictures), _columns(pictures, style.size), (top - bottom) / (right - left),
            1 + max(title.count("\n") for title in titles), [*remarks, *_notes(pictures)], style,
            () if atoms is None else atoms.elements, has_scale_bar=True,
        )  # fmt: skip
        for panel, picture, title in zip(grid.panels, pictures, titles, strict=True):
            _image(panel, picture, title)
        scale_bar(grid.lower_left.axes, style.points)
        if atoms is not None:
            mark_columns(grid, atoms, style.points)
    return grid.figure


def _notes(pictures: Sequence[Picture]) -> list[str]:
    """Notes below the figure: what all images have in common, and what a reader must know."""
    first = pictures[0]
    same_depth = len({picture.depth_nm for picture in pictures}) == 1 and len(pictures) > 1
    notes = [f"depth {first.depth_nm:.3g} nm"] if same_depth else []
    if first.defocus_nm is not None:
        notes.append(f"defocus {first.defocus_nm:g} nm")
    return [*notes, *dict.fromkeys(note for picture in pictures for note in picture.notes)]


def _columns(pictures: Sequence[Picture], size: str) -> int:
    """Number of images in a row: the detectors of one depth."""
    depths = {picture.depth_nm for picture in pictures}
    detectors = len({picture.name for picture in pictures})
    return detectors if len(depths) > 1 and detectors > 1 else min(len(pictures), MOST_COLUMNS[size])


def _title(picture: Picture, pictures: Sequence[Picture]) -> str:
    """The detector with its angles. The depth is added if the depths differ, because a note names a common depth."""
    depth = f"{picture.depth_nm:.3g} nm"
    if len({other.depth_nm for other in pictures}) == 1 and len(pictures) > 1:
        return picture.title
    name, _, angles = picture.title.partition("\n")
    return f"{name}, {depth}\n{angles}" if angles else f"{name}\n{depth}"


def _image(panel: Panel, picture: Picture, title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes, is_signal = panel.axes, picture.what == "signal"
    factor, unit = UNITS[picture.unit]
    shown = axes.imshow(
        factor * picture.values.T, origin="lower", extent=picture.extent_nm, cmap=None if is_signal else "viridis"
    )
    axes.set_title(title)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(shown, cax=panel.bar)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
    panel.name_bar(bar, unit if is_signal else f"error ({unit})")


def bar_length(width_nm: float) -> float:
    """Length of a scale bar [nm] in an image of the width `width_nm` [nm].

    It is 1, 2 or 5 times a power of ten, and at most 45 % of the width.
    """
    most = 0.45 * width_nm
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (5.0, 2.0, 1.0) if step * power <= most * (1 + 1e-9))


def bar_text(length_nm: float) -> str:
    """Text of a scale bar of `length_nm` [nm]: the length in nm, or in Å below 1 nm."""
    return f"{length_nm:g} nm" if length_nm > 0.999 else f"{10 * length_nm:g} Å"


def scale_bar(axes: Any, points: float) -> None:
    """Draw a scale bar below the image in `axes`, whose x axis is in nm, at its left edge.

    There it hides nothing, and it has the colour of the text. `points` is the size of the text [pt].
    """
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties
    from matplotlib.offsetbox import AnchoredOffsetbox, AuxTransformBox, HPacker, TextArea
    from matplotlib.patches import Rectangle

    left, right = axes.get_xlim()
    length, ink = bar_length(right - left), rcParams["text.color"]
    drawn = AuxTransformBox(axes.transData)
    drawn.add_artist(Rectangle((0, 0), length, BAR_HEIGHT * (right - left), color=ink, linewidth=0))
    text = TextArea(bar_text(length), textprops={"color": ink, "size": points})
    together = HPacker(children=[drawn, text], align="center", pad=0, sep=points / 2)
    axes.add_artist(
        AnchoredOffsetbox(
            "upper left", child=together, pad=0, borderpad=BAR_PAD, frameon=False, bbox_to_anchor=(0, 0),
            bbox_transform=axes.transAxes, prop=FontProperties(size=points),
        )
    )  # fmt: skip
