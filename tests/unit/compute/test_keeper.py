"""Interrupted attempts resume from checkpoints: the same bits, no wave twice, and little cost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stemphony.compute.atoms import Atoms, draw_atoms
from stemphony.compute.configuration import with_losses
from stemphony.compute.keeper import ASSUMED_RATE, COST, Keeper
from stemphony.compute.propagation import Propagation
from stemphony.compute.recorder import JobSignals
from stemphony.compute.simulation import simulate
from stemphony.compute.superposition import Superposition
from stemphony.compute.tiled_scan import tiles
from stemphony.errors import StorageError
from stemphony.experiment.model import Experiment
from stemphony.experiment.scan_symmetry import shared_operations
from stemphony.specimen.symmetry import slab_operations
from stemphony.store import checkpoints
from stemphony.store.checkpoints import read_checkpoint, write_checkpoint
from stemphony.store.parts import Part
from support.arrays import differences
from support.experiments import experiment, tiny
from support.specimens import srtio3

KEY = "k" * 64
SPECIMEN = srtio3((2, 2, 2))
WIDE = srtio3((8, 6, 1))
BLOCKS: dict[str, Any] = {"cbed": {"enabled": True, "max_mrad": 20.0}, "scan": {"points": [4, 3]}}
WINDOWS: dict[str, Any] = {
    "grating": {"gpts": [216, 162], "window_angstrom": 15.0, "slice_thickness_angstrom": 1.96},
    "scan": {"x": [0.3, 0.7], "y": [0.2, 0.6], "points": [4, 3]},
    "adf": {"bins": 5, "max_mrad": 50.0, "detectors": {"bf": [0.0, 10.0], "haadf": [30.0, 50.0]}},
}
SENSITIVITIES = {
    "bowl": np.array([[0.0, 0.2], [25.0, 0.9], [60.0, 0.4]]),
    "camera": np.random.default_rng(1).random((40, 41)),
}
# What directions, profiles and maps measure; a map and segments leave no symmetry but translations.
DETECTORS: dict[str, Any] = {
    "bf": [0.0, 10.0],
    "bowl": {"inner_mrad": 5, "outer_mrad": 45, "sensitivity": "bowl.csv"},
    "camera": {"inner_mrad": 0, "outer_mrad": 40, "sensitivity": "camera.npy", "pixel_mrad": 2.5},
}
SEGMENTS = {"q": {"inner_mrad": 0.0, "outer_mrad": 30.0, "segments": 4, "rotation_deg": 20.0}}
IONS = {"Sr": "Sr2+", "Ti": "Ti4+", "O": "O2-"}
SYMMETRY: dict[str, Any] = {"scan": {"points": [8, 8], "symmetry": "auto"}}
SYMMETRY_IN_WINDOWS: dict[str, Any] = {
    "grating": {"gpts": [192, 144], "window_angstrom": 15.0, "slice_thickness_angstrom": 1.96},
    "scan": {"x": [0.25, 0.375], "y": [1 / 3, 0.5], "points": [4, 4], "symmetry": "auto"},
}
PRECESSION: dict[str, Any] = {"probe": {"precession": {"angle_mrad": 5.0, "steps": 3}, "descan": True}}
PLASMONS: dict[str, Any] = {
    "plasmon_scattering": {
        "enabled": True, "mean_free_path_nm": 2.0, "plasmon_energy_ev": 16.9, "plasmon_fwhm_ev": 4.0,
        "plural_scattering": True, "energy_grid_density_per_ev": 0.2, "max_energy_ev": 40.0,
    },
}  # fmt: skip
WAVE_MB = 64 * 64 * 8 / 1e6
# Cases with their memory budget: enough for everything, or so little that there are batches, tiles and blocks.
CASES: dict[str, tuple[str, float, dict[str, Any]]] = {
    "multislice": ("multislice", 1000.0, {}),
    "multislice in batches": ("multislice", 3 * WAVE_MB, {}),
    "probe_basis": ("probe_basis", 1000.0, {}),
    "probe_basis in tiles and blocks": ("probe_basis", 0.1, {"scan": {"points": [8, 6]}}),
    "symmetry": ("multislice", 1000.0, SYMMETRY),
    "symmetry with a basis": ("probe_basis", 1000.0, SYMMETRY),
    "symmetry in windows": ("multislice", 1000.0, {**WINDOWS, **SYMMETRY_IN_WINDOWS}),
    "windows": ("multislice", 1000.0, WINDOWS),
    "windows with a basis": ("probe_basis", 1000.0, WINDOWS),
    "precession": ("multislice", 1000.0, PRECESSION),
    "precession with a basis": ("probe_basis", 1000.0, PRECESSION),
    "precession in windows": ("multislice", 1000.0, {**WINDOWS, **PRECESSION}),
    "plasmons with a basis": ("probe_basis", 1000.0, PLASMONS),
    "plasmons and precession in windows": ("multislice", 1000.0, {**WINDOWS, **PRECESSION, **PLASMONS}),
}


class Stopped(Exception):
    """Raised where an attempt would end because its time is over."""


def atoms_of(of: Experiment, specimen: Any) -> Atoms:
    ions = np.array([IONS[symbol] for symbol in specimen.symbols])
    return draw_atoms(
        of, ions, specimen.positions, specimen.u_iso, frame=None, displaced=True, random_seed=1,
        configuration=0, defocus_nm=None, displace_z=True, fixed_slicing=True,
    )  # fmt: skip


class Computation:
    """One case, attempt by attempt, with a checkpoint on disk in between."""

    def __init__(self, name: str, folder: Path) -> None:
        algorithm, self.budget_mb, blocks = CASES[name]
        specimen = WIDE if "grating" in blocks else SPECIMEN
        has_symmetry = "symmetry" in blocks.get("scan", {})
        adf = blocks.get("adf", {})
        if not has_symmetry:
            adf = {**adf, "detectors": DETECTORS, "segmented": SEGMENTS}
        config = tiny(**{**BLOCKS, **blocks, "adf": adf, "simulation": {"algorithm": algorithm}})
        self.of = Experiment.of(config, specimen.cell, None, SENSITIVITIES)
        if has_symmetry:
            operations = slab_operations(
                specimen, self.of.slicing.index(specimen.positions[:, 2]), self.of.cell_gpts, True
            )
            self.of = replace(self.of, symmetry=shared_operations(operations.group, self.of).group).computed
            assert self.of.positions == (9 if "window_angstrom" in blocks.get("grating", {}) else 6)
        if self.of.plasmons is not None:
            self.of = replace(self.of, plasmons=replace(self.of.plasmons, bottom=self.of.cell[2]))
        phonons = {"frozen_phonon": {"independent_defoci": True}, "defocus_nm": 1.0}
        self.of = with_losses(self.of, phonons, 1, 0)
        self.atoms, self.file = atoms_of(self.of, specimen), folder / "c" / "one.checkpoint"

    def attempt(self, steps: int, threads: int = 1) -> tuple[JobSignals | None, list[tuple[int, int]]]:
        """Run for so many waves; return the signals if the job ended, and the reported progress."""
        left, seen = [steps], []

        def check(_: float) -> None:
            if left[0] == 0:
                raise Stopped
            left[0] -= 1

        found, refused = read_checkpoint(self.file, KEY)
        assert not refused
        keeper = Keeper(
            None if found is None else found.arrays,
            lambda parts, done, total: write_checkpoint(self.file, KEY, parts, done, total),
            check,
            lambda done, total: seen.append((done, total)),
        )
        try:
            signals = simulate(
                self.of, self.atoms, 1.0, threads=threads, flag="FFTW_ESTIMATE", on_progress=keeper.report,
                budget_mb=self.budget_mb, keeper=keeper,
            )  # fmt: skip
        except Stopped:
            keeper.save()
            return None, seen
        return signals, seen


def differing(one: JobSignals, other: JobSignals) -> list[str]:
    """Return the names of signals and facts that are not equal bit for bit."""
    names = ("bins", "rings", "total", "center_of_mass", "cbed")
    names += ("spectrum",) if one.spectrum is not None else ()
    about = ("algorithm", "waves", "window_check")
    unequal = [n for n in names if not np.array_equal(getattr(one, n), getattr(other, n), equal_nan=True)]
    return unequal + [name for name in about if getattr(one, name) != getattr(other, name)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("steps", [1, 3])
def test_interrupted_attempts_end_with_the_bits_of_an_undisturbed_job(name, steps, tmp_path):
    computation = Computation(name, tmp_path)
    if "batches" in name:
        steps *= 6  # a checkpoint holds whole batches, and a batch takes five steps
    elif "tiles" in name:
        steps *= 4  # this job has hundreds of steps
        assert len(tiles(computation.of, 1.0, computation.budget_mb * 1e6)) > 1, "this case is meant to have tiles"
    undisturbed, seen = computation.attempt(-1)
    assert undisturbed is not None
    total, signals, attempts, last = seen[-1][1], None, 0, 0
    while signals is None:
        kept, _ = read_checkpoint(computation.file, KEY, with_arrays=False)
        signals, seen = computation.attempt(steps)
        attempts += 1
        assert attempts < 400
        # No wave in a checkpoint is computed twice. A wave that was unfinished when the attempt ended may be.
        assert (0 if kept is None else kept.done) <= seen[0][0] <= last
        assert seen[0][1] == total
        last = seen[-1][0]
    assert attempts > 1
    assert not differing(signals, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["multislice", "probe_basis in tiles and blocks"])
def test_threads_stopped_in_the_middle_keep_whole_waves_only(name, tmp_path):
    computation = Computation(name, tmp_path)
    undisturbed, _ = computation.attempt(-1)
    signals = None
    while signals is None:
        signals, _ = computation.attempt(5, threads=2)
    assert undisturbed is not None
    assert not differing(signals, undisturbed)


def test_waves_for_all_defoci_resume_too(tmp_path):
    of = experiment(SPECIMEN.cell, **{**BLOCKS, "simulation": {"algorithm": "probe_basis"}})
    atoms, file = atoms_of(of, SPECIMEN), tmp_path / "waves.checkpoint"

    def attempt(steps: int) -> Superposition | None:
        left = [steps]

        def check(_: float) -> None:
            if left[0] == 0:
                raise Stopped
            left[0] -= 1

        found, _ = read_checkpoint(file, KEY)
        keeper = Keeper(
            None if found is None else found.arrays,
            lambda parts, done, total: write_checkpoint(file, KEY, parts, done, total),
            check,
        )
        try:
            with Propagation(of, atoms, 1, "FFTW_ESTIMATE") as propagation:
                return Superposition.of(propagation, [0.0, 2.5], 0.5e6, keeper.report, keeper)
        except Stopped:
            keeper.save()
            return None

    undisturbed = attempt(-1)
    made, attempts = None, 0
    while made is None:
        made, attempts = attempt(2), attempts + 1
    assert attempts > 1
    assert undisturbed is not None
    assert len(made.forms) == len(of.depth_slices)
    for one, other in ((made.forms, undisturbed.forms), (made.patterns, undisturbed.patterns)):
        for a, b in zip(one, other, strict=True):
            assert not differences(a, b)
    for defocus in (0.0, 2.5):
        assert not differing(made.signals(of, defocus), undisturbed.signals(of, defocus))


# --- when it is written -------------------------------------------------------------------------------------------


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Writer:
    """Writes checkpoints: takes a given time, or fails."""

    def __init__(self, clock: Clock, seconds: float = 0.0) -> None:
        self.clock, self.seconds, self.error = clock, seconds, None
        self.times: list[float] = []

    def __call__(self, parts: Any, done: int, total: int) -> None:
        if self.error is not None:
            raise self.error
        self.times.append(self.clock.now)
        self.clock.now += self.seconds


def offered(seconds: float, writing_s: float = 0.0, size: int = 8, said: list[str] | None = None, **settings: Any):
    """Run a keeper for some seconds, with an offer each second."""
    clock = Clock()
    writer = Writer(clock, writing_s)
    say = (lambda text: None) if said is None else said.append
    keeper = Keeper(write=writer, clock=clock, say=say, **settings)
    keeper.watch(lambda: {"a": Part(np.dtype("u1"), (size,), lambda: iter(()))})
    begin = clock.now
    while clock.now - begin < seconds:
        clock.now += 1.0
        keeper.report(1, 2)
        keeper.offer()
    return keeper, writer


def test_a_short_job_writes_no_checkpoint_and_a_long_job_one_a_minute():
    assert offered(59)[1].times == []
    assert len(offered(601)[1].times) == 10


def test_checkpoints_take_less_than_their_share_on_a_slow_disk():
    keeper, writer = offered(20_000, writing_s=3.0, size=int(3 * ASSUMED_RATE))
    assert len(writer.times) > 10
    assert keeper.seconds / 20_000 <= COST, f"checkpoints took {keeper.seconds:.0f} s of 20,000 s"
    # This holds for the first checkpoint too, whose time is not known before.
    assert writer.times[0] >= 1000 + 3.0 / COST


def test_a_full_disk_costs_one_line_in_the_log(tmp_path):
    said: list[str] = []
    clock = Clock()
    writer = Writer(clock)
    writer.error = StorageError("x.checkpoint: cannot be written: the disk is full.")
    keeper = Keeper(write=writer, clock=clock, say=said.append)
    for _ in range(1000):
        clock.now += 1.0
        keeper.report(1, 2)
        keeper.offer()
    assert keeper.save() is False
    assert said == [
        "no checkpoint is kept; the job goes on without one: x.checkpoint: cannot be written: the disk is full."
    ]
    writer.error = None
    assert keeper.save() is True, "the last checkpoint is tried even after a failure"


def test_after_sigterm_only_a_quick_checkpoint_is_written():
    clock = Clock()
    keeper = Keeper(write=Writer(clock), clock=clock)
    keeper.watch(lambda: {"a": Part(np.dtype("u1"), (int(5 * ASSUMED_RATE),), lambda: iter(()))})
    keeper.report(1, 2)
    assert keeper.save(within_s=2.0) is False
    assert keeper.save() is True


def test_the_time_of_a_small_checkpoint_does_not_predict_that_of_a_large_one():
    """Latency dominates the time of a small file, and the first checkpoint of a quick job holds one wave."""
    clock = Clock()
    writer = Writer(clock, 0.01)
    keeper = Keeper(write=writer, clock=clock, interval_s=0.0)
    size = [3000]
    keeper.watch(lambda: {"a": Part(np.dtype("u1"), (size[0],), lambda: iter(()))})
    keeper.report(1, 2)
    clock.now += 1.0
    keeper.offer()
    size[0] = 1_600_000
    clock.now += 3.0
    keeper.offer()
    assert len(writer.times) == 2
    assert keeper.save(within_s=2.0) is True


# --- the file -----------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path: Path) -> Path:
    file = tmp_path / "one.checkpoint"
    parts = {"a": Part.of(np.arange(6.0).reshape(2, 3)), "b": Part.of(np.array([], dtype=bool)), "c": Part.of("text")}
    write_checkpoint(file, KEY, parts, 3, 4)
    return file


def test_a_checkpoint_is_read_as_it_was_written(written):
    found, refused = read_checkpoint(written, KEY)
    assert refused == ""
    assert found is not None
    assert (found.done, found.total, found.share) == (3, 4, 0.75)
    assert not differences(found.arrays["a"], np.arange(6.0).reshape(2, 3))
    assert found.arrays["b"].shape == (0,)
    assert found.arrays["c"].item() == "text"
    peeked, _ = read_checkpoint(written, KEY, with_arrays=False)
    assert peeked is not None
    assert (peeked.share, peeked.arrays) == (0.75, {})


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda content: content[:-1],
    "only the header": lambda content: content[: content.index(b"\n") + 1],
    "a bit flipped": lambda content: content[:-80] + bytes([content[-80] ^ 1]) + content[-79:],
    "another shape": lambda content: content.replace(b"[2, 3]", b"[3, 2]"),
    "too large": lambda content: content.replace(b"[2, 3]", b"[9, 9]"),
    "empty": lambda content: b"",
    "noise": lambda content: os.urandom(300),
    "text": lambda content: b"[1]\n",
}


@pytest.mark.failure("checkpoint damaged or foreign")
@pytest.mark.parametrize("with_arrays", [True, False])
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_refused(written, name, with_arrays):
    written.write_bytes(DAMAGES[name](written.read_bytes()))
    found, refused = read_checkpoint(written, KEY, with_arrays)
    assert found is None
    assert "damaged" in refused


def test_a_foreign_checkpoint_is_refused_and_a_missing_one_is_ignored(written, tmp_path):
    assert read_checkpoint(written, "x" * 64) == (None, "it belongs to another job, config or version")
    assert read_checkpoint(tmp_path / "none", KEY) == (None, "")


def test_an_error_while_writing_keeps_the_previous_checkpoint(written):
    before = written.read_bytes()

    def broken() -> Iterator[np.ndarray]:
        yield np.zeros(3)
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="the disk is full"):
        write_checkpoint(written, KEY, {"a": Part(np.dtype(float), (6,), broken)}, 4, 4)
    assert written.read_bytes() == before
    assert [entry.name for entry in written.parent.iterdir()] == [written.name]


def test_a_checkpoint_leaves_space_for_results(written, monkeypatch):
    usage = type("Usage", (), {"free": 100_000})
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(StorageError, match=r"would take 0.08 MB, and the disk has only 0.1 MB left"):
        write_checkpoint(written, KEY, {"a": Part.of(np.zeros(10_000))}, 1, 2)
