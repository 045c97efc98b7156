"""The merge: averages and errors compared with plain NumPy, and input that it must refuse."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import netCDF4
import numpy as np
import pytest
from stemphony import paths, provenance
from stemphony.errors import DamagedResultError, StemphonyError
from stemphony.paths import ResultPaths
from stemphony.results import averages, batch_processes
from stemphony.results import merge as module
from stemphony.results import signal_blocks as block_module
from stemphony.results.job_check import checked
from stemphony.results.layout import read_texts
from support.arrays import differences
from support.experiments import FILES, FakeCampaign, planned

NAMES = ("bf", "haadf")
DEFOCI = [4.0, -1.0, 2.0]
WEIGHTS = np.array([0.2, 0.5, 0.3])
CONFIGURATIONS = 4
PROBE = {"defoci_nm": DEFOCI, "defocus_weights": [2, 5, 3]}


def campaign_of(folder: Path, **blocks: Any) -> FakeCampaign:
    """Three defoci and four configurations, in double precision."""
    settings: dict[str, Any] = {
        "probe": PROBE,
        "simulation": {"precision": "double"},
        "frozen_phonon": {"configurations": CONFIGURATIONS},
    }
    for block, values in blocks.items():
        settings[block] = {**settings.get(block, {}), **values}
    return FakeCampaign.of(folder, **settings)


@pytest.fixture
def fake(tmp_path):
    return campaign_of(tmp_path)


def stack(fake: FakeCampaign, of: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Signals of all jobs: (defocus, configuration, x, y, depth, …)."""
    signals = {pair: of(fake.signals(*pair)) for pair in fake.pairs}
    return np.array([[signals[d.id, c] for c in range(CONFIGURATIONS)] for d in fake.campaign.defoci])


def ring(index: int) -> Callable[[Any], np.ndarray]:
    return lambda signals: signals.rings[..., index]


def mean(values: np.ndarray, over_configurations: bool, over_defoci: bool) -> np.ndarray:
    """Averages with all axes, by a loop over jobs."""
    defoci, configurations = values.shape[:2]
    shape = (1 if over_defoci else defoci, 1 if over_configurations else configurations)
    result = np.zeros(shape + values.shape[2:])
    for d in range(defoci):
        for c in range(configurations):
            share = (WEIGHTS[d] if over_defoci else 1.0) * (1 / configurations if over_configurations else 1.0)
            result[0 if over_defoci else d, 0 if over_configurations else c] += share * values[d, c]
    return result


def image(root: netCDF4.Dataset, name: str) -> np.ndarray:
    """An image as (defocus, configuration, x, y, depth)."""
    return np.moveaxis(np.asarray(root["images"][name][...]), 2, -1)


# --- averages -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("over_configurations", [True, False])
@pytest.mark.parametrize("over_defoci", [True, False])
def test_averages_equal_those_of_a_loop_over_jobs(tmp_path, over_configurations, over_defoci):
    averages = {"average_configurations": over_configurations, "average_defoci": over_defoci}
    fake = campaign_of(tmp_path, adf=averages, cbed={"enabled": True, "size": [4, 5], "max_mrad": 20.0, **averages})
    fake.write_all()
    choice = (over_configurations, over_defoci)
    with netCDF4.Dataset(fake.merge()) as root:
        for index, name in enumerate(NAMES):
            assert image(root, name) == pytest.approx(mean(stack(fake, ring(index)), *choice), rel=1e-12)
        total = mean(stack(fake, lambda s: s.total), *choice)
        assert image(root, "total_intensity") == pytest.approx(total, rel=1e-12)
        bins = np.moveaxis(np.asarray(root["adf"]["adf_intensities"][..., 0, :]), 3, 1)
        np.testing.assert_allclose(bins, mean(stack(fake, lambda s: s.bins), *choice), rtol=1e-12, atol=1e-12)
        cbed = np.moveaxis(np.asarray(root["cbed"]["cbed_intensities"][..., 0, :, :]), 3, 1)
        np.testing.assert_allclose(cbed, mean(stack(fake, lambda s: s.cbed), *choice), rtol=1e-12, atol=1e-12)

        expected_defoci = [4.0 * 0.2 - 1.0 * 0.5 + 2.0 * 0.3] if over_defoci else DEFOCI
        expected_configurations = [0] if over_configurations else list(range(CONFIGURATIONS))
        for group in ("adf", "cbed"):
            assert root[group][f"{group}_defocus"][:].tolist() == pytest.approx(expected_defoci)
            assert root[group][f"{group}_phonon"][:].tolist() == expected_configurations
        assert root["params"]["defocus"][:].tolist() == DEFOCI
        assert root["params"]["defocus_weights"][:].tolist() == pytest.approx(WEIGHTS)


@pytest.mark.slow
def test_adf_and_cbed_have_averages_of_their_own(tmp_path):
    fake = campaign_of(
        tmp_path,
        adf={"average_configurations": True, "average_defoci": False},
        cbed={"enabled": True, "size": [4, 5], "average_configurations": False, "average_defoci": True},
    )
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        assert root["images"]["bf"].shape[:2] == (3, 1)
        assert root["cbed"]["cbed_intensities"].shape[0] == 1
        assert root["cbed"]["cbed_intensities"].shape[3] == 4


@pytest.mark.slow
@pytest.mark.parametrize("blocks_of_bytes", [1.0, 300.0, 1e9])
def test_averages_do_not_depend_on_the_blocks_they_are_made_in(fake, tmp_path, monkeypatch, blocks_of_bytes):
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        whole = {name: image(root, name) for name in (*NAMES, "haadf_standard_error")}
    monkeypatch.setattr(block_module, "BLOCK_BYTES", blocks_of_bytes)
    with netCDF4.Dataset(fake.merge()) as root:
        for name, values in whole.items():
            assert not differences(image(root, name), values)


# The kept axes decide the order in which jobs are read, and the size of a batch.
CUTS = {
    "averaged": {},
    "configurations kept": {"adf": {"average_configurations": False}},
    "defoci kept": {"adf": {"average_defoci": False}},
    "all kept": {"adf": {"average_defoci": False, "average_configurations": False}},
    "shared configurations": {"frozen_phonon": {"configurations": CONFIGURATIONS, "independent_defoci": False}},
}


def signals_of(file: Path) -> dict[str, np.ndarray]:
    with netCDF4.Dataset(file) as root:
        return {
            f"{group}/{name}": np.asarray(variable[...])
            for group in ("adf", "images", "cbed", "AMBER")
            for name, variable in root[group].variables.items()
        }


@pytest.fixture
def _quick_processes(monkeypatch):
    """Processes of the merge come from a fork server, which imports the package once. A new process takes a second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["stemphony.results.batches"])
    forks = SimpleNamespace(get_context=lambda _: context, parent_process=multiprocessing.parent_process)
    monkeypatch.setattr(batch_processes, "multiprocessing", forks)


@pytest.mark.slow
def test_new_processes_give_the_same_result_bit_for_bit(tmp_path, monkeypatch):
    same_with_several_processes(tmp_path, monkeypatch, "averaged")


@pytest.mark.slow
@pytest.mark.usefixtures("_quick_processes")
@pytest.mark.parametrize("cut", ["configurations kept", "shared configurations"])
def test_several_processes_give_the_same_result_bit_for_bit(tmp_path, monkeypatch, cut):
    same_with_several_processes(tmp_path, monkeypatch, cut)


def same_with_several_processes(tmp_path, monkeypatch, cut):
    monkeypatch.setattr(module, "SEVERAL_PROCESSES_FROM_S", 0)
    monkeypatch.setattr(averages, "BATCH_UNITS", 3)
    fake = campaign_of(tmp_path, cbed={"enabled": True, "size": [4, 5], "max_mrad": 20.0}, **CUTS[cut])
    fake.write_all()
    alone = signals_of(fake.merge())
    side_by_side = signals_of(fake.merge(processes=2))
    assert alone.keys() == side_by_side.keys()
    for name, values in alone.items():
        assert np.array_equal(values, side_by_side[name], equal_nan=values.dtype.kind == "f"), name


@pytest.mark.slow
@pytest.mark.parametrize("blocks", CUTS.values(), ids=CUTS.keys())
def test_small_batches_give_the_same_averages_as_large_ones(tmp_path, monkeypatch, blocks):
    fake = campaign_of(tmp_path, cbed={"enabled": True, "size": [4, 5], "max_mrad": 20.0}, **blocks)
    fake.write_all()
    whole = signals_of(fake.merge())
    monkeypatch.setattr(averages, "BATCH_UNITS", 2)
    for name, values in signals_of(fake.merge()).items():
        if values.dtype.kind == "f":
            # `pytest.approx` takes 20 µs for each value.
            np.testing.assert_allclose(values, whole[name], rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.slow
@pytest.mark.usefixtures("_quick_processes")
def test_a_bad_file_in_another_process_is_refused(fake, monkeypatch):
    monkeypatch.setattr(module, "SEVERAL_PROCESSES_FROM_S", 0)
    monkeypatch.setattr(averages, "BATCH_UNITS", 2)
    files = fake.write_all()
    files[5].write_bytes(files[5].read_bytes()[:1000])
    files[11].unlink()
    with pytest.raises(DamagedResultError) as caught:
        fake.merge(processes=2)
    assert f"{files[5]}: damaged" in str(caught.value)
    assert f"{files[11]}: missing" in str(caught.value)
    assert "2 of 12" in str(caught.value)
    assert not fake.result.merged.exists()


@pytest.mark.usefixtures("_quick_processes")
@pytest.mark.failure("a process of the merge is killed")
def test_a_killed_process_of_the_merge_gives_a_clear_error(fake, monkeypatch):
    monkeypatch.setattr(module, "SEVERAL_PROCESSES_FROM_S", 0)
    monkeypatch.setattr(averages, "BATCH_UNITS", 2)
    monkeypatch.setattr(batch_processes, "_end_with_parent", killed)
    files = fake.write_all()
    fake.result.merged.write_bytes(b"of an earlier merge")
    with pytest.raises(StemphonyError) as caught:
        fake.merge(processes=2)
    assert "one of the 2 processes of the merge was killed, probably for lack of memory. Nothing" in str(caught.value)
    assert "merge_results=1" in str(caught.value)
    assert [file for file in files if not file.exists()] == []
    assert list(fake.result.root.glob("*stem.nc*")) == [fake.result.merged]
    assert fake.result.merged.read_bytes() == b"of an earlier merge"


@pytest.mark.parametrize(
    ("where", "setting", "value"),
    [(module, "SEVERAL_PROCESSES_FROM_S", 1e3), (batch_processes, "AHEAD_BYTES", 1), (averages, "BATCH_UNITS", 1000)],
)
def test_a_small_merge_or_little_memory_starts_no_processes(tmp_path, monkeypatch, where, setting, value):
    fake = campaign_of(tmp_path, probe={"defoci_nm": [1.0], "defocus_weights": [2.0]})
    monkeypatch.setattr(averages, "BATCH_UNITS", 1)
    monkeypatch.setattr(module, "SEVERAL_PROCESSES_FROM_S", 0)
    monkeypatch.setattr(batch_processes, "_end_with_parent", killed)
    monkeypatch.setattr(where, setting, value)
    fake.write_all()
    assert fake.merge(processes=2).exists()


def test_expected_time_grows_with_number_and_size_of_files(fake):
    files = fake.write_all()
    task = module.MergeTask(fake.campaign.merge_params, fake.result)
    size = sum(file.stat().st_size for file in files)
    assert module.expected_seconds(task) == pytest.approx(len(files) * module.JOB_S + size * module.BYTE_S)
    with files[0].open("ab") as stream:
        stream.truncate(size + int(10 / module.BYTE_S))
    assert module.expected_seconds(task) == pytest.approx(10, rel=0.1)


def killed() -> None:
    """Replaces the first function that a process of the merge calls."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_center_of_mass_is_the_ratio_of_averaged_moments(fake):
    fake.write_all()
    moments = stack(fake, lambda s: s.center_of_mass * s.total[..., None])
    totals = stack(fake, lambda s: s.total)
    expected = 1e3 * mean(moments, True, True) / mean(totals, True, True)[..., None]
    naive = 1e3 * mean(stack(fake, lambda s: s.center_of_mass), True, True)
    with netCDF4.Dataset(fake.merge()) as root:
        got = np.moveaxis(np.asarray(root["adf"]["center_of_mass"][..., 0, :]), 3, 1)
    assert got == pytest.approx(expected, rel=1e-12)
    assert np.abs(naive - expected).max() > 0.01 * np.abs(expected).max()


@pytest.mark.slow
def test_defoci_have_the_order_of_the_config(tmp_path):
    fake = campaign_of(tmp_path, adf={"average_configurations": False, "average_defoci": False})
    for defocus, configuration in reversed(fake.pairs):
        fake.write(defocus, configuration)
    with netCDF4.Dataset(fake.merge()) as root:
        assert image(root, "haadf") == pytest.approx(stack(fake, ring(1)))


def test_a_source_size_is_applied_to_images_and_recorded(tmp_path):
    fake = campaign_of(tmp_path, probe={"source_fwhm_nm": 0.3}, cbed={"enabled": True, "size": [4, 5]})
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        sharp = mean(stack(fake, ring(1)), True, True)
        blurred = image(root, "haadf")
        assert blurred.mean(axis=(2, 3)) == pytest.approx(sharp.mean(axis=(2, 3)))
        assert np.ptp(blurred) < 0.9 * np.ptp(sharp)
        assert root["images"]["haadf"].source_fwhm_nm == pytest.approx(0.3)
        assert root["adf"]["adf_intensities"].source_fwhm_nm == pytest.approx(0.3)
        assert root["adf"]["center_of_mass"].source_fwhm_nm == pytest.approx(0.3)
        assert "source_fwhm_nm" not in root["images"]["adf_slice"].ncattrs()
        assert root["cbed"]["cbed_intensities"].source_fwhm_nm == pytest.approx(0.3)


def test_an_elliptical_source_is_applied_along_its_axis_and_recorded(tmp_path):
    """The source is so thin along y that it blurs only along x, to the mean of each row."""
    source = {"source_fwhm_nm": 20.0, "source_fwhm_across_nm": 1e-4, "source_rotation_deg": 0.0}
    fake = campaign_of(tmp_path, probe=source)
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        sharp = mean(stack(fake, ring(1)), True, True)
        rows = np.broadcast_to(sharp.mean(axis=2, keepdims=True), sharp.shape)
        assert image(root, "haadf") == pytest.approx(rows, rel=1e-4)
        assert root["images"]["haadf"].source_fwhm_across_nm == pytest.approx(1e-4)
        assert "source_shape" not in root["images"]["haadf"].ncattrs()


@pytest.mark.slow
@pytest.mark.parametrize(("window", "warned"), [([0.0, 1.0], False), ([0.0, 0.5], True)])
def test_a_source_on_a_part_of_the_cell_gives_a_warning(tmp_path, window, warned):
    fake = campaign_of(tmp_path, probe={"source_fwhm_nm": 0.1}, scan={"x": window})
    fake.write_all()
    warnings: list[str] = []
    fake.merge(warnings)
    assert ("scan.margin_nm: 0.128 would compute" in "\n".join(warnings)) is warned


# --- standard errors ----------------------------------------------------------------------------------------------


def standard_error(root: netCDF4.Dataset, name: str) -> np.ndarray:
    return np.moveaxis(np.asarray(root["images"][f"{name}_standard_error"][:, 0]), 1, -1)


def test_standard_error_of_independent_defoci_adds_their_variances_by_weight(fake):
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        for index, name in enumerate(NAMES):
            values = stack(fake, ring(index))
            expected = np.zeros(values.shape[2:])
            for weight, of_one_defocus in zip(WEIGHTS, values, strict=True):
                expected += weight**2 * np.var(of_one_defocus, axis=0, ddof=1) / CONFIGURATIONS
            assert standard_error(root, name)[0] == pytest.approx(np.sqrt(expected), rel=1e-10)


def test_standard_error_of_shared_configurations_is_that_of_their_weighted_sums(tmp_path):
    fake = campaign_of(tmp_path, frozen_phonon={"independent_defoci": False})
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        sums = np.tensordot(WEIGHTS, stack(fake, ring(1)), axes=1)
        expected = np.std(sums, axis=0, ddof=1) / math.sqrt(CONFIGURATIONS)
        assert standard_error(root, "haadf")[0] == pytest.approx(expected, rel=1e-10)


def test_standard_error_of_each_defocus_is_that_of_its_configurations(tmp_path):
    fake = campaign_of(tmp_path, adf={"average_defoci": False})
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        expected = np.std(stack(fake, ring(0)), axis=1, ddof=1) / math.sqrt(CONFIGURATIONS)
        assert standard_error(root, "bf") == pytest.approx(expected, rel=1e-10)


def test_snapshots_are_shared_by_all_defoci(tmp_path):
    movie = planned(
        type(FILES)("5" * 64, "6" * 64, CONFIGURATIONS),
        probe=PROBE,
        simulation={"precision": "double"},
        frozen_phonon={"configurations": CONFIGURATIONS, "snapshots": "a.xyz"},
    )
    fake = campaign_of(tmp_path)
    fake.campaign = movie
    fake.write_all(seed=None)
    with netCDF4.Dataset(fake.merge()) as root:
        sums = np.tensordot(WEIGHTS, stack(fake, ring(1)), axes=1)
        expected = np.std(sums, axis=0, ddof=1) / math.sqrt(CONFIGURATIONS)
        assert standard_error(root, "haadf")[0] == pytest.approx(expected, rel=1e-10)


def test_standard_error_is_that_of_the_blurred_image(tmp_path):
    fake = campaign_of(tmp_path, probe={"source_fwhm_nm": 5.0})
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        # A source much wider than the cell leaves only the mean over the scan, and its error.
        means = stack(fake, ring(1)).mean(axis=(2, 3))
        expected = np.sqrt(np.tensordot(WEIGHTS**2, np.var(means, axis=1, ddof=1), axes=1) / CONFIGURATIONS)
        got = standard_error(root, "haadf")[0]
        assert got == pytest.approx(np.broadcast_to(expected, got.shape), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "blocks",
    [
        {"frozen_phonon": {"configurations": 1}},
        {"frozen_phonon": {"enabled": False}},
        {"adf": {"average_configurations": False}},
    ],
)
def test_without_two_averaged_configurations_there_is_no_standard_error(tmp_path, blocks):
    fake = campaign_of(tmp_path, **blocks)
    fake.write_all(seed=None if "enabled" in blocks.get("frozen_phonon", {}) else 1)
    with netCDF4.Dataset(fake.merge()) as root:
        assert not [name for name in root["images"].variables if "error" in name]


# --- provenance and atoms -------------------------------------------------------------------------------------------


def test_every_job_is_accounted_for(fake):
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        runtime = root["runtime"]
        assert runtime["defocus"][:].tolist() == [d for d in DEFOCI for _ in range(CONFIGURATIONS)]
        assert runtime["configuration"][:].tolist() == list(range(CONFIGURATIONS)) * 3
        assert runtime["cpu_seconds"][:].tolist() == [1.5] * 12
        assert set(read_texts(runtime["job_host"])) == {"here"}
        assert set(read_texts(runtime["job_cpu_model"])) == {"A processor"}
        assert set(read_texts(runtime["job_instruction_sets"])) == {"X86_V2 X86_V3"}
        assert set(read_texts(runtime["job_algorithm"])) == {"multislice"}
        assert read_texts(runtime["job_sha256"]) == [
            hashlib.sha256(fake.result.job(*pair).read_bytes()).hexdigest() for pair in fake.pairs
        ]
        assert runtime.time_start == "2026-01-01T00:00:00+00:00"  # the start of the first job
        assert root["params"]["simulation"].random_seed == 1


def test_the_merge_reports_the_largest_error_of_the_windows(fake):
    for number, (defocus, configuration) in enumerate(fake.pairs):
        deviation = {"bf": 0.054 if number == 3 else 0.01, "haadf": 0.037 + 0.001 * number, "zero": float("nan")}
        deviation |= {"far": 1.234 if number == 2 else 0.996, "hole": 2e5}
        if number == 5:
            deviation["zero"] = 0.02
        fake.write(defocus, configuration, runtime={"window_check": {"relative_deviation": deviation}})
    warnings: list[str] = []
    fake.merge(warnings)
    assert warnings == [
        "error of the windows, the largest that any of 12 jobs measured: bf 5.4 %, haadf 4.8 %, zero 2 %, "
        "far 123 %, hole more than 999 %"
    ]


def test_without_windows_the_merge_reports_no_error_of_windows(fake):
    fake.write_all()
    warnings: list[str] = []
    fake.merge(warnings)
    assert not warnings


@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "kept_by_jobs", "frames"), [
    (True, True, 12), ("auto", True, 12), (False, True, 1), (True, False, 1), ("auto", False, 1), (False, False, 1),
])  # fmt: skip
def test_coordinates_are_kept_if_wanted_and_available(tmp_path, wanted, kept_by_jobs, frames):
    fake = campaign_of(tmp_path, frozen_phonon={"save_coordinates": wanted})
    fake.write_all(coordinates=kept_by_jobs)
    warnings: list[str] = []
    with netCDF4.Dataset(fake.merge(warnings)) as root:
        amber = root["AMBER"]
        assert amber["coordinates"].shape == (frames, 40, 3)
        for frame in range(frames):
            moved = 0.01 * (1 + frame % CONFIGURATIONS) if frames > 1 else 0.0
            assert np.asarray(amber["coordinates"][frame]) == pytest.approx((fake.specimen.positions + moved) / 10)
            assert amber["slice"][frame].tolist() == fake.table.slice_index.tolist()
        assert amber.displaced == (frames > 1)
    assert bool(warnings) is (wanted is True and not kept_by_jobs)


def test_large_coordinates_are_kept_only_on_demand(tmp_path, monkeypatch):
    monkeypatch.setattr(module.campaign, "COORDINATES_LIMIT_BYTES", 1000)
    fake = campaign_of(tmp_path)
    fake.write_all()
    with netCDF4.Dataset(fake.merge()) as root:
        assert root["AMBER"]["coordinates"].shape[0] == 1


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
def test_a_job_file_is_opened_only_once(tmp_path, monkeypatch, shared):
    fake = campaign_of(
        tmp_path,
        frozen_phonon={"save_coordinates": True, "independent_defoci": not shared},
        cbed={"enabled": True, "size": [4, 5], "max_mrad": 20.0},
    )
    files = fake.write_all()
    opens: Counter[Path] = Counter()
    hashes: Counter[Path] = Counter()
    dataset, sha256 = netCDF4.Dataset, provenance.file_sha256

    def counted_open(file: Path, *arguments: Any, **settings: Any) -> netCDF4.Dataset:
        opens[Path(file)] += 1
        return dataset(file, *arguments, **settings)

    def counted_hash(file: Path) -> str:
        hashes[file] += 1
        return sha256(file)

    monkeypatch.setattr(netCDF4, "Dataset", counted_open)
    monkeypatch.setattr(provenance, "file_sha256", counted_hash)
    fake.merge()
    assert [opens[file] for file in files] == [1] * len(files)
    assert [hashes[file] for file in files] == [1] * len(files)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_jobs(tmp_path):
    """Twelve jobs whose signals are far larger than everything else in the memory of a merge."""
    peaks = {}
    for number in (4, 12):
        fake = FakeCampaign.of(
            tmp_path / str(number),
            frozen_phonon={"configurations": number},
            scan={"points": [24, 24]},
            adf={"bins": 60, "max_mrad": 60.0, "average_configurations": False},
        )
        fake.write_all()
        tracemalloc.start()
        fake.merge()
        peaks[number] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    signals_of_one = 24 * 24 * 2 * 60 * 8
    assert peaks[4] > signals_of_one, "the signals are so small that this shows nothing"
    assert peaks[12] < 1.3 * peaks[4], f"bytes held at once, by number of jobs: {peaks}"


# --- refusals -----------------------------------------------------------------------------------------------------


def refusal(fake: FakeCampaign, *parts: str) -> str:
    """Return the message of a merge that must fail without changing or deleting a file."""
    before = {file: file.read_bytes() for file in fake.result.root.rglob("*") if file.is_file()}
    with pytest.raises(DamagedResultError) as caught:
        fake.merge()
    assert {file: file.read_bytes() for file in fake.result.root.rglob("*") if file.is_file()} == before
    for part in (*parts, "Nothing was deleted"):
        assert part in str(caught.value), str(caught.value)
    return str(caught.value)


@pytest.fixture
def pair(tmp_path):
    """Two jobs and their merged result."""
    fake = FakeCampaign.of(tmp_path, frozen_phonon={"configurations": 2})
    fake.write_all()
    fake.merge()
    return fake


def reseal(file: Path) -> None:
    """Write a valid checksum for a changed file."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    paths.checksum(file).write_text(f"{digest}  {file.name}\n")


def test_missing_job_files_are_listed(pair):
    first, second = (pair.result.job(*job) for job in pair.pairs)
    first.unlink()
    text = refusal(pair, f"{first}: missing", "1 of 2 job files")
    assert str(second) not in text
    second.unlink()
    refusal(pair, f"{first}: missing", f"{second}: missing", "2 of 2 job files")


@pytest.mark.slow
@pytest.mark.failure("output from another config")
@pytest.mark.parametrize(
    "change",
    [{"defocus_nm": 1.0}, {"configuration": 0}, {"specimen_digest": "0" * 64}, {"scan": {"points": [4, 4]}}],
)
def test_a_foreign_job_file_is_refused(pair, change):
    file = pair.write("p0d000", 1, params=change)
    refusal(pair, f"{file}: foreign", "another config or specimen", "1 of 2 job files")


def test_swapped_job_files_are_refused(pair):
    one, other = (pair.result.job(*job) for job in pair.pairs)
    content = one.read_bytes()
    shutil.copy(other, one)
    other.write_bytes(content)
    for file in (one, other):
        reseal(file)
    refusal(pair, f"{one}: foreign", f"{other}: foreign")


@pytest.mark.failure("output from another version")
def test_a_job_file_of_another_physics_version_is_refused(pair, monkeypatch):
    monkeypatch.setattr(provenance, "PHYSICS_VERSION", provenance.PHYSICS_VERSION + 1)
    old = pair.pairs[0]
    pair.campaign = planned(frozen_phonon={"configurations": 2})
    new = pair.write("p0d000", 1)
    text = refusal(pair, f"{pair.result.job(*old)}: mixed", "physics_version")
    assert str(new) not in text


def test_job_files_of_different_seeds_are_refused(pair):
    pair.write("p0d000", 1, seed=2)
    refusal(pair, "mixed", "random seed", "['1', '2']")


@pytest.mark.failure("output truncated")
def test_a_truncated_job_file_is_refused(pair):
    file = pair.result.job("p0d000", 1)
    whole = file.read_bytes()
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        refusal(pair, f"{file}: damaged", "do not match")
        reseal(file)  # even if the checksum was made of the truncated file
        refusal(pair, str(file))


def test_a_file_that_is_not_netcdf_is_refused(pair):
    file = pair.result.job("p0d000", 1)
    file.write_text("not a NetCDF file")
    reseal(file)
    refusal(pair, f"{file}: truncated or damaged")


def test_a_netcdf_file_that_is_not_a_job_file_is_refused(pair):
    file = pair.result.job("p0d000", 1)
    shutil.copy(pair.result.merged, file)
    reseal(file)
    refusal(pair, f"{file}: foreign", "not a job file")


@pytest.mark.slow
@pytest.mark.parametrize("attribute", ["cpu_seconds", "time_start", "host", "fft_plan_source"])
def test_a_job_file_without_its_runtime_is_refused(pair, attribute):
    file = pair.result.job("p0d000", 1)
    with netCDF4.Dataset(file, "a") as root:
        root["runtime"].delncattr(attribute)
    reseal(file)
    refusal(pair, str(file), "damaged")


@pytest.mark.parametrize(("group", "name"), [("adf", "adf_intensities"), ("images", "haadf"), ("AMBER", "coordinates")])
def test_a_job_file_without_a_variable_is_refused(pair, group, name):
    file = pair.result.job("p0d000", 1)
    with netCDF4.Dataset(file, "a") as root:
        root[group].renameVariable(name, "other")
    reseal(file)
    refusal(pair, str(file), "damaged")


def test_damaged_data_behind_an_intact_header_are_found(pair):
    """The checksums of HDF5 find damage even if the checksum file matches the damaged bytes."""
    file = pair.result.job("p0d000", 1)
    with netCDF4.Dataset(file) as root:
        values = np.asarray(root["adf"]["adf_intensities"][...])
    content = bytearray(file.read_bytes())
    assert values.size
    # Signals are random numbers, which do not compress, so they are the largest stretch without zeros.
    runs = [len(run) for run in bytes(content).split(b"\0\0\0\0")]
    longest = max(bytes(content).split(b"\0\0\0\0"), key=len)
    at = bytes(content).index(longest) + max(runs) // 2
    content[at] ^= 0xFF
    file.write_bytes(content)
    reseal(file)
    refusal(pair, str(file), "damaged", "delete this file")


@pytest.mark.failure("output bit-flipped")
def test_every_flipped_byte_is_found_by_the_checksum(pair):
    file = pair.result.job("p0d000", 1)
    whole = file.read_bytes()
    flips = range(0, len(whole), 500)
    assert len(flips) > 100
    for at in flips:
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        file.write_bytes(damaged)
        # The check of one file, because a merge for each of a hundred bytes takes long.
        with pytest.raises(DamagedResultError, match="do not match"), checked(file, "any digest"):
            pass
    refusal(pair, f"{file}: damaged", "do not match")


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, "", "\n", "\xff\xfe"])
def test_a_file_without_a_checksum_is_refused_until_the_user_writes_one(pair, content):
    file = pair.result.job("p0d000", 1)
    paths.checksum(file).unlink()
    if content is not None:
        paths.checksum(file).write_bytes(content.encode("latin-1"))
    refusal(pair, f"{file}: cannot be checked", "sha256sum configuration_0001.nc > configuration_0001.nc.sha256")
    paths.checksum(file).write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")
    pair.merge()


def test_a_wrong_checksum_is_refused(pair):
    file = pair.result.job("p0d000", 1)
    paths.checksum(file).write_text("0" * 64 + "  configuration_0001.nc\n")
    refusal(pair, f"{file}: damaged", "sha256")


def test_all_bad_files_are_listed_up_to_a_limit(tmp_path):
    fake = FakeCampaign.of(tmp_path, frozen_phonon={"configurations": 30})
    text = refusal_without_files(fake)
    assert text.count(": missing") == module.SHOWN
    assert "10 more" in text
    assert "30 of 30" in text


def refusal_without_files(fake: FakeCampaign) -> str:
    fake.result.root.mkdir(parents=True)
    return refusal(fake)


def test_several_kinds_of_damage_are_listed_together(tmp_path):
    fake = FakeCampaign.of(tmp_path, frozen_phonon={"configurations": 3})
    files = fake.write_all()
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:1000])
    fake.write("p0d000", 2, params={"specimen_digest": "0" * 64})
    refusal(fake, f"{files[0]}: missing", f"{files[1]}: damaged", f"{files[2]}: foreign", "3 of 3")


def test_only_files_of_the_campaign_are_read(pair):
    shutil.copy(pair.result.job("p0d000", 0), pair.result.job("p0d000", 7))
    pair.result.job("p9d000", 0).parent.mkdir()
    pair.result.job("p9d000", 0).write_text("rubbish")
    pair.merge()


def test_a_merge_that_fails_halfway_keeps_the_old_result(pair, monkeypatch):
    before = pair.result.merged.read_bytes()

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "add_runtime", broken)
    with pytest.raises(KeyboardInterrupt):
        pair.merge()
    assert pair.result.merged.read_bytes() == before
    assert not list(pair.result.root.glob(".*"))


def test_the_result_lies_in_its_folder_after_a_move(pair, tmp_path):
    moved = tmp_path / "moved"
    shutil.move(pair.result.root, moved)
    pair.result = ResultPaths(moved)
    pair.merge()
    assert json.dumps([file.name for file in moved.glob("*.nc")]) == '["stem.nc"]'


# --- a part of the campaign ---------------------------------------------------------------------------------------


def partial(fake: FakeCampaign, missing: set[tuple[int, int]]) -> Path:
    """Make a preview while some (defocus index, configuration) are missing."""
    fake.write_all()
    for d, c in missing:
        fake.result.job(fake.campaign.defoci[d].id, c).unlink()
    output = fake.result.preview
    module.merge(
        module.MergeTask(fake.campaign.merge_params, fake.result, partial=True), output, fake.table, fake.experiment,
        root_attributes={"title": "a title"}, runtime_attributes=lambda: {"UUID": "an id"},
        blocks={}, warn=lambda text: None,
    )  # fmt: skip
    return output


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_a_file_that_changes_between_two_passes_is_refused(fake, monkeypatch, change):
    """Otherwise only some blocks of the result would contain the file, or its content would not be checked."""
    monkeypatch.setattr(block_module, "BLOCK_BYTES", 300.0)
    file, passes = fake.result.job(fake.campaign.defoci[1].id, 2), []
    refuse = module._ResultWriter._refuse_what_is_wrong

    def then_change(making: Any, merged: Any) -> None:
        refuse(making, merged)
        passes.append(merged)
        if len(passes) == 1:
            copy = file.with_name("copy")
            shutil.copy(file, copy)
            copy.replace(file)
            if change == "deleted":
                file.unlink()

    monkeypatch.setattr(module._ResultWriter, "_refuse_what_is_wrong", then_change)
    with pytest.raises(DamagedResultError, match=r"configuration_0002\.nc was replaced or deleted while it was merged"):
        partial(fake, {(0, 1)})
    assert not fake.result.preview.exists()


def test_a_partial_average_is_the_average_of_the_finished_pairs(fake):
    missing = {(0, 1), (0, 3), (2, 0), (2, 1), (2, 2), (2, 3)}
    values = stack(fake, ring(1))
    means = [values[0, [0, 2]].mean(axis=0), values[1].mean(axis=0)]
    errors = [np.var(values[0, [0, 2]], axis=0, ddof=1) / 2, np.var(values[1], axis=0, ddof=1) / 4]
    share = WEIGHTS[0] + WEIGHTS[1]
    with netCDF4.Dataset(partial(fake, missing)) as root:
        expected = (WEIGHTS[0] * means[0] + WEIGHTS[1] * means[1]) / share
        assert image(root, "haadf")[0, 0] == pytest.approx(expected, rel=1e-12)
        expected = np.sqrt(WEIGHTS[0] ** 2 * errors[0] + WEIGHTS[1] ** 2 * errors[1]) / share
        assert standard_error(root, "haadf")[0] == pytest.approx(expected, rel=1e-10)
        assert (root.partial, root.num_pairs_in, root.num_pairs_missing) == (1, 6, 6)
        assert json.loads(root.pairs_in) == {"p4d000": "0, 2", "m1d000": "0-3"}
        assert json.loads(root.pairs_missing) == {"p4d000": "1, 3", "p2d000": "0-3"}
        assert root["runtime"]["configuration"][:].tolist() == [0, 2, 0, 1, 2, 3]
        assert root["AMBER"].displaced == 0


def test_a_defocus_with_one_configuration_has_no_standard_error_yet(fake):
    with netCDF4.Dataset(partial(fake, {(0, 1), (0, 2), (0, 3)})) as root:
        assert np.isnan(standard_error(root, "haadf")).all()
        assert np.isfinite(image(root, "haadf")).all()


def test_a_missing_pair_that_is_not_averaged_is_nan(tmp_path):
    fake = campaign_of(tmp_path, adf={"average_configurations": False, "average_defoci": False})
    with netCDF4.Dataset(partial(fake, {(1, 2)})) as root:
        shown = image(root, "haadf")
        assert np.isnan(shown[1, 2]).all()
        assert np.isnan(np.asarray(root["adf"]["adf_intensities"][1, :, :, 2])).all()
        shown[1, 2] = stack(fake, ring(1))[1, 2]
        assert shown == pytest.approx(stack(fake, ring(1)))


def test_each_configuration_is_averaged_over_its_finished_defoci(tmp_path):
    fake = campaign_of(tmp_path, adf={"average_configurations": False, "average_defoci": True})
    values = stack(fake, ring(0))
    with netCDF4.Dataset(partial(fake, {(1, 2), (2, 2)})) as root:
        assert image(root, "bf")[0, 2] == pytest.approx(values[0, 2], rel=1e-12)
        assert image(root, "bf")[0, 1] == pytest.approx(np.tensordot(WEIGHTS, values[:, 1], axes=1), rel=1e-12)


@pytest.mark.slow
def test_patterns_that_are_not_averaged_do_not_change_images(tmp_path):
    fake = campaign_of(
        tmp_path, frozen_phonon={"configurations": CONFIGURATIONS, "independent_defoci": False},
        cbed={"enabled": True, "average_configurations": False},
    )  # fmt: skip
    values = stack(fake, ring(0))
    means = [values[0].mean(axis=0), values[1, [0, 1, 3]].mean(axis=0), values[2].mean(axis=0)]
    with netCDF4.Dataset(partial(fake, {(1, 2)})) as root:
        assert image(root, "bf")[0, 0] == pytest.approx(np.tensordot(WEIGHTS, means, axes=1), rel=1e-12)


def test_shared_configurations_have_a_standard_error_only_when_complete(tmp_path):
    fake = campaign_of(tmp_path, frozen_phonon={"configurations": CONFIGURATIONS, "independent_defoci": False})
    with netCDF4.Dataset(partial(fake, {(1, 2)})) as root:
        assert not [name for name in root["images"].variables if "error" in name]


def test_a_partial_merge_without_good_files_lists_what_is_wrong(fake):
    with pytest.raises(DamagedResultError, match="12 of 12 job files cannot be used"):
        partial(fake, {(d, c) for d in range(3) for c in range(CONFIGURATIONS)})
    assert not fake.result.preview.exists()


def test_a_partial_merge_of_two_seeds_is_refused(fake):
    fake.write_all()
    task = module.MergeTask(fake.campaign.merge_params, fake.result, partial=True)
    fake.write("p4d000", 1, seed=2)
    with pytest.raises(DamagedResultError, match="random seed"):
        module.merge(task, fake.result.preview, fake.table, fake.experiment, {}, dict, {}, print)
