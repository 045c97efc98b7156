"""File names: the tree of the output contract, and no file outside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from stemphony import paths
from stemphony.paths import ResultPaths


def test_files_of_a_result_lie_where_the_output_contract_says():
    result = ResultPaths.of("srtio3")
    assert {
        "identity": str(result.identity),
        "plan": str(result.plan),
        "specimen": str(result.specimen),
        "job": str(result.job("p2d500", 7)),
        "checksum": str(paths.checksum(result.job("p2d500", 7))),
        "merged": str(result.merged),
        "figure": str(result.figure("haadf")),
        "run": str(result.run(3)),
        "plan_of": str(result.plan_of(3)),
    } == {
        "identity": "results/srtio3/simulation.json",
        "plan": "results/srtio3/plan.json",
        "specimen": "results/srtio3/specimen.nc",
        "job": "results/srtio3/jobs/defocus_p2d500/configuration_0007.nc",
        "checksum": "results/srtio3/jobs/defocus_p2d500/configuration_0007.nc.sha256",
        "merged": "results/srtio3/stem.nc",
        "figure": "results/srtio3/figures/haadf.png",
        "run": "results/srtio3/reports/run-3",
        "plan_of": "results/srtio3/reports/run-3/plan.json",
    }


def test_a_job_file_knows_its_simulation():
    result = ResultPaths.of("a", "/some/where/results")
    assert ResultPaths.of_job_file(result.job("m1d000", 0)) == result
    assert result.name == "a"


def test_wildcards_stay_as_they_are():
    assert str(ResultPaths.of("a").job("{defocus}", "{configuration}")).endswith(
        "jobs/defocus_{defocus}/configuration_{configuration}.nc"
    )


@pytest.mark.parametrize("name", ["progress", "events", "hook_events"])
def test_reports_stand_in_the_folder_of_their_run(name):
    result = ResultPaths.of("a")
    arguments = (3, "p0d000", 1) if name == "progress" else (3,)
    assert result.run(3) in getattr(result, name)(*arguments).parents


def test_attempts_are_counted_over_all_runs():
    result = ResultPaths.of("a")
    one, two = result.attempt("p0d000", 1, 1), result.attempt("p0d000", 1, 2)
    assert one.parent == two.parent
    assert "run-" not in "\n".join(one.parts)


@pytest.mark.parametrize(
    ("value", "identifier", "picometres"),
    [
        (2.5, "p2d500", 2500),
        (-10, "m10d000", -10000),
        (-0.0, "p0d000", 0),
        (-0.0004, "p0d000", 0),
        (0.0006, "p0d001", 1),
        (-12.3456, "m12d346", -12346),
    ],
)
def test_name_and_seed_of_a_defocus_follow_the_same_rounding(value, identifier, picometres):
    assert (paths.defocus_id(value), paths.defocus_pm(value)) == (identifier, picometres)


def test_defocus_ids_match_what_the_rules_accept():
    rule = (Path(__file__).parents[2] / "workflow/rules/common.smk").read_text()
    assert r'defocus=r"[pm]\d+d\d{3}"' in rule
