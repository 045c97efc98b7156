"""A backup follows no link, overwrites nothing, and is checked before it gets its name."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from stemphony.errors import MonitorError
from stemphony.monitor.database import backup as module
from stemphony.monitor.database.backup import backup
from support.monitor import Story, program

from monitor.conftest import Inside


@pytest.fixture
def filled(any_monitor: Inside) -> Inside:
    if not any_monitor.database.is_sqlite:
        program("pg_dump")
    any_monitor.store(Story().whole())
    return any_monitor


def content(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir() if not entry.name.startswith("monitor.sqlite")}


def test_a_backup_says_how_many_events_it_has(filled: Inside, tmp_path: Path):
    number = filled.simulation["events"]
    assert f", {number} events, " in backup(filled.database, tmp_path / "copy")
    assert content(tmp_path) == {"copy"}
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


def test_a_planted_link_is_not_followed(filled: Inside, tmp_path: Path):
    """Links at the name of the backup and at a temporary name, to a file and to nothing."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".copy.partial").symlink_to(victim)
    backup(filled.database, tmp_path / "copy")
    for name, target in (("link", victim), ("dangling", tmp_path / "nothing")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(MonitorError, match="exists already"):
            backup(filled.database, tmp_path / name)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("has_hard_links", [True, False])
def test_a_link_that_appears_during_the_backup_is_not_followed(
    filled: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_hard_links: bool
):
    victim, copy = tmp_path / "victim", tmp_path / "copy"
    victim.write_text("precious")
    name = module._name

    def plant(partial: Path, file: Path) -> None:
        copy.symlink_to(victim)
        name(partial, file)

    monkeypatch.setattr(module, "_name", plant)
    if not has_hard_links:
        monkeypatch.setattr(os, "link", refuse_links)
    with pytest.raises(MonitorError, match="exists already"):
        backup(filled.database, copy)
    assert victim.read_text() == "precious"
    assert content(tmp_path) == {"copy", "victim"}


def refuse_links(*_: Any, **__: Any) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_disk_without_hard_links_gets_a_whole_backup(filled: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "link", refuse_links)
    said = backup(filled.database, tmp_path / "copy")
    assert "wrote" in said
    assert (tmp_path / "copy").stat().st_size > 1000
    assert content(tmp_path) == {"copy"}


def test_exactly_one_of_simultaneous_backups_to_one_name_succeeds(filled: Inside, tmp_path: Path):
    said: list[str] = []
    refused: list[str] = []

    def run() -> None:
        try:
            said.append(backup(filled.database, tmp_path / "copy"))
        except MonitorError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(said), len(refused)) == (1, 5)
    assert [text for text in refused if "exists already" not in text] == []
    assert content(tmp_path) == {"copy"}
    if filled.database.is_sqlite:
        with sqlite3.connect(tmp_path / "copy") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


def test_a_copy_that_lacks_events_is_not_kept(filled: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name = "_copy_sqlite" if filled.database.is_sqlite else "_dump_postgresql"
    real = getattr(module, name)

    def lossy(*arguments: Any) -> tuple[int, int]:
        number, copied = real(*arguments)
        return number, copied - 1

    monkeypatch.setattr(module, name, lossy)
    with pytest.raises(MonitorError, match="It was not kept"):
        backup(filled.database, tmp_path / "copy")
    assert content(tmp_path) == set()


def test_a_damaged_copy_is_not_kept(monitor: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monitor.store(Story().whole())
    database = monitor.database
    real = sqlite3.connect

    class Damaging(sqlite3.Connection):
        def backup(self, target: sqlite3.Connection, **_: Any) -> None:  # type: ignore[override]
            super().backup(target)
            target.execute("DROP TABLE event")

    monkeypatch.setattr(sqlite3, "connect", lambda name, **keys: real(name, factory=Damaging, **keys))
    with pytest.raises(MonitorError, match="cannot be copied"):
        backup(database, tmp_path / "copy")
    assert content(tmp_path) == set()


@pytest.mark.parametrize("kind", ["fifo", "folder", "socket"])
def test_a_backup_neither_opens_nor_replaces_what_is_not_a_file(filled: Inside, tmp_path: Path, kind: str):
    """A FIFO without a reader would block the backup for ever."""
    place = tmp_path / "place"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        os.mknod(place, stat.S_IFSOCK | 0o600)
    before = place.lstat()
    with pytest.raises(MonitorError, match="exists already"):
        backup(filled.database, place)
    assert place.lstat().st_ino == before.st_ino
    assert content(tmp_path) == {"place"}


def test_a_missing_folder_or_a_file_in_its_place_is_reported(filled: Inside, tmp_path: Path):
    (tmp_path / "file").touch()
    for name in ("missing/copy", "file/copy"):
        with pytest.raises(MonitorError, match=r"cannot be written: (No such file|Not a directory)"):
            backup(filled.database, tmp_path / name)
    assert content(tmp_path) == {"file"}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_leaves_nothing(filled: Inside, tmp_path: Path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", small]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs a kernel that lets root do it")
    try:
        with pytest.raises(MonitorError, match=r"(?i)disk is full|no space left"):
            backup(filled.database, small / "copy")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)
