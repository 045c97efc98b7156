"""Jobs of Slurm import no Python file of the folders of a simulation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from support.hostile import imported, plant

from cluster.conftest import OnCluster


@pytest.mark.parametrize("variables", [{}, {"SBATCH_EXPORT": "NONE", "SLURM_EXPORT_ENV": "NONE"}], ids=["all", "none"])
def test_a_job_imports_nothing_from_the_working_directory(
    new_campaign: Callable[..., OnCluster], variables: dict[str, str]
):
    """The attack: modules with common names lie where a job starts. The cluster hands on no environment."""
    campaign = new_campaign(2)
    campaign = replace(campaign, env={**campaign.env, **variables})
    trace, result = campaign.folder / "trace", campaign.result
    for folder in (campaign.config.parent, campaign.directory, result.root.parent, result.root):
        plant(folder, trace)
    outcome = campaign.typed()
    assert imported(trace) == [], outcome.output
    assert outcome.status == 0, outcome.output
    assert set(campaign.states(1)) == {"p0d000/0000", "p0d000/0001"}
