"""A wrong clock deletes nothing, and wrong times are corrected when the clock is right again."""

from __future__ import annotations

import json
import time

import pytest
from sqlalchemy import select, update
from stemphony.monitor.database import schema
from stemphony.monitor.intake.retention import RIPE_S, SHARE_AT_LEAST, Retention
from support.monitor import Story

from monitor.conftest import Inside, sweep_twice

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S


class Run:
    """A monitor that keeps 30 days, with a wall clock that the test sets and a steady clock."""

    def __init__(self, monitor: Inside, ahead_s: float = 0.0) -> None:
        self.own_s = 0.0
        self.ahead_s = ahead_s
        self.retention = Retention(30, monitor.writer, monitor.said.append, lambda: self.own_s)

    def sweep(self, after_s: float = 0.0) -> int:
        self.own_s += after_s
        return self.retention.sweep(time.time() + self.ahead_s + self.own_s)


def fill(monitor: Inside, number: int = 3) -> None:
    for n in range(number):
        story = Story(title=f"series {n}")
        monitor.store(story.whole() if n else [story.start(), *story.done(0, 0)])


def test_a_start_with_a_wrong_clock_deletes_nothing(any_monitor: Inside):
    fill(any_monitor)
    for _ in range(3):
        assert Run(any_monitor, YEAR_S).sweep() == 0
    assert "They are deleted when the monitor has run 1 day more" in any_monitor.said[0]
    # The clock is right again. The marks are gone, however long the monitor runs.
    right = Run(any_monitor)
    assert [right.sweep(hours * 3600) for hours in (0, 23, 2, 24 * 7)] == [0, 0, 0, 0]
    assert len(any_monitor.simulations()) == 3


def test_a_running_simulation_is_never_deleted_while_the_clock_is_wrong(any_monitor: Inside):
    story = Story()
    any_monitor.store([story.start()])
    wrong = Run(any_monitor, YEAR_S)
    for n in range(20):
        assert wrong.sweep(DAY_S) == 0
        any_monitor.ahead_s = wrong.ahead_s + wrong.own_s
        any_monitor.store([story.hook(f"NOTE {n}")])
    assert len(any_monitor.simulations()) == 1


def test_old_simulations_are_deleted_after_a_day_of_running_even_with_restarts(any_monitor: Inside):
    fill(any_monitor)
    later = 40 * DAY_S
    first = Run(any_monitor, later)
    assert [first.sweep(), first.sweep(0.6 * RIPE_S)] == [0, 0]
    second = Run(any_monitor, later + RIPE_S)
    assert second.sweep() == 0
    assert second.sweep(0.6 * RIPE_S) == 2
    assert "deleted 2 simulations" in any_monitor.said[-1]
    assert "series 1 (last event 20" in any_monitor.said[-1]
    # The one without an end waits longer.
    assert [entry["title"] for entry in any_monitor.simulations()] == ["series 0"]
    assert second.sweep(7 * RIPE_S) == 1


def test_a_clock_that_jumps_while_the_monitor_runs_deletes_nothing(any_monitor: Inside):
    """The attack: the clock is months ahead for days. Truly old data are still deleted, by the monitor's own time."""
    fill(any_monitor)
    run = Run(any_monitor)
    assert run.sweep() == 0
    run.ahead_s = 300 * DAY_S
    assert [run.sweep(hours * 3600.0) for hours in (1, 23, 2, 24 * 8)] == [0] * 4
    (said,) = any_monitor.said
    assert said.startswith("the clock jumped ahead by 300.0 days. Until the monitor is started again, it judges")
    # The clock is in the past, and then right again.
    for run.ahead_s in (-300 * DAY_S, 0.0):
        assert run.sweep(DAY_S) == 0
    assert len(any_monitor.simulations()) == 3
    run.ahead_s = 300 * DAY_S
    assert [run.sweep(30 * DAY_S), run.sweep(2 * DAY_S)] == [0, 2]


def test_correcting_a_clock_that_was_behind_deletes_nothing(any_monitor: Inside):
    """The attack: a machine starts with its clock in the year 2000 and gets the time from the network later.

    Arrivals of this year are in the future then. They were set back, and looked old ever after.
    """
    fill(any_monitor)
    first = Run(any_monitor, 946_684_800.0 + YEAR_S - time.time())
    assert first.sweep() == 0
    first.ahead_s = 0.0
    assert first.sweep(3600.0) == 0
    right = Run(any_monitor)
    assert [right.sweep(hours * 3600.0) for hours in (0, 1, 25, 24 * 8)] == [0] * 4
    assert len(any_monitor.simulations()) == 3


def test_one_sweep_deletes_a_small_share(any_monitor: Inside):
    for n in range(3 * SHARE_AT_LEAST):
        story = Story(title=str(n))
        any_monitor.store([story.start(), story.finish()])
    run = Run(any_monitor, 40 * DAY_S)
    run.sweep()
    assert run.sweep(2 * RIPE_S) == SHARE_AT_LEAST
    assert run.sweep(3600) == SHARE_AT_LEAST


def test_a_simulation_that_continues_loses_its_mark_for_deletion(any_monitor: Inside):
    story = Story()
    any_monitor.store([story.start(), story.finish()])
    run = Run(any_monitor, 40 * DAY_S)
    run.sweep()
    any_monitor.store([Story(uid=story.uid, run=2).start()])
    assert run.sweep(2 * RIPE_S) == 0
    assert run.sweep(RIPE_S / 2) == 0


def test_arrivals_from_the_future_become_present_when_the_clock_is_right_again(any_monitor: Inside):
    """Otherwise a dead run would count as running for a year, and old simulations would stay one year longer."""
    story = Story()
    any_monitor.ahead_s = YEAR_S
    any_monitor.store([story.start(), *story.done(0, 0)])
    any_monitor.ahead_s = 0.0
    now = time.time()
    assert any_monitor.simulation["last_received"] > now + YEAR_S / 2
    Retention(0, any_monitor.writer, any_monitor.said.append).sweep(now)
    assert abs(any_monitor.simulation["last_received"] - now) < 2
    assert "the clock was wrong" in any_monitor.said[-1]
    any_monitor.ahead_s = 3600
    assert any_monitor.simulation["state"] == "stale"
    events = any_monitor.client.get("/api/simulations/1/events?all=1").json["events"]
    assert [entry for entry in events if abs(entry["received"] - now) >= 2] == []
    any_monitor.ahead_s = 0.0
    any_monitor.store([story.hook("NOTE")])
    assert any_monitor.simulation["last_received"] < now + 60


def test_notifications_from_the_future_are_sent_when_the_clock_is_right_again(any_monitor: Inside):
    any_monitor.store([Story().start()])
    later = time.time() + YEAR_S
    row = {
        "simulation": 1, "event": 1, "kind": "stale", "target": "chat", "run": 1, "created": later, "due": later,
        "tries": 1, "sent": None, "trouble": "", "notice": json.dumps({}),
    }  # fmt: skip
    any_monitor.writer.run(lambda connection: connection.execute(schema.NOTIFICATION.insert(), row))
    Retention(0, any_monitor.writer, any_monitor.said.append).sweep(time.time())
    with any_monitor.database.reader.begin() as connection:
        created, due = connection.execute(select(schema.NOTIFICATION.c.created, schema.NOTIFICATION.c.due)).one()
    assert created <= time.time()
    assert due <= time.time()


def test_a_simulation_without_a_mark_is_never_deleted(any_monitor: Inside):
    fill(any_monitor, 1)
    assert sweep_twice(any_monitor, 30, time.time()) == 0
    any_monitor.writer.run(lambda connection: connection.execute(update(schema.SIMULATION).values(last_received=0.0)))
    assert Retention(30, any_monitor.writer, any_monitor.said.append).sweep(time.time()) == 0


@pytest.mark.parametrize("keep_days", [0, 30])
def test_the_thread_of_retention_ends_with_the_monitor(any_monitor: Inside, keep_days: float):
    retention = Retention(keep_days, any_monitor.writer, any_monitor.said.append)
    retention.start()
    retention.close()
