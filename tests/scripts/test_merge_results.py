"""The script of rule merge_results: it makes stem.nc from job files, with their origin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import merge_results as script
import netCDF4
import numpy as np
import pytest
import yaml
from stemphony import provenance
from stemphony.errors import DamagedResultError
from stemphony.experiment import configuration
from stemphony.specimen.specimen_file import write_specimen
from stemphony.store import ledger
from support.experiments import FakeCampaign
from support.scripts import refusal

PROBE = {"defoci_nm": [2.5, 0.0], "defocus_weights": [1.0, 3.0]}


@pytest.fixture
def fake(tmp_path) -> FakeCampaign:
    """Four jobs with made-up signals beside a specimen, as the rules leave them."""
    made = FakeCampaign.of(tmp_path, probe=PROBE, frozen_phonon={"configurations": 2})
    made.write_all()
    digest = {"specimen_digest": made.campaign.specimen_params["specimen_digest"]}
    write_specimen(made.result.specimen, made.specimen, digest)
    return made


def merged(fake: FakeCampaign) -> Path:
    script.merge_results(fake.campaign.merge_params, fake.result.specimen, fake.result.merged)
    return fake.result.merged


def plan(fake: FakeCampaign) -> dict[str, Any]:
    config = configuration.without_secrets(dict(fake.campaign.config))
    written = {"title": "A title", "config": config}
    ledger.write_plan(fake.result, written)
    return written


def test_signals_are_merged(fake):
    with netCDF4.Dataset(merged(fake)) as root:
        signals = {pair: fake.signals(*pair).rings[..., 1] for pair in fake.pairs}
        expected = sum(
            weight * (signals[defocus, 0] + signals[defocus, 1]) / 2
            for defocus, weight in (("p2d500", 0.25), ("p0d000", 0.75))
        )
        got = np.moveaxis(np.asarray(root["images"]["haadf"][0, 0]), 0, -1)
        assert got == pytest.approx(expected, rel=1e-6)
        assert root["AMBER"]["coordinates"].shape == (4, 40, 3)


def test_the_result_records_its_origin(fake):
    written = plan(fake)
    identity = ledger.identity(fake.result, 1)
    with netCDF4.Dataset(merged(fake)) as root:
        assert root.title == "A title"
        assert root.id == root["runtime"].UUID == identity.id
        assert root.created == identity.created
        assert root.Conventions == "AMBER"
        assert root.program == "Stemphony"
        assert root.version == provenance.VERSION
        assert "git_commit" in root.ncattrs()
        assert root.physics_version == provenance.PHYSICS_VERSION
        assert root.config_digest == provenance.digest(written["config"])
        assert root.merge_digest == provenance.digest(fake.campaign.merge_params)
        assert {"time_start", "time_stop"} <= set(root["runtime"].ncattrs())


def test_the_config_in_the_result_computes_the_same_again(fake):
    plan(fake)
    with netCDF4.Dataset(merged(fake)) as root:
        again = configuration.validate(yaml.safe_load(root.config_yaml))
        params = set(root["params"].groups)
    assert again == configuration.validate(dict(fake.campaign.config))
    assert params >= set(fake.campaign.config) - {"http_reporting"}


def test_a_merge_without_a_plan_takes_the_config_from_the_params(fake):
    with netCDF4.Dataset(merged(fake)) as root:
        assert root.title == "tiny"
        assert root["params"]["probe"].energy_kev == 200.0
        assert yaml.safe_load(root.config_yaml)["grating"]["gpts"] == [64, 64]


def test_only_two_keys_of_the_reporting_block_are_stored(fake):
    plan(fake)
    with netCDF4.Dataset(merged(fake)) as root:
        assert set(yaml.safe_load(root.config_yaml)["http_reporting"]) == {"reporting", "via"}


def arguments(fake: FakeCampaign) -> list[str]:
    params = provenance.canonical_json(fake.campaign.merge_params)
    return [params, str(fake.result.specimen), str(fake.result.merged)]


@pytest.mark.slow
def test_the_script_runs_as_a_process(fake):
    done = subprocess.run(
        [sys.executable, script.__file__, *arguments(fake)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert fake.result.merged.is_file()


def test_bad_files_are_listed_without_a_traceback_and_nothing_is_deleted(fake):
    merged(fake)
    before = fake.result.merged.read_bytes()
    missing, truncated = fake.result.job("p2d500", 0), fake.result.job("p0d000", 1)
    missing.unlink()
    truncated.write_bytes(truncated.read_bytes()[:5000])
    message = refusal(script.main, *arguments(fake))
    for part in (str(missing), str(truncated), "2 of 4", "Nothing was deleted"):
        assert part in message
    assert fake.result.merged.read_bytes() == before
    assert truncated.exists()


def test_a_missing_specimen_is_named(fake):
    fake.result.specimen.unlink()
    with pytest.raises(DamagedResultError, match=r"specimen\.nc: there is no such file"):
        merged(fake)


def test_only_the_params_decide_which_files_belong_to_the_result(fake):
    fake.write("p2d500", 0)
    fake.result.job("p2d500", 9).write_text("not of this campaign")
    params = json.loads(provenance.canonical_json(fake.campaign.merge_params))
    script.merge_results({**params, "configurations": 1}, fake.result.specimen, fake.result.merged)
    with netCDF4.Dataset(fake.result.merged) as root:
        assert root["runtime"].dimensions["job"].size == 2
