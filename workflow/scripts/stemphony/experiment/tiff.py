"""Read simple TIFF images: one uncompressed channel of real numbers."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, SAMPLES, ROWS, COUNTS, TILED, FORMAT, ORIENTATION = (
    256, 257, 258, 259, 262, 273, 277, 278, 279, 322, 339, 274,
)  # fmt: skip
"""Numbers of the tags that are read."""

SIZES = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4)}
"""Codes and sizes of the kinds of numbers that these tags hold."""

KINDS = {1: "u", 2: "i", 3: "f"}
"""Kinds of numbers by SampleFormat."""


def image(content: bytes) -> np.ndarray:
    """Return the first image of a TIFF file (rows, columns), the first row at the top.

    Raises
    ------
    ValueError
        The file is no TIFF, is damaged, or is of a kind that this module does not read: compressed, tiled, in colours,
        or BigTIFF. The text says what to do.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    if order is None:
        raise ValueError("it is no TIFF file, or a BigTIFF; save it as an ordinary TIFF or as NPY")
    try:
        tags = _tags(content, order)
        return _pixels(content, order, tags)
    except (struct.error, IndexError, KeyError):
        raise ValueError("the TIFF file is truncated or damaged") from None


def _tags(content: bytes, order: str) -> dict[int, list[int]]:
    (first,) = struct.unpack_from(f"{order}I", content, 4)
    (number,) = struct.unpack_from(f"{order}H", content, first)
    tags = {}
    for entry in range(first + 2, first + 2 + 12 * number, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", content, entry)
        if kind not in SIZES:
            continue
        code, size = SIZES[kind]
        if count * size > len(content):
            raise ValueError("the TIFF file is truncated or damaged")
        place = entry + 8
        if count * size > 4:
            (place,) = struct.unpack_from(f"{order}I", content, place)
        tags[tag] = list(struct.unpack_from(f"{order}{count}{code}", content, place))
    return tags


def _pixels(content: bytes, order: str, tags: dict[int, list[int]]) -> np.ndarray:
    def one(tag: int, usual: int) -> int:
        return tags.get(tag, [usual])[0]

    refused: dict[str, Any] = {
        "is compressed": one(COMPRESSION, 1) != 1, "is tiled": TILED in tags,
        "has several channels": one(SAMPLES, 1) != 1, "has inverted or coloured values": one(PHOTOMETRIC, 1) != 1,
        "is turned": one(ORIENTATION, 1) != 1,
    }  # fmt: skip
    for what, is_so in refused.items():
        if is_so:
            raise ValueError(f"the TIFF file {what}; save it uncompressed with one channel, or as NPY")
    bits, kind = one(BITS, 1), KINDS.get(one(FORMAT, 1), "")
    if (kind, bits) not in {(k, b) for k in "ui" for b in (8, 16, 32)} | {("f", 32), ("f", 64)}:
        raise ValueError(f"the TIFF file has pixels of {bits} bits; allowed are integers of 8, 16, 32 and floats")
    width, height = tags[WIDTH][0], tags[HEIGHT][0]
    size = width * height * bits // 8
    # Check the size before the parts are joined, because a small file may name the same bytes a hundred thousand times.
    if sum(tags[COUNTS]) != size or size > len(content):
        raise ValueError("the TIFF file is truncated or damaged")
    data = b"".join(content[a : a + n] for a, n in zip(tags[OFFSETS], tags[COUNTS], strict=True))
    if len(data) != size:
        raise ValueError("the TIFF file is truncated or damaged")
    return np.frombuffer(data, dtype=f"{order}{kind}{bits // 8}").reshape(height, width)
