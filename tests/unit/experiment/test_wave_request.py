"""The block `waves` and `probe.plane_wave`: positions, keys that change jobs or the merge, and refusals."""

from __future__ import annotations

from typing import Any

import pytest
from stemphony import provenance
from stemphony.errors import ConfigError
from stemphony.experiment.model import Experiment
from support.experiments import CELL, planned, tiny

EXIT = {"exit": [[0.0, 0.25], [0.5, 0.5]]}
NO_DETECTORS: dict[str, dict[str, Any]] = {"adf": {"enabled": False}, "cbed": {"enabled": False}}


def request(**blocks: Any) -> Any:
    return Experiment.of(tiny(**blocks), CELL, None).waves


def test_without_waves_there_is_no_request():
    assert request() is None
    assert request(waves={"probe": True}) is None


@pytest.mark.parametrize(
    ("scan", "exit_positions"),
    [
        ({}, [[0.0, 0.25], [0.5, 0.5]]),
        ({"unit": "angstrom"}, [[0.0, 1.9525], [3.905, 3.905]]),
        ({"unit": "nm", "origin": [0.1, 0.0]}, [[-0.1, 0.19525], [0.2905, 0.3905]]),
    ],
)
def test_positions_count_as_those_of_the_scan(scan, exit_positions):
    window = {"x": [0.0, 0.1], "y": [0.0, 0.1], "points": [1, 1], **scan}
    made = request(scan=window, waves={"exit": exit_positions})
    assert [place for pair in made.places for place in pair] == pytest.approx([0.0, 1.9525, 3.905, 3.905], abs=1e-9)
    assert not made.depth_profile
    assert made.columns == ()


def test_columns_are_the_positions_unless_they_are_given():
    assert request(waves={**EXIT, "depth_profile": True}).columns == request(waves=EXIT).places
    made = request(waves={**EXIT, "depth_profile": True, "columns": [[0.5, 0.0]], "column_radius_angstrom": 0.7})
    assert made.columns == ((3.905, 0.0),)
    assert made.radius == 0.7


def test_a_plane_wave_has_one_exit_wave():
    made = request(probe={"plane_wave": True}, **NO_DETECTORS)
    assert made.plane
    assert len(made.places) == 1


def job(**blocks: Any) -> str:
    return provenance.digest(planned(**blocks).job_params("p0d000", 0))


def test_columns_decide_jobs_with_a_depth_profile_only():
    plain = job(waves=EXIT)
    assert job(waves={**EXIT, "column_radius_angstrom": 2.0}) == plain
    profile = {**EXIT, "depth_profile": True}
    digests = {
        plain, job(waves=profile), job(waves={**profile, "column_radius_angstrom": 2.0}),
        job(waves={**profile, "columns": [[0.1, 0.1]]}),
    }  # fmt: skip
    assert len(digests) == 4


def test_the_probe_and_averages_belong_to_the_merge():
    assert "waves" not in planned().merge_params
    assert job(waves={"probe": True, "average_configurations": False}) == job()
    params = planned(waves={"probe": True}).merge_params["waves"]
    assert params == {"probe": True, "average_configurations": True, "average_defoci": False}
    assert planned(waves={**EXIT, "average_configurations": False}).merge_params["waves"] == {
        "probe": False, "average_configurations": False, "average_defoci": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("blocks", "where"),
    [
        ({"waves": {"depth_profile": True}}, "waves.depth_profile"),
        ({"waves": {**EXIT, "columns": [[0, 0]]}}, "waves.columns"),
        ({"waves": EXIT, "probe": {"precession": {"angle_mrad": 4.0, "steps": 3}}}, "waves.exit"),
        ({"probe": {"plane_wave": True}}, "adf.enabled"),
        ({"probe": {"plane_wave": True}, "adf": {"enabled": False}, "cbed": {"enabled": True}}, "cbed.enabled"),
        ({"probe": {"plane_wave": True}, "waves": EXIT, **NO_DETECTORS}, "waves.exit"),
        ({"probe": {"plane_wave": True}, "waves": {"probe": True}, **NO_DETECTORS}, "waves.probe"),
        ({"probe": {"plane_wave": True, "tilt_mrad": [1, 0]}, **NO_DETECTORS}, "probe.tilt_mrad"),
        ({"probe": {"plane_wave": True, "defoci_nm": [0, 1]}, **NO_DETECTORS}, "probe.defocus_count"),
        (NO_DETECTORS, "adf.enabled"),
    ],
)
def test_contradictions_are_refused(blocks, where):
    with pytest.raises(ConfigError, match=rf"config `{where}"):
        tiny(**blocks)


def test_a_position_far_outside_the_cell_is_refused():
    with pytest.raises(ConfigError, match=r"waves\.exit.*far outside the cell"):
        request(waves={"exit": [[5.0, 0.0]]})
    with pytest.raises(ConfigError, match=r"waves\.columns.*far outside the cell"):
        request(waves={**EXIT, "depth_profile": True, "columns": [[0.0, -7.0]]})
