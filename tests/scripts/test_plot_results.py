"""The script of rule plot_results: what a figure shows is what the result says, the right way round."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import plot_results as script
import pytest
from stemphony.errors import DamagedResultError
from support.experiments import FakeCampaign

WEIGHTS = np.array([0.25, 0.75])
KEPT = {"average_configurations": False, "average_defoci": False}
PNG = b"\x89PNG\r\n\x1a\n"


def result_of(folder: Path, **adf: Any) -> FakeCampaign:
    fake = FakeCampaign.of(
        folder,
        probe={"defoci_nm": [2.5, 0.0], "defocus_weights": [1.0, 3.0]},
        frozen_phonon={"configurations": 2},
        scan={"x": [0.25, 1.0]},
        adf=adf,
        cbed={"enabled": True, "size": [4, 5], "max_mrad": 20.0, **adf},
    )
    fake.write_all()
    fake.merge()
    return fake


def mean(fake: FakeCampaign, of: Any) -> np.ndarray:
    """Average over configurations and weighted defoci, from the signals of the jobs."""
    stacks = [[of(fake.signals(d.id, c)) for c in range(2)] for d in fake.campaign.defoci]
    return np.tensordot(WEIGHTS, np.mean(stacks, axis=1), axes=1)


@pytest.fixture(scope="module", params=["averaged", "kept apart"])
def fake(request, tmp_path_factory) -> FakeCampaign:
    """A campaign and its result, which the tests only read."""
    folder = tmp_path_factory.mktemp("campaign")
    return result_of(folder, **(KEPT if request.param == "kept apart" else {}))


def drawn(fake: FakeCampaign, draw: Any, *arguments: Any) -> Any:
    with netCDF4.Dataset(fake.result.merged) as root:
        return draw(root, *arguments, root["params"]["defocus_weights"][:]).axes


def test_every_figure_of_the_campaign_is_drawn(fake):
    figures = [fake.result.figure(name) for name in fake.campaign.figures]
    assert [figure.stem for figure in figures] == ["bf", "haadf", "thickness_curves", "cbed_mean"]
    script.plot_results(fake.result.merged, figures)
    contents = [figure.read_bytes() for figure in figures]
    assert all(content.startswith(PNG) and len(content) > 5000 for content in contents)
    assert len(set(contents)) == 4


def test_an_image_is_the_last_depth_with_x_to_the_right_and_y_up(fake):
    axes, bar = drawn(fake, script._image, "haadf")
    (image,) = axes.images
    expected = mean(fake, lambda signals: signals.rings[:, :, -1, 1])
    assert np.asarray(image.get_array()) == pytest.approx(expected.T, rel=1e-5)
    assert image.origin == "lower"
    # Three positions along x from a quarter of 7.81 Å on, four along y; pixels centred on positions.
    left, right, bottom, top = image.get_extent()
    step_x, step_y = 0.75 * 7.81 / 3, 7.81 / 4
    assert (left, right) == pytest.approx((0.25 * 7.81 - step_x / 2, 7.81 - step_x / 2), rel=1e-5)
    assert (bottom, top) == pytest.approx((-step_y / 2, 7.81 - step_y / 2), rel=1e-5)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x / Å", "y / Å")
    assert axes.get_title() == "haadf, 40–60 mrad, 7.81 Å"
    assert "incident" in bar.get_ylabel()


def test_thickness_curves_are_means_over_the_scan(fake):
    (axes,) = drawn(fake, script._thickness_curves)
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert set(lines) == {"bf", "haadf"}
    for index, name in enumerate(("bf", "haadf")):
        assert np.asarray(lines[name].get_xdata()) == pytest.approx([3.905, 7.81], rel=1e-5)
        expected = mean(fake, lambda signals, index=index: signals.rings[..., index]).mean(axis=(0, 1))
        assert np.asarray(lines[name].get_ydata()) == pytest.approx(expected, rel=1e-5)


def test_mean_pattern_has_kx_to_the_right(fake):
    axes = drawn(fake, script._cbed_mean)[0]
    (image,) = axes.images
    expected = mean(fake, lambda signals: signals.cbed[:, :, -1]).mean(axis=(0, 1))
    assert np.asarray(image.get_array()) == pytest.approx(expected.T, rel=1e-5)
    with netCDF4.Dataset(fake.result.merged) as root:
        left, right, bottom, top = image.get_extent()
        assert left < root["cbed"]["cbed_k_x"][0] < root["cbed"]["cbed_k_x"][-1] < right
        assert bottom < root["cbed"]["cbed_k_y"][0] < root["cbed"]["cbed_k_y"][-1] < top


@pytest.mark.parametrize("scan", [{"points": [1, 1]}, {"points": [1, 4]}, {"points": [3, 1]}])
def test_a_line_or_a_point_is_drawn_too(tmp_path, scan):
    fake = FakeCampaign.of(
        tmp_path, scan=scan, frozen_phonon={"configurations": 1}, cbed={"enabled": True, "size": [1, 1]}
    )
    fake.write_all()
    fake.merge()
    figures = [fake.result.figure(name) for name in fake.campaign.figures]
    script.plot_results(fake.result.merged, figures)
    assert all(figure.is_file() for figure in figures)


def test_patterns_alone_are_drawn_too(tmp_path):
    fake = FakeCampaign.of(tmp_path, adf={"enabled": False}, cbed={"enabled": True, "size": [4, 5]})
    fake.write_all()
    fake.merge()
    script.plot_results(fake.result.merged, [fake.result.figure(name) for name in fake.campaign.figures])
    assert fake.result.figure("cbed_mean").read_bytes().startswith(PNG)


def test_as_a_process_without_a_screen(tmp_path):
    fake = result_of(tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    done = subprocess.run(
        [sys.executable, script.__file__, str(fake.result.merged), str(fake.result.figure("haadf"))],
        capture_output=True, text=True, check=False, env={**environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert fake.result.figure("haadf").read_bytes().startswith(PNG)


@pytest.mark.failure("merged result truncated or damaged")
def test_a_truncated_result_is_named_with_what_to_do(tmp_path):
    merged = tmp_path / "stem.nc"
    merged.write_bytes(result_of(tmp_path).result.merged.read_bytes()[:2000])
    with pytest.raises(DamagedResultError, match=r"stem\.nc is truncated or damaged.*Delete it and run again"):
        script.plot_results(merged, [tmp_path / "haadf.png"])
