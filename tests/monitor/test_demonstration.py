"""`make demo-monitor`: one command from nothing to a finished simulation on a page."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from stemphony import cli
from stemphony.experiment import configuration
from stemphony.monitor import demonstration
from stemphony.status import settings
from stemphony.status.events import DESCRIPTION_KEYS
from support.campaign import REPOSITORY


def test_the_demonstration_is_the_config_of_make_run_with_the_address_of_its_monitor(tmp_path: Path):
    config = demonstration._config(tmp_path, "http://127.0.0.1:8123/")
    shown, ordinary = (configuration.load([file]) for file in (config, REPOSITORY / "config" / "config.yaml"))
    assert shown["http_reporting"]["url"] == "http://127.0.0.1:8123/"
    assert {**shown, "http_reporting": None} == {**ordinary, "http_reporting": None}
    assert (tmp_path / shown["specimen"]["file"]).is_file()
    loaded = settings.load([config])
    assert loaded.reporting
    assert loaded.preview, "the page shows images"


def test_make_demo_monitor_is_the_command():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert re.search(
        r"^demo-monitor: .venv/installed ## .*\n\t@.venv/bin/stemphony monitor demo$", makefile, re.MULTILINE
    )


def test_the_demonstration_needs_no_program_beside_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    lonely = tmp_path / "bin" / "python"
    lonely.parent.mkdir()
    lonely.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(lonely))
    packages = [str(REPOSITORY / "workflow" / "scripts"), *filter(None, sys.path)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(packages))
    (tmp_path / "config.yaml").write_text("simulation: {}\n")
    simulation = demonstration._simulate(tmp_path, tmp_path / "config.yaml")
    assert simulation.wait(PLENTY_S) == 1
    assert "`simulation.name`: missing in" in capfd.readouterr().err


PLENTY_S = 900
DETECTORS = 3
# The simulation of `make run` with fewer probes in a smaller cell; the rest is what a user sees.
SMALLER = """
import sys
import yaml
from stemphony import cli
from stemphony.monitor import demonstration

written = demonstration._config

def smaller(folder, url):
    file = written(folder, url)
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    config["scan"]["points"] = [3, 3]
    config["specimen"]["repeat"][:2] = [2, 2]
    config["grating"].update(gpts=[160, 160], potential_oversampling=1)  # FFTW plans for a minute on larger grids
    file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return file

demonstration._config = smaller
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_the_demonstration_runs_to_its_end_and_keeps_showing_the_result(tmp_path: Path):
    log, folders = tmp_path / "log", set(demonstration.FOLDER.glob("*"))
    small = tmp_path / "small.py"
    small.write_text(SMALLER)
    command = [sys.executable, small, "monitor", "demo", "--port", "0", "--db", str(tmp_path / "m.sqlite")]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow" / "scripts"), "XDG_CACHE_HOME": str(tmp_path)}
    with log.open("wb") as stream:
        demo = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=env, start_new_session=True)
    try:
        deadline = time.monotonic() + PLENTY_S
        while "still shows it" not in (said := log.read_text(errors="replace")):
            assert demo.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        assert "the simulation has finished" in said
        address = re.search(r"open (http://127\.0\.0\.1:[0-9]+/) in a browser", said)
        assert address is not None, said
        with urllib.request.urlopen(f"{address[1]}api/simulations", timeout=10) as answer:
            (simulation,) = json.load(answer)["simulations"]
        assert simulation["state"] == "finished"
        assert simulation["finished"] == simulation["num_defoci"] * simulation["num_configurations"] > 0
        parameters = simulation["parameters"]
        assert parameters.keys() == {"project", *DESCRIPTION_KEYS}
        assert (parameters["project"], parameters["specimen_formula"]) == ("demonstration", "Sr Ti O3")
        with urllib.request.urlopen(f"{address[1]}simulations/{simulation['row']}", timeout=10) as answer:
            assert answer.read().count(b"/preview.png?defocus=") == simulation["num_defoci"] * DETECTORS
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0
        assert "Traceback" not in log.read_text(errors="replace")
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
            demo.wait()
        for folder in set(demonstration.FOLDER.glob("*")) - folders:
            shutil.rmtree(folder, ignore_errors=True)


def test_ctrl_c_ends_the_simulation_with_its_monitor(tmp_path: Path):
    """Also if the signal comes in the middle of the simulation."""
    log = tmp_path / "log"
    quick = tmp_path / "quick.py"
    quick.write_text(
        "import subprocess, sys\n"
        "from stemphony.monitor import demonstration\n"
        "demonstration._simulate = lambda folder, config: subprocess.Popen("
        "[sys.executable, '-c', 'import time; time.sleep(300)'], start_new_session=True)\n"
        "demonstration.FOLDER = type(demonstration.FOLDER)(sys.argv[1])\n"
        "demonstration.demonstrate(0, None)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "workflow" / "scripts")}
    with log.open("wb") as stream:
        demo = subprocess.Popen(
            [sys.executable, quick, tmp_path / "demo"], stdout=stream, stderr=subprocess.STDOUT, env=env
        )
    try:
        deadline = time.monotonic() + PLENTY_S
        while "Ctrl-C ends both" not in log.read_text(errors="replace"):
            assert demo.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, f"the demonstration does not start: {log.read_text(errors='replace')}"
            time.sleep(0.05)
        children = Path(f"/proc/{demo.pid}/task/{demo.pid}/children")
        while not (child := children.read_text().split()):
            time.sleep(0.05)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
        assert not Path(f"/proc/{child[0]}").exists()
    finally:
        demo.kill()
        demo.wait()


def test_an_invalid_port_is_refused(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["monitor", "demo", "--port", "70000"]) == 1
    assert "--port: got 70000. Allowed: 0 to 65535." in capsys.readouterr().err
