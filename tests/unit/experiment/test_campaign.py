"""The table of jobs of a config: defoci with weights and ids, and which keys decide the params of a job."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from stemphony import provenance
from stemphony.errors import ConfigError
from stemphony.experiment import campaign, configuration
from stemphony.experiment.campaign import Campaign, InputFiles, focal_spread
from stemphony.physics.plane_symmetry import PlaneGroup
from support.experiments import FILES, planned, tiny

FWHM = 5.0
SIGMA = 2.1233045  # standard deviation of the focal spread with FWHM 5 nm: 5 / 2.3548200


def probe(**keys: Any) -> tuple[campaign.Defocus, ...]:
    return planned(probe=keys).defoci


def spread(values: Any, weights: Any) -> tuple[float, float]:
    values, weights = np.asarray(values), np.asarray(weights)
    mean = float(weights @ values)
    return mean, math.sqrt(float(weights @ (values - mean) ** 2))


# --- focal spread -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 10, 15, 30, 99])
def test_gauss_hermite_has_the_standard_deviation_of_the_focal_spread(count):
    mean, deviation = spread(*focal_spread(-7.0, FWHM, count, "gauss_hermite"))
    assert mean == pytest.approx(-7.0, abs=1e-8)
    assert deviation == pytest.approx(SIGMA, rel=1e-6)


@pytest.mark.parametrize("count", [3, 5, 9])
def test_gauss_hermite_has_the_fourth_moment_of_a_gaussian_too(count):
    values, weights = focal_spread(0.0, FWHM, count, "gauss_hermite")
    assert np.dot(weights, np.power(values, 4)) == pytest.approx(3 * SIGMA**4, rel=1e-6)


@pytest.mark.parametrize(("count", "kept"), [(3, 0.442), (5, 0.997)])
def test_an_even_grid_loses_a_known_part_of_the_focal_spread(count, kept):
    values, weights = focal_spread(0.0, FWHM, count, "even_grid")
    assert spread(values, weights)[1] / SIGMA == pytest.approx(kept, abs=5e-4)
    assert (values[0], values[-1]) == pytest.approx((-3 * SIGMA, 3 * SIGMA))
    assert np.ptp(np.diff(values)) < 1e-8


@pytest.mark.parametrize("quadrature", ["gauss_hermite", "even_grid"])
@pytest.mark.parametrize("count", [1, 2, 3, 8, 99])
def test_generated_defoci_ascend_and_their_weights_sum_to_one(quadrature, count):
    defoci = probe(defocus_nm=2.0, defocus_fwhm_nm=FWHM, defocus_count=count, defocus_quadrature=quadrature)
    values = [defocus.value_nm for defocus in defoci]
    assert values == sorted(values)
    assert [defocus.index for defocus in defoci] == list(range(count))
    assert math.fsum(defocus.weight for defocus in defoci) == pytest.approx(1.0, abs=1e-12)


def test_a_chromatic_aberration_gives_the_focal_spread():
    """1.2 mm and 0.7 eV at 200 keV: 4.2 nm times the relativistic factor 1.39139/1.19569."""
    chromatic = {"cc_mm": 1.2, "energy_spread_ev": 0.7, "width": "fwhm"}
    defoci = probe(defocus_nm=1.0, chromatic=chromatic, defocus_count=7)
    mean, deviation = spread([d.value_nm for d in defoci], [d.weight for d in defoci])
    assert mean == pytest.approx(1.0)
    assert deviation * 2.354820045 == pytest.approx(4.2 * 1.39139 / 1.19569, rel=1e-5)
    same = probe(defocus_nm=1.0, defocus_fwhm_nm=4.2 * 1.39139017 / 1.19569508, defocus_count=7)
    assert [d.value_nm for d in defoci] == pytest.approx([d.value_nm for d in same], abs=1e-6)
    assert [d.weight for d in defoci] == [d.weight for d in same]


@pytest.mark.parametrize(("width", "sigmas"), [("fwhm", 1 / 2.354820045), ("sigma", 1.0), ("half_width_1_e", 0.5**0.5)])
def test_a_width_of_the_energy_spread_is_the_named_one(width, sigmas):
    chromatic = {"cc_mm": 1.0, "energy_spread_ev": 1.0, "width": width}
    defoci = probe(energy_kev=100.0, chromatic=chromatic, defocus_count=5)
    # A Gaussian of standard deviation w/√2 is 1/e of its maximum at the half width w.
    factor = (1 + 100 / 510.99895) / (1 + 50 / 510.99895)
    expected = sigmas * 1e6 * 1.0 / 1e5 * factor
    assert spread([d.value_nm for d in defoci], [d.weight for d in defoci])[1] == pytest.approx(expected, rel=1e-6)


def test_a_chromatic_aberration_without_effect_earns_a_note():
    chromatic = {"cc_mm": 1.2, "energy_spread_ev": 0.7}
    (note,) = planned(probe={"chromatic": chromatic}).notes
    assert "probe.chromatic, a focal spread of 4.887 nm, has no effect with defocus_count: 1" in note
    (note,) = planned(probe={"chromatic": chromatic, "defoci_nm": [0.0, 1.0]}).notes
    assert "chromatic" in note
    assert "ignored" in note
    with pytest.raises(ConfigError, match=r"probe\.chromatic.*both are the focal spread"):
        planned(probe={"chromatic": chromatic, "defocus_fwhm_nm": 3.0})


def test_a_shape_of_the_source_runs_the_merge_only_where_it_changes_it():
    def merge(**keys):
        return planned(probe={"source_fwhm_nm": 0.1, **keys}).merge_params

    usual = merge()
    assert merge(source_fwhm_across_nm=0.1, source_rotation_deg=20.0) == usual
    assert merge(source_shape="lorentzian") == {**usual, "source_shape": "lorentzian"}
    ellipse = {"source_fwhm_across_nm": 0.2, "source_rotation_deg": 20.0}
    assert merge(**ellipse) == {**usual, **ellipse}
    assert "source_shape" not in planned(probe={"source_shape": "lorentzian"}).merge_params  # of no size


def test_one_defocus_is_the_mean_and_a_spread_gives_a_note():
    (only,) = probe(defocus_nm=3.5)
    assert (only.value_nm, only.weight) == (3.5, 1.0)
    (same,) = probe(defocus_nm=3.5, defocus_fwhm_nm=FWHM)
    assert same == only
    (note,) = planned(probe={"defocus_fwhm_nm": FWHM}).notes
    assert "defocus_fwhm_nm" in note
    assert "no effect" in note
    assert "defocus_count" in note
    assert not planned(probe={"defocus_fwhm_nm": FWHM, "defocus_count": 3}).notes


def test_several_defoci_without_a_spread_are_refused():
    with pytest.raises(ConfigError, match=r"defocus_fwhm_nm.*is 0 while defocus_count is 3"):
        probe(defocus_count=3)


# --- explicit lists -----------------------------------------------------------------------------------------------


def test_listed_defoci_keep_their_order_and_weigh_the_same():
    defoci = probe(defoci_nm=[5.0, -2.5, 0.0])
    assert [d.value_nm for d in defoci] == [5.0, -2.5, 0.0]
    assert [d.index for d in defoci] == [0, 1, 2]
    assert [d.weight for d in defoci] == pytest.approx([1 / 3] * 3)


def test_listed_weights_are_normalised():
    assert [d.weight for d in probe(defoci_nm=[0.0, 1.0], defocus_weights=[1, 3])] == [0.25, 0.75]


def test_a_list_wins_over_the_four_other_keys_with_a_note():
    made = planned(probe={"defoci_nm": [1.0], "defocus_nm": 4.0, "defocus_count": 3})
    assert [d.value_nm for d in made.defoci] == [1.0]
    assert "ignored" in "\n".join(made.notes)
    assert not planned(probe={"defoci_nm": [1.0]}).notes


@pytest.mark.parametrize(
    "keys",
    [
        {"defoci_nm": [0.0, 1.0], "defocus_weights": [1.0]},
        {"defoci_nm": [0.0, 1.0], "defocus_weights": [0.0, 0.0]},
        {"defocus_weights": [1.0]},
    ],
)
def test_weights_that_do_not_fit_their_list_are_refused(keys):
    with pytest.raises(ConfigError, match="defocus_weights"):
        probe(**keys)


@pytest.mark.parametrize(
    ("value", "identifier"),
    [
        (2.5, "p2d500"),
        (-10.0, "m10d000"),
        (0.0, "p0d000"),
        (-0.0, "p0d000"),
        (-0.0004, "p0d000"),
        (-0.0006, "m0d001"),
        (0.12345, "p0d123"),
        (1234.5678, "p1234d568"),
    ],
)
def test_ids_are_made_from_the_value_alone(value, identifier):
    assert probe(defoci_nm=[value])[0].id == identifier


def test_minus_zero_is_zero():
    config = tiny()
    config["probe"]["defoci_nm"] = [-0.0]
    (defocus,) = campaign.plan(config, FILES).defoci
    assert (str(defocus.value_nm), defocus.id) == ("0.0", "p0d000")


@pytest.mark.parametrize("values", [[1.0, 1.0], [0.0, -0.0004], [2.5, 0.0, 2.5004]])
def test_defoci_with_the_same_id_are_refused(values):
    with pytest.raises(ConfigError, match=r"defoci_nm.*0\.001 nm"):
        probe(defoci_nm=values)


def test_a_spread_too_small_to_tell_defoci_apart_is_refused():
    with pytest.raises(ConfigError, match="defocus_fwhm_nm"):
        probe(defocus_fwhm_nm=1e-4, defocus_count=3)


# --- configurations -----------------------------------------------------------------------------------------------

MOVIE = InputFiles("5" * 64, "6" * 64, 7)


@pytest.mark.parametrize(
    ("phonons", "files", "expected"),
    [
        ({}, FILES, 4),
        ({"configurations": 9}, FILES, 9),
        ({"enabled": False, "configurations": 9}, FILES, 1),
        ({"snapshots": "a.xyz"}, MOVIE, 7),
        ({"snapshots": "a.xyz", "configurations": None}, MOVIE, 7),
        ({"snapshots": "a.xyz", "configurations": 5}, MOVIE, 5),
        ({"snapshots": "a.xyz", "configurations": 7}, MOVIE, 7),
    ],
)
def test_configurations_are_as_many_as_asked_for_or_as_there_are_frames(phonons, files, expected):
    made = planned(files, frozen_phonon=phonons, probe={"defoci_nm": [0.0, 1.0]})
    assert made.configurations == expected
    assert made.jobs == 2 * expected


def test_more_configurations_than_frames_are_refused():
    with pytest.raises(ConfigError, match=r"configurations.*got 8.*7 frames"):
        planned(MOVIE, frozen_phonon={"snapshots": "a.xyz", "configurations": 8})


# --- what decides a job's params ----------------------------------------------------------------------------------

# A changed value for every key of a config whose change must recompute all jobs.
DECIDES: dict[str, Any] = {
    "simulation.random_seed": 2,
    "simulation.precision": "double",
    "simulation.algorithm": "probe_basis",
    "probe.energy_kev": 300.0,
    "probe.semiangle_mrad": 21.0,
    "probe.semiangle_inner_mrad": 1.0,
    "probe.soft_aperture": False,
    "probe.aberrations": {"C30_nm": 1.0},
    "probe.tilt_mrad": [1.0, 0.0],
    "probe.plane_wave": True,
    "waves.exit": [[0.0, 0.0], [0.5, 0.5]],
    "probe.precession": {"angle_mrad": 5.0, "steps": 8},
    "specimen.tilt_mrad": [0.0, 5.0],
    "specimen.format": "stemsalabim",
    "specimen.supercell": [[1, 0, 0], [0, 1, 0], [0, 0, 2]],
    "specimen.zone_axis": [1, 1, 0],
    "specimen.up": [0, 0, 1],
    "specimen.max_strain": 0.01,
    "specimen.repeat": [1, 1, 2],
    "specimen.size_nm": [1.0, 1.0],
    "specimen.thickness_nm": 2.0,
    "specimen.origin": "Ti",
    "specimen.termination": 0.5,
    "specimen.substitutions": [{"element": "Sr", "by": "La", "fraction": 0.1}],
    "specimen.amorphous_layers": {"exit_nm": 1.0, "element": "C", "density_g_cm3": 2.0},
    "specimen.vacuum_angstrom": [0.0, 0.0, 1.0],
    "specimen.u_iso_angstrom2": {"Sr": 0.02},
    "grating.gpts": [72, 72],
    "grating.sampling_angstrom": 0.06,
    "grating.slice_thickness_angstrom": 1.0,
    "grating.slice_boundaries_angstrom": [1.0, 3.0],
    "specimen.u_source": "config",
    "specimen.temperature_k": 300.0,
    "specimen.debye_temperature_k": 400.0,
    "grating.parametrization": "lobato",
    "grating.bandlimit": 0.6,
    "grating.bandlimit_taper": 0.0,
    "grating.window_angstrom": 6.0,
    "grating.potential_oversampling": 2,
    "grating.parametrization_of": {"O": "lobato"},
    "specimen.charges": "file",
    "scan.x": [0.0, 0.5],
    "scan.y": [0.0, 0.5],
    "scan.points": [3, 5],
    "scan.step_angstrom": 0.5,
    "scan.step": "at_most",
    "scan.unit": "nm",
    "scan.origin": [0.1, 0.0],
    "scan.line": {"begin": [0.0, 0.0], "end": [0.5, 0.5], "points": 5},
    "scan.positions": [[0.0, 0.0], [0.5, 0.5]],
    "depths.every_angstrom": 2.0,
    "depths.at_angstrom": [2.0],
    "adf.enabled": False,
    "adf.min_mrad": 1.0,
    "adf.max_mrad": 50.0,
    "adf.bins": 6,
    "adf.interval_exponent": 2.0,
    "adf.detectors": {"bf": [0.0, 9.0]},
    "adf.edges": "area",
    "adf.segmented": {"dpc": {}},
    "adf.center_of_mass": False,
    "cbed.enabled": True,
    "cbed.max_mrad": 20.0,
    "cbed.size": [5, 5],
    "cbed.pixel_mrad": 1.0,
    "cbed.scan": {"points": [2, 2]},
    "cbed.depths": {"at_angstrom": [3.9]},
    "frozen_phonon.enabled": False,
    "frozen_phonon.independent_defoci": False,
    "frozen_phonon.fixed_slicing": False,
    "frozen_phonon.displace_z": False,
    "plasmon_scattering.enabled": True,
}
PLASMON_KEYS: dict[str, Any] = {
    "plasmon_scattering.mean_free_path_nm": 90.0,
    "plasmon_scattering.plasmon_energy_ev": 15.0,
    "plasmon_scattering.plasmon_fwhm_ev": 3.0,
    "plasmon_scattering.plural_scattering": True,
    "plasmon_scattering.simple_mode": True,
    "plasmon_scattering.max_energy_ev": 40.0,
    "plasmon_scattering.energy_grid_density_per_ev": 1.0,
    "plasmon_scattering.cutoff_mrad": 20.0,
    "plasmon_scattering.draws": 2,
}
# A changed value for every other key, which changes other jobs, the merge or no number.
DECIDES_NOTHING: dict[str, Any] = {
    "simulation.name": "other",
    "simulation.title": "another",
    "simulation.basis_tolerance": 1e-5,
    "probe.defocus_nm": 3.0,
    "probe.defocus_fwhm_nm": 3.0,
    "probe.defocus_count": 3,
    "probe.defocus_quadrature": "even_grid",
    "probe.defoci_nm": [2.0, 1.0, 0.0],
    "probe.defocus_weights": [3.0, 1.0],
    "probe.source_fwhm_nm": 0.1,
    "probe.source_shape": "lorentzian",
    "probe.source_fwhm_across_nm": 0.2,
    "probe.source_rotation_deg": 30.0,
    "probe.chromatic": {"cc_mm": 1.2, "energy_spread_ev": 0.7, "width": "fwhm"},
    "probe.measured_aberrations": {"notation": "haider"},  # validation makes aberrations of it
    "probe.descan": True,  # decides with a tilt only, see below
    "scan.margin_nm": 0.2,  # the positions that it adds decide, see below
    "scan.symmetry": "auto",  # the operations that it finds decide, see below
    "specimen.file": "/elsewhere/tiny.xyz",
    "specimen.occupancy": "refuse",
    "specimen.accept": ["density", "distance"],
    "adf.average_configurations": False,
    "adf.average_defoci": False,
    "adf.integrated": True,
    "cbed.average_configurations": False,
    "cbed.average_defoci": False,
    "cbed.standard_errors": True,
    "waves.probe": True,
    "waves.depth_profile": True,  # decides with exit waves only, as do the next two; see test_wave_request.py
    "waves.columns": [[0.5, 0.5]],
    "waves.column_radius_angstrom": 1.0,
    "waves.average_configurations": False,
    "frozen_phonon.configurations": 9,
    "frozen_phonon.save_coordinates": True,
    "frozen_phonon.snapshots": "elsewhere.xyz",  # the content decides, not the path
    **PLASMON_KEYS,  # decide with plasmons only, see below
    "resources.threads": 8,
    "resources.mem_mb": 5000,
    "resources.runtime_min": 5,
    **{
        f"http_reporting.{key}": "x"
        for key in (
            "reporting", "url", "auth_user", "auth_pass", "auth_pass_env", "auth_pass_file", "ca_file", "via",
            "progress_event", "progress_min_interval_s", "preview", "parameters",
        )
    },
}  # fmt: skip

BASE = {"probe": {"defoci_nm": [0.0, 1.0]}, "simulation": {"random_seed": 1}}


def changed(where: str, value: Any) -> Campaign:
    """The campaign of a config with one changed value, even if this version does not accept it."""
    config = copy.deepcopy(tiny(**BASE))
    block, key = where.split(".")
    config[block][key] = value
    return campaign.plan(config, FILES)


def job_digest(of: Campaign) -> str:
    return provenance.digest(of.job_params("p0d000", 1))


def test_every_key_is_listed_as_deciding_jobs_or_the_merge_or_nothing():
    keys = {
        f"{block}.{key}" for block, rule in configuration.schema()["properties"].items() for key in rule["properties"]
    }
    assert keys == DECIDES.keys() | DECIDES_NOTHING.keys()
    assert not DECIDES.keys() & DECIDES_NOTHING.keys()


@pytest.mark.parametrize("where", DECIDES)
def test_a_physical_key_changes_every_job(where):
    assert job_digest(changed(where, DECIDES[where])) != job_digest(planned(**BASE))


@pytest.mark.parametrize("where", DECIDES_NOTHING)
def test_a_key_that_is_not_physical_changes_no_job(where):
    assert job_digest(changed(where, DECIDES_NOTHING[where])) == job_digest(planned(**BASE))


def test_descan_changes_jobs_only_with_a_tilted_beam():
    for probe in ({"tilt_mrad": [1.0, 0.0]}, {"precession": {"angle_mrad": 5.0, "steps": 8}}):
        kept, descanned = (planned(probe={**BASE["probe"], **probe, "descan": value}) for value in (False, True))
        assert job_digest(kept) != job_digest(descanned)


def test_a_tilt_of_zero_changes_no_job():
    zero = planned(probe={**BASE["probe"], "tilt_mrad": [0, -0.0]}, specimen={"tilt_mrad": [-0.0, 0]})
    assert job_digest(zero) == job_digest(planned(**BASE))
    assert zero.specimen_params == planned(**BASE).specimen_params


def test_a_tilt_of_the_specimen_leaves_its_atoms_alone():
    tilted = planned(specimen={"tilt_mrad": [5.0, 0.0]})
    assert tilted.specimen_params == planned().specimen_params
    assert tilted.common_params["specimen"] == {"tilt_mrad": [5.0, 0.0]}


def test_operations_that_reduce_the_scan_change_every_job_and_the_plan_keeps_them():
    base = planned(**BASE)
    group = PlaneGroup.of({((-1, 0), (0, 1)): [(0, 0)]}, (64, 64))
    reduced = replace(base, symmetry=group)
    assert job_digest(reduced) != job_digest(base)
    assert "symmetry_group" not in base.common_params["scan"]
    kept = {
        "config": base.config, "files": asdict(FILES), "num_configurations": base.configurations,
        "scan_symmetry": group.in_params(),
    }  # fmt: skip
    assert job_digest(campaign.of_plan(json.loads(json.dumps(kept)))) == job_digest(reduced)
    assert job_digest(campaign.of_plan({**kept, "scan_symmetry": None})) == job_digest(base)


def test_the_content_of_input_files_changes_params():
    base = planned(**BASE)
    assert job_digest(planned(InputFiles("7" * 64), **BASE)) != job_digest(base)
    movie = planned(InputFiles("5" * 64, "6" * 64, 4), **BASE)
    other = planned(InputFiles("5" * 64, "8" * 64, 4), **BASE)
    longer = planned(InputFiles("5" * 64, "8" * 64, 9), **BASE)
    assert len({job_digest(base), job_digest(movie), job_digest(other)}) == 3
    assert movie.specimen_params != other.specimen_params
    assert job_digest(other) == job_digest(longer)


def test_a_config_without_new_keys_keeps_the_digests_of_version_0_1(monkeypatch):
    monkeypatch.setattr(provenance, "PHYSICS_VERSION", 1)
    moving, at_rest = planned(), planned(frozen_phonon={"enabled": False})
    assert moving.specimen_params["specimen_digest"] == (
        "0be29d3ccf546a8663d0c9bbd4ffe632770c4ec5a35bed7d695caa6ceb849780"
    )
    assert job_digest(moving) == "b41c2b359cccb856e197a7bcf94f982d4921bb257c8b84b99582c05c845ef0c7"
    assert job_digest(at_rest) == "a24c18dd430f2d96b9a4dad8adcffe6bf9dd80ce36465c4c0864c37268f042d4"


def test_a_plan_of_version_0_1_without_the_new_keys_has_the_same_digests():
    config = copy.deepcopy(tiny())
    for key in [*campaign.SPECIMEN_NEUTRAL, *campaign.SPECIMEN_CHECKS, campaign.SPECIMEN_TILT]:
        if key != "file":
            del config["specimen"][key]
    assert campaign.plan(config, FILES).specimen_params == planned().specimen_params


def test_a_corrected_reading_of_the_structure_file_changes_the_jobs():
    corrected = planned(InputFiles("5" * 64, revision=2), **BASE)
    assert job_digest(corrected) != job_digest(planned(**BASE))


def test_the_seed_changes_jobs_with_drawn_occupancies_even_for_atoms_at_rest():
    files = InputFiles("5" * 64, occupancies_drawn=True)
    first, second = (
        planned(files, simulation={"random_seed": seed}, frozen_phonon={"enabled": False}) for seed in (1, 2)
    )
    assert first.configurations == 1
    assert job_digest(first) != job_digest(second)
    movie = replace(files, snapshots_sha256="6" * 64, snapshots=1)
    one, other = (
        planned(movie, simulation={"random_seed": seed}, frozen_phonon={"snapshots": "a.xyz"}) for seed in (1, 2)
    )
    assert job_digest(one) == job_digest(other)


def test_each_job_differs_from_the_others():
    made = planned(**BASE)
    digests = {provenance.digest(made.job_params(d.id, c)) for d in made.defoci for c in range(made.configurations)}
    assert len(digests) == made.jobs == 8


def test_shared_params_are_made_once(monkeypatch):
    """Snakemake asks for the params of each of 10,000 jobs."""
    made, calls = planned(**BASE), []
    digest = provenance.digest
    monkeypatch.setattr(provenance, "digest", lambda value: calls.append(value) or digest(value))
    shared = [made.job_params(d.id, c)["probe"] for d in made.defoci for c in range(made.configurations)]
    assert len(calls) == 1
    assert [block for block in shared if block is not shared[0]] == []


def test_nothing_volatile_or_secret_is_in_params(tmp_path):
    blocks: dict[str, Any] = {**BASE, "http_reporting": {"url": "http://secret", "parameters": {"token": "t0k3n"}}}
    made = planned(**blocks)
    text = provenance.canonical_json([made.job_params("p0d000", 0), made.merge_params, made.specimen_params])
    for word in ("secret", "t0k3n", "tiny", "http", str(tmp_path)):
        assert word not in text


def test_a_physics_version_recomputes_everything(monkeypatch):
    before = planned(**BASE)
    old = job_digest(before), before.specimen_params["specimen_digest"], provenance.digest(before.merge_params)
    monkeypatch.setattr(provenance, "PHYSICS_VERSION", provenance.PHYSICS_VERSION + 1)
    after = planned(**BASE)
    new = job_digest(after), after.specimen_params["specimen_digest"], provenance.digest(after.merge_params)
    assert not set(old) & set(new)


def test_the_seed_changes_nothing_if_nothing_is_drawn():
    def digest(seed: int, **phonons: Any) -> str:
        files = MOVIE if "snapshots" in phonons else FILES
        made = planned(files, simulation={"random_seed": seed}, frozen_phonon=phonons)
        return provenance.digest(made.job_params("p0d000", 0))

    assert digest(1, enabled=False) == digest(2, enabled=False)
    assert digest(1, snapshots="a.xyz") == digest(2, snapshots="a.xyz")
    assert digest(1) != digest(2)
    for phonon in ("independent_defoci", "displace_z"):
        assert digest(1, enabled=False, **{phonon: False}) == digest(1, enabled=False)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("adf.average_configurations", False),
        ("adf.average_defoci", False),
        ("adf.integrated", True),
        ("cbed.average_configurations", False),
        ("cbed.average_defoci", False),
        ("probe.source_fwhm_nm", 0.1),
        ("probe.defocus_weights", [3.0, 1.0]),
        ("frozen_phonon.configurations", 9),
    ],
)
def test_keys_of_the_merge_change_only_the_merge(where, value):
    assert provenance.digest(changed(where, value).merge_params) != provenance.digest(planned(**BASE).merge_params)


@pytest.mark.parametrize(("where", "value"), [("resources.threads", 8), ("http_reporting.url", "x")])
def test_other_keys_do_not_change_the_merge(where, value):
    assert provenance.digest(changed(where, value).merge_params) == provenance.digest(planned(**BASE).merge_params)


def test_the_order_of_keys_in_the_config_changes_nothing():
    def reversed_keys(value: Any) -> Any:
        return {k: reversed_keys(v) for k, v in reversed(value.items())} if isinstance(value, dict) else value

    config = tiny(**BASE, specimen={"u_iso_angstrom2": {"Sr": 0.1, "O": 0.2}})
    other = campaign.plan(reversed_keys(config), FILES)
    made = campaign.plan(config, FILES)
    assert provenance.digest(other.job_params("p0d000", 0)) == provenance.digest(made.job_params("p0d000", 0))
    assert provenance.digest(other.merge_params) == provenance.digest(made.merge_params)


# --- figures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ({}, ("bf", "haadf", "thickness_curves")),
        ({"depths": {"every_angstrom": None}}, ("bf", "haadf")),
        ({"adf": {"detectors": None}, "depths": {"every_angstrom": None}}, ("bf", "abf", "haadf")),
        ({"cbed": {"enabled": True}}, ("bf", "haadf", "thickness_curves", "cbed_mean")),
        ({"adf": {"enabled": False}, "cbed": {"enabled": True}}, ("cbed_mean",)),
    ],
)
def test_figures_follow_detectors_depths_and_patterns(blocks, expected):
    assert planned(**blocks).figures == expected


GOAL = {"until": 0.02, "detectors": ["haadf"], "min": 5, "max": 40}


def test_a_goal_plans_its_first_round_and_decides_no_job():
    given, goal = planned(), planned(frozen_phonon={"configurations": GOAL})
    assert goal.configurations == 5
    assert goal.extended(9).jobs == 9 * len(goal.defoci)
    assert goal.common_params == given.common_params


def test_the_present_round_of_a_plan_replaces_the_first():
    config = tiny(frozen_phonon={"configurations": GOAL})
    assert campaign.plan(config, FILES, 17).configurations == 17


def test_without_names_all_detectors_must_reach_the_goal():
    goal = planned(frozen_phonon={"configurations": {"until": 0.02}}).goal
    assert goal is not None
    assert goal.detectors == ("bf", "haadf")
    assert (goal.fewest, goal.most) == (4, 200)


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"detectors": ["nothing"]}, r"configurations\.detectors.*allowed: bf, haadf"),
        ({"max": 4}, r"configurations\.max.*less than min = 5"),
    ],
)
def test_a_goal_that_cannot_be_reached_is_refused(wrong: dict[str, Any], where: str):
    with pytest.raises(ConfigError, match=where):
        planned(frozen_phonon={"configurations": {**GOAL, **wrong}})


def test_a_goal_needs_named_detectors():
    with pytest.raises(ConfigError, match="needs named detectors"):
        planned(frozen_phonon={"configurations": GOAL}, adf={"detectors": {}})


def test_a_trajectory_limits_the_rounds():
    frames = InputFiles("5" * 64, "6" * 64, 12)
    made = planned(frames, frozen_phonon={"configurations": GOAL})
    assert made.goal is not None
    assert made.goal.most == 12
    assert "12 frames" in "\n".join(made.notes)
    with pytest.raises(ConfigError, match="trajectory has 3 frames"):
        planned(InputFiles("5" * 64, "6" * 64, 3), frozen_phonon={"configurations": GOAL})
