"""STEMsalabim's reporting block, as in its documentation and files, becomes our YAML."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from stemphony import cli
from stemphony.errors import ConfigError
from stemphony.experiment import configuration
from stemphony.status import settings as status_settings
from stemphony.status.stemsalabim import PASSWORD_VARIABLE, yaml_in_place_of

BLOCK = (Path(__file__).parents[2] / "support/stemsalabim/http_reporting.cfg").read_text(encoding="utf-8")
CANARY = "CANARY-7f3a"


def block_of(text: str) -> dict:
    translated = yaml_in_place_of(text)
    assert translated is not None
    return yaml.safe_load(translated)["http_reporting"]


def test_the_block_of_the_documentation_is_understood(tmp_path, monkeypatch):
    block = block_of(BLOCK)
    assert block == {
        "reporting": True,
        "url": "http://my_api_endpoint:8000/…",
        "auth_user": "…",
        "auth_pass_env": PASSWORD_VARIABLE,
        "parameters": {"simulation_category": "…"},
    }
    monkeypatch.setenv(PASSWORD_VARIABLE, "my_pass")
    assert status_settings.resolve(block, tmp_path).auth_pass == "my_pass"


@pytest.mark.parametrize("before", ["", "resources: {threads: 2}\n", 'other = {\n  title = "a";\n}\n'])
def test_check_prints_the_yaml_to_use_in_its_place(tmp_path, before):
    file = tmp_path / "config.yaml"
    file.write_text(before + BLOCK)
    with pytest.raises(ConfigError) as caught:
        configuration.load([file])
    message = str(caught.value)
    assert yaml_in_place_of(BLOCK) in message
    assert "my_pass" not in message
    assert "config.yaml" in message


def test_report_test_prints_the_yaml_too(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text(BLOCK)
    assert cli.main(["report", "test", str(file)]) != 0
    said = capsys.readouterr().err
    assert yaml_in_place_of(BLOCK) in said
    assert "my_pass" not in said


def test_all_syntax_of_libconfig_is_read():
    block = block_of("""
        http_reporting = {   // a comment
            REPORTING = TRUE
            reporting : True,
            url = "http://a:1/" "b";  # texts in a row are one
            progress_min_interval_s = 0.5; /* more
            of it = "no"; */
            parameters = { n = 0x1F; big = 5000000000L; x = -1.5e3, q = "a \\"b\\" \\x41\\n";
                           id = "taken"; my_token = "CANARY-7f3a"; inner = { a = 1; }; }
            unknown = 3;
        };
    """)
    assert block["reporting"] is True
    assert block["url"] == "http://a:1/…"
    assert block["progress_min_interval_s"] == 0.5
    assert block["parameters"] == dict.fromkeys(("n", "big", "x", "q", "my_token"), "…")
    assert not {"REPORTING", "unknown"} & set(block)


def test_secrets_are_not_printed():
    text = f"""http_reporting: {{ reporting = true; url = "http://a/"; auth_user = "u"; auth_pass = "{CANARY}";
               parameters: {{ api_key = "{CANARY}"; pwd = "{CANARY}"; sample = "S1"; }} }}"""
    assert CANARY not in yaml_in_place_of(text)
    assert "S1" not in yaml_in_place_of(text)
    assert "sample: " in yaml_in_place_of(text)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("https://a:1/b?token=CANARY-7f3a&run=CANARY-7f3a", "https://a:1/…"),
        ("https://a/b?CANARY-7f3a", "https://a/…"),
        ("https://a/b#CANARY-7f3a", "https://a/…"),
        ("a/b?key=CANARY-7f3a", "…"),
        ("http://u:CANARY-7f3a@a/b", "http://a/…"),
        ("http://CANARY-7f3a@a/b", "http://a/…"),
        ("http://u:CANARY/7f3a@a/b?c=CANARY-7f3a", "…"),
        ("u:CANARY-7f3a@a/b", "…"),
        ("http://a/b", "http://a/…"),
    ],
)
def test_no_secret_of_an_address_is_printed(tmp_path, capsys, address, url):
    file = tmp_path / "config.yaml"
    link = address if "://" in address else f"ftp://{address}"
    file.write_text(f'http_reporting: {{ reporting = true; url = "{address}"; parameters: {{ link = "{link}"; }} }}')
    assert cli.main(["check", str(file)]) != 0
    said = capsys.readouterr().err
    assert "CANARY" not in said
    assert "7f3a" not in said.replace(str(tmp_path), "")
    block = block_of(file.read_text())
    assert block["url"] == url
    assert ("auth_pass_env" in block) == (address == "http://u:CANARY-7f3a@a/b")
    assert "not shown here" in said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http_reporting:\n  reporting: true\n  url: 'http://a/?b=c;d'\n",
        "http_reporting: {}\n",
        'http_reporting: {reporting: true, url: "http://a/?b=c;d"}\n',
        "http_reporting: {reporting: true, url: http://a/?b=c}\n",
        "# http_reporting: { reporting = true; }\n",
        "http_reporting: { reporting = true;\n",
        "http_reporting: { reporting = [1, 2]; }\n",
        "http_reporting: { reporting == true; }\n",
        "http_reporting: { reporting = yes; }\n",
        'http_reporting: { url = "http://a/; }\n',
        "http_reporting: { " + "a = { " * 5000,
    ],
)
def test_a_block_that_is_not_stemsalabims_is_read_as_yaml(text):
    assert yaml_in_place_of(text) is None
