"""A real conda makes the environments of `envs`, and Snakemake runs jobs there, isolated from other Pythons."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.campaign import (
    AFTER_JOBS,
    PROGRAMS,
    REPOSITORY,
    TINY,
    Campaign,
    Outcome,
    Running,
    arrays,
    attributes,
    changed,
    edit,
    make_clone,
)
from support.environments import canonical, missing_from, of_conda, of_pin_file

from environments.conftest import Rig

WITH_CONDA = ("--software-deployment-method", "conda", "--conda-prefix")
SMALL = changed(TINY, simulation={"name": "small"}, probe={"defoci_nm": [0.0]})
SMALL_JOBS = frozenset({"p0d000/0000", "p0d000/0001"})
# A job prints what it sees at its end.
TELL = """if __name__ == "__main__":
    import atexit, os, sys

    def tell():
        modules = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
        seen = {"prefix": sys.prefix, "version": sys.version.split()[0], "path": sys.path, "modules": modules,
                "environment": dict(os.environ)}
        with open(os.environ["SEEN_BY_JOBS"] + f"/{os.getpid()}.json", "w") as file:
            json.dump(seen, file)

    atexit.register(tell)
"""
# Files that Python would run by itself if it searched a folder that it must not search.
SPY = "import os, sys\nopen(os.environ['LEAKS'] + '/{name}-' + str(os.getpid()), 'w').write(sys.prefix)\n"


@dataclass(frozen=True)
class Simulated:
    """A simulation whose jobs ran in a conda environment, started among other Pythons."""

    campaign: Campaign
    outcome: Outcome
    prefix: Path
    seen: list[dict[str, Any]]
    leaks: list[str]

    @property
    def environment(self) -> Path:
        """The one environment that Snakemake made."""
        (only,) = (folder for folder in self.prefix.iterdir() if (folder / "conda-meta").is_dir())
        return only


@pytest.fixture(scope="session")
def simulated(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """Started from a venv, with conda's base active, PYTHONPATH set, and packages of `pip install --user`."""
    folder = tmp_path_factory.mktemp("conda")
    clone = make_clone(folder / "clone")
    edit(clone / "workflow/scripts/run_multislice.py", r'^if __name__ == "__main__":\n', TELL)
    seen, leaks, outside = folder / "seen", folder / "leaks", folder / "outside"
    python = of_conda(REPOSITORY / "envs/simulation.yaml")["python"]
    for_user = rig.home / ".local/lib" / f"python{python}" / "site-packages"
    for place in (seen, leaks, outside, for_user / "numpy"):
        place.mkdir(parents=True)
    (outside / "sitecustomize.py").write_text(SPY.format(name="PYTHONPATH"))
    (for_user / "usercustomize.py").write_text(SPY.format(name="user"))
    (for_user / "numpy/__init__.py").write_text("raise RuntimeError('numpy of pip install --user')\n")
    tool = rig.folder / "tool"
    env = rig.env | {
        "SEEN_BY_JOBS": str(seen),
        "LEAKS": str(leaks),
        "PYTHONPATH": str(outside),
        "VIRTUAL_ENV": str(PROGRAMS.parent),
        "CONDA_PREFIX": str(tool),
        "CONDA_DEFAULT_ENV": "base",
        "CONDA_SHLVL": "1",
        "PATH": f"{PROGRAMS}:{tool / 'bin'}:{rig.env['PATH']}",
    }
    campaign = Campaign.make(clone, folder / "simulation", SMALL, env)
    with campaign.start(*WITH_CONDA, folder / "envs") as running:  # a fork would not read PYTHONPATH
        outcome = running.end()
    assert outcome.status == 0, outcome.output
    told = [json.loads(file.read_text()) for file in seen.iterdir()]
    return Simulated(campaign, outcome, folder / "envs", told, [file.read_text() for file in leaks.iterdir()])


def recorded(file: Path) -> dict[str, str]:
    """Versions of the packages that a result file says it was computed with; only those of conda."""
    listed = json.loads(attributes(file, "runtime")["packages"])
    assert all(re.fullmatch(r"[^=]+=[^=]+=[^=]+", entry) for entry in listed), "not conda's packages alone"
    return {canonical(entry.split("=")[0]): entry.split("=")[1] for entry in listed}


# --- one environment: made, used, used again ------------------------------------------------------------------------


def test_snakemake_makes_the_environment_and_runs_jobs_in_it(simulated: Simulated):
    assert simulated.outcome.output.count("Creating conda environment") == 1
    assert "strict channel priorities" not in simulated.outcome.output
    assert simulated.outcome.jobs == {"prepare_specimen", *SMALL_JOBS, *AFTER_JOBS}
    assert len(simulated.seen) == len(SMALL_JOBS)


def test_a_job_sees_the_environment_and_nothing_else(simulated: Simulated):
    scripts = str(simulated.campaign.scripts)
    for seen in simulated.seen:
        assert Path(seen["prefix"]) == simulated.environment
        assert seen["environment"]["CONDA_PREFIX"] == str(simulated.environment)
        assert "PYTHONPATH" not in seen["environment"]
        for place in [*seen["path"], *filter(None, seen["modules"].values())]:
            assert place.startswith((f"{simulated.environment}/", scripts)), place
        assert {"numpy", "scipy", "pyfftw", "netCDF4"} <= seen["modules"].keys()


def test_the_planted_files_run_in_a_python_that_looks_for_them(simulated: Simulated):
    """The spy in PYTHONPATH reports the controller, so its silence about jobs has a meaning."""
    assert str(PROGRAMS.parent) in simulated.leaks
    assert str(simulated.environment) not in simulated.leaks


def test_every_result_records_every_pinned_version(simulated: Simulated):
    pins = of_conda(REPOSITORY / "envs/simulation.yaml")
    files = [*map(simulated.campaign.job_file, SMALL_JOBS), simulated.campaign.result.merged]
    for file in files:
        assert missing_from(pins, recorded(file)) == {}
        versions = json.loads(attributes(file, "runtime")["versions"])
        told = {canonical(name): version for name, version in versions.items()}
        assert missing_from({name: pins[name] for name in pins.keys() & told.keys()}, told) == {}
        assert {"python", "numpy", "scipy", "pyfftw", "netcdf4"} <= pins.keys() & told.keys()


def test_the_controller_is_recorded_too(simulated: Simulated):
    controller = json.loads(attributes(simulated.campaign.result.merged, "runtime")["controller"])
    assert any(entry.startswith("snakemake==") for entry in controller["packages"]), controller["packages"]
    assert controller["python"] != simulated.seen[0]["version"], "the venv has another Python than the environment"


def test_numbers_are_those_of_the_pip_environment(simulated: Simulated, tmp_path: Path):
    """The packages of the other lock give the same numbers within rounding."""
    plain = Campaign.make(simulated.campaign.clone, tmp_path / "plain", SMALL, simulated.campaign.env)
    plain.succeed()
    ours, theirs = arrays(plain.result.merged), arrays(simulated.campaign.result.merged)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_allclose(theirs[name], values, rtol=1e-5, atol=1e-7, err_msg=name)


# --- the controller's environment -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def controller(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """envs/controller.yaml, made as docs/environments.md says."""
    folder = tmp_path_factory.mktemp("controller") / "stemphony"
    rig.conda("env", "create", "--quiet", "--file", REPOSITORY / "envs/controller.yaml", "--prefix", folder)
    return folder


def test_the_controllers_environment_computes_a_lost_job_without_making_an_environment(
    rig: Rig, simulated: Simulated, controller: Path, tmp_path: Path
):
    campaign = simulated.campaign.copy(tmp_path / "again")
    campaign = replace(campaign, env={**rig.env, "SEEN_BY_JOBS": str(tmp_path), "PYTHONNOUSERSITE": "1"})
    campaign.job_file("p0d000/0001").unlink()
    made = {folder: folder.stat().st_mtime_ns for folder in simulated.prefix.iterdir()}
    command = [
        controller / "bin/snakemake", "--snakefile", campaign.clone / "Snakefile", "--directory", campaign.directory,
        "--configfile", campaign.config, "--cores", "2", *WITH_CONDA, simulated.prefix,
    ]  # fmt: skip
    env = campaign.env | {"PATH": f"{controller / 'bin'}:{campaign.env['PATH']}", "CONDA_PREFIX": str(controller)}
    with Running(command, campaign.folder / "log", env | {"CONDA_SHLVL": "1"}, cwd=campaign.folder) as running:
        outcome = running.end()
    assert outcome.status == 0, outcome.output
    assert outcome.jobs == {"p0d000/0001", *AFTER_JOBS}
    assert "Creating conda environment" not in outcome.output
    assert "Activating conda environment" in outcome.output
    assert {folder: folder.stat().st_mtime_ns for folder in simulated.prefix.iterdir()} == made
    pins = of_conda(REPOSITORY / "envs/controller.yaml")
    listed = json.loads(attributes(campaign.result.merged, "runtime")["controller"])["packages"]
    found = {canonical(entry.split("=")[0]): entry.split("=")[1] for entry in listed}
    assert missing_from(pins, found) == {}


def test_the_command_stemphony_works_in_the_controllers_environment(rig: Rig, controller: Path, simulated: Simulated):
    said = rig.run(
        controller / "bin/python", "-m", "stemphony", "check", simulated.campaign.config, "--no-calibration",
        PYTHONPATH=str(REPOSITORY / "workflow/scripts"), PYTHONNOUSERSITE="1",
    )  # fmt: skip
    assert "Traceback" not in said
    assert re.search(r"^jobs +.*2", said, re.MULTILINE), said


def test_the_monitors_environment_has_all_that_the_monitor_imports(rig: Rig, tmp_path: Path):
    rig.conda("env", "create", "--quiet", "--file", REPOSITORY / "envs/monitor.yaml", "--prefix", tmp_path / "env")
    scripts = REPOSITORY / "workflow/scripts"
    files = [file.relative_to(scripts) for file in (scripts / "stemphony/monitor").rglob("[a-z]*.py")]
    modules = [file.with_suffix("").as_posix().replace("/", ".") for file in files]
    lines = [*(f"import {name}" for name in modules), "import psycopg; psycopg.pq.version()"]
    rig.run(
        tmp_path / "env/bin/python", "-c", "\n".join(lines), PYTHONPATH=str(REPOSITORY / "workflow/scripts"),
        PYTHONNOUSERSITE="1",
    )  # fmt: skip


# --- pin files ------------------------------------------------------------------------------------------------------

LITTLE = "channels:\n  - conda-forge\n  - nodefaults\ndependencies:\n  - python =3.12\n  - pyyaml =={version}\n"


def with_little_environment(folder: Path, version: str = "6.0.3") -> Path:
    """A clone whose rules have an environment that is quickly made."""
    clone = make_clone(folder)
    (clone / "envs/simulation.yaml").write_text(LITTLE.format(version=version))
    return clone


def make_environments(rig: Rig, clone: Path, folder: Path) -> Outcome:
    """Let Snakemake make the environments of the rules, without a job."""
    campaign = Campaign.make(clone, folder, SMALL, rig.env)
    return campaign.snakemake(*WITH_CONDA, folder / "envs", "--conda-create-envs-only")


@pytest.fixture(scope="session")
def pinned(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which envs/pin.sh was run."""
    clone = make_clone(tmp_path_factory.mktemp("pinned") / "clone")
    said = rig.run("sh", "envs/pin.sh", "simulation", cwd=clone)
    assert re.search(r"pin: envs/simulation\.linux-64\.pin\.txt has \d+ packages", said)
    return clone


def test_the_pin_file_holds_every_pin_with_a_checksum(pinned: Path):
    pins = of_conda(pinned / "envs/simulation.yaml")
    assert missing_from(pins, of_pin_file(pinned / "envs/simulation.linux-64.pin.txt")) == {}


def test_snakemake_makes_the_environment_from_the_pin_file(rig: Rig, pinned: Path, tmp_path: Path):
    outcome = make_environments(rig, pinned, tmp_path / "made")
    assert outcome.status == 0, outcome.output
    assert re.search(r"Using pinnings from .*simulation\.linux-64\.pin\.txt", outcome.output)
    assert "Failed to install conda environment from pin file" not in outcome.output
    (made,) = (folder for folder in (tmp_path / "made/envs").iterdir() if (folder / "conda-meta").is_dir())
    names = {file.stem for file in (made / "conda-meta").glob("*-*-*.json")}
    wanted = re.findall(r"/([^/]+)\.conda#", (pinned / "envs/simulation.linux-64.pin.txt").read_text())
    assert names == set(wanted)


def test_a_package_that_is_not_the_pinned_one_is_refused(rig: Rig, tmp_path: Path):
    """By conda; Snakemake then says so and solves the yaml, as docs/environments.md warns."""
    clone = with_little_environment(tmp_path / "clone")
    rig.run("sh", "envs/pin.sh", "simulation", cwd=clone)
    edit(clone / "envs/simulation.linux-64.pin.txt", r"(pyyaml.*#)[0-9a-f]{32}$", r"\g<1>" + 32 * "0")
    edit(rig.home / ".condarc", r"^pkgs_dirs: .*$", f"pkgs_dirs: [{tmp_path / 'pkgs'}]")  # nothing is there yet
    try:
        outcome = make_environments(rig, clone, tmp_path / "made")
    finally:
        edit(rig.home / ".condarc", r"^pkgs_dirs: .*$", f"pkgs_dirs: [{rig.home / 'pkgs'}]")
    assert outcome.status == 0, outcome.output
    assert "Failed to install conda environment from pin file" in outcome.output
    assert "ChecksumMismatch" in outcome.output


def test_a_pin_that_cannot_be_downloaded_stops_the_run_before_any_job(rig: Rig, tmp_path: Path):
    clone = with_little_environment(tmp_path / "clone", version="99.9")
    outcome = make_environments(rig, clone, tmp_path / "made")
    assert outcome.status != 0
    assert "pyyaml==99.9" in outcome.output
    assert not list((tmp_path / "made").rglob("*.nc"))


def test_pin_sh_says_what_is_wrong(rig: Rig, tmp_path: Path):
    clone = with_little_environment(tmp_path / "clone", version="99.9")
    silent = tmp_path / "silent" / "conda"
    silent.parent.mkdir()
    silent.write_text("#!/bin/sh\n")
    silent.chmod(0o755)
    for words, variables, expected in (
        (("simulation",), {}, "No pin file was changed"),
        (("other",), {}, "there is no envs/other.yaml"),
        ((), {"PATH": os.defpath}, "there is no conda on PATH"),
        ((), {"PATH": f"{silent.parent}:{os.defpath}"}, "names no platform"),
    ):
        with pytest.raises(AssertionError, match=expected):
            rig.run("sh", "envs/pin.sh", *words, cwd=clone, **variables)
    assert not list((clone / "envs").glob("*.pin.txt"))
