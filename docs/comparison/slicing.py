"""Compare slices and grid of Stemphony with a multislice calculation by hand, and write the table of `slicing.md`.

    python docs/comparison/slicing.py

The calculation by hand uses only NumPy. It assigns atoms to slices by the number of their plane, which is known because
this script builds the crystal. It never uses the height in the file. It shares with Stemphony only the table of
scattering factors. Atoms are at rest, and the precision is double. The exit status is 1 if a signal differs by more
than TOLERANCE.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow/scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import page
from stemphony.compute.atoms import draw_atoms
from stemphony.compute.simulation import simulate
from stemphony.experiment.configuration import validate
from stemphony.experiment.model import Experiment
from stemphony.physics.scattering import scattering_factor
from stemphony.specimen.structures import read_specimen

PAGE = Path(__file__).with_suffix(".md")
HEAD = ("crystal", "grid", "slices", "detector", "by hand", "Stemphony", "difference")
TOLERANCE = 1e-6  # largest allowed difference, as a share of the incident beam

# Constants at 200 kV from Eq. (P1) with CODATA 2018. They are numbers here, so that they do not depend on Stemphony.
WAVELENGTH = 0.02507934044  # Å
INTERACTION = 7.288401044e-4  # rad/(V Å)
PREFACTOR = 47.87764724  # h²/(2π m₀ e), V Å²
SEMIANGLE = 0.020  # rad
BANDLIMIT, TAPER = 0.6666666, 0.02


@dataclass(frozen=True)
class Case:
    """A crystal as a file, the slices of its planes, and the position of the probe.

    `planes` is the slice of each atom, `dz` the thickness of the slices [Å], `rings` are detectors [mrad].
    """

    name: str
    symbols: list[str]
    positions: np.ndarray
    cell: tuple[float, float, float]
    planes: np.ndarray
    dz: float
    points: int
    grating: dict[str, Any]
    at: tuple[float, float]
    rings: dict[str, tuple[float, float]]
    repeat: tuple[int, int, int] = (1, 1, 1)


def cases() -> list[Case]:
    """Crystals whose planes lie on multiples of the slice thickness, exact and rounded, and slices of `auto`."""
    found = []
    a, size = 3.9051, (4, 4, 26)
    rings = {"bf": (0.0, 10.0), "adf": (40.0, 60.0), "haadf": (60.0, 100.0)}
    sites = [("Sr", 0, 0, 0), ("Ti", 1, 1, 1), ("O", 1, 1, 0), ("O", 1, 0, 1), ("O", 0, 1, 1)]
    halves = [(s, 2 * i + x, 2 * j + y, 2 * k + z) for i, j, k in np.ndindex(size) for s, x, y, z in sites]
    symbols, places = [s for s, *_ in halves], np.array([p for _, *p in halves], dtype=float) * a / 2
    planes = np.array([k for *_, k in halves])
    cell = (size[0] * a, size[1] * a, size[2] * a)
    for name, digits, thickness in (
        ("SrTiO3, exact", 12, a / 2), ("SrTiO3, four decimals", 4, a / 2), ("SrTiO3, four decimals, auto", 4, "auto"),
    ):  # fmt: skip
        grating = {"gpts": [192, 192], "slice_thickness_angstrom": thickness}
        at = (a / 2, a / 2)
        found.append(Case(name, symbols, np.round(places, digits), cell, planes, a / 2, 192, grating, at, rings))
    rings = {"bf": (0.0, 10.0), "adf": (40.0, 60.0), "haadf": (60.0, 90.0)}
    a, size = 5.431, (3, 3, 20)
    corners = [(0, 0, 0), (0, 2, 2), (2, 0, 2), (2, 2, 0)]
    quarters = [
        (4 * i + x + s, 4 * j + y + s, 4 * k + z + s) for i, j, k in np.ndindex(size) for x, y, z in corners
        for s in (0, 1)
    ]  # fmt: skip
    places = np.array(quarters, dtype=float) * a / 4
    planes = np.array([k for *_, k in quarters])
    grating = {"gpts": [192, 192]}
    cell = (size[0] * a, size[1] * a, size[2] * a)
    found.append(Case("Si, auto", ["Si"] * len(quarters), places, cell, planes, a / 4, 192, grating, (0.0, 0.0), rings))
    return found


def columns() -> list[Case]:
    """Six equal columns of iron on the grid that `sampling_angstrom` chooses."""
    a, size = 2.866, (6, 6, 20)
    halves = [(2 * i + s, 2 * j + s, 2 * k + s) for i, j, k in np.ndindex(size) for s in (0, 1)]
    places, planes = np.array(halves, dtype=float) * a / 2, np.array([k for *_, k in halves])
    rings = {"bf": (0.0, 10.0), "adf": (40.0, 60.0)}
    cell = (size[0] * a, size[1] * a, size[2] * a)
    return [
        Case(
            f"Fe, column {column}", ["Fe"] * len(halves), places, cell, planes, a / 2, 360, {}, (column * a, 0.0), rings
        )
        for column in range(6)
    ]


def by_hand(case: Case) -> dict[str, float]:
    """Signals of one probe position from Eqs. (P2) to (P10) with NumPy's FFT, whole transforms, all frequencies."""
    lx, ly, _ = case.cell
    kx, ky = np.fft.fftfreq(case.points, lx / case.points), np.fft.fftfreq(case.points, ly / case.points)
    k_squared = kx[:, None] ** 2 + ky[None, :] ** 2
    k = np.sqrt(k_squared)
    nyquist = case.points / (2 * max(lx, ly))
    depth = np.clip((k - (BANDLIMIT - TAPER) * nyquist) / (TAPER * nyquist), 0, 1)
    limit = np.where(k >= BANDLIMIT * nyquist, 0.0, 0.5 * (1 + np.cos(np.pi * depth)))
    travel = np.exp(-1j * np.pi * WAVELENGTH * case.dz * k_squared) * limit
    factors = {s: scattering_factor(s, k_squared, "kirkland") for s in sorted(set(case.symbols))}
    names = np.array(case.symbols)

    azimuth = np.arctan2(ky[None, :] + 0 * k, kx[:, None] + 0 * k)
    pixel = WAVELENGTH * np.hypot(np.cos(azimuth) / lx, np.sin(azimuth) / ly)
    aperture = np.clip((SEMIANGLE - WAVELENGTH * k) / pixel + 0.5, 0, 1)
    aperture[0, 0] = 1
    wave = aperture * np.exp(-2j * np.pi * (kx[:, None] * case.at[0] + ky[None, :] * case.at[1]))
    wave /= np.sqrt((aperture**2).sum())

    made: dict[bytes, np.ndarray] = {}
    for plane in range(int(case.planes.max()) + 1):
        here = case.planes == plane
        key = np.round(case.positions[here][:, :2], 9).tobytes() + "".join(names[here]).encode()
        if key not in made:
            structure = np.zeros_like(wave)
            for symbol, factor in factors.items():
                x, y = case.positions[here & (names == symbol)][:, :2].T
                waves = np.exp(-2j * np.pi * np.outer(kx, x)) @ np.exp(-2j * np.pi * np.outer(y, ky))
                structure += factor * waves
            potential = np.fft.ifft2(PREFACTOR / (lx * ly) * case.points**2 * structure).real
            phase = np.exp(1j * INTERACTION * potential)
            made[key] = np.fft.ifft2(np.fft.fft2(phase) * limit)
        wave = np.fft.fft2(made[key] * np.fft.ifft2(wave)) * travel
    angle = 1e3 * WAVELENGTH * k
    intensity = np.abs(wave) ** 2
    return {
        name: float(intensity[(angle >= inner) & (angle < outer)].sum()) for name, (inner, outer) in case.rings.items()
    }


def of_stemphony(case: Case) -> tuple[dict[str, float], Experiment]:
    """Signals of the same probe position from Stemphony, which reads the file and makes slices, grid and detectors."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "crystal.xyz")
        file.write_text(as_xyz(case))
        specimen = read_specimen(file)
    fractions = [at / length for at, length in zip(case.at, case.cell, strict=False)]
    config = validate(
        {
            "simulation": {"name": "slicing", "precision": "double"},
            "probe": {"energy_kev": 200.0, "semiangle_mrad": 1e3 * SEMIANGLE},
            "specimen": {"file": "crystal.xyz"},
            "grating": case.grating,
            "scan": {"x": [fractions[0], 1.0], "y": [fractions[1], 1.0], "points": [1, 1]},
            "adf": {"detectors": case.rings},
            "frozen_phonon": {"enabled": False},
        }
    )
    experiment = Experiment.of(config, specimen.cell, specimen.layers)
    atoms = draw_atoms(
        experiment, specimen.symbols, specimen.positions, specimen.u_iso, frame=None, displaced=False, random_seed=1,
        configuration=0, defocus_nm=None, displace_z=True, fixed_slicing=True,
    )  # fmt: skip
    signals = simulate(experiment, atoms, 0.0, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None)
    return dict(zip(experiment.rings, signals.rings[0, 0, -1].tolist(), strict=True)), experiment


def as_xyz(case: Case) -> str:
    """Extended XYZ with as many digits as the case has."""
    lx, ly, lz = case.cell
    head = f'{len(case.symbols)}\nLattice="{lx} 0 0 0 {ly} 0 0 0 {lz}" Properties=species:S:1:pos:R:3 pbc="T T T"\n'
    rows = (f"{s} {x:.12f} {y:.12f} {z:.12f}\n" for s, (x, y, z) in zip(case.symbols, case.positions, strict=True))
    return head + "".join(rows)


def main(arguments: Sequence[str]) -> int:
    """Write the table. Return 1 if a signal differs by more than TOLERANCE."""
    if arguments:
        sys.exit(__doc__)
    worst, rows = 0.0, []
    for case in [*cases(), *columns()]:
        hand, (ours, experiment) = by_hand(case), of_stemphony(case)
        grid = " × ".join(map(str, experiment.grid.gpts))
        slices = f"{experiment.slices} of {experiment.slice_thickness:.5f} Å"
        for name, value in hand.items():
            difference = abs(ours[name] - value)
            worst = max(worst, difference)
            rows.append([case.name, grid, slices, name, f"{value:.8f}", f"{ours[name]:.8f}", f"{difference:.1e}"])
    largest = f"Largest difference: {worst:.1e} of the incident beam."
    page.rewrite("python docs/comparison/slicing.py", [*page.table(HEAD, rows), "", largest], PAGE)
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
