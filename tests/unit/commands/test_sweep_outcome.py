"""What `stemphony run` and `stemphony rerun` print at the end of a sweep."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from stemphony.commands.sweep_outcome import SweepOutcome
from stemphony.contract import RUN_PREFIX
from stemphony.paths import ResultPaths, SweepPaths

LABELS = ("probe.semiangle_mrad_20", "probe.semiangle_mrad_25")


@pytest.mark.parametrize(
    ("combined_at", "expected"),
    [
        (None, "next      results/gan/sweep.nc is not made yet; to make it: stemphony run CONFIG"),
        (150, "next      results/gan/sweep.nc is older than a member; to make it: stemphony run CONFIG"),
        (250, "next      stemphony status results/gan"),
    ],
)
def test_the_end_says_whether_the_combined_file_has_all_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], combined_at, expected
):
    monkeypatch.chdir(tmp_path)
    files = SweepPaths(tmp_path / "results" / "gan")
    for label, merged_at in zip(LABELS, (100, 200), strict=True):
        merged = files.member(label).merged
        merged.parent.mkdir(parents=True)
        merged.touch()
        os.utime(merged, (merged_at, merged_at))
    members = [{"label": label, "values": {}} for label in LABELS]
    files.record.write_text(json.dumps({"title": "GaN", "axes": None, "members": members}))
    if combined_at is not None:
        files.combined.touch()
        os.utime(files.combined, (combined_at, combined_at))
    lines = [f"{RUN_PREFIX}sweep  2 simulations"]
    SweepOutcome(0, lines, tmp_path / "log", tmp_path, ResultPaths(files.root), False, 3.0).show()
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "finished in 3 s: 2 of 2 simulations are merged."
    assert said[-1] == expected
    assert any(line.startswith("together") for line in said) == (combined_at is not None), said
