"""Locks of Snakemake before a run: a lock without a holder, and one of a run on another machine."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from stemphony.commands import locks
from stemphony.errors import StorageError
from stemphony.store.holders import HOLDERS


@pytest.mark.parametrize("ahead_s", [0, 3600])
def test_a_lock_without_a_holder_is_waited_for_briefly_even_if_its_time_is_in_the_future(
    tmp_path: Path, ahead_s: float
):
    """The lock is from the future if the clock of a file server is ahead or was set back."""
    lock = tmp_path / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("results/tiny/stem.nc\n")
    os.utime(lock, (time.time() + ahead_s,) * 2)
    looks: list[float] = []

    def bounded(seconds: float) -> None:
        looks.append(seconds)
        assert len(looks) < 20, "it waits for ever"
        time.sleep(0.05)

    with pytest.raises(StorageError, match="left no trace of its process"):
        locks.require_free(tmp_path, "tiny", late_holder_s=0.2, sleep=bounded)
    assert looks, "it did not wait for the holder"


@pytest.mark.failure("run killed on another login node")
def test_a_lock_of_a_run_on_another_machine_is_kept_with_advice(tmp_path: Path):
    lock = tmp_path / ".snakemake" / "locks" / "0.output.lock"
    holder = tmp_path / HOLDERS / "login2.4711.json"
    for file in (lock, holder):
        file.parent.mkdir(parents=True)
    lock.write_text("results/tiny/stem.nc\n")
    holder.write_text(json.dumps({"simulation": "tiny", "host": "login2", "pid": 4711, "started": "1"}))
    with pytest.raises(StorageError) as caught:
        locks.free_lock(["false"], tmp_path, "tiny")
    for part in (
        "is in use by a run on login2 (process 4711)",
        "start stemphony run",
        "If login2 itself is gone, unlock the folder: snakemake",
    ):
        assert part in str(caught.value)
    assert lock.exists()
    assert holder.exists()
