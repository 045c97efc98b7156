"""Read a map from a TIFF file with tifffile: one page with one channel of real numbers.

tifffile decodes the file. This module first refuses what tifffile returns without the conversion that the file asks for
(turned or inverted images), and what would need more memory than the size of the file justifies.
"""

from __future__ import annotations

import io
import json
import logging
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tifffile

BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and BigTIFF. tifffile also opens the raw formats of cameras, which begin with other bytes."""

UNCOMPRESSED, DEFLATE = 1, (8, 32946)
"""Numbers of compressions that tifffile decodes without the package imagecodecs, and that lose nothing."""

PIXELS = {(kind, bits) for kind in (1, 2) for bits in (8, 16, 32)} | {(3, 32), (3, 64)}
"""Sample format (1 unsigned, 2 signed, 3 float) and bits of pixels that a number of double precision holds exactly."""

LARGEST_HEADER = 16_000_000
"""Most bytes that tifffile may read before the pixels [bytes]. Python needs up to 18 times as much memory for a list of
places. 4096² pixels in tiles of 16² name 65,536 places, which have 1 MB in a BigTIFF."""

WAY_OUT = "save it as one page with one channel, uncompressed or with Deflate, or as NPY"
"""End of a refusal: what the user can do."""


class Refusal(ValueError):
    """The file is not read. The text says why and what to do."""


DAMAGED = "the TIFF file is truncated or damaged"
"""Text of the error for a file that cannot be decoded."""


def image(content: bytes, largest: int) -> np.ndarray:
    """Return the image of a TIFF file (rows, columns), the first row at the top, each value exact.

    Parameters
    ----------
    content : bytes
        The whole file.
    largest : int
        Most bytes that the pixels of a compressed file may need in double precision. The size of a compressed file does
        not bound the number of its pixels.

    Returns
    -------
    (rows, columns) ndarray
        Values in the type of the file.

    Raises
    ------
    Refusal
        The file is no TIFF, is damaged, or is of a kind that is not read: several pages or channels, colours, inverted
        or turned, another compression than Deflate.
    """
    import tifffile

    if content[:4] not in BEGINNINGS:
        raise Refusal("it is no TIFF file")
    try:
        source = _Source(content)
        with _errors() as found, tifffile.TiffFile(source) as file:
            page = file.pages.first
            _require_plain(file, page)
            _require_whole(content, page, largest)
            source.left = len(content)
            # In one thread, because each thread holds decoded tiles.
            values = page.asarray(maxworkers=1)
    except (Refusal, MemoryError):
        raise
    except Exception as error:  # tifffile raises many classes if a file is damaged: KeyError, TypeError, zlib.error …
        raise Refusal(DAMAGED) from error
    # tifffile corrects or leaves out tags that contradict each other, and logs this as an error.
    if found:
        raise Refusal(DAMAGED)
    return values


class _Source(io.BytesIO):
    """The file, of which tifffile reads a bounded number of bytes with `read`.

    Thousands of tags may name the same bytes, and tifffile would keep the values of each in memory.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.left = min(LARGEST_HEADER, 2 * len(content))  # tifffile reads the tags of the first page twice

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes; Refusal if they are more than what is left."""
        rest = len(self.getbuffer()) - self.tell()
        self.left -= rest if size is None or size < 0 else min(size, rest)
        if self.left < 0:
            raise Refusal(DAMAGED)
        return super().read(size)


@contextmanager
def _errors() -> Iterator[list[str]]:
    """Collect the errors that tifffile logs. Neither they nor its warnings are printed."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    logger, collector = logging.getLogger("tifffile"), Collector(logging.ERROR)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        yield found
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagated


def _require_plain(file: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    """Refuse images whose stored numbers are not, row by row, the values of one map."""
    compressed = page.compression != UNCOMPRESSED
    predictors = (1, 2) if compressed else (1,)
    refused = {
        "has several pages": file.pages.is_multipage or _stacked(file, page),
        "has several channels": page.samplesperpixel != 1,
        "has inverted or coloured values": page.photometric != 1,
        "is turned": page.tags.valueof("Orientation", default=1) != 1,
        "is compressed in another way than Deflate": compressed and page.compression not in DEFLATE,
        f"has the predictor {page.predictor}": page.predictor not in predictors,
        "has its bits in reversed order": page.fillorder != 1,
    }
    for what, is_so in refused.items():
        if is_so:
            raise Refusal(f"the TIFF file {what}; {WAY_OUT}")
    if (page.sampleformat, page.bitspersample) not in PIXELS:
        raise Refusal(
            f"the TIFF file has pixels of {page.bitspersample} bits and sample format {page.sampleformat}; allowed are "
            "integers of 8, 16 and 32 bits and floats of 32 and 64"
        )


def _stacked(file: tifffile.TiffFile, page: tifffile.TiffPage) -> bool:
    """Whether a single page stands for a stack: programs may write the other images without a page of their own."""
    described = 1
    if page.is_imagej:
        described = int((file.imagej_metadata or {}).get("images", 1))
    elif page.shaped_description:
        shape = json.loads(page.shaped_description)["shape"]
        described = math.prod(shape) // (page.imagelength * page.imagewidth)
    return described != 1 or page.imagedepth != 1 or page.tiledepth != 1 or page.is_stk


def _require_whole(content: bytes, page: tifffile.TiffPage, largest: int) -> None:
    """Check that all strips or tiles are there and have exactly the bytes of their pixels.

    tifffile without imagecodecs decompresses whatever a strip holds, and cuts off the rest afterwards.
    """
    compressed = page.compression != UNCOMPRESSED
    rows, columns = page.chunks
    row_bytes = columns * page.bitspersample // 8
    pixels = max(page.imagelength * page.imagewidth, rows * columns)
    if compressed and 8 * pixels > largest:
        raise Refusal(f"the TIFF file has {pixels:,} pixels; a compressed map has at most {largest // 8:,}")
    places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    # The sum of sizes first: a small file may name the same bytes a hundred thousand times.
    if len(places) != math.prod(page.chunked) or sum(page.databytecounts) > len(content):
        raise Refusal(DAMAGED)
    for number, (start, size) in enumerate(places):
        expected = row_bytes * (rows if page.is_tiled else min(rows, page.imagelength - number * rows))
        # tifffile fills the pixels of a strip at 0 with zeros. No strip can begin within the first 8 bytes.
        found = content[start : start + size] if start >= 8 else b""
        if compressed:
            stream = zlib.decompressobj()
            # One byte more than expected shows that there is too much, and needs no more memory.
            found = stream.decompress(found, expected + 1)
            if not stream.eof:
                raise Refusal(DAMAGED)
        if len(found) != expected:
            raise Refusal(DAMAGED)
