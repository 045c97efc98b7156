"""Settings of http_reporting: defaults, passwords, files with secrets."""

from __future__ import annotations

import os
import pickle
import re
import ssl
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import certifi
import pytest
from stemphony.errors import ConfigError
from stemphony.status import block as reporting_block
from stemphony.status.block import completed
from stemphony.status.settings import ReportingSettings, load, load_in_job, resolve

CANARY = "CANARY-7f3a"
ON = {"reporting": True, "url": "http://127.0.0.1:5000/"}


def password_file(folder: Path, text: str = CANARY, mode: int = 0o600) -> Path:
    file = folder / "password"
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    return file


def test_empty_block_is_off():
    settings = resolve({}, Path())
    assert not settings.reporting
    assert settings.via == "job"
    assert settings.progress_event == "PROGRESS"
    assert settings.progress_min_interval_s == 0.0
    assert dict(settings.parameters) == {}
    assert settings.warnings == ()


def test_a_block_with_its_defaults_filled_in_is_accepted():
    defaults = completed({})
    assert resolve(defaults, Path()) == resolve({}, Path()) == ReportingSettings()
    assert resolve({**defaults, **ON, "auth_user": None}, Path()) == resolve(ON, Path())


def test_the_schema_is_the_one_source_of_defaults(monkeypatch):
    schema = deepcopy(reporting_block.schema())
    schema["properties"]["via"]["default"] = "submit_host"
    schema["properties"]["progress_min_interval_s"]["default"] = 7
    monkeypatch.setattr(reporting_block, "schema", lambda: schema)
    for settings in (ReportingSettings(), resolve({}, Path())):
        assert (settings.via, settings.progress_min_interval_s) == ("submit_host", 7.0)


def test_reporting_that_is_off_needs_no_url_but_is_validated(tmp_path):
    off = {"reporting": False, "auth_user": "u", "auth_pass_env": "STEMPHONY_NOT_SET", "ca_file": "no.pem"}
    assert resolve(off, tmp_path).auth_pass == ""
    assert resolve({"auth_pass": CANARY}, tmp_path).auth_pass == ""
    with pytest.raises(ConfigError, match=r"http_reporting\.parameters\.time"):
        resolve({"parameters": {"time": 1}}, tmp_path)
    with pytest.raises(ConfigError, match=r"http_reporting\.url"):
        resolve({"url": "ftp://x"}, tmp_path)


def test_a_password_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("STEMPHONY_TEST_PASS", "pässword")
    settings = resolve({**ON, "auth_user": "u", "auth_pass_env": "STEMPHONY_TEST_PASS"}, Path())
    assert settings.auth_pass == "pässword"
    assert settings.warnings == ()


@pytest.mark.parametrize("text", [CANARY, CANARY + "\n", CANARY + "\r\n", "\ufeff" + CANARY])
def test_a_password_is_read_from_a_file_without_its_end_of_line(tmp_path, text):
    password_file(tmp_path, text)
    settings = resolve({**ON, "auth_user": "u", "auth_pass_file": "password"}, tmp_path)
    assert settings.auth_pass == CANARY
    assert settings.warnings == ()


def test_a_password_file_is_found_in_the_working_directory_too(tmp_path, monkeypatch):
    password_file(tmp_path, mode=0o400)
    monkeypatch.chdir(tmp_path)
    assert resolve({**ON, "auth_user": "u", "auth_pass_file": "password"}, Path("/nonexistent")).auth_pass == CANARY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_password_file_of_others_is_refused(tmp_path, mode):
    password_file(tmp_path, mode=mode)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        resolve({**ON, "auth_user": "u", "auth_pass_file": "password"}, tmp_path)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"\xff\xfe", b"x" * 5000, b"a\x00b"])
def test_password_file_with_other_contents_is_refused(tmp_path, content):
    file = password_file(tmp_path)
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="auth_pass_file"):
        resolve({**ON, "auth_user": "u", "auth_pass_file": "password"}, tmp_path)


def test_password_file_may_not_be_a_pipe_or_a_folder(tmp_path):
    os.mkfifo(tmp_path / "password", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    for name in ("password", "folder"):
        with pytest.raises(ConfigError, match="regular file"):
            resolve({**ON, "auth_user": "u", "auth_pass_file": name}, tmp_path)


def test_literal_password_works_with_a_warning():
    settings = resolve({**ON, "auth_user": "u", "auth_pass": CANARY}, Path())
    assert settings.auth_pass == CANARY
    assert len(settings.warnings) == 1
    assert "auth_pass_file" in settings.warnings[0]


def test_user_without_password_and_password_without_user_are_mentioned():
    assert "empty" in resolve({**ON, "auth_user": "u"}, Path()).warnings[0]
    assert "no auth_user" in " ".join(resolve({**ON, "auth_pass": CANARY}, Path()).warnings)


CERTIFICATE = re.search(  # one of the certificates that come with requests
    r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", Path(certifi.where()).read_text("utf-8"), re.DOTALL
)[0]


@pytest.mark.parametrize("text", [CERTIFICATE, f"# of our group\n{CERTIFICATE}\n{CERTIFICATE}"])
def test_a_file_of_certificates_is_found_beside_the_config(tmp_path, text):
    (tmp_path / "ca.pem").write_text(text)
    assert resolve({**ON, "ca_file": "ca.pem"}, tmp_path).ca_file == str(tmp_path / "ca.pem")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no certificate\n",
        CERTIFICATE[:300].encode(),
        CERTIFICATE.replace("CERTIFICATE", "PRIVATE KEY").encode(),
        ssl.PEM_cert_to_DER_cert(CERTIFICATE),
        bytes(range(256)),
    ],
)
def test_file_of_certificates_without_one_is_refused(tmp_path, content):
    (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(ConfigError, match=r"holds no certificate that can be read: .*ca\.pem\. Allowed") as caught:
        resolve({**ON, "ca_file": "ca.pem"}, tmp_path)
    assert caught.value.where == "http_reporting.ca_file"
    assert resolve({**ON, "ca_file": "ca.pem", "reporting": False}, tmp_path).ca_file == "ca.pem"


def test_ssl_is_imported_for_a_file_of_certificates_only(tmp_path):
    (tmp_path / "ca.pem").write_text(CERTIFICATE)
    code = f"""
import sys
from pathlib import Path
from stemphony.status.settings import resolve
for more in ({{}}, {{"ca_file": "ca.pem"}}):
    resolve({{"reporting": True, "url": "https://h/", **more}}, Path({str(tmp_path)!r}))
    print("ssl" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "workflow/scripts")}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True"]


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://node17:5000/", True),
        ("http://192.0.2.7/", True),
        ("https://node17:5000/", False),
        ("http://localhost:5000/", False),
        ("http://127.0.0.53:5000/", False),
        ("http://[::1]:5000/", False),
    ],
)
def test_credentials_over_plain_http_earn_a_warning(url, warned, monkeypatch):
    monkeypatch.setenv("STEMPHONY_TEST_PASS", CANARY)
    with_user = resolve(
        {"reporting": True, "url": url, "auth_user": "u", "auth_pass_env": "STEMPHONY_TEST_PASS"}, Path()
    )
    with_token = resolve({"reporting": True, "url": url, "parameters": {"api_token": CANARY}}, Path())
    with_word = resolve({"reporting": True, "url": url, "parameters": {"proxyPass": CANARY}}, Path())
    for settings in (with_user, with_token, with_word):
        assert ("plain http" in "\n".join(settings.warnings)) is warned
    assert resolve({"reporting": True, "url": url}, Path()).warnings == ()


def test_secret_in_query_earns_a_warning_that_does_not_show_it():
    settings = resolve({"reporting": True, "url": f"https://h/x?token={CANARY}"}, Path())
    assert len(settings.warnings) == 1
    assert CANARY not in settings.warnings[0]
    assert len(resolve({"reporting": True, "url": f"https://h/x?auth={CANARY}"}, Path()).warnings) == 1
    assert resolve({"reporting": True, "url": "https://h/x?group=em&author=ada"}, Path()).warnings == ()


BAD = [
    ({"reporting": "yes please"}, "http_reporting.reporting"),
    ({"reporting": True}, "http_reporting.url"),
    ({**ON, "url": f"ftp://{CANARY}/"}, "http_reporting.url"),
    ({**ON, "url": f"{CANARY}:5000/x"}, "http_reporting.url"),
    ({**ON, "url": f"http://user:{CANARY}@host/"}, "http_reporting.url"),
    ({**ON, "url": f"http://host:{CANARY}/"}, "http_reporting.url"),
    ({**ON, "url": "http://host:0/"}, "http_reporting.url"),
    ({**ON, "url": f"http:///{CANARY}"}, "http_reporting.url"),
    ({**ON, "url": f"http://host/{CANARY} x"}, "http_reporting.url"),
    ({**ON, "url": f"http://host\\{CANARY}"}, "http_reporting.url"),
    ({**ON, "url": f"http://host/#{CANARY}"}, "http_reporting.url"),
    ({**ON, "url": f"http://[{CANARY}/"}, "http_reporting.url"),
    ({**ON, "url": f"http://{'x' * 64}.{CANARY}/"}, "http_reporting.url"),
    ({**ON, "url": "http://./"}, "http_reporting.url"),
    ({**ON, "url": f"http://host/\n{CANARY}"}, "http_reporting.url"),
    ({**ON, "url": 5}, "http_reporting.url"),
    ({**ON, "auth_user": 12}, "http_reporting.auth_user"),
    ({**ON, "auth_user": f"a:{CANARY}"}, "http_reporting.auth_user"),
    ({**ON, "auth_user": "u", "auth_pass": 7331}, "http_reporting.auth_pass"),
    ({**ON, "auth_user": "u", "auth_pass": f"{CANARY}\r\nX: y"}, "http_reporting.auth_pass"),
    ({**ON, "auth_user": "u", "auth_pass_env": CANARY}, "http_reporting.auth_pass_env"),
    ({**ON, "auth_user": "u", "auth_pass_env": "CANARY_7f3a"}, "http_reporting.auth_pass_env"),
    ({**ON, "auth_user": "u", "auth_pass_file": CANARY}, "http_reporting.auth_pass_file"),
    ({**ON, "auth_pass": CANARY, "auth_pass_env": "X"}, "http_reporting.auth_pass_env"),
    ({**ON, "auth_pass_env": "X", "auth_pass_file": CANARY}, "http_reporting.auth_pass_file"),
    ({**ON, "ca_file": "missing.pem"}, "http_reporting.ca_file"),
    ({**ON, "via": CANARY}, "http_reporting.via"),
    ({**ON, "progress_event": CANARY}, "http_reporting.progress_event"),
    ([CANARY], "http_reporting"),
    (CANARY, "http_reporting"),
    ({**ON, "via": ["job"]}, "http_reporting.via"),
    ({**ON, "progress_event": "PERCENT"}, "http_reporting.progress_event"),
    ({**ON, "progress_min_interval_s": -1}, "http_reporting.progress_min_interval_s"),
    ({**ON, "progress_min_interval_s": float("nan")}, "http_reporting.progress_min_interval_s"),
    ({**ON, "progress_min_interval_s": 10**400}, "http_reporting.progress_min_interval_s"),
    ({**ON, "progress_min_interval_s": True}, "http_reporting.progress_min_interval_s"),
    ({**ON, "progress_min_interval_s": "2"}, "http_reporting.progress_min_interval_s"),
    ({**ON, "preview": "yes"}, "http_reporting.preview"),
    ({**ON, "parameters": [CANARY]}, "http_reporting.parameters"),
    ({**ON, "parameters": {f"k{i}": CANARY for i in range(51)}}, "http_reporting.parameters"),
    ({**ON, "parameters": {f"k{i}": "x" * 999 for i in range(9)}}, "http_reporting.parameters"),
    ({**ON, "parameters": {1: CANARY}}, "http_reporting.parameters"),
    ({**ON, "parameters": {"": CANARY}}, "http_reporting.parameters"),
    ({**ON, "parameters": {"a\nb": CANARY}}, "http_reporting.parameters"),
    ({**ON, "parameters": {"x": float("nan")}}, "http_reporting.parameters.x"),
    ({**ON, "parameters": {"x": float("-inf")}}, "http_reporting.parameters.x"),
    ({**ON, "parameters": {"x": 2**64}}, "http_reporting.parameters.x"),
    ({**ON, "parameters": {"x": None}}, "http_reporting.parameters.x"),
    ({**ON, "parameters": {"x": {"nested": CANARY}}}, "http_reporting.parameters.x"),
    ({**ON, "parameters": {"x": [CANARY]}}, "http_reporting.parameters.x"),
    ({**ON, "parameters": {"x": CANARY * 100}}, "http_reporting.parameters.x"),
    ({**ON, "parameters": {"x": CANARY + "\0"}}, "http_reporting.parameters.x"),
    ({**ON, "parameters": {"x": CANARY + "\ud800"}}, "http_reporting.parameters.x"),
]


@pytest.mark.parametrize(("block", "where"), BAD, ids=[f"{where}-{i}" for i, (_, where) in enumerate(BAD)])
def test_bad_values_are_refused_without_showing_them(block, where, tmp_path):
    with pytest.raises(ConfigError) as caught:
        resolve(block, tmp_path)
    assert caught.value.where == where
    for secret in (CANARY, "CANARY_7f3a", CANARY.lower(), "7331"):
        assert secret not in str(caught.value)
        assert secret not in repr(caught.value)
    # A chained exception would be printed under the message.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    "name",
    [
        "time",
        "id",
        "event",
        "progress",
        "schema",
        "event_id",
        "run",
        "job",
        "attempt",
        "seq",
        "message",
        "failed",
        "title",
    ],
)
def test_reserved_names_are_refused(name):
    with pytest.raises(ConfigError, match=name):
        resolve({"parameters": {name: "x"}}, Path())


def test_unknown_key_names_the_nearest():
    with pytest.raises(ConfigError, match="auth_user"):
        resolve({"auth_usr": CANARY}, Path())


def test_parameters_of_every_kind_are_kept():
    parameters = {"a": "text\nwith ünicode", "b": 1, "c": 1.5, "d": False, "simulation_category": "x" * 1000}
    assert dict(resolve({**ON, "parameters": parameters}, Path()).parameters) == parameters


def test_settings_show_no_secret():
    settings = resolve(
        {
            "reporting": True,
            "url": f"https://h:8000/{CANARY}?token={CANARY}",
            "auth_user": f"user{CANARY}",
            "auth_pass": CANARY,
            "parameters": {"token": CANARY},
        },
        Path(),
    )
    assert CANARY not in repr(settings)
    assert CANARY not in str(settings)
    assert CANARY not in " ".join(settings.warnings)
    assert hash(settings) == hash(pickle.loads(pickle.dumps(settings)))


def test_load_merges_files_key_by_key(tmp_path):
    first, second, third = tmp_path / "a.yaml", tmp_path / "sub/b.yaml", tmp_path / "c.yaml"
    second.parent.mkdir()
    password_file(second.parent)
    first.write_text("http_reporting: {reporting: true, url: 'http://one/', parameters: {a: 1, b: 2}}\n")
    second.write_text("http_reporting:\n  auth_user: u\n  auth_pass_file: password\n  parameters: {c: 3}\n")
    third.write_text("simulation: {name: x}\n")
    settings = load([first, second, third])
    assert settings.url == "http://one/"
    assert settings.auth_pass == CANARY
    assert dict(settings.parameters) == {"c": 3}


def test_load_without_the_block_is_off(tmp_path):
    (tmp_path / "a.yaml").write_text("http_reporting:\n")
    (tmp_path / "b.yaml").write_text("")
    assert not load([tmp_path / "a.yaml", tmp_path / "b.yaml"]).reporting
    assert not load([]).reporting


@pytest.mark.parametrize(
    "text",
    [
        f"http_reporting: {{auth_pass: '{CANARY}\n",
        f"http_reporting:\n\tauth_pass: {CANARY}\n",
        f"http_reporting: {CANARY}\n",
        f"- {CANARY}\n",
        f"auth_pass: {CANARY}\n\x01\n",
    ],
)
def test_load_of_a_broken_file_shows_nothing_of_it(tmp_path, text):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load([file])
    assert CANARY not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_missing_config_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load([tmp_path / "none.yaml"])


def test_job_without_the_password_only_writes(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(
        "http_reporting: {reporting: true, url: 'http://h/', auth_user: u,\n"
        "  auth_pass_env: STEMPHONY_NOT_SET, progress_event: START_CONFIGURATION}\n"
    )
    warnings: list[str] = []
    settings = load_in_job([file], warnings.append)
    assert (settings.reporting, settings.via) == (True, "submit_host")
    assert settings.progress_event == "START_CONFIGURATION"
    assert len(warnings) == 1
    assert load_in_job([tmp_path / "none.yaml"], warnings.append).via == "submit_host"
    file.write_text("http_reporting: {reporting: true, url: 'http://h/'}\n")
    assert load_in_job([file], warnings.append).via == "job"
