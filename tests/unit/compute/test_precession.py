"""Tilts of the beam in one job: algorithms and precisions agree, and the cost is that of all tilts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from stemphony.compute.atoms import Atoms, draw_atoms
from stemphony.compute.cost import memory_mb, probe_slices, wave_plan
from stemphony.compute.recorder import JobSignals
from stemphony.compute.simulation import simulate
from stemphony.experiment.model import Experiment
from support.experiments import experiment
from support.specimens import srtio3

SPECIMEN = srtio3((2, 2, 2))
CONE = {"angle_mrad": 5.0, "steps": 3}
TILTS: dict[str, dict[str, Any]] = {
    "beam": {"probe": {"tilt_mrad": [4.3, -2.9], "descan": True}},
    "specimen": {"specimen": {"file": "tiny.xyz", "tilt_mrad": [20.0, 11.0]}},
    "precession": {"probe": {"tilt_mrad": [0.4, 0.0], "precession": CONE}},
}
STORED: dict[str, Any] = {"cbed": {"enabled": True, "max_mrad": 30.0}, "scan": {"points": [4, 3]}}


def atoms(of: Experiment) -> Atoms:
    return draw_atoms(
        of, SPECIMEN.symbols, SPECIMEN.positions, SPECIMEN.u_iso, frame=None, displaced=True, random_seed=1,
        configuration=0, defocus_nm=None, displace_z=True, fixed_slicing=True,
    )  # fmt: skip


def computed(algorithm: str = "multislice", precision: str = "double", **blocks: Any) -> JobSignals:
    simulation = {"algorithm": algorithm, "precision": precision, "basis_tolerance": 1e-6}
    of = experiment(simulation=simulation, **{**STORED, **blocks})
    return simulate(of, atoms(of), 2.0, threads=2, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None)


def deviation(one: JobSignals, other: JobSignals) -> float:
    """Largest deviation of any signal, relative to its maximum."""
    names = ("bins", "rings", "total", "center_of_mass", "cbed")
    pairs = [(getattr(one, name), getattr(other, name)) for name in names]
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


@pytest.mark.parametrize("name", TILTS)
def test_basis_and_precision_agree_with_exact_waves(name):
    exact = computed(**TILTS[name])
    assert deviation(computed("probe_basis", **TILTS[name]), exact) < 1e-6
    assert deviation(computed(precision="single", **TILTS[name]), exact) < 3e-5
    assert deviation(computed(), exact) > 1e-3


def test_two_opposite_directions_of_a_cone_about_its_own_angle_are_this_tilt_and_the_axis():
    cone = {"tilt_mrad": [4.0, 0.0], "precession": {"angle_mrad": 4.0, "steps": 2}}
    mean, away, axis = computed(probe=cone), computed(probe={"tilt_mrad": [8.0, 0.0]}), computed()
    assert mean.rings == pytest.approx(0.5 * (away.rings + axis.rings), abs=1e-14)
    assert mean.cbed == pytest.approx(0.5 * (away.cbed + axis.cbed), abs=1e-14)
    assert mean.waves == 2 * axis.waves


def test_cost_counts_every_tilt():
    straight, cone = (experiment(**STORED, probe=probe) for probe in ({}, {"precession": CONE}))
    assert probe_slices(cone) == 3 * probe_slices(straight)
    plans = [wave_plan(of, [0.0, 1.0], True, 1000.0) for of in (straight, cone)]
    assert plans[1].work == 3 * plans[0].work
    assert memory_mb(cone, 40, 1) > memory_mb(straight, 40, 1)
    basis = experiment(**STORED, probe={"precession": CONE}, simulation={"algorithm": "probe_basis"})
    assert not wave_plan(basis, [0.0, 1.0], True, 1000.0).shared
