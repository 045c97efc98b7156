"""The command line itself: its output and its exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from stemphony import cli
from stemphony.cli import main
from stemphony.compute.wisdom import cpu_model
from support.campaign import REPOSITORY
from support.experiments import SCRIPTS


@pytest.mark.slow
def test_a_closed_pipe_ends_a_command_quietly(tmp_path: Path):
    assert main(["init", str(tmp_path)]) == 0
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does after its last line
    with os.fdopen(writer, "wb") as gone:
        ended = subprocess.run(
            [sys.executable, "-m", "stemphony", "check", "config.yaml", "--no-calibration"],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
            stdout=gone, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    said = [line for line in ended.stderr.splitlines() if not line.startswith("still reading ")]  # on a busy machine
    assert said == []
    assert ended.returncode == 141  # the status of a process that SIGPIPE ended


def test_the_line_of_the_docs_completes_every_command(capsys: pytest.CaptureFixture[str]):
    page = (REPOSITORY / "docs/environments.md").read_text(encoding="utf-8")
    words = re.search(r'^complete -o default -W "(.*)" stemphony$', page, re.MULTILINE)
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)
    assert words is not None
    assert words[1].split() == listed


@pytest.mark.parametrize(
    ("folder", "name"),
    [("mycrystal", "mycrystal"), ("GaN [11-20], 5 nm", "GaN_11-20_5_nm"), ("2024", "2024"), ("-_", "srtio3"),
     ("yes", "yes"), ("é", "srtio3")],
)  # fmt: skip
def test_init_names_the_simulation_after_the_folder(folder: str, name: str, tmp_path: Path, capsys):
    assert main(["init", str(tmp_path / folder)]) == 0
    text = (tmp_path / folder / "config.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["simulation"]["name"] == name
    assert f"of the simulation {name}, " in capsys.readouterr().out


def test_a_long_check_prints_that_it_is_still_working(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["init", str(tmp_path)]) == 0
    parsed = cli._parser().parse_args(["check", str(tmp_path / "config.yaml"), "--no-calibration"])
    assert parsed.command(parsed, [], patience_s=0.0) == 0
    said = capsys.readouterr().err
    assert said == f"still reading the structure of {tmp_path / 'config.yaml'} and planning …\n"


def test_a_check_measures_a_machine_once_or_when_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert main(["init", str(tmp_path)]) == 0
    monkeypatch.setenv("STEMPHONY_CACHE_DIR", str(tmp_path / "cache"))
    measured: list[float] = []
    monkeypatch.setattr("stemphony.compute.calibration.calibrate", lambda: measured.append(1.0))
    check = ["check", str(tmp_path / "config.yaml")]
    assert main([*check, "--no-calibration"]) == 0
    assert len(measured) == 0
    assert main(check) == 0
    assert len(measured) == 1
    (tmp_path / "cache").mkdir(exist_ok=True)
    (tmp_path / "cache" / "calibration.json").write_text(json.dumps({cpu_model(): 1e-3}))
    assert main(check) == 0
    assert len(measured) == 1, "it is kept"
    assert main([*check, "--measure"]) == 0
    assert len(measured) == 2
    with pytest.raises(SystemExit):
        main([*check, "--measure", "--no-calibration"])


def test_init_here_takes_the_name_of_the_present_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["init", "."]) == 0
    assert yaml.safe_load(Path("config.yaml").read_text(encoding="utf-8"))["simulation"]["name"] == "here"
