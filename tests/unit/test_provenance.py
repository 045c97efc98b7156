"""Digests: equal for equal content, different for different content; and who computed what."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections import OrderedDict
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


def test_what_json_cannot_say_has_no_digest():
    with pytest.raises(ValueError, match="JSON"):
        provenance.digest({"a": float("nan")})


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert provenance.file_sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_versions_are_told_and_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == provenance.VERSION
    attributes = provenance.runtime_attributes()
    assert ".".join(attributes[f"programVersion{part}"] for part in ("Major", "Minor", "Patch")) == provenance.VERSION
    assert {"python", "numpy", "scipy", "pyfftw", "netCDF4", "hdf5"} == set(json.loads(attributes["versions"]))


def test_outside_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    provenance.git_commit.cache_clear()
    assert provenance.git_commit() == ""
    provenance.git_commit.cache_clear()


def test_physics_version_is_a_number_that_can_be_bumped():
    assert isinstance(provenance.PHYSICS_VERSION, int)
    assert provenance.PHYSICS_VERSION >= 1
