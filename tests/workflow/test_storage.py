"""Storage that fails during a simulation: a full disk, an unwritable folder, files that appear late."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.campaign import (
    AFTER_JOBS,
    TINY_JOBS,
    Campaign,
    assert_same_arrays,
    edit,
    make_clone,
    wait_for,
)

from workflow.conftest import Reported

DISK_KIB = 4096


def missing(what: str) -> None:
    """Skip the test; fail if STEMPHONY_REQUIRE_ALL is set."""
    if os.environ.get("STEMPHONY_REQUIRE_ALL"):
        pytest.fail(f"{what}, but STEMPHONY_REQUIRE_ALL is set")
    pytest.skip(what)


@contextmanager
def disk_under(folder: Path) -> Iterator[None]:
    """Move a folder to a small disk of its own, mounted in its place."""
    aside = folder.with_name(folder.name + " aside")
    folder.rename(aside)
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_KIB}k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        missing("a small file system cannot be mounted here (root is needed)")
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, room_kib: int) -> Path:
    """Leave so much room on the disk of a folder."""
    ballast = folder / "ballast"
    with ballast.open("wb") as stream:
        stream.write(bytes(max(0, shutil.disk_usage(folder).free - 1024 * room_kib)))
    return ballast


# --- a full disk ----------------------------------------------------------------------------------------------------


@pytest.mark.failure("disk full while the merge writes")
def test_a_disk_that_is_full_while_the_merge_writes_costs_the_merge_only(quiet_copy: Campaign, tiny: Reported):
    campaign = quiet_copy
    campaign.change(adf={"average_configurations": False})  # merged only
    stem = campaign.result.merged.read_bytes()
    with disk_under(campaign.directory / "results"):
        before = campaign.written()
        ballast = fill(campaign.result.root, 40)
        outcome = campaign.stemphony()
        assert outcome.status == 1, outcome.output
        assert "Traceback" not in outcome.output
        assert outcome.output.count("stem.nc: cannot be written") == 1, outcome.output
        assert re.search(r"The file system has \d+\.\d MB left", outcome.output)
        assert "Nothing that was computed is lost. Run the same command again" in outcome.output
        assert campaign.result.merged.read_bytes() == stem
        assert campaign.written() == before
        assert not list(campaign.result.root.glob(".stem*"))
        ballast.unlink()
        assert campaign.succeed().jobs == AFTER_JOBS
        assert campaign.written() == before
        assert campaign.result.merged.read_bytes() != stem


def test_a_full_disk_under_the_working_directory_is_named(quiet_copy: Campaign, tiny: Reported):
    """Snakemake's folders and logs are on this disk too, so only Stemphony itself can print a message."""
    campaign = quiet_copy
    campaign.job_file("p0d000/0001").unlink()
    with disk_under(campaign.directory):
        before = campaign.written()
        ballast = fill(campaign.directory, 0)
        outcome = campaign.stemphony()
        assert outcome.status == 1, outcome.output
        assert "disk" in outcome.output.partition("--cores")[2], outcome.output
        assert "Traceback" not in outcome.output
        assert campaign.written() == before
        ballast.unlink()
        assert campaign.succeed().jobs == {"p0d000/0001"} | AFTER_JOBS
        assert_same_arrays(campaign.result.merged, tiny.arrays)


@pytest.mark.failure("disk full before a run starts")
@pytest.mark.parametrize("left_kb", [0, 4, 8, 12])
def test_a_full_disk_before_a_run_gives_one_message(quiet_copy: Campaign, left_kb: int):
    """Snakemake's lock and marks and the note of the run are the first files that do not fit."""
    campaign = quiet_copy
    campaign.job_file("p0d000/0001").unlink()
    with disk_under(campaign.directory / ".snakemake"):
        ballast = fill(campaign.directory / ".snakemake", left_kb)
        outcome = campaign.stemphony()
        assert outcome.status == 1, outcome.output
        assert "Traceback" not in outcome.output
        assert "Errno" not in outcome.output
        (line,) = [
            line for line in outcome.output.splitlines() if line.startswith("The run could not start: the disk of ")
        ]
        assert f"{campaign.directory}/.snakemake, or your quota on it, is full" in line
        ballast.unlink()
        assert campaign.succeed().jobs == {"p0d000/0001"} | AFTER_JOBS


@pytest.mark.failure("disk full while the merge writes")
def test_a_full_disk_before_the_merge_is_named_with_what_is_kept(quiet_copy: Campaign):
    """Snakemake copies the present stem.nc before the merge, and ends if it cannot."""
    campaign = quiet_copy
    campaign.change(adf={"average_configurations": False})  # merged only
    stem = campaign.result.merged.read_bytes()
    with disk_under(campaign.directory / ".snakemake"):
        before = campaign.written()
        ballast = fill(campaign.directory / ".snakemake", 60)
        outcome = campaign.stemphony()
        assert outcome.status == 1, outcome.output
        (line,) = [line for line in outcome.output.splitlines() if line.startswith("the disk of ")]
        assert f"{campaign.directory}/.snakemake/" in line
        assert "MB left), or your quota on it, is full" in line
        assert "That file and all job files are unchanged" in line
        assert f"Make room for {len(stem) / 1e6:.1f} MB there" in line
        assert "Errno" not in outcome.output
        assert campaign.result.merged.read_bytes() == stem
        assert campaign.written() == before
        ballast.unlink()
        assert campaign.succeed().jobs == AFTER_JOBS
    assert campaign.written() == before
    assert campaign.result.merged.read_bytes() != stem


# --- a folder that cannot be written --------------------------------------------------------------------------------


@pytest.mark.failure("read-only results folder")
def test_a_read_only_results_folder_gives_one_message_before_anything_runs(quiet_copy: Campaign):
    campaign = quiet_copy
    campaign.change(frozen_phonon={"configurations": 3})
    with disk_under(campaign.directory / "results"):
        before = sorted((campaign.directory / "results").rglob("*"))
        readonly = ["mount", "-o", "remount,ro", str(campaign.directory / "results")]
        if subprocess.run(readonly, capture_output=True, check=False).returncode != 0:
            missing("a file system cannot be made read-only here")
        for outcome in (campaign.stemphony(), campaign.snakemake()):
            assert outcome.status == 1, outcome.output
            assert "is not writable for you. Make it writable" in outcome.output
            assert "Traceback" not in outcome.output
            assert "rule run_multislice" not in outcome.output
        assert sorted((campaign.directory / "results").rglob("*")) == before
        subprocess.run(["mount", "-o", "remount,rw", str(campaign.directory / "results")], check=True)
        assert campaign.succeed().jobs == {"p0d000/0002", "p5d000/0002"} | AFTER_JOBS


# --- files that appear late -----------------------------------------------------------------------------------------

# As on a network file system, the job is over and its file is not visible yet.
LATE = """
import os, subprocess, sys, time
code = {code!r}
if sys.argv[1:2] == ["late"]:
    time.sleep({delay_s})
    os.replace(sys.argv[2], sys.argv[3])
    sys.exit()
output = sys.argv[3]
hidden = output + ".late"
subprocess.run([sys.executable, code, *sys.argv[1:]], check=True)
os.replace(output, hidden)
subprocess.Popen([sys.executable, __file__, "late", hidden, output], start_new_session=True,
                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""


@pytest.fixture
def late(quiet_copy: Campaign, tmp_path: Path) -> Campaign:
    """A campaign with one pair to compute, whose file appears two seconds after its job has ended."""
    clone = make_clone(tmp_path / "late clone")
    script = clone / "workflow" / "scripts" / "run_multislice.py"
    own = script.with_name("computes.py")
    script.rename(own)
    script.write_text(LATE.format(code=str(own), delay_s=2))
    quiet_copy.job_file("p5d000/0000").unlink()
    return Campaign(clone, quiet_copy.folder, quiet_copy.env)


@pytest.mark.failure("output visible late (network file system)")
def test_a_file_that_appears_late_is_waited_for(late: Campaign, tiny: Reported):
    outcome = late.stemphony("--latency-wait", "60")
    assert outcome.status == 0, outcome.output
    assert_same_arrays(late.result.merged, tiny.arrays)
    assert late.states(2).keys() == {"p5d000/0000"}


@pytest.mark.failure("output visible late (network file system)")
def test_a_file_that_appears_too_late_fails_only_its_pair(late: Campaign, quiet_copy: Campaign, tiny: Reported):
    before = late.written()
    outcome = late.snakemake("--latency-wait", "0", "--retries", "0")
    assert outcome.status == 1, outcome.output
    assert "latency-wait" in outcome.output
    assert late.written().items() >= before.items()
    wait_for(late.job_file("p5d000/0000").exists, "the file")
    outcome = quiet_copy.stemphony()
    assert outcome.status == 0, outcome.output
    assert quiet_copy.states(3) == {}, "it is taken as it is"
    assert_same_arrays(quiet_copy.result.merged, tiny.arrays)


# --- two simulations in one folder ----------------------------------------------------------------------------------


@pytest.mark.failure("two simulations in one folder")
def test_two_simulations_run_in_one_folder_at_once(tiny: Reported, quiet_copy: Campaign):
    first = quiet_copy
    shutil.rmtree(first.result.root / "jobs")
    other = first.folder / "config" / "other.yaml"
    shutil.copy(first.config, other)
    edit(other, r"^  name: tiny$", "  name: other")
    with first.start_stemphony("--latency-wait", "5") as running:
        outcome = first.command("run", other, "--directory", first.directory, "--cores", "1")
        assert outcome.status == 0, outcome.output
        own = running.end()
        assert own.status == 0, own.output
    for name in ("tiny", "other"):
        assert_same_arrays(first.directory / "results" / name / "stem.nc", tiny.arrays)
    identities = {(first.directory / "results" / name / "simulation.json").read_text() for name in ("tiny", "other")}
    assert len(identities) == 2
    assert {path.parent.name for path in first.result.root.rglob("configuration_*.nc")} == {
        f"defocus_{job.partition('/')[0]}" for job in TINY_JOBS
    }
