"""The command `stemphony`, as users call it."""

from __future__ import annotations

import importlib.util
import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from support.campaign import (
    AFTER_JOBS,
    DEADLINE_S,
    PROGRAMS,
    REPOSITORY,
    Campaign,
    Outcome,
    assert_same_arrays,
)

from workflow.conftest import Finished, Reported

PERCENT = re.compile(r"^ *(\d+)\.\d %  (\d+)/(\d+) jobs")


def stemphony(*arguments: str | Path, cwd: Path, env: Mapping[str, str]) -> Outcome:
    """The installed command, stdout and stderr together."""
    done = subprocess.run(
        [str(PROGRAMS / "stemphony"), *map(str, arguments)],
        cwd=cwd,
        env=dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
    )
    return Outcome(done.returncode, done.stdout)


# --- stemphony run ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(slow: Finished, tmp_path_factory: pytest.TempPathFactory) -> tuple[Campaign, Outcome]:
    """`stemphony run` without a terminal."""
    campaign = slow.copy(tmp_path_factory.mktemp("run") / "slow campaign")
    shutil.rmtree(campaign.directory)
    campaign.directory.mkdir()
    campaign.change(adf={"detectors": {"bf": [0.0, 10.0]}})
    return campaign, campaign.stemphony()


def test_run_prints_its_command_and_the_plan_and_all_paths(run: tuple[Campaign, Outcome]):
    campaign, outcome = run
    assert outcome.status == 0, outcome.output
    lines = outcome.output.splitlines()
    assert shlex.split(lines[0])[0] == str(PROGRAMS / "snakemake")
    assert f"--configfile '{campaign.config}'" in lines[0]
    assert any(line.startswith("jobs  ") and "2 = 1 defocus × 2 configurations" in line for line in lines), lines
    said = dict(line.split(None, 1) for line in lines if " " in line)
    places = {name: said[name] for name in ("result", "images", "log")}
    # The path is relative to the folder of the user.
    shown = {name: (campaign.scripts / place).resolve() for name, place in places.items()}
    assert shown["result"] == campaign.result.merged.resolve()
    assert shown["images"] == campaign.result.figures.resolve()
    assert "Finished jobid" in shown["log"].read_text()
    assert "Building DAG" not in outcome.output


def test_run_says_the_progress_once_per_tenth_without_a_terminal(run: tuple[Campaign, Outcome]):
    _, outcome = run
    found = [match for line in outcome.output.splitlines() if (match := PERCENT.match(line))]
    shares = [int(match[1]) for match in found]
    assert shares == sorted(shares)
    assert len({share // 10 for share in shares}) == len(shares), "no tenth is said twice"
    assert shares[-1] == 100
    assert found[-1].groups()[1:] == ("2", "2")
    assert "\r" not in outcome.output


def test_run_again_has_nothing_to_compute(run: tuple[Campaign, Outcome]):
    campaign, _ = run
    outcome = campaign.stemphony()
    assert outcome.status == 0, outcome.output
    section = (REPOSITORY / "docs" / "commands.md").read_text(encoding="utf-8").split("\n## run\n")[1]
    assert "```text\nnothing to compute: all results are up to date.\nresult " in section
    assert "nothing to compute: all results are up to date." in outcome.output
    assert any(line.startswith("result ") for line in outcome.output.splitlines()), outcome.output


def on_a_terminal(command: list[str], env: Mapping[str, str], cwd: Path) -> Outcome:
    """Run a command on a pseudo-terminal of 100 columns."""
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(cwd)
        os.execvpe(command[0], command, {**env, "COLUMNS": "100", "TERM": "xterm"})
    shown = b""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 1.0)
        if not ready:
            continue
        try:
            some = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not some:
            break
        shown += some
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return Outcome(os.waitstatus_to_exitcode(status), shown.decode(errors="replace"))


def test_run_draws_one_live_line_on_a_terminal(slow: Finished, tmp_path: Path):
    campaign = slow.copy(tmp_path / "slow campaign")
    shutil.rmtree(campaign.result.root / "jobs")
    words = [sys.executable, "-m", "stemphony", "run", str(campaign.config), "--directory", str(campaign.directory)]
    outcome = on_a_terminal([*words, "--cores", "2"], campaign.env, campaign.scripts)
    assert outcome.status == 0, outcome.output
    # Each drawing begins at the line's start and ends without a new line, except the last one.
    drawn = re.findall(r"(?:^|[\r\n])( *\d+\.\d %  \d/2 jobs[^\r\n]*)(\r?\n)?", outcome.output)
    assert len(drawn) >= 2
    assert [bool(newline) for _, newline in drawn] == [False] * (len(drawn) - 1) + [True]
    assert drawn[-1][0].startswith("100.0 %  2/2 jobs")
    assert "finished in" in outcome.output
    assert "\nimages  " not in outcome.output.replace("\r", ""), "there are none"
    assert_same_arrays(campaign.result.merged, slow.arrays)


@pytest.mark.failure("job ends with an error")
def test_run_says_which_job_failed_and_the_end_of_its_log(quiet_copy: Campaign):
    quiet_copy.job_file("p5d000/0001").unlink()
    checksum = quiet_copy.job_file("p5d000/0001").with_name("configuration_0001.nc.sha256")
    checksum.unlink()
    checksum.mkdir()
    outcome = quiet_copy.stemphony()
    assert outcome.status == 1, outcome.output
    assert "failed: defocus 5 nm, configuration 1: " in outcome.output
    assert re.search(r"end of .*defocus_p5d000/configuration_0001\.log:", outcome.output)
    assert "Run the same command again. It computes only what is missing." in outcome.output
    assert "Traceback" not in outcome.output


def test_run_passes_further_arguments_to_snakemake_and_shows_its_answer(quiet_copy: Campaign):
    quiet_copy.job_file("p5d000/0001").unlink()
    outcome = quiet_copy.stemphony("--dry-run")
    assert outcome.status == 0, outcome.output
    assert "--dry-run" in outcome.output.splitlines()[0]
    assert outcome.jobs == {"p5d000/0001"} | AFTER_JOBS
    assert "finished" not in outcome.output
    assert not quiet_copy.job_file("p5d000/0001").exists()


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"probe": {"energy_kv": 200.0}}, "energy_kev"),
        ({"specimen": {"file": "missing.cif"}}, "there is no such file"),
        ({"probe": {"defoci_nm": [1.0, 1.0002]}}, "each may occur once"),
    ],
    ids=["misspelt key", "missing crystal", "contradiction"],
)
def test_a_mistake_in_the_config_gives_one_message(
    tiny: Reported, tmp_path: Path, block: dict[str, dict[str, object]], message: str
):
    campaign = Campaign.make(tiny.campaign.clone, tmp_path / "mistaken", tiny.campaign.settings, tiny.campaign.env)
    campaign.change(**block)
    outcome = campaign.stemphony()
    assert outcome.status == 1, outcome.output
    assert message in outcome.output
    assert "Traceback" not in outcome.output
    command, *message_lines = [line for line in outcome.output.splitlines() if line.strip()]
    assert "snakemake" in command
    assert len(message_lines) == 1, outcome.output
    assert not campaign.result.root.exists()


def test_a_config_that_is_not_yaml_gives_one_message(tiny: Reported, tmp_path: Path):
    config = tmp_path / "simulation.yaml"
    config.write_text("simulation: {name: [\n")
    outcome = stemphony("run", config, "--directory", tmp_path / "work", cwd=tmp_path, env=tiny.campaign.env)
    assert outcome.status == 1, outcome.output
    assert "simulation.yaml" in outcome.output
    assert "Traceback" not in outcome.output


def test_plain_snakemake_shows_the_same_message(tiny: Reported, tmp_path: Path):
    campaign = Campaign.make(tiny.campaign.clone, tmp_path / "mistaken", tiny.campaign.settings, tiny.campaign.env)
    campaign.change(probe={"energy_kv": 200.0})
    outcome = campaign.snakemake()
    assert outcome.status == 1, outcome.output
    assert "energy_kev" in outcome.output
    assert "Traceback" not in outcome.output


def said_of_the_executor(outcome: Outcome) -> list[str]:
    """All lines except the command and, on a machine with Slurm's commands, the line that they do not answer."""
    lines = (line for line in outcome.output.splitlines() if line.strip() and " --snakefile " not in line)
    return [line for line in lines if not line.startswith("Slurm does not answer")]


@pytest.mark.parametrize("profile", ["cluster-generic", "htcondor", "kubernetes", "lsf"])
def test_a_missing_plugin_of_a_profile_gives_one_message_with_advice(quiet_copy: Campaign, profile: str):
    executor = yaml.safe_load((REPOSITORY / f"profiles/{profile}/config.v9+.yaml").read_text())["executor"]
    if importlib.util.find_spec(f"snakemake_executor_plugin_{executor.replace('-', '_')}"):
        pytest.skip(f"the plugin for {executor} is installed")
    outcome = quiet_copy.stemphony("--profile", profile)
    assert outcome.status != 0, outcome.output
    (message,) = said_of_the_executor(outcome)
    assert message.startswith(f"stemphony: the executor '{executor}' needs Snakemake's plugin ")
    lock = quiet_copy.clone / "envs" / "executors.lock.txt"
    assert shlex.split(message.partition(" Do: ")[2]) == [
        sys.executable, "-m", "pip", "install", "--require-hashes", "-r", str(lock)
    ]  # fmt: skip
    assert f"\nsnakemake-executor-plugin-{executor}==" in lock.read_text()


def test_an_unknown_executor_gives_one_message(quiet_copy: Campaign):
    outcome = quiet_copy.stemphony("--executor", "slrum")
    assert outcome.status != 0, outcome.output
    (message,) = said_of_the_executor(outcome)
    assert message.startswith("stemphony: Snakemake has no executor 'slrum'")


# --- stemphony check, init --------------------------------------------------------------------------------------------


def test_check_prints_the_plan_and_writes_nothing(tiny: Reported):
    campaign = tiny.campaign
    before = sorted(campaign.folder.rglob("*"))
    outcome = stemphony("check", campaign.config, "--no-calibration", cwd=campaign.folder, env=campaign.env)
    assert outcome.status == 0, outcome.output
    assert "4 = 2 defoci × 2 configurations" in outcome.output
    assert "memory of one job" in outcome.output
    assert sorted(campaign.folder.rglob("*")) == before


def test_init_writes_a_config_that_passes_the_check_and_overwrites_nothing(env: dict[str, str], tmp_path: Path):
    folder = tmp_path / "my simulation"
    outcome = stemphony("init", folder, cwd=tmp_path, env=env)
    assert outcome.status == 0, outcome.output
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "srtio3.cif"}
    assert f"stemphony run '{folder / 'config.yaml'}'" in outcome.output
    checked = stemphony("check", folder / "config.yaml", "--no-calibration", cwd=tmp_path, env=env)
    assert checked.status == 0, checked.output
    assert "6 = 3 defoci × 2 configurations" in checked.output

    (folder / "config.yaml").write_text("# mine\n")
    again = stemphony("init", folder, cwd=tmp_path, env=env)
    assert again.status == 1, again.output
    assert "nothing is overwritten" in again.output
    assert (folder / "config.yaml").read_text() == "# mine\n"


def test_check_measures_this_machine_once_and_says_so(tiny: Reported, tmp_path: Path):
    env = {**tiny.campaign.env, "STEMPHONY_CACHE_DIR": str(tmp_path / "cache")}
    outcome = stemphony("check", tiny.campaign.config, cwd=tmp_path, env=env)
    assert outcome.status == 0, outcome.output
    assert "(measured on this machine)" in outcome.output
    assert (tmp_path / "cache" / "calibration.json").exists()


def test_the_module_is_the_command(clone: Path, env: dict[str, str]):
    scripts = clone / "workflow" / "scripts"
    words = [sys.executable, "-m", "stemphony", "--version"]
    shown = subprocess.run(words, cwd=scripts, env=env, capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"stemphony \d+\.\d+\.\d+\n", shown)
    assert stemphony("--version", cwd=scripts, env=env).output == shown


def test_snakemake_writes_no_secret_of_its_command_line_into_its_log(slow: Finished, tmp_path: Path):
    """The attack: plain `snakemake --config http_reporting=…` left the password in a log that others may read."""
    campaign = slow.copy(tmp_path / "campaign")
    outcome = campaign.snakemake("--config", "http_reporting={'auth_user': 'u', 'auth_pass': 'CANARY-7f3a'}")
    assert outcome.status == 1, outcome.output
    assert "http_reporting is read from the config file alone" in outcome.output
    logs = [file for file in tmp_path.rglob("*") if file.is_file() and b"CANARY-7f3a" in file.read_bytes()]
    assert not logs
