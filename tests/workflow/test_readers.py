"""HyperSpy and py4DSTEM read values, calibration and orientation of exported files."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stemphony.export.contents import patterns_of
from stemphony.export.request import ExportRequest, export
from stemphony.results.opened import OpenedResult
from support.monitor import REQUIRE_ALL
from support.one_atom import OneAtom, check_deflections

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-readers/bin/python"
pytestmark = pytest.mark.slow
X, Y = 0.32 + 0.08 * np.arange(3), 0.3025 + 0.08 * np.arange(5)  # nm
PIXEL = 1e3 * 0.0370144 / 8.0
"""Pixel of a pattern [mrad]: wavelength of 100 keV [Å] over the length of the cell [Å]."""


@pytest.fixture(scope="module")
def atom(tmp_path_factory) -> OneAtom:
    return OneAtom.in_folder(tmp_path_factory.mktemp("square"), is_square=True)


@pytest.fixture(scope="module")
def folder(atom, tmp_path_factory) -> Path:
    """All files: `square_…` with square pixels, `plain_…` with those of the cell."""
    if not (ROOT / ".venv-readers/installed").exists():
        text = "HyperSpy and py4DSTEM are not installed; `make readers` does it"
        pytest.fail(text) if REQUIRE_ALL else pytest.skip(text)
    made = tmp_path_factory.mktemp("exported")
    plain = OneAtom.in_folder(tmp_path_factory.mktemp("plain"))
    for form in ("hspy", "emd", "tiff"):
        export(OpenedResult(atom.result.merged), ExportRequest(form), made, "square", lambda line: None)
    for form in ("hspy", "emd"):
        request = ExportRequest(form, only="patterns")
        export(OpenedResult(plain.result.merged), request, made, "plain", lambda line: None)
    return made


def run(*arguments: Any, folder: Path) -> str:
    """Return what Python prints in the environment of these programs."""
    environment = {**os.environ, "MPLBACKEND": "Agg", "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": ""}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run([PYTHON, *arguments], capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def seen(folder) -> dict[str, Any]:
    """What the programs see of each file."""
    names = ("square_cbed.hspy", "square_haadf.hspy", "square_com_x.hspy", "square_com_y.hspy", "square_haadf.tif",
             "square_cbed.emd", "square_haadf.emd", "plain_cbed.hspy", "plain_cbed.emd")  # fmt: skip
    script = ROOT / "tests/readers/read_exported.py"
    said = run(script, *(folder / name for name in names), folder=folder)
    found: dict[str, Any] = json.loads(said[said.index('{"square') :])
    return found


@pytest.fixture(scope="module")
def patterns(atom) -> np.ndarray:
    with patterns_of(OpenedResult(atom.result.merged), None, None) as found:
        return found.block(slice(None), slice(None))


def haadf(atom: OneAtom) -> np.ndarray:
    return OpenedResult(atom.result.merged).signal("haadf").values


def test_hyperspy_opens_patterns_with_axes_in_nm_and_mrad(seen, patterns):
    found = seen["square_cbed.hspy"]
    assert found["class"] == "Signal2D"
    assert found["order"] == ["y", "x", "ky", "kx"]
    assert found["navigation"] == ["x", "y"]
    assert np.array(found["values"]).transpose(1, 0, 3, 2) == pytest.approx(patterns)
    axes = found["axes"]
    assert [axes[name]["units"] for name in found["order"]] == ["nm", "nm", "mrad", "mrad"]
    assert (axes["x"]["scale"], axes["x"]["offset"]) == pytest.approx((0.08, 0.32), rel=1e-5)
    assert (axes["y"]["scale"], axes["y"]["offset"]) == pytest.approx((0.08, 0.3025), rel=1e-5)
    assert [axes[name]["scale"] for name in ("kx", "ky")] == pytest.approx([PIXEL, PIXEL], rel=1e-5)
    # HyperSpy chooses a position by its coordinates in nm.
    assert pytest.approx(patterns[1, 0]) == np.array(found["at"]).T


def test_hyperspy_knows_the_microscope(seen):
    for name in ("square_cbed.hspy", "square_haadf.hspy"):
        tem = seen[name]["tem"]
        assert (tem["beam_energy"], tem["convergence_angle"], tem["acquisition_mode"]) == (100.0, 25.0, "STEM")
        assert seen[name]["original"]["stemphony"]["depth_nm"] == pytest.approx(0.4)
    assert seen["square_haadf.hspy"]["original"]["stemphony"]["inner_mrad"] == pytest.approx(60.0)


@pytest.mark.parametrize("name", ["square_cbed.hspy", "plain_cbed.hspy"])
def test_hyperspy_sees_electrons_bent_to_the_atom(seen, name):
    centers = [np.array(seen[name][f"center_{axis}"]).T for axis in ("kx", "ky")]
    check_deflections(*centers, X, Y)


def test_hyperspy_opens_images(seen, atom):
    found = seen["square_haadf.hspy"]
    assert found["order"] == ["y", "x"]
    assert pytest.approx(haadf(atom)) == np.array(found["values"]).T
    centers = [np.array(seen[f"square_com_{axis}.hspy"]["values"]).T for axis in "xy"]
    check_deflections(*centers, X, Y)


def test_hyperspy_opens_the_tiff_with_its_scale(seen, atom):
    found = seen["square_haadf.tif"]
    assert pytest.approx(haadf(atom), rel=1e-6) == np.array(found["values"])[::-1].T
    # HyperSpy takes no unit from a TIFF of ImageJ but µm.
    assert [axis["scale"] for axis in found["axes"].values()] == pytest.approx([0.08, 0.08], rel=1e-5)


def test_py4dstem_opens_a_calibrated_data_cube(seen, patterns):
    found = seen["square_cbed.emd"]
    assert found["class"] == "DataCube"
    assert np.array(found["values"]) == pytest.approx(patterns)
    calibration = found["calibration"]
    assert (calibration["R"], calibration["R_units"]) == (pytest.approx(0.8, rel=1e-5), "A")
    assert (calibration["Q"], calibration["Q_units"]) == (pytest.approx(PIXEL, rel=1e-5), "mrad")
    assert calibration["origin"] == [12.0, 12.0]
    assert calibration["semiangle"] == pytest.approx(25 / PIXEL, rel=1e-4)
    assert not calibration["flip"]
    assert found["sampling"] == pytest.approx([0.8, PIXEL], rel=1e-4)  # as its phase methods take them: Å, mrad
    assert found["metadata"]["beam_energy_kev"] == 100.0


@pytest.mark.parametrize(
    ("name", "zero", "pixel"), [("square", (12, 12), (PIXEL, PIXEL)), ("plain", (12, 16), (PIXEL, 0.8 * PIXEL))]
)
def test_py4dstem_sees_electrons_bent_to_the_atom(seen, name, zero, pixel):
    found = seen[f"{name}_cbed.emd"]
    centers = [(np.array(found["center"][i]) - zero[i]) * pixel[i] for i in (0, 1)]
    check_deflections(*centers, X, Y)


def test_py4dstem_counts_in_pixels_what_it_has_no_single_size_for(seen):
    calibration = seen["plain_cbed.emd"]["calibration"]
    assert calibration["Q_units"] == "pixels"
    assert calibration["R_units"] == "A"


def test_py4dstem_opens_images(seen, atom):
    found = seen["square_haadf.emd"]
    assert np.array(found["values"]) == pytest.approx(haadf(atom))
    assert found["dim_names"] == ["x", "y"]
    assert found["dim_units"] == ["nm", "nm"]
    assert found["dims"][0] == pytest.approx(list(X), rel=1e-5)
    assert found["metadata"]["outer_mrad"] == pytest.approx(90.0)


def test_the_examples_of_the_page_run(folder, atom, tmp_path):
    page = (ROOT / "docs/how-to/export.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n((?:import hyperspy|import py4DSTEM).*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(examples) == 2
    for form in ("hspy", "emd"):
        export(OpenedResult(atom.result.merged), ExportRequest(form), tmp_path, "srtio3", lambda line: None)
    (tmp_path / "examples.py").write_text("import warnings\nwarnings.simplefilter('ignore')\n" + "\n".join(examples))
    run("examples.py", folder=tmp_path)
