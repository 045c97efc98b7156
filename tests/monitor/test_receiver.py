"""The receiver: accepted and refused requests, permissions, schema, limits, retention and backup."""

from __future__ import annotations

import base64
import json
import re
import shutil
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import inspect, text
from stemphony.cli import main
from stemphony.errors import MonitorError
from stemphony.monitor.database import credentials, migrations, schema, timeline
from stemphony.monitor.database.backup import backup
from stemphony.monitor.database.connection import Database, database_url, file_system_of
from stemphony.monitor.database.credentials import Role
from stemphony.monitor.intake import limits
from stemphony.monitor.intake.retention import Retention
from stemphony.monitor.records import HIDDEN
from stemphony.monitor.server import CONNECTIONS, Monitor, Options
from stemphony.monitor.web.gate import FRESH_S, Gate
from stemphony.monitor.web.rate_limit import RateLimit
from stemphony.status.reporter import trial_event
from support.monitor import MonitorProcess, Story, program

from monitor.conftest import Inside, inside, sweep_twice

JSON = {"content_type": "application/json"}
NOW = migrations.latest_version()
GOOD = {"id": "a simulation", "event": "START_SIMULATION"}


# --- what is taken --------------------------------------------------------------------------------------------------


def test_an_event_is_stored_once_however_often_it_comes(any_monitor: Inside):
    story = Story()
    events = story.whole()
    assert any_monitor.store(events) == {"stored": len(events), "duplicates": 0}
    assert any_monitor.store(events) == {"stored": 0, "duplicates": len(events)}
    assert any_monitor.store([events[0], story.hook("X"), events[1]]) == {"stored": 1, "duplicates": 2}
    assert any_monitor.simulation["events"] == len(events) + 1


def test_one_id_of_two_simulations_is_two_events(any_monitor: Inside):
    event = Story(uid="first").start()
    assert any_monitor.store([event, {**event, "id": "second"}]) == {"stored": 2, "duplicates": 0}


def test_an_event_twice_in_one_batch_counts_once(any_monitor: Inside):
    event = Story().start()
    assert any_monitor.store([event, event]) == {"stored": 1, "duplicates": 1}


def test_an_event_that_many_senders_send_at_once_is_stored_once(any_database: str):
    """16 threads send the same 200 events in different orders: each event is acknowledged as new exactly once."""
    with Database.open(any_database) as database:
        made = inside(database)
        events = [Story(uid=f"s{n % 7}").hook(f"EVENT_{n}") for n in range(200)]
        stored: list[int] = []

        def send(first: int) -> None:
            client = made.client.application.test_client()
            for event in events[first:] + events[:first]:
                stored.append(client.post("/events", json=event).json["stored"])

        threads = [threading.Thread(target=send, args=(12 * n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (sum(stored), len(stored)) == (200, 3200)
        made.close()


@pytest.mark.parametrize("text", ["zero \0 character", "half \ud800 pair", "\u202eturned", "Å × 日本 🎉", "a" * 4000])
def test_any_text_can_be_stored_and_shown(any_monitor: Inside, text: str):
    event = {**Story().start(), "title": text, "custom": text, "message": text, "id": text[:100]}
    answer = any_monitor.client.post("/", data=json.dumps(event), **JSON)
    assert answer.json == {"stored": 1, "duplicates": 0}, answer.text
    for path in ("/", "/simulations/1", "/simulations/1/events", "/api/simulations", "/api/simulations/1/events"):
        assert any_monitor.client.get(path).status_code == 200


def test_a_test_event_makes_no_simulation(any_monitor: Inside):
    trial = trial_event()
    assert any_monitor.client.post("/", json=trial).json == {"stored": 1, "duplicates": 0}
    assert any_monitor.client.post("/", json=trial).json == {"stored": 0, "duplicates": 1}
    assert any_monitor.simulations() == []
    assert "No simulation has reported yet" in any_monitor.client.get("/").text
    tomorrow = time.time() + 86_400
    Retention(2, any_monitor.writer, any_monitor.said.append).sweep(tomorrow)
    assert any_monitor.client.post("/", json=trial).json["duplicates"] == 1
    Retention(0.5, any_monitor.writer, any_monitor.said.append).sweep(tomorrow)
    assert any_monitor.client.post("/", json=trial).json["stored"] == 1


def test_a_batch_is_stored_whole_or_not_at_all(any_monitor: Inside):
    answer = any_monitor.client.post("/events/batch", json=[Story().start(), {"event": "no id"}])
    assert answer.status_code == 400
    assert "event 1 of the batch: `id` is missing" in answer.json["error"]
    assert any_monitor.simulations() == []


def test_a_broken_event_does_not_take_others_with_it(monitor: Inside, monkeypatch: pytest.MonkeyPatch):
    """One request of a group has an error of its own. The others of the group are stored."""
    from stemphony.monitor.intake import bookkeeping

    real = bookkeeping.update_simulation

    def update(simulation: Any, event: Any) -> Any:
        if event.name == "FINISH":
            raise ValueError("a bug")
        return real(simulation, event)

    monkeypatch.setattr(bookkeeping, "update_simulation", update)
    story, hold = Story(), threading.Event()
    blocked = threading.Thread(target=lambda: monitor.writer.run(lambda _: hold.wait(10)))
    blocked.start()
    answers: dict[str, int] = {}

    def send(event: dict[str, Any]) -> None:
        client = monitor.client.application.test_client()
        answers[event["event"]] = client.post("/", json=event).status_code

    events = [story.start(), story.finish(), story.cancelled()]
    threads = [threading.Thread(target=send, args=(event,)) for event in events]
    for thread in threads:
        thread.start()
    while monitor.writer.waiting < 3:
        time.sleep(0.01)
    hold.set()
    for thread in [*threads, blocked]:
        thread.join()
    assert answers == {"START_SIMULATION": 200, "FINISH": 503, "CANCELLED": 200}
    assert monitor.simulation["events"] == 2


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "is not JSON"),
        (b"{", 400, "is not JSON"),
        (b"[]", 400, "an array"),
        (b"null", 400, "missing"),
        (b"7", 400, "a number"),
        (b"\xff\xfe{}", 400, "UTF-8"),
        (b'{"id": "\xff", "event": "X"}', 400, "UTF-8"),
        (b"[" * 30_000, 400, "nested"),
        (b'{"id":"x","event":"X","a":' + b"[" * 30_000 + b"]" * 30_000 + b"}", 400, "nested"),
        (b'{"id":"x","event":"X","a":[[[[[[[[[1]]]]]]]]]}', 400, "nested"),
        (b'{"id":"x","event":"X","a":NaN}', 400, "NaN"),
        (b'{"id":"x","event":"X","a":-Infinity}', 400, "Infinity"),
        (b'{"id":"x","event":"X","a":1e400}', 400, "too large"),
        (b'{"id":"x","event":"X","a":' + b"9" * 5000 + b"}", 400, "digits"),
        (b'{"id":"x","id":"y","event":"X"}', 400, "twice"),
        (b'{"id":"x"}', 400, "`event` is missing"),
        (b'{"event":"X"}', 400, "`id` is missing"),
        (b'{"id":"","event":"X"}', 400, "`id` is empty"),
        (b'{"id":["x"],"event":"X"}', 400, "`id` is an array"),
        (b'{"id":"x","event":"PROGRESS"}', 400, "`progress` is missing"),
        (b'{"id":"x","event":"PROGRESS","progress":"half"}', 400, "`progress` is text"),
        (b'{"id":"x","event":"PROGRESS","progress":50}', 400, "`progress`"),
        (b'{"id":"x","event":"X","attempt":-1}', 400, "`attempt`"),
        (b'{"id":"x","event":"X","seq":1.5}', 400, "`seq`"),
        (b'{"id":"x","event":"X","num_defoci":true}', 400, "`num_defoci` is a truth value"),
        (b'{"id":"x","event":"X","num_defoci":100000,"num_configurations":100000}', 400, "more than"),
        (b'{"id":"x","event":"FAILED","failed":[[1]]}', 400, "`failed`"),
        (b'{"id":"x","event":"X","title":1,"message":{}}', 400, "`message` is an object"),
        (json.dumps({**GOOD, **{f"k{n}": n for n in range(300)}}).encode(), 400, "302 keys"),
        (json.dumps({**GOOD, "a": "x" * 70_000}).encode(), 413, "70"),
    ],
    ids=lambda value: value[:30].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_a_refused_event_is_answered_with_the_reason(monitor: Inside, body: bytes, status: int, words: str):
    answer = monitor.client.post("/", data=body, **JSON)
    assert (answer.status_code, answer.content_type) == (status, "application/json")
    assert words in answer.json["error"]
    assert monitor.simulations() == []


def test_only_uncompressed_json_is_accepted(monitor: Inside):
    form = monitor.client.post("/", data={"id": "x"})
    assert (form.status_code, form.json["error"]) == (415, "Content-Type must be application/json.")
    zipped = monitor.client.post("/", data=b"{}", headers={"Content-Encoding": "gzip"}, **JSON)
    assert zipped.status_code == 415
    assert monitor.client.post("/", json=GOOD, content_type="application/json; charset=utf-8").status_code == 200


def test_get_changes_nothing(monitor: Inside):
    for path in ("/events", "/events/batch"):
        answer = monitor.client.get(path)
        assert answer.status_code == 405
        assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}
    assert monitor.client.delete("/simulations/1").status_code == 405


@pytest.mark.parametrize(
    "path", ["/simulations/1", "/simulations/99999999999999999999", "/api/simulations/7/pairs", "/x"]
)
def test_an_unknown_address_gives_404(monitor: Inside, path: str):
    page = monitor.client.get(path, headers={"Accept": "text/html"})
    assert page.status_code == 404
    if not path.startswith("/api"):
        assert "<h1>404</h1>" in page.text
    assert "error" in monitor.client.get(path).json


@pytest.mark.parametrize(
    "query", ["state=odd", "page=-1", "page=1e3", "text=a%00b", "page=99999999999999999999", "p.a=%00", "page=²"]
)
def test_an_impossible_filter_gives_400(monitor: Inside, query: str):
    assert monitor.client.get(f"/api/simulations?{query}").status_code == 400
    assert monitor.client.get(f"/?{query}").status_code == 400


def test_every_answer_has_the_security_headers(monitor: Inside):
    for path in ("/", "/nothing", "/api/simulations", "/healthz", "/static/monitor.css"):
        with monitor.client.get(path) as answer:
            headers = answer.headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


def test_a_monitor_without_credentials_answers_only_this_machine(monitor: Inside):
    """A page of another site whose name points to this machine (DNS rebinding) reads nothing."""
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example"):
        assert monitor.client.get("/", headers={"Host": host}).status_code == 403
        assert monitor.client.post("/", json=GOOD, headers={"Host": host}).status_code == 403
    for host in ("localhost:8000", "127.0.0.1:8000", "[::1]:8000"):
        assert monitor.client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.2", "0:0:0:0:0:0:0:1"])
def test_a_monitor_answers_at_the_address_of_host(tmp_path: Path, host: str):
    """The monitor prints this address. It refuses other names there too."""
    if ":" in host and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with MonitorProcess(tmp_path, "--host", host) as monitor:
        # As browsers write it.
        short = "[::1]" if ":" in host else host
        assert monitor.get("/", {"Host": f"{short}:{monitor.port}"}).status == 200
        assert monitor.get("/").status == 200
        assert monitor.post("/", GOOD).status == 200
        assert monitor.get("/", {"Host": f"evil.example:{monitor.port}"}).status == 403


# --- secrets and hostile values -------------------------------------------------------------------------------------


def test_secrets_are_not_stored(any_monitor: Inside, tmp_path: Path):
    secrets = {
        name: f"canary-{n}" for n, name in enumerate(("my_token", "PassWord", "secret2", "api_key", "dbPass", "pwd"))
    }
    any_monitor.store([Story(parameters={**secrets, "bandpass": "shown"}).start()])
    assert any_monitor.simulation["parameters"] == {**dict.fromkeys(secrets, HIDDEN), "bandpass": "shown"}
    for path in ("/", "/simulations/1", "/simulations/1/events", "/api/simulations/1/events", "/live"):
        assert "canary" not in any_monitor.client.get(path).text
    with any_monitor.database.reader.begin() as connection:
        rows = [str(row) for table in schema.METADATA.tables.values() for row in connection.execute(table.select())]
    assert rows
    assert not [row for row in rows if "canary" in row]


HOSTILE = {
    "image": "<img src=x onerror=alert(1)>",
    "link": "javascript:alert(1)",
    "</script><script>alert(2)</script>": "key",
    "quote": '" onmouseover="alert(3)',
    "template": "{{ 7 * 7 }}",
}


def test_custom_values_are_shown_as_text_and_never_as_markup(monitor: Inside):
    story = Story(title="<b>bold</b>", parameters=HOSTILE, uid="<i>id</i>")
    monitor.store([story.start(), *story.job(0, 0, 0, end="<script>alert(4)</script>")])
    for path in ("/", "/simulations/1", "/simulations/1/events", "/simulations/1/cell?defocus=m2d500&configuration=0"):
        page = monitor.client.get(path).text
        assert (
            not re.search(r"<(img|b|i)[ >](?!role)", page.replace('<b role="', ""), re.IGNORECASE) or "<img" not in page
        )
        assert "<script>" not in page
        assert "<img" not in page
        assert "<b>bold" not in page
        assert 'href="javascript' not in page
        assert "49" not in re.findall(r"template</span> (\S+)", page)


@pytest.mark.parametrize("told", ["x; rm -rf ~", "$(id)", "../x", "a\n", "", "-x", 7, ["x"], None])
def test_a_hostile_name_does_not_become_part_of_a_command(any_monitor: Inside, told: Any):
    story = Story(result_name=told or "x")
    any_monitor.store([{**story.start(), "result_name": told}, *story.job(0, 0, 0, end="out of memory")])
    for path in ("/simulations/1", "/simulations/1/cell?defocus=m2d500&configuration=0"):
        found = re.findall(r"stemphony rerun results/(.*?)(?: --.*)?</code>", any_monitor.client.get(path).text)
        assert found
        assert set(found) == {"NAME"}


def test_the_name_of_the_latest_run_becomes_part_of_a_command(any_monitor: Inside):
    """The name is that of the config, so it may be anything that the schema allows."""
    schema = yaml.safe_load((Path(__file__).parents[2] / "workflow/schemas/config.schema.yaml").read_text())
    allowed = schema["properties"]["simulation"]["properties"]["name"]["pattern"]
    assert allowed.startswith(f"^{timeline.RESULT_NAME.pattern}$")
    story = Story(result_name="a-B_7")
    any_monitor.store([story.start(), *story.job(0, 0, 0, end="out of memory")])
    assert "stemphony rerun results/a-B_7 --failed" in any_monitor.client.get("/simulations/1").text
    story.run, story.hook_seq, story.result_name = 2, 0, "moved"
    # The new name is unknown until the start of the run has arrived.
    any_monitor.store(story.job(0, 1, 3))
    assert "stemphony rerun results/NAME --failed" in any_monitor.client.get("/simulations/1").text
    any_monitor.store([story.start()])
    assert "stemphony rerun results/moved --failed" in any_monitor.client.get("/simulations/1").text


# --- credentials ----------------------------------------------------------------------------------------------------


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


@pytest.fixture
def guarded(any_monitor: Inside) -> tuple[Inside, str, str]:
    with any_monitor.database.writer.begin() as connection:
        writer = credentials.add(connection, "cluster", Role.WRITER, 0.0)
        reader = credentials.add(connection, "group", Role.READER, 0.0)
    return any_monitor, writer, reader


def test_writers_write_and_readers_read(guarded: tuple[Inside, str, str]):
    monitor, writer, reader = guarded
    client = monitor.client
    cases: list[tuple[dict[str, str], int, int]] = [
        ({}, 401, 401),
        (basic("cluster", writer), 200, 403),
        (basic("group", reader), 403, 200),
        ({"Authorization": f"Bearer {writer}"}, 200, 403),
        (basic("cluster", reader), 401, 401),
        (basic("nobody", writer), 401, 401),
        (basic("cluster", ""), 401, 401),
        ({"Authorization": "Basic !!!"}, 401, 401),
        ({"Authorization": "Basic /////w=="}, 401, 401),
        ({"Authorization": "Bearer"}, 401, 401),
        ({"Authorization": "Digest x"}, 401, 401),
        ({"Authorization": "Bearer " + "x" * 5000}, 401, 401),
    ]
    for headers, post, get in cases:
        assert client.post("/", json=GOOD, headers=headers).status_code == post, headers
        for path in ("/", "/api/simulations", "/metrics", "/live"):
            assert client.get(path, headers=headers).status_code == get, (headers, path)
    assert client.get("/healthz").status_code == 200
    assert "Basic" in client.get("/").headers["WWW-Authenticate"]
    # With credentials any name is accepted, because a proxy in front has a name of its own.
    assert client.get("/", headers={**basic("group", reader), "Host": "monitor.example"}).status_code == 200


def test_a_revoked_credential_ends_within_a_second(guarded: tuple[Inside, str, str]):
    monitor, writer, _ = guarded
    assert monitor.client.post("/", json=GOOD, headers=basic("cluster", writer)).status_code == 200
    with monitor.database.writer.begin() as connection:
        credentials.revoke(connection, "cluster")
    time.sleep(FRESH_S + 0.05)
    assert monitor.client.post("/", json=GOOD, headers=basic("cluster", writer)).status_code == 401


def test_a_monitor_whose_last_credential_is_revoked_refuses_all_requests(guarded: tuple[Inside, str, str]):
    monitor, writer, _ = guarded
    clock = [0.0]
    monitor.services.gate = Gate(monitor.database, lambda: clock[0])
    assert monitor.client.post("/", json=GOOD, headers=basic("cluster", writer)).status_code == 200
    with monitor.database.writer.begin() as connection:
        for credential in credentials.listed(connection):
            credentials.revoke(connection, credential.name)
    clock[0] += 2
    for headers in ({}, {"Host": "localhost"}, basic("cluster", writer)):
        assert monitor.client.get("/", headers=headers).status_code == 401
        assert monitor.client.post("/", json=GOOD, headers=headers).status_code == 401


def test_the_secret_is_nowhere_in_the_database(guarded: tuple[Inside, str, str]):
    monitor, writer, reader = guarded
    with monitor.database.reader.begin() as connection:
        rows = str(connection.execute(schema.CREDENTIAL.select()).all())
    assert writer not in rows
    assert reader not in rows
    assert len(writer) >= 43


def test_tokens_are_added_listed_and_revoked_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    db = str(tmp_path / "m.sqlite")
    assert main(["monitor", "token", "list", "--db", db]) == 1
    assert "there is no database" in capsys.readouterr().err
    assert (
        main(["monitor", "token", "add", "bad name", "--role", "writer", "--db", str(tmp_path / "new" / "m.sqlite")])
        == 1
    )
    assert "'bad name' cannot be a name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(["monitor", "token", "add", "cluster", "--role", "writer", "--db", db]) == 0
    said = capsys.readouterr().out
    assert "auth_user: cluster" in said
    secret = re.search(r"^  (\S{43})$", said, re.MULTILINE)
    assert secret
    assert main(["monitor", "token", "add", "cluster", "--role", "reader", "--db", db]) == 1
    assert "'cluster' exists already" in capsys.readouterr().err
    assert main(["monitor", "token", "add", "a:b", "--role", "reader", "--db", db]) == 1
    assert "cannot be a name" in capsys.readouterr().err
    assert main(["monitor", "token", "list", "--db", db]) == 0
    listed = capsys.readouterr().out
    assert "cluster\twriter" in listed
    assert secret[1] not in listed
    assert main(["monitor", "token", "revoke", "cluster", "--db", db]) == 0
    capsys.readouterr()
    assert main(["monitor", "token", "revoke", "cluster", "--db", db]) == 1
    assert "there is no credential 'cluster'" in capsys.readouterr().err


def test_an_address_that_others_reach_needs_credentials(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    db = str(tmp_path / "m.sqlite")
    for host in ("0.0.0.0", "::", "192.0.2.7"):
        assert main(["monitor", "--host", host, "--port", "0", "--db", db]) == 1
        said = capsys.readouterr().err
        assert f"--host {host} can be reached by others" in said
        assert "--role writer" in said
        assert "--role reader" in said
    assert list(tmp_path.iterdir()) == []
    assert main(["monitor", "token", "add", "cluster", "--role", "writer", "--db", db]) == 0
    capsys.readouterr()
    assert main(["monitor", "--host", "0.0.0.0", "--port", "0", "--db", db]) == 1
    said = capsys.readouterr().err
    assert "--role writer" not in said
    assert "--role reader" in said
    assert not Path(f"{db}.lock").exists()


# --- options, database, schema --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "70000"], "--port: got 70000"),
        (["--keep-days", "-1"], "--keep-days"),
        (["--stale-after", "0"], "--stale-after"),
        (["--db", "mysql://x/y"], "scheme 'mysql'"),
        (["--db", "sqlite://"], "names no file"),
        (["--db", "/proc/nothing/m.sqlite"], "cannot be written"),
        (["--db", "postgresql://user:canary@127.0.0.1:1/x"], "cannot be used"),
        (["--notify", "/nowhere.yaml"], "cannot be read"),
    ],
)
def test_a_mistake_on_the_command_line_ends_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
):
    given = arguments if "--db" in arguments else [*arguments, "--db", str(tmp_path / "m.sqlite")]
    given = given if "--port" in given else [*given, "--port", "0"]
    assert main(["monitor", *given]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert "canary" not in said


def test_a_port_or_database_in_use_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with MonitorProcess(tmp_path) as running:
        assert main(["monitor", "--port", str(running.port), "--db", str(tmp_path / "other.sqlite")]) == 1
        assert f"port {running.port} is taken" in capsys.readouterr().err
        assert not list(tmp_path.glob("other*"))
        assert Path(f"{running.db}.lock").stat().st_mode & 0o777 == 0o600
        assert main(["monitor", "--port", "0", "--db", running.db]) == 1
        assert "is served by another monitor" in capsys.readouterr().err
        # Commands of administration work beside it.
        assert main(["monitor", "token", "add", "late", "--role", "reader", "--db", running.db]) == 0


def test_a_second_monitor_of_a_postgresql_database_is_refused(postgresql_database: str):
    with Database.open(postgresql_database) as first, Database.open(postgresql_database) as second:
        first.lock()
        with pytest.raises(MonitorError, match="served by another monitor"):
            second.lock()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "waitress" else real(name, *rest)
    )
    assert main(["monitor"]) == 1
    said = capsys.readouterr().err
    assert "the monitor needs waitress, not installed here" in said
    assert "envs/monitor.lock.txt" in said


MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /home rw - nfs4 server:/home rw
31 30 0:41 / /home/local\\040disk rw - xfs /dev/sdb rw
32 22 0:42 / /scratch rw shared:3 - lustre fs rw
"""


def test_network_file_systems_are_recognised():
    for path, kind in {
        "/var/tmp": "ext4", "/home/me": "nfs4", "/home/local disk/x": "xfs", "/scratch": "lustre", "/scratchy": "ext4",
    }.items():  # fmt: skip
        assert file_system_of(Path(path), MOUNTS) == kind


def test_a_database_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from stemphony.monitor.database import connection as database

    monkeypatch.setattr(database, "file_system_of", lambda *_: "lustre")
    with pytest.raises(MonitorError, match=r"network file system \(lustre\).*--db /var/tmp"):
        Database.open(str(tmp_path / "m.sqlite"))


def test_a_database_is_found_by_its_path_its_url_or_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("STEMPHONY_MONITOR_DB", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert database_url(None).database == "/data/stemphony/monitor.sqlite"
    assert database_url("relative/m.sqlite").database == str(Path("relative/m.sqlite").absolute())
    assert database_url("postgresql://u:p@h/d").drivername == "postgresql+psycopg"
    monkeypatch.setenv("STEMPHONY_MONITOR_DB", "sqlite:////tmp/x.sqlite")
    assert database_url(None).database == "/tmp/x.sqlite"


def test_a_new_database_has_the_schema(any_database: str):
    with Database.open(any_database) as database, database.reader.begin() as connection:
        found = inspect(connection)
        for table in schema.METADATA.sorted_tables:
            columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
            assert columns.keys() == {column.name for column in table.columns}
            keys = found.get_pk_constraint(table.name)["constrained_columns"]
            assert set(keys) == {column.name for column in table.primary_key}
            assert {n for n, nullable in columns.items() if nullable} - set(keys) == {
                column.name for column in table.columns if column.nullable
            }
        assert migrations.version_of(connection) == migrations.latest_version()


@pytest.fixture
def older_database(any_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with one credential, and a program whose schema has changed since."""
    with Database.open(any_database) as database, database.writer.begin() as connection:
        credentials.add(connection, "kept", Role.READER, 0.0)
    change = ("ALTER TABLE credential ADD COLUMN note TEXT NOT NULL DEFAULT ''", "CREATE TABLE later (x INTEGER)")
    monkeypatch.setattr(migrations, "CHANGES", (*migrations.CHANGES, change))
    assert migrations.latest_version() == NOW + 1
    return any_database


def version_in(db: str) -> int:
    with Database.open(db) as database, database.reader.begin() as connection:
        return migrations.version_of(connection)


def test_a_monitor_brings_a_database_of_an_earlier_version_up_to_date(older_database: str):
    assert version_in(older_database) == NOW
    for _ in range(2):
        monitor = Monitor(Options(port=0, database=older_database), lambda _: None)
        try:
            with monitor.database.reader.begin() as connection:
                assert migrations.version_of(connection) == NOW + 1
                assert [credential.name for credential in credentials.listed(connection)] == ["kept"]
                assert connection.execute(text("SELECT note FROM credential")).all() == [("",)]
                assert connection.execute(text("SELECT x FROM later")).all() == []
        finally:
            monitor.close()


def test_commands_leave_the_schema_to_the_monitor_that_runs(
    older_database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Otherwise the running monitor could not start again, and a backup before an update would not be one."""
    here = ["--db", older_database]
    assert main(["monitor", "token", "list", *here]) == 0
    assert capsys.readouterr().out.startswith("kept\treader\t")
    assert main(["monitor", "token", "add", "late", "--role", "writer", *here]) == 0
    assert main(["monitor", "token", "revoke", "kept", *here]) == 0
    has_backup = not older_database.startswith("postgresql:") or shutil.which("pg_dump")
    if has_backup:
        assert main(["monitor", "backup", str(tmp_path / "copy"), *here]) == 0
    capsys.readouterr()
    assert main(["monitor", "token", "list", *here]) == 0
    assert capsys.readouterr().out.startswith("late\twriter\t")
    assert version_in(older_database) == NOW
    if not older_database.startswith("postgresql:"):
        assert version_in(str(tmp_path / "copy")) == NOW


def test_a_monitor_that_is_refused_leaves_the_schema_to_the_one_that_runs(older_database: str):
    with Database.open(older_database) as running:
        running.lock()
        with pytest.raises(MonitorError, match="served by another monitor"):
            Monitor(Options(port=0, database=older_database), lambda _: None)
    assert version_in(older_database) == NOW


@pytest.mark.parametrize("command", [["token", "list"], ["token", "revoke", "x"], ["backup", "copy"]])
def test_an_empty_database_is_not_filled_by_commands_that_read(
    any_database: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    if not any_database.startswith("postgresql:"):
        Path(any_database).touch()
    command = [str(tmp_path / "copy") if word == "copy" else word for word in command]
    assert main(["monitor", *command, "--db", any_database]) == 1
    assert "is empty. Give the one that the monitor uses by --db." in capsys.readouterr().err
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    "command", [["token", "list"], ["token", "add", "x", "--role", "reader"], ["token", "revoke", "x"], ["backup", "c"]]
)
def test_a_database_of_a_later_version_is_left_alone(
    any_database: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with Database.open(any_database) as database, database.writer.begin() as connection:
        connection.execute(text("INSERT INTO schema_version VALUES (1000)"))
    with pytest.raises(MonitorError, match="schema version 1000"):
        Monitor(Options(port=0, database=any_database), lambda _: None)
    command = [str(tmp_path / "c") if word == "c" else word for word in command]
    assert main(["monitor", *command, "--db", any_database]) == 1
    assert "schema version 1000" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_a_commit_of_sqlite_is_on_the_disk_before_it_is_acknowledged(monitor: Inside):
    """Without these settings a power cut loses acknowledged events. `kill -9` cannot show this."""
    for engine in (monitor.database.writer, monitor.database.reader):
        with engine.connect() as connection:
            asked = {
                name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("synchronous", "journal_mode")
            }
        assert asked == {"synchronous": 2, "journal_mode": "wal"}, "2 is FULL"


def test_a_file_that_is_not_a_database_is_refused_and_kept(tmp_path: Path):
    file = tmp_path / "m.sqlite"
    file.write_bytes(b"something else " * 1000)
    with pytest.raises(MonitorError, match="file is not a database"):
        Database.open(str(file))
    assert file.read_bytes() == b"something else " * 1000


def test_the_database_can_be_read_by_its_owner_only(tmp_path: Path):
    with Database.open(str(tmp_path / "new" / "m.sqlite")) as database:
        made = inside(database)
        made.store([Story().start()])
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").iterdir()}
        made.close()
    assert {"m.sqlite", "m.sqlite-wal"} <= modes.keys()
    assert set(modes.values()) == {0o600}


# --- limits, filters, metrics ---------------------------------------------------------------------------------------


def test_a_client_that_sends_too_much_is_asked_to_wait(monitor: Inside):
    monitor.services.rate = RateLimit(2.0)
    answers = [monitor.client.post("/", json={**GOOD, "n": n}) for n in range(15)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 5
    assert answers[-1].headers["Retry-After"] == "1"
    assert monitor.client.get("/healthz").status_code == 200


def test_the_rate_is_that_of_each_client_and_recovers():
    now = [0.0]
    rate = RateLimit(1.0, clock=lambda: now[0])
    assert [rate.wait_s("a") for _ in range(6)] == [0, 0, 0, 0, 0, 1.0]
    assert rate.wait_s("b") == 0
    now[0] = 2.0
    assert [rate.wait_s("a") for _ in range(3)] == [0, 0, 1.0]
    for number in range(20_000):
        rate.wait_s(f"client {number}")
    assert len(rate._buckets) <= 10_000


def test_the_list_of_simulations_is_filtered_and_paged(any_monitor: Inside):
    for number in range(230):
        story = Story(title=f"Crystal 100% {number}", parameters={"project": f"p{number % 2}"}, uid=f"uid-{number}")
        any_monitor.store([story.start(), *([story.finish()] if number % 3 else [])])
    first = any_monitor.simulations()
    second = any_monitor.simulations(page="1")
    assert (len(first), len(second)) == (200, 30)
    assert len({entry["id"] for entry in first + second}) == 230
    assert [entry["state"] for entry in first[:77]] == ["running"] * 77
    assert {entry["state"] for entry in first[77:]} == {"finished"}
    assert len(any_monitor.simulations(state="running")) == 77
    assert len(any_monitor.simulations(text="crystal 100% 7")) == 11
    assert any_monitor.simulations(text="100_ 7") == []
    assert len(any_monitor.simulations(**{"p.project": "p1", "text": "UID-22"})) == 5
    page = any_monitor.client.get("/?p.project=p1&text=uid-22").text
    assert page.count('<li id="s') == 5
    assert any_monitor.client.get("/?page=1").text.count('<li id="s') == 30


def test_metrics_are_those_of_prometheus(monitor: Inside):
    story = Story()
    start = story.start()
    monitor.store([start, start])
    monitor.client.post("/", json={})
    lines = monitor.client.get("/metrics").text.splitlines()
    assert [
        line for line in lines if not re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+(\{\w+=\"\w+\"\})? -?[\d.e+-]+", line)
    ] == []
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values["stemphony_monitor_events_stored_total"] == "1"
    assert values["stemphony_monitor_events_duplicate_total"] == "1"
    assert values['stemphony_monitor_requests_refused_total{status="400"}'] == "1"
    assert values['stemphony_monitor_simulations{state="running"}'] == "1"
    assert values["stemphony_monitor_up"] == "1"


def test_a_poller_gets_what_changed(monitor: Inside):
    story = Story(configurations=200, defoci=tuple(float(n) for n in range(50)))
    monitor.store([story.start(), *story.done(3, 7), *story.job(4, 0, 0, 10)])
    everything = monitor.client.get("/simulations/1/live").json
    assert everything["grid"]["html"].count('role="gridcell"') == 10_000
    query = {"since": everything["revision"], "run": everything["run"], "shape": everything["grid"]["shape"]}
    nothing = monitor.client.get("/simulations/1/live", query_string=query).json
    assert (nothing["cells"], nothing["grid"]) == ([], {})
    monitor.store(story.job(4, 0, 0, 10, 20)[-1:])
    one = monitor.client.get("/simulations/1/live", query_string=query).json
    assert one["cells"] == [["p4d000", 0, "r", 20, 1]]
    # The end of a run stops what ran, without an event of each.
    monitor.store([story.cancelled()])
    end = monitor.client.get("/simulations/1/live", query_string={**query, "since": one["revision"]}).json
    assert sorted(end["cells"]) == [["p3d000", 7, "f", 100, 1], ["p4d000", 0, "s", 20, 1]]


def test_an_unchanged_answer_is_not_sent_again(monitor: Inside):
    monitor.store([Story().start()])
    first = monitor.client.get("/api/simulations/1")
    again = monitor.client.get("/api/simulations/1", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


# --- retention, backup ----------------------------------------------------------------------------------------------


def test_old_simulations_are_deleted_completely_and_new_ones_stay(any_monitor: Inside):
    any_monitor.store(Story(uid="old", parameters={"a": "b"}).whole())
    any_monitor.ahead_s = 10 * 86_400
    any_monitor.store(Story(uid="new").whole())
    now = any_monitor.services.clock()
    assert sweep_twice(any_monitor, 20, now) == 0
    assert sweep_twice(any_monitor, 5, now) == 1
    assert [entry["id"] for entry in any_monitor.simulations()] == ["new"]
    with any_monitor.database.reader.begin() as connection:
        for table in (schema.EVENT, schema.PAIR, schema.DEFOCUS, schema.PARAMETER):
            assert {row.simulation for row in connection.execute(table.select())} <= {2}
    # The writer forgets it too, so it can begin again.
    any_monitor.store(Story(uid="old").whole())
    assert {entry["id"]: entry["finished"] for entry in any_monitor.simulations()} == {"new": 12, "old": 12}


def test_a_simulation_that_goes_on_while_it_is_deleted_keeps_what_is_new(any_monitor: Inside):
    story = Story()
    any_monitor.store(story.whole())
    any_monitor.ahead_s = 10 * 86_400
    story.run = 2
    later = [story.start()]
    remove = any_monitor.writer.run

    class Interrupted:
        run_and_forget = staticmethod(any_monitor.writer.run_and_forget)

        @staticmethod
        def run(action: Any) -> Any:
            result = remove(action)
            if later and "delete_events" in repr(action):
                any_monitor.store([later.pop()])
            return result

    sweep_twice(any_monitor, 5, time.time() + 10 * 86_400, Interrupted())
    assert later == []
    assert any_monitor.simulation["state"] == "running"
    events = any_monitor.client.get("/api/simulations/1/events?all=1").json["events"]
    assert [entry["event"]["event"] for entry in events] == ["START_SIMULATION"]


def test_a_backup_of_a_live_database_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    copy = tmp_path / "copy.sqlite"
    with MonitorProcess(tmp_path) as running:
        stop = threading.Event()

        def send() -> None:
            while not stop.is_set():
                running.store(Story().whole())

        sender = threading.Thread(target=send)
        sender.start()
        try:
            time.sleep(0.5)
            assert main(["monitor", "backup", str(copy), "--db", running.db]) == 0
        finally:
            stop.set()
            sender.join()
    assert "wrote" in capsys.readouterr().out
    assert copy.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(copy) as connection:
        sums = connection.execute(
            "SELECT (SELECT count(*) FROM event), (SELECT sum(events) FROM simulation)"
        ).fetchone()
        assert sums[0] == sums[1] > 0
    connection.close()
    assert main(["monitor", "backup", str(copy), "--db", running.db]) == 1
    assert "A backup overwrites nothing" in capsys.readouterr().err
    with MonitorProcess(tmp_path, db=str(copy)) as restored:
        assert restored.get("/api/simulations").json["simulations"]


def test_a_backup_of_postgresql_is_a_dump_for_pg_restore(postgresql_database: str, tmp_path: Path):
    program("pg_dump")
    with Database.open(postgresql_database) as database:
        made = inside(database)
        made.store(Story().whole())
        said = backup(database, tmp_path / "dump")
        made.close()
    assert "for pg_restore" in said
    assert (tmp_path / "dump").read_bytes().startswith(b"PGDMP")


def test_the_limits_are_those_of_the_page():
    page = (Path(__file__).parents[2] / "docs" / "monitor.md").read_text(encoding="utf-8")
    for number in (limits.MAX_EVENT_BYTES, limits.MAX_BATCH_EVENTS, limits.MAX_DEPTH, limits.MAX_KEYS, CONNECTIONS):
        assert str(number) in page.replace(",", "")


def test_the_limit_of_an_event_also_holds_inside_a_batch(monitor: Inside):
    large = {**Story().start(), "note": "x" * limits.MAX_EVENT_BYTES}
    assert monitor.client.post("/", json=large).status_code == 413
    answer = monitor.client.post("/events/batch", json=[Story().start(), large])
    assert answer.status_code == 413
    assert "event 1 of the batch is 6" in answer.json["error"]
    assert monitor.simulations() == []


def test_pages_cannot_be_framed(monitor: Inside):
    assert monitor.client.get("/").headers["X-Frame-Options"] == "DENY"
