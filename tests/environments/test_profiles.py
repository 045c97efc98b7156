"""Every profile is accepted by Snakemake; cluster-generic runs, with stand-ins for Grid Engine's commands."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from stemphony.orchestration.session import SNAKEMAKE_MB
from support import grid_engine
from support.campaign import (
    AFTER_JOBS,
    DEADLINE_S,
    PROGRAMS,
    REPOSITORY,
    TINY,
    Campaign,
    Running,
    changed,
    edit,
    make_clone,
    wait_for,
)
from support.monitor import missing
from support.shared import shared_cache

from environments.conftest import INSTALL, rig_folder

PROFILES = sorted(file.parent.name for file in REPOSITORY.glob("profiles/*/config.v9+.yaml"))
# Snakemake's own environment has what these need; the others have plugins of their own.
OF_EVERYONE = {"default", "workstation", "slurm"}
GRID_ENGINE = REPOSITORY / "profiles/cluster-generic"
KUBERNETES = REPOSITORY / "profiles/kubernetes"
SMALL = changed(TINY, simulation={"name": "small"}, probe={"defoci_nm": [0.0]})
SMALL_JOBS = {"p0d000/0000", "p0d000/0001"}


def snakemake_for(profile: str) -> Path:
    """Snakemake with the plugin of a profile; otherwise the test is skipped."""
    if profile in OF_EVERYONE:
        return PROGRAMS / "snakemake"
    folder = rig_folder()
    if not (folder / "made-of").exists():
        missing(f"no plugin for {profile} in {folder}; {INSTALL} installs it")
    return folder / "image/bin/snakemake"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clone(tmp_path_factory.mktemp("profiles") / "clone")


@pytest.fixture
def env(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STEMPHONY_", "SNAKEMAKE"))}
    return kept | {
        "OMP_NUM_THREADS": "1",
        "STEMPHONY_CACHE_DIR": str(shared_cache(tmp_path_factory) / "plans"),
        "XDG_CONFIG_HOME": str(tmp_path / "no-profiles"),
    }


# --- accepted ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", sorted({*PROFILES} - {"default"}))
def test_snakemake_accepts_the_profile(profile: str, clone: Path, env: dict[str, str], tmp_path: Path):
    command = [snakemake_for(profile), "--profile", f"profiles/{profile}", "--dry-run"]
    with Running(command, tmp_path / "log", env, cwd=clone) as running:
        outcome = running.end(DEADLINE_S)
    assert outcome.status == 0, outcome.output
    assert re.search(r"^run_multislice +6$", outcome.output, re.MULTILINE), outcome.output


# --- cluster-generic --------------------------------------------------------------------------------------------------


def start(campaign: Campaign, records: Path, *targets: str) -> Running:
    """Snakemake with the unchanged profile, except that it asks more often."""
    command = [
        snakemake_for("cluster-generic"), "--snakefile", campaign.clone / "Snakefile",
        "--directory", campaign.directory, "--configfile", campaign.config,
        "--profile", campaign.clone / "profiles/cluster-generic", "--seconds-between-status-checks", "1",
        *targets,
    ]  # fmt: skip
    env = {**campaign.env, "PATH": f"{records / 'bin'}:{campaign.env['PATH']}"}
    return Running(command, campaign.folder / "snakemake.out", env, cwd=campaign.folder)


def option(call: list[str], name: str) -> int:
    """Number behind `-l NAME=`."""
    return next(int(re.search(r"=(\d+)", word)[1]) for word in call if word.startswith(f"{name}="))


def test_jobs_go_through_the_submit_command_and_a_killed_one_is_tried_with_twice_the_memory(
    clone: Path, env: dict[str, str], tmp_path: Path
):
    snakemake_for("cluster-generic")
    records = tmp_path / "records"
    grid_engine.install(records, kills=1)
    campaign = Campaign.make(clone, tmp_path / "simulation", SMALL, env)
    with start(campaign, records) as running:
        outcome = running.end()
    assert outcome.status == 0, outcome.output
    assert campaign.result.merged.exists()
    assert outcome.jobs == {"prepare_specimen", *SMALL_JOBS, *AFTER_JOBS}
    submitted = grid_engine.calls(records, "qsub")
    assert len(submitted) == len(SMALL_JOBS) + 1
    memory, seconds = ([option(call, name) for call in submitted] for name in ("h_vmem", "h_rt"))
    needs = json.loads(campaign.result.plan.read_text())["resources"]
    assert seconds == [60 * needs["runtime_min"]] * 2 + [120 * needs["runtime_min"]]
    assert memory == [needs["mem_mb"] + SNAKEMAKE_MB + 1] * 2 + [2 * (needs["mem_mb"] + SNAKEMAKE_MB) + 1]
    assert [call for call in submitted if call[call.index("-pe") + 1 : call.index("-pe") + 3] != ["smp", "1"]] == []


def test_the_variants_of_an_error_budget_go_through_the_submit_command(
    clone: Path, env: dict[str, str], tmp_path: Path
):
    """Their processes read the plan of the budget, and not that of an earlier run of the simulation."""
    snakemake_for("cluster-generic")
    records = tmp_path / "records"
    grid_engine.install(records)
    few = changed(
        SMALL, simulation={"precision": "double"}, frozen_phonon={"enabled": False}, grating={"gpts": [96, 96]}
    )
    campaign = Campaign.make(clone, tmp_path / "simulation", few, env)
    campaign.result.root.mkdir(parents=True)
    campaign.result.plan.write_text('{"run": 1, "config": {}}')
    with start(campaign, records, "accuracy") as running:
        outcome = running.end()
    assert outcome.status == 0, outcome.output
    assert {line["name"] for line in json.loads(campaign.result.accuracy.read_text())["lines"]} == {
        "slices", "sampling", "potential", "cell", "parametrization",
    }  # fmt: skip
    # The reference, two refinements of slices and of the grid, a finer potential, a larger cell, and the other table of
    # scattering factors.
    assert len(grid_engine.calls(records, "qsub")) == 8


def test_a_job_without_our_environment_follows_the_plan_of_its_own_run(
    clone: Path, env: dict[str, str], tmp_path: Path
):
    """The job must not follow the plan of a run that has begun since."""
    snakemake_for("cluster-generic")
    records = tmp_path / "records"
    grid_engine.install(records)
    bare = make_clone(tmp_path / "clone")
    edit(bare / "profiles/cluster-generic/config.v9+.yaml", r"-cwd -V ", "-cwd ")
    # As if another run began as soon as the first job is submitted.
    later = "( mkdir -p results/small/reports/run-2 ) && qsub"
    edit(bare / "profiles/cluster-generic/config.v9+.yaml", r"^  qsub ", f"  {later} ")
    campaign = Campaign.make(bare, tmp_path / "simulation", SMALL, env)
    with start(campaign, records) as running:
        outcome = running.end()
    assert outcome.status == 0, outcome.output
    assert set(campaign.states(1)) == SMALL_JOBS
    assert not campaign.states(2)


def test_ctrl_c_deletes_the_jobs_of_the_queue(clone: Path, env: dict[str, str], tmp_path: Path):
    snakemake_for("cluster-generic")
    records = tmp_path / "records"
    grid_engine.install(records, qstat_s=2.0)
    # Long jobs, so that none ends before the signal, even on a busy machine.
    long = changed(SMALL, grating={"gpts": [96, 96], "slice_thickness_angstrom": 0.02}, scan={"points": [40, 40]})
    campaign = Campaign.make(clone, tmp_path / "simulation", long, env)
    with start(campaign, records) as running:
        # The hardest moment: Snakemake is asking for the states of its jobs, between the first and the second one.
        asked = lambda: {call[-1] for call in grid_engine.calls(records, "qstat")}  # noqa: E731
        wait_for(lambda: len(asked()) == len(SMALL_JOBS), "questions for the states of all jobs")
        running.signal_all(signal.SIGINT)
        outcome = running.end()
    assert outcome.status != 0, outcome.output
    deleted = {number for call in grid_engine.calls(records, "qdel") for number in call}
    assert deleted == {file.name.removeprefix("pid-") for file in records.glob("pid-*")}, outcome.output


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Path]:
    """A folder for PATH, in which a test writes what commands answer."""
    folder = tmp_path / "commands"
    folder.mkdir()
    return folder


def answer(folder: Path, name: str, text: str, status: int = 0) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\ncat <<'TEXT'\n{text}\nTEXT\nexit {status}\n")
    file.chmod(0o755)


def said_by(script: Path, commands: Path, *words: str | Path, cwd: Path | None = None) -> str:
    env = {"PATH": f"{commands}:{os.environ['PATH']}"}
    done = subprocess.run([script, *words], env=env, cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("qstat", "qacct", "expected"),
    [
        (("job_number: 7", 0), ("", 1), "running"),
        (("error reason    1: can't open output file", 0), ("", 1), "failed"),
        (("", 1), ("failed       0\nexit_status  0", 0), "success"),
        (("", 1), ("failed       100 : assumedly after job\nexit_status  137", 0), "failed"),
        (("", 1), ("", 1), "running"),
    ],
)
def test_the_state_of_a_grid_engine_job_is_translated_for_snakemake(
    qstat, qacct, expected, commands: Path, tmp_path: Path
):
    (tmp_path / ".snakemake").mkdir()
    answer(commands, "qstat", *qstat)
    answer(commands, "qacct", *qacct)
    assert said_by(GRID_ENGINE / "status.sh", commands, "7", cwd=tmp_path) == expected


def test_a_job_without_any_answer_for_ten_minutes_has_failed(commands: Path, tmp_path: Path):
    (tmp_path / ".snakemake").mkdir()
    answer(commands, "qstat", "", 1)
    answer(commands, "qacct", "", 1)
    for _ in range(2):
        assert said_by(GRID_ENGINE / "status.sh", commands, "7", cwd=tmp_path) == "running"
    (mark,) = (tmp_path / ".snakemake").iterdir()
    os.utime(mark, (mark.stat().st_mtime - 700,) * 2)
    assert said_by(GRID_ENGINE / "status.sh", commands, "7", cwd=tmp_path) == "failed"
    assert not mark.exists()


# --- Kubernetes: what kubectl is asked --------------------------------------------------------------------------------


def test_a_job_for_kubernetes_asks_for_what_the_plan_says(commands: Path, tmp_path: Path):
    needs = {"threads": 2, "resources": {"mem_mb": 1234, "runtime": 45}}
    script = tmp_path / "job script.sh"
    script.write_text(f"#!/bin/sh\n# properties = {json.dumps(needs)}\ntrue\n")
    kubectl = commands / "kubectl"
    kubectl.write_text(
        f"#!/bin/sh\ncat > '{tmp_path}/manifest'; echo \"$@\" > '{tmp_path}/asked'; echo default/stemphony-x\n"
    )
    kubectl.chmod(0o755)
    assert said_by(KUBERNETES / "submit.py", commands, script, cwd=tmp_path) == "default/stemphony-x"
    assert (tmp_path / "asked").read_text().startswith("create --filename - ")
    job = json.loads((tmp_path / "manifest").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["/bin/sh", str(script)]
    assert container["workingDir"] == str(tmp_path)
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "1234M"}
    assert job["spec"]["activeDeadlineSeconds"] == 2700
    assert job["spec"]["backoffLimit"] == 0


@pytest.mark.parametrize(
    ("kubectl", "expected"),
    [
        (("job 1 ", 0), "success"),
        (("job  True", 0), "failed"),
        (("job  ", 0), "running"),
        (("", 0), "failed"),
        (("", 1), "running"),
    ],
)
def test_the_state_of_a_kubernetes_job_is_translated_for_snakemake(kubectl, expected, commands: Path):
    answer(commands, "kubectl", *kubectl)
    assert said_by(KUBERNETES / "status.sh", commands, "default/stemphony-x") == expected
