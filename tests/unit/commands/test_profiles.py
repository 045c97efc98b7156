"""Snakemake profiles: entries that every run needs, and entries that the default profile must not have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from stemphony.commands import profiles, run
from stemphony.errors import StorageError

ROOT = Path(__file__).parents[3]
PROFILES = sorted(ROOT.glob("profiles/*/config*.yaml"))
DEFAULT = ROOT / "profiles/default/config.v9+.yaml"
SLURM = ROOT / "profiles/slurm/config.v9+.yaml"


def content(file: Path) -> dict:
    loaded = yaml.safe_load(file.read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_no_profile_folder_is_empty():
    """An empty profiles/default stops every run."""
    for folder in (ROOT / "profiles").iterdir():
        assert list(folder.glob("config*.yaml")), folder


def test_no_profile_holds_a_folder():
    """Snakemake would take an entry of this name, such as `executor: slurm`, for the folder."""
    for profile in (ROOT / "profiles").iterdir():
        assert not [entry for entry in profile.iterdir() if entry.is_dir()], profile


def test_the_default_profile_sets_nothing_that_other_profiles_must_set():
    """Snakemake applies it to every run, and it overrides other profiles key by key."""
    assert content(DEFAULT)
    assert not content(DEFAULT).keys() & {"executor", "jobs", "cores", "default-resources", "retries"}


def test_every_run_schedules_in_a_time_linear_in_its_jobs():
    """Snakemake's default takes half a second for each job that ends where 10,000 are ready."""
    assert content(DEFAULT)["scheduler"] == "greedy"
    assert [file for file in PROFILES if "scheduler" in content(file)] == [DEFAULT]


def test_only_edited_code_reruns_nothing():
    assert set(content(DEFAULT)["rerun-triggers"]) == {"mtime", "params", "input", "software-env"}
    assert "rerun-triggers" not in content(SLURM)


def test_failed_jobs_leave_others_running_and_killed_ones_run_again():
    assert content(DEFAULT)["keep-going"] is True
    assert content(DEFAULT)["rerun-incomplete"] is True


def test_retries_are_set_in_the_profile_and_in_no_rule():
    assert content(SLURM)["retries"] >= 1
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        assert not re.search(r"^\s+(retries|group):", file.read_text(), re.MULTILINE), file


def test_the_slurm_profile_sets_what_a_cluster_needs():
    slurm = content(SLURM)
    assert slurm["executor"] == "slurm"
    assert slurm["latency-wait"] >= 30
    assert {"mem_mb", "runtime"} <= set(slurm["default-resources"])
    assert "slurm-array-jobs" not in slurm  # deletes good output
    assert slurm["slurm-status-command"] == "squeue"  # sacct needs an accounting database


@pytest.mark.parametrize("name", ["cluster-generic", "htcondor", "lsf", "kubernetes"])
def test_profiles_of_other_schedulers_set_what_a_cluster_needs(name):
    profile = ROOT / "profiles" / name / "config.v9+.yaml"
    assert content(profile)["retries"] >= 1
    assert content(profile)["latency-wait"] >= 30
    assert {"mem_mb", "runtime"} <= set(content(profile)["default-resources"])
    plugin = f"snakemake-executor-plugin-{content(profile)['executor']}"
    assert re.search(rf"^{plugin}==[\d.]+$", (ROOT / "envs/executors.in").read_text(), re.MULTILINE)


def test_programs_that_a_profile_names_exist_and_are_executable():
    """Snakemake finds them beside the profile only if the value is the file's name and nothing else."""
    found = 0
    for file in PROFILES:
        for key, value in content(file).items():
            if key.endswith("-cmd") and re.search(r"\.(sh|py)\b", value):
                assert (file.parent / value).stat().st_mode & 0o111 == 0o111, f"{file}: {key}"
                found += 1
    assert found >= 4


def test_snakemake_finds_the_slurm_profile_by_name():
    link = ROOT / "slurm"
    assert link.is_symlink()
    assert not Path(link.readlink()).is_absolute()
    assert link.resolve() == SLURM.parent


# --- stemphony profile install ------------------------------------------------------------------------------------


def installed(folder: Path, name: str = "slurm", replace: bool = False) -> list[str]:
    said: list[str] = []
    profiles.install(ROOT, name, folder, replace, said.append)
    return said


def test_a_profile_is_installed_under_its_name(tmp_path: Path):
    said = installed(tmp_path)
    assert (tmp_path / "slurm" / SLURM.name).read_bytes() == SLURM.read_bytes()
    assert said == [f"wrote {tmp_path / 'slurm'}"]
    assert installed(tmp_path) == said, "again, unchanged: no objection"


def test_an_edited_profile_is_kept_unless_it_is_to_be_replaced(tmp_path: Path):
    installed(tmp_path)
    file = tmp_path / "slurm" / SLURM.name
    file.write_text("jobs: 3\n")
    with pytest.raises(StorageError, match=r"differs from the profile of this version.*--replace"):
        installed(tmp_path)
    assert file.read_text() == "jobs: 3\n"
    assert installed(tmp_path, replace=True)[0].startswith(f"{file} is replaced")
    assert file.read_bytes() == SLURM.read_bytes()
    assert file.with_name(file.name + ".kept1").read_text() == "jobs: 3\n"


def test_an_unknown_profile_is_refused_with_a_list_of_the_known_ones(tmp_path: Path):
    with pytest.raises(StorageError, match=r"no profile 'slrum'. Choose one of: .*slurm"):
        installed(tmp_path, name="slrum")
    with pytest.raises(StorageError, match="no profile 'default'"):
        installed(tmp_path, name="default")


def test_no_profile_is_installed_into_a_profile(tmp_path: Path):
    """Snakemake would then take `executor: slurm` for the file `slurm/slurm`, and start nothing."""
    installed(tmp_path)
    with pytest.raises(StorageError, match="is a profile, and a profile inside it would break it"):
        installed(tmp_path / "slurm")
    assert [file.name for file in (tmp_path / "slurm").iterdir()] == [SLURM.name]


def test_a_profile_name_in_place_of_a_folder_is_refused_with_the_right_option(tmp_path: Path):
    with pytest.raises(StorageError, match="stemphony profile install --name lsf"):
        installed(tmp_path / "lsf")
    assert not list(tmp_path.iterdir())


def test_in_the_clone_there_is_nothing_to_install():
    assert "nothing to install" in installed(ROOT)[0]


def test_a_profile_of_the_user_is_preferred_to_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "system"))
    snakefile = ROOT / "Snakefile"
    assert run._profile("slurm", snakefile) == str(ROOT / "profiles" / "slurm")
    installed(tmp_path / "config" / "snakemake")
    assert run._profile("slurm", snakefile) == "slurm"


@pytest.mark.parametrize("file", PROFILES, ids=lambda file: file.parent.name)
def test_the_head_of_a_profile_names_its_plugin_and_the_error_without_it(file: Path):
    """Bare Snakemake ends in its whole usage then, before anything of ours could say more."""
    executor = content(file).get("executor", "local")
    head = "".join(line for line in file.read_text().splitlines(keepends=True) if line.startswith("#"))
    of_its_own = f"\nsnakemake-executor-plugin-{executor}==" in (ROOT / "envs/executors.lock.txt").read_text()
    assert (f"invalid choice: '{executor}'" in head) == of_its_own
    assert ("-m pip install --require-hashes -r envs/executors.lock.txt" in head) == of_its_own


def test_a_missing_plugin_is_named_with_the_lock_that_has_it():
    for executor, lock in (("slurm", "controller"), ("lsf", "executors")):
        said = profiles.missing_plugin(ROOT, executor)
        assert f"plugin snakemake-executor-plugin-{executor}, which is not installed" in said
        assert said.endswith(f"-m pip install --require-hashes -r {ROOT / 'envs' / lock}.lock.txt")
    assert "has no executor 'slrum'" in profiles.missing_plugin(ROOT, "slrum")
