"""The Python code of README.md and docs/how-to/results-in-python.md works as typed."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path

import pytest
import stemphony as st
from support.experiments import Experiment, FakeCampaign, planned
from support.specimens import srtio3

ROOT = Path(__file__).parents[3]
README, GUIDE = ROOT / "README.md", ROOT / "docs/how-to/results-in-python.md"
QUADRANTS = {"inner_mrad": 0.0, "outer_mrad": 30.0, "segments": 4, "rotation_deg": 45.0}


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working directory with `results/srtio3`: 5 nm thick, one unit cell scanned, angles up to 120 mrad."""
    place = tmp_path_factory.mktemp("pages")
    made = planned(
        frozen_phonon={"configurations": 2},
        grating={"gpts": [128, 128]},
        scan={"x": [0.0, 0.5], "y": [0.0, 0.5], "points": [4, 4]},
        depths={"every_angstrom": 7.81},
        adf={"bins": 12, "max_mrad": 120.0, "detectors": {"haadf": [60.0, 110.0]}, "segmented": {"q": QUADRANTS},
             "integrated": True},
        cbed={"enabled": True, "size": [4, 4], "max_mrad": 20.0},
    )  # fmt: skip
    fake = FakeCampaign.of(place)
    specimen = srtio3((2, 2, 13))
    fake.campaign, fake.specimen = made, specimen
    fake.experiment = Experiment.of(made.common_params, specimen.cell, specimen.layers)
    fake.write_all()
    (place / "results" / "srtio3").mkdir(parents=True)
    shutil.copy(fake.merge(), place / "results" / "srtio3" / "stem.nc")
    return place


@pytest.fixture(autouse=True)
def at_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    warnings.simplefilter("ignore")  # of xarray's optional parts
    monkeypatch.chdir(folder)


def test_the_example_of_the_readme_runs_as_typed():
    (text,) = blocks(README)
    names: dict[str, object] = {}
    exec(compile(text, str(README), "exec"), names)
    assert {"result", "ring", "error"} <= set(names)


def test_the_examples_of_the_guide_run_as_typed(folder: Path):
    names: dict[str, object] = {}
    for text in blocks(GUIDE):
        if "st.run(" not in text:  # the notebook of the tutorials runs a simulation
            exec(compile(text, str(GUIDE), "exec"), names)
    assert (folder / "haadf.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_every_call_that_the_guide_lists_gives_what_it_says():
    rows = re.findall(r"^\| (`result\..*?`) \| (.*) \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    result, shapes = st.open("results/srtio3"), 0
    for calls, words in rows:
        given = [eval(call, {"result": result}) for call in re.findall(r"`(.*?)`", calls)]
        assert all(one is not None for one in given), calls
        shape = re.search(r"\(((?:\w+, )+\w+)\)", words)
        if shape is not None:
            shapes += 1
            assert [", ".join(one.dims) for one in given] == [shape[1]] * len(given), calls
    assert len(rows) >= 12
    assert shapes >= 5
