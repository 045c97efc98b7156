"""File systems that refuse locks: HDF5 opens files without locks, or the message names the setting."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stemphony.errors import StorageError
from stemphony.store import hdf5_locks
from stemphony.store.atomic import atomic_path
from support.experiments import SCRIPTS

WITHOUT_LOCKS = r"""
#include <errno.h>
#include <fcntl.h>
int flock(int file, int operation) { errno = ENOLCK; return -1; }
int lockf(int file, int operation, off_t length) { errno = ENOLCK; return -1; }
"""
"""A library that lets every lock fail, as NFS without a lock service does."""

WRITES = """
import sys
from pathlib import Path
from stemphony.orchestration import script
def main(arguments):
    from stemphony.store.atomic import atomic_path
    import netCDF4
    with atomic_path(Path(arguments[0])) as temporary, netCDF4.Dataset(temporary, "w") as dataset:
        dataset.createDimension("x", 3)
script.run(main)
"""


@pytest.fixture(scope="module")
def without_locks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a process whose locks fail."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("locks")
    (folder / "locks.c").write_text(WITHOUT_LOCKS)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "locks.so", folder / "locks.c"], check=True)
    given = {name: value for name, value in os.environ.items() if name != hdf5_locks.VARIABLE}
    return {**given, "LD_PRELOAD": str(folder / "locks.so"), "PYTHONPATH": str(SCRIPTS)}


def write(file: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WRITES, str(file)], env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.failure("file system without locks")
def test_results_are_written_where_locks_are_refused(without_locks: dict[str, str], tmp_path: Path):
    outcome = write(tmp_path / "a.nc", without_locks)
    assert outcome.returncode == 0, outcome.stderr
    assert (tmp_path / "a.nc").exists()


@pytest.mark.failure("file system without locks")
def test_locks_that_the_user_requires_are_named_with_the_setting(without_locks: dict[str, str], tmp_path: Path):
    outcome = write(tmp_path / "a.nc", {**without_locks, hdf5_locks.VARIABLE: "TRUE"})
    assert outcome.returncode == 1, outcome.stderr
    assert "its file system refuses file locks, and HDF5_USE_FILE_LOCKING=TRUE asks for them" in outcome.stderr
    assert "Set HDF5_USE_FILE_LOCKING=FALSE" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_locking_setting_of_the_environment_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(hdf5_locks.VARIABLE, "BEST_EFFORT")
    hdf5_locks.do_without()
    assert os.environ[hdf5_locks.VARIABLE] == "BEST_EFFORT"
    monkeypatch.delenv(hdf5_locks.VARIABLE)
    hdf5_locks.do_without()
    assert os.environ[hdf5_locks.VARIABLE] == "FALSE"


@pytest.mark.parametrize(
    ("answer", "words"), [(errno.ENOLCK, "refuses file locks"), (errno.EWOULDBLOCK, "permission denied"), (0, "denied")]
)
def test_permission_denied_is_blamed_on_locks_only_if_locks_are_refused(monkeypatch, tmp_path, answer, words):
    def flock(*_: int) -> None:
        if answer:
            raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StorageError, match=words), atomic_path(tmp_path / "a.nc") as temporary:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(temporary))
