"""A campaign from nothing to figures, in a folder that is not the clone's."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stemphony.paths import job_folder
from support.arrays import differences
from support.campaign import (
    AFTER_JOBS,
    TINY,
    TINY_JOBS,
    Campaign,
    arrays,
    assert_same_arrays,
    attributes,
    changed,
)

from workflow.conftest import Reported

with warnings.catch_warnings():
    # Optional parts of xarray complain about each other's versions while it is imported.
    warnings.simplefilter("ignore")
    import xarray

PNG = b"\x89PNG\r\n\x1a\n"
JOB_NAMES = sorted(f"defocus_{job.replace('/', '_configuration_')}" for job in TINY_JOBS)


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_file_has_its_place_and_there_is_no_other(tiny: Reported):
    jobs = {f"jobs/defocus_{job.replace('/', '/configuration_')}.nc" for job in TINY_JOBS}
    figures = {f"figures/{name}.png" for name in ("bf", "haadf", "thickness_curves", "cbed_mean")}
    root = tiny.campaign.result.root
    found = {name for name in files_below(root) if not name.startswith("reports/")}
    assert found == {
        "simulation.json",
        "plan.json",
        "specimen.nc",
        "stem.nc",
        "stem.nc.sha256",
        *jobs,
        *(f"{job}.sha256" for job in jobs),
        *figures,
    }
    progress = {f"run-1/progress/{job_folder(name)}/{name}.json" for name in JOB_NAMES}
    spools = {f"run-1/events/{job_folder(name)}/{name}.attempt-1.jsonl" for name in JOB_NAMES}
    spools.add("run-1/events/hooks.jsonl")
    claims = {f"run-1/defocus_{defocus}.START_DEFOCUS.json" for defocus in ("p0d000", "p5d000")}
    attempts = {f"attempts/defocus_{job.replace('/', '/configuration_')}.1" for job in TINY_JOBS}
    delivered = {spool.replace(".jsonl", ".delivered") for spool in spools} | {"delivery.lock"}
    own = {"run-1/plan.json"}
    assert files_below(root / "reports") == progress | spools | delivered | claims | attempts | own


def test_logs_and_benchmarks_stand_beside_the_results(tiny: Reported):
    directory = tiny.campaign.directory
    assert {path.name for path in directory.iterdir()} == {".snakemake", "results", "logs", "benchmarks"}
    assert files_below(directory / "logs") == {
        "prepare_specimen/tiny/specimen.log",
        "merge_results/tiny/stem.log",
        "plot_results/tiny/figures.log",
        *(f"run_multislice/tiny/defocus_{job.replace('/', '/configuration_')}.log" for job in TINY_JOBS),
    }
    assert files_below(directory / "benchmarks") == {
        "merge_results/tiny/stem.tsv",
        *(f"run_multislice/tiny/defocus_{job.replace('/', '/configuration_')}.tsv" for job in TINY_JOBS),
    }


def test_all_jobs_ran_once(tiny: Reported):
    assert tiny.first.jobs == {"prepare_specimen", *TINY_JOBS, *AFTER_JOBS}
    states = tiny.campaign.states(1)
    assert states.keys() == TINY_JOBS
    assert {state["state"] for state in states.values()} == {"finished"}
    assert {state["attempt"] for state in states.values()} == {1}
    assert {(state["done"], state["total"]) for state in states.values()} == {(4, 4)}


def test_the_plan_is_printed_before_the_jobs(tiny: Reported):
    plan, _, jobs = tiny.first.output.partition("Select jobs to execute")
    assert re.search(r"stemphony: simulation +tiny: Tiny campaign\n", plan)
    assert re.search(r"stemphony: jobs +4 = 2 defoci × 2 configurations\n", plan)
    assert "run_multislice" in jobs


def test_the_identity_is_a_uuid_with_the_seed(tiny: Reported):
    identity = json.loads(tiny.campaign.result.identity.read_text())
    assert uuid.UUID(identity["id"]).version == 4
    assert identity["seed"] == 7
    assert attributes(tiny.campaign.result.merged)["id"] == identity["id"]


def test_the_plan_file_says_what_this_run_computes(tiny: Reported):
    plan = json.loads(tiny.campaign.result.plan.read_text())
    expected = {
        "run": 1,
        "num_defoci": 2,
        "num_configurations": 2,
        "num_processors": 2,
        "threads": 1,
        "jobs_to_run": 4,
        "defoci_ids": ["p0d000", "p5d000"],
        "defoci_nm": [0.0, 5.0],
        "weights": [0.5, 0.5],
        "title": "Tiny campaign",
    }
    assert {key: plan[key] for key in expected} == expected
    assert plan["config_files"] == [str(tiny.campaign.config)]


@pytest.fixture(scope="module")
def kept_apart(tiny: Reported, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """The finished campaign, merged without averaging."""
    campaign = tiny.copy(tmp_path_factory.mktemp("apart") / "kept apart")
    apart = {"average_configurations": False, "average_defoci": False}
    campaign.change(adf=apart, cbed=apart, http_reporting={"reporting": False})
    assert campaign.succeed("--until", "merge_results").jobs == {"merge_results"}
    return campaign


def test_xarray_opens_the_result_and_selects_by_angle_position_and_depth(kept_apart: Campaign):
    with xarray.open_datatree(kept_apart.result.merged) as tree:
        bins = tree["adf"]["adf_intensities"]
        chosen = bins.sel(
            adf_defocus=5.0,
            adf_phonon=1,
            adf_detector_angle=slice(25.0, 39.5),
            adf_slice=0.3905,
        ).sel(adf_position_x=0.17, adf_position_y=0.0, method="nearest")
        assert chosen.dims == ("adf_plasmon_energies", "adf_detector_angle")
        assert chosen.sizes["adf_detector_angle"] == 15
        image = tree["images"]["haadf"].sel(adf_defocus=5.0, adf_phonon=1, adf_slice=0.3905)
        image = image.sel(adf_position_x=0.17, adf_position_y=0.0, method="nearest")
        # The detector haadf is 25–40 mrad and the bins are 1 mrad wide.
        assert float(chosen.sum()) == pytest.approx(float(image), rel=1e-5)
        assert float(image) > 0
        pattern = tree["cbed"]["cbed_intensities"].sel(cbed_defocus=0.0, cbed_phonon=0, cbed_slice=0.3905)
        assert pattern.dims[-2:] == ("cbed_k_x", "cbed_k_y")
        assert 0 < float(pattern.isel(cbed_position_x=0, cbed_position_y=0).sum()) < 1


def test_unaveraged_results_are_those_of_the_jobs(kept_apart: Campaign):
    merged = arrays(kept_apart.result.merged)
    for job in TINY_JOBS:
        own = arrays(kept_apart.job_file(job))
        at = (["p0d000", "p5d000"].index(job[:6]), int(job[-4:]))
        for name in ("images/bf", "images/haadf", "images/total_intensity"):
            assert np.array_equal(merged[name][at], own[name][0, 0]), (job, name)
        assert not differences(
            merged["adf/adf_intensities"][at[0], :, :, at[1]], own["adf/adf_intensities"][0, :, :, 0]
        )
        assert not differences(
            merged["cbed/cbed_intensities"][at[0], :, :, at[1]], own["cbed/cbed_intensities"][0, :, :, 0]
        )


def test_configurations_and_defoci_differ(tiny: Reported):
    images = [arrays(tiny.campaign.job_file(job))["images/haadf"] for job in sorted(TINY_JOBS)]
    assert len({image.tobytes() for image in images}) == 4


def test_every_figure_is_a_png_picture(tiny: Reported):
    from matplotlib.image import imread

    figures = sorted(tiny.campaign.result.figures.iterdir())
    assert len(figures) == 4
    for figure in figures:
        assert figure.read_bytes().startswith(PNG)
        pixels = imread(figure)
        assert min(pixels.shape[:2]) > 200
        assert pixels[..., :3].std() > 0.05, f"{figure.name} is empty"


def test_a_second_run_has_nothing_to_do(quiet_copy: Campaign):
    before = files_below(quiet_copy.result.root)
    outcome = quiet_copy.succeed()
    assert "Nothing to be done" in outcome.output
    assert outcome.jobs == set()
    assert files_below(quiet_copy.result.root) == before


def test_order_cores_and_threads_do_not_change_one_bit(tiny: Reported, new_campaign: Callable[..., Campaign]):
    campaign = new_campaign(changed(TINY, resources={"threads": 3}))
    last = campaign.result.job("p5d000", 1).relative_to(campaign.directory)
    # The job that the undisturbed run computed last comes first, alone, with two threads.
    assert campaign.succeed(last, cores=2).jobs == {"prepare_specimen", "p5d000/0001"}
    assert campaign.succeed(cores=3).jobs == {*TINY_JOBS - {"p5d000/0001"}, *AFTER_JOBS}
    threads = {job: attributes(campaign.job_file(job), "runtime")["threads"] for job in TINY_JOBS}
    assert threads == {**dict.fromkeys(TINY_JOBS, 3), "p5d000/0001": 2}
    assert_same_arrays(campaign.result.merged, tiny.arrays)
    for job in TINY_JOBS:
        assert_same_arrays(campaign.job_file(job), arrays(tiny.campaign.job_file(job)))


def test_nothing_needs_a_network(tiny: Reported, new_campaign: Callable[..., Campaign]):
    without = ["unshare", "--net", "--map-root-user"]
    try:
        tried = subprocess.run([*without, "true"], capture_output=True, text=True, timeout=10)
    except OSError as error:
        pytest.skip(f"cannot take the network away: {error}")
    if tried.returncode:
        pytest.skip(f"cannot take the network away: {tried.stderr.strip()}")
    campaign = new_campaign(TINY)
    campaign.succeed(prefix=without)
    assert_same_arrays(campaign.result.merged, tiny.arrays)
