"""The sender of a job keeps the order of events, tries again after faults, and stops when that cannot help."""

from __future__ import annotations

import json
import threading
import time

import pytest
from stemphony.status.limits import LIMITS, Limits
from stemphony.status.sender import THREAD_NAME, Sender
from stemphony.status.settings import ReportingSettings
from stemphony.status.transport import Answer, Verdict
from support.status_server import EchoServer, FaultServer, closed_port
from support.time_limit import require_within

CANARY = "CANARY-7f3a"


@pytest.fixture(autouse=True)
def _no_thread_stays():
    yield
    for thread in threading.enumerate():
        if thread.name == THREAD_NAME:
            thread.join(15)
            assert not thread.is_alive()


QUICK = Limits(backoff_base_s=0.01)


def settings_for(url: str, **values) -> ReportingSettings:
    return ReportingSettings(reporting=True, url=url, **values)


def test_backoff_grows_to_a_minute_with_full_jitter():
    for failures, limit in [(1, 0.5), (2, 1.0), (4, 4.0), (8, 60.0), (10_000, 60.0)]:
        drawn = [LIMITS.backoff_s(failures) for _ in range(500)]
        assert 0.0 <= min(drawn) < 0.2 * limit
        assert 0.8 * limit < max(drawn) <= limit


# The thread.


def filled(url: str, number: int = 3, limits: Limits = LIMITS, **values) -> Sender:
    sender = Sender(settings_for(url, **values), limits=limits)
    for seq in range(number):
        sender.put(b'{"seq": %d}' % seq)
    return sender


def test_order_is_kept():
    with EchoServer() as server:
        sender = filled(server.url, 50)
        assert sender.flush(20.0)
        sender.stop()
    assert [event["seq"] for event in server.events] == list(range(50))


@pytest.mark.parametrize("mode", ["500", "503", "429", "408", "stores-then-fails", "garbage"])
def test_a_temporary_fault_keeps_the_event_at_the_head(mode):
    with FaultServer(mode, mode, "ok", mode, "ok") as server:
        sender = filled(server.url, limits=QUICK)
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
        sender.put(b'{"seq": 3}')
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
        # The next attempt is a minute away, after the deadline, so patience would be wasted.
        assert not sender.flush(20.0, patient=True)
        require_within(10, began, "a flush whose next attempt is after its deadline")
        sender.stop()
        assert len(server.received) == 1


class AlwaysAMinute(Limits):
    def backoff_s(self, failures: int) -> float:
        return 60.0


def test_patience_cuts_pauses_short():
    with FaultServer("500", "500", "ok") as server:
        sender = filled(server.url, 1, AlwaysAMinute())
        assert server.wait_for(1)
        # Without patience the second attempt would be a minute away.
        assert sender.flush(5.0, patient=True)
        sender.stop()
        assert len(server.received) == 3


def test_impatient_flush_returns_at_once_after_a_failure():
    sender = filled(f"http://127.0.0.1:{closed_port()}/")
    began = time.monotonic()
    assert not sender.flush(30.0)
    require_within(10, began, "a flush without patience")
    sender.stop()


def test_an_impatient_flush_leaves_an_unanswered_attempt():
    assert LIMITS.unanswered_s == 2.0
    with FaultServer("hang") as server:
        # The clock is read first, because the thread of the sender may send before.
        began = time.monotonic()
        sender = filled(server.url, limits=Limits(unanswered_s=0.3))
        assert not sender.flush(30.0)
        first = time.monotonic() - began
        assert not sender.flush(30.0)
        second = time.monotonic() - began - first
        sender.stop()
    assert 0.3 <= first < 4.5
    assert second < 1.5


def test_flush_obeys_its_deadline():
    with FaultServer("hang") as server:
        sender = filled(server.url)
        for patient in (False, True):
            began = time.monotonic()
            assert not sender.flush(0.2, patient=patient)
            require_within(3, began, "a flush of 0.2 s at a receiver that hangs")
        assert not sender.flush(-1.0)
        sender.stop()


def test_an_endless_answer_is_reported_once():
    with FaultServer("drip-body") as server:
        sender = filled(server.url, 2, Limits(answer_s=0.4))
        assert sender.flush(20.0, patient=True)
        sender.stop()
    (notice,) = sender.notices()
    assert "answer too slow, though it says status 200" in notice


def test_slow_answers_are_waited_for():
    with FaultServer("ok-slowly") as server:
        sender = filled(server.url)
        assert sender.flush(20.0)
        sender.stop()


def test_queue_is_bounded():
    with FaultServer("hang") as server:
        sender = filled(server.url, 9, Limits(queue_length=5))
        assert len(sender._queue) == 5
        sender.stop()
    assert "more than 5" in "\n".join(sender.notices())


def test_a_missing_package_requests_stops_the_sender():
    def broken(settings):
        raise ImportError(CANARY)

    sender = Sender(settings_for("http://127.0.0.1:1/"), transport=broken)
    sender.put(b'{"seq": 0}')
    assert not sender.flush(20.0, patient=True)
    sender.stop()
    (notice,) = sender.notices()
    assert "ImportError" in notice
    assert CANARY not in notice


def test_a_thread_that_cannot_start_stops_the_sender(monkeypatch):
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
    sender.put(b'{"seq": 0}')
    assert sender.flush(20.0)
    sender.stop()
    assert Memory.taken == [{"seq": 0}]
