"""Each tutorial does what it says: its files and commands, at a small size, in an empty folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import netCDF4
import numpy as np
import pytest
from support.campaign import REPOSITORY
from support.monitor import missing
from support.pages import Executed

TUTORIALS = REPOSITORY / "docs" / "tutorials"
READERS = REPOSITORY / ".venv-readers"
PICTURE = b"\x89PNG"
Executes = Callable[..., Executed]


@pytest.fixture
def executed(env: Mapping[str, str], tmp_path: Path) -> Executes:
    """Execute a tutorial, with entries that make it small."""

    def execute(name: str, *small: str, **options: Mapping[str, Path]) -> Executed:
        page = Executed(TUTORIALS / f"{name}.md", tmp_path, env, small, **options)
        page.execute()
        return page

    return execute


def pictures(page: Executed) -> set[str]:
    """Names of the pictures that the commands of a page wrote where they were given."""
    return {file.name for file in page.directory.glob("*.png") if file.read_bytes().startswith(PICTURE)}


def test_the_tutorial_of_the_first_image_works(executed: Executes):
    page = executed(
        "first-image", "specimen.repeat=[2, 2, 8]", "grating.gpts=[108, 108]",
        "scan.x=[0, 0.5]", "scan.y=[0, 0.5]", "scan.points=[4, 4]", "adf.detectors={abf: [12, 24], haadf: [30, 60]}",
        "frozen_phonon.configurations=2",
    )  # fmt: skip
    assert pictures(page) == {"rutile.png"}


def test_the_commands_of_the_gan_tutorial_run_as_typed(executed: Executes):
    page = executed(
        "gan", "specimen.size_nm=[1.1, 1.0]", "grating={sampling_angstrom: null, gpts: [64, 64]}", "scan.points=[3, 4]",
        "scan.x=[0, 0.5]", "scan.y=[0, 0.5]", "adf.detectors={abf: [12, 24], haadf: [25, 34]}",
        "frozen_phonon.configurations=2",
    )  # fmt: skip
    assert pictures(page) == {"specimen.png", "series.png", "curves.png", "profile.png"}
    assert page.printed.count("ABF contrast") == 3
    with netCDF4.Dataset(page.directory / "results/gan/stem.nc") as merged:
        assert (np.asarray(merged["images/haadf"][:]) > 0).all()


def test_the_4d_stem_tutorial_works(executed: Executes):
    if not (READERS / "installed").exists():
        missing("py4DSTEM is not installed; `make readers` does it")
    page = executed(
        "4d-stem", "specimen.repeat=[3, 3, 2]", "grating.gpts=[108, 108]", "scan.points=[24, 24]",
        "scan.x=[0, 0.6666666666666667]", "scan.y=[0, 0.6666666666666667]", "frozen_phonon.configurations=2",
        pythons={"py4DSTEM": READERS / "bin/python"},
    )  # fmt: skip
    assert pictures(page) == {"pattern.png", "com.png", "py4dstem.png", "icom.png"}
    theirs = np.load(page.directory / "phase.npy")
    with netCDF4.Dataset(page.directory / "results/sto_4d/stem.nc") as merged:
        ours = np.asarray(merged["images/icom"][0, 0, -1])
    assert np.corrcoef(theirs.ravel(), ours.ravel())[0, 1] > 0.98


def test_the_commands_of_the_md_tutorial_run_as_typed(executed: Executes):
    page = executed(
        "md", "grating={sampling_angstrom: null, gpts: [108, 108]}", "scan.points=[4, 4]", "scan.x=[0, 0.5]",
        "scan.y=[0, 0.5]", "adf.detectors={bf: [0, 10], haadf: [25, 60]}", "probe.semiangle_mrad=15",
    )  # fmt: skip
    assert pictures(page) == {"silicon.png"}
    found = re.search(r"^U = ([\d.]+) Å²", page.printed, re.MULTILINE)
    assert found is not None
    assert 0.003 < float(found[1]) < 0.009  # the harmonic crystal of 64 atoms has no long waves


def test_the_tutorial_from_stemsalabim_works(executed: Executes):
    page = executed("from-stemsalabim", "scan.points=[2, 2]", "frozen_phonon.configurations=1")
    assert "note: probe.fwhm_defoci" not in page.printed  # the file does not give it
    assert pictures(page) == {"haadf.png"}
    with netCDF4.Dataset(page.directory / "results/sto_stemsalabim/stem.nc") as root:
        assert root["params/adf"].detector_num_angles == 129
        assert root["params"].program_arguments
        assert "my_pass" not in root["params"].config_file_contents
        # A tenth of a percent is the band limit's share; signals are fractions of the beam.
        assert 0.9 < root["images/total_intensity"][:].max() <= 1.001


def test_the_tutorial_from_abtem_works_at_full_size(executed: Executes):
    page = executed("from-abtem")
    shown = re.findall(r"^\w+: ([\d.e-]+) of the maximum$", page.page.read_text(encoding="utf-8"), re.MULTILINE)
    assert shown == re.findall(r"^\w+: ([\d.e-]+) of the maximum$", page.printed, re.MULTILINE)
