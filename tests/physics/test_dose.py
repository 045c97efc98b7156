"""Counted electrons: Poisson's mean and variance, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from stemphony.physics.dose import counted
from support.arrays import differences


@pytest.mark.parametrize(("fraction", "electrons"), [(0.02, 40.0), (0.5, 3000.0)])
def test_mean_and_variance_are_those_of_poisson(fraction, electrons):
    pixels = 200_000
    found = counted(np.full(pixels, fraction), electrons, seed=5)
    spread = np.sqrt(fraction / electrons / pixels)
    assert found.mean() == pytest.approx(fraction, abs=5 * spread)
    # The variance of a variance of Poisson numbers is below 3/N of its square at these means.
    assert found.var() == pytest.approx(fraction / electrons, rel=5 * np.sqrt(3 / pixels))


def test_counts_are_whole_electrons_and_never_negative():
    found = counted(np.array([-1e-3, 0.0, 0.3]), 100.0, seed=1) * 100
    assert (found[:2] == 0).all()
    assert found[2] == pytest.approx(round(found[2]))


def test_the_seed_decides_the_noise():
    image = np.full((8, 8), 0.3)
    assert not differences(counted(image, 50.0, 1), counted(image, 50.0, 1))
    assert (counted(image, 50.0, 1) != counted(image, 50.0, 2)).any()


def test_with_many_electrons_the_noise_vanishes():
    image = np.random.default_rng(1).random((8, 8))
    assert counted(image, 1e12, 1) == pytest.approx(image, abs=1e-5)
