"""The file of a job: its content and origin. It appears complete or not at all."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from stemphony import paths, provenance
from stemphony.errors import StorageError
from stemphony.results import job_file
from stemphony.store import atomic
from support.arrays import differences
from support.experiments import FakeCampaign

CBED = {"cbed": {"enabled": True, "size": [4, 5], "max_mrad": 20.0}}


@pytest.fixture
def fake(tmp_path):
    return FakeCampaign.of(tmp_path, probe={"defoci_nm": [2.5, 0.0]}, simulation={"precision": "double"}, **CBED)


def arrays(file: Path) -> dict[str, bytes]:
    with netCDF4.Dataset(file) as root:
        return {
            f"{group.name}/{name}": np.ma.filled(variable[...]).tobytes()
            for group in root.groups.values()
            for name, variable in group.variables.items()
        }


def test_signals_are_read_back_at_their_place(fake):
    file = fake.write("p2d500", 1)
    made = fake.signals("p2d500", 1)
    with netCDF4.Dataset(file) as root:
        for x, y, depth in np.ndindex(3, 4, 2):
            for index in range(5):
                assert root["adf"]["adf_intensities"][0, x, y, 0, depth, 0, index] == made.bins[x, y, depth, index]
            for axis in (0, 1):
                stored = root["adf"]["center_of_mass"][0, x, y, 0, depth, 0, axis]
                assert stored == pytest.approx(1e3 * made.center_of_mass[x, y, depth, axis])
            for index, name in enumerate(("bf", "haadf")):
                assert root["images"][name][0, 0, depth, x, y] == made.rings[x, y, depth, index]
            assert root["images"]["total_intensity"][0, 0, depth, x, y] == made.total[x, y, depth]
            assert not differences(root["cbed"]["cbed_intensities"][0, x, y, 0, depth, 0], made.cbed[x, y, depth])
        assert root["adf"]["adf_phonon"][:].tolist() == [1]
        assert root["adf"]["adf_defocus"][:].tolist() == [2.5]


def test_a_job_file_names_its_origin(fake):
    with netCDF4.Dataset(fake.write("p2d500", 3, seed=7)) as root:
        assert root.job_digest == provenance.digest(fake.campaign.job_params("p2d500", 3))
        assert root.physics_version == provenance.PHYSICS_VERSION
        assert root.effective_seed == 7
        assert (root.title, root.id, root.program) == ("a title", "an id", "Stemphony")
        assert not {"config_digest", "config_yaml"} & set(root.ncattrs())
        assert root["params"]["simulation"].random_seed == 7
    with netCDF4.Dataset(fake.write("p2d500", 3, seed=None)) as root:
        assert "effective_seed" not in root.ncattrs()
        assert "random_seed" not in root["params"]["simulation"].ncattrs()


def test_displaced_atoms_are_kept_only_if_they_are_given(fake):
    with netCDF4.Dataset(fake.write("p2d500", 1)) as root:
        assert root["AMBER"].displaced == 1
        assert np.asarray(root["AMBER"]["coordinates"][0]) == pytest.approx((fake.specimen.positions + 0.02) / 10)
    with netCDF4.Dataset(fake.write("p2d500", 1, coordinates=False)) as root:
        assert root["AMBER"].displaced == 0
        assert np.asarray(root["AMBER"]["coordinates"][0]) == pytest.approx(fake.specimen.positions / 10)


def test_two_attempts_of_a_job_write_the_same_arrays(fake):
    first = arrays(fake.write("p2d500", 1))
    assert arrays(fake.write("p2d500", 1)) == first
    assert len(first) > 40


@pytest.mark.parametrize(
    ("blocks", "groups"),
    [
        ({}, {"AMBER", "runtime", "params", "adf", "images"}),
        ({"adf": {"enabled": False}, **CBED}, {"AMBER", "runtime", "params", "cbed"}),
    ],
)
def test_only_measured_signals_have_a_group(tmp_path, blocks, groups):
    fake = FakeCampaign.of(tmp_path, **blocks)
    with netCDF4.Dataset(fake.write("p0d000", 0)) as root:
        assert set(root.groups) == groups


def test_without_center_of_mass_the_file_has_none(tmp_path):
    fake = FakeCampaign.of(tmp_path, adf={"center_of_mass": False})
    with netCDF4.Dataset(fake.write("p0d000", 0)) as root:
        assert "center_of_mass" not in root["adf"].variables


def test_the_digest_of_the_bytes_stands_beside_the_file(fake):
    file = fake.write("p2d500", 1)
    checksum, whose = paths.checksum(file).read_text().splitlines()
    assert checksum == f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}"
    assert whose == f"# job_digest {provenance.digest(fake.campaign.job_params('p2d500', 1))}"
    # The program sha256sum accepts the file.
    subprocess.run(["sha256sum", "--check", "--strict", paths.checksum(file).name], cwd=file.parent, check=True)
    assert sorted(entry.name for entry in file.parent.iterdir()) == [file.name, file.name + ".sha256"]


def test_a_second_writer_between_checksum_and_data_leaves_them_matching(fake, monkeypatch):
    """Two attempts of one job end together: one writes checksum and data between those of the other."""
    rename = Path.replace
    raced = []

    def replace(source: Path, target: Path) -> Path:
        if target.suffix == ".nc" and not raced:
            raced.append(source)
            fake.write("p2d500", 1, seed=99)  # another seed makes other bytes, as times and hosts do
        return rename(source, target)

    monkeypatch.setattr(Path, "replace", replace)
    file = fake.write("p2d500", 1)
    assert raced
    with netCDF4.Dataset(file) as root:
        assert root.effective_seed == 1
    assert paths.checksum(file).read_text().split()[0] == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.failure("disk full while a job writes")
def test_a_job_that_cannot_be_written_leaves_nothing_and_the_old_result(fake, monkeypatch):
    file = fake.write("p2d500", 1)
    before = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        fake.write("p2d500", 1)
    monkeypatch.undo()
    assert file.read_bytes() == before
    assert sorted(entry.name for entry in file.parent.iterdir()) == [file.name, file.name + ".sha256"]


def test_a_job_killed_while_writing_leaves_the_old_result(fake, monkeypatch):
    file = fake.write("p2d500", 1)
    before = file.read_bytes()
    monkeypatch.setattr(job_file, "_put_signals", lambda *_: (_ for _ in ()).throw(SystemExit(143)))
    with pytest.raises(SystemExit):
        fake.write("p2d500", 1)
    assert file.read_bytes() == before
    assert len(list(file.parent.iterdir())) == 2


def test_the_table_of_atoms_has_their_slices(fake):
    table = fake.table
    assert table.faces == pytest.approx([0.0, 1.9525, 3.905, 5.8575])
    # Each plane of atoms is in the middle of its slice.
    expected = np.round(fake.specimen.positions[:, 2] / (7.81 / 4)).astype(int)
    assert not differences(table.slice_index, expected)
    assert json.dumps(sorted(set(table.slice_index.tolist()))) == "[0, 1, 2, 3]"


def test_a_lost_identity_is_found_again_in_the_job_files(tmp_path):
    fake = FakeCampaign.of(tmp_path, frozen_phonon={"configurations": 2})
    assert job_file.recorded_identity(fake.result) is None
    fake.write_all()
    fake.result.job("p0d000", 0).write_bytes(b"damaged")
    assert job_file.recorded_identity(fake.result) == ("an id", 1)
