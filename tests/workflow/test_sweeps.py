"""One config with a sweep gives one simulation per combination, in one run of Snakemake."""

from __future__ import annotations

import json
import re
import shlex
import signal
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray
import yaml
from stemphony import paths, provenance
from stemphony.orchestration import snakefile
from stemphony.store import claims
from support.campaign import (
    TINY,
    Campaign,
    Outcome,
    arrays,
    assert_same_arrays,
    attributes,
    changed,
    wait_for,
)
from support.shared import made_once
from support.status_server import EchoServer

SWEEP = {"probe.semiangle_mrad": [20, 25], "adf.average_configurations": [True, False]}
SWEPT = {
    **changed(
        TINY,
        simulation={"name": "swept", "title": "Swept", "random_seed": 0},
        probe={"defoci_nm": [0.0]},
        cbed={"enabled": False},
        frozen_phonon={"configurations": 1},
    ),
    "sweep": SWEEP,
}
LABELS = [
    f"adf.average_configurations_{averages}__probe.semiangle_mrad_{angle}"
    for averages in ("true", "false")
    for angle in (20, 25)
]
TAKEN = "has the same job: its result is checked and taken"


@dataclass(frozen=True)
class Swept:
    """A sweep that has run, and what its receiver got."""

    campaign: Campaign
    first: Outcome
    events: list[dict[str, Any]]

    @property
    def files(self) -> paths.SweepPaths:
        return paths.SweepPaths(self.campaign.result.root)


@pytest.fixture(scope="session")
def swept(clone: Path, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Swept:
    def compute(folder: Path) -> Swept:
        with EchoServer() as server:
            config = {**SWEPT, "http_reporting": {"reporting": True, "url": server.url}}
            campaign = Campaign.make(clone, folder / "a sweep", config, env)
            outcome = campaign.stemphony()
            assert outcome.status == 0, outcome.output
            return Swept(campaign, outcome, server.events)

    return made_once(tmp_path_factory, "swept", compute)


def jobs_to_run(campaign: Campaign) -> dict[str, set[str]]:
    """Labels of the members that each rule would run for now."""
    outcome = campaign.forked("--dry-run")
    assert outcome.status == 0, outcome.output
    found: dict[str, set[str]] = {}
    for rule, body in re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)*)", outcome.output, re.MULTILINE):
        member = re.search(r"member=([^,\n]+)", body)
        found.setdefault(rule, set()).add(member[1] if member else "")
    return found


def test_each_combination_is_a_simulation_with_its_own_id_and_events(swept: Swept):
    members = [swept.files.member(label) for label in LABELS]
    ids = {json.loads(member.identity.read_text())["id"] for member in members}
    assert len(ids) == 4
    for number in ids:
        names = [event["event"] for event in swept.events if event["id"] == number]
        assert (names[0], names[-1]) == ("START_SIMULATION", "FINISH")
        assert names.count("START_SIMULATION") == names.count("FINISH") == 1
        assert {"START_DEFOCUS", "START_FP_CONFIGURATION", "FINISH_FP_CONFIGURATION"} <= set(names)
    starts = {event["title"]: event for event in swept.events if event["event"] == "START_SIMULATION"}
    assert "Swept: adf.average_configurations = false, probe.semiangle_mrad = 25" in starts
    assert {event["result_name"] for event in starts.values()} == {f"swept/{label}" for label in LABELS}
    for member in members:
        params = attributes(member.merged, "params/probe")
        assert member.root.name.endswith(f"semiangle_mrad_{params['semiangle_mrad']:g}")


def test_members_share_atoms_and_jobs_where_nothing_differs(swept: Swept):
    logs = {
        label: (swept.campaign.directory / swept.files.member(label).log("p0d000", 0).relative_to(
            swept.campaign.directory)).read_text()
        for label in LABELS
    }  # fmt: skip
    # The merge alone averages. Of two members with the same job, the first in alphabetical order computes it.
    assert [label for label, text in logs.items() if TAKEN in text] == LABELS[:2]
    seeds = {attributes(swept.files.member(label).job("p0d000", 0))["effective_seed"] for label in LABELS}
    assert len(seeds) == 1
    for label in LABELS:
        member = swept.files.member(label)
        assert attributes(member.job("p0d000", 0))["id"] == json.loads(member.identity.read_text())["id"]


def test_one_file_has_all_members_with_the_swept_keys_as_axes(swept: Swept):
    with xarray.open_dataset(swept.files.combined) as combined:
        assert combined["bf"].dims == ("average_configurations", "semiangle_mrad", "depth_nm", "x", "y")
        assert combined["semiangle_mrad"].values.tolist() == [20, 25]
        assert combined["average_configurations"].values.tolist() == ["true", "false"]
        assert combined["label"].values.ravel().tolist() == LABELS
        for label, place in zip(LABELS, np.ndindex(2, 2), strict=True):
            own = arrays(swept.files.member(label).merged)["images/bf"][0, 0]
            np.testing.assert_allclose(combined["bf"].values[place], own, rtol=1e-6)
            np.testing.assert_allclose(combined["bf_mean"].values[place], own.mean(axis=(1, 2)), rtol=1e-6)
    assert swept.files.figure.read_bytes().startswith(b"\x89PNG")
    assert "4 of 4 simulations are merged" in swept.first.output


def test_an_edited_sweep_computes_only_what_is_new(swept: Swept, tmp_path: Path):
    campaign = swept.campaign.copy(tmp_path / "copy")
    assert jobs_to_run(campaign) == {}
    new = [label.replace("_20", "_30") for label in LABELS[::2]]
    campaign.write({**SWEPT, "sweep": {**SWEEP, "probe.semiangle_mrad": [30, 20, 25.0]}})
    found = jobs_to_run(campaign)
    assert found["run_multislice"] == found["merge_results"] == set(new)
    assert "combine_sweep" in found
    campaign.write({**SWEPT, "sweep": {**SWEEP, "probe.semiangle_mrad": [25]}})
    assert set(jobs_to_run(campaign)) == {"combine_sweep", "all"}


def test_the_process_of_a_job_asks_the_plan_of_its_own_member(swept: Swept, monkeypatch: pytest.MonkeyPatch):
    config, label = swept.campaign.config, LABELS[2]
    monkeypatch.chdir(swept.campaign.directory)
    monkeypatch.setattr(snakefile, "prepare_environment", lambda files: None)
    workflow = SimpleNamespace(is_main_process=False)
    session = snakefile._open_sweep(yaml.safe_load(config.read_text()), [config], workflow, False)
    job = SimpleNamespace(member=label, defocus="p0d000", configuration="0000")
    digest = attributes(swept.files.member(label).job("p0d000", 0))["job_digest"]
    assert provenance.digest(json.loads(session.job_params(job))) == digest
    assert session.specimen_input(lambda file: ("ancient", file))(job) == (
        "ancient",
        Path("results/swept") / label / "specimen.nc",
    )
    assert session.targets(None) == session.labels == []
    assert list(session.known) == [label]


def test_commands_work_on_a_sweep_or_name_its_members(swept: Swept, tmp_path: Path):
    campaign = swept.campaign.copy(tmp_path / "copy")
    folder, member = campaign.result.root, paths.SweepPaths(campaign.result.root).member(LABELS[3])
    member.job("p0d000", 0).unlink()
    status = campaign.command("status", folder)
    assert f"  {LABELS[0]}: 1 done of 1 pair; merged: current" in status.output
    assert f"  {LABELS[3]}: 1 missing of 1 pair" in status.output
    for command in (["converge"], ["export", "--to", "csv"]):
        refused = campaign.command(*command, folder)
        assert refused.status == 1, refused.output
        assert (
            f"holds a sweep of 4 simulations, and this command works on one. Give one of them:\n  {folder}"
            in refused.output
        )
    assert (ended := campaign.command("plot", folder, "--output", tmp_path / "sweep.pdf")).status == 0, ended.output
    assert (tmp_path / "sweep.pdf").read_bytes().startswith(b"%PDF")
    assert (ended := campaign.command("clean", folder)).status == 0, ended.output
    planned = campaign.command("rerun", "--dry-run", folder)
    assert planned.status == 0, planned.output
    assert planned.output.count("nothing to compute") == 3
    assert "computes 1 pair again" in planned.output
    settings = yaml.safe_load(campaign.config.read_text())
    assert settings["sweep"] == SWEEP


def ends_of(member: paths.ResultPaths, events: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """Run and name of each event that starts or ends a run of a member."""
    number = json.loads(member.identity.read_text())["id"]
    kept = {"START_SIMULATION", "FINISH", "FAILED", "CANCELLED"}
    return [(event["run"], event["event"]) for event in events if event["id"] == number and event["event"] in kept]


@pytest.mark.failure("scheduler gets SIGINT")
def test_ctrl_c_cancels_the_member_that_runs_and_finishes_the_complete_one(swept: Swept, tmp_path: Path):
    """Both have merged results of an earlier run, and a job to do again."""
    campaign = swept.campaign.copy(tmp_path / "copy")
    files = paths.SweepPaths(campaign.result.root)
    complete, waits, *others = (files.member(label) for label in LABELS)
    for member in (complete, waits):
        member.job("p0d000", 0).unlink()
    claim_file = waits.claim("p0d000", 0)
    claim_file.parent.mkdir(parents=True, exist_ok=True)
    claim = claims.take(claim_file)  # the job of this member waits for this file
    assert claim is not None
    with EchoServer() as server:
        campaign.change(http_reporting={"url": server.url})
        with campaign.start(cores=6) as running:  # a merge asks for four of them
            wait_for(lambda: re.search(r"^Finished jobid: .*plot_results", running.log.read_text(), re.M), "figures")
            wait_for(lambda: list((waits.run(2) / "progress").rglob("*.json")), "the other member to run")
            running.signal_all(signal.SIGINT)
            outcome = running.end()
        claim.release()
        assert outcome.status != 0
        assert "Traceback" not in outcome.output
        assert ends_of(complete, server.events) == [(2, "START_SIMULATION"), (2, "FINISH")]
        assert ends_of(waits, server.events) == [(2, "START_SIMULATION"), (2, "CANCELLED")]
        written = complete.job("p0d000", 0).stat().st_mtime_ns
        again = campaign.stemphony()
        assert again.status == 0, again.output
        assert "4 of 4 simulations are merged" in again.output
        assert complete.job("p0d000", 0).stat().st_mtime_ns == written
        assert ends_of(waits, server.events)[2:] == [(3, "START_SIMULATION"), (3, "FINISH")]
        assert [member for member in others if ends_of(member, server.events) != []] == []


def test_rerun_of_a_member_computes_it_alone_and_names_what_is_older(swept: Swept, tmp_path: Path):
    campaign = swept.campaign.copy(tmp_path / "copy")
    files = paths.SweepPaths(campaign.result.root)
    chosen, *others = (files.member(label) for label in reversed(LABELS))
    before = {member.root.name: member.job("p0d000", 0).stat().st_mtime_ns for member in others}
    combined_before = files.combined.stat().st_mtime_ns
    chosen.job("p0d000", 0).unlink()
    with EchoServer() as server:
        campaign.change(http_reporting={"url": server.url})
        outcome = campaign.command("rerun", "--config", campaign.config, chosen.root)
        assert outcome.status == 0, outcome.output
        assert ends_of(chosen, server.events) == [(2, "START_SIMULATION"), (2, "FINISH")]
        assert [member for member in others if ends_of(member, server.events) != []] == []
    assert {member.root.name: member.job("p0d000", 0).stat().st_mtime_ns for member in others} == before
    assert_same_arrays(chosen.merged, arrays(swept.files.member(LABELS[-1]).merged))
    assert files.combined.stat().st_mtime_ns == combined_before
    assert "4 of 4 simulations are merged" in outcome.output
    (said,) = [line for line in outcome.output.splitlines() if "sweep.nc" in line and "older" in line]
    assert said.endswith(f"stemphony run {shlex.quote(str(campaign.config))}")
    assert set(jobs_to_run(campaign)) == {"combine_sweep", "all"}
