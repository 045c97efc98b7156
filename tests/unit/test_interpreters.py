"""No Python that Stemphony starts imports a file of the user's working directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stemphony.interpreters import import_nothing_from_here
from support.hostile import imported, plant

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"


def environment(**further: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": str(SCRIPTS), **further}


def run(folder: Path, *words: str | Path, **further: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment(**further), capture_output=True, text=True)


POOL = """
import multiprocessing
from stemphony.interpreters import import_nothing_from_here

if __name__ == "__main__":
    import_nothing_from_here()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(abs, (-3,)))
"""


def test_a_process_of_a_pool_imports_nothing_from_here(tmp_path):
    """The merge starts such processes: multiprocessing uses `python -c`."""
    plant(tmp_path / "here", tmp_path / "trace")
    script = tmp_path / "script.py"
    script.write_text(POOL)
    done = run(tmp_path / "here", script)
    assert imported(tmp_path / "trace") == []
    assert done.stdout.strip() == "3", done.stderr


def test_the_package_as_a_program_imports_nothing_from_here(tmp_path):
    """Modules that Python does not need before the package starts. `python -P -m` protects the others too."""
    plant(tmp_path / "here", tmp_path / "trace", ("json", "random", "numpy", "yaml", "argparse", "shlex", "psutil"))
    done = run(tmp_path / "here", "-m", "stemphony", "--version")
    assert imported(tmp_path / "trace") == []
    assert done.returncode == 0, done.stderr


def test_the_package_as_a_program_with_the_option_imports_nothing_at_all_from_here(tmp_path):
    plant(tmp_path / "here", tmp_path / "trace")
    done = run(tmp_path / "here", "-P", "-m", "stemphony", "--version")
    assert imported(tmp_path / "trace") == []
    assert done.returncode == 0, done.stderr


def test_the_package_is_found_where_it_is_not_installed():
    """`python -m stemphony` in its own parent folder."""
    done = run(SCRIPTS, "-S", "-m", "stemphony", "--version", PYTHONPATH="")
    assert done.stdout.startswith("stemphony "), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(file.name for file in SCRIPTS.glob("*.py")))
def test_the_script_of_a_rule_finds_the_package_where_it_is_not_installed(script, tmp_path):
    """The conda environment of a rule has no Stemphony, and Snakemake removes PYTHONPATH."""
    done = run(tmp_path, "-S", SCRIPTS / script, PYTHONPATH="", PYTHONSAFEPATH="1")
    assert "No module named 'stemphony" not in done.stderr, f"{script} does not add its own folder to sys.path"


def test_empty_and_relative_entries_of_the_path_are_dropped(monkeypatch):
    """If it is empty, `PYTHONPATH=$PYTHONPATH:/lab/python` begins with an empty entry: the working directory."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(("", "/lab/python", "mine", ".", "/other")))
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    import_nothing_from_here()
    assert os.environ["PYTHONPATH"] == os.pathsep.join(("/lab/python", "/other"))
    assert os.environ["PYTHONSAFEPATH"] == "1"


@pytest.mark.parametrize("variable", ["PATH", "LD_LIBRARY_PATH", "HDF5_PLUGIN_PATH"])
def test_empty_and_relative_entries_of_other_search_paths_are_dropped(variable, monkeypatch):
    """If it is empty, `LD_LIBRARY_PATH=/lab/lib:$LD_LIBRARY_PATH` ends with an empty entry: the working directory."""
    monkeypatch.setenv(variable, os.pathsep.join(("", "/lab/lib", "lib", ".", "/other", "")))
    import_nothing_from_here()
    assert os.environ[variable] == os.pathsep.join(("/lab/lib", "/other"))
    monkeypatch.setenv(variable, ":.")
    import_nothing_from_here()
    assert variable not in os.environ


GIT = """
from stemphony.interpreters import import_nothing_from_here

import_nothing_from_here()
from stemphony import provenance

print(len(provenance.git_commit()))
"""


def test_a_program_of_the_folder_here_is_not_started(tmp_path):
    """The attack: a received folder has a program `git`, and PATH begins with an empty entry."""
    (tmp_path / "git").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (tmp_path / "git").chmod(0o755)
    script = tmp_path / "script.py"
    script.write_text(GIT)
    done = run(tmp_path, script, PATH=os.pathsep.join(("", ".", os.environ["PATH"])))
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "started").exists()


SETTINGS = """
import sys
from stemphony.interpreters import import_nothing_from_here

import_nothing_from_here()
import matplotlib
import netCDF4
from pathlib import Path

netCDF4.Dataset(Path("x.nc"), "w").close()
print(matplotlib.rcParams["text.usetex"], matplotlib.__spec__.loader is matplotlib.__loader__, Path.cwd().name)
"""


def test_libraries_take_no_settings_from_here(tmp_path):
    """The attack: `text.usetex` and a preamble for LaTeX in `matplotlibrc`, and a pipe that netCDF waits for."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "matplotlibrc").write_text(
        "text.usetex: True\ntext.latex.preamble: \\\\immediate\\\\write18{touch owned}\n"
    )
    for name in (".ncrc", ".daprc", ".dodsrc"):
        os.mkfifo(here / name)
    script = tmp_path / "script.py"
    script.write_text(SETTINGS)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=here, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["False", "True", "here"], done.stderr


def test_the_own_settings_of_the_user_are_taken(tmp_path):
    """Settings that a variable names, or that lie in the user's home folder."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "matplotlibrc").write_text("font.size: 17\n")
    code = (
        "from stemphony.interpreters import import_nothing_from_here; import_nothing_from_here(); "
        "import matplotlib; print(matplotlib.rcParams['font.size'])"
    )
    for variable in ("MPLCONFIGDIR", "MATPLOTLIBRC"):
        done = run(tmp_path, "-c", code, **{variable: str(own)})
        assert done.stdout.strip() == "17.0", done.stderr
