"""The spool keeps events on disk, also on a full disk; and of several processes, one wins the claim of an event."""

from __future__ import annotations

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stemphony.status import spool
from stemphony.status.spool import Spool, claim, spool_file_of

SCRIPTS = Path(__file__).parents[3] / "workflow/scripts"


@pytest.fixture
def strict_umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_lines_are_appended_to_a_file_whose_mode_follows_the_umask(tmp_path, strict_umask):
    target = Spool(tmp_path / "run-1/job.jsonl")
    assert target.append(b'{"a": 1}')
    assert target.append(b'{"a": 2}', durable=True)
    target.close()
    assert target.path.read_bytes() == b'{"a": 1}\n{"a": 2}\n'
    assert mode_of(target.path) == 0o640
    assert mode_of(target.path.parent) == 0o750
    assert target.failures == 0


def test_a_spool_makes_no_file_before_the_first_line(tmp_path):
    Spool(tmp_path / "job.jsonl").close()
    assert list(tmp_path.iterdir()) == []


def test_only_durable_lines_are_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(spool.os, "fsync", synced.append)
    target = Spool(tmp_path / "job.jsonl")
    target.append(b"1")
    assert synced == []
    target.append(b"2", durable=True)
    assert len(synced) == 1
    target.close()


def test_existing_file_and_link_are_never_written(tmp_path):
    wanted = tmp_path / "job.jsonl"
    wanted.write_text("of another\n")
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "job.1.jsonl").symlink_to(tmp_path / "elsewhere")
    target = Spool(wanted)
    assert target.append(b"mine")
    target.close()
    assert wanted.read_text() == "of another\n"
    assert (tmp_path / "elsewhere").read_text() == ""
    assert target.path == tmp_path / "job.2.jsonl"
    assert target.path.read_text() == "mine\n"


def test_a_spool_whose_folder_is_a_file_counts_its_failures(tmp_path):
    (tmp_path / "run-1").write_text("")
    target = Spool(tmp_path / "run-1/job.jsonl")
    assert not target.append(b"1")
    assert not target.append(b"2", durable=True)
    target.close()
    assert target.failures == 2
    assert str(tmp_path) not in target.trouble


def test_an_unwritable_path_counts_as_a_failure(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path))

    monkeypatch.setattr(spool.os, "open", refuse)
    target = Spool(tmp_path / "job.jsonl")
    assert not target.append(b"1")
    target.close()
    assert (target.failures, target.trouble) == (1, "OSError EROFS")


def test_full_disk_is_tried_again(tmp_path, monkeypatch):
    real, full = os.write, [False]

    def write(descriptor, data):
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(spool.os, "write", write)
    target = Spool(tmp_path / "job.jsonl")
    assert target.append(b"1")
    full[0] = True
    assert not target.append(b"2")
    full[0] = False
    assert target.append(b"3")
    target.close()
    assert target.path.read_bytes() == b"1\n3\n"
    assert target.failures == 1


def test_line_torn_by_a_full_disk_does_not_spoil_the_next(tmp_path, monkeypatch):
    real, left = os.write, [6]

    def write(descriptor, data):
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(descriptor, bytes(data)[: left[0]])
        left[0] -= written
        return written

    monkeypatch.setattr(spool.os, "write", write)
    target = Spool(tmp_path / "job.jsonl")
    assert target.append(b"11")
    assert not target.append(b"222222")
    left[0] = 100
    assert target.append(b"33")
    target.close()
    assert target.path.read_bytes() == b"11\n222\n33\n"


def test_events_beyond_the_limit_of_the_file_size_are_counted_as_failures(tmp_path):
    target = Spool(tmp_path / "job.jsonl")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        results = [target.append(b"x" * 8), target.append(b"y" * 8), target.append(b"z")]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    target.close()
    assert results == [True, False, False]
    assert (target.failures, target.trouble) == (2, "OSError EFBIG")


def test_a_closed_spool_counts_what_it_cannot_keep(tmp_path):
    target = Spool(tmp_path / "job.jsonl")
    target.close()
    target.close()
    assert not target.append(b"1")
    assert target.failures == 1


def test_name_of_a_spool_has_no_folders(tmp_path):
    assert spool_file_of(tmp_path, "defocus_p2d500/configuration_0003", 2) == (
        tmp_path / "defocus_p2d500.configuration_0003.attempt-2.jsonl"
    )
    assert spool_file_of(tmp_path, "../../x", 1).parent == tmp_path


def test_claim_is_won_once_and_holds_the_event(tmp_path, strict_umask):
    marker = tmp_path / "run-1/defocus_0d000.START_DEFOCUS.json"
    assert claim(marker, b'{"event": "START_DEFOCUS"}') is True
    assert claim(marker, b'{"event": "of another"}') is False
    assert json.loads(marker.read_text()) == {"event": "START_DEFOCUS"}
    assert mode_of(marker) == 0o640
    assert list(marker.parent.iterdir()) == [marker]


def test_a_claim_is_won_even_if_its_confirmation_was_lost(tmp_path, monkeypatch):
    real = os.link

    def link(source, target):
        real(source, target)
        raise FileExistsError(errno.EEXIST, "as NFS says after a retransmission")

    monkeypatch.setattr(spool.os, "link", link)
    assert claim(tmp_path / "marker", b"{}") is True


def test_a_claim_that_another_process_won_in_between_is_lost(tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    real = os.link

    def link(source, target):
        marker.write_text("of another")
        real(source, target)

    monkeypatch.setattr(spool.os, "link", link)
    assert claim(marker, b"{}") is False
    assert marker.read_text() == "of another"


def test_a_claim_without_hard_links_is_won_once(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(spool.os, "link", link)
    assert claim(tmp_path / "marker", b"{}") is True
    assert claim(tmp_path / "marker", b"{}") is False


def test_claim_on_a_full_disk_still_has_one_winner(tmp_path, monkeypatch):
    def write(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool.os, "write", write)
    assert claim(tmp_path / "marker", b"{}") is None
    assert claim(tmp_path / "marker", b"{}") is False
    assert [path.name for path in tmp_path.iterdir()] == ["marker"]


def test_a_claim_that_nothing_can_decide_is_reported_as_unknown(tmp_path):
    (tmp_path / "run-1").write_text("a file")
    assert claim(tmp_path / "run-1/marker", b"{}") is None


RACE = """
import json, pathlib, sys, time
from stemphony.status.reporter import JobReporter
from stemphony.status.settings import ReportingSettings

folder, index = pathlib.Path(sys.argv[1]), int(sys.argv[2])
settings = ReportingSettings(reporting=True, via="submit_host")
common = {"id": "2c0b3d0e-2f0b-4a55-8a2e-0d6c0c6a2b11", "num_threads": 1, "num_processors": 8,
          "num_defoci": 20, "num_configurations": 8}
(folder / f"ready-{index}").touch()
while not (folder / "go").exists():
    time.sleep(0.002)
for d in range(20):
    job = JobReporter(settings, common, defocus_nm=d, defocus_index=d, configuration_index=index, run=1,
                      attempt=1, job=f"d{d}/c{index}", reports_dir=folder / "run-1",
                      marker_file=folder / f"run-1/defocus_{d}.START_DEFOCUS.json", warn=sys.exit)
    job.start()
    job.close()
assert "requests" not in sys.modules
"""


@pytest.mark.slow
def test_eight_processes_report_each_defocus_once(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    processes = [
        subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path), str(index)], env=environment) for index in range(8)
    ]
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("ready-*"))) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    (tmp_path / "go").touch()
    assert [process.wait(60) for process in processes] == [0] * 8
    spools = sorted((tmp_path / "run-1").glob("*.jsonl"))
    assert len(spools) == 8 * 20
    started = []
    for file in spools:
        entries = [json.loads(line) for line in file.read_text().splitlines()]
        assert [entry["seq"] for entry in entries] == list(range(len(entries)))
        started += [entry for entry in entries if entry["event"] == "START_DEFOCUS"]
    assert sorted(entry["defocus_index"] for entry in started) == list(range(20))
    for entry in started:
        marker = tmp_path / f"run-1/defocus_{entry['defocus_index']}.START_DEFOCUS.json"
        assert json.loads(marker.read_text()) == entry
    assert not list((tmp_path / "run-1").glob(".*"))
