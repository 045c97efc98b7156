"""Secrets that are planted anywhere in a config appear in no message, also if the config has other mistakes."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stemphony import cli
from stemphony.commands import run as run_command
from stemphony.errors import ConfigError, StemphonyError
from stemphony.experiment import configuration, overrides
from stemphony.experiment.mistakes import short
from stemphony.monitor.database.connection import Database, database_url
from stemphony.status.secret_places import may_be_secret

CANARY = "hunter2canary"
DIGITS = "98765432123456"
BASE = "simulation: {name: x}\nspecimen: {file: none.cif, repeat: [1, 1, 1]}\n"

# Ways to write a secret: correct, as a number, with a missing quote, a tag, an alias, as a block, as a list.
VALUES = [
    f'"{CANARY}"', CANARY, DIGITS, f"{DIGITS}.5", f"-{DIGITS}", f'"{CANARY}', f"'{CANARY}", f'{CANARY}"',
    f'!!int "{CANARY}"',
    f'!!float "{CANARY}"', f'!!timestamp "{CANARY}"', f'!!bool "{CANARY}"', f"!{CANARY}", f"*{CANARY}", f"`{CANARY}",
    f'"\\{CANARY}"', f"{{password: {CANARY}}}", f"{{login: {{password: {CANARY}}}}}", f"[{CANARY}]", f"[[{DIGITS}]]",
    f"{CANARY}: {CANARY}", f"[{CANARY}", f"{{a: {CANARY}", f"@{CANARY}", f"%{CANARY}", f"&a {CANARY} x: y",
]  # fmt: skip
KEYS = [
    "http_reporting.auth_pass", "http_reporting.auth_user", "http_reporting.url", "http_reporting.auth_pass_env",
    "http_reporting.auth_pass_file", "http_reporting.ca_file", "http_reporting.via", "http_reporting.progress_event",
    "http_reporting.parameters", "http_reporting.parameters.login", "http_reporting.parameters.note",
    "http_reporting.parameters.run", "http_reporting.auth_psas", "http_reporting.reporting", "http_reporting.preview",
    "http_reporting.progress_min_interval_s", "http_report.auth_pass", "http_reporting", "auth_pass",
    "simulation.http_reporting.auth_pass", "probe.auth_pass", "http_reportin.auth_pass", "htpp_reporting.parameters.x",
    "reporting.auth_pass", "httpreporting", "HTTP-Reporting.auth-pass", "adf.detectors.auth_pass", "auht_pass",
    "parametrization_of.api_key", "specimen.charges.password", "probe.aberrations.secret", "simulation.title.token",
]  # fmt: skip
COMMANDS = [
    ("check", "{}", "--no-calibration"),
    ("report", "test", "{}"),
    ("convert", "{}"),
    ("run", "{}", "-n"),
    ("show", "{}"),
]


def yaml_of(key: str, value: str) -> str:
    """The key with its blocks, below a config that is valid otherwise."""
    *blocks, last = key.split(".")
    lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate(blocks)]
    text = "\n".join([*lines, f"{'  ' * len(blocks)}{last}: {value}"]) + "\n"
    begin = "" if blocks[:1] == ["simulation"] else BASE
    sends = blocks[:1] == ["http_reporting"] and last not in ("reporting", "url")
    return begin + text + ("  reporting: true\n  url: http://127.0.0.1:9/\n" if sends else "")


def sweep_of(key: str, value: str) -> str:
    """The same as a swept key, alone and in a list."""
    return f"{BASE}sweep:\n  {key}: {value}\n"


def sweep_list_of(key: str, value: str) -> str:
    """The same in a list of simulations, beside a key that is right."""
    return f"{BASE}sweep:\n  - {{probe.semiangle_mrad: 20}}\n  - {key}: {value}\n"


def libconfig_of(key: str, value: str) -> str:
    """The same in the language of STEMsalabim."""
    *blocks, last = key.split(".")
    whole = "".join(f"{name}: {{ " for name in blocks) + f"{last} = {value};" + " }; " * len(blocks)
    return 'application: { random_seed = 0; };\nsimulation: { title = "x"; };\n' + whole


def said_by(words: list[str]) -> str:
    """Everything that a command prints. An exception that leaves the command fails the test."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), contextlib.suppress(SystemExit):
        cli.main(words)
    return out.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets")


PLANTED = {
    "key": st.sampled_from(KEYS),
    "value": st.sampled_from(VALUES),
    "write": st.sampled_from([yaml_of, sweep_of, sweep_list_of, libconfig_of]),
}


def nothing_shows(folder: Path, key: str, value: str, write: Callable[[str, str], str], command: tuple[str, ...]):
    """Run a command on a config with a planted secret, and look for it in all that the command prints."""
    file = folder / "config.yaml"
    file.write_text(write(key, value))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said = said_by([word.format(file) for word in command])
    # An unknown key is shown, so that it can be found.
    said = said.replace(f"`http_reporting.{CANARY}`", "")
    assert CANARY not in said, (key, value)
    assert DIGITS not in said, (key, value)


def not_started(*_: object, **__: object) -> None:
    raise StemphonyError("Snakemake is not started in this test.")


@pytest.mark.slow
@given(command=st.sampled_from(COMMANDS), **PLANTED)
@settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_command_prints_a_planted_secret(
    folder: Path, key: str, value: str, write: Callable[[str, str], str], command: tuple[str, ...]
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_command, "SnakemakeProcess", not_started)
        nothing_shows(folder, key, value, write, command)


@pytest.mark.slow
@pytest.mark.workflow
@given(**PLANTED)
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_run_that_starts_snakemake_prints_no_planted_secret(
    folder: Path, key: str, value: str, write: Callable[[str, str], str]
):
    nothing_shows(folder, key, value, write, ("run", "{}", "-n"))


@pytest.mark.parametrize(
    "entry",
    [f"http_reporting.auth_pass={DIGITS}", f"http_reporting={{auth_pass: [{CANARY}", f"http_reporting.x={CANARY}: ]"],
)
def test_an_entry_of_the_command_line_is_shown_by_its_name(entry):
    assert overrides.shown(entry) == "http_reporting=…"


@pytest.mark.parametrize(
    "entry",
    [
        f"http_reporting={{auth_pass: [{CANARY}", f'http_reporting={{auth_pass: "{CANARY}',
        "http_reporting.reporting=true",
        f"http_reporting.auth_pass={CANARY}", f"http_reporting ={{auth_pass: {CANARY}}}", "http_reporting={}",
    ],
)  # fmt: skip
def test_the_command_line_takes_no_entry_of_reporting(entry):
    """Snakemake would write the command line with the password into its log, and reports do not use these entries."""
    for take in (overrides.nested, lambda entries: overrides.overridden({}, entries)):
        with pytest.raises(ConfigError, match="is read from the config file alone") as caught:
            take([entry])
        assert CANARY not in str(caught.value)
    assert overrides.nested(["http_reporting.reporting=false"]) == ['http_reporting={"reporting": "false"}']


@pytest.mark.parametrize(
    "block", [{"auth_pass": CANARY}, {"reporting": True}, {"reporting": False, "x": CANARY}, CANARY]
)
def test_snakemake_takes_no_entry_of_reporting_either(block):
    with pytest.raises(ConfigError, match="is read from the config file alone") as caught:
        overrides.refuse_reporting({"probe": {}, "http_reporting ": block})
    assert CANARY not in str(caught.value)
    overrides.refuse_reporting({"probe": {}, "http_reporting": {"reporting": "false"}})


def test_an_entry_without_a_value_is_not_quoted():
    with pytest.raises(ConfigError) as caught:
        overrides.nested([f"http_reporting.auth_pass:{CANARY}"])
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "entry",
    [
        f"http_reportin.auth_pass={CANARY}", f"htpp_reporting={{auth_pass: {CANARY}}}",
        f"probe={{auth_pass: {CANARY}}}",
        f"sweep={{http_reportin.auth_pass: [{CANARY}, x]}}", f"sweep=[{{auth_pass: {CANARY}}}]", f"auth-pass={CANARY}",
        f"http_reportin={{auth_pass: [{CANARY}", f"reporting.auth_pass:{CANARY}", f"url=http://u:{CANARY}@h/ [",
    ],
)  # fmt: skip
def test_the_command_line_takes_no_misspelt_entry_of_reporting(entry):
    for take in (overrides.nested, lambda entries: overrides.overridden({}, entries)):
        with pytest.raises(ConfigError) as caught:
            take([entry])
        assert CANARY not in str(caught.value)


def test_snakemake_takes_no_misspelt_entry_of_reporting_either():
    blocks = ({"http_reportin": {"auth_pass": CANARY}}, {"probe": [{"x": {"api_key": CANARY}}]}, {"auth": CANARY})
    for block in blocks:
        with pytest.raises(ConfigError, match="its value may be a secret") as caught:
            overrides.refuse_reporting(block)
        assert CANARY not in str(caught.value)


def test_the_command_line_of_an_outer_workflow_may_have_secrets_of_its_own():
    """Stemphony is a module in that workflow."""
    overrides.refuse_reporting({"api_key": CANARY, "reports": {"auth": CANARY}}, is_ours=False)
    with pytest.raises(ConfigError, match="is read from the config file alone"):
        overrides.refuse_reporting({"http_reporting": {"auth_pass": CANARY}}, is_ours=False)


def test_an_address_in_place_of_a_file_is_not_quoted(folder: Path):
    file = folder / "config.yaml"
    for address in (f"http://u:{CANARY}@h/a.cif", f"postgresql://h/a?password={CANARY}"):
        file.write_text(f'simulation: {{name: x}}\nspecimen: {{file: "{address}", repeat: [1, 1, 1]}}\n')
        said = said_by(["check", str(file)])
        assert "got an address; allowed is a file" in said
        assert CANARY not in said


def test_no_key_of_a_config_looks_like_a_secret():
    """Otherwise messages would not quote its values, and `--config` would refuse it."""

    def names(rule: Any) -> Iterator[str]:
        for key, inner in rule.get("properties", {}).items():
            yield key
            yield from names(inner)
        for inner in (
            *rule.get("oneOf", ()),
            *rule.get("anyOf", ()),
            rule.get("items"),
            rule.get("additionalProperties"),
        ):
            yield from names(inner) if isinstance(inner, dict) else ()

    known = [name for name in names(configuration.schema()) if name != "http_reporting"]
    own = set(configuration.schema()["properties"]["http_reporting"]["properties"])
    assert len(known) > 100
    assert [name for name in known if may_be_secret(name) and name not in own] == []


@pytest.mark.parametrize("value", ["x", "sto.cif", "/home/ada/bandpass/author.cif", "0.5", "a: b", "keep"])
def test_an_ordinary_text_is_quoted(value):
    assert short(value) == repr(value)


@pytest.mark.parametrize("value", [f"http://u:{CANARY}@h/", f"auth_pass: {CANARY}", [f"https://h/?t={CANARY}"]])
def test_a_text_that_may_hold_a_secret_is_not_quoted(value):
    assert CANARY not in short(value)


def test_a_mapping_at_a_wrong_place_is_shown_by_its_keys(folder: Path):
    file = folder / "config.yaml"
    file.write_text(f"simulation: {{name: x, title: {{password: {CANARY}, login: [{{password: {CANARY}}}]}}}}\n")
    said = said_by(["check", str(file)])
    assert CANARY not in said
    assert "a mapping with password, login" in said


@pytest.mark.parametrize(
    "address", [f"postgresql://host/db?password={CANARY}", f"postgresql://u:{CANARY}@host/db?sslpassword={CANARY}"]
)
def test_a_database_is_shown_without_what_follows_the_question_mark(address):
    shown = Database.name.fget(type("Fake", (), {"url": database_url(address), "is_sqlite": False}))
    assert CANARY not in shown
    assert "db on host" in shown


def test_the_translation_of_a_block_shows_custom_parameters_by_their_names(folder: Path):
    file = folder / "config.yaml"
    file.write_text(f'http_reporting: {{ reporting = true; parameters: {{ sample = "{CANARY}"; n = {DIGITS}; }}; }};')
    said = said_by(["check", str(file)])
    assert "sample:" in said
    assert CANARY not in said + json.dumps(said)
    assert DIGITS not in said
