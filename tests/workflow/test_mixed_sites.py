"""The example with mixed sites through real Snakemake, at small size; more configurations compute only the new ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import netCDF4
import numpy as np
import pytest
from support.campaign import REPOSITORY, TINY, Campaign

pytestmark = pytest.mark.workflow


def test_the_example_with_mixed_sites_runs_and_more_configurations_keep_the_drawn_atoms(
    new_campaign: Callable[..., Campaign],
):
    campaign = new_campaign(TINY)
    for name in ("algan.yaml", "algan.cif"):
        shutil.copy(REPOSITORY / "config" / "examples" / name, campaign.directory / name)
    elements = []
    for configurations in (1, 2):
        outcome = campaign.command(
            "run", campaign.directory / "algan.yaml", "--directory", campaign.directory, "--cores", "2", "--config",
            "specimen.repeat=[2, 2, 2]", "grating.sampling_angstrom=0.1", "scan.points=[2, 2]",
            "adf.detectors={haadf: [40.0, 80.0]}", f"frozen_phonon.configurations={configurations}",
        )  # fmt: skip
        assert outcome.status == 0, outcome.output
        assert "64 of 96 sites are partial" in outcome.output
        with netCDF4.Dataset(campaign.directory / "results/algan/stem.nc") as root:
            amber = root["AMBER"]
            elements.append(np.asarray(amber["element"][:]))
            assert amber["atom_types"][:].tolist() == ["vacant", "Al", "Ga", "N"]
            assert amber.formula == "Ga1.4 Al0.6 N2"
    assert [one.shape[0] for one in elements] == [1, 2]
    np.testing.assert_array_equal(elements[1][0], elements[0][0])
    assert (elements[1][0] != elements[1][1]).any()
    # Ga and Al share 32 sites, so one of both is vacant at each; nitrogen never is.
    assert (np.count_nonzero(elements[1] == 0, axis=1) == 32).all()
