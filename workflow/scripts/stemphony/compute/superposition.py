"""All probes of a job from a few waves: a basis goes through the specimen, the probes are superposed behind it.

With shared configurations one `Superposition` serves all defoci of a configuration.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from stemphony.compute.keeper import Keeper, Part, Parts
from stemphony.compute.propagation import Passage, probe
from stemphony.compute.recorder import Recorder, Signals, cbed_geometry
from stemphony.experiment.model import Experiment
from stemphony.physics.basis import FIRST_RANK, ApertureWaves, evaluate, probe_basis, signal_forms
from stemphony.physics.detectors import at_pixels
from stemphony.physics.grid import band_limit_radius, pixels_inside
from stemphony.physics.multislice import propagate

Progress = Callable[[int, int], None]

_SHARE = 0.05
"""Of the user's tolerance, for the waves: signals must keep it. Squaring doubles a relative error, and to a detector
that sees little of the wave (bright field in the hole of an annular aperture, a tiny scan) a small error is large: up
to 14 times that of the waves in a search over 1600 experiments. A twentieth costs a sixth more waves."""

HELD = 3
"""Times its size on disk that a superposition takes in memory while it is written: whole matrices, and their halves."""

_SAME_NM = 0.0005
"""Defoci nearer to each other than this have the same id."""

_BLOCK_BYTES = 64e6
"""Probes or exit waves of probes that are in memory at a time."""


@dataclass(frozen=True)
class Basis:
    """Orthonormal incident waves that span all probes of some defoci and scan positions, Eq. (P18).

    Attributes
    ----------
    rows, columns : (b,) ndarray of int
        Pixels of the aperture.
    vectors : (b, r) ndarray
        The waves in columns, by their values there.
    """

    rows: np.ndarray
    columns: np.ndarray
    vectors: np.ndarray

    @property
    def rank(self) -> int:
        """Number of waves."""
        return int(self.vectors.shape[1])

    @classmethod
    def of(cls, experiment: Experiment, defoci_nm: Sequence[float], where: np.ndarray | None = None) -> Basis:
        """The smallest basis to the experiment's tolerance.

        Parameters
        ----------
        where : (m,) ndarray of int or None
            Numbers of the scan positions, y fastest; None for all.
        """
        basis = cls.within(experiment, defoci_nm, where, None)
        assert basis is not None
        return basis

    @classmethod
    def within(
        cls, experiment: Experiment, defoci_nm: Sequence[float], where: np.ndarray | None, most: int | None
    ) -> Basis | None:
        """The same, None if it takes more than `most` waves; that is known long before they are found."""
        probes = _Probes(experiment, defoci_nm, where)
        vectors = probe_basis(probes, _SHARE * experiment.basis_tolerance, most)
        return None if vectors is None else cls(probes.aperture.rows, probes.aperture.columns, vectors)

    def coefficients(self, experiment: Experiment, defocus_nm: float, where: np.ndarray | None = None) -> np.ndarray:
        """Probes of one defocus as superpositions, (r, m), one column for each scan position."""
        adjoint = self.vectors.conj().T
        return np.concatenate([adjoint @ probes for probes in _Probes(experiment, [defocus_nm], where)], axis=1)

    def parts(self) -> Parts:
        """The basis, for a checkpoint: exit waves belong to it to the last bit, and another machine finds another."""
        return {name: Part.of(getattr(self, name)) for name in ("rows", "columns", "vectors")}


@dataclass(frozen=True)
class Superposition:
    """Exit waves of a basis, reduced to what the signals of any probe in its span are made from.

    Attributes
    ----------
    basis : Basis
    defoci_nm : tuple of float
        Those whose probes it spans.
    forms : tuple of (n, r, r) ndarray
        For each depth the Hermitian matrices of the detector regions; empty without adf.
    patterns : tuple of (r, h) ndarray
        For each depth the exit waves at the native pixels of the diffraction patterns; empty without cbed.
    """

    basis: Basis
    defoci_nm: tuple[float, ...]
    forms: tuple[np.ndarray, ...]
    patterns: tuple[np.ndarray, ...]

    @classmethod
    def of(
        cls,
        passage: Passage,
        defoci_nm: Sequence[float],
        budget_bytes: float,
        on_progress: Progress,
        keeper: Keeper | None = None,
    ) -> Superposition:
        """Send the basis of all probes of the given defoci through the specimen."""
        e = passage.experiment
        keeper = (keeper or Keeper()).inside("shared")
        found = keeper.found
        view = _View(Recorder(e))
        basis = Basis(found["rows"], found["columns"], found["vectors"]) if "rows" in found else Basis.of(e, defoci_nm)
        taken = basis.vectors.nbytes + waves_bytes(e, basis.rank) + HELD * kept_bytes(e, basis.rank)
        budget_bytes = max(0.0, budget_bytes - taken)
        crossing = Crossing(basis, view.pixels.size, slice_blocks(e, budget_bytes), e.complex_dtype)
        seen: dict[str, np.ndarray] = {}
        if crossing.restore(found):
            seen = {name: values for name, values in found.items() if name.startswith(("forms_", "patterns_"))}
        found.clear()
        keeper.watch(
            lambda: {**basis.parts(), **crossing.parts(), **{name: Part.of(seen[name]) for name in list(seen)}}
        )
        counter = _Counter(crossing.all_steps, on_progress, keeper, crossing.steps)
        for depth, waves in exit_waves(passage, crossing, view.pixels, counter):
            if e.adf:
                seen[f"forms_{depth:04d}"] = signal_forms(waves, view.regions)
            if e.cbed_max is not None:
                seen[f"patterns_{depth:04d}"] = view.at_patterns(waves)
        forms, patterns = (tuple(seen[n] for n in sorted(seen) if n.startswith(kind)) for kind in ("forms", "patterns"))
        return cls(basis, tuple(defoci_nm), forms, patterns)

    def serves(self, defocus_nm: float) -> bool:
        """Whether it was made for the probes of this defocus too."""
        return any(abs(defocus_nm - known) < _SAME_NM for known in self.defoci_nm)

    def signals(self, experiment: Experiment, defocus_nm: float) -> Signals:
        """Signals of all probe positions at one defocus."""
        recorder = _recorder(experiment, self.basis.rank)
        view = _View(recorder)
        where = np.arange(experiment.positions)
        coefficients = self.basis.coefficients(experiment, defocus_nm)
        for depth in range(len(experiment.depth_slices)):
            if experiment.adf:
                view.record_forms(where, depth, self.forms[depth], coefficients)
            if experiment.cbed_max is not None:
                view.record_patterns(where, depth, self.patterns[depth], coefficients)
        return recorder.signals


def superposed(
    passage: Passage, defocus_nm: float, budget_bytes: float, on_progress: Progress, keeper: Keeper | None = None
) -> Signals:
    """Signals of one job whose waves nobody else needs.

    Where the exit waves of a basis for the whole scan do not fit into the memory, the scan is cut into tiles, each
    with a basis of its own.
    """
    e = passage.experiment
    keeper = keeper or Keeper()
    found = keeper.found
    cut = tiles(e, defocus_nm, budget_bytes)
    recorder = _recorder(e, sum(tile.rank for tile in cut))
    view = _View(recorder)
    widest = max(tile.rank for tile in cut)
    blocks = slice_blocks(e, max(0.0, budget_bytes - waves_bytes(e, widest) - 16 * beams(e) * widest))
    finished = np.zeros(e.positions, dtype=bool)
    if recorder.fits(found) and found["finished"].shape == finished.shape:
        recorder.restore(found)
        finished = found["finished"].copy()

    resumed = None
    if "tile" in found:
        # Its waves belong to the basis that was found then.
        basis = Basis(found["rows"], found["columns"], found["vectors"])
        kept = Crossing(basis, view.pixels.size, blocks, e.complex_dtype)
        resumed = (found["tile"], kept) if kept.restore(found) else None
        del kept  # `resumed` lets go of it as soon as its tile is through
    found.clear()

    def begun(where: np.ndarray) -> Crossing | None:
        return resumed[1] if resumed is not None and np.array_equal(resumed[0], where) else None

    def steps_of(tile: Tile) -> int:
        if finished[tile.where].all():
            return tile.rank * len(blocks)
        crossing = begun(tile.where)
        return 0 if crossing is None else crossing.steps

    all_steps = sum(tile.rank for tile in cut) * len(blocks)
    counter = _Counter(all_steps, on_progress, keeper, sum(steps_of(tile) for tile in cut))

    def signals_of(known: np.ndarray) -> Parts:
        done = {"finished": Part.of(finished.copy())}
        return {**recorder.parts(known.reshape(len(e.scan_x), len(e.scan_y))), **done}

    def pass_tile(where: np.ndarray, crossing: Crossing) -> None:
        def parts() -> Parts:
            known = finished.copy()
            known[where] = True  # at the depths behind which its waves are
            return {**signals_of(known), "tile": Part.of(where), **crossing.basis.parts(), **crossing.parts()}

        keeper.watch(parts)
        coefficients = crossing.basis.coefficients(e, defocus_nm, where)
        for depth, waves in exit_waves(passage, crossing, view.pixels, counter):
            view.record_waves(where, depth, waves, coefficients, budget_bytes)
        finished[where] = True
        # Or the waves of this tile would be in the memory beside those of the next.
        keeper.watch(lambda: signals_of(finished.copy()))

    def crossing_of(tile: Tile) -> Crossing:
        basis = tile.basis or Basis.of(e, [defocus_nm], tile.where)
        return Crossing(basis, view.pixels.size, blocks, e.complex_dtype)

    for tile in cut:
        if not finished[tile.where].all():
            pass_tile(tile.where, begun(tile.where) or crossing_of(tile))
            resumed = None
    return recorder.signals


def _recorder(experiment: Experiment, waves: int) -> Recorder:
    recorder = Recorder(experiment)
    recorder.signals.algorithm, recorder.signals.waves = "probe_basis", waves
    return recorder


@dataclass(frozen=True)
class Tile:
    """A part of the scan whose probes go through the specimen together.

    Attributes
    ----------
    where : (m,) ndarray of int
        Numbers of its scan positions.
    rank : int
        Waves of its basis.
    basis : Basis or None
        None where there are several tiles: all their bases may be more than the memory, and each is found again.
    """

    where: np.ndarray
    rank: int
    basis: Basis | None


def tiles(experiment: Experiment, defocus_nm: float, budget_bytes: float) -> list[Tile]:
    """The scan, cut into halves until each part has a basis that fits into the memory, see `most_waves`."""
    most = most_waves(experiment, budget_bytes)
    numbers = np.arange(experiment.positions).reshape(len(experiment.scan_x), len(experiment.scan_y))
    made: list[Tile] = []
    rest = [numbers]
    while rest:
        tile = rest.pop()
        basis = _basis_of_tile(experiment, defocus_nm, tile, most)
        if basis is not None or tile.size == 1:
            basis = basis or Basis.of(experiment, [defocus_nm], tile.ravel())
            made.append(Tile(tile.ravel(), basis.rank, basis if tile is numbers else None))
        else:
            axis = 0 if tile.shape[0] >= tile.shape[1] else 1
            rest += reversed(np.array_split(tile, 2, axis=axis))
    return made


def _basis_of_tile(experiment: Experiment, defocus_nm: float, tile: np.ndarray, most: int) -> Basis | None:
    """None if its basis has more than `most` waves, or if that of a few of its positions has."""
    step = max(1, math.isqrt(tile.size // (4 * most)))
    if step > 1 and Basis.within(experiment, [defocus_nm], tile[::step, ::step].ravel(), most) is None:
        return None
    return Basis.within(experiment, [defocus_nm], tile.ravel(), most)


def beams(experiment: Experiment) -> float:
    """About the number of grid points in the aperture, its soft edge included; no basis has more waves than points."""
    area = math.pi * (experiment.semiangle / experiment.wavelength) ** 2
    return 1.1 * area * math.prod(experiment.grid.extent) + 10


def search_bytes(experiment: Experiment, rank: float) -> float:
    """Memory in which a basis of so many waves is found, beside blocks of probes.

    All of them, at most three times, and five matrices while they are put in order.
    """
    found = min(1.25 * rank + FIRST_RANK, beams(experiment))
    return 16 * (3 * beams(experiment) * found + 5 * found**2)


def most_waves(experiment: Experiment, budget_bytes: float) -> int:
    """Largest basis whose exit waves fit into half of the memory, and whose search fits into it."""
    by_waves = 0.5 * budget_bytes / waves_bytes(experiment, 1)
    # A search is given up at twice as many waves; for the first a job has room in any case, see `cost.memory_mb`.
    room = budget_bytes / (16 * 2.5)
    by_search = 2 * room / (3 * beams(experiment) + math.sqrt(9 * beams(experiment) ** 2 + 50 * room))
    return max(1, int(min(by_waves, by_search)))


def waves_bytes(experiment: Experiment, rank: int) -> int:
    """Memory of the exit waves of a basis at one depth."""
    pixels = pixels_inside(experiment.grid, band_limit_radius(experiment.grid, experiment.bandlimit))
    return rank * pixels.size * experiment.complex_dtype.itemsize


def kept_bytes(experiment: Experiment, rank: int) -> int:
    """Size of a `Superposition`: per depth the matrices of the detectors, and waves for diffraction patterns."""
    regions = 0
    if experiment.adf:
        regions = len(experiment.bins) + len(experiment.rings) + 1 + 2 * experiment.center_of_mass
    pixels = 0 if experiment.cbed_max is None else cbed_geometry(experiment).native_pixels.size
    per_depth = regions * rank * (rank + 1) // 2 + rank * pixels
    return len(experiment.depth_slices) * per_depth * experiment.complex_dtype.itemsize


class _Counter:
    """Reports progress, from one thread at a time, and offers the keeper what is finished."""

    def __init__(self, total: int, on_progress: Progress, keeper: Keeper, done: int = 0) -> None:
        self.done, self.total, self.on_progress, self.keeper = done, total, on_progress, keeper
        self.lock = threading.Lock()
        on_progress(done, total)

    def count(self) -> None:
        with self.lock:
            self.done = min(self.total, self.done + 1)
            self.on_progress(self.done, self.total)
        self.keeper.offer()


class Crossing:
    """The waves of a basis on their way through the specimen, block of slices by block.

    Attributes
    ----------
    basis : Basis
    waves : (r, p) ndarray
        Each behind the blocks that it has passed, at the pixels inside the band limit; zero before the first.
    passed : (r,) ndarray of int
        Number of blocks that each has passed; no two differ by more than one.
    blocks : list of (int, int)
        Slices of each block, see `slice_blocks`.
    """

    def __init__(self, basis: Basis, pixels: int, blocks: list[tuple[int, int]], dtype: np.dtype[Any]) -> None:
        self.basis, self.blocks = basis, blocks
        self.waves = np.zeros((basis.rank, pixels), dtype=dtype)
        self.passed = np.zeros(basis.rank, dtype=np.int64)
        self._lock = threading.Lock()

    @property
    def steps(self) -> int:
        """Waves through blocks that are done."""
        return int(self.passed.sum())

    @property
    def all_steps(self) -> int:
        """Waves through blocks in all."""
        return self.basis.rank * len(self.blocks)

    def put(self, index: int, values: np.ndarray) -> None:
        """Note a wave behind one more block."""
        with self._lock:
            self.waves[index] = values
            self.passed[index] += 1

    def parts(self) -> Parts:
        """The waves for a checkpoint, without those that are still as they came in."""
        with self._lock:
            begun = np.flatnonzero(self.passed)
        states = np.zeros(begun.size, dtype=np.int64)

        def rows() -> Iterator[np.ndarray]:
            # One by one with its state: the other threads go on, in this block or up to its end.
            for place, index in enumerate(begun):
                with self._lock:
                    row = self.waves[index].copy()
                    states[place] = self.passed[index]
                yield row

        return {
            "blocks": Part.of(np.array(self.blocks)),
            "begun": Part.of(begun),
            "waves": Part(self.waves.dtype, (begun.size, self.waves.shape[1]), rows),
            "passed": Part(states.dtype, states.shape, lambda: iter((states,))),
        }

    def restore(self, found: Mapping[str, np.ndarray]) -> bool:
        """Take the waves of a checkpoint; returns whether they are of this basis and these blocks."""
        if not {"blocks", "begun", "waves", "passed", "vectors"} <= found.keys():
            return False
        begun, waves = found["begun"], found["waves"]
        if (
            not np.array_equal(found["blocks"], np.array(self.blocks))
            or found["vectors"].shape != self.basis.vectors.shape
            or waves.shape != (begun.size, self.waves.shape[1])
            or waves.dtype != self.waves.dtype
        ):
            return False
        self.waves[begun], self.passed[begun] = waves, found["passed"]
        return True


def exit_waves(
    passage: Passage, crossing: Crossing, pixels: np.ndarray, counter: _Counter
) -> Iterator[tuple[int, np.ndarray]]:
    """Send a basis through the specimen, from depth to depth, from where it is.

    Parameters
    ----------
    pixels : (p,) ndarray of int
        All grid points inside the band limit, see `DetectorSet`.
    counter
        Counts each wave through each block.

    Yields
    ------
    depth : int
        Index of the depth.
    waves : (r, p) ndarray
        Exit waves at the pixels; overwritten on the way to the next depth.
    """
    e, basis = passage.experiment, crossing.basis

    def through_block(number: int, left: list[int]) -> None:
        # In a function of its own, so that one block's transmission functions are gone before the next one's are made.
        transmissions = passage.transmissions(range(*crossing.blocks[number]))

        def through(index: int) -> None:
            # In the order of a plan's spectrum.
            spectrum = np.zeros(e.grid.gpts, dtype=e.complex_dtype, order="F")
            if number == 0:
                spectrum[basis.rows, basis.columns] = basis.vectors[:, index]
            else:
                spectrum.T.reshape(-1)[pixels] = crossing.waves[index]
            with passage.plan() as plan:
                for _, behind in propagate(plan, spectrum, transmissions, passage.propagator, (len(transmissions),)):
                    crossing.put(index, at_pixels(behind, pixels))
            counter.count()

        passage.each(through, left)

    for number, (_, end) in enumerate(crossing.blocks):
        left = np.flatnonzero(crossing.passed == number).tolist()
        if left:
            through_block(number, left)
        # An earlier attempt that had gone on behind this depth has recorded it.
        if end in e.depth_slices and (crossing.passed == number + 1).all():
            yield e.depth_slices.index(end), crossing.waves


def slice_blocks(experiment: Experiment, budget_bytes: float) -> list[tuple[int, int]]:
    """Slices from depth to depth, no more at a time than transmission functions fit into the memory."""
    nx, ny = experiment.grid.gpts
    most = max(1, int(budget_bytes / (nx * ny * experiment.complex_dtype.itemsize)))
    blocks, begin = [], 0
    for depth in experiment.depth_slices:
        pieces = -(-(depth - begin) // most)
        edges = [begin + (depth - begin) * i // pieces for i in range(pieces + 1)]
        blocks += list(pairwise(edges))
        begin = depth
    return blocks


class _View:
    """The detectors as they see superpositions."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.pixels = recorder.detectors.pixels
        if recorder.experiment.adf:
            self.regions, self.combination = recorder.detectors.regions()
        if recorder.cbed is not None:
            native = recorder.cbed.native_pixels.ravel()
            place = np.minimum(np.searchsorted(self.pixels, native), self.pixels.size - 1)
            self.native, self.carried = place, self.pixels[place] == native

    def at_patterns(self, waves: np.ndarray) -> np.ndarray:
        """Exit waves at the native pixels of the diffraction patterns, zero beyond the band limit."""
        return np.where(self.carried, waves[:, self.native], 0)

    def record_waves(
        self, where: np.ndarray, depth: int, waves: np.ndarray, coefficients: np.ndarray, budget_bytes: float
    ) -> None:
        """Record all signals at one depth, by matrices or by the probes' own exit waves, whichever is less work."""
        e = self.recorder.experiment
        if e.adf:
            if self._forms_are_cheaper(coefficients, budget_bytes):
                self.record_forms(where, depth, signal_forms(waves, self.regions), coefficients)
            else:
                for some, exit_waves in _superpositions(coefficients, waves):
                    values = self.recorder.detectors.values(_intensity(exit_waves).T)
                    self.recorder.record((*self._at(where[some]), depth), self.recorder.detectors.signals(values))
        if self.recorder.cbed is not None:
            self.record_patterns(where, depth, self.at_patterns(waves), coefficients)

    def record_forms(self, where: np.ndarray, depth: int, forms: np.ndarray, coefficients: np.ndarray) -> None:
        """Record bins, rings, total and centre of mass from Hermitian matrices, (n, r, r)."""
        signals = self.recorder.detectors.signals(self.combination @ evaluate(forms, coefficients))
        self.recorder.record((*self._at(where), depth), signals)

    def record_patterns(self, where: np.ndarray, depth: int, waves: np.ndarray, coefficients: np.ndarray) -> None:
        """Record diffraction patterns from exit waves at their native pixels, (r, h)."""
        geometry, cbed = self.recorder.cbed, self.recorder.signals.cbed
        assert geometry is not None
        assert cbed is not None
        for some, exit_waves in _superpositions(coefficients, waves):
            patterns = _intensity(exit_waves).reshape(-1, *geometry.native_pixels.shape)
            for x, y, pattern in zip(*self._at(where[some]), patterns, strict=True):
                cbed[x, y, depth] = geometry.resized(pattern)

    def _at(self, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = np.divmod(where, len(self.recorder.experiment.scan_y))
        return x, y

    def _forms_are_cheaper(self, coefficients: np.ndarray, budget_bytes: float) -> bool:
        """Whether matrices cost fewer multiplications than exit waves, and fit into a quarter of the memory."""
        rank, probes = coefficients.shape
        pixels = sum(region.pixels.size for region in self.regions)
        matrices = len(self.regions) * rank**2
        fits = matrices * self.recorder.experiment.complex_dtype.itemsize <= 0.25 * budget_bytes
        return fits and pixels * rank**2 + matrices * probes < self.pixels.size * rank * probes


def _superpositions(coefficients: np.ndarray, waves: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Exit waves of the probes, (some of them, pixels), block by block."""
    a = coefficients.astype(waves.dtype)
    step = max(1, int(_BLOCK_BYTES / (waves.shape[1] * waves.itemsize)))
    for first in range(0, a.shape[1], step):
        some = slice(first, min(first + step, a.shape[1]))
        yield some, a[:, some].T @ waves


def _intensity(waves: np.ndarray) -> np.ndarray:
    return np.square(waves.real, dtype=np.float64) + np.square(waves.imag, dtype=np.float64)


class _Probes(Collection[np.ndarray]):
    """Incident probes at the pixels of the aperture, made block by block each time they are gone through."""

    def __init__(self, experiment: Experiment, defoci_nm: Sequence[float], where: np.ndarray | None) -> None:
        self.grid = experiment.grid
        self.aperture = ApertureWaves(np.stack([probe(experiment, defocus) for defocus in defoci_nm]))
        x, y = np.meshgrid(experiment.scan_x, experiment.scan_y, indexing="ij")
        positions = np.stack([x.ravel(), y.ravel()], axis=1)
        self.positions = positions if where is None else positions[where]
        self.defoci = len(defoci_nm)
        self.step = max(1, int(_BLOCK_BYTES / (16 * len(self.aperture.rows))))

    def __len__(self) -> int:
        return self.defoci * -(-len(self.positions) // self.step)

    def __iter__(self) -> Iterator[np.ndarray]:
        for defocus in range(self.defoci):
            for first in range(0, len(self.positions), self.step):
                some = self.positions[first : first + self.step]
                yield self.aperture.probes(self.grid.kx, self.grid.ky, some, defocus)

    def __contains__(self, _: object) -> bool:
        return False
