"""Signals of whole crystals do not depend on how their file was rounded, nor on which equal column is looked at."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stemphony.compute.atoms import draw_atoms
from stemphony.compute.simulation import simulate
from stemphony.experiment.configuration import validate
from stemphony.experiment.model import Experiment
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.structures import read_specimen

sys.path.insert(0, str(Path(__file__).parents[2] / "docs/comparison"))

import slicing as comparison

CASES = {case.name: case for case in comparison.cases()}
FALSE_ZONES = {"bf": 0.684152, "adf": 0.003348, "haadf": 0.003757}
U_ISO = {"Sr": 0.00787, "Ti": 0.00557, "O": 0.009275}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_signals_agree_with_a_calculation_by_hand(name):
    hand, (ours, _) = comparison.by_hand(CASES[name]), comparison.of_stemphony(CASES[name])
    assert ours == pytest.approx(hand, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("SrTiO3")])
def test_a_rounded_file_gives_the_signals_of_the_exact_one(name):
    ours, experiment = comparison.of_stemphony(CASES[name])
    assert ours == pytest.approx({"bf": 0.151388, "adf": 0.014189, "haadf": 0.002626}, abs=2e-6)
    assert experiment.slices == 52


def test_automatic_slices_of_silicon_make_no_false_laue_zone():
    ours, experiment = comparison.of_stemphony(CASES["Si, auto"])
    assert experiment.slices == 80
    assert ours == pytest.approx({"bf": 0.68836, "adf": 0.001321, "haadf": 0.000407}, abs=3e-6)


def test_a_thickness_that_beats_with_the_lattice_is_kept_and_named():
    case = CASES["Si, auto"]
    ours, experiment = comparison.of_stemphony(
        replace(case, grating={"gpts": [192, 192], "slice_thickness_angstrom": 2.0})
    )
    assert experiment.slices == 55
    assert ours == pytest.approx(FALSE_ZONES, abs=1e-5)
    (note,) = experiment.notes
    assert "near 48 mrad" in note
    assert "1.35775" in note


@pytest.mark.slow
def test_equal_columns_have_equal_signals():
    one, other = (comparison.of_stemphony(comparison.columns()[column]) for column in (0, 4))
    assert one[1].grid.gpts == (360, 360)
    assert one[0] == pytest.approx(other[0], rel=1e-9)


def test_points_by_hand_that_are_out_of_step_with_the_lattice_are_kept_and_named():
    of = [
        comparison.of_stemphony(replace(comparison.columns()[column], grating={"gpts": [128, 128]}))
        for column in (0, 4)
    ]
    assert abs(of[0][0]["bf"] / of[1][0]["bf"] - 1) > 0.02
    (note,) = of[0][1].notes
    assert "6 × 6 periods" in note
    assert "[144, 144]" in note


def signals(specimen: Specimen, **blocks: Any) -> np.ndarray:
    """Rings of one position on the titanium column, averaged over four configurations."""
    config = validate(
        {
            "simulation": {"name": "x"},
            "specimen": {"file": "x"},
            "grating": {"gpts": [192, 192]},
            "scan": {"x": [0.125, 1.0], "y": [0.125, 1.0], "points": [1, 1]},
            "adf": {"detectors": {"bf": [0.0, 10.0], "adf": [40.0, 60.0], "haadf": [60.0, 100.0]}},
            **blocks,
        }
    )
    experiment = Experiment.of(config, specimen.cell, specimen.layers)
    measured = []
    for configuration in range(4):
        atoms = draw_atoms(
            experiment, specimen.symbols, specimen.positions, specimen.u_iso, frame=None, displaced=True, random_seed=1,
            configuration=configuration, defocus_nm=0.0, displace_z=True, fixed_slicing=True,
        )  # fmt: skip
        assert len(atoms.positions) == len(specimen.positions)
        made = simulate(experiment, atoms, 0.0, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None)
        measured.append(made.rings[0, 0, -1])
    return np.mean(measured, axis=0)


@pytest.mark.slow
def test_with_phonons_too_a_rounded_file_gives_the_signals_of_the_exact_one(tmp_path):
    found = []
    for name in ("SrTiO3, exact", "SrTiO3, four decimals"):
        file = tmp_path / "crystal.xyz"
        file.write_text(comparison.as_xyz(CASES[name]))
        found.append(signals(read_specimen(file, u_iso_angstrom2=U_ISO)))
    np.testing.assert_allclose(found[0], [0.077064, 0.131517, 0.070414], atol=2e-6)
    # Coordinates of four decimals differ by up to 5e-5 Å, which moves the signals by some 1e-6 of the beam.
    np.testing.assert_allclose(found[0], found[1], atol=5e-6)
