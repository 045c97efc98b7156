"""Unusual settings earn a note with the number and a better value; sensible settings earn none."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stemphony.errors import ConfigError
from stemphony.experiment import campaign, configuration
from stemphony.experiment.campaign import Campaign, InputFiles
from stemphony.experiment.doubts import AtomsAtRest, cut_peak_error, doubts, probe_outside, refuse_false_haadf
from stemphony.experiment.model import MRAD, Experiment
from stemphony.experiment.sweeps import expanded
from stemphony.orchestration import preflight
from stemphony.orchestration.inputs import read_inputs
from support.experiments import minimal

ROOT = Path(__file__).parents[3]
CELL = (15.62, 15.62, 50.765)
"""4 × 4 × 13 unit cells of strontium titanate [Å]; λ is 0.0250793 Å at 200 keV."""

SANE: dict[str, dict[str, Any]] = {
    "probe": {"energy_kev": 200.0, "semiangle_mrad": 20.0},
    "grating": {"gpts": [128, 128]},
    "scan": {"x": [0.0, 0.25], "y": [0.0, 0.25], "points": [16, 16]},
    "adf": {"detectors": {"bf": [0.0, 10.0]}},
    "frozen_phonon": {"configurations": 4},
}
PLANES = np.arange(0, 50.7, 1.9525)
ATOMS = AtomsAtRest(np.array(["Sr", "O"] * 13), PLANES, np.array([0.008, 0.01] * 13))


def made(cell: tuple[float, float, float] = CELL, **blocks: Any) -> tuple[Campaign, Experiment]:
    joined = {name: {**SANE.get(name, {}), **blocks.get(name, {})} for name in SANE.keys() | blocks.keys()}
    planned = campaign.plan(configuration.validate(minimal(**joined)), InputFiles("5" * 64))
    return planned, Experiment.of(planned.common_params, cell, None)


def notes(cell: tuple[float, float, float] = CELL, atoms: AtomsAtRest = ATOMS, **blocks: Any) -> list[str]:
    planned, experiment = made(cell, **blocks)
    return doubts(planned, experiment, atoms, probe_outside(planned, experiment))


def test_a_sensible_config_earns_no_note():
    assert notes() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", [ROOT / "config/config.yaml", *sorted((ROOT / "config/examples").glob("*.yaml"))], ids=lambda f: f.stem
)
def test_the_demo_and_the_examples_earn_no_note(config, monkeypatch, tmp_path):
    monkeypatch.setattr(preflight, "_choices", lambda *_: [])
    monkeypatch.setenv("STEMPHONY_CACHE_DIR", str(tmp_path))
    given = configuration.load([config])
    # No note depends on the algorithm, and the rank of a basis takes seconds.
    given["simulation"]["algorithm"] = "multislice"
    members = [member.config for member in expanded(given, given).members] if configuration.is_swept(given) else [given]
    found = [
        note for one in members for note in preflight.check(read_inputs(one, [config]), tmp_path / "results").notes
    ]
    # Notes on slices of films and on plasmons are expected.
    expected = ("amorphous film", "plasmon_scattering: ")
    assert [note for note in found if not any(text in note for text in expected)] == []


# --- one note for each case, with its number and the better value --------------------------------------------------


def test_values_of_b_given_as_u_earn_a_note():
    b_as_u = AtomsAtRest(ATOMS.symbols, ATOMS.z, np.array([0.62, 0.73] * 13))
    (note,) = notes(atoms=b_as_u)
    assert "U of O 0.73, Sr 0.62 Å² is above 0.05 Å²" in note
    assert f"by {math.sqrt(0.73):.2f} Å" in note
    # B/(8π²): the published U of both.
    assert "give U: O 0.0092, Sr 0.0079 Å²" in note
    assert notes(atoms=AtomsAtRest(ATOMS.symbols, ATOMS.z, None)) == []
    assert notes(atoms=AtomsAtRest(ATOMS.symbols, ATOMS.z, np.full(26, np.nan))) == []


def test_one_slice_for_many_layers_earns_a_note():
    (note,) = notes(grating={"slice_thickness_angstrom": 25.4})
    assert "slices of 25.38 Å hold atoms up to 23.43 Å apart" in note  # 13 planes, 12 distances of 1.9525 Å
    assert "slice_thickness_angstrom: 2 or less" in note
    (note,) = notes(grating={"slice_thickness_angstrom": 3.905})
    assert "slices of 3.905 Å hold atoms up to 1.95 Å apart" in note


def test_boundaries_by_hand_name_the_slice_that_holds_many_layers():
    boundaries = [0.9, 2.9, 4.9, 20.0, 22.0, 24.0]
    (note,) = notes(grating={"slice_boundaries_angstrom": boundaries})
    assert "slices of 26.77 Å hold atoms up to 23.43 Å apart" in note  # the last one: 13 planes from 25.38 Å
    # Both keys together are an error, so the note says which one to give up.
    assert "slice_thickness_angstrom: 2 instead of slice_boundaries_angstrom, or boundaries between the layers" in note


def test_a_thick_slice_with_one_layer_earns_no_note():
    bilayers = np.sort(np.concatenate([PLANES[::2] + 0.2, PLANES[::2] + 0.85]))
    assert notes(atoms=AtomsAtRest(ATOMS.symbols, bilayers, None), grating={"slice_thickness_angstrom": 3.905}) == []


def test_a_band_limit_that_aliases_earns_a_note():
    (note,) = notes(grating={"bandlimit": 1.0})
    assert "all angles above 0 mrad" in note
    assert "carries 68.51 mrad on this grid and 102.8 mrad with grating.gpts: [192, 192]" in note
    # 2·(1 − 0.8) of Nyquist, 102.76 mrad.
    (note,) = notes(grating={"bandlimit": 0.8})
    assert "all angles above 41.1 mrad" in note
    assert notes(grating={"bandlimit": 0.6667}) != []
    assert notes(grating={"bandlimit": 0.6666666}) == []


def test_a_detector_that_ends_near_the_band_limit_earns_a_note():
    """512 points on 31.24 Å carry 137.0 mrad; 117.0 mrad is a semi-angle before it."""
    wide = (31.24, 31.24, 50.765)
    grid, scan = {"gpts": [512, 512], "potential_oversampling": 4}, {"x": [0.0, 0.125], "y": [0.0, 0.125]}
    bf = {"bf": [0.0, 10.0]}
    (note,) = notes(wide, grating=grid, scan=scan, adf={"detectors": {**bf, "haadf": [60.0, 130.0]}})
    assert "band limit, 137 mrad: haadf 130 mrad" in note
    assert "an outer edge of at most 97 mrad" in note
    # λ·⅔/(2d) = 170 mrad
    assert "grating.sampling_angstrom: 0.0491 without gpts" in note
    assert notes(wide, grating=grid, scan=scan, adf={"detectors": {**bf, "haadf": [60.0, 117.0]}}) == []
    better = {"gpts": None, "sampling_angstrom": 0.0491, "potential_oversampling": 4}
    assert notes(wide, grating=better, scan=scan, adf={"detectors": {**bf, "haadf": [60.0, 130.0]}}) == []
    segments = {"detectors": bf, "segmented": {"seg": {"inner_mrad": 60.0, "outer_mrad": 125.0, "segments": 4}}}
    (note,) = notes(wide, grating=grid, scan=scan, adf=segments)
    assert "seg 125 mrad" in note


def test_a_potential_without_the_peaks_of_heavy_nuclei_earns_a_note():
    """An atom of Sr alone, 0.0625 Å: 6.2 % at a factor of 1 and 1.0 % at 3, by a grid of 0.005 Å."""
    wide = (32.0, 32.0, 50.765)
    rings = {"detectors": {"bf": [0.0, 10.0], "haadf": [60.0, 110.0]}}
    scan = {"x": [0.0, 0.125], "y": [0.0, 0.125]}
    (note,) = notes(wide, grating={"gpts": [512, 512]}, scan=scan, adf=rings)
    assert "points of 0.0625 Å" in note
    assert "haadf on Sr columns is about 5.9 % too large" in note
    assert "grating.potential_oversampling: 3" in note
    assert notes(wide, grating={"gpts": [512, 512], "potential_oversampling": 3}, scan=scan, adf=rings) == []
    assert notes(wide, grating={"gpts": [1024, 1024]}, scan=scan, adf=rings) == []
    light = AtomsAtRest(np.array(["C", "O"] * 13), PLANES, ATOMS.u_iso)
    assert notes(wide, light, grating={"gpts": [512, 512]}, scan=scan, adf=rings) == []
    _, experiment = made(wide, grating={"gpts": [512, 512]}, scan=scan, adf=rings)
    assert cut_peak_error(experiment, 38, (0.06, 0.13)) == pytest.approx(0.062, rel=0.15)
    assert cut_peak_error(experiment, 14, (0.06, 0.13)) == pytest.approx(0.0093, rel=0.15)
    assert cut_peak_error(experiment, 57, (0.06, 0.13)) == pytest.approx(0.124, rel=0.3)


def test_a_scan_that_does_not_resolve_the_image_earns_a_note():
    (note,) = notes(scan={"x": [0.0, 1.0], "y": [0.0, 1.0]})
    assert "scan steps of 0.9762 × 0.9762 Å are coarser than λ/(4α) = 0.3135 Å" in note
    assert "scan.points: [50, 50]" in note
    assert notes(scan={"x": [0.0, 1.0], "y": [0.0, 1.0], "points": [50, 50]}) == []
    (line,) = notes(scan={"x": [0.0, 1.0], "y": [0.0, 1.0], "points": [49, 1]})
    assert "steps of 0.3188 Å" in line
    assert "scan.points: [50, 1]" in line


def test_a_few_chosen_positions_need_not_resolve_the_image():
    assert notes(scan={"points": [2, 2], "x": [0.0, 1.0]}) == []


def test_a_tilted_beam_that_leaves_its_window_earns_a_note():
    wide = (62.48, 62.48, 50.765)
    blocks = {
        "grating": {"gpts": [512, 512], "window_angstrom": 31.0},
        "scan": {"x": [0.0, 0.0625], "y": [0.0, 0.0625]},
    }
    (note,) = notes(cell=wide, **blocks, probe={"tilt_mrad": [20.0, 0.0]})
    assert "moves 1.02 Å sideways" in note  # 50.765 Å · 20 mrad
    (note,) = notes(cell=wide, **blocks, specimen={"tilt_mrad": [0.0, -20.0]})
    assert "windows wider by 2.03 Å" in note
    assert notes(cell=wide, **blocks, probe={"tilt_mrad": [5.0, 0.0]}) == []
    assert notes(probe={"tilt_mrad": [20.0, 0.0]}) == []


def test_descan_without_a_tilt_earns_a_note():
    (note,) = notes(probe={"descan": True})
    assert "probe.descan has no effect" in note
    assert notes(probe={"descan": True, "precession": {"angle_mrad": 2.0, "steps": 4}}) == []


def test_a_probe_wider_than_the_cell_earns_a_note():
    cell = (7.81, 7.81, 50.765)
    (note,) = notes(cell=cell, grating={"gpts": [64, 64]})
    planned, experiment = made(cell=cell, grating={"gpts": [64, 64]})
    assert f"{100 * probe_outside(planned, experiment):.1f} % of the probe's intensity" in note
    advised = float(note.split("about ")[1].split(" × ")[0])
    assert 7.81 < advised < 3 * 7.81
    assert notes(cell=(advised, advised, 50.765), scan={"points": [30, 30]}) == []


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        # Twice λ/α² is 12.5 nm, more than the specimen.
        ({"defocus_nm": -20.0}, "at -20 nm lies up to 20 nm outside the specimen, which is 4.88 nm thick"),
        ({"defocus_nm": 20.0}, "at 20 nm lies up to 15.1 nm outside"),
        ({"defoci_nm": [-2.0, 3.0, 4000.0]}, "probe.defoci_nm: the focus at 4000 nm"),
        ({"defocus_nm": -2.0}, ""),
        ({"defocus_nm": 12.0}, ""),
        # A focal spread is expected to reach outside.
        ({"defocus_fwhm_nm": 40.0, "defocus_count": 5}, ""),
        # Scherzer's focus of an uncorrected lens, 61 nm at 1 mm, lies at the specimen for its rays of 8 mrad.
        ({"defocus_nm": 61.0, "aberrations": {"C30_nm": 1e6}, "semiangle_mrad": 10.0}, ""),
        ({"defocus_nm": -61.0, "aberrations": {"C30_nm": 1e6}, "semiangle_mrad": 10.0}, "61 nm outside"),
    ],
)
def test_a_focus_outside_the_specimen_earns_a_note(probe, words):
    blocks = {"cell": (62.48, 62.48, 50.765), "grating": {"gpts": [512, 512]}, "scan": {"points": [64, 64]}}
    found = [note for note in notes(probe=probe, **blocks) if "the focus at" in note]
    assert [words in note for note in found] == ([True] if words else [])


def test_the_advised_defoci_focus_on_the_faces():
    (note,) = [n for n in notes(probe={"defocus_nm": -20.0}) if "the focus at" in n]
    assert "0 nm focuses on its entrance, 4.88 nm on its exit" in note


def test_empty_space_that_one_propagation_cannot_cross_earns_a_note():
    # Half of 15.62 Å at 68.51 mrad, the band limit, is 114 Å away.
    cell, atoms = (15.62, 15.62, 500.0), AtomsAtRest(np.array(["Sr"]), np.array([1.0]), None)
    (note,) = notes(cell=cell, atoms=atoms, grating={"slice_thickness_angstrom": 500.0})
    assert "over one slice of 500 Å waves at the band limit, 68.51 mrad" in note
    assert "over at most 114 Å" in note
    assert notes(cell=cell, atoms=atoms, grating={"slice_thickness_angstrom": 113.0}) == []


# --- detectors that are not given -----------------------------------------------------------------------------------


def refusal(gpts: int, semiangle: float = 20.0) -> str:
    planned, experiment = made(grating={"gpts": [gpts, gpts]}, probe={"semiangle_mrad": semiangle},
                               adf={"detectors": None})  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        refuse_false_haadf(planned.config["adf"], experiment)
    return str(caught.value)


def test_a_dark_field_below_three_semiangles_is_not_called_haadf():
    # 72 points carry 38.5 mrad; the ring would run from 29 mrad.
    text = refusal(72)
    assert "`adf.detectors`: not given, and HAADF begins at three times the semi-angle, 60 mrad" in text
    assert "only to 38.5 mrad" in text
    assert "adf.detectors: {bf: [0, 10], abf: [10, 20], adf: [30, 38.5]}" in text


@pytest.mark.parametrize("gpts", [72, 100, 120])
def test_both_proposals_of_the_message_are_accepted(gpts):
    text = refusal(gpts)
    advised = int(text.split("gpts: [")[1].split(",")[0])
    planned, experiment = made(grating={"gpts": [advised, advised]}, adf={"detectors": None})
    refuse_false_haadf(planned.config["adf"], experiment)
    assert experiment.rings["haadf"][0] / MRAD == pytest.approx(60.0)
    spacing = float(text.split("sampling_angstrom: ")[1].split(")")[0])
    planned, experiment = made(grating={"gpts": None, "sampling_angstrom": spacing}, adf={"detectors": None})
    refuse_false_haadf(planned.config["adf"], experiment)
    named = text.split("adf.detectors: {")[1].rstrip(".}")
    rings = {ring.split(": [")[0]: [float(x) for x in ring.split(": [")[1].strip("],").split(", ")]
             for ring in named.split("], ")}  # fmt: skip
    planned, experiment = made(grating={"gpts": [gpts, gpts]}, adf={"detectors": rings})
    refuse_false_haadf(planned.config["adf"], experiment)


def test_given_detectors_or_patterns_alone_are_never_refused():
    for adf in ({"detectors": {"haadf": [29.0, 38.0]}}, {"enabled": False}):
        planned, experiment = made(grating={"gpts": [72, 72]}, adf=adf, cbed={"enabled": True})
        refuse_false_haadf(planned.config["adf"], experiment)


def test_tables_of_gaussians_earn_a_note_where_they_have_ended():
    wide = {"detectors": {"haadf": [60.0, 83.0]}}
    fine = {"gpts": [256, 256]}
    light = AtomsAtRest(np.array(["Sc", "O"]), np.array([0.0, 2.0]), None)
    (note,) = notes(atoms=light, adf=wide, grating={**fine, "parametrization": "peng"})
    assert "at 83 mrad, the outer edge of a detector, Peng's scattering factors are Sc 108 % of Lobato's" in note
    assert notes(atoms=light, adf=wide, grating=fine) == []
    assert notes(atoms=light, grating={"parametrization": "peng"}) == []
    mixed = {**fine, "parametrization": "peng", "parametrization_of": {"Sc": "lobato"}}
    assert notes(atoms=light, adf=wide, grating=mixed) == []
    ions = replace(light, symbols=np.array(["Ti", "O"]), species=np.array(["Ti2+", "O2-"]))
    (note,) = notes(atoms=ions, adf={"detectors": {"haadf": [60.0, 105.0]}}, grating=fine)
    assert "Ti2+" in note
