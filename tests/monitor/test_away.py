"""A database that stops or that another monitor takes: answers, log lines, and that no event counts twice."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from stemphony.errors import MonitorError
from stemphony.monitor import server
from stemphony.monitor.database import schema, simulations
from stemphony.monitor.database.connection import Database
from stemphony.monitor.intake.writer import NotStored, WriterLimits
from stemphony.monitor.notify.delivery import NextStep
from support.campaign import wait_for
from support.monitor import MonitorProcess, Reply, Story

from monitor.conftest import Inside, PostgresqlServer, inside, monitor_of
from monitor.test_notification import Notified

SELDOM = WriterLimits(look_s=3600.0)
ANOTHER = "another monitor serves it now; stop one of the two"


def rows_of(database: Database) -> tuple[int, int, int]:
    """Events, numbers of events, and the events that the summaries have counted."""
    with database.reader.begin() as connection:
        events = connection.execute(select(func.count(), func.count(schema.EVENT.c.key.distinct()))).one()
        counted = connection.execute(select(func.sum(schema.SIMULATION.c.events))).scalar()
    return events[0], events[1], int(counted or 0)


# --- two monitors of one PostgreSQL -----------------------------------------------------------------------------------


def test_a_monitor_that_lost_its_database_to_another_monitor_writes_nothing(
    postgresql_server: PostgresqlServer, postgresql_database: str
):
    """A restart of PostgreSQL ends the lock of the first monitor. Later it knows what the second one wrote."""
    story, others = Story(), Story(uid="of the second")
    with Database.open(postgresql_database) as database:
        database.lock()
        first = inside(database, SELDOM)
        first.store([story.start(), *story.done(0, 0)])
        postgresql_server.restart()
        with Database.open(postgresql_database) as other:
            other.lock()
            second = inside(other, SELDOM)
            second.store([*story.done(0, 1), *others.whole()])
            before = rows_of(other)
            for _ in range(5):
                answer = first.client.post("/events/batch", json=story.done(0, 2))
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
                assert answer.json["error"] == f"not stored: {ANOTHER}. Send it again later."
            assert rows_of(other) == before
            (said,) = first.said
            assert f"does not take events: {ANOTHER}." in said
            health = first.client.get("/healthz")
            assert health.status_code == 503
            assert health.json["status"] == "another monitor serves the database; this one stores nothing"
            # Readers get answers, and the second monitor is not disturbed.
            assert len(first.simulations()) == 2
            second.store([*story.done(0, 3)])
            second.close()
        later = story.done(0, 2)
        wait_for(lambda: first.client.post("/events/batch", json=later).status_code == 200, "the lock")
        assert first.said[1:] == ["the database takes events again"]
        assert first.client.get("/healthz").json == {"status": "ok"}
        first.store([*story.done(1, 0), Story(uid="new").start()])
        events, keys, counted = rows_of(database)
        assert events == keys == counted
        assert {entry["id"]: entry["finished"] for entry in first.simulations()} == {
            story.uid: 5, others.uid: 12, "new": 0,
        }  # fmt: skip
        first.close()


def test_a_monitor_learns_what_another_monitor_wrote_while_it_was_idle(
    postgresql_server: PostgresqlServer, postgresql_database: str
):
    """The first writes nothing between a restart of PostgreSQL and the end of the second."""
    import psycopg

    story = Story(parameters={"k": "v"})
    with Database.open(postgresql_database) as database:
        database.lock()
        first = inside(database, SELDOM)
        first.store([story.start(), *story.done(0, 0), *story.job(0, 1, 0, 50)])
        postgresql_server.restart()
        with Database.open(postgresql_database) as other:
            other.lock()
            second = inside(other, SELDOM)
            second.store([*story.done(0, 1), *story.done(1, 1)])
            second.close()
        # Its connection is ended when the server has seen that it is.
        with psycopg.connect(postgresql_database, autocommit=True) as asking:
            held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            wait_for(lambda: asking.execute(held).fetchone() == (0,), "the end of the second")
        first.store(story.done(2, 0))
        assert first.said == []
        assert (first.simulation["finished"], first.simulation["running"]) == (4, 0)
        events, keys, counted = rows_of(database)
        assert events == keys == counted
        first.close()


def test_the_lock_is_taken_again_before_an_event_needs_it(
    postgresql_server: PostgresqlServer, postgresql_database: str
):
    with Database.open(postgresql_database) as database, Database.open(postgresql_database) as other:
        database.lock()
        first = inside(database, WriterLimits(look_s=0.05))
        before = database.writer_connections
        postgresql_server.stop()
        try:
            wait_for(lambda: first.client.get("/healthz").status_code == 503, "the trouble")
        finally:
            postgresql_server.start()
        wait_for(lambda: first.client.get("/healthz").status_code == 200, "its end")
        assert database.writer_connections > before
        with pytest.raises(MonitorError, match="served by another monitor"):
            other.lock()
        assert first.said[-1] == "the database takes events again"
        first.close()


def test_the_connection_that_holds_the_lock_is_not_replaced_because_of_its_age(
    postgresql_database: str, monkeypatch: pytest.MonkeyPatch
):
    """Between two connections another monitor could take the lock."""
    with Database.open(postgresql_database) as database:
        database.lock()
        before, now = database.writer_connections, time.time
        monkeypatch.setattr(time, "time", lambda: now() + 7 * 86_400)
        with database.writer.begin() as connection:
            connection.execute(select(1))
        assert database.writer_connections == before
        monkeypatch.undo()


def test_a_monitor_that_has_lost_its_database_sends_no_notifications(
    postgresql_server: PostgresqlServer, postgresql_database: str
):
    with Database.open(postgresql_database) as database, Database.open(postgresql_database) as other:
        database.lock()
        with Notified(database, "finished", check_s=0.05, limits=SELDOM) as first:
            postgresql_server.restart()
            other.lock()
            with pytest.raises(NotStored, match=ANOTHER):
                first.store(Story().start())
            with Notified(other, "finished", answer=NextStep.RETRY, check_s=0.05, limits=SELDOM) as second:
                second.store(*Story().whole())
                for _ in range(3):
                    wait_for(lambda: len(second.told) > 0, "a try")
                    second.told.clear()
                    second.writer.run(lambda connection: connection.execute(schema.NOTIFICATION.update().values(due=0)))
            assert first.told == []


# --- a database that is not there -------------------------------------------------------------------------------------

HTML = {"Accept": "text/html,application/xhtml+xml"}
PAGES = ("/", "/simulations/1", "/simulations/1/events")
FOR_PROGRAMS = (
    "/metrics", "/api/simulations", "/api/simulations/1", "/api/simulations/1/pairs", "/api/simulations/1/events",
    "/live", "/simulations/1/live", "/simulations/1/preview.png?defocus=x", "/simulations/1/cell?configuration=0",
)  # fmt: skip


def require_away(reply: Reply) -> None:
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    assert "the database does not answer. Try again in some seconds. The monitor" in reply.text


def require_polite_while_away(monitor: MonitorProcess, story: Story) -> None:
    """Every request is answered by 503. The log has one line about reading and one about writing."""
    # Credentials are read once a second, so a request within that second passes the check and fails later.
    for path in (*PAGES, *FOR_PROGRAMS) * 3:
        reply = monitor.get(path, HTML if path in PAGES else {})
        require_away(reply)
        if path in PAGES:
            assert reply.text.startswith("<!doctype html>")
            assert "<h1>503</h1>" in reply.text
        else:
            assert reply.json.keys() == {"error"}
    for _ in range(5):
        reply = monitor.post("/", story.hook("X"))
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    wait_for(lambda: monitor.get("/healthz").status == 503, "the trouble")
    said = monitor.said()
    assert "Traceback" not in said
    assert said.count("cannot be read: ") == 1
    assert said.count("Pages and the API answer 503.") == 1
    # The first request may be cut off, and the second may not reach the server; the text says which.
    assert 1 <= said.count("does not take events: ") <= 2
    assert len(said.splitlines()) <= 4


def require_back(monitor: MonitorProcess, story: Story) -> None:
    wait_for(lambda: monitor.post("/", story.hook("Y")).status == 200, "a database")
    for path in (*PAGES, "/metrics", "/api/simulations", "/live"):
        assert monitor.get(path).status == 200
    assert monitor.get("/healthz").status == 200
    said = monitor.said()
    assert said.count("the database can be read again") == 1
    assert said.count("the database takes events again") == 1
    assert monitor.get("/api/simulations/1").json["finished"] == 1


def test_a_stopped_postgresql_gives_a_message_and_no_traceback(
    tmp_path: Path, postgresql_server: PostgresqlServer, postgresql_database: str
):
    story = Story()
    with MonitorProcess(tmp_path, db=postgresql_database) as monitor:
        monitor.store([story.start(), *story.done(0, 0)])
        assert monitor.get("/").status == 200
        postgresql_server.stop()
        try:
            require_polite_while_away(monitor, story)
        finally:
            postgresql_server.start()
        require_back(monitor, story)


def test_a_database_file_that_is_moved_away_is_reported_and_not_created_again(tmp_path: Path):
    story = Story()
    with MonitorProcess(tmp_path) as monitor:
        monitor.store([story.start(), *story.done(0, 0)])
        file, elsewhere = Path(monitor.db), tmp_path / "elsewhere"
        file.rename(elsewhere)
        require_polite_while_away(monitor, story)
        assert not file.exists()
        elsewhere.rename(file)
        require_back(monitor, story)
        assert monitor.end() == 0
    with MonitorProcess(tmp_path) as again:
        assert again.get("/api/simulations/1").json["finished"] == 1


def test_another_file_in_the_place_of_the_database_is_not_touched(
    monitor: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The write-ahead log beside it belongs to the other file. Together they would be damaged."""
    monitor.store([Story().start()])
    file = Path(str(monitor.database.url.database))
    shutil.copy(file, tmp_path / "copy")
    (tmp_path / "copy").replace(file)
    before = file.read_bytes()
    answer = monitor.client.post("/", json=Story().start())
    assert answer.status_code == 503
    assert "another file is in its place; put it back, or restart the monitor" in answer.json["error"]
    opened: list[str] = []
    monkeypatch.setattr(sqlite3, "connect", lambda name, **_: opened.append(name))
    monitor.database.reader.dispose()
    assert monitor.client.get("/api/simulations").status_code == 503
    assert opened == []
    assert file.read_bytes() == before


def test_a_full_disk_is_reported_even_while_reading_works(tmp_path: Path):
    with monitor_of(str(tmp_path / "monitor.sqlite"), WriterLimits(look_s=0.01)) as monitor:
        with monitor.database.writer.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        long = Story(uid="long", parameters={f"k{n}": "x" * 900 for n in range(50)}).start()
        answer = monitor.client.post("/", json=long)
        assert (answer.status_code, answer.json["error"]) == (
            503, "not stored: database or disk is full. Send it again later.",
        )  # fmt: skip
        time.sleep(0.2)
        assert monitor.client.get("/healthz").status_code == 503
        assert monitor.client.get("/api/simulations").status_code == 200
        assert len(monitor.said) == 1


def test_an_invalid_query_is_answered_as_an_internal_error(any_monitor: Inside, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        simulations, "listed", lambda connection, *_: connection.execute(text("SELECT nothing FROM nowhere"))
    )
    assert any_monitor.client.get("/api/simulations").status_code == 500


def test_a_connection_that_breaks_leaves_no_traceback_of_the_pool(monitor: Inside, caplog: pytest.LogCaptureFixture):
    """The request that used the connection reports it in one line."""
    server._log_to_stderr()
    connection = monitor.database.reader.raw_connection()
    connection.dbapi_connection.close()
    connection.close()
    assert caplog.records == []
