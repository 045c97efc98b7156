"""Measure how fast diffraction patterns are read with chunks of different shapes, and how much memory they take.

    python docs/benchmarks/patterns.py                    # chunks: the first table of docs/performance-more.md
    python docs/benchmarks/patterns.py memory             # memory: the second table; it needs 15 GB of disk
    python docs/benchmarks/patterns.py memory SIDE PIXELS

The last two commands write one job file with SIDE² patterns of PIXELS², and merge it. They measure the peak memory of
each step in a separate process, and remove the files. Without numbers, the command measures several sizes. With
numbers, it measures one size and prints one line.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import page

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "workflow" / "scripts")]

import netCDF4  # noqa: E402
import numpy as np  # noqa: E402
from stemphony.compute import pattern_array  # noqa: E402
from stemphony.compute.recorder import cbed_geometry, patterns_shape  # noqa: E402
from stemphony.compute.wisdom import cpu_model  # noqa: E402
from stemphony.orchestration.stopwatch import Stopwatch  # noqa: E402
from stemphony.physics.fft import library_version  # noqa: E402
from stemphony.results.layout import FILTERS  # noqa: E402
from support import experiments  # noqa: E402
from support.experiments import FakeCampaign  # noqa: E402

SIDE, PIXELS, ROUNDS = 32, 64, 3
MEMORY = "python docs/benchmarks/patterns.py memory"
SIZES = ((32, 128), (64, 128), (256, 128))
"""SIDE and PIXELS of each line of the table of memory."""

CHUNKS = {
    "1 × 1, whole pattern": (1, 1, PIXELS, PIXELS),
    "4 × 4, whole pattern": (4, 4, PIXELS, PIXELS),
    "4 × 4, quarter": (4, 4, PIXELS // 2, PIXELS // 2),
    "8 × 8, sixteenth": (8, 8, PIXELS // 4, PIXELS // 4),
    "whole scan, 8 × 8 pixels": (SIDE, SIDE, 8, 8),
}
"""Positions and pixels in one chunk."""


def seconds(action: Callable[[], object]) -> float:
    """Median of the elapsed time of an action."""
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        action()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def reading(folder: Path, name: str, patterns: np.ndarray) -> list[str]:
    """A line of the table. A file with the given chunks is written once and read in three ways."""
    file, chunk = folder / "patterns.nc", CHUNKS[name]
    begin = time.perf_counter()
    with netCDF4.Dataset(file, "w") as root:
        for axis, length in zip("xyuv", patterns.shape, strict=True):
            root.createDimension(axis, length)
        made = root.createVariable("p", "f4", tuple("xyuv"), chunksizes=chunk, fill_value=False, **FILTERS)
        for row in range(0, SIDE, chunk[0]):
            made[row : row + chunk[0]] = patterns[row : row + chunk[0]]
    writing = time.perf_counter() - begin

    def read(*where: slice | int) -> None:
        # The file is opened for each reading, because the library keeps the chunks that it has read.
        with netCDF4.Dataset(file) as root:
            root.set_auto_mask(False)
            np.asarray(root["p"][where]).sum()

    whole = slice(None)
    one = seconds(lambda: read(SIDE // 2, SIDE // 2, whole, whole))
    row = seconds(lambda: read(SIDE // 2, whole, whole, whole))
    pixel = seconds(lambda: read(whole, whole, PIXELS // 2, PIXELS // 2))
    detector = seconds(
        lambda: read(whole, whole, slice(PIXELS // 2 - 4, PIXELS // 2 + 4), slice(PIXELS // 2 - 4, PIXELS // 2 + 4))
    )
    size = file.stat().st_size / patterns.nbytes
    return [
        name,
        f"{1e3 * one:.1f}",
        f"{1e3 * row:.0f}",
        f"{1e3 * pixel:.0f}",
        f"{1e3 * detector:.0f}",
        f"{writing:.1f}",
        f"{100 * size:.0f} %",
    ]


def chunks() -> None:
    """Measure reading and rewrite the page."""
    busy = page.busy_mark()
    # Random digits compress as badly as the digits of computed patterns.
    rng = np.random.default_rng(1)
    k = np.arange(PIXELS) - PIXELS // 2
    falling = np.exp(-np.hypot(k[:, None], k) / 8)
    patterns = (falling * rng.random((SIDE, SIDE, PIXELS, PIXELS))).astype(np.float32)
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        rows = [reading(Path(folder), name, patterns) for name in CHUNKS]
    head = [
        "positions and pixels of a chunk", "one pattern, ms", f"{SIDE} patterns of a row, ms", "image of one pixel, ms",
        "image of 8 × 8 pixels, ms", "writing, s", "size",
    ]  # fmt: skip
    lines = [page.circumstances(cpu_model(), library_version()) + busy, "", *page.table(head, rows)]
    page.rewrite("python docs/benchmarks/patterns.py", lines, page.MORE)


def campaign(folder: Path, side: int, pixels: int) -> FakeCampaign:
    """One job with these patterns in single precision."""
    return FakeCampaign.of(
        folder, scan={"points": [side, side]}, depths={"every_angstrom": None},
        cbed={"enabled": True, "size": [pixels, pixels]}, frozen_phonon={"enabled": False},
    )  # fmt: skip


def write(folder: Path, side: int, pixels: int) -> None:
    """Write the job file as a job does: patterns come one by one into their array."""
    made = campaign(folder, side, pixels)
    e = made.experiment
    geometry, small = cbed_geometry(e), experiments.signals(e.without_patterns, 1)
    pattern_array.IN_MEMORY_BYTES = 0  # so small arrays are also kept in a file, as large ones are
    patterns = pattern_array.pattern_array(patterns_shape(e), e.real_dtype, folder)
    rng, waiting = np.random.default_rng(2), 0
    for row in patterns:
        for at in row:
            at[0] = rng.random(at[0].shape, dtype=np.float32)
            waiting += at.nbytes
        if waiting > pattern_array.WINDOW_BYTES / 2:
            pattern_array.give_back(patterns)
            waiting = 0
    small.cbed, small.cbed_angles = patterns, (geometry.angles_x, geometry.angles_y)
    experiments.signals = lambda of, seed: small
    made.write("p0d000", 0)


def measured(side: int, pixels: int) -> list[str]:
    """A line of the table: the size, and peak memory and CPU time for writing and for merging one job file."""
    cells = [f"{side} × {side}", f"{pixels} × {pixels}", f"{side**2 * pixels**2 * 4 / 1e9:.3g}"]
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        for step in ("write", "merge"):
            call = [sys.executable, __file__, step, folder, str(side), str(pixels)]
            done = subprocess.run(call, check=True, capture_output=True, text=True)
            record = json.loads(done.stdout.splitlines()[-1])
            cells += [f"{record['peak_memory_mb']:.0f}", f"{record['cpu_seconds']:.0f}"]
    return cells


def memory(sizes: Sequence[tuple[int, int]]) -> list[str]:
    """The table of the peak memory for writing and merging patterns."""
    head = ["scan", "pattern", "patterns, GB", "writing, MB", "CPU s", "merging, MB", "CPU s"]
    return page.table(head, [measured(*size) for size in sizes])


def main(arguments: list[str]) -> None:
    """Measure what the arguments of the command name."""
    if not arguments:
        chunks()
    elif arguments == ["memory"]:
        lines = memory(SIZES)
        page.rewrite(MEMORY, [page.circumstances(cpu_model(), library_version()), "", *lines], page.MORE)
    elif arguments[0] == "memory":
        side, pixels = map(int, arguments[1:])
        print("\n".join(memory([(side, pixels)])))
    else:
        step, folder, side_text, pixels_text = arguments
        watch = Stopwatch()
        if step == "write":
            write(Path(folder), int(side_text), int(pixels_text))
        else:
            campaign(Path(folder), int(side_text), int(pixels_text)).merge()
        print(json.dumps(watch.record()))


if __name__ == "__main__":
    main(sys.argv[1:])
