"""Environments have exact versions, the same everywhere, with hashes, and every package that is imported."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml
from support.environments import ENVS, NAMES, canonical, missing_from, of_conda, of_pin_file, of_pip
from support.syntax import tree_of

ROOT = Path(__file__).parents[2]
# Distributions whose modules have another name, and modules that come with another distribution.
MODULES = {
    "yaml": "pyyaml", "netCDF4": "netcdf4", "urllib3": "requests", "werkzeug": "flask", "markupsafe": "flask",
    "xdist": "pytest-xdist", "rsciio": "rosettasciio", "mpl_toolkits": "matplotlib",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_conda_and_pip_agree_on_every_version(name):
    conda = of_conda(ENVS / f"{name}.yaml")
    conda.pop("python")
    assert conda == of_pip(ENVS / f"{name}.in")


@pytest.mark.parametrize("name", NAMES)
def test_conda_environments_take_packages_from_named_channels_only(name):
    content = yaml.safe_load((ENVS / f"{name}.yaml").read_text())
    assert content["channels"][0] == "conda-forge"
    assert content["channels"][-1] == "nodefaults"
    assert set(content) == {"channels", "dependencies"}


def test_all_conda_environments_have_one_python_that_the_project_allows():
    (version,) = {of_conda(ENVS / f"{name}.yaml")["python"] for name in NAMES}
    minimum = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert [int(n) for n in version.split(".")] >= [int(n) for n in minimum.split(".")]


@pytest.mark.parametrize("name", [*NAMES, "development", "executors", "abtem", "readers"])
def test_lock_files_hold_what_is_asked_for(name):
    assert of_pip(ENVS / f"{name}.in").items() <= of_pip(ENVS / f"{name}.lock.txt").items()


@pytest.mark.parametrize("file", sorted(ENVS.glob("*.lock.txt")), ids=lambda file: file.name)
def test_lock_files_have_hashes_and_no_address(file):
    text = file.read_text()
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|--trusted-host|^-e |@ file", text, re.MULTILINE)
    entries = re.split(r"\n(?=[A-Za-z0-9])", "\n" + re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).strip())[1:]
    assert len(entries) >= 10
    for entry in entries:
        assert re.match(r"[\w.\[\]-]+==[\w.!+]+", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry


def test_all_environments_share_their_versions():
    controller, simulation, monitor, development, executors = (
        of_pip(ENVS / f"{name}.lock.txt") for name in (*NAMES, "development", "executors")
    )
    both = controller.keys() & simulation.keys()
    assert {"numpy", "scipy", "netcdf4", "ase", "requests", "pyyaml"} <= both
    assert {name: controller[name] for name in both} == {name: simulation[name] for name in both}
    assert controller.items() <= development.items()
    assert simulation.items() <= development.items()
    assert monitor.items() <= development.items()
    # The executors are installed on top of another environment.
    both = executors.keys() & development.keys()
    assert {"snakemake-interface-common", "snakemake-interface-executor-plugins"} <= both
    assert {name: executors[name] for name in both} == {name: development[name] for name in both}


@pytest.mark.parametrize("name", NAMES)
def test_pin_files_hold_every_version_of_their_environment(name):
    """The repository has no pin file. docs/environments.md says how to make one and add it."""
    for file in ENVS.glob(f"{name}.*.pin.txt"):
        assert missing_from(of_conda(ENVS / f"{name}.yaml"), of_pin_file(file)) == {}, file


# --- what is imported ------------------------------------------------------------------------------------------------


def test_jobs_run_without_snakemake():
    assert not [name for name in of_pip(ENVS / "simulation.lock.txt") if name.startswith("snakemake")]


def test_rules_name_environments_that_exist():
    named = []
    for file in sorted((ROOT / "workflow/rules").glob("*.smk")):
        for path in re.findall(r"conda:\s+\"([^\"]+)\"", file.read_text()):
            assert (file.parent / path).resolve() == ENVS / Path(path).name
            assert (file.parent / path).is_file()
            named.append(Path(path).name)
    assert set(named) == {"simulation.yaml"}


def third_party(files: list[Path]) -> set[str]:
    tops = set()
    for file in files:
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.Import):
                tops |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                tops.add((node.module or "").split(".")[0])
    return tops - set(sys.stdlib_module_names) - {"stemphony"}


@pytest.mark.slow
def test_every_import_of_the_package_is_installed_by_an_environment():
    package = ROOT / "workflow/scripts"
    files = [file for file in package.rglob("*.py") if not {"monitor", "interface", "export"} & set(file.parts)]
    asked_for = of_pip(ENVS / "controller.in") | of_pip(ENVS / "simulation.in")
    missing = {module for module in third_party(files) if canonical(MODULES.get(module, module)) not in asked_for}
    assert not missing


def test_every_import_of_the_monitor_is_installed_by_its_environment():
    asked_for = of_pip(ENVS / "monitor.in").keys()
    files = sorted((ROOT / "workflow/scripts/stemphony/monitor").rglob("*.py"))
    missing = {module for module in third_party(files) if canonical(MODULES.get(module, module)) not in asked_for}
    assert not missing


@pytest.mark.parametrize(("room", "name"), [("interface", "notebook"), ("export", "export")])
def test_every_import_of_an_optional_room_is_installed_by_an_environment_or_its_extra(room, name):
    text = (ROOT / "pyproject.toml").read_text()
    extra = set(re.findall(r'"([^"]+)"', re.search(rf"^{name} = \[(.*?)\]", text, re.MULTILINE)[1]))
    assert extra <= of_pip(ENVS / "development.in").keys()
    imported = third_party([*(ROOT / "workflow/scripts/stemphony" / room).rglob("*.py")])
    needed = {MODULES.get(module, module) if module in {"rsciio"} else module for module in imported}
    assert needed <= extra | of_pip(ENVS / "simulation.in").keys()


def test_the_project_names_what_it_imports_without_versions_of_its_own():
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)[1]
    names = {canonical(re.split(r"[<>=~! ]", entry)[0]) for entry in re.findall(r'"([^"]+)"', listed)}
    assert names <= of_pip(ENVS / "development.in").keys()
