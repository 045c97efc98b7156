"""What `stemphony run` prints at the end: pairs without a result and why, errors, and the next steps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from stemphony.commands import outcome
from stemphony.commands.outcome import Outcome
from stemphony.paths import ResultPaths
from stemphony.results.precision import Precision
from stemphony.store import ledger, progress
from support.experiments import FakeCampaign


def test_a_refusal_of_the_scheduler_is_shown_if_no_job_has_a_message(tmp_path: Path):
    refused = "Exception in run_job for job 1: The given account nonsense appears to be invalid."
    lines = ["Building DAG of jobs...", refused, "stemphony: Error: of ours", refused, "Exiting"]
    outcome = Outcome(1, lines, tmp_path / "log", tmp_path, ResultPaths.of("tiny", tmp_path), False, 1.0)
    assert outcome.complaints() == [f"Snakemake says: {refused}"]


# --- which pairs have no result -----------------------------------------------------------------------------------


@pytest.fixture
def result(tmp_path: Path) -> ResultPaths:
    """A simulation of the defoci −1.5 and 3 nm with two configurations, in its first run."""
    made = ResultPaths.of("tiny", tmp_path / "results")
    made.run(1).mkdir(parents=True)
    plan = {"defoci_nm": [-1.5, 3.0], "defoci_ids": ["m1d500", "p3d000"], "num_configurations": 2}
    ledger.write_plan(made, plan, 1)
    return made


def job(result: ResultPaths, defocus_nm: float, configuration: int, state: str, message: str = "") -> None:
    """The traces of a job: its state, and a log."""
    identifier = {-1.5: "m1d500", 3.0: "p3d000"}[defocus_nm]
    file = result.progress(1, identifier, configuration)
    file.parent.mkdir(parents=True, exist_ok=True)
    noted = progress.ProgressFile(file, defocus_nm=defocus_nm, configuration=configuration)
    noted.state["message"] = message
    noted.state["state"] = state
    noted.write()
    log = result.log(identifier, configuration)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("2026-01-01  10 % of the waves\n")


def said(result: ResultPaths, *lines: str, status: int = 1) -> str:
    folder = result.root.parents[1]
    shown = Outcome(status, ["stemphony: jobs", *lines], folder / "log", folder, result, False, 1.0)
    return shown._failure()


@pytest.mark.failure("job killed by SIGKILL")
def test_a_job_that_died_without_a_message_is_named_with_its_log(result: ResultPaths):
    job(result, -1.5, 0, progress.RUNNING)
    job(result, 3.0, 1, progress.FINISHED)
    text = said(result)
    assert (
        "failed: defocus -1.5 nm, configuration 0: the job ended without a message (killed, out of memory, or its node "
        "failed)\n        log: "
    ) in text
    assert "log: " + os.path.relpath(result.log("m1d500", 0)) in text
    assert text.count("failed: ") == 1


def test_a_job_of_a_killed_snakemake_may_be_alive(result: ResultPaths):
    job(result, -1.5, 0, progress.RUNNING)
    assert "failed: " not in said(result, status=-9)


def test_a_job_that_left_only_a_log_is_named(result: ResultPaths):
    job(result, 3.0, 0, progress.FINISHED)
    log = result.log("m1d500", 1)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    text = said(result, f"    log: {log} (check log file(s) for error details)")
    assert "failed: defocus -1.5 nm, configuration 1: the job failed before it began" in text


def test_interrupted_jobs_are_not_counted_as_failed(result: ResultPaths):
    job(result, -1.5, 0, progress.INTERRUPTED, "interrupted")
    assert "failed: " not in said(result)
    folder = result.root.parents[1]
    text = Outcome(1, ["stemphony: jobs"], folder / "log", folder, result, True, 1.0)._failure()
    assert text.startswith("\ninterrupted. Nothing that was finished is lost")


def test_many_failed_pairs_are_counted(result: ResultPaths, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outcome, "SHOWN_PAIRS", 2)
    for defocus_nm in (-1.5, 3.0):
        for configuration in (0, 1):
            job(result, defocus_nm, configuration, progress.FAILED, "why")
    text = said(result)
    assert text.count("failed: ") == 2
    assert "… and 2 more pairs: stemphony status " in text


def test_the_cpu_time_of_fft_plans_is_stated_separately(tmp_path: Path):
    """The estimate counts waves only. The first job on each kind of machine makes the FFT plans."""
    result = ResultPaths.of("tiny", tmp_path)
    (result.run(1) / "progress").mkdir(parents=True)
    ledger.write_plan(result, {"run": 1, "cpu_hours": 50 / 3600}, 1)
    for number, planning_s in enumerate((31.0, 0.02)):
        file = progress.ProgressFile(result.progress(1, "p0d000", number), defocus="p0d000", configuration=number)
        file.file.parent.mkdir(parents=True, exist_ok=True)
        file.note(cpu_s=25.0 + planning_s, fft_plans_s=planning_s)
        file.write()
    text = Outcome(0, [], tmp_path / "log", tmp_path, result, False, 1.0)._cpu()
    assert text == ", with 50 s of CPU in the jobs (estimated: 50 s, and 31 s more for FFT plans, which are kept)"


# --- the summary of a finished run --------------------------------------------------------------------------------


def test_errors_are_stated_with_the_gain_of_more_configurations():
    few = Precision("haadf", 4, 0.06, median=0.048, brightest=0.13, depth_nm=10.0, place=(0, 0))
    assert outcome._line_of_errors(few) == (
        "error   haadf: 4.8 % at the median, 13 % at the brightest pixel (4 configurations, uncertain); "
        "30 configurations would give 1.8 %"
    )  # 4.8 % × √(4/30)
    phase = Precision("idpc", 10, 0.06, median=0.02, brightest=0.03, depth_nm=10.0, place=(0, 0), is_signed=True)
    line = outcome._line_of_errors(phase)
    assert line.startswith("error   idpc: 2 % of its contrast at the median, 3 % at the brightest")
    assert line.endswith("(10 configurations); 100 configurations would give 0.63 %")


def test_a_finished_run_names_its_result_and_errors_and_the_next_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    fake = FakeCampaign.of(tmp_path, frozen_phonon={"configurations": 2})
    fake.write_all()
    fake.merge()
    fake.result.run(1).mkdir(parents=True)
    fake.result.figures.mkdir()
    log = tmp_path / "log"
    log.touch()
    Outcome(0, ["stemphony: jobs"], log, tmp_path, fake.result, False, 70.0).show()
    root = os.path.relpath(fake.result.root)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("finished in ")
    assert lines[1:4] == [f"result  {root}/stem.nc", f"images  {root}/figures", "log     log"]
    assert [line.split(":")[0] for line in lines[4:6]] == ["error   bf", "error   haadf"]
    assert lines[6:] == [f"more    stemphony converge {root}", f"next    stemphony plot {root}"]
