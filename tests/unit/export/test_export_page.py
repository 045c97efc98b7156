"""docs/how-to/export.md: its commands run, its examples read what they write, its output is that of the program."""

from __future__ import annotations

import re
import shlex
import shutil
import warnings
from pathlib import Path

import pytest
from stemphony import cli
from stemphony.export.request import FORMATS
from support.experiments import FakeCampaign

PAGE = Path(__file__).parents[3] / "docs/how-to/export.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
IN_AN_ENVIRONMENT_OF_THEIR_OWN = ("hyperspy", "py4DSTEM")


@pytest.mark.slow
def test_the_commands_of_the_page_print_what_it_shows(tmp_path, monkeypatch, capsys):
    fake = FakeCampaign.of(tmp_path, scan={"points": [3, 3]}, cbed={"enabled": True, "size": [4, 4], "max_mrad": 20.0})
    fake.write_all()
    place = tmp_path / "results" / "srtio3"
    place.mkdir(parents=True)
    shutil.copy(fake.merge(), place / "stem.nc")
    monkeypatch.chdir(tmp_path)
    said, seen = "", set()
    for kind, text in BLOCKS:
        if kind == "python":
            if not any(name in text for name in IN_AN_ENVIRONMENT_OF_THEIR_OWN):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of xarray's optional parts
                    exec(compile(text, str(PAGE), "exec"), {})
        elif text.startswith("stemphony export"):
            capsys.readouterr()
            for line in text.splitlines():
                seen |= set(re.findall(r"--to (\w+)", line))
                assert cli.main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
            said = capsys.readouterr().out
        else:
            assert said == text
    assert seen == set(FORMATS)


def test_the_page_has_a_row_for_each_format():
    assert re.findall(r"^\| `(\w+)` \| (?:images|patterns)", PAGE.read_text(encoding="utf-8"), re.MULTILINE) == [
        *FORMATS
    ]
