"""The record of the user's own runs: found by the id of a simulation, in a folder that only this user writes."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from stemphony.paths import ResultPaths
from stemphony.store import own_runs

ADDRESS = "https://monitor.example.org:8443"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "stemphony"


def simulation(root: Path, number: str) -> ResultPaths:
    root.mkdir(parents=True, exist_ok=True)
    ResultPaths(root).identity.write_text(json.dumps({"id": number, "seed": 1, "created": "now"}))
    return ResultPaths(root)


def test_a_moved_folder_is_found_by_its_id(tmp_path):
    number = str(uuid.uuid4())
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    assert own_runs.note_own_run(number, files, tmp_path)
    assert own_runs.config_files_of(simulation(tmp_path / "moved", number)) == [
        tmp_path / "a.yaml",
        tmp_path / "b.yaml",
    ]
    assert own_runs.config_files_of(simulation(tmp_path / "other", str(uuid.uuid4()))) == []


def test_the_number_of_the_last_run_is_kept(folder, tmp_path):
    number = str(uuid.uuid4())
    assert own_runs.latest_run_of(number) == 0
    own_runs.note_own_run(number, [], tmp_path, 7)
    assert own_runs.latest_run_of(number) == 7
    (file,) = (folder / "simulations").iterdir()
    for wrong in ('"7"', "-1", "1e9", "10000000000", "null", "[]"):
        file.write_text(f'{{"run": {wrong}}}')
        assert own_runs.latest_run_of(number) == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": 5}', '{"id": "../../x"}', "[" * 10_000])
def test_a_folder_without_a_readable_id_has_no_record(tmp_path, text):
    result = simulation(tmp_path / "x", "")
    result.identity.write_text(text)
    assert own_runs.config_files_of(result) == []


def test_a_noted_receiver_is_known(folder):
    assert not own_runs.knows_receiver(ADDRESS)
    own_runs.note_receiver(ADDRESS)
    assert own_runs.knows_receiver(ADDRESS)
    assert not own_runs.knows_receiver(ADDRESS + "0")
    modes = {file.stat().st_mode & 0o777 for file in folder.rglob("*")}
    assert modes == {0o700, 0o600}


def test_a_missing_home_folder_notes_nothing_and_fails_nothing(monkeypatch, tmp_path):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert not own_runs.note_own_run(str(uuid.uuid4()), [], tmp_path)
    own_runs.note_receiver(ADDRESS)
    assert not own_runs.knows_receiver(ADDRESS)


def test_a_folder_that_cannot_be_made_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file" / "below"))
    assert not own_runs.note_own_run(str(uuid.uuid4()), [], tmp_path)
