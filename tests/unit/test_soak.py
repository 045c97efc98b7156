"""What `make soak` decides before it starts; it hits a computation only while there is something to go on from."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from cluster import cluster as clusters
from cluster import soak
from stemphony.paths import ResultPaths
from stemphony.store.claims import Holder, process_start
from support.campaign import wait_for


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("kills", [1, 7, 10, 50])
def test_the_seed_decides_everything_and_the_last_is_a_computation_to_go_on_from_alone(seed: int, kills: int):
    drawn = soak.blows(kills, seed)
    assert drawn == soak.blows(kills, seed)
    assert len(drawn) == kills
    kept = [number for number, blow in enumerate(drawn, 1) if blow.is_kept]
    assert kept == sorted({*range(soak.EACH, kills + 1, soak.EACH), kills})
    assert all(blow.is_last for blow in drawn if blow.is_kept)
    assert all(blow.is_last for blow in drawn[-2:])
    assert {(blow.role, blow.signal) for blow in drawn if blow.is_kept} == {(soak.COMPUTATION, signal.SIGKILL)}


def test_fifty_kills_are_of_every_kind():
    drawn = [blow for blow in soak.blows(50, 1) if not blow.is_kept]
    assert {blow.role for blow in drawn} == soak.ROLES.keys()
    assert {blow.signal for blow in drawn} == soak.SIGNALS.keys()
    assert drawn != [blow for blow in soak.blows(50, 2) if not blow.is_kept]


@pytest.mark.parametrize("seed", range(8))
def test_two_simulations_have_both_algorithms_and_both_commands(seed: int):
    drawn = soak.ways(seed)
    assert len({(way.algorithm, way.command) for way in drawn}) == 4
    for first, second in (drawn[:2], drawn[2:]):
        assert first.algorithm != second.algorithm
        assert first.command != second.command
        assert first.cancels != second.cancels


@pytest.fixture
def computing() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def begun(result: ResultPaths, process: subprocess.Popen[bytes], *, shared: bool) -> Path:
    """The claim of a process, and its checkpoint, of a job or of the waves that jobs share."""
    checkpoint = result.waves_checkpoint(0) if shared else result.checkpoint("p0d000", 0)
    claim = result.waves(0).with_name(f".{result.waves(0).name}.claim") if shared else result.claim("p0d000", 0)
    for file in (checkpoint, claim):
        file.parent.mkdir(parents=True, exist_ok=True)
    holder = replace(Holder.here(), pid=process.pid, started=process_start(process.pid))
    claim.write_text(json.dumps(asdict(holder)))
    checkpoint.touch()
    return checkpoint


@pytest.mark.parametrize("shared", [False, True])
def test_a_computation_is_hit_while_its_checkpoint_is_there_and_else_goes_on(tmp_path: Path, computing, shared: bool):
    result = ResultPaths(tmp_path / "results" / "soak")
    checkpoint = begun(result, computing, shared=shared)
    assert soak.with_checkpoint(result) == [computing.pid]
    checkpoint.unlink()  # between the look and the blow it has finished
    assert not soak.hit_with_checkpoint(result, computing.pid)
    wait_for(lambda: clusters.state_of(computing.pid) not in "TZX", "it to go on")
    checkpoint.touch()
    assert soak.hit_with_checkpoint(result, computing.pid)
    assert computing.wait() == -signal.SIGKILL
    assert soak.with_checkpoint(result) == []


def test_waves_that_are_finished_are_nothing_to_go_on_from(tmp_path: Path, computing):
    result = ResultPaths(tmp_path / "results" / "soak")
    begun(result, computing, shared=True)
    result.waves(0).touch()
    assert soak.with_checkpoint(result) == []
