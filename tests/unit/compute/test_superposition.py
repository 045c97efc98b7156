"""`probe_basis` gives the signals of `multislice` within the user's tolerance, with fewer waves."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stemphony.compute import basis_memory, tiled_scan
from stemphony.compute.atoms import Atoms, draw_atoms
from stemphony.compute.basis_memory import beams, kept_bytes, most_waves, search_bytes, waves_bytes
from stemphony.compute.cost import WavePlan, chosen_algorithm, memory_mb, superposition_probe_slices, wave_plan
from stemphony.compute.exit_waves import ExitWaves, slice_blocks
from stemphony.compute.incident_basis import Basis
from stemphony.compute.propagation import Propagation
from stemphony.compute.recorder import JobSignals
from stemphony.compute.simulation import simulate
from stemphony.compute.superposed_signals import SuperposedSignals
from stemphony.compute.superposition import Superposition
from stemphony.compute.tiled_scan import tiles
from stemphony.experiment.model import Experiment
from stemphony.physics import basis as basis_module
from stemphony.specimen.structures import read_specimen
from support.arrays import differences
from support.experiments import experiment
from support.specimens import srtio3

SPECIMEN = srtio3((2, 2, 4))
SRTIO3 = Path(__file__).parents[3] / "config/srtio3.cif"
DEFOCI = [-4.0, 0.0, 3.0]
USUAL: dict[str, Any] = {
    "scan": {"x": [0.0, 0.5], "y": [0.0, 0.5], "points": [7, 6]},
    "depths": {"every_angstrom": 5.9},
    "adf": {"bins": 20, "max_mrad": 60.0, "detectors": {"bf": [0, 10], "abf": [10, 20], "haadf": [40, 60]}},
    "cbed": {"enabled": True, "max_mrad": 50.0},
}
CASES: dict[str, dict[str, Any]] = {
    "usual": {},
    "double precision": {"simulation": {"precision": "double"}},
    "soft edges": {"adf": {**USUAL["adf"], "edges": "area"}},
    "aberrations": {"probe": {"aberrations": {"C30_nm": 1500.0, "C12_nm": 3.0, "phi12_deg": 20.0}}},
    "ring aperture, one depth": {
        "probe": {"semiangle_mrad": 30.0, "semiangle_inner_mrad": 15.0, "soft_aperture": False},
        "depths": {"every_angstrom": None},
    },
    "every slice": {"depths": {"every_angstrom": 0.1}},
    "whole cell": {"scan": {"x": [0.0, 1.0], "y": [0.0, 1.0], "points": [12, 13]}},
    "resized patterns": {"cbed": {"enabled": True, "max_mrad": 60.0, "size": [9, 11]}},
    "no detectors": {"adf": {"enabled": False}},
    "no patterns, no moments": {"cbed": {"enabled": False}, "adf": {**USUAL["adf"], "center_of_mass": False}},
    "one position": {"scan": {"points": [1, 1]}},
}


def made(tolerance: float = 1e-4, algorithm: str = "probe_basis", **blocks: dict[str, Any]) -> Experiment:
    simulation = {"algorithm": algorithm, "basis_tolerance": tolerance, **blocks.pop("simulation", {})}
    return experiment(SPECIMEN.cell, **{**USUAL, **blocks, "simulation": simulation})


def atoms_of(of: Experiment) -> Atoms:
    return draw_atoms(
        of, SPECIMEN.symbols, SPECIMEN.positions, SPECIMEN.u_iso, frame=None, displaced=True, random_seed=1,
        configuration=0, defocus_nm=None, displace_z=True, fixed_slicing=True,
    )  # fmt: skip


def computed(of: Experiment, defocus: float = 3.0, **settings: Any) -> JobSignals:
    usual: dict[str, Any] = {"threads": 1, "flag": "FFTW_ESTIMATE", "on_progress": lambda done, total: None}
    return simulate(of, atoms_of(of), defocus, **{**usual, **settings})


def deviation(got: np.ndarray, exact: np.ndarray) -> float:
    """RMS deviation over the RMS of the exact array."""
    return float(np.sqrt(np.mean((got - exact) ** 2) / np.mean(exact**2)))


def assert_kept(got: JobSignals, exact: JobSignals, of: Experiment, tolerance: float) -> None:
    """Compare images, bins and patterns within the tolerance; for centres of mass it is a share of the semi-angle."""
    assert got.rings.shape == exact.rings.shape
    for image in range(exact.rings.shape[-1]):
        for depth in range(exact.rings.shape[2]):
            assert deviation(got.rings[:, :, depth, image], exact.rings[:, :, depth, image]) < tolerance, image
    if of.adf:
        assert deviation(got.bins, exact.bins) < tolerance
        assert deviation(got.total, exact.total) < tolerance
    if of.center_of_mass:
        rms = np.sqrt(np.mean((got.center_of_mass - exact.center_of_mass) ** 2))
        assert rms < tolerance * of.semiangle
    assert (got.cbed is None) == (exact.cbed is None)
    if got.cbed is not None and exact.cbed is not None:
        assert got.cbed.dtype == exact.cbed.dtype
        assert deviation(got.cbed, exact.cbed) < tolerance


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_probe_basis_equals_multislice_within_the_tolerance(name):
    of = made(1e-4, **CASES[name])
    got, exact = computed(of), computed(made(algorithm="multislice", **CASES[name]))
    assert_kept(got, exact, of, 1e-4)
    assert got.algorithm == "probe_basis"
    assert exact.algorithm == "multislice"
    assert 1 <= got.waves <= exact.waves == of.positions


def test_matrices_are_chosen_where_they_take_fewer_products(monkeypatch):
    """The sum and the moment along kx take products; the moment along ky comes from the sum."""
    signals = SuperposedSignals(made(adf={"bins": 2, "max_mrad": 60.0, "detectors": {"bf": [0, 10]}}))
    waves = np.zeros((20, signals.pixels.size), dtype=np.complex64)

    def chosen(probes: int, budget_bytes: float = 1e9) -> bool:
        return signals._forms_are_cheaper(waves, np.zeros((20, probes)), budget_bytes, 0)

    monkeypatch.setattr(basis_module, "_SHORTEST_RUN", 1)
    assert [chosen(probes) for probes in (38, 52, 80)] == [False, True, True]
    assert not chosen(80, budget_bytes=1e3)
    monkeypatch.setattr(basis_module, "_SHORTEST_RUN", 1e9)  # each moment takes products of its own
    assert [chosen(probes) for probes in (38, 52, 80)] == [False, False, True]


@pytest.mark.parametrize("draw", ["configuration", "once"])
def test_probe_basis_equals_multislice_through_amorphous_films(draw):
    """Films are atoms like others to both algorithms, whether each configuration draws them or not."""
    films = {
        "entrance_nm": 0.6, "exit_nm": 0.6, "element": "C", "formula": None, "density_g_cm3": 2.0,
        "minimum_distance_angstrom": None, "draw": draw, "seed": 1,
    }  # fmt: skip
    covered = read_specimen(SRTIO3, repeat=(2, 2, 2), amorphous_layers=films, u_iso_angstrom2=dict.fromkeys(
        ("Sr", "Ti", "O", "C"), 0.005))  # fmt: skip
    assert (covered.symbols == "C").sum() > 50

    def signals(algorithm: str, configuration: int) -> JobSignals:
        simulation = {"algorithm": algorithm, "basis_tolerance": 1e-4}
        of = experiment(covered.cell, **{**USUAL, "simulation": simulation})
        atoms = draw_atoms(
            of, covered.symbols, covered.positions, covered.u_iso, frame=None, displaced=True, random_seed=1,
            configuration=configuration, defocus_nm=None, displace_z=True, fixed_slicing=True, films=covered.films,
        )  # fmt: skip
        return simulate(of, atoms, 3.0, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None)

    exact = signals("multislice", 0)
    of = experiment(covered.cell, **USUAL)
    assert_kept(signals("probe_basis", 0), exact, of, 1e-4)
    assert deviation(signals("multislice", 1).bins, exact.bins) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("defocus", [-8.0, 0.0, 12.0])
def test_every_tolerance_holds_at_every_defocus(defocus):
    blocks: dict[str, Any] = {
        "simulation": {"precision": "double"},
        "scan": {"x": [0.0, 0.5], "y": [0.0, 0.5], "points": [12, 12]},
    }
    exact = computed(made(algorithm="multislice", **blocks), defocus)
    for tolerance in (3e-2, 1e-2, 1e-3, 1e-4, 1e-5, 1e-8):
        of = made(tolerance, **blocks)
        assert_kept(computed(of, defocus), exact, of, tolerance)


@pytest.mark.parametrize(
    ("semiangle", "inner", "width", "points", "tolerance", "defocus"),
    [
        (5.0, 3.5, 0.1, 8, 3e-3, 3.0),  # the bright field lies in the hole of the aperture
        (5.0, 3.5, 0.25, 8, 0.1, 3.0),
        (20.0, 0.0, 0.01, 8, 1e-4, 3.0),  # the distance of positions is much smaller than the probe
        (25.0, 0.0, 0.03, 5, 1e-2, 50.0),
        (20.0, 0.0, 0.1, 10, 1e-2, -10.0),
    ],
)
def test_detectors_that_see_little_of_the_wave_keep_the_tolerance(semiangle, inner, width, points, tolerance, defocus):
    rings = {
        "bf": [0, semiangle / 2],
        "abf": [semiangle / 2, semiangle],
        "between": [1.1 * semiangle, 40],
        "haadf": [40, 60],
    }
    blocks: dict[str, Any] = {
        "simulation": {"precision": "double"},
        "probe": {"semiangle_mrad": semiangle, "semiangle_inner_mrad": inner},
        "scan": {"x": [0.1, 0.1 + width], "y": [0.2, 0.2 + width], "points": [points, points]},
        "adf": {"bins": 12, "max_mrad": 60.0, "detectors": rings},
    }
    of = made(tolerance, **blocks)
    exact = computed(made(algorithm="multislice", **blocks), defocus)
    assert_kept(computed(of, defocus), exact, of, tolerance)


def test_an_outlier_among_shared_defoci_keeps_the_tolerance():
    defoci = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 60.0]
    of = made(0.1)
    superposition = shared(of, defoci)
    for defocus in (0.0, 60.0):
        assert_kept(superposition.signals(of, defocus), computed(made(algorithm="multislice"), defocus), of, 0.1)


def test_a_rougher_tolerance_needs_fewer_waves():
    blocks = {"scan": {"x": [0.0, 0.4], "y": [0.0, 0.4], "points": [12, 12]}}
    ranks = [Basis.of(made(tolerance, **blocks), [0.0]).rank for tolerance in (1e-1, 1e-2, 1e-4, 1e-6)]
    assert ranks == sorted(ranks)
    assert ranks[0] < ranks[-1] < 144


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads):
    of = made()
    one, several = computed(of), computed(of, threads=threads)
    for name in ("bins", "rings", "total", "center_of_mass", "cbed"):
        assert np.array_equal(getattr(one, name), getattr(several, name)), name


@pytest.mark.slow
@pytest.mark.parametrize("waves", [0.5, 6.0, 40.0])
def test_a_scan_that_does_not_fit_is_cut_into_tiles(waves):
    of = made()
    exact = computed(made(algorithm="multislice"))
    budget = waves * waves_bytes(of, 1)
    parts = tiles(of, 3.0, budget)
    assert len(parts) > 1
    assert sorted(np.concatenate([tile.where for tile in parts])) == list(range(of.positions))
    assert max(tile.rank for tile in parts) <= max(1, budget / waves_bytes(of, 1) / 2)
    got = computed(of, budget_mb=budget / 1e6)
    assert_kept(got, exact, of, 1e-4)
    assert got.waves == sum(tile.rank for tile in parts)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0.0, 1e9])
def test_the_search_for_a_basis_takes_the_estimated_memory(monkeypatch, kept):
    of = experiment(
        (30.0, 30.0, 20.0), simulation={"algorithm": "probe_basis"}, probe={"semiangle_mrad": 30.0},
        grating={"gpts": [120, 120]}, scan={"x": [0.0, 1.0], "y": [0.0, 1.0], "points": [18, 18]},
        adf={"max_mrad": 33.0, "bins": 5, "detectors": {"adf": [31, 33]}},
    )  # fmt: skip
    monkeypatch.setattr(basis_module, "_KEPT_BYTES", kept)
    monkeypatch.setattr(basis_memory, "BLOCK_BYTES", 1e6)
    tracemalloc.start()
    rank = Basis.of(of, [0.0]).rank
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rank > 250
    plan = WavePlan("probe_basis", True, rank, 0.0, 0.0)
    without = memory_mb(replace(of, algorithm="multislice"), 0, 1, 0.0)
    asked = 1e6 * (memory_mb(of, 0, 1, 0.0, plan) - without)
    # The estimate takes kept residuals from the room for large blocks of probes; these blocks are small.
    kept_bytes = 16 * of.positions * (beams(of) + rank) if kept else 0.0
    assert search_bytes(of, rank) > 0.8 * asked
    assert 0.35 * asked < taken - kept_bytes < asked


def test_auto_uses_multislice_if_a_basis_does_not_fit_the_memory():
    of = made(algorithm="auto", scan={"x": [0.0, 0.2], "y": [0.0, 0.2], "points": [24, 24]})
    rank = Basis.of(of, [0.0]).rank
    enough = 2.0 * max(waves_bytes(of, rank + 1), search_bytes(of, 2 * rank + 2)) / 1e6
    assert most_waves(of, enough * 1e6) >= rank
    assert chosen_algorithm(of, 0.0, enough) == "probe_basis"
    assert wave_plan(of, [0.0], False, enough).algorithm == "probe_basis"
    few = waves_bytes(of, 3) / 1e6
    assert chosen_algorithm(of, 0.0, few) == "multislice"
    assert wave_plan(of, [0.0], False, few).algorithm == "multislice"


def test_the_cost_of_patterns_counts_their_native_pixels():
    whole, small = (made(cbed={"enabled": True, "max_mrad": 60.0, "size": size}) for size in (None, [4, 4]))
    assert superposition_probe_slices(small, 20, 1) == superposition_probe_slices(whole, 20, 1)


@pytest.mark.slow
def test_a_tile_frees_its_waves_before_the_next_tile_begins(monkeypatch):
    alive = weakref.WeakSet()
    seen = []

    class Watched(ExitWaves):
        def __init__(self, *arguments):
            gc.collect()
            seen.append(len(alive))
            super().__init__(*arguments)
            alive.add(self)

    monkeypatch.setattr(tiled_scan, "ExitWaves", Watched)
    of = made()
    computed(of, budget_mb=20 * waves_bytes(of, 1) / 1e6)
    assert len(seen) > 2
    assert set(seen) == {0}


def test_progress_counts_every_wave_once():
    seen: list[tuple[int, int]] = []
    of = made()
    computed(of, on_progress=lambda done, total: seen.append((done, total)), threads=2)
    total = Basis.of(of, [3.0]).rank * len(of.depth_slices)
    assert seen == [(done, total) for done in range(total + 1)]


def test_blocks_of_slices_end_at_depths_and_fit():
    of = made(**{"depths": {"at_angstrom": [3.9, 13.7], "every_angstrom": None}})
    assert of.depth_slices == (2, 7)
    assert slice_blocks(of, 1e12) == [(0, 2), (2, 7)]
    one = 64 * 64 * 8
    assert slice_blocks(of, 2 * one) == [(0, 2), (2, 3), (3, 5), (5, 7)]
    assert slice_blocks(of, 0.0) == [(i, i + 1) for i in range(7)]


# --- one propagation for all defoci -------------------------------------------------------------------------------


def shared(of: Experiment, defoci: list[float], threads: int = 1) -> Superposition:
    with Propagation(of, atoms_of(of), threads, "FFTW_ESTIMATE") as propagation:
        return Superposition.of(propagation, defoci, 1e9, lambda done, total: None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["usual", "double precision", "soft edges", "every slice", "no detectors"])
def test_one_propagation_serves_all_defoci(name):
    of = made(**CASES[name])
    superposition = shared(of, DEFOCI)
    for defocus in DEFOCI:
        exact = computed(made(algorithm="multislice", **CASES[name]), defocus)
        assert superposition.serves(defocus)
        got = superposition.signals(of, defocus)
        assert_kept(got, exact, of, 1e-4)
        assert got.waves == superposition.basis.rank
    assert not superposition.serves(40.0)


def test_shared_waves_are_fewer_than_those_of_each_defocus_alone():
    of = made()
    alone = [Basis.of(of, [defocus]).rank for defocus in DEFOCI]
    together = Basis.of(of, DEFOCI).rank
    assert max(alone) <= together < sum(alone)


def test_kept_waves_have_the_size_that_the_plan_says():
    for name in ("usual", "no detectors", "no patterns, no moments"):
        of = made(**CASES[name])
        kept = shared(of, DEFOCI)
        packed = sum(len(f) * kept.basis.rank * (kept.basis.rank + 1) // 2 * f.itemsize for f in kept.forms)
        real = packed + sum(p.nbytes for p in kept.patterns)
        assert real <= kept_bytes(of, kept.basis.rank) <= 1.2 * real


# --- the choice ---------------------------------------------------------------------------------------------------


def test_auto_uses_the_basis_only_where_it_is_less_work():
    dense = {"scan": {"x": [0.0, 0.25], "y": [0.0, 0.25], "points": [16, 16]}}
    few = {"scan": {"x": [0.0, 1.0], "y": [0.0, 1.0], "points": [2, 2]}}
    assert computed(made(1e-3, "auto", **dense, cbed={"enabled": False})).algorithm == "probe_basis"
    got = computed(made(1e-3, "auto", **few))
    assert got.algorithm == "multislice"
    assert not differences(got.rings, computed(made(algorithm="multislice", **few)).rings)


def test_the_plan_shares_waves_only_if_configurations_are_shared():
    blocks = {
        "simulation": {"algorithm": "auto", "basis_tolerance": 1e-3},
        "scan": {"x": [0.0, 0.1], "y": [0.0, 0.1], "points": [16, 16]},
    }
    of = experiment((7.81, 7.81, 156.2), **{**blocks, "depths": {"every_angstrom": None}})
    plan = wave_plan(of, DEFOCI, True, 4000.0)
    assert (plan.algorithm, plan.shared) == ("probe_basis", True)
    assert abs(plan.waves - Basis.of(of, DEFOCI).rank) <= 2
    alone = wave_plan(of, DEFOCI, False, 4000.0)
    assert (alone.algorithm, alone.shared) == ("probe_basis", False)
    assert plan.work < alone.work < 256 * 3 * of.slices
    # The plan does not share waves and matrices that exceed the memory.
    assert not wave_plan(of, DEFOCI, True, 0.1).shared
    exact = wave_plan(made(algorithm="multislice"), DEFOCI, True, 4000.0)
    assert (exact.algorithm, exact.shared, exact.waves, exact.work) == ("multislice", False, 42, 42 * 8 * 3)
