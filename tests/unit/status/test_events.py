"""Names, keys and ids of status events."""

from __future__ import annotations

import json
import re
import unicodedata
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stemphony.status import events
from stemphony.status.events import Event, event_id, event_id_of, sanitize_message

SCHEMA_FILE = Path(__file__).parents[3] / "workflow/schemas/status_event.schema.json"
SIMULATION = "2c0b3d0e-2f0b-4a55-8a2e-0d6c0c6a2b11"


def test_schema_and_code_agree_on_names_and_keys():
    schema = json.loads(SCHEMA_FILE.read_text())
    assert set(schema["properties"]) == events.RESERVED_KEYS | set(events.DESCRIPTION_KEYS)
    assert set(schema["properties"]["event"]["enum"]) == events.EVENT_NAMES
    assert schema["properties"]["schema"]["const"] == events.SCHEMA


def test_synced_events_are_the_rare_ones():
    assert Event.PROGRESS not in events.DURABLE_EVENTS
    assert events.START_CONFIGURATION not in events.DURABLE_EVENTS
    assert set(Event) - events.DURABLE_EVENTS == {Event.PROGRESS, Event.PREVIEW}


def test_the_list_of_planned_defoci_is_short_text():
    assert events.planned_defoci([-2.5, 0.0, 1e3, 0.001]) == "-2.5, 0, 1000, 0.001"
    assert len(events.planned_defoci(n / 1000 - 5e5 for n in range(10**6))) < 16_000


def test_event_id_is_deterministic_and_tells_events_apart():
    assert event_id(SIMULATION, 1, "FINISH") == event_id(SIMULATION.upper(), 1, "FINISH")
    assert uuid.UUID(event_id(SIMULATION, 1, "FINISH")).version == 5
    ids = {
        event_id(SIMULATION, 1, "FINISH"),
        event_id(SIMULATION, 2, "FINISH"),
        event_id(SIMULATION, 1, "FAILED"),
        event_id(SIMULATION, 1, "START_DEFOCUS", 0),
        event_id(SIMULATION, 1, "START_DEFOCUS", 1),
        event_id(SIMULATION, 1, "ERROR", "a", 11),
        event_id(SIMULATION, 1, "ERROR", "a1", 1),
        event_id(SIMULATION, 1, "PROGRESS", "a", 1, 1),
    }
    assert len(ids) == 8


def test_event_id_never_changes():
    # If ids changed, every event of a running campaign would be new to its receiver.
    assert event_id(SIMULATION, 1, "START_SIMULATION") == "f571279b-94d3-54d1-96aa-3b9b70ffba99"


def test_both_events_of_progress_have_one_id():
    progress = {"id": SIMULATION, "run": 1, "job": "j", "attempt": 1, "progress": 0.29}
    assert event_id_of({**progress, "event": "PROGRESS"}) == event_id_of({**progress, "event": "START_CONFIGURATION"})
    assert event_id_of({**progress, "event": "PROGRESS"}) == event_id(SIMULATION, 1, "PROGRESS", "j", 1, 29)


@pytest.mark.parametrize("name", ["START_SIMULATION", "FINISH", "FAILED", "CANCELLED"])
def test_events_of_a_run_need_nothing_but_the_run(name):
    assert event_id_of({"id": SIMULATION, "run": 3, "event": name}) == event_id(SIMULATION, 3, name)


@pytest.mark.parametrize("name", ["START_FP_CONFIGURATION", "FINISH_FP_CONFIGURATION", "ERROR"])
def test_events_of_a_job_differ_by_attempt(name):
    job = {"id": SIMULATION, "run": 3, "event": name, "job": "d/c"}
    assert event_id_of({**job, "attempt": 1}) == event_id(SIMULATION, 3, name, "d/c", 1)
    assert event_id_of({**job, "attempt": 1}) != event_id_of({**job, "attempt": 2})


def test_event_that_is_not_unique_gets_a_random_id():
    lost = {"id": SIMULATION, "run": 3, "event": "ERROR"}
    assert event_id_of(lost) != event_id_of(lost)


def test_timestamp_has_offset_and_milliseconds():
    moment = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    assert events.timestamp(moment) == "2026-03-01T10:00:00.123+00:00"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", events.timestamp())


def test_failure_keys_bound_the_list_and_keep_the_count():
    keys = events.failure_keys([(d, c) for d in range(40) for c in range(50)] + [(0, 0)], 7)
    assert keys["failed"][:2] == [[0, 0], [0, 1]]
    assert (len(keys["failed"]), keys["num_failed"], keys["num_never_ran"]) == (1000, 2000, 7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[Errno 2] No such file: '/home/ada/my data/srtio3.cif'", "[Errno 2] No such file: 'srtio3.cif'"),
        ("cannot read /scratch/ada/run-1/stem.nc, sorry", "cannot read stem.nc, sorry"),
        ('File "/usr/lib/python3/x.py", line 3', 'File "x.py", line 3'),
        ("results/srtio3/jobs/a.nc is damaged", "a.nc is damaged"),
        ("PATH=/opt/bin:/home/ada/bin", "PATH=bin:bin"),
        (r"C:\Users\ada\x.cif and \\server\share\y", "C:x.cif and y"),
        ("~/x/y and ~ada/z and /", "y and z and"),
        ("ratio 2/3, e/Å kept", "ratio 2/3, e/Å kept"),
        ("url: /path?token=CANARY now", "url: path=<hidden> now"),
        ("GET https://u:CANARY@host/x?y=CANARY failed", "GET <url> failed"),
        ("login ada:CANARY@host", "login <credentials>"),
        ("Authorization: Basic Q0FOQVJZOg==", "Authorization=<hidden>"),
        ("sent Bearer CANARY0123 to it", "sent <hidden> to it"),
        ("{'auth_pass': 'CAN ARY', 'x': 1}", "{'auth_pass=<hidden>, 'x': 1}"),
        ("a\x00b\x1b[31mred\nline\u202eend", "a b [31mred line end"),
        ("half \ud800 pair", "half pair"),
    ],
)
def test_a_message_loses_its_secrets_paths_and_control_characters(text, expected):
    message = sanitize_message(text)
    assert message == expected
    assert "CANARY" not in message


SECRETS = """
    token my_token PassWord passwd passphrase secret2 api_key API-KEY credential credentials dbCredentials authorization
    auth_pass pass PASS db-pass db.pass dbPass DBPass pass1 pwd DB_PWD pw pw2 my.pw auth httpAuth HTTPAuth oauth oauth2
    bearer Bearer cookie session_cookie cookies
"""
NO_SECRETS = """
    bandpass passed passé encompass compass bypass author authors Author authority pwdx spwd power forbearers
    cookiecutter project group simulation_category sample
"""


@pytest.mark.parametrize("name", SECRETS.split())
def test_these_names_are_taken_for_secrets(name):
    assert events.names_a_secret(name)


@pytest.mark.parametrize("name", NO_SECRETS.split())
def test_these_names_are_not_taken_for_secrets(name):
    assert not events.names_a_secret(name)


def test_a_long_message_is_cut_between_characters():
    message = sanitize_message("ö" * 5000)
    assert len(message.encode()) <= 2048
    assert message.endswith("ö…")
    assert sanitize_message("x " * 500_000).encode().endswith("…".encode())


pieces = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["/home/ada/x", " ", "'", '"', "=", ":", "//", "/", "\\", "~", "?", "\n", "://", "(", ",", "2/3"]),
)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(pieces, max_size=30).map("".join) | st.builds(str.__mul__, st.text(max_size=200), st.integers(1, 20)))
def test_sanitized_message_is_short_plain_and_without_absolute_paths(text):
    message = sanitize_message(text)
    assert len(message.encode("utf-8")) <= 2048
    assert [letter for letter in message if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")] == []
    assert "://" not in message
    # A slash stays only inside a ratio and never begins a word.
    around = [message[max(i - 1, 0) : i + 2] for i, c in enumerate(message) if c == "/"]
    assert [text for text in around if not re.fullmatch(r".*\w/\w.*", text)] == []
    assert "ada" not in message or "/ada/" not in message


def test_two_sendings_of_one_event_have_one_id_for_each_event_but_test():
    """A name that is missing there would get a random id each time, so that a receiver would count the event twice."""
    assert events._TOLD_APART_BY.keys() == set(events.Event) - {events.Event.TEST}
