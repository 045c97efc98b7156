from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from stemphony.physics.fft import Plan2D


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., Plan2D]:
    """Plans by shape and precision, made once for all tests."""

    @cache
    def plan(shape: tuple[int, int], dtype: type = np.complex128) -> Plan2D:
        # Planning a large transform well costs less than running an unplanned one a hundred times.
        return Plan2D(shape, dtype, "FFTW_MEASURE" if shape[0] * shape[1] > 400**2 else "FFTW_ESTIMATE")

    return plan
