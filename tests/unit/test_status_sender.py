from __future__ import annotations

import base64
import json
import logging
import ssl
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from stemphony.status import sender as sender_module
from stemphony.status.sender import (
    THREAD_NAME,
    Answer,
    HttpTransport,
    Sender,
    Verdict,
    backoff_s,
    retry_after_s,
    verdict_on,
)
from stemphony.status.settings import ReportingSettings
from support.status_server import EchoServer, FaultServer, closed_port

CANARY = "CANARY-7f3a"


@pytest.fixture(autouse=True)
def _no_thread_stays():
    yield
    for thread in threading.enumerate():
        if thread.name == THREAD_NAME:
            thread.join(15)
            assert not thread.is_alive()


@pytest.fixture
def _quick(monkeypatch):
    monkeypatch.setattr(sender_module, "BACKOFF_BASE_S", 0.01)


def settings_for(url: str, **values) -> ReportingSettings:
    return ReportingSettings(reporting=True, url=url, **values)


def post(url: str, event=None, **values) -> Answer:
    transport = HttpTransport(settings_for(url, **values))
    try:
        return transport.post(event or {"event": "FINISH"})
    finally:
        transport.close()


# The table of outcomes.


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((200, 201, 202, 204, 299, 409), Verdict.ARRIVED),
        ((100, 101, 408, 425, 429, 500, 502, 503, 504, 599, 999), Verdict.AGAIN),
        ((400, 413, 415, 422), Verdict.NEVER),
        ((300, 301, 302, 303, 304, 307, 308, 401, 402, 403, 404, 405, 406, 407, 410, 418, 451), Verdict.STOP),
    ],
)
def test_verdict_on_every_status(statuses, verdict):
    assert {verdict_on(status) for status in statuses} == {verdict}


def test_retry_after():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after_s("5") == 5.0
    assert retry_after_s(" 21600 ") == 60.0
    assert retry_after_s("Thu, 01 Jan 2026 00:00:30 GMT", now) == 30.0
    assert retry_after_s("Thu, 01 Jan 2026 06:00:00 GMT", now) == 60.0
    assert retry_after_s("Wed, 31 Dec 2025 00:00:00 GMT", now) == 0.0
    for nonsense in (None, "", "soon", "-5", "1e9", "nan", "9" * 5000, "Thu, 99 Jan 2026", "٣"):
        assert retry_after_s(nonsense) is None


def test_backoff_grows_to_a_minute_with_full_jitter():
    for failures, limit in [(1, 0.5), (2, 1.0), (4, 4.0), (8, 60.0), (10_000, 60.0)]:
        drawn = [backoff_s(failures) for _ in range(500)]
        assert 0.0 <= min(drawn) < 0.2 * limit
        assert 0.8 * limit < max(drawn) <= limit


# One request.


def test_request_is_what_the_original_sends():
    event = {"event": "FINISH", "title": "Sr–Ti", "progress": 0.29}
    with EchoServer() as server:
        answer = post(server.url, event, parameters={"token": "ümlaut", "event": "OVERRIDE", "n": 1.5})
    assert answer == Answer(Verdict.ARRIVED, "status 200")
    (got,) = server.received
    assert got.method == "POST"
    assert got.headers["content-type"] == "application/json"
    assert "authorization" not in got.headers
    assert got.body.isascii()
    assert list(got.json.items()) == [*event.items(), ("token", "ümlaut"), ("n", 1.5)]


def test_basic_authentication_is_utf8():
    with EchoServer() as server:
        post(server.url, auth_user="Jürgen", auth_pass="pä:ß€wort")
    scheme, _, credentials = server.received[0].headers["authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(credentials).decode("utf-8") == "Jürgen:pä:ß€wort"


def test_password_without_user_is_not_sent():
    with EchoServer() as server:
        post(server.url, auth_pass=CANARY)
    assert "authorization" not in server.received[0].headers


def test_path_and_query_are_kept():
    with FaultServer("ok") as server:
        post(server.url + "stemsalabim-reporting?group=em")
    assert server.received[0].path == "/stemsalabim-reporting?group=em"


def test_event_that_json_cannot_say_is_refused():
    with FaultServer("ok") as server:
        for value in (float("nan"), float("inf"), object(), b"x"):
            assert post(server.url, {"x": value}).verdict is Verdict.NEVER
    assert server.received == []


@pytest.mark.parametrize("status", ["300", "301", "302", "303", "307", "308"])
def test_redirect_is_not_followed(status):
    with FaultServer("ok") as target, FaultServer(status, headers=[f"Location: {target.url}"]) as server:
        answer = post(server.url, auth_user="u", auth_pass=CANARY)
    assert answer == Answer(Verdict.STOP, f"status {status}")
    assert len(server.received) == 1
    assert target.connections == 0


def test_environment_is_ignored(monkeypatch, tmp_path):
    with EchoServer() as server, FaultServer("ok") as proxy:
        netrc = tmp_path / "netrc"
        netrc.write_text(f"machine 127.0.0.1 login {CANARY} password {CANARY}\ndefault login x password y\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
        assert post(server.url).verdict is Verdict.ARRIVED
        assert post(server.url, auth_user="u", auth_pass="p").verdict is Verdict.ARRIVED
    assert proxy.connections == 0
    assert "authorization" not in server.received[0].headers
    assert base64.b64decode(server.received[1].headers["authorization"].split()[1]) == b"u:p"


def test_connection_is_used_again_and_not_after_a_pause(monkeypatch):
    with FaultServer("ok") as server:
        transport = HttpTransport(settings_for(server.url))
        for _ in range(3):
            assert transport.post({}).verdict is Verdict.ARRIVED
        assert server.connections == 1
        monkeypatch.setattr(sender_module, "MAX_IDLE_CONNECTION_S", -1.0)
        transport.post({})
        assert server.connections == 2
        transport.close()


def test_cookies_are_not_kept():
    with FaultServer("ok", headers=["Set-Cookie: a=b; Path=/"]) as server:
        transport = HttpTransport(settings_for(server.url))
        transport.post({})
        transport.post({})
        transport.close()
    assert all("cookie" not in entry.headers for entry in server.received)


def test_refused_connection_is_tried_again():
    assert post(f"http://127.0.0.1:{closed_port()}/") == Answer(Verdict.AGAIN, "ConnectionError")


@pytest.mark.parametrize("mode", ["hang", "drip", "drip-body"])
def test_answer_has_a_deadline(mode, monkeypatch):
    monkeypatch.setattr(sender_module, "ANSWER_DEADLINE_S", 0.7)
    began = time.monotonic()
    with FaultServer(mode) as server:
        answer = post(server.url)
        took = time.monotonic() - began
    assert answer.verdict is (Verdict.ARRIVED if mode == "drip-body" else Verdict.AGAIN)
    assert took < 5.0


@pytest.mark.parametrize("mode", ["stores-then-fails", "garbage"])
def test_no_answer_is_tried_again(mode):
    with FaultServer(mode) as server:
        assert post(server.url) == Answer(Verdict.AGAIN, "ConnectionError")


@pytest.mark.parametrize(("mode", "verdict"), [("huge", Verdict.ARRIVED), ("huge-redirect", Verdict.STOP)])
def test_endless_answer_is_not_read(mode, verdict):
    with FaultServer(mode) as server:
        assert post(server.url).verdict is verdict
    # What the kernels took into their buffers, not what a reader would have taken.
    assert server.bytes_sent < 50_000_000


def test_library_logs_say_nothing_of_the_url(caplog):
    caplog.set_level(logging.DEBUG)
    with FaultServer("bad-header", "ok") as server:
        url = server.url + f"{CANARY}?token={CANARY}"
        transport = HttpTransport(settings_for(url, auth_user="u", auth_pass=CANARY))
        assert transport.post({}).verdict is Verdict.ARRIVED
        assert transport.post({}).verdict is Verdict.ARRIVED
        transport.close()
    logging.getLogger("urllib3.connectionpool").debug("of somebody else")
    assert CANARY not in caplog.text
    assert "urllib3" in caplog.text


@pytest.mark.parametrize("url", ["", "no url", "http://", "http://[::1/"])
def test_url_that_is_none_never_raises(url):
    assert post(url).verdict in (Verdict.STOP, Verdict.AGAIN)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += " -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    try:
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the openssl command")
    return folder


def test_tls_is_verified(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with FaultServer("ok", tls=context) as server:
        assert post(server.url) == Answer(Verdict.AGAIN, "SSLError")
        assert server.received == []
        assert post(server.url, ca_file=str(certificate / "cert.pem")).verdict is Verdict.ARRIVED
        assert post(server.url.replace("127.0.0.1", "localhost"), ca_file=str(certificate / "cert.pem")) == Answer(
            Verdict.AGAIN, "SSLError"
        )
    assert len(server.received) == 1


def test_deadline_holds_over_tls(certificate, monkeypatch):
    monkeypatch.setattr(sender_module, "ANSWER_DEADLINE_S", 0.7)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with FaultServer("drip", tls=context) as server:
        assert post(server.url, ca_file=str(certificate / "cert.pem")).verdict is Verdict.AGAIN


def test_ca_file_that_vanished_is_not_fatal(tmp_path):
    answer = post(f"https://127.0.0.1:{closed_port()}/", ca_file=str(tmp_path / "none.pem"))
    assert answer.verdict is Verdict.AGAIN


# The thread.


def filled(url: str, number: int = 3, **values) -> Sender:
    sender = Sender(settings_for(url, **values))
    for seq in range(number):
        sender.put({"seq": seq})
    return sender


def test_order_is_kept():
    with EchoServer() as server:
        sender = filled(server.url, 50)
        assert sender.flush(20.0)
        sender.stop()
    assert [event["seq"] for event in server.events] == list(range(50))


@pytest.mark.parametrize("mode", ["500", "503", "429", "408", "stores-then-fails", "garbage"])
@pytest.mark.usefixtures("_quick")
def test_passing_fault_keeps_the_event_at_the_head(mode):
    with FaultServer(mode, mode, "ok", mode, "ok") as server:
        sender = filled(server.url)
        assert sender.flush(20.0, patient=True)
        sender.stop()
        assert [event["seq"] for event in server.events] == [0, 0, 0, 1, 1, 2]
    assert len(sender.notices()) == 1
    assert sender.notices() == []


@pytest.mark.parametrize("mode", ["400", "413", "415", "422"])
def test_event_that_is_refused_does_not_hold_the_others(mode):
    with FaultServer("ok", mode, "ok") as server:
        sender = filled(server.url)
        assert not sender.flush(20.0)
        sender.stop()
        assert [event["seq"] for event in server.events] == [0, 1, 2]
    (notice,) = sender.notices()
    assert f"status {mode}" in notice


@pytest.mark.parametrize("mode", ["301", "302", "307", "401", "403", "404", "405", "410"])
def test_wrong_configuration_stops_the_sender(mode):
    with FaultServer(mode) as server:
        sender = filled(server.url + f"{CANARY}?token={CANARY}", auth_user=CANARY, auth_pass=CANARY)
        assert not sender.flush(20.0, patient=True)
        sender.put({"seq": 3})
        assert not sender.flush(20.0)
        sender.stop()
        assert len(server.received) == 1
    (notice,) = sender.notices()
    assert f"status reports: status {mode};" in notice
    assert "127.0.0.1" not in notice
    assert CANARY not in notice


def test_retry_after_is_obeyed_and_not_waited_for():
    with FaultServer("503", headers=["Retry-After: 21600"]) as server:
        sender = filled(server.url)
        assert server.wait_for(1)
        began = time.monotonic()
        # The next attempt is a minute away, behind the deadline: patience would be wasted.
        assert not sender.flush(20.0, patient=True)
        assert time.monotonic() - began < 10.0
        sender.stop()
        assert len(server.received) == 1


def test_patience_cuts_pauses_short(monkeypatch):
    monkeypatch.setattr(sender_module, "backoff_s", lambda failures: 60.0)
    with FaultServer("500", "500", "ok") as server:
        sender = filled(server.url, 1)
        assert server.wait_for(1)
        # Without patience the second attempt would be a minute away.
        assert sender.flush(5.0, patient=True)
        sender.stop()
        assert len(server.received) == 3


def test_impatient_flush_returns_at_once_after_a_failure():
    sender = filled(f"http://127.0.0.1:{closed_port()}/")
    began = time.monotonic()
    assert not sender.flush(30.0)
    assert time.monotonic() - began < 10.0
    sender.stop()


def test_impatient_flush_leaves_an_unanswered_attempt_after_two_seconds():
    with FaultServer("hang") as server:
        sender = filled(server.url)
        began = time.monotonic()
        assert not sender.flush(30.0)
        first = time.monotonic() - began
        assert not sender.flush(30.0)
        second = time.monotonic() - began - first
        sender.stop()
    assert first < 4.5
    assert second < 1.5


def test_flush_obeys_its_deadline():
    with FaultServer("hang") as server:
        sender = filled(server.url)
        for patient in (False, True):
            began = time.monotonic()
            assert not sender.flush(0.2, patient=patient)
            assert time.monotonic() - began < 3.0
        assert not sender.flush(-1.0)
        sender.stop()


def test_slow_answers_are_waited_for():
    with FaultServer("ok-slowly") as server:
        sender = filled(server.url)
        assert sender.flush(20.0)
        sender.stop()


def test_queue_is_bounded(monkeypatch):
    monkeypatch.setattr(sender_module, "QUEUE_LENGTH", 5)
    with FaultServer("hang") as server:
        sender = filled(server.url, 9)
        assert len(sender._queue) == 5
        sender.stop()
    assert any("more than 5" in notice for notice in sender.notices())


def test_requests_that_cannot_be_imported_stop_the_sender():
    def broken(settings):
        raise ImportError(CANARY)

    sender = Sender(settings_for("http://127.0.0.1:1/"), transport=broken)
    sender.put({"seq": 0})
    assert not sender.flush(20.0, patient=True)
    sender.stop()
    (notice,) = sender.notices()
    assert "ImportError" in notice
    assert CANARY not in notice


def test_thread_that_cannot_start_stops_the_sender(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    sender = filled("http://127.0.0.1:1/")
    assert not sender.flush(20.0, patient=True)
    sender.stop()
    assert len(sender.notices()) == 1


def test_sender_takes_any_transport():
    class Memory:
        taken: list[dict] = []  # noqa: RUF012

        def __init__(self, settings):
            self.closed = False

        def post(self, event):
            self.taken.append(json.loads(json.dumps(event)))
            return Answer(Verdict.ARRIVED, "kept")

        def close(self):
            self.closed = True

    sender = Sender(settings_for("http://127.0.0.1:1/"), transport=Memory)
    sender.put({"seq": 0})
    assert sender.flush(20.0)
    sender.stop()
    assert Memory.taken == [{"seq": 0}]
