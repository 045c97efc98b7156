"""The page of all commands shows what they print: it is executed on a finished simulation."""

from __future__ import annotations

import shlex

import pytest
from support.campaign import REPOSITORY, Campaign
from support.pages import Executed

PAGE = REPOSITORY / "docs" / "commands.md"
PICTURES = {"specimen.png", "tiny.png"}


def test_every_command_prints_what_its_page_shows(quiet_copy: Campaign, monkeypatch: pytest.MonkeyPatch):
    for name in ("XDG_STATE_HOME", "STEMPHONY_CACHE_DIR"):  # the record of the runs of this copy; FFT plans
        monkeypatch.setenv(name, quiet_copy.env[name])
    folder = quiet_copy.directory
    page = Executed(PAGE, folder, quiet_copy.env, stand_ins={"tiny.yaml": shlex.quote(str(quiet_copy.config))})
    page.execute()
    assert {file.name for file in folder.glob("*.png")} == PICTURES
    assert (folder / "results/tiny/convergence.png").exists()
    assert (folder / "results/tiny/preview.nc").exists()
    assert (folder / "tiny.csv").read_text(encoding="utf-8").count("\n") > 4  # 2 × 2 positions and a head
