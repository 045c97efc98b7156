"""What `stemphony run` looks at before it starts Snakemake."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from stemphony import runner
from stemphony.errors import StorageError


@pytest.mark.parametrize("ahead_s", [0, 3600])
def test_a_lock_without_a_holder_is_waited_for_briefly_whatever_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: float
):
    """From the future, where the clock of a file server goes ahead or was set back."""
    lock = tmp_path / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("results/tiny/stem.nc\n")
    os.utime(lock, (time.time() + ahead_s,) * 2)
    monkeypatch.setattr(runner, "LATE_HOLDER_S", 0.2)
    sleep, looks = time.sleep, []

    def bounded(seconds: float) -> None:
        looks.append(seconds)
        assert len(looks) < 20, "it waits for ever"
        sleep(0.05)

    monkeypatch.setattr(time, "sleep", bounded)
    with pytest.raises(StorageError, match="left no trace of its process"):
        runner._free_lock([], tmp_path, "tiny")
    assert looks


def test_a_lock_of_a_run_on_another_machine_is_left_alone_with_what_to_do(tmp_path: Path):
    lock = tmp_path / ".snakemake" / "locks" / "0.output.lock"
    holder = tmp_path / runner.HOLDERS / "login2.4711.json"
    for file in (lock, holder):
        file.parent.mkdir(parents=True)
    lock.write_text("results/tiny/stem.nc\n")
    holder.write_text(json.dumps({"simulation": "tiny", "host": "login2", "pid": 4711, "started": "1"}))
    with pytest.raises(StorageError) as caught:
        runner._free_lock(["false"], tmp_path, "tiny")
    for part in ("is in use by a run on login2 (process 4711)", "run there", "If login2 is gone, unlock it: snakemake"):
        assert part in str(caught.value)
    assert lock.exists()
    assert holder.exists()
