"""`stemphony status`, `rerun` and `preview` on a simulation of which something is missing, failed or damaged."""

from __future__ import annotations

import base64
import errno
import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import netCDF4
import pytest
from stemphony import cli
from stemphony.commands import status as status_command
from stemphony.commands.rerun import KEPT_SUFFIX, _link
from stemphony.errors import StorageError
from stemphony.store.claims import process_start
from stemphony.store.holders import HOLDERS
from support.arrays import differences
from support.campaign import (
    AFTER_JOBS,
    TINY_JOBS,
    Campaign,
    Outcome,
    Running,
    arrays,
    assert_same_arrays,
    attributes,
    wait_for,
)

from workflow.conftest import Finished, Reported


def status(campaign: Campaign, *arguments: str) -> dict[str, Any]:
    outcome = campaign.command("status", campaign.result.root, "--json", *arguments)
    assert outcome.status == 0, outcome.output
    return json.loads(outcome.output)


def states(campaign: Campaign, *arguments: str) -> dict[str, str]:
    """State by `defocus/configuration`."""
    names = {0.0: "p0d000", 5.0: "p5d000"}
    return {
        f"{names[pair['defocus_nm']]}/{pair['configuration']:04d}": pair["state"]
        for pair in status(campaign, *arguments)["pairs"]
    }


def rerun(campaign: Campaign, *arguments: str) -> Outcome:
    # The plan of a copy names the config of the original.
    config = ["--config", campaign.config]
    return campaign.command("rerun", campaign.result.root, *config, "--cores", "2", *arguments)


def computed(campaign: Campaign, run: int) -> set[str]:
    """Pairs that a run has computed."""
    return set(campaign.states(run))


@pytest.fixture(scope="module")
def broken_once(tiny: Reported, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """The tiny campaign in which one pair has failed and one was never begun."""
    campaign = tiny.copy(tmp_path_factory.mktemp("broken") / "campaign")
    campaign.change(http_reporting={"reporting": False})
    for job in ("p0d000/0001", "p5d000/0000"):
        campaign.job_file(job).unlink()
        checksum_of(campaign, job).unlink()
    checksum_of(campaign, "p5d000/0000").mkdir()  # the job cannot write its result there
    assert (ended := rerun(campaign, "--defocus", "5", "--configuration", "0")).status == 1, ended.output
    checksum_of(campaign, "p5d000/0000").rmdir()
    # As if the other job had not started yet.
    for trace in campaign.result.reports.rglob("*p0d000_configuration_0001*"):
        trace.unlink()
    campaign.result.log("p0d000", 1).unlink()
    return campaign


@pytest.fixture
def broken(broken_once: Campaign, tmp_path: Path) -> Campaign:
    return broken_once.copy(tmp_path / "broken")


def checksum_of(campaign: Campaign, job: str) -> Path:
    file = campaign.job_file(job)
    return file.with_name(file.name + ".sha256")


def flip_one_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


# --- status ---------------------------------------------------------------------------------------------------------


def test_a_finished_simulation_is_done_and_merged(quiet_copy: Campaign):
    before = {path: path.stat().st_mtime_ns for path in quiet_copy.directory.rglob("*")}
    found = status(quiet_copy)
    assert found["counts"] == {"done": 4, "running": 0, "failed": 0, "interrupted": 0, "missing": 0, "unusable": 0}
    assert (found["merged"], found["run"], found["run_is_alive"]) == ("current", 1, False)
    assert {pair["attempts"] for pair in found["pairs"]} == {1}
    said = quiet_copy.command("status", quiet_copy.result.merged).output
    assert "4 pairs: 4 done; " in said
    assert "rerun" not in said
    assert {path: path.stat().st_mtime_ns for path in quiet_copy.directory.rglob("*")} == before


@pytest.mark.failure("run killed on another login node")
def test_a_run_on_another_machine_is_named_with_its_last_sign_of_life(quiet_copy: Campaign):
    """If the run is killed there, it looks alive from this machine for ever."""
    folder = quiet_copy.directory / HOLDERS
    folder.mkdir(parents=True, exist_ok=True)
    noted = {"simulation": quiet_copy.result.name, "host": "login2", "pid": 4711, "started": "1"}
    (folder / "login2.4711.json").write_text(json.dumps(noted))
    heard = datetime(2026, 1, 2, 3, 4, 5).astimezone()
    for file in (*folder.glob("*"), *quiet_copy.result.reports.rglob("*.json*")):
        os.utime(file, (heard.timestamp(), heard.timestamp()))
    said = quiet_copy.command("status", quiet_copy.result.root).output
    assert "; a run on login2 may be alive\n" in said
    assert "that run is on login2 (process 4711) and cannot be seen from here; the last sign of life of it" in said
    assert f" is of {heard}\n" in said
    assert "if login2 is gone: snakemake --unlock" in said
    found = status(quiet_copy)
    assert found["run_elsewhere"] == {"host": "login2", "pid": 4711, "heard": heard.timestamp()}
    noted |= {"host": os.uname().nodename, "pid": os.getpid(), "started": process_start(os.getpid())}
    (folder / "here.json").write_text(json.dumps(noted))
    assert status(quiet_copy)["run_elsewhere"] is None
    assert "; a run is alive\n" in quiet_copy.command("status", quiet_copy.result.root).output


def test_a_result_with_a_lost_job_file_is_not_called_merged_from_the_present_files(quiet_copy: Campaign):
    quiet_copy.job_file("p0d000/0001").unlink()
    said = quiet_copy.command("status", quiet_copy.result.root).output
    assert "stem.nc is merged from all of them, as they were before; no run is alive" in said


@pytest.mark.failure("job ends with an error")
def test_failed_and_missing_pairs_are_listed_with_reason_and_log(broken: Campaign):
    found = status(broken)
    assert found["counts"] == {"done": 2, "running": 0, "failed": 1, "interrupted": 0, "missing": 1, "unusable": 0}
    (failed,) = [pair for pair in found["pairs"] if pair["state"] == "failed"]
    assert (failed["defocus_nm"], failed["configuration"], failed["attempts"]) == (5.0, 0, 2)
    assert "configuration_0000.nc" in failed["reason"]
    assert "configuration_0000.nc" in Path(failed["log"]).read_text()
    said = broken.command("status", broken.result.root).output
    assert "failed    defocus 5 nm, configuration 0, 2 attempts: " in said
    assert "log: " in said
    assert "missing   defocus 0 nm: 1\n" in said
    assert "stemphony rerun " in said


@pytest.mark.failure("job killed by SIGKILL")
def test_a_killed_job_is_failed_and_a_running_one_is_running(slow: Finished, tmp_path: Path):
    campaign = slow.copy(tmp_path / "slow campaign")
    for file in (campaign.result.root / "jobs").rglob("*.nc"):
        file.unlink()
    with campaign.start(cores=2) as running:
        pids = {name: job["pid"] for name, job in campaign.wait_for_jobs(2, 2).items()}
        for pid in pids.values():
            os.kill(pid, signal.SIGSTOP)  # otherwise it might end before the test looks
        found = status(campaign)
        assert found["counts"]["running"] == 2
        assert found["run_is_alive"]
        os.kill(pids.pop("p0d000/0000"), signal.SIGKILL)
        for pid in pids.values():
            os.kill(pid, signal.SIGCONT)
        assert (ended := running.end()).status == 1, ended.output
    found = status(campaign)
    assert found["counts"] == {"done": 1, "running": 0, "failed": 1, "interrupted": 0, "missing": 0, "unusable": 0}
    (failed,) = [pair for pair in found["pairs"] if pair["state"] == "failed"]
    assert "ended without a message" in failed["reason"]
    assert found["merged"] == "outdated"


@pytest.mark.failure("output bit-flipped")
def test_a_damaged_file_is_found_when_every_byte_is_looked_at(quiet_copy: Campaign):
    flip_one_bit(quiet_copy.job_file("p0d000/0000"))
    assert states(quiet_copy)["p0d000/0000"] == "done"
    assert states(quiet_copy, "--verify")["p0d000/0000"] == "unusable"
    assert "do not match" in quiet_copy.command("status", quiet_copy.result.root, "--verify").output


@pytest.mark.failure("output truncated")
def test_files_that_were_cut_off_are_found_without_looking_at_every_byte_and_computed_again(
    tiny: Reported, quiet_copy: Campaign
):
    reasons = {
        (0.0, 0): "truncated: it is empty",
        (0.0, 1): "truncated: it has 5000 of ",
        (5.0, 0): "damaged: ",  # zeros, as some file systems leave them after a failure of power
    }
    empty, cut, zeros = (quiet_copy.job_file(job) for job in ("p0d000/0000", "p0d000/0001", "p5d000/0000"))
    size = zeros.stat().st_size
    for file, length in ((empty, 0), (cut, 5000), (zeros, 0), (zeros, size)):
        os.truncate(file, length)
    found = status(quiet_copy)
    assert found["counts"] == {"done": 1, "running": 0, "failed": 0, "interrupted": 0, "missing": 0, "unusable": 3}
    unusable = [pair for pair in found["pairs"] if pair["state"] == "unusable"]
    assert {(pair["defocus_nm"], pair["configuration"]) for pair in unusable} == reasons.keys()
    said = quiet_copy.command("status", quiet_copy.result.root).output
    for pair in unusable:
        defocus, configuration = pair["defocus_nm"], pair["configuration"]
        reason = reasons[defocus, configuration]
        assert pair["reason"].startswith(reason)
        assert f"unusable  defocus {defocus:g} nm, configuration {configuration}, 1 attempt: {reason}" in said
    outcome = rerun(quiet_copy)
    assert outcome.status == 0, outcome.output
    assert computed(quiet_copy, 2) == {"p0d000/0000", "p0d000/0001", "p5d000/0000"}
    assert_same_arrays(quiet_copy.result.merged, tiny.arrays)


@pytest.mark.failure("output from another config")
def test_a_file_of_another_campaign_is_unusable(slow: Finished, quiet_copy: Campaign):
    foreign = slow.campaign.job_file("p0d000/0000")
    own = quiet_copy.job_file("p5d000/0001")
    for suffix in ("", ".sha256"):
        own.with_name(own.name + suffix).write_bytes(foreign.with_name(foreign.name + suffix).read_bytes())
    assert states(quiet_copy)["p5d000/0001"] == "unusable"


@pytest.mark.parametrize("command", ["status", "rerun", "preview"])
def test_a_folder_without_a_result_gives_one_message(quiet_copy: Campaign, command: str):
    outcome = quiet_copy.command(command, quiet_copy.folder)
    assert outcome.status == 1, outcome.output
    assert outcome.output.startswith("stemphony: ")
    assert len(outcome.output.splitlines()) == 1
    assert "is no result of a simulation" in outcome.output


@contextmanager
def alive(campaign: Campaign) -> Iterator[None]:
    """As if a run of the campaign were there."""
    folder = campaign.directory / HOLDERS
    folder.mkdir(parents=True, exist_ok=True)
    noted = {"host": os.uname().nodename, "pid": os.getpid(), "started": process_start(os.getpid())}
    holder = folder / "here.json"
    holder.write_text(json.dumps({**noted, "simulation": campaign.result.name}))
    try:
        yield
    finally:
        holder.unlink()


def note(campaign: Campaign, **state: Any) -> None:
    """As if the one job that is lost had noted this in the last run."""
    campaign.job_file("p0d000/0001").unlink()
    file = campaign.result.progress(1, "p0d000", 1)
    file.write_text(json.dumps({**json.loads(file.read_text()), **state}))


@pytest.mark.failure("an attempt fails and another one follows")
@pytest.mark.parametrize("left", [{"state": "failed", "message": "no luck"}, {"state": "running", "pid": 2**22 + 1}])
def test_a_failed_pair_that_will_be_tried_again_is_marked_so(quiet_copy: Campaign, left: dict[str, Any]):
    why = left.get("message", "the job ended without a message")
    note(quiet_copy, **left, another_try=True)
    with alive(quiet_copy):
        found = status(quiet_copy)
        assert found["counts"] == {"done": 3, "running": 0, "failed": 1, "interrupted": 0, "missing": 0, "unusable": 0}
        said = quiet_copy.command("status", quiet_copy.result.root).output
    assert f"failed    defocus 0 nm, configuration 1, 1 attempt: its run tries it again: {why}" in said
    assert "stemphony rerun" not in said
    said = quiet_copy.command("status", quiet_copy.result.root).output
    assert f"configuration 1, 1 attempt: {why}" in said, "no run is left that would"
    assert "stemphony rerun" in said


def test_the_last_attempt_is_not_announced_as_tried_again(quiet_copy: Campaign):
    note(quiet_copy, state="failed", message="no luck", another_try=False)
    with alive(quiet_copy):
        said = quiet_copy.command("status", quiet_copy.result.root).output
    assert "configuration 1, 1 attempt: no luck" in said


@pytest.mark.failure("disk full while a job writes")
@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("2026-11-27T10:00:00.000+00:00  10 % of the waves\n/x/y.nc: cannot be written: the disk is full.\n",
         "/x/y.nc: cannot be written: the disk is full."),
        ("2026-11-27T10:00:00.000+00:00  10 % of the waves\n", "the job ended without a message"),
        ("note: no checkpoint is kept; the job goes on without one\n", "the job ended without a message"),
        ("", "the job ended without a message"),
    ],
)  # fmt: skip
def test_a_job_that_could_not_note_its_end_has_the_message_of_its_log(quiet_copy: Campaign, log: str, reason: str):
    note(quiet_copy, state="running", pid=2**22 + 1)
    quiet_copy.result.log("p0d000", 1).write_text(log)
    (pair,) = [pair for pair in status(quiet_copy)["pairs"] if pair["state"] == "failed"]
    assert pair["reason"].startswith(reason)


@contextmanager
def without_rights() -> Iterator[None]:
    """If the tests run as root, act as a user that owns nothing. For other users the modes of files are enough."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.parametrize("folder", ["reports", "reports/run-1", "reports/attempts"])
def test_status_works_without_the_right_to_read_the_records_of_runs(tiny: Reported, folder: str):
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o755)
        campaign = tiny.copy(Path(open_to_all) / "campaign")
        campaign.job_file("p5d000/0001").unlink()
        before = status_command.status_of(campaign.result)
        closed = campaign.result.root / folder
        closed.chmod(0)
        try:
            with without_rights():
                found = status_command.status_of(campaign.result)
        finally:
            closed.chmod(0o700)
    assert [pair.name for pair in found.not_done] == [pair.name for pair in before.not_done]
    assert len(found.not_done) == 1


def test_an_unreadable_result_gives_one_message(
    quiet_copy: Campaign, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(quiet_copy.result.identity))

    monkeypatch.setattr(status_command, "result_in", refuse)
    assert cli.main(["status", str(quiet_copy.result.root)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"stemphony: {quiet_copy.result.identity}: permission denied")
    assert "Ask its owner" in line


# --- rerun ----------------------------------------------------------------------------------------------------------


def test_rerun_computes_unfinished_pairs_and_merges(tiny: Reported, broken: Campaign):
    before = broken.written()
    outcome = broken.command("rerun", broken.result.root, "--cores", "2")
    assert outcome.status == 0, outcome.output
    assert "computes 2 pairs again, and no other:\n  defocus 0 nm: 1\n  defocus 5 nm: 0\n" in outcome.output
    assert "then all pairs are merged again" in outcome.output
    assert computed(broken, 3) == {"p0d000/0001", "p5d000/0000"}
    assert broken.written().items() > before.items()
    assert_same_arrays(broken.result.merged, tiny.arrays)
    again = rerun(broken)
    assert again.status == 0, again.output
    assert "nothing to compute: all 4 pairs are done and merged" in again.output
    assert broken.to_run() == set()


def dated(files: list[Path], ahead_s: float) -> None:
    """Set the times of files as if the clock of the machine that wrote them were ahead."""
    for file in files:
        moment = file.stat().st_mtime + ahead_s
        os.utime(file, (moment, moment))


@pytest.mark.failure("clock jumps, or is ahead on another machine")
def test_job_files_from_a_clock_that_is_ahead_are_merged(tiny: Reported, quiet_copy: Campaign):
    """Snakemake deletes an output that is older than its inputs, such as stem.nc."""
    files = sorted((quiet_copy.result.root / "jobs").rglob("*.nc"))
    dated(files, 3600)
    shutil.rmtree(quiet_copy.directory / ".snakemake" / "metadata")  # or it compares small files
    assert status(quiet_copy)["merged"] == "current", "it is made from these very files, whatever their times are"
    quiet_copy.job_file("p0d000/0000").unlink()
    outcome = rerun(quiet_copy)
    assert outcome.status == 0, outcome.output
    assert_same_arrays(quiet_copy.result.merged, tiny.arrays)
    assert status(quiet_copy)["merged"] == "current"
    assert quiet_copy.to_run() == set()
    # Also a merge that Snakemake starts, a job whose specimen is from that machine, and figures.
    dated([*files, quiet_copy.result.specimen], 7200)
    quiet_copy.job_file("p0d000/0001").unlink()
    quiet_copy.result.merged.unlink()
    again = quiet_copy.stemphony()
    assert again.status == 0, again.output
    assert_same_arrays(quiet_copy.result.merged, tiny.arrays)
    dated([quiet_copy.result.merged], 10800)
    drawn = quiet_copy.stemphony()
    assert drawn.status == 0, drawn.output


@pytest.mark.failure("merged result truncated or damaged")
@pytest.mark.parametrize(
    ("damage", "command"),
    # One look, in the Snakefile, finds both damages; `stemphony rerun` looks by itself too.
    [
        ("a byte of its superblock", "stemphony rerun"),
        ("its end", "stemphony rerun"),
        ("its end", "stemphony run"),
        ("a byte of its superblock", "snakemake"),
    ],
)
def test_a_damaged_merged_result_is_merged_again(tiny: Reported, quiet_copy: Campaign, damage: str, command: str):
    before = quiet_copy.written()
    with quiet_copy.result.merged.open("r+b") as stream:
        if damage == "its end":
            stream.truncate(5000)
        else:
            stream.write(b"X")
    assert status(quiet_copy)["merged"] == "outdated"
    said = quiet_copy.command("status", quiet_copy.result.root).output
    assert "is outdated or damaged: they are not merged yet" in said
    if command == "stemphony rerun":
        outcome = rerun(quiet_copy)
        assert "computes no pair:\nthen all pairs are merged again." in outcome.output
    else:
        outcome = quiet_copy.stemphony() if command == "stemphony run" else quiet_copy.snakemake()
    assert outcome.status == 0, outcome.output
    assert "stem.nc is truncated or damaged: it is merged again" in outcome.output
    assert_same_arrays(quiet_copy.result.merged, tiny.arrays)
    assert quiet_copy.written() == before
    assert quiet_copy.to_run() == set()


@pytest.mark.failure("merged result truncated or damaged")
def test_a_damaged_merged_result_is_planned_again_only_if_all_is_requested(quiet_copy: Campaign):
    os.truncate(quiet_copy.result.merged, 5000)
    assert quiet_copy.to_run() == AFTER_JOBS
    assert quiet_copy.result.merged.stat().st_size == 5000, "a dry run changes nothing"
    one = quiet_copy.job_file("p0d000/0000").relative_to(quiet_copy.directory)
    quiet_copy.job_file("p0d000/0001").unlink()
    assert quiet_copy.succeed("--dry-run", one).jobs == set()


@pytest.mark.failure("merged result truncated or damaged")
def test_a_changed_byte_of_the_merged_result_is_found_when_every_byte_is_looked_at(
    tiny: Reported, quiet_copy: Campaign
):
    flip_one_bit(quiet_copy.result.merged)
    assert status(quiet_copy, "--verify")["merged"] == "outdated"
    outcome = rerun(quiet_copy, "--verify")
    assert outcome.status == 0, outcome.output
    assert_same_arrays(quiet_copy.result.merged, tiny.arrays)
    assert status(quiet_copy, "--verify")["merged"] == "current"


@pytest.mark.failure("plan.json lost")
def test_a_lost_plan_is_that_of_the_last_run(quiet_copy: Campaign):
    before = status(quiet_copy)
    quiet_copy.result.plan.unlink()
    assert status(quiet_copy) == before


def test_a_run_with_nothing_to_compute_names_unusable_files(quiet_copy: Campaign):
    os.truncate(quiet_copy.job_file("p0d000/0001"), 5000)
    dated([quiet_copy.job_file("p0d000/0001")], -3600)
    outcome = quiet_copy.stemphony()
    assert outcome.status == 0, outcome.output
    assert "nothing to compute" in outcome.output
    assert "But 1 of 4 job files is not usable: stemphony status" in outcome.output
    assert (ended := rerun(quiet_copy)).status == 0, ended.output


@pytest.mark.failure("output truncated")
def test_a_result_from_before_a_refused_merge_is_not_called_merged_from_the_present_files(
    tiny: Reported, quiet_copy: Campaign
):
    """Snakemake restores it with the present time, so it is younger than the job files that it lacks."""
    stem = quiet_copy.result.merged.read_bytes()
    quiet_copy.job_file("p0d000/0001").unlink()
    flip_one_bit(quiet_copy.job_file("p5d000/0000"))
    refused = quiet_copy.stemphony()
    assert refused.status == 1, refused.output
    assert "1 of 4 job files cannot be used" in refused.output
    assert "that the merge refuses, and to merge: stemphony rerun --verify " in refused.output
    assert "Run the same command again" not in refused.output
    assert quiet_copy.result.merged.read_bytes() == stem
    found = status(quiet_copy)
    assert (found["counts"]["done"], found["merged"]) == (4, "outdated")
    assert "is outdated or damaged" in quiet_copy.command("status", quiet_copy.result.root).output
    again = rerun(quiet_copy)
    assert again.status == 1, again.output
    assert "then all pairs are merged again" in again.output
    mended = rerun(quiet_copy, "--verify")
    assert mended.status == 0, mended.output
    assert_same_arrays(quiet_copy.result.merged, tiny.arrays)
    assert status(quiet_copy)["merged"] == "current"


def test_a_result_that_does_not_name_its_job_files_is_outdated(quiet_copy: Campaign):
    with netCDF4.Dataset(quiet_copy.result.merged, "a") as root:
        root["runtime"].renameVariable("job_sha256", "another_name")
    assert status(quiet_copy)["merged"] == "outdated"


def test_damage_that_only_verify_finds_is_answered_with_its_command(quiet_copy: Campaign):
    file = quiet_copy.job_file("p0d000/0001")
    moment = file.stat()
    flip_one_bit(file)
    os.utime(file, ns=(moment.st_atime_ns, moment.st_mtime_ns))
    outcome = quiet_copy.command("status", quiet_copy.result.root, "--verify")
    assert "1 unusable" in outcome.output
    assert "stemphony rerun --verify " in outcome.output


def test_a_second_rerun_that_begins_at_the_same_moment_touches_nothing(quiet_copy: Campaign):
    before = quiet_copy.written()
    descriptor = os.open(quiet_copy.result.root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # as the first rerun does before its Snakemake is visible
        outcome = rerun(quiet_copy, "--defocus", "5", "--configuration", "1")
    finally:
        os.close(descriptor)
    assert outcome.status == 1, outcome.output
    (line,) = outcome.output.splitlines()
    assert "another `stemphony rerun`" in line
    assert "Wait for it, or end it first" in line
    assert quiet_copy.written() == before


def test_only_failed_pairs_are_computed_if_requested(broken: Campaign):
    outcome = rerun(broken, "--failed")
    assert outcome.status == 0, outcome.output
    assert computed(broken, 3) == {"p5d000/0000"}
    assert "nothing is merged, because 1 other pair is not done:\n  defocus 0 nm: 1\n" in outcome.output
    assert states(broken)["p0d000/0001"] == "missing"


def test_chosen_pairs_are_computed_again_although_they_are_done(tiny: Reported, quiet_copy: Campaign):
    before = quiet_copy.written()
    outcome = rerun(quiet_copy, "--defocus", "5", "--configuration", "1")
    assert outcome.status == 0, outcome.output
    assert "1 of them is done: its file is kept until the new one is there" in outcome.output
    after = quiet_copy.written()
    assert {name for name in after if after[name] != before[name]} == {"defocus_p5d000/configuration_0001.nc"}
    assert computed(quiet_copy, 2) == {"p5d000/0001"}
    assert_same_arrays(quiet_copy.result.merged, tiny.arrays)
    assert not list((quiet_copy.result.root / "jobs").rglob(".*"))
    assert quiet_copy.to_run() == set()


def test_a_rerun_that_fails_keeps_the_old_result(tiny: Reported, quiet_copy: Campaign):
    file, checksum = quiet_copy.job_file("p5d000/0001"), checksum_of(quiet_copy, "p5d000/0001")
    before, kept = quiet_copy.written(), checksum.read_text()
    specimen = quiet_copy.result.specimen.read_bytes()
    with netCDF4.Dataset(quiet_copy.result.specimen, "a") as root:
        root["positions"][0, 0] += 0.1  # every job refuses it
    outcome = rerun(quiet_copy, "--defocus", "5")
    assert outcome.status == 1, outcome.output
    quiet_copy.result.specimen.write_bytes(specimen)
    assert quiet_copy.written() == before
    assert checksum.read_text() == kept
    assert not list(file.parent.glob(".*"))
    assert set(states(quiet_copy, "--verify").values()) == {"done"}
    outcome = quiet_copy.stemphony()
    assert outcome.status == 0, outcome.output
    assert_same_arrays(quiet_copy.result.merged, tiny.arrays)


def kept_of(file: Path) -> Path:
    return file.with_name(f".{file.name}{KEPT_SUFFIX}")


def test_a_rerun_beside_a_living_one_is_refused_and_keeps_its_files(slow: Finished, tmp_path: Path):
    campaign = slow.copy(tmp_path / "slow campaign")
    file = campaign.job_file("p0d000/0001")
    before = file.read_bytes()
    chosen = ["--defocus", "0", "--configuration", "1"]
    words = [sys.executable, "-m", "stemphony", "rerun", campaign.result.root, "--config", campaign.config, *chosen]
    with Running(words, tmp_path / "first", campaign.env, cwd=campaign.scripts) as running:
        (job,) = campaign.wait_for_jobs(2).values()
        wait_for(lambda: not file.exists(), "Snakemake to delete the old file")
        os.kill(job["pid"], signal.SIGSTOP)
        refused = rerun(campaign, *chosen)
        assert refused.status == 1, refused.output
        assert "is in use by a run that is alive (process " in refused.output
        assert len(refused.output.splitlines()) == 1
        assert kept_of(file).read_bytes() == before
        assert not file.exists()
        os.kill(job["pid"], signal.SIGKILL)
        assert (ended := running.end()).status == 1, ended.output
    assert file.read_bytes() == before
    assert set(states(campaign, "--verify").values()) == {"done"}


def test_a_lone_checksum_is_not_kept_and_a_kept_one_disturbs_nothing(quiet_copy: Campaign):
    file, checksum = quiet_copy.job_file("p5d000/0001"), checksum_of(quiet_copy, "p5d000/0001")
    file.unlink()
    os.link(checksum, kept_of(checksum))
    outcome = rerun(quiet_copy)
    assert outcome.status == 0, outcome.output
    assert computed(quiet_copy, 2) == {"p5d000/0001"}
    assert not list(file.parent.glob(".*"))
    assert set(states(quiet_copy, "--verify").values()) == {"done"}


def test_a_file_system_without_hard_links_is_named_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    file = tmp_path / "file"
    file.write_text("good")
    with pytest.raises(
        StorageError, match=r"gives no file a second name \(hard link\)\. Copy it if you want to keep it"
    ):
        _link(file, tmp_path / "second")
    assert file.read_text() == "good"


def test_a_finished_pair_that_snakemake_calls_unfinished_is_computed_if_requested(quiet_copy: Campaign):
    """It must not come from a second name, which would stay in `checkpoints`."""
    file = quiet_copy.job_file("p0d000/0001")
    quiet_copy.job_file("p5d000/0000").unlink()  # so that nothing is merged, and swept
    key = base64.urlsafe_b64encode(str(file.relative_to(quiet_copy.directory)).encode()).decode()
    (quiet_copy.directory / ".snakemake" / "incomplete" / key).write_text('{"external_jobid": null}')
    outcome = rerun(quiet_copy, "--defocus", "0", "--configuration", "1")
    assert outcome.status == 0, outcome.output
    assert computed(quiet_copy, 2) == {"p0d000/0001"}
    assert "100 % of the waves" in quiet_copy.result.log("p0d000", 1).read_text()
    assert not list(quiet_copy.result.checkpoints_folder.rglob("*.nc*"))


@pytest.mark.parametrize("there", ["nothing", "another file", "the same file"])
def test_a_second_name_replaces_any_file_of_that_name(tmp_path: Path, there: str):
    file, second = tmp_path / "file", tmp_path / "second"
    file.write_text("good")
    if there == "another file":
        second.write_text("old")
    elif there == "the same file":
        os.link(file, second)
    _link(file, second)
    assert second.samefile(file)
    assert sorted(tmp_path.iterdir()) == [file, second]


@pytest.mark.failure("output truncated")
def test_a_damaged_pair_is_repaired(tiny: Reported, quiet_copy: Campaign):
    file = quiet_copy.job_file("p0d000/0000")
    file.write_bytes(file.read_bytes()[:5000])
    outcome = rerun(quiet_copy, "--verify")
    assert outcome.status == 0, outcome.output
    assert computed(quiet_copy, 2) == {"p0d000/0000"}
    assert_same_arrays(quiet_copy.result.merged, tiny.arrays)


def test_a_dry_run_prints_its_plan_and_does_nothing(broken: Campaign):
    before = {path: path.stat().st_mtime_ns for path in broken.directory.rglob("*")}
    outcome = rerun(broken, "--dry-run")
    assert outcome.status == 0, outcome.output
    assert "computes 2 pairs again" in outcome.output
    assert {path: path.stat().st_mtime_ns for path in broken.directory.rglob("*")} == before


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_a_config_that_is_not_there_is_refused_also_when_there_is_nothing_to_do(quiet_copy: Campaign, dry: tuple):
    assert "nothing to compute" in rerun(quiet_copy, *dry).output
    outcome = rerun(quiet_copy, *dry, "--config", "nope.yaml")
    assert outcome.status == 1, outcome.output
    (line,) = outcome.output.splitlines()
    assert "nope.yaml cannot be read: No such file or directory." in line


def test_an_edited_config_is_refused_because_it_would_compute_more(broken: Campaign):
    broken.change(probe={"semiangle_mrad": 19.0})
    outcome = rerun(broken)
    assert outcome.status == 1, outcome.output
    assert "was edited since the last run (physics, optics, specimen or scan)" in outcome.output
    assert "stemphony run " in outcome.output
    assert "Traceback" not in outcome.output


def test_a_copy_elsewhere_is_refused_because_a_run_would_begin_from_nothing(broken: Campaign):
    elsewhere = shutil.copytree(broken.result.root, broken.folder / "kept" / "tiny")
    outcome = broken.command("rerun", elsewhere)
    assert outcome.status == 1, outcome.output
    assert "so it is a copy, and a run would begin from nothing" in outcome.output
    assert "4 pairs: 2 done, " in broken.command("status", elsewhere).output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--defocus", "-2.5"], "--defocus: got -2.5; the simulation has 0, 5 nm"),
        (["--configuration", "2"], "--configuration: got 2; the simulation has 0 to 1"),
    ],
)
def test_an_invalid_pair_gives_one_message(quiet_copy: Campaign, arguments: list[str], message: str):
    outcome = rerun(quiet_copy, *arguments)
    assert outcome.status == 1, outcome.output
    assert message in outcome.output
    assert len(outcome.output.splitlines()) == 1


def test_a_failing_pair_leaves_the_others_and_the_next_run_computes_it_alone(tiny: Reported, broken: Campaign):
    assert set(states(broken).values()) == {"done", "failed", "missing"}
    assert broken.succeed().jobs == {"p0d000/0001", "p5d000/0000"} | AFTER_JOBS
    assert_same_arrays(broken.result.merged, tiny.arrays)


# --- preview --------------------------------------------------------------------------------------------------------


def test_finished_pairs_can_be_merged_while_others_run(slow: Finished, tmp_path: Path):
    campaign = slow.copy(tmp_path / "slow campaign")
    stem = campaign.result.merged.read_bytes()
    campaign.job_file("p0d000/0001").unlink()
    with campaign.start(cores=1) as running:
        campaign.wait_for_jobs(2, 1)
        outcome = campaign.command("preview", campaign.result.root)
        assert outcome.status == 0, outcome.output
        assert "1 of 2 pairs" in outcome.output
        assert "missing   defocus 0 nm: 1\n" in outcome.output
        found = attributes(campaign.result.preview)
        assert (found["partial"], found["num_pairs_in"], found["num_pairs_missing"]) == (1, 1, 1)
        assert json.loads(found["pairs_in"]) == {"p0d000": "0"}
        assert json.loads(found["pairs_missing"]) == {"p0d000": "1"}
        assert campaign.result.merged.read_bytes() == stem
        assert (ended := running.end()).status == 0, ended.output
    one, shown = arrays(campaign.job_file("p0d000/0000")), arrays(campaign.result.preview)
    assert not differences(shown["images/total_intensity"], one["images/total_intensity"])
    assert "partial" not in attributes(campaign.result.merged)
    assert_same_arrays(campaign.result.merged, slow.arrays)


def test_a_preview_of_all_pairs_is_the_result(tiny: Reported, quiet_copy: Campaign):
    outcome = quiet_copy.command("preview", quiet_copy.result.root, "--output", quiet_copy.folder / "now.nc")
    assert outcome.status == 0, outcome.output
    assert_same_arrays(quiet_copy.folder / "now.nc", tiny.arrays)


def test_an_empty_preview_and_one_over_the_result_are_refused(quiet_copy: Campaign):
    stem = quiet_copy.result.merged.read_bytes()
    over = quiet_copy.command("preview", quiet_copy.result.root, "--output", quiet_copy.result.merged)
    assert over.status == 1, over.output
    assert "is a file of the simulation itself" in over.output
    for job in TINY_JOBS:
        quiet_copy.job_file(job).unlink()
    nothing = quiet_copy.command("preview", quiet_copy.result.root)
    assert nothing.status == 1, nothing.output
    assert "none of 4 pairs is finished" in nothing.output
    assert quiet_copy.result.merged.read_bytes() == stem
    assert not quiet_copy.result.preview.exists()


def test_a_preview_replaces_an_earlier_one_and_nothing_else(quiet_copy: Campaign):
    precious = [quiet_copy.config, quiet_copy.folder / "other" / "stem.nc"]
    precious[1].parent.mkdir()
    shutil.copy(quiet_copy.result.merged, precious[1])
    for file in precious:
        before = file.read_bytes()
        refused = quiet_copy.command("preview", quiet_copy.result.root, "--output", file)
        assert refused.status == 1, refused.output
        assert len(refused.output.splitlines()) == 1
        assert f"{file} exists and is not a preview" in refused.output
        assert file.read_bytes() == before
    for _ in range(2):
        assert (ended := quiet_copy.command("preview", quiet_copy.result.root)).status == 0, ended.output
    assert attributes(quiet_copy.result.preview)["partial"] == 1


def test_a_damaged_file_is_left_out_of_a_preview_and_named(quiet_copy: Campaign):
    file = quiet_copy.job_file("p5d000/0000")
    file.write_bytes(file.read_bytes()[:5000])
    outcome = quiet_copy.command("preview", quiet_copy.result.root)
    assert outcome.status == 0, outcome.output
    assert "3 of 4 pairs" in outcome.output
    assert "do not match" in outcome.output
    with netCDF4.Dataset(quiet_copy.result.preview) as root:
        assert json.loads(root.pairs_in) == {"p0d000": "0-1", "p5d000": "1"}
        assert root["runtime"].dimensions["job"].size == 3
