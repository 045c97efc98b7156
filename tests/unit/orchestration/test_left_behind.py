"""A run does not wait for an absent receiver: a process that stays behind sends the remaining events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stemphony import contract
from stemphony.orchestration import left_behind
from stemphony.orchestration.run_reports import RunReports
from stemphony.paths import ResultPaths
from stemphony.status.backlog import left_in
from stemphony.status.events import Event
from stemphony.store import ledger
from support.status_server import EchoServer, FaultServer, closed_port

AT_ONCE_S = 5.0  # far below the waits for a receiver: 10 s without an arrival, 60 s in all
RELEASED_S = 40.0


@pytest.fixture
def result(tmp_path, monkeypatch) -> ResultPaths:
    monkeypatch.setenv(contract.COURIER_VARIABLE, "60")
    return ResultPaths(tmp_path / "results/gan")


def config_for(result: ResultPaths, url: str, **block) -> Path:
    result.root.mkdir(parents=True, exist_ok=True)
    file = result.root.parents[1] / "config.yaml"
    file.write_text(json.dumps({"http_reporting": {"reporting": True, "url": url, **block}}))
    return file


def whole_run(result: ResultPaths, config: Path) -> tuple[float, str]:
    """Start and end a run; return the time that the end took [s], and its messages."""
    identity, number = ledger.identity(result, 1), ledger.claim_run(result)
    common = {"id": identity.id, "num_threads": 1, "num_processors": 1, "num_defoci": 1, "num_configurations": 1}
    said: list[str] = []
    reports = RunReports(True, [config], result, number, {**common, "run": number}, said.append)
    reports.start("title", 1, {})
    began = time.monotonic()
    reports.end("onsuccess", Event.FINISH)
    return time.monotonic() - began, "\n".join(said)


def log_of(result: ResultPaths, wait_s: float = 60.0) -> str:
    """Text that the process prints when it ends."""
    until = time.monotonic() + wait_s
    file = result.reports / "courier.log"
    while time.monotonic() < until:
        if file.exists() and "delivered" in file.read_text():
            return file.read_text()
        time.sleep(0.05)
    raise AssertionError("the process has not ended")


def test_events_for_an_absent_receiver_arrive_when_it_is_back(result):
    port = closed_port()
    took_s, said = whole_run(result, config_for(result, f"http://127.0.0.1:{port}/"))
    assert took_s < AT_ONCE_S
    assert "2 reports are not delivered" in said
    assert f"stay in {result.reports}" in said
    assert "A process goes on sending them for 0.0167 h" in said
    assert "stemphony report replay" in said
    with EchoServer(port) as server:
        assert "2 delivered, 0 left." in log_of(result)
        assert [event["event"] for event in server.events] == ["START_SIMULATION", "FINISH"]
    assert left_in(result) == 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["503", "hang", "drip"])
def test_a_receiver_that_refuses_reports_does_not_delay_the_end(result, mode, monkeypatch):
    monkeypatch.setenv(contract.COURIER_VARIABLE, "1")
    with FaultServer(mode) as server:
        took_s, said = whole_run(result, config_for(result, server.url))
        assert took_s < AT_ONCE_S
        assert "A process goes on sending them" in said
        assert "left (" in log_of(result)
    assert left_in(result) >= 1  # `drip` says 200 at once


def test_a_working_receiver_gets_all_events_before_the_run_ends(result):
    with EchoServer() as server:
        took_s, said = whole_run(result, config_for(result, server.url))
        assert [event["event"] for event in server.events] == ["START_SIMULATION", "FINISH"]
    assert took_s < AT_ONCE_S
    assert "not delivered" not in said
    assert not (result.reports / "courier.log").exists()


def test_a_wrong_password_leaves_no_process_behind(result):
    with FaultServer("401") as server:
        _, said = whole_run(result, config_for(result, server.url))
    assert "2 reports are not delivered" in said
    assert "A process goes on" not in said
    assert not (result.reports / "courier.log").exists()


def test_a_second_run_sends_nothing_twice(result):
    """Two processes stay behind: one waits for the other."""
    port = closed_port()
    config = config_for(result, f"http://127.0.0.1:{port}/")
    for _ in range(2):
        whole_run(result, config)
    with EchoServer(port) as server:
        until = time.monotonic() + 60
        while log_of(result).count("delivered") < 2 and time.monotonic() < until:
            time.sleep(0.05)
        ids = [event["event_id"] for event in server.events]
    assert len(ids) == len(set(ids)) == 4
    assert left_in(result) == 0


def test_a_run_names_reports_of_another_simulation_and_leaves_no_process_for_them(result):
    port = closed_port()
    with EchoServer(port) as server:
        config = config_for(result, f"http://127.0.0.1:{port}/")
        whole_run(result, config)
        planted = result.events(1) / "planted.jsonl"
        planted.write_text(json.dumps({"event": "FINISH", "id": "c6b3e1f4-0000-4000-8000-000000000000"}) + "\n")
        _, said = whole_run(result, config)
        assert f"{planted} has reports of another simulation, c6b3e1f4-0000-4000-8000-000000000000." in said
        assert [event["event"] for event in server.events] == ["START_SIMULATION", "FINISH"] * 2
    assert "not delivered" not in said
    assert planted.exists()
    assert not (result.reports / "courier.log").exists()


@pytest.mark.parametrize("given", ["x", "", "nan", "inf", "-1"])
def test_an_invalid_time_for_the_courier_is_ignored(given, monkeypatch):
    monkeypatch.setenv(contract.COURIER_VARIABLE, given)
    assert left_behind.longest_s() in (0.0, left_behind.LONGEST_S)


def test_a_folder_that_is_deleted_ends_the_process(result, capsys):
    config = config_for(result, f"http://127.0.0.1:{closed_port()}/")
    left_behind.deliver(str(result.root), "60", str(config))
    assert "0 delivered, 0 left." in capsys.readouterr().out


def test_a_named_pipe_in_place_of_the_log_does_not_block_the_run(result):
    """The attack: a received folder with such a pipe blocked each run at its end.

    No signal interrupts a process that waits in posix_spawn, so another process opens the pipe in the end.
    """
    config = config_for(result, f"http://127.0.0.1:{closed_port()}/")
    result.reports.mkdir(parents=True)
    pipe = result.reports / "courier.log"
    os.mkfifo(pipe)
    opens = f"import time; time.sleep({RELEASED_S}); open({str(pipe)!r}, 'rb').read()"
    with subprocess.Popen([sys.executable, "-c", opens]) as way_out:
        try:
            _, said = whole_run(result, config)
        finally:
            way_out.kill()
    assert "The next run sends them" in said
