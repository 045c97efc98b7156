"""Parameter files of STEMsalabim and overrides of the command line, through real Snakemake."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import netCDF4
import pytest
from support.campaign import REPOSITORY, TINY, Campaign

pytestmark = pytest.mark.workflow


def test_the_example_parameter_file_runs_as_it_is(new_campaign: Callable[..., Campaign]):
    campaign = new_campaign(TINY)
    for name in ("stemsalabim.cfg", "stemsalabim_crystal.xyz"):
        shutil.copy(REPOSITORY / "config" / "examples" / name, campaign.directory / name)
    outcome = campaign.command(
        "run", campaign.directory / "stemsalabim.cfg", "--directory", campaign.directory, "--cores", "2",
        "--config", "scan.points=[2, 2]", "frozen_phonon.configurations=1",
    )  # fmt: skip
    assert outcome.status == 0, outcome.output
    assert "note: probe.fwhm_defoci" not in outcome.output  # the file does not give it
    with netCDF4.Dataset(campaign.directory / "results/sto_stemsalabim/stem.nc") as root:
        assert root["params/adf"].detector_num_angles == 129
        assert root["params"].program_arguments
        assert "my_pass" not in root["params"].config_file_contents
        assert root["adf/adf_intensities"].shape[1:3] == (2, 2)
        # A tenth of a percent is the band limit's share; signals are fractions of the beam.
        assert 0.9 < root["images/total_intensity"][:].max() <= 1.001


def test_numbers_of_the_command_line_override_those_of_the_file(new_campaign: Callable[..., Campaign]):
    campaign = new_campaign(TINY)
    outcome = campaign.succeed(
        "--config", 'probe={"energy_kev": 100, "defoci_nm": [1.0]}', 'adf={"center_of_mass": false}',
        'frozen_phonon={"configurations": 1}',
    )  # fmt: skip
    assert len(outcome.jobs & {"p1d000/0000", "merge_results"}) == 2, outcome.output
    with netCDF4.Dataset(campaign.result.merged) as root:
        assert root["params/probe"].energy_kev == 100.0
        assert "center_of_mass" not in root["adf"].variables
