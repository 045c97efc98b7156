"""Read the text of a structure file: encodings, packed files, and limits that are checked first."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from stemphony.errors import SpecimenError

MAX_TEXT_BYTES = 4_000_000_000
"""Largest size of a text [bytes], to limit the memory: 50 million atoms of 80 characters."""
MAX_PACKING = 200
"""Largest unpacked size, in bytes for each packed byte. Text of coordinates reaches 3 to 20. A gzip file that is made
to fill the memory reaches 1000."""
PACKING_FREE_BYTES = 50_000_000
"""Unpacked size [bytes] up to which any packing is accepted, because it fits into the memory of every machine."""
UTF16_ZEROS = 0.45
"""Smallest share of zero bytes in UTF-16. Text that is mostly plain has nearly one half."""
_CHUNK = 1 << 20
"""Size of a piece that is read at once [bytes]. It keeps the memory small."""
_OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def cannot_read(error: Exception) -> str:
    """Message for a file whose bytes cannot be read because of `error`."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read ({error.strerror}). Check the path and its permissions."
    return f"cannot be read ({error}). It is damaged or truncated: copy it again."


def suffix(file: Path) -> str:
    """Extension in lower case, without the extension of a packed file."""
    suffixes = [part.lower() for part in file.suffixes]
    if suffixes and suffixes[-1] in _OPENERS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def stem(file: Path) -> str:
    """Name without the extension of a packed file, in capitals: `POSCAR.gz` is `POSCAR`."""
    return unpacked_name(file).upper()


def unpacked_name(file: Path) -> str:
    """Name without the extension of a packed file."""
    return file.name[: -len(file.suffix)] if file.suffix.lower() in _OPENERS else file.name


def is_marked(file: Path) -> bool:
    """Whether a file is text with a byte order mark or in UTF-16, which programs for plain UTF-8 cannot read."""
    return _encoding(file) not in ("utf-8", "latin-1")


def is_latin(file: Path) -> bool:
    """Whether the text of `file` has letters in Latin-1, such as ü in one byte.

    Programs for UTF-8 cannot read them.
    """
    return _encoding(file) == "latin-1"


@contextmanager
def opened(file: Path) -> Iterator[IO[bytes]]:
    """Bytes of a file, unpacked if its name says so. Failures become SpecimenError."""
    try:
        opener: Any = _OPENERS.get(file.suffix.lower(), open)
        with opener(file, "rb") as stream:
            yield stream
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise SpecimenError(file, cannot_read(error)) from None


def require_size(file: Path) -> int:
    """The size of the unpacked file. Raise SpecimenError if it exceeds MAX_TEXT_BYTES, or MAX_PACKING per packed byte.

    A packed file is read once in pieces. So the memory stays small, whatever the unpacked size is.
    """
    packed = file.stat().st_size
    size = packed
    if file.suffix.lower() in _OPENERS:
        size = 0
        limit = min(MAX_TEXT_BYTES, max(PACKING_FREE_BYTES, MAX_PACKING * packed))
        with opened(file) as stream:
            while size <= limit and (chunk := stream.read(_CHUNK)):
                size += len(chunk)
        if size > limit:
            raise SpecimenError(
                file,
                f"{packed:,} bytes unpack to more than {limit:,}; a structure file of this size has at most that. "
                "Unpack it and check what it holds.",
            )
    if size > MAX_TEXT_BYTES:
        raise SpecimenError(
            file,
            f"has {size:,} bytes; at most {MAX_TEXT_BYTES:,} can be read. Write a smaller cell and use "
            "`specimen.repeat`.",
        )
    return size


@contextmanager
def memory(file: Path) -> Iterator[None]:
    """Turn a MemoryError into a SpecimenError for `file`. If the code of Stemphony raised it, its text says why."""
    try:
        yield
    except MemoryError as error:
        why = str(error) if type(error) is MemoryError and "bad_alloc" not in str(error) else ""
        why = why or "needs more memory than there is. Use a machine with more, or write a smaller cell"
        raise SpecimenError(file, f"{why}.") from None


@contextmanager
def text(file: Path) -> Iterator[IO[str]]:
    """Text of a file, unpacked if its name says so. The encoding is that of the byte order mark, UTF-8 or Latin-1."""
    with opened(file) as stream, io.TextIOWrapper(stream, encoding=_encoding(file), errors="replace") as lines:
        yield lines


def read_text(file: Path) -> str:
    """The whole text of a file, with `\\n` at the end of each line."""
    require_size(file)
    with text(file) as stream:
        return stream.read()


def head(file: Path, size: int = 4000) -> str:
    """The first `size` characters of `file`.

    Raises
    ------
    SpecimenError
        The file cannot be read.
    """
    with text(file) as stream:
        return stream.read(size)


def _encoding(file: Path) -> str:
    with opened(file) as stream:
        start = stream.read(4)
        for mark, name in _BYTE_ORDER_MARKS:
            if start.startswith(mark):
                return name
        chunk = start + stream.read(_CHUNK)
        # In UTF-16 without a mark, every second byte of plain text is 0.
        for first, name in ((0, "utf-16-be"), (1, "utf-16-le")):
            if chunk[first::2].count(0) > UTF16_ZEROS * len(chunk) and 0 not in chunk[1 - first :: 2]:
                return name
        while chunk:
            if not chunk.isascii():
                return "utf-8" if _is_utf8(chunk) else "latin-1"
            chunk = stream.read(_CHUNK)
    return "utf-8"


def _is_utf8(piece: bytes) -> bool:
    """Whether a piece of text is UTF-8. A letter may be cut at its start or end."""
    for start in range(4):
        for end in range(4):
            try:
                piece[start : len(piece) - end].decode("utf-8")
                return True
            except UnicodeDecodeError:
                continue
    return False
