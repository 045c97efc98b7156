"""Measure what a job costs: `make bench`. The script runs `stemphony bench` for two grids, for threads and for jobs.

The settings take turns several times, so that other programs on the machine slow all of them. The table shows medians.
The script rewrites its parts of docs/performance.md and docs/performance-more.md.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import page

ROUNDS = 3
PROBES = {512: 64, 1024: 64}
TYPICAL = 256
"""Number of positions of a typical job: 16 × 16 in a unit cell."""
STAGES = ("potential", "transmission", "incident", "propagation", "detection", "io")
CORES = len(os.sched_getaffinity(0))

Record = dict[str, Any]


def started(*arguments: object) -> subprocess.Popen[str]:
    """A running `stemphony bench --json`."""
    return _python("-m", "stemphony", "bench", "--json", *map(str, arguments))


def _python(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> Record:
    """Wait for the process. Return the record that it printed."""
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)  # the process has printed the reason
    record: Record = json.loads(out)
    return record


def side_by_side(number: int, *arguments: object) -> list[Record]:
    """Records of `number` processes that run at the same time."""
    return [finished(process) for process in [started(*arguments) for _ in range(number)]]


def what_the_cores_give() -> float:
    """Speed-up of processes side by side over one process. Their data stay in the caches."""
    script = str(Path(__file__).with_name("in_cache.py"))

    def transforms_per_s(processes: int) -> float:
        running = [_python(script) for _ in range(processes)]
        return sum(finished(process)["transforms_per_s"] for process in running)

    return statistics.median(transforms_per_s(CORES) / transforms_per_s(1) for _ in range(2 * ROUNDS + 1))


def median(records: list[Record], key: str) -> float:
    """Median of one result over the rounds."""
    return statistics.median(record[key] for record in records)


def measured(grid: int) -> dict[str, list[Record]]:
    """Records of all rounds, for each setting."""
    finished(started("--grid", grid, "--slices", 1, "--probes", 1))  # makes the plans, so later runs only load them
    work = ("--grid", grid, "--probes", PROBES[grid])
    seen: dict[str, list[Record]] = {"one": [], "threads": [], "jobs": []}
    for _ in range(ROUNDS):
        seen["one"].append(finished(started(*work, "--threads", 1)))
        if CORES > 1:
            seen["threads"].append(finished(started(*work, "--threads", CORES)))
            seen["jobs"].append(_together(side_by_side(CORES, *work, "--threads", 1)))
    return seen


def _together(jobs: list[Record]) -> Record:
    """One record for jobs that ran at the same time."""
    mean = {key: statistics.mean(job[key] for job in jobs) for key in ("cost_in_ffts", "fft_cpu_ms")}
    return {
        **mean,
        "probe_slices_per_cpu_s": statistics.harmonic_mean(job["probe_slices_per_cpu_s"] for job in jobs),
        "probe_slices_per_s": sum(job["probe_slices_per_s"] for job in jobs),
        "peak_rss_mb": sum(job["peak_rss_mb"] for job in jobs),
    }


def rows(grid: int, seen: dict[str, list[Record]]) -> Iterator[list[str]]:
    """Lines of the table of throughput."""
    names = {"one": "1 thread", "threads": f"{CORES} threads", "jobs": f"{CORES} jobs at once, 1 thread each"}
    single = median(seen["one"], "probe_slices_per_s")
    for setting, records in seen.items():
        if records:
            yield [
                f"{grid}² · {names[setting]}",
                f"**{median(records, 'cost_in_ffts'):.2f}**",
                f"{median(records, 'fft_cpu_ms'):.3f}",
                f"{median(records, 'probe_slices_per_cpu_s'):.0f}",
                f"{median(records, 'probe_slices_per_s'):.0f}",
                f"{median(records, 'probe_slices_per_s') / single:.2f}",
                f"{median(records, 'peak_rss_mb'):.0f}",
            ]


def whole_job(record: Record) -> str:
    """A sentence with the time of a typical job."""
    total = sum(record[f"{stage}_cpu_s"] for stage in STAGES)
    return (
        f"A job of {TYPICAL} positions at 512², 50 slices, takes {total:.2f} CPU s on one thread. Propagation takes "
        f"{record['propagation_cpu_s'] / total:.1%} of this time."
    )


def stages(record: Record) -> Iterator[str]:
    """Lines with the shares of the stages in a typical job, and with the costs that occur once per process."""
    total = sum(record[f"{stage}_cpu_s"] for stage in STAGES)
    yield f"A job of {TYPICAL} positions at 512², 50 slices, one thread:"
    yield ""
    yield from page.table(
        ["stage", "CPU s", "share"],
        [[stage, f"{record[f'{stage}_cpu_s']:.3f}", f"{record[f'{stage}_cpu_s'] / total:.1%}"] for stage in STAGES]
        + [["sum", f"{total:.2f}", ""]],
    )
    yield ""
    yield (
        f"Once per process: {record['startup_cpu_s']:.2f} CPU s of start and imports, {record['planning_cpu_s']:.2f} "
        f"CPU s for plans from the cache."
    )


def main() -> None:
    """Measure everything and rewrite both pages."""
    busy = page.busy_mark()
    seen = {grid: measured(grid) for grid in PROBES}
    job = finished(started("--grid", 512, "--probes", TYPICAL))
    made = page.circumstances(job["cpu_model"], job["fftw"])
    lines = [made + busy, ""]
    lines += page.table(
        ["grid", "cost in FFTs", "FFT / CPU ms", "probe·slices / CPU s", "probe·slices / s", "speed-up", "peak MB"],
        [row for grid, records in seen.items() for row in rows(grid, records)],
    )
    lines += [
        "",
        f"{CORES} processes side by side compute {what_the_cores_give():.2f} times as many transforms as one process, "
        "on a grid of 64², which stays in the cache. The cores of this machine allow no larger speed-up.",
    ]
    page.rewrite("make bench", [*lines, "", whole_job(job)])
    page.rewrite("make bench", [made, "", *stages(job)], page.MORE)


if __name__ == "__main__":
    main()
