"""stem.nc has the names that viewers of the AMBER convention and scripts for STEMsalabim's files read."""

from __future__ import annotations

import re

import netCDF4
import numpy as np
import pytest
from support.experiments import FakeCampaign


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    campaign = FakeCampaign.of(
        tmp_path_factory.mktemp("merged"),
        probe={"energy_kev": 80.0, "aberrations": {"C30_nm": 1200.0}, "defoci_nm": [0.0, 5.0]},
        frozen_phonon={"configurations": 2},
    )
    campaign.write_all()
    return campaign, campaign.merge()


def test_text_attributes_of_amber_are_characters(merged):
    """OVITO reads no variable-length strings, so texts of AMBER are characters."""
    content = merged[1].read_bytes()
    assert re.search(rb"Conventions\0.{0,64}AMBER", content, re.DOTALL)
    assert re.search(rb"programVersion\0.{0,64}\d+\.\d+\.\d+", content, re.DOTALL)


def test_amber_holds_the_lattice_and_the_program(merged):
    campaign, file = merged
    with netCDF4.Dataset(file) as root:
        amber = root["AMBER"]
        assert (amber.Conventions, amber.title, amber.program) == ("AMBER", "a title", "Stemphony")
        assert (
            amber["lattice_coordinates"].dimensions == amber["coordinates"].dimensions == ("frame", "atom", "spatial")
        )
        rest = 0.1 * campaign.specimen.positions
        np.testing.assert_allclose(amber["lattice_coordinates"][:], np.broadcast_to(rest, (4, *rest.shape)), atol=1e-6)
        np.testing.assert_allclose(amber["system_lengths"][:], 0.1 * np.array(campaign.specimen.cell), atol=1e-6)
        assert amber["system_angles"][:].tolist() == [90.0, 90.0, 90.0]


@pytest.mark.parametrize(
    ("block", "name", "value"),
    [
        ("probe", "beam_energy", 80.0),
        ("probe", "cs", 1200.0),
        ("probe", "num_defoci", 2),
        ("frozen_phonon", "number_configurations", 2),
        ("grating", "nx", 64),
        ("grating", "slice_thickness", 0.19525),
        ("grating", "density", 64 / 0.781),
        ("adf", "detector_max_angle", 60.0),
        ("adf", "detector_num_angles", 5),
        ("adf", "x", "[0.0, 1.0]"),
        ("probe", "energy_kev", 80.0),
    ],
)
def test_params_hold_the_originals_names_beside_ours(merged, block, name, value):
    with netCDF4.Dataset(merged[1]) as root:
        found = root["params"][block].getncattr(name)
    assert found == (value if isinstance(value, str) else pytest.approx(value, rel=1e-6))
