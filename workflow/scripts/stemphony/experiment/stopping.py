"""The number of configurations that a wanted accuracy needs: goal of a config, next round, 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GROWTH = 2.0
"""Largest ratio of the totals of two successive rounds. The estimate of the error is uncertain, so a longer step could
compute many more configurations than needed."""

SMALLEST_STEP = 0.25
"""Smallest growth of a round, as a share of the total. Many small rounds would check the error often. Each check can
stop the run at an estimated error that is too small by accident."""

EARLY_SINGLE, EARLY_LEAST, EARLY_UNTIL = 0.18, 0.05, 30
"""Widening of the 95 % interval after a stop in a later round. It is 18 % for one scan position, and 18 %/√n but at
least 5 % for n positions. For more than 30 configurations it falls as 1/N. tests/unit/experiment/test_stopping.py
checks that the interval covers 93 to 97 %."""


@dataclass(frozen=True)
class Goal:
    """The map `frozen_phonon.configurations`: compute as many configurations as an accuracy needs.

    Attributes
    ----------
    until : float
        Wanted relative error: the root mean square of the standard error over the scan positions, divided by the mean
        of the image. Each detector at each stored depth must reach it, and at each defocus if defoci are kept apart.
    detectors : tuple of str
        Names of the images whose errors decide.
    fewest, most : int
        Configurations of the first round, and the largest total.
    """

    until: float
    detectors: tuple[str, ...]
    fewest: int
    most: int

    @classmethod
    def of(cls, configurations: Mapping[str, Any]) -> Goal:
        """Make the goal of `configurations`, a validated map `frozen_phonon.configurations`.

        Its `detectors` must be named, although the config may leave them out.
        """
        return cls(
            float(configurations["until"]), tuple(configurations["detectors"]), int(configurations["min"]),
            int(configurations["max"]),
        )  # fmt: skip

    def next_total(self, total: int, error: float) -> int | None:
        """Decide, after a round, the total number of configurations of the next round.

        The error falls as 1/√N, so N·(error/until)² configurations are expected to be enough.

        Parameters
        ----------
        total : int
            Configurations per defocus so far.
        error : float
            The largest relative error of all images that decide; NaN or infinite if an image has no intensity.

        Returns
        -------
        int or None
            Total of the next round; None if the goal is reached or `total` is already the largest total.
        """
        if error <= self.until or total >= self.most:
            return None
        expected = total * (error / self.until) ** 2
        least, largest = total + max(2, math.ceil(SMALLEST_STEP * total)), int(GROWTH * total)
        wanted = math.ceil(expected) if math.isfinite(expected) and expected < largest else largest
        return min(max(wanted, least), max(least, largest), self.most)


def interval95(configurations: int, first_round: int | None = None, positions: int = 1) -> float:
    """Factor from the standard error to the half width of the 95 % interval of a mean.

    This is Student's t for N − 1 degrees of freedom. If a run stops because its estimated error is small enough, the
    estimate is too small on average. After such a stop the interval is wider, see `EARLY_SINGLE`.

    Parameters
    ----------
    configurations : int
        Number N of configurations in the mean, at least 2.
    first_round : int or None
        Configurations of the first round of a run with a goal; None if the number was given.
    positions : int
        Number of scan positions whose errors decided when to stop.

    Returns
    -------
    float
        Factor [1].
    """
    from scipy.special import stdtrit

    t = float(stdtrit(configurations - 1, 0.975))
    if first_round is None or configurations <= first_round:
        return t
    early = max(EARLY_SINGLE / math.sqrt(positions), EARLY_LEAST)
    return t * (1 + early * min(1.0, EARLY_UNTIL / configurations))
