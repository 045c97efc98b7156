"""Compare Stemphony with abTEM, an independent program: `make compare`.

Both compute the same STEM line scan of SrTiO3 [001] with one frozen-phonon configuration, in double precision.

1. abTEM is given *the same* projected potentials: what differs then is optics, band limit, multislice and detectors.
2. abTEM uses its own potential for the same atoms, infinite projection: what differs then is the potential too. Its
   interpolation between grid points loses a fifth of the HAADF signal of displaced atoms at this sampling.

Rewrites the table of docs/abtem.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow" / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import abtem
import ase
import numpy as np
import page
from stemphony.compute.atoms import Atoms, draw_atoms
from stemphony.compute.simulation import simulate
from stemphony.experiment.model import Experiment
from stemphony.physics.periods import Layers, find_periods
from stemphony.physics.potential import SlicePotentials

LATTICE = 3.905
CELLS = (6, 6, 13)
GPTS = 384
POINTS = 8
U_ISO = {"Sr": 0.00787, "Ti": 0.00557, "O": 0.009275}
DETECTORS = {"bf": [0.0, 10.0], "abf": [10.0, 20.0], "adf": [30.0, 60.0], "haadf": [60.0, 130.0]}
DEFOCUS_NM = 2.0
BLOCKS = {
    "simulation": {"precision": "double", "algorithm": "multislice"},
    "probe": {
        "energy_kev": 200.0, "semiangle_mrad": 20.0, "semiangle_inner_mrad": 0.0, "soft_aperture": True,
        "aberrations": {"C30_nm": 1000.0, "C12_nm": 2.0, "phi12_deg": 30.0},
    },
    "grating": {
        "gpts": [GPTS, GPTS], "slice_thickness_angstrom": LATTICE / 2, "parametrization": "kirkland",
        "bandlimit": 0.6666666, "bandlimit_taper": 0.02,
    },
    "scan": {"x": [0.0, 1 / CELLS[0]], "y": [0.0, 1 / CELLS[1]], "points": [POINTS, POINTS], "step_angstrom": None},
    "depths": {"every_angstrom": None, "at_angstrom": None},
    "adf": {
        "enabled": True, "min_mrad": 0.0, "max_mrad": 130.0, "bins": 13, "interval_exponent": 1.0,
        "detectors": DETECTORS, "edges": "hard", "center_of_mass": True,
    },
    "cbed": {"enabled": False, "max_mrad": None, "size": None},
}  # fmt: skip


def crystal() -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Symbols, positions [Å] and cell of SrTiO3 [001]."""
    basis = [("Sr", 0, 0, 0), ("Ti", 0.5, 0.5, 0.5), ("O", 0.5, 0.5, 0), ("O", 0.5, 0, 0.5), ("O", 0, 0.5, 0.5)]
    symbols, positions = [], []
    for index in np.ndindex(*CELLS):
        for symbol, *fraction in basis:
            symbols.append(symbol)
            positions.append((np.array(index) + fraction) * LATTICE)
    return np.array(symbols), np.array(positions), tuple(n * LATTICE for n in CELLS)


def ours(experiment: Experiment, atoms: Atoms) -> dict[str, np.ndarray]:
    """Images of Stemphony."""
    seen = simulate(experiment, atoms, DEFOCUS_NM, threads=2, flag="FFTW_MEASURE", on_progress=lambda done, total: None)
    images = {name: seen.rings[:, :, 0, i] for i, name in enumerate(experiment.rings)}
    return {**images, "com x": seen.center_of_mass[:, :, 0, 0] * 1e3, "com y": seen.center_of_mass[:, :, 0, 1] * 1e3}


def theirs(potential: object) -> dict[str, np.ndarray]:
    """Images of abTEM for one of its potentials."""
    aberrations = {"C10": -DEFOCUS_NM * 10, "C30": 1e4, "C12": 20.0, "phi12": np.deg2rad(30.0)}
    probe = abtem.Probe(energy=200e3, semiangle_cutoff=20.0, soft=True, aberrations=aberrations)
    probe.grid.match(potential)
    step = LATTICE / POINTS
    xy = np.arange(POINTS) * step
    scan = abtem.CustomScan(np.array([(x, y) for x in xy for y in xy]))
    detectors = [abtem.AnnularDetector(inner, outer) for inner, outer in DETECTORS.values()]
    measured = probe.scan(
        potential, scan=scan, detectors=[*detectors, abtem.PixelatedDetector(max_angle="cutoff")], lazy=False
    )
    patterns = np.asarray(measured[-1].array)
    angles = [np.asarray(a) for a in measured[-1].angular_coordinates]
    images = {name: np.asarray(m.array).reshape(POINTS, POINTS) for name, m in zip(DETECTORS, measured, strict=False)}
    total = patterns.sum(axis=(-2, -1))
    com = {
        "com x": ((patterns * angles[0][:, None]).sum(axis=(-2, -1)) / total).reshape(POINTS, POINTS),
        "com y": ((patterns * angles[1][None, :]).sum(axis=(-2, -1)) / total).reshape(POINTS, POINTS),
    }
    return {**images, **com}


def main() -> None:
    """Run both programs and rewrite the table."""
    abtem.config.set({"precision": "float64", "local_diagnostics.progress_bar": False})
    symbols, positions, cell = crystal()
    layers = Layers(positions[:, 2], find_periods(positions, symbols, cell))
    experiment = Experiment.of(BLOCKS, cell, layers)
    u_iso = np.array([U_ISO[symbol] for symbol in symbols])
    atoms = draw_atoms(
        experiment, symbols, positions, u_iso, frame=None, displaced=True, random_seed=1, configuration=0,
        defocus_nm=None, displace_z=True, fixed_slicing=True,
    )  # fmt: skip
    mine = ours(experiment, atoms)
    exact = SlicePotentials(
        experiment.grid,
        atoms.positions,
        atoms.symbols,
        atoms.slice_index,
        experiment.slices,
        experiment.parametrization,
    )
    arrays = np.stack([exact.projected(index) for index in range(experiment.slices)])
    same = abtem.PotentialArray(arrays, slice_thickness=experiment.slice_thickness, extent=experiment.grid.extent)
    # Heights at the middle of their slices, so that abTEM's own slicing agrees with ours.
    moved = atoms.positions.copy()
    moved[:, 2] = (atoms.slice_index + 0.5) * experiment.slice_thickness
    built = abtem.Potential(
        ase.Atoms(list(symbols), positions=moved, cell=cell, pbc=True), gpts=(GPTS, GPTS), parametrization="kirkland",
        slice_thickness=experiment.slice_thickness, projection="infinite",
    )  # fmt: skip
    given_same, given_own = theirs(same), theirs(built)

    lines = [
        f"abTEM {abtem.__version__}, SrTiO3 {CELLS[0]} × {CELLS[1]} × {CELLS[2]}, {GPTS}² points, {POINTS}² positions, "
        "one configuration, double precision.",
        "",
    ]
    rows = []
    for name, image in mine.items():
        scale = np.abs(image).max()
        difference = np.abs(given_same[name] - image).max() / scale
        ratio = "" if name.startswith("com") else f"{given_own[name].mean() / image.mean():.4f}"
        rows.append([name, f"{image.mean():.6f}", f"{difference:.1e} of the maximum", ratio])
    head = ["signal", "mean, Stemphony", "largest difference, same potential", "mean ratio, abTEM's own potential"]
    page.rewrite("make compare", lines + page.table(head, rows), page.PAGE.with_name("abtem.md"))


if __name__ == "__main__":
    main()
