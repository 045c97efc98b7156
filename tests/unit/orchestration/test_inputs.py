"""Tests of the search for files that a config names."""

from __future__ import annotations

from pathlib import Path

import pytest
from stemphony.errors import ConfigError
from stemphony.orchestration.inputs import find_file


def test_files_are_found_by_absolute_path_or_beside_the_config_or_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("configs", "here"):
        Path(folder).mkdir()
        Path(folder, "a").touch()
    Path("b").touch()
    assert find_file("k", "a", tmp_path / "configs") == tmp_path / "configs" / "a"
    assert find_file("k", "b", tmp_path / "configs") == tmp_path / "b"
    assert find_file("k", str(tmp_path / "here/a"), tmp_path / "configs") == tmp_path / "here" / "a"
    with pytest.raises(ConfigError) as caught:
        find_file("specimen.file", "c", tmp_path / "configs")
    for part in ("specimen.file", str(tmp_path / "configs/c"), str(tmp_path / "c")):
        assert part in str(caught.value)
