"""The files, variables and entry point of both images run a simulation, with the packages that the images install."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.campaign import DEADLINE_S, REPOSITORY, TINY, Campaign, Running, attributes, changed
from support.environments import ENVS, NAMES, missing_from, of_pip
from support.monitor import missing

from environments.conftest import INSTALL, rig_folder

SMALL = changed(TINY, simulation={"name": "small"}, probe={"defoci_nm": [0.0]}, frozen_phonon={"configurations": 1})
INSIDE = "/opt/stemphony"


@dataclass(frozen=True)
class Recipe:
    """What a recipe of an image does, with places as in the image.

    Attributes
    ----------
    base : str
        Image that it starts from.
    install : str
        Command that installs the packages.
    copied : dict
        Files and folders of the repository, each with its place in the image.
    variables : dict
        Of every process in a container.
    entry : list of str
        Command that a container runs, in front of the user's arguments.
    plans : str
        Folder for FFT plans, which outlives a container.
    """

    base: str
    install: str
    copied: dict[str, str]
    variables: dict[str, str]
    entry: list[str]
    plans: str


def dockerfile() -> Recipe:
    text = (ENVS / "Dockerfile").read_text(encoding="utf-8")
    copied = {}
    for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE):
        *names, target = line.split()
        copied |= {name: f"{INSIDE}/{target}{Path(name).name if target.endswith('/') else ''}" for name in names}
    lines = "\n".join(re.findall(r"^ENV (.+)$", text, re.MULTILINE))
    (base,), (install,) = re.findall(r"^FROM (\S+)$", text, re.MULTILINE), re.findall(r"^RUN (.+)$", text, re.MULTILINE)
    entry = json.loads(re.search(r"^ENTRYPOINT (.+)$", text, re.MULTILINE)[1])
    variables = dict(re.findall(r'(\w+)="([^"]*)"', lines))
    return Recipe(base, install, copied, variables, entry, "/simulation/.stemphony")


def apptainer() -> Recipe:
    text = (ENVS / "apptainer.def").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^%(\w+)\n((?:    .*\n|\n)+)", text, re.MULTILINE))
    (install,) = re.findall(r"^ +(python .+)$", parts["post"], re.MULTILINE)
    entry = re.search(r'^ +exec (.+) "\$@"$', parts["runscript"], re.MULTILINE)[1].split()
    variables = dict(re.findall(r'export (\w+)="?([^"\n]*)"?', parts["environment"]))
    copied = dict(line.split() for line in parts["files"].splitlines() if line)
    base = re.search(r"^From: (\S+)$", text, re.MULTILINE)[1]
    return Recipe(base, install, copied, variables, entry, "/home/.cache/stemphony")


@pytest.mark.parametrize("recipe", [dockerfile, apptainer])
def test_the_entry_point_of_the_image_simulates(tmp_path: Path, recipe):
    folder, made, docker = rig_folder(), recipe(), dockerfile()
    if not (folder / "made-of").exists():
        missing(f"nothing that the image would have in {folder}; {INSTALL} installs it")
    assert (made.base, made.install) == (docker.base, docker.install), f"{INSTALL} runs the command of the Dockerfile"
    inside, home = tmp_path / "opt stemphony", tmp_path / "home"
    for name, place in made.copied.items():
        target = inside / Path(place).relative_to(INSIDE)
        target.parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, target, dirs_exist_ok=True)
        else:
            shutil.copy(REPOSITORY / name, target)
    campaign = Campaign.make(inside, tmp_path / "simulation", SMALL, {})
    places = {INSIDE: inside, "/simulation": campaign.directory, "/home": home}

    def here(path: str) -> str:
        """The place on this machine of a place in the image."""
        outside = next((place for place in places if path.startswith(f"{place}/")), None)
        return path if outside is None else f"{places[outside]}{path.removeprefix(outside)}"

    env = {"HOME": str(home)} | {name: here(value) for name, value in made.variables.items()}
    env |= {"STEMPHONY_GIT_COMMIT": "0123abc", "PATH": f"{folder / 'image/bin'}:/usr/bin:/bin"}
    command = [folder / "image/bin" / made.entry[0], *made.entry[1:], "run", campaign.config, "--cores", "1"]
    with Running(command, tmp_path / "log", env, cwd=campaign.directory) as running:
        outcome = running.end(DEADLINE_S)
    assert outcome.status == 0, outcome.output
    merged = campaign.result.merged
    assert attributes(merged)["git_commit"] == "0123abc"
    assert any(Path(here(made.plans)).iterdir()), "FFT plans are kept outside the container"
    found = dict(entry.split("==") for entry in json.loads(attributes(merged, "runtime")["packages"]))
    for name in NAMES:
        assert missing_from(of_pip(ENVS / f"{name}.in"), found) == {}
