"""Status reporting with all faults at once: each reported event is stored once, in order."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stemphony import paths
from stemphony.orchestration.orphaned_errors import orphans_of
from stemphony.paths import ResultPaths
from stemphony.status.backlog import left_in
from stemphony.status.courier import Courier
from stemphony.status.delivery import read_events
from stemphony.status.settings import ReportingSettings
from support.fault_proxy import FAULTS, FaultProxy
from support.haste import HASTE
from support.receivers import DURABLE, MONITOR, SCRIPTS, TESTS, Receiver, has_monitor

SEED = 20260301
JOBS, KILLED = 20, 10
PAUSE_S = 0.05
DRAINED, FEWEST_OF_A_FAULT = 300, 3
RECEIVERS = [
    DURABLE,
    pytest.param(MONITOR, marks=pytest.mark.skipif(not has_monitor(), reason="there is no stemphony monitor here")),
]


@dataclass(frozen=True)
class Reported:
    """Events that jobs reported, events on disk and at the receiver, and the faults that occurred."""

    result: ResultPaths
    said: dict[str, int]
    killed: set[str]
    spooled: dict[str, list[dict[str, Any]]]
    stored: list[dict[str, Any]]
    met: Counter[str]
    through_faults: int
    replayed: subprocess.CompletedProcess[str]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), str(SCRIPTS)))}


def run_jobs(result: ResultPaths, url: str, folder: Path) -> tuple[dict[str, int], set[str]]:
    """Run 20 jobs side by side and kill every other one at some moment; returns the last percent each has said."""
    draw = random.Random(SEED)
    jobs: dict[str, tuple[subprocess.Popen[bytes], Path, int | None]] = {}
    for number in range(JOBS):
        defocus, configuration = number % 4, number // 4
        name = paths.job_name(paths.defocus_id(defocus), configuration)
        log = folder / f"{name}.log"
        command = [sys.executable, "-m", "support.reporting_job", result.root, url, defocus, configuration, PAUSE_S]
        with log.open("wb") as stream:
            process = subprocess.Popen(map(str, command), stdout=stream, stderr=subprocess.DEVNULL, env=environment())
        jobs[name] = (process, log, draw.randrange(1, 60) if number % 2 else None)
    killed = set()
    deadline = time.monotonic() + 120
    while any(process.poll() is None for process, _, _ in jobs.values()):
        assert time.monotonic() < deadline, "jobs end by themselves, whatever the receiver does"
        for name, (process, log, limit) in jobs.items():
            if limit is not None and process.poll() is None and len(log.read_text().splitlines()) > limit:
                process.send_signal(signal.SIGKILL)
                killed.add(name)
        time.sleep(0.01)
    assert {name for name, (process, _, _) in jobs.items() if process.wait() != 0} == killed
    return {name: int(log.read_text().splitlines()[-1]) for name, (_, log, _) in jobs.items()}, killed


@pytest.fixture(scope="module", params=RECEIVERS, ids=lambda receiver: receiver.name)
def reported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    receiver: Receiver = request.param
    folder = tmp_path_factory.mktemp(receiver.name)
    result = ResultPaths(folder / "results" / "faulty")
    with receiver.running(folder) as port, FaultProxy(port, SEED) as proxy:
        said, killed = run_jobs(result, proxy.url, folder)
        # As the hook at the end of a run does, through the same faults.
        send_through_faults(result, proxy)
        met, through_faults = Counter(proxy.met), len(receiver.stored(folder))
        # Later, without faults: the command.
        proxy.faulty = False
        config = folder / "config.yaml"
        config.write_text(f"http_reporting:\n  reporting: false\n  url: '{proxy.url}'\n")
        command = [sys.executable, "-m", "stemphony", "report", "replay", "--config", str(config), str(result.root)]
        replayed = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
        stored = receiver.stored(folder)
    spooled = {file.name.partition(".")[0]: events_in(file) for file in result.events(1).rglob("*.jsonl")}
    return Reported(result, said, killed, spooled, stored, met, through_faults, replayed)


def send_through_faults(result: ResultPaths, proxy: FaultProxy) -> None:
    """Send until enough events went through and every fault occurred, but not to the end: the command needs work."""
    deadline, arrived = time.monotonic() + 60, 0
    while time.monotonic() < deadline:
        # Several couriers in turn, as in several runs, because a redirect ends the first one.
        courier = Courier(result, ReportingSettings(reporting=True, url=proxy.url), run=1, limits=HASTE)
        courier.start()
        complete = courier.drain(2.0)
        courier.stop()
        courier._thread.join(15)
        arrived += courier.arrived
        rarest = min(proxy.met[fault] for fault in (*FAULTS, "refuse"))
        if complete or (arrived >= DRAINED and rarest >= FEWEST_OF_A_FAULT):
            return


def events_in(file: Path) -> list[dict[str, Any]]:
    return [event for event, _ in read_events(file) if event is not None]


@pytest.mark.slow
def test_every_kind_of_fault_occurred_often_enough(reported: Reported):
    assert len(reported.killed) == KILLED
    assert len(reported.spooled) == JOBS
    assert sum(map(len, reported.spooled.values())) >= 1000
    assert all(reported.met[fault] >= FEWEST_OF_A_FAULT for fault in (*FAULTS, "refuse")), reported.met
    assert sum(reported.met.values()) >= 300, reported.met
    assert reported.through_faults >= DRAINED


@pytest.mark.slow
def test_events_that_a_job_reported_are_on_disk_even_if_it_was_killed(reported: Reported):
    for name, percent in reported.said.items():
        reached = [round(100 * event["progress"]) for event in reported.spooled[name] if event["event"] == "PROGRESS"]
        assert reached[: percent + 1] == list(range(percent + 1))
        assert len(reached) <= percent + 2, "at most the one that it was about to say"
        assert (reported.spooled[name][-1]["event"] == "FINISH_FP_CONFIGURATION") == (name not in reported.killed)
    assert {orphan.job for orphan in orphans_of(reported.result, 1)} == reported.killed


@pytest.mark.slow
def test_every_event_is_stored_exactly_once(reported: Reported):
    emitted = {event["event_id"] for events in reported.spooled.values() for event in events}
    for marker in reported.result.run(1).glob("*.START_DEFOCUS.json"):
        emitted |= {event["event_id"] for event in events_in(marker)}
    stored = [event["event_id"] for event in reported.stored]
    assert len(stored) == len(set(stored))
    assert set(stored) == emitted
    started = Counter(event["defocus"] for event in reported.stored if event["event"] == "START_DEFOCUS")
    assert started == {0.0: 1, 1.0: 1, 2.0: 1, 3.0: 1}


@pytest.mark.slow
def test_the_events_of_each_job_are_stored_in_order(reported: Reported):
    order = defaultdict(list)
    for event in reported.stored:
        order[event["job"]].append(event["seq"])
    assert len(order) == JOBS
    for name, numbers in order.items():
        assert numbers == list(range(len(numbers))), name


@pytest.mark.slow
def test_the_command_says_that_nothing_is_left(reported: Reported):
    assert reported.replayed.returncode == 0, reported.replayed.stdout + reported.replayed.stderr
    assert "None is left" in reported.replayed.stdout or "nothing to send" in reported.replayed.stdout
    assert left_in(reported.result) == 0
