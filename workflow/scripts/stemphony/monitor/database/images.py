"""Keep the small images of finished jobs, and their mean over the configurations of each defocus and detector.

This module uses no numpy, because the environment of a monitor does not have it.
"""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass, field
from typing import Any, Final, Self

from sqlalchemy import ColumnElement, Connection, and_, delete, func, select

from stemphony.monitor.database import schema
from stemphony.monitor.records import PairSummary, Preview
from stemphony.status.events import PREVIEW_IMAGES

LISTED_IMAGES: Final = 60
"""Most images on a page, because all of them are on the screen together."""

_WHITE: Final = 255
"""Largest value of a pixel. Images have 8 bits."""


@dataclass(slots=True)
class MeanImage:
    """The mean of images of one detector and one size. The sum of the images is stored.

    Attributes
    ----------
    detector : str
        Name of the detector.
    width : int
        Pixels of a row.
    number : int
        Number of images.
    sums : array of float
        Sum of the images, row by row from the top.
    width_nm, height_nm : float or None
        Size [nm], None if the events do not give it.
    repeats : str
        Axes along which the image repeats: a part of `xy`.
    """

    detector: str
    width: int
    number: int = 0
    sums: array[float] = field(default_factory=lambda: array("d"))
    width_nm: float | None = None
    height_nm: float | None = None
    repeats: str = ""

    @classmethod
    def from_columns(cls, row: Any) -> Self:
        """Make an object from `row`, a row of its table."""
        image = cls(
            row.detector, row.width, row.number, width_nm=row.width_nm, height_nm=row.height_nm, repeats=row.repeats
        )
        image.sums.frombytes(bytes(row.sums))
        _swap_to_little_endian(image.sums)
        return image

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that `from_columns` reads."""
        sums = array("d", self.sums)
        _swap_to_little_endian(sums)
        same = ("detector", "width", "number", "width_nm", "height_nm", "repeats")
        return {**{name: getattr(self, name) for name in same}, "sums": sums.tobytes()}

    def fits(self, image: Preview) -> bool:
        """Return whether `image` has the same detector, size and scale as this mean."""
        own = (self.detector, self.width, len(self.sums), self.width_nm, self.height_nm, self.repeats)
        return own == (image.detector, image.width, len(image.pixels), *_scale(image))

    def add(self, low: float, high: float, pixels: bytes, times: int = 1) -> None:
        """Add an image. With `times` −1, remove it.

        `pixels` 0 to 255 stand for values from `low` to `high`, fractions of the incident beam.
        """
        step = (high - low) / _WHITE
        sums = self.sums or array("d", bytes(8 * len(pixels)))
        self.sums = array(
            "d", (before + times * (low + step * gray) for before, gray in zip(sums, pixels, strict=True))
        )
        self.number += times

    def gray(self) -> bytes:
        """Return 8-bit pixels, row by row: 0 for the smallest value, 255 for the largest."""
        low, high = min(self.sums), max(self.sums)
        span = high - low
        # The division comes first, because the inverse of a very small span would be infinite.
        return bytes(round(_WHITE * ((value - low) / span)) if span > 0 else 0 for value in self.sums)


@dataclass(frozen=True)
class ImageEntry:
    """What a page needs about a mean image before it loads the image.

    `defocus` is in nm, `width` and `height` are in pixels. `number` is the number of images, and `revision` the row of
    the event that changed the mean last. The other attributes are as for `MeanImage`.
    """

    defocus_key: str
    defocus: float | None
    detector: str
    number: int
    revision: int
    width: int
    height: int
    width_nm: float | None
    height_nm: float | None
    repeats: str


def _scale(image: Preview) -> tuple[float | None, float | None, str]:
    width_nm, height_nm = image.size_nm or (None, None)
    return width_nm, height_nm, image.repeats


def keep(connection: Connection, pair: PairSummary, image: Preview, revision: int) -> None:
    """Add the `image` of a `pair` to the mean of its defocus and detector.

    The image replaces an earlier image of the same pair. `revision` is the row of the event: if it changes, the page
    loads the mean again. A defocus has at most `PREVIEW_IMAGES` detectors. Images of further detectors are not kept.
    `connection` is an open transaction.
    """
    one, total = schema.PREVIEW, schema.PREVIEW_SUM
    of_defocus = and_(one.c.simulation == pair.simulation, one.c.defocus_key == pair.defocus_key)
    of_detector = and_(of_defocus, one.c.detector == image.detector)
    own = and_(of_detector, one.c.configuration == pair.configuration)
    place = {"simulation": pair.simulation, "defocus_key": pair.defocus_key}
    mean = mean_of(connection, pair.simulation, pair.defocus_key, image.detector)
    if mean is None:
        known = and_(*(total.c[name] == value for name, value in place.items()))
        if (connection.execute(select(func.count()).select_from(total).where(known)).scalar() or 0) >= PREVIEW_IMAGES:
            return
    if mean is None or not mean.fits(image):
        # Images of another size come from another config, so they are not part of this mean.
        width_nm, height_nm, repeats = _scale(image)
        mean = MeanImage(image.detector, image.width, width_nm=width_nm, height_nm=height_nm, repeats=repeats)
        connection.execute(delete(one).where(of_detector))
    before = connection.execute(select(one.c.low, one.c.high, one.c.pixels).where(own)).first()
    if before is not None:
        mean.add(before.low, before.high, bytes(before.pixels), -1)
        connection.execute(delete(one).where(own))
    mean.add(image.low, image.high, image.pixels)
    levels = {"detector": image.detector, "low": image.low, "high": image.high, "pixels": image.pixels}
    connection.execute(one.insert(), {**place, "configuration": pair.configuration, **levels})
    connection.execute(delete(total).where(_sum_at(pair.simulation, pair.defocus_key, image.detector)))
    connection.execute(total.insert(), {**place, **mean.columns, "revision": revision})


def forget(connection: Connection, simulation: int) -> None:
    """Delete the images of the simulation with row `simulation`. `connection` is an open transaction.

    All are deleted, because their senders are not recorded.
    """
    for table in (schema.PREVIEW, schema.PREVIEW_SUM):
        connection.execute(delete(table).where(table.c.simulation == simulation))


def mean_of(connection: Connection, simulation: int, defocus_key: str, detector: str) -> MeanImage | None:
    """Return the mean image of a defocus and a `detector`, or None if none of its jobs has sent an image.

    `simulation` is the row of the simulation, and `defocus_key` the key of the defocus. `connection` is an open
    transaction.
    """
    found = connection.execute(select(schema.PREVIEW_SUM).where(_sum_at(simulation, defocus_key, detector))).first()
    return MeanImage.from_columns(found) if found else None


def _sum_at(simulation: int, defocus_key: str, detector: str) -> ColumnElement[bool]:
    own = schema.PREVIEW_SUM.c
    return and_(own.simulation == simulation, own.defocus_key == defocus_key, own.detector == detector)


def listed(connection: Connection, simulation: int) -> list[ImageEntry]:
    """Return the mean images of the simulation with row `simulation`, at most `LISTED_IMAGES`.

    They are ordered by defocus and detector. `connection` is an open transaction.
    """
    table, defocus = schema.PREVIEW_SUM, schema.DEFOCUS
    here = and_(defocus.c.simulation == table.c.simulation, defocus.c.key == table.c.defocus_key)
    own = table.c
    columns = (
        own.defocus_key, defocus.c.defocus, own.detector, own.number, own.revision, own.width, own.width_nm,
        own.height_nm, own.repeats,
    )  # fmt: skip
    question = (
        select(*columns, func.length(own.sums).label("size"))
        .select_from(table.outerjoin(defocus, here))
        .where(table.c.simulation == simulation)
        .order_by(defocus.c.defocus, own.defocus_key, own.detector)
        .limit(LISTED_IMAGES)
    )
    # A sum has 8 bytes for each pixel.
    return [
        ImageEntry(
            row.defocus_key,
            row.defocus,
            row.detector,
            row.number,
            row.revision,
            row.width,
            row.size // 8 // row.width,
            row.width_nm,
            row.height_nm,
            row.repeats,
        )
        for row in connection.execute(question)
    ]


def _swap_to_little_endian(values: array[float]) -> None:
    """Swap bytes between the order of this machine and that of the database, in either direction."""
    if sys.byteorder == "big":
        values.byteswap()
