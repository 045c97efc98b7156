"""Signals of one job with a basis of waves. The scan is cut into tiles whose exit waves fit into the memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stemphony.compute.basis_memory import beams, most_waves, waves_bytes
from stemphony.compute.exit_waves import ExitWaves, StepCounter, slice_blocks
from stemphony.compute.incident_basis import Basis
from stemphony.compute.keeper import Keeper
from stemphony.compute.propagation import Propagation
from stemphony.compute.recorder import JobSignals
from stemphony.compute.superposed_signals import SuperposedSignals
from stemphony.experiment.model import Experiment
from stemphony.store.parts import Part, Parts


@dataclass(frozen=True)
class Tile:
    """A part of the scan whose probes go through the specimen together.

    Attributes
    ----------
    where : (m,) ndarray of int
        Flat indices of its scan positions, y fastest.
    rank : int
        Number of waves of its basis.
    basis : Basis or None
        None if there are several tiles. All bases together may exceed the memory, so each basis is computed again.
    """

    where: np.ndarray
    rank: int
    basis: Basis | None


def tiles(experiment: Experiment, defocus_nm: float, budget_bytes: float) -> list[Tile]:
    """Halve the scan of `experiment` again and again until the basis of each part fits the memory, see `most_waves`.

    `defocus_nm` is the defocus of the job [nm], and `budget_bytes` the memory for transmission functions and waves
    [bytes]. A single position is a tile even if its basis does not fit.
    """
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
    """Basis of a tile; None if it needs more than `most` waves. A coarse sample of a large tile is tried first."""
    step = max(1, math.isqrt(tile.size // (4 * most)))
    if step > 1 and Basis.within(experiment, [defocus_nm], tile[::step, ::step].ravel(), most) is None:
        return None
    return Basis.within(experiment, [defocus_nm], tile.ravel(), most)


class TiledScan:
    """One job whose waves no other job shares, tile by tile.

    Parameters
    ----------
    propagation : Propagation
        Specimen and threads.
    defocus_nm : float
        Defocus of the job [nm].
    budget_bytes : float
        Memory for transmission functions and waves [bytes].
    on_progress : callable
        Called as `on_progress(done, total)` in steps of one wave through one block of slices.
    keeper : Keeper
        Keeps finished tiles and the waves of the current tile, and holds those of an earlier attempt.
    """

    def __init__(
        self,
        propagation: Propagation,
        defocus_nm: float,
        budget_bytes: float,
        on_progress: Callable[[int, int], None],
        keeper: Keeper,
    ) -> None:
        e = self.experiment = propagation.experiment
        self.propagation, self.defocus_nm, self.budget_bytes = propagation, defocus_nm, budget_bytes
        self.keeper = keeper
        self.tiles = tiles(e, defocus_nm, budget_bytes)
        self.detectors = SuperposedSignals(e, sum(tile.rank for tile in self.tiles))
        widest = max(tile.rank for tile in self.tiles)
        rest = budget_bytes - waves_bytes(e, widest) - 16 * beams(e) * widest
        self.blocks = slice_blocks(e, max(0.0, rest))
        self.finished = np.zeros(e.positions, dtype=bool)
        self._resumed: tuple[np.ndarray, ExitWaves] | None = None
        self._take_up()
        steps = sum(self._steps_done(tile) for tile in self.tiles)
        self.counter = StepCounter(sum(tile.rank for tile in self.tiles) * len(self.blocks), on_progress, keeper, steps)

    def signals(self) -> JobSignals:
        """Compute what an earlier attempt has not finished, and return the signals of all scan positions."""
        for tile in self.tiles:
            if not self.finished[tile.where].all():
                self._compute(tile.where, self._begun(tile) or self._exit_waves(tile.basis or self._basis(tile)))
        return self.detectors.recorder.signals

    def _take_up(self) -> None:
        """Take finished signals, and the waves of the tile that was interrupted, from the keeper."""
        found, recorder = self.keeper.found, self.detectors.recorder
        if recorder.fits(found) and found["finished"].shape == self.finished.shape:
            recorder.restore(found)
            self.finished = found["finished"].copy()
        if "tile" in found:
            # The waves fit only the basis of the earlier attempt, because another one may differ in the last bits.
            waves = self._exit_waves(Basis(found["rows"], found["columns"], found["vectors"]))
            self._resumed = (found["tile"], waves) if waves.restore(found) else None
        found.clear()

    def _basis(self, tile: Tile) -> Basis:
        return Basis.of(self.experiment, [self.defocus_nm], tile.where)

    def _exit_waves(self, basis: Basis) -> ExitWaves:
        return ExitWaves(self.experiment, basis, self.detectors.pixels, self.blocks)

    def _begun(self, tile: Tile) -> ExitWaves | None:
        """Waves of an earlier attempt at this tile. This object drops its reference, to free the memory after use."""
        if self._resumed is None or not np.array_equal(self._resumed[0], tile.where):
            return None
        (_, waves), self._resumed = self._resumed, None
        return waves

    def _steps_done(self, tile: Tile) -> int:
        if self.finished[tile.where].all():
            return tile.rank * len(self.blocks)
        if self._resumed is None or not np.array_equal(self._resumed[0], tile.where):
            return 0
        return self._resumed[1].steps

    def _compute(self, where: np.ndarray, waves: ExitWaves) -> None:
        """Send the waves of one tile through the specimen and record its signals."""
        self.keeper.watch(lambda: self._parts_within(where, waves))
        coefficients = waves.basis.coefficients(self.experiment, self.defocus_nm, where)
        for depth, behind in waves.depths(self.propagation, self.counter):
            self.detectors.record_waves(where, depth, behind, coefficients, self.budget_bytes)
        self.finished[where] = True
        # The keeper drops the waves of this tile before the next tile makes its own.
        self.keeper.watch(lambda: self._parts(self.finished.copy()))

    def _parts(self, known: np.ndarray) -> Parts:
        """Signals of the positions in `known`, (positions,) of bool, and which tiles are finished."""
        shape = (len(self.experiment.scan_x), len(self.experiment.scan_y))
        finished = Part.of(self.finished.copy())
        return {**self.detectors.recorder.parts(known.reshape(shape)), "finished": finished}

    def _parts_within(self, where: np.ndarray, waves: ExitWaves) -> Parts:
        known = self.finished.copy()
        known[where] = True  # the signals of this tile are known at the depths that its waves have passed
        return {**self._parts(known), "tile": Part.of(where), **waves.parts()}
