"""What is delivered of a spool is noted, and the rest of it is read back."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from stemphony.status import delivery
from stemphony.status.delivery import (
    Delivery,
    count_undelivered,
    delivered_until,
    is_being_sent,
    last_event,
    read_events,
)
from stemphony.status.spool import Spool

SCRIPTS = Path(__file__).parents[3] / "workflow/scripts"


def line(number: int, **more) -> bytes:
    return json.dumps({"event": "PROGRESS", "seq": number, **more}).encode()


def spool(file: Path, number: int) -> Path:
    target = Spool(file)
    for seq in range(number):
        target.append(line(seq))
    target.close()
    return target.path


def seqs(file: Path, begin: int = 0) -> list[int | None]:
    return [None if event is None else event["seq"] for event, _ in read_events(file, begin)]


def test_the_end_of_a_spool_is_the_size_of_its_file(tmp_path):
    target = Spool(tmp_path / "a.jsonl")
    for seq in range(3):
        target.append(line(seq))
        assert target.end == target.path.stat().st_size
    target.close()


def test_acknowledged_events_are_not_left(tmp_path):
    file = spool(tmp_path / "a.jsonl", 5)
    assert (delivered_until(file), count_undelivered(file)) == (0, 5)
    ends = [end for _, end in read_events(file)]
    delivery = Delivery(file)
    for done, end in enumerate(ends, 1):
        delivery.acknowledge(end)
        assert delivered_until(file) == end
        assert count_undelivered(file) == 5 - done
        assert seqs(file, end) == list(range(done, 5))
    delivery.close()
    delivery.acknowledge(0)
    assert count_undelivered(file) == 0


@pytest.mark.parametrize("content", [b"", b"12\n", b"x" * 21, b"-0000000000000000012\n", b"0" * 5000])
def test_an_invalid_note_means_that_nothing_is_delivered(tmp_path, content):
    file = spool(tmp_path / "a.jsonl", 2)
    (tmp_path / "a.delivered").write_bytes(content)
    assert delivered_until(file) == 0
    assert seqs(file) == [0, 1]


def test_a_note_beyond_the_end_leaves_nothing(tmp_path):
    file = spool(tmp_path / "a.jsonl", 2)
    Delivery(file).acknowledge(10**9)
    assert seqs(file, delivered_until(file)) == []
    assert count_undelivered(file) == 0


def test_lines_that_are_no_events_are_named_and_passed(tmp_path):
    file = tmp_path / "a.jsonl"
    broken = [b'{"event": "PROGR', b"", b"[1]", b"\xff\xfe", b'{"seq": 3}', b"[" * 30_000]
    file.write_bytes(b"\n".join([line(0), *broken, line(1), b'{"event": "torn']))
    assert seqs(file) == [0, *[None] * len(broken), 1]
    assert last_event(file)["seq"] == 1


def test_a_reader_sees_what_is_appended_meanwhile(tmp_path):
    target = Spool(tmp_path / "a.jsonl")
    target.append(line(0))
    reader = read_events(target.path)
    assert next(reader)[0]["seq"] == 0
    target.append(line(1))
    assert next(reader)[0]["seq"] == 1
    with target.path.open("ab") as file:
        file.write(line(2)[:10])
    assert next(reader, None) is None
    target.close()


def test_files_and_lines_of_any_length_are_read(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"".join(line(seq, fill="x" * (seq * 997 % 300_000)) + b"\n" for seq in range(400)))
    assert seqs(file) == list(range(400))
    with file.open("ab") as end:
        end.write(line(400, fill="x" * 20_000) + b"\n")
    assert last_event(file)["seq"] == 400


def test_a_line_that_no_event_can_have_is_passed_over_in_pieces(tmp_path, monkeypatch):
    """A sparse file of 10 TB in a received folder must not be read into the memory."""
    monkeypatch.setattr(delivery, "_LONGEST_LINE_BYTES", 65536)
    sizes = []
    read = delivery._read

    def counted(file: Path, begin: int, size: int) -> bytes:
        sizes.append(size)
        return read(file, begin, size)

    monkeypatch.setattr(delivery, "_read", counted)
    spool = tmp_path / "x.jsonl"
    long = b"\0" * 1_000_000
    spool.write_bytes(long + b"\n" + b'{"event": "A"}\n' + long)
    found = list(read_events(spool))
    assert found == [(None, 1_000_001), ({"event": "A"}, 1_000_016)]
    assert max(sizes) <= 65536


def test_links_and_folders_are_not_read(tmp_path):
    file = spool(tmp_path / "a.jsonl", 1)
    (tmp_path / "link.jsonl").symlink_to(file)
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name in ("link", "folder", "pipe", "none"):
        with pytest.raises(OSError):  # noqa: PT011
            list(read_events(tmp_path / f"{name}.jsonl"))
        assert count_undelivered(tmp_path / f"{name}.jsonl") == 0


def test_dead_letters_hold_the_event_and_the_reason(tmp_path):
    file = spool(tmp_path / "a.jsonl", 1)
    delivery = Delivery(file)
    delivery.put_aside({"event": "X", "seq": 4}, "status 422")
    delivery.put_aside({"event": "Y", "seq": 5}, "status 413")
    letters = tmp_path / "a.dead_letters"
    assert [json.loads(entry) for entry in letters.read_text().splitlines()] == [
        {"refused": "status 422", "event": {"event": "X", "seq": 4}},
        {"refused": "status 413", "event": {"event": "Y", "seq": 5}},
    ]


def test_an_unwritable_folder_raises_nothing(tmp_path):
    delivery = Delivery(tmp_path / "no folder" / "a.jsonl")
    delivery.acknowledge(5)
    delivery.put_aside({"event": "X"}, "status 400")
    delivery.close()


HOLD = """
import sys, pathlib
from stemphony.status.spool import Spool
target = Spool(pathlib.Path(sys.argv[1]), hold=True)
target.append(b"1")
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_spool_is_held_until_its_process_dies(tmp_path):
    file = tmp_path / "a.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
    )
    with process:
        process.stdout.readline()
        assert is_being_sent(file) is True
        process.kill()
    assert is_being_sent(file) is False


def test_without_file_locks_it_is_unknown_whether_a_spool_is_being_sent(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(38, "Function not implemented")

    file = spool(tmp_path / "a.jsonl", 1)
    assert is_being_sent(file) is False
    monkeypatch.setattr(fcntl, "flock", flock)
    assert is_being_sent(file) is None
    assert Spool(tmp_path / "b.jsonl", hold=True).append(b"1")
    assert is_being_sent(tmp_path / "none.jsonl") is None
