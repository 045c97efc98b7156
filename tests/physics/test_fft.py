"""Transforms have the sign, the norm and the accuracy of the contract, and plans are reproducible."""

from __future__ import annotations

import pickle
import subprocess
import sys
from threading import Thread

import numpy as np
import pytest
from stemphony.physics import fft
from stemphony.physics.fft import Plan2D

RNG = np.random.default_rng(0)


def random_wave(shape, dtype=np.complex128):
    return (RNG.normal(size=shape) + 1j * RNG.normal(size=shape)).astype(dtype)


@pytest.mark.parametrize(("dtype", "accuracy"), [(np.complex128, 1e-15), (np.complex64, 1e-6)])
def test_transforms_have_the_sign_and_norm_of_the_contract(dtype, accuracy):
    plan = Plan2D((12, 35), dtype, "FFTW_ESTIMATE")
    wave = random_wave((12, 35), dtype)
    plan.buffer[:] = wave
    plan.forward()
    # relative to the sum of 420 terms of order 1, in the precision of the plan
    np.testing.assert_allclose(plan.buffer, np.fft.fft2(wave), atol=420 * accuracy)
    plan.inverse()
    np.testing.assert_allclose(plan.buffer, plan.size * wave, atol=420 * 10 * accuracy)
    assert plan.size == 12 * 35
    assert plan.buffer.dtype == dtype


def test_buffers_start_empty_and_equally_aligned():
    plans = [Plan2D((9, 11), np.complex64, "FFTW_ESTIMATE") for _ in range(4)]
    assert [number for number, plan in enumerate(plans) if plan.buffer.any()] == [], "these buffers are not empty"
    assert {plan.buffer.ctypes.data % 64 for plan in plans} == {0}
    assert len({plan.buffer.ctypes.data for plan in plans}) == 4


_FRESH_PROCESS = """
import pickle, sys, numpy as np
from stemphony.physics import fft

arguments = (70, 63), np.complex64, "FFTW_PATIENT"
wisdom = pickle.load(sys.stdin.buffer)


def is_known():
    try:
        fft.Plan2D(*arguments[:2], "FFTW_WISDOM_ONLY")
    except RuntimeError:
        return False
    return True


missing = not is_known()
accepted = fft.add_wisdom(wisdom) if wisdom else True
known = is_known()
plan = fft.Plan2D(*arguments)
plan.buffer[:] = np.exp(1j * np.arange(70 * 63).reshape(70, 63) ** 1.5)
plan.forward()
result = plan.buffer.tobytes()
plan.inverse()
result += plan.buffer.tobytes()
pickle.dump((missing, accepted, known, is_known(), result, fft.wisdom()), sys.stdout.buffer)
"""


def in_fresh_process(wisdom):
    answer = subprocess.run(
        [sys.executable, "-c", _FRESH_PROCESS],
        input=pickle.dumps(wisdom),
        capture_output=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    return pickle.loads(answer.stdout)


@pytest.mark.slow
def test_plans_from_the_same_wisdom_give_the_same_bits():
    missing, _, known, now_known, planned, wisdom = in_fresh_process(None)
    assert (missing, known, now_known) == (True, False, True)
    for _ in range(2):
        missing, accepted, known, _, result, _ = in_fresh_process(wisdom)
        assert (missing, accepted, known) == (True, True, True)
        assert result == planned


def test_damaged_wisdom_is_not_accepted():
    assert not fft.add_wisdom((b"rubbish", b"rubbish", b""))


def test_plans_of_two_threads_do_not_disturb_each_other():
    shape = (60, 64)
    waves = [random_wave(shape) for _ in range(2)]
    results = [[], []]

    def run(i):
        plan = Plan2D(shape, np.complex128, "FFTW_ESTIMATE")
        for _ in range(50):
            plan.buffer[:] = waves[i]
            plan.forward()
            results[i].append(plan.buffer.copy())

    threads = [Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for wave, result in zip(waves, results, strict=True):
        assert len(result) == 50
        # rounding of 3840 terms
        np.testing.assert_allclose(result[0], np.fft.fft2(wave), atol=1e-11)
        assert [number for number, other in enumerate(result) if (other != result[0]).any()] == []


def test_version_names_the_library_that_wisdom_belongs_to():
    assert fft.library_version().startswith("FFTW 3.")


def test_other_flags_and_precisions_are_refused():
    with pytest.raises(ValueError, match="FFTW flag"):
        Plan2D((8, 8), np.complex64, "FFTW_FAST")
    with pytest.raises(ValueError, match="complex64 or complex128"):
        Plan2D((8, 8), np.float32, "FFTW_ESTIMATE")
