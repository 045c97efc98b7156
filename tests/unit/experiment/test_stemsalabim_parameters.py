"""STEMsalabim's parameter files run as they are. Each key has a unit, a default or a reason why it is not used."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from stemphony.cli import main
from stemphony.commands.convert import converted
from stemphony.errors import ConfigError
from stemphony.experiment import configuration
from stemphony.experiment import stemsalabim_parameters as parameter_file
from stemphony.experiment.model import Experiment

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "config" / "examples"
BLOCK = (ROOT / "tests/support/stemsalabim/http_reporting.cfg").read_text(encoding="utf-8")
CELL = (31.24, 39.05, 50.765)  # Å


def written(folder: Path, text: str) -> Path:
    file = folder / "parameters.cfg"
    file.write_text(text, encoding="utf-8")
    return file


def translation(folder: Path, text: str) -> parameter_file.Translation:
    return parameter_file.translate(parameter_file.read_parameters(written(folder, text)), CELL, "parameters")


def config(folder: Path, text: str) -> dict:
    """The complete config that the YAML of a translation gives."""
    return configuration.validate(yaml.safe_load(translation(folder, text).yaml("parameters.cfg")))


CRYSTAL = 'specimen: { crystal_file = "cell.xyz"; }\n'


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("probe: { beam_energy = 80; }", "probe.energy_kev", 80.0),
        ("probe: { max_apert = 21.5; min_apert = 3; }", "probe.semiangle_mrad", 21.5),
        ("probe: { max_apert = 21.5; min_apert = 3; }", "probe.semiangle_inner_mrad", 3.0),
        ("probe: { defocus = -4.5; }", "probe.defocus_nm", -4.5),
        ("probe: { num_defoci = 7; fwhm_defoci = 7.5; }", "probe.defocus_fwhm_nm", 7.5),
        ("probe: { cs = 1.2e6; c5 = -3e6; }", "probe.aberrations", {"C30_nm": 1.2e6, "C50_nm": -3e6}),
        ("application: { random_seed = 42; }", "simulation.random_seed", 42),
        ('simulation: { title = "A \\"title\\""; }', "simulation.title", 'A "title"'),
        ('simulation: { output_file = "/scratch/me/my run.nc"; }', "simulation.name", "my_run"),
        ("simulation: { bandwidth_limiting = false; }", "grating.bandlimit", 1.0),
        ("grating: { slice_thickness = 0.1953; }", "grating.slice_thickness_angstrom", 1.953),
        ("adf: { detector_min_angle = 5; detector_max_angle = 150.0; }", "adf.min_mrad", 5.0),
        ("adf: { detector_min_angle = 5; detector_max_angle = 150.0; }", "adf.max_mrad", 150.0),
        ("adf: { detector_num_angles = 145; }", "adf.bins", 145),
        ("adf: { detector_interval_exponent = 1.5; }", "adf.interval_exponent", 1.5),
        ("adf: { average_configurations = false; }", "adf.average_configurations", False),
        ("adf: { x = (0.25, 0.75); }", "scan.x", [0.25, 0.75]),
        ("cbed: { enabled = true; size = [64, 32]; }", "cbed.size", [64, 32]),
        ("cbed: { enabled = true; average_defoci = false; }", "cbed.average_defoci", False),
        ("frozen_phonon: { number_configurations = 15; }", "frozen_phonon.configurations", 15),
        ("frozen_phonon: { fixed_slicing = false; }", "frozen_phonon.displace_z", True),
    ],
)
def test_a_stemsalabim_key_becomes_a_config_key_in_its_unit(tmp_path, text, key, value):
    block, name = key.split(".")
    assert config(tmp_path, CRYSTAL + text)[block][name] == value


def test_densities_become_points_on_the_crystals_cell(tmp_path):
    made = config(
        tmp_path, CRYSTAL + "probe: { scan_density = 40; }\ngrating: { density = 100; }\nadf: { y = (0.0, 0.5); }"
    )
    # 3.124 nm and 3.905 nm at 100 /nm; the smallest products of 2, 3, 5 and 7 above.
    assert made["grating"]["gpts"] == [315, 392]
    assert made["scan"]["points"] == [125, 78]


def test_stored_slices_become_depths(tmp_path):
    made = config(tmp_path, CRYSTAL + "grating: { slice_thickness = 0.2; }\nadf: { save_slices_every = 4; }")
    experiment = Experiment.of({**made, "adf": {**made["adf"], "max_mrad": 50.0, "bins": 50}}, CELL, None)
    assert experiment.slices == 26
    assert experiment.depth_slices == (4, 8, 12, 16, 20, 24, 26)
    assert config(tmp_path, CRYSTAL + "adf: { save_slices_every = 0; }")["depths"]["every_angstrom"] is None


def test_patterns_keep_a_window_and_depths_of_their_own(tmp_path):
    text = CRYSTAL + "grating: { slice_thickness = 0.2; }\nadf: { x = (0.0, 0.5); save_slices_every = 4; }\n"
    own = config(tmp_path, text + "cbed: { enabled = true; x = (0.25, 0.5); save_slices_every = 0; }")
    assert own["scan"]["x"] == [0.0, 0.5]
    assert own["depths"]["every_angstrom"] == pytest.approx(4 * CELL[2] / 26, abs=1e-5)
    assert [own["cbed"]["scan"][key] for key in ("x", "y", "points")] == [[0.25, 0.5], [0.0, 1.0], [31, 156]]
    assert own["cbed"]["depths"]["every_angstrom"] is None
    same = config(tmp_path, text + "cbed: { enabled = true; x = (0.0, 0.5); save_slices_every = 4; }")
    assert same["cbed"]["scan"] is same["cbed"]["depths"] is None
    assert "without a counterpart" not in translation(tmp_path, text + "cbed: { enabled = true; y = (0.5, 1); }").yaml(
        "p"
    )


def test_missing_keys_get_stemsalabims_defaults_and_are_listed(tmp_path):
    made = translation(tmp_path, CRYSTAL)
    assert made.config["probe"]["semiangle_mrad"] == 24.0
    assert made.config["frozen_phonon"]["configurations"] == 1
    assert made.config["adf"]["bins"] == 300
    assert "probe.max_apert = 24.0" in made.defaults
    assert "#   probe.max_apert = 24.0" in made.yaml("p.cfg")


def test_every_stemsalabim_key_is_used_or_named_with_a_reason(tmp_path):
    """A file with all keys: none is ignored without a message."""
    lines = []
    for block, keys in parameter_file.DEFAULTS.items():
        written_keys = {k: v for k, v in keys.items() if k not in {"verbose", "precision", "parameters"}}
        lines.append(f"{block}: {{")
        for key, value in written_keys.items():
            shown = f'"{value or "a"}"' if isinstance(value, str) else str(value).lower()
            lines.append(f"  {key} = {shown};")
        lines.append("}")
    made = translation(tmp_path, "\n".join(lines))
    text = made.yaml("p.cfg")
    assert made.defaults == []
    for key in (
        "tmp_dir",
        "output_compress",
        "max_potential_radius",
        "mean_free_path",
        "plasmon_fwhm",
        "normalize_always",
    ):
        assert f".{key} = " in text, key


def test_the_block_of_stemsalabims_documentation_works_verbatim(tmp_path):
    made = config(tmp_path, CRYSTAL + BLOCK)
    assert made["http_reporting"]["url"].startswith("http")
    assert made["http_reporting"]["reporting"] is True
    assert made["http_reporting"]["auth_user"]
    assert made["http_reporting"]["parameters"]


def test_plasmons_keep_their_numbers_and_their_defaults(tmp_path):
    made = config(tmp_path, CRYSTAL + "plasmon_scattering: { enabled = true; mean_free_path = 105.0; }")
    plasmons = made["plasmon_scattering"]
    assert plasmons["enabled"] is True
    assert plasmons["mean_free_path_nm"] == 105.0
    assert [plasmons[key] for key in ("plasmon_energy_ev", "plasmon_fwhm_ev", "max_energy_ev")] == [16.9, 4.0, 25.0]
    assert plasmons["energy_grid_density_per_ev"] == 2.0
    assert plasmons["plural_scattering"] is False
    simple = "plasmon_scattering: { enabled = true; simple_mode = true; plasmon_fwhm = 3.0; }"
    made = config(tmp_path, CRYSTAL + simple)
    assert made["plasmon_scattering"]["simple_mode"] is True
    assert made["plasmon_scattering"]["plasmon_fwhm_ev"] is None


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("probe: { max_aprt = 24; }", "probe.max_aprt", "did you mean `max_apert`"),
        ("prob: { max_apert = 24; }", "prob", "did you mean `probe`"),
        ('probe: { beam_energy = "200"; }', "probe.beam_energy", "allowed is a number"),
        ("adf: { x = 0.5; }", "adf.x", "two numbers in brackets"),
        ("application: { skip_simulation = true; }", "application.skip_simulation", "stemphony check"),
    ],
)
def test_a_mistake_is_named(tmp_path, text, where, what):
    with pytest.raises(ConfigError) as caught:
        translation(tmp_path, CRYSTAL + text)
    assert where in str(caught.value)
    assert what in str(caught.value)


def test_all_misspelt_names_stand_in_one_message(tmp_path):
    text = "prob: { max_apert = 24; }\ngrating: { densty = 100; slice_thicknes = 0.2; }"
    with pytest.raises(ConfigError) as caught:
        translation(tmp_path, CRYSTAL + text)
    for name in ("`prob`", "`grating.densty`", "`grating.slice_thicknes`", "`probe`", "`density`"):
        assert name in str(caught.value)


def test_names_unknown_to_stemsalabim_become_remarks(tmp_path):
    text = 'version = "5.4";\nmy_lab: { operator = "me"; }\nprobe: { stage = 3; }\nhttp_reporting: { key = "secret"; }'
    made = translation(tmp_path, CRYSTAL + text).yaml("p.cfg")
    for line in ('version = "5.4"', 'my_lab = {"operator": "me"}', "probe.stage = 3", "http_reporting.key = "):
        assert f"#   {line}" in made
    assert "secret" not in made
    assert configuration.validate(yaml.safe_load(made))["probe"]["semiangle_mrad"] == 24.0


def test_slices_of_the_crystal_file_replace_the_slice_thickness(tmp_path):
    rows = [f"Si 0 0 {0.1 * i:g} 1e-4 {i // 2}" for i in range(6)]
    (tmp_path / "cell.xyz").write_text("\n".join(["6", "0.5 0.5 0.6", *rows]) + "\n")
    text = CRYSTAL + "grating: { slice_thickness = 0.1; density = 90; }\nadf: { save_slices_every = 1; }"
    made = converted(written(tmp_path, text), tmp_path)
    assert made.config["grating"]["slice_thickness_angstrom"] == "auto"
    assert any("slice_thickness = 0.1" in entry for entry in made.without_counterpart), made.without_counterpart
    assert made.config["depths"]["every_angstrom"] == 2.0


def test_atoms_on_each_other_do_not_prevent_a_conversion(tmp_path):
    """The crystal file of the original's documentation has two P at one place."""
    (tmp_path / "cell.xyz").write_text("2\n1.0 2.0 10.0\nP 0.2 0.1 0.0 2e-5\nP 1.2 0.1 0.0 2e-5\n")
    made = converted(written(tmp_path, CRYSTAL + "grating: { density = 60; }"), tmp_path)
    assert made.config["grating"]["gpts"] == [60, 120]


def test_no_password_stands_in_the_message_about_a_broken_file(tmp_path):
    with pytest.raises(ConfigError) as caught:
        translation(tmp_path, 'http_reporting: { auth_pass = "my_secret; }')
    assert "my_secret" not in str(caught.value)
    assert "not libconfig" in str(caught.value) or "not in libconfig" in str(caught.value)


def test_check_shows_the_plan_of_a_parameter_file_and_names_what_is_not_used(tmp_path, capsys):
    for name in ("stemsalabim.cfg", "stemsalabim_crystal.xyz"):
        (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    assert main(["check", str(tmp_path / "stemsalabim.cfg"), "--no-calibration"]) == 0
    said = capsys.readouterr().out
    assert "stemsalabim.stemphony.yaml" in said
    assert "16 × 16 positions, 0.2441 × 0.2441 Å apart" in said
    assert "250 × 250 points" in said
    made = tmp_path / "stemsalabim.stemphony.yaml"
    assert made.stat().st_mode & 0o077 == 0, "it holds a password"
    assert main(["check", str(made), "--no-calibration"]) == 0
    assert main(["check", str(tmp_path / "stemsalabim.cfg"), "--no-calibration"]) == 0


def test_a_file_that_was_not_converted_is_not_replaced(tmp_path, capsys):
    for name in ("stemsalabim.cfg", "stemsalabim_crystal.xyz"):
        (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    (tmp_path / "stemsalabim.stemphony.yaml").write_text("mine: 1\n")
    assert main(["check", str(tmp_path / "stemsalabim.cfg"), "--no-calibration"]) == 1
    assert "not replaced" in capsys.readouterr().err
    assert (tmp_path / "stemsalabim.stemphony.yaml").read_text() == "mine: 1\n"


def test_convert_prints_a_config(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(EXAMPLES / "stemsalabim.cfg")]) == 0
    made = configuration.validate(yaml.safe_load(capsys.readouterr().out))
    assert made["simulation"]["name"] == "sto_stemsalabim"


def test_a_parameter_file_given_to_snakemake_is_one_message(tmp_path):
    with pytest.raises(ConfigError, match=r"`stemphony run .*` runs it"):
        configuration.load([EXAMPLES / "stemsalabim.cfg"])


def test_yaml_with_braces_and_a_pasted_block_is_no_parameter_file():
    pasted = "simulation: {name: x}\nspecimen: {file: x.cif}\n" + BLOCK
    assert not parameter_file.is_parameter_file(pasted)
    assert parameter_file.is_parameter_file((EXAMPLES / "stemsalabim.cfg").read_text(encoding="utf-8"))
    commented = "probe = {\n  # the beam\n  // of it\n  max_apert = 24;\n}\ngrating:\n{\n  density = 100.0;\n}\n"
    assert parameter_file.is_parameter_file(commented)
