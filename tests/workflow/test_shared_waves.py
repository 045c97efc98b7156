"""One propagation per configuration serves the jobs of all its defoci, and each job stays a separate job."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.campaign import TINY, TINY_JOBS, Campaign, arrays, assert_same_arrays, attributes, changed, wait_for

from workflow.conftest import Finished

SHARED = changed(
    TINY,
    simulation={"name": "shared", "algorithm": "probe_basis"},
    frozen_phonon={"independent_defoci": False},
)


@pytest.fixture(scope="module")
def shared(clone: Path, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    campaign = Campaign.make(clone, tmp_path_factory.mktemp("shared") / "shared campaign", SHARED, env)
    outcome = campaign.succeed()
    return Finished(campaign, outcome, arrays(campaign.result.merged))


def logs(campaign: Campaign) -> dict[str, str]:
    """Log of each job, by `defocus/configuration`."""
    found = {}
    for file in (campaign.directory / "logs/run_multislice/shared").rglob("*.log"):
        defocus, configuration = (name.partition("_")[2] for name in (file.parent.name, file.stem))
        found[f"{defocus}/{configuration}"] = file.read_text(encoding="utf-8")
    return found


def computed(campaign: Campaign) -> set[str]:
    """Jobs of the last run that sent waves through the specimen themselves."""
    return {job for job, text in logs(campaign).items() if re.search(r"\d+ % of the waves", text)}


def test_each_configuration_is_propagated_once(shared: Finished):
    campaign = shared.campaign
    assert len(computed(campaign)) == 2
    assert {job.split("/")[1] for job in computed(campaign)} == {"0000", "0001"}
    for configuration in (0, 1):
        assert campaign.result.waves(configuration).exists()
    assert not list(campaign.result.waves_folder.glob(".*"))
    runtime = attributes(campaign.job_file("p0d000/0000"), "runtime")
    assert runtime["algorithm"] == "probe_basis"
    assert 4 <= runtime["waves"] <= 8
    assert "waves for the 8 probes of a configuration at all defoci" in shared.first.output


def test_the_result_is_that_of_multislice_to_the_tolerance(shared: Finished, new_campaign: Callable[..., Campaign]):
    exact = new_campaign(changed(SHARED, simulation={"algorithm": "multislice"}))
    exact.succeed()
    for name, values in arrays(exact.result.merged).items():
        if values.dtype.kind == "f" and not name.endswith("_standard_error"):
            scale = np.sqrt(np.mean(np.nan_to_num(values) ** 2))
            assert np.sqrt(np.mean((shared.arrays[name] - values) ** 2)) <= 1e-4 * scale, name


def test_a_lost_job_is_computed_from_the_kept_waves_alone(shared: Finished, tmp_path: Path):
    campaign = shared.copy(tmp_path / "copy")
    campaign.job_file("p5d000/0001").unlink()
    before = campaign.written()
    outcome = campaign.succeed()
    assert outcome.jobs & TINY_JOBS == {"p5d000/0001"}
    assert "taken from configuration_0001.npz" in logs(campaign)["p5d000/0001"]
    assert {file: time for file, time in campaign.written().items() if file in before} == before
    assert_same_arrays(campaign.result.merged, shared.arrays)


def test_after_clean_no_job_runs_and_a_lost_job_computes_its_own_waves(shared: Finished, tmp_path: Path):
    campaign = shared.copy(tmp_path / "copy")
    own = campaign.result.waves_folder / "mine"
    own.mkdir()
    of_jobs = [
        campaign.result.waves_folder / name
        for name in (".configuration_0000.npz.claim", ".configuration_0000.npz.7-0a.tmp", "configuration_0000.claim")
    ]
    for file in of_jobs:
        file.touch()
    assert (ended := campaign.command("clean", campaign.result.root)).status == 0, ended.output
    own.rmdir()
    for file in of_jobs:
        file.unlink()  # there until here
    assert not list(campaign.result.waves_folder.glob("*"))
    assert campaign.to_run() == set()
    campaign.job_file("p0d000/0000").unlink()
    outcome = campaign.succeed()
    assert outcome.jobs & TINY_JOBS == {"p0d000/0000"}
    assert "p0d000/0000" in computed(campaign)
    assert_same_arrays(campaign.result.merged, shared.arrays)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "foreign"])
def test_damaged_and_foreign_waves_are_never_used(shared: Finished, tmp_path: Path, damage: str):
    campaign = shared.copy(tmp_path / "copy")
    file = campaign.result.waves(0)
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    file.write_bytes(content if damage == "flipped" else content[:1000])
    if damage == "foreign":
        file.write_bytes(campaign.result.waves(1).read_bytes())
        sidecar = file.with_name(file.name + ".sha256")
        sidecar.write_text(campaign.result.waves(1).with_name("configuration_0001.npz.sha256").read_text())
    campaign.job_file("p0d000/0000").unlink()
    campaign.succeed()
    assert "p0d000/0000" in computed(campaign)
    assert_same_arrays(campaign.result.merged, shared.arrays)


def test_another_defocus_computes_what_it_needs_and_nothing_else(shared: Finished, tmp_path: Path):
    campaign = shared.copy(tmp_path / "copy")
    campaign.change(probe={"defoci_nm": [0.0, 5.0, 30.0]})
    before = campaign.written()
    outcome = campaign.succeed()
    assert outcome.jobs & TINY_JOBS == set()
    assert {"p30d000/0000", "p30d000/0001"} <= outcome.jobs
    assert {file: time for file, time in campaign.written().items() if file in before} == before


def test_a_killed_job_leaves_a_claim_that_the_next_run_takes_over(new_campaign: Callable[..., Campaign]):
    campaign = new_campaign(changed(SHARED, scan={"points": [24, 24]}, grating={"slice_thickness_angstrom": 0.1}))
    campaign.result.waves_folder.mkdir(parents=True)
    claims = campaign.result.waves_folder
    with campaign.start(cores=1) as running:
        wait_for(lambda: list(claims.glob(".*.claim")), "a claim")
        running.signal_all(signal.SIGKILL)
        running.end()
    assert list(claims.glob(".*.claim"))
    # The next run waits for the claim's heartbeat. There is none, so it takes over.
    campaign.succeed("--unlock")
    campaign.succeed("--rerun-incomplete")
    assert not list(claims.glob(".*.claim"))
    assert len(computed(campaign)) >= 2
