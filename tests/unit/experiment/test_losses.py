"""Plasmons of a config: the material that they are excited in, refusals, and the keys that decide a job."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stemphony.errors import ConfigError
from stemphony.experiment.losses import plan_note
from stemphony.experiment.model import Experiment
from stemphony.physics.periods import Layers, Periods
from support.experiments import PLASMONS, planned, tiny


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


@pytest.mark.parametrize("phonons", [{}, {"enabled": False}])
def test_keys_and_seed_of_plasmons_decide_with_plasmons_only(phonons):
    def digest(seed=1, **keys):
        made = planned(plasmon_scattering=keys, simulation={"random_seed": seed}, frozen_phonon=phonons)
        return str(made.job_params(made.defoci[0].id, 0))

    assert digest(**PLASMONS) != digest(**PLASMONS, draws=2)
    assert digest(**PLASMONS) != digest(seed=2, **PLASMONS)
    assert digest() == digest(draws=2, cutoff_mrad=20.0)
