"""One real Slurm cluster for all tests here, and campaigns on it whose jobs wait at gates."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.campaign import (
    DEADLINE_S,
    TINY,
    Campaign,
    Outcome,
    Running,
    arrays,
    changed,
    clean_environment,
    edit,
    wait_for,
)
from support.monitor import missing
from support.shared import shared_cache

from cluster import cluster as clusters
from cluster.cluster import Cluster

HERE = Path(__file__).parent
PAIRS = 7
# One defocus; a job computes for milliseconds.
QUICK = changed(
    TINY,
    simulation={"name": "quick", "title": "Quick campaign"},
    probe={"defoci_nm": [0.0]},
    adf={"detectors": {}},
    frozen_phonon={"configurations": PAIRS},
)

# A job computes for seconds, and keeps several checkpoints as soon as it may.
LONG = changed(
    QUICK,
    simulation={"name": "long", "title": "Long campaign"},
    grating={"gpts": [96, 96], "slice_thickness_angstrom": 0.08},
    scan={"points": [40, 24]},
    cbed={"enabled": False},
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.workflow)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def plain_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of all processes: one thread per library, one cache of FFT plans for the whole session."""
    return clean_environment(shared_cache(tmp_path_factory), "SLURM_")


@pytest.fixture(scope="session")
def cluster(plain_env: dict[str, str]) -> Iterator[Cluster]:
    """Two nodes with four CPUs each, without accounting."""
    if why := clusters.missing():
        missing(why)
    with clusters.started(plain_env) as running:
        yield running


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which jobs can meet with misfortune, in a folder with a space in its name."""
    clone = clusters.make_quick_clone(tmp_path_factory.mktemp("clone") / "a clone of it")
    shutil.copy(HERE / "misfortune.py", clone / "workflow" / "scripts")
    script = clone / "workflow" / "scripts" / "run_multislice.py"
    begin = r"^(    with job\.scope\(.*\) as scope:)$"
    edit(script, begin, r'\1\n        __import__("misfortune").meet(params)')
    return clone


@dataclass(frozen=True)
class OnCluster(Campaign):
    """A campaign on the cluster whose jobs can be held at gates."""

    @property
    def gates(self) -> Path:
        return Path(self.env["STEMPHONY_TEST_GATES"])

    def close_gate(self, *configurations: int) -> None:
        """Have the jobs of these configurations wait."""
        for number in configurations:
            (self.gates / f"{number:04d}.gate").touch()

    def open_gate(self, *configurations: int) -> None:
        """Let them go on."""
        for number in configurations:
            (self.gates / f"{number:04d}.gate").unlink()

    def wait_at_gate(self, *configurations: int) -> dict[int, int]:
        """Wait until the jobs of these configurations have come to their gates; their process ids."""

        def living(number: int) -> list[int]:
            here = (int(file.suffix[1:]) for file in self.gates.glob(f"{number:04d}.reached.*"))
            return [pid for pid in here if not clusters.gone(pid)]

        for number in configurations:
            wait_for(lambda number=number: living(number), f"configuration {number} to come to its gate", DEADLINE_S)
        return {number: living(number)[-1] for number in configurations}

    def start_typed(self, *arguments: str) -> Running:
        """Start `snakemake --profile slurm` in the clone, with the paths of the config and the results."""
        words = ["snakemake", "--profile", "slurm", "--configfile", self.config, "--directory", self.directory]
        return Running([*words, *arguments], self.folder / "snakemake.out", self.env, cwd=self.clone)

    def typed(self, *arguments: str) -> Outcome:
        """Run it to its end."""
        with self.start_typed(*arguments) as running:
            return running.end()

    def submitted(self, cluster: Cluster) -> list[tuple[int, list[str]]]:
        """Configuration, and [Slurm's id, MB, time limit, state, name] of each of its Slurm jobs, the oldest first."""
        rows = [row for row in cluster.jobs("%i|%m|%l|%T|%j|%k|%Z") if row[-1] == str(self.directory)]
        return [(int(row[-2].rpartition("_")[2]), row[:-2]) for row in rows if "run_multislice" in row[-2]]


@pytest.fixture
def new_campaign(cluster: Cluster, clone: Path, tmp_path: Path) -> Callable[..., OnCluster]:
    """Make campaigns of the first so many configurations of QUICK that have not run yet."""
    return lambda configurations: make_campaign(cluster, clone, tmp_path, configurations)


def make_campaign(cluster: Cluster, clone: Path, folder: Path, configurations: int, **blocks: Any) -> OnCluster:
    config = changed(QUICK, **{"frozen_phonon": {"configurations": configurations}, **blocks})
    gates = folder / "gates"
    gates.mkdir()
    env: Mapping[str, str] = {**cluster.env, "STEMPHONY_TEST_GATES": str(gates)}
    made = OnCluster.make(clone, folder / "quick campaign", config, env)
    assert isinstance(made, OnCluster)
    return made


@pytest.fixture(scope="session")
def undisturbed(
    clone: Path, plain_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Mapping[str, np.ndarray]]:
    """Arrays of the merged result of the first so many configurations, computed on this machine without Slurm."""
    folder = tmp_path_factory.mktemp("undisturbed")
    env = {**plain_env, "STEMPHONY_TEST_GATES": str(folder)}
    campaign = Campaign.make(clone, folder / "quick campaign", QUICK, env)
    kept: dict[int, Mapping[str, np.ndarray]] = {}

    def result(configurations: int) -> Mapping[str, np.ndarray]:
        if configurations not in kept:
            campaign.change(frozen_phonon={"configurations": configurations})
            campaign.succeed()
            kept[configurations] = arrays(campaign.result.merged)
        return kept[configurations]

    return result
