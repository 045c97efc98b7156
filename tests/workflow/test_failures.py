"""Jobs and runs that fail, are killed or cancelled: no result is lost, and the same command continues."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from stemphony.store import progress
from stemphony.store.claims import process_start
from stemphony.store.holders import HOLDERS
from support.campaign import (
    AFTER_JOBS,
    TINY_JOBS,
    Campaign,
    Outcome,
    arrays,
    assert_same_arrays,
    attributes,
    wait_for,
)
from support.status_server import EchoServer

from workflow.conftest import Finished, Reported

SLOW_JOBS = frozenset({"p0d000/0000", "p0d000/0001"})


@contextmanager
def receiver(campaign: Campaign) -> Iterator[EchoServer]:
    """A receiver that the campaign reports to."""
    with EchoServer() as server:
        campaign.change(http_reporting={"reporting": True, "url": server.url})
        yield server


def told(server: EchoServer) -> list[dict[str, Any]]:
    """Events that the receiver got, each once.

    A job that is killed before it reads the answer leaves its event to the courier, which sends it with the same id.
    """
    first: dict[str, dict[str, Any]] = {}
    for event in server.events:
        first.setdefault(event["event_id"], event)
    return list(first.values())


def last(events: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The one event of this name."""
    (event,) = [event for event in events if event["event"] == name]
    return event


def ends(events: list[dict[str, Any]]) -> list[str]:
    """Events that end a run."""
    return [event["event"] for event in events if event["event"] in ("FINISH", "FAILED", "CANCELLED")]


def wait_until_computing(campaign: Campaign, run: int, jobs: int) -> None:
    """Wait until so many jobs of a run have begun and can receive a signal.

    Their spools show it. A receiver may hear it a second late, when the jobs have ended.
    """
    spools = lambda: (file.read_text() for file in campaign.result.events(run).rglob("*.jsonl"))  # noqa: E731
    wait_for(lambda: sum("START_FP_CONFIGURATION" in text for text in spools()) >= jobs, f"{jobs} jobs to compute")


def pairs(events: list[dict[str, Any]], name: str) -> set[tuple[float, int]]:
    return {(event["defocus"], event["configuration_index"]) for event in events if event["event"] == name}


# --- one job fails ------------------------------------------------------------------------------------------------


@pytest.mark.failure("job ends with an error")
def test_a_failed_job_stops_no_other_job(tiny: Reported, tmp_path: Path):
    campaign = tiny.copy(tmp_path / "copy")
    shutil.rmtree(campaign.result.root / "jobs")
    # A folder at the place of one job's result: the job computes and cannot write its result.
    in_the_way = campaign.job_file("p5d000/0000")
    stem = campaign.result.merged.read_bytes()
    broken = campaign.result.root / "jobs" / "defocus_p5d000"
    broken.mkdir(parents=True)
    (broken / (in_the_way.name + ".sha256")).mkdir()
    with receiver(campaign) as server:
        outcome = campaign.snakemake()
        events = told(server)
        assert outcome.status == 1, outcome.output
        assert outcome.jobs == TINY_JOBS
        others = TINY_JOBS - {"p5d000/0000"}
        for job in others:
            assert_same_arrays(campaign.job_file(job), arrays(tiny.campaign.job_file(job)))
        assert not in_the_way.exists()
        assert campaign.result.merged.read_bytes() == stem
        assert pairs(events, "ERROR") == {(5.0, 0)}
        assert pairs(events, "FINISH_FP_CONFIGURATION") == {(0.0, 0), (0.0, 1), (5.0, 1)}
        error = last(events, "ERROR")
        assert error["attempt"] == 2
        assert "configuration_0000.nc" in error["message"]
        assert str(tmp_path) not in error["message"]
        assert ends(events) == ["FAILED"]
        assert events[-1]["event"] == "FAILED"
        assert events[-1]["failed"] == [[1, 0]]
        assert (events[-1]["num_failed"], events[-1]["num_never_ran"]) == (1, 0)
        # The log of the failed job says why, and Snakemake shows it.
        assert "configuration_0000.nc" in outcome.output.partition("Logfile")[2]

        (broken / (in_the_way.name + ".sha256")).rmdir()
        server.received.clear()
        assert campaign.succeed().jobs == {"p5d000/0000"} | AFTER_JOBS
        assert_same_arrays(campaign.result.merged, tiny.arrays)
        assert ends(told(server)) == ["FINISH"]
        assert last(told(server), "START_FP_CONFIGURATION")["attempt"] == 3


def test_a_job_that_dies_before_it_begins_is_reported_all_the_same(tiny: Reported, tmp_path: Path):
    campaign = tiny.copy(tmp_path / "copy")
    campaign.job_file("p0d000/0001").unlink()
    clone = tmp_path / "clone"
    shutil.copytree(campaign.clone, clone, symlinks=True)
    script = clone / "workflow" / "scripts" / "run_multislice.py"
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    broken = Campaign(clone, campaign.folder, campaign.env)
    with receiver(campaign) as server:
        assert (ended := broken.snakemake()).status == 1, ended.output
        events = told(server)
    error = last(events, "ERROR")
    assert (error["defocus"], error["defocus_index"], error["configuration_index"]) == (0.0, 0, 1)
    assert (error["attempt"], error["run"]) == (2, 2)
    assert events[-1]["event"] == "FAILED"
    assert events[-1]["failed"] == [[0, 1]]
    assert (events[-1]["num_failed"], events[-1]["num_never_ran"]) == (1, 0)


# --- signals to jobs ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def after_signals(
    slow: Finished, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Campaign, Outcome, list[dict[str, Any]]]:
    """Three jobs side by side: the first gets SIGKILL, the second SIGTERM, the third is left alone."""
    campaign = slow.copy(tmp_path_factory.mktemp("signals") / "slow campaign")
    shutil.rmtree(campaign.result.root / "jobs")
    campaign.change(frozen_phonon={"configurations": 3})
    with receiver(campaign) as server:
        with campaign.start(cores=3) as running:
            wait_until_computing(campaign, 2, 3)
            states = campaign.states(2)
            os.kill(states["p0d000/0000"]["pid"], signal.SIGKILL)
            os.kill(states["p0d000/0001"]["pid"], signal.SIGTERM)
            outcome = running.end()
        return campaign, outcome, told(server)


@pytest.mark.failure("job killed by SIGKILL", "job killed by SIGTERM")
def test_the_others_finish_when_jobs_are_killed(after_signals: tuple[Campaign, Outcome, list[dict[str, Any]]]):
    campaign, outcome, events = after_signals
    assert outcome.status == 1, outcome.output
    assert set(campaign.written()) == {"defocus_p0d000/configuration_0002.nc"}
    assert pairs(events, "FINISH_FP_CONFIGURATION") == {(0.0, 2)}
    leftovers = [path.name for path in (campaign.result.root / "jobs").rglob("*") if path.name.endswith(".tmp")]
    assert leftovers == []


@pytest.mark.failure("job killed by SIGKILL", "job killed by SIGTERM")
def test_every_killed_job_has_one_error(after_signals: tuple[Campaign, Outcome, list[dict[str, Any]]]):
    _, _, events = after_signals
    errors = {event["configuration_index"]: event for event in events if event["event"] == "ERROR"}
    assert len([event for event in events if event["event"] == "ERROR"]) == 2
    assert "ended without a message" in errors[0]["message"]
    assert errors[1]["message"] == "terminated (SIGTERM)"
    assert {(event["run"], event["attempt"]) for event in errors.values()} == {(2, 2)}
    jobs = {
        event["configuration_index"]: event["job"] for event in events if event["event"] == "START_FP_CONFIGURATION"
    }
    assert {index: event["job"] for index, event in errors.items()} == {index: jobs[index] for index in (0, 1)}
    assert ends(events) == ["FAILED"]
    assert events[-1]["event"] == "FAILED"
    assert events[-1]["failed"] == [[0, 0], [0, 1]]
    assert events[-1]["num_never_ran"] == 0


@pytest.mark.failure("job killed by SIGKILL", "job killed by SIGTERM")
def test_only_the_killed_jobs_run_again(slow: Finished, after_signals: tuple[Campaign, Outcome, list[dict[str, Any]]]):
    campaign, _, _ = after_signals
    before = campaign.written()
    campaign.change(http_reporting={"reporting": False})
    assert campaign.succeed().jobs == SLOW_JOBS | {"merge_results"}
    assert campaign.written().items() > before.items()
    for job in SLOW_JOBS:
        assert_same_arrays(campaign.job_file(job), arrays(slow.campaign.job_file(job)))


# --- signals to Snakemake -----------------------------------------------------------------------------------------


@pytest.fixture
def slow_again(slow: Finished, tmp_path: Path) -> Campaign:
    """The slow campaign with its jobs to do again."""
    campaign = slow.copy(tmp_path / "slow campaign")
    shutil.rmtree(campaign.result.root / "jobs")
    return campaign


@pytest.mark.failure("scheduler gets SIGINT")
def test_ctrl_c_cancels_at_once_and_the_same_command_completes(slow: Finished, slow_again: Campaign):
    campaign = slow_again
    with receiver(campaign) as server:
        with campaign.start(cores=1) as running:
            wait_until_computing(campaign, 2, 1)
            running.signal_all(signal.SIGINT)
            assert running.end().status != 0
        events = told(server)
        assert campaign.written() == {}
        assert ends(events) == ["CANCELLED"]
        assert events[-1]["event"] == "CANCELLED"
        assert events[-1]["num_never_ran"] == 1
        assert last(events, "ERROR")["message"] == "interrupted"
        assert not list((campaign.directory / ".snakemake" / "locks").glob("*"))
        assert campaign.succeed(cores=2).jobs == SLOW_JOBS | {"merge_results"}
        assert ends(told(server)) == ["CANCELLED", "FINISH"]
    assert_same_arrays(campaign.result.merged, slow.arrays)


@pytest.mark.failure("scheduler gets SIGINT")
def test_ctrl_c_to_stemphony_run_is_one_message_and_the_same_command_completes(slow: Finished, slow_again: Campaign):
    campaign = slow_again
    with campaign.start_stemphony() as running:
        campaign.wait_for_jobs(2, 2)
        running.signal_all(signal.SIGINT)
        outcome = running.end()
    assert outcome.status != 0, outcome.output
    assert "interrupted. Nothing that was finished is lost: run the same command to go on." in outcome.output
    assert "Traceback" not in outcome.output
    assert "failed: " not in outcome.output
    again = campaign.stemphony()
    assert again.status == 0, again.output
    assert "its lock is removed" not in again.output
    assert_same_arrays(campaign.result.merged, slow.arrays)


@pytest.mark.failure("job killed by SIGKILL")
def test_stemphony_run_names_a_killed_job_with_reason_and_log(slow_again: Campaign):
    campaign = slow_again
    with campaign.start_stemphony() as running:
        campaign.wait_for_jobs(2, 2)
        os.kill(campaign.states(2)["p0d000/0000"]["pid"], signal.SIGKILL)
        wait_for(lambda: progress.Watch(campaign.result, 2).overall(2).failed == 1, "the killed job to count as failed")
        assert progress.Watch(campaign.result, 2).overall(2).running <= 1
        outcome = running.end()
    assert outcome.status == 1, outcome.output
    expected = "failed: defocus 0 nm, configuration 0: the job ended without a message (killed, out of memory, or its"
    assert outcome.output.count("failed: ") == 1
    assert expected in outcome.output
    named = outcome.output.partition(expected)[2]
    assert "defocus_p0d000/configuration_0000.log" in named


@pytest.mark.failure("scheduler gets SIGTERM")
def test_sigterm_lets_running_jobs_finish_and_the_same_command_completes(slow: Finished, slow_again: Campaign):
    campaign = slow_again
    with receiver(campaign) as server:
        with campaign.start(cores=1) as running:
            wait_until_computing(campaign, 2, 1)
            (job,) = campaign.states(2)
            running.process.send_signal(signal.SIGTERM)
            outcome = running.end()
        assert outcome.status == 1, outcome.output
        assert "stemphony: SIGTERM: no further pair starts" in outcome.output
        events = told(server)
        assert ends(events) == ["CANCELLED"]
        assert events[-1]["event"] == "CANCELLED"
        assert (events[-1]["num_failed"], events[-1]["num_never_ran"]) == (0, 1)
        assert pairs(events, "ERROR") == set()
        kept = campaign.written()
        assert set(kept) == {f"defocus_{job.replace('/', '/configuration_')}.nc"}
        assert campaign.succeed(cores=2).jobs == SLOW_JOBS - {job} | {"merge_results"}
        assert campaign.written().items() > kept.items()
    assert_same_arrays(campaign.result.merged, slow.arrays)


def holder_of(campaign: Campaign) -> Path:
    """The file in which the run that holds the working directory is noted."""
    (file,) = (campaign.directory / HOLDERS).glob("*.json")
    return file


@pytest.mark.failure("scheduler gets SIGKILL, restart", "two stemphony run at once")
def test_a_killed_run_is_unlocked_and_completed_and_a_living_one_is_left_alone(slow: Finished, slow_again: Campaign):
    campaign = slow_again
    locks = campaign.directory / ".snakemake" / "locks"
    with campaign.start_stemphony() as running:
        campaign.wait_for_jobs(2, 2)
        held = sorted(locks.iterdir())
        other = second_run(campaign)
        assert other.status == 1, other.output
        pid = json.loads(holder_of(campaign).read_text())["pid"]
        assert f"in use by a run that is alive (process {pid})" in other.output
        assert "Traceback" not in other.output
        assert sorted(locks.iterdir()) == held
        running.signal_all(signal.SIGKILL)
        assert (ended := running.end()).status == -signal.SIGKILL, ended.output
    assert sorted(locks.iterdir()) == held
    assert campaign.written() == {}

    # As if it had been killed on another machine, so that this machine cannot see whether it is gone.
    noted = holder_of(campaign).read_text()
    holder_of(campaign).write_text(json.dumps({**json.loads(noted), "host": "another-machine"}))
    refused = campaign.stemphony()
    assert refused.status == 1, refused.output
    assert "another-machine" in refused.output
    assert "Traceback" not in refused.output
    assert sorted(locks.iterdir()) == held

    # As if another living process had got its process id.
    holder_of(campaign).write_text(json.dumps({**json.loads(noted), "pid": os.getpid()}))
    outcome = campaign.stemphony()
    assert outcome.status == 0, outcome.output
    assert f"(process {os.getpid()}) was killed; its lock is removed and the work goes on" in outcome.output
    assert_same_arrays(campaign.result.merged, slow.arrays)
    assert not list((campaign.directory / HOLDERS).glob("*"))
    assert not list(locks.glob("*"))


@pytest.mark.failure("scheduler gets SIGKILL, restart")
def test_a_run_that_was_killed_while_it_made_the_specimen_computes_everything_in_the_next(quiet_copy: Campaign):
    """It must not make only the specimen and end with status 0 and no result."""
    shutil.rmtree(quiet_copy.result.root / "jobs")
    quiet_copy.result.merged.unlink()
    key = base64.urlsafe_b64encode(str(quiet_copy.result.specimen.relative_to(quiet_copy.directory)).encode()).decode()
    (quiet_copy.directory / ".snakemake" / "incomplete" / key).write_text('{"external_jobid": null}')
    assert quiet_copy.to_run() == {"prepare_specimen", *TINY_JOBS, *AFTER_JOBS}


def second_run(campaign: Campaign) -> Outcome:
    """A second `stemphony run` beside a running one."""
    return campaign.command("run", campaign.config, "--directory", campaign.directory, "--cores", "1")


def attempts(campaign: Campaign) -> dict[str, int]:
    """Which attempt has computed each job of the slow campaign."""
    return {job: attributes(campaign.job_file(job), "runtime")["attempt"] for job in SLOW_JOBS}


@pytest.mark.failure("scheduler gets SIGKILL, restart", "job started twice")
@pytest.mark.parametrize("when", ["after they have ended", "while they run"])
def test_jobs_that_outlive_a_killed_snakemake_are_not_computed_again(slow: Finished, slow_again: Campaign, when: str):
    campaign = slow_again
    logs = campaign.directory / "logs" / "run_multislice" / "slow"
    with campaign.start() as running:
        states = campaign.wait_for_jobs(2, 2)
        running.process.send_signal(signal.SIGKILL)
        running.end()
        alive = {state["pid"]: Path(f"/proc/{state['pid']}") for state in states.values()}
        assert all(process.exists() for process in alive.values()), "the jobs go on as orphans"
        if when == "while they run":
            for pid in alive:
                os.kill(pid, signal.SIGSTOP)
        else:
            wait_for(lambda: len(campaign.written()) == 2, "the results of the orphans")
            wait_for(lambda: not any(process.exists() for process in alive.values()), "the orphans to end")
        with campaign.start_stemphony() as again:
            if when == "while they run":
                said = lambda: [log.read_text() for log in logs.rglob("*.log")]  # noqa: E731
                wait_for(lambda: sum("waiting for its result" in text for text in said()) == 2, "both to wait")
                for pid in alive:
                    os.kill(pid, signal.SIGCONT)
            outcome = again.end()
        assert outcome.status == 0, outcome.output
    assert attempts(campaign) == {job: state["attempt"] for job, state in states.items()}
    assert ["its result is checked and taken" in log.read_text() for log in logs.rglob("*.log")] == [True, True]
    assert_same_arrays(campaign.result.merged, slow.arrays)
    assert not list(campaign.result.root.rglob("*.tmp"))
    assert not campaign.result.checkpoints_folder.exists()


@pytest.mark.failure("time limit")
def test_a_job_out_of_time_is_tried_again_and_goes_on(slow: Finished, slow_again: Campaign):
    campaign = slow_again
    campaign.job_file("p0d000/0001").parent.mkdir(parents=True)
    for suffix in ("", ".sha256"):  # one job is enough
        name = campaign.job_file("p0d000/0001").name + suffix
        shutil.copy2(slow.campaign.job_file("p0d000/0001").with_name(name), campaign.job_file("p0d000/0001").parent)
    campaign.change(resources={"runtime_min": 100})
    # As in a job of a cluster that ends in less than a minute.
    limited = Campaign(
        campaign.clone,
        campaign.folder,
        {**campaign.env, "STEMPHONY_JOB_BEGAN": str(time.monotonic() - 5945.0)},
    )
    with receiver(campaign) as server:
        outcome = limited.succeed("--retries", "1", cores=1)
        events = told(server)
    error = last(events, "ERROR")
    assert error["will_retry"] is True
    assert error["message"].startswith("The time limit of 100 min is near; ")
    assert outcome.output.count("The time limit of 100 min is near") == 1
    first, second = ([e for e in events if e.get("attempt") == attempt] for attempt in (2, 3))
    assert "FINISH_FP_CONFIGURATION" not in {event["event"] for event in first}
    assert [event["event"] for event in second][-1] == "FINISH_FP_CONFIGURATION"
    assert attributes(campaign.job_file("p0d000/0000"), "runtime")["resumed_at"] > 0
    assert_same_arrays(campaign.result.merged, slow.arrays)
    assert ends(events) == ["FINISH"]
    assert not campaign.result.checkpoints_folder.exists()


def test_a_lock_without_a_known_process_is_left_alone(quiet_copy: Campaign):
    locks = quiet_copy.directory / ".snakemake" / "locks"
    locks.mkdir(exist_ok=True)
    (locks / "0.output.lock").write_text("results/tiny/stem.nc\n")
    outcome = quiet_copy.stemphony()
    assert outcome.status == 1, outcome.output
    assert "left no trace of its process" in outcome.output
    assert "snakemake --unlock" in outcome.output
    assert (locks / "0.output.lock").exists()


def test_a_living_run_of_another_simulation_keeps_its_lock(quiet_copy: Campaign):
    locks = quiet_copy.directory / ".snakemake" / "locks"
    locks.mkdir(exist_ok=True)
    lock = locks / "0.output.lock"
    lock.write_text("results/another/stem.nc\n")
    noted = {"host": os.uname().nodename, "pid": os.getpid(), "started": process_start(os.getpid())}
    holder = quiet_copy.directory / HOLDERS / "another.json"
    holder.parent.mkdir(exist_ok=True)
    holder.write_text(json.dumps({**noted, "simulation": "another"}))
    outcome = quiet_copy.stemphony("--dry-run")
    assert outcome.status == 0, outcome.output
    assert "lock is removed" not in outcome.output
    assert lock.exists()
    assert holder.exists()


@pytest.mark.failure("simulation.json lost, also during a run")
def test_a_simulation_json_that_is_deleted_during_the_run_changes_neither_id_nor_seed(
    slow: Finished, slow_again: Campaign
):
    """Before, the next job drew another id and another seed."""
    campaign = slow_again
    known = json.loads(campaign.result.identity.read_text())
    with receiver(campaign) as server:
        with campaign.start(cores=1) as running:
            wait_until_computing(campaign, 2, 1)
            known |= json.loads(campaign.result.identity.read_text())
            campaign.result.identity.unlink()
            outcome = running.end()
        assert outcome.status == 0, outcome.output
        assert {event["id"] for event in server.events} == {known["id"]}
    assert json.loads(campaign.result.identity.read_text()) == known
    assert {attributes(campaign.job_file(job))["id"] for job in SLOW_JOBS} == {known["id"]}
    assert_same_arrays(campaign.result.merged, slow.arrays)
    campaign.change(http_reporting={"reporting": False})
    # Between two runs, the plan of the last run has the id, even if no job is left.
    campaign.result.identity.unlink()
    shutil.rmtree(campaign.result.root / "jobs")
    assert campaign.succeed(cores=2).jobs == SLOW_JOBS | {"merge_results"}
    again = json.loads(campaign.result.identity.read_text())
    assert (again["id"], again["seed"]) == (known["id"], known["seed"])
    assert_same_arrays(campaign.result.merged, slow.arrays)


# --- a config that is edited meanwhile ------------------------------------------------------------------------------


@pytest.mark.failure("config edited while the run goes on")
def test_a_config_edited_during_the_run_changes_nothing_before_the_next_one(slow: Finished, slow_again: Campaign):
    campaign = slow_again
    with campaign.start(cores=1) as running:
        campaign.wait_for_jobs(2)
        campaign.change(probe={"energy_kev": 80.0}, simulation={"title": "Edited"}, scan={"points": [2, 2]})
        outcome = running.end()
    assert outcome.status == 0, outcome.output
    assert outcome.jobs == SLOW_JOBS | {"merge_results"}
    assert_same_arrays(campaign.result.merged, slow.arrays)
    for file in (campaign.result.merged, *(campaign.job_file(job) for job in SLOW_JOBS)):
        assert attributes(file, "params/probe")["energy_kev"] == 200.0
        assert attributes(file)["title"] == "Slow campaign"
    assert campaign.to_run() == SLOW_JOBS | {"merge_results"}


# --- damaged files ------------------------------------------------------------------------------------------------


def flip_one_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_off(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


@pytest.fixture(scope="module")
def damaged(slow: Finished, tiny: Reported, tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, Outcome, dict]:
    """One job file with a flipped bit, one cut off, one of another campaign with its checksum; then a run."""
    campaign = tiny.copy(tmp_path_factory.mktemp("damaged") / "copy")
    campaign.change(http_reporting={"reporting": False})
    flip_one_bit(campaign.job_file("p0d000/0001"))
    cut_off(campaign.job_file("p5d000/0000"))
    foreign = slow.campaign.job_file("p0d000/0000")
    for suffix in ("", ".sha256"):
        own = campaign.job_file("p0d000/0000")
        shutil.copyfile(foreign.with_name(foreign.name + suffix), own.with_name(own.name + suffix))
    before = {path: path.read_bytes() for path in campaign.result.root.rglob("*.nc*")}
    return campaign, campaign.snakemake(), before


@pytest.mark.failure("output truncated", "output bit-flipped", "output from another config")
@pytest.mark.parametrize(
    ("job", "why"),
    [
        ("p0d000/0001", "damaged: its bytes do not match configuration_0001.nc.sha256"),
        ("p5d000/0000", "damaged: its bytes do not match configuration_0000.nc.sha256"),
        ("p0d000/0000", "foreign"),
    ],
    ids=["one bit flipped", "cut off", "of another campaign"],
)
def test_the_merge_names_each_file_that_it_refuses(damaged: tuple[Campaign, Outcome, dict], job: str, why: str):
    campaign, outcome, _ = damaged
    assert outcome.status == 1, outcome.output
    assert outcome.jobs == AFTER_JOBS - {"plot_results"} or outcome.jobs == AFTER_JOBS
    log = (campaign.directory / "logs" / "merge_results" / "tiny" / "stem.log").read_text()
    assert "3 of 4 job files cannot be used" in log
    (line,) = [line for line in log.splitlines() if str(campaign.job_file(job).relative_to(campaign.directory)) in line]
    assert why in line
    assert line in outcome.output
    assert "Traceback" not in log


@pytest.mark.failure("output truncated")
def test_a_refused_merge_deletes_and_changes_nothing(damaged: tuple[Campaign, Outcome, dict]):
    campaign, _, before = damaged
    assert {path: path.read_bytes() for path in campaign.result.root.rglob("*.nc*")} == before


@pytest.mark.failure("output truncated")
def test_deleting_the_refused_files_repairs_the_result(tiny: Reported, damaged: tuple[Campaign, Outcome, dict]):
    campaign, _, _ = damaged
    assert campaign.snakemake().status == 1, "it stays refused while they are there"
    for job in ("p0d000/0001", "p5d000/0000", "p0d000/0000"):
        campaign.job_file(job).unlink()
    assert campaign.succeed().jobs == TINY_JOBS - {"p5d000/0001"} | AFTER_JOBS
    assert_same_arrays(campaign.result.merged, tiny.arrays)


def test_a_damaged_identity_stops_the_run_with_a_message(quiet_copy: Campaign):
    quiet_copy.result.identity.write_text("{")
    quiet_copy.job_file("p0d000/0000").unlink()
    outcome = quiet_copy.snakemake()
    assert outcome.status == 1, outcome.output
    assert "simulation.json is damaged" in outcome.output
