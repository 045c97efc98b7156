"""Whether a NetCDF-4 file is cut off, from its superblock and its size."""

from __future__ import annotations

import os
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from stemphony.store.superblock import what_is_cut_off


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file.nc"
    with netCDF4.Dataset(file, "w", format="NETCDF4") as root:
        root.createDimension("x", 1000)
        root.createGroup("group").createVariable("values", "f8", ("x",))[...] = np.arange(1000)
    return file


def test_a_whole_file_is_whole(file: Path):
    assert what_is_cut_off(file) == ""


def test_a_file_that_lacks_its_last_byte_or_more_is_cut_off(file: Path):
    size = file.stat().st_size
    for less in (size - 1, size // 2, 50, 36):
        os.truncate(file, less)
        assert what_is_cut_off(file) == f"truncated: it has {less} of {size} bytes"
    for less in (35, 8, 1):
        os.truncate(file, less)
        assert what_is_cut_off(file) == f"truncated: it has {less} bytes"
    os.truncate(file, 0)
    assert what_is_cut_off(file) == "truncated: it is empty"


def test_a_file_of_zeros_or_of_text_is_damaged(file: Path):
    for content in (bytes(1000), b"a text"):
        file.write_bytes(content)
        assert what_is_cut_off(file) == "damaged: it does not begin as a NetCDF-4 file does"


def test_unknown_or_missing_files_are_not_called_cut_off(file: Path):
    with file.open("r+b") as stream:
        stream.seek(8)
        stream.write(b"\x09")  # a superblock of the future
    os.truncate(file, 100)
    assert what_is_cut_off(file) == ""
    assert what_is_cut_off(file.with_name("not there")) == ""
