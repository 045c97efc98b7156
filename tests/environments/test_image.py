"""The content of an image, installed by the command of the Dockerfile, runs a simulation by its entry point."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from support.campaign import DEADLINE_S, REPOSITORY, TINY, Campaign, Running, attributes, changed
from support.environments import ENVS, NAMES, missing_from, of_pip
from support.monitor import missing

from environments.conftest import INSTALL, rig_folder

DOCKERFILE = (ENVS / "Dockerfile").read_text(encoding="utf-8")
SMALL = changed(TINY, simulation={"name": "small"}, probe={"defoci_nm": [0.0]}, frozen_phonon={"configurations": 1})


def test_the_entry_point_of_the_image_simulates(tmp_path: Path):
    folder = rig_folder()
    if not (folder / "made-of").exists():
        missing(f"nothing that the image would have in {folder}; {INSTALL} installs it")
    inside = tmp_path / "opt stemphony"
    for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE):
        *names, target = line.split()
        for name in names:
            place = inside / target / Path(name).name if target.endswith("/") else inside / target
            place.parent.mkdir(parents=True, exist_ok=True)
            if (REPOSITORY / name).is_dir():
                shutil.copytree(REPOSITORY / name, place, dirs_exist_ok=True)
            else:
                shutil.copy(REPOSITORY / name, place)
    campaign = Campaign.make(inside, tmp_path / "simulation", SMALL, {})
    variables = dict(re.findall(r'(\w+)="([^"]*)"', "\n".join(re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE))))
    env = {
        name: re.sub("^/simulation(?=/)", str(campaign.directory), re.sub("^/opt/stemphony(?=/)", str(inside), value))
        for name, value in variables.items()
    } | {"STEMPHONY_GIT_COMMIT": "0123abc", "PATH": f"{folder / 'image/bin'}:/usr/bin:/bin", "HOME": str(tmp_path)}
    entry = json.loads(re.search(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)[1])
    command = [folder / "image/bin" / entry[0], *entry[1:], "run", campaign.config, "--cores", "1"]
    with Running(command, tmp_path / "log", env, cwd=campaign.directory) as running:
        outcome = running.end(DEADLINE_S)
    assert outcome.status == 0, outcome.output
    merged = campaign.result.merged
    assert attributes(merged)["git_commit"] == "0123abc"
    assert any((campaign.directory / ".stemphony").iterdir()), "FFT plans are kept outside the container"
    found = dict(entry.split("==") for entry in json.loads(attributes(merged, "runtime")["packages"]))
    for name in NAMES:
        assert missing_from(of_pip(ENVS / f"{name}.in"), found) == {}
