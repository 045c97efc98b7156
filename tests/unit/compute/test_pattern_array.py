"""Many diffraction patterns: a job keeps them in a file, and the merge reads them in blocks of bounded size."""

from __future__ import annotations

import errno
import os
from typing import Any

import numpy as np
import pytest
from stemphony.compute import pattern_array as module
from stemphony.compute.cost import memory_mb
from stemphony.compute.simulation import simulate
from stemphony.errors import StorageError
from stemphony.experiment.blurring import Blurring
from stemphony.results.pattern_group import BLURRED_BLOCKS, COPIES_OF_A_BLUR, CbedBlock, pattern_blocks
from stemphony.results.signal_blocks import BLOCK_BYTES
from support.arrays import differences
from support.experiments import experiment

from unit.compute.test_pattern_scan import atoms, made

LARGE: dict[str, Any] = {"scan": {"points": [256, 256]}, "cbed": {"enabled": True, "size": [128, 128]}}


@pytest.mark.parametrize("algorithm", ["multislice", "probe_basis"])
def test_patterns_in_a_file_are_those_in_memory(monkeypatch, tmp_path, algorithm):
    of = made(algorithm, "single", depths={"every_angstrom": 3.9})
    monkeypatch.chdir(tmp_path)

    def patterns() -> np.ndarray:
        found = simulate(of, atoms(of), 2.0, threads=1, flag="FFTW_ESTIMATE", on_progress=lambda done, total: None)
        assert found.cbed is not None
        return found.cbed

    in_memory = patterns()
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr("stemphony.compute.recorder.WINDOW_BYTES", 10_000)
    in_file = patterns()
    assert isinstance(in_file, np.memmap)
    assert not differences(in_file, in_memory)
    assert not list(tmp_path.iterdir())  # the file has no name
    del in_file


def test_a_full_disk_is_named_before_the_job_computes(monkeypatch, tmp_path):
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        StorageError, match=r"no room for the diffraction patterns of one job.*No space left.*cbed\.scan"
    ):
        module.pattern_array((10, 10), np.dtype(np.float32), tmp_path)


def test_the_memory_of_a_job_does_not_grow_with_its_patterns():
    whole, half = experiment(**LARGE), experiment(**{**LARGE, "scan": {"points": [256, 128]}})
    assert whole.positions * 128**2 * 4 > 4e9
    images = [memory_mb(experiment(scan=block["scan"]), 40, 1) for block in (LARGE, {"scan": {"points": [256, 128]}})]
    added = [memory_mb(of, 40, 1) - plain for of, plain in zip((whole, half), images, strict=True)]
    assert added[0] == pytest.approx(added[1])
    assert added[0] < 300


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fwhm", "errors", "copies"), [(0.0, False, 1), (0.0, True, 3), (0.8, False, COPIES_OF_A_BLUR / BLURRED_BLOCKS)]
)
def test_blocks_of_4_gb_of_patterns_are_bounded_and_complete(fwhm, errors, copies):
    blocks = list(pattern_blocks(experiment(**LARGE).patterns, Blurring(fwhm, (0, 0)), errors, BLOCK_BYTES))
    parts = [block for block in blocks if isinstance(block, CbedBlock)]
    assert max(block.bytes for block in blocks) * copies <= BLOCK_BYTES
    assert sum(block.bytes for block in parts) == 2 * 256**2 * 128**2 * 8
    assert len(blocks) - len(parts) == 2
