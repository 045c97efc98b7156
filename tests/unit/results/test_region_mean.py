"""The standard error of a mean over a region counts orbits and not pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stemphony.errors import ResultError
from stemphony.physics.plane_symmetry import MATRICES, PlaneGroup
from stemphony.results.opened import OpenedResult
from stemphony.results.region_mean import error_of_mean, region_mean
from support.experiments import FakeCampaign

CONFIGURATIONS = 5


def test_the_error_is_that_of_simulated_images_with_copies():
    rng = np.random.default_rng(1)
    orbit = (
        PlaneGroup.of({matrix: [(0, 0)] for matrix in MATRICES}, (16, 16))
        .orbits(np.stack(np.meshgrid(np.arange(16.0), np.arange(16.0), indexing="ij"), axis=-1).reshape(-1, 2))
        .orbit
    )
    errors = (0.5 + np.arange(45) / 45)[orbit]
    for region in (slice(None), slice(0, 40), slice(100, 130)):
        drawn = (rng.normal(size=(20_000, 45)) * (0.5 + np.arange(45) / 45))[:, orbit[region]].mean(axis=1)
        found = error_of_mean(errors[region], orbit[region])
        assert found == pytest.approx(drawn.std(), rel=0.02)
        by_pixels = float(np.sqrt((errors[region] ** 2).sum()) / len(errors[region]))
        assert by_pixels < (0.5 if region == slice(None) else 0.9) * found


def test_positions_without_copies_count_one_by_one():
    assert error_of_mean(np.array([3.0, 4.0]), np.array([0, 1])) == pytest.approx(2.5)
    assert error_of_mean(np.array([3.0, 3.0]), np.array([7, 7])) == pytest.approx(3.0)


@pytest.mark.slow
@pytest.mark.parametrize("is_reduced", [True, False])
def test_the_mean_of_a_region_counts_its_distinct_positions(is_reduced, tmp_path):
    group = PlaneGroup.of({((-1, 0), (0, 1)): [(0, 0)]}, (64, 64))
    fake = FakeCampaign.of(tmp_path, scan={"points": [4, 4]}, frozen_phonon={"configurations": CONFIGURATIONS})
    if is_reduced:
        planned = replace(fake.campaign, symmetry=group)
        fake = replace(fake, campaign=planned, experiment=replace(fake.experiment, symmetry=group))
    fake.write_all(coordinates=False)
    result = OpenedResult(fake.merge())
    jobs = [fake.signals("p0d000", c).rings[:, :, -1, 1] for c in range(CONFIGURATIONS)]
    if is_reduced:
        jobs = [job[fake.experiment.orbit, 0] for job in jobs]
        assert result.signal("haadf").values[1] == pytest.approx(result.signal("haadf").values[3])
    # x at 0, 0.195, 0.391 and 0.586 nm; the first and the third row have copies in the other half.
    part = region_mean(result, "haadf", (0.19, 0.7), (0.0, 0.2))
    assert part.value == pytest.approx(np.mean(jobs, axis=0)[1:, :2].mean(), rel=1e-5)
    assert (part.positions, part.distinct) == (6, 4 if is_reduced else 6)
    whole = region_mean(result, "haadf")
    assert (whole.positions, whole.distinct) == (16, 12 if is_reduced else 16)
    assert whole.error < whole.largest_error
    with pytest.raises(ResultError, match="no position of the scan"):
        region_mean(result, "haadf", (0.9, 1.0))
