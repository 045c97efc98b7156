"""Exit waves of a basis: its waves go through the specimen, one block of slices after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

import numpy as np

from stemphony.compute.incident_basis import Basis
from stemphony.compute.keeper import Keeper
from stemphony.compute.propagation import Propagation
from stemphony.experiment.model import Experiment
from stemphony.physics.detectors import at_pixels
from stemphony.physics.multislice import propagate
from stemphony.store.parts import Part, Parts


class StepCounter:
    """Counts steps (one wave through one block), reports them one thread at a time, and offers them to the keeper.

    Parameters
    ----------
    total, done : int
        Number of all steps, and of those that an earlier attempt has done.
    on_progress : callable
        Called as `on_progress(done, total)`, at once and after each step.
    """

    def __init__(self, total: int, on_progress: Callable[[int, int], None], keeper: Keeper, done: int = 0) -> None:
        self.done, self.total, self.on_progress, self.keeper = done, total, on_progress, keeper
        self.lock = threading.Lock()
        on_progress(done, total)

    def count(self) -> None:
        """Count one more step."""
        with self.lock:
            self.done = min(self.total, self.done + 1)
            self.on_progress(self.done, self.total)
        self.keeper.offer()


class ExitWaves:
    """The waves of a basis behind the blocks of slices that they have passed; thread-safe.

    Parameters
    ----------
    pixels : (p,) ndarray of int
        All grid points inside the band limit, see `DetectorSet.pixels`.
    blocks : list of (int, int)
        First slice and end of each block, see `slice_blocks`.

    Attributes
    ----------
    waves : (r, p) ndarray
        Spectrum of each wave at `pixels`; zero before the first block.
    passed : (r,) ndarray of int
        Number of blocks that each wave has passed; no two differ by more than one.
    """

    def __init__(self, experiment: Experiment, basis: Basis, pixels: np.ndarray, blocks: list[tuple[int, int]]) -> None:
        self.experiment, self.basis, self.pixels, self.blocks = experiment, basis, pixels, blocks
        self.waves = np.zeros((basis.rank, pixels.size), dtype=experiment.complex_dtype)
        self.passed = np.zeros(basis.rank, dtype=np.int64)
        self._lock = threading.Lock()

    @property
    def steps(self) -> int:
        """Number of steps done."""
        return int(self.passed.sum())

    @property
    def all_steps(self) -> int:
        """Number of steps in all."""
        return self.basis.rank * len(self.blocks)

    def depths(self, propagation: Propagation, counter: StepCounter) -> Iterator[tuple[int, np.ndarray]]:
        """Send the waves through the rest of the specimen, depth by depth.

        Parameters
        ----------
        propagation : Propagation
            Transmission functions, propagators, plans and threads.
        counter : StepCounter
            It counts one step for each wave and block.

        Yields
        ------
        depth : int
            Index of the depth in `Experiment.wave_depths`.
        waves : (r, p) ndarray
            Exit waves at this depth. This is the attribute `waves`, which the next depth overwrites.
        """
        stored = self.experiment.wave_depths
        for number, (_, end) in enumerate(self.blocks):
            if waiting := np.flatnonzero(self.passed == number).tolist():
                self._through_block(propagation, number, waiting, counter)
            # If an earlier attempt sent waves beyond this depth, that attempt recorded them here.
            if end in stored and (self.passed == number + 1).all():
                yield stored.index(end), self.waves

    def _through_block(self, propagation: Propagation, number: int, waiting: list[int], counter: StepCounter) -> None:
        # The end of this function frees the transmission functions of this block, before the next block makes its own.
        begin, end = self.blocks[number]
        transmissions, propagators = propagation.transmissions(range(begin, end)), propagation.propagators[begin:end]

        def through(index: int) -> None:
            spectrum = self._incident(index)
            with propagation.plan() as plan:
                for _, behind in propagate(plan, spectrum, transmissions, propagators, (len(transmissions),)):
                    self._put(index, at_pixels(behind, self.pixels))
            counter.count()

        propagation.each(through, waiting)

    def _incident(self, index: int) -> np.ndarray:
        """Spectrum of one wave before its next block, (nx, ny), in the memory order of a plan's spectrum."""
        spectrum = np.zeros(self.experiment.grid.gpts, dtype=self.waves.dtype, order="F")
        if self.passed[index]:
            spectrum.T.reshape(-1)[self.pixels] = self.waves[index]
        else:
            spectrum[self.basis.rows, self.basis.columns] = self.basis.vectors[:, index]
        return spectrum

    def _put(self, index: int, values: np.ndarray) -> None:
        with self._lock:
            self.waves[index] = values
            self.passed[index] += 1

    def parts(self) -> Parts:
        """Return basis and waves as checkpoint arrays; waves that have passed no block are left out."""
        with self._lock:
            begun = np.flatnonzero(self.passed)
        states = np.zeros(begun.size, dtype=np.int64)

        def rows() -> Iterator[np.ndarray]:
            # Row by row, each with its number of blocks, because other threads send waves on at the same time.
            for place, index in enumerate(begun):
                with self._lock:
                    row = self.waves[index].copy()
                    states[place] = self.passed[index]
                yield row

        return {
            **self.basis.parts(),
            "blocks": Part.of(np.array(self.blocks)),
            "begun": Part.of(begun),
            "waves": Part(self.waves.dtype, (begun.size, self.waves.shape[1]), rows),
            "passed": Part(states.dtype, states.shape, lambda: iter((states,))),
        }

    def restore(self, found: Mapping[str, np.ndarray]) -> bool:
        """Take the waves of a checkpoint, unless they belong to another basis or other blocks.

        Parameters
        ----------
        found : mapping of str to ndarray
            Arrays of a checkpoint, by name.

        Returns
        -------
        bool
            Whether the waves were taken.
        """
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


def slice_blocks(experiment: Experiment, budget_bytes: float) -> list[tuple[int, int]]:
    """Cut the slices of `experiment` into blocks (first slice, end), of which one ends at each depth.

    `budget_bytes` is the memory for the transmission functions of one block [bytes]. A block has at least one slice,
    even if that takes more.
    """
    nx, ny = experiment.grid.gpts
    most = max(1, int(budget_bytes / (nx * ny * experiment.complex_dtype.itemsize)))
    blocks, begin = [], 0
    for depth in experiment.wave_depths:
        pieces = -(-(depth - begin) // most)
        edges = [begin + (depth - begin) * i // pieces for i in range(pieces + 1)]
        blocks += list(pairwise(edges))
        begin = depth
    return blocks
