"""`stemphony plot`: one command from a result to a figure, or to the numbers behind it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from stemphony import cli
from stemphony.commands.plot import copies, detector
from stemphony.errors import ResultError
from support.experiments import FakeCampaign


@pytest.fixture(scope="module")
def fake(tmp_path_factory) -> FakeCampaign:
    made = FakeCampaign.of(tmp_path_factory.mktemp("plot"), frozen_phonon={"configurations": 2})
    made.write_all()
    made.merge()
    return made


def test_one_command_draws_a_figure_for_a_slide(fake, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plot", str(fake.result.root), "--tile", "2x2", "--interpolate", "4", "--atoms"]) == 0
    assert capsys.readouterr().out == "wrote tiny_images.png\n"
    assert (tmp_path / "tiny_images.png").read_bytes().startswith(b"\x89PNG")


def test_the_numbers_behind_a_figure_are_json_without_a_figure(fake, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["plot", str(fake.result.merged), "--detector", "haadf", "12-48", "--json"]
    assert cli.main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["figure"] == "images"
    assert [panel["ring_mrad"] for panel in found["panels"]] == [[40.0, 60.0], [12.0, 48.0]]
    expected = np.mean([fake.signals("p0d000", c).rings[:, :, -1, 1] for c in range(2)], axis=0)
    assert pytest.approx(expected, rel=1e-5) == np.array(found["panels"][0]["values"]).T
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tile", "3"], "--tile: got '3'; give copies along x and y, for example 3x3."),
        (["--tile", "100x100"], "--tile: got 100x100; at most 400 copies are drawn."),
        (["--interpolate", "0"], "--interpolate: got 0; allowed is 1 to 64."),
        (["--dose", "-3"], "--dose: got -3; a positive number is needed."),
        (["--source", "0"], "--source: got 0; a positive number is needed."),
        (["--output", "figure.gif"], "got figure.gif; figures are .png, .pdf, .svg files. Name it figure.png."),
        (["--style", "none.mplstyle"], "--style: none.mplstyle does not exist."),
        (["--style", "CONFIG"], "cannot be used as a style file"),
        (["--depth", "0.39", "--defocus", "3"], "the result has no defocus of 3 nm; it has 0 nm."),
        (["profile"], "a profile needs two places (x, y) in nm"),
        (["pattern"], "has no diffraction patterns. They need `cbed: {enabled: true}`."),
        (["curves", "--at", "9", "9"], "the scan has no position at x = 9 nm."),
    ],
)
def test_mistakes_are_named(fake, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    binary = tmp_path / "binary.mplstyle"
    binary.write_bytes(b"\xff\xfe\x00")
    given = [str(binary) if argument == "CONFIG" else argument for argument in arguments]
    assert cli.main(["plot", str(fake.result.root), *given]) == 1
    assert message in capsys.readouterr().err


def test_detectors_are_names_or_rings():
    assert detector("haadf") == "haadf"
    assert detector("80-120.5") == (80.0, 120.5)
    assert detector("my-detector") == "my-detector"


def test_copies_are_two_numbers():
    assert copies("3x2") == (3, 2)
    assert copies("3×3") == (3, 3)
    with pytest.raises(ResultError):
        copies("0x2")
