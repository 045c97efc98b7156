"""Many notifications at once make few messages, and failures come first."""

from __future__ import annotations

import json
import threading
import time
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, select
from stemphony.monitor.database import outbox, schema, simulations
from stemphony.monitor.database.connection import Database
from stemphony.monitor.intake.incoming import read_batch
from stemphony.monitor.intake.writer import Writer
from stemphony.monitor.notify import messenger
from stemphony.monitor.notify.delivery import NextStep
from stemphony.monitor.notify.messenger import BURST, DIGEST_ABOVE
from stemphony.monitor.notify.notice import DIGEST_NAMES, Digest, Notice, body_for, mail_for
from stemphony.monitor.notify.notifier import STALE_AGAIN_S, Notifier
from stemphony.monitor.notify.targets import Target, TargetSettings
from stemphony.monitor.state import State
from support.campaign import wait_for
from support.monitor import Story
from support.time_limit import require_within

from monitor.test_notification import Notified

TABLE = schema.NOTIFICATION
KEYS = ("simulation", "event", "kind", "target")


def ended(number: int, name: str = "FINISH", title: str = "", sender: str = "") -> list[dict[str, Any]]:
    stories = [Story(title=f"{title or name} {n}") for n in range(number)]
    return [event for story in stories for event in (story.start(), story.hook(name))]


def named(told: list[Any]) -> list[str]:
    return [
        title for message in told for title in ([message.title] if isinstance(message, Notice) else titles(message))
    ]


def titles(message: Digest) -> list[str]:
    return [notice["title"] for notice in message.content["notices"]]


def test_500_ends_in_one_request_are_one_message(any_database: str):
    with Database.open(any_database) as database, Notified(database, "finished", "failed") as notified:
        events = ended(499) + ended(1, "FAILED")
        notified.store(*events[:1000])
        notified.settle()
        (message,) = notified.told
        assert message.headline == "500 simulations: 1 failed, 499 finished"
        assert titles(message)[0] == "FAILED 0"
        assert len(titles(message)) == DIGEST_NAMES


def test_a_failure_after_a_flood_of_notifications_is_sent_at_once(any_database: str):
    with Database.open(any_database) as database, Notified(database, "finished", "failed") as notified:
        for _ in range(8):
            notified.store(*ended(60))
        begin = time.monotonic()
        notified.store(*ended(1, "FAILED", title="real"))
        wait_for(lambda: "real 0" in named(notified.told), "the failure")
        require_within(2 * messenger.REFILL_S, begin, "the notification of a failure after a flood")
        assert len(notified.told) <= BURST


def test_a_few_simulations_get_one_message_each_with_failures_first(any_database: str):
    with Database.open(any_database) as database:
        notified = Notified(database, "finished", "failed")
        notified.store(*ended(2), *ended(DIGEST_ABOVE - 3, "FAILED"))
        with notified:
            notified.settle()
        assert [message.kind for message in notified.told] == ["failed", "failed", "finished", "finished"]


def test_only_the_latest_state_of_a_simulation_is_sent(any_database: str):
    with Database.open(any_database) as database:
        notified = Notified(database, "finished", "failed")
        story = Story()
        for run in range(1, 51):
            story.run = run
            notified.store(story.start(), story.hook("FAILED"))
        with notified:
            notified.settle()
        assert [(message.kind, message.run) for message in notified.told] == [("failed", 50)]


def test_messages_to_one_target_are_limited(any_database: str):
    with Database.open(any_database) as database, Notified(database, "finished") as notified:
        for number in range(3 * BURST):
            notified.store(*ended(1, title=f"t{number}"))
            time.sleep(0.02)
        time.sleep(0.5)
        assert len(notified.told) <= BURST + 1
        with database.reader.begin() as connection:
            assert outbox.waiting(connection) >= 3 * BURST - len(named(notified.told))


def test_a_digest_that_is_not_delivered_is_tried_again(any_database: str):
    with Database.open(any_database) as database:
        with Notified(database, "finished", answer=NextStep.RETRY) as away:
            away.store(*ended(30))
            wait_for(lambda: away.told, "a try")
        with database.reader.begin() as connection:
            assert outbox.waiting(connection) == 30


def test_a_digest_alternates_between_senders(any_database: str):
    """Many failures of one sender do not displace those of others."""
    with Database.open(any_database) as database, Notified(database, "failed") as notified:
        flood = read_batch(json.dumps(ended(300, "FAILED", title="flood")).encode(), time.time(), "mallory")
        real = read_batch(json.dumps(ended(2, "FAILED", title="real")).encode(), time.time(), "ada")
        notified.writer.store([*flood, *real])
        notified.settle()
        (message,) = notified.told
        assert {"real 0", "real 1"} <= set(titles(message))


def test_a_digest_reads_well_in_all_formats():
    notices = tuple(
        Notice("failed", f"@all {n}", f"id {n}", n, 1, 5, 0, 10, 1, "", 0.0, f"https://m.example/simulations/{n}")
        for n in range(30)
    )
    digest = Digest(notices)
    assert json.loads(body_for(Target("t", "json", frozenset()), digest))["link"] == "https://m.example"
    for kind in ("slack", "mattermost"):
        text = json.loads(body_for(Target("t", kind, frozenset()), digest))["text"]
        assert "30 simulations: 30 failed" in text
        assert "10 more are on the page of the monitor" in text.replace("\\", "")
    assert "@all" not in json.loads(body_for(Target("t", "mattermost", frozenset()), digest))["text"]
    mail = mail_for(Target("t", "email", frozenset(), sender="a@b.c", recipients=("d@e.f",)), digest)
    assert mail["Subject"] == "[Stemphony] 30 simulations: 30 failed"
    assert "@all 3 has failed at 5 %." in mail.get_content()


def test_idle_messengers_do_not_query_the_database(any_database: str):
    with Database.open(any_database) as database, Notified(database, "finished", check_s=0.05) as notified:
        asked: list[str] = []
        real = outbox.due

        def due(*arguments: Any) -> Any:
            asked.append("due")
            return real(*arguments)

        time.sleep(0.3)
        outbox.due = due  # type: ignore[assignment]
        try:
            time.sleep(0.5)
            assert asked == []
            notified.store(*ended(1))
            notified.settle()
        finally:
            outbox.due = real  # type: ignore[assignment]
        assert len(notified.told) == 1


def test_silent_simulations_that_are_known_are_not_read_again(any_database: str):
    """Otherwise an idle monitor with 10,000 silent simulations would use the processor."""
    silent = [Story(title=f"silent {n}") for n in range(40)]
    targets = tuple(Target(f"t{n}", "json", frozenset({"stale"}), url="http://127.0.0.1:1/") for n in range(2))
    with Database.open(any_database) as database:
        writer = Writer(database)
        writer.store(read_batch(json.dumps([story.start() for story in silent]).encode(), time.time()))

        def search() -> int:
            """Rows that one search reads."""
            with database.reader.begin() as connection:
                rows = simulations.newly_silent(connection, time.time() + 3600.0, 900.0, 86_400.0, STALE_AGAIN_S)
            later = time.time() + 3600.0
            added = [note for entry in rows for note in notifier._rows(entry, State.STALE.value, later)]
            if added:
                writer.run(partial(outbox.add, added))
            return len(rows)

        notifier = Notifier(TargetSettings(targets), database, lambda text: None)
        assert [search(), search()] == [40, 0]
        writer.store(read_batch(json.dumps(silent[7].done(0, 0)).encode(), time.time() + 7200.0))
        assert search() == 0
        writer.close()


def test_silent_simulations_are_not_searched_if_no_target_wants_them(
    any_database: str, monkeypatch: pytest.MonkeyPatch
):
    searched = threading.Event()
    monkeypatch.setattr(simulations, "newly_silent", lambda *_: searched.set() or [])
    with Database.open(any_database) as database:
        for kind, expected in (("failed", False), ("stale", True)):
            with Notified(database, kind, check_s=0.05) as notified:
                notified.store(*ended(1))
                searched.wait(0.5 if not expected else 30.0)
            assert searched.is_set() == expected


def test_the_results_of_many_notifications_are_written_in_few_statements(any_database: str):
    """500 ends for 50 absent targets: one statement per row would delay the senders for a minute."""
    targets = tuple(Target(f"t{n}", "json", frozenset({"finished"}), url="http://127.0.0.1:1/") for n in range(3))
    with Database.open(any_database) as database:
        writer = Writer(database, Notifier(TargetSettings(targets), database, lambda text: None).rows)
        writer.store(read_batch(json.dumps(ended(100)).encode(), time.time()))
        with database.reader.begin() as connection:
            due = [row for target in targets for row in outbox.due(connection, target.name, time.time())]
        assert len(due) == 300
        statements: list[str] = []
        event.listen(database.writer, "before_cursor_execute", lambda *given: statements.append(given[2]))
        sent = [(row, {"due": None, "tries": 1, "trouble": "", "sent": float(n)}) for n, row in enumerate(due[:150])]
        later = [(row, {"due": float(n), "tries": n, "trouble": f"{n}"}) for n, row in enumerate(due[150:])]
        writer.run(partial(outbox.note, [*sent, *later]))
        assert sum(text.startswith("UPDATE notification") for text in statements) == 2
        with database.reader.begin() as connection:
            stored = {tuple(row[key] for key in KEYS): row for row in connection.execute(select(TABLE)).mappings()}
        writer.close()
    for row, values in (*sent, *later):
        found = stored[tuple(row[key] for key in KEYS)]
        assert {name: found[name] for name in values} == values
