"""One job: all scan positions of one defocus and one frozen-phonon configuration."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from stemphony.compute.atoms import Atoms
from stemphony.compute.cost import DEFAULT_BUDGET_MB, chosen_algorithm
from stemphony.compute.keeper import Keeper
from stemphony.compute.losses import simulate_losses
from stemphony.compute.pattern_scan import simulate_apart
from stemphony.compute.precession import simulate_precessed
from stemphony.compute.propagation import Propagation, probe
from stemphony.compute.recorder import JobSignals, Recorder
from stemphony.compute.tiled_scan import TiledScan
from stemphony.compute.windows import simulate_in_windows
from stemphony.experiment.model import Experiment
from stemphony.physics.multislice import propagate
from stemphony.physics.probe import MovableProbe
from stemphony.physics.strips.plan import Transmission
from stemphony.store.parts import Parts


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
) -> JobSignals:
    """Compute the signals of every scan position, one wave per thread at a time.

    Parameters
    ----------
    experiment : Experiment
    atoms : Atoms
        The atoms of one configuration in their slices.
    defocus_nm : float
        Defocus [nm].
    threads : int
        Number of threads.
    flag : str
        Planner flag of the FFTs, see `fft.LineTransform`.
    on_progress : callable
        Called as `on_progress(done, total)`, one thread at a time. The unit is a wave (multislice), a wave through
        a block of slices (probe_basis), or a scan position (windows, precession, patterns with their own scan).
    budget_mb : float
        Memory for transmission functions and waves [MB]. If the transmission functions of all slices fit, each is
        made once. Otherwise waves go through the specimen in batches, one block of slices after the other.
    keeper : Keeper or None
        Keeps finished waves for another attempt and holds those of an earlier one.

    Returns
    -------
    JobSignals

    Notes
    -----
    With `algorithm: multislice` each probe is a wave. The result does not depend on `threads` or `budget_mb`, because
    each wave goes through the same operations. With `probe_basis` the result is the same within the tolerance. With
    `auto`, `budget_mb` may decide which of the two algorithms runs.
    """
    keeper = keeper or Keeper()

    def part_of(part: Experiment, inside: Atoms, report: Callable[[int, int], None], keeper: Keeper) -> JobSignals:
        return simulate(
            part, inside, defocus_nm, threads=threads, flag=flag, on_progress=report, budget_mb=budget_mb,
            keeper=keeper,
        )  # fmt: skip

    if experiment.cbed_scan is not None:
        return simulate_apart(experiment, atoms, part_of, on_progress, keeper)
    if experiment.window is not None:
        return simulate_in_windows(experiment, atoms, part_of, on_progress, keeper)
    if experiment.plasmons is not None:
        return simulate_losses(experiment, atoms, part_of, on_progress, keeper)
    if experiment.precession is not None:
        return simulate_precessed(experiment, atoms, part_of, on_progress, keeper)
    algorithm = chosen_algorithm(experiment, defocus_nm, budget_mb)
    compute = _ScanByProbes if algorithm == "multislice" else TiledScan
    with Propagation(experiment, atoms, threads, flag) as propagation:
        return compute(propagation, defocus_nm, budget_mb * 1e6, on_progress, keeper.inside(algorithm)).signals()


class _ScanByProbes:
    """One job with one wave for each scan position; parameters as for `TiledScan`."""

    def __init__(
        self,
        propagation: Propagation,
        defocus_nm: float,
        budget_bytes: float,
        on_progress: Callable[[int, int], None],
        keeper: Keeper,
    ) -> None:
        e = self.experiment = propagation.experiment
        self.propagation, self.budget_bytes = propagation, budget_bytes
        self.on_progress, self.keeper = on_progress, keeper
        self.recorder = Recorder(e)
        self.probe = MovableProbe(e.grid, probe(e, defocus_nm), e.complex_dtype)
        self.lock = threading.Lock()
        self.finished = np.zeros((len(e.scan_x), len(e.scan_y)), dtype=bool)
        if self.recorder.fits(keeper.found):
            self.recorder.restore(keeper.found)
            self.finished = keeper.found["positions"].copy()
            keeper.found.clear()
        self.done = int(self.finished.sum())

    def signals(self) -> JobSignals:
        """Compute what an earlier attempt has not finished, and return the signals of all scan positions."""
        e = self.experiment
        wave = e.grid.gpts[0] * e.grid.gpts[1] * e.complex_dtype.itemsize
        self.on_progress(self.done, self.finished.size)
        self.keeper.watch(self._parts)
        positions = [(int(i), int(j)) for i, j in np.argwhere(~self.finished)]
        if e.slices * wave <= self.budget_bytes:
            if positions:
                transmissions = self.propagation.transmissions(range(e.wave_depths[-1]))
                self.propagation.each(lambda position: self._whole_specimen(position, transmissions), positions)
        else:
            block = max(1, int(0.5 * self.budget_bytes / wave))
            batch = max(self.propagation.threads, block)
            for begin in range(0, len(positions), batch):
                self._in_blocks(positions[begin : begin + batch], block)
        return self.recorder.signals

    def _parts(self) -> Parts:
        # Signals of finished positions do not change any more, so they need no lock.
        with self.lock:
            finished = self.finished.copy()
        return self.recorder.parts(finished)

    def _incident(self, position: tuple[int, int]) -> np.ndarray:
        x, y = self.experiment.probe_positions[position]
        return self.probe.at((float(x), float(y)))

    def _whole_specimen(self, position: tuple[int, int], transmissions: list[Transmission]) -> None:
        incident = self._incident(position)
        with self.propagation.plan() as plan:
            for passed, spectrum in propagate(
                plan, incident, transmissions, self.propagation.propagators[: len(transmissions)],
                self.experiment.wave_depths,
            ):  # fmt: skip
                self._record(position, passed, spectrum)
        self._finish([position])

    def _in_blocks(self, batch: list[tuple[int, int]], block: int) -> None:
        """Send a batch of waves through the specimen, `block` slices at a time."""
        waves = {position: self._incident(position) for position in batch}
        last = self.experiment.wave_depths[-1]
        for begin in range(0, last, block):
            self._through_block(waves, begin, min(begin + block, last))
        self._finish(batch)

    def _through_block(self, waves: dict[tuple[int, int], np.ndarray], begin: int, end: int) -> None:
        # The end of this function frees the transmission functions of this block, before the next block makes its own.
        depths = self.experiment.wave_depths
        transmissions = self.propagation.transmissions(range(begin, end))
        propagators = self.propagation.propagators[begin:end]
        stops = [depth - begin for depth in depths if begin < depth < end] + [end - begin]

        def through(position: tuple[int, int]) -> None:
            with self.propagation.plan() as plan:
                for passed, spectrum in propagate(plan, waves[position], transmissions, propagators, stops):
                    if begin + passed in depths:
                        self._record(position, begin + passed, spectrum)
                    if passed == stops[-1]:
                        waves[position][...] = spectrum
            self.keeper.tick()

        self.propagation.each(through, waves)

    def _record(self, position: tuple[int, int], passed: int, spectrum: np.ndarray) -> None:
        self.recorder.record_wave(position, self.experiment.wave_depths.index(passed), spectrum)

    def _finish(self, positions: list[tuple[int, int]]) -> None:
        with self.lock:
            for position in positions:
                self.finished[position] = True
                self.done += 1
                self.on_progress(self.done, self.finished.size)
        self.keeper.offer()
