"""TIFF files of several programs: exact values, refusals, and memory."""

from __future__ import annotations

import io
import logging
import re
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from stemphony.experiment import tiff

LARGEST = 256_000_000
PICTURE = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]])  # three rows, the first at the top
KINDS = ["u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8"]


def any_values(kind: str, shape: tuple[int, int] = (50, 37)) -> np.ndarray:
    """Values that use all bits of a kind."""
    generator = np.random.default_rng(7)
    if kind[0] == "f":
        return (10.0 ** generator.integers(-30, 30, shape) * generator.standard_normal(shape)).astype(kind)
    return np.frombuffer(generator.bytes(np.dtype(kind).itemsize * shape[0] * shape[1]), kind).reshape(shape)


def by_hand(
    pixels: np.ndarray,
    order: str = "<",
    compress: bool = False,
    tags: dict[int, tuple[int, list[int]]] | None = None,
    rows: int = 2,
) -> bytes:
    """A TIFF file in strips, written from the specification (TIFF 6.0). `tags` replace others: (type, values)."""
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    stored = pixels.astype(pixels.dtype.newbyteorder(order))
    strips = [stored[row : row + rows].tobytes() for row in range(0, len(stored), rows)]
    strips = [zlib.compress(strip) for strip in strips] if compress else strips
    sizes = [len(strip) for strip in strips]
    entries = {
        256: (3, [pixels.shape[1]]), 257: (3, [pixels.shape[0]]), 258: (3, [8 * pixels.itemsize]),
        259: (3, [8 if compress else 1]), 262: (3, [1]), 273: (4, [8 + sum(sizes[:n]) for n in range(len(sizes))]),
        277: (3, [1]), 278: (4, [rows]), 279: (4, sizes), 339: (3, [kind]),
    }  # fmt: skip
    entries |= tags or {}
    if 322 in entries:  # tiles
        entries = {324: entries.pop(273), 325: entries.pop(279)} | {tag: entries[tag] for tag in entries if tag != 278}
    data = b"".join(strips)
    first, extra = 8 + len(data), b""
    places = first + 2 + 12 * len(entries) + 4
    table = struct.pack(f"{order}H", len(entries))
    for tag, (code, values) in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}{'H' if code == 3 else 'I'}", *values)
        if len(packed) > 4:
            place, extra = places + len(extra), extra + packed
            packed = struct.pack(f"{order}I", place)
        table += struct.pack(f"{order}HHI", tag, code, len(values)) + packed.ljust(4, b"\0")
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", first)
    return head + data + table + b"\0\0\0\0" + extra


def tiles_by_hand(
    pixels: np.ndarray, order: str = "<", compress: bool = False, tags: dict[int, tuple[int, list[int]]] | None = None
) -> bytes:
    """The same in tiles of 16 rows and 32 columns. What they have beyond the image is not zero."""
    height, width = pixels.shape
    padded = np.pad(pixels, ((0, -height % 16), (0, -width % 32)), constant_values=77)
    below, beside = padded.shape[0] // 16, padded.shape[1] // 32
    one_below_the_other = padded.reshape(below, 16, beside, 32).swapaxes(1, 2).reshape(-1, 32)
    shape = {256: (3, [width]), 257: (3, [height]), 322: (3, [32]), 323: (3, [16])}
    return by_hand(one_below_the_other, order, compress, shape | (tags or {}), rows=16)


def by_tifffile(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **{"photometric": "minisblack", "metadata": None, **options})
    return file.getvalue()


def by_pillow(pixels: np.ndarray, **options: Any) -> bytes:
    """Pillow compresses with libtiff, a program that shares no code with tifffile."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "TIFF", **options)
    return file.getvalue()


def image(content: bytes) -> np.ndarray:
    return tiff.image(content, LARGEST)


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


# --- exact values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_of_a_file_after_the_specification_is_kept(kind, order):
    for compress in (False, True):
        np.testing.assert_array_equal(image(by_hand(PICTURE.astype(kind), order, compress)), PICTURE)
        assert_same_bits(image(by_hand(any_values(kind), order, compress)), any_values(kind))
        assert_same_bits(image(tiles_by_hand(any_values(kind), order, compress)), any_values(kind))
        assert_same_bits(image(tiles_by_hand(any_values(kind, (48, 96)), order, compress)), any_values(kind, (48, 96)))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rowsperstrip": 7},
        {"bigtiff": True},
        {"tile": (16, 16)},
        {"tile": (16, 48)},  # as wide as the image needs
        {"tile": (64, 64)},  # larger than the image
        {"compression": "zlib"},
        {"compression": "zlib", "rowsperstrip": 7},
        {"compression": "zlib", "tile": (16, 32), "bigtiff": True},
    ],
    ids=str,
)
def test_every_bit_of_a_file_of_tifffile_is_kept(options, kind, order):
    assert_same_bits(image(by_tifffile(any_values(kind), byteorder=order, **options)), any_values(kind))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[0] != "f"])
def test_differences_between_neighbours_are_added_up_exactly(kind, order):
    content = by_tifffile(any_values(kind), byteorder=order, compression="zlib", predictor=2, rowsperstrip=7)
    assert_same_bits(image(content), any_values(kind))


@pytest.mark.parametrize("kind", ["u1", "u2", "i4", "f4"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "tiff_adobe_deflate"},
        {"compression": "tiff_deflate"},
        {"compression": "tiff_adobe_deflate", "tiffinfo": {317: 2}},
    ],
    ids=str,
)
def test_every_bit_of_a_file_of_libtiff_is_kept(options, kind):
    content = by_pillow(any_values(kind), **options)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        assert file.pages.first.predictor == options.get("tiffinfo", {}).get(317, 1)
    assert_same_bits(image(content), any_values(kind))


def test_an_exported_image_of_imagej_is_read():
    content = by_tifffile(any_values("f4"), imagej=True, metadata={"axes": "YX", "Labels": ["haadf"]})
    assert_same_bits(image(content), any_values("f4"))


def test_strips_may_lie_in_any_order():
    content = bytearray(by_tifffile(any_values("f8"), rowsperstrip=25))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages.first
        (first, second), (size, _) = page.dataoffsets, page.databytecounts
        place = page.tags["StripOffsets"].valueoffset
    content[first : first + size], content[second : second + size] = (
        content[second : second + size], content[first : first + size],
    )  # fmt: skip
    struct.pack_into("<2I", content, place, second, first)
    assert_same_bits(image(bytes(content)), any_values("f8"))


def test_a_file_may_be_larger_than_the_bound_of_its_header():
    values = np.arange(4160 * 4160, dtype="u1").reshape(4160, 4160)
    content = by_tifffile(values, tile=(832, 832))
    assert len(content) > tiff.LARGEST_HEADER
    assert_same_bits(image(content), values)


# --- refusals -------------------------------------------------------------------------------------------------------

U1 = PICTURE.astype("u1")


def shaped_stack() -> bytes:
    """A stack of which only the first image has a page; the description names the others."""
    return by_tifffile(np.stack([U1] * 3), metadata={"axes": "ZYX"}, truncate=True)


def imagej_stack() -> bytes:
    return by_tifffile(U1, description="ImageJ=1.54f\nimages=3\nslices=3\n")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no picture", "no TIFF"),
        (b"IIU\0" + by_hand(U1)[4:], "no TIFF"),  # the raw format of a camera
        (by_pillow(U1, compression="tiff_lzw"), "compressed in another way than Deflate"),
        (by_pillow(U1, compression="packbits"), "compressed in another way than Deflate"),
        (by_tifffile(U1, compression="lzma"), "compressed in another way than Deflate"),
        (by_hand(U1, tags={259: (3, [65000])}), "compressed in another way than Deflate"),
        (by_pillow(any_values("f4"), compression="tiff_adobe_deflate", tiffinfo={317: 3}), "has the predictor 3"),
        (by_hand(U1, tags={317: (3, [2])}), "has the predictor 2"),
        (by_pillow(np.zeros((4, 5, 3), "u1")), "several channels"),
        (by_hand(U1, tags={277: (3, [3])}), "several channels"),
        (by_hand(U1, tags={262: (3, [0])}), "inverted or coloured"),
        (by_hand(U1, tags={262: (3, [3])}), "inverted or coloured"),
        (by_hand(U1, tags={266: (3, [2])}), "bits in reversed order"),
        *((by_hand(U1, tags={274: (3, [turned])}), "is turned") for turned in range(2, 9)),
        (by_tifffile(np.stack([U1] * 3)), "several pages"),
        (by_pillow(U1, save_all=True, append_images=[Image.fromarray(U1)]), "several pages"),
        (imagej_stack(), "several pages"),
        (shaped_stack(), "several pages"),
        (by_hand(U1, tags={33628: (4, [0] * 4), 33629: (4, [0] * 6)}), "several pages"),  # a stack of MetaMorph
        (by_tifffile(np.zeros((16, 16, 16), "u1"), volumetric=True, tile=(16, 16, 16)), "several pages"),
        (by_pillow(U1 > 3), "pixels of 1 bits"),
        (by_tifffile(PICTURE.astype("i8")), "pixels of 64 bits"),
        (by_tifffile(PICTURE.astype("c8")), "pixels of 64 bits and sample format 6"),
        (by_hand(U1, tags={339: (3, [4])}), "sample format 4"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_a_way_out(content, says):
    with pytest.raises(tiff.Refusal) as refusal:
        image(content)
    assert says in str(refusal.value)
    assert re.search("or as NPY|allowed are|no TIFF", str(refusal.value)), f"no way out in: {refusal.value}"


def page_after_page(content: bytes) -> bytes:
    """The file with a next page that is not in the file."""
    (first,) = struct.unpack_from("<I", content, 4)
    (number,) = struct.unpack_from("<H", content, first)
    place = first + 2 + 12 * number
    return content[:place] + struct.pack("<I", 1_000_000) + content[place + 4 :]


@pytest.mark.parametrize(
    "content",
    [
        by_hand(U1, tags={257: (3, [30])}),  # more rows than strips
        by_hand(U1, tags={257: (3, [2])}),  # fewer
        by_hand(U1, tags={256: (3, [3])}),  # the strips are too long
        by_hand(U1, tags={256: (3, [5])}),  # too short
        by_hand(U1, tags={278: (3, [1])}),
        by_hand(U1, tags={278: (3, [0])}),
        by_hand(U1, tags={279: (4, [8, 3])}),
        by_hand(U1, tags={279: (4, [8, 4, 4])}),
        by_hand(U1, tags={273: (4, [8, 100_000])}),
        by_hand(U1, tags={273: (4, [0, 0])}),
        by_hand(U1, tags={256: (3, [4, 4])}),
        by_hand(U1, tags={256: (3, [0])}),
        by_hand(U1, compress=True, tags={256: (3, [3])}),
        by_hand(U1, compress=True, tags={256: (3, [5])}),
        by_hand(U1, tags={259: (3, [8])}),  # not compressed, but said to be
        by_hand(U1, tags={322: (3, [0]), 323: (3, [0])}),
        tiles_by_hand(U1.repeat(10, axis=1), tags={324: (4, [8]), 325: (4, [512])}),  # one of two tiles
        tiles_by_hand(U1, tags={324: (4, [8, 8]), 325: (4, [256, 256])}),
        by_hand(U1, compress=True, tags={279: (4, [16, 8])}),  # without the checksums
        page_after_page(by_hand(U1)),
    ],
)  # fmt: skip
def test_tags_that_contradict_the_content_are_damage(content, caplog):
    with pytest.raises(tiff.Refusal, match="truncated or damaged"):
        image(content)
    assert not caplog.records  # tifffile's log goes nowhere
    assert (logging.getLogger("tifffile").handlers, logging.getLogger("tifffile").propagate) == ([], True)


@pytest.mark.parametrize(
    "content",
    [
        by_hand(PICTURE.astype("f8")),
        by_hand(PICTURE.astype("f8"), compress=True),
        by_tifffile(U1, tile=(16, 16), compression="zlib"),
        by_tifffile(U1, bigtiff=True),
    ],
)
def test_a_file_that_was_cut_off_is_refused(content):
    whole = image(content)
    refused = 0
    for length in range(len(content)):
        try:
            assert_same_bits(image(content[:length]), whole)  # the lost bytes hold no pixel and no tag
        except tiff.Refusal:
            refused += 1
    assert refused > 0.8 * len(content)


@pytest.mark.parametrize(
    "content",
    [by_hand(PICTURE.astype("u2"), compress=True), by_tifffile(U1, bigtiff=True)],
)
def test_a_wrong_byte_gives_an_image_or_a_refusal(content):
    for place in range(len(content)):
        for change in (1, 0xFF):
            damaged = bytearray(content)
            damaged[place] ^= change
            with suppress(tiff.Refusal):
                assert image(bytes(damaged)).ndim == 2


# --- memory ---------------------------------------------------------------------------------------------------------


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Fail if more memory than `size` bytes is used."""
    image(by_hand(U1))  # tifffile's tables
    tracemalloc.start()
    try:
        yield
        used = tracemalloc.get_traced_memory()[1]
        assert used < size, f"reading took {used / 1e6:.1f} MB; the limit is {size / 1e6:g} MB"
    finally:
        tracemalloc.stop()


def many_strips(number: int, compress: bool) -> bytes:
    """A TIFF of 1000² pixels whose strips all are the same bytes."""
    rows = zlib.compress(bytes(1000)) if compress else bytes(1000)
    head = struct.pack("<2sHIH", b"II", 42, 8, 10)
    sizes = 8 + 2 + 12 * 10 + 4
    data = sizes + 8 * number
    entries = [
        (256, 4, 1, 1000), (257, 4, 1, number), (258, 3, 1, 8), (259, 3, 1, 8 if compress else 1), (262, 3, 1, 1),
        (273, 4, number, sizes + 4 * number), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, number, sizes), (339, 3, 1, 1),
    ]  # fmt: skip
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries) + struct.pack("<I", 0)
    return head + body + struct.pack("<I", len(rows)) * number + struct.pack("<I", data) * number + rows


@pytest.mark.parametrize("compress", [False, True])
def test_strips_that_share_their_bytes_take_no_memory(compress):
    """The attack: 30,000 strips are the same bytes, so a file of 240 kB is an image of 30 MB."""
    content = many_strips(30_000, compress)
    assert len(content) < 250_000
    with at_most(10_000_000), pytest.raises(tiff.Refusal, match="truncated or damaged"):
        image(content)


def test_tags_that_share_their_bytes_take_no_memory():
    """The attack: each of 4,000 tags holds nearly the whole file, which would be 500 MB and more."""
    number, count = 4_000, 60_000
    table = struct.pack("<H", number) + struct.pack("<HHII", 273, 3, count, 8) * number
    content = struct.pack("<2sHI", b"II", 42, 8) + table + bytes(4) + bytes(2 * count)
    with at_most(20_000_000), pytest.raises(tiff.Refusal, match="truncated or damaged"):
        image(content)


def test_pages_that_follow_each_other_in_a_circle_are_refused():
    content = bytearray(by_hand(U1))
    (first,) = struct.unpack_from("<I", content, 4)
    (number,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * number, first)
    with pytest.raises(tiff.Refusal, match="several pages"):
        image(bytes(content))


def test_a_strip_that_decompresses_to_more_than_its_pixels_takes_no_memory():
    """The attack: 250 kB for 12 pixels decompress to 50 MB."""
    bomb = zlib.compress(bytes(50_000_000), 1)
    content = by_hand(U1, compress=True, tags={278: (4, [3]), 273: (4, [0x11111111]), 279: (4, [len(bomb)])})
    content = content.replace(b"\x11\x11\x11\x11", struct.pack("<I", len(content))) + bomb
    assert len(content) < 250_000
    with at_most(5_000_000), pytest.raises(tiff.Refusal, match="truncated or damaged"):
        image(content)


@pytest.mark.parametrize(
    ("tags", "number"),
    [
        ({256: (4, [6000]), 257: (4, [6000]), 278: (4, [6000])}, "36,000,000"),
        ({322: (4, [60_000]), 323: (4, [60_000])}, "3,600,000,000"),
    ],
)
def test_a_compressed_file_with_too_many_pixels_is_refused_before_it_is_decompressed(tags, number):
    content = by_hand(U1, compress=True, tags=tags)
    with at_most(5_000_000), pytest.raises(tiff.Refusal, match=f"has {number} pixels; .* at most 32,000,000"):
        image(content)


def test_a_compressed_map_of_the_largest_size_is_read():
    values = np.zeros((100, 320), "u1")
    values[::7] = 3
    np.testing.assert_array_equal(tiff.image(by_tifffile(values, compression="zlib"), 8 * 32_000), values)
    with pytest.raises(tiff.Refusal, match="32,000 pixels; a compressed map has at most 31,999"):
        tiff.image(by_tifffile(values, compression="zlib"), 8 * 32_000 - 1)
