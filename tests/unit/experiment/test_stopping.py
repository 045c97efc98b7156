"""Stopping at an accuracy: the rounds, and how often the stated 95 % interval holds the true mean."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stemphony.experiment.stopping import Goal, interval95

CAMPAIGNS = 5000
STORED = Path(__file__).with_name("configurations_200.npy")
"""HAADF 60–90 mrad and ADF 30–60 mrad at 16 positions of SrTiO3 [001], (200 configurations, detector, position).

One run of 3 × 3 × 6 cells at 200 kV and 20 mrad, 128 × 128 points, seed 3, U of 0.008, 0.006 and 0.01 Å² (Sr, Ti, O).
"""

Draw = Callable[[np.random.Generator, int], np.ndarray]


def coverage(goal: Goal, draw: Draw, truth: np.ndarray, plain: bool = False) -> float:
    """Share of the intervals of all campaigns and positions that hold the true mean.

    `draw(random, campaigns)` returns (campaign, configuration, position) values for `goal.most` configurations.
    """
    random = np.random.default_rng(5)
    held = total = 0
    for _ in range(10):
        values = draw(random, CAMPAIGNS // 10) - truth
        first, second = np.cumsum(values, axis=1), np.cumsum(values**2, axis=1)
        number = np.full(len(values), goal.fewest)
        running = np.arange(len(values))
        while running.size:
            n = number[running]
            mean = first[running, n - 1] / n[:, None]
            variance = (second[running, n - 1] - n[:, None] * mean**2) / (n[:, None] - 1)
            error = np.sqrt(np.maximum(variance, 0) / n[:, None])
            relative = np.sqrt((error**2).mean(axis=1)) / (mean + truth).mean(axis=1)
            following = [goal.next_total(int(count), float(e)) for count, e in zip(n, relative, strict=True)]
            done = np.array([one is None for one in following])
            positions = truth.size
            factor = np.array([2.0 if plain else interval95(int(c), goal.fewest, positions) for c in n[done]])
            held += int((np.abs(mean[done]) <= factor[:, None] * error[done]).sum())
            total += int(done.sum()) * positions
            number[running[~done]] = [one for one in following if one is not None]
            running = running[~done]
    return held / total


def gaussian(relative: float, positions: int, most: int) -> tuple[Draw, np.ndarray]:
    """Independent Gaussian signals around 1."""
    truth = np.ones(positions)
    return lambda random, n: 1 + relative * random.standard_normal((n, most, positions)), truth


def stored(detector: int, most: int) -> tuple[Draw, np.ndarray]:
    """Configurations of the stored run, drawn with replacement."""
    run = np.load(STORED)[:, detector].astype(float)
    return lambda random, n: run[random.integers(len(run), size=(n, most))], run.mean(axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("fewest", [4, 8])
@pytest.mark.parametrize(("needed", "positions"), [(6, 1), (20, 1), (30, 1), (12, 4), (30, 16)])
def test_the_interval_holds_the_mean_of_gaussian_signals_in_95_percent(fewest: int, needed: int, positions: int):
    goal = Goal(0.01, ("haadf",), fewest, 120)
    draw, truth = gaussian(0.01 * np.sqrt(needed), positions, goal.most)
    assert 0.93 <= coverage(goal, draw, truth) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("fewest", [4, 8])
@pytest.mark.parametrize("detector", [0, 1])
def test_the_interval_holds_the_mean_of_a_stored_run_in_95_percent(fewest: int, detector: int):
    # About 20 of 200 configurations are needed.
    run = np.load(STORED)[:, detector].astype(float)
    relative = np.sqrt(run.var(axis=0, ddof=1).mean()) / run.mean()
    goal = Goal(relative / np.sqrt(20), ("haadf",), fewest, 120)
    draw, truth = stored(detector, goal.most)
    assert 0.93 <= coverage(goal, draw, truth) <= 0.97


def test_two_standard_errors_would_hold_it_too_rarely():
    goal = Goal(0.01, ("haadf",), 4, 120)
    draw, truth = gaussian(0.01 * np.sqrt(12), 1, goal.most)
    assert coverage(goal, draw, truth, plain=True) < 0.89


def test_a_round_has_as_many_configurations_as_the_error_is_expected_to_need():
    goal = Goal(0.01, ("haadf",), 4, 200)
    assert goal.next_total(16, 0.0125) == 25
    assert goal.next_total(16, 0.0101) == 20  # at least a quarter more
    assert goal.next_total(4, 1.0) == 8  # at most twice as many
    assert goal.next_total(150, 0.02) == 200
    assert goal.next_total(16, float("nan")) == 32


def test_the_rounds_end_at_the_goal_and_at_the_largest_number():
    goal = Goal(0.01, ("haadf",), 4, 200)
    assert goal.next_total(4, 0.01) is None
    assert goal.next_total(200, 0.5) is None


def test_the_interval_of_a_given_number_is_that_of_student():
    # Tables of Student's t: 3.182 for 3 degrees of freedom, 2.093 for 19.
    assert interval95(4) == pytest.approx(3.182, abs=1e-3)
    assert interval95(20) == pytest.approx(2.093, abs=1e-3)
    assert interval95(4, first_round=4) == interval95(4)
    assert interval95(20, first_round=4) > 1.1 * interval95(20)
