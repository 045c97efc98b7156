"""Equivalent scan positions have equal signals, and what is unfolded is what computing every position gives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
from stemphony.compute.atoms import draw_atoms
from stemphony.compute.configuration import with_losses
from stemphony.compute.recorder import JobSignals
from stemphony.compute.simulation import simulate
from stemphony.experiment import campaign
from stemphony.experiment.model import Experiment
from stemphony.experiment.scan_edges import ScanEdges
from stemphony.experiment.scan_symmetry import Shared, shared_operations
from stemphony.paths import ResultPaths
from stemphony.results.job_file import slices_at_rest
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.symmetry import slab_operations
from support.experiments import FILES, FakeCampaign, tiny
from support.specimens import srtio3

DETECTORS = {"bf": [0.0, 10.0], "adf": [30.0, 50.0]}


@dataclass
class Simulation(FakeCampaign):
    """A campaign whose job files hold signals of real jobs."""

    def signals(self, defocus: str, configuration: int) -> JobSignals:
        s, phonons = self.specimen, self.campaign.config["frozen_phonon"]
        atoms = draw_atoms(
            self.experiment, s.symbols, s.positions, s.u_iso, frame=None, displaced=phonons["enabled"], random_seed=7,
            configuration=configuration, defocus_nm=None, displace_z=True, fixed_slicing=True, u_aniso=s.u_aniso,
        )  # fmt: skip
        value = self.campaign.defocus(defocus).value_nm
        of = with_losses(self.experiment.computed, self.campaign.job_params(defocus, configuration), 7, configuration)
        return simulate(
            of,
            atoms,
            value,
            threads=1,
            flag="FFTW_ESTIMATE",
            on_progress=lambda done, total: None,
        )


def prepared(folder: Path, specimen: Specimen, is_reduced: bool, /, **blocks: Any) -> tuple[Simulation, Shared]:
    edges = ScanEdges(margin=blocks.pop("margin", (0, 0)), repeats=blocks.pop("repeats", (None, None)))
    edges = replace(edges, pattern_repeats=edges.repeats)
    given = {
        "simulation": {"precision": "double"},
        "depths": {},
        "adf": {"detectors": DETECTORS, "max_mrad": None, "bins": 5},
        "frozen_phonon": {"enabled": False},
        **blocks,
    }
    planned = campaign.plan(tiny(**given), FILES, edges=edges)
    experiment = Experiment.of(planned.common_params, specimen.cell, specimen.layers)
    slices, is_displaced = slices_at_rest(specimen, experiment), planned.config["frozen_phonon"]["enabled"]
    found = slab_operations(specimen, slices, experiment.cell_gpts, is_displaced)
    shared = shared_operations(found.group, experiment)
    if is_reduced:
        planned = replace(planned, symmetry=shared.group)
        experiment = Experiment.of(planned.common_params, specimen.cell, specimen.layers)
    return Simulation(planned, experiment, specimen, ResultPaths.of("tiny", folder)), shared


def merged(folder: Path, specimen: Specimen, is_reduced: bool, /, **blocks: Any) -> dict[str, np.ndarray]:
    made, _ = prepared(folder, specimen, is_reduced, **blocks)
    for pair in made.pairs:
        made.write(*pair, coordinates=False)
    with netCDF4.Dataset(made.merge()) as root:
        return {
            f"{group}/{name}": np.asarray(variable[...], dtype=float)
            for group in ("images", "adf", "cbed")
            if group in root.groups
            for name, variable in root[group].variables.items()
        }


def silicon_110() -> Specimen:
    """Si along [110]: cells of a/√2 × a × a/√2, with a glide plane."""
    a = 5.431
    lengths = np.array([a / np.sqrt(2), a, a / np.sqrt(2)])
    sites = np.array([(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.25, 0), (0, 0.75, 0.5)])
    cells = np.array(list(np.ndindex(2, 1, 2)), dtype=float)
    positions = np.concatenate([(cells + site) * lengths for site in sites])
    cell = (2 * lengths[0], lengths[1], 2 * lengths[2])
    return Specimen(np.repeat("Si", len(positions)), positions, cell, np.full(len(positions), 0.006), None, "ase")


def molybdenite() -> Specimen:
    """A layer of MoS2 in its centred cell of a × √3·a."""
    a, b = 3.16, 3.16 * np.sqrt(3)
    sites = [("Mo", (0, 0, 4.0))] + [("S", (0, b / 3, 4.0 + dz)) for dz in (-1.56, 1.56)]
    atoms = [(s, np.add(p, move)) for s, p in sites for move in ((0, 0, 0), (a / 2, b / 2, 0))]
    positions = np.array([p for _, p in atoms])
    positions = np.concatenate([positions, positions + np.array([a, 0, 0])])
    symbols = np.array([s for s, _ in atoms] * 2)
    return Specimen(symbols, positions, (2 * a, b, 8.0), np.full(len(symbols), 0.005), None, "ase")


CASES: dict[str, tuple[Specimen, dict[str, Any], int, int]] = {
    "SrTiO3, one cell": (srtio3((2, 2, 1)), {"scan": {"x": [0, 0.5], "y": [0, 0.5], "points": [8, 8]}}, 64, 15),
    "SrTiO3, four cells": (srtio3((2, 2, 1)), {"scan": {"points": [8, 8]}}, 64, 6),
    "SrTiO3, margin": (
        srtio3((2, 2, 1)),
        {"scan": {"x": [0, 0.5], "y": [0, 0.5], "points": [4, 4]}, "margin": (1, 2)},
        48,
        6,
    ),
    "a source on whole cells": (
        srtio3((2, 2, 1)),
        {"scan": {"points": [8, 8]}, "probe": {"source_fwhm_nm": 0.1}, "repeats": (0, 0)},
        64,
        6,
    ),
    "Si [110]": (
        silicon_110(),
        {"grating": {"gpts": [64, 48], "slice_thickness_angstrom": "auto"},
         "scan": {"x": [0, 0.5], "points": [6, 8]}},
        48,
        16,
    ),
    "MoS2": (
        molybdenite(),
        {"grating": {"gpts": [64, 56], "slice_thickness_angstrom": "auto"}, "scan": {"points": [8, 8]}},
        64,
        12,
    ),
    "probe_basis": (
        srtio3((2, 2, 1)),
        {"simulation": {"precision": "double", "algorithm": "probe_basis", "basis_tolerance": 1e-12},
         "scan": {"x": [0, 0.5], "y": [0, 0.5], "points": [4, 4]}},
        16,
        6,
    ),
    "C12 along x": (
        srtio3((2, 2, 1)),
        {"probe": {"aberrations": {"C12_nm": 30.0}}, "scan": {"x": [0, 0.5], "y": [0, 0.5], "points": [4, 4]}},
        16,
        9,
    ),
    "C21 at 20°": (
        srtio3((2, 2, 1)),
        {"probe": {"aberrations": {"C21_nm": 300.0, "phi21_deg": 20.0}}, "scan": {"points": [4, 4]}},
        16,
        4,
    ),
    "a tilt along x, descanned": (
        srtio3((2, 2, 1)),
        {"probe": {"tilt_mrad": [4.0, 0.0], "descan": True},
         "scan": {"x": [0, 0.5], "y": [0, 0.5], "points": [4, 4]}},
        16,
        12,
    ),
    "precession of six steps": (
        srtio3((2, 2, 1)),
        {"probe": {"precession": {"angle_mrad": 5.0, "steps": 6}, "descan": True},
         "scan": {"x": [0, 0.5], "y": [0, 0.5], "points": [4, 4]}},
        16,
        9,
    ),
    "a tilted specimen": (
        srtio3((2, 2, 1)),
        {"specimen": {"tilt_mrad": [0.0, 8.0]}, "scan": {"x": [0, 0.5], "y": [0, 0.5], "points": [4, 4]}},
        16,
        12,
    ),
    "quadrants with soft edges": (
        srtio3((2, 2, 1)),
        {"adf": {"segmented": {"q": {"inner_mrad": 0.0, "outer_mrad": 30.0, "segments": 4, "rotation_deg": 45.0}},
                 "edges": "area", "integrated": True},
         "scan": {"x": [0, 0.5], "y": [0, 0.5], "points": [8, 8]}},
        64,
        15,
    ),
    "quadrants with hard edges on pixels": (
        srtio3((2, 2, 1)),
        {"adf": {"segmented": {"q": {"inner_mrad": 0.0, "outer_mrad": 30.0, "segments": 4, "rotation_deg": 45.0}}},
         "scan": {"x": [0, 0.5], "y": [0, 0.5], "points": [8, 8]}},
        64,
        18,
    ),
    "a window off the points of symmetry": (
        srtio3((2, 2, 1)),
        {"scan": {"x": [0.013, 0.35], "y": [0.021, 0.45], "points": [4, 4]}},
        16,
        16,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_at_rest_the_unfolded_result_is_that_of_all_positions(name, tmp_path):
    specimen, blocks, positions, distinct = CASES[name]
    blocks = {**blocks, "cbed": {"enabled": True, "max_mrad": 30.0}}
    made, shared = prepared(tmp_path, specimen, True, **blocks)
    assert (made.experiment.positions, made.experiment.computed.positions) == (positions, distinct)
    assert (shared.group is None) == (positions == distinct)
    one, other = (merged(tmp_path / str(kind), specimen, kind, **blocks) for kind in (True, False))
    assert "images/orbit" in one or shared.group is None
    for variable, expected in other.items():
        np.testing.assert_allclose(
            one[variable], expected, rtol=0, atol=1e-12 * max(1.0, np.abs(expected).max()), err_msg=variable
        )


def test_copies_have_all_energy_losses(tmp_path):
    """Deflections of one configuration have no symmetry, so only signals without a loss are equal at once."""
    plasmons = {"enabled": True, "mean_free_path_nm": 0.5, "plasmon_energy_ev": 16.9, "plasmon_fwhm_ev": 4.0,
                "plural_scattering": True, "energy_grid_density_per_ev": 0.2, "max_energy_ev": 40.0}  # fmt: skip
    blocks = {"scan": {"x": [0, 0.5], "y": [0, 0.5], "points": [4, 4]}, "plasmon_scattering": plasmons,
              "cbed": {"enabled": True, "max_mrad": 30.0}}  # fmt: skip
    made, _ = prepared(tmp_path, srtio3((2, 2, 1)), True, **blocks)
    assert made.experiment.computed.positions < 16
    one, other = (merged(tmp_path / str(kind), srtio3((2, 2, 1)), kind, **blocks) for kind in (True, False))
    centers = [found["adf/center_of_mass"][..., 0, :] for found in (one, other)]
    np.testing.assert_allclose(*centers, rtol=0, atol=1e-9)
    assert np.ptp(centers[0]) > 0.1  # mrad
    for name, axis in (("adf/adf_intensities", 5), ("adf/energy_loss_spectrum", 5), ("cbed/cbed_intensities", 5)):
        without, expected = (np.take(found[name], 0, axis=axis) for found in (one, other))
        np.testing.assert_allclose(without, expected, rtol=0, atol=1e-12, err_msg=name)
        lost, computed = (np.delete(found[name], 0, axis=axis) for found in (one, other))
        assert lost.sum() == pytest.approx(computed.sum(), rel=0.05)
        # A computed position has the same bits.
        np.testing.assert_allclose(lost[:, 0, 0], computed[:, 0, 0], rtol=0, atol=1e-12, err_msg=name)
        assert lost.max() > 0.01 * expected.max()


def test_in_windows_copies_are_as_good_as_the_windows(tmp_path):
    """A window holds other atoms for each member of an orbit, so copies differ by the error of the window."""
    specimen = srtio3((8, 6, 1))
    blocks = {"scan": {"x": [0.25, 0.375], "y": [1 / 3, 0.5], "points": [4, 4]}, "simulation": {"precision": "single"}}
    grating = {"gpts": [192, 144], "slice_thickness_angstrom": 1.96}
    whole = merged(tmp_path / "whole", specimen, False, grating=grating, **blocks)
    grating = {**grating, "window_angstrom": 16.0}
    made, _ = prepared(tmp_path, specimen, True, grating=grating, **blocks)
    assert (made.experiment.positions, made.experiment.computed.positions) == (16, 9)  # x and y differ
    one, other = (merged(tmp_path / str(kind), specimen, kind, grating=grating, **blocks) for kind in (True, False))
    assert len(np.unique(one["images/orbit"])) == 9
    for name in ("images/bf", "images/adf"):
        error = np.abs(other[name] - whole[name]).max()
        assert error > 1e-6 * whole[name].max(), "the windows cut something off"
        np.testing.assert_allclose(one[name], whole[name], rtol=0, atol=2 * error)


def test_members_of_an_orbit_agree_to_rounding(tmp_path):
    specimen, blocks, *_ = CASES["SrTiO3, one cell"]
    made, shared = prepared(tmp_path, specimen, False, **blocks)
    orbit = replace(made.experiment, symmetry=shared.group).orbit
    signals = made.signals(made.campaign.defoci[0].id, 0)
    for image in np.moveaxis(np.concatenate([signals.rings, signals.bins], axis=-1)[:, :, -1], -1, 0):
        spread = max(np.ptp(image[orbit == number]) for number in np.unique(orbit))
        assert spread <= 4e-15 * max(image.max(), 0.05)


def test_a_window_that_the_symmetry_does_not_map_is_computed_whole(tmp_path):
    specimen = srtio3((2, 2, 1))
    _, shared = prepared(tmp_path, specimen, True, scan={"x": [0.01, 0.2], "y": [0.02, 0.23], "points": [3, 3]})
    assert shared.group is None


@pytest.mark.parametrize(
    ("keys", "operations", "broken"),
    [
        ({}, 8, ()),
        ({"aberrations": {"C30_nm": 1e6}}, 8, ()),
        ({"aberrations": {"C12_nm": 5.0}}, 4, ("probe.aberrations",)),
        ({"aberrations": {"C12_nm": 5.0, "phi12_deg": 45.0}}, 4, ("probe.aberrations",)),
        ({"aberrations": {"C12_nm": 5.0, "phi12_deg": 10.0}}, 2, ("probe.aberrations",)),
        ({"aberrations": {"C21_nm": 5.0}}, 2, ("probe.aberrations",)),
        ({"aberrations": {"C23_nm": 5.0, "phi23_deg": 30.0}}, 2, ("probe.aberrations",)),
        ({"aberrations": {"C34_nm": 5.0}}, 8, ()),
        ({"aberrations": {"C34_nm": 5.0, "phi34_deg": 10.0}}, 4, ("probe.aberrations",)),
    ],
)
def test_aberrations_leave_the_operations_of_their_azimuth(keys, operations, broken, tmp_path):
    _, shared = prepared(tmp_path, srtio3((2, 2, 1)), True, scan={"points": [8, 8]}, probe=keys)
    assert shared.group is not None
    assert len(shared.group.operations) == operations
    assert shared.broken == broken


def test_a_tilt_leaves_the_operations_that_keep_it(tmp_path):
    made, shared = prepared(tmp_path, srtio3((2, 2, 1)), True, scan={"points": [8, 8]})
    straight = replace(made.experiment, symmetry=None)
    for tilt, operations in (((0.0, 0.0), 8), ((3e-3, 0.0), 2), ((2e-3, 2e-3), 2), ((2e-3, 1e-3), 1)):
        for key in ("tilt", "specimen_tilt"):
            found = shared_operations(shared.group, replace(straight, **{key: tilt}))
            assert len(found.group.operations) == operations
            assert found.broken == (
                () if operations == 8 else (f"{'probe' if key == 'tilt' else 'specimen'}.tilt_mrad",)
            )


def test_patterns_of_even_size_leave_what_maps_pixels_on_pixels(tmp_path):
    scan = {"points": [8, 8]}
    for size, operations in (([11, 11], 8), ([10, 10], 2), ([11, 9], 4), ([10, 9], 2)):
        cbed = {"enabled": True, "max_mrad": 30.0, "size": size}
        _, shared = prepared(tmp_path, srtio3((2, 2, 1)), True, scan=scan, cbed=cbed)
        assert len(shared.group.operations) == operations, size


@pytest.mark.slow
def test_with_phonons_the_mean_agrees_within_its_error(tmp_path):
    number = 24
    blocks = {
        "scan": {"x": [0, 0.5], "y": [0, 0.5], "points": [4, 4]},
        "grating": {"gpts": [48, 48], "slice_thickness_angstrom": 1.9525},
        "adf": {"detectors": {"adf": [20.0, 40.0]}, "max_mrad": 45.0, "bins": 3},
        "frozen_phonon": {"enabled": True, "configurations": number, "independent_defoci": False},
    }
    specimen = srtio3((2, 2, 2))
    one, other = (merged(tmp_path / str(kind), specimen, kind, **blocks) for kind in (True, False))
    orbit = one["images/orbit"].astype(int)
    assert len(np.unique(orbit)) == 6
    image, error = one["images/adf"][0, 0, 0], one["images/adf_standard_error"][0, 0, 0]
    # Copies have the value and the error of the position that was computed, bit for bit.
    for found, expected in ((image, other["images/adf"]), (error, other["images/adf_standard_error"])):
        for place in np.ndindex(4, 4):
            first = np.argwhere(orbit == orbit[place])[0]
            assert found[place] == found[tuple(first)]
        computed = [tuple(np.argwhere(orbit == value)[0]) for value in np.unique(orbit)]
        np.testing.assert_allclose([found[p] for p in computed], [expected[0, 0, 0][p] for p in computed], rtol=1e-12)
    apart = (image - other["images/adf"][0, 0, 0]) / np.hypot(error, other["images/adf_standard_error"][0, 0, 0])
    assert np.abs(apart).max() < 4.0
    assert np.sqrt(np.mean(apart**2)) < 1.5
