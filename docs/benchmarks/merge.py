"""Compare the merge of job files with only reading them: `python docs/benchmarks/merge.py`, for docs/performance.md.

The job files have made-up signals. Some are small, and some are large because of diffraction patterns. Reading and
merging take turns. Before each turn, the files are dropped from the memory, so that both read from the disk.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import page

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "workflow" / "scripts")]

from stemphony.compute.wisdom import cpu_model  # noqa: E402
from stemphony.physics.fft import library_version  # noqa: E402
from support.experiments import FakeCampaign  # noqa: E402

ROUNDS = 3
SETTINGS: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "small": {
        "scan": {"points": [16, 16]},
        "probe": {"defoci_nm": [float(value) for value in range(10)]},
        "frozen_phonon": {"configurations": 100},
    },
    "with CBED": {
        "scan": {"points": [32, 32]},
        "probe": {"defoci_nm": [0.0, 1.0, 2.0, 3.0]},
        "frozen_phonon": {"configurations": 10},
        "cbed": {"enabled": True, "max_mrad": 60.0},
    },
}


def dropped(files: Sequence[Path]) -> None:
    """Write files to the disk and drop them from the memory."""
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(files: Sequence[Path]) -> None:
    """Read every byte, one file after the other."""
    for file in files:
        with file.open("rb", buffering=0) as stream:
            while stream.read(1 << 20):
                pass


def seconds(action: Callable[[], object]) -> float:
    """Elapsed time."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def measured(name: str, folder: Path) -> list[str]:
    """A line of the table."""
    made = FakeCampaign.of(folder, **SETTINGS[name])
    files = made.write_all()
    mb = sum(file.stat().st_size for file in files) / 1e6
    actions: list[Callable[[], object]] = [lambda: read(files), made.merge, lambda: made.merge(processes=2)]
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(ROUNDS):
        for what, action in zip(times, actions, strict=True):
            dropped(files)
            what.append(seconds(action))
    reading, merging, side_by_side = map(statistics.median, times)
    return [
        name,
        str(len(files)),
        f"{mb / len(files):.2f}",
        f"{mb / reading:.0f}",
        f"{mb / merging:.0f}",
        f"{mb / side_by_side:.0f}",
        f"{1e3 * (merging - reading) / len(files):.1f}",
    ]


def main() -> None:
    """Measure and rewrite the page."""
    busy, rows = page.busy_mark(), []
    for name in SETTINGS:
        # The folder is on the disk of the repository, because the folder of temporary files may be in memory.
        with tempfile.TemporaryDirectory(dir=ROOT) as folder:
            rows.append(measured(name, Path(folder)))
    lines = [page.circumstances(cpu_model(), library_version()) + busy, ""]
    heads = [
        "job files", "number", "MB each", "reading, MB/s", "merge, MB/s", "merge in two processes, MB/s",
        "merge minus reading, ms per file",
    ]  # fmt: skip
    lines += page.table(heads, rows)
    page.rewrite("python docs/benchmarks/merge.py", lines)


if __name__ == "__main__":
    main()
