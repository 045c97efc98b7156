"""The small images that finished jobs send, their average over a defocus, and a PNG of it.

Written without numpy, which the environment of a monitor does not have.
"""

from __future__ import annotations

import base64
import binascii
import struct
import sys
import zlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import ColumnElement, Connection, and_, delete, select

from stemphony.monitor.database import tables
from stemphony.status.events import PREVIEW_SIDE, clean_text

if TYPE_CHECKING:
    from stemphony.monitor.summaries import PairSummary

KEPT_APART: Final = "<preview>"
"""What stands for an image in the stored event."""

_MAX_DETECTOR_CHARACTERS: Final = 100
_WHITE: Final = 255
_LARGEST: Final = 1e100


@dataclass(frozen=True, slots=True)
class Preview:
    """One image, 8 bits from `low` to `high`, row by row from the top."""

    detector: str
    width: int
    low: float
    high: float
    pixels: bytes


def read_preview(event: Mapping[str, Any]) -> Preview | None:
    """Read the image of an event; None if there is none or it is not one, for no event is refused because of it."""
    text, detector, width = event.get("preview"), event.get("preview_detector"), event.get("preview_width")
    low, high = _number(event.get("preview_low")), _number(event.get("preview_high"))
    if not isinstance(text, str) or not isinstance(detector, str) or type(width) is not int:
        return None
    if low is None or high is None or low > high:
        return None
    try:
        pixels = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not 0 < width <= PREVIEW_SIDE or not 0 < len(pixels) <= width * PREVIEW_SIDE or len(pixels) % width:
        return None
    return Preview(clean_text(detector[:_MAX_DETECTOR_CHARACTERS]), width, low, high, pixels)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        return None
    return float(value)


@dataclass(slots=True)
class Average:
    """The mean of images of one detector and one size, kept as their sum."""

    detector: str
    width: int
    number: int = 0
    sums: array[float] = field(default_factory=lambda: array("d"))

    @classmethod
    def of(cls, row: Any) -> Self:
        """Read the columns `detector`, `width`, `number` and `sums`."""
        average = cls(row.detector, row.width, row.number)
        average.sums.frombytes(bytes(row.sums))
        _little_endian(average.sums)
        return average

    @property
    def columns(self) -> dict[str, Any]:
        """What `of` reads."""
        sums = array("d", self.sums)
        _little_endian(sums)
        return {"detector": self.detector, "width": self.width, "number": self.number, "sums": sums.tobytes()}

    def fits(self, image: Preview) -> bool:
        """Whether an image can be added."""
        return (self.detector, self.width, len(self.sums)) == (image.detector, image.width, len(image.pixels))

    def add(self, low: float, high: float, pixels: bytes, times: int = 1) -> None:
        """Add an image, or take it away with `times` −1."""
        step = (high - low) / _WHITE
        sums = self.sums or array("d", bytes(8 * len(pixels)))
        self.sums = array(
            "d", (before + times * (low + step * gray) for before, gray in zip(sums, pixels, strict=True))
        )
        self.number += times

    def png(self) -> bytes:
        """Draw it, black at its smallest and white at its largest value."""
        low, high = min(self.sums), max(self.sums)
        span = high - low
        # Divided first: the span may be so small that its inverse is infinite.
        gray = bytes(round(_WHITE * ((value - low) / span)) if span > 0 else 0 for value in self.sums)
        return gray_png(gray, self.width)


def keep(connection: Connection, pair: PairSummary, image: Preview) -> None:
    """Add an image to the average of its defocus, in place of the one that the pair had there."""
    one = tables.PREVIEW
    everyone = and_(one.c.simulation == pair.simulation, one.c.defocus_key == pair.defocus_key)
    own = and_(everyone, one.c.configuration == pair.configuration)
    average = average_of(connection, pair.simulation, pair.defocus_key)
    if average is None or not average.fits(image):
        # Images of another detector or size are of another config, and say nothing of this one.
        average = Average(image.detector, image.width)
        connection.execute(delete(one).where(everyone))
    before = connection.execute(select(one.c.low, one.c.high, one.c.pixels).where(own)).first()
    if before is not None:
        average.add(before.low, before.high, bytes(before.pixels), -1)
        connection.execute(delete(one).where(own))
    average.add(image.low, image.high, image.pixels)
    place = {"simulation": pair.simulation, "defocus_key": pair.defocus_key}
    levels = {"low": image.low, "high": image.high, "pixels": image.pixels}
    connection.execute(one.insert(), {**place, "configuration": pair.configuration, **levels})
    connection.execute(delete(tables.PREVIEW_SUM).where(_sum_at(pair.simulation, pair.defocus_key)))
    connection.execute(tables.PREVIEW_SUM.insert(), {**place, **average.columns, "revision": pair.revision})


def average_of(connection: Connection, simulation: int, defocus_key: str) -> Average | None:
    """Read the average of a defocus, None if none of its jobs has sent an image."""
    found = connection.execute(select(tables.PREVIEW_SUM).where(_sum_at(simulation, defocus_key))).first()
    return Average.of(found) if found else None


def _sum_at(simulation: int, defocus_key: str) -> ColumnElement[bool]:
    table = tables.PREVIEW_SUM
    return and_(table.c.simulation == simulation, table.c.defocus_key == defocus_key)


def gray_png(gray: bytes, width: int) -> bytes:
    """Make a PNG file of 8-bit pixels, row by row from the top."""
    rows = [gray[begin : begin + width] for begin in range(0, len(gray), width)]
    header = struct.pack(">IIBBBBB", width, len(rows), 8, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _little_endian(values: array[float]) -> None:
    """From the order of bytes in the database to that of this machine, or back."""
    if sys.byteorder == "big":
        values.byteswap()
