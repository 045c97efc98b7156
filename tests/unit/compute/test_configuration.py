"""A configuration draws its own energy losses from the seed."""

from __future__ import annotations

from dataclasses import replace

from stemphony.compute.configuration import with_losses
from support.experiments import PLASMONS, experiment


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
