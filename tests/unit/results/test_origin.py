"""Origin of a merged result, read by a separate process that a damaged file may crash."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from stemphony.results import origin
from stemphony.results.origin import origin_of
from stemphony.store.superblock import SIGNATURE


@pytest.fixture
def unlike_any(tmp_path: Path) -> Path:
    """A file that begins like NetCDF-4, with a superblock that holds no length."""
    file = tmp_path / "stem.nc"
    file.write_bytes(SIGNATURE + bytes(100))
    return file


def answering(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Make the separate process run another command."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.mark.failure("merged result truncated or damaged")
@pytest.mark.parametrize("end", ["kill -SEGV $$", "exit 1", "sleep 100", "echo no JSON", "echo '{}'"])
def test_a_file_that_crashes_its_reader_has_no_origin(unlike_any: Path, monkeypatch: pytest.MonkeyPatch, end: str):
    answering(monkeypatch, unlike_any.parent, end)
    assert origin_of(unlike_any, longest_s=2.0) is None


def test_a_missing_file_has_no_origin(tmp_path: Path):
    assert origin_of(tmp_path / "stem.nc") is None


def test_a_file_with_another_checksum_has_no_origin(unlike_any: Path, monkeypatch: pytest.MonkeyPatch):
    answering(monkeypatch, unlike_any.parent, """echo '{"merge_digest": "a", "job_sha256": null}'""")
    origin.write_checksum(unlike_any)
    assert origin_of(unlike_any, whole=True) == origin.Origin("a", None)
    unlike_any.write_bytes(SIGNATURE + bytes(99) + b"1")
    assert origin_of(unlike_any) == origin.Origin("a", None)
    assert origin_of(unlike_any, whole=True) is None


def test_without_a_checksum_every_value_is_read(unlike_any: Path, monkeypatch: pytest.MonkeyPatch):
    answering(monkeypatch, unlike_any.parent, """[ -z "$6" ] && echo '{"merge_digest": "a", "job_sha256": null}'""")
    assert origin_of(unlike_any) is not None
    assert origin_of(unlike_any, whole=True) is None
