"""A job of a cluster imports no Python file of the working directory, with and without the user's environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import grid_engine
from support.campaign import Campaign, edit, make_clone
from support.hostile import imported, plant

from environments.test_profiles import SMALL, SMALL_JOBS, env, snakemake_for, start

__all__ = ["env"]


@pytest.mark.parametrize("option", ["-V ", ""])
def test_a_job_imports_nothing_from_the_working_directory(option: str, env: dict[str, str], tmp_path: Path):
    """The attack: modules with common names where the job starts. Without `-V` a job has next to no environment."""
    snakemake_for("cluster-generic")
    records, trace = tmp_path / "records", tmp_path / "trace"
    grid_engine.install(records)
    clone = make_clone(tmp_path / "clone")
    edit(clone / "profiles/cluster-generic/config.v9+.yaml", r"-cwd -V ", f"-cwd {option}")
    campaign = Campaign.make(clone, tmp_path / "simulation", SMALL, env)
    result = campaign.result
    for folder in (campaign.config.parent, campaign.directory, result.root.parent, result.root):
        plant(folder, trace)
    with start(campaign, records) as running:
        outcome = running.end()
    assert imported(trace) == [], outcome.output
    assert outcome.status == 0, outcome.output
    assert set(campaign.states(1)) == SMALL_JOBS
    assert len(grid_engine.calls(records, "qsub")) == len(SMALL_JOBS)
