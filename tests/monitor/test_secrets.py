"""Secrets are neither stored nor shown, and problems of the machine give messages without a traceback."""

from __future__ import annotations

import json
import os
import pwd
import resource
import sqlite3
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from stemphony.cli import main
from stemphony.monitor.database import audit
from stemphony.monitor.database.backup import backup
from stemphony.monitor.database.connection import Database, database_url
from stemphony.monitor.intake.incoming import Refused, read_event
from support.monitor import Story, program

from monitor.conftest import Inside

SECRET = "hunter2-0123456789"
NAMES = ("password", "auth_pass", "dbPass", "api_key", "token", "Authorization", "cookie")


def everything(monitor: Inside) -> str:
    """Everything that the monitor stores and shows, as one text."""
    shown = [
        monitor.client.get(path).text
        for path in ("/", "/live", "/simulations/1", "/simulations/1/live", "/simulations/1/events", "/api/simulations",
                     "/api/simulations/1", "/api/simulations/1/events?all=1", "/metrics")
    ]  # fmt: skip
    with monitor.database.reader.begin() as connection:
        tables = ("event", "parameter", "simulation", "pair")
        stored = [str(connection.execute(text(f"SELECT * FROM {table}")).all()) for table in tables]
    return "\n".join([*shown, *stored])


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        {"user": "ada", "password": SECRET},
        {"login": {"password": SECRET}},
        {"logins": [{"user": "ada", "auth_pass": SECRET}]},
        {"token": [SECRET]},
        {"a": {"b": {"api_key": {"c": SECRET}}}},
    ],
)
def test_a_secret_inside_of_a_parameter_is_stored_nowhere(any_monitor: Inside, value: Any):
    name = "password" if value == SECRET else "service"
    any_monitor.store([{**Story().start(), name: value}])
    assert SECRET not in everything(any_monitor)
    assert "ada" in json.dumps(value) or name in everything(any_monitor)


nested = st.recursive(
    st.just(SECRET),
    lambda inner: st.lists(inner, min_size=1, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
)


@given(where=st.lists(st.text(min_size=1, max_size=5), max_size=3), name=st.sampled_from(NAMES), value=nested)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_secrets_planted_anywhere_below_a_secret_name_are_hidden(where: list[str], name: str, value: Any):
    content: Any = {name: value}
    for key in where:
        content = {key: content}
    body = json.dumps({"id": "i", "event": "START_SIMULATION", "custom": content}).encode()
    try:
        event = read_event(body, 1e9)
    except Refused:
        # An event that is nested too deeply. No part of it is stored.
        return
    assert SECRET not in event.body
    assert SECRET not in json.dumps(event.parameters)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ada:{SECRET}@127.0.0.1:1/d",
        f"postgresql://127.0.0.1:1/d?user=ada&password={SECRET}",
        f"postgresql://127.0.0.1:1/d?sslpassword={SECRET}",
        f"postgresql://127.0.0.1:1/d?passwrd={SECRET}",
        f"mysql://ada:{SECRET}@h/d",
        f"postgresql://127.0.0.1:notaport/{SECRET}",
        f"postgresql://127.0.0.1:1/d?passfile=/nowhere&password={SECRET}%21%zz",
        f"postgresql://ada:pass@{SECRET}@127.0.0.1:1/d",
        f"postgresql://ada:pass@h/{SECRET}@127.0.0.1:1/d",
        f"postgresql://127.0.0.1:1/d?options=-c%20x%3D{SECRET}",
        f"postgresql:///d?host=127.0.0.1&port=1&password={SECRET}",
        f"host=127.0.0.1 port=1 password={SECRET} dbname=d",
        f"dbname = d PASSWORD = '{SECRET}'",
        f"ada:{SECRET}@127.0.0.1/d",
    ],
)
@pytest.mark.parametrize("command", [["token", "list"], ["backup", "copy"], ["simulation", "log"], []])
def test_a_password_of_the_database_is_in_no_message(url: str, command: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(["monitor", *command, "--db", url]) == 1
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "query", [f"password={SECRET}", f"sslpassword={SECRET}", f"password={SECRET}2&sslpassword={SECRET}%20%2B%3D"]
)
def test_a_backup_shows_no_secret_in_the_list_of_processes(
    postgresql_database: str, query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """All users of a machine can read the arguments of all processes."""
    program("pg_dump")
    told: list[str] = []
    real = subprocess.Popen.__init__

    def noted(self: Any, words: Any, *arguments: Any, **keys: Any) -> None:
        told.extend(map(str, words))
        real(self, words, *arguments, **keys)

    monkeypatch.setattr(subprocess.Popen, "__init__", noted)
    with Database.open(f"{postgresql_database}?{query}") as database:
        assert "wrote" in backup(database, tmp_path / "copy")
    assert any(word.startswith("--dbname=") for word in told), told
    assert SECRET not in " ".join(told)
    assert [file.name for file in tmp_path.iterdir()] == ["copy"]


# --- terminals -------------------------------------------------------------------------------------------------------


def test_escapes_of_a_sender_reach_no_terminal(monitor: Inside, capsys: pytest.CaptureFixture[str]):
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
    story = Story(uid=f"id{evil}", title=f"title{evil}")
    monitor.store([story.start()])
    other = {**story.start(), "event": f"NAME{evil}", "job": f"job{evil}", "run": 999_999, "event_id": "x"}
    monitor.store([{key: value for key, value in other.items() if key != "title"}])
    assert main(["monitor", "simulation", "show", "1", "--db", str(monitor.database.url.database)]) == 0
    said = capsys.readouterr().out
    assert "title" in said
    assert [letter for letter in said if not (letter == "\n" or letter.isprintable())] == []


# --- the user's machine ----------------------------------------------------------------------------------------------


def unknown(*_: Any) -> NoReturn:
    raise KeyError("uid not found")


def test_a_user_without_a_name_and_home_gets_advice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    for name in ("HOME", "XDG_DATA_HOME", "STEMPHONY_MONITOR_DB", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert main(["monitor", "token", "list"]) == 1
    assert "has no home folder. Give the file of the database by --db." in capsys.readouterr().err
    assert main(["monitor", "token", "list", "--db", "~/m.sqlite"]) == 1
    assert "no such home folder" in capsys.readouterr().err
    assert audit.operator_name() == f"uid {os.getuid()}"


def test_a_home_folder_that_cannot_be_made_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("STEMPHONY_MONITOR_DB", raising=False)
    assert main(["monitor", "token", "add", "x", "--role", "reader"]) == 1
    said = capsys.readouterr().err
    assert "cannot be written: Not a directory. Give another file by --db." in said


def test_a_full_disk_at_token_add_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "m.sqlite"
    Database.open(str(file)).close()
    with sqlite3.connect(file) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.close()
    real = sqlite3.connect

    class Full(sqlite3.Connection):
        def __init__(self, *arguments: Any, **keys: Any) -> None:
            super().__init__(*arguments, **keys)
            self.execute(f"PRAGMA max_page_count = {pages}")

    monkeypatch.setattr(sqlite3, "connect", lambda name, **keys: real(name, factory=Full, **keys))
    for number in range(100):
        status = main(["monitor", "token", "add", f"{number:x<60}", "--role", "reader", "--db", str(file)])
        said = capsys.readouterr()
        if status:
            break
    assert status == 1, said.err
    assert "cannot be changed: database or disk is full. Nothing was changed." in said.err
    assert "secret" not in said.out


def test_a_limit_of_open_files_gives_a_message_and_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "m.sqlite"
    Database.open(str(file)).close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Every number below the limit is in use, although closed files may have left gaps before.
    with file.open("rb") as first_free:
        limit = first_free.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        status = main(["monitor", "token", "list", "--db", str(file)])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert status == 1
    assert "Traceback" not in capsys.readouterr().err


def test_the_name_of_a_database_shows_host_and_database_alone():
    url = database_url(f"postgresql://ada:{SECRET}@h:5/d?password={SECRET}")
    shown = Database(url, None, None).name  # type: ignore[arg-type]
    assert shown == "the PostgreSQL database d on h:5"
