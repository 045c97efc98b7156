"""Error budgets find the errors of wrong slices and grids, and find none in good ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from stemphony.accuracy.budget import Budget
from stemphony.physics.phonons import displacements
from stemphony.specimen.specimen_file import read_specimen_file
from support.budgets import ROOT, SRTIO3, SRTIO3_U, budget, prepare, variant
from support.campaign import changed

RINGS = {"bf": [0.0, 10.0], "adf": [40.0, 60.0], "haadf": [60.0, 90.0]}


def config(file: Path, repeat: list[int], grating: dict[str, Any], **blocks: Any) -> dict[str, Any]:
    """Atoms at rest under four positions of one unit cell."""
    made: dict[str, Any] = {
        "simulation": {"name": "budget"},
        "specimen": {"file": str(file), "repeat": repeat},
        "grating": grating,
        "scan": {"x": [0.0, 1 / repeat[0]], "y": [0.0, 1 / repeat[1]], "points": [4, 4]},
        "adf": {"detectors": RINGS},
        "frozen_phonon": {"enabled": False},
    }
    return changed(made, **blocks)


@pytest.fixture(scope="module")
def silicon(tmp_path_factory) -> Path:
    """Si, 5.431 Å, as a CIF."""
    from ase import Atoms
    from ase.io import write

    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    sites = np.concatenate([corners, corners + 0.25])
    file = tmp_path_factory.mktemp("si") / "si.cif"
    write(file, Atoms("Si8", scaled_positions=sites, cell=[5.431] * 3, pbc=True))
    return file


def worst(found: Budget, term: str, detector: str) -> float:
    line = next(line for line in found.lines if line.name == term)
    return max(abs(change.worst) for change in line.changes[detector])


def image(found: Budget, term: str, detector: str) -> float:
    line = next(line for line in found.lines if line.name == term)
    return line.largest([detector])


@pytest.mark.slow
def test_slice_boundaries_that_put_planes_a_slice_too_early_are_found(tmp_path: Path):
    """Row 1: planes that a file with four decimals puts in front of their boundary make HAADF many times too large."""
    half, planes = 3.9051 / 2, 52
    heights = half * np.arange(planes)
    early = [0.15 if float(f"{z:.4f}") < z else 0.0 for z in heights]
    assert 0 < np.count_nonzero(early) < planes
    by_hand = [0.0, *(heights + early)[1:].tolist()]
    cell = {"repeat": [3, 3, 26]}
    rest = {"gpts": [150, 150], "slice_thickness_angstrom": "auto"}
    wrong = config(SRTIO3, **cell, grating={**rest, "slice_boundaries_angstrom": by_hand})
    (tmp_path / "wrong").mkdir()
    (tmp_path / "right").mkdir()
    found = budget(wrong, tmp_path / "wrong", ["slices"])
    assert image(found, "slices", "haadf") > 0.1
    right = budget(config(SRTIO3, **cell, grating=rest), tmp_path / "right", ["slices"])
    assert image(right, "slices", "haadf") < 0.005
    # The budget has the right sign: the wrong slices scatter too much.
    assert np.mean(found.signals["haadf"][-1]) > 1.5 * np.mean(right.signals["haadf"][-1])


@pytest.mark.slow
def test_slices_that_beat_with_the_lattice_are_found(silicon: Path, tmp_path: Path):
    """Row 2: slices of 2 Å in Si [001] make false Laue zones, which double the signal of 60 to 90 mrad."""
    for name, thickness in (("wrong", 2.0), ("right", "auto")):
        (tmp_path / name).mkdir()
        grating = {"gpts": [192, 192], "slice_thickness_angstrom": thickness}
        found = budget(config(silicon, [3, 3, 20], grating), tmp_path / name, ["slices"])
        change = worst(found, "slices", "haadf")
        assert change > 0.5 if name == "wrong" else change < 0.02, name


@pytest.mark.slow
def test_grids_that_do_not_divide_the_unit_cell_are_found(tmp_path: Path):
    """Row 4: 128 points on six cells of iron make equal columns differ by 3 %. The refined grid is in step with six."""
    from ase.build import bulk
    from ase.io import write

    write(tmp_path / "fe.cif", bulk("Fe", "bcc", a=2.866, cubic=True))
    six = {"x": [0.0, 1.0], "y": [0.0, 1 / 6], "points": [6, 1]}
    rings = {"detectors": {"bf": [0.0, 10.0], "adf": [40.0, 60.0]}}
    grating = {"gpts": [128, 128], "slice_thickness_angstrom": 1.433}
    spread = {}
    for name, change in (("wrong", {}), ("right", {"gpts": [360, 360]})):
        (tmp_path / name).mkdir()
        wanted = config(tmp_path / "fe.cif", [6, 6, 20], {**grating, **change}, scan=six, adf=rings)
        found = budget(wanted, tmp_path / name, ["sampling"])
        spread[name] = worst(found, "sampling", "bf")
        assert [points for points in found.lines[0].choices[0]["gpts"] if points % 6 != 0] == []
    assert spread["wrong"] > 0.034, "the spread of equal columns on this grid"
    assert spread["right"] < 0.5 * spread["wrong"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Budget:
    """The budget of the demo's slices, grid, optics and crystal, after a third of its thickness."""
    demo = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    specimen = {"file": str(SRTIO3), "repeat": [8, 8, 4]}
    terms = ["slices", "sampling", "potential", "precision", "cell", "parametrization", "u"]
    depths = {"every_angstrom": None, "at_angstrom": None}
    short = changed(demo, specimen=specimen, depths=depths)
    return budget(short, tmp_path_factory.mktemp("demo"), terms)


@pytest.mark.slow
def test_each_numerical_choice_of_the_demo_is_good_to_half_a_per_cent(demo: Budget):
    """All choices except the size of the cell, which is stated separately."""
    for term in ("slices", "sampling", "potential", "precision"):
        for detector in demo.detectors:
            assert image(demo, term, detector) < 0.005, (term, detector)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grating", "term"),
    [({"potential_oversampling": 1}, "potential"), ({"gpts": [512, 512], "potential_oversampling": 4}, "sampling")],
)
def test_the_causes_of_the_error_of_the_demos_outer_ring_are_found(grating: dict[str, Any], term: str, tmp_path: Path):
    """Peaks of the potential that are cut off, and a band limit of 137 mrad for a ring that ends at 130 mrad."""
    demo = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    specimen = {"file": str(SRTIO3), "repeat": [4, 4, 4]}
    half = {"gpts": [320, 320], **{key: [256, 256] if key == "gpts" else value for key, value in grating.items()}}
    scan = {"x": [0.0, 0.25], "y": [0.0, 0.25]}
    depths = {"every_angstrom": None, "at_angstrom": None}
    rings = {"detectors": {"bf": [0.0, 10.0], "haadf": [60.0, 130.0]}}
    spoiled = changed(demo, specimen=specimen, grating=half, scan=scan, depths=depths, adf=rings)
    found = budget(spoiled, tmp_path, [term])
    assert image(found, term, "haadf") > 0.015
    assert image(found, term, "bf") < 0.005


@pytest.mark.slow
def test_the_cell_size_of_the_demo_matters_by_less_than_a_per_cent(demo: Budget):
    """Independent figure: all ring signals of this crystal move by 0.4 % from a cell of 31 Å to one of 47 Å."""
    for detector in demo.detectors:
        assert 0.001 < image(demo, "cell", detector) < 0.01, detector


def test_common_atoms_of_the_larger_cell_keep_their_displacements(tmp_path: Path):
    """In a larger cell with other displacements, a signal on a column would change by several per cent."""
    wanted = config(
        SRTIO3, [4, 4, 2], {"gpts": [192, 192]},
        specimen={"u_iso_angstrom2": SRTIO3_U}, frozen_phonon={"enabled": True},
        scan={"x": [0.0, 0.25], "y": [0.0, 0.25], "points": [4, 4]},
    )  # fmt: skip
    params = prepare(wanted, tmp_path)
    reference, larger = (variant(params, name, tmp_path) for name in ("reference", "cell"))
    assert larger["reason"] == ""
    assert larger["choices"]["extent_angstrom"] == pytest.approx([6 * 3.905] * 2)
    assert larger["choices"]["spacing_angstrom"] == pytest.approx(reference["choices"]["spacing_angstrom"])
    assert larger["choices"]["band_limit_mrad"] == pytest.approx(reference["choices"]["band_limit_mrad"])
    atoms = read_specimen_file(tmp_path / "larger.nc")
    assert atoms.frames is not None
    moves = atoms.frames[0] - atoms.positions
    # The images of the atoms that lie around the probe, whose scan begins at the corner of the cell.
    around = atoms.positions.copy()
    around[:, :2] = (around[:, :2] + 11.715) % 23.43 - 11.715
    near = np.abs(around[:, :2]).max(axis=1) < 5
    own = read_specimen_file(tmp_path / "specimen.nc")
    drawn = displacements(own.u_iso, 1, 0, 0, True)
    lengths = np.array([*own.cell[:2], 1e9])
    for index in np.flatnonzero(near):
        step = own.positions - around[index]
        partner = int(np.argmin(np.linalg.norm(step - lengths * np.round(step / lengths), axis=1)))
        assert moves[index] == pytest.approx(drawn[partner], abs=1e-9)
    outside = np.std(moves[~near], axis=0)
    assert outside == pytest.approx([np.sqrt(np.mean(own.u_iso))] * 3, rel=0.15)


def test_a_rougher_basis_shows_in_the_budget(tmp_path: Path):
    wanted = config(
        SRTIO3, [4, 4, 2], {"gpts": [192, 192]},
        simulation={"algorithm": "probe_basis", "basis_tolerance": 0.02},
        scan={"x": [0.0, 0.25], "y": [0.0, 0.25], "points": [8, 8]},
    )  # fmt: skip
    rough = budget(wanted, tmp_path, ["basis"])
    fine = budget(changed(wanted, simulation={"basis_tolerance": 1e-5}), tmp_path, ["basis"])
    assert image(rough, "basis", "bf") > 10 * image(fine, "basis", "bf") > 0
    assert image(fine, "basis", "bf") < 1e-4


def test_a_larger_window_shows_in_the_budget(tmp_path: Path):
    wanted = config(SRTIO3, [8, 8, 2], {"gpts": [360, 360], "window_angstrom": 12.0})
    found = budget(wanted, tmp_path, ["window"])
    assert 1e-3 < image(found, "window", "bf") < 0.2
    assert "cell" in found.without
