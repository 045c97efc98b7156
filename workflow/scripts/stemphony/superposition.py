"""All probes of a job from a few waves: a basis goes through the specimen, the probes are superposed behind it.

With shared configurations one `Superposition` serves all defoci of a configuration.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .model import Experiment
from .passage import Passage, probe
from .physics.basis import ApertureWaves, evaluate, probe_basis, signal_forms
from .physics.detectors import at_pixels
from .physics.grid import band_limit_radius, pixels_inside
from .physics.multislice import propagate
from .recorder import Recorder, Signals, cbed_geometry

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
        probes = _Probes(experiment, defoci_nm, where)
        vectors = probe_basis(probes, _SHARE * experiment.basis_tolerance)
        return cls(probes.aperture.rows, probes.aperture.columns, vectors)

    def coefficients(self, experiment: Experiment, defocus_nm: float, where: np.ndarray | None = None) -> np.ndarray:
        """Probes of one defocus as superpositions, (r, m), one column for each scan position."""
        adjoint = self.vectors.conj().T
        return np.concatenate([adjoint @ probes for probes in _Probes(experiment, [defocus_nm], where)], axis=1)


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
        cls, passage: Passage, defoci_nm: Sequence[float], budget_bytes: float, on_progress: Progress
    ) -> Superposition:
        """Send the basis of all probes of the given defoci through the specimen."""
        e = passage.experiment
        view = _View(Recorder(e))
        basis = Basis.of(e, defoci_nm)
        budget_bytes = max(0.0, budget_bytes - waves_bytes(e, basis.rank) - HELD * kept_bytes(e, basis.rank))
        forms, patterns = [], []
        counter = _Counter(basis.rank * len(slice_blocks(e, budget_bytes)), on_progress)
        for _, waves in exit_waves(passage, basis, view.pixels, budget_bytes, counter):
            if e.adf:
                forms.append(signal_forms(waves, view.regions))
            if e.cbed_max is not None:
                patterns.append(view.at_patterns(waves))
        return cls(basis, tuple(defoci_nm), tuple(forms), tuple(patterns))

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


def superposed(passage: Passage, defocus_nm: float, budget_bytes: float, on_progress: Progress) -> Signals:
    """Signals of one job whose waves nobody else needs.

    Where the exit waves of a basis for the whole scan do not fit into the memory, the scan is cut into tiles, each
    with a basis of its own.
    """
    e = passage.experiment
    cut = tiles(e, defocus_nm, budget_bytes)
    recorder = _recorder(e, sum(basis.rank for _, basis in cut))
    view = _View(recorder)
    blocks_bytes = max(0.0, budget_bytes - waves_bytes(e, max(basis.rank for _, basis in cut)))
    counter = _Counter(sum(basis.rank for _, basis in cut) * len(slice_blocks(e, blocks_bytes)), on_progress)
    for where, basis in cut:
        coefficients = basis.coefficients(e, defocus_nm, where)
        for depth, waves in exit_waves(passage, basis, view.pixels, blocks_bytes, counter):
            view.record_waves(where, depth, waves, coefficients, budget_bytes)
    return recorder.signals


def _recorder(experiment: Experiment, waves: int) -> Recorder:
    recorder = Recorder(experiment)
    recorder.signals.algorithm, recorder.signals.waves = "probe_basis", waves
    return recorder


def tiles(experiment: Experiment, defocus_nm: float, budget_bytes: float) -> list[tuple[np.ndarray, Basis]]:
    """Parts of the scan, each with its basis, whose exit waves fit into half of the memory."""
    most = max(1, int(0.5 * budget_bytes / waves_bytes(experiment, 1)))
    numbers = np.arange(experiment.positions).reshape(len(experiment.scan_x), len(experiment.scan_y))
    made: list[tuple[np.ndarray, Basis]] = []
    rest = [numbers]
    while rest:
        tile = rest.pop()
        basis = Basis.of(experiment, [defocus_nm], tile.ravel())
        if basis.rank <= most or tile.size == 1:
            made.append((tile.ravel(), basis))
        else:
            axis = 0 if tile.shape[0] >= tile.shape[1] else 1
            rest += reversed(np.array_split(tile, 2, axis=axis))
    return made


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
    """Reports progress, from one thread at a time."""

    def __init__(self, total: int, on_progress: Progress) -> None:
        self.done, self.total, self.on_progress = 0, total, on_progress
        self.lock = threading.Lock()
        on_progress(0, total)

    def count(self) -> None:
        with self.lock:
            self.done += 1
            self.on_progress(self.done, self.total)


def exit_waves(
    passage: Passage, basis: Basis, pixels: np.ndarray, budget_bytes: float, counter: _Counter
) -> Iterator[tuple[int, np.ndarray]]:
    """Send a basis through the specimen, from depth to depth.

    Parameters
    ----------
    pixels : (p,) ndarray of int
        All grid points inside the band limit, see `DetectorSet`.
    budget_bytes : float
        Memory for the transmission functions of a block of slices.
    counter
        Counts each wave through each block.

    Yields
    ------
    depth : int
        Index of the depth.
    waves : (r, p) ndarray
        Exit waves at the pixels; overwritten on the way to the next depth.
    """
    e = passage.experiment
    waves = np.zeros((basis.rank, pixels.size), dtype=e.complex_dtype)

    def through_block(begin: int, end: int) -> None:
        # In a function of its own, so that one block's transmission functions are gone before the next one's are made.
        transmissions = passage.transmissions(range(begin, end))

        def through(index: int) -> None:
            # In the order of a plan's spectrum.
            spectrum = np.zeros(e.grid.gpts, dtype=e.complex_dtype, order="F")
            if begin == 0:
                spectrum[basis.rows, basis.columns] = basis.vectors[:, index]
            else:
                spectrum.T.reshape(-1)[pixels] = waves[index]
            with passage.plan() as plan:
                for _, behind in propagate(plan, spectrum, transmissions, passage.propagator, (len(transmissions),)):
                    waves[index] = at_pixels(behind, pixels)
            counter.count()

        passage.each(through, range(basis.rank))

    for begin, end in slice_blocks(e, budget_bytes):
        through_block(begin, end)
        if end in e.depth_slices:
            yield e.depth_slices.index(end), waves


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
