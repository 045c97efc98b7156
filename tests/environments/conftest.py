"""A real conda with local channels, and a home that conda and pip may fill."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.monitor import missing
from support.shared import shared_cache

HERE = Path(__file__).parent
INSTALL = "tests/environments/install.sh"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)


def rig_folder() -> Path:
    """The folder in which install.sh puts its files, by the rule of install.sh."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("STEMPHONY_CONDA_RIG") or cache / "stemphony" / "conda-rig")


@dataclass(frozen=True)
class Rig:
    """conda, with its channels served on the loopback address, and its environment.

    Attributes
    ----------
    env : dict
        Of every process: conda on PATH in front of what was there, a home of its own.
    """

    folder: Path
    home: Path
    channels: str
    env: dict[str, str]

    def conda(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        """What a command of conda prints; it must succeed."""
        return self.run("conda", *arguments, cwd=cwd)

    def run(self, *words: str | Path, cwd: Path | None = None, **variables: str) -> str:
        """What a program prints; it must succeed."""
        done = subprocess.run(
            [str(word) for word in words], cwd=cwd, env=self.env | variables, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing of it."""

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = rig_folder()
    if not (folder / "made-of").exists():
        missing(f"no conda to test with in {folder}; {INSTALL} makes it")
    # Not file://, because conda checks no checksums of such packages.
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder / "channels")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    channels = f"http://127.0.0.1:{server.server_port}"
    home = tmp_path_factory.mktemp("home")
    # Settings in a file: Snakemake's look at the channel priority does not see CONDARC's.
    (home / ".condarc").write_text(
        f"channel_alias: {channels}\n"
        "default_channels: []\n"
        "channel_priority: strict\n"
        "solver: classic\n"
        "add_pip_as_python_dependency: false\n"  # otherwise the channel would need pip
        "notify_outdated_conda: false\n"
        f"pkgs_dirs: [{home / 'pkgs'}]\n"
    )
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("STEMPHONY_", "SNAKEMAKE", "PYTEST", "PYTHON", "XDG_", "CONDA", "VIRTUAL_ENV", "PIP_"))
    }
    env = kept | {
        "HOME": str(home),
        "PATH": f"{folder / 'tool' / 'condabin'}:{kept['PATH']}",
        "OMP_NUM_THREADS": "1",
        "CONDA_OVERRIDE_CUDA": "",  # do not look for one
        "STEMPHONY_CACHE_DIR": str(shared_cache(tmp_path_factory) / "plans"),
    }
    try:
        yield Rig(folder, home, channels, env)
    finally:
        server.shutdown()
        server.server_close()
        shutil.rmtree(home / "pkgs", ignore_errors=True)
