"""The lookout in front of Snakemake's Slurm executor, and jobs that outlived their run. No Slurm is needed."""

from __future__ import annotations

import asyncio
import inspect
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from stemphony.orchestration import slurm
from stemphony.orchestration.slurm import ABSENT_LOOKS, Lookout, QueuedJob

UUID = "0b3f2f0e-1111-2222-3333-444455556666"
RUN = f"quick_22c72aa8_{UUID}"


class Slurm:
    """Answers of squeue and sacct, in turn. None is a failed command. The last answer repeats."""

    def __init__(self, squeue: list[dict[str, str] | None], sacct: dict[str, str] | None = None) -> None:
        self.answers, self.sacct = squeue, sacct
        self.asked: list[str] = []

    async def query(self, command: str, logger: Any) -> tuple[dict[str, str] | None, float | None]:
        self.asked.append(command)
        if command.startswith("sacct"):
            answer = self.sacct
        else:
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return (None, None) if answer is None else (answer, 0.1)


def looks(cluster: Slurm, watched: set[str], number: int, command: str = "squeue") -> tuple[list[dict], list[str]]:
    said: list[str] = []
    lookout = Lookout(cluster.query, "squeue --name {}".format, "sacct --name {}".format, said.append)
    lookout.watched = watched

    async def ask() -> list[dict]:
        return [(await lookout.ask(f"{command} --name {RUN}", None))[0] for _ in range(number)]

    return asyncio.run(ask()), said


def test_a_state_from_squeue_is_used_without_asking_sacct():
    cluster = Slurm([{"1": "RUNNING", "2": "FAILED"}])
    answers, said = looks(cluster, {"1", "2"}, 1)
    assert answers == [{"1": "RUNNING", "2": "FAILED"}]
    assert cluster.asked == [f"squeue --name {RUN}"]
    assert said == []


def test_jobs_stay_watched_while_slurm_is_silent_and_one_message_says_so():
    answers, said = looks(Slurm([None, None, {"1": "COMPLETED"}]), {"1"}, 3)
    assert answers == [{"1": slurm.NO_ANSWER}, {"1": slurm.NO_ANSWER}, {"1": "COMPLETED"}]
    assert [line.partition(".")[0] for line in said] == ["Slurm does not answer (squeue, sacct)", "Slurm answers again"]


def test_squeue_replaces_sacct_if_there_is_no_accounting():
    answers, said = looks(Slurm([{"1": "RUNNING"}]), {"1"}, 1, command="sacct")
    assert answers == [{"1": "RUNNING"}]
    assert said == []


def test_a_job_that_slurm_has_forgotten_has_the_state_of_sacct():
    answers, _ = looks(Slurm([{}], sacct={"1": "TIMEOUT"}), {"1"}, 1)
    assert answers == [{"1": "TIMEOUT"}]


@pytest.mark.parametrize("command", ["squeue", "sacct"])
def test_a_cancelled_job_has_ended_no_matter_who_cancelled_it(command: str):
    """sacct adds who cancelled it, and the executor takes an unknown state for a running job."""
    answers, _ = looks(Slurm([{}], sacct={"1": "CANCELLED by 1000"}), {"1"}, 1, command)
    assert answers == [{"1": "CANCELLED"}]


@pytest.mark.failure("a job makes room for another (preemption)")
def test_a_preempted_job_that_is_not_queued_again_has_ended_and_is_reported_once():
    requeued = [{"1": "PREEMPTED"}, {"1": "PREEMPTED"}, {"1": "PENDING"}]
    answers, said = looks(Slurm([*requeued, {"1": "PREEMPTED"}]), {"1"}, len(requeued) + ABSENT_LOOKS)
    assert [answer["1"] for answer in answers] == [
        "PREEMPTED", "PREEMPTED", "PENDING", *["PREEMPTED"] * (ABSENT_LOOKS - 1), "CANCELLED",
    ]  # fmt: skip
    (line,) = said
    assert line.startswith("Slurm has ended the job 1 to make room for one of higher priority (PREEMPTED).")


@pytest.mark.failure("Slurm has forgotten a job")
def test_a_job_that_squeue_and_sacct_do_not_know_has_ended():
    answers, _ = looks(Slurm([{"2": "RUNNING"}]), {"1", "2"}, ABSENT_LOOKS)
    assert [answer.get("1") for answer in answers] == [None] * (ABSENT_LOOKS - 1) + ["UNKNOWN"]


def test_a_job_that_is_alive_only_in_the_accounting_has_ended():
    """slurmctld has lost the job, and slurmdbd never received its end."""
    runaway = Slurm([{"2": "RUNNING"}], {"1": "RUNNING"})
    answers, _ = looks(runaway, {"1", "2"}, ABSENT_LOOKS)
    assert [answer["1"] for answer in answers] == ["RUNNING"] * (ABSENT_LOOKS - 1) + ["UNKNOWN"]
    assert {answer["2"] for answer in answers} == {"RUNNING"}
    # While squeue does not answer, only the accounting is used.
    answers, _ = looks(Slurm([None], {"1": "RUNNING"}), {"1"}, 2 * ABSENT_LOOKS)
    assert {answer["1"] for answer in answers} == {"RUNNING"}


def test_failed_queries_do_not_make_a_job_forgotten():
    answers, _ = looks(Slurm([{}, None, None, None, {"1": "RUNNING"}]), {"1"}, 5)
    assert "UNKNOWN" not in [answer.get("1") for answer in answers]


def test_the_installed_executor_has_the_parts_that_the_lookout_replaces():
    """The executor keeps a job with an unknown status, and ends one with UNKNOWN."""
    plugin = pytest.importorskip(slurm.PLUGIN)
    source = inspect.getsource(plugin.Executor.check_active_jobs)
    assert "query_job_status(" in source
    assert "min_job_age = get_min_job_age()" in source
    assert 'status == "UNKNOWN"' in source
    assert '"CANCELLED",' in source
    assert slurm.NO_ANSWER not in source
    assert plugin.query_job_status_squeue(RUN).split()[-1] == plugin.query_job_status_sacct(RUN).split()[-1] == RUN
    assert isinstance(plugin.Executor.next_seconds_between_status_checks, property)


def test_a_missing_executor_is_not_adapted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, slurm.PLUGIN, raising=False)
    slurm.adapt_executor("quick", print)
    assert slurm.PLUGIN not in sys.modules


def test_an_adapted_executor_keeps_its_interval_and_names_its_jobs(monkeypatch: pytest.MonkeyPatch):
    plugin = ModuleType(slurm.PLUGIN)

    class Executor:
        def __init__(self) -> None:
            self.workflow = SimpleNamespace(
                executor_settings=SimpleNamespace(jobname_prefix="mine"),
                remote_execution_settings=SimpleNamespace(seconds_between_status_checks=20),
            )
            self.__post_init__()

        def __post_init__(self) -> None:
            self.prefix = self.workflow.executor_settings.jobname_prefix

        async def check_active_jobs(self, active_jobs: list[Any]) -> Any:
            self.next_seconds_between_status_checks = 30
            states, _ = await plugin.query_job_status(f"squeue --name {RUN}", None)
            for job in active_jobs:
                if states[job.external_jobid] == slurm.NO_ANSWER:
                    yield job

    async def failing(command: str, logger: Any) -> tuple[None, None]:
        return None, None

    plugin.Executor = Executor  # type: ignore[attr-defined]
    plugin.query_job_status = failing  # type: ignore[attr-defined]
    plugin.query_job_status_squeue = plugin.query_job_status_sacct = str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, slurm.PLUGIN, plugin)
    slurm.adapt_executor("quick", lambda text: None)
    executor: Any = Executor()
    assert executor.prefix == "mine_quick_22c72aa8"
    job = SimpleNamespace(external_jobid="17")

    async def check() -> list[Any]:
        return [kept async for kept in executor.check_active_jobs([job])]

    assert asyncio.run(check()) == [job]
    assert executor.next_seconds_between_status_checks == 20


def test_only_waiting_jobs_are_asked_for_their_reason_and_not_in_every_look():
    asked: list[set[str]] = []
    cluster = Slurm([{"1": "PENDING", "2": "RUNNING", "3": "PENDING"}])
    lookout = Lookout(cluster.query, str, str, lambda text: None)
    lookout.watched, lookout.end_stuck = {"1", "2"}, asked.append

    async def look(times: int) -> None:
        for _ in range(times):
            await lookout.ask("squeue", None)

    asyncio.run(look(1))
    assert asked == [], "a job may be queued for a moment"
    asyncio.run(look(1))
    assert asked == [{"1"}]
    asyncio.run(look(28))
    assert asked == [{"1"}] * 3
    cluster.answers = [{"1": "RUNNING", "2": "RUNNING"}]
    asyncio.run(look(20))
    assert asked == [{"1"}] * 3


# --- jobs that Slurm will never start ---------------------------------------------------------------------------------


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of Slurm's commands, first in PATH: empty, so that no command of Slurm is found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    for name in ("squeue", "sinfo", "scancel"):
        answer(folder, name, "exit 1")
    return folder


def answer(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


QUEUE = "cat <<'END'\n" + "\n".join(
    (
        "4|30:00|other|Priority",
        "5|2:00:00|other|PartitionTimeLimit",
        "6|2:00:00|other|PartitionTimeLimit",
        "7|1-00:00:00|main|QOSMaxWallDurationPerJobLimit",
        "9|2:00:00|other|PartitionTimeLimit",
        "nonsense",
        "END",
    )
)


@pytest.mark.failure("time limit above that of the partition")
def test_jobs_that_can_never_start_are_cancelled_with_their_request_and_the_limit(commands: Path):
    answer(commands, "squeue", QUEUE)
    answer(commands, "sinfo", "echo 1:30:00; echo 1:30:00")
    answer(commands, "scancel", f"echo $* >> '{commands}/cancelled'")
    said: list[str] = []
    slurm.end_stuck({"4", "5", "6", "7"}, said.append, set())
    assert (commands / "cancelled").read_text().split("\n")[:-1] == ["--state=PENDING 5 6", "--state=PENDING 7"]
    partition, qos = said
    assert partition.startswith(
        "Slurm will never start the jobs 5, 6 (PartitionTimeLimit): the request is 120 min, and partition other allows "
        "90. Cancelled before the start, so no work is lost. Set resources.runtime_min to 30 at most"
    )
    assert "the job 7 (QOSMaxWallDurationPerJobLimit): the request is 1440 min, more than its QoS allows. " in qos
    assert "to a third of that at most" in qos


def test_a_job_that_cannot_be_cancelled_is_named_with_the_command(commands: Path):
    answer(commands, "squeue", QUEUE)
    said: list[str] = []
    slurm.end_stuck({"5"}, said.append, set())
    (line,) = said
    assert "more than its partition allows. To end this: scancel 5. " in line


@pytest.mark.failure("a job that Slurm holds")
def test_held_and_unfulfillable_jobs_are_named_once(commands: Path):
    answer(
        commands,
        "squeue",
        "echo '1|30:00|main|JobHeldUser'; echo '2|30:00|main|job requeued in held state'; "
        "echo '3|30:00|main|job requeued in held state'; echo '4|30:00|main|BadConstraints'; "
        "echo '5|30:00|main|Resources'",
    )
    answer(commands, "scancel", f"touch '{commands}/cancelled'")
    said: list[str] = []
    told: set[str] = set()
    for _ in range(2):
        slurm.end_stuck({"1", "2", "3", "4", "5"}, said.append, told)
    held, requeued, unfulfilled = said
    assert "the job 1 (JobHeldUser); the run waits. To let it start: scontrol release 1. " in held
    assert "the jobs 2, 3 (job requeued in held state); the run waits. " in requeued
    assert "scontrol release 2 3. To cancel them, so that the run tries again: scancel 2 3. " in requeued
    assert "job 4 (BadConstraints)" in unfulfilled
    assert "release" not in unfulfilled
    assert not (commands / "cancelled").exists(), "a hold may be wanted"


def test_silent_slurm_and_usual_waiting_give_no_message(commands: Path):
    slurm.end_stuck({"5"}, pytest.fail, set())
    answer(commands, "squeue", QUEUE)
    slurm.end_stuck({"4"}, pytest.fail, set())


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("30:00", 30), ("0:30", 1), ("2:00:00", 120), ("1-02:00:30", 1561), ("infinite", None), ("UNLIMITED", None)],
)
def test_times_of_slurm_are_read(text: str, minutes: int | None):
    assert slurm._minutes(text) == minutes


# --- jobs that outlived their run -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "is_left"),
    [
        ("17|RUNNING|{run}|{here}", True),
        ("17|RUNNING|mine_{run}|{here}", True),
        ("17|RUNNING|other_{run}|{here}", True),  # a prefix of the user's, not another simulation
        ("17|RUNNING|{run}|{here}/below", False),
        ("17|RUNNING|{run}x|{here}", False),
        ("17|RUNNING|quick_{uuid}|{here}", False),
        ("17|RUNNING|quickly_22c72aa8x_{uuid}|{here}", False),
        ("17|RUNNING|{uuid}|{here}", False),
        ("17|RUNNING|bash|{here}", False),
        ("", False),
    ],
)
def test_jobs_of_the_simulation_are_recognised_by_name_and_folder(line: str, is_left: bool, tmp_path: Path):
    listed = line.format(run=RUN, uuid=UUID, here=tmp_path)
    found = slurm._of_simulation([listed], tmp_path, "quick")
    assert found == ([QueuedJob("17", "RUNNING")] if is_left else [])


def test_long_names_are_cut_to_what_slurm_allows_and_still_found(tmp_path: Path):
    simulation = "a_name_of_more_than_fifty_characters_" + "x" * 40
    prefix = slurm.name_prefix(simulation, "mine")
    assert len(prefix) == slurm.PREFIX_LENGTH
    line = f"1|PENDING|{prefix}_{UUID}|{tmp_path}"
    assert slurm._of_simulation([line], tmp_path, simulation) == [QueuedJob("1", "PENDING")]
    assert slurm._of_simulation([line], tmp_path, f"another_{simulation}") == []


def test_jobs_of_a_simulation_whose_name_ends_alike_are_not_left_over(tmp_path: Path):
    line = f"1|RUNNING|{slurm.name_prefix('thick_srtio3')}_{UUID}|{tmp_path}"
    assert slurm._of_simulation([line], tmp_path, "srtio3") == []
    assert slurm._of_simulation([line], tmp_path, "thick_srtio3") == [QueuedJob("1", "RUNNING")]
    assert slurm.name_prefix("thick_srtio3").startswith("thick_srtio3_")


def test_waiting_for_old_jobs_names_the_alternatives_and_continues_while_slurm_is_silent():
    said: list[str] = []
    running = [QueuedJob("5", "RUNNING")]
    answers: list[list[QueuedJob] | None] = [running, None, None, running, None, []]

    def look() -> list[QueuedJob]:
        answer = answers.pop(0)
        if answer is None:
            raise slurm.SlurmIsSilentError
        return answer

    slurm.wait_for([QueuedJob("5", "RUNNING"), QueuedJob("6", "PENDING")], look, lambda: None, said.append)
    assert answers == []
    assert "2 jobs" in said[0]
    assert "(1 pending, 1 running)" in said[0]
    assert said[0].endswith("scancel 5 6")
    assert [line.partition(" (")[0] for line in said[1:-1]] == ["Slurm does not answer", "Slurm answers again."] * 2
    assert said[-1] == "those jobs have ended; the run goes on."


def test_no_jobs_of_an_old_run_give_no_message():
    slurm.wait_for([], lambda: [], lambda: None, pytest.fail)


def test_plain_snakemake_names_the_jobs_that_are_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / ".snakemake").mkdir()
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f"#!/bin/sh\necho '17|RUNNING|{RUN}|{tmp_path}'\necho '18|PENDING|{RUN}|/elsewhere'\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(squeue.parent), prepend=":")
    monkeypatch.chdir(tmp_path)
    line = slurm.queued_before_start(tmp_path, "quick")
    assert line.startswith("Slurm still has 1 job of this simulation, from a run that was killed (1 running).")
    assert line.endswith("scancel 17")


def test_no_answer_from_slurm_is_not_an_empty_queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / ".snakemake").mkdir()
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text("#!/bin/sh\nexit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(squeue.parent), prepend=":")
    with pytest.raises(slurm.SlurmIsSilentError):
        slurm.leftovers(tmp_path, "quick")
    assert slurm.leftovers(tmp_path / "new", "quick") == []
