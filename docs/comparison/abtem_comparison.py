"""Compare Stemphony with abTEM, an independent program: `make compare`.

Both compute the same STEM image of SrTiO3 [001] with one frozen-phonon configuration, in double precision.

1. abTEM gets *the same* projected potentials. This compares optics, band limit, multislice and detectors. It is
   repeated with a tilted specimen and with a tilted beam. The exit status is 1 if a signal differs by more than
   TOLERANCE.
2. abTEM uses its own potential for the same atoms, with infinite projection. This also compares the potentials. abTEM's
   interpolation between grid points loses a fifth of the HAADF signal of displaced atoms at this sampling.

abTEM calls `tilt` a tilt of the beam, and multiplies the propagator by exp(−2πi Δz k·tan(tilt)). In Stemphony this is
the specimen tilt −tilt, Eq. (P22). A beam that is really tilted, Eq. (P21), is abTEM's straight probe times the plane
wave exp(2πi k₀·r). Its axis k₀ is a frequency of the grid here, so the plane wave fits the cell.

The script rewrites the table of docs/abtem.md.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow" / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import abtem
import ase
import numpy as np
import page
from stemphony.compute.atoms import Atoms, draw_atoms
from stemphony.compute.simulation import simulate
from stemphony.compute.stored_waves import stored_waves
from stemphony.experiment.model import Experiment
from stemphony.experiment.wave_request import WaveRequest
from stemphony.physics.integration import phase_of_deflection
from stemphony.physics.periods import Layers, find_periods
from stemphony.physics.potential import SlicePotentials

LATTICE = 3.905
CELLS = (6, 6, 13)
GPTS = 384
POINTS = 9
"""Positions along each axis of the unit cell. The number is odd, so that there is no Nyquist frequency. Both programs
integrate this frequency differently."""
TILT_MRAD = (8.0, -5.0)
BEAM_STEPS = (7, -6)
"""Axis k₀ of the tilted beam, in steps of the frequencies of the grid."""
TOLERANCE = 1e-6
"""Largest allowed difference, as a share of the largest value of each signal."""
U_ISO = {"Sr": 0.00787, "Ti": 0.00557, "O": 0.009275}
DETECTORS = {"bf": [0.0, 10.0], "abf": [10.0, 20.0], "adf": [30.0, 60.0], "haadf": [60.0, 130.0]}
SEGMENTS = {"inner_mrad": 5.0, "outer_mrad": 25.0, "segments": 4, "rotation_deg": 20.0, "radial": 2}
PATTERN_MRAD = 60.0
PLACE = (1.1, 2.7)
"""Position of the probe of the exit wave [Å]. It is between points of the grid."""
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
        "segmented": {"segment": {**SEGMENTS, "offset_mrad": [0.0, 0.0]}},
    },
    "cbed": {"enabled": True, "max_mrad": PATTERN_MRAD, "size": None},
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
    """Signals of Stemphony."""
    seen = simulate(experiment, atoms, DEFOCUS_NM, threads=2, flag="FFTW_MEASURE", on_progress=lambda done, total: None)
    of_wave = replace(experiment, waves=WaveRequest((PLACE,)))
    (wave,) = stored_waves(of_wave, atoms, DEFOCUS_NM, threads=1, flag="FFTW_MEASURE", budget_mb=4000.0).exit_wave
    deflection = seen.center_of_mass[:, :, 0]
    step = LATTICE / POINTS
    assert seen.cbed is not None
    return {
        **{name: seen.rings[:, :, 0, i] for i, name in enumerate(experiment.images)},
        "com x": deflection[..., 0] * 1e3,
        "com y": deflection[..., 1] * 1e3,
        "icom": phase_of_deflection(deflection, experiment.wavelength, (step, step), (0, 0)),
        "pacbed": seen.cbed[:, :, 0].mean(axis=(0, 1)),
        "exit wave": wave,
    }


def beam_axis() -> tuple[float, float]:
    """The axis k₀ of the tilted beam [Å⁻¹]."""
    return BEAM_STEPS[0] / (CELLS[0] * LATTICE), BEAM_STEPS[1] / (CELLS[1] * LATTICE)


def incident(probe: abtem.Probe, scan: object, axis: tuple[float, float]) -> abtem.Waves:
    """Incident waves of abTEM, times the plane wave exp(2πi k₀·r)."""
    waves = probe.build(scan, lazy=False)
    x, y = (np.arange(GPTS) * cells * LATTICE / GPTS for cells in CELLS[:2])
    waves.array[...] *= np.exp(2j * np.pi * (axis[0] * x[:, None] + axis[1] * y))
    return waves


def theirs(
    potential: object,
    wavelength: float,
    tilt: tuple[float, float] = (0.0, 0.0),
    axis: tuple[float, float] = (0.0, 0.0),
) -> dict[str, np.ndarray]:
    """Signals of abTEM for one of its potentials, with its `tilt` [mrad] and the axis of the beam [Å⁻¹]."""
    aberrations = {"C10": -DEFOCUS_NM * 10, "C30": 1e4, "C12": 20.0, "phi12": np.deg2rad(30.0)}
    probe = abtem.Probe(energy=200e3, semiangle_cutoff=20.0, soft=True, aberrations=aberrations, tilt=tilt)
    probe.grid.match(potential)
    scan = abtem.GridScan(start=(0, 0), end=(LATTICE, LATTICE), gpts=(POINTS, POINTS), endpoint=False)
    segments = abtem.SegmentedDetector(
        SEGMENTS["radial"], SEGMENTS["segments"], SEGMENTS["inner_mrad"], SEGMENTS["outer_mrad"],
        rotation=np.deg2rad(SEGMENTS["rotation_deg"]),
    )  # fmt: skip
    rings = [abtem.AnnularDetector(inner, outer) for inner, outer in DETECTORS.values()]
    *images, sectors, patterns = incident(probe, scan, axis).multislice(
        potential, detectors=[*rings, segments, abtem.PixelatedDetector(max_angle="cutoff")]
    )
    by_segment = np.asarray(sectors.array).reshape(POINTS, POINTS, -1)
    com = patterns.center_of_mass(units="mrad")
    phase = 2e-3 * np.pi / wavelength * np.asarray(com.integrate_gradient().array)
    wave = incident(probe, abtem.CustomScan(np.array([PLACE])), axis).multislice(potential).array[0]
    # In Stemphony the plane wave is 1 at the probe.
    wave = wave * np.exp(-2j * np.pi * (axis[0] * PLACE[0] + axis[1] * PLACE[1]))
    return {
        **{name: np.asarray(image.array) for name, image in zip(DETECTORS, images, strict=True)},
        **{f"segment_{number}": by_segment[..., number] for number in range(by_segment.shape[-1])},
        "com x": np.asarray(com.array).real,
        "com y": np.asarray(com.array).imag,
        "icom": phase - phase.mean(),
        "pacbed": middle(np.asarray(patterns.array).mean(axis=(0, 1)), patterns.angular_coordinates),
        "exit wave": np.asarray(wave),
    }


def middle(pattern: np.ndarray, angles: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The part of a pattern of abTEM within PATTERN_MRAD along both axes."""
    x, y = (np.abs(np.asarray(axis)) <= PATTERN_MRAD * (1 + 1e-9) for axis in angles)
    return pattern[np.ix_(x, y)]


def difference(mine: dict[str, np.ndarray], other: dict[str, np.ndarray], name: str) -> float:
    """Largest difference of one signal divided by its largest value. Waves are first scaled to the same norm."""
    one, two = mine[name], other[name]
    if name == "exit wave":
        two = two * (np.linalg.norm(one) / np.linalg.norm(two))
    return float(np.abs(one - two).max() / np.abs(one).max())


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
    # Atoms are moved to the middle of their slices, so that abTEM assigns them to the same slices as Stemphony.
    moved = atoms.positions.copy()
    moved[:, 2] = (atoms.slice_index + 0.5) * experiment.slice_thickness
    built = abtem.Potential(
        ase.Atoms(list(symbols), positions=moved, cell=cell, pbc=True), gpts=(GPTS, GPTS), parametrization="kirkland",
        slice_thickness=experiment.slice_thickness, projection="infinite",
    )  # fmt: skip
    mine = ours(experiment, atoms)
    given_same, given_own = theirs(same, experiment.wavelength), theirs(built, experiment.wavelength)
    leaning = replace(experiment, specimen_tilt=tuple(1e-3 * angle for angle in TILT_MRAD))
    tilted, given_tilt = ours(leaning, atoms), theirs(same, experiment.wavelength, tuple(-t for t in TILT_MRAD))
    k0 = beam_axis()
    beam = replace(experiment, tilt=tuple(experiment.wavelength * k for k in k0))
    slanted, given_slanted = ours(beam, atoms), theirs(same, experiment.wavelength, axis=k0)

    rows, largest = [], 0.0
    for name, image in mine.items():
        pairs = (mine, given_same), (tilted, given_tilt), (slanted, given_slanted)
        apart = [difference(*pair, name) for pair in pairs]
        largest = max(largest, *apart)
        changed = (np.abs(other[name] - image).max() / np.abs(image).max() for other in (tilted, slanted))
        mean = "" if np.iscomplexobj(image) or name == "icom" else f"{image.mean():.6f}"
        ratio = f"{given_own[name].mean() / image.mean():.4f}" if name in DETECTORS else ""
        rows.append([name, mean, *(f"{one:.1e}" for one in apart), *(f"{one:.2g}" for one in changed), ratio])
    head = [
        "signal", "mean, Stemphony", "largest difference, same potential", "the same, tilted specimen",
        "the same, tilted beam", "effect of the specimen's tilt", "of the beam's tilt",
        "mean ratio, abTEM's own potential",
    ]  # fmt: skip
    lines = [
        f"abTEM {abtem.__version__}, SrTiO3 {CELLS[0]} × {CELLS[1]} × {CELLS[2]}, {GPTS}² points, {POINTS}² positions, "
        "one configuration, double precision. Differences are shares of the largest value of the signal. The "
        f"specimen is tilted by {TILT_MRAD[0]:g}, {TILT_MRAD[1]:g} mrad, the beam by "
        f"{', '.join(f'{1e3 * angle:.2f}' for angle in beam.tilt)} mrad.",
        "",
        *page.table(head, rows),
    ]
    page.rewrite("make compare", lines, page.PAGE.with_name("abtem.md"))
    if largest > TOLERANCE:
        raise SystemExit(f"a signal differs by {largest:.1e}; at most {TOLERANCE:g} is right")


if __name__ == "__main__":
    main()
