"""The script of rule plot_results: each figure of a campaign is drawn, as `stemphony plot` draws it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import plot_results as script
import pytest
from stemphony.errors import DamagedResultError
from support.experiments import FakeCampaign

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


@pytest.mark.slow
@pytest.mark.parametrize("adf", [{}, KEPT], ids=["averaged", "kept apart"])
def test_every_figure_of_the_campaign_is_drawn(tmp_path, adf):
    fake = result_of(tmp_path, **adf)
    figures = [fake.result.figure(name) for name in fake.campaign.figures]
    assert [figure.stem for figure in figures] == ["bf", "haadf", "thickness_curves", "cbed_mean"]
    script.plot_results(fake.result.merged, figures)
    contents = [figure.read_bytes() for figure in figures]
    assert [len(content) for content in contents if not (content.startswith(PNG) and len(content) > 5000)] == []
    assert len(set(contents)) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "scan",
    [
        {"points": [1, 1]},
        {"points": [1, 4]},
        {"points": [3, 1]},
        {"points": None, "line": {"begin": [0.0, 0.0], "end": [0.5, 0.5], "points": 4}},
        {"points": None, "positions": [[0.0, 0.0], [0.1, 0.3]]},
    ],
)
def test_a_line_or_list_or_point_is_drawn_too(tmp_path, scan):
    fake = FakeCampaign.of(
        tmp_path, scan=scan, frozen_phonon={"configurations": 1}, cbed={"enabled": True, "size": [1, 1]}
    )
    fake.write_all()
    fake.merge()
    figures = [fake.result.figure(name) for name in fake.campaign.figures]
    script.plot_results(fake.result.merged, figures)
    assert [figure for figure in figures if not figure.is_file()] == []


@pytest.mark.slow
def test_patterns_alone_are_drawn_too(tmp_path):
    fake = FakeCampaign.of(tmp_path, adf={"enabled": False}, cbed={"enabled": True, "size": [4, 5]})
    fake.write_all()
    fake.merge()
    script.plot_results(fake.result.merged, [fake.result.figure(name) for name in fake.campaign.figures])
    assert fake.result.figure("cbed_mean").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_the_script_runs_as_a_process_without_a_screen(tmp_path):
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
