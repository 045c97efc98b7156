"""The time of one wave through one slice: measured on this machine and kept, or a typical value."""

from __future__ import annotations

import json
import math

import pytest
from stemphony.compute import calibration
from stemphony.compute.calibration import calibrate, seconds_per_probe_slice
from stemphony.compute.wisdom import cpu_model


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STEMPHONY_CACHE_DIR", str(tmp_path))
    return tmp_path / "calibration.json"


@pytest.fixture
def quick(monkeypatch):
    """Calibration on a grid of 16 points, which is fast and measures nothing useful."""
    plan = calibration.plan_of_strips
    monkeypatch.setattr(
        calibration, "plan_of_strips", lambda shape, columns, dtype, flag: plan(shape, columns, dtype, "FFTW_ESTIMATE")
    )


def test_without_a_measurement_a_typical_machine_is_assumed(cache):
    seconds, measured = seconds_per_probe_slice((512, 512), "single")
    assert not measured
    assert 0.5e-3 < seconds < 10e-3


def test_work_grows_as_n_log_n_and_with_precision(cache):
    small = seconds_per_probe_slice((256, 256), "single")[0]
    large = seconds_per_probe_slice((512, 512), "single")[0]
    assert large / small == pytest.approx(4 * math.log(512) / math.log(256))
    assert 1.5 < seconds_per_probe_slice((512, 512), "double")[0] / large < 3


def test_a_measurement_is_kept_for_this_cpu(cache, quick):
    seconds = calibrate()
    assert 1e-4 < seconds < 0.1
    assert seconds_per_probe_slice((512, 512), "single") == (pytest.approx(seconds), True)
    content = json.loads(cache.read_text())
    assert list(content) == [cpu_model()]
    cache.write_text(json.dumps({"another": 1.0}))
    assert seconds_per_probe_slice((512, 512), "single")[1] is False
    calibrate()
    assert set(json.loads(cache.read_text())) == {"another", cpu_model()}


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"a": 1}', '"text"'])
def test_a_damaged_cache_is_ignored_and_then_replaced(cache, quick, content):
    cache.write_text(content)
    assert seconds_per_probe_slice((512, 512), "single")[1] is False
    calibrate()
    assert seconds_per_probe_slice((512, 512), "single")[1] is True


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), "x", None])
def test_an_impossible_measurement_is_ignored(cache, value):
    cache.write_text(json.dumps({cpu_model(): value}))
    seconds, measured = seconds_per_probe_slice((512, 512), "single")
    assert not measured
    assert seconds > 0


def test_a_cache_that_cannot_be_written_does_not_stop_the_check(cache, quick, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STEMPHONY_CACHE_DIR", str(tmp_path / "file"))
    assert calibrate() > 0
