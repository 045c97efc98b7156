"""`specimen.nc` and the atomic files it is built on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from dataclasses import fields, replace
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from stemphony.errors import DamagedResultError, StorageError
from stemphony.physics.periods import Periods
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.specimen_file import read_attributes, read_specimen_file, write_specimen
from stemphony.store import atomic
from stemphony.store.atomic import atomic_path, write_text_atomic

ATTRIBUTES = {"specimen_digest": "ab" * 32, "physics_version": "1"}
SCRIPTS = Path(atomic.__file__).parents[2]


@pytest.fixture
def specimen() -> Specimen:
    random = np.random.default_rng(7)
    return Specimen(
        symbols=np.array(["Sr", "O", "Ti", "O"]),
        positions=random.uniform(0, 4, (4, 3)),
        cell=(4.0, 5.0, 6.5),
        u_iso=np.array([0.01, np.nan, 0.0, 0.02]),
        slice_id=None,
        format="stemsalabim",
        vacuum=(0.0, 0.0, 1.5),
        radius=np.array([1.95, 0.66, 1.6, 0.66]),
    )


def same(first: Specimen, second: Specimen) -> bool:
    for field in fields(Specimen):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other, err_msg=field.name)
            assert one.dtype.kind == other.dtype.kind
        else:
            assert one == other, field.name
    return True


def leftovers(folder: Path) -> list[str]:
    return [name.name for name in folder.iterdir() if name.name.endswith(".tmp")]


def test_a_specimen_file_returns_every_bit(tmp_path, specimen):
    file = tmp_path / "specimen.nc"
    write_specimen(file, specimen, ATTRIBUTES)
    assert same(specimen, read_specimen_file(file))
    assert read_attributes(file) == ATTRIBUTES
    assert [path.name for path in tmp_path.iterdir()] == ["specimen.nc"]


def test_thermal_tensors_occupancies_and_notes_come_back(tmp_path, specimen):
    u_aniso = np.full((4, 3, 3), np.nan)
    u_aniso[1] = [[0.03, 0.002, -0.001], [0.002, 0.02, 0.004], [-0.001, 0.004, 0.01]]
    full = replace(
        specimen,
        u_aniso=u_aniso,
        occupancy=np.array([1.0, 0.25, 0.5, 0.5]),
        disorder=np.array([-1, -1, 0, 0]),
        disorder_group=np.array([-1, -1, 0, 1]),
        reader="gemmi 0.7",
        formula="Sr1 Ti1 O3",
        u_source="file (anisotropic): O; none: Sr",
        notes=("the charges (±) are not used", "two blocks"),
    )
    write_specimen(tmp_path / "specimen.nc", full, ATTRIBUTES)
    assert same(full, read_specimen_file(tmp_path / "specimen.nc"))
    assert read_attributes(tmp_path / "specimen.nc") == ATTRIBUTES


@pytest.mark.parametrize("changed", [{"notes": ("",)}, {"reader": "another"}, {"occupancy": np.full(4, 0.5)}])
def test_the_digest_covers_what_only_some_specimens_have(tmp_path, specimen, changed):
    digests = []
    for one in (specimen, replace(specimen, **changed)):
        write_specimen(tmp_path / "specimen.nc", one, ATTRIBUTES)
        with netCDF4.Dataset(tmp_path / "specimen.nc") as dataset:
            digests.append(dataset.content_sha256)
    assert digests[0] != digests[1]


def test_isotropic_fully_occupied_specimen_keeps_the_digest_and_variables_of_version_0_1(tmp_path, specimen):
    plain = replace(specimen, positions=np.arange(12).reshape(4, 3) / 8)
    write_specimen(tmp_path / "specimen.nc", plain, ATTRIBUTES)
    with netCDF4.Dataset(tmp_path / "specimen.nc") as dataset:
        assert dataset.content_sha256 == "dbfe9e2404fcc6bca394792f566407217c16079fdd277b915bc9405eff4611ed"
        assert sorted(dataset.variables) == ["cell", "element", "positions", "radius", "u_iso", "vacuum"]
        assert set(dataset.ncattrs()) == {"content", "layout", "source_format", "content_sha256", *ATTRIBUTES}


def test_snapshots_come_back_in_order(tmp_path, specimen):
    frames = np.random.default_rng(8).uniform(0, 4, (3, 4, 3))
    write_specimen(tmp_path / "specimen.nc", replace(specimen, frames=frames), ATTRIBUTES)
    found = read_specimen_file(tmp_path / "specimen.nc").frames
    assert found is not None
    np.testing.assert_array_equal(found, frames)


def test_file_describes_itself(tmp_path, specimen):
    frames = np.zeros((2, 4, 3))
    write_specimen(tmp_path / "specimen.nc", replace(specimen, frames=frames), ATTRIBUTES)
    with netCDF4.Dataset(tmp_path / "specimen.nc") as dataset:
        assert dataset.data_model == "NETCDF4"
        assert dataset.specimen_digest == ATTRIBUTES["specimen_digest"]
        assert [b"".join(row).decode().rstrip("\0") for row in dataset["element"][:].data] == [
            "Sr",
            "O",
            "Ti",
            "O",
        ]
        assert dataset["frames"].dimensions == ("frame", "atom", "spatial")
        for variable in dataset.variables.values():
            assert variable.units
            assert variable.long_name
            assert variable.filters()["zlib"]
            assert variable.filters()["fletcher32"]
        assert dataset["positions"].units == "angstrom"
        assert dataset["u_iso"].units == "angstrom2"


def test_a_specimen_file_is_replaced_as_a_whole(tmp_path, specimen):
    file = tmp_path / "specimen.nc"
    write_specimen(file, specimen, ATTRIBUTES)
    write_specimen(file, replace(specimen, cell=(7.0, 7.0, 7.0)), {"specimen_digest": "other"})
    assert read_specimen_file(file).cell == (7.0, 7.0, 7.0)
    assert read_attributes(file) == {"specimen_digest": "other"}


def test_reserved_attributes_cannot_be_given(tmp_path, specimen):
    with pytest.raises(ValueError, match="layout"):
        write_specimen(tmp_path / "specimen.nc", specimen, {"layout": "3"})


def test_slices_of_the_file_and_periods_are_kept(tmp_path, specimen):
    periods = Periods(2, 3, (4, 6), 0.5, 7.0, 3.5, 7.0, True)
    write_specimen(tmp_path / "specimen.nc", replace(specimen, slice_id=np.arange(4), periods=periods), ATTRIBUTES)
    read = read_specimen_file(tmp_path / "specimen.nc")
    assert read.slice_id.tolist() == [0, 1, 2, 3]
    assert read.periods == periods


def damaged(file: Path) -> str:
    with pytest.raises(DamagedResultError) as caught:
        read_specimen_file(file)
    text = str(caught.value)
    assert str(file) in text
    assert "prepare_specimen" in text
    return text


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in damaged(tmp_path / "specimen.nc")
    with pytest.raises(DamagedResultError, match="no such file"):
        read_attributes(tmp_path / "specimen.nc")


def test_foreign_files_are_refused(tmp_path):
    text = tmp_path / "text.nc"
    text.write_text("not NetCDF\n")
    assert "Delete it and run again" in damaged(text)
    with netCDF4.Dataset(tmp_path / "other.nc", "w") as dataset:
        dataset.title = "another program's"
    assert "not a specimen file" in damaged(tmp_path / "other.nc")


def test_a_file_of_another_layout_is_refused(tmp_path, specimen):
    file = tmp_path / "specimen.nc"
    write_specimen(file, specimen, ATTRIBUTES)
    with netCDF4.Dataset(file, "a") as dataset:
        dataset.layout = 2
    assert "layout 2" in damaged(file)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_refused(tmp_path, specimen, share):
    file = tmp_path / "specimen.nc"
    write_specimen(file, specimen, ATTRIBUTES)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    damaged(file)


@pytest.mark.failure("specimen.nc lost, truncated or damaged")
def test_edited_content_is_noticed(tmp_path, specimen):
    file = tmp_path / "specimen.nc"
    write_specimen(file, specimen, ATTRIBUTES)
    for change in (
        lambda dataset: dataset["positions"].__setitem__((0, 0), 1.0),
        lambda dataset: dataset.setncattr("specimen_digest", "forged"),
    ):
        with netCDF4.Dataset(file, "a") as dataset:
            change(dataset)
        assert "digest" in damaged(file)
        write_specimen(file, specimen, ATTRIBUTES)


def test_a_missing_variable_is_named(tmp_path, specimen):
    file = tmp_path / "specimen.nc"
    write_specimen(file, specimen, ATTRIBUTES)
    with netCDF4.Dataset(file, "a") as dataset:
        dataset.renameVariable("u_iso", "u")
    assert "damaged" in damaged(file)


def test_a_flipped_byte_is_noticed_or_harmless(tmp_path, specimen):
    """In a child process, since HDF5 may crash on some damage."""
    file = tmp_path / "specimen.nc"
    many = np.random.default_rng(5).uniform(0, 4, (500, 3))
    atoms = {"symbols": np.full(500, "Sr"), "u_iso": many[:, 0], "radius": many[:, 1]}
    write_specimen(file, replace(specimen, positions=many, **atoms), ATTRIBUTES)
    code = """
import sys, numpy as np
from pathlib import Path
from stemphony.errors import DamagedResultError
from stemphony.specimen.specimen_file import read_specimen_file
file = Path(sys.argv[1]); content = file.read_bytes(); good = read_specimen_file(file)
noticed = 0
for position in np.random.default_rng(3).integers(0, len(content), 150):
    changed = bytearray(content); changed[position] ^= 0x55; file.write_bytes(changed)
    try:
        found = read_specimen_file(file)
    except DamagedResultError:
        noticed += 1
    else:
        np.testing.assert_array_equal(found.positions, good.positions)
        np.testing.assert_array_equal(found.symbols, good.symbols)
        np.testing.assert_array_equal(found.u_iso, good.u_iso)
        assert found.cell == good.cell and found.format == good.format
print(noticed)
"""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50


# Atomic files


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    final = tmp_path / "a.txt"
    final.write_text("old")
    with atomic_path(final) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert final.read_text() == "old"
    assert final.read_text() == "new"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), RuntimeError("other")])
def test_an_error_leaves_the_old_file_and_no_unfinished_one(tmp_path, error):
    final = tmp_path / "a.txt"
    final.write_text("old")

    def attempt() -> None:
        with atomic_path(final) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        attempt()
    assert final.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    final = tmp_path / "a.txt"
    barrier = threading.Barrier(2)
    names = []

    def writer(text: str) -> None:
        with atomic_path(final) as temporary:
            names.append(temporary)
            temporary.write_text(text)
            barrier.wait()

    threads = [threading.Thread(target=writer, args=(text,)) for text in ("aaaa", "bbbb")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names[0] != names[1]
    assert final.read_text() in ("aaaa", "bbbb")
    assert leftovers(tmp_path) == []


def attempt_with(final: Path, error: Exception) -> None:
    with atomic_path(final) as temporary:
        temporary.write_text("half")
        raise error


@pytest.mark.parametrize(
    ("number", "part", "do"),
    [
        (errno.ENOSPC, "disk is full", "Free some space"),
        (errno.EDQUOT, "quota", "Free some space"),
        (errno.EACCES, "permission denied", "Check the owner"),
        (errno.EROFS, "read-only", "Use a folder"),
    ],
)
def test_failures_of_the_disk_are_named(tmp_path, number, part, do):
    final = tmp_path / "a.nc"
    with pytest.raises(StorageError) as caught:
        attempt_with(final, OSError(number, os.strerror(number)))
    text = str(caught.value)
    assert str(final) in text
    assert part in text
    assert do in text
    assert leftovers(tmp_path) == []


def test_a_bare_hdf_error_is_reported_as_a_full_disk(tmp_path):
    with pytest.raises(StorageError, match=r"HDF error.*MB left.*quota"):
        attempt_with(tmp_path / "a.nc", RuntimeError("NetCDF: HDF error"))


def test_errors_of_other_files_pass_unchanged(tmp_path):
    with pytest.raises(PermissionError):
        attempt_with(tmp_path / "a.nc", PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "input")))
    with pytest.raises(OSError, match="strange"):
        attempt_with(tmp_path / "a.nc", OSError(errno.ENXIO, "strange"))


def test_a_folder_that_does_not_exist_is_named(tmp_path, specimen):
    with pytest.raises(StorageError, match=r"none/a\.txt.*folder does not exist.*Create it"):
        write_text_atomic(tmp_path / "none" / "a.txt", "x")
    with pytest.raises(StorageError, match=r"none/specimen\.nc.*folder does not exist"):
        write_specimen(tmp_path / "none" / "specimen.nc", specimen, ATTRIBUTES)


def test_a_name_that_a_folder_has_is_refused_and_nothing_is_left(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(StorageError, match=r"a\.txt"):
        write_text_atomic(tmp_path / "a.txt", "x")
    assert leftovers(tmp_path) == []


def test_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(StorageError, match="nothing was written"), atomic_path(tmp_path / "a.txt"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission_is_named(tmp_path, specimen):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="permission denied"):
            write_specimen(tmp_path / "specimen.nc", specimen, ATTRIBUTES)
    finally:
        tmp_path.chmod(0o700)


def test_text_is_utf8_and_its_mode_follows_the_umask(tmp_path):
    file = tmp_path / "plan.json"
    old = os.umask(0o027)
    try:
        write_text_atomic(file, "σ = 0.7\n")
        write_text_atomic(tmp_path / "secret", "x", mode=0o600)
    finally:
        os.umask(old)
    assert file.read_bytes() == "σ = 0.7\n".encode()
    assert file.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


@pytest.mark.failure("disk full while the merge writes")
def test_a_real_write_failure_of_hdf5_ends_as_a_storage_error(tmp_path):
    """A limit on the file's size stands for the full disk; in a child process, whose limit it is."""
    code = """
import sys, resource, signal, numpy as np
from pathlib import Path
from stemphony.errors import StorageError
from stemphony.specimen.specimen_file import write_specimen
from stemphony.specimen.specimen import Specimen
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
n = 100_000
positions = np.random.default_rng(1).random((n, 3))
specimen = Specimen(np.full(n, "Sr"), positions, (1., 1., 1.), np.zeros(n), None, "ase")
try:
    write_specimen(Path(sys.argv[1]), specimen, {})
except StorageError as error:
    print(error)
"""
    file = tmp_path / "specimen.nc"
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout
    assert str(file) in done.stdout
    assert not list(tmp_path.iterdir())


def test_sensitivities_of_detectors_travel_with_the_atoms(specimen, tmp_path):
    file = tmp_path / "specimen.nc"
    values = {"haadf": np.array([[0.0, 0.1], [50.0, 1.0]]), "a_map": np.random.default_rng(0).random((5, 4))}
    write_specimen(file, replace(specimen, sensitivities=values), {})
    read = read_specimen_file(file).sensitivities
    assert read.keys() == values.keys()
    for name, expected in values.items():
        np.testing.assert_array_equal(read[name], expected)
    write_specimen(file, specimen, {})
    assert read_specimen_file(file).sensitivities == {}
