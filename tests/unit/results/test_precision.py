"""Statistical errors of a result, and the number of configurations that smaller ones need."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import netCDF4
import numpy as np
import pytest
from stemphony.commands import converge
from stemphony.compute.recorder import JobSignals
from stemphony.errors import StemphonyError, StorageError
from stemphony.experiment.campaign import Campaign
from stemphony.experiment.scan_edges import ScanEdges
from stemphony.physics.plane_symmetry import PlaneGroup
from stemphony.results.precision import Precision, measured_errors, precisions, relative_error
from stemphony.store import ledger
from support.experiments import FakeCampaign

SIGMA = {"bf": 0.02, "haadf": 0.1}
"""Relative standard deviation of one configuration."""
MEAN = {"bf": 0.4, "haadf": 0.05}


class Gaussian(FakeCampaign):
    """Job files whose detectors scatter as Gaussians of known width."""

    def signals(self, defocus: str, configuration: int) -> JobSignals:
        made = super().signals(defocus, configuration)
        shared = not self.campaign.config["frozen_phonon"]["independent_defoci"]
        index = 0 if shared else self.campaign.defocus(defocus).index
        rng = np.random.default_rng([index, configuration])
        names = list(self.experiment.rings)
        rings = np.empty_like(made.rings)
        for number, name in enumerate(names):
            rings[..., number] = MEAN[name] * (1 + SIGMA[name] * rng.normal(size=made.rings.shape[:-1]))
        return replace(made, rings=rings)


def finished(folder: Path, configurations: int, **blocks: Any) -> FakeCampaign:
    phonons = {"configurations": configurations, **blocks.pop("frozen_phonon", {})}
    made = Gaussian.of(folder, scan={"points": [8, 8]}, frozen_phonon=phonons, **blocks)
    made.write_all(coordinates=False)
    made.merge()
    ledger.identity(made.result, 1)
    ledger.claim_run(made.result)
    ledger.write_plan(made.result, plan_of(made.campaign), 1)
    return made


def plan_of(campaign: Campaign) -> dict[str, Any]:
    defoci = campaign.defoci
    return {
        "title": "A title", "config": dict(campaign.config), "defoci_nm": [d.value_nm for d in defoci],
        "weights": [d.weight for d in defoci],
    }  # fmt: skip


@pytest.mark.slow
def test_errors_are_those_of_the_distribution(tmp_path: Path):
    found = {one.detector: one for one in precisions(finished(tmp_path, 16).result.merged)}
    for name, one in found.items():
        # 64 positions know the error of 16 configurations to 1/√(2·15·64) = 2.3 %.
        assert one.error == pytest.approx(SIGMA[name] / 4, rel=0.12)
        assert one.median == pytest.approx(SIGMA[name] / 4, rel=0.12)
        assert 0 < one.brightest < 2 * SIGMA[name] / 4
        assert (one.configurations, one.is_uncertain) == (16, False)


def test_errors_of_a_signed_image_are_relative_to_its_contrast():
    rng = np.random.default_rng(1)
    image = 0.3 * rng.normal(size=(40, 50))
    image -= image.mean()
    errors = np.full(image.shape, 0.03)
    assert relative_error(image, errors, is_signed=True) == pytest.approx(0.03 / image.std())
    # The mean of such an image does not show its accuracy.
    assert relative_error(image + 5.0, errors, is_signed=True) == pytest.approx(0.03 / image.std())
    assert math.isnan(relative_error(np.zeros((4, 4)), errors[:4, :4], is_signed=True))


def test_deflections_and_phases_need_a_sensible_number_of_configurations(tmp_path: Path):
    quadrants = {"inner_mrad": 0.0, "outer_mrad": 40.0, "segments": 4, "rotation_deg": 45.0}
    made = FakeCampaign.of(
        tmp_path, scan={"points": [8, 8]}, frozen_phonon={"configurations": 4},
        adf={"segmented": {"q": quadrants}, "integrated": True},
    )  # fmt: skip
    made.write_all(coordinates=False)
    made.merge()
    found = {one.detector: one for one in precisions(made.result.merged)}
    assert {name for name, one in found.items() if one.is_signed} == {"dpc_x", "dpc_y", "idpc", "icom"}
    assert {name for name, one in found.items() if one.is_segment} == {f"q_{i}" for i in range(4)}
    for name in ("dpc_x", "idpc"):
        with netCDF4.Dataset(made.result.merged) as root:
            depth = found[name].place[1]
            image = np.asarray(root["images"][name][0, 0, depth])
            error = np.asarray(root["images"][f"{name}_standard_error"][0, 0, depth])
        assert found[name].error == pytest.approx(np.sqrt((error**2).mean()) / image.std(), rel=1e-5)
        assert found[name].median == pytest.approx(np.median(error) / image.std(), rel=1e-5)
    assert "(mrad and rad: to its contrast)" in converge.table([*found.values()])[0]


@pytest.mark.slow
def test_so_many_configurations_reach_the_target(tmp_path: Path):
    (bf, haadf) = sorted(precisions(finished(tmp_path / "few", 8).result.merged), key=lambda one: one.detector)
    needed = haadf.needed(0.02)
    assert needed == pytest.approx((0.1 / 0.02) ** 2, rel=0.25)
    more = {one.detector: one for one in precisions(finished(tmp_path / "more", needed).result.merged)}
    assert more["haadf"].error == pytest.approx(0.02, rel=0.15)
    assert haadf.error * haadf.after(needed) <= 0.02
    assert haadf.error * haadf.after(needed - 1) > 0.02
    assert bf.needed(0.5) == 2


@pytest.mark.slow
@pytest.mark.parametrize("independent", [True, False])
def test_errors_of_all_configurations_measured_from_job_files_are_those_of_the_result(
    tmp_path: Path, independent: bool
):
    made = finished(
        tmp_path, 6, probe={"defoci_nm": [0.0, 1.0], "defocus_weights": [1.0, 3.0]},
        frozen_phonon={"independent_defoci": independent},
    )  # fmt: skip
    for one in precisions(made.result.merged):
        measured = measured_errors(made.result, plan_of(made.campaign), one)
        assert list(measured) == [2, 3, 4, 5, 6]
        assert measured[6] == pytest.approx(one.error, rel=1e-4)
        assert measured[2] > measured[6]


def test_the_margin_of_a_scan_has_no_part_in_the_errors(tmp_path: Path):
    edges = ScanEdges((None, 0), (2, 0), 0.1)
    made = FakeCampaign.of(
        tmp_path, edges=edges, scan={"x": [0.25, 0.4], "points": [3, 4]}, frozen_phonon={"configurations": 4}
    )
    made.write_all(coordinates=False)
    made.merge()
    plan = {**plan_of(made.campaign), "scan_edges": edges.in_plan()}
    for one in precisions(made.result.merged):
        assert measured_errors(made.result, plan, one)[4] == pytest.approx(one.error, rel=1e-5)


def test_copies_have_the_part_of_their_position_in_the_errors(tmp_path: Path):
    group = PlaneGroup.of({((-1, 0), (0, 1)): [(0, 0)]}, (64, 64))
    made = FakeCampaign.of(tmp_path, scan={"points": [8, 4]}, frozen_phonon={"configurations": 4})
    planned = replace(made.campaign, symmetry=group)
    made = replace(made, campaign=planned, experiment=replace(made.experiment, symmetry=group))
    assert made.experiment.computed.positions == 20
    made.write_all(coordinates=False)
    made.merge()
    plan = {**plan_of(made.campaign), "scan_symmetry": group.in_params()}
    for one in precisions(made.result.merged):
        assert measured_errors(made.result, plan, one)[4] == pytest.approx(one.error, rel=1e-5)
        # Job files hold segments that are not turned yet.
        assert measured_errors(made.result, plan, replace(one, is_segment=True)) == {}


def test_nothing_is_measured_from_job_files_that_the_source_does_not_blur(tmp_path: Path):
    made = finished(tmp_path, 3)
    (one, _) = precisions(made.result.merged)
    blurred = json.loads(json.dumps(plan_of(made.campaign)))
    blurred["config"]["probe"]["source_fwhm_nm"] = 0.1
    assert measured_errors(made.result, blurred, one) == {}
    made.result.job("p0d000", 2).unlink()
    assert measured_errors(made.result, plan_of(made.campaign), one) == {}


def test_errors_from_few_configurations_are_uncertain():
    of = lambda n: Precision("haadf", n, 0.1, 0.1, 0.1, 1.0, (0, 0))  # noqa: E731
    assert [of(n).is_uncertain for n in (2, 7, 8, 20)] == [True, True, False, False]
    assert of(8).uncertainty == pytest.approx(0.27, abs=0.003)
    # The spread of the sample standard deviation of eight Gaussian values.
    drawn = np.random.default_rng(1).normal(size=(20000, 8)).std(axis=1, ddof=1)
    assert drawn.std() / drawn.mean() == pytest.approx(of(8).uncertainty, rel=0.03)


def test_the_command_prints_a_table_and_draws(tmp_path: Path):
    made = finished(tmp_path, 4)
    said: list[str] = []
    assert converge.converge(made.result.root, None, False, said.append) == 0
    text = "\n".join(said)
    (haadf,) = [one for one in precisions(made.result.merged) if one.detector == "haadf"]
    (row,) = [line for line in said if line.startswith("haadf ")]
    assert row.split()[-3:] == [str(haadf.needed(target)) for target in (0.03, 0.01, 0.003)]
    assert "uncertain: from 4 configurations" in text
    assert matplotlib.image.imread(made.result.root / "convergence.png").shape[1] > 500
    records: list[str] = []
    converge.converge(made.result.root, None, True, records.append)
    (record,) = [one for one in json.loads(records[0]) if one["detector"] == "haadf"]
    assert record["needed"]["0.01"] == haadf.needed(0.01)
    assert math.isclose(record["error"], haadf.error)


def test_a_result_without_errors_is_one_message(tmp_path: Path):
    made = finished(tmp_path, 1)
    with pytest.raises(StemphonyError, match="has no standard errors"):
        converge.converge(made.result.root, None, False, print)
    made.result.merged.unlink()
    with pytest.raises(StorageError, match="nothing is merged yet"):
        converge.converge(made.result.root, None, False, print)
