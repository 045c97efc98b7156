"""The state of a simulation from its events, in any order of arrival."""

from __future__ import annotations

import json
import random
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select
from stemphony.monitor.database import schema
from stemphony.monitor.intake.incoming import read_event
from stemphony.monitor.intake.summaries import update_pair, update_simulation
from stemphony.monitor.records import PairSummary, SimulationSummary
from stemphony.monitor.state import outlook_of, silence_allowed_s, state_of
from support.monitor import Story

from monitor.conftest import Inside

VOLATILE = {"revision", "last_received", "rate_per_s", "earliest_end_s", "latest_end_s"}


def told(simulation: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in simulation.items() if key not in VOLATILE}


def test_a_run_that_goes_well_ends_with_every_pair_finished(any_monitor: Inside):
    story = Story()
    events = story.whole()
    any_monitor.store(events[:-1])
    running = any_monitor.simulation
    assert (running["state"], running["finished"], running["running"]) == ("running", 12, 0)
    assert running["progress"] == 1.0
    any_monitor.store(events[-1:])
    finished = any_monitor.simulation
    assert (finished["state"], finished["title"], finished["id"]) == ("finished", story.title, story.uid)
    assert finished["events"] == len(events)
    assert {pair["state"] for pair in any_monitor.pairs().values()} == {"finished"}
    assert len(any_monitor.pairs()) == 12


def test_progress_counts_finished_configurations_and_parts_of_running_ones(monitor: Inside):
    story = Story()
    monitor.store([story.start(), *story.done(0, 0), *story.job(0, 1, 0, 25), *story.job(2, 3, 0, 75)])
    simulation = monitor.simulation
    assert simulation["progress"] == pytest.approx(2 / 12)
    assert (simulation["finished"], simulation["running"], simulation["failed"]) == (1, 2, 0)
    assert monitor.pairs()[2.5, 3]["percent"] == 75


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_arrival_changes_nothing(monitor: Inside, seed: int):
    """Two runs with failures and a retry. Every batch is shuffled, and some events come twice."""
    story = Story(now=time.time() - 1000)
    events = [story.start(), *story.done(0, 0, step_s=1), *story.job(0, 1, 0, 40, end="OSError: disk full", step_s=1)]
    events += [*story.done(0, 1, attempt=2, step_s=1), *story.job(1, 0, 0, 10, end="killed", step_s=1)]
    events += [*story.job(2, 2, 0, 30, step_s=1), story.failed((1, 0), (2, 2), never_ran=7)]
    story.run, story.hook_seq = 2, 0
    story.now += 10
    events += [story.start(), *story.done(1, 0, attempt=2, step_s=1), *story.job(2, 2, 0, 60, attempt=2, step_s=1)]
    straight = [dict(event) for event in events]
    shuffled = [{**event, "id": "shuffled"} for event in events]
    random.Random(seed).shuffle(shuffled)
    monitor.store(straight)
    half = len(shuffled) // 2
    monitor.store(shuffled[:half])
    monitor.store(shuffled[half - 5 :])
    first, second = (monitor.simulations(text=text)[0] for text in (story.uid, "shuffled"))
    ignored = {"id", "row"}
    assert {k: v for k, v in told(first).items() if k not in ignored} == {
        k: v for k, v in told(second).items() if k not in ignored
    }
    assert monitor.pairs(first["row"]) == monitor.pairs(second["row"])
    assert (first["state"], first["run"], first["finished"], first["running"]) == ("running", 2, 3, 1)


def test_an_older_attempt_never_overwrites_a_newer_one(monitor: Inside):
    story = Story()
    late = story.job(0, 0, 0, 90, end="the first attempt died")
    monitor.store([story.start(), *story.done(0, 0, attempt=2)])
    monitor.store(late)
    assert monitor.pairs()[-2.5, 0] == {
        "defocus_key": "m2d500", "defocus": -2.5, "configuration": 0, "state": "finished", "percent": 100, "attempt": 2,
    }  # fmt: skip


def test_the_end_of_an_earlier_run_does_not_end_this_one(monitor: Inside):
    story = Story()
    end = story.failed((0, 0))
    story.run, story.hook_seq = 2, 0
    monitor.store([story.start(), end])
    assert monitor.simulation["state"] == "running"


def test_a_new_run_goes_on_where_the_last_one_stopped(monitor: Inside):
    story = Story()
    monitor.store([story.start(), *story.done(0, 0), *story.job(0, 1, 0, 80), story.cancelled(never_ran=10)])
    assert monitor.simulation["state"] == "cancelled"
    assert monitor.pairs()[-2.5, 1]["state"] == "stopped"
    story.run, story.hook_seq = 2, 0
    monitor.store([story.start()])
    again = monitor.simulation
    assert (again["state"], again["finished"], again["running"]) == ("running", 1, 0)
    # The attempt at 80 % is lost, its result was not written.
    assert again["progress"] == pytest.approx(1 / 12)
    monitor.store(story.done(0, 1, attempt=2))
    assert monitor.simulation["progress"] == pytest.approx(2 / 12)


def test_pairs_of_earlier_runs_count_unless_this_run_computes_them_again(monitor: Inside):
    """The same simulation with its config changed: its start says how many jobs the run has."""
    story = Story(now=time.time() - 3000)
    first = story.whole()
    monitor.store([*first[:-1], story.finish()])
    story.run, story.hook_seq, story.now = 2, 0, time.time() - 1000
    monitor.store([story.start(num_jobs=12), *story.job(0, 0, 0, 50, attempt=2)])
    again = monitor.simulation
    assert (again["finished"], again["progress"]) == (0, pytest.approx(0.5 / 12))
    monitor.store(story.job(0, 0, 0, 50, 100, attempt=2, end="finish")[-2:])
    assert (monitor.simulation["finished"], monitor.simulation["progress"]) == (1, pytest.approx(1 / 12))
    # In a rerun of two pairs, the other ten are done.
    story.run, story.hook_seq, story.now = 3, 0, time.time() - 500
    monitor.store([story.start(num_jobs=2), *story.done(0, 1, attempt=2)])
    some = monitor.simulation
    assert (some["finished"], some["progress"]) == (11, pytest.approx(11 / 12))


def test_other_defoci_under_the_same_id_do_not_count_twice(monitor: Inside):
    story = Story((0.0, 5.0), 2, now=time.time() - 3000)
    monitor.store(story.whole())
    story.run, story.hook_seq, story.now, story.defoci = 2, 0, time.time() - 1000, (1.0, 6.0)
    monitor.store([story.start(num_jobs=4), *story.done(0, 0), *story.job(1, 0, 0, 50)])
    changed = monitor.simulation
    assert (changed["finished"], changed["progress"]) == (1, pytest.approx(1.5 / 4))
    monitor.store([event for d, c in ((0, 1), (1, 1)) for event in story.done(d, c)])
    assert (monitor.simulation["finished"], monitor.simulation["running"]) == (3, 1)


def test_progress_from_a_checkpoint_counts_as_done_and_not_as_speed(monitor: Inside):
    """Eight jobs of 1000 s go on at 90 %. The rate counts only what was done since."""
    story = Story((0.0,), 100, now=time.time() - 60)
    began = story.now
    monitor.store([story.start(num_jobs=100)])
    jobs = []
    for number in range(8):
        story.now = began
        jobs += story.job(0, number, 90, step_s=0)
        story.now = began + 60
        jobs += story.job(0, number, 90, 96)[-1:]
    monitor.store(jobs)
    simulation = monitor.simulation
    assert simulation["progress"] == pytest.approx(8 * 0.96 / 100)
    assert simulation["rate_per_s"] == pytest.approx(8 / 1000, rel=0.05)
    left = (100 - 8 * 0.96) / 0.008
    assert simulation["earliest_end_s"] < left < simulation["latest_end_s"]
    # A failed attempt also loses the progress that it began with.
    monitor.store([*story.job(0, 0, 90, 96, end="killed")[-1:], *story.job(0, 0, 50, 60, attempt=2)])
    assert monitor.simulation["progress"] == pytest.approx((7 * 0.96 + 0.6) / 100)
    assert monitor.simulation["rate_per_s"] == pytest.approx((7 * 0.06 + 0.1) / 60, rel=0.3)


def test_a_failed_run_names_its_pairs_even_if_their_own_error_is_lost(monitor: Inside):
    story = Story()
    monitor.store([story.start(), *story.job(1, 2, 0, 30), story.failed((1, 2), never_ran=11)])
    simulation = monitor.simulation
    assert (simulation["state"], simulation["failed"], simulation["num_never_ran"]) == ("failed", 1, 11)
    assert monitor.pairs()[0.0, 2]["state"] == "failed"
    late = story.job(1, 2, 0, 30, end="OSError: no space")[-1:]
    monitor.store(late)
    assert monitor.simulation["failed"] == 1
    assert "OSError: no space" in monitor.client.get("/simulations/1").text


def test_an_inserted_defocus_does_not_move_the_others(monitor: Inside):
    """Pairs are identified by the value of the defocus, because its index changes in the next run."""
    story = Story(defoci=(0.0, 5.0), configurations=1)
    monitor.store(story.whole())
    story.defoci, story.run, story.hook_seq = (0.0, 2.5, 5.0), 2, 0
    monitor.store([story.start(), *story.done(1, 0), story.finish()])
    assert {place: pair["attempt"] for place, pair in monitor.pairs().items()} == {
        (0.0, 0): 1,
        (2.5, 0): 1,
        (5.0, 0): 1,
    }
    assert monitor.simulation["finished"] == 3


@pytest.mark.parametrize("when", ["before the start has arrived", "after it"])
def test_a_node_whose_clock_is_years_behind_does_not_make_a_run_of_years(monitor: Inside, when: str):
    began = time.time() - 100
    story = Story(now=began)
    start = story.start()
    events = [*story.done(0, 0, step_s=10), *story.job(0, 1, 0, 50, step_s=10)]
    late = [{**event, "time": "2001-01-01T00:00:00.000+00:00"} for event in story.job(1, 0, 0)]
    order = [*late, start, *events] if when.startswith("before") else [start, *events, *late]
    monitor.store(order)
    behind = monitor.simulation
    assert behind["run_started"] == pytest.approx(began, abs=0.01)
    assert 0 < behind["earliest_end_s"] < behind["latest_end_s"] < 3600
    assert behind["rate_per_s"] > 0.01


def test_events_before_the_start_make_a_simulation_of_their_own(monitor: Inside):
    story = Story()
    monitor.store(story.job(0, 0, 0, 50))
    simulation = monitor.simulation
    assert (simulation["state"], simulation["title"], simulation["num_defoci"]) == ("running", "", 3)
    monitor.store([story.start()])
    assert monitor.simulation["title"] == story.title


def test_unknown_names_are_stored_and_change_nothing(monitor: Inside):
    story = Story()
    monitor.store([story.start(), story.hook("HEARTBEAT"), story.hook("SOMETHING_NEW", defocus=1.0)])
    assert monitor.simulation["events"] == 3
    assert monitor.simulation["state"] == "running"
    names = [entry["event"]["event"] for entry in monitor.client.get("/api/simulations/1/events").json["events"]]
    assert names == ["SOMETHING_NEW", "HEARTBEAT", "START_SIMULATION"]


def test_events_of_stemsalabim_are_understood(monitor: Inside):
    """STEMsalabim: no event_id, run, job, attempt, seq; START_CONFIGURATION for progress; no end of a configuration."""
    common = {"id": "an id", "num_threads": 4, "num_processors": 2, "num_defoci": 1, "num_configurations": 2}
    when = [f"2026-03-01 10:00:{second:02d}" for second in range(20)]
    pair = {"defocus": 3.0, "defocus_index": 0, "configuration_index": 0}
    events = [
        {"event": "START_SIMULATION", "version": "5", "git_commit": "abc", "title": "from the original"},
        {"event": "START_DEFOCUS", "defocus": 3.0, "defocus_index": 0},
        {"event": "START_FP_CONFIGURATION", **pair},
        *({"event": "START_CONFIGURATION", **pair, "progress": done / 4} for done in range(5)),
        {"event": "START_FP_CONFIGURATION", **pair, "configuration_index": 1},
        {"event": "START_CONFIGURATION", **pair, "configuration_index": 1, "progress": 0.5},
    ]
    events = [{"time": when[n], **common, **event} for n, event in enumerate(events)]
    for event in events:
        assert monitor.client.post("/stemsalabim-reporting", json=event).json == {"stored": 1, "duplicates": 0}
    assert monitor.client.post("/", json=events[4]).json == {"stored": 0, "duplicates": 1}
    simulation = monitor.simulation
    assert (simulation["finished"], simulation["running"], simulation["progress"]) == (1, 1, 0.75)
    monitor.client.post("/", json={"time": when[15], **common, "event": "FINISH"})
    assert monitor.simulation["state"] == "finished"


def original(event: str, second: int, **keys: Any) -> dict[str, Any]:
    """An event as STEMsalabim sends it, that many seconds into a day."""
    common = {"id": "an id", "num_threads": 4, "num_processors": 2, "num_defoci": 1, "num_configurations": 2}
    moment = datetime.fromtimestamp(1_770_000_000 + second, UTC).isoformat(sep=" ")
    return {"time": moment, **common, "event": event, **keys}


def original_run(second: int, *configurations: int) -> list[dict[str, Any]]:
    """A start with the configurations that it computes, 20 s long; its end comes apart."""
    pairs = [{"defocus": 3.0, "defocus_index": 0, "configuration_index": number} for number in configurations]
    jobs = [
        original(name, second + 5 * number + 1 + step, **pair, **keys)
        for number, pair in enumerate(pairs)
        for step, (name, keys) in enumerate(
            [("START_FP_CONFIGURATION", {}), ("PROGRESS", {"progress": 0.5}), ("PROGRESS", {"progress": 1.0})]
        )
    ]
    return [original("START_SIMULATION", second, title="t", version="5", git_commit="abc"), *jobs]


def test_each_start_of_stemsalabim_is_a_run(monitor: Inside):
    """Each run computes everything. The second dies without an end, and the third loses an event."""

    def shown(*names: str) -> tuple[Any, ...]:
        return tuple(monitor.simulation[name] for name in names)

    monitor.store([*original_run(0, 0, 1), original("FINISH", 20)])
    assert shown("run", "state", "finished", "running") == (1, "finished", 2, 0)
    monitor.store(original_run(100, 0)[:3])
    assert shown("run", "state", "finished", "running", "progress") == (2, "running", 0, 1, 0.25)
    with monitor.database.reader.begin() as connection:
        # The rate counts what this run computes, not earlier results that it computes again.
        assert connection.execute(select(schema.SIMULATION.c.run_work)).scalar() == 0.5
    monitor.store(original_run(200, 0)[:1])
    assert shown("run", "state", "finished", "running", "progress") == (3, "running", 0, 0, 0.0)
    assert monitor.pairs()[3.0, 0]["state"] == "stopped"
    monitor.store(original_run(200, 0)[1:])
    assert shown("finished", "running", "progress") == (1, 0, 0.5)
    monitor.store([original("FINISH", 220)])
    assert shown("run", "state") == (3, "finished")
    with monitor.database.reader.begin() as connection:
        column = schema.EVENT.c.run
        assert [run for (run,) in connection.execute(select(column).distinct().order_by(column))] == [1, 2, 3]


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_arrival_of_stemsalabims_events_decides_nothing(monitor: Inside, seed: int):
    """Two starts and their ends arrive in any order. The second run has finished, with the latest configuration."""
    events = [*original_run(0, 0), original("FINISH", 20), *original_run(100, 1), original("FINISH", 120)]
    random.Random(seed).shuffle(events)
    for event in events:
        monitor.store([event])
    assert (monitor.simulation["state"], monitor.simulation["running"]) == ("finished", 0)
    assert {key[1]: pair["state"] for key, pair in monitor.pairs().items()} == {0: "finished", 1: "finished"}


def test_a_late_end_from_stemsalabim_does_not_end_the_next_run(monitor: Inside):
    monitor.store([*original_run(0, 0), *original_run(100, 1)])
    monitor.store([original("FINISH", 20)])
    assert monitor.simulation["state"] == "running"
    # Its own end does, and so does an end whose start was lost.
    for second in (120, 220):
        monitor.store([original("FINISH", second)])
        assert monitor.simulation["state"] == "finished"
    assert monitor.simulation["run"] == 3
    monitor.store([original("FINISH", 220), original("START_SIMULATION", 200, title="late")])
    assert (monitor.simulation["state"], monitor.simulation["run"]) == ("finished", 3)


def test_a_late_start_from_stemsalabim_belongs_to_its_own_run(monitor: Inside):
    start, *others = original_run(0, 0)
    monitor.store([*others, start])
    assert (monitor.simulation["run"], monitor.simulation["title"]) == (1, "t")


def test_silence_makes_a_run_stale_and_an_event_wakes_it(monitor: Inside):
    story = Story()
    monitor.store([story.start(), *story.job(0, 0, 0)])
    monitor.ahead_s = 14 * 60
    assert monitor.simulation["state"] == "running"
    monitor.ahead_s = 16 * 60
    assert monitor.simulation["state"] == "stale"
    assert [entry["id"] for entry in monitor.simulations(state="stale")] == [story.uid]
    monitor.store(story.job(0, 0, 0, 1)[-1:])
    assert monitor.simulation["state"] == "running"
    monitor.ahead_s = 3600
    monitor.store([story.finish()])
    monitor.ahead_s = 1e6
    assert monitor.simulation["state"] == "finished"


def test_a_slow_simulation_may_be_silent_for_longer():
    simulation = SimulationSummary(1, "x", last_received=1000.0, pauses_s=4 * 600.0, pauses=4)
    assert silence_allowed_s(simulation) == 3000.0
    assert state_of(simulation, 3999.0) == "running"
    assert state_of(simulation, 4001.0) == "stale"
    assert silence_allowed_s(SimulationSummary(1, "x", pauses_s=1e9, pauses=1)) == 24 * 3600.0


def simulated(rng: random.Random, jobs: int, processors: int, seconds: float) -> list[tuple[float, int, float]]:
    """Times, jobs and progress of a campaign whose jobs take about so long, on so many processors."""
    free, events = [0.0] * processors, []
    for job in range(jobs):
        processor = free.index(min(free))
        begin, length = free[processor], seconds * rng.uniform(0.85, 1.15)
        events += [(begin + length * percent / 100, job, percent / 100) for percent in range(101)]
        free[processor] = begin + length
    return sorted(events)


@pytest.mark.parametrize(("jobs", "processors"), [(60, 4), (24, 8), (300, 40), (8, 1)])
def test_the_estimated_range_of_the_end_contains_the_end(jobs: int, processors: int):
    """20 campaigns are asked at each tenth from 10 to 90 %. The range is right in 90 % and not too wide."""
    hits = asked = 0
    widths = []
    for seed in range(20):
        story = Story(defoci=(0.0,), configurations=jobs)
        events = simulated(random.Random(seed), jobs, processors, 600.0)
        end = events[-1][0]
        begin = story.now - 1e5
        simulation = SimulationSummary(1, story.uid)
        pairs: dict[int, PairSummary] = {}
        following = 0.1
        template = story.job(0, 0, 0)
        for at, job, progress in events:
            if progress * 100 % 5 and progress < 1:
                continue
            name = "FINISH_FP_CONFIGURATION" if progress == 1 else "PROGRESS"
            raw = {**template[1], "event": name, "configuration_index": job, "progress": progress, "job": str(job)}
            raw = {**raw, "seq": round(progress * 100), "event_id": f"{job} {progress}"}
            event = read_event(json.dumps(raw).encode(), begin + at)
            event.time = begin + at
            update_simulation(simulation, event)
            pair = pairs.setdefault(job, PairSummary(1, "p0d000", job))
            update_pair(simulation, pair, event)
            if simulation.work / jobs >= following and following < 0.95:
                following += 0.1
                outlook = outlook_of(simulation, begin + at)
                if outlook is not None:
                    asked += 1
                    hits += outlook.earliest_s <= end - at <= outlook.latest_s
                    widths.append((outlook.latest_s - outlook.earliest_s) / (end - at))
    assert asked > 100
    assert hits / asked >= 0.9, (hits, asked, sum(widths) / len(widths))
    assert sum(widths) / len(widths) < 1.2


def test_an_end_is_estimated_only_while_a_run_computes(monitor: Inside):
    story = Story(now=time.time() - 100)
    monitor.store([story.start()])
    assert monitor.simulation["earliest_end_s"] is None
    monitor.store([*story.done(0, 0, step_s=10), *story.job(0, 1, 0, 50, step_s=10)])
    simulation = monitor.simulation
    assert 0 < simulation["earliest_end_s"] < simulation["latest_end_s"]
    monitor.store([story.finish()])
    assert monitor.simulation["latest_end_s"] is None
