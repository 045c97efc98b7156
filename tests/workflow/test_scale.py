"""No folder grows with the number of jobs but the one of a defocus; the benchmark of 10,000 jobs, on a small scale."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "benchmarks"
DEFOCI, CONFIGURATIONS = 4, 8
CONSTANT = 10  # entries of folders that hold no jobs


@pytest.fixture(scope="module")
def scale() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    specification = importlib.util.spec_from_file_location("scale", FOLDER / "scale.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def bench(scale: ModuleType, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Thirty-two jobs that went through Snakemake, merge and figures too."""
    patch = pytest.MonkeyPatch()
    for name in ("STEMPHONY_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        patch.setenv(name, env[name])
    made = scale.Bench(tmp_path_factory.mktemp("scale"), DEFOCI, CONFIGURATIONS)
    made.prepare()
    made.ran, made.monitor = made.run()
    yield made
    patch.undo()


def test_every_event_arrives_once(bench: Any):
    # Of a run: START_SIMULATION and its end; of a defocus: START_DEFOCUS; of a job: start, progress 0 and 1, finish.
    assert bench.ran.events == 2 + DEFOCI + 4 * DEFOCI * CONFIGURATIONS
    assert bench.report().events == bench.ran.events


def test_an_event_that_is_lost_or_comes_twice_ends_the_benchmark(scale: ModuleType, bench: Any):
    with scale.monitor(bench) as receiving, pytest.raises(SystemExit, match=r"7 events were written, 0 arrived"):
        receiving.stored(7)


def test_the_benchmark_measures_memory_and_open_files_of_run_and_monitor(bench: Any):
    for process in (bench.ran.process, bench.monitor):
        assert process.peak_mb > 10
        assert process.open_files > 3
    assert "jobs per second" in bench.pace()


def test_the_files_of_the_stand_in_pass_every_check_and_are_merged(bench: Any):
    bench.merge(2)
    found = json.loads(bench.status().output)
    assert found["counts"]["done"] == DEFOCI * CONFIGURATIONS
    assert found["merged"] == "current"


def test_only_the_folder_of_a_defocus_grows_with_the_number_of_jobs(bench: Any):
    """Files of a defocus: two of each job (file and checksum, spool and how far it is delivered)."""
    found = dict(bench.largest_folders())
    assert found["results/scale/jobs/defocus_…"] == 2 * CONFIGURATIONS
    ours = {kind: number for kind, number in found.items() if not kind.startswith(".snakemake")}
    assert ours["results/scale/reports/run-…/events/defocus_…"] <= 2 * CONFIGURATIONS
    assert {kind for kind, number in ours.items() if number > CONSTANT} <= {
        kind for kind in ours if kind.endswith("defocus_…")
    }
    assert max(ours.values()) <= 2 * CONFIGURATIONS
    # Snakemake's own: one record for each file that it made, in one folder.
    assert found[".snakemake/metadata"] <= DEFOCI * CONFIGURATIONS + CONSTANT
    assert max(number for kind, number in found.items() if kind.startswith(".snakemake/incomplete")) <= 1
