"""The plan before the first job, in words and as plan.json."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import netCDF4
import pytest
import yaml
from stemphony import provenance
from stemphony.compute import propagation
from stemphony.errors import ConfigError, SpecimenError
from stemphony.experiment.model import Experiment
from stemphony.orchestration import preflight
from stemphony.orchestration.inputs import read_inputs
from stemphony.orchestration.plan import Preflight
from stemphony.paths import ResultPaths
from stemphony.store import ledger
from support.cif_files import SITE, cif_text
from support.experiments import CELL, TINY, tiny
from support.specimens import U_ISO, srtio3, write_xyz

SECRET = "hunter2"


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """Check a tiny campaign of 2 defoci × 2 configurations on 40 atoms; `blocks` override single keys."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEMPHONY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("STEMPHONY_PASSWORD", raising=False)
    write_xyz(tmp_path / "tiny.xyz", srtio3((2, 2, 2)))
    base: dict[str, Any] = {
        **TINY,
        "specimen": {"file": "tiny.xyz", "u_iso_angstrom2": U_ISO},
        "probe": {"defoci_nm": [0.0, 1.0]},
        "frozen_phonon": {"configurations": 2},
    }

    def run(**blocks: Any) -> Preflight:
        config = {name: {**base.get(name, {}), **blocks.get(name, {})} for name in base.keys() | blocks.keys()}
        Path("config.yaml").write_text(yaml.safe_dump(config))
        return preflight.check(read_inputs(config, [Path("config.yaml")]))

    return run


def row(of: Preflight, name: str) -> str:
    (text,) = [line[25:] for line in of.lines() if line.startswith(name.ljust(25))]
    return text


def test_the_plan_is_printed_in_words(checked):
    made = checked()
    assert row(made, "specimen") == "40 atoms in 7.81 × 7.81 × 7.81 Å (extxyz, read by ASE: Å)"
    assert row(made, "jobs") == "4 = 2 defoci × 2 configurations"
    assert row(made, "scan") == "3 × 4 positions, 2.603 × 1.952 Å apart"
    assert row(made, "slices").startswith("4 of 1.9525 Å, 2 depths stored; a slice includes atoms up to 0.976")
    assert row(made, "band limit").startswith("68.5")
    assert "haadf 40–60" in row(made, "detectors")
    assert row(made, "defoci") == "2: 0, 1 nm"
    for name in ("probe outside the cell", "memory of one job", "size of the result", "computing time"):
        assert re.search(r"\d", row(made, name))


def test_fft_plans_that_the_first_job_makes_are_named(checked):
    made = checked()
    text = "the first job makes them for this grid: up to a minute of CPU more, once on each kind of machine"
    assert row(replace(made, has_fft_plans=False), "FFT plans") == text
    assert [line for line in replace(made, has_fft_plans=True).lines() if line.startswith("FFT plans")] == []


def test_tilts_are_named_and_counted(checked):
    beam, specimen = {"tilt_mrad": [3.0, -1.5], "descan": True}, {"tilt_mrad": [0, 9]}
    tilted = checked(probe=beam, specimen=specimen)
    assert row(tilted, "tilt of the beam") == "(3, -1.5) mrad; angles count from the beam"
    assert row(tilted, "tilt of the specimen") == "(0, 9) mrad"
    cone = checked(probe={"precession": {"angle_mrad": 4.0, "steps": 6}})
    assert row(cone, "tilt of the beam") == (
        "(0, 0) mrad, and 6 tilts on a cone of 4 mrad about it; angles count from the optic axis"
    )
    assert "12 probes of a job at each of 6 tilts" in row(cone, "algorithm")
    assert cone.cpu_hours == pytest.approx(6 * checked().cpu_hours)
    assert "tilt of" not in "\n".join(checked().lines())


def test_the_probe_outside_a_window_is_not_presented_as_the_error_of_signals(checked):
    cell, window = checked(), checked(grating={"window_angstrom": 5.0})
    words = r"\d+\.\d\d % of its intensity at the worst defocus"
    assert re.fullmatch(words, row(cell, "probe outside the cell"))
    assert re.fullmatch(
        words.replace("its", "the incident probe's")
        + "; signals may deviate by several times that, which each job measures",
        row(window, "probe outside the window"),
    )
    (note,) = [note for note in window.notes if "lies outside the window" in note]
    assert "wrong by several times as much" in note


def test_every_name_in_the_plan_stands_apart_from_its_text(checked):
    for made in (checked(), checked(grating={"window_angstrom": 5.0})):
        assert [line for line in made.lines() if not line.startswith("note: ") and line[24] != " "] == []


def test_the_plan_says_that_a_file_of_stemsalabim_is_in_nm(checked):
    Path("nm.xyz").write_text("2\n0.8 0.8 0.4\nSr 0 0 0 0.0001\nSr 0.4 0.4 0.2 0.0001\n")
    made = checked(specimen={"file": "nm.xyz"})
    assert "2 atoms in 8 × 8 × 4 Å" in row(made, "specimen")
    assert "nm" in row(made, "specimen")


def test_work_is_counted_over_all_jobs(checked):
    one, more = checked(), checked(frozen_phonon={"configurations": 6})
    assert more.cpu_hours == pytest.approx(3 * one.cpu_hours)
    assert more.mem_mb == one.mem_mb
    assert checked(scan={"points": [6, 8]}).cpu_hours == pytest.approx(4 * one.cpu_hours)


def test_threads_shorten_a_job_and_not_its_work(checked):
    demanding = {"scan": {"points": [200, 200]}, "simulation": {"precision": "double"}}
    one, four = checked(**demanding), checked(**demanding, resources={"threads": 4})
    assert four.cpu_hours == pytest.approx(one.cpu_hours)
    assert four.runtime_min <= one.runtime_min
    assert four.mem_mb >= one.mem_mb


def test_given_resources_are_taken(checked):
    made = checked(resources={"mem_mb": 1500, "runtime_min": 77})
    assert (made.mem_mb, made.runtime_min) == (1500, 77)
    assert made.budget_mb < 1500
    assert checked().runtime_min >= 10


def test_memory_that_is_given_is_not_exceeded(checked):
    from stemphony.compute.cost import memory_mb

    made = checked(resources={"mem_mb": 200}, grating={"gpts": [256, 256]}, specimen={"repeat": [1, 1, 40]})
    assert memory_mb(made.experiment, made.atoms, 1, made.budget_mb) <= 200
    assert checked(grating={"gpts": [256, 256]}, specimen={"repeat": [1, 1, 40]}).mem_mb > 200


@pytest.mark.parametrize(
    ("wanted", "atoms", "kept"), [("auto", 40, True), ("auto", 10**9, False), (True, 10**9, True), (False, 40, False)]
)
def test_coordinates_are_kept_below_one_gigabyte(checked, wanted, atoms, kept):
    made = checked(frozen_phonon={"save_coordinates": wanted})
    assert Preflight(**{**vars(made), "atoms": atoms}).keep_coordinates is kept


def test_the_plan_file_has_what_jobs_need(checked):
    made = checked(probe={"defoci_nm": [2.0, -1.0], "defocus_weights": [1.0, 3.0]}, simulation={"title": "A title"})
    plan = json.loads(json.dumps(made.plan(run=3, num_processors=5, jobs_to_run=4, created="now")))
    assert (plan["run"], plan["num_processors"], plan["jobs_to_run"], plan["created"]) == (3, 5, 4, "now")
    assert (plan["num_defoci"], plan["num_configurations"], plan["threads"]) == (2, 2, 1)
    assert plan["defoci_ids"] == ["p2d000", "m1d000"]
    assert plan["defoci_nm"] == [2.0, -1.0]
    assert plan["weights"] == [0.25, 0.75]
    assert plan["title"] == "A title"
    assert plan["keep_coordinates"] is True
    assert plan["config_digest"] == provenance.digest(plan["config"])
    assert plan["merge_digest"] == provenance.digest(made.campaign.merge_params)
    assert plan["plan"] == made.lines()
    assert plan["physics_version"] == provenance.PHYSICS_VERSION
    assert plan["config_files"] == [str(Path("config.yaml").resolve())]


def test_the_plan_holds_no_secret(checked, monkeypatch):
    monkeypatch.setenv("STEMPHONY_PASSWORD", SECRET)
    block = {
        "reporting": True, "url": f"http://127.0.0.1/{SECRET}", "auth_user": SECRET,
        "auth_pass_env": "STEMPHONY_PASSWORD", "parameters": {"token": SECRET},
    }  # fmt: skip
    made = checked(http_reporting=block)
    assert SECRET not in json.dumps(made.plan(1, 1, 1, "now"))
    assert SECRET not in repr(made)
    assert made.plan(1, 1, 1, "now")["reporting"] is True


def test_a_literal_password_earns_a_note_that_does_not_show_it(checked):
    block = {"reporting": True, "url": "http://127.0.0.1/", "auth_user": "u", "auth_pass": SECRET}
    notes = checked(http_reporting=block).notes
    assert "auth_pass" in "\n".join(notes)
    assert SECRET not in "".join(notes)


def test_a_period_and_a_margin_are_named_in_the_plan(checked):
    source = {"defoci_nm": [0.0, 1.0], "source_fwhm_nm": 0.1}
    period = checked(probe=source, scan={"x": [0.0, 0.5], "y": [0.0, 0.5], "points": [5, 5]})
    assert "repeats with the specimen along x and along y, so the blur there is exact" in row(period, "source size")
    assert period.experiment.positions == 25
    wide = checked(probe=source, scan={"x": [0.0, 0.4], "y": [0.0, 0.5], "points": [8, 5]})
    assert "adds 4 along x on each side, so 80 positions are computed for 40" in row(wide, "source size")
    assert row(wide, "scan").startswith("8 × 5 positions")
    assert wide.plan(1, 1, 1, "")["scan_edges"]["margin"] == (4, 0)
    line = checked(scan={"points": None, "line": {"begin": [0, 0], "end": [0.5, 0], "points": 11}})
    assert row(line, "scan") == "11 positions on a line, 0.3905 Å apart"
    assert row(checked(scan={"points": None, "positions": [[0, 0]]}), "scan") == "1 listed positions"


def test_a_finished_simulation_without_a_margin_stays_without_one(checked):
    source = {"defoci_nm": [0.0, 1.0], "source_fwhm_nm": 0.1}
    scan = {"x": [0.0, 0.4], "points": [8, 4]}
    result = ResultPaths.of("tiny", Path("results"))
    ledger.identity(result, 1)  # as an earlier version writes it
    before = checked(scan=scan)
    again = checked(probe=source, scan=scan)
    assert again.campaign.common_params == before.campaign.common_params
    assert "scan.margin_nm: 0.128 would be enough" in "\n".join(again.notes)
    result.merged.write_bytes(b"")
    ledger.write_plan(result, {"config": {"probe": source}})
    assert "mirrored" not in "\n".join(checked(probe=source, scan=scan).notes)  # all jobs run again
    ledger.write_plan(result, {"config": {"probe": source}, "physics_version": provenance.PHYSICS_VERSION})
    notes = checked(probe=source, scan=scan).notes
    assert "with mirrored edges. It is merged again, and no job runs again" in "\n".join(notes)


def test_a_lorentzian_source_needs_whole_periods(checked):
    source = {"source_fwhm_nm": 0.1, "source_shape": "lorentzian"}
    assert "0.1 nm FWHM, lorentzian" in "\n".join(checked(probe=source).lines())
    checked(probe={"source_shape": "lorentzian"}, scan={"x": [0.0, 0.4]})  # of no size
    for scan in ({"x": [0.0, 0.4]}, {"line": {"begin": [0, 0], "end": [0.5, 0], "points": 5}}, {"points": [1, 4]}):
        keys = {"points": None, **scan} if "line" in scan else scan
        with pytest.raises(ConfigError, match=r"probe\.source_shape.*whole lattice periods"):
            checked(probe=source, scan=keys)


def test_the_plan_names_shape_aberrations_and_focal_spread(checked):
    probe = {
        "source_fwhm_nm": 0.1, "source_fwhm_across_nm": 0.05, "source_rotation_deg": 30.0,
        "measured_aberrations": {"notation": "haider", "angles": "azimuth", "values": ["C3 1 um", "B2 10 nm 40 deg"]},
        "chromatic": {"cc_mm": 1.2, "energy_spread_ev": 0.7}, "defocus_count": 3, "defoci_nm": None,
    }  # fmt: skip
    text = "\n".join(checked(probe=probe).lines())
    assert "0.1 × 0.05 nm FWHM, the first at 30° from +x" in text
    assert "aberrations              C21_nm: 30 at 40°, C30_nm: 1000\n" in text
    assert "chromatic aberration     1.2 mm and 0.7 eV (fwhm): focal spread 4.887 nm FWHM" in text
    assert "aberration" not in "\n".join(checked().lines())


def test_a_preview_of_no_detector_earns_a_note(checked):
    block = {"reporting": True, "url": "http://127.0.0.1/", "preview": True}
    assert "preview" not in "\n".join(checked(http_reporting=block).notes)
    assert "preview" in "\n".join(checked(http_reporting=block, adf={"detectors": {}}).notes)


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ({"frozen_phonon": {"configurations": 1}}, "one configuration"),
        ({"adf": {"detectors": None}}, "bf, abf and haadf"),
        (
            {"probe": {"source_fwhm_nm": 0.1}, "scan": {"x": [0.0, 0.4], "margin_nm": 0}},
            "scan.margin_nm: 0.128 would be enough",
        ),
        ({"probe": {"source_fwhm_nm": 0.1}, "scan": {"x": [0.0, 0.5], "margin_nm": 0.2}}, "has no effect"),
        ({"scan": {"step": "at_most"}}, "scan.step: at_most has no effect"),
        ({"grating": {"gpts": [62, 64]}}, "prime factor"),
        ({"probe": {"defocus_count": 3}}, "ignored"),
        ({"simulation": {"algorithm": "probe_basis", "basis_tolerance": 4e-5}}, "precision: double"),
        ({"specimen": {"u_iso_angstrom2": {**U_ISO, "Tl": 0.01}}}, "no Tl"),
    ],
)
def test_settings_with_an_unexpected_effect_earn_a_note(checked, blocks, words):
    before = checked().notes
    notes = [note for note in checked(**blocks).notes if note not in before]
    assert any(words in note for note in notes), notes


def test_a_tolerance_that_single_precision_keeps_earns_no_note(checked):
    for simulation in ({}, {"basis_tolerance": 5e-5}, {"basis_tolerance": 1e-7, "precision": "double"}):
        notes = checked(simulation={"algorithm": "probe_basis", **simulation}).notes
        assert "basis_tolerance" not in "\n".join(notes)


# The points nearest to the axis of a cell of 7.81 Å lie 3.211 mrad from it, at 200 kV.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("inner", "outer", "largest"), [(2.7, 3.0, "0"), (7.3, 9.0, "7.18"), (7.2, 9.0, "7.18"), (4.542, 5.0, "4.541")]
)
def test_a_hard_ring_between_the_points_of_the_grid_is_refused(checked, inner, outer, largest):
    ring = {"semiangle_mrad": outer, "semiangle_inner_mrad": inner, "soft_aperture": False}
    with pytest.raises(ConfigError) as caught:
        checked(probe=ring)
    assert str(caught.value) == (
        f"config `probe.semiangle_inner_mrad`: got {inner:g}; no point of this grid lies between it and "
        f"semiangle_mrad = {outer:g}. The nearest one inside is at {largest} mrad. Use at most {largest}, "
        "soft_aperture: true, or a wider cell (specimen.repeat or size_nm)."
    )
    for followed in ({"semiangle_inner_mrad": float(largest)}, {"soft_aperture": True}):
        propagation.probe(checked(probe={**ring, **followed}).experiment, 0.0)
    propagation.probe(checked(probe=ring, specimen={"repeat": [8, 8, 1]}, grating={"gpts": [512, 512]}).experiment, 0.0)


def test_a_hard_ring_that_no_window_of_the_reference_holds_is_refused(checked):
    """The reference of windows of 5 Å is the whole cell of 7.81 Å, whose points are not among those of a window."""
    ring = {"semiangle_mrad": 5.1, "semiangle_inner_mrad": 4.8, "soft_aperture": False}
    propagation.probe(Experiment.of(tiny(probe=ring, grating={"window_angstrom": 5.0}), CELL, None), 0.0)
    with pytest.raises(ConfigError, match=r"at 4.541 mrad. Use .*a wider grating.window_angstrom"):
        checked(probe=ring, grating={"window_angstrom": 5.0})


def test_tail_of_the_probe_is_that_of_the_worst_defocus(checked):
    focus = checked(probe={"defoci_nm": [0.0]}).tail
    assert 0.001 < focus < 0.1
    far = checked(probe={"defoci_nm": [0.0, 40.0]}).tail
    assert far > 3 * focus
    assert checked(probe={"defoci_nm": [-40.0, 0.0]}).tail == pytest.approx(far, rel=0.2)
    assert (
        checked(probe={"defoci_nm": [0.0]}, specimen={"repeat": [4, 4, 1]}, grating={"gpts": [256, 256]}).tail < focus
    )


def test_size_of_the_result_follows_what_is_kept_apart(checked):
    cbed = {"enabled": True, "size": [20, 20]}
    together = checked(cbed=cbed, frozen_phonon={"configurations": 8, "save_coordinates": False})
    apart = checked(
        cbed={**cbed, "average_configurations": False},
        frozen_phonon={"configurations": 8, "save_coordinates": False},
    )
    patterns = 12 * 2 * 400 * 4 / 1e6
    assert together.result_mb == pytest.approx(patterns, rel=0.2)
    assert apart.result_mb == pytest.approx(8 * patterns, rel=0.2)


def test_checking_writes_nothing(checked, tmp_path):
    checked()
    assert {entry.name for entry in tmp_path.iterdir()} == {"tiny.xyz", "config.yaml"}


# --- the crystal -------------------------------------------------------------------------------------------------

SITES = """Sr1 Sr 0 0 0 0.62 Biso
Ti1 Ti 0.5 0.5 0.5 0.44 Biso
O1 O 0.5 0.5 0 0.73 Biso"""
CUBIC = "_symmetry_space_group_name_H-M 'P m -3 m'\n_symmetry_Int_Tables_number 221"
CIF = cif_text(SITES, symmetry=CUBIC, columns=f"{SITE} B_iso_or_equiv adp_type")
STEMSALABIM = """5
0.3905 0.3905 0.3905
Sr 0 0 0 7.87e-05
Ti 0.19525 0.19525 0.19525 5.57e-05
O 0.19525 0.19525 0 9.275e-05
O 0 0.19525 0.19525 9.275e-05
O 0.19525 0 0.19525 9.275e-05
"""


def test_the_plan_shows_the_crystal(checked):
    made = checked()
    assert row(made, "crystal") == (
        "Sr8 Ti8 O24 in the file's cell; 8 Sr, 8 Ti, 24 O; 5.117 g/cm³; shortest distance 1.952 Å (Ti–O)"
    )
    assert row(made, "thermal displacements") == "specimen.u_iso_angstrom2: Sr 0.008, Ti 0.006, O 0.01 Å²"
    assert row(made, "occupancies") == "every site is full"


def test_thermal_factors_of_a_cif_are_used_and_the_plan_says_that_the_map_has_no_effect(checked, tmp_path):
    (tmp_path / "biso.cif").write_text(CIF)
    made = checked(
        specimen={"file": "biso.cif", "repeat": [2, 2, 2], "u_iso_angstrom2": {"Sr": 0.5, "Ti": 0.5, "O": 0.5}}
    )
    assert row(made, "specimen").endswith("(cif, read by gemmi: Å)")
    assert row(made, "thermal displacements") == "the file: Sr 0.007852, Ti 0.005573, O 0.009246 Å²"
    assert "u_iso_angstrom2 has no effect for Sr, Ti, O" in "\n".join(made.notes)
    assert "u_iso_angstrom2 has no effect" in "\n".join(made.plan(1, 1, 1, "")["plan"])


def test_the_plan_says_that_a_map_beside_the_fifth_column_of_stemsalabim_has_no_effect(checked, tmp_path):
    (tmp_path / "cell.xyz").write_text(STEMSALABIM)
    made = checked(
        specimen={"file": "cell.xyz", "repeat": [2, 2, 2], "u_iso_angstrom2": {"Sr": 0.5, "Ti": 0.5, "O": 0.5}}
    )
    (note,) = [note for note in made.notes if "has no effect" in note]
    assert "specimen.u_iso_angstrom2 has no effect for Sr, Ti, O" in note


def test_an_element_without_u_gets_the_lines_to_paste_and_the_debye_model_gives_it(checked):
    with pytest.raises(SpecimenError, match=r"(?s)u_iso_angstrom2: \{O: <Å²>\}.*debye_temperature_k: \{O: <K>\}"):
        checked(specimen={"u_iso_angstrom2": {"Sr": 0.008, "Ti": 0.006}})
    made = checked(
        specimen={
            "u_iso_angstrom2": {"Sr": 0.008, "Ti": 0.006},
            "temperature_k": 300,
            "debye_temperature_k": {"O": 600},
        }
    )
    assert row(made, "thermal displacements").endswith("Debye model at 300 K: O 0.008391 Å²")


@pytest.mark.parametrize(("stretch", "check"), [(0.5, "density"), (0.3, "distance")])
def test_an_impossible_crystal_is_refused_unless_the_config_accepts_it(checked, tmp_path, stretch, check):
    plain = srtio3((4, 4, 4))
    write_xyz(
        tmp_path / "small.xyz",
        replace(plain, positions=stretch * plain.positions, cell=tuple(stretch * length for length in plain.cell)),
    )
    blocks = {"grating": {"slice_thickness_angstrom": 1.0}, "depths": {"every_angstrom": None}}
    with pytest.raises(SpecimenError, match=rf"specimen\.accept: \[{check}\]"):
        checked(specimen={"file": "small.xyz"}, **blocks)
    accepted = checked(specimen={"file": "small.xyz", "accept": ["density", "distance"]}, **blocks)
    # An accepted warning changes no number: jobs of this crystal have the params that they have without the check.
    assert "accept" not in accepted.campaign.specimen_params["specimen"]


@pytest.mark.failure("output from another version")
@pytest.mark.parametrize("place", ["merged", "job"])
def test_finished_results_of_another_version_are_named_before_they_are_replaced(checked, place):
    result = ResultPaths.of("tiny")
    file = result.merged if place == "merged" else result.job("p0d000", 0)
    file.parent.mkdir(parents=True)
    with netCDF4.Dataset(file, "w") as root:
        root.physics_version = provenance.PHYSICS_VERSION
    assert "physics_version" not in "\n".join(checked().notes)
    with netCDF4.Dataset(file, "a") as root:
        root.physics_version = 1
    (note,) = [note for note in checked().notes if "physics_version" in note]
    assert f"{file} was computed with physics_version 1, this program has {provenance.PHYSICS_VERSION}" in note
    assert "All 4 jobs are computed again" in note


def test_snapshots_win_and_the_plan_says_what_they_leave_unused(checked, tmp_path):
    write_xyz(tmp_path / "movie.xyz", srtio3((2, 2, 2), frames=2))
    made = checked(frozen_phonon={"snapshots": "movie.xyz"})
    assert row(made, "thermal displacements") == "the snapshots"
    assert "no effect: specimen.u_iso_angstrom2. The snapshots" in "\n".join(made.notes)


def test_atoms_at_rest_have_no_thermal_displacements(checked):
    assert row(checked(frozen_phonon={"enabled": False}), "thermal displacements").startswith("none")
