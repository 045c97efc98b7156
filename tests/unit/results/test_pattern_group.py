"""Merged diffraction patterns with positions and depths of their own."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import Any

import netCDF4
import numpy as np
import pytest
import stemphony as st
from stemphony.compute.atoms import Atoms
from stemphony.compute.simulation import simulate
from stemphony.errors import ResultError
from stemphony.experiment.blurring import Blurring
from stemphony.experiment.scan_edges import ScanEdges
from stemphony.export.contents import patterns_of
from stemphony.results import pattern_group, signal_blocks
from stemphony.results.opened import OpenedResult
from stemphony.results.pattern_group import CbedBlock, _tiles, pattern_blocks, vacuum_disk
from support.experiments import FakeCampaign, experiment

LISTED = {"positions": [[0.0, 0.0], [0.5, 0.25], [0.75, 0.75]]}
DEPTHS = {"at_angstrom": [1.96, 7.8]}
"""The first is no depth of the images."""

LAST = {"every_angstrom": None}
"""The exit surface alone."""


def merged(folder: Any, cbed: dict[str, Any], edges: ScanEdges | None = None, **blocks: Any) -> FakeCampaign:
    fake = FakeCampaign.of(
        folder, edges, cbed={"enabled": True, "max_mrad": 20.0, "size": [5, 3], **cbed},
        frozen_phonon={"configurations": 2}, **blocks,
    )  # fmt: skip
    fake.write_all()
    fake.merge()
    return fake


def mean(fake: FakeCampaign) -> np.ndarray:
    return np.asarray(np.mean([fake.signals(*pair).cbed for pair in fake.pairs], axis=0))


@pytest.mark.slow
@pytest.mark.parametrize("scan", [{"points": [2, 2]}, {"x": [0.25, 0.75], "points": [4, 1]}, LISTED, None], ids=str)
def test_the_result_holds_them_at_their_own_places(tmp_path, scan):
    fake = merged(tmp_path, {"scan": scan, "depths": DEPTHS})
    with netCDF4.Dataset(fake.result.merged) as root:
        root.set_auto_mask(False)
        cbed = root["cbed"]
        stored = cbed["cbed_intensities"][0, :, :, 0, :, 0]
        assert stored == pytest.approx(mean(fake), rel=1e-5)
        assert cbed["cbed_slice"][:] == pytest.approx([0.195, 0.781], abs=1e-3)
        assert len(root["adf"]["adf_slice"]) == 2
        assert root["adf"]["adf_intensities"].shape[1:3] == (3, 4)
        places = fake.experiment.patterns.probe_positions / 10
        if scan is LISTED:
            assert cbed["cbed_probe_x"][:] == pytest.approx(places[..., 0], rel=1e-5)
        else:
            assert cbed["cbed_position_x"][:] == pytest.approx(places[:, 0, 0], rel=1e-5)


def test_patterns_of_a_list_are_read_and_exported_by_their_places(tmp_path):
    fake = merged(tmp_path, {"scan": LISTED, "depths": DEPTHS})
    expected, result = mean(fake), st.open(fake.result.root)
    at = 0.5 * 0.781, 0.25 * 0.781
    found = result.pattern(at, depth_nm=0.19525)
    assert found.values == pytest.approx(expected[1, 0, 0].T, rel=1e-5)
    assert float(found["x"]) == pytest.approx(at[0], rel=1e-5)
    assert result.pattern().values == pytest.approx(expected[:, 0, 1].mean(axis=0).T, rel=1e-5)
    with pytest.raises(ResultError, match=r"no pattern at \(0.1, 0.1\) nm. It has them at \(0, 0\)"):
        result.pattern((0.1, 0.1))
    with patterns_of(OpenedResult(fake.result.merged), 0.19525, None) as exported:
        assert exported.scan.kind == "positions"
        assert exported.block(slice(None), slice(None)) == pytest.approx(expected[:, :, 0], rel=1e-5)


def stored(fake: FakeCampaign, *names: str) -> list[np.ndarray]:
    with netCDF4.Dataset(fake.result.merged) as root:
        root.set_auto_mask(False)
        return [np.asarray(root["cbed"][name][:], dtype=float) for name in names]


@pytest.mark.parametrize("kept", [False, True])
def test_pacbed_and_its_error_are_those_of_the_scan(tmp_path, kept):
    fake = merged(tmp_path, {"depths": DEPTHS, "average_configurations": not kept})
    per_job = np.array([fake.signals(*pair).cbed.mean(axis=(0, 1)) for pair in fake.pairs])
    names = ["pacbed"] if kept else ["pacbed", "pacbed_standard_error"]
    pacbed, *errors = stored(fake, *names)
    assert pacbed[0, :, :, 0] == pytest.approx(per_job if kept else per_job.mean(axis=0)[None], rel=1e-5)
    if not kept:
        error = st.open(fake.result.root).pattern()["standard_error"]
        assert pytest.approx(errors[0][0, 0, -1, 0], rel=1e-6) == error.values.T
    for error in errors:
        assert error[0, 0, :, 0] == pytest.approx(per_job.std(axis=0, ddof=1) / np.sqrt(2), rel=1e-3)
        assert error.shape[2] == 2


def test_errors_of_each_pattern_are_stored_on_demand(tmp_path):
    fake = merged(tmp_path, {"scan": {"points": [2, 2]}, "standard_errors": True})
    jobs = np.array([fake.signals(*pair).cbed for pair in fake.pairs])
    (error,) = stored(fake, "cbed_intensities_standard_error")
    assert error[0, :, :, 0, :, 0] == pytest.approx(jobs.std(axis=0, ddof=1) / np.sqrt(2), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("block_bytes", [1.0, 1e9])
@pytest.mark.parametrize("scan", [None, {"points": [4, 6]}])
def test_the_source_blurs_patterns_as_it_blurs_images(tmp_path, monkeypatch, scan, block_bytes):
    monkeypatch.setattr(signal_blocks, "BLOCK_BYTES", block_bytes)
    edges = ScanEdges(repeats=(0, 0), pattern_repeats=(0, 0))
    fake = merged(tmp_path, {"scan": scan}, edges=edges, probe={"source_fwhm_nm": 0.2})
    exact = mean(fake)[:, :, -1]
    of = fake.experiment.patterns
    # On a window that repeats, the Gaussian multiplies the Fourier series over the positions.
    q = [np.fft.fftfreq(len(axis), axis[1] - axis[0]) for axis in (of.scan_x, of.scan_y)]
    sigma = 2.0 / np.sqrt(8 * np.log(2))
    transfer = np.exp(-2 * (np.pi * sigma) ** 2 * (q[0][:, None] ** 2 + q[1] ** 2))[:, :, None, None]
    blurred = np.fft.ifft2(np.fft.fft2(exact, axes=(0, 1)) * transfer, axes=(0, 1)).real
    got, pacbed, cut = stored(fake, "cbed_intensities", "pacbed", "source_is_cut")
    assert got[0, :, :, 0, -1, 0] == pytest.approx(blurred, rel=1e-5)
    assert abs(blurred / exact - 1).max() > 0.1
    assert pacbed[0, 0, -1, 0] == pytest.approx(blurred.mean(axis=(0, 1)), rel=1e-5)
    assert not cut.any()


@pytest.mark.parametrize(("side", "times"), [(64, 7), (256, 128)])
def test_blurred_patterns_are_read_as_often_as_the_limits_say(side, times):
    of = experiment(cbed={"enabled": True, "size": [128, 128]}, scan={"points": [side, side]}, depths=LAST)
    blocks = pattern_blocks(of, Blurring(1.0, (0, 0)), False, signal_blocks.BLOCK_BYTES)
    parts = [block.kx for block in blocks if isinstance(block, CbedBlock)]
    assert len(parts) == times
    assert (parts[0].start, parts[-1].stop) == (0, 128)
    assert [(one, other) for one, other in pairwise(parts) if one.stop != other.start] == []


def test_a_list_is_not_blurred_and_edges_are_marked(tmp_path):
    source = {"source_fwhm_nm": 0.2}
    listed = merged(tmp_path / "list", {"scan": LISTED}, probe=source)
    assert stored(listed, "cbed_intensities")[0][0, :, :, 0, :, 0] == pytest.approx(mean(listed), rel=1e-5)
    window = merged(tmp_path / "window", {"scan": {"x": [0.25, 0.5], "points": [4, 4]}}, probe=source)
    assert stored(window, "source_is_cut")[0].all()


CONE = {"precession": {"angle_mrad": 6.0, "steps": 3}}


@pytest.mark.parametrize("probe", [{}, {"tilt_mrad": [4.0, 2.0]}, CONE, {**CONE, "descan": True}], ids=str)
def test_the_disk_is_what_jobs_find_without_atoms(probe):
    of = experiment(cbed={"enabled": True, "pixel_mrad": 2.0, "max_mrad": 40.0}, probe=probe, scan={"points": [1, 1]})
    vacuum = Atoms(np.array([], dtype=str), np.empty((0, 3)), np.empty(0, dtype=int))
    found = simulate(of, vacuum, 25.0, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None)
    disk = vacuum_disk(of)
    assert disk == pytest.approx(found.cbed[0, 0, -1], rel=0, abs=1e-6)
    assert disk.sum() == pytest.approx(1, rel=1e-6)


def test_chunks_of_a_result_hold_parts_of_neighbouring_patterns(tmp_path):
    fake = merged(tmp_path, {"size": [34, 5]})
    with netCDF4.Dataset(fake.result.merged) as root:
        assert root["cbed"]["cbed_intensities"].chunking() == [1, 3, 4, 1, 1, 1, 17, 5]
    with netCDF4.Dataset(fake.result.job(*fake.pairs[0])) as job:
        assert job["cbed"]["cbed_intensities"].chunking() == [1, 1, 1, 1, 1, 1, 34, 5]


def test_tiles_hold_whole_chunks_and_each_position_once():
    for points, room in ([13, 30], 8), ([13, 30], 20 * 8), ([3, 30], 40 * 8), ([13, 2], 1e9), ([1, 50], 9 * 8):
        of = experiment(cbed={"enabled": True, "max_mrad": 20.0, "size": [1, 1]}, scan={"points": points}).patterns
        seen = np.zeros(points)
        for rows, columns in _tiles(of, room):
            seen[rows, columns] += 1
            assert rows.start % 4 == columns.start % 4 == 0
            assert seen[rows, columns].size * 8 <= max(room, 16 * 8)
        assert (seen == 1).all()


@pytest.mark.slow
def test_a_merge_holds_few_copies_of_one_block_of_patterns(tmp_path, monkeypatch):
    block = 1e6
    monkeypatch.setattr(signal_blocks, "BLOCK_BYTES", block)
    monkeypatch.setattr(pattern_group, "TILE_BYTES", block / 4)
    peaks = []
    for points in ([8, 32], [16, 32]):
        fake = FakeCampaign.of(
            tmp_path / str(points[0]), cbed={"enabled": True, "max_mrad": 40.0, "size": [32, 32]},
            scan={"points": points}, depths={"every_angstrom": None}, frozen_phonon={"configurations": 2},
        )  # fmt: skip
        fake.write_all()
        tracemalloc.start()
        fake.merge()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.15 * peaks[0], f"bytes held at once, with few and with many patterns: {peaks}"
    assert peaks[1] < 3.1 * block, f"{peaks[1] / block:.1f} blocks of patterns are held at once"
