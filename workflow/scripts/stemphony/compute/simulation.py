"""One job: all probe positions of one defocus and one frozen-phonon configuration."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from stemphony.compute.atoms import Atoms
from stemphony.compute.cost import DEFAULT_BUDGET_MB, chosen_algorithm
from stemphony.compute.keeper import Keeper, Parts
from stemphony.compute.propagation import Passage, probe
from stemphony.compute.recorder import Recorder, Signals
from stemphony.compute.superposition import superposed
from stemphony.compute.windows import simulate_in_windows
from stemphony.experiment.model import Experiment
from stemphony.physics.multislice import propagate
from stemphony.physics.probe import MovableProbe
from stemphony.physics.strips.plan import Transmission


def simulate(
    experiment: Experiment,
    atoms: Atoms,
    defocus_nm: float,
    *,
    threads: int,
    flag: str,
    on_progress: Callable[[int, int], None],
    budget_mb: float = DEFAULT_BUDGET_MB,
    keeper: Keeper | None = None,
) -> Signals:
    """Signals of every probe position, one wave per thread at a time.

    Parameters
    ----------
    flag : str
        Planner flag of the FFTs.
    on_progress : callable
        Called as `on_progress(done, total)` in units of waves, from one thread at a time.
    budget_mb : float
        Memory for transmission functions and waves. When the transmission functions of all slices fit, each is
        made once; else waves go through the specimen in batches, block of slices by block.
    keeper : Keeper or None
        Keeps finished waves for another attempt, and has those of an earlier one.

    Notes
    -----
    With `algorithm: multislice` each probe is a wave, and the result does not depend on `threads` or `budget_mb`:
    each wave goes through the same operations. With `probe_basis` it is the same to the tolerance, and with `auto`
    `budget_mb` may decide which of the two it is.
    """
    keeper = keeper or Keeper()
    if experiment.window is not None:

        def in_window(part: Experiment, inside: Atoms, report: Callable[[int, int], None], keeper: Keeper) -> Signals:
            return simulate(
                part, inside, defocus_nm, threads=threads, flag=flag, on_progress=report, budget_mb=budget_mb,
                keeper=keeper,
            )  # fmt: skip

        return simulate_in_windows(experiment, atoms, in_window, on_progress, keeper)
    algorithm = chosen_algorithm(experiment, defocus_nm, budget_mb)
    with Passage(experiment, atoms, threads, flag) as passage:
        if algorithm == "multislice":
            return _Multislice(passage, defocus_nm, on_progress, budget_mb * 1e6, keeper.inside(algorithm)).signals()
        return superposed(passage, defocus_nm, budget_mb * 1e6, on_progress, keeper.inside(algorithm))


class _Multislice:
    """One wave for each probe position."""

    def __init__(
        self,
        passage: Passage,
        defocus_nm: float,
        on_progress: Callable[[int, int], None],
        budget_bytes: float,
        keeper: Keeper,
    ) -> None:
        self.passage, self.experiment = passage, passage.experiment
        self.on_progress, self.budget, self.keeper = on_progress, budget_bytes, keeper
        self.recorder = Recorder(self.experiment)
        e = self.experiment
        self.probe = MovableProbe(e.grid, probe(e, defocus_nm), e.complex_dtype)
        self.lock = threading.Lock()
        self.finished = np.zeros((len(e.scan_x), len(e.scan_y)), dtype=bool)
        if self.recorder.fits(keeper.found):
            self.recorder.restore(keeper.found)
            self.finished = keeper.found["positions"].copy()
            keeper.found.clear()
        self.done = int(self.finished.sum())

    def signals(self) -> Signals:
        e = self.experiment
        wave = e.grid.gpts[0] * e.grid.gpts[1] * e.complex_dtype.itemsize
        self.on_progress(self.done, self.finished.size)
        self.keeper.watch(self._parts)
        positions = [(int(i), int(j)) for i, j in np.argwhere(~self.finished)]
        if e.slices * wave <= self.budget:
            if positions:
                transmissions = self.passage.transmissions(range(e.depth_slices[-1]))
                self.passage.each(lambda position: self._whole_specimen(position, transmissions), positions)
        else:
            block = max(1, int(0.5 * self.budget / wave))
            batch = max(self.passage.threads, block)
            for begin in range(0, len(positions), batch):
                self._in_blocks(positions[begin : begin + batch], block)
        return self.recorder.signals

    def _parts(self) -> Parts:
        # Those that are finished change no more, whatever other threads do meanwhile.
        with self.lock:
            finished = self.finished.copy()
        return self.recorder.parts(finished)

    def _incident(self, position: tuple[int, int]) -> np.ndarray:
        return self.probe.at((self.experiment.scan_x[position[0]], self.experiment.scan_y[position[1]]))

    def _whole_specimen(self, position: tuple[int, int], transmissions: list[Transmission]) -> None:
        incident = self._incident(position)
        with self.passage.plan() as plan:
            for passed, spectrum in propagate(
                plan, incident, transmissions, self.passage.propagator, self.experiment.depth_slices
            ):
                self._record(position, passed, spectrum)
        self._finish([position])

    def _in_blocks(self, batch: list[tuple[int, int]], block: int) -> None:
        """A batch of waves through the specimen, block of slices by block, for specimens larger than the memory."""
        waves = {position: self._incident(position) for position in batch}
        last = self.experiment.depth_slices[-1]
        for begin in range(0, last, block):
            self._through_block(waves, begin, min(begin + block, last))
        self._finish(batch)

    def _through_block(self, waves: dict[tuple[int, int], np.ndarray], begin: int, end: int) -> None:
        # In a function of its own, so that one block's transmission functions are gone before the next one's are made.
        depths = self.experiment.depth_slices
        transmissions = self.passage.transmissions(range(begin, end))
        stops = [depth - begin for depth in depths if begin < depth < end] + [end - begin]

        def through(position: tuple[int, int]) -> None:
            with self.passage.plan() as plan:
                for passed, spectrum in propagate(plan, waves[position], transmissions, self.passage.propagator, stops):
                    if begin + passed in depths:
                        self._record(position, begin + passed, spectrum)
                    if passed == stops[-1]:
                        waves[position][...] = spectrum
            self.keeper.tick()

        self.passage.each(through, waves)

    def _record(self, position: tuple[int, int], passed: int, spectrum: np.ndarray) -> None:
        self.recorder.record_wave(position, self.experiment.depth_slices.index(passed), spectrum)

    def _finish(self, positions: list[tuple[int, int]]) -> None:
        with self.lock:
            for position in positions:
                self.finished[position] = True
                self.done += 1
                self.on_progress(self.done, self.finished.size)
        self.keeper.offer()
