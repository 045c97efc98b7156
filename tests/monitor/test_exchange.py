"""A server that hangs or drips delays only its own target, and only for a limited time."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from stemphony.monitor.database.connection import Database
from stemphony.monitor.intake.incoming import read_batch
from stemphony.monitor.intake.writer import Writer
from stemphony.monitor.notify.delivery import DeliveryResult, NextStep, deliver
from stemphony.monitor.notify.exchange import Exchange
from stemphony.monitor.notify.notice import Notice
from stemphony.monitor.notify.notifier import Notifier
from stemphony.monitor.notify.targets import Target, TargetSettings
from support.campaign import wait_for
from support.monitor import MonitorProcess, Story
from support.status_server import FaultServer
from support.time_limit import require_within

NOTICE = Notice(
    kind="finished", title="t", uid="u", row=1, run=1, percent=100, finished=1, total=1, num_failed=0, message="",
    silent_s=0.0, link="",
)  # fmt: skip
IN_TIME = DeliveryResult(NextStep.RETRY, "no answer in time")

PATIENCE_S = 10.0
"""Of tests, with a deadline of half a second; the servers below would go on for ever."""


class Dripper:
    """A server that sends a text, then a letter every 0.1 s without end, whatever it receives."""

    def __init__(self, *replies: bytes) -> None:
        self._replies = replies
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = self._listener.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            for number, reply in enumerate(self._replies):
                if number:
                    connection.recv(1000)
                connection.sendall(reply)
            while not self._stop.wait(0.1):
                connection.sendall(b"2")


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port whose queue is full: it neither accepts nor refuses a further connection."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield int(listener.getsockname()[1])


def webhook(url: str) -> Target:
    return Target("t", "json", frozenset(), url=url)


def mailbox(port: int, security: str = "none") -> Target:
    return Target(
        "m", "email", frozenset(), host="127.0.0.1", port=port, security=security, sender="a@b", recipients=("c@d",)
    )


def within_patience(work: Callable[[], DeliveryResult]) -> DeliveryResult:
    """Do something that might never end."""
    found: list[DeliveryResult] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert found, f"no end after {PATIENCE_S:.0f} s"
    return found[0]


def tell(target: Target) -> DeliveryResult:
    """Tell a target within half a second."""

    def work() -> DeliveryResult:
        with Exchange(0.5) as exchange:
            return deliver(target, NOTICE, exchange)

    return within_patience(work)


@pytest.mark.parametrize("mode", ["hang", "drip-status"])
def test_an_exchange_with_a_webhook_has_one_deadline(mode: str):
    with FaultServer(mode) as server:
        assert tell(webhook(server.url)) == IN_TIME


@pytest.mark.parametrize("mode", ["drip", "drip-body"])
def test_the_status_of_a_webhook_decides_even_if_the_rest_of_the_answer_is_slow(mode: str):
    with FaultServer(mode) as server:
        assert tell(webhook(server.url)) == DeliveryResult(NextStep.DONE)


def test_the_deadline_also_ends_a_slow_tls_handshake():
    # The beginning of an answer to a handshake, of 16 kB.
    with Dripper(b"\x16\x03\x03\x40\x00") as server:
        assert tell(webhook(f"https://127.0.0.1:{server.port}/")) == IN_TIME
        assert tell(mailbox(server.port, "tls")) == IN_TIME


HELLO = b"250-here\r\n250 STARTTLS\r\n"


@pytest.mark.parametrize(
    ("security", "replies"),
    [
        ("none", [b""]),
        ("none", [b"220 here\r\n", b"250-"]),
        ("none", [b"220 here\r\n", b"250 here\r\n", b"250 from\r\n", b"250 to\r\n", b"354 go on\r\n", b"250-"]),
        ("starttls", [b"220 here\r\n", HELLO, b"220 TLS\r\n", b"\x16\x03\x03\x40\x00"]),
    ],
    ids=["banner", "hello", "data", "starttls"],
)
def test_an_exchange_with_a_mail_server_has_one_deadline(security: str, replies: list[bytes]):
    with Dripper(*replies) as server:
        assert tell(mailbox(server.port, security)) == IN_TIME
        assert server.connections == 1


def test_a_mail_that_the_server_accepted_counts_as_sent_even_if_its_goodbye_is_slow():
    replies = [b"220 x\r\n", b"250 x\r\n", b"250 x\r\n", b"250 x\r\n", b"354 x\r\n", b"250 taken\r\n", b"221-"]
    with Dripper(*replies) as server:
        assert tell(mailbox(server.port)) == DeliveryResult(NextStep.DONE)


def test_the_deadline_also_ends_a_connection_that_is_never_accepted(deaf_port: int):
    assert tell(webhook(f"http://127.0.0.1:{deaf_port}/")) == IN_TIME
    assert tell(mailbox(deaf_port)) == IN_TIME


def test_a_hanging_address_leaves_time_for_the_next_one(monkeypatch: pytest.MonkeyPatch, deaf_port: int):
    with FaultServer("ok") as server:
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (deaf_port, server.port)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        with Exchange(4.0) as exchange:
            assert deliver(webhook("http://two.example/"), NOTICE, exchange) == DeliveryResult(NextStep.DONE)


def test_the_deadline_includes_the_time_of_name_resolution(monkeypatch: pytest.MonkeyPatch):
    asked = socket.getaddrinfo

    def slow(*arguments: Any, **keys: Any) -> Any:
        time.sleep(1.0)
        return asked(*arguments, **keys)

    with FaultServer("ok") as server:
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        assert tell(webhook(server.url)) == IN_TIME
        assert server.connections == 0


def test_another_thread_can_end_an_exchange(deaf_port: int):
    """An exchange ends while it connects or waits for an answer. One that was ended before does not begin."""
    with FaultServer("hang") as server:
        for url in (server.url, f"http://127.0.0.1:{deaf_port}/"):
            with Exchange(60.0) as exchange:
                clock = threading.Timer(0.3, exchange.cut)
                clock.start()
                assert (
                    within_patience(lambda url=url, exchange=exchange: deliver(webhook(url), NOTICE, exchange))
                    == IN_TIME
                )
                clock.join()
                taken = server.connections
                assert deliver(webhook(server.url), NOTICE, exchange) == IN_TIME
            assert server.connections == taken


def test_a_hanging_resolver_does_not_delay_the_end_of_the_monitor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Name resolution cannot be interrupted. Its thread stays behind, and its notification stays due."""
    asked, answer = threading.Event(), threading.Event()

    def hang(*_arguments: Any, **_keys: Any) -> Any:
        asked.set()
        answer.wait()
        raise socket.gaierror

    with Database.open(str(tmp_path / "m.sqlite")) as database:
        kinds = frozenset({"finished"})
        settings = TargetSettings((Target("t", "json", kinds, url="http://somewhere.example/"),))
        said: list[str] = []
        notifier = Notifier(settings, database, said.append)
        writer = Writer(database, notifier.rows)
        writer.store(read_batch(json.dumps(Story().whole()).encode(), time.time()))
        monkeypatch.setattr(socket, "getaddrinfo", hang)
        notifier.start(writer)
        assert asked.wait(60)
        begin = time.monotonic()
        notifier.close()
        require_within(PATIENCE_S, begin, "the end of a notifier whose resolver hangs")
        left = [thread for thread in threading.enumerate() if thread.name == "stemphony-notify-t"]
        assert [thread.daemon for thread in left] == [True]
        answer.set()
        left[0].join(60)
        writer.close()
        assert due(str(tmp_path / "m.sqlite")) == [("t", 0)]
        assert not said


def due(database: str) -> list[tuple[str, int]]:
    """Targets that are yet to be told, and how often it was tried."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        question = "SELECT target, tries FROM notification WHERE due IS NOT NULL ORDER BY target"
        return connection.execute(question).fetchall()


def test_hanging_targets_delay_no_other_target_and_are_notified_by_the_next_monitor(tmp_path: Path):
    """A hanging webhook, a slow webhook and a slow mail server come before a working target."""
    file = tmp_path / "notify.yaml"
    with (
        FaultServer("hang", "ok") as hanging,
        FaultServer("drip-status", "ok") as dripping,
        Dripper() as mail_server,
        FaultServer("ok") as well,
    ):
        mail = f"format: email, host: 127.0.0.1, port: {mail_server.port}, security: none, from: a@b.org, to: c@d.org"
        targets = [
            f"{{name: hanging, url: '{hanging.url}'}}", f"{{name: dripping, url: '{dripping.url}'}}",
            f"{{name: mail, {mail}}}", f"{{name: well, url: '{well.url}'}}",
        ]  # fmt: skip
        file.write_text(f"targets: [{', '.join(targets)}]", encoding="utf-8")
        with MonitorProcess(tmp_path, "--notify", str(file)) as monitor:
            begin = time.monotonic()
            for number in range(3):
                monitor.store(Story(title=f"Simulation {number}").whole())
            assert well.wait_for(3, timeout_s=60), monitor.said()
            assert hanging.wait_for(1)
            assert dripping.wait_for(1)
            wait_for(lambda: mail_server.connections, "the mail server")
            # The deadline of 20 s must not be over, or this shows nothing.
            require_within(18, begin, "the notification of the target that works")
            begin = time.monotonic()
            assert monitor.end(signal.SIGTERM) == 0
            require_within(PATIENCE_S, begin, "the end of a monitor with hanging targets")
            assert "all acknowledged events are stored" in monitor.said()
            assert "notification" not in monitor.said()
        assert due(monitor.db) == [(target, 0) for target in ("dripping", "hanging", "mail") for _ in range(3)]
        with MonitorProcess(tmp_path, "--notify", str(file)) as monitor:
            for server in (hanging, dripping):
                assert server.wait_for(1 + 3, timeout_s=60), monitor.said()
            wait_for(lambda: {target for target, _ in due(monitor.db)} == {"mail"}, "all but the mail to be told")
        for server, tries in ((hanging, 1), (dripping, 1), (well, 0)):
            titles = [entry.json["title"] for entry in server.received[tries:]]
            assert titles == ["Simulation 0", "Simulation 1", "Simulation 2"]
