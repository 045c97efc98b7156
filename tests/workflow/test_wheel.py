"""An installed wheel: it has all that a run needs, and computes in any folder what a clone computes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import yaml
from stemphony.commands.profiles import shipped
from support.campaign import TINY, arrays, assert_same_arrays, attributes, make_clone
from support.shared import made_once

from workflow.conftest import Reported

TREE = "stemphony_workflow"
PARTS = ("workflow", "config", "profiles", "envs")


def run(words: list[str | Path], cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the working tree outside git."""

    def build(folder: Path) -> Path:
        source = make_clone(folder / "source")
        words = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
        run([*words, "-w", folder / "dist", source], folder)
        (file,) = (folder / "dist").iterdir()
        return file

    return made_once(tmp_path_factory, "wheel", build)


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs of a fresh venv with the wheel. The packages that it needs are those of this Python."""

    def install(folder: Path) -> Path:
        run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], folder)
        run([sys.executable, "-m", "pip", "--python", folder / "venv", "install", "-q", "--no-deps", wheel], folder)
        (site,) = (folder / "venv/lib").glob("*/site-packages")
        # Python does not read the .pth files of a folder that a .pth file names, so this clone stays out.
        (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        snakemake = folder / "venv/bin/snakemake"
        snakemake.write_text(f"#!{folder}/venv/bin/python\nfrom snakemake.cli import main\nmain()\n", encoding="utf-8")
        snakemake.chmod(0o755)
        return folder / "venv/bin"

    return made_once(tmp_path_factory, "installed", install)


def test_the_wheel_has_every_file_of_the_clone(wheel: Path, tmp_path: Path):
    clone = make_clone(tmp_path / "clone")
    files = [file for part in PARTS for file in (clone / part).rglob("*") if file.is_file()]
    expected = {str(file.relative_to(clone)) for file in files} | {"Snakefile", "LICENSE", "COMMIT"}
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.removeprefix(f"{TREE}/") for name in names if name.startswith(f"{TREE}/")} == expected
    assert {name.split("/")[0] for name in names if not name.startswith(TREE)} == {
        "stemphony.pth", "stemphony-0.1.0.dist-info",
    }  # fmt: skip


def test_an_installed_wheel_computes_what_a_clone_computes(
    installed: Path, tiny: Reported, env: dict[str, str], tmp_path: Path
):
    run([installed / "stemphony", "init", "mine"], tmp_path, env)
    (tmp_path / "mine/config.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    run([installed / "stemphony", "run", "mine/config.yaml", "--cores", "2"], tmp_path, env)
    merged = tmp_path / "results/tiny/stem.nc"
    assert_same_arrays(merged, arrays(tiny.campaign.result.merged))
    assert attributes(merged)["version"] == "0.1.0"
    seen = run([installed / "python", "-P", "-c", "import stemphony; print(stemphony.__file__)"], tmp_path, env)
    assert f"/{TREE}/workflow/scripts/stemphony/" in seen


def test_a_repository_around_an_installed_wheel_is_not_taken_for_its_own(
    installed: Path, env: dict[str, str], tmp_path: Path
):
    if shutil.which("git") is None:
        pytest.skip("no git")
    words = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"]
    shutil.copytree(installed.parent, tmp_path / "venv", symlinks=True)
    run(["git", "init", "-q"], tmp_path)
    run(words, tmp_path)
    code = "from stemphony import provenance; print(repr(provenance.git_commit()))"
    assert run([tmp_path / "venv/bin/python", "-P", "-c", code], tmp_path, env).strip() == "''"


def test_an_installed_wheel_brings_its_profiles(installed: Path, env: dict[str, str], tmp_path: Path):
    home = {**env, "XDG_CONFIG_HOME": str(tmp_path)}
    for name in shipped(Path(__file__).resolve().parents[2]):
        run([installed / "stemphony", "profile", "install", "--name", name], tmp_path, home)
        assert "config.v9+.yaml" in {file.name for file in tmp_path.rglob("*") if file.parent.name == name}, name
