"""A copy of a results folder is another simulation; a moved folder is the same simulation."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
from stemphony.paths import ResultPaths
from stemphony.status.events import Event, event_id_of
from stemphony.store import ledger, own_runs
from stemphony.store.copies import settle_identity


def made(root: Path) -> ResultPaths:
    result = ResultPaths(root)
    ledger.identity(result, 7)
    assert settle_identity(result) == ""
    return result


def copied(result: ResultPaths, root: Path) -> ResultPaths:
    shutil.copytree(result.root, root)
    return ResultPaths(root)


def on_another_machine(result: ResultPaths) -> None:
    """As if the last run of this folder was on another machine."""
    result.identity.write_text(json.dumps({**json.loads(result.identity.read_text()), "host": "far-away"}))


def test_a_copy_gets_a_new_id_at_its_first_run(tmp_path):
    original = made(tmp_path / "a")
    before = ledger.identity(original, 7)
    copy = copied(original, tmp_path / "b")
    said = settle_identity(copy)
    after = ledger.identity(copy, 7)
    assert f"is a copy of {original.root}" in said
    assert after.id != before.id
    assert json.loads(copy.identity.read_text())["copied_from"] == before.id
    assert after.originals == (before.id,)
    assert after.seed == before.seed
    assert after.ids == {after.id, before.id}
    assert ledger.identity(original, 7) == before
    # From now on both keep their ids, and so does a copy of the copy.
    assert settle_identity(copy) == settle_identity(original) == ""
    third = copied(copy, tmp_path / "c")
    settle_identity(third)
    last = ledger.identity(third, 7)
    assert len({before.id, after.id, last.id}) == 3
    assert last.originals == (before.id, after.id)
    assert last.ids == {last.id, before.id, after.id}, "job files of the first are valid in the copy of a copy"


@pytest.mark.parametrize("listed", [None, 3, "x", [None, {}, [], 7], [str(number) for number in range(10_000)]])
def test_a_received_list_of_originals_may_hold_anything(tmp_path, listed):
    result = made(tmp_path / "a")
    kept = json.loads(result.identity.read_text())
    result.identity.write_text(json.dumps({**kept, "originals": listed, "copied_from": "c"}))
    originals = ledger.identity(result, 7).originals
    assert originals[-1] == "c"
    assert len(originals) <= own_runs.MOST_ORIGINALS + 1


def test_a_moved_folder_keeps_its_id(tmp_path):
    original = made(tmp_path / "a")
    before = ledger.identity(original, 7)
    moved = ResultPaths(original.root.rename(tmp_path / "b"))
    assert settle_identity(moved) == ""
    after = ledger.identity(moved, 7)
    assert (after.id, after.seed) == (before.id, before.seed)
    assert settle_identity(moved) == ""
    assert ledger.identity(moved, 7) == after
    assert json.loads(moved.identity.read_text())["folder"] == str(moved.root)


def test_the_second_copy_of_a_folder_that_is_gone_is_found_by_the_record_of_the_user(tmp_path):
    original = made(tmp_path / "a")
    first, second = copied(original, tmp_path / "b"), copied(original, tmp_path / "c")
    shutil.rmtree(original.root)
    assert settle_identity(first) == ""
    assert "is a copy of" in settle_identity(second, further_place=first.root)
    assert ledger.identity(first, 7).id != ledger.identity(second, 7).id


@pytest.mark.parametrize("form", [str, str.upper, "urn:uuid:{}".format])
def test_a_received_folder_with_the_id_of_a_simulation_of_this_user_gets_a_new_id(tmp_path, form):
    """The attack: a received folder names the path where it will be unpacked, and an id of this user in any form."""
    mine, received = made(tmp_path / "mine"), made(tmp_path / "received")
    known = ledger.identity(mine, 7).id
    received.identity.write_text(json.dumps({**json.loads(received.identity.read_text()), "id": form(known)}))
    assert "is a copy of" in settle_identity(received, further_place=mine.root)
    assert ledger.identity(received, 7).id != known
    assert settle_identity(mine, further_place=mine.root) == ""
    assert ledger.identity(mine, 7).id == known


def test_another_path_to_the_same_folder_changes_nothing(tmp_path):
    original = made(tmp_path / "a")
    content = json.loads(original.identity.read_text())
    (tmp_path / "link").symlink_to(tmp_path / "a")
    original.identity.write_text(json.dumps({**content, "folder": str(tmp_path / "link")}))
    before = ledger.identity(original, 7)
    assert settle_identity(original) == ""
    assert ledger.identity(original, 7) == before


def test_another_simulation_in_the_old_folder_makes_no_copy(tmp_path):
    original = made(tmp_path / "a")
    moved = ResultPaths(original.root.rename(tmp_path / "b"))
    made(tmp_path / "a")
    before = ledger.identity(moved, 7)
    assert settle_identity(moved) == ""
    assert ledger.identity(moved, 7).id == before.id


@pytest.mark.parametrize("same_path", [False, True])
def test_a_copy_whose_original_is_invisible_keeps_the_id_and_gets_other_event_ids(tmp_path, same_path):
    """A copy on another machine keeps the id of the original, but its events have other ids."""
    original = made(tmp_path / "a")
    copy = original if same_path else copied(original, tmp_path / "b")
    there = ledger.identity(original, 7)
    on_another_machine(copy)
    if not same_path:
        shutil.rmtree(original.root)
    said = settle_identity(copy)
    here = ledger.identity(copy, 7)
    assert here.id == there.id
    assert ("cannot be seen from here" in said) == (not same_path)
    event = {"id": here.id, "run": 3, "job": "a", "attempt": 2, "defocus_index": 0, "progress": 0.5}
    for name in Event:
        ids = {event_id_of({**event, "event": name}, identity.instance) for identity in (there, here)}
        assert len(ids) == (1 if name == Event.START_SIMULATION else 2), name


def test_a_folder_of_an_earlier_version_records_its_place(tmp_path):
    result = ResultPaths(tmp_path / "a")
    result.root.mkdir()
    old = {"id": "6b1e4f0e-6f0e-4d0c-9c53-1b7a3c0e7f11", "seed": 5, "created": "2026-01-01T00:00:00+00:00"}
    result.identity.write_text(json.dumps(old))
    assert settle_identity(result) == ""
    assert json.loads(result.identity.read_text()) == {**old, "folder": str(result.root), "host": socket.gethostname()}


def test_a_copy_that_restored_its_id_from_job_files_hides_no_events(tmp_path):
    """simulation.json was lost in a copy or in the original, and nothing shows in which."""
    ids = []
    for name in ("a", "b"):
        result = ResultPaths(tmp_path / name)
        identity = ledger.identity(result, 0, recorded=("6b1e4f0e-6f0e-4d0c-9c53-1b7a3c0e7f11", 5))
        ids.append(event_id_of({"id": identity.id, "run": 1, "event": Event.FINISH}, identity.instance))
    assert len(set(ids)) == 2
