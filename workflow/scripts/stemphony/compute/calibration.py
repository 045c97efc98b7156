"""How long one wave takes through one slice on this machine: measured once by `stemphony check`, kept in the cache."""

from __future__ import annotations

import json
import math
import time

import numpy as np

from stemphony.compute.wisdom import cache_folder, cpu_model
from stemphony.physics.multislice import propagate
from stemphony.physics.strips.one_array import plan_of_strips
from stemphony.physics.strips.plan import padded_zeros
from stemphony.store.atomic import write_text_atomic

# Of a typical core: 1.5 ms at 512², in single precision; the work grows as N log N.
TYPICAL_S = 1.5e-3
DOUBLE_FACTOR = 2.2


def _work(gpts: tuple[int, int]) -> float:
    pixels = gpts[0] * gpts[1]
    return pixels * math.log2(pixels)


def seconds_per_probe_slice(gpts: tuple[int, int], precision: str) -> tuple[float, bool]:
    """CPU seconds of one wave through one slice, and whether that was measured on this machine."""
    factor = _work(gpts) / _work((512, 512)) * (DOUBLE_FACTOR if precision == "double" else 1.0)
    try:
        kept = json.loads((cache_folder() / "calibration.json").read_text(encoding="utf-8"))
        measured = float(kept[cpu_model()])
    except (OSError, ValueError, KeyError, TypeError):
        measured = math.nan
    if 0 < measured < math.inf:
        return measured * factor, True
    return TYPICAL_S * factor, False


def calibrate() -> float:
    """Measure a few slices at 512², keep the result [s] in the cache if it can be written, and return it."""
    shape = (512, 512)
    plan = plan_of_strips(shape, columns=171, dtype=np.complex64, flag="FFTW_MEASURE")
    rng = np.random.default_rng(0)
    values = padded_zeros(shape, np.complex64)
    values[...] = np.exp(1j * rng.random(shape))
    transmission = plan.transmission(values)
    spectrum = np.zeros(shape, np.complex64)
    spectrum[:20, :20] = 0.05
    band = np.zeros(shape, np.complex64)
    band[:, :171] = 1
    propagator = plan.factor(band)
    slices = 20
    fastest = math.inf
    for _ in range(4):
        begin = time.process_time()
        for _passed, _spectrum in propagate(plan, spectrum, [transmission] * slices, propagator, (slices,)):
            pass
        fastest = min(fastest, (time.process_time() - begin) / slices)
    # Detection, potentials and start-up come on top of the loop.
    seconds = 1.15 * fastest
    file = cache_folder() / "calibration.json"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            kept = {}
        others = kept if isinstance(kept, dict) else {}
        write_text_atomic(file, json.dumps({**others, cpu_model(): seconds}, indent=1))
    except Exception:  # the cache is a convenience
        return seconds
    return seconds
