"""Digests are equal exactly for equal content; versions and the commit are recorded."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections import OrderedDict
from importlib import metadata
from pathlib import Path

import pytest
from stemphony import provenance

ROOT = Path(__file__).parents[2]


def test_equal_content_has_equal_text():
    one = {"b": [1, 2.5, None], "a": {"y": True, "x": "Å"}}
    other = OrderedDict(a=OrderedDict(x="Å", y=True), b=(1, 2.5, None))
    assert (
        provenance.canonical_json(one)
        == provenance.canonical_json(other)
        == '{"a":{"x":"Å","y":true},"b":[1,2.5,null]}'
    )
    assert provenance.digest(one) == provenance.digest(other)


@pytest.mark.parametrize(
    "other", [{"a": 1}, {"a": 1.5}, {"a": "1"}, {"a": True}, {"a": None}, {"b": 1.0}, {"a": [1.0]}]
)
def test_different_content_has_a_different_digest(other):
    assert provenance.digest(other) != provenance.digest({"a": 1.0})


def test_a_digest_is_sha256_of_the_text():
    assert provenance.digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


def test_values_that_json_cannot_hold_have_no_digest():
    with pytest.raises(ValueError, match="JSON"):
        provenance.digest({"a": float("nan")})


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert provenance.file_sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_versions_are_recorded_and_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == provenance.VERSION
    attributes = provenance.runtime_attributes()
    assert ".".join(attributes[f"programVersion{part}"] for part in ("Major", "Minor", "Patch")) == provenance.VERSION
    versions = json.loads(attributes["versions"])
    assert set(versions) == {
        "python", "numpy", "scipy", "pyfftw", "fftw", "blas", "netCDF4", "netcdf_c", "hdf5", "packages_digest",
    }  # fmt: skip
    assert all(re.match(r"[\w.-]+$|[\w-]+ [\d.]+$", version) for version in versions.values()), versions


def test_the_instruction_sets_of_the_processor_are_recorded():
    told = provenance.runtime_attributes()["instruction_sets"]
    assert told
    assert told.split(" ") == [word for word in told.split() if re.fullmatch(r"\w+", word)]


def test_every_package_of_the_environment_is_recorded():
    told = set(json.loads(provenance.runtime_attributes()["packages"]))
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        assert f"{name}=={distribution.version}" in told
    assert json.loads(provenance.runtime_attributes()["versions"])["packages_digest"] == provenance.digest(sorted(told))


def test_conda_packages_are_recorded_with_their_build(tmp_path, monkeypatch):
    site = tmp_path / "lib/python3.12/site-packages"
    for name, installer in (("numpy-2.4.6", "conda"), ("added_later-1.0", "pip")):
        (site / f"{name}.dist-info").mkdir(parents=True)
        (site / f"{name}.dist-info/INSTALLER").write_text(f"{installer}\n")
    (tmp_path / "conda-meta").mkdir()
    for name in ("numpy-2.4.6-py312h33ff503_0", "lib-with-dashes-0.3-h1_0"):
        (tmp_path / f"conda-meta/{name}.json").touch()
    (tmp_path / "conda-meta/history").touch()
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    monkeypatch.setattr("sys.path", [str(site), "", str(tmp_path / "not there")])
    provenance.packages.cache_clear()
    assert provenance.packages() == ["added-later==1.0", "lib-with-dashes=0.3=h1_0", "numpy=2.4.6=py312h33ff503_0"]
    provenance.packages.cache_clear()


def test_without_git_only_an_image_has_a_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("STEMPHONY_GIT_COMMIT", raising=False)
    provenance.git_commit.cache_clear()
    assert provenance.git_commit() == ""
    monkeypatch.setenv("STEMPHONY_GIT_COMMIT", "abc123")
    provenance.git_commit.cache_clear()
    assert provenance.git_commit() == "abc123"
    provenance.git_commit.cache_clear()
