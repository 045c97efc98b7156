"""Two `stemphony run` of one simulation, started at the same moment."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from support.campaign import Running, assert_same_arrays

from workflow.conftest import Finished


def test_of_two_runs_at_once_one_computes_and_the_other_says_so(slow: Finished, tmp_path: Path):
    campaign = slow.copy(tmp_path / "slow campaign")
    shutil.rmtree(campaign.result.root / "jobs")
    place = ["--directory", campaign.directory, "--cores", "1"]
    words = [sys.executable, "-m", "stemphony", "run", campaign.config, *place]
    with (
        Running(words, tmp_path / "one", campaign.env, cwd=campaign.scripts) as one,
        Running(words, tmp_path / "other", campaign.env, cwd=campaign.scripts) as other,
    ):
        first, second = sorted((one.end(), other.end()), key=lambda outcome: outcome.status)
    assert (first.status, second.status) == (0, 1), first.output + second.output
    said = [line for line in second.output.splitlines() if line.strip() and "snakemake --snakefile" not in line]
    assert len(said) == 1, second.output
    assert "is in use by a run that is alive (process " in said[0]
    assert_same_arrays(campaign.result.merged, slow.arrays)
