"""Folders of a simulation are not trusted: their Python files do not run, and the configs that they name are unused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.campaign import PROGRAMS, REPOSITORY, Campaign, Outcome, Running, assert_same_arrays
from support.hostile import imported, plant
from support.status_server import EchoServer, closed_port

from workflow.conftest import Reported


@dataclass(frozen=True)
class Surrounded:
    """A finished campaign. Its folders and the user's working directory have files with names of modules."""

    campaign: Campaign
    here: Path
    trace: Path

    def call(self, *words: str | Path, program: str = "stemphony") -> Outcome:
        """Run a command in the working directory of the user, and check that no planted file has run."""
        command = [PROGRAMS / program, *words]
        with Running(command, self.trace.with_name("out"), self.campaign.env, cwd=self.here) as running:
            outcome = running.end()
        assert imported(self.trace) == [], outcome.output
        assert "was imported" not in outcome.output
        return outcome


@pytest.fixture
def surrounded(tiny: Reported, tmp_path: Path) -> Surrounded:
    campaign = tiny.copy(tmp_path / "copy of it")
    campaign.change(http_reporting={"reporting": True, "url": f"http://127.0.0.1:{closed_port()}/"})
    trace, here = tmp_path / "trace", tmp_path / "here"
    result = campaign.result
    for folder in (here, campaign.config.parent, campaign.directory, result.root.parent, result.root, result.reports):
        plant(folder, trace)
    return Surrounded(campaign, here, trace)


def test_status_runs_no_file_of_the_folder(surrounded: Surrounded):
    for words in ((), ("--verify",), ("--json",)):
        outcome = surrounded.call("status", surrounded.campaign.result.root, *words)
        assert outcome.status == 0, outcome.output
        assert '"merged": "current"' in outcome.output or "is merged from them" in outcome.output


def test_run_and_rerun_use_no_file_of_the_folder(surrounded: Surrounded, tiny: Reported):
    campaign = surrounded.campaign
    campaign.change(simulation={"name": "second"})
    with EchoServer() as server:
        campaign.change(http_reporting={"url": server.url})
        run = ("run", campaign.config, "--directory", campaign.directory, "--cores", "2")
        outcome = surrounded.call(*run)
        assert outcome.status == 0, outcome.output
        assert server.events[-1]["event"] == "FINISH"
    assert_same_arrays(campaign.result.merged, tiny.arrays)
    outcome = surrounded.call("rerun", campaign.result.root, "--configuration", "1", "--cores", "2")
    assert outcome.status == 0, outcome.output
    assert_same_arrays(campaign.result.merged, tiny.arrays)


@pytest.mark.parametrize("name", ["default", "profiles/default"])
def test_a_profile_in_the_folder_of_the_user_is_not_used(surrounded: Surrounded, tiny: Reported, name: str):
    """The attack: Snakemake prefers a profile in the working directory to ours, and a profile can name commands."""
    campaign = surrounded.campaign
    campaign.change(http_reporting={"reporting": False})
    for folder in (surrounded.here, campaign.directory, campaign.config.parent):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.v9+.yaml").write_text("executor: of-somebody-else\n")
    campaign.job_file("p5d000/0001").unlink()
    run = ("run", campaign.config, "--directory", campaign.directory, "--cores", "2")
    outcome = surrounded.call(*run)
    assert outcome.status == 0, outcome.output
    assert_same_arrays(campaign.result.merged, tiny.arrays)


def test_plain_snakemake_runs_no_file_of_the_folder(surrounded: Surrounded, tiny: Reported):
    campaign = surrounded.campaign
    campaign.change(simulation={"name": "third"}, http_reporting={"reporting": False})
    words = ("--snakefile", REPOSITORY / "Snakefile", "--configfile", campaign.config, "--cores", "2")
    words = (*words, "--directory", campaign.directory)
    outcome = surrounded.call(*words, program="snakemake")
    assert outcome.status == 0, outcome.output
    assert_same_arrays(campaign.result.merged, tiny.arrays)
    outcome = surrounded.call(*words, program="snakemake")
    assert outcome.jobs == set(), outcome.output


def test_other_commands_run_no_file_of_the_folder(surrounded: Surrounded):
    campaign = surrounded.campaign
    for words in (
        ("check", campaign.config, "--no-calibration"),
        ("show", campaign.config),
        ("preview", campaign.result.root),
        ("clean", campaign.result.root),
        ("init", campaign.folder / "new"),
        ("profile", "install", campaign.folder / "profile"),
        ("bench", "--grid", "96", "--slices", "2", "--probes", "1"),
        ("rerun", campaign.result.root, "--dry-run"),
        ("report", "replay", campaign.result.root),
        ("monitor", "--help"),
    ):
        outcome = surrounded.call(*words)
        assert outcome.status == 0, (words, outcome.output)


def test_report_test_runs_no_file_of_the_folder(surrounded: Surrounded):
    outcome = surrounded.call("report", "test", surrounded.campaign.config)
    assert "connection refused" in outcome.output


def test_a_rerun_of_a_received_folder_does_not_use_the_config_that_it_names(tiny: Reported, tmp_path: Path):
    """The attack: the plan names a config of the sender, with an address and a variable of this user in it."""
    campaign = tiny.copy(tmp_path / "received")
    # Another user: with the same programs, and a record of own runs that is empty.
    campaign = replace(campaign, env={**campaign.env, "XDG_STATE_HOME": str(tmp_path / "state"), "SECRET": "canary"})
    own = campaign.settings
    with EchoServer() as theirs, EchoServer() as ours:
        block = {"reporting": True, "url": theirs.url, "auth_user": "u", "auth_pass_env": "SECRET"}
        campaign.write({**own, "http_reporting": block})
        for file in campaign.result.root.rglob("plan.json"):
            file.write_text(json.dumps({**json.loads(file.read_text()), "config_files": [str(campaign.config)]}))
        outcome = campaign.command("rerun", campaign.result.root, "--configuration", "1")
        assert outcome.status == 1, outcome.output
        assert "there is no record that you ran tiny." in outcome.output
        trusted = campaign.config.with_name("trusted.yaml")
        trusted.write_text(json.dumps({**own, "http_reporting": {"reporting": True, "url": ours.url}}))
        words = ("rerun", campaign.result.root, "--configuration", "1", "--cores", "2")
        outcome = campaign.command(*words, "--config", trusted)
        assert outcome.status == 0, outcome.output
        assert f"status reporting: to {ours.url.rstrip('/')}, where you have sent no reports before" in outcome.output
        assert ours.events[-1]["event"] == "FINISH"
        # From now on this user has a record.
        outcome = campaign.command(*words)
        assert outcome.status == 0, outcome.output
        assert "where you have sent no reports" not in outcome.output
        assert theirs.received == []
