"""`stemphony bench`: its output is consistent, and its waves are those of a job. No test depends on speed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stemphony import cli
from stemphony.commands import bench
from stemphony.compute import simulation
from support.arrays import differences

SMALL: dict[str, Any] = {"grid": 96, "slices": 3, "probes": 4}
COUNTED = ("transmission", "incident", "propagation", "detection")


@pytest.fixture(autouse=True)
def _own_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans that cost no time to make: the numbers do not matter here."""
    monkeypatch.setenv("STEMPHONY_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(bench, "prepare_plans", lambda plan: (plan("FFTW_ESTIMATE"), ("FFTW_ESTIMATE", "none"))[1])
    monkeypatch.setattr(
        bench.Bench, "_yardstick", lambda self, flag: bench.Plan2D(self.experiment.grid.gpts, np.complex64)
    )


def measured(**settings: Any) -> bench.Bench:
    return bench.measure(bench.Settings.of(**{**SMALL, **settings}))


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = cli.main(["bench", "--grid", "96", "--slices", "3", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


# --- what it prints -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_json_output_is_one_object_with_the_documented_keys(capsys):
    status, out, err = printed(capsys, "--probes", "2", "--json")
    assert status == 0, err
    assert out.count("\n") == 1
    record = json.loads(out)
    assert record.keys() >= {
        "probe_slices_per_cpu_s", "probe_slices_per_s", "fft_cpu_ms", "cost_in_ffts", "peak_rss_mb",
        "potential_cpu_s", "propagation_cpu_s", "detection_cpu_s", "io_cpu_s",
    }  # fmt: skip
    settings = {"grid": 96, "slices": 3, "probes": 2, "threads": 1, "algorithm": "multislice", "defoci": 1}
    assert {key: record[key] for key in settings} == settings


@pytest.mark.slow
def test_text_output_is_a_table_of_the_same_numbers(capsys):
    status, out, err = printed(capsys, "--probes", "2")
    assert status == 0, err
    lines = {words[0]: words[1] for words in map(str.split, out.splitlines()) if len(words) > 1}
    assert float(lines["cost_in_ffts"]) > 0
    assert {"fft_cpu_ms", "probe_slices_per_cpu_s", "peak_rss_mb", "propagation_cpu_s", "io_cpu_s"} <= lines.keys()


# --- that it is consistent ----------------------------------------------------------------------------------------


def test_the_cost_is_the_quotient_of_the_two_times_beside_it():
    record = measured().record()
    assert record["cost_in_ffts"] == pytest.approx(
        1000 / (record["probe_slices_per_cpu_s"] * record["fft_cpu_ms"]), rel=1e-12
    )
    counted = sum(record[f"{stage}_cpu_s"] for stage in COUNTED)
    assert record["probe_slices_per_cpu_s"] == pytest.approx(4 * 3 / counted, rel=1e-12)


def test_every_stage_takes_time():
    record = measured().record()
    for key in ("potential", *COUNTED, "io", "planning", "startup"):
        assert record[f"{key}_cpu_s"] > 0, key
    assert record["probe_slices_per_s"] > 0
    assert record["peak_rss_mb"] > 20


def test_stages_are_not_longer_than_the_process_worked():
    begin = time.process_time()
    record = measured(threads=len(os.sched_getaffinity(0))).record()
    spent = sum(record[f"{stage}_cpu_s"] for stage in ("potential", *COUNTED, "io", "planning"))
    worked = time.process_time() - begin
    assert spent < worked, f"stages add up to {spent:.2f} s of CPU, and the process worked {worked:.2f} s"


def test_transforms_are_timed_after_every_wave():
    seen = measured(probes=3)
    assert len(seen.fft_s) == 3 * bench.FFTS


def test_transforms_are_timed_on_finite_numbers():
    yardstick = bench.Plan2D((96, 96), np.complex64, "FFTW_ESTIMATE")
    for _ in range(20):
        bench._time_transforms(yardstick)
    assert np.allclose(yardstick.buffer, 1)


# --- that it does a job's work ------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", range(1, min(2, len(os.sched_getaffinity(0))) + 1))
def test_images_are_those_of_a_job_bit_for_bit(threads: int):
    seen = measured(probes=None, defoci=3, scan="2x3", threads=threads)
    for index, defocus in enumerate((-6.0, 0.0, 6.0)):
        job = simulation.simulate(
            seen.experiment, seen.atoms, defocus, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None
        )
        assert not differences(seen.images[index], job.rings[:, :, 0, 0])


def test_symmetry_gives_the_images_of_all_positions_at_rest():
    settings = replace(bench.Settings.of(grid=96, slices=3, defoci=2, scan="4x4"), at_rest=True)
    whole, small = bench.Bench(settings), bench.Bench(replace(settings, symmetry=True))
    for series in (whole, small):
        series.make_transmissions()
    whole.pass_waves(settings.chosen)
    small.superpose()
    assert small.orbits is not None
    assert small.experiment.positions == 6
    images = small.images[:, small.orbits.orbit, 0].reshape(whole.images.shape)
    np.testing.assert_allclose(images, whole.images, rtol=1e-4)


def test_segments_and_centre_of_mass_change_no_image():
    assert not differences(measured(with_dpc=True).images, measured().images)


def test_an_odd_number_of_slices_ends_within_a_cell():
    of = measured(slices=3).experiment
    assert (of.slices, of.depth_slices) == (4, (3,))
    assert of.slice_thickness == pytest.approx(bench.LATTICE / 2)


def test_the_specimen_is_whole_cells_of_strontium_titanate():
    crystal = bench.strontium_titanate(2)
    names, counts = np.unique(crystal.symbols, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {"Sr": 128, "Ti": 128, "O": 384}
    assert crystal.cell == pytest.approx((31.24, 31.24, 7.81))


# --- which waves --------------------------------------------------------------------------------------------------


def test_a_sample_of_a_series_is_spread_evenly():
    settings = bench.Settings.of(grid=96, probes=14, defoci=7, scan="4x4")
    assert settings.waves == 112
    assert [wave[0] for wave in settings.chosen] == sorted([*range(7)] * 2)
    assert len(set(settings.chosen)) == 14


@pytest.mark.parametrize(("arguments", "probes", "waves"), [
    ({}, 64, 64),
    ({"probes": 10}, 10, 16),
    ({"scan": "16x16", "defoci": 7}, 1792, 1792),
    ({"scan": "16x16", "defoci": 7, "probes": 64}, 64, 1792),
    ({"probes": 64, "defoci": 7}, 64, 112),
])  # fmt: skip
def test_the_requested_number_of_probes_is_measured_or_all(arguments: dict[str, Any], probes: int, waves: int):
    settings = bench.Settings.of(**arguments)
    assert (len(settings.chosen), settings.waves) == (probes, waves)
    assert len(set(settings.chosen)) == probes


def test_waves_that_were_not_asked_for_are_not_measured():
    seen = measured(probes=2, scan="2x2")
    assert np.isfinite(seen.images).sum() == 2
    assert seen.record()["probes"] == 2


@pytest.mark.slow
def test_probe_basis_sees_what_multislice_sees_with_fewer_waves():
    settings = {"scan": "10x10", "defoci": 3}
    exact = measured(**settings, probes=None)
    superposed = measured(**settings, probes=5, algorithm="probe_basis")  # all come out, even if few are requested
    assert superposed.record()["probes"] == exact.record()["probes"] == 300
    assert superposed.record()["basis_rank"] < 300
    assert exact.record()["basis_rank"] is None
    assert np.abs(superposed.images - exact.images).max() < 1e-4 * exact.images.max()


@pytest.mark.slow
@pytest.mark.parametrize(("scan", "chosen"), [("2x1", "multislice"), ("24x24", "probe_basis")])
def test_auto_chooses_the_algorithm_with_less_work_and_names_it(scan: str, chosen: str):
    record = measured(scan=scan, slices=40, probes=2, algorithm="auto").record()
    assert (record["algorithm"], record["basis_rank"] is None) == (chosen, chosen == "multislice")


# --- what cannot be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "says"), [
    (["--grid", "64"], ["--grid: got 64", "20 mrad", "at least 75"]),
    (["--grid", "-5"], ["--grid: got -5", "at least 75"]),
    (["--grid", "40000"], ["--grid: got 40000", "4000 MB"]),
    (["--grid", "2048", "--slices", "500"], ["--slices: got 500", "at most 119"]),
    (["--slices", "0"], ["--slices: got 0", "At least 1"]),
    (["--probes", "0"], ["--probes: got 0", "At least 1"]),
    (["--defoci", "0"], ["--defoci: got 0", "At least 1"]),
    (["--threads", "0"], ["--threads: got 0", "At least 1"]),
    (["--threads", "100000"], ["--threads: got 100000", "cores"]),
    (["--scan", "16"], ["--scan: got '16'", "such as 16x16"]),
    (["--scan", "0x4"], ["--scan: got '0x4'", "such as 16x16"]),
    (["--scan", "2x2", "--probes", "5"], ["--probes: got 5", "a series of 4 waves"]),
    (["--scan", "100000x100000"], ["100000 × 100000 positions", "at most 1000000"]),
    (["--probes", "1000000000"], ["positions: a series of", "at most 1000000"]),
])  # fmt: skip
def test_an_impossible_argument_is_one_message(
    arguments: Sequence[str], says: Sequence[str], capsys: pytest.CaptureFixture[str]
):
    status = cli.main(["bench", *arguments, "--json"])
    out, err = capsys.readouterr()
    assert status == 1, out
    assert out == ""
    assert "Traceback" not in err
    for part in says:
        assert part in err


def test_the_smallest_grid_that_the_message_names_is_accepted():
    assert bench.measure(bench.Settings.of(grid=75, slices=1, probes=1)).record()["cost_in_ffts"] > 0


def test_the_largest_number_of_slices_that_the_message_names_is_accepted():
    assert bench.Settings.of(grid=2048, slices=119).slices == 119


def test_a_full_temporary_folder_is_one_message(capsys, monkeypatch):
    monkeypatch.setattr(bench.tempfile, "tempdir", "/proc/nowhere")
    status, out, err = printed(capsys, "--probes", "1")
    assert (status, out) == (1, "")
    assert "TMPDIR" in err
