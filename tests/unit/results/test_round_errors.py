"""The error that decides about further rounds is that of the merged images."""

from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
from stemphony.errors import DamagedResultError
from stemphony.experiment.stopping import Goal
from stemphony.results.merge_task import MergeTask
from stemphony.results.round_errors import ImageError, decision, image_errors
from stemphony.results.signal_blocks import blurring_of
from support.experiments import FakeCampaign

DEFOCI: dict[str, Any] = {"probe": {"defoci_nm": [0.0, 5.0]}, "frozen_phonon": {"configurations": 5}}


def judged(made: FakeCampaign) -> list[ImageError]:
    task = MergeTask(made.campaign.merge_params, made.result)
    return image_errors(task, made.experiment, blurring_of(task), ["haadf"])


@pytest.mark.slow
@pytest.mark.parametrize("averaged", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_the_error_is_that_of_the_merged_image(tmp_path: Path, averaged: bool, shared: bool):
    blocks = {
        **DEFOCI, "adf": {"average_defoci": averaged},
        "frozen_phonon": {"configurations": 5, "independent_defoci": not shared},
    }  # fmt: skip
    made = FakeCampaign.of(tmp_path, **blocks)
    made.write_all()
    found = judged(made)
    made.merge()
    with netCDF4.Dataset(made.result.merged) as root:
        value = np.asarray(root["images/haadf"])[:, 0]
        error = np.asarray(root["images/haadf_standard_error"])[:, 0]
    expected = np.sqrt((error**2).mean(axis=(2, 3))) / value.mean(axis=(2, 3))
    assert [one.relative for one in found] == pytest.approx(expected.ravel(), rel=1e-5)


def test_a_result_that_keeps_every_configuration_is_judged_by_their_average(tmp_path: Path):
    made = FakeCampaign.of(tmp_path / "kept", **{**DEFOCI, "adf": {"average_configurations": False}})
    made.write_all()
    other = FakeCampaign.of(tmp_path / "averaged", **DEFOCI)
    other.write_all()
    assert [one.relative for one in judged(made)] == [one.relative for one in judged(other)]


def test_a_damaged_job_file_is_named(tmp_path: Path):
    made = FakeCampaign.of(tmp_path, **DEFOCI)
    made.write_all()
    file = made.result.job(*made.pairs[3])
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DamagedResultError, match=file.name):
        judged(made)


def test_an_image_without_intensity_is_never_accurate_enough():
    errors = [ImageError("haadf", 1.0, 0.0, float("inf")), ImageError("bf", 1.0, 0.0, 0.001)]
    content = decision(Goal(0.01, ("bf", "haadf"), 4, 200), 0, 4, 12, errors)
    assert content["largest"] == {"detector": "haadf", "depth_nm": 1.0, "defocus_nm": 0.0, "relative_error": None}
    assert (content["reached"], content["next"]) == (False, 8)
