from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from stemphony.physics.strips.one_array import plan_of_strips
from stemphony.physics.strips.plan import StripPlan


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., StripPlan]:
    """Plans by shape and precision, made once for all tests."""

    @cache
    def plan(shape: tuple[int, int], dtype: type = np.complex128) -> StripPlan:
        # A patient plan of a large transform costs less than a hundred slow transforms.
        flag = "FFTW_MEASURE" if shape[0] * shape[1] > 400**2 else "FFTW_ESTIMATE"
        return plan_of_strips(shape, shape[1] // 3 + 1, dtype, flag)

    return plan
