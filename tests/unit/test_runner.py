"""What `stemphony run` looks at before it starts Snakemake."""

from __future__ import annotations

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
