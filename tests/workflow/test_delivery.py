"""Events that jobs could not deliver are sent at the end of the run, by the next run, a command or the submit host."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from stemphony.status.backlog import left_in
from support import slurm
from support.campaign import (
    DEADLINE_S,
    TINY,
    Campaign,
    Outcome,
    arrays,
    assert_same_arrays,
    changed,
    edit,
    wait_for,
)
from support.status_server import EchoServer, closed_port

from workflow.conftest import CUSTOM, PATH_TOKEN, Finished, Reported
from workflow.test_reporting import files_with_secrets, secrets, spooled_by_hooks

PRINTED = Path(__file__).parents[1] / "support" / "stemsalabim" / "echo_server.py"
WHOLE = {
    "START_SIMULATION": 1,
    "START_DEFOCUS": 2,
    "START_FP_CONFIGURATION": 4,
    "PROGRESS": 20,
    "FINISH_FP_CONFIGURATION": 4,
    "FINISH": 1,
}
ONE_JOB = {
    "START_SIMULATION": 1,
    "START_DEFOCUS": 1,
    "START_FP_CONFIGURATION": 1,
    "PROGRESS": 5,
    "FINISH_FP_CONFIGURATION": 1,
    "FINISH": 1,
}


def names(events: list[dict[str, Any]]) -> Counter[str]:
    return Counter(event["event"] for event in events)


def without_repetitions(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Events by `event_id`, as a receiver keeps them: a job that is killed before it notes an answer sends again."""
    first: dict[str, dict[str, Any]] = {}
    for event in events:
        assert first.setdefault(event["event_id"], event) == event
    return list(first.values())


def assert_each_once_and_in_order(events: list[dict[str, Any]]) -> None:
    ids = [event["event_id"] for event in events]
    assert len(set(ids)) == len(ids)
    attempts: dict[tuple[str, int], list[int]] = {}
    for event in events:
        if "job" in event:
            attempts.setdefault((event["job"], event["attempt"]), []).append(event["seq"])
    for attempt, numbers in attempts.items():
        assert numbers == list(range(len(numbers))), attempt


# --- a receiver that was away -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undelivered(tiny: Reported, tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, Outcome, int]:
    """A campaign that computed one job without a receiver, and the unused port of the receiver."""
    campaign = tiny.copy(tmp_path_factory.mktemp("undelivered") / "tiny campaign")
    shutil.rmtree(campaign.result.reports)
    campaign.job_file("p5d000/0000").unlink()
    port = closed_port()
    campaign.change(http_reporting={"url": f"http://127.0.0.1:{port}/", "parameters": {}})
    return campaign, campaign.succeed(), port


def test_the_run_says_how_many_reports_are_left_and_how_to_send_them(undelivered: tuple[Campaign, Outcome, int]):
    campaign, outcome, _ = undelivered
    assert left_in(campaign.result) == sum(ONE_JOB.values())
    assert (
        f"{sum(ONE_JOB.values())} reports are not delivered (connection refused) and stay in results/tiny/reports"
        in outcome.output
    )
    assert f"stemphony report replay {shlex.quote(str(campaign.result.root.resolve()))}" in outcome.output


def test_a_run_with_nothing_to_compute_names_the_command(undelivered: tuple[Campaign, Outcome, int], tmp_path: Path):
    campaign = undelivered[0].copy(tmp_path / "copy")
    outcome = campaign.stemphony()
    assert "nothing to compute" in outcome.output
    assert f"{sum(ONE_JOB.values())} status reports are not delivered: stemphony report replay " in outcome.output


def test_the_command_that_the_run_has_named_sends_them(undelivered: tuple[Campaign, Outcome, int], tmp_path: Path):
    campaign, outcome, port = undelivered
    campaign = campaign.copy(tmp_path / "copy")
    (line,) = [line for line in outcome.output.splitlines() if "stemphony report replay" in line]
    _, *words, _ = shlex.split(line.partition("or do: ")[2])
    words.append("results/tiny")  # of the copy
    with EchoServer(port) as server:
        done = subprocess.run(
            [sys.executable, "-m", "stemphony", *words],
            cwd=campaign.directory, env={**campaign.env, "PYTHONPATH": str(campaign.scripts)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEADLINE_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        events = server.events
    assert f"{sum(ONE_JOB.values())} delivered. None is left." in done.stdout
    assert names(events) == ONE_JOB
    assert [events[0]["event"], events[-1]["event"]] == ["START_SIMULATION", "FINISH"]
    assert_each_once_and_in_order(events)


def test_the_next_run_sends_them_after_its_own_beginning(undelivered: tuple[Campaign, Outcome, int], tmp_path: Path):
    campaign = undelivered[0].copy(tmp_path / "copy")
    campaign.job_file("p0d000/0001").unlink()
    with EchoServer(undelivered[2]) as server:
        outcome = campaign.succeed()
        events = server.events
    assert (events[0]["event"], events[0]["run"]) == ("START_SIMULATION", 3)
    assert (events[-1]["event"], events[-1]["run"]) == ("FINISH", 3)
    for run in (2, 3):
        own = [event for event in events if event["run"] == run]
        assert names(own) == ONE_JOB
        assert own[-1]["event"] == "FINISH"
    assert_each_once_and_in_order(events)
    assert left_in(campaign.result) == 0
    assert "not delivered" not in outcome.output


def test_a_receiver_that_comes_back_at_the_end_gets_everything_in_order(tiny: Reported, tmp_path: Path):
    campaign = tiny.copy(tmp_path / "copy")
    campaign.job_file("p5d000/0000").unlink()
    port = closed_port()
    campaign.change(http_reporting={"url": f"http://127.0.0.1:{port}/"})
    with campaign.start() as running:
        wait_for(lambda: "FINISH" in spooled_by_hooks(campaign, 2), "the end of the run to be written down")
        with EchoServer(port) as server:
            outcome = running.end()
            events = server.events
    assert outcome.status == 0, outcome.output
    assert names(events) == ONE_JOB
    assert events[-1]["event"] == "FINISH"
    assert_each_once_and_in_order(events)
    assert left_in(campaign.result) == 0


# --- jobs that do not send --------------------------------------------------------------------------------------------


def without_network(clone: Path, folder: Path) -> Path:
    """A clone whose jobs cannot open a connection."""
    copy = shutil.copytree(clone, folder, symlinks=True)
    edit(
        copy / "workflow" / "scripts" / "run_multislice.py",
        r"^import json$",
        "import json\nimport socket\nsocket.socket.connect = lambda *_: (_ for _ in ()).throw(OSError(101, 'none'))",
    )
    return copy


def test_events_of_jobs_without_a_route_arrive_via_the_submit_host_while_they_run(
    clone: Path, slow: Finished, tmp_path: Path
):
    campaign = slow.copy(tmp_path / "slow campaign")
    campaign = Campaign(without_network(clone, tmp_path / "clone"), campaign.folder, campaign.env)
    shutil.rmtree(campaign.result.root / "jobs")
    with EchoServer() as server:
        campaign.change(http_reporting={"reporting": True, "url": server.url, "via": "submit_host"})
        with campaign.start(cores=1) as running:
            wait_for(lambda: names(server.events)["FINISH_FP_CONFIGURATION"] >= 1, "the first job's reports")
            assert "FINISH" not in spooled_by_hooks(campaign, 2), "the run is still alive"
            outcome = running.end()
        events = server.events
    assert outcome.status == 0, outcome.output
    counted = names(events)
    assert (counted["START_SIMULATION"], counted["START_DEFOCUS"], counted["FINISH"]) == (1, 1, 1)
    assert (counted["START_FP_CONFIGURATION"], counted["FINISH_FP_CONFIGURATION"]) == (2, 2)
    assert counted["PROGRESS"] >= 2 * 50
    assert [events[0]["event"], events[-1]["event"]] == ["START_SIMULATION", "FINISH"]
    assert_each_once_and_in_order(events)


def test_jobs_without_the_password_write_and_the_submit_host_sends(clone: Path, tiny: Reported, tmp_path: Path):
    forgetful = shutil.copytree(clone, tmp_path / "clone", symlinks=True)
    script = forgetful / "workflow" / "scripts" / "run_multislice.py"
    edit(script, r"^import json$", "import json\nimport os\nos.environ.pop('STEM_PASSWORD')")
    copy = tiny.copy(tmp_path / "copy")
    campaign = Campaign(forgetful, copy.folder, {**copy.env, "STEM_PASSWORD": "only here"})
    campaign.job_file("p5d000/0000").unlink()
    with EchoServer() as server:
        campaign.write(
            changed(
                {**campaign.settings, "http_reporting": {}},
                http_reporting={
                    "reporting": True,
                    "url": server.url,
                    "auth_user": "u",
                    "auth_pass_env": "STEM_PASSWORD",
                },
            )
        )
        campaign.succeed()
        events = server.events
        assert [entry for entry in server.received if "authorization" not in entry.headers] == []
    assert names(events) == ONE_JOB
    assert_each_once_and_in_order(events)
    (log,) = (campaign.directory / "logs" / "run_multislice" / "tiny").rglob("*p5d000/configuration_0000.log")
    assert "written, not sent" in log.read_text()


# --- attempts that failed, and were tried again -----------------------------------------------------------------------


@contextmanager
def receiver(campaign: Campaign) -> Iterator[EchoServer]:
    with EchoServer() as server:
        campaign.change(http_reporting={"reporting": True, "url": server.url})
        yield server


def test_a_killed_attempt_has_its_error_even_if_the_next_one_succeeds(slow: Finished, tmp_path: Path):
    campaign = slow.copy(tmp_path / "slow campaign")
    campaign.job_file("p0d000/0000").unlink()
    with receiver(campaign) as server:
        with campaign.start("--retries", "1") as running:
            (state,) = campaign.wait_for_jobs(2).values()
            wait_for(lambda: names(server.events)["PROGRESS"], "the job to compute")
            os.kill(state["pid"], signal.SIGKILL)
            outcome = running.end()
        events = without_repetitions(server.events)
    assert outcome.status == 0, outcome.output
    (error,) = [event for event in events if event["event"] == "ERROR"]
    assert "ended without a message" in error["message"]
    assert (error["attempt"], error["will_retry"]) == (2, True)
    finished = [event for event in events if event["event"] == "FINISH_FP_CONFIGURATION"]
    assert [(event["job"], event["attempt"]) for event in finished] == [(error["job"], 3)]
    assert events[-1]["event"] == "FINISH"
    assert_each_once_and_in_order(events)
    assert_same_arrays(campaign.result.merged, slow.arrays)


def test_a_failed_attempt_says_whether_it_is_tried_again(tiny: Reported, tmp_path: Path):
    campaign = tiny.copy(tmp_path / "copy")
    campaign.job_file("p5d000/0000").unlink()
    in_the_way = campaign.job_file("p5d000/0000").with_name("configuration_0000.nc.sha256")
    in_the_way.unlink()
    in_the_way.mkdir()
    with receiver(campaign) as server:
        assert (ended := campaign.snakemake("--retries", "2")).status == 1, ended.output
        errors = [event for event in server.events if event["event"] == "ERROR"]
        assert server.events[-1]["event"] == "FAILED"
    assert [(error["attempt"], error["will_retry"]) for error in errors] == [(2, True), (3, True), (4, False)]


# --- the original's receiver ------------------------------------------------------------------------------------------


def test_the_receiver_of_the_originals_page_prints_every_event_of_a_simulation(
    new_campaign: Callable[..., Campaign], tmp_path: Path
):
    """The file is that of STEMsalabim's documentation; only its port is set from outside."""
    port = closed_port()
    out = tmp_path / "printed"
    with out.open("wb") as stream:
        command = [sys.executable, "-u", "-m", "flask", "--app", str(PRINTED), "run", "--port", str(port)]
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: b"Serving Flask app" in out.read_bytes(), "the receiver to start")
        campaign = new_campaign(changed(TINY, http_reporting={"reporting": True, "url": f"http://127.0.0.1:{port}/"}))
        campaign.succeed()
    finally:
        process.terminate()
        process.wait()
    printed = list(printed_objects(out.read_text()))
    assert names(printed) == WHOLE
    assert [printed[0]["event"], printed[-1]["event"]] == ["START_SIMULATION", "FINISH"]
    assert_each_once_and_in_order(printed)
    spooled = [
        json.loads(line)
        for file in campaign.result.events(1).rglob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    key = lambda event: event["event_id"]  # noqa: E731
    assert sorted(printed, key=key) == sorted(spooled, key=key)


def printed_objects(text: str) -> Iterator[dict[str, Any]]:
    decoder, place = json.JSONDecoder(), text.find("{")
    while place >= 0:
        found, end = decoder.raw_decode(text, place)
        yield found
        place = text.find("{", end)


# --- a full disk ------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size_kib: int) -> Iterator[None]:
    """A small file system, mounted at a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", folder], capture_output=True)
    if done.returncode != 0:
        pytest.skip("mounting a small disk needs root and a kernel that lets it")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("room_kib", [0, 24])
def test_a_full_disk_under_the_reports_stops_neither_the_simulation_nor_the_sending(
    tiny: Reported, tmp_path: Path, room_kib: int
):
    campaign = tiny.copy(tmp_path / "copy")
    shutil.rmtree(campaign.result.reports)
    shutil.rmtree(campaign.result.root / "jobs")
    with small_disk(campaign.result.reports, 1024), receiver(campaign) as server:
        (campaign.result.reports / "filler").write_bytes(b"x" * 1024 * (1024 - room_kib))
        outcome = campaign.snakemake()
        events = server.events
        lines = [
            line for file in campaign.result.events(2).rglob("*.jsonl") for line in file.read_bytes().split(b"\n")[:-1]
        ]
        whole = [event for line in lines if (event := parsed(line)) is not None]
    assert outcome.status == 0, outcome.output
    assert_same_arrays(campaign.result.merged, tiny.arrays)
    # Events that did not fit on the disk were sent from memory. Each job that could not claim it sent START_DEFOCUS.
    counted = Counter({event["event_id"]: event["event"] for event in events}.values())
    assert counted == WHOLE
    assert events[-1]["event"] == "FINISH"
    logs = "".join(log.read_text() for log in (campaign.directory / "logs" / "run_multislice").rglob("*.log"))
    assert "status reports cannot be written down (OSError ENOSPC)" in logs + outcome.output
    assert "Make room on the disk" in logs + outcome.output
    assert "Traceback" not in logs + outcome.output
    if room_kib:
        assert whole, "some lines were written"
    ids = {event["event_id"] for event in events}
    assert [event for event in whole if event["event_id"] not in ids] == []


def parsed(line: bytes) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:
        return None


def test_arrays_are_those_of_an_undisturbed_run(undelivered: tuple[Campaign, Outcome, int], tiny: Reported):
    assert arrays(undelivered[0].result.merged).keys() == tiny.arrays.keys()
    assert_same_arrays(undelivered[0].result.merged, tiny.arrays)


# --- a cluster --------------------------------------------------------------------------------------------------------


def test_job_scripts_of_slurm_hold_no_secret_and_jobs_report(tiny: Reported, tmp_path: Path):
    records = tmp_path / "slurm"
    programs = slurm.install(records)
    copy = tiny.copy(tmp_path / "copy")
    campaign = Campaign(copy.clone, copy.folder, {**copy.env, "PATH": f"{programs}:{copy.env['PATH']}"})
    shutil.rmtree(campaign.result.reports)
    campaign.job_file("p5d000/0000").unlink()
    with EchoServer() as server:
        campaign.change(http_reporting={"url": f"{server.url}?token={PATH_TOKEN}"})
        outcome = campaign.snakemake(
            "--executor", "slurm", "--jobs", "2", "--default-resources", "slurm_account=nobody", "runtime=5",
            "--slurm-init-seconds-before-status-checks", "2", "--slurm-status-command", "sacct", "--verbose",
        )  # fmt: skip
        assert outcome.status == 0, outcome.output
        events = server.events
    assert names(events) == ONE_JOB
    assert_each_once_and_in_order(events)
    assert [event for event in events if event["my_token"] != CUSTOM["my_token"]] == []
    assert events[0]["num_processors"] == 2
    scripts = list(records.glob("job-*.sh"))
    assert len(scripts) == 1, "the one job was submitted"
    assert "run_multislice" in scripts[0].read_text()
    assert len(list(records.glob("call-*.json"))) > 2
    assert files_with_secrets(records) == {}
    assert files_with_secrets(campaign.directory) == {}
    assert [secret for secret in secrets() if secret in outcome.output] == []
