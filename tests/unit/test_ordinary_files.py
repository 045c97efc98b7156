"""Files of a foreign results folder: a pipe does not block a reader, and a link does not redirect a writer."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from stemphony import cli, ordinary_files
from stemphony.errors import StemphonyError
from stemphony.results.job_check import checked
from stemphony.results.job_file import read_checksum
from stemphony.store import checkpoints, claims, copies, ledger, progress
from stemphony.store.superblock import what_is_cut_off
from support.experiments import FakeCampaign

LONGEST_S = 20
MORE_THAN_THE_MEMORY = 10**11


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    """End a test that a pipe blocks; otherwise it would block all tests."""

    def give_up(*_: object) -> None:
        raise AssertionError(f"it has not ended after {LONGEST_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LONGEST_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(file: Path) -> None:
    file.unlink(missing_ok=True)
    os.mkfifo(file)


def device(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.symlink_to("/dev/zero")


def sparse(file: Path) -> None:
    """A large sparse file, which uses no block of the disk."""
    with file.open("wb") as stream:
        stream.truncate(MORE_THAN_THE_MEMORY)


@pytest.mark.parametrize("make", [pipe, device, sparse, Path.mkdir])
def test_only_small_ordinary_files_are_read(tmp_path, make):
    make(tmp_path / "plan.json")
    with pytest.raises(OSError, match=r"plan\.json"):
        ordinary_files.read_text(tmp_path / "plan.json")


@pytest.mark.slow
@pytest.mark.parametrize("make", [pipe, device, sparse])
@pytest.mark.parametrize("what", ["identity", "plan", "plan_of_run", "progress", "log"])
def test_commands_pass_over_such_files(tmp_path, capsys, make, what):
    """The attack: a received folder whose plan is a named pipe held `stemphony status` for good."""
    made = FakeCampaign.of(tmp_path / "work" / "results")
    result = made.result
    result.root.mkdir(parents=True, exist_ok=True)
    ledger.identity(result, 1)
    number = ledger.claim_run(result)
    files = {
        "identity": result.identity, "plan": result.plan, "plan_of_run": result.plan_of(number),
        "progress": result.progress(number, "p0d000", 0), "log": result.log("p0d000", 0),
    }  # fmt: skip
    files[what].parent.mkdir(parents=True, exist_ok=True)
    make(files[what])
    for words in (["status"], ["preview"], ["rerun", "--dry-run"], ["converge"], ["report", "replay"]):
        assert cli.main([*words, str(result.root)]) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err
    if what == "identity":
        with pytest.raises(StemphonyError, match="damaged"):
            ledger.identity(result, 1)


@pytest.mark.parametrize("make", [pipe, sparse])
def test_small_files_of_jobs_that_are_not_ordinary_are_ignored(tmp_path, make):
    checksum, state, claim = tmp_path / "job.nc.sha256", tmp_path / "state.json", tmp_path / "job.claim"
    for file in (checksum, state, claim):
        make(file)
    assert read_checksum(tmp_path / "job.nc") is None
    assert progress._read(state) == {}
    assert claims.holder_of(claim) is None


def test_pipes_in_place_of_large_job_files_block_nothing(tmp_path):
    job, kept = tmp_path / "job.nc", tmp_path / "job.checkpoint"
    for file in (job, kept):
        pipe(file)
    (tmp_path / "job.nc.sha256").write_text("0" * 64 + "  job.nc\n")
    assert what_is_cut_off(job) == ""
    with pytest.raises(StemphonyError, match="damaged"), checked(job, ""):
        pass
    found, refused = checkpoints.read_checkpoint(kept, "key")
    assert found is None
    assert "damaged" in refused


def test_a_pipe_in_the_original_of_a_copy_blocks_nothing(tmp_path):
    """Nothing in the folder that simulation.json names can block a reader."""
    made = FakeCampaign.of(tmp_path / "work" / "results")
    made.result.root.mkdir(parents=True, exist_ok=True)
    ledger.identity(made.result, 1)
    there = tmp_path / "there"
    there.mkdir()
    os.mkfifo(there / made.result.identity.name)
    text = made.result.identity.read_text().replace(str(made.result.root.resolve()), str(there))
    made.result.identity.write_text(text)
    assert "cannot be seen from here" in copies.settle_identity(made.result)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"pid": 1e400}'])
def test_an_invalid_claim_has_no_holder(content):
    assert claims.Holder.of(content.encode()) is None


def test_a_process_with_an_impossible_number_is_no_holder():
    here = claims.Holder.here()
    text = f'{{"host": "h", "boot": "{here.boot}", "namespace": "{here.namespace}", "started": "1", "token": "t"'
    assert claims.Holder.of(f'{text}, "pid": {10**30}}}'.encode()) is None


def test_the_end_of_a_log_is_read_within_a_limit(tmp_path):
    log = tmp_path / "job.log"
    log.write_bytes(b"x" * 10_000_000 + b"\n\xff last word\n")
    assert ordinary_files.read_end(log).splitlines()[-1] == "\ufffd last word"
    assert len(ordinary_files.read_end(log)) <= ordinary_files.END_BYTES


def test_figures_of_a_received_folder_follow_no_link(tmp_path):
    """The attack: a folder with `convergence.png` as a link to a file of the user; `converge` overwrote that file."""
    from stemphony.results import convergence_figure
    from stemphony.results.precision import Precision

    (tmp_path / "mine").write_text("mine")
    (tmp_path / "convergence.png").symlink_to(tmp_path / "mine")
    found = [Precision("haadf", 4, 0.1, 0.1, 0.1, 1.0, (0, 0))]
    convergence_figure.draw(tmp_path / "convergence.png", found, {}, [0.01], "title")
    assert (tmp_path / "mine").read_text() == "mine"
    assert (tmp_path / "convergence.png").read_bytes().startswith(b"\x89PNG")
