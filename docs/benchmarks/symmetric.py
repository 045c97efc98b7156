"""Compare the speed with abTEM for the image of one unit cell by symmetry and a basis: a part of `make bench-peers`.

The specimen is SrTiO3 [001] at rest. The scan has 16 × 16 positions and 7 defoci that share their configuration.
Stemphony computes one of several equal positions (`scan.symmetry: auto`) with a basis of their probes (`probe_basis`).
abTEM has no such symmetry and computes every position. The atoms are at rest, because only then equal positions have
equal signals in each configuration. Thermal displacements do not change the cost of either program.

The time of Stemphony includes the search for the symmetry, transmission functions, the search for the basis,
propagation, detection and the copies. The time of abTEM includes everything but the potential, planning and start, as
in peers.py. abTEM computes a sample of the waves, because its cost is proportional to their number. The images of
Stemphony are compared with a larger sample of waves that are computed one by one (`multislice`, `symmetry: off`).

The script rewrites its part of docs/performance.md.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import page
import peers
from stemphony.commands import bench

COMMAND = "python docs/benchmarks/symmetric.py"
GRID = 512
SETTING = ("FFTW_PATIENT", 8)
"""Planning effort and batch of abTEM: the best of those that peers.py tries on this grid."""
TIMED, CHECKED = 32, 8
"""The first number: abTEM computes one of this many positions of each defocus. The second number: one of this many
positions is compared with `multislice` of Stemphony."""
ROUNDS = 2
TOLERANCES = (1e-4, 1e-3)
"""Values of `simulation.basis_tolerance`: the default, and a larger one."""
WANTED_RMS = 1e-4
"""Largest RMS difference from the unreduced images, relative to their mean."""


@dataclass
class Reduced:
    """Cost and images of a series that was computed by symmetry and a basis."""

    rank: int
    positions: int
    cpu_s: float
    images: np.ndarray


def reduced(settings: bench.Settings) -> Reduced:
    """Compute a series. `cpu_s` does not include the potential and the transforms that are timed in between."""
    series, once = peers.prepared(settings)
    begin = time.process_time()
    series.superpose()
    assert series.orbits is not None
    images = series.images[:, series.orbits.orbit, 0].reshape(settings.defoci, *settings.scan)
    cpu_s = time.process_time() - begin - sum(series.fft_s) + once + series.symmetry_cpu_s
    assert series.basis_rank is not None
    return Reduced(series.basis_rank, series.experiment.positions, cpu_s, images)


def sample(settings: bench.Settings, every: int) -> list[peers.Wave]:
    """Waves at positions along diagonals of the scan, so that all rows count equally. A defocus has whole batches."""
    side = settings.scan[0]
    return [(defocus, x, y) for defocus, x, y in settings.chosen if (side * x + y - x) % every == 0]


def differences(images: np.ndarray, unreduced: np.ndarray) -> tuple[float, float]:
    """Difference of images at positions where both are known.

    Return the RMS divided by the mean, and the largest difference divided by the largest signal.
    """
    known = np.isfinite(unreduced)
    apart, whole = (images - unreduced)[known], unreduced[known]
    return float(np.sqrt((apart**2).mean()) / whole.mean()), float(np.abs(apart).max() / whole.max())


def unreduced(abtem: peers.Abtem, whole: bench.Settings, folder: Path) -> tuple[bench.Bench, float, peers.Score]:
    """Compute a sample of waves one by one, in turns with abTEM. Also return the cost of the transmission functions."""
    series, once = peers.prepared(whole)
    abtem.load(series, folder / "potential.npy")
    timed = sample(whole, TIMED)
    abtem.waves(series, timed[: SETTING[1]], SETTING)  # abTEM makes its plans here
    score = peers.take_turns(series, abtem, timed, SETTING, peers.TURN[GRID])
    peers.say(f"{score.waves} waves: abTEM {score.theirs_s:.1f} CPU s, multislice {score.ours_s:.1f} CPU s")
    series.pass_waves(sorted(set(sample(whole, CHECKED)) - set(timed)))
    return series, once, score


def lines(abtem: peers.Abtem, folder: Path) -> Iterator[str]:
    """The lines of the text and of the table."""
    whole = replace(bench.Settings.of(grid=GRID, defoci=peers.DEFOCI, scan=f"{peers.SIDE}x{peers.SIDE}"), at_rest=True)
    series, once, score = unreduced(abtem, whole, folder)
    share = whole.waves / score.waves
    theirs_s, ours_s = score.theirs_s * share, score.ours_s * share + once
    rows = [
        [
            f"abTEM, {SETTING[0]}, batch {SETTING[1]}",
            str(whole.waves),
            f"{theirs_s:.0f}",
            "1",
            "",
            f"{score.deviation:.0e}",
        ],
        ["Stemphony, multislice", str(whole.waves), f"{ours_s:.1f}", f"{theirs_s / ours_s:.2f}", "–", "–"],
    ]
    positions = 0
    for tolerance in TOLERANCES:
        small = replace(whole, algorithm="probe_basis", symmetry=True, basis_tolerance=tolerance)
        runs = [reduced(small) for _ in range(ROUNDS)]
        cpu_s, positions = float(np.median([run.cpu_s for run in runs])), runs[0].positions
        rms, largest = differences(runs[0].images, series.images)
        peers.say(f"tolerance {tolerance:g}: {runs[0].rank} waves, {cpu_s:.2f} CPU s, {rms:.1e} RMS")
        if rms > WANTED_RMS:
            raise SystemExit(f"images differ by {rms:.1e} RMS from the unreduced ones; at most {WANTED_RMS:g} is right")
        name = f"Stemphony, symmetry and probe_basis, tolerance {tolerance:g}"
        ratio = f"**{theirs_s / cpu_s:.1f}**"
        rows.append([name, str(runs[0].rank), f"{cpu_s:.2f}", ratio, f"{rms:.0e}", f"{largest:.0e}"])
    yield (
        f"One unit cell of SrTiO3 at rest, {peers.SIDE} × {peers.SIDE} positions, {peers.DEFOCI} defoci from −6 to 6 "
        f"nm, {GRID}², {whole.slices} slices. With `scan.symmetry: auto`, Stemphony computes {positions} of the "
        f"{peers.SIDE**2} positions. abTEM and `multislice` computed {score.waves} of the {whole.waves} waves; the "
        f"table shows {share:g} times their CPU seconds. The differences compare "
        f"{int(np.isfinite(series.images).sum())} waves, evenly spread, with `multislice` without symmetry."
    )
    yield ""
    head = ["program", "waves", "CPU s", "ratio", "RMS difference", "largest difference"]
    yield from page.table(head, rows)


def main() -> None:
    """Run both programs and rewrite the part of the page."""
    abtem = peers.Abtem()
    with tempfile.TemporaryDirectory() as name:
        made = list(lines(abtem, Path(name)))
    abtem.close()
    head = page.circumstances(bench.cpu_model(), bench.library_version())
    page.rewrite(COMMAND, [f"{head} abTEM {abtem.about['version']}.", "", *made])


if __name__ == "__main__":
    main()
