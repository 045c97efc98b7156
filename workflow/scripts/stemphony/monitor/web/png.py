"""Write a PNG file without an image library, and lay copies of an image side by side."""

from __future__ import annotations

import struct
import zlib


def gray_png(gray: bytes, width: int) -> bytes:
    """Return a PNG file of 8-bit pixels `gray`, given row by row from the top, in rows of `width` pixels."""
    rows = [gray[begin : begin + width] for begin in range(0, len(gray), width)]
    header = struct.pack(">IIBBBBB", width, len(rows), 8, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def tiled(gray: bytes, width: int, copies: tuple[int, int]) -> tuple[bytes, int]:
    """Return the pixels and the width of an image that consists of `copies` copies along x and y.

    `gray` has the pixels of one copy, row by row from the top, in rows of `width` pixels.
    """
    rows = [gray[begin : begin + width] * copies[0] for begin in range(0, len(gray), width)]
    return b"".join(rows) * copies[1], width * copies[0]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
