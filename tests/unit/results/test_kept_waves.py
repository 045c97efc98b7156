"""Waves that the jobs of one configuration share: one job computes them, the others wait, and damage is found."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from stemphony import paths
from stemphony.cli import main
from stemphony.compute.incident_basis import Basis
from stemphony.compute.superposition import Superposition
from stemphony.physics.basis import signal_forms
from stemphony.physics.detectors import Region
from stemphony.results import kept_waves
from stemphony.results.kept_waves import read_waves, shared_waves, waves_digest, write_waves
from stemphony.store import ledger
from stemphony.store.claims import TIMING, Timing

DIGEST = "d" * 64
IMPATIENT = Timing(poll_s=0.01, stale_s=0.1)


def superposition(seed: int = 0, rank: int = 3) -> Superposition:
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(2, rank, rank)) + 1j * rng.normal(size=(2, rank, rank))
    forms = (half + np.conj(np.swapaxes(half, 1, 2))).astype(np.complex64)
    pattern = rng.normal(size=(rank, 7)).astype(np.complex64)
    basis = Basis(np.arange(5), np.arange(5) + 1, rng.normal(size=(5, rank)) + 0j)
    return Superposition(basis, (0.0, 2.5), (forms, 2 * forms), (pattern, 3 * pattern))


def same(one: Superposition, other: Superposition) -> bool:
    pairs = [
        (one.basis.rows, other.basis.rows),
        (one.basis.columns, other.basis.columns),
        (one.basis.vectors, other.basis.vectors),
        *zip(one.forms, other.forms, strict=True),
        *zip(one.patterns, other.patterns, strict=True),
    ]
    return one.defoci_nm == other.defoci_nm and all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "waves" / "configuration_0000.npz"


@pytest.fixture
def kept(file: Path) -> Path:
    file.parent.mkdir()
    write_waves(file, superposition(), DIGEST)
    return file


def obtained(
    file: Path, compute=superposition, serves=lambda found: True, said: list[str] | None = None, timing=TIMING
):
    said = [] if said is None else said
    return shared_waves(file, DIGEST, Superposition, serves, compute, said.append, timing=timing)


def test_the_computing_job_gets_the_bits_that_other_jobs_read(file):
    rng = np.random.default_rng(1)
    exit_waves = (rng.normal(size=(40, 3000)) + 1j * rng.normal(size=(40, 3000))).astype(np.complex64)
    weights = rng.random(3000)
    regions = [Region(np.arange(3000), None), Region(np.arange(3000), weights), Region(np.arange(0, 3000, 7), None)]
    basis = Basis(np.arange(50), np.arange(50), np.eye(50, 40, dtype=complex))
    computed = Superposition(basis, (0.0,), (signal_forms(exit_waves, regions),), ())
    file.parent.mkdir()
    write_waves(file, computed, DIGEST)
    found = read_waves(file, DIGEST, Superposition)
    assert found is not None
    assert same(found, computed)


def test_waves_are_read_as_they_were_written(kept):
    found = read_waves(kept, DIGEST, Superposition)
    assert found is not None
    assert same(found, superposition())


@pytest.mark.parametrize("damage", ["missing", "no checksum", "flipped", "truncated", "empty", "other params"])
def test_damaged_or_foreign_waves_are_not_read(kept, damage):
    content = bytearray(kept.read_bytes())
    if damage == "missing":
        kept.unlink()
    elif damage == "no checksum":
        paths.checksum(kept).unlink()
    elif damage == "flipped":
        content[-30] ^= 4
        kept.write_bytes(content)
    elif damage == "truncated":
        kept.write_bytes(content[:-1])
    elif damage == "empty":
        kept.write_bytes(b"")
        paths.checksum(kept).write_text("")
    assert read_waves(kept, "e" * 64 if damage == "other params" else DIGEST, Superposition) is None


def test_the_first_job_computes_and_the_second_reads(file):
    calls: list[int] = []

    def compute() -> Superposition:
        calls.append(1)
        return superposition()

    said: list[str] = []
    assert same(obtained(file, compute), obtained(file, compute, said=said))
    assert calls == [1]
    assert said == ["waves of this configuration taken from configuration_0000.npz"]
    assert not list(file.parent.glob(".*"))


def test_only_one_of_many_jobs_at_once_computes(file):
    quick = Timing(poll_s=0.01)
    calls: list[int] = []

    def compute() -> Superposition:
        calls.append(1)
        time.sleep(0.2)
        return superposition()

    found: list[Superposition] = []
    threads = [threading.Thread(target=lambda: found.append(obtained(file, compute, timing=quick))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]
    assert len(found) == 6
    assert [one for one in found if not same(one, found[0])] == []


def test_waves_for_other_defoci_are_replaced(kept):
    new = superposition(1)
    assert same(obtained(kept, lambda: new, serves=lambda found: same(found, new)), new)
    found = read_waves(kept, DIGEST, Superposition)
    assert found is not None
    assert same(found, new)


def test_a_claim_without_heartbeat_is_taken_over(file):
    file.parent.mkdir()
    file.with_name(f".{file.name}.claim").write_text("of a machine that is gone\n")
    said: list[str] = []
    assert same(obtained(file, said=said, timing=IMPATIENT), superposition())
    assert said[0] == "waiting for the waves of this configuration, which another job computes"


@pytest.mark.failure("dead claim that cannot be removed")
def test_a_claim_that_cannot_be_removed_costs_only_time(file):
    claim = file.with_name(f".{file.name}.claim")
    claim.mkdir(parents=True)
    said: list[str] = []
    assert same(obtained(file, said=said, timing=IMPATIENT), superposition())
    assert len(said) == 2
    assert f"{claim} has no heartbeat and cannot be removed" in said[1]
    found = read_waves(file, DIGEST, Superposition)
    assert found is not None


def test_a_claim_with_heartbeat_is_waited_for(file):
    timing = Timing(poll_s=0.01, heartbeat_s=0.02, stale_s=0.3)
    begun = threading.Event()

    def slow() -> Superposition:
        begun.set()
        time.sleep(1.0)
        return superposition(5)

    thread = threading.Thread(target=lambda: obtained(file, slow, timing=timing))
    thread.start()
    begun.wait()
    assert same(obtained(file, lambda: superposition(6), timing=timing), superposition(5))
    thread.join()


def test_an_error_while_computing_frees_the_claim(file):
    def broken() -> Superposition:
        raise MemoryError

    with pytest.raises(MemoryError):
        obtained(file, broken)
    assert same(obtained(file), superposition())


def test_waves_that_cannot_be_kept_cost_only_time(file, monkeypatch):
    said: list[str] = []
    file.parent.write_text("a file, no folder")
    assert same(obtained(file, said=said), superposition())
    assert said == ["waves cannot be shared with other jobs (File exists)"]

    file.parent.unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_waves, "write_waves", full)
    said.clear()
    assert same(obtained(file, said=said), superposition())
    assert "not kept" in said[0]
    assert not list(file.parent.glob("*"))


def test_the_digest_depends_on_all_params_but_the_defocus():
    params = {"defocus_nm": 1.0, "configuration": 0, "scan": {"x": [0, 1]}}
    assert waves_digest(params, 1) == waves_digest({**params, "defocus_nm": 2.0}, 1)
    assert waves_digest(params, 1) != waves_digest({**params, "configuration": 1}, 1)


def test_waves_of_another_drawn_seed_are_foreign():
    assert waves_digest({"configuration": 0}, 1) != waves_digest({"configuration": 0}, 2)


def test_waves_for_other_defoci_are_never_used(file):
    with pytest.raises(AssertionError, match="other defoci"):
        shared_waves(
            file, DIGEST, Superposition, serves=lambda kept: False, compute=superposition, say=lambda text: None
        )
    assert not list(file.parent.glob("*"))


def test_clean_removes_the_kept_waves_and_their_folder(file, tmp_path, capsys):
    result = paths.ResultPaths(tmp_path)
    ledger.identity(result, 1)
    for configuration in (0, 12345):
        result.waves(configuration).parent.mkdir(exist_ok=True)
        write_waves(result.waves(configuration), superposition(), DIGEST)
    assert main(["clean", str(tmp_path)]) == 0
    assert "removed the kept waves" in capsys.readouterr().out
    assert not result.waves_folder.exists()
    assert main(["clean", str(tmp_path)]) == 0
    assert "no waves were kept" in capsys.readouterr().out


def test_clean_keeps_and_names_foreign_files_beside_the_waves(kept, tmp_path, capsys):
    ledger.identity(paths.ResultPaths(tmp_path), 1)
    names = ("notes.txt", "measured.npz", "configuration_0000.npz.bak", "configuration_best.npz", ".hidden")
    foreign = sorted(kept.with_name(name) for name in names)
    for one in foreign:
        one.write_text("mine")
    for name in ("folder", "configuration_0001.npz"):
        kept.with_name(name).mkdir()
    of_jobs = [kept.with_name(f".{kept.name}{end}") for end in (".claim", ".0123abcd.7-00aa00aa00aa.tmp")]
    for one in of_jobs:
        one.touch()
    assert main(["clean", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert not kept.exists()
    assert not paths.checksum(kept).exists()
    assert [one for one in foreign if one.read_text() != "mine"] == []
    assert [one for one in of_jobs if not one.exists()] == []
    assert "kept: 7 entries" in said
    named = [*foreign, kept.with_name("folder"), kept.with_name("configuration_0001.npz")]
    assert [one for one in named if f"  {one}\n" not in said] == []
    assert f"{of_jobs[0]}\n" not in said
