"""Segments are recorded by every algorithm, and without segments nothing is added."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from stemphony.compute.atoms import draw_atoms
from stemphony.compute.cost import result_bytes
from stemphony.compute.recorder import JobSignals
from stemphony.compute.simulation import simulate
from stemphony.experiment.model import Experiment
from support.arrays import differences
from support.experiments import CELL, experiment, tiny
from support.specimens import srtio3

SPECIMEN = srtio3((2, 2, 2))
SEGMENTS = {
    "q": {"inner_mrad": 0.0, "outer_mrad": 30.0, "segments": 4, "rotation_deg": 20.0},
    "dark": {"inner_mrad": 25.0, "outer_mrad": 55.0, "segments": 3, "radial": 2, "offset_mrad": [2.0, -1.0]},
}


def computed(algorithm: str, edges: str = "hard", precision: str = "double", **adf: Any) -> JobSignals:
    config = tiny(
        simulation={"algorithm": algorithm, "precision": precision, "basis_tolerance": 1e-6},
        adf={"bins": 5, "max_mrad": 60.0, "segmented": SEGMENTS, "edges": edges, **adf}, scan={"points": [4, 3]},
    )  # fmt: skip
    of = Experiment.of(config, CELL, None, SENSITIVITIES)
    atoms = draw_atoms(
        of, SPECIMEN.symbols, SPECIMEN.positions, SPECIMEN.u_iso, frame=None, displaced=True, random_seed=1,
        configuration=0, defocus_nm=None, displace_z=True, fixed_slicing=True,
    )  # fmt: skip
    return simulate(of, atoms, 2.0, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None)


@pytest.mark.parametrize("edges", ["hard", "area"])
def test_segments_of_superposed_waves_are_those_of_each_wave(edges):
    exact = computed("multislice", edges)
    assert exact.rings.shape[-1] == 2 + 4 + 6
    for other, close in ((computed("probe_basis", edges), 1e-7), (computed("multislice", edges, "single"), 1e-6)):
        for name in ("bins", "rings", "total", "center_of_mass"):
            assert np.abs(getattr(other, name) - getattr(exact, name)).max() < close


def test_segments_change_no_other_signal():
    with_them, without = computed("multislice"), computed("multislice", segmented={})
    assert not differences(with_them.rings[..., :2], without.rings)
    for name in ("bins", "total", "center_of_mass"):
        assert not differences(getattr(with_them, name), getattr(without, name))


def test_the_size_of_a_result_counts_segments():
    of = experiment(adf={"bins": 5, "max_mrad": 60.0, "segmented": SEGMENTS})
    images, _ = result_bytes(of)
    without, _ = result_bytes(replace(of, segmented={}))
    assert images - without == 10 * of.positions * len(of.depth_slices) * 4


SENSITIVITIES = {
    "bowl": np.array([[0.0, 0.2], [25.0, 0.9], [60.0, 0.4]]),
    "camera": np.random.default_rng(1).random((40, 41)),
}
SENSITIVE = {
    "bf": [0, 10],
    "bowl": {"inner_mrad": 5, "outer_mrad": 55, "sensitivity": "bowl.csv"},
    "camera": {"inner_mrad": 0, "outer_mrad": 50, "sensitivity": "camera.npy", "pixel_mrad": 2.5},
}


@pytest.mark.parametrize("edges", ["hard", "area"])
def test_sensitivities_of_superposed_waves_are_those_of_each_wave(edges):
    exact = computed("multislice", edges, detectors=SENSITIVE)
    assert exact.rings.shape[-1] == 3 + 4 + 6
    assert (exact.rings[..., 1:3] > 0.01).all()
    others = ((computed("probe_basis", edges, detectors=SENSITIVE), 1e-7),
              (computed("multislice", edges, "single", detectors=SENSITIVE), 1e-6))  # fmt: skip
    for other, close in others:
        for name in ("bins", "rings", "total", "center_of_mass"):
            assert np.abs(getattr(other, name) - getattr(exact, name)).max() < close
