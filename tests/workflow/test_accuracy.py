"""The target `accuracy`: a campaign of its own beside the simulation, and its budget in the simulation's result."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import netCDF4
import pytest
import yaml
from stemphony.commands.accuracy import read_budget, table
from stemphony.results.layout import read_texts
from support.campaign import REPOSITORY, TINY, Campaign, changed
from support.pages import masked

from workflow.conftest import Reported

VARIANTS = {
    "reference", "slices", "slices_further", "sampling", "sampling_further", "potential", "cell", "precision",
    "parametrization", "u_more", "u_less",
}  # fmt: skip


@pytest.fixture(scope="module")
def budget(clone: Path, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """A tiny campaign of which nothing but the budget was computed."""
    config = changed(TINY, simulation={"name": "tiny"}, grating={"gpts": [96, 96]}, cbed={"enabled": False})
    campaign = Campaign.make(clone, tmp_path_factory.mktemp("budget"), config, env)
    outcome = campaign.snakemake("accuracy")
    assert outcome.status == 0, outcome.output
    return campaign


def test_the_target_computes_a_budget_and_nothing_of_the_simulation(budget: Campaign):
    root = budget.result.root
    record = json.loads(budget.result.accuracy.read_text())
    assert {file.stem for file in (root / "accuracy/variants").iterdir()} == VARIANTS
    assert {line["name"] for line in record["lines"]} == {
        "slices", "sampling", "potential", "cell", "precision", "parametrization", "u",
    }  # fmt: skip
    assert set(record["without"]) == {"band_limit", "window", "basis"}
    assert budget.result.accuracy_figure.read_bytes().startswith(b"\x89PNG")
    # It is no run of the simulation: no plan, identity, events or results of one.
    for file in (budget.result.plan, budget.result.identity, budget.result.merged, budget.result.reports):
        assert not file.exists(), file


def test_a_second_run_has_nothing_to_do_and_a_changed_choice_computes_again(budget: Campaign, tmp_path: Path):
    copy = budget.copy(tmp_path / "copy")
    assert "Nothing to be done" in copy.snakemake("accuracy").output
    copy.change(probe={"semiangle_mrad": 19.0})
    outcome = copy.snakemake("accuracy", "--dry-run")
    assert outcome.output.count("rule run_variant:") == len(VARIANTS)


def test_the_result_of_a_later_run_holds_the_budget_of_its_config(budget: Campaign, tmp_path: Path):
    copy = budget.copy(tmp_path / "copy")
    outcome = copy.snakemake()
    assert outcome.status == 0, outcome.output
    record = json.loads(copy.result.accuracy.read_text())
    with netCDF4.Dataset(copy.result.merged) as root:
        group = root["accuracy"]
        assert group.digest == record["digest"]
        names = read_texts(group["term"])
        assert names == [line["name"] for line in record["lines"]]
        row = names.index("sampling")
        found = [change["image"] for change in record["lines"][row]["changes"]["haadf"]]
        assert group["haadf_image"][row].tolist() == pytest.approx(found)


def test_the_page_of_commands_shows_lines_of_the_table(budget: Campaign):
    section = (
        (REPOSITORY / "docs" / "commands.md").read_text(encoding="utf-8").split("\n## accuracy\n")[1].split("\n## ")[0]
    )
    (shown,) = re.findall(r"^```text\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    said = {masked(line) for line in table(read_budget(budget.result))}
    assert [line for line in shown.splitlines() if masked(line) not in said] == []


def test_a_budget_of_a_config_without_detectors_says_so(tiny: Reported, tmp_path: Path):
    campaign = tiny.copy(tmp_path / "copy")
    campaign.change(adf={"enabled": False})
    outcome = campaign.snakemake("accuracy")
    assert outcome.status != 0
    assert "no named detector" in "".join(
        log.read_text() for log in campaign.folder.rglob("logs/prepare_accuracy/*/atoms.log")
    )


def test_the_command_recommends_a_config_that_is_finer_and_says_its_cost(budget: Campaign, tmp_path: Path):
    copy = budget.copy(tmp_path / "copy")
    command = [
        sys.executable,
        "-m",
        "stemphony",
        "accuracy",
        copy.config,
        "--directory",
        copy.directory,
        "--cores",
        "1",
    ]
    env = {**copy.env, "PYTHONPATH": str(copy.clone / "workflow/scripts")}
    printed = subprocess.run(
        [*map(str, command), "--cores", "1", "--target", "0.5%", "--json"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert printed.returncode == 0, printed.stderr
    found = json.loads(printed.stdout)["recommendation"]
    assert found["before"] > 0.005
    assert {"cell", "sampling"} <= found["levels"].keys()
    assert "of CPU" in "\n".join(found["text"])
    recommended = yaml.safe_load((copy.result.root / "tiny_accurate.yaml").read_text())
    assert recommended["specimen"]["repeat"] == [5, 5, 1]
    assert recommended["grating"]["gpts"][0] > 96 * 5 / 3
    assert recommended["scan"]["x"] == pytest.approx([0.0, 0.3 * 3 / 5]), "the same place in the larger cell"
    assert recommended["probe"] == copy.settings["probe"]
