"""Exported waves are complex numbers with axes; formats without them refuse. Killed exports leave nothing for long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from rsciio.hspy import file_reader
from stemphony.errors import ResultError
from stemphony.export.request import ExportRequest, export
from stemphony.results.opened import OpenedResult
from stemphony.store.claims import place
from support.experiments import FakeCampaign

WAVES = {"probe": True, "exit": [[0.0, 0.0], [0.5, 0.25]], "depth_profile": True, "columns": [[0.5, 0.5]]}


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> tuple[OpenedResult, np.ndarray]:
    """A result of two defoci, and its mean exit waves (defocus, position, x, y) [nm⁻¹]."""
    fake = FakeCampaign.of(tmp_path_factory.mktemp("waves"), waves=WAVES, probe={"defoci_nm": [0.0, 2.0]})
    fake.write_all()
    file = fake.merge()
    jobs = np.array([fake.signals(*pair).stored.exit_wave for pair in fake.pairs])  # type: ignore[union-attr]
    return OpenedResult(file), 10 * jobs.reshape(2, -1, *jobs.shape[1:]).mean(axis=1)


def written(result: OpenedResult, folder: Path, form: str, said: list[str] | None = None, **asked: Any) -> list[Path]:
    return export(result, ExportRequest(form, **asked), folder, "tiny", (said if said is not None else []).append)


@pytest.mark.slow
def test_a_zarr_store_has_complex_waves_with_axes(merged: tuple[OpenedResult, np.ndarray], tmp_path: Path):
    (path,) = written(merged[0], tmp_path, "zarr")
    found = xarray.open_zarr(path, group="waves")
    exit_wave = found["exit_wave"]
    assert exit_wave.dims == ("defocus", "phonon", "position", "y", "x")
    np.testing.assert_allclose(exit_wave.to_numpy()[:, 0].swapaxes(-1, -2), merged[1], rtol=1e-5)
    assert exit_wave.attrs["units"] == "nm-1"
    assert found["probe_x"].dims == ("position",)
    assert found["depth_section"].dims[-2:] == ("slice", "x")
    assert {"images", "waves"} <= {entry.name for entry in path.iterdir()}
    assert np.iscomplexobj(found["probe_wave"].to_numpy())


@pytest.mark.slow
def test_hspy_files_have_complex_waves_with_axes(merged: tuple[OpenedResult, np.ndarray], tmp_path: Path):
    paths = written(merged[0], tmp_path, "hspy", only="waves")
    assert {path.name for path in paths} >= {"tiny_exit_wave.hspy", "tiny_probe_wave.hspy", "tiny_depth_section.hspy"}
    (signal,) = file_reader(tmp_path / "tiny_exit_wave.hspy")
    np.testing.assert_allclose(np.asarray(signal["data"])[:, 0].swapaxes(-1, -2), merged[1], rtol=1e-5)
    axes = signal["axes"]
    assert [axis["name"] for axis in axes] == ["defocus", "phonon", "position", "y", "x"]
    assert [axis["navigate"] for axis in axes] == [True] * 3 + [False] * 2
    assert axes[-1]["units"] == "nm"
    assert axes[-1]["scale"] == pytest.approx(0.781 / 64, rel=1e-5)


def test_formats_without_complex_numbers_say_so(merged: tuple[OpenedResult, np.ndarray], tmp_path: Path):
    with pytest.raises(ResultError, match="--only: tiff holds no complex waves"):
        written(merged[0], tmp_path, "tiff", only="waves")
    said: list[str] = []
    written(merged[0], tmp_path, "tiff", said)
    assert "the waves of this result are left out: tiff does not hold them, zarr and hspy do" in said
    with pytest.raises(ResultError, match="waves are written whole"):
        written(merged[0], tmp_path, "hspy", only="waves", defocus_nm=0.0)


def test_a_result_without_waves_says_what_asks_for_them(tmp_path: Path):
    fake = FakeCampaign.of(tmp_path)
    fake.write_all()
    with pytest.raises(ResultError, match="has no waves"):
        written(OpenedResult(fake.merge()), tmp_path, "zarr", only="waves")


def test_the_next_export_removes_what_a_killed_one_left(merged: tuple[OpenedResult, np.ndarray], tmp_path: Path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    name = f".tiny_haadf.tif.{place()}.{ended.pid}-0123456789ab.tmp"
    store = tmp_path / f".tiny.zarr.{place()}.{ended.pid}-0123456789ab.tmp"
    store.mkdir()
    (store / ".zgroup").write_text("{}")
    (tmp_path / name).write_text("half")
    kept = [
        f".tiny_haadf.tif.{place()}.{os.getpid()}-0123456789ab.tmp",
        ".tiny_mine.tmp",
        name.replace("tiny", "other"),
    ]
    for other in kept:
        (tmp_path / other).write_text("")
    said: list[str] = []
    written(merged[0], tmp_path, "csv", said)
    assert "removed 2 unfinished files of an export that was killed" in said
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*kept, "tiny.csv"])
