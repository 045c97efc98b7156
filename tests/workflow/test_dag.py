"""The jobs that Snakemake plans, from any folder and with any profile."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from support import forks
from support.campaign import (
    AFTER_JOBS,
    DEADLINE_S,
    REPOSITORY,
    TINY_JOBS,
    Campaign,
    Outcome,
)

from workflow.conftest import Reported

RULE_FILES = sorted((REPOSITORY / "workflow" / "rules").glob("*.smk"))
RULE_BLOCK = re.compile(r"^(?:rule|checkpoint) (\w+):\n((?:(?: .*)?\n)*)", re.MULTILINE)
RULES = {name: (file, body) for file in RULE_FILES for name, body in RULE_BLOCK.findall(file.read_text())}


def snakemake(folder: Path, env: dict[str, str], log: Path, *arguments: str | Path) -> Outcome:
    status = forks.run(["snakemake", *arguments], env, folder, log, DEADLINE_S)
    return Outcome(status, log.read_text(encoding="utf-8", errors="replace"))


def numbers(output: str) -> dict[str, int]:
    """Number of jobs of each rule, as Snakemake counts them."""
    table = output.rpartition("Job stats:")[2]
    return {name: int(number) for name, number in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


def test_a_clone_computes_the_demo_when_no_config_is_named(clone: Path, env: dict[str, str], tmp_path: Path):
    outcome = snakemake(clone, env, tmp_path / "log", "--dry-run", "--cores", "1")
    assert outcome.status == 0, outcome.output
    assert numbers(outcome.output) == {
        "prepare_specimen": 1,
        "run_multislice": 6,
        "merge_results": 1,
        "plot_results": 1,
        "all": 1,
        "total": 10,
    }
    assert "results/srtio3/stem.nc" in outcome.output
    assert not (clone / "results").exists(), "a dry run writes no result"


@pytest.fixture(scope="module")
def elsewhere(clone: Path, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, Outcome]:
    """A config with only the required keys, in another folder, named by a relative path."""
    config = {
        "simulation": {"name": "bare"},
        "specimen": {"file": "srtio3.cif", "repeat": [3, 3, 1], "u_iso_angstrom2": {"Sr": 0, "Ti": 0, "O": 0}},
    }
    campaign = Campaign.make(clone, tmp_path_factory.mktemp("else") / "some where", config, env)
    arguments = ["--dry-run", "--snakefile", clone / "Snakefile", "--directory", "work here"]
    log = campaign.folder / "log"
    outcome = snakemake(campaign.folder, env, log, *arguments, "--configfile", "config/simulation.yaml", "--cores", "1")
    assert outcome.status == 0, outcome.output
    return campaign, outcome


def test_another_folder_with_a_space_in_its_name_gets_the_whole_campaign(elsewhere: tuple[Campaign, Outcome]):
    _, outcome = elsewhere
    assert outcome.jobs == {"prepare_specimen", *(f"p0d000/{n:04d}" for n in range(4)), *AFTER_JOBS}
    assert "results/bare/stem.nc" in outcome.output


def test_a_config_is_not_merged_into_the_demo(elsewhere: tuple[Campaign, Outcome]):
    _, outcome = elsewhere
    # The demo has three defoci with two configurations each, and depths, which would be drawn as curves.
    assert numbers(outcome.output)["run_multislice"] == 4
    assert "srtio3/" not in outcome.output
    assert "thickness_curves" not in outcome.output


def test_a_dry_run_writes_nothing(elsewhere: tuple[Campaign, Outcome]):
    campaign, _ = elsewhere
    left = [path for path in campaign.directory.iterdir() if path.name != ".snakemake"]
    assert left == []


@pytest.mark.parametrize("profile", ["slurm", "profiles/slurm"])
def test_the_slurm_profile_is_found_in_the_clone(profile: str, clone: Path, env: dict[str, str], tmp_path: Path):
    outcome = snakemake(clone, env, tmp_path / "log", "--profile", profile, "--dry-run")
    assert outcome.status == 0, outcome.output
    assert numbers(outcome.output)["run_multislice"] == 6


def test_the_three_lines_of_the_slurm_profile_take_any_name(clone: Path, env: dict[str, str], tmp_path: Path):
    """Also names that mean something in Python."""
    own = shutil.copytree(clone / "profiles" / "slurm", tmp_path / "own")
    file = own / "config.v9+.yaml"
    text = file.read_text()
    for line, name in (("slurm_partition", "open"), ("slurm_account", "123-a"), ("qos", "all")):
        text, number = re.subn(rf"# {line}: \"'[\w-]+'\"", f"{line}: \"'{name}'\"", text)
        assert number == 1
    file.write_text(text)
    outcome = snakemake(clone, env, tmp_path / "log", "--profile", own, "--dry-run")
    assert outcome.status == 0, outcome.output
    assert "slurm_partition=open, slurm_account=123-a, qos=all" in outcome.output


def test_snakemake_lint_finds_nothing(clone: Path, env: dict[str, str], tmp_path: Path):
    outcome = snakemake(clone, env, tmp_path / "log", "--lint")
    assert outcome.status == 0, outcome.output
    assert "Congratulations" in outcome.output


def test_the_rules_are_those_of_the_pipeline():
    of_results = {"prepare_specimen", "run_multislice", "judge_round", "merge_results", "plot_results", "combine_sweep"}
    assert RULES.keys() == of_results | {"prepare_accuracy", "run_variant", "merge_accuracy", "accuracy"}


@pytest.mark.parametrize("rule", sorted(RULES.keys() - {"accuracy"}))
def test_every_rule_has_a_log_an_environment_and_a_script_of_its_name(rule: str):
    file, body = RULES[rule]
    assert re.search(rf'^    log:\n        (f"logs/{rule}/|FILES.log\()', body, re.MULTILINE)
    environment = re.search(r'^    conda:\n        "(.+)"$', body, re.MULTILINE)
    assert environment is not None
    assert (file.parent / environment[1]).is_file()
    assert f"$STEMPHONY_SCRIPTS/{rule}.py" in body
    assert (REPOSITORY / "workflow" / "scripts" / f"{rule}.py").is_file()


@pytest.mark.failure("two simulations in one folder")
def test_more_than_one_campaign_may_live_in_a_folder(quiet_copy: Campaign):
    quiet_copy.change(simulation={"name": "another"})
    assert quiet_copy.to_run() == {"prepare_specimen", *TINY_JOBS, *AFTER_JOBS}


def test_a_key_that_stands_twice_is_refused_by_snakemake_too(tiny: Reported, tmp_path: Path):
    campaign = tiny.copy(tmp_path / "twice")
    campaign.config.write_text(campaign.config.read_text() + "\nscan: {points: [7, 7]}\n")
    outcome = campaign.snakemake("--dry-run")
    assert outcome.status == 1, outcome.output
    assert "scan" in outcome.output
    assert "second time" in outcome.output
    assert "Traceback" not in outcome.output
