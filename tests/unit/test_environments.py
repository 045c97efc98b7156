"""Environments: exact versions, the same everywhere, with hashes, and everything that is imported is in them."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ENVS = ROOT / "envs"
NAMES = ("controller", "simulation", "monitor")
# conda's names of what pip calls otherwise.
OF_CONDA = {"snakemake-minimal": "snakemake", "matplotlib-base": "matplotlib"}
# Distributions whose modules have another name, and modules that come with another distribution.
MODULES = {
    "yaml": "pyyaml", "netCDF4": "netcdf4", "urllib3": "requests", "werkzeug": "flask", "markupsafe": "flask",
}  # fmt: skip


def canonical(name: str) -> str:
    name = re.sub(r"[-_.]+", "-", name).lower()
    return OF_CONDA.get(name, name)


def of_conda(name: str) -> dict[str, str]:
    """Versions of a conda environment."""
    listed = yaml.safe_load((ENVS / f"{name}.yaml").read_text())["dependencies"]
    pins = {}
    for entry in listed:
        found = re.fullmatch(r"([\w.-]+) ?==?([\w.]+)", entry)
        assert found, f"{entry} is no exact version"
        pins[canonical(found[1])] = found[2]
    return pins


def of_pip(file: str) -> dict[str, str]:
    """Versions of a requirements file and of those it includes."""
    pins: dict[str, str] = {}
    for line in (ENVS / file).read_text().splitlines():
        line = line.partition("#")[0].strip().removesuffix("\\").strip()
        if line.startswith("-r "):
            pins |= of_pip(line[3:])
        elif line and not line.startswith("--hash"):
            name, _, version = line.partition(";")[0].partition("==")
            assert version.strip(), f"{line} is no exact version"
            pins[canonical(name.partition("[")[0].strip())] = version.strip()
    return pins


@pytest.mark.parametrize("name", NAMES)
def test_conda_and_pip_agree_on_every_version(name):
    conda = of_conda(name)
    conda.pop("python")
    assert conda == of_pip(f"{name}.in")


@pytest.mark.parametrize("name", NAMES)
def test_conda_environments_take_packages_from_named_channels_only(name):
    content = yaml.safe_load((ENVS / f"{name}.yaml").read_text())
    assert content["channels"][0] == "conda-forge"
    assert content["channels"][-1] == "nodefaults"
    assert set(content) == {"channels", "dependencies"}


def test_both_conda_environments_have_one_python_that_the_project_allows():
    (version,) = {of_conda(name)["python"] for name in NAMES}
    minimum = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert [int(n) for n in version.split(".")] >= [int(n) for n in minimum.split(".")]


@pytest.mark.parametrize("name", [*NAMES, "development"])
def test_lock_files_hold_what_is_asked_for(name):
    assert of_pip(f"{name}.in").items() <= of_pip(f"{name}.lock.txt").items()


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
    controller, simulation, monitor, development = (of_pip(f"{name}.lock.txt") for name in (*NAMES, "development"))
    both = controller.keys() & simulation.keys()
    assert {"numpy", "scipy", "netcdf4", "ase", "requests", "pyyaml"} <= both
    assert {name: controller[name] for name in both} == {name: simulation[name] for name in both}
    assert controller.items() <= development.items()
    assert simulation.items() <= development.items()
    assert monitor.items() <= development.items()


def test_jobs_run_without_snakemake():
    assert not [name for name in of_pip("simulation.lock.txt") if name.startswith("snakemake")]


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
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                tops |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                tops.add((node.module or "").split(".")[0])
    return tops - set(sys.stdlib_module_names) - {"stemphony"}


def test_every_import_of_the_package_is_installed_by_an_environment():
    package = ROOT / "workflow/scripts"
    files = [file for file in package.rglob("*.py") if "monitor" not in file.parts]
    asked_for = of_pip("controller.in") | of_pip("simulation.in")
    missing = {module for module in third_party(files) if canonical(MODULES.get(module, module)) not in asked_for}
    assert not missing


def test_every_import_of_the_monitor_is_installed_by_its_environment():
    asked_for = of_pip("monitor.in").keys()
    files = sorted((ROOT / "workflow/scripts/stemphony/monitor").glob("*.py"))
    missing = {module for module in third_party(files) if canonical(MODULES.get(module, module)) not in asked_for}
    assert not missing


def test_every_import_of_the_tests_is_installed_for_development():
    ours = {file.stem for file in (ROOT / "workflow/scripts").glob("*.py")}
    ours |= {entry.name for entry in (ROOT / "tests").iterdir() if entry.is_dir()} | {"conftest", "make"}
    installed = of_pip("development.lock.txt")
    needed = third_party(sorted((ROOT / "tests").rglob("*.py"))) - ours
    assert not {
        module for module in needed if canonical(MODULES.get(module, module).replace("_", "-")) not in installed
    }


def test_the_project_names_what_it_imports_without_versions_of_its_own():
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)[1]
    names = {canonical(re.split(r"[<>=~! ]", entry)[0]) for entry in re.findall(r'"([^"]+)"', listed)}
    assert names <= of_pip("development.in").keys()
