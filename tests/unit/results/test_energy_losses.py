"""Energy losses in results: their axis, their averages, and what readers make of them."""

from __future__ import annotations

from typing import Any

import netCDF4
import numpy as np
import pytest
from stemphony.results import signal_blocks
from stemphony.results.opened import OpenedResult
from stemphony.results.patterns import pattern
from support.experiments import PLASMONS, FakeCampaign

STORED: dict[str, Any] = {
    "simulation": {"precision": "double"}, "cbed": {"enabled": True, "max_mrad": 20.0},
    "frozen_phonon": {"configurations": 3}, "plasmon_scattering": PLASMONS,
}  # fmt: skip


@pytest.fixture(scope="module")
def fake(tmp_path_factory) -> FakeCampaign:
    made = FakeCampaign.of(tmp_path_factory.mktemp("losses"), **STORED)
    made.write_all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signal_blocks, "BLOCK_BYTES", 12e3)  # several blocks of bins
        made.merge()
    return made


@pytest.mark.slow
def test_signals_are_averaged_for_each_energy_loss(fake):
    jobs = [fake.signals(*pair) for pair in fake.pairs]
    with netCDF4.Dataset(fake.result.merged) as root:
        adf, cbed = root["adf"], root["cbed"]
        assert adf["adf_plasmon_energies"][:].tolist() == [0.0, 10.0, 20.0, 30.0]
        assert cbed["cbed_plasmon_energies"][:].tolist() == [0.0, 10.0, 20.0, 30.0]
        assert "last entry counts all larger losses" in adf["adf_plasmon_energies"].long_name
        found = {
            name: np.asarray(root[name][0, :, :, 0])
            for name in (
                "adf/energy_loss_spectrum",
                "adf/adf_intensities",
                "adf/center_of_mass",
                "cbed/cbed_intensities",
            )
        }
        assert "bf_standard_error" in root["images"].variables
    spectrum = np.mean([job.spectrum for job in jobs], axis=0)
    moments = np.mean([1e3 * job.center_of_mass * job.spectrum[..., None] for job in jobs], axis=0)
    assert found["adf/energy_loss_spectrum"] == pytest.approx(spectrum, rel=1e-12)
    assert found["adf/adf_intensities"] == pytest.approx(np.mean([job.bins for job in jobs], axis=0), rel=1e-12)
    assert found["adf/center_of_mass"] == pytest.approx(moments / spectrum[..., None], rel=1e-12)
    assert found["cbed/cbed_intensities"] == pytest.approx(np.mean([job.cbed for job in jobs], axis=0), rel=1e-12)


def test_readers_sum_over_all_losses(fake):
    jobs = [fake.signals(*pair) for pair in fake.pairs]
    result = OpenedResult(fake.result.merged)
    ring = result.signal((0.0, 24.0))
    expected = np.mean([job.bins[:, :, -1, :, :2].sum(axis=(-1, -2)) for job in jobs], axis=0)
    assert ring.values == pytest.approx(expected, rel=1e-12)
    center, _ = result.center_of_mass()
    moments = np.mean([(job.center_of_mass * job.spectrum[..., None]).sum(axis=3) for job in jobs], axis=0)
    total = np.mean([job.total for job in jobs], axis=0)
    assert center == pytest.approx(1e3 * (moments / total[..., None])[:, :, -1], rel=1e-9)
    seen = pattern(result).values
    assert seen == pytest.approx(np.mean([j.cbed[:, :, -1].sum(axis=2).mean(axis=(0, 1)) for j in jobs], axis=0))
