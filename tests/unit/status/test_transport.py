"""One HTTP request with an event: its form, its limits, and the meaning of each answer."""

from __future__ import annotations

import base64
import logging
import ssl
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from stemphony.status.limits import LIMITS, Limits
from stemphony.status.settings import ReportingSettings
from stemphony.status.transport import Answer, HttpTransport, Verdict, retry_after_s, verdict_on
from support.status_server import EchoServer, FaultServer, closed_port

CANARY = "CANARY-7f3a"


def settings_for(url: str, **values) -> ReportingSettings:
    return ReportingSettings(reporting=True, url=url, **values)


IMPATIENT = Limits(answer_s=0.7)


def post(url: str, event=None, limits: Limits = LIMITS, **values) -> Answer:
    transport = HttpTransport(settings_for(url, **values), limits)
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
def test_every_http_status_has_its_verdict(statuses, verdict):
    assert {verdict_on(status) for status in statuses} == {verdict}


def test_retry_after_is_read_in_seconds_or_as_a_date_up_to_a_minute():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after_s("5") == 5.0
    assert retry_after_s(" 21600 ") == 60.0
    assert retry_after_s("Thu, 01 Jan 2026 00:00:30 GMT", now) == 30.0
    assert retry_after_s("Thu, 01 Jan 2026 06:00:00 GMT", now) == 60.0
    assert retry_after_s("Wed, 31 Dec 2025 00:00:00 GMT", now) == 0.0
    for nonsense in (None, "", "soon", "-5", "1e9", "nan", "9" * 5000, "Thu, 99 Jan 2026", "٣"):
        assert retry_after_s(nonsense) is None


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


def test_an_event_that_json_cannot_hold_is_refused():
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


@pytest.mark.parametrize(("idle_connection_s", "connections"), [(60.0, 1), (-1.0, 3)])
def test_a_connection_is_used_again_until_it_was_idle_for_too_long(idle_connection_s, connections):
    with FaultServer("ok") as server:
        transport = HttpTransport(settings_for(server.url), Limits(idle_connection_s=idle_connection_s))
        for _ in range(3):
            assert transport.post({}).verdict is Verdict.ARRIVED
        assert server.connections == connections
        transport.close()


def test_cookies_are_not_kept():
    with FaultServer("ok", headers=["Set-Cookie: a=b; Path=/"]) as server:
        transport = HttpTransport(settings_for(server.url))
        transport.post({})
        transport.post({})
        transport.close()
    assert [entry for entry in server.received if "cookie" in entry.headers] == []


def test_refused_connection_is_tried_again():
    assert post(f"http://127.0.0.1:{closed_port()}/") == Answer(Verdict.AGAIN, "connection refused")


@pytest.mark.parametrize("mode", ["hang", "drip", "drip-body"])
def test_answer_has_a_deadline(mode):
    began = time.monotonic()
    with FaultServer(mode) as server:
        answer = post(server.url, limits=IMPATIENT)
        took = time.monotonic() - began
    assert answer.verdict is (Verdict.ARRIVED if mode == "drip-body" else Verdict.AGAIN)
    assert answer.slow is (mode == "drip-body")
    assert took < 5.0


@pytest.mark.parametrize(
    ("mode", "what"),
    [
        ("stores-then-fails", "connection closed without an answer"),
        ("garbage", "answer is not HTTP"),
        ("endless-headers", "headers of the answer do not end"),
        ("endless-header", "headers of the answer do not end"),
    ],
)
def test_no_answer_is_tried_again(mode, what):
    with FaultServer(mode) as server:
        assert post(server.url) == Answer(Verdict.AGAIN, what)


def test_an_answer_that_ends_is_not_called_slow():
    for mode in ("ok", "ok-slowly", "huge", "500"):
        with FaultServer(mode) as server:
            assert not post(server.url).slow


@pytest.mark.parametrize(("mode", "verdict"), [("huge", Verdict.ARRIVED), ("huge-redirect", Verdict.STOP)])
def test_an_endless_answer_is_not_read_to_its_end(mode, verdict):
    with FaultServer(mode) as server:
        assert post(server.url).verdict is verdict
    # The bytes in buffers of the kernels, not all that a reader would have read.
    assert server.bytes_sent < 50_000_000


def test_logs_of_libraries_do_not_contain_the_url(caplog):
    caplog.set_level(logging.DEBUG)
    with FaultServer("bad-header", "ok") as server:
        url = server.url + f"{CANARY}?token={CANARY}"
        transport = HttpTransport(settings_for(url, auth_user="u", auth_pass=CANARY))
        assert transport.post({}).verdict is Verdict.ARRIVED
        assert transport.post({}).verdict is Verdict.ARRIVED
        transport.close()
    logging.getLogger("urllib3.connectionpool").debug("of another client")
    assert CANARY not in caplog.text
    assert "urllib3" in caplog.text


@pytest.mark.parametrize("url", ["", "no url", "http://", "http://[::1/"])
def test_an_invalid_url_never_raises(url):
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
        assert post(server.url) == Answer(Verdict.AGAIN, "certificate not accepted")
        assert server.received == []
        assert post(server.url, ca_file=str(certificate / "cert.pem")).verdict is Verdict.ARRIVED
        assert post(server.url.replace("127.0.0.1", "localhost"), ca_file=str(certificate / "cert.pem")) == Answer(
            Verdict.AGAIN, "certificate not accepted"
        )
    assert len(server.received) == 1


def test_deadline_holds_over_tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with FaultServer("drip", tls=context) as server:
        answer = post(server.url, limits=IMPATIENT, ca_file=str(certificate / "cert.pem"))
        assert answer.verdict is Verdict.AGAIN


def test_a_missing_ca_file_is_not_fatal(tmp_path):
    answer = post(f"https://127.0.0.1:{closed_port()}/", ca_file=str(tmp_path / "none.pem"))
    assert answer.verdict is Verdict.AGAIN
