"""The config contract: names, defaults and messages about mistakes."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from stemphony.errors import ConfigError
from stemphony.experiment import configuration
from stemphony.experiment.configuration import load, validate, without_secrets
from stemphony.experiment.sweeps import expanded
from support.experiments import minimal

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "config/config.yaml"
SHIPPED = [DEMO, *sorted((ROOT / "config/examples").glob("*.yaml"))]

# The defaults of the contract, word for word; `x` and `x.cif` come from the minimal config.
DEFAULTS = """
simulation:
  name: x
  title: x
  random_seed: 1
  precision: single
  algorithm: multislice
  basis_tolerance: 1.0e-4
probe:
  energy_kev: 200.0
  semiangle_mrad: 20.0
  semiangle_inner_mrad: 0.0
  soft_aperture: true
  defocus_nm: 0.0
  defocus_fwhm_nm: 0.0
  chromatic: null
  defocus_count: 1
  defocus_quadrature: gauss_hermite
  defoci_nm: null
  defocus_weights: null
  aberrations: {}
  measured_aberrations: null
  tilt_mrad: [0.0, 0.0]
  precession: null
  descan: false
  plane_wave: false
  source_fwhm_nm: 0.0
  source_shape: gaussian
  source_fwhm_across_nm: null
  source_rotation_deg: 0.0
specimen:
  file: x.cif
  format: auto
  supercell: null
  zone_axis: null
  up: null
  max_strain: 0.0
  repeat: [1, 1, 1]
  size_nm: null
  thickness_nm: null
  origin: null
  termination: null
  substitutions: []
  amorphous_layers: null
  tilt_mrad: [0.0, 0.0]
  vacuum_angstrom: [0.0, 0.0, 0.0]
  u_iso_angstrom2: {}
  u_source: file
  temperature_k: null
  debye_temperature_k: null
  occupancy: random
  charges: neutral
  accept: []
grating:
  gpts: null
  sampling_angstrom: 0.05
  slice_thickness_angstrom: auto
  slice_boundaries_angstrom: null
  parametrization: kirkland
  parametrization_of: {}
  bandlimit: 0.6666666
  bandlimit_taper: 0.02
  window_angstrom: null
  potential_oversampling: 1
scan:
  x: [0.0, 1.0]
  y: [0.0, 1.0]
  points: [16, 16]
  step_angstrom: null
  step: exact
  unit: cell
  origin: [0.0, 0.0]
  line: null
  positions: null
  margin_nm: auto
  symmetry: "off"
depths:
  every_angstrom: null
  at_angstrom: null
adf:
  enabled: true
  min_mrad: 0.0
  max_mrad: null
  bins: null
  interval_exponent: 1.0
  detectors: null
  edges: hard
  segmented: {}
  integrated: false
  center_of_mass: true
  average_configurations: true
  average_defoci: true
cbed:
  enabled: false
  max_mrad: null
  size: null
  pixel_mrad: null
  scan: null
  depths: null
  standard_errors: false
  average_configurations: true
  average_defoci: true
waves:
  probe: false
  exit: []
  depth_profile: false
  columns: null
  column_radius_angstrom: 0.5
  average_configurations: true
frozen_phonon:
  enabled: true
  configurations: 4
  independent_defoci: true
  fixed_slicing: true
  displace_z: true
  save_coordinates: auto
  snapshots: null
plasmon_scattering:
  enabled: false
  mean_free_path_nm: null
  plasmon_energy_ev: null
  plasmon_fwhm_ev: null
  plural_scattering: false
  simple_mode: false
  max_energy_ev: 25.0
  energy_grid_density_per_ev: 2.0
  cutoff_mrad: null
  draws: 1
resources: {threads: 1, mem_mb: auto, runtime_min: auto}
http_reporting:
  reporting: false
  url: ""
  auth_user: ""
  auth_pass: ""
  auth_pass_env: ""
  auth_pass_file: ""
  ca_file: ""
  via: job
  progress_event: PROGRESS
  progress_min_interval_s: 0.0
  preview: false
  parameters: {}
"""


def refusal(config: Any, *parts: str) -> str:
    """Return the message about a config; it must contain `parts`."""
    with pytest.raises(ConfigError) as caught:
        validate(config)
    text = str(caught.value)
    for part in parts:
        assert part in text, text
    return text


def leaves(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for block, values in config.items():
        for key, value in values.items():
            yield f"{block}.{key}", value


# --- defaults -----------------------------------------------------------------------------------------------------


def test_off_without_quotes_is_read_as_the_word():
    written = yaml.safe_load("{symmetry: off}")
    assert written == {"symmetry": False}
    assert validate(minimal(scan=written))["scan"]["symmetry"] == "off"
    assert validate(minimal(scan={"symmetry": "auto"}))["scan"]["symmetry"] == "auto"


def test_minimal_config_gets_the_defaults_of_the_contract():
    assert dict(leaves(validate(minimal()))) == dict(leaves(yaml.safe_load(DEFAULTS)))


def test_numbers_have_the_type_that_the_contract_prints():
    expected = {where: type(value) for where, value in leaves(yaml.safe_load(DEFAULTS))}
    assert {where: type(value) for where, value in leaves(validate(minimal()))} == expected


def test_title_is_the_name_unless_it_is_given():
    assert validate(minimal(simulation={"title": "SrTiO3 [001]"}))["simulation"]["title"] == "SrTiO3 [001]"
    assert validate(minimal(simulation={"title": None}))["simulation"]["title"] == "x"


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_shipped_configs_are_valid(file):
    config = load([file])
    for one in (
        [member.config for member in expanded(config, config).members] if configuration.is_swept(config) else [config]
    ):
        validate(one)


def test_demo_shows_every_key():
    shown = {where for where, _ in leaves(load([DEMO]))}
    hidden = {"grating.sampling_angstrom", "http_reporting.auth_pass"}  # an alternative, and a discouraged key
    assert {where for where, _ in leaves(yaml.safe_load(DEFAULTS))} == shown | hidden


def test_snakemake_reads_the_same_from_a_file(tmp_path):
    from snakemake.common.configfile import load_configfile

    odd = written(tmp_path, "probe: {energy_kev: 1e4, defocus_nm: 1.0e-4, soft_aperture: yes}\nspecimen:\n")
    for file in (DEMO, odd):
        assert load_configfile(str(file)) == load([file])


def test_validation_changes_nothing_of_what_it_is_given():
    config = minimal(probe={"aberrations": {"C30_nm": 1}})
    before = yaml.safe_dump(config)
    complete = validate(config)
    complete["probe"]["aberrations"]["C30_nm"] = 7.0
    complete["adf"]["segmented"]["a"] = 1
    assert yaml.safe_dump(config) == before
    assert validate(minimal())["adf"]["segmented"] == {}


def test_ordered_dictionaries_are_configs():
    config = OrderedDict((block, OrderedDict(values)) for block, values in minimal().items())
    assert validate(config) == validate(minimal())
    assert type(validate(config)["simulation"]) is dict


@pytest.mark.parametrize(
    ("block", "key", "written", "meant"),
    [
        ("probe", "energy_kev", 200, 200.0),
        ("probe", "defocus_nm", -0.0, 0.0),
        ("probe", "defoci_nm", [1, 2.0, -0.0], [1.0, 2.0, 0.0]),
        ("probe", "aberrations", {"C30_nm": 1000, "C12_nm": 2, "phi12_deg": 30}, None),
        ("specimen", "u_iso_angstrom2", {"Sr": 1}, {"Sr": 1.0}),
        ("specimen", "repeat", [2.0, 2, 3], [2, 2, 3]),
        ("grating", "gpts", [64.0, 64.0], [64, 64]),
        ("scan", "points", [4.0, 4.0], [4, 4]),
        ("adf", "detectors", {"a": [0, 10]}, {"a": [0.0, 10.0]}),
        ("frozen_phonon", "configurations", 3.0, 3),
        ("resources", "mem_mb", 2000.0, 2000),
    ],
)
def test_two_ways_to_write_a_number_are_one_config(block, key, written, meant):
    # repr, because 200 == 200.0 and −0.0 == 0.0 in Python, but their digests differ.
    got = validate(minimal(**{block: {key: written}}))[block][key]
    if meant is None:
        meant = {name: float(value) for name, value in written.items()}
    assert repr(sorted(got.items()) if isinstance(got, dict) else got) == repr(
        sorted(meant.items()) if isinstance(meant, dict) else meant
    )


# --- blocks with nothing under them -------------------------------------------------------------------------------

OPTIONAL = sorted(set(yaml.safe_load(DEFAULTS)) - {"simulation", "specimen"})


@pytest.mark.parametrize("block", OPTIONAL)
def test_a_block_with_nothing_under_it_has_its_defaults(block):
    assert validate({**minimal(), block: None}) == validate(minimal())


@pytest.mark.parametrize(
    "where", ["probe.aberrations", "specimen.u_iso_angstrom2", "adf.segmented", "http_reporting.parameters"]
)
def test_a_map_with_nothing_under_it_is_empty(where):
    block, key = where.split(".")
    assert validate(minimal(**{block: {key: None}})) == validate(minimal())


@pytest.mark.parametrize(("block", "key"), [("simulation", "name"), ("specimen", "file")])
def test_a_required_block_with_nothing_under_it_names_the_key_it_lacks(block, key):
    for config in ({**minimal(), block: None}, {**minimal(), block: {}}):
        refusal(config, f"`{block}.{key}`", "required and missing")
    refusal({other: values for other, values in minimal().items() if other != block}, f"`{block}`", "required")


def test_a_key_without_a_value_is_named():
    refusal(minimal(probe={"energy_kev": None}), "`probe.energy_kev`", "got null", "remove the line")


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "where", "near"),
    [
        ({**minimal(), "prob": {}}, "prob", "probe"),
        ({**minimal(), "frozen_phonons": {}}, "frozen_phonons", "frozen_phonon"),
        (minimal(simulation={"titel": "a"}), "simulation.titel", "title"),
        (minimal(probe={"energy_keV": 200}), "probe.energy_keV", "energy_kev"),
        (minimal(probe={"aberrations": {"phi12": 1}}), "probe.aberrations.phi12", "phi12_deg"),
        (minimal(specimen={"repeats": [1, 1, 1]}), "specimen.repeats", "repeat"),
        (minimal(grating={"slice_thickness": 2}), "grating.slice_thickness", "slice_thickness_angstrom"),
        (minimal(scan={"point": [1, 1]}), "scan.point", "points"),
        (minimal(depths={"every_angstroem": 1}), "depths.every_angstroem", "every_angstrom"),
        (minimal(adf={"detector": {}}), "adf.detector", "detectors"),
        (minimal(cbed={"sizes": [1, 1]}), "cbed.sizes", "size"),
        (minimal(frozen_phonon={"configuration": 3}), "frozen_phonon.configuration", "configurations"),
        (minimal(plasmon_scattering={"enable": False}), "plasmon_scattering.enable", "enabled"),
        (minimal(resources={"thread": 1}), "resources.thread", "threads"),
        (minimal(http_reporting={"parameter": {}}), "http_reporting.parameter", "parameters"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(config, where, near):
    refusal(config, f"`{where}`", "unknown", f"did you mean `{near}`?")


@pytest.mark.parametrize(
    ("probe", "where", "written"),
    [
        ({"C3_nm": 1000}, "C3_nm", "write `aberrations: {C30_nm: 1000}`."),
        ({"Cs_mm": 1.2}, "Cs_mm", "write `aberrations: {C30_nm: 1200000}` (from 1.2 mm)."),
        ({"C5_mm": -2.0}, "C5_mm", "write `aberrations: {C50_nm: -2000000}` (from -2 mm)."),
        ({"C12_angstrom": 25}, "C12_angstrom", "write `aberrations: {C12_nm: 2.5}` (from 25 angstrom)."),
        ({"A1_nm": 2}, "A1_nm", "write `aberrations: {C12_nm: 2}`."),
        ({"B2_nm": 10}, "B2_nm", "write `aberrations: {C21_nm: 30}`"),
        ({"aberrations": {"B2": 10}}, "aberrations.B2", "write `C21_nm: 30` (the value is in nm)."),
        ({"aberrations": {"C30": 1}}, "aberrations.C30", "write `C30_nm: 1` (the value is in nm)."),
        ({"Cs_mm": "1,2"}, "Cs_mm", "use `probe.aberrations: C30_nm`, in nm."),
        ({"Cs_mm": 0.0012}, "Cs_mm", "write `aberrations: {C30_nm: 1200}` (from 0.0012 mm)."),
        ({"aberrations": {"C1_nm": 5}}, "aberrations.C1_nm", "use probe.defocus_nm (positive is underfocus)"),
    ],
)
def test_an_aberration_with_another_name_or_unit_is_written_out(probe, where, written):
    refusal(minimal(probe=probe), f"`probe.{where}`", written)


def test_the_line_that_is_written_out_is_a_number_in_yaml():
    text = refusal(minimal(probe={"aberrations": {"Cs_m": 3e14}}), "`C30_nm")
    (line,) = re.findall(r"`(C30_nm: [^`]+)`", text)
    assert yaml.safe_load(line) == {"C30_nm": pytest.approx(3e23)}


@pytest.mark.parametrize(
    ("config", "where", "belongs"),
    [
        (minimal(probe={"gpts": [64, 64]}), "probe.gpts", "grating.gpts"),
        ({**minimal(), "energy_kev": 300.0}, "energy_kev", "probe.energy_kev"),
    ],
)
def test_a_key_in_the_wrong_block_is_named_with_the_right_block(config, where, belongs):
    refusal(config, f"`{where}`", f"belongs to {belongs}")


@pytest.mark.parametrize(
    ("block", "key", "value", "allowed"),
    [
        ("simulation", "name", 123, "text"),
        ("simulation", "title", True, "quotes"),
        ("simulation", "precision", "doubel", "double"),
        ("simulation", "random_seed", 1.5, "a whole number"),
        ("simulation", "random_seed", -1, "at least 0"),
        ("probe", "energy_kev", "200 keV", "a number"),
        ("probe", "energy_kev", 200000, "at most 5000"),
        ("probe", "semiangle_mrad", 0, "at least 0.001"),
        ("probe", "aberrations", {"C30_nm": 1e299}, "at most"),
        ("grating", "slice_thickness_angstrom", 1e-9, "at least 0.01"),
        ("grating", "slice_thickness_angstrom", "thin", "auto or a thickness"),
        ("grating", "slice_boundaries_angstrom", 2.0, "a list"),
        ("scan", "step_angstrom", 0, "more than 0"),
        ("probe", "soft_aperture", "yes please", "true or false"),
        ("probe", "defocus_count", 0, "at least 1"),
        ("probe", "defocus_nm", 1e12, "at most"),
        ("probe", "tilt_mrad", [0.0], "at least 2 values"),
        ("specimen", "repeat", [1, 1], "at least 3 values"),
        ("specimen", "repeat", "2x2x2", "a list"),
        ("specimen", "u_iso_angstrom2", {"Sr": -0.1}, "at least 0"),
        ("specimen", "supercell", [[1, 0, 0], [0, 1, 0]], "at least 3 values"),
        ("specimen", "file", "", "at least 1"),
        ("grating", "gpts", 512, "a list"),
        ("scan", "x", [0.0, 1.5e6], "at most 1000000"),
        ("scan", "margin_nm", -0.1, "at least 0"),
        ("scan", "symmetry", "on", "auto"),
        ("scan", "symmetry", True, "auto"),
        ("scan", "x", [0.5, 0.5], "end after it begins"),
        ("adf", "detectors", {"haadf": [60.0]}, "at least 2 values"),
        ("adf", "detectors", {"haadf": [60.0, 40.0]}, "inner must be smaller"),
        ("adf", "detectors", {"my detector": [0.0, 1.0]}, "letters, digits"),
        ("adf", "min_mrad", -1.0, "at least 0"),
        ("frozen_phonon", "save_coordinates", "always", "auto"),
        ("frozen_phonon", "configurations", 0, "at least 1"),
        ("resources", "mem_mb", "2 GB", "auto or a whole number"),
        ("resources", "mem_mb", 0, "auto or a whole number"),
    ],
)
def test_a_wrong_value_is_refused_with_the_allowed_ones(block, key, value, allowed):
    text = refusal(minimal(**{block: {key: value}}), f"`{block}.{key}", allowed)
    shown = {None: "null", True: "true"}.get(value) if isinstance(value, bool) else None
    if not isinstance(value, dict | list):
        assert (shown or repr(value)) in text


@pytest.mark.parametrize("written", ["1e-4", "1e4", "1.5e3", "2.e3", "-3E5"])
def test_a_number_that_yaml_reads_as_text_gets_advice(written):
    read = yaml.safe_load(f"a: {written}")["a"]
    assert isinstance(read, str)
    text = refusal(minimal(probe={"energy_kev": read}), f"YAML reads {written} as text")
    suggested = text.rsplit("write ", 1)[1].rstrip(".")
    assert yaml.safe_load(f"a: {suggested}")["a"] == float(written)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400])
@pytest.mark.parametrize("place", ["scalar", "list", "map"])
def test_numbers_are_finite(value, place):
    block, inside = {
        "scalar": ({"probe": {"source_fwhm_nm": value}}, "probe.source_fwhm_nm"),
        "list": ({"probe": {"defoci_nm": [0.0, value]}}, "probe.defoci_nm[1]"),
        "map": ({"specimen": {"u_iso_angstrom2": {"Sr": value}}}, "specimen.u_iso_angstrom2.Sr"),
    }[place]
    refusal(minimal(**block), f"`{inside}`", "finite")


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "", ".", "..", "x" * 200, "-x", "_x", "a b", "a.b", "ä", "x\n", "x\0", "~", "a\\b"]
)
def test_a_name_that_is_not_a_plain_folder_name_is_refused(name):
    refusal(minimal(simulation={"name": name}), "`simulation.name`", "letters, digits, - and _")


@pytest.mark.parametrize("name", ["x", "SrTiO3_200kV-a", "0", "x" * 100])
def test_plain_names_are_accepted(name):
    assert validate(minimal(simulation={"name": name}))["simulation"]["name"] == name


@pytest.mark.parametrize(
    "name",
    ["total_intensity", "haadf_standard_error", "adf_slice", "adf_position_x", "thickness_curves", "cbed_mean", "a\n"],
)
def test_detectors_cannot_take_the_name_of_another_variable_or_figure(name):
    refusal(minimal(adf={"detectors": {name: [0.0, 1.0]}}), "name")


def test_several_mistakes_are_listed_together():
    config = minimal(probe={"energy_keV": 200, "semiangle_mrad": "twenty"}, adf={"bins": 0})
    text = refusal(config, "probe.energy_keV", "probe.semiangle_mrad", "adf.bins")
    assert len(text.splitlines()) == 3


# --- alternatives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "one", "other"),
    [
        ("grating", {"gpts": [64, 64]}, {"sampling_angstrom": 0.1}),
        ("scan", {"points": [4, 4]}, {"step_angstrom": 0.1}),
        ("depths", {"every_angstrom": 2.0}, {"at_angstrom": [2.0]}),
    ],
)
def test_one_of_two_alternatives_wins_and_both_are_an_error(block, one, other):
    ((first, first_value),), ((second, second_value),) = one.items(), other.items()
    refusal(minimal(**{block: one | other}), f"`{block}.{first}`", f"`{block}.{second}`", "give one of the two")
    for key, value, silent in ((first, first_value, second), (second, second_value, first)):
        for explicit in ({}, {silent: None}):
            complete = validate(minimal(**{block: {key: value, **explicit}}))[block]
            assert (complete[key], complete[silent]) == (value, None)


@pytest.mark.parametrize(
    ("block", "keys"), [("grating", ("gpts", "sampling_angstrom")), ("scan", ("points", "step_angstrom"))]
)
def test_no_alternative_is_an_error_where_one_is_needed(block, keys):
    refusal(minimal(**{block: dict.fromkeys(keys)}), f"`{block}.{keys[0]}`", "give one of the two")


# --- contradictions ---------------------------------------------------------------------------------------------

SILICON = {"enabled": True, "mean_free_path_nm": 128.0, "plasmon_energy_ev": 16.9, "plasmon_fwhm_ev": 4.0}


@pytest.mark.parametrize(
    ("blocks", "where", "what"),
    [
        ({"plasmon_scattering": {"enabled": True}}, "mean_free_path_nm", "Silicon at 200 kV: 128 nm, 16.9 eV, 4.0 eV"),
        ({"plasmon_scattering": SILICON | {"plasmon_fwhm_ev": None}}, "plasmon_fwhm_ev", "of the material"),
        ({"plasmon_scattering": SILICON | {"simple_mode": True}}, "plasmon_fwhm_ev", "remove one of the two"),
        ({"plasmon_scattering": SILICON | {"plasmon_fwhm_ev": 1e-3}}, "plasmon_fwhm_ev", "Use at least 0.01 eV"),
        ({"plasmon_scattering": SILICON | {"max_energy_ev": 15.0}}, "max_energy_ev", "before the first loss"),
        ({"plasmon_scattering": SILICON | {"energy_grid_density_per_ev": 90.0}}, "density_per_ev", "allowed are 2000"),
        (
            {"plasmon_scattering": SILICON, "adf": {"enabled": False}, "waves": {"exit": [[0.0, 0.0]]}},
            "plasmon_scattering.enabled",
            "adf or cbed",
        ),
        (
            {
                "plasmon_scattering": SILICON,
                "specimen": {"amorphous_layers": {"exit_nm": 1.0, "element": "C", "density_g_cm3": 2.0}},
            },
            "plasmon_scattering.enabled",
            "amorphous_layers",
        ),
    ],
)
def test_plasmons_that_miss_or_contradict_something_are_refused(blocks, where, what):
    refusal(minimal(**blocks), where, what)


def test_plasmons_of_silicon_are_accepted():
    assert validate(minimal(plasmon_scattering=SILICON))["plasmon_scattering"]["draws"] == 1


def quadrants(**settings: Any) -> dict[str, Any]:
    return {"inner_mrad": 0, "outer_mrad": 9, "segments": 4, **settings}


def test_a_segmented_detector_is_completed():
    made = validate(minimal(adf={"segmented": {"q": quadrants()}}))["adf"]["segmented"]["q"]
    assert made == {
        "inner_mrad": 0.0, "outer_mrad": 9.0, "segments": 4, "rotation_deg": 0.0, "radial": 1,
        "offset_mrad": [0.0, 0.0],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("adf", "words"),
    [
        ({"segmented": {"q": quadrants(inner_mrad=9)}}, "adf.segmented.q"),
        ({"segmented": {"q": quadrants(segments=0)}}, "adf.segmented.q.segments"),
        ({"segmented": {"q": quadrants(segments=90, radial=5)}}, "450 segments; allowed are at most 360"),
        ({"segmented": {"q": quadrants()}, "detectors": {"q_1": [0, 5]}}, "image q_1 has the name of another"),
        ({"detectors": {"icom": [0, 5]}}, "name is taken"),
        ({"integrated": True, "center_of_mass": False}, "no centre of mass and no segmented detector"),
    ],
)
def test_segments_that_contradict_themselves_are_refused(adf, words):
    refusal(minimal(adf=adf), words)


def test_phases_of_a_line_are_refused():
    line = {"begin": [0.0, 0.0], "end": [0.5, 0.5], "points": 5}
    refusal(minimal(adf={"integrated": True}, scan={"line": line}), "adf.integrated", "over a window only")


@pytest.mark.parametrize("tilt", [[50.1, 0.0], [-36.0, 36.0]])
def test_a_specimen_tilt_beyond_the_range_of_the_propagator_is_refused(tilt):
    refusal(minimal(specimen={"tilt_mrad": tilt}), "specimen.tilt_mrad", "at most 50 mrad", "zone_axis")
    validate(minimal(specimen={"tilt_mrad": [30.0, 40.0]}))


@pytest.mark.parametrize("key", ["C10_nm", "C10"])
def test_defocus_has_one_name(key):
    refusal(minimal(probe={"aberrations": {key: 5.0}}), "defocus_nm")


def test_sizes_stand_in_for_the_number_of_cells():
    complete = validate(minimal(specimen={"size_nm": [2, 3], "thickness_nm": 4}))["specimen"]
    assert (complete["repeat"], complete["size_nm"], complete["thickness_nm"]) == (None, [2.0, 3.0], 4.0)
    assert validate({**minimal(), "specimen": {**complete, "file": "x.cif"}})["specimen"] == {
        **complete,
        "file": "x.cif",
    }


def test_an_angle_needs_its_coefficient():
    refusal(minimal(probe={"aberrations": {"C30_nm": 1.0, "phi12_deg": 30.0}}), "phi12_deg", "C12_nm")
    validate(minimal(probe={"aberrations": {"C12_nm": 0.0, "phi12_deg": 30.0}}))


def test_every_aberration_to_fifth_order_is_known():
    orders = ("12", "21", "23", "30", "32", "34", "41", "43", "45", "50", "52", "54", "56")
    given = {f"C{order}_nm": 1.0 for order in orders} | {f"phi{o}_deg": 2.0 for o in orders if o not in ("30", "50")}
    assert validate(minimal(probe={"aberrations": given}))["probe"]["aberrations"] == given


@pytest.mark.parametrize(
    ("blocks", "parts"),
    [
        ({"probe": {"semiangle_mrad": 10.0, "semiangle_inner_mrad": 10.0}}, ("semiangle_inner_mrad", "10.0")),
        ({"grating": {"bandlimit": 0.3, "bandlimit_taper": 0.4}}, ("bandlimit_taper", "0.3")),
        ({"adf": {"min_mrad": 20.0, "max_mrad": 10.0}}, ("adf.max_mrad", "20.0")),
        ({"adf": {"enabled": False}}, ("adf.enabled", "cbed")),
        ({"frozen_phonon": {"configurations": None}}, ("frozen_phonon.configurations", "snapshots")),
        ({"frozen_phonon": {"snapshots": "a.xyz", "enabled": False}}, ("frozen_phonon.snapshots", "enabled")),
        ({"frozen_phonon": {"snapshots": "a.xyz"}, "specimen": {"repeat": [2, 1, 1]}}, ("snapshots", "repeat")),
        ({"frozen_phonon": {"snapshots": "a.xyz"}, "specimen": {"zone_axis": [1, 1, 0]}}, ("snapshots", "zone_axis")),
        ({"frozen_phonon": {"snapshots": "a.xyz"}, "specimen": {"size_nm": [1, 1]}}, ("snapshots", "size_nm")),
        ({"specimen": {"repeat": [2, 1, 1], "thickness_nm": 3.0}}, ("specimen.thickness_nm", "repeat")),
        ({"specimen": {"repeat": None}}, ("specimen.repeat", "size_nm")),
        ({"specimen": {"zone_axis": [1, 0, 0], "supercell": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}}, ("zone_axis", "one")),
        ({"specimen": {"up": [1, 0, 0]}}, ("specimen.up", "zone_axis")),
        (
            {"specimen": {"amorphous_layers": {"element": "C", "density_g_cm3": 2.0}}},
            ("specimen.amorphous_layers", "no thickness", "entrance_nm"),
        ),
        (
            {"specimen": {"substitutions": [{"element": "Sr", "by": "Sr", "fraction": 0.5}]}},
            ("specimen.substitutions[0].by", "got Sr"),
        ),
        ({"specimen": {"max_strain": 0.01}}, ("specimen.max_strain", "zone_axis")),
        (
            {"frozen_phonon": {"snapshots": "a.xyz"}, "specimen": {"supercell": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}},
            ("snapshots", "supercell"),
        ),
    ],
)
def test_keys_that_contradict_each_other_are_refused(blocks, parts):
    refusal(minimal(**blocks), *parts)


@pytest.mark.parametrize("size", [{"size_nm": [1, 1]}, {"thickness_nm": 5}])
def test_snapshots_beside_sizes_ask_to_remove_what_was_given_alone(size):
    with pytest.raises(ConfigError) as caught:
        validate(minimal(frozen_phonon={"snapshots": "a.xyz"}, specimen=size))
    assert f"remove specimen.{next(iter(size))}." in str(caught.value)


def test_snapshots_without_a_number_mean_all_frames():
    assert validate(minimal(frozen_phonon={"snapshots": "a.xyz"}))["frozen_phonon"]["configurations"] is None
    given = validate(minimal(frozen_phonon={"snapshots": "a.xyz", "configurations": 2}))
    assert given["frozen_phonon"]["configurations"] == 2


# --- secrets ------------------------------------------------------------------------------------------------------

SECRET = "hunter2"


@pytest.mark.parametrize(
    "block",
    [
        SECRET,
        [SECRET],
        {"auth_pass": [SECRET]},
        {"auth_pass": {SECRET: 1}},
        {"url": [f"http://u:{SECRET}@host"]},
        {"reporting": SECRET},
        {"via": SECRET},
        {"progress_event": SECRET},
        {"progress_min_interval_s": SECRET},
        {"parameters": SECRET},
        {"parameters": [{"token": SECRET}]},
        {"auth_pas": SECRET},
        {"reporting": True, "passwort": SECRET, "parameters": None, "url": 3},
    ],
)
def test_no_message_holds_a_value_that_may_be_secret(block):
    assert SECRET not in refusal({**minimal(), "http_reporting": block}, "http_reporting")


def test_a_secret_in_a_misspelt_block_is_in_no_message():
    assert SECRET not in refusal({**minimal(), "http_report": {"auth_pass": SECRET}}, "http_report")
    assert SECRET not in refusal(minimal(simulation={"auth_pass": SECRET}), "http_reporting.auth_pass")


def test_a_number_that_may_be_secret_is_in_no_hint():
    assert "12e34" not in refusal(minimal(http_reporting={"progress_min_interval_s": "12e34"}))


def test_only_two_keys_of_the_reporting_block_may_be_stored():
    complete = validate(
        minimal(
            http_reporting={
                "reporting": True,
                "url": f"http://{SECRET}",
                "auth_pass": SECRET,
                "parameters": {"t": SECRET},
            }
        )
    )
    assert without_secrets(complete)["http_reporting"] == {"reporting": True, "via": "job"}
    assert complete["http_reporting"]["url"] == f"http://{SECRET}"
    assert SECRET not in str(without_secrets(complete))


# --- files --------------------------------------------------------------------------------------------------------


def written(folder: Path, text: str | bytes, name: str = "c.yaml") -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_a_later_file_overrides_key_by_key(tmp_path):
    first = written(tmp_path, "simulation: {name: a, title: b}\nscan: {points: [4, 4]}\n")
    second = written(tmp_path, "simulation: {name: c}\nscan: {points: [5, 5]}\n", "second.yaml")
    assert load([first, second]) == {"simulation": {"name": "c", "title": "b"}, "scan": {"points": [5, 5]}}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a: [1, 2", ("line",)),
        ("simulation:\n\tname: x\n", ("line 2",)),
        ("- a\n- b\n", ("a list", "mapping")),
        ("just words", ("text", "mapping")),
        ("", ("nothing", "mapping")),
        (b"\x00\x01\x02\xff", ("c.yaml",)),
        (b"\x80\x81 not utf-8", ("not a text file",)),
        ("probe: {energy_kev: 80}\nprobe: {energy_kev: 200}\n", ("line 2", "probe", "second time")),
        ("probe:\n  energy_kev: 80\n  energy_kev: 200\n", ("line 3", "energy_kev", "second time")),
        ("simulation: {title: 2026-13-45}", ("quotes",)),
        ("a: " + "9" * 5000, ("c.yaml",)),
    ],
)
def test_a_file_that_is_not_a_config_is_refused_with_its_kind(tmp_path, text, parts):
    with pytest.raises(ConfigError) as caught:
        load([written(tmp_path, text)])
    for part in ("c.yaml", *parts):
        assert part in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none.yaml cannot be read: No such file"):
        load([tmp_path / "none.yaml"])
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory\.$"):
        load([tmp_path])
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match=r"Is a directory\. Give the config in this folder: .*/config\.yaml$"):
        load([tmp_path])


@pytest.mark.parametrize("password", ["*CANARY-7f3a", "!CANARY-7f3a"])
def test_a_password_that_yaml_cannot_parse_is_not_shown(tmp_path, password):
    file = tmp_path / "config.yaml"
    file.write_text(f"http_reporting:\n  auth_pass: {password}\n")
    with pytest.raises(ConfigError, match=r"in line 2: .*; text with \* or ! in front needs quotes\.") as caught:
        configuration.load([file])
    assert "CANARY" not in str(caught.value)


def test_anchors_and_merge_keys_of_yaml_work(tmp_path):
    text = "base: &base {a: 1, b: 2}\nderived: {<<: *base, b: 3}\n"
    assert load([written(tmp_path, text)])["derived"] == {"a": 1, "b": 3}


def test_every_key_of_the_schema_has_a_default_or_is_required():
    for block, rule in configuration.schema()["properties"].items():
        if block == "sweep":  # its keys are those of the other blocks
            continue
        assert rule["additionalProperties"] is False
        for key, sub in rule["properties"].items():
            assert "default" in sub or key in rule["required"], f"{block}.{key}"
