"""Compare the speed with abTEM in one run, in which both programs take turns: `make bench-peers`.

Both programs pass the same waves through the same projected potentials onto one annular detector, on one thread, in
single precision. A turn takes a second or two, so that other programs on the machine slow both. The script first finds
the best of some settings of abTEM for each grid. The plans of both programs are made before the clock starts.

The time of both programs includes transmission functions with their band limit, incident waves, propagation and
detection. It does not include the potential, planning, start and imports. abTEM makes its transmission functions again
for every batch. Stemphony makes them once, and their whole time is added to the time of Stemphony.

The script rewrites its parts of docs/performance.md and docs/performance-more.md, and the figures of the README that
come from the first page.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is imported

import numpy as np
import page
import readme
from stemphony.commands import bench

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-abtem" / "bin" / "python"

TRIED = {
    512: [("FFTW_MEASURE", 8), ("FFTW_PATIENT", 8), ("FFTW_PATIENT", 4), ("FFTW_PATIENT", 16)],
    1024: [("FFTW_MEASURE", 4), ("FFTW_PATIENT", 4), ("FFTW_MEASURE", 8), ("FFTW_PATIENT", 8)],
}
"""Planning efforts and batches of abTEM. FFTW uses a plan that a greater effort found before, so the smaller effort
comes first."""
TURN = {512: 16, 1024: 8}
"""Waves per turn for each grid: one batch or more."""
PROBES = 64
DEFOCI, SIDE = 7, 16

Wave = tuple[int, int, int]
Setting = tuple[str, int]


@dataclass
class Score:
    """Work and CPU seconds of both programs in the same turns, and their signals."""

    slices: int
    waves: int = 0
    ours_s: float = 0.0
    theirs_s: float = 0.0
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def per_cpu_s(self, seconds: float) -> float:
        """Probe·slices per CPU second."""
        return self.waves * self.slices / seconds

    @property
    def ratio(self) -> float:
        """CPU time of abTEM divided by the CPU time of Stemphony."""
        return self.theirs_s / self.ours_s

    @property
    def deviation(self) -> float:
        """Largest difference of the signals divided by the largest signal."""
        return float(np.abs(np.subtract(self.ours, self.theirs)).max() / np.abs(self.theirs).max())


class Abtem:
    """abTEM in a separate process."""

    def __init__(self) -> None:
        if not PYTHON.exists():
            raise SystemExit(f"{PYTHON} is not there. Use `make bench-peers`, which installs abTEM.")
        self.process = subprocess.Popen(
            [str(PYTHON), str(Path(__file__).with_name("abtem_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "NUMBA_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        )
        self.about = self._answer()

    def load(self, series: bench.Bench, file: Path) -> None:
        """Give abTEM the potentials and the optics of a series."""
        e = series.experiment
        np.save(file, np.stack(list(series.potentials())).astype(np.float32))
        self._ask(
            load=str(file), extent=list(e.grid.extent), slice_thickness=e.slice_thickness, energy=e.energy,
            semiangle_mrad=1e3 * e.semiangle, detector_mrad=[1e3 * angle for angle in e.rings["annular"]],
        )  # fmt: skip
        file.unlink()

    def waves(self, series: bench.Bench, waves: Sequence[Wave], setting: Setting) -> tuple[float, list[float]]:
        """CPU seconds and signals of waves of one defocus."""
        effort, batch = setting
        (defocus,) = {wave[0] for wave in waves}
        e = series.experiment
        answer = self._ask(
            defocus=10.0 * series.settings.defoci_nm[defocus], batch=batch, effort=effort,
            positions=[[e.scan_x[x], e.scan_y[y]] for _, x, y in waves],
        )  # fmt: skip
        return answer["cpu_s"], answer["signals"]

    def close(self) -> None:
        """End it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()

    def _ask(self, **request: Any) -> dict[str, Any]:
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline() if self.process.stdout is not None else ""
        if not line:
            raise SystemExit(f"abTEM ended with status {self.process.wait()}; its own message stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def take_turns(series: bench.Bench, abtem: Abtem, waves: Sequence[Wave], setting: Setting, turn: int) -> Score:
    """Pass the same waves through both programs. A turn has one defocus. The programs take turns in beginning."""
    score = Score(series.settings.slices)
    for number, chosen in enumerate(_turns(waves, turn)):
        for side in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
            if side == "theirs":
                seconds, signals = abtem.waves(series, chosen, setting)
                score.theirs_s += seconds
                score.theirs += signals
            else:
                score.ours_s += _ours(series, chosen)
                score.ours += [float(series.images[wave]) for wave in chosen]
        score.waves += len(chosen)
    return score


def _turns(waves: Sequence[Wave], turn: int) -> Iterator[list[Wave]]:
    for defocus in sorted({wave[0] for wave in waves}):
        same = [wave for wave in waves if wave[0] == defocus]
        yield from (same[begin : begin + turn] for begin in range(0, len(same), turn))


def _ours(series: bench.Bench, waves: Sequence[Wave]) -> float:
    """CPU seconds of this process, as for abTEM. The whole transforms that are timed in between do not count."""
    before = len(series.fft_s)
    begin = time.process_time()
    series.pass_waves(waves)
    return time.process_time() - begin - sum(series.fft_s[before:])


def best_setting(series: bench.Bench, abtem: Abtem, grid: int) -> tuple[Setting, list[list[str]]]:
    """Return the best of the settings in `TRIED`, and a line of the table for each setting."""
    waves = series.settings.chosen[: 2 * TURN[grid]]
    seen = {}
    for effort, batch in TRIED[grid]:
        planning, _ = abtem.waves(series, waves[:batch], (effort, batch))
        score = take_turns(series, abtem, waves, (effort, batch), TURN[grid])
        seen[effort, batch] = score
        say(
            f"{grid}²: abTEM {effort} batch {batch}: {score.per_cpu_s(score.theirs_s):.0f} (plans {planning:.0f} CPU s)"
        )
    best = min(seen, key=lambda setting: seen[setting].theirs_s)
    return best, [
        [f"{grid}²", effort, str(batch), f"{score.per_cpu_s(score.theirs_s):.0f}", f"{score.ratio:.2f}"]
        for (effort, batch), score in seen.items()
    ]


def prepared(settings: bench.Settings) -> tuple[bench.Bench, float]:
    """A series of Stemphony with its transmission functions, and their CPU seconds."""
    series = bench.Bench(settings)
    series.make_transmissions()
    return series, series.cpu_s["transmission"]


def say(text: str) -> None:
    """Print a line of progress to standard error."""
    print(text, file=sys.stderr, flush=True)


def exact(abtem: Abtem, grid: int, folder: Path) -> tuple[Setting, list[list[str]], list[str]]:
    """Compare the exact loops of both programs on one grid.

    Return abTEM's best setting, a line for each setting that was tried, and the line of the result.
    """
    series, once = prepared(bench.Settings.of(grid=grid, probes=PROBES))
    abtem.load(series, folder / "potential.npy")
    setting, tried = best_setting(series, abtem, grid)
    score = take_turns(series, abtem, series.settings.chosen, setting, TURN[grid])
    score.ours_s += once
    fft_ms = 1e3 * float(np.median(series.fft_s))
    rates = [score.per_cpu_s(score.theirs_s), score.per_cpu_s(score.ours_s)]
    say(f"{grid}²: {rates[0]:.0f} and {rates[1]:.0f} probe·slices per CPU second: {score.ratio:.2f}")
    row = [
        f"{grid}²",
        f"{setting[0]}, batch {setting[1]}",
        *(f"{rate:.0f} ({1e3 / (rate * fft_ms):.2f})" for rate in rates),
        f"**{score.ratio:.2f}**",
        f"{score.deviation:.0e}",
    ]
    return setting, tried, row


def defocus_series(abtem: Abtem, setting: Setting, folder: Path) -> Iterator[str]:
    """The series of seven defoci. abTEM computes samples of two sizes, which show that its cost is linear."""
    settings = bench.Settings.of(grid=512, defoci=DEFOCI, scan=f"{SIDE}x{SIDE}")
    series, once = prepared(settings)
    abtem.load(series, folder / "potential.npy")
    samples = []
    for every in (16, 8):
        # The positions lie along diagonals of the scan, so that all rows count equally. Each defocus has whole batches.
        chosen = [(defocus, x, y) for defocus, x, y in settings.chosen if (SIDE * x + y - x) % every == 0]
        samples.append(take_turns(series, abtem, chosen, setting, TURN[512]))
        say(f"series: {samples[-1].waves} waves, {samples[-1].theirs_s:.1f} and {samples[-1].ours_s:.1f} CPU s")
    small, large = samples
    whole = settings.waves / large.waves
    theirs, ours = large.theirs_s * whole, large.ours_s * whole + once
    yield (
        f"Seven defoci from −6 to 6 nm, 16 × 16 positions: {settings.waves} waves at 512², {settings.slices} slices. "
        f"Both programs computed {large.waves} of these waves, evenly spread. The table shows {whole:g} times their "
        "CPU seconds, because the cost is proportional to the waves: abTEM needs "
        f"{1e3 * small.theirs_s / small.waves:.0f} ms per wave for {small.waves} waves and "
        f"{1e3 * large.theirs_s / large.waves:.0f} ms for {large.waves}."
    )
    yield ""
    rows = [
        ["abTEM, " + f"{setting[0]}, batch {setting[1]}", f"{theirs:.0f}", "1", f"{large.deviation:.0e}"],
        ["Stemphony, multislice", f"{ours:.1f}", f"{theirs / ours:.2f}", ""],
    ]
    whole_series = bench.measure(replace(settings, algorithm="probe_basis"))
    record = whole_series.record()
    basis_s = settings.waves * settings.slices / record["probe_slices_per_cpu_s"]
    apart = np.nanmax(np.abs(whole_series.images - series.images)) / np.nanmax(series.images)
    name = f"Stemphony, probe_basis, {record['basis_rank']} waves"
    rows.append([name, f"{basis_s:.1f}", f"**{theirs / basis_s:.1f}**", f"{apart:.0e}"])
    yield from page.table(["program", "CPU s", "ratio", "differs from multislice by"], rows)


def main() -> None:
    """Run all comparisons and rewrite the pages."""
    abtem = Abtem()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = {grid: exact(abtem, grid, folder) for grid in TRIED}
        series = list(defocus_series(abtem, results[512][0], folder))
    abtem.close()
    head = page.circumstances(bench.cpu_model(), bench.library_version())
    made = [f"{head} abTEM {abtem.about['version']}.", ""]
    main_table = page.table(
        ["grid", "abTEM's best setting", "abTEM", "Stemphony", "ratio", "signals differ by"],
        [row for _, _, row in results.values()],
    )
    explained = (
        "A probe·slice is one wave through one slice. The columns *abTEM* and *Stemphony* give the probe·slices for "
        "each CPU second and, in parentheses, the cost of one probe·slice in FFTs."
    )
    page.rewrite(readme.COMMAND, [*made, *main_table, "", explained, "", *series])
    settings = page.table(
        ["grid", "planning", "batch", "probe·slices / CPU s", "ratio"],
        [row for _, tried, _ in results.values() for row in tried],
    )
    start = (
        f"To start and import, abTEM needs {abtem.about['startup_cpu_s']:.1f} CPU s. All comparisons leave this time "
        "out."
    )
    page.rewrite(readme.COMMAND, [*made, *settings, "", start], page.MORE)
    readme.main()


if __name__ == "__main__":
    main()
