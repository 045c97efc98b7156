"""Values of the command line have the types that the config wants; values of the files stay as they are."""

from __future__ import annotations

import pytest
from stemphony.errors import ConfigError
from stemphony.experiment import configuration, overrides

FILES = {"simulation": {"name": "x"}, "specimen": {"file": "x.cif"}, "probe": {"energy_kev": 200.0}}


@pytest.mark.parametrize(
    ("given", "block", "key", "value"),
    [
        ({"probe": {"energy_kev": "100"}}, "probe", "energy_kev", 100),
        ({"adf": {"enabled": "false"}}, "adf", "enabled", False),
        ({"simulation": {"random_seed": "5"}}, "simulation", "random_seed", 5),
        ({"scan": {"points": ["4", "5"]}}, "scan", "points", [4, 5]),
        ({"adf": {"detectors": {"bf": ["0", "10.5"]}}}, "adf", "detectors", {"bf": [0, 10.5]}),
        ({"specimen": {"u_iso_angstrom2": {"Sr": "0.008"}}}, "specimen", "u_iso_angstrom2", {"Sr": 0.008}),
        ({"simulation": {"name": "2024"}}, "simulation", "name", "2024"),
        ({"probe": {"aberrations": {"C30_nm": "1000"}}}, "probe", "aberrations", {"C30_nm": 1000}),
        ({"specimen": {"debye_temperature_k": {"Sr": "300"}}}, "specimen", "debye_temperature_k", {"Sr": 300}),
        ({"depths": {"every_angstrom": "null"}}, "depths", "every_angstrom", None),
        (
            {"specimen": {"substitutions": [{"element": "O", "by": "null", "count": "2"}]}},
            "specimen",
            "substitutions",
            [{"element": "O", "by": None, "count": 2}],
        ),
    ],
)
def test_texts_of_the_command_line_become_what_the_key_takes(given, block, key, value):
    made = overrides.typed(configuration.merged(FILES, given), FILES)
    assert made[block][key] == value
    assert type(made[block][key]) is type(value)


def test_texts_of_the_files_stay_texts_so_that_they_are_refused():
    files = configuration.merged(FILES, {"probe": {"energy_kev": "200"}})
    with pytest.raises(ConfigError, match="got '200'; allowed is a number"):
        configuration.validate(overrides.typed(files, files))


def test_a_text_that_is_no_number_is_refused_with_the_key():
    given = configuration.merged(FILES, {"probe": {"energy_kev": "much"}})
    with pytest.raises(ConfigError, match=r"probe\.energy_kev.*got 'much'"):
        configuration.validate(overrides.typed(given, FILES))


def test_dotted_names_become_nested_ones():
    assert overrides.nested(["probe.energy_kev=100", "adf.detectors.bf=[0, 10]", "simulation={name: y}"]) == [
        'probe={"energy_kev": "100"}', 'adf={"detectors": {"bf": ["0", "10"]}}', "simulation={name: y}",
    ]  # fmt: skip


@pytest.mark.parametrize("entry", ["probe.energy_kev=100", 'probe={"energy_kev": 100}'])
def test_both_ways_to_write_an_override_give_the_same_config(entry):
    made = overrides.overridden(FILES, [entry, "scan.points=[8, 8]", "simulation.title=a = b"])
    assert made["probe"]["energy_kev"] == 100
    assert made["scan"]["points"] == [8, 8]
    assert made["simulation"] == {"name": "x", "title": "a = b"}
    assert FILES["probe"]["energy_kev"] == 200.0


def test_a_number_is_a_number_also_where_a_word_is_allowed():
    """`grating.slice_thickness_angstrom` is a number or auto, and every text fits the type of a text."""
    for text, value in (("1.5", 1.5), ("auto", "auto")):
        made = overrides.overridden(FILES, [f"grating.slice_thickness_angstrom={text}", "simulation.title=2026"])
        assert made["grating"]["slice_thickness_angstrom"] == value
        assert made["simulation"]["title"] == "2026"


def test_an_entry_without_a_value_is_refused_with_an_example():
    with pytest.raises(ConfigError, match=r"got 'energy_kev'; write name=value, for example probe\.energy_kev=100"):
        overrides.overridden(FILES, ["energy_kev"])


def test_an_entry_for_a_map_keeps_the_other_keys_of_the_file_as_snakemake_does():
    file = {"specimen": {"file": "a.cif", "u_iso_angstrom2": {"Ga": 0.0035, "N": 0.004}}}
    from snakemake.utils import update_config

    merged = overrides.overridden(file, ["specimen.u_iso_angstrom2={Ga: 0.003}"])
    assert merged["specimen"]["u_iso_angstrom2"] == {"Ga": 0.003, "N": 0.004}
    update_config(file, {"specimen": {"u_iso_angstrom2": {"Ga": 0.003}}})
    assert merged == file
