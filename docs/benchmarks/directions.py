"""Measure what four segments and the centre of mass add to a job of 512² and 50 slices: a part of `make bench`.

The script times some waves of `stemphony bench`. Then two sets of detectors measure the same waves in turns. One set
has one ring. The other set also has four segments and the centre of mass. The script rewrites its part of
docs/performance-more.md.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import numpy as np
import page
from stemphony.commands import bench
from stemphony.compute.incident_basis import Basis
from stemphony.physics.basis import evaluate, signal_forms
from stemphony.physics.detectors import DetectorSet

COMMAND = "python docs/benchmarks/directions.py"
SIDE = 16
TIMED = 8
"""Number of waves whose propagation is timed."""
TURNS = {"multislice": 50, "probe_basis": 3}
"""How often each set of detectors measures."""


def seconds(one: Callable[[], object], other: Callable[[], object], turns: int) -> tuple[float, float]:
    """Median CPU seconds of two functions that run in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for function, seen in zip((one, other), times, strict=True):
            begin = time.thread_time()
            function()
            seen.append(time.thread_time() - begin)
    return statistics.median(times[0]), statistics.median(times[1])


def by_forms(detectors: DetectorSet, waves: np.ndarray, coefficients: np.ndarray) -> Callable[[], Any]:
    """A function that measures all probes with the matrices of the detectors, as `probe_basis` does."""
    regions, combination = detectors.regions()
    return lambda: detectors.signals(combination @ evaluate(signal_forms(waves, regions), coefficients))


def rows() -> Iterator[list[str]]:
    """A line of the table for each algorithm."""
    settings = bench.Settings.of(grid=512, scan=f"{SIDE}x{SIDE}", probes=TIMED)
    series = bench.Bench(settings)
    series.make_transmissions()
    series.pass_waves(settings.chosen)
    once_s = series.cpu_s["potential"] + series.cpu_s["transmission"]
    wave_s = (series.cpu_s["incident"] + series.cpu_s["propagation"]) / TIMED
    e = series.experiment
    both = bench.experiment_of(replace(settings, with_dpc=True), series.specimen)
    ring, directions = bench.detectors_of(e), bench.detectors_of(both)

    rng = np.random.default_rng(1)

    def noise(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(e.complex_dtype)

    spectrum = np.asfortranarray(noise(*e.grid.gpts))
    without, with_them = seconds(
        lambda: ring.measure(spectrum), lambda: directions.measure(spectrum), TURNS["multislice"]
    )
    yield line("multislice", SIDE**2, once_s + SIDE**2 * wave_s, SIDE**2 * without, SIDE**2 * with_them)
    rank = Basis.of(e, settings.defoci_nm).rank
    waves, coefficients = noise(rank, ring.pixels.size), noise(rank, SIDE**2)
    measures = (by_forms(detectors, waves, coefficients) for detectors in (ring, directions))
    yield line("probe_basis", rank, once_s + rank * wave_s, *seconds(*measures, TURNS["probe_basis"]))


def line(algorithm: str, waves: int, before_s: float, without: float, with_them: float) -> list[str]:
    """A line of the table, from the CPU seconds before the detection and the CPU seconds of both detections."""
    job_s, more_s = before_s + without, with_them - without
    return [algorithm, str(waves), f"{job_s:.2f}", f"{without:.3f}", f"{more_s:.3f}", f"**{more_s / job_s:.1%}**"]


def main() -> None:
    """Measure and rewrite the part of the page."""
    head = [
        "algorithm", "waves", "job / CPU s", "of this, detection in one ring", "segments and centre of mass", "share",
    ]  # fmt: skip
    made = list(rows())
    lines = [
        page.circumstances(bench.cpu_model(), bench.library_version()),
        "",
        f"The table shows what four segments and the centre of mass add to a job of {SIDE**2} positions at 512², 50 "
        f"slices, one thread, in CPU seconds. The time of the job is calculated from the time of {TIMED} waves.",
        "",
        *page.table(head, made),
    ]
    page.rewrite(COMMAND, lines, page.MORE)


if __name__ == "__main__":
    main()
