"""Measure how the cost of a job grows, and where both algorithms cost the same. `make bench-growth` rewrites the page.

Each row of the table changes one setting of a small job. Both algorithms compute the job in turns. The unit is the cost
of one wave through one slice of the same grid, which is timed in the same turns. So a busy machine does not change the
result. Beside it, the table shows the estimate of `cost.superposition_probe_slices`, which `auto` uses to choose.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import page
from stemphony.commands import bench
from stemphony.compute.atoms import Atoms, draw_atoms
from stemphony.compute.cost import superposition_probe_slices
from stemphony.compute.incident_basis import Basis
from stemphony.compute.propagation import Propagation, strip_plan
from stemphony.compute.simulation import simulate
from stemphony.compute.superposition import Superposition
from stemphony.compute.wisdom import cpu_model, prepare_plans
from stemphony.experiment.model import Experiment
from stemphony.physics.multislice import propagate
from stemphony.specimen.specimen import Specimen

USUAL: dict[str, Any] = {
    "cells": 4, "grid": 256, "slices": 40, "points": 12, "window": 1.0, "semiangle": 20.0, "defoci": 1, "depths": 1,
    "configurations": 1,
}  # fmt: skip
ROUNDS = 3
FEW, MANY = 4, 36
"""Two numbers of probes for which multislice is measured. The cost is linear in the number of probes, so the cost of
other numbers follows."""

CHANGES: dict[str, list[Any]] = {
    "points": [4, 8, 16, 24],
    "window": [0.5, 2.0, 4.0],
    "slices": [10, 80, 160],
    "grid": [192, 384, 512],
    "semiangle": [10.0, 30.0],
    "defoci": [3, 7, 15],
    "depths": [10, 40],
    "configurations": [2, 4],
}
NAMES = {
    "points": "positions along each axis", "window": "scan window / unit cells", "slices": "slices",
    "grid": "points of the grid",
    "semiangle": "semi-angle / mrad", "defoci": "defoci, shared", "depths": "depths",
    "configurations": "configurations, a job each",
}  # fmt: skip


def experiment(settings: dict[str, Any]) -> tuple[Experiment, Specimen]:
    """The job with these settings."""
    s = settings
    specimen = crystal(s["cells"], math.ceil(s["slices"] / 2))
    share = s["window"] / s["cells"]
    every = s["slices"] * bench.LATTICE / 2 / s["depths"]
    blocks: dict[str, Any] = {
        "simulation": {"random_seed": 1, "precision": "single", "algorithm": "probe_basis", "basis_tolerance": 1e-4},
        "probe": {
            "energy_kev": 200.0, "semiangle_mrad": s["semiangle"], "semiangle_inner_mrad": 0.0, "soft_aperture": True,
            "aberrations": {},
        },
        "grating": {
            "gpts": [s["grid"], s["grid"]], "sampling_angstrom": None, "slice_thickness_angstrom": bench.LATTICE / 2,
            "parametrization": "kirkland", "bandlimit": bench.BANDLIMIT, "bandlimit_taper": 0.02,
        },
        "scan": {"x": [0.0, share], "y": [0.0, share], "points": [s["points"]] * 2, "step_angstrom": None},
        "depths": {"every_angstrom": every, "at_angstrom": None},
        "adf": {
            "enabled": True, "min_mrad": 0.0, "max_mrad": None, "bins": None, "interval_exponent": 1.0,
            "detectors": {"haadf": [40.0, 80.0]}, "edges": "hard", "center_of_mass": False,
        },
        "cbed": {"enabled": False, "max_mrad": None, "size": None},
    }  # fmt: skip
    return Experiment.of(blocks, specimen.cell, specimen.layers), specimen


def crystal(cells: int, cells_z: int) -> Specimen:
    """The specimen of `stemphony bench`, but narrower."""
    whole = bench.strontium_titanate(cells_z)
    kept = (whole.positions[:, :2] < cells * bench.LATTICE - 1e-6).all(axis=1)
    return replace(
        whole, symbols=whole.symbols[kept], positions=whole.positions[kept], u_iso=whole.u_iso[kept],
        cell=(cells * bench.LATTICE, cells * bench.LATTICE, whole.cell[2]),
    )  # fmt: skip


def atoms_of(e: Experiment, specimen: Specimen, configuration: int) -> Atoms:
    """One frozen-phonon configuration."""
    return draw_atoms(
        e, specimen.symbols, specimen.positions, specimen.u_iso, frame=None, displaced=True, random_seed=1,
        configuration=configuration, defocus_nm=None, displace_z=True, fixed_slicing=True,
    )  # fmt: skip


def silent(done: int, total: int) -> None:
    """Show no progress."""


def measured(settings: dict[str, Any]) -> list[str]:
    """One line of the table: cost of both algorithms in waves × slices, rank, and the estimate."""
    e, specimen = experiment(settings)
    configurations = [atoms_of(e, specimen, number) for number in range(settings["configurations"])]
    flag, _ = prepare_plans(partial(strip_plan, e))
    defoci = [0.0] if settings["defoci"] == 1 else np.linspace(-6.0, 6.0, settings["defoci"]).tolist()
    unit, few, many, superposed = [], [], [], []
    for _ in range(ROUNDS):
        unit.append(_wave_seconds(e, configurations[0], flag))
        few.append(sum(_multislice_seconds(e, atoms, flag, FEW) for atoms in configurations))
        many.append(sum(_multislice_seconds(e, atoms, flag, MANY) for atoms in configurations))
        superposed.append(sum(_superposed_seconds(e, atoms, defoci, flag) for atoms in configurations))
    wave, per_probe = min(unit), (min(many) - min(few)) / (MANY - FEW)
    probes = e.positions * len(defoci)
    whole = (len(defoci) * (min(few) - FEW * per_probe) + per_probe * probes) / wave
    basis = min(superposed) / wave
    rank = Basis.of(e, defoci).rank
    return [
        f"{probes}", f"{rank}", f"{whole:.0f}", f"{basis:.0f}", f"**{whole / basis:.1f}**",
        f"{probes / rank / (whole / basis):.1f}",
        f"{len(configurations) * superposition_probe_slices(e, rank, len(defoci)):.0f}",
    ]  # fmt: skip


def _wave_seconds(e: Experiment, atoms: Atoms, flag: str) -> float:
    """CPU seconds of one wave through one slice."""
    with Propagation(e, atoms, 1, flag) as propagation:
        transmissions = propagation.transmissions(range(min(10, e.slices)))
        propagators = propagation.propagators[: len(transmissions)]
        incident = np.zeros(e.grid.gpts, dtype=e.complex_dtype)
        incident[0, 0] = 1
        with propagation.plan() as plan:
            begin = time.process_time()
            for _ in range(8):
                for _wave in propagate(plan, incident, transmissions, propagators, (len(transmissions),)):
                    pass
            return (time.process_time() - begin) / 8 / len(transmissions)


def _multislice_seconds(e: Experiment, atoms: Atoms, flag: str, probes: int) -> float:
    """CPU seconds of a job with this number of probes."""
    some = tuple(np.linspace(0.0, e.scan_x[-1], probes).tolist())
    job = replace(e, algorithm="multislice", scan_x=some, scan_y=e.scan_y[:1])
    return _seconds(lambda: simulate(job, atoms, 0.0, threads=1, flag=flag, on_progress=silent))


def _superposed_seconds(e: Experiment, atoms: Atoms, defoci: list[float], flag: str) -> float:
    def superpose() -> None:
        if len(defoci) == 1:
            simulate(e, atoms, 0.0, threads=1, flag=flag, on_progress=silent)
            return
        with Propagation(e, atoms, 1, flag) as propagation:
            superposition = Superposition.of(propagation, defoci, 4e9, silent)
        for defocus in defoci:
            superposition.signals(e, defocus)

    return _seconds(superpose)


def _seconds(action: Any) -> float:
    begin = time.process_time()
    action()
    return time.process_time() - begin


def rows() -> Iterator[list[str]]:
    """The lines of the table: the usual job, and one line for each change."""
    yield ["–", "the usual job", *measured(USUAL)]
    for key, values in CHANGES.items():
        for value in values:
            yield [NAMES[key], f"{value:g}", *measured({**USUAL, key: value})]


def main() -> None:
    """Measure everything and rewrite the page."""
    s = USUAL
    lines = [
        page.circumstances(cpu_model(), bench.library_version()),
        "",
        f"The usual job has {s['cells']} × {s['cells']} unit cells of SrTiO3, {s['grid']}² points, {s['slices']} "
        f"slices, {s['points']} × {s['points']} positions in one unit cell, 200 kV, 20 mrad, 1 mrad bins and one ring, "
        "and a tolerance of 10⁻⁴. Costs are in waves × slices of the same grid, with potentials and detectors. The "
        "column *cross at* gives the number of probes per wave of the basis at which both algorithms cost the same. "
        "The column *estimated* gives the cost of probe_basis by the cost model.",
        "",
    ]
    head = ["changed", "to", "probes", "rank", "multislice", "probe_basis", "ratio", "cross at", "estimated"]
    lines += page.table(head, rows())
    page.rewrite("make bench-growth", lines, page.METHOD)


if __name__ == "__main__":
    main()
