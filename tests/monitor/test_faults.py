"""Faults of machine, disk, database and clients: every acknowledged event is stored."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import resource
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stemphony.monitor import server
from support.campaign import wait_for
from support.monitor import MonitorProcess, Story, missing
from support.time_limit import require_within

from monitor.conftest import PostgresqlServer

pytestmark = pytest.mark.slow

TMPFS_BYTES = 3_000_000


def send_until(
    monitor: MonitorProcess, stop: threading.Event, sender: int, acknowledged: list[str], sent: list[str]
) -> None:
    """Send single events and batches until `stop` is set or no answer comes; note the ids of both kinds."""
    story = Story(uid=f"sender {sender}", configurations=1000)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=20)) as connection:
        for number in range(1_000_000):
            if stop.is_set():
                break
            events = story.job(0, number % 1000, 0, 50, attempt=number // 1000 + 1)
            single = random.random() < 0.7
            for part in [[event] for event in events] if single else [events]:
                ids = [event["event_id"] for event in part]
                sent += ids
                try:
                    body = json.dumps(part[0] if single else part)
                    path = "/events" if single else "/events/batch"
                    connection.request("POST", path, body, {"Content-Type": "application/json"})
                    answer = connection.getresponse()
                    answer.read()
                except (OSError, http.client.HTTPException):
                    return
                if answer.status == 200:
                    acknowledged += ids


@pytest.mark.parametrize("round_", range(3))
def test_sigkill_in_the_middle_of_writes_loses_nothing_that_was_acknowledged(
    tmp_path: Path, any_database: str, round_: int
):
    acknowledged: list[str] = []
    sent: list[str] = []
    stop = threading.Event()
    with MonitorProcess(tmp_path, "--rate", "0", db=any_database) as monitor:
        threads = [threading.Thread(target=send_until, args=(monitor, stop, n, acknowledged, sent)) for n in range(6)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(acknowledged) > 150 + 100 * round_, "events to be acknowledged")
        monitor.end(signal.SIGKILL)
        stop.set()
        for thread in threads:
            thread.join()
    with MonitorProcess(tmp_path, db=any_database) as again:
        stored = stored_ids(again)
        assert len(stored) == len(set(stored))
        assert set(acknowledged) <= set(stored) <= set(sent)
        # Sums that are kept up with each event are those of the events.
        for simulation in again.get("/api/simulations").json["simulations"]:
            cells = again.get(f"/api/simulations/{simulation['row']}/pairs").json["pairs"]
            assert simulation["running"] == len(cells)
        # Senders repeat events without an answer, and the monitor accepts them.
        again.store([Story().start()])


def stored_ids(monitor: MonitorProcess) -> list[str]:
    found = []
    for simulation in monitor.get("/api/simulations").json["simulations"]:
        before = ""
        while True:
            path = f"/api/simulations/{simulation['row']}/events?all=1{before}"
            events = monitor.get(path).json["events"]
            if not events:
                break
            found += [entry["event"]["event_id"] for entry in events]
            before = f"&before={events[-1]['row']}"
    return found


def test_sigterm_stores_all_events_that_were_accepted(tmp_path: Path):
    acknowledged: list[str] = []
    sent: list[str] = []
    stop = threading.Event()
    with MonitorProcess(tmp_path, "--rate", "0") as monitor:
        threads = [threading.Thread(target=send_until, args=(monitor, stop, n, acknowledged, sent)) for n in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.7)
        assert monitor.end(signal.SIGTERM) == 0
        stop.set()
        for thread in threads:
            thread.join()
        assert "all acknowledged events are stored" in monitor.said()
    with MonitorProcess(tmp_path) as again:
        assert set(acknowledged) <= set(stored_ids(again))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        missing("a small file system cannot be mounted here (root is needed)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_reported_and_damages_nothing(tmp_path: Path, small_disk: Path):
    (small_disk / "ballast").write_bytes(b"\0" * (TMPFS_BYTES // 2))
    acknowledged: list[str] = []
    refused: list[dict[str, Any]] = []
    story = Story(configurations=1000, parameters={"long": "x" * 900})
    with MonitorProcess(tmp_path, "--rate", "0", db=str(small_disk / "monitor.sqlite")) as monitor:
        monitor.store([story.start()])
        for number in range(1000):
            events = story.job(0, number, 0, 50, 100)
            reply = monitor.post("/events/batch", events)
            if reply.status == 200:
                acknowledged += [event["event_id"] for event in events]
                continue
            refused = events
            break
        assert refused, "the disk was never full"
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        assert "full" in reply.json["error"]
        assert monitor.get("/healthz").status == 503
        assert "does not take events: database or disk is full. Senders get status 503 and try again." in monitor.said()
        # The page goes on.
        assert monitor.get("/").status == 200
        assert monitor.get("/simulations/1").status == 200
        assert set(acknowledged) <= set(stored_ids(monitor))
        # With room again the sender's next try is stored, without a restart.
        (small_disk / "ballast").unlink()
        assert monitor.post("/events/batch", refused).json == {"stored": len(refused), "duplicates": 0}
        assert monitor.get("/healthz").status == 200
        assert "the database takes events again" in monitor.said()
        monitor.end()
        with sqlite3.connect(monitor.db) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


def test_a_database_that_goes_away_comes_back(tmp_path: Path, postgresql: str, postgresql_database: str):
    """PostgreSQL ends every connection. One request may be answered by 503; the next ones are stored."""
    import psycopg

    story = Story()
    with MonitorProcess(tmp_path, db=postgresql_database) as monitor:
        monitor.store([story.start()])
        name = postgresql_database.rpartition("/")[2]
        with psycopg.connect(postgresql, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        statuses = [monitor.post("/", story.hook(f"E{n}")).status for n in range(3)]
        assert statuses[-1] == 200
        assert set(statuses) <= {200, 503}
        assert monitor.get("/").status == 200


def test_restarts_of_postgresql_under_load_lose_nothing(
    tmp_path: Path, postgresql_server: PostgresqlServer, postgresql_database: str
):
    """Senders and browsers get an answer to try again, in the middle of transactions too; the log has no tracebacks."""
    acknowledged: list[str] = []
    statuses: set[int] = set()
    stop = threading.Event()
    with MonitorProcess(tmp_path, "--rate", "0", db=postgresql_database) as monitor:

        def send(sender: int) -> None:
            story = Story(uid=f"sender {sender}", configurations=1000)
            for number in range(1000):
                events = story.job(0, number, 0, 50)
                while not stop.is_set():
                    status = monitor.post("/events/batch", events).status
                    statuses.add(status)
                    if status == 200:
                        acknowledged.extend(event["event_id"] for event in events)
                        break
                    time.sleep(0.05)

        def look() -> None:
            while not stop.is_set():
                for path in ("/", "/api/simulations", "/metrics", "/live"):
                    statuses.add(monitor.get(path).status)

        monitor.store([Story().start()])
        threads = [threading.Thread(target=send, args=(n,)) for n in range(3)]
        threads += [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for mode in ("fast", "immediate", "fast"):
                time.sleep(0.7)
                postgresql_server.stop(mode)
                try:
                    time.sleep(0.7)
                finally:
                    postgresql_server.start()
            time.sleep(1.0)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert statuses == {200, 503}
        assert "Traceback" not in monitor.said()
        stored = stored_ids(monitor)
        assert len(stored) == len(set(stored))
        assert set(acknowledged) <= set(stored)
        for simulation in monitor.get("/api/simulations").json["simulations"]:
            assert simulation["running"] == len(
                monitor.get(f"/api/simulations/{simulation['row']}/pairs").json["pairs"]
            )


def test_slow_clients_delay_no_other_client(tmp_path: Path):
    """200 connections that send a byte now and then, and 50 that never read their answer."""
    with MonitorProcess(tmp_path) as monitor:
        head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        slow = []
        for number in range(200):
            connection = socket.create_connection(("127.0.0.1", monitor.port))
            connection.sendall(head if number % 2 else head[: number % 60])
            slow.append(connection)
        deaf = []
        for _ in range(50):
            connection = socket.create_connection(("127.0.0.1", monitor.port))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(b"GET /static/monitor.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 20)
            deaf.append(connection)
        begin = time.monotonic()
        for n in range(20):
            for connection in slow[::7]:
                connection.sendall(b" ")
            assert monitor.post("/", Story().hook(f"E{n}")).status == 200
        require_within(10, begin, "20 events beside slow clients")
        for connection in [*slow, *deaf]:
            connection.close()


MANY = 1100
"""More than 1,024, the descriptors that select knows, and more than twice the 500 connections there were once."""


@contextlib.contextmanager
def soft_limit_of_open_files(number: int) -> Iterator[None]:
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def test_jobs_that_keep_their_connections_open_block_no_other_client(tmp_path: Path):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * MANY:
        missing(f"the hard limit of open files is {hard}, this needs {2 * MANY}")
    monitor = MonitorProcess(tmp_path)
    jobs: list[http.client.HTTPConnection] = []
    try:
        with soft_limit_of_open_files(256):
            # The monitor starts with a low limit, as in many shells, and raises it.
            monitor.__enter__()
        with soft_limit_of_open_files(2 * MANY):
            for _ in range(MANY):
                jobs.append(http.client.HTTPConnection("127.0.0.1", monitor.port, timeout=5))
                jobs[-1].request("GET", "/healthz")
                assert jobs[-1].getresponse().read()
            assert monitor.get("/healthz").status == 200
            assert monitor.post("/", Story().start()).status == 200
            for job in jobs[:: MANY // 20]:
                body = json.dumps(Story().start())
                job.request("POST", "/", body, {"Content-Type": "application/json"})
                assert job.getresponse().status == 200
            assert len(list(Path(f"/proc/{monitor.process.pid}/fd").iterdir())) > MANY, "none was closed meanwhile"
    finally:
        for job in jobs:
            job.close()
        monitor.end()


@pytest.mark.parametrize(
    ("soft", "hard", "set_to", "room"),
    [
        (1024, 1_000_000, 5200, 5000),
        (1024, resource.RLIM_INFINITY, 5200, 5000),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, 5000),
        (65_536, 65_536, None, 5000),
        (1024, 4096, 4096, 3896),
        (256, 300, 300, 150),
    ],
)
def test_the_limit_of_open_files_bounds_the_connections(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, set_to: int | None, room: int
):
    said: list[str] = []
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    assert server._room_for_connections(said.append) == room
    assert limits == ([] if set_to is None else [(set_to, hard)])
    assert len(said) == (room < 5000)
    assert [line for line in said if f"at most {room} connections" not in line] == []


def test_a_limit_of_open_files_that_cannot_be_raised_is_kept(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    said: list[str] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 65_536))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert server._room_for_connections(said.append) == 824
    assert "at most 824 connections" in said[0]


def memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def test_large_requests_are_refused_without_filling_the_memory(tmp_path: Path):
    with MonitorProcess(tmp_path) as monitor:
        assert monitor.process is not None
        monitor.store([Story().start()])
        before = memory_mb(monitor.process.pid)
        bodies = {
            "length": (b"Content-Length: 10000000\r\n\r\n", b"x" * 10_000_000),
            "chunks": (b"Transfer-Encoding: chunked\r\n\r\n", b"FFFF\r\n" + b"x" * 0xFFFF + b"\r\n"),
        }
        for name, (end, part) in bodies.items():
            for _ in range(8):
                with socket.create_connection(("127.0.0.1", monitor.port), timeout=10) as connection:
                    head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" + end
                    try:
                        connection.sendall(head)
                        for _ in range(160 if name == "chunks" else 1):
                            connection.sendall(part)
                        answer = connection.recv(100)
                    except (ConnectionResetError, BrokenPipeError):
                        continue
                    assert answer == b"" or answer.startswith(b"HTTP/1.1 413"), answer
        assert monitor.post("/", Story().start()).status == 200
        assert memory_mb(monitor.process.pid) - before < 40
