"""Golden jobs, whose numbers must not change. Run as `python tests/golden/make.py`, it stores them again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from stemphony import provenance
from stemphony.compute.atoms import draw_atoms
from stemphony.compute.simulation import simulate
from stemphony.compute.stored_waves import stored_waves
from stemphony.experiment.configuration import validate
from stemphony.experiment.model import Experiment
from stemphony.physics.periods import Layers, find_periods

FILE = Path(__file__).with_name("jobs.npz")

# Strontium titanate, 2 × 2 × 3 cells, and two tungsten atoms that belong to no lattice site.
A = 3.905
REPEAT = (2, 2, 3)
SITES = (("Sr", 0, 0, 0), ("Ti", 0.5, 0.5, 0.5), ("O", 0.5, 0.5, 0), ("O", 0.5, 0, 0.5), ("O", 0, 0.5, 0.5))
ADATOMS = (("W", 1.234, 2.345, 3.456), ("W", 6.5, 0.7, 9.1))
U_ISO = {"Sr": 0.008, "Ti": 0.006, "O": 0.01, "W": 0.004}
CELL = (2 * A, 2 * A, 3 * A)

COMMON: dict[str, dict[str, Any]] = {
    "simulation": {"name": "golden", "precision": "double", "random_seed": 20260101},
    "specimen": {"file": "none"},
    "scan": {"x": [0.0, 0.5], "y": [0.0, 0.5], "points": [2, 2]},
}
JOBS: dict[str, dict[str, dict[str, Any]]] = {
    # The defaults, as far as 64 points allow them.
    "usual": {
        "grating": {"gpts": [64, 64]},
        "depths": {"every_angstrom": 3.9},
        "adf": {"bins": 12, "max_mrad": 60.0, "detectors": {"bf": [0, 10], "abf": [10, 20], "haadf": [40, 65]}},
        "cbed": {"enabled": True, "max_mrad": 25.0},
    },
    # Segments, sensitivities, and waves.
    "special": {
        "grating": {"gpts": [60, 64]},
        "depths": {"every_angstrom": 5.8},
        "adf": {
            "bins": 4,
            "max_mrad": 60.0,
            "detectors": {
                "profile": {"inner_mrad": 5, "outer_mrad": 60, "sensitivity": "profile.csv"},
                "map": {"inner_mrad": 0, "outer_mrad": 55, "sensitivity": "map.npy", "pixel_mrad": 4.0},
            },
            "segmented": {"quadrants": {"inner_mrad": 0, "outer_mrad": 40, "segments": 4, "rotation_deg": 30}},
        },
        "waves": {"exit": [[0.1, 0.2]], "depth_profile": True, "columns": [[0.0, 0.0]]},
    },
    # The other choice of every alternative.
    "other": {
        "probe": {
            "energy_kev": 80.0,
            "semiangle_mrad": 25.0,
            "semiangle_inner_mrad": 12.0,
            "soft_aperture": False,
            "aberrations": {"C30_nm": 2000.0, "C12_nm": 1.5, "phi12_deg": 25.0, "C23_nm": 40.0, "phi23_deg": -10.0},
        },
        "grating": {
            "gpts": [64, 72],
            "slice_thickness_angstrom": 1.3,
            "parametrization": "lobato",
            "bandlimit": 0.6,
            "bandlimit_taper": 0.0,
        },
        "depths": {"at_angstrom": [2.5, 11.7]},
        "adf": {
            "bins": 9,
            "min_mrad": 5.0,
            "max_mrad": 70.0,
            "interval_exponent": 1.5,
            "edges": "area",
            "detectors": {"ring": [30, 70]},
        },
        "cbed": {"enabled": True, "max_mrad": 50.0, "size": [9, 7]},
        "frozen_phonon": {"independent_defoci": False, "fixed_slicing": False, "displace_z": True},
    },
}


SENSITIVITIES = {
    "profile": np.array([[0.0, 0.1], [20.0, 1.0], [60.0, 0.3]]),
    "map": 0.5 + 0.01 * np.arange(28)[:, None] - 0.012 * np.arange(30),
}


def atoms_at_rest() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Symbols, positions [Å] and mean square displacements [Å²]."""
    cells = list(np.ndindex(*REPEAT))
    listed = [(symbol, *(A * (np.array(site) + cell))) for symbol, *site in SITES for cell in cells]
    listed += ADATOMS
    symbols = np.array([symbol for symbol, *_ in listed])
    return symbols, np.array([position for _, *position in listed], float), np.array([U_ISO[s] for s in symbols])


def compute() -> dict[str, np.ndarray]:
    """Signals of all golden jobs, by `<job>_<signal>`."""
    symbols, positions, u_iso = atoms_at_rest()
    results: dict[str, np.ndarray] = {}
    for name, blocks in JOBS.items():
        config = validate({**COMMON, **blocks})
        layers = Layers(positions[:, 2], find_periods(positions[:-2], symbols[:-2], CELL))
        experiment = Experiment.of(config, CELL, layers, SENSITIVITIES)
        phonons, defocus = config["frozen_phonon"], 3.0
        atoms = draw_atoms(
            experiment,
            symbols,
            positions,
            u_iso,
            frame=None,
            displaced=True,
            random_seed=config["simulation"]["random_seed"],
            configuration=2,
            defocus_nm=defocus if phonons["independent_defoci"] else None,
            displace_z=phonons["displace_z"],
            fixed_slicing=phonons["fixed_slicing"],
        )
        signals = simulate(
            experiment, atoms, defocus, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None
        )
        results[f"{name}_atoms"] = atoms.positions
        for signal in ("bins", "rings", "total", "center_of_mass", "cbed"):
            if (values := getattr(signals, signal)) is not None:
                results[f"{name}_{signal}"] = values
        if experiment.waves is not None:
            waves = stored_waves(experiment, atoms, defocus, threads=1, flag="FFTW_ESTIMATE", budget_mb=100.0)
            # Every sixth point keeps the file small.
            some = waves.exit_wave[:, ::6, ::6]
            results[f"{name}_exit_wave"] = np.stack([some.real, some.imag])
            results |= {f"{name}_{part}": getattr(waves, part)[:, ::6] for part in ("profile", "section")}
            results[f"{name}_columns"] = waves.columns
    return results


def difference(kept: np.ndarray, now: np.ndarray) -> float:
    """Largest deviation in units of the allowed rounding between machines: 1e-10 of a value or 1e-14 of the beam."""
    if kept.shape != now.shape:
        return float("inf")
    return float(np.max(np.abs(now - kept) / (1e-10 * np.abs(kept) + 1e-14)))


def moved() -> list[str]:
    """Names of the signals whose numbers differ from the stored ones."""
    now = compute()
    with np.load(FILE) as kept:
        names = set(kept.files) - {"physics_version"}
        return sorted(
            n for n in names | now.keys() if n not in now or n not in names or difference(kept[n], now[n]) > 1
        )


def names() -> list[str]:
    """Names of the stored signals; others are new and may be added without a new version."""
    with np.load(FILE) as kept:
        return sorted(set(kept.files) - {"physics_version"})


def kept_version() -> int:
    """The physics_version of the stored numbers."""
    with np.load(FILE) as kept:
        return int(kept["physics_version"])


def main() -> None:
    """Store the present numbers; refuse if they changed under the same physics_version."""
    if (
        FILE.exists()
        and kept_version() == provenance.PHYSICS_VERSION
        and (known := sorted(set(moved()) & set(names())))
    ):
        sys.exit(
            f"numbers moved ({', '.join(known)}), but physics_version is still {provenance.PHYSICS_VERSION}: "
            "add 1 to PHYSICS_VERSION in workflow/scripts/stemphony/provenance.py first."
        )
    np.savez_compressed(FILE, physics_version=provenance.PHYSICS_VERSION, **compute())


if __name__ == "__main__":
    main()
