"""ASE reads in a process of its own, with limits; its results and messages arrive unchanged."""

from __future__ import annotations

import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from stemphony.errors import SpecimenError
from stemphony.specimen import ase_process, ase_reader
from stemphony.specimen.ase_process import ReadingLimits, read_first, read_frames
from support.time_limit import require_within


@pytest.fixture
def _new_process(monkeypatch):
    """A process as users have it; other tests read in a fork under the same limits, see `tests/conftest.py`."""
    monkeypatch.setattr(ase_process, "subprocess", subprocess)


CUBE = "title\ntitle\n{atoms} 0 0 0\n2 4 0 0\n2 0 4 0\n2 0 0 4\n14 0 1 2 3\n0 0 0 0 0 0 0 0\n"


def trajectory(file: Path, frames: int = 3) -> Path:
    import ase.io
    from ase import Atoms

    images = [Atoms("Si2", positions=[[0, 0, n], [2, 2, 2]], cell=[4, 5, 6], pbc=True) for n in range(frames)]
    ase.io.write(file, images)
    return file


@pytest.mark.slow
@pytest.mark.usefixtures("_new_process")
def test_frames_arrive_one_by_one_as_they_are_read_in_this_process(tmp_path):
    file = trajectory(tmp_path / "a.traj")
    here = list(ase_reader.frames(file, ":", "traj"))
    there = list(read_frames(file, ":"))
    assert len(there) == len(here) == 3
    for one, other in zip(here, there, strict=True):
        assert one.symbols.tolist() == other.symbols.tolist()
        np.testing.assert_array_equal(one.positions, other.positions)
        assert (one.format, one.reader, one.periodic, one.notes) == (
            other.format, other.reader, other.periodic, other.notes,
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("_new_process")
def test_a_reader_that_is_left_ends_its_process(tmp_path):
    frames = read_frames(trajectory(tmp_path / "a.traj", 200), ":")
    next(frames)
    began = time.monotonic()
    frames.close()
    require_within(5, began, "the end of the reading process")


def test_the_first_of_several_frames_is_counted(tmp_path):
    assert read_first(trajectory(tmp_path / "a.traj"))[1] == 2
    assert read_first(trajectory(tmp_path / "b.traj", 1))[1] == 1


def test_a_number_of_atoms_that_no_memory_holds_is_refused_with_the_limit(tmp_path):
    """Seventy bytes: ASE would make an array of 48 GB."""
    file = tmp_path / "a.cube"
    file.write_text(CUBE.format(atoms=2_000_000_000))
    with pytest.raises(SpecimenError, match=r"a\.cube: reading its \d+ bytes takes more than 1\.0 GB, the limit"):
        read_first(file)
    file.write_text(CUBE.format(atoms=1))
    assert read_first(file)[0].symbols.tolist() == ["Si"]


def test_a_trajectory_whose_array_is_larger_than_the_file_is_refused(tmp_path):
    file = trajectory(tmp_path / "a.traj", 1)
    content = file.read_bytes()
    begin = content.index(b'{"version"')
    header = content[begin:].replace(b"[[2, 3]", b"[[900000000, 3]")
    length = struct.pack("<q", len(content) - begin)
    file.write_bytes(content[:begin].replace(length, struct.pack("<q", len(header))) + header)
    with pytest.raises(SpecimenError, match=r"a\.traj: "):
        read_first(file)


def test_memory_grows_with_the_file():
    assert ReadingLimits(10, 2, 5, 100).of(1000) == (2010, 15)


def test_a_reader_that_takes_too_long_is_ended(tmp_path):
    file = tmp_path / "a.jsv"
    file.write_text("title\n[cell] 9 9 9 90 90 90\n[natom] 400000\n[atoms]\n" + "Si1 Si 0 0 0\n" * 400_000)
    with pytest.raises(SpecimenError, match=r"takes more than 0 s of CPU time, the limit for a file of this size"):
        list(read_frames(file, "0", ReadingLimits(free_s=0, bytes_per_s=10**9)))


@pytest.mark.usefixtures("_new_process")
def test_a_crash_is_a_refusal(tmp_path, monkeypatch):
    """A library in C that ends the process: SIGSEGV stands for it."""
    monkeypatch.setattr(ase_process, "_CODE", "import os; os.kill(os.getpid(), 11)")
    with pytest.raises(SpecimenError, match=r"ASE crashes on it \(status -11"):
        read_first(trajectory(tmp_path / "a.traj"))


@pytest.mark.slow
@pytest.mark.usefixtures("_new_process")
def test_the_reading_process_imports_no_file_of_the_working_directory(tmp_path, monkeypatch):
    file = trajectory(tmp_path / "a.traj", 1)
    (tmp_path / "random.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    assert read_first(file)[0].symbols.tolist() == ["Si", "Si"]
