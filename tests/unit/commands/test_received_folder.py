"""`stemphony` on foreign folders: it prints a message and no traceback, and nothing acts on the terminal."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from stemphony import cli
from stemphony.commands import status as status_command
from stemphony.compute import wisdom
from stemphony.paths import ResultPaths
from stemphony.store import ledger, members, progress
from support.experiments import FakeCampaign

DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000
ESCAPE = "\x1b[2J\x1b]0;owned\x07"


@pytest.fixture
def result(tmp_path) -> ResultPaths:
    made = FakeCampaign.of(tmp_path)
    made.result.root.mkdir(parents=True, exist_ok=True)
    ledger.identity(made.result, 1)
    number = ledger.claim_run(made.result)
    planned = made.campaign
    plan = {"config": planned.config, "files": asdict(planned.files), "num_configurations": planned.configurations}
    ledger.write_plan(made.result, {**plan, "run": number}, number)
    return made.result


def status(capsys, result: ResultPaths, *words: str) -> str:
    code = cli.main(["status", str(result.root), *words])
    told = "".join(capsys.readouterr())
    assert code in (0, 1)
    assert "Traceback" not in told
    assert not set(told) & set("\x1b\x07\r")
    return told


@pytest.mark.parametrize("command", [["status"], ["rerun"], ["preview"], ["clean"], ["report", "replay"], ["converge"]])
def test_a_folder_with_a_link_to_itself_gives_a_message(tmp_path, capsys, command):
    (tmp_path / "a").symlink_to("a")
    assert cli.main([*command, str(tmp_path / "a")]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_config_with_a_link_to_itself_gives_a_message(tmp_path, capsys):
    (tmp_path / "a.yaml").symlink_to("a.yaml")
    assert cli.main(["check", str(tmp_path / "a.yaml")]) == 1
    assert "Too many levels of symbolic links" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", [DEEP, "[]", "1", '{"plan": 1}', '{"defoci": {"a": 1e999}}', f'{{"version": "{"x" * 9}"}}']
)
def test_an_invalid_plan_is_reported_as_unreadable(result, capsys, text):
    for file in (result.plan, result.plan_of(1)):
        file.write_text(text)
    assert "is missing or not readable" in status(capsys, result)


@pytest.mark.parametrize(
    ("block", "key", "value"),
    [
        ("", "num_configurations", 10**9),
        ("frozen_phonon", "configurations", 10**9),
        ("probe", "defocus_count", 10**9),
        ("probe", "defoci_nm", [0.1 * number for number in range(200_000)]),
    ],
)
def test_a_plan_with_too_many_jobs_is_reported_as_unreadable(result, capsys, block, key, value):
    """The attack: `status` went through a thousand million pairs, until the memory was full."""
    plan = json.loads(result.plan.read_text())
    plan["num_configurations"] = 9_999
    (plan["config"][block] if block else plan)[key] = value
    for file in (result.plan, result.plan_of(1)):
        file.write_text(json.dumps(plan))
    assert "is missing or not readable" in status(capsys, result)


def test_an_array_larger_than_the_memory_is_a_message(result, capsys, monkeypatch):
    def announce(*_: object) -> None:
        np.empty(2**60, dtype=np.uint8)

    monkeypatch.setattr(status_command, "show", announce)
    assert "needs more memory than this machine" in status(capsys, result)


@pytest.mark.parametrize(
    "state",
    [
        {"state": "running"},
        {"state": "running", "done": "x", "total": [], "pid": "y", "updated": {}, "host": ESCAPE, "holder": ESCAPE},
        {"state": "running", "done": 1e308, "total": 1e-308, "pid": 10**30, "updated": -1e308, "host": os.uname()[1]},
        {"state": "failed", "message": ESCAPE},
        {"state": ["failed"]},
    ],
)
def test_invalid_progress_files_give_no_traceback(result, capsys, state):
    file = result.progress(1, "p0d000", 0)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(state))
    progress.Watch(result, 1).overall(1).line(1.0)
    assert progress.states(result, 1) or isinstance(state["state"], list)
    told = status(capsys, result)
    assert "pairs: " in told
    file.write_text(DEEP)
    assert progress.states(result, 1) == []


def test_names_that_only_look_like_numbers_are_no_runs(result):
    for name in ("run-²", "run-" + "9" * 200, "run-x"):
        (result.reports / name).mkdir()
    assert ledger.latest_run(result) == 1
    assert ledger.claim_run(result) == 2


def test_a_user_without_a_home_folder_computes_without_a_cache(monkeypatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("STEMPHONY_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(NotADirectoryError):
        wisdom.cache_folder().mkdir(parents=True)


def test_a_command_that_needs_a_home_folder_says_so(tmp_path, monkeypatch, capsys):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["profile", "install"]) in (1, 2)
    assert "this user has no home folder. Set the environment variable HOME" in capsys.readouterr().err


LABEL = "probe.semiangle_mrad_20"
MEMBER = {"label": LABEL, "values": {"probe.semiangle_mrad": 20}}
RECORD = {"title": "t", "axes": {"probe.semiangle_mrad": [20]}, "members": [MEMBER]}


@pytest.mark.parametrize(
    "record",
    [
        {}, [], None, 3, {"members": 3}, {"members": [3]}, {**RECORD, "members": "text"},
        {**RECORD, "members": [{"label": 3, "values": {}}]}, {**RECORD, "members": [{"label": LABEL}]},
        {**RECORD, "members": [{**MEMBER, "label": "../../elsewhere"}]},
        {**RECORD, "members": [{**MEMBER, "label": f"{LABEL}/../../../elsewhere"}]},
        {**RECORD, "axes": 3}, {**RECORD, "axes": {"probe.semiangle_mrad": 20}},
        {**RECORD, "axes": {"a.b": [0] * 10**4, "a.c": [0] * 10**4}}, {**RECORD, "title": 3},
        {"title": "t", "members": [MEMBER]}, {**RECORD, "axes": None, "members": [MEMBER] * 201},
    ],
)  # fmt: skip
def test_an_invalid_record_of_a_sweep_gives_a_message(tmp_path, capsys, record):
    """The attack: `sweep.json` of a received folder ended each command in a traceback, or held it for a minute."""
    (tmp_path / "sweep.json").write_text(json.dumps(RECORD))
    assert [part.root.name for part in members.members_of(tmp_path)] == [LABEL]
    (tmp_path / "sweep.json").write_text(json.dumps(record))
    assert members.record_of(tmp_path) == {}
    for words in (["status"], ["rerun"], ["clean"]):
        assert cli.main([*words, str(tmp_path)]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_member_that_is_a_link_is_not_cleaned(result, tmp_path, capsys):
    """The attack: `clean` of a received sweep removes files of another simulation of this user."""
    sweep = tmp_path / "received"
    sweep.mkdir()
    (sweep / LABEL).symlink_to(result.root)
    kept = result.waves(0)
    kept.parent.mkdir()
    kept.write_text("mine")
    assert cli.main(["clean", str(sweep)]) == 0
    assert kept.exists()
    assert f"{sweep / LABEL} is a link" in capsys.readouterr().out
    assert cli.main(["clean", str(result.root)]) == 0
    assert not kept.exists()
