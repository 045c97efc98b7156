"""Time of one wave through one slice on this machine. `stemphony check` measures it once and keeps it in the cache."""

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

TYPICAL_S = 1.5e-3
"""Time of one wave through one slice at 512² in single precision on a typical core [s]; used without a measurement."""

DOUBLE_FACTOR = 2.2
"""Ratio of the time in double precision to that in single precision. It serves estimates only: `calibrate` measures in
single precision."""


def _work(gpts: tuple[int, int]) -> float:
    """Work of one wave and slice in arbitrary units; it grows as N log N."""
    pixels = gpts[0] * gpts[1]
    return pixels * math.log2(pixels)


def seconds_per_probe_slice(gpts: tuple[int, int], precision: str) -> tuple[float, bool]:
    """Return the CPU time of one wave through one slice [s], and whether it was measured on this machine.

    Parameters
    ----------
    gpts : (int, int)
        Grid points.
    precision : str
        single | double.

    Returns
    -------
    (float, bool)
        CPU time [s], and True if it was measured on this machine, False if it is a typical time.
    """
    factor = _work(gpts) / _work((512, 512)) * (DOUBLE_FACTOR if precision == "double" else 1.0)
    measured = kept()
    return (measured or TYPICAL_S) * factor, measured is not None


def kept() -> float | None:
    """Return what `calibrate` measured on a machine with this processor [s]; None if the cache does not have it."""
    try:
        measured = float(json.loads((cache_folder() / "calibration.json").read_text(encoding="utf-8"))[cpu_model()])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return measured if 0 < measured < math.inf else None


def calibrate() -> float:
    """Measure the CPU time of one wave through one slice at 512² [s]; keep it in the cache if the disk allows."""
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
    # Detection, potentials and start-up add to the time of the loop.
    seconds = 1.15 * fastest
    file = cache_folder() / "calibration.json"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        others = found if isinstance(found, dict) else {}
        write_text_atomic(file, json.dumps({**others, cpu_model(): seconds}, indent=1))
    except Exception:  # without a cache the next check measures again
        return seconds
    return seconds
