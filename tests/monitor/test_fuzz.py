"""Random input: no answer is 5xx, and all pages can still be shown."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance
from sqlalchemy import select
from stemphony import paths
from stemphony.monitor.database import schema
from stemphony.monitor.database.connection import Database
from stemphony.status.events import EVENT_NAMES, RESERVED_KEYS
from support.monitor import Story

from monitor.conftest import Inside, inside

pytestmark = pytest.mark.slow

QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=40)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
names = st.sampled_from([*sorted(EVENT_NAMES), "ELSE"])
small = st.integers(0, 5)
plausible = st.fixed_dictionaries(
    {"id": st.sampled_from(["a", "b"]), "event": names},
    optional={
        "event_id": st.text(min_size=1, max_size=5), "run": small, "attempt": small, "seq": st.integers(0, 100),
        "job": st.text(max_size=5), "defocus": st.floats(-10, 10), "defocus_index": small,
        "configuration_index": small, "num_defoci": small, "num_configurations": small, "progress": st.floats(0, 1),
        "failed": st.lists(st.lists(small, min_size=2, max_size=2), max_size=3), "message": st.text(max_size=20),
        "time": st.datetimes().map(str) | st.floats(0, 1e10) | st.text(max_size=10), "title": st.text(max_size=20),
        "num_failed": small, "num_never_ran": small, "my_token": st.text(max_size=5), "num_threads": small,
    },
)  # fmt: skip
extreme = st.sampled_from([
    10**400, -(10**400), 10**30, 2**63, 2**53, 2**33, 2**31, 10**6, -1, 0, 1.5, 1e308, -1e308, 5e-324, 1e-320,
    "", "x", [], {}, True, None,
    [[0, 10**30]], [[1, 2**33]], [[0, -1]], [[0]], [0], "AAAA", "&&&&",
])  # fmt: skip
preview = {
    "preview": "AAD/", "preview_detector": "haadf", "preview_width": 1, "preview_low": 0.0, "preview_high": 0.1,
    "preview_width_nm": 0.4, "preview_height_nm": 0.4, "preview_repeats": "xy", "planned_defoci_nm": "-5, 0, 5",
}  # fmt: skip
# A good event with one or two random keys, so that only these keys can be wrong.
nearly = st.tuples(
    plausible.map(lambda event: {**preview, **event}),
    st.dictionaries(st.sampled_from(sorted(RESERVED_KEYS - {"id", "event"})), extreme, min_size=1, max_size=2),
).map(lambda parts: {**parts[0], **parts[1]})
readable = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
odd = st.dictionaries(st.sampled_from(sorted(RESERVED_KEYS)) | st.text(max_size=8), values, max_size=12)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    with Database.open(str(tmp_path_factory.mktemp("fuzzed") / "monitor.sqlite")) as database:
        made = inside(database)
        made.client.application.testing = False
        yield made
        made.close()


def finished_in_all(monitor: Inside, row: int) -> int:
    """Finished pairs, those too that the latest run does again."""
    column = schema.SIMULATION.c.finished
    with monitor.database.reader.begin() as connection:
        return int(connection.execute(select(column).where(schema.SIMULATION.c.row == row)).scalar() or 0)


def shown(monitor: Inside) -> None:
    """Check that every page can be made, and that the sums are those of the pairs."""
    for simulation in monitor.simulations():
        row = simulation["row"]
        for path in ("", "/live", "/events?all=1"):
            assert monitor.client.get(f"/simulations/{row}{path}").status_code == 200
        assert monitor.client.get(f"/api/simulations/{row}/events?all=1").status_code == 200
        pairs = monitor.client.get(f"/api/simulations/{row}/pairs").json["pairs"]
        for defocus in {pair["defocus"] for pair in pairs if pair["defocus"] is not None}:
            query = f"defocus={quote(paths.defocus_id(defocus))}&detector=haadf"
            image = monitor.client.get(f"/simulations/{row}/preview.png?{query}")
            assert image.status_code in (200, 404)
        states = [pair["state"] for pair in pairs]
        assert simulation["failed"] == states.count("failed"), simulation
        assert simulation["running"] == states.count("running"), simulation
        assert finished_in_all(monitor, row) == states.count("finished")
    assert monitor.client.get("/").status_code == 200


@settings(max_examples=300, deadline=None, suppress_health_check=QUIET)
@given(st.lists(plausible | nearly | odd, min_size=1, max_size=6))
def test_events_of_any_kind_cause_no_internal_error(fuzzed: Inside, events: list[dict[str, Any]]):
    for event in events:
        body = json.dumps(event)
        assert fuzzed.client.post("/", data=body, content_type="application/json").status_code in (200, 400), body
    answer = fuzzed.client.post("/events/batch", data=json.dumps(events), content_type="application/json")
    assert answer.status_code in (200, 400)


def test_pages_work_after_events_of_any_kind(fuzzed: Inside):
    shown(fuzzed)


@settings(max_examples=400, deadline=None, suppress_health_check=QUIET)
@given(nearly)
def test_an_extreme_value_in_a_good_event_causes_no_internal_error(fuzzed: Inside, event: dict[str, Any]):
    body = json.dumps(event)
    assert fuzzed.client.post("/", data=body, content_type="application/json").status_code in (200, 400), body


def test_pages_work_after_extreme_values(fuzzed: Inside):
    shown(fuzzed)


@pytest.mark.parametrize(
    ("keys", "status"),
    [
        ({"event": "START_FP_CONFIGURATION", "progress": 10**400}, 400),
        ({"event": "FAILED", "failed": [[0, 10**30]]}, 400),
        ({"event": "FAILED", "failed": [[0, 2**33]]}, 400),
        ({"event": "PREVIEW", "event_id": "x", **preview, "preview_high": 1e-320}, 200),
    ],
)
def test_extreme_values_of_known_failures_break_nothing(any_monitor: Inside, keys: dict[str, Any], status: int):
    pair = {"defocus": 0.0, "defocus_index": 0, "configuration_index": 0, "run": 1}
    good = {"id": "a", "event": "START_FP_CONFIGURATION", **pair}
    assert any_monitor.client.post("/", json=good).status_code == 200
    answer = any_monitor.client.post("/", json={**good, **keys})
    assert answer.status_code == status, answer.json
    shown(any_monitor)


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(st.lists(plausible, min_size=1, max_size=40))
def test_sums_equal_the_counted_pairs_in_any_history(fuzzed: Inside, events: list[dict[str, Any]]):
    uid = random.randbytes(8).hex()
    events = [{**event, "id": uid} for event in events]
    body = json.dumps(events)
    answer = fuzzed.client.post("/events/batch", data=body, content_type="application/json")
    if answer.status_code == 200:
        (simulation,) = fuzzed.simulations(text=uid)
        pairs = fuzzed.client.get(f"/api/simulations/{simulation['row']}/pairs").json["pairs"]
        states = [pair["state"] for pair in pairs]
        assert simulation["failed"] == states.count("failed")
        assert simulation["running"] == states.count("running")
        assert finished_in_all(fuzzed, simulation["row"]) == states.count("finished")


@settings(max_examples=300, deadline=None, suppress_health_check=QUIET)
@given(st.binary(max_size=300) | values.map(lambda value: json.dumps(value).encode()))
def test_requests_of_random_bytes_cause_no_internal_error(fuzzed: Inside, body: bytes):
    for path in ("/", "/events/batch"):
        assert fuzzed.client.post(path, data=body, content_type="application/json").status_code in (200, 400)


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
@given(st.data())
def test_a_good_request_with_changed_bytes_causes_no_internal_error(fuzzed: Inside, data: st.DataObject):
    body = bytearray(json.dumps(Story().job(0, 0, 0)[1]).encode())
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert fuzzed.client.post("/", data=bytes(body), content_type="application/json").status_code in (200, 400)


@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
@given(readable, st.dictionaries(readable, readable, max_size=3))
def test_addresses_of_any_kind_cause_no_internal_error(fuzzed: Inside, path: str, query: dict[str, str]):
    for base in ("/", "/simulations/1/", "/api/simulations/", "/simulations/1/cell", "/api/simulations"):
        tail = path if base.endswith("/") else ""
        with fuzzed.client.get(base + quote(tail.lstrip("/")), query_string=query) as answer:
            assert answer.status_code < 500


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with Database.open(str(tmp_path_factory.mktemp("described") / "monitor.sqlite")) as database:
        made = inside(database)
        made.store(Story().whole())
        made.store(Story(title="Half way").job(0, 0, 0, 50))
        yield schemathesis.openapi.from_wsgi("/api/openapi.json", made.client.application)
        made.close()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_the_api_fits_its_openapi_description(description: Any, mode: GenerationMode):
    """Schemathesis: answers have the described statuses and shapes, for what fits the description and what does not."""
    number = 0
    for found in description.get_all_operations():

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=found.ok().as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            nonlocal number
            number += 1
            case.call_and_validate(checks=[not_a_server_error, status_code_conformance, response_schema_conformance])

        with contextlib.suppress(Unsatisfiable):  # no request to /healthz can be wrong
            check()
    assert number > 100


def test_the_description_names_every_route_of_programs(tmp_path: Path):
    with Database.open(str(tmp_path / "monitor.sqlite")) as database:
        made = inside(database)
        rules = {rule.rule.replace("<int:row>", "{row}") for rule in made.client.application.url_map.iter_rules()}
        described_paths = set(made.client.get("/api/openapi.json").json["paths"])
        made.close()
    assert described_paths <= rules
    assert {rule for rule in rules if rule.startswith("/api/simulations")} <= described_paths
