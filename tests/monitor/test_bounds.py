"""Answers are bounded, and neither a reader nor a locked database stops events and health."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from stemphony.monitor.database import simulations
from stemphony.monitor.intake.writer import WriterLimits
from stemphony.monitor.web import bounds, lanes
from stemphony.monitor.web.lanes import ClientLimits
from support.campaign import wait_for
from support.monitor import MonitorProcess, Story
from support.time_limit import require_within

from monitor.conftest import Inside, monitor_of

LONG = 'é<"&' * 1000
"""Text that becomes longer in JSON, in HTML and in links."""


# --- the size of an answer -------------------------------------------------------------------------------------------


@pytest.fixture
def flooded(monitor: Inside) -> Inside:
    """One writer fills the list: simulations with the longest texts and parameters, and a large grid."""
    for number in range(simulations.PER_PAGE + 5):
        story = Story(title=LONG[:4096], configurations=1000, defoci=tuple(map(float, range(12))))
        wide = {f"{number} {n} {LONG[:150]}": LONG[: 190 if number % 10 else 2000] for n in range(9)}
        story.parameters = wide
        start = {**story.start(), "version": LONG[:4000]}
        failed = story.hook("FAILED", message=LONG[:2000], failed=[], num_failed=0, num_never_ran=0)
        for event in (start, failed):
            body = json.dumps(event, ensure_ascii=False).encode()
            assert monitor.client.post("/", data=body, content_type="application/json").status_code == 200
    return monitor


def test_lists_are_bounded_for_any_number_of_simulations(flooded: Inside):
    for path in ("/", "/live", "/api/simulations", "/api/simulations/1", "/simulations/1", "/simulations/1/live"):
        answer = flooded.client.get(path)
        assert answer.status_code == 200
        assert len(answer.data) < bounds.ANSWER_BYTES, path
    first = flooded.client.get("/api/simulations").json
    assert first["next"] == 1
    second = flooded.client.get("/api/simulations?page=1").json
    rows = {entry["row"] for answer in (first, second) for entry in answer["simulations"]}
    assert (len(rows), second["next"]) == (simulations.PER_PAGE + 5, None)


def test_the_page_of_one_simulation_is_bounded(monitor: Inside):
    story = Story(configurations=500, defoci=tuple(map(float, range(40))))
    long = LONG[:2000]
    monitor.store([story.start()])
    for defocus in range(40):
        jobs = [story.job(defocus, number, end=long) for number in range(0, 500, 60)]
        monitor.store([event for job in jobs for event in job])
    for path in ("/simulations/1", "/simulations/1/live", "/simulations/1/live?since=1", "/simulations/1/events"):
        assert len(monitor.client.get(path).data) < bounds.ANSWER_BYTES, path


def test_pages_of_events_are_bounded_by_their_size_in_bytes(monitor: Inside):
    story = Story()
    for number in range(60):
        event = {**story.hook(f"NOTE {number}"), "note": "é" * 30_000}
        body = json.dumps(event, ensure_ascii=False).encode()
        assert monitor.client.post("/", data=body, content_type="application/json").status_code == 200
    found: list[int] = []
    before: int | None = 0
    while before is not None:
        answer = monitor.client.get(f"/api/simulations/1/events?all=1&before={before}")
        assert len(answer.data) < bounds.ANSWER_BYTES
        found += [entry["row"] for entry in answer.json["events"]]
        before = answer.json["next"]
    assert found == sorted(range(1, 61), reverse=True)


def test_pairs_are_paged(any_monitor: Inside, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bounds, "PAIRS_PER_PAGE", 5)
    story = Story()
    any_monitor.store(story.whole())
    found: list[tuple[float, int]] = []
    following = ""
    while following is not None:
        answer = any_monitor.client.get("/api/simulations/1/pairs", query_string={"after": following}).json
        assert len(answer["pairs"]) <= 5
        found += [(pair["defocus"], pair["configuration"]) for pair in answer["pairs"]]
        following = answer["next"]
    assert len(found) == len(set(found)) == 12
    assert any_monitor.client.get("/api/simulations/1/pairs?after=x").status_code == 400


def test_a_full_page_of_pairs_is_below_the_bound():
    pair = {
        "defocus_key": "x" * 30, "defocus": -123456.789, "configuration": 999_999, "state": "finished", "percent": 100,
        "attempt": 2**53,
    }  # fmt: skip
    assert bounds.PAIRS_PER_PAGE * (len(json.dumps(pair, separators=(",", ":"))) + 1) < bounds.ANSWER_BYTES


# --- readers that do not read ----------------------------------------------------------------------------------------

PLAIN = {"Content-Type": "application/json"}


def ask(port: int, path: str, body: Any = None, timeout: float = 5.0) -> tuple[int, float]:
    """Return the status of an answer and how long it took [s]."""
    begin = time.monotonic()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)) as connection:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(body), PLAIN)
        answer = connection.getresponse()
        answer.read()
    return answer.status, time.monotonic() - begin


@pytest.fixture
def large(tmp_path: Path) -> Iterator[MonitorProcess]:
    """A monitor with a simulation of 8,000 pairs."""
    with MonitorProcess(tmp_path, "--rate", "0") as monitor:
        story = Story(configurations=4000, defoci=(0.0, 1.0))
        monitor.store([story.start(), *(story.job(d, c)[0] for d in range(2) for c in range(4000))])
        yield monitor


def deaf(monitor: MonitorProcess, request: bytes, times: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", monitor.port))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(request * times)
    return connection


def test_clients_that_read_no_answer_delay_neither_events_nor_health(large: MonitorProcess):
    """Each client asks for more than 40 MB. Sixteen of them would block all threads."""
    request = b"GET /api/simulations/1/pairs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    connections = [deaf(large, request, 80) for _ in range(40)]
    try:
        time.sleep(1)
        for number in range(10):
            assert ask(large.port, "/healthz")[0] == 200
            assert ask(large.port, "/", Story().hook(f"E{number}"))[0] == 200
        assert ask(large.port, "/api/simulations", timeout=30)[0] == 200
    finally:
        for connection in connections:
            connection.close()


def test_answers_larger_than_all_buffers_block_no_thread_of_events_and_health():
    """Even with unbounded answers, only the threads of pages wait for readers."""
    body = b"x" * 20_000_000

    def application(environment: Any, start_response: Any) -> list[bytes]:
        answer = body if environment["PATH_INFO"] == "/large" else b"ok"
        start_response("200 OK", [("Content-Length", str(len(answer)))])
        return [answer]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = lanes.make_server(listener, application, 100, 30.0)
        threading.Thread(target=server.run, daemon=True).start()
        connections = []
        for _ in range(20):
            connections.append(socket.create_connection(("127.0.0.1", port)))
            connections[-1].sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        time.sleep(2)
        try:
            for _ in range(5):
                assert ask(port, "/healthz")[0] == 200
                assert ask(port, "/", {})[0] == 200
                assert ask(port, "/page")[0] == 200
        finally:
            for connection in connections:
                connection.close()
            server.task_dispatcher.shutdown()
            server.close()


def test_pages_that_wait_for_the_database_block_no_thread_of_events_and_health():
    """More requests for pages than there are threads of all lanes, and none is answered."""
    release = threading.Event()

    def application(environment: Any, start_response: Any) -> list[bytes]:
        if environment["PATH_INFO"] == "/page":
            release.wait(60)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as opened:
        port = listener.getsockname()[1]
        server = lanes.make_server(listener, application, 100, 30.0)
        threading.Thread(target=server.run, daemon=True).start()
        try:
            for _ in range(sum(lanes.THREADS.values()) + 5):
                connection = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
                connection.sendall(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(0.5)
            for _ in range(5):
                assert ask(port, "/healthz")[0] == 200
                assert ask(port, "/", {})[0] == 200
        finally:
            release.set()
            server.task_dispatcher.shutdown()
            server.close()


def test_a_reader_that_takes_no_answer_is_cut_off():
    body = b"x" * 20_000_000

    def application(_environment: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = lanes.make_server(listener, application, 100, 30.0, ClientLimits(take_answer_s=1.0))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=20) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_for(lambda: server.active_channels, "the connection")
            wait_for(lambda: not server.active_channels, "the end of the connection")
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while part := connection.recv(1_000_000):
                    received += len(part)
        assert received < len(body)
        server.task_dispatcher.shutdown()
        server.close()


@contextlib.contextmanager
def small_server(connections: int, limits: ClientLimits) -> Iterator[int]:
    """A server with few connections that answers everything; its port."""

    def application(_environment: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        server = lanes.make_server(listener, application, connections, 30.0, limits)
        threading.Thread(target=server.run, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.task_dispatcher.shutdown()
            server.close()


def is_cut(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


SLOW_REQUESTS = [
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
    b"",
]


@pytest.mark.parametrize("begin", SLOW_REQUESTS, ids=["header", "body", "nothing"])
def test_clients_that_complete_no_request_leave_room_for_others(begin: bytes):
    """The attack: all connections are in use, and each sends one byte from time to time, so none is silent."""
    with small_server(20, ClientLimits(room_after_s=1.0)) as port, contextlib.ExitStack() as opened:
        slow = [opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(30)]
        for connection in slow:
            connection.sendall(begin)
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(0.2):
                for connection in slow:
                    with contextlib.suppress(OSError):
                        connection.sendall(b"x" if begin else b"")

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            for _ in range(3):
                assert ask(port, "/healthz", timeout=20)[0] == 200
                assert ask(port, "/", {}, timeout=20)[0] == 200
        finally:
            stop.set()
            thread.join()


def test_an_endless_request_is_cut_off_and_an_active_connection_is_kept():
    with small_server(20, ClientLimits(send_request_s=2.0)) as port, contextlib.ExitStack() as opened:
        slow = [opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in SLOW_REQUESTS[:2]]
        living = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        opened.callback(living.close)
        for connection, begin in zip(slow, SLOW_REQUESTS, strict=False):
            connection.sendall(begin)
        end = time.monotonic() + 6
        while time.monotonic() < end:
            living.request("GET", "/healthz")
            assert living.getresponse().read() == b"ok"
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.sendall(b"x")
            time.sleep(0.3)
        assert living.sock is not None
        kept = [number for number, connection in enumerate(slow) if not is_cut(connection)]
        assert kept == [], f"of {len(slow)} endless requests, these were not cut off"


def test_a_length_of_5000_digits_is_refused(tmp_path: Path):
    with MonitorProcess(tmp_path) as monitor:
        for digits in (5000, 4301, 20):
            with socket.create_connection(("127.0.0.1", monitor.port), timeout=10) as connection:
                head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {'9' * digits}\r\n\r\n"
                connection.sendall(head.encode())
                assert connection.recv(100).startswith((b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 413"))
        assert "Traceback" not in monitor.said()
        assert ask(monitor.port, "/healthz")[0] == 200


# --- a database that is locked ---------------------------------------------------------------------------------------


def require_prompt_while_locked(monitor: MonitorProcess) -> None:
    """Health is answered within a second, and each of many senders within the 5 s that it waits."""
    answers: list[tuple[int, float]] = []
    pages: list[tuple[int, float]] = []
    senders = [
        threading.Thread(target=lambda n=n: answers.append(ask(monitor.port, "/", Story().hook(f"E{n}"), 30)))
        for n in range(30)
    ]
    readers = [
        threading.Thread(target=lambda: pages.append(ask(monitor.port, "/api/simulations", None, 60)))
        for _ in range(20)
    ]
    for thread in [*senders, *readers]:
        thread.start()
    health: list[int] = []
    until = time.monotonic() + 6
    while time.monotonic() < until:
        status, took = ask(monitor.port, "/healthz")
        health.append(status)
        assert took < 1.0
        time.sleep(0.2)
    for thread in [*senders, *readers]:
        thread.join()
    assert health[-1] == 503
    assert {status for status, _ in answers} == {503}
    # A sender gives up after 5 s; the rest is allowed for the machine of the test.
    assert max(took for _, took in answers) < 7.0
    assert {status for status, _ in pages} <= {200, 503}


@pytest.mark.slow
def test_a_locked_file_gives_503_in_time(tmp_path: Path):
    with MonitorProcess(tmp_path) as monitor:
        monitor.store([Story().start()])
        with contextlib.closing(sqlite3.connect(monitor.db, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            require_prompt_while_locked(monitor)
            other.execute("ROLLBACK")
        wait_for(lambda: ask(monitor.port, "/healthz")[0] == 200, "the monitor to use the unlocked file", 30)
        assert monitor.post("/", Story().start()).status == 200


@pytest.mark.slow
def test_locked_tables_give_503_in_time(tmp_path: Path, postgresql_database: str):
    import psycopg

    with MonitorProcess(tmp_path, db=postgresql_database) as monitor:
        monitor.store([Story().start()])
        with psycopg.connect(postgresql_database) as other:
            other.execute("LOCK TABLE event, simulation, credential IN ACCESS EXCLUSIVE MODE")
            require_prompt_while_locked(monitor)
            other.rollback()
        wait_for(lambda: monitor.post("/", Story().start()).status == 200, "the monitor to use unlocked tables", 30)


def test_the_health_page_reports_a_transaction_that_hangs(tmp_path: Path):
    with monitor_of(str(tmp_path / "monitor.sqlite"), WriterLimits(stuck_s=0.1)) as monitor:
        free = threading.Event()
        hanging = threading.Thread(target=lambda: monitor.writer.run(lambda _: free.wait(30)))
        hanging.start()
        try:
            time.sleep(0.3)
            assert monitor.client.get("/healthz").status_code == 503
        finally:
            free.set()
            hanging.join()
        assert monitor.client.get("/healthz").status_code == 200


def test_unreadable_credentials_delay_no_request(any_monitor: Inside, monkeypatch: pytest.MonkeyPatch):
    assert any_monitor.client.get("/api/simulations").status_code == 200
    free = threading.Event()
    from stemphony.monitor.web import gate

    monkeypatch.setattr(gate, "listed", lambda _: free.wait(30) and [])
    any_monitor.services.gate._read_at = -100.0
    begin = time.monotonic()
    assert any_monitor.client.get("/api/simulations").status_code == 200
    assert any_monitor.client.post("/", json=Story().start()).status_code == 200
    require_within(20, begin, "two requests while credentials cannot be read")
    free.set()


def test_a_monitor_that_ends_waits_for_credentials_that_are_being_read(
    any_monitor: Inside, monkeypatch: pytest.MonkeyPatch
):
    """A connection in use when the database is closed would stay open."""
    from stemphony.monitor.web import gate

    free = threading.Event()
    monkeypatch.setattr(gate, "listed", lambda _: free.wait(30) and [])
    keeper = any_monitor.services.gate
    request = threading.Thread(target=keeper.credentials)
    request.start()
    wait_for(lambda: any_monitor.database.reader.pool.checkedout() == 1, "the connection")  # type: ignore[attr-defined]
    end = threading.Thread(target=keeper.close)
    end.start()
    end.join(0.1)
    assert end.is_alive()
    free.set()
    for thread in (end, request):
        thread.join(10)
    assert any_monitor.database.reader.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_readers_of_postgresql_have_a_time_limit(any_monitor: Inside):
    if any_monitor.database.is_sqlite:
        return
    with any_monitor.database.reader.begin() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "10s"
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "2s"
