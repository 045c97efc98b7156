"""Claims: one process computes and the others wait. Dead holders are known by their process id or their silence."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from io import BufferedReader
from pathlib import Path

import pytest
from stemphony import ordinary_files
from stemphony.orchestration import job
from stemphony.store import claims
from stemphony.store.claims import Holder, Timing, holder_of, process_start, take, wait
from support.campaign import wait_for

QUICK = Timing(poll_s=0.01)
IMPATIENT = Timing(poll_s=0.01, stale_s=0.1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "one.claim"


def write(file: Path, holder: Holder) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(asdict(holder)))


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def waited(file: Path) -> bool:
    """Whether a waiter still waits after five looks."""
    looks = []

    def look() -> None:
        looks.append(1)
        if len(looks) > 5:
            raise TimeoutError

    try:
        wait(file, look, QUICK)
    except TimeoutError:
        return True
    return False


def test_one_process_holds_a_claim_until_it_releases_it(file):
    claim = take(file)
    assert claim is not None
    assert take(file) is None
    assert (claim.holder.pid, claim.holder.host) == (os.getpid(), socket.gethostname())
    assert waited(file)
    claim.release()
    assert not file.exists()
    again = take(file)
    assert again is not None
    again.release()


def test_a_dead_process_of_this_machine_is_known_at_once(file):
    write(file, replace(Holder.here(), pid=dead_process()))
    assert not waited(file)
    assert not file.exists()


def test_a_reused_process_id_is_not_taken_for_the_holder(file):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        alive = replace(Holder.here(), pid=other.pid, started=process_start(other.pid))
        write(file, alive)
        assert waited(file)
        write(file, replace(alive, started=str(int(alive.started) - 1)))
        assert not waited(file)
        other.kill()


@pytest.mark.failure("job started twice")
@pytest.mark.parametrize("other", [{"boot": "another machine"}, {"namespace": "a container's"}, {"boot": ""}])
def test_the_heartbeat_decides_about_holders_on_other_machines(file, other):
    write(file, replace(Holder.here(), pid=dead_process(), **other))
    assert waited(file)
    wait(file, timing=IMPATIENT)
    assert not file.exists()


@pytest.mark.parametrize("content", ["", "myhost 4711\n", "{}", '{"pid": 0}'])
def test_an_unreadable_claim_is_judged_by_its_heartbeat(file, content):
    file.parent.mkdir()
    file.write_text(content)
    assert waited(file)
    wait(file, timing=IMPATIENT)
    assert not file.exists()


def test_a_zombie_is_dead(file):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        holder = replace(Holder.here(), pid=process.pid, started=process_start(process.pid))
        process.kill()
        wait_for(lambda: process_start(process.pid) == "", "its death")
        assert holder.is_gone


@pytest.mark.failure("clock jumps, or is ahead on another machine")
@pytest.mark.parametrize("now", [lambda: 0.0, lambda: time.monotonic() * -1e6, lambda: 4e9])
def test_the_heartbeat_is_seen_with_any_clock(file, monkeypatch, now):
    monkeypatch.setattr(time, "time", now)
    claim = take(file, Timing(heartbeat_s=0.01))
    assert claim is not None
    times = {file.stat().st_mtime_ns}
    wait_for(lambda: times.add(file.stat().st_mtime_ns) or len(times) > 5, "heartbeats")
    claim.release()


def test_a_full_disk_leaves_no_claim(file, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        take(file)
    assert list(file.parent.iterdir()) == []


def test_a_partly_written_claim_is_no_claim(file, monkeypatch):
    monkeypatch.setattr(os, "write", lambda *_: 3)
    with pytest.raises(OSError, match="No space"):
        take(file)
    assert list(file.parent.iterdir()) == []


def test_a_holder_that_was_taken_for_dead_does_not_release_the_claim_of_its_successor(file):
    stopped = take(file)
    assert stopped is not None
    stopped._over.set()  # no more heartbeats
    write(file, replace(stopped.holder, boot="another machine"))
    wait(file, timing=IMPATIENT)
    heir = take(file)
    assert heir is not None
    stopped.release()
    found = holder_of(file)
    assert found is not None
    assert found.token == heir.holder.token
    heir.release()


def test_a_fresh_claim_is_not_removed_with_a_dead_one(file):
    write(file, replace(Holder.here(), pid=dead_process()))
    dead = file.read_bytes()
    file.unlink()
    claim = take(file)
    assert claim is not None
    claims._remove(file, dead)
    found = holder_of(file)
    assert found is not None
    assert found.token == claim.holder.token
    claim.release()
    assert list(file.parent.iterdir()) == []


def test_many_waiters_for_a_dead_claim_take_it_one_at_a_time(file):
    write(file, replace(Holder.here(), pid=dead_process()))
    inside, most = [], []

    def compete() -> None:
        while (claim := take(file)) is None:
            wait(file, timing=QUICK)
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.01)
        inside.pop()
        claim.release()

    threads = [threading.Thread(target=compete) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6
    assert not file.exists()


@pytest.mark.parametrize("quiet", [False, True])
def test_a_claim_that_cannot_be_read_is_waited_for_by_its_heartbeat(file, monkeypatch, quiet):
    """The claim belongs to another user. Even without a heartbeat it cannot be removed."""
    write(file, replace(Holder.here(), pid=dead_process()))
    opened = ordinary_files.open_file

    def closed(path: Path) -> BufferedReader:
        if path == file:
            raise PermissionError(13, "Permission denied")
        return opened(path)

    monkeypatch.setattr(ordinary_files, "open_file", closed)
    assert waited(file)
    if quiet:
        assert wait(file, timing=IMPATIENT) is False
    else:
        threading.Timer(0.1, file.unlink).start()
        assert wait(file, timing=QUICK) is True


def test_an_unreadable_claim_is_waited_for_no_longer_than_a_silent_one(file, monkeypatch):
    def stale(*_: object, **__: object) -> None:
        raise OSError(116, "Stale file handle")

    write(file, Holder.here())
    monkeypatch.setattr(Path, "lstat", stale)
    monkeypatch.setattr(Path, "stat", stale)
    monkeypatch.setattr(Path, "open", stale)
    assert waited(file)
    assert wait(file, timing=IMPATIENT) is False


def test_a_folder_in_the_place_of_a_claim_is_not_free(file):
    file.mkdir(parents=True)
    assert waited(file)
    assert wait(file, timing=IMPATIENT) is False


def test_a_dead_claim_in_a_folder_that_cannot_be_written_is_not_free(file, monkeypatch):
    write(file, replace(Holder.here(), pid=dead_process()))

    def refused(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refused)
    assert wait(file) is False


def test_a_dead_claim_that_another_waiter_is_removing_is_waited_for(file):
    write(file, replace(Holder.here(), pid=dead_process()))
    with file.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert waited(file)
    assert wait(file) is True
    assert not file.exists()


@pytest.mark.failure("dead claim that cannot be removed")
def test_a_job_that_cannot_take_its_claim_computes_without_one_and_says_so_once(file, capsys):
    file.mkdir(parents=True)
    assert job._claimed(file, None, IMPATIENT) == (None, True)
    waiting, left = capsys.readouterr().err.splitlines()
    assert "waiting for its result" in waiting
    assert f"{file} has no heartbeat and cannot be removed" in left


def test_a_killed_process_leaves_its_claim_and_it_is_taken_over_at_once(file):
    code = (
        f"import sys, time; sys.path[:0] = {sys.path!r}; from pathlib import Path; from stemphony.store import claims;"
        f" claims.take(Path({str(file)!r})); print('taken', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        assert waited(file)
        process.send_signal(signal.SIGKILL)
    assert not waited(file)
    claim = take(file)
    assert claim is not None
    claim.release()
