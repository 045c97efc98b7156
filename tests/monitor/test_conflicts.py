"""Attacks of one sender on the simulation of another, and two senders with one id: no event is lost, none believed."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stemphony.cli import main
from stemphony.monitor.database import credentials
from stemphony.monitor.database.connection import Database
from stemphony.monitor.database.credentials import Role
from stemphony.monitor.intake import event_store, operators
from stemphony.monitor.intake.judgement import MAX_UNCLAIMED_EVENTS, Held
from stemphony.monitor.intake.rebuild import Rebuild
from stemphony.monitor.intake.summary_cache import SummaryCache
from stemphony.orchestration.orphaned_errors import BY_THE_RUN
from stemphony.paths import ResultPaths
from stemphony.status.events import event_id, event_id_of
from stemphony.store import ledger
from stemphony.store.copies import settle_identity
from support.monitor import Story

from monitor.conftest import Inside, inside


@dataclass
class Group:
    """A monitor with two writers and a reader."""

    monitor: Inside
    secrets: dict[str, str]

    def send(self, sender: str, *events: dict[str, Any]) -> Any:
        headers = {"Authorization": f"Bearer {self.secrets[sender]}"}
        return self.monitor.client.post("/events/batch", json=list(events), headers=headers)

    def post(self, sender: str, *events: dict[str, Any]) -> dict[str, int]:
        answer = self.send(sender, *events)
        assert answer.status_code == 200, answer.text
        return answer.json

    def get(self, path: str) -> Any:
        return self.monitor.client.get(path, headers={"Authorization": f"Bearer {self.secrets['reader']}"})

    @property
    def simulation(self) -> dict[str, Any]:
        (only,) = self.get("/api/simulations").json["simulations"]
        return only


@pytest.fixture
def group(any_database: str) -> Iterator[Group]:
    with Database.open(any_database) as database:
        made = made_group(database)
        yield made
        made.monitor.close()


def made_group(database: Database) -> Group:
    with database.writer.begin() as connection:
        found = {
            name: credentials.add(connection, name, Role.READER if name == "reader" else Role.WRITER, time.time())
            for name in ("ada", "bob", "reader")
        }
    return Group(inside(database), found)


TOTALS = ("num_defoci", "num_configurations", "finished", "progress")


def running(story: Story) -> list[dict[str, Any]]:
    return [story.start(), *story.done(0, 0), *story.job(0, 1, 0, 10)]


@pytest.mark.parametrize("run", [1, 2, 999_999])
@pytest.mark.parametrize("name", ["FINISH", "FAILED", "CANCELLED", "START_SIMULATION"])
def test_a_foreign_event_does_not_end_a_simulation(group: Group, run: int, name: str):
    story = Story()
    group.post("ada", *running(story))
    foreign = Story(uid=story.uid, run=run, title="mine now")
    assert group.post("bob", foreign.hook(name)) == {"stored": 1, "duplicates": 0, "conflicts": 1}
    found = group.simulation
    assert (found["state"], found["run"], found["title"], found["finished"]) == ("running", 1, story.title, 1)
    assert found["conflicts"] == 1
    group.post("ada", *story.done(0, 1, attempt=2), story.finish())
    assert group.simulation["state"] == "finished"


def test_a_foreign_event_with_a_computed_id_hides_no_event_of_the_owner(group: Group):
    """The ids of events can be computed from the id of the simulation."""
    story = Story(configurations=1, defoci=(0.0,))
    ahead = Story(uid=story.uid, configurations=1, defoci=(0.0,), now=story.now - 5)
    group.post("bob", *ahead.done(0, 0), ahead.finish())
    whole = story.whole()
    answer = group.post("ada", *whole)
    assert (answer["stored"], answer["duplicates"]) == (len(whole), 0)
    found = group.simulation
    assert (found["state"], found["finished"], found["events"]) == ("finished", 1, len(whole))
    assert found["conflicts"] == 5 + 1
    assert group.post("ada", *whole) == {"stored": 0, "duplicates": len(whole)}


def test_an_exact_copy_of_an_event_that_was_sent_ahead_hides_no_event_of_the_owner(group: Group):
    story = Story()
    start, finish = story.start(), story.finish()
    group.post("bob", finish)
    group.post("ada", start)
    assert group.simulation["state"] == "running"
    assert group.post("ada", finish) == {"stored": 1, "duplicates": 0}
    assert group.simulation["state"] == "finished"


def test_test_events_with_ids_of_other_events_hide_no_event(group: Group):
    """The attack: TEST belongs to no simulation and no owner, and its ids would make all events conflicts."""
    story = Story()
    events = story.whole()
    forged = [{"id": story.uid, "event": "TEST", "event_id": event["event_id"]} for event in events]
    assert group.post("bob", *forged, *forged) == {"stored": len(events), "duplicates": len(events)}
    assert group.post("ada", *events) == {"stored": len(events), "duplicates": 0}
    assert (group.simulation["state"], group.simulation["conflicts"]) == ("finished", 0)


@pytest.mark.parametrize("name", ["FINISH", "NOTE"])
def test_a_foreign_event_with_the_id_of_the_start_does_not_keep_the_owner_out(group: Group, name: str):
    """The attack: if the start were a conflict, the simulation would have no owner, and all events would count."""
    story = Story()
    events = running(story)
    group.post("bob", {**Story(uid=story.uid).hook(name), "event_id": events[0]["event_id"]})
    assert group.post("ada", *events) == {"stored": len(events), "duplicates": 0}
    found = group.simulation
    assert (found["owner"], found["state"], found["finished"], found["conflicts"]) == ("ada", "running", 1, 1)


def test_foreign_images_that_arrive_before_the_start_are_not_shown(group: Group):
    picture = {"preview": "AAAA", "preview_width": 1, "preview_low": 0.0, "preview_high": 1.0, "preview_detector": "x"}
    story = Story(previews=[picture])
    group.post("bob", *Story(uid=story.uid, previews=[picture]).done(0, 0))
    assert "/preview.png" in group.get("/simulations/1").text
    group.post("ada", *running(Story(uid=story.uid)))
    assert "/preview.png" not in group.get("/simulations/1").text


def test_events_before_the_start_count_only_if_they_are_from_its_sender(group: Group):
    story = Story()
    start, job = story.start(), story.done(0, 0)
    group.post("ada", *job)
    group.post("bob", *Story(uid=story.uid).done(1, 1))
    group.post("ada", start)
    found = group.simulation
    assert (found["finished"], found["conflicts"]) == (1, 5)


def test_any_number_of_foreign_events_before_the_start_is_bounded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """The attack: after 20,000 of them the simulation stayed finished, and a repair kept all senders out."""
    with Database.open(str(tmp_path / "monitor.sqlite")) as database:
        group = made_group(database)
        story = Story()
        forged = [{**Story(uid=story.uid).finish(), "event_id": f"{n}", "seq": n} for n in range(20_100)]
        for begin in range(0, len(forged), 1000):
            while group.send("bob", *forged[begin : begin + 1000]).status_code == 503:
                time.sleep(0.1)  # a busy machine
        assert group.simulation["events"] == MAX_UNCLAIMED_EVENTS
        start, job = story.start(), story.done(0, 0)
        group.post("ada", *job)
        assert group.simulation["finished"] == 0
        while group.send("ada", start).status_code == 503:
            time.sleep(0.1)
        found = group.simulation
        assert (found["state"], found["finished"], found["owner"]) == ("running", 1, "ada")
        assert (found["events"], found["conflicts"]) == (len(job) + 1, len(forged))
        answers: list[int] = []

        def send_in_the_pause(_seconds: float) -> None:
            number = len(answers) + 1
            events = story.job(0, 1, number % 100, attempt=1 + number // 100)
            answers.append(group.send("ada", *events).status_code)

        monkeypatch.setattr(operators, "time", SimpleNamespace(time=time.time, sleep=send_in_the_pause))
        operators.repair(database, "1", portion_s=0.0)
        assert len(answers) >= 2, "the repair left no pause for senders"
        assert {*answers} == {200}
        group.post("ada", *story.job(0, 1, 50, attempt=len(answers)))
        found = group.simulation
        assert (found["state"], found["finished"], found["running"]) == ("running", 1, 1)
        assert found["conflicts"] == len(forged)
        group.monitor.close()


def test_a_repair_in_portions_includes_events_that_arrive_during_it(group: Group):
    story, database = Story(configurations=100), group.monitor.database
    group.post("ada", story.start(), *(event for c in range(80) for event in story.done(0, c)))
    with database.writer.begin() as connection:
        rebuild = Rebuild(SummaryCache(connection, database), operators.find(connection, "1"), [], judge_again=True)
    portions, is_read = 0, False
    while not is_read:
        if portions < 4:
            group.post("ada", *story.done(1, portions))
        with database.writer.begin() as connection:
            if is_read := rebuild.step(connection, 0.0):
                rebuild.finish(connection)
        portions += 1
    assert portions >= 3
    found = group.simulation
    assert (found["finished"], found["events"], found["owner"]) == (
        80 + min(portions, 4),
        401 + 5 * min(portions, 4),
        "ada",
    )


def test_foreign_parameters_and_defoci_leave_room_for_those_of_the_owner(group: Group):
    story = Story(parameters={"sample": "A"})
    many = [Story(uid=story.uid, parameters={f"p{n}": "x" for n in range(k, k + 150)}).hook("NOTE") for k in (0, 150)]
    group.post("bob", *many)
    group.post("ada", *running(story))
    assert group.simulation["parameters"] == {"sample": "A"}


# --- a monitor without credentials -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["FINISH", "FAILED", "CANCELLED", "START_SIMULATION", "NOTE"])
def test_events_with_an_impossible_run_number_are_held_back(any_monitor: Inside, name: str):
    story = Story()
    any_monitor.store(running(story))
    any_monitor.store([Story(uid=story.uid, run=999_999).hook(name)])
    assert (any_monitor.simulation["state"], any_monitor.simulation["run"]) == ("running", 1)
    listed = any_monitor.client.get("/api/simulations/1/events?all=1").json["events"]
    assert [entry["held"] for entry in listed if entry["event"]["run"] > 1] == [Held.NUMBER]
    any_monitor.store([story.finish()])
    assert any_monitor.simulation["state"] == "finished"


@pytest.mark.parametrize("name", ["FINISH", "FAILED", "CANCELLED"])
def test_the_end_of_a_run_that_has_not_begun_waits_for_its_begin(any_monitor: Inside, name: str):
    story = Story()
    any_monitor.store(running(story))
    later = Story(uid=story.uid, run=2)
    start, end = later.start(), later.hook(name)
    any_monitor.store([end])
    assert any_monitor.simulation["state"] == "running"
    any_monitor.store([start])
    assert any_monitor.simulation["state"] == {"FINISH": "finished"}.get(name, name.lower())
    assert any_monitor.simulation["conflicts"] == 0


def test_a_forged_end_from_before_the_start_is_undone_by_the_start(any_monitor: Inside):
    story = Story()
    forged = Story(uid=story.uid, now=story.now - 3600)
    any_monitor.store([forged.finish()])
    assert any_monitor.simulation["state"] == "finished"
    any_monitor.store(running(story))
    assert any_monitor.simulation["state"] == "running"
    assert any_monitor.store([story.finish()]) == {"stored": 1, "duplicates": 0}
    assert any_monitor.simulation["state"] == "finished"


def test_an_operator_can_reject_a_forged_end_of_a_large_simulation(
    any_monitor: Inside, monkeypatch: pytest.MonkeyPatch
):
    """Senders do not wait until all these events are read again, so the forged end counts until then."""
    monkeypatch.setattr(event_store, "MAX_REBUILT_EVENTS", 3)
    story = Story()
    forged = Story(uid=story.uid, now=story.now - 3600)
    any_monitor.store([*forged.done(0, 0), forged.finish()])
    any_monitor.store(running(story))
    assert any_monitor.simulation["state"] == "finished"
    listed = any_monitor.client.get("/api/simulations/1/events?all=1").json["events"]
    (row,) = (entry["row"] for entry in listed if entry["event"]["event"] == "FINISH")
    operators.repair(any_monitor.database, "1", reject=[row])
    assert any_monitor.simulation["state"] == "running"
    any_monitor.store([story.finish()])
    assert any_monitor.simulation["state"] == "finished"


def test_the_forged_start_of_a_later_run_is_undone_by_a_true_run(any_monitor: Inside):
    story = Story(now=time.time() - 7200)
    any_monitor.store(running(story))
    forged = Story(uid=story.uid, run=900, now=time.time() - 3600)
    any_monitor.store([forged.start(), *forged.done(1, 1, attempt=900), forged.finish()])
    assert any_monitor.simulation["run"] == 900
    second = Story(uid=story.uid, run=2)
    any_monitor.store([second.start(), *second.done(0, 1, attempt=2)])
    found = any_monitor.simulation
    assert (found["run"], found["state"], found["finished"], found["conflicts"]) == (2, "running", 2, 7)


def test_an_event_with_a_known_id_and_other_content_is_a_conflict(any_monitor: Inside):
    """Two copies of a results folder with one id."""
    story = Story()
    copy = Story(uid=story.uid, now=story.now + 100)
    events, others = running(story), running(copy)
    any_monitor.store(events)
    answer = any_monitor.client.post("/events/batch", json=others).json
    assert answer == {"stored": len(others), "duplicates": 0, "conflicts": len(others)}
    assert any_monitor.simulation["conflicts"] == len(others)
    listed = any_monitor.client.get("/api/simulations/1/events?all=1").json["events"]
    assert {entry["event"]["time"] for entry in listed} >= {others[0]["time"], events[0]["time"]}
    assert any_monitor.store(others) == {"stored": 0, "duplicates": len(others)}
    assert any_monitor.store(events) == {"stored": 0, "duplicates": len(events)}
    page = any_monitor.client.get("/simulations/1").text
    assert f"{len(others)} events under this id are kept and not counted" in page


def test_the_error_of_a_job_and_that_of_its_run_are_no_conflict(any_monitor: Inside):
    """On a full disk the job sends its ERROR from memory, and the run does not know of it and writes another one."""
    story = Story()
    *job, own = story.job(0, 0, 10, end="No space left on device")
    (of_run,) = story.job(0, 0, end="the job ended without a message")[1:]
    of_run["event_id"] = event_id(story.uid, 1, "ERROR", own["job"], own["attempt"], "", BY_THE_RUN)
    any_monitor.store([story.start(), *job, own, {**of_run, "seq": 2}])
    found = any_monitor.simulation
    assert (found["failed"], found["running"], found["conflicts"]) == (1, 0, 0)


@pytest.mark.parametrize("host", ["far away", socket.gethostname()])
def test_two_copies_of_a_lost_original_by_two_users_are_both_kept_and_shown(group: Group, tmp_path: Path, host: str):
    """Neither copy sees the other one, so both keep the id. Their event ids differ, and both are shown."""
    made = []
    for name in ("ada", "bob"):
        result = ResultPaths(tmp_path / name)
        result.root.mkdir()
        kept = {"id": "6b1e4f0e-6f0e-4d0c-9c53-1b7a3c0e7f11", "seed": 1, "created": "now"}
        result.identity.write_text(json.dumps({**kept, "folder": str(tmp_path / "gone"), "host": host}))
        settle_identity(result)
        identity = ledger.identity(result, 1)
        story = Story(uid=identity.id)
        events = [{**event, "event_id": event_id_of(event, identity.instance)} for event in story.whole()]
        answer = group.post(name, *events)
        assert (answer["stored"], answer["duplicates"]) == (len(events), 0)
        made.append({event["event_id"] for event in events})
    assert len(made[0] & made[1]) == 1, "only START_SIMULATION"
    found = group.simulation
    assert (found["owner"], found["state"], found["conflicts"]) == ("ada", "finished", len(made[1]))
    page = group.get("/simulations/1").text
    assert f"{len(made[1])} events under this id are kept and not counted" in page
    assert "bob" in page
    listed, before = set(), 0
    while chunk := group.get(f"/api/simulations/1/events?all=1&before={before}").json["events"]:
        listed |= {(entry["sender"], entry["event"]["event_id"]) for entry in chunk}
        before = chunk[-1]["row"]
    assert listed == {("ada", one) for one in made[0]} | {("bob", one) for one in made[1]}


def test_two_starts_of_one_run_are_a_conflict_even_with_different_ids(any_monitor: Inside):
    story = Story()
    any_monitor.store(running(story))
    other = {**Story(uid=story.uid, now=story.now + 1).start(), "event_id": "of another copy"}
    assert any_monitor.client.post("/", json=other).json["conflicts"] == 1


def test_an_event_that_is_sent_again_with_other_parameters_is_a_duplicate(any_monitor: Inside):
    """A sender reads its parameters again from the config when it sends an event again."""
    event = Story().start()
    any_monitor.store([{**event, "note": "before"}])
    assert any_monitor.store([{**event, "note": "after"}]) == {"stored": 0, "duplicates": 1}


# --- numbers beyond the announced totals -----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["configuration_index", "defocus_index"])
def test_an_event_with_an_index_beyond_its_own_totals_is_refused(any_monitor: Inside, key: str):
    story = Story()
    event = {**story.job(0, 0)[0], key: 999_999}
    answer = any_monitor.client.post("/", json=event)
    assert answer.status_code == 400
    assert f"`{key}` is 999999, and `num_" in answer.json["error"]


@pytest.mark.parametrize("totals", [{}, {"num_configurations": 1_000_000, "num_defoci": 1}])
def test_an_event_with_an_index_beyond_the_totals_of_its_run_is_held(any_monitor: Inside, totals: dict[str, int]):
    story = Story()
    any_monitor.store(running(story))
    event = {**story.job(0, 0)[0], "configuration_index": 999_999, "event_id": "x"}
    del event["num_configurations"], event["num_defoci"]
    any_monitor.store([{**event, **totals}])
    found = any_monitor.simulation
    assert (found["num_configurations"], found["conflicts"], found["running"]) == (4, 1, 1)
    page = any_monitor.client.get("/simulations/1").text
    assert page.count('role="gridcell"') == 3 * 4


def test_an_index_that_arrives_before_the_totals_leaves_the_grid_intact(any_monitor: Inside):
    story = Story()
    event = {**story.job(0, 0)[0], "configuration_index": 999_999, "event_id": "x"}
    del event["num_configurations"]
    any_monitor.store([event, *running(story)])
    page = any_monitor.client.get("/simulations/1").text
    assert page.count('role="gridcell"') == 3 * 4
    assert "1 cell beyond the announced" in page


@pytest.mark.parametrize("totals", [{"num_configurations": 1}, {"num_configurations": 400}, {"num_defoci": 0}])
def test_a_second_start_with_other_totals_changes_no_totals(any_monitor: Inside, totals: dict[str, int]):
    story = Story()
    any_monitor.store(running(story))
    before = any_monitor.simulation
    forged = {**Story(uid=story.uid).start(), **totals, "event_id": "forged"}
    assert any_monitor.store([forged]) == {"stored": 1, "duplicates": 0, "conflicts": 1}
    after = any_monitor.simulation
    assert [after[key] for key in TOTALS] == [before[key] for key in TOTALS]


def test_forged_totals_are_corrected_by_the_next_true_event(any_monitor: Inside):
    """A run may add configurations, so one forged event can make it look larger, but not for good."""
    story = Story(defoci=(0.0,))
    any_monitor.store(running(story))
    grown = story.job(0, 2, 10)[0] | {"num_configurations": 200, "configuration_index": 199, "event_id": "forged"}
    any_monitor.store([grown])
    any_monitor.store([event for c in (1, 2, 3) for event in story.done(0, c, attempt=2)])
    found = any_monitor.simulation
    assert (found["num_configurations"], found["finished"], found["progress"]) == (4, 4, 1.0)
    any_monitor.store([story.finish()])
    assert any_monitor.simulation["state"] == "finished"


def test_defoci_beyond_the_announced_number_are_held(any_monitor: Inside):
    story = Story(defoci=(0.0, 1.0))
    any_monitor.store([story.start(), *story.done(0, 0), *story.done(1, 0)])
    bogus = [
        {**story.job(0, 0)[0], "defocus": 50.0 + n, "job": f"bogus {n}", "event_id": f"bogus {n}"} for n in range(50)
    ]
    answer = any_monitor.client.post("/events/batch", json=bogus).json
    assert answer["conflicts"] == 50
    assert {defocus for defocus, _ in any_monitor.pairs()} == {0.0, 1.0}


def test_an_impossible_attempt_number_does_not_block_a_pair(any_monitor: Inside):
    story = Story()
    any_monitor.store([story.start(), *story.job(0, 0, 0)])
    any_monitor.store(story.job(0, 0, 0, attempt=2**53))
    any_monitor.store(story.job(0, 0, 0, 50, 100, attempt=2, end="finish"))
    assert any_monitor.pairs()[0.0 - 2.5, 0]["state"] == "finished"


def test_a_forged_sequence_number_does_not_hide_the_end_of_a_job(any_monitor: Inside):
    story = Story()
    events = story.done(0, 0)
    any_monitor.store([story.start(), *events[:2]])
    any_monitor.store([{**events[1], "seq": 2**53, "progress": 0.3, "event_id": "forged"}])
    any_monitor.store(events[2:])
    assert any_monitor.pairs()[-2.5, 0]["state"] == "finished"


def test_many_parameters_do_not_keep_later_ones_out(any_monitor: Inside):
    story = Story(parameters={"sample": "A"})
    start = story.start()
    any_monitor.store([start])
    for begin in range(0, 300, 150):
        many = {f"p{n}": "x" for n in range(begin, begin + 150)}
        any_monitor.store([Story(uid=story.uid, parameters=many).hook("NOTE")])
    story.parameters = {"sample": "B", "holder": "2"}
    any_monitor.store(story.done(0, 0))
    parameters = any_monitor.client.get("/api/simulations/1").json["parameters"]
    assert (parameters["sample"], parameters["holder"]) == ("B", "2")


# --- what an operator does about it ----------------------------------------------------------------------------------


def operate(group: Group, capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> str:
    url = group.monitor.database.url.render_as_string(hide_password=False)
    assert main(["monitor", "simulation", *words, "--db", url]) == status
    said = capsys.readouterr()
    return said.err if status else said.out


@pytest.fixture
def taken_over(group: Group) -> tuple[Group, Story]:
    """Bob sends the start of ada's simulation ahead, and ends it."""
    story = Story(title="of ada")
    forged = Story(uid=story.uid, title="of bob", now=story.now - 100)
    group.post("bob", forged.start(), forged.finish())
    group.post("ada", *running(story))
    assert (group.simulation["owner"], group.simulation["title"]) == ("bob", "of bob")
    return group, story


def test_an_operator_can_return_a_simulation_to_its_owner(
    taken_over: tuple[Group, Story], capsys: pytest.CaptureFixture[str]
):
    group, story = taken_over
    shown = operate(group, capsys, "show", story.uid)
    assert "not counted: 9 of ada: another credential than the owner's sent it" in shown
    assert f"{story.uid}: owner ada, run 1, 9 events count, 2 kept and not" in operate(
        group, capsys, "give", story.uid, "ada"
    )
    # The running monitor notices without a restart.
    group.post("ada", *story.done(1, 1), story.finish())
    found = group.simulation
    assert (found["owner"], found["title"], found["state"]) == ("ada", "of ada", "finished")
    assert (found["finished"], found["conflicts"]) == (2, 2)
    assert "give" in operate(group, capsys, "log")


def test_a_shared_simulation_takes_events_of_both(group: Group, capsys: pytest.CaptureFixture[str]):
    story = Story()
    group.post("ada", *running(story))
    group.post("bob", *story.done(1, 0))
    assert group.simulation["finished"] == 1
    operate(group, capsys, "share", "1", "bob")
    assert group.simulation["finished"] == 2
    group.post("bob", *story.done(1, 1))
    assert (group.simulation["finished"], group.simulation["conflicts"]) == (3, 0)
    operate(group, capsys, "share", "1", "bob", "--stop")
    assert (group.simulation["finished"], group.simulation["conflicts"]) == (1, 10)


def test_a_copy_of_another_sender_moves_to_a_simulation_of_its_own(group: Group, capsys: pytest.CaptureFixture[str]):
    story = Story()
    copy = Story(uid=story.uid, now=story.now + 50)
    group.post("ada", *running(story))
    group.post("bob", *running(copy))
    operate(group, capsys, "move", story.uid, "--sender", "bob")
    group.post("bob", *copy.done(2, 2), copy.finish())
    group.post("ada", *story.done(0, 2))
    listed = {entry["id"]: entry for entry in group.get("/api/simulations").json["simulations"]}
    assert set(listed) == {story.uid, f"{story.uid}@bob"}
    assert (listed[story.uid]["state"], listed[story.uid]["conflicts"]) == ("running", 0)
    assert listed[story.uid]["finished"] == 2
    moved = listed[f"{story.uid}@bob"]
    assert (moved["state"], moved["finished"], moved["owner"], moved["conflicts"]) == ("finished", 2, "bob", 0)


def test_a_false_event_can_be_rejected(group: Group, capsys: pytest.CaptureFixture[str]):
    story = Story()
    group.post("ada", *running(story), story.hook("CANCELLED"))
    assert group.simulation["state"] == "cancelled"
    events = group.get("/api/simulations/1/events").json["events"]
    assert events[0]["event"]["event"] == "CANCELLED"
    operate(group, capsys, "repair", "1", "--reject", str(events[0]["row"]))
    assert (group.simulation["state"], group.simulation["conflicts"]) == ("running", 1)
    assert "has no such event" in operate(group, capsys, "repair", "1", "--reject", "999", status=1)


def test_repair_makes_the_same_summary_again(group: Group, capsys: pytest.CaptureFixture[str]):
    story = Story()
    group.post("ada", *story.whole())
    story.run = 2
    group.post("ada", *running(story), *story.job(1, 1, 10, attempt=2, end="broken"))
    before, pairs = group.simulation, group.get("/api/simulations/1/pairs").json
    operate(group, capsys, "repair", "1")
    assert group.simulation == before
    assert group.get("/api/simulations/1/pairs").json == pairs


def test_a_deleted_simulation_is_gone(group: Group, capsys: pytest.CaptureFixture[str]):
    story = Story()
    group.post("ada", *story.whole())
    assert "Add --yes" in operate(group, capsys, "delete", "1", status=1)
    operate(group, capsys, "delete", "1", "--yes")
    assert group.get("/api/simulations").json["simulations"] == []
    assert group.post("ada", *story.whole())["duplicates"] == 0
    assert "deleted" in operate(group, capsys, "log")
    assert "there is none" in operate(group, capsys, "show", "77", status=1)


def test_names_that_are_no_writers_are_refused(group: Group, capsys: pytest.CaptureFixture[str]):
    group.post("ada", *running(Story()))
    for action in (["give", "1", "reader"], ["share", "1", "nobody"]):
        assert "is not the name of a writer. Writers: ada, bob." in operate(group, capsys, *action, status=1)
