"""Measure what checkpoints cost a job: `python docs/benchmarks/checkpoints.py [SECONDS]`.

Each job of SrTiO3 computes for some seconds and is then stopped. It writes checkpoints to the disk of the repository.
A real job writes one checkpoint a minute, but these jobs write far more often. The table shows the share of the time
that writing takes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow" / "scripts"), str(ROOT / "tests")]

from stemphony.compute.keeper import COST, INTERVAL_S, Keeper  # noqa: E402
from stemphony.compute.simulation import simulate  # noqa: E402
from stemphony.store.checkpoints import write_checkpoint  # noqa: E402
from support.experiments import experiment  # noqa: E402
from support.specimens import srtio3  # noqa: E402

OFTEN_S = 1.0
CASES = {
    "multislice, 256², one detector": (256, "multislice", {}),
    "multislice, 256², patterns of 96 × 96": (256, "multislice", {"cbed": {"enabled": True, "size": [96, 96]}}),
    "probe_basis, 512²": (512, "probe_basis", {}),
}


class Enough(Exception):
    """The time of a case is over."""


def measured(grid: int, algorithm: str, blocks: dict, seconds: float, folder: Path) -> tuple[Keeper, float, float]:
    """Return the keeper of the checkpoints, the time of the job, and the size of the last checkpoint."""
    from stemphony.compute.atoms import draw_atoms

    specimen = srtio3((6, 6, 40))
    of = experiment(
        specimen.cell,
        simulation={"algorithm": algorithm},
        grating={"gpts": [grid, grid], "slice_thickness_angstrom": 1.96},
        scan={"points": [100, 100]},
        depths={"every_angstrom": None},
        **blocks,
    )
    atoms = draw_atoms(
        of, specimen.symbols, specimen.positions, specimen.u_iso, frame=None, displaced=True, random_seed=1,
        configuration=0, defocus_nm=None, displace_z=True, fixed_slicing=True,
    )  # fmt: skip
    file, begin = folder / "one.checkpoint", [0.0]

    def check(_: float) -> None:
        # The time counts from the first wave on.
        begin[0] = begin[0] or time.monotonic()
        if time.monotonic() - begin[0] > seconds:
            raise Enough

    keeper = Keeper(
        write=lambda parts, done, total: write_checkpoint(file, "k" * 64, parts, done, total),
        check=check,
        interval_s=OFTEN_S,
    )
    with suppress(Enough):
        simulate(of, atoms, 0.0, threads=1, flag="FFTW_MEASURE", on_progress=keeper.report, keeper=keeper)
    return keeper, time.monotonic() - begin[0], file.stat().st_size / 1e6 if file.exists() else 0.0


def main() -> None:
    """Print the table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 40.0
    print(f"written at most every {OFTEN_S:g} s here, every {INTERVAL_S:g} s in jobs; bound {100 * COST:g} %\n")
    print("| job | checkpoints in s | size of the last / MB | of the time |")
    print("| --- | --- | --- | --- |")
    (ROOT / "results").mkdir(exist_ok=True)  # the disk of real results; not tracked if the process is killed
    with tempfile.TemporaryDirectory(dir=ROOT / "results") as folder:
        for name, (grid, algorithm, blocks) in CASES.items():
            keeper, elapsed, size = measured(grid, algorithm, blocks, seconds, Path(folder))
            share = 100 * keeper.seconds / elapsed
            print(f"| {name} | {keeper.written} in {elapsed:.0f} | {size:.3g} | {share:.2f} % |", flush=True)


if __name__ == "__main__":
    main()
