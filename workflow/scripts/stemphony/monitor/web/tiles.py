"""How a page shows mean images: their shape, copies beside them, and the length of the scale bar."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from stemphony.monitor.database.images import ImageEntry, MeanImage

FIELD_NM: Final = 1.2
"""Width up to which an image that repeats gets copies [nm]. The copies show how the columns of atoms are arranged."""

MOST_COPIES: Final = 6
"""Most copies along one axis, the image itself included. A screen shows not more than 6 × 64 pixels of an image."""

SIDE: Final = 176.0
"""Width of an image on the page [CSS pixels]. Its largest height is 1.5 times this width."""

_BAR_SHARE: Final = 0.45
"""Length of the longest scale bar, as a share of the width of the image."""


@dataclass(frozen=True)
class ImageTile:
    """One image on the page. Lengths are in CSS pixels.

    Attributes
    ----------
    entry : ImageEntry
    width, height : float
    bar : float
        Length of the scale bar, 0 for none.
    bar_text : str
        Length of the bar in nm or pm.
    copies : int
        How often the image is shown, the image itself included.
    """

    entry: ImageEntry
    width: float
    height: float
    bar: float
    bar_text: str
    copies: int


def copies(image: MeanImage | ImageEntry) -> tuple[int, int]:
    """Return how often `image` is shown along x and y."""
    if image.width_nm is None or image.height_nm is None:
        return 1, 1
    along = (("x", image.width_nm), ("y", image.height_nm))
    numbers = [_times(length) if axis in image.repeats else 1 for axis, length in along]
    return numbers[0], numbers[1]


def _times(length_nm: float) -> int:
    return min(MOST_COPIES, max(1, round(FIELD_NM / length_nm)))


def by_defocus(entries: Iterable[ImageEntry]) -> list[dict[str, Any]]:
    """Return the images `entries` of a simulation in groups of one defocus. They must be ordered by defocus."""
    return [
        {"defocus": group[0].defocus, "tiles": [_tile(entry) for entry in group]}
        for group in (list(found) for _, found in itertools.groupby(entries, key=lambda entry: entry.defocus_key))
    ]


def _tile(entry: ImageEntry) -> ImageTile:
    number = copies(entry)
    known = entry.width_nm is not None and entry.height_nm is not None
    lengths = (entry.width_nm, entry.height_nm) if known else (entry.width, entry.height)
    wide, high = (float(length or 1) * times for length, times in zip(lengths, number, strict=True))
    scale = SIDE / max(wide, high / 1.5)
    length = _round_length(_BAR_SHARE * wide) if known else 0.0
    return ImageTile(
        entry, round(wide * scale, 1), round(high * scale, 1), round(length * scale, 1), _length_in_words(length),
        number[0] * number[1],
    )  # fmt: skip


def _round_length(most_nm: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not longer [nm]."""
    power = math.floor(math.log10(most_nm))
    return next(times * 10.0**power for times in (5, 2, 1) if times * 10.0**power <= most_nm * (1 + 1e-9))


def _length_in_words(length_nm: float) -> str:
    return f"{1000 * length_nm:g} pm" if length_nm < 0.1 else f"{length_nm:g} nm"
