"""How the jobs of a module begin one run together."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

import pytest
from stemphony import contract
from stemphony.errors import StorageError
from stemphony.orchestration import module_run
from stemphony.paths import ResultPaths
from stemphony.store import handover, holders, ledger
from stemphony.store.claims import process_start
from stemphony.store.handover import Handover
from support.status_server import EchoServer, closed_port

PLAN = {
    "title": "In a module", "threads": 1, "num_processors": 2, "num_defoci": 3, "num_configurations": 4,
    "jobs_to_run": 5, "reporting": False, "plan": ["line of the plan"],
}  # fmt: skip


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Handover:
    """A handover that this process takes until the end of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = Handover(handover.new_invocation(tmp_path) / "inner")
    pid = os.getpid()
    content = {"plan": PLAN, "description": {}, "margin_nm": 0.0, "random_seed": 7, "host": "elsewhere", "pid": pid}
    made.write("a: 1\n", "", {**content, "started": process_start(pid)})
    monkeypatch.setenv(contract.HANDOVER_VARIABLE, str(made.folder))
    monkeypatch.setenv(contract.RUN_VARIABLE, "")
    return made


@pytest.fixture
def result(files: Handover) -> ResultPaths:
    return ResultPaths.of("inner")


def test_two_jobs_that_start_at_once_begin_one_run(files: Handover, result: ResultPaths):
    jobs = [threading.Thread(target=module_run.join, args=(result, contract.MULTISLICE_RULE)) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert os.environ[contract.RUN_VARIABLE] == "1"
    assert ledger.latest_run(result) == 1
    assert {key: ledger.read_plan(result, 1)[key] for key in ("run", "jobs_to_run")} == {"run": 1, "jobs_to_run": 5}
    assert files.kept_config.read_text() == "a: 1\n"
    assert not files.claim.exists()


def test_the_identity_and_the_run_belong_to_the_machine_of_snakemake(files: Handover, result: ResultPaths):
    module_run.join(result, contract.MULTISLICE_RULE)
    kept = json.loads(result.identity.read_text())
    assert (kept["host"], kept["seed"]) == ("elsewhere", 7)
    (holder,) = holders.holders(Path.cwd())
    assert (holder.host, holder.pid, holder.simulation) == ("elsewhere", os.getpid(), "inner")


def test_a_job_that_died_before_it_sent_the_event_leaves_its_number_to_the_next(files: Handover, result: ResultPaths):
    module_run.join(result, contract.MULTISLICE_RULE)
    files.begun.unlink()
    module_run.join(result, contract.MULTISLICE_RULE)
    assert ledger.latest_run(result) == 1
    assert files.begun.exists()


def test_all_pairs_count_when_the_user_forces_jobs_that_fit_to_the_plan(files: Handover, result: ResultPaths):
    files.content.write_text(json.dumps({**files.read(), "plan": {**PLAN, "jobs_to_run": 0}}))
    module_run.join(result, contract.MULTISLICE_RULE)
    assert ledger.read_plan(result, 1)["jobs_to_run"] == 12


def test_a_start_that_the_receiver_missed_is_sent_by_the_merge_before_the_finish(
    files: Handover, result: ResultPaths, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(contract.COURIER_VARIABLE, "0")
    port = closed_port()
    files.config.write_text(f"http_reporting: {{reporting: true, url: 'http://127.0.0.1:{port}/'}}\n")
    files.content.write_text(json.dumps({**files.read(), "plan": {**PLAN, "reporting": True}}))
    module_run.join(result, contract.MULTISLICE_RULE)
    with EchoServer(port) as server:
        module_run.finish(result)
        assert [(event["event"], event["seq"]) for event in server.events] == [("START_SIMULATION", 0), ("FINISH", 1)]
        assert {event["run"] for event in server.events} == {1}


def test_a_missing_handover_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv(contract.HANDOVER_VARIABLE, raising=False)
    monkeypatch.setenv(contract.RUN_VARIABLE, "3")
    module_run.join(ResultPaths(tmp_path / "none"), contract.MULTISLICE_RULE)
    module_run.finish(ResultPaths(tmp_path / "none"))
    assert os.environ[contract.RUN_VARIABLE] == "3"
    assert [*tmp_path.iterdir()] == []


def test_a_damaged_handover_says_what_to_do(files: Handover, result: ResultPaths):
    files.content.write_text("{")
    with pytest.raises(StorageError, match=r"Start the workflow again; finished jobs are kept"):
        module_run.join(result, contract.MULTISLICE_RULE)


def test_only_old_remains_of_killed_invocations_are_removed(tmp_path: Path):
    names = {
        "old": f"{socket.gethostname()}.999999999.0a", "alive": f"{socket.gethostname()}.{os.getpid()}.0b",
        "elsewhere": "elsewhere.999999999.0c", "fresh": f"{socket.gethostname()}.999999999.0d",
    }  # fmt: skip
    for name in names.values():
        folder = tmp_path / handover.FOLDER / name
        folder.mkdir(parents=True)
        if not name.endswith("0d"):
            os.utime(folder, (1.0, 1.0))
    handover.sweep_old(tmp_path)
    left = {folder.name for folder in (tmp_path / handover.FOLDER).iterdir()}
    assert left == {names["alive"], names["elsewhere"], names["fresh"]}
