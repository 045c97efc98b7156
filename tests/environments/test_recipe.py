"""The recipe of the conda package: its dependencies, its build from a local channel, and a run from the package."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from support.campaign import REPOSITORY, make_clone
from support.environments import canonical

from environments.conftest import Rig

RECIPE = REPOSITORY / "envs/recipe/recipe.yaml"
TREE = "site-packages/stemphony_workflow"


@pytest.fixture(scope="module")
def recipe() -> dict:
    return yaml.safe_load(RECIPE.read_text(encoding="utf-8"))


def bounds(entries: list[str]) -> dict[str, str]:
    """Name to bound of a version, in pip's names."""
    found = {}
    for entry in entries:
        name, bound = re.fullmatch(r"([\w.-]+)\s*(\S*)", entry).groups()
        found[canonical(name)] = bound
    return found


def test_the_recipe_needs_what_the_wheel_needs(recipe: dict):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = bounds(project["project"]["dependencies"]) | {"python": project["project"]["requires-python"]}
    assert bounds(recipe["requirements"]["run"]) == wheel
    build = bounds(project["build-system"]["requires"])
    assert bounds(recipe["requirements"]["host"]) == build | {"pip": "", "python": wheel["python"]}
    assert recipe["context"]["version"] == project["project"]["version"]
    assert recipe["about"]["summary"] == project["project"]["description"]
    assert recipe["about"]["license"] == project["project"]["license"]


def test_the_built_package_simulates_in_a_fresh_environment(rig: Rig, tmp_path: Path):
    clone = make_clone(tmp_path / "clone")
    said = rig.run(
        rig.folder / "tool/bin/python", REPOSITORY / "tests/environments/build_recipe.py",
        clone / "envs/recipe/recipe.yaml", rig.channels, tmp_path / "out", RATTLER_CACHE_DIR=str(tmp_path / "cache"),
    )  # fmt: skip
    built = json.loads(said.splitlines()[-1])
    assert Path(built["file"]).name.startswith("stemphony-0.1.0-")
    for part in (
        "Snakefile",
        "COMMIT",
        "workflow/rules/simulate.smk",
        "profiles/slurm/config.v9+.yaml",
        "config/srtio3.cif",
    ):
        assert f"{TREE}/{part}" in built["files"]
    (test,) = built["tests"]
    output = "\n".join(test["output"])
    assert test["success"], output
    assert re.search(r"finished in .*\nresult  results/mine/stem\.nc", output), output
