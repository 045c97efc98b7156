"""Exported files hold the values of the result, with axes, units, names and the right orientation."""

from __future__ import annotations

import json
import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import netCDF4
import numpy as np
import pytest
import tifffile
from rsciio.hspy import file_reader
from stemphony import cli
from stemphony.errors import ResultError, StorageError
from stemphony.export import contents, emd, hspy, lazy, mrc, request, zarr_store
from stemphony.export.counting import Counting
from stemphony.export.request import ExportRequest, export
from stemphony.results.opened import OpenedResult
from support.arrays import differences
from support.experiments import FakeCampaign
from support.one_atom import OneAtom, check_deflections

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pandas
    import xarray

WEIGHTS = np.array([0.25, 0.75])
SEGMENTS = {"inner_mrad": 0, "outer_mrad": 20, "segments": 4}
APART = {"average_configurations": False, "average_defoci": False}


def merged(folder: Path, adf: dict[str, Any], cbed: dict[str, Any], **blocks: Any) -> FakeCampaign:
    fake = FakeCampaign.of(
        folder,
        **{
            "probe": {"defoci_nm": [2.5, 0.0], "defocus_weights": [1.0, 3.0]},
            "frozen_phonon": {"configurations": 3},
            "adf": {"center_of_mass": True, "segmented": {"seg": SEGMENTS}, **adf},
            "cbed": {"enabled": True, "size": [4, 5], "max_mrad": 20.0, **cbed},
            **blocks,
        },
    )
    fake.write_all()
    fake.merge()
    return fake


ONE = pytest.mark.parametrize("fake", ["averaged"], indirect=True)
"""For tests in which it does not matter what the result averages."""


@pytest.fixture(scope="module", params=["averaged", "kept apart"])
def fake(request, tmp_path_factory) -> FakeCampaign:
    apart = APART if request.param == "kept apart" else {}
    return merged(tmp_path_factory.mktemp("export"), apart, apart)


@pytest.fixture(scope="module")
def atom(tmp_path_factory) -> OneAtom:
    return OneAtom.in_folder(tmp_path_factory.mktemp("atom"))


def mean(fake: FakeCampaign, of: Any) -> np.ndarray:
    stacks = [[of(fake.signals(d.id, c)) for c in range(3)] for d in fake.campaign.defoci]
    return np.tensordot(WEIGHTS, np.mean(stacks, axis=1), axes=1)


def exported(fake: FakeCampaign, folder: Path, form: str, **asked: Any) -> list[Path]:
    return export(OpenedResult(fake.result.merged), ExportRequest(form, **asked), folder, "tiny", lambda line: None)


def opened(path: Path, group: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return xarray.open_zarr(path, group=group)


# --- Zarr ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_zarr_has_every_image_and_pattern_with_axes_in_nm_and_mrad(fake, tmp_path):
    (path,) = exported(fake, tmp_path, "zarr", depths_nm=None)
    images, cbed = opened(path, "images"), opened(path, "cbed")
    assert images["haadf"].dims == ("depth", "y", "x")
    assert cbed["cbed"].dims == ("depth", "y", "x", "ky", "kx")
    assert cbed["cbed"].dtype == np.float32
    expected = mean(fake, lambda s: s.rings[..., 1])
    assert images["haadf"].transpose("x", "y", "depth").values == pytest.approx(expected, rel=1e-5)
    expected = mean(fake, lambda s: s.cbed)
    assert cbed["cbed"].transpose("x", "y", "depth", "kx", "ky").values == pytest.approx(expected, rel=1e-5)
    assert cbed["x"].values == pytest.approx(0.781 / 3 * np.arange(3), rel=1e-5)
    assert cbed["y"].values == pytest.approx(0.781 / 4 * np.arange(4), rel=1e-5)
    assert [cbed[axis].attrs["units"] for axis in ("x", "y", "depth", "kx", "ky")] == ["nm"] * 3 + ["mrad"] * 2
    assert images["depth"].values == pytest.approx([0.3905, 0.781], rel=1e-5)
    assert {"bf", "haadf", "haadf_standard_error", "seg_0", "com_x", "com_y"} <= set(images)
    assert images["haadf"].attrs["inner_mrad"] == 40.0
    assert images["seg_1"].attrs["begin_deg"] == 90.0


@pytest.mark.slow
def test_zarr_says_energy_aperture_and_defoci(fake, tmp_path):
    (path,) = exported(fake, tmp_path, "zarr", only="images")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = xarray.open_datatree(path, engine="zarr")
    assert tree.attrs["beam_energy_kev"] == 200.0
    assert tree.attrs["semiangle_mrad"] == 20.0
    assert json.loads(tree.attrs["defoci_nm"]) == [2.5, 0.0]
    assert json.loads(tree.attrs["defocus_weights"]) == [0.25, 0.75]
    assert set(tree.children) == {"images"}


def test_one_defocus_is_exported_if_it_is_kept_apart(tmp_path):
    apart = merged(tmp_path / "result", APART, APART)
    (path,) = exported(apart, tmp_path, "zarr", defocus_nm=2.5)
    expected = np.mean([apart.signals("p2d500", c).cbed[:, :, -1] for c in range(3)], axis=0)
    cbed = opened(path, "cbed")
    assert cbed["cbed"][0].transpose("x", "y", "kx", "ky").values == pytest.approx(expected, rel=1e-5)
    assert cbed.attrs["defocus_nm"] == 2.5


def test_patterns_that_average_defoci_refuse_one_of_them_though_images_keep_them(tmp_path):
    mixed = merged(tmp_path / "result", APART, {})
    with pytest.raises(ResultError, match="keeps only the mean over the defoci"):
        exported(mixed, tmp_path, "zarr", defocus_nm=2.5)
    assert not list(tmp_path.glob("*.zarr"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("scan", ["line", "positions"])
def test_lines_and_lists_keep_the_places_of_their_positions(scan, tmp_path):
    places = {
        "line": {"line": {"begin": [0.0, 0.0], "end": [1.0, 0.5], "points": 5}, "points": None},
        "positions": {"positions": [[0.1, 0.2], [0.5, 0.3], [0.7, 0.9], [0.0, 0.4], [0.2, 0.2]], "points": None},
    }
    fake = merged(tmp_path / "result", {}, {}, scan=places[scan])
    (path,) = exported(fake, tmp_path, "zarr")
    cbed, images = opened(path, "cbed"), opened(path, "images")
    first = {"line": "distance", "positions": "position"}[scan]
    assert cbed["cbed"].dims == ("depth", first, "ky", "kx")
    assert images["haadf"].dims == ("depth", first)
    expected = fake.experiment.probe_positions[:, 0] / 10
    assert np.stack([cbed["x"], cbed["y"]], -1) == pytest.approx(expected, abs=1e-6)
    (table,) = exported(fake, tmp_path, "csv")
    rows = np.genfromtxt(table, delimiter=",", names=True, skip_header=_comments(table))
    assert np.stack([rows["x_nm"], rows["y_nm"]], -1) == pytest.approx(expected, abs=1e-6)
    assert rows["haadf"] == pytest.approx(images["haadf"][0].values, rel=1e-6)
    patterns = cbed["cbed"][0].transpose(first, "kx", "ky").values
    (signal,) = file_reader(exported(fake, tmp_path, "hspy", only="patterns")[0])
    assert [axis["name"] for axis in signal["axes"]] == [first, "ky", "kx"]
    assert not differences(signal["data"].transpose(0, 2, 1), patterns)
    with h5py.File(exported(fake, tmp_path, "emd", only="patterns")[0]) as file:
        assert not differences(file["cbed_root/cbed/data"][:, 0], patterns)
        unit = file["cbed_root/metadatabundle/calibration/R_pixel_units"][()]
        assert unit == {"line": b"A", "positions": b"pixels"}[scan]
    with mrcfile.open(exported(fake, tmp_path, "mrc", only="patterns")[0]) as file:
        assert not differences(file.data.transpose(0, 2, 1), patterns)
    for form in ("hspy", "emd"):
        exported(fake, tmp_path, form, detectors=["haadf"])
    with h5py.File(tmp_path / "tiny_haadf.emd") as file:
        assert file["haadf_root/haadf/data"][...] == pytest.approx(images["haadf"][0].values)
    assert file_reader(tmp_path / "tiny_haadf.hspy")[0]["data"] == pytest.approx(images["haadf"][0].values)
    with pytest.raises(ResultError, match="the scan is a line or a list, not a window: it has no image for mrc"):
        exported(fake, tmp_path, "mrc")
    with pytest.raises(ResultError, match="the scan is a line or a list, not a window: it has no image for tiff"):
        exported(fake, tmp_path, "tiff")
    with pytest.raises(ResultError, match="so a position has no area"):
        exported(fake, tmp_path, "csv", counting=Counting(dose=100.0), replaces=True)


# --- HSPY ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_hspy_has_one_signal_for_each_image_and_depth(fake, tmp_path):
    paths = exported(fake, tmp_path, "hspy", depths_nm=None)
    names = ("bf", "seg_0", "haadf", "com_x", "cbed")
    assert {f"tiny_{name}_{depth}nm.hspy" for name in names for depth in (0.3905, 0.781)} <= {p.name for p in paths}
    (signal,) = file_reader(tmp_path / "tiny_cbed_0.3905nm.hspy")
    assert [axis["name"] for axis in signal["axes"]] == ["y", "x", "ky", "kx"]
    assert [axis["navigate"] for axis in signal["axes"]] == [True, True, False, False]
    expected = mean(fake, lambda s: s.cbed[:, :, 0])
    assert signal["data"].transpose(1, 0, 3, 2) == pytest.approx(expected, rel=1e-5)
    assert signal["metadata"]["Acquisition_instrument"]["TEM"]["beam_energy"] == 200.0


# --- EMD -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_emd_has_the_axes_of_py4dstem_and_says_what_its_calibration_cannot(fake, tmp_path):
    said: list[str] = []
    export(OpenedResult(fake.result.merged), ExportRequest("emd"), tmp_path, "tiny", said.append)
    assert [line for line in said if not line.startswith("wrote")] == [
        "pixels of the patterns are not square (10.44 × 8.349 mrad) and steps of the scan differ (2.603 × 1.952 Å), "
        "but py4DSTEM knows only one size for both axes, so it counts in pixels. The axes in the file have the true "
        "values."
    ]
    with h5py.File(tmp_path / "tiny_cbed.emd") as file:
        cube = file["cbed_root/cbed"]
        assert cube.attrs["python_class"] == "DataCube"
        expected = mean(fake, lambda s: s.cbed[:, :, -1])
        assert cube["data"][...] == pytest.approx(expected, rel=1e-5)
        assert [cube[f"dim{i}"].attrs["units"] for i in range(4)] == ["nm", "nm", "mrad", "mrad"]
        assert cube["dim1"][...] == pytest.approx(0.781 / 4 * np.arange(4), rel=1e-5)
        calibration = file["cbed_root/metadatabundle/calibration"]
        assert calibration["Q_pixel_units"][()] == calibration["R_pixel_units"][()] == b"pixels"
        assert file["cbed_root/metadatabundle/stemphony/beam_energy_kev"][()] == 200.0


# --- MRC -----------------------------------------------------------------------------------------------------------


def test_mrc_has_images_with_pixels_in_angstrom(fake, tmp_path):
    exported(fake, tmp_path, "mrc", detectors=["haadf"])
    with mrcfile.open(tmp_path / "tiny_haadf.mrc") as file:
        assert pytest.approx(mean(fake, lambda s: s.rings[:, :, -1, 1]), rel=1e-5) == file.data.T
        assert (file.voxel_size.x, file.voxel_size.y) == pytest.approx((7.81 / 3, 7.81 / 4), rel=1e-5)
        assert file.is_single_image()
        assert "haadf (1) inner 40 mrad, outer 60 mrad" in file.get_labels()
    assert mrcfile.validate(tmp_path / "tiny_haadf.mrc")


def test_mrc_has_patterns_as_a_stack_with_x_fastest(fake, tmp_path):
    exported(fake, tmp_path, "mrc", only="patterns")
    expected = mean(fake, lambda s: s.cbed[:, :, -1])
    with mrcfile.open(tmp_path / "tiny_cbed.mrc") as file:
        assert file.is_image_stack()
        assert file.data.shape == (12, 5, 4)
        assert file.data.reshape(4, 3, 5, 4).transpose(1, 0, 3, 2) == pytest.approx(expected, rel=1e-5)
        assert file.header.dmean == pytest.approx(expected.mean(), rel=1e-5)
        assert file.header.rms == pytest.approx(expected.std(), rel=1e-5)
        labels = file.get_labels()
        assert "x 3 * 0.260333 nm, y 4 * 0.19525 nm; x runs fastest" in labels
        assert any(label.startswith("kx 4 * 10.43") and label.endswith("zero at pixel 2, 2") for label in labels), (
            labels
        )
        assert any(label.startswith("beam 200 keV, semiangle 20 mrad") for label in labels), labels
    assert mrcfile.validate(tmp_path / "tiny_cbed.mrc")


# --- TIFF ----------------------------------------------------------------------------------------------------------


def test_a_tiff_looks_like_the_figure_and_has_the_size_of_its_pixels(fake, tmp_path):
    paths = exported(fake, tmp_path, "tiff", detectors=["haadf", "haadf"], depths_nm=[0.78, 0.39, 0.4])
    assert [path.name for path in paths] == ["tiny_haadf_0.3905nm.tif", "tiny_haadf_0.781nm.tif"]
    expected = mean(fake, lambda s: s.rings[:, :, -1, 1])
    with tifffile.TiffFile(paths[1]) as file:
        rows, tags = file.asarray(), file.pages[0].tags
        described = json.loads(file.imagej_metadata["Info"])
        assert file.imagej_metadata["unit"] == "nm"
    assert rows.dtype == np.float32
    assert pytest.approx(expected, rel=1e-5) == rows[::-1].T  # the first row has the largest y
    steps = [tags[name].value[1] / tags[name].value[0] for name in ("XResolution", "YResolution")]
    assert steps == pytest.approx([0.781 / 3, 0.781 / 4], rel=1e-5)
    assert described["outer_mrad"] == 60.0
    assert described["beam_energy_kev"] == 200.0
    assert described["depth_nm"] == pytest.approx(0.781)


# --- CSV -----------------------------------------------------------------------------------------------------------


def _comments(path: Path) -> int:
    return sum(line.startswith("#") for line in path.read_text(encoding="utf-8").splitlines())


def test_a_table_has_a_row_for_each_position_and_depth(fake, tmp_path):
    (path,) = exported(fake, tmp_path, "csv", detectors=["haadf", (12.0, 48.0)], depths_nm=None)
    rows = np.genfromtxt(path, delimiter=",", names=True, skip_header=_comments(path))
    assert rows.dtype.names[:4] == ("depth_nm", "x_nm", "y_nm", "haadf")
    assert "ring_12_48" in rows.dtype.names
    assert len(rows) == 2 * 3 * 4
    expected = mean(fake, lambda s: s.rings[..., 1])
    for row in rows:
        x, y, depth = round(row["x_nm"] / 0.781 * 3), round(row["y_nm"] / 0.781 * 4), int(row["depth_nm"] > 0.5)
        assert row["haadf"] == pytest.approx(expected[x, y, depth], rel=1e-5)
    assert pandas.read_csv(path, comment="#")["haadf"].to_numpy() == pytest.approx(rows["haadf"])
    assert "# beam_energy_kev: 200\n" in path.read_text(encoding="utf-8")
    assert "inner_mrad 40; outer_mrad 60" in path.read_text(encoding="utf-8")


# --- orientation -----------------------------------------------------------------------------------------------------


def _centers(patterns: np.ndarray, kx: np.ndarray, ky: np.ndarray) -> list[np.ndarray]:
    total = patterns.sum(axis=(2, 3))
    return [np.einsum("xyab,a->xy", patterns, kx) / total, np.einsum("xyab,b->xy", patterns, ky) / total]


@pytest.mark.slow
def test_a_probe_beside_an_atom_is_bent_to_it_in_every_format(atom, tmp_path):
    (path,) = exported(atom, tmp_path, "zarr")
    cbed, images = opened(path, "cbed"), opened(path, "images")
    assert cbed.sizes["kx"] != cbed.sizes["ky"]
    patterns = cbed["cbed"][0]
    total = patterns.sum(("kx", "ky"))
    centers = [((patterns * cbed[k]).sum(("kx", "ky")) / total).transpose("x", "y").values for k in ("kx", "ky")]
    check_deflections(*centers, cbed["x"].values, cbed["y"].values)
    centers = [images[name][0].transpose("x", "y").values for name in ("com_x", "com_y")]
    check_deflections(*centers, images["x"].values, images["y"].values)

    (signal,) = file_reader(exported(atom, tmp_path, "hspy", only="patterns")[0])
    along = {axis["name"]: axis["offset"] + axis["scale"] * np.arange(axis["size"]) for axis in signal["axes"]}
    check_deflections(*_centers(signal["data"].transpose(1, 0, 3, 2), along["kx"], along["ky"]), along["x"], along["y"])

    with h5py.File(exported(atom, tmp_path, "emd", only="patterns")[0]) as file:
        cube = file["cbed_root/cbed"]
        x, y, kx, ky = (cube[f"dim{i}"][...] for i in range(4))
        check_deflections(*_centers(cube["data"][...], kx, ky), x, y)

    with mrcfile.open(exported(atom, tmp_path, "mrc", only="patterns")[0]) as file:
        stack = file.data.reshape(5, 3, len(ky), len(kx)).transpose(1, 0, 3, 2)
        check_deflections(*_centers(stack, kx, ky), x, y)

    exported(atom, tmp_path, "tiff")
    centers = [tifffile.imread(tmp_path / f"tiny_com_{axis}.tif")[::-1].T for axis in "xy"]
    check_deflections(*centers, images["x"].values, images["y"].values)

    (path,) = exported(atom, tmp_path, "csv")
    rows = np.genfromtxt(path, delimiter=",", names=True, skip_header=_comments(path))
    rows = rows[np.lexsort((rows["y_nm"], rows["x_nm"]))].reshape(3, 5)
    check_deflections(rows["com_x"], rows["com_y"], rows["x_nm"][:, 0], rows["y_nm"][0])


# --- memory ----------------------------------------------------------------------------------------------------------


def test_patterns_are_read_in_parts_of_a_fixed_size(fake, tmp_path, monkeypatch):
    """Neither one reading from the file nor one chunk grows with the number of positions or configurations."""
    result = OpenedResult(fake.result.merged)
    with contents.patterns_of(result, None, None) as patterns:
        whole = patterns.block(slice(None), slice(None))
        stored = patterns._variable.shape[0] * patterns._variable.shape[3] * 4 * 5 * 4
        monkeypatch.setattr(contents, "READ_BYTES", 2 * stored)
        assert patterns.at_once == 2
        assert not differences(patterns.block(slice(None), slice(None)), whole)
        parts = list(patterns.blocks())
        assert {part.shape[:2] for _, _, part in parts} == {(1, 2)}
        for x, y, part in [*parts, *patterns.blocks(y_outermost=True)]:
            assert not differences(part, whole[x, y])
        monkeypatch.setattr(lazy, "CHUNK_BYTES", 2 * 4 * 5 * 4)
        assert lazy.PatternRows(patterns).chunks == (1, 2, 5, 4)
        rows = lazy.lazy(patterns)
        assert rows.chunks == ((1,) * 4, (2, 1), (5,), (4,))
        with lazy.one_after_the_other():
            assert not differences(rows.compute(), whole.transpose(1, 0, 3, 2))


class _Zeros:
    """Patterns of a large result, without the file."""

    shape = (1, 48, 64, 1, 1, 1, 96, 112)
    read = 0

    def __getitem__(self, key: tuple[Any, ...]) -> np.ndarray:
        number = key[2].stop - key[2].start
        self.read += number
        return np.zeros((1, 1, number, 1, 1, 96, 112), np.float32)


@pytest.mark.slow
@ONE
@pytest.mark.parametrize("form", ["zarr", "hspy", "emd", "mrc"])
def test_patterns_are_written_in_constant_memory(fake, form, tmp_path):
    """Writing 132 MB of patterns takes less than 60 MB."""
    result, zeros = OpenedResult(fake.result.merged), _Zeros()
    x, y = (contents.Axis(name, 0.1 * np.arange(n), "nm", "") for name, n in (("x", 48), ("y", 64)))
    kx, ky = (contents.Axis(name, 1.0 * np.arange(n), "mrad", "") for name, n in (("kx", 96), ("ky", 112)))
    patterns = contents.Patterns(
        contents.ExportedScan("window", x, y, None), kx, ky, 1.0, 0.0, np.dtype("f4"), {}, zeros, 0, result,
        replace(result.mean, defoci_nm=np.zeros(1), weights=np.ones(1)), Counting(),
    )  # fmt: skip
    assert 4 * np.prod(patterns.shape) > 130e6
    known = contents.facts(result)
    path = tmp_path / f"large.{form}"
    tracemalloc.start()
    if form == "zarr":
        zarr_store.write(path, [], [patterns], known)
    else:
        {"hspy": hspy, "emd": emd, "mrc": mrc}[form].write_patterns(path, patterns, known)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert zeros.read == 48 * 64
    assert peak < 60e6, f"the export held {peak / 1e6:.0f} MB at once"


# --- noise -----------------------------------------------------------------------------------------------------------


def test_noise_does_not_depend_on_blocks_and_differs_between_images_and_positions(fake, monkeypatch):
    result, counting = OpenedResult(fake.result.merged), Counting(electrons=500.0, seed=3)
    with contents.patterns_of(result, None, None, counting) as patterns:
        whole = patterns.block(slice(None), slice(None))
        assert patterns.attributes == {"electrons_per_position": 500.0, "seed": 3}
        again = [patterns.block(slice(i, i + 1), slice(j, j + 1))[0, 0] for i in range(3) for j in range(4)]
    assert not differences(np.array(again).reshape(whole.shape), whole)
    with contents.patterns_of(result, None, None) as patterns:
        clean = patterns.block(slice(None), slice(None)).astype(float)
    counts = 500.0 * whole.astype(float)
    assert counts == pytest.approx(np.round(counts), abs=1e-3)
    assert counts.mean() == pytest.approx(500.0 * clean.mean(), abs=5 * np.sqrt(500.0 * clean.mean() / clean.size))
    deviations = ((whole - clean) / np.sqrt(clean / 500.0)).reshape(12, -1)
    assert np.abs(np.corrcoef(deviations) - np.eye(12)).max() < 0.9


def test_a_dose_counts_electrons_for_the_area_of_a_scan_step(fake, tmp_path):
    electrons = 100.0 * (7.81 / 3) * (7.81 / 4)
    (path,) = exported(fake, tmp_path, "csv", detectors=["haadf"], counting=Counting(dose=100.0))
    counts = np.genfromtxt(path, delimiter=",", names=True, skip_header=_comments(path))["haadf"] * electrons
    assert counts == pytest.approx(np.round(counts), abs=1e-3)
    assert f"electrons_per_position {electrons:.5g}"[:30] in path.read_text(encoding="utf-8")
    (same,) = exported(
        fake, tmp_path, "csv", detectors=["haadf"], counting=Counting(electrons=electrons), replaces=True
    )
    again = np.genfromtxt(same, delimiter=",", names=True, skip_header=_comments(same))["haadf"] * electrons
    assert again == pytest.approx(counts, abs=1e-2)


def test_noise_leaves_out_what_no_detector_counts(fake, tmp_path):
    result, counting = OpenedResult(fake.result.merged), Counting(electrons=10.0)
    found = contents.images_of(result, counting=counting)
    assert {image.name for image in found} == {"bf", "haadf", "seg_0", "seg_1", "seg_2", "seg_3"}
    assert [image for image in found if image.errors is not None] == []
    with pytest.raises(ResultError, match="com is no number of electrons"):
        contents.images_of(result, ["com"], counting=counting)


def test_nothing_is_counted_where_a_preview_has_no_value():
    with pytest.raises(ResultError, match="some values are not numbers"):
        Counting(electrons=10.0).counted(np.array([0.1, np.nan]), "haadf", 1.0)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@ONE
def test_the_command_writes_here_and_says_what_it_wrote(fake, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", str(fake.result.root), "--to", "tiff", "--detector", "haadf", "12-48"]) == 0
    assert capsys.readouterr().out == "wrote tiny_haadf.tif\nwrote tiny_ring_12_48.tif\n"
    assert cli.main(["export", str(fake.result.merged), "--to", "csv", "--dose", "100"]) == 0
    assert "noise is added to what detectors count" in capsys.readouterr().out
    assert cli.main(["export", str(fake.result.root), "--to", "csv"]) == 1
    assert "tiny.csv exists already. Give --replace to overwrite it" in capsys.readouterr().err
    assert cli.main(["export", str(fake.result.root), "--to", "csv", "--replace", "--depth", "all"]) == 0


@ONE
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--to", "tiff", "--only", "patterns"],
            "tiff holds images only. Patterns go to zarr, hspy, emd, mrc.",
        ),
        (["--to", "zarr", "--depth", "5"], "has no depth of 5 nm"),
        (["--to", "zarr", "--depth", "deep"], "--depth: got deep; give depths in nm, or `all`."),
        (["--to", "csv", "--detector", "adf"], "has no detector 'adf'"),
        (["--to", "csv", "--dose", "-1"], "--dose: got -1; a positive number is needed."),
        (["--to", "csv", "--dose", "1", "--electrons-per-position", "1"], "say the same; give one of them."),
        (["--to", "csv", "--dose", "1e16"], "--dose: got 1e+16; more than 1e+15 electrons have no noise."),
        (["--to", "csv", "--seed", "-1"], "--seed: got -1; 0 or more is needed."),
        (["--to", "csv", "--output", "nowhere"], "nowhere is no folder. Create it"),
        (["--to", "zarr", "--only", "patterns", "--detector", "haadf"], "--detector has no effect on patterns."),
    ],
)
def test_mistakes_are_named(fake, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", str(fake.result.root), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_results_without_patterns_or_images_say_so(tmp_path):
    images = merged(tmp_path / "images", {}, {"enabled": False})
    with pytest.raises(ResultError, match="has no diffraction patterns"):
        exported(images, tmp_path, "zarr", only="patterns")
    patterns = merged(tmp_path / "patterns", {"enabled": False, "center_of_mass": False, "segmented": {}}, {})
    with pytest.raises(ResultError, match="has diffraction patterns only, and tiff holds images only"):
        exported(patterns, tmp_path, "tiff")
    (path,) = exported(patterns, tmp_path, "zarr")
    assert "cbed" in opened(path, "cbed")


@ONE
def test_a_missing_package_is_named_with_what_installs_it(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(request, "find_spec", lambda name: None if name == "zarr" else True)
    with pytest.raises(
        ResultError, match=r"needs zarr, .*python -m pip install zarr .*conda install -c conda-forge zarr"
    ):
        exported(fake, tmp_path, "zarr")


class _Full:
    """A full disk, as h5py reports it."""

    @staticmethod
    def file_writer(*_given: Any, **_settings: Any) -> None:
        raise RuntimeError("Unable to flush raw data (file write failed: errno = 28, error message = 'No space left')")


@ONE
@pytest.mark.parametrize("only", ["images", "patterns"])
def test_a_full_disk_is_named(fake, only, tmp_path, monkeypatch):
    monkeypatch.setattr("rsciio.hspy.file_writer", _Full.file_writer)
    with pytest.raises(StorageError, match="cannot be written: the disk is full"):
        exported(fake, tmp_path, "hspy", only=only)
    assert list(tmp_path.iterdir()) == []


@ONE
def test_an_error_of_a_writer_does_not_blame_the_result(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(emd, "_calibration", lambda patterns, facts: {}["missing"])
    with pytest.raises(KeyError, match="missing"):
        exported(fake, tmp_path, "emd", only="patterns")


def test_a_preview_is_marked_in_what_is_exported(tmp_path):
    fake = merged(tmp_path / "result", {}, {})
    with netCDF4.Dataset(fake.result.merged, "a") as root:
        root.setncatts({"partial": np.int32(1), "num_pairs_in": np.int32(4), "num_pairs_missing": np.int32(2)})
    said: list[str] = []
    export(OpenedResult(fake.result.merged), ExportRequest("csv"), tmp_path, "tiny", said.append)
    assert said[0] == "PREVIEW of an unfinished run: 4 of 6 pairs"
    assert "# preview: PREVIEW of an unfinished run" in (tmp_path / "tiny.csv").read_text(encoding="utf-8")


@pytest.mark.slow
@ONE
def test_only_an_earlier_export_is_replaced(fake, tmp_path):
    (tmp_path / "tiny.zarr").mkdir()
    (tmp_path / "tiny.zarr" / "mine").touch()
    with pytest.raises(StorageError, match="is no folder of an earlier export"):
        exported(fake, tmp_path, "zarr", replaces=True)
    assert (tmp_path / "tiny.zarr" / "mine").exists()
    (tmp_path / "b").mkdir()
    for _ in range(2):
        (path,) = exported(fake, tmp_path / "b", "zarr", replaces=True)
    assert [entry.name for entry in (tmp_path / "b").iterdir()] == [path.name]
