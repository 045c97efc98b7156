"""Files with the sensitivity of a detector: formats, orientation and refusals."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from stemphony import provenance
from stemphony.errors import ConfigError
from stemphony.experiment import campaign, sensitivity_files
from stemphony.experiment.campaign import InputFiles
from stemphony.experiment.model import MRAD, Experiment, detector_names
from support.experiments import CELL, FILES, tiny

PICTURE = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]])  # three rows, the first at the top
# kx along the rows, ky upwards
AS_MAP = [[9, 5, 1], [10, 6, 2], [11, 7, 3], [12, 8, 4]]


def written(folder: Path, name: str, content: bytes | str) -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def test_a_named_pipe_does_not_block_the_reading(tmp_path):
    os.mkfifo(tmp_path / "map.npy")
    with pytest.raises(ConfigError, match="no ordinary file"):
        sensitivity_files.read_one("haadf", tmp_path / "map.npy")


def test_a_tiff_is_a_picture_with_ky_upwards(tmp_path):
    tifffile.imwrite(tmp_path / "map.tif", PICTURE.astype("f8"), photometric="minisblack")
    np.testing.assert_array_equal(sensitivity_files.read_one("d", tmp_path / "map.tif"), AS_MAP)


def test_an_array_has_kx_first(tmp_path):
    file = tmp_path / "map.npy"
    np.save(file, np.array(AS_MAP))
    np.testing.assert_array_equal(sensitivity_files.read_one("d", file), AS_MAP)


@pytest.mark.parametrize(
    "text",
    [
        "0,0.5\n10.5,1\n40,0\n",
        "angle_mrad,sensitivity\n0,0.5\n10.5,1\n40,0\n",
        "# measured\nmrad s\n0 0.5\n10.5\t1\n\n40;0  # end\n",
        "\ufeffmrad;s\r\n0;0.5\r\n10.5;1\r\n40;0\r\n",
    ],
)
def test_a_profile_has_two_columns(text, tmp_path):
    file = written(tmp_path, "profile.csv", text)
    assert sensitivity_files.read_one("d", file).tolist() == [[0, 0.5], [10.5, 1], [40, 0]]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "0,1\n5,2,3\n", "line 2 has 3 columns"),
        ("a.csv", "0,1\nx,2\n", "line 2 has text"),
        ("a.csv", "0,1\n", "two or more lines"),
        ("a.csv", "0,1\n5,1\n5,0\n", "ascend"),
        ("a.csv", "-1,1\n5,1\n", "not negative"),
        ("a.csv", "0,-1\n5,1\n", "negative or not finite"),
        ("a.csv", "0,nan\n5,1\n", "negative or not finite"),
        ("a.csv", "0,0\n5,0\n", "0 everywhere"),
        ("a.csv", b"\xff\xfe\x00", "cannot be read"),
        ("a.png", "x", "allowed are .csv"),
        ("a.npy", b"no array", "cannot be read"),
        ("a.tif", b"no picture", "it is no TIFF"),
    ],
)
def test_a_file_that_is_no_sensitivity_is_refused(name, content, says, tmp_path):
    file = written(tmp_path, name, content)
    with pytest.raises(ConfigError, match=r"adf\.detectors\.d\.sensitivity") as refusal:
        sensitivity_files.read_one("d", file)
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    "values",
    [np.ones(5), np.ones((3, 3, 3)), np.ones((1, 5)), np.ones((3, 3), complex), np.array([[1, None], [2, 3]])],
)
def test_arrays_of_other_shapes_and_kinds_are_refused(values, tmp_path):
    file = tmp_path / "a.npy"
    np.save(file, values, allow_pickle=values.dtype == object)
    with pytest.raises(ConfigError, match="cannot be read"):
        sensitivity_files.read_one("d", file)


def test_a_map_needs_pixels_and_a_profile_has_none(tmp_path):
    def adf(**keys):
        return tiny(adf={"detectors": {"d": {"inner_mrad": 1, "outer_mrad": 9, "sensitivity": "f", **keys}}})["adf"]

    with pytest.raises(ConfigError, match=r"pixel_mrad.*is missing"):
        sensitivity_files.require_pixels(adf(), {"d": tmp_path / "a.npy"})
    with pytest.raises(ConfigError, match=r"pixel_mrad.*is a profile"):
        sensitivity_files.require_pixels(adf(pixel_mrad=1), {"d": tmp_path / "a.csv"})
    sensitivity_files.require_pixels(adf(pixel_mrad=1), {"d": tmp_path / "a.TIF"})
    with pytest.raises(ConfigError, match=r"pixel_mrad.*without `sensitivity`"):
        tiny(adf={"detectors": {"d": {"inner_mrad": 1, "outer_mrad": 9, "pixel_mrad": 1}}})
    with pytest.raises(ConfigError, match="inner must be smaller"):
        tiny(adf={"detectors": {"d": {"inner_mrad": 9, "outer_mrad": 9}}})


@pytest.mark.parametrize(
    ("values", "pixel", "known"),
    [([[5.0, 1.0], [60.0, 1.0]], None, "5 to 60"), ([[0.0, 1.0], [29.0, 1.0]], None, "0 to 29"),
     (np.ones((20, 30)), 2.0, "0 to 20")],
)  # fmt: skip
def test_a_ring_beyond_its_sensitivity_is_refused(values, pixel, known):
    entry = {"inner_mrad": 4, "outer_mrad": 30, "sensitivity": "f", "pixel_mrad": pixel}
    with pytest.raises(ConfigError, match=f"known from {known} mrad only"):
        Experiment.of(tiny(adf={"detectors": {"d": entry}}), CELL, None, {"d": np.array(values)})


DETECTORS = {"z": [10, 20], "b": {"inner_mrad": 0, "outer_mrad": 9, "sensitivity": "some/b.csv"},
             "a": {"inner_mrad": 30, "outer_mrad": 50}}  # fmt: skip


def test_rings_come_first_and_a_map_without_a_file_is_a_list():
    config = tiny(adf={"detectors": DETECTORS})
    assert detector_names(config["adf"]) == ("a", "z", "b")
    made = Experiment.of(config, CELL, None, {"b": np.array([[0, 1.0], [10, 3.0]])})
    assert made.images == ("a", "z", "b")
    assert made.rings == {"a": (30 * MRAD, 50 * MRAD), "z": (10 * MRAD, 20 * MRAD)}
    np.testing.assert_allclose(made.sensitive["b"].values, [[0, 1], [0.01, 3]])
    params = campaign.plan(config, InputFiles("5" * 64, sensitivities={"b": "7" * 64})).common_params
    assert params["adf"]["detectors"]["a"] == [30.0, 50.0]
    assert params["adf"]["detectors"]["b"]["sensitivity"] == "7" * 64


def test_the_content_of_a_file_decides_the_jobs_and_its_path_nothing():
    def digests(path: str, sha256: str) -> set[str]:
        detectors = {**DETECTORS, "b": {**DETECTORS["b"], "sensitivity": path}}
        files = InputFiles("5" * 64, sensitivities={"b": sha256})
        planned = campaign.plan(tiny(adf={"detectors": detectors}), files)
        return {provenance.digest(planned.job_params("p0d000", 0)), planned.specimen_params["specimen_digest"]}

    assert digests("a.csv", "7" * 64) == digests("elsewhere/b.csv", "7" * 64)
    assert not digests("a.csv", "7" * 64) & digests("a.csv", "8" * 64)


def test_without_sensitivities_no_digest_changes():
    plain = {"a": [30.0, 50.0]}
    as_map = {"a": {"inner_mrad": 30, "outer_mrad": 50}}
    first, second = (campaign.plan(tiny(adf={"detectors": d}), FILES) for d in (plain, as_map))
    assert first.common_params == second.common_params
    assert "sensitivities" not in first.specimen_params


def test_an_edited_file_is_noticed(tmp_path):
    file = written(tmp_path, "p.csv", "0,1\n50,1\n")
    planned = {"d": sensitivity_files.file_digest("d", file)}
    assert sensitivity_files.read_planned({"d": file}, planned)["d"].tolist() == [[0, 1], [50, 1]]
    file.write_text("0,1\n50,0.9\n")
    with pytest.raises(ConfigError, match="was edited after the campaign was planned"):
        sensitivity_files.read_planned({"d": file}, planned)
    with pytest.raises(ConfigError, match="cannot be read"):
        sensitivity_files.file_digest("d", tmp_path / "none.csv")
