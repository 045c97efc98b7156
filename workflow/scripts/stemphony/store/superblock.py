"""Check by its first bytes whether a NetCDF-4 file has its full length.

NetCDF-4 is HDF5. Its superblock holds the address behind the last byte of the file (HDF5 File Format Specification,
II.A).
"""

from __future__ import annotations

from pathlib import Path

from stemphony import ordinary_files

SIGNATURE = b"\x89HDF\r\n\x1a\n"
"""First bytes of every HDF5 file."""
_VERSIONS = (2, 3)
"""Versions of the superblock that NetCDF-4 writes. In other versions, the address is at another place."""
_ADDRESS_BYTES = 8
"""Size of an address in files that NetCDF-4 writes [bytes]. With another size, the address is at another place."""
_END = slice(28, 36)
"""Bytes of the superblock that hold the address behind the last byte of the file."""


def what_is_cut_off(file: Path) -> str:
    """Say what is wrong with the length or the first bytes of the NetCDF-4 file `file`; empty if nothing is.

    Also empty if this cannot be known: the file is not readable, or its superblock has another version.
    """
    try:
        with ordinary_files.open_file(file) as stream:
            begin = stream.read(_END.stop)
            size = stream.seek(0, 2)
    except OSError:
        return ""
    if not begin:
        return "truncated: it is empty"
    if not begin.startswith(SIGNATURE[: len(begin)]):
        return "damaged: it does not begin as a NetCDF-4 file does"
    if len(begin) < _END.stop:
        return f"truncated: it has {size} bytes"
    version, address_bytes = begin[len(SIGNATURE) : len(SIGNATURE) + 2]
    if version not in _VERSIONS or address_bytes != _ADDRESS_BYTES:
        return ""
    end = int.from_bytes(begin[_END], "little")
    return f"truncated: it has {size} of {end} bytes" if size < end else ""
