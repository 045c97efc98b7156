"""The courier sends the events of a whole run in order, waits for a bounded time, and names what was not delivered."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from stemphony.paths import ResultPaths
from stemphony.status.backlog import foreign_in, left_in, runs_of
from stemphony.status.courier import ANOTHER_SENDS, NO_TIME, THREAD_NAME, Courier
from stemphony.status.limits import Limits
from stemphony.status.settings import ReportingSettings
from stemphony.status.spool import Spool, claim, spool_file_of
from stemphony.status.transport import Answer, Verdict, batch_url
from stemphony.store import ledger, own_runs
from support.status_server import EchoServer, FaultServer, closed_port
from support.time_limit import require_within

OK = Answer(Verdict.ARRIVED, "status 200")


STARTED: list[Courier] = []
"""Couriers of the present test. A test that fails does not stop its courier, and the next tests would wait for it."""


@pytest.fixture(autouse=True)
def _no_thread_stays():
    yield
    while STARTED:
        STARTED.pop().stop()
    for thread in threading.enumerate():
        if thread.name == THREAD_NAME:
            thread.join(15)
            assert not thread.is_alive()


@pytest.fixture
def result(tmp_path) -> ResultPaths:
    return ResultPaths(tmp_path / "results" / "x")


class Memory:
    """A receiver in this process; `verdict` decides about each event or batch."""

    def __init__(self, verdict: Callable[[dict], Answer] = lambda event: OK, batches: bool = False) -> None:
        self.taken: list[dict] = []
        self.batches: list[int] = []
        self._verdict, self._takes_batches = verdict, batches

    def __call__(self, settings: ReportingSettings) -> Memory:
        return self

    def post(self, event) -> Answer:
        answer = self._verdict(event)
        if answer.verdict is Verdict.ARRIVED:
            self.taken.append(dict(event))
        return answer

    def post_batch(self, events) -> Answer | None:
        if not self._takes_batches:
            return None
        answers = [self._verdict(event) for event in events]
        if any(answer.verdict is Verdict.NEVER for answer in answers):
            return None
        worst = next((answer for answer in answers if answer.verdict is not Verdict.ARRIVED), OK)
        if worst is OK:
            self.batches.append(len(events))
            self.taken += map(dict, events)
        return worst

    def close(self) -> None:
        return


def write(result: ResultPaths, run: int, job: str, *events: dict, attempt: int = 1, hold: bool = False) -> Spool:
    """Write a spool file; `when` is the second of an event."""
    file = spool_file_of(result.events(run), job, attempt) if job else result.hook_events(run)
    target = Spool(file, hold=hold)
    for seq, event in enumerate(events):
        own = {"job": job, "attempt": attempt} if job else {}
        when = event.pop("when")
        record = {"event": "PROGRESS", "event_id": f"{run}-{job}-{attempt}-{seq}", "run": run, "seq": seq, **own}
        target.append(json.dumps({"time": f"2026-01-01T00:00:{when:06.3f}+00:00", **record, **event}).encode())
    if not hold:
        target.close()
    return target


def courier_of(result: ResultPaths, memory: Memory | None = None, url: str = "http://127.0.0.1:1/", **more) -> Courier:
    settings = ReportingSettings(reporting=True, url=url, via=more.pop("via", "job"))
    courier = Courier(result, settings, **({"transport": memory} if memory else {}), **more)
    courier.start()
    STARTED.append(courier)
    return courier


def ids(taken: list[dict]) -> list[str]:
    return [event["event_id"] for event in taken]


@pytest.mark.parametrize("batches", [False, True])
def test_a_receiver_sees_runs_begin_and_end_and_everything_between_in_order(result, batches):
    write(result, 1, "", {"when": 5.0, "event": "START_SIMULATION"}, {"when": 6.0, "event": "FAILED"})
    # The clock of this node is ahead.
    write(result, 1, "a", *({"when": 20.0 + step} for step in range(6)))
    write(result, 1, "b", *({"when": 1.5 + step} for step in range(6)))
    write(result, 2, "", {"when": 2.0, "event": "START_SIMULATION"}, {"when": 3.0, "event": "FINISH"})
    write(result, 2, "a", *({"when": 1.0 + step / 10} for step in range(6)), attempt=2)
    memory = Memory(batches=batches)
    courier = courier_of(result, memory)
    assert courier.drain(20.0)
    courier.stop()
    expected = ["1--1-0", *(f"1-b-1-{n}" for n in range(6)), *(f"1-a-1-{n}" for n in range(6)), "1--1-1"]
    expected += ["2--1-0", *(f"2-a-2-{n}" for n in range(6)), "2--1-1"]
    assert ids(memory.taken) == expected
    assert memory.batches == ([len(expected)] if batches else [])
    assert courier.arrived == len(expected)
    assert left_in(result) == 0


def test_delivered_events_are_not_sent_again(result):
    write(result, 1, "a", {"when": 1}, {"when": 2})
    for expected in (2, 0):
        memory = Memory()
        courier = courier_of(result, memory)
        assert courier.drain(20.0)
        courier.stop()
        courier._thread.join(15)
        assert len(memory.taken) == expected


def test_an_event_that_is_refused_for_good_does_not_hold_the_others(result):
    write(result, 1, "a", *({"when": step} for step in range(15)))
    memory = Memory(lambda event: Answer(Verdict.NEVER, "status 422") if event["seq"] == 3 else OK, batches=True)
    courier = courier_of(result, memory)
    assert courier.drain(20.0)
    courier.stop()
    assert [event["seq"] for event in memory.taken] == [n for n in range(15) if n != 3]
    assert courier.refused == 1
    letters = result.events(1) / "a.attempt-1.dead_letters"
    assert [json.loads(line)["event"]["seq"] for line in letters.read_text().splitlines()] == [3]
    assert left_in(result) == 0


def test_order_is_kept_while_the_receiver_fails(result):
    write(result, 1, "a", *({"when": step} for step in range(5)))
    tries = iter(range(100))
    memory = Memory(lambda event: OK if next(tries) % 3 == 2 else Answer(Verdict.AGAIN, "status 500"))
    courier = courier_of(result, memory, limits=Limits(backoff_base_s=0.01, backoff_cap_s=0.01))
    assert courier.drain(20.0)
    courier.stop()
    assert [event["seq"] for event in memory.taken] == list(range(5))


def test_a_dead_receiver_is_waited_for_a_bounded_time_and_named(result):
    write(result, 1, "a", {"when": 1}, {"when": 2})
    import requests  # noqa: F401  (otherwise the courier imports it, for more than quiet_s on a busy machine)

    courier = courier_of(result, url=f"http://127.0.0.1:{closed_port()}/", limits=Limits(quiet_s=1.0))
    began = time.monotonic()
    assert not courier.drain(60.0)
    require_within(30, began, "the wait for a dead receiver")
    assert courier.trouble == "connection refused"
    courier.stop()
    assert left_in(result) == 2


def test_a_receiver_that_takes_each_event_slowly_is_named(result):
    write(result, 1, "a", *({"when": step} for step in range(100)))

    def slowly(event: dict) -> Answer:
        time.sleep(0.05)
        return Answer(Verdict.ARRIVED, "status 200", slow=True)

    memory = Memory(slowly)
    courier = courier_of(result, memory)
    assert not courier.drain(0.5)
    assert courier.trouble == "answer too slow"
    # Events that arrive during the last message of the run do not change the reason.
    before = len(memory.taken)
    wait_until(lambda: len(memory.taken) > before + 1, "two more events")
    assert courier.trouble == "answer too slow"
    courier.stop()


def test_a_receiver_that_has_not_answered_yet_is_named(result):
    write(result, 1, "a", {"when": 1})
    with FaultServer("hang") as server:
        courier = courier_of(result, url=server.url, limits=Limits(unanswered_s=0.1))
        assert not courier.drain(0.5)
        assert courier.trouble == "no answer in time"
        courier.stop()


def test_too_little_time_for_many_events_is_named_as_the_reason(result):
    write(result, 1, "a", *({"when": step} for step in range(100)))
    courier = courier_of(result, Memory(lambda event: time.sleep(0.02) or OK))
    assert not courier.drain(0.3)
    courier.stop()
    assert courier.trouble == NO_TIME


def test_a_receiver_that_names_a_time_to_retry_is_waited_for(result):
    write(result, 1, "a", {"when": 1})
    asked: list[dict] = []
    memory = Memory(lambda event: asked.append(event) or Answer(Verdict.AGAIN, "status 429", 0.1))
    courier = courier_of(result, memory, limits=Limits(quiet_s=0.15))
    assert not courier.drain(1.0)
    courier.stop()
    assert len(asked) > 5, "with 0.15 s of silence it would have been asked twice"
    assert courier.trouble == "status 429"


def test_a_receiver_that_wants_to_be_asked_after_the_wait_is_not_waited_for(result):
    write(result, 1, "a", {"when": 1})
    courier = courier_of(
        result, Memory(lambda event: Answer(Verdict.AGAIN, "status 429", 50.0)), limits=Limits(quiet_s=40.0)
    )
    began = time.monotonic()
    assert not courier.drain(40.0)
    require_within(20, began, "the wait for a receiver that asks for patience")
    courier.stop()


def test_wrong_credentials_end_the_wait_at_once(result):
    write(result, 1, "a", {"when": 1}, {"when": 2})
    with FaultServer("401") as server:
        courier = courier_of(result, url=server.url)
        began = time.monotonic()
        assert not courier.drain(60.0)
        require_within(5, began, "the wait after a refusal of the credentials")
        courier.stop()
        assert len(server.received) <= 2, "one for each time that it looked"
    assert courier.trouble == "status 401"


def test_a_hanging_receiver_does_not_delay_the_courier(result):
    write(result, 1, "a", {"when": 1})
    with FaultServer("hang") as server:
        courier = courier_of(result, url=server.url)
        began = time.monotonic()
        assert not courier.drain(1.0)
        require_within(3, began, "a drain of 1 s at a receiver that hangs")
        began = time.monotonic()
        courier.stop()
        require_within(2, began, "the stop of a courier whose receiver hangs")


def test_the_courier_leaves_spools_to_the_living_process_that_sends_them(result):
    held = write(result, 2, "a", {"when": 1}, hold=True)
    write(result, 2, "b", {"when": 2})
    write(result, 2, "", {"when": 0, "event": "START_SIMULATION"})
    memory = Memory()
    courier = courier_of(result, memory, run=2)
    assert courier.drain(20.0)
    assert ids(memory.taken) == ["2-b-1-0"], "neither that of job a nor that of the hooks of this very run"
    held.close()
    assert courier.drain(20.0)
    courier.stop()
    assert ids(memory.taken) == ["2-b-1-0", "2-a-1-0"]


def test_spools_of_jobs_that_do_not_send_are_followed_as_they_grow(result):
    target = write(result, 2, "a", {"when": 1}, hold=False)
    memory = Memory()
    courier = courier_of(result, memory, run=2, via="submit_host", interval_s=0.01)
    wait_until(lambda: len(memory.taken) == 1, "the first event")
    with target.path.open("ab") as file:
        for seq in (1, 2):
            line = json.dumps({"event": "PROGRESS", "event_id": f"later-{seq}", "seq": seq, "time": "3"}).encode()
            file.write(line[:20])
            file.flush()
            time.sleep(0.05)
            assert len(memory.taken) == seq, "half a line is not read"
            file.write(line[20:] + b"\n")
            file.flush()
            wait_until(lambda seq=seq: len(memory.taken) == seq + 1, f"event {seq}")
    courier.stop()
    assert ids(memory.taken) == ["2-a-1-0", "later-1", "later-2"]


def wait_until(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not ready():
        assert time.monotonic() < deadline, f"waited 20 s for {what}"
        time.sleep(0.005)


def test_a_claimed_defocus_is_reported_although_its_claimant_died(result):
    def claimed(defocus: str, job: str) -> dict:
        event = {"event": "START_DEFOCUS", "event_id": f"id-{defocus}", "job": job, "attempt": 1, "time": "1"}
        result.run(1).mkdir(parents=True, exist_ok=True)
        assert claim(result.defocus_claim(1, defocus), json.dumps(event).encode())
        return event

    claimed("p0d000", "died")
    written = claimed("p1d000", "lived")
    target = Spool(spool_file_of(result.events(1), "lived", 1))
    target.append(json.dumps(written).encode())
    target.close()
    for expected in (["id-p0d000", "id-p1d000"], []):
        memory = Memory()
        courier = courier_of(result, memory)
        assert courier.drain(20.0)
        courier.stop()
        courier._thread.join(15)
        assert sorted(ids(memory.taken)) == expected
    assert left_in(result) == 0


def test_only_one_process_delivers_a_simulation(result):
    write(result, 1, "a", {"when": 1})
    first, second = Memory(), Memory()
    one = courier_of(result, first)
    assert one.drain(20.0)
    other = courier_of(result, second)
    write(result, 1, "b", {"when": 2})
    assert not other.drain(20.0)
    assert other.trouble == ANOTHER_SENDS
    other.stop()
    one.stop()
    assert second.taken == []


def test_a_broken_transport_is_survived(result):
    write(result, 1, "a", {"when": 1})

    def broken(settings):
        raise ImportError("CANARY")

    courier = Courier(result, ReportingSettings(reporting=True, url="http://127.0.0.1:1/"), transport=broken)
    courier.start()
    assert not courier.drain(20.0)
    assert courier.trouble == "ImportError"
    courier.stop()


def test_a_result_without_reports_has_nothing_to_send(result):
    courier = courier_of(result, Memory())
    assert courier.drain(20.0)
    courier.stop()
    assert left_in(result) == 0
    assert runs_of(result) == []


OWN, OTHER = "6b1e4f0e-6f0e-4d0c-9c53-1b7a3c0e7f11", "c6b3e1f4-0000-4000-8000-000000000000"


@pytest.mark.parametrize("run", [0, 2])
@pytest.mark.parametrize("batches", [False, True])
def test_reports_of_another_simulation_in_the_folder_are_kept_and_not_sent(result, run, batches):
    """The attack: the first run of a received folder ends a simulation of this user, with this user's password."""
    write(result, 1, "a", *({"when": step, "id": OWN} for step in range(12)))
    write(result, 1, "planted", {"when": 0, "id": OTHER, "event": "FINISH"}, {"when": 1, "id": OTHER})
    mixed = [OWN.upper(), OTHER, OWN, OTHER, OWN, OTHER]
    write(result, 1, "mixed", *({"when": when, "id": one} for when, one in enumerate(mixed)))
    marker = result.defocus_claim(1, "p0d000")
    event = {"event": "START_DEFOCUS", "event_id": "m", "job": "died", "attempt": 1, "time": "1", "id": OTHER}
    assert claim(marker, json.dumps(event).encode())
    result.identity.write_text(json.dumps({"id": OWN, "seed": 1, "created": "now", "copied_from": OTHER}))
    before = {file: file.read_bytes() for file in [*result.events(1).rglob("*.jsonl"), marker]}
    memory = Memory(batches=batches)
    for _ in range(2):
        courier = courier_of(result, memory, run=run)
        assert courier.drain(20.0)
        assert courier.drain(20.0)
        courier.stop()
        courier._thread.join(15)
        own = ["1-mixed-1-0", "1-mixed-1-2", "1-mixed-1-4", *(f"1-a-1-{n}" for n in range(12))]
        assert sorted(ids(memory.taken)) == sorted(own)
    assert left_in(result) == 0
    assert {file.name for file in foreign_in(result)} == {
        marker.name, "planted.attempt-1.jsonl", "mixed.attempt-1.jsonl", "mixed.attempt-1.other.jsonl",
    }  # fmt: skip
    set_apart = (result.events(1) / "mixed.attempt-1.other.jsonl").read_text().splitlines()
    assert [json.loads(line)["event_id"] for line in set_apart] == ["1-mixed-1-1", "1-mixed-1-3"]
    assert {file: file.read_bytes() for file in before} == before


def test_reports_of_a_folder_that_lost_its_simulation_json_are_sent_by_the_next_run(result, tmp_path):
    """The next run gives the folder another id. The record still shows that this user ran the simulation."""
    before, elsewhere = str(uuid.uuid4()), str(uuid.uuid4())
    write(result, 1, "a", {"when": 0, "id": before}, {"when": 1, "id": before.upper()})
    write(result, 1, "b", {"when": 2, "id": elsewhere})
    ledger.identity(result, 1)
    own_runs.note_own_run(before, [], result.root, 1)
    own_runs.note_own_run(elsewhere, [], tmp_path, 1)
    memory = Memory()
    courier = courier_of(result, memory, run=2)
    assert courier.drain(20.0)
    courier.stop()
    assert ids(memory.taken) == ["1-a-1-0", "1-a-1-1"]
    assert [file.name for file in foreign_in(result)] == ["b.attempt-1.jsonl"]


# Batches, and receivers that know none.


@pytest.mark.parametrize(
    ("url", "batch"),
    [
        ("http://h:1", "http://h:1/events/batch"),
        ("http://h:1/", "http://h:1/events/batch"),
        ("https://h/monitor/?k=v", "https://h/monitor/events/batch?k=v"),
        ("http://h/events", "http://h/events/batch"),
        ("http://h/stemsalabim-reporting", None),
        ("http://[::1/", None),
    ],
)
def test_the_address_of_batches_follows_from_the_url(url, batch):
    assert batch_url(url) == batch


def test_a_receiver_without_batches_gets_one_event_per_request(result):
    write(result, 1, "a", *({"when": step} for step in range(25)))
    with EchoServer() as server:
        courier = courier_of(result, url=server.url)
        assert courier.drain(20.0)
        courier.stop()
    bodies = [entry.json for entry in server.received if entry.path == "/?"]
    assert [event["seq"] for event in bodies] == list(range(25))
    assert len(server.received) == 25, "its answers show that it does not count, so it is not asked for batches"


class SlowBody(http.server.BaseHTTPRequestHandler):
    """Stores all events. Its answer starts with 200 at once, and the rest comes too slowly, at least to a batch."""

    protocol_version = "HTTP/1.1"
    events: list[dict]
    is_slow_always: bool

    def do_POST(self):
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_batch = isinstance(content, list)
        self.events += content if is_batch else [content]
        body = json.dumps({"stored": len(content) if is_batch else 1, "duplicates": 0}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if is_batch or self.is_slow_always:
            time.sleep(1.0)
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("is_slow_always", [False, True])
def test_a_receiver_with_a_slow_body_gets_no_event_twice(result, is_slow_always):
    number = 12 if is_slow_always else 250
    write(result, 1, "a", *({"when": step} for step in range(number)))
    handler = type("Own", (SlowBody,), {"events": [], "is_slow_always": is_slow_always})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        limits = Limits(read_s=0.2, answer_s=0.3)
        courier = courier_of(result, url=f"http://127.0.0.1:{server.server_port}/", limits=limits)
        courier.drain(60.0)
        courier.stop()
        server.shutdown()
    ids = [event["event_id"] for event in handler.events]
    assert len(ids) == len(set(ids)) == number


def test_a_receiver_without_an_answer_to_batches_gets_one_event_per_request(result):
    write(result, 1, "a", *({"when": step} for step in range(25)))
    with FaultServer("ok") as server:
        courier = courier_of(result, url=server.url)
        assert courier.drain(20.0)
        courier.stop()
        single = [entry.json["seq"] for entry in server.received if entry.path == "/"]
    assert single == list(range(25))


def test_no_file_is_left_open(result):
    for job in range(40):
        write(result, 1, f"job{job}", {"when": job}, {"when": job + 1})
    before = len(list(Path("/proc/self/fd").iterdir()))
    courier = courier_of(result, Memory())
    assert courier.drain(20.0)
    courier.stop()
    courier._thread.join(15)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
