"""`make demo-monitor`; the simulation itself is that of `make run`, which other tests compute."""

from __future__ import annotations

import re
from pathlib import Path

from stemphony import configuration
from stemphony.monitor import demonstration
from stemphony.status import settings
from support.campaign import REPOSITORY


def test_the_demonstration_is_the_config_of_make_run_with_the_address_of_its_monitor(tmp_path: Path):
    config = demonstration._config(tmp_path, "http://127.0.0.1:8123/")
    shown, ordinary = (configuration.load([file]) for file in (config, REPOSITORY / "config" / "config.yaml"))
    assert shown["http_reporting"]["url"] == "http://127.0.0.1:8123/"
    assert {**shown, "http_reporting": None} == {**ordinary, "http_reporting": None}
    assert (tmp_path / shown["specimen"]["file"]).is_file()
    assert settings.load([config]).reporting


def test_make_demo_monitor_is_the_command():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert re.search(
        r"^demo-monitor: .venv/installed ## .*\n\t@.venv/bin/stemphony monitor demo$", makefile, re.MULTILINE
    )
