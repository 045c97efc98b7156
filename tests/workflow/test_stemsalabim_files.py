"""Overrides of the command line, through real Snakemake; test_tutorials.py runs a parameter file of STEMsalabim."""

from __future__ import annotations

from collections.abc import Callable

import netCDF4
import pytest
from support.campaign import TINY, Campaign

pytestmark = pytest.mark.workflow


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
