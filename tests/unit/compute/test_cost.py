"""What the plan of a run estimates: the rank of a basis, and the waves, memory and disk of energy losses."""

from __future__ import annotations

import numpy as np
import pytest
from stemphony.compute.cost import _estimated_rank, memory_mb, probe_slices, result_bytes, wave_plan
from stemphony.compute.incident_basis import Basis, rank_of_window
from support.experiments import PLASMONS, experiment, planned


@pytest.mark.parametrize("defoci", [[0.0], [-4.0, 0.0, 4.0]])
@pytest.mark.parametrize("scan", [{"x": [0.0, 0.25], "y": [0.0, 0.5]}, {"x": [0.0, 1.0], "y": [0.0, 1.0]}])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_the_rank_without_waves_is_that_of_the_waves(
    defoci: list[float], scan: dict[str, list[float]], tolerance: float
):
    of = experiment(
        (31.24, 31.24, 7.81),
        simulation={"basis_tolerance": tolerance},
        probe={"semiangle_mrad": 12.0},
        grating={"gpts": [96, 96]},
        scan={**scan, "points": [9, 8]},
        adf={"bins": 5, "max_mrad": 20.0, "detectors": {"bf": [0.0, 10.0]}},
    )
    nx, ny = np.array([0, 2, 4, 6, 8]), np.array([0, 1, 3, 5, 7])
    waves = Basis.of(of, defoci, (nx[:, None] * 8 + ny).ravel()).rank
    found = rank_of_window(of, defoci, nx, ny)
    # The error of all defoci together bounds the error of each, so the rank may be a little larger.
    assert waves <= found <= waves + 2 * (len(defoci) - 1)
    assert found <= 25 * len(defoci)


def test_the_rank_of_a_fine_scan_is_that_of_all_its_probes():
    scan = {"points": [30, 30], "x": [0.0, 0.3], "y": [0.0, 0.3]}
    of = experiment(probe={"semiangle_mrad": 20.0}, scan=scan)
    assert _estimated_rank(of, [5.0]) == pytest.approx(Basis.of(of, [5.0]).rank, abs=2)


def test_the_plan_counts_waves_memory_and_disk():
    plural = {**PLASMONS, "plural_scattering": True, "draws": 4}
    elastic, lossy = experiment(), experiment(plasmon_scattering=plural)
    assert probe_slices(lossy) == 9 * probe_slices(elastic)
    assert wave_plan(lossy, [0.0], True, 1e3).work == 9 * wave_plan(elastic, [0.0], False, 1e3).work
    images, patterns = result_bytes(experiment(plasmon_scattering=plural, cbed={"enabled": True}))
    assert patterns == 4 * result_bytes(experiment(cbed={"enabled": True}))[1]
    assert images > 2 * result_bytes(elastic)[0]
    assert memory_mb(lossy, 10, 1) > memory_mb(elastic, 10, 1)
    assert not planned(plasmon_scattering=PLASMONS, frozen_phonon={"independent_defoci": False}).shares_configurations
