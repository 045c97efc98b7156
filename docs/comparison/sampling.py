"""Show how the sampling of the potential and the band limit change HAADF: the table of docs/explanation/accuracy.md.

    python docs/comparison/sampling.py

All rows have the same displaced atoms and the same four positions of the probe. Rows whose potential has the sampling
of the waves are compared with the finest of these rows. Rows with a finer potential are compared with the row that has
the largest band limit.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "docs" / "benchmarks"), str(ROOT / "workflow" / "scripts")]

import numpy as np  # noqa: E402
import page  # noqa: E402
from stemphony.compute.atoms import draw_atoms  # noqa: E402
from stemphony.compute.simulation import simulate  # noqa: E402
from stemphony.experiment.configuration import validate  # noqa: E402
from stemphony.experiment.model import MRAD, Experiment  # noqa: E402
from stemphony.specimen.structures import Specimen, read_specimen  # noqa: E402

COMMAND = "python docs/comparison/sampling.py"
PAGE = ROOT / "docs" / "explanation" / "accuracy.md"
CRYSTAL = ROOT / "config" / "srtio3.cif"
CELLS, DEMO_CELLS = (4, 4, 13), 8
"""Unit cells that are computed, and unit cells of the demo along x. The table shows the points of the demo's cell."""
U_ISO = {"Sr": 0.00787, "Ti": 0.00557, "O": 0.009275}
"""Thermal U of each element [Å²], the values of the demo."""
PLACES = {"Sr": (0.0, 0.0), "Ti–O": (0.5, 0.5), "O": (0.5, 0.0), "between": (0.25, 0.25)}
"""Positions of the probe in fractions of the unit cell."""
RINGS = ((40, 60), (60, 90), (60, 110), (60, 130))
"""Inner and outer angles of the detectors [mrad]."""
ALIKE, FINEST_ALIKE = (512, 768, 1024), 2048
"""Points of the demo's cell for rows with equal sampling of waves and potential, and points of their reference."""
FINER, WIDEST = ((512, 6), (576, 5), (640, 5), (720, 4)), (960, 3)
"""Points of the waves, with the factor by which the potential is finer, and the same two numbers of the reference."""


def experiment_of(specimen: Specimen, points: int, oversampling: int) -> Experiment:
    """Experiment with the sampling of `points` along the demo's cell."""
    across, own = CELLS[0], points * CELLS[0] // DEMO_CELLS
    config = validate(
        {
            "simulation": {"name": "sampling"},
            "probe": {"energy_kev": 200.0, "semiangle_mrad": 20.0},
            "specimen": {"file": CRYSTAL.name},
            "grating": {"gpts": [own, own], "potential_oversampling": oversampling},
            "scan": {"positions": [[x / across, y / across] for x, y in PLACES.values()]},
            "adf": {"detectors": {f"ring_{inner}_{outer}": [inner, outer] for inner, outer in RINGS}},
        }
    )
    return Experiment.of(config, specimen.cell, specimen.layers)


def signals(specimen: Specimen, points: int, oversampling: int) -> tuple[np.ndarray, float]:
    """Signals (position, ring) behind the specimen, and the band limit [mrad]."""
    e = experiment_of(specimen, points, oversampling)
    atoms = draw_atoms(
        e, specimen.symbols, specimen.positions, specimen.u_iso, frame=None, displaced=True, random_seed=1,
        configuration=0, defocus_nm=None, displace_z=True, fixed_slicing=True,
    )  # fmt: skip
    seen = simulate(e, atoms, 0.0, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None)
    order = [list(e.rings).index(f"ring_{inner}_{outer}") for inner, outer in RINGS]
    return seen.rings.reshape(len(PLACES), -1, len(e.rings))[:, -1][:, order], e.band_limit_angle / MRAD


def row(specimen: Specimen, points: int, oversampling: int, reference: np.ndarray) -> list[str]:
    """Row of the table: RMS change over the positions divided by the mean signal, with the sign of the mean change."""
    found, limit = signals(specimen, points, oversampling)
    change = found - reference
    relative = np.sqrt((change**2).mean(axis=0)) / reference.mean(axis=0) * np.sign(change.mean(axis=0))
    percent = (f"{100 * one:+.2g} %".replace("-", "−") for one in relative)
    return [f"{points}", f"{oversampling}", f"{limit:.0f} mrad", *percent]


def crystal() -> Specimen:
    """The atoms of all rows."""
    return read_specimen(CRYSTAL, repeat=CELLS, u_iso_angstrom2=U_ISO)


def main() -> None:
    """Compute all rows and write the table."""
    specimen = crystal()
    reference, _ = signals(specimen, FINEST_ALIKE, 1)
    rows = [row(specimen, points, 1, reference) for points in ALIKE]
    reference, _ = signals(specimen, *WIDEST)
    rows += [row(specimen, points, factor, reference) for points, factor in FINER]
    x, y, z = CELLS
    heads = (f"{inner}–{outer} mrad" for inner, outer in RINGS)
    lines = [
        f"SrTiO₃ [001] at 200 kV and 20 mrad: {x} × {y} × {z} cells, one configuration of displaced atoms, the probe "
        f"on {', '.join(name for name in PLACES if name != 'between')} and between the columns. The column "
        f"`points` gives the grid points along a cell of {DEMO_CELLS * specimen.cell[0] / x:.0f} Å, as in the demo. "
        "Percentages are changes of the image, with the sign of the mean change. Rows with `potential_oversampling` 1 "
        f"are compared with {FINEST_ALIKE} points. The other rows are compared with {WIDEST[0]} points and "
        f"`potential_oversampling` {WIDEST[1]}, so only the error of the band limit is left.",
        "",
        *page.table(["points", "`potential_oversampling`", "band limit", *heads], rows),
    ]
    page.rewrite(COMMAND, lines, PAGE)


if __name__ == "__main__":
    main()
