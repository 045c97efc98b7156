"""Windows of a large specimen: exact if nothing is cut, and otherwise with a measured error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stemphony.compute.atoms import Atoms, draw_atoms
from stemphony.compute.cost import memory_mb, wave_plan
from stemphony.compute.recorder import JobSignals
from stemphony.compute.simulation import simulate
from stemphony.compute.windows import doubled_grid, windows
from stemphony.errors import ConfigError
from stemphony.experiment.model import Experiment
from stemphony.specimen.structures import read_specimen
from support.experiments import experiment, tiny
from support.specimens import srtio3

SPECIMEN = srtio3((8, 6, 3))
USUAL: dict[str, Any] = {
    "simulation": {"precision": "double"},
    "grating": {"gpts": [216, 162], "window_angstrom": 15.0},
    "scan": {"x": [0.3, 0.7], "y": [0.2, 0.6], "points": [5, 4]},
    "depths": {"every_angstrom": 5.9},
    "adf": {"bins": 10, "max_mrad": 50.0, "detectors": {"bf": [0, 10], "haadf": [30, 50]}, "edges": "area"},
}


def made(**blocks: dict[str, Any]) -> Experiment:
    return experiment(SPECIMEN.cell, **{**USUAL, **blocks})


def atoms_of(of: Experiment, specimen: Any = SPECIMEN) -> Atoms:
    return draw_atoms(
        of, specimen.symbols, specimen.positions, specimen.u_iso, frame=None, displaced=True, random_seed=1,
        configuration=0, defocus_nm=None, displace_z=True, fixed_slicing=True,
    )  # fmt: skip


def computed(of: Experiment, atoms: Atoms, **settings: Any) -> JobSignals:
    usual: dict[str, Any] = {"threads": 1, "flag": "FFTW_ESTIMATE", "on_progress": lambda done, total: None}
    return simulate(of, atoms, 0.0, **{**usual, **settings})


def test_every_position_is_in_one_window_and_far_from_its_edges():
    of = made()
    assert of.grid.gpts == (105, 105)
    assert of.grid.sampling == pytest.approx((8 * 3.905 / 216, 6 * 3.905 / 162))
    seen = np.zeros((5, 4), dtype=int)
    for window in windows(of):
        seen[np.ix_(window.rows, window.columns)] += 1
        for along, positions in enumerate((window.experiment.scan_x, window.experiment.scan_y)):
            least = 0.5 * of.room[along] - 0.5 * of.grid.sampling[along]
            assert min(positions) >= least - 1e-9
            assert max(positions) <= of.grid.extent[along] - least + 1e-9
        for place, index in enumerate(window.rows):
            assert window.experiment.scan_x[place] + window.origin[0] == pytest.approx(of.scan_x[index])
    assert (seen == 1).all()


def test_a_window_holds_the_atoms_around_it_across_the_edge_of_the_cell():
    of = made(scan={"x": [0.0, 0.1], "y": [0.0, 0.1], "points": [1, 1]})
    atoms = atoms_of(of)
    (window,) = windows(of)
    inside = window.cut(atoms, of.cell)
    density = len(atoms.symbols) / (of.cell[0] * of.cell[1])
    assert len(inside.symbols) == pytest.approx(density * np.prod(of.grid.extent), rel=0.2)

    # The probe is in the middle; the distances of the nearest atoms are those of the periodic specimen.
    def nearest(positions: np.ndarray, point: np.ndarray, cell: tuple[float, ...]) -> np.ndarray:
        steps = positions[:, :2] - point
        steps -= np.array(cell[:2]) * np.round(steps / np.array(cell[:2]))
        return np.sort(np.hypot(*steps.T))[:40]

    there = np.array([window.experiment.scan_x[0], window.experiment.scan_y[0]])
    np.testing.assert_allclose(
        nearest(inside.positions, there, window.experiment.cell),
        nearest(atoms.positions, np.array([of.scan_x[0], of.scan_y[0]]), of.cell),
        atol=1e-9,
    )


def test_no_atom_is_lost_at_the_edge_of_an_axis_that_is_not_cut():
    specimen = srtio3((8, 2, 1))
    of = experiment(
        specimen.cell,
        grating={"gpts": [216, 108], "window_angstrom": 12.0},
        scan={"x": [0.3, 0.6], "y": [0.75, 1.0], "points": [1, 1]},
        adf={"max_mrad": 30.0, "detectors": {"bf": [0, 10]}},
    )
    (window,) = windows(of)
    # Rounding puts a lattice plane less than 1e-15 Å below the window's origin.
    assert (np.mod(specimen.positions[:, 1] - window.origin[1], specimen.cell[1]) == specimen.cell[1]).any()
    atoms = Atoms(specimen.symbols, specimen.positions, np.zeros(len(specimen.symbols), dtype=int))
    inside = window.cut(atoms, of.cell)
    along_x = np.mod(specimen.positions[:, 0] - window.origin[0], specimen.cell[0]) < of.grid.extent[0]
    assert len(inside.symbols) == along_x.sum()
    assert (inside.positions[:, :2] < of.grid.extent).all()


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["multislice", "probe_basis"])
def test_a_window_of_the_whole_cell_is_the_whole_cell(algorithm):
    """Also for segments, sensitivities and ions, and with a basis within its tolerance."""
    segments = {"q": {"inner_mrad": 0.0, "outer_mrad": 30.0, "segments": 4, "rotation_deg": 20.0}}
    camera = {"inner_mrad": 5, "outer_mrad": 45, "sensitivity": "camera.npy", "pixel_mrad": 2.5}
    adf = {**USUAL["adf"], "detectors": {**USUAL["adf"]["detectors"], "camera": camera}, "segmented": segments}
    values = {"camera": np.random.default_rng(1).random((40, 41))}

    def experiment_of(algorithm: str, **grating: Any) -> Experiment:
        simulation = {"precision": "double", "algorithm": algorithm, "basis_tolerance": 1e-9}
        config = tiny(**{**USUAL, "simulation": simulation, "adf": adf, "grating": {"gpts": [216, 162], **grating}})
        return Experiment.of(config, SPECIMEN.cell, None, values)

    whole, window = experiment_of("multislice"), experiment_of(algorithm, window_angstrom=100.0)
    assert window.grid.gpts == whole.grid.gpts
    assert len(whole.images) == 2 + 1 + 4
    charged = replace(SPECIMEN, symbols=np.char.add(SPECIMEN.symbols, np.where(SPECIMEN.symbols == "O", "2-", "2+")))
    exact, got = computed(whole, atoms_of(whole, charged)), computed(window, atoms_of(window, charged))
    # Probes and atoms move together, so only rounding differs.
    for name in ("bins", "rings", "total", "center_of_mass"):
        np.testing.assert_allclose(
            getattr(got, name), getattr(exact, name), rtol=1e-9 if algorithm == "multislice" else 1e-7, atol=1e-12
        )
    assert got.window_check is not None
    assert max(got.window_check["relative_deviation"].values()) < 1e-9


def test_a_window_holds_the_amorphous_films_of_its_configuration():
    films = {
        "entrance_nm": 0.5, "exit_nm": 0.0, "element": "C", "formula": None, "density_g_cm3": 2.0,
        "minimum_distance_angstrom": None, "draw": "configuration", "seed": 1,
    }  # fmt: skip
    source = Path(__file__).parents[3] / "config/srtio3.cif"
    covered = read_specimen(
        source, repeat=(8, 6, 1), amorphous_layers=films,
        u_iso_angstrom2=dict.fromkeys(("Sr", "Ti", "O", "C"), 0.005),
    )  # fmt: skip

    def signals(window: float | None) -> JobSignals:
        grating = {"gpts": [216, 162]} if window is None else {"gpts": [216, 162], "window_angstrom": window}
        of = experiment(covered.cell, **{**USUAL, "grating": grating})
        atoms = draw_atoms(
            of, covered.symbols, covered.positions, covered.u_iso, frame=None, displaced=True, random_seed=1,
            configuration=2, defocus_nm=None, displace_z=True, fixed_slicing=True, films=covered.films,
        )  # fmt: skip
        return computed(of, atoms)

    exact = signals(None)
    np.testing.assert_allclose(signals(100.0).rings, exact.rings, rtol=1e-9, atol=1e-12)
    near = signals(20.0).rings
    assert np.sqrt(np.mean((near - exact.rings) ** 2) / np.mean(exact.rings**2)) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["multislice", "probe_basis"])
def test_the_error_falls_with_the_window_and_is_measured(algorithm):
    exact_of = made(grating={"gpts": [216, 162]})
    exact = computed(exact_of, atoms_of(exact_of))
    errors, measured = [], []
    for size in (7.0, 12.0, 20.0):
        of = made(
            grating={"gpts": [216, 162], "window_angstrom": size},
            simulation={"precision": "double", "algorithm": algorithm},
        )
        got = computed(of, atoms_of(of))
        assert got.window_check is not None
        deviation = got.window_check["relative_deviation"]
        assert set(deviation) == {"bf", "haadf", "total_intensity"}
        error = np.sqrt(
            np.mean((got.rings - exact.rings) ** 2, axis=(0, 1, 2)) / np.mean(exact.rings**2, axis=(0, 1, 2))
        )
        errors.append(error)
        measured.append([deviation["bf"], deviation["haadf"]])
        assert got.algorithm == algorithm
    assert (errors[0] > errors[1]).all()
    assert (errors[1] > errors[2]).all()
    assert errors[2].max() < 0.1
    # Three positions give the error of the images within a small factor.
    ratio = np.array(measured) / np.array(errors)
    assert (ratio > 0.2).all()
    assert (ratio < 5).all()


def test_progress_reaches_the_end_and_never_goes_back():
    seen: list[tuple[int, int]] = []
    of = made()
    computed(of, atoms_of(of), on_progress=lambda done, total: seen.append((done, total)), threads=2)
    assert seen[0] == (0, 20)
    assert seen[-1] == (20, 20)
    assert seen == sorted(seen)


def test_patterns_have_the_pixels_of_the_window():
    of = made(cbed={"enabled": True, "max_mrad": 40.0})
    got = computed(of, atoms_of(of))
    assert got.cbed is not None
    assert got.cbed.shape[-2:] == (len(got.cbed_angles[0]), len(got.cbed_angles[1]))
    assert (got.cbed.sum(axis=(-1, -2)) > 0.5).all()


def test_the_reference_is_twice_as_wide_and_never_wider_than_the_cell():
    of = made()
    assert doubled_grid(of).gpts == (210, 162)
    assert doubled_grid(of).sampling == pytest.approx(of.grid.sampling)


def test_the_plan_counts_the_windows():
    of = made()
    number = len(list(windows(of)))
    plan = wave_plan(of, [0.0, 1.0], True, 4000.0)
    assert not plan.shared
    assert plan.work == pytest.approx(20 * of.depth_slices[-1] * 2, rel=0.5)
    assert number > 1


def test_memory_counts_the_reference_of_twice_the_size():
    of = made()
    alone = replace(of, window=None)
    wide = replace(of, window=None, grid=doubled_grid(of))
    assert memory_mb(alone, 1000, 1) < memory_mb(of, 1000, 1) == memory_mb(wide, 1000, 1)


def test_windows_without_adf_are_refused_because_their_error_is_not_measured():
    with pytest.raises(ConfigError, match=r"window_angstrom.*adf.enabled is false"):
        made(adf={"enabled": False}, cbed={"enabled": True})
