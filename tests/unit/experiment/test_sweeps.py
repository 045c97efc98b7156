"""A config with a sweep stands for several simulations with labels of their own. Mistakes are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from stemphony import paths
from stemphony.errors import ConfigError
from stemphony.experiment import configuration, sweeps
from stemphony.orchestration import sweep_inputs

BASE = {
    "simulation": {"name": "gan", "title": "GaN"},
    "specimen": {"file": "atom.cif"},
    "probe": {"semiangle_mrad": 21},
}


def expanded(sweep, **blocks):
    return sweeps.expanded({**BASE, **blocks, "sweep": sweep}, {})


def read(folder: Path, sweep, **blocks):
    (folder / "atom.cif").touch()
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump({**BASE, **blocks, "sweep": sweep}))
    return sweep_inputs.read_sweep(configuration.load([file]), [file])


def test_a_grid_has_a_simulation_for_each_combination_in_the_order_of_the_keys():
    found = expanded({"specimen.thickness_nm": [5, 10], "probe.semiangle_mrad": [20, 25.5]})
    assert [member.label for member in found.members] == [
        "probe.semiangle_mrad_20__specimen.thickness_nm_5",
        "probe.semiangle_mrad_20__specimen.thickness_nm_10",
        "probe.semiangle_mrad_25.5__specimen.thickness_nm_5",
        "probe.semiangle_mrad_25.5__specimen.thickness_nm_10",
    ]
    assert found.axes == {"probe.semiangle_mrad": (20, 25.5), "specimen.thickness_nm": (5, 10)}
    assert found.members[2].config["specimen"] == {"file": "atom.cif", "thickness_nm": 5}
    assert found.members[2].config["probe"] == {"semiangle_mrad": 25.5}
    assert found.replaced == ("probe.semiangle_mrad",)
    assert [member for member in found.members if "sweep" in member.config] == []
    assert BASE["probe"] == {"semiangle_mrad": 21}


def test_a_list_has_the_simulations_that_it_names():
    found = expanded([{"probe.defocus_nm": -3.5}, {"probe.semiangle_mrad": 30, "probe.defocus_nm": 0}])
    assert [member.label for member in found.members] == [
        "probe.defocus_nm_-3.5",
        "probe.defocus_nm_0__probe.semiangle_mrad_30",
    ]
    assert found.axes is None


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (20, 20.0, True),
        (-1, 1, False),
        ([2, 2], [2, 2.0], True),
        ([2, 22], [22, 2], False),
        ("a/b.cif", "a-b.cif", False),
        ("a" * 300, "a" * 301, False),
        ({"inner_mrad": 1}, {"inner_mrad": 2}, False),
        (True, False, False),
        (None, "null", True),
    ],
)
def test_different_values_have_different_labels_that_any_file_system_takes(one, other, is_same):
    labels = [sweeps.label_of({"adf.detectors.haadf": value}) for value in (one, other)]
    assert (labels[0] == labels[1]) is is_same
    for label in labels:
        assert paths.is_label(label)
        assert len(label) <= sweeps.LONGEST_LABEL
        # Snakemake writes wildcards of cluster jobs as `name=value,name=value`.
        assert not set(label) & set("=,:;/ {}'\"\n")


def test_every_block_that_can_be_swept_makes_a_label_and_no_name_of_a_simulation_is_one():
    blocks = set(configuration.schema()["properties"]) - {"http_reporting", "resources", "sweep"}
    assert [block for block in blocks if not paths.is_label(f"{block}.key_1")] == []
    assert [name for name in ("probe", "gan.old", "run-1", "jobs") if paths.is_label(name)] == []


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({"probe.semiangle_mrad": 20}, "`sweep.probe.semiangle_mrad`: got 20; a list of values is needed"),
        ({"probe": {"semiangle_mrad": [20]}}, "write the key and its block as one: probe.semiangle_mrad: [...]"),
        ({"probe.semiangle_mrad": [20, 20.0]}, "are the same: probe.semiangle_mrad = 20 (number 1 and 2)"),
        ({"http_reporting.url": ["x"]}, "http_reporting cannot be swept"),
        ({"simulation.name": ["a"]}, "simulation.name cannot be swept"),
        ({"resources.threads": [1, 2]}, "resources cannot be swept"),
        ({"prob.semiangle_mrad": [1]}, "'prob' is no block"),
        ({"adf.detectors": [{}], "adf.detectors.bf": [[0, 9]]}, "given together with adf.detectors.bf,"),
        ({"probe.semiangle_mrad.x": [1]}, "probe.semiangle_mrad is a number in this config"),
        ({"simulation.random_seed": list(range(201))}, "more than 200 simulations"),
        ({}, "is empty"),
        ([], "is empty"),
        ([{"probe.semiangle_mrad": 1}, {}], "config `sweep[1]`: is empty"),
        ([3], "config `sweep[0]`: got 3"),
        ("x", "got 'x'; allowed are keys with lists"),
    ],
)  # fmt: skip
def test_a_sweep_that_makes_no_sense_is_refused(sweep, words):
    with pytest.raises(ConfigError) as refused:
        expanded(sweep)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "sweep",
    [
        {"http_reporting.auth_pass": "CANARY"},
        {"http_reporting": {"auth_pass": "CANARY"}},
        {"http_reporting ": "CANARY"},
        {"probe": {"auth_pass": "CANARY"}},
        [{"http_reporting": {"auth_pass": "CANARY"}}],
        ["http_reporting.auth_pass=CANARY"],
        "{http_reporting: {auth_pass: CANARY}",
    ],
)
def test_a_password_in_a_sweep_is_in_no_message(sweep):
    with pytest.raises(ConfigError) as refused:
        expanded(sweep)
    assert "CANARY" not in str(refused.value)


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({"probe.semiangel_mrad": [20]}, "config `probe.semiangel_mrad`: unknown key; did you mean `semiangle_mrad`?"),
        ({"probe.semiangle_mrad": [20, -3]}, "config `probe.semiangle_mrad`: got -3; allowed is at least 0.001"),
        ({"grating.gpts": [[64, 64]]}, "config `grating.gpts`: given together with `grating.sampling_angstrom`"),
        ({"frozen_phonon.configurations": [{"until": 0.01}]}, "a sweep takes a number of configurations only"),
    ],
)
def test_a_swept_key_has_the_messages_of_the_config_and_the_member_is_named(tmp_path, sweep, words):
    key, values = next(iter(sweep.items()))
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, sweep, grating={"sampling_angstrom": 0.1})
    assert str(refused.value).startswith(words) or words in str(refused.value)
    assert f"This is in the simulation {key} = {sweeps.value_in_words(values[-1])} of the sweep." in str(refused.value)


def test_members_have_names_and_titles_of_their_own_and_notes_of_values_without_effect(tmp_path):
    _, inputs = read(tmp_path, {"probe.semiangle_mrad": [20]})
    (label, one), = inputs.items()  # fmt: skip
    assert one.config["simulation"]["name"] == f"gan/{label}"
    assert one.config["simulation"]["title"] == "GaN: probe.semiangle_mrad = 20"
    assert "probe.semiangle_mrad of the config has no effect: the sweep gives its values." in one.warnings


def test_a_command_for_one_simulation_refuses_a_sweep_and_says_how_to_choose():
    with pytest.raises(ConfigError, match=r"--config sweep=null probe\.semiangle_mrad=20"):
        configuration.validate({**BASE, "sweep": {"probe.semiangle_mrad": [20]}})
    for nothing in (None, "null"):
        assert "sweep" not in configuration.validate({**BASE, "sweep": nothing})


def test_the_folder_of_a_member_belongs_to_its_sweep():
    member = paths.SweepPaths(Path("results/gan")).member("probe.semiangle_mrad_20")
    assert (member.name, member.run_name) == ("gan/probe.semiangle_mrad_20", "gan")
    assert member.directory == Path()
    assert member.log("p0d000", 0) == Path(
        "logs/run_multislice/gan/probe.semiangle_mrad_20/defocus_p0d000/configuration_0000.log"
    )
    assert paths.ResultPaths.of(member.name).root == member.root
    plain = paths.ResultPaths.of("gan")
    assert (plain.name, plain.run_name, plain.directory) == ("gan", "gan", Path())


def test_the_monitor_takes_the_name_of_a_member_into_commands_and_nothing_else_with_a_slash():
    from stemphony.monitor.database.timeline import is_result_name

    assert is_result_name("gan")
    assert is_result_name(f"gan/{sweeps.label_of({'probe.defocus_nm': -3.5, 'specimen.repeat': [2, 2, 3]})}")
    for hostile in ("gan/..", "gan/probe.x_1; rm", "gan/probe.x_1/..", "../probe.x_1", "/probe.x_1", "gan/x"):
        assert not is_result_name(hostile)
