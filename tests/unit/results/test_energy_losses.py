"""Energy losses in job files and results: their axis, their averages, and what readers make of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import netCDF4
import numpy as np
import pytest
from stemphony.compute.configuration import with_losses
from stemphony.compute.cost import memory_mb, probe_slices, result_bytes, wave_plan
from stemphony.errors import ConfigError
from stemphony.experiment.losses import plan_note
from stemphony.experiment.model import Experiment
from stemphony.physics.periods import Layers, Periods
from stemphony.results import signal_blocks
from stemphony.results.opened import OpenedResult
from stemphony.results.patterns import pattern
from support.experiments import FakeCampaign, experiment, planned, tiny

PLASMONS: dict[str, Any] = {
    "enabled": True, "mean_free_path_nm": 128.0, "plasmon_energy_ev": 16.9, "plasmon_fwhm_ev": 4.0,
    "energy_grid_density_per_ev": 0.1, "max_energy_ev": 30.0,
}  # fmt: skip
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


def test_the_plan_counts_waves_memory_and_disk():
    plural = {**PLASMONS, "plural_scattering": True, "draws": 4}
    elastic, lossy = experiment(), experiment(plasmon_scattering=plural)
    assert probe_slices(lossy) == 9 * probe_slices(elastic)
    assert wave_plan(lossy, [0.0], True, 1e3).work == 9 * wave_plan(elastic, [0.0], False, 1e3).work
    images, patterns = result_bytes(experiment(plasmon_scattering=plural, cbed={"enabled": True}))
    assert patterns == 4 * result_bytes(experiment(cbed={"enabled": True}))[1]
    assert images > 2 * result_bytes(elastic)[0]
    assert memory_mb(lossy, 10, 1) > memory_mb(elastic, 10, 1)
    assert not planned(plasmon_scattering=PLASMONS, frozen_phonon={"independent_defoci": False}).shares_configurations


def test_plasmons_are_excited_inside_the_slab_only():
    heights = np.arange(10.0, 50.0, 2.0)
    blocks = tiny(plasmon_scattering=PLASMONS)
    cell = (7.81, 7.81, 100.0)
    slab = Experiment.of(blocks, cell, Layers(heights, Periods(slab=True, spacing=2.0))).plasmons
    assert (slab.top, slab.bottom) == (10.0, 50.0)
    filled = Experiment.of(blocks, cell, Layers(np.arange(0.0, 100.0, 2.0))).plasmons
    assert (filled.top, filled.bottom) == (0.0, pytest.approx(100.0))
    note = plan_note(replace(filled, plural=True, mean_free_path=100.0))
    assert "10 nm of material are 1 mean free paths. 36.8 % of the electrons lose nothing" in note
    assert "4 energy losses up to 30 eV, and each wave becomes 3 waves" in note
    assert "About 26 % lose more than max_energy_ev" in note


def test_a_mean_free_path_in_another_unit_is_refused():
    # 0.128 µm as 0.128 nm: e^(10 nm/0.001 nm) is beyond the numbers of a computer
    block = tiny(plasmon_scattering={**PLASMONS, "mean_free_path_nm": 1e-3})
    with pytest.raises(ConfigError, match=r"mean_free_path_nm`: got 0.001 nm; 10 nm of material are then 1e\+04 mean"):
        Experiment.of(block, (7.81, 7.81, 100.0), Layers(np.arange(0.0, 100.0, 2.0)))


def test_each_configuration_and_defocus_draws_its_own_losses():
    of = experiment(plasmon_scattering=PLASMONS)
    of = replace(of, plasmons=replace(of.plasmons, bottom=300.0))

    def drawn(configuration, defocus_nm, own=True, seed=1):
        params = {"frozen_phonon": {"independent_defoci": own}, "defocus_nm": defocus_nm}
        return with_losses(of, params, seed, configuration).trajectories

    assert drawn(0, 1.0) == drawn(0, 1.0)
    assert len({drawn(0, 1.0), drawn(1, 1.0), drawn(0, 2.0), drawn(0, 1.0, seed=2)}) == 4
    assert drawn(0, 1.0, own=False) == drawn(0, 2.0, own=False)
    assert with_losses(experiment(), {}, 1, 0).trajectories == ()


@pytest.mark.parametrize("phonons", [{}, {"enabled": False}])
def test_keys_and_seed_of_plasmons_decide_with_plasmons_only(phonons):
    def digest(seed=1, **keys):
        made = planned(plasmon_scattering=keys, simulation={"random_seed": seed}, frozen_phonon=phonons)
        return str(made.job_params(made.defoci[0].id, 0))

    assert digest(**PLASMONS) != digest(**PLASMONS, draws=2)
    assert digest(**PLASMONS) != digest(seed=2, **PLASMONS)
    assert digest() == digest(draws=2, cutoff_mrad=20.0)
