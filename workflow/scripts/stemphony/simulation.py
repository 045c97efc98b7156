"""One job: all probe positions of one defocus and one frozen-phonon configuration."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from . import paths
from .model import Experiment
from .physics import phonons, slicing
from .physics.detectors import CbedGeometry, DetectorSet
from .physics.grid import band_limit, band_limit_columns, band_limit_radius
from .physics.multislice import propagate, transmission_function
from .physics.potential import SlicePotentials
from .physics.probe import Aberrations, probe_spectrum, shift_factors
from .physics.propagator import fresnel_propagator
from .physics.strips import StripPlan, padded_zeros

DEFAULT_BUDGET_MB = 4000.0


@dataclass(frozen=True)
class Atoms:
    """The atoms of one configuration: positions (N, 3) [Å], slices (N,), and elements (N,)."""

    symbols: np.ndarray
    positions: np.ndarray
    slice_index: np.ndarray


@dataclass
class Signals:
    """What the detectors of one job measured, fractions of the incident intensity; angles in rad.

    Axes: x, y, depth, then the signal's own: `bins` (…, n), `rings` (…, m), `total` (…), `center_of_mass` (…, 2),
    `cbed` (…, kx, ky). A signal that was not asked for has length 0 or is None.
    """

    bins: np.ndarray
    rings: np.ndarray
    total: np.ndarray
    center_of_mass: np.ndarray
    cbed: np.ndarray | None
    cbed_angles: tuple[np.ndarray, np.ndarray] | None


def draw_atoms(
    experiment: Experiment,
    symbols: np.ndarray,
    positions: np.ndarray,
    u_iso: np.ndarray,
    *,
    frame: np.ndarray | None,
    displaced: bool,
    random_seed: int,
    configuration: int,
    defocus_nm: float | None,
    displace_z: bool,
    fixed_slicing: bool,
) -> Atoms:
    """Atoms of one frozen-phonon configuration, Eq. (P12), in their slices.

    Parameters
    ----------
    positions, u_iso : (N, 3), (N,)
        Atoms at rest [Å] and their mean square displacements per axis [Å²].
    frame : (N, 3) or None
        A snapshot of molecular dynamics [Å], used as it is.
    displaced : bool
        False leaves the atoms at rest.
    defocus_nm : float or None
        Given where each defocus draws its own displacements.

    Notes
    -----
    Atoms in = atoms out: x and y are wrapped into the cell, z is clipped to it (a displacement of the outermost
    atoms must not lose them).
    """
    length_z = experiment.cell[2]
    if frame is not None:
        moved = np.array(frame, dtype=float)
    elif displaced:
        pm = None if defocus_nm is None else paths.defocus_pm(defocus_nm)
        moved = positions + phonons.displacements(u_iso, random_seed, configuration, pm, displace_z)
    else:
        moved = np.array(positions, dtype=float)
    # ASSUME: thermal motion of the surface atoms beyond the cell's faces is cut off in z.
    moved[:, 2] = np.clip(moved[:, 2], 0.0, length_z)
    moved = slicing.wrap_positions(moved, experiment.cell)
    z = positions[:, 2] if fixed_slicing else moved[:, 2]
    return Atoms(symbols, moved, slicing.slice_indices(z, length_z, experiment.slices))


def simulate(
    experiment: Experiment,
    atoms: Atoms,
    defocus_nm: float,
    *,
    threads: int,
    flag: str,
    on_progress: Callable[[int, int], None],
    budget_mb: float = DEFAULT_BUDGET_MB,
) -> Signals:
    """Multislice of every probe position, one wave per thread.

    Parameters
    ----------
    flag : str
        Planner flag of the FFTs.
    on_progress : callable
        Called as `on_progress(done, total)` in units of probe positions, from one thread at a time.
    budget_mb : float
        Memory for transmission functions and waves. When the transmission functions of all slices fit, each is
        made once; else waves go through the specimen in batches, block of slices by block.

    Notes
    -----
    The result does not depend on `threads` or `budget_mb`: each wave goes through the same operations.
    """
    run = _Run(experiment, atoms, defocus_nm, threads, flag, on_progress, budget_mb)
    return run.signals()


class _Run:
    """What the threads of one job share: optics, detectors, result arrays, and the plans they borrow."""

    def __init__(
        self,
        experiment: Experiment,
        atoms: Atoms,
        defocus_nm: float,
        threads: int,
        flag: str,
        on_progress: Callable[[int, int], None],
        budget_mb: float,
    ) -> None:
        self.experiment, self.threads, self.on_progress = experiment, threads, on_progress
        self.budget = budget_mb * 1e6
        grid = experiment.grid
        # Plans are made here, before any thread starts; each thread borrows one with its own buffers.
        self.plans = [strip_plan(experiment, flag) for _ in range(threads)]
        limit = band_limit(grid, experiment.bandlimit, experiment.bandlimit_taper)
        propagator = fresnel_propagator(grid, experiment.wavelength, experiment.slice_thickness, limit)
        self.limit, self.propagator = self.plans[0].factor(limit), self.plans[0].factor(propagator)
        self.probe = probe_spectrum(
            grid, experiment.wavelength, experiment.semiangle, experiment.semiangle_inner, experiment.soft_aperture,
            Aberrations(C10=-defocus_nm * 10.0, **experiment.aberrations),
        )  # fmt: skip
        self.potentials = SlicePotentials(
            grid,
            atoms.positions,
            atoms.symbols.tolist(),
            atoms.slice_index,
            experiment.slices,
            experiment.parametrization,
        )
        radius = band_limit_radius(grid, experiment.bandlimit)
        self.detectors = DetectorSet(
            grid, experiment.wavelength, bin_edges=experiment.bins or None, rings=dict(experiment.rings),
            edges=experiment.edges, center_of_mass=experiment.center_of_mass, band_limit_radius=radius,
        )  # fmt: skip
        self.cbed = None if experiment.cbed_max is None else cbed_geometry(experiment)
        self.lock = threading.Lock()
        self.done = 0
        self.positions = [(i, j) for i in range(len(experiment.scan_x)) for j in range(len(experiment.scan_y))]
        self.result = self._empty()

    def _empty(self) -> Signals:
        e = self.experiment
        shape = (len(e.scan_x), len(e.scan_y), len(e.depth_slices))
        cbed = angles = None
        if self.cbed is not None:
            angles = (self.cbed.angles_x, self.cbed.angles_y)
            cbed = np.zeros((*shape, len(angles[0]), len(angles[1])), dtype=e.real_dtype)
        return Signals(
            bins=np.zeros((*shape, max(0, len(e.bins) - 1))),
            rings=np.zeros((*shape, len(e.rings))),
            total=np.zeros(shape),
            center_of_mass=np.zeros((*shape, 2 if e.center_of_mass else 0)),
            cbed=cbed,
            cbed_angles=angles,
        )

    def signals(self) -> Signals:
        e = self.experiment
        wave = e.grid.gpts[0] * e.grid.gpts[1] * e.complex_dtype.itemsize
        self.on_progress(0, len(self.positions))
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                if e.slices * wave <= self.budget:
                    transmissions = self._transmissions(range(e.depth_slices[-1]), pool)
                    for _ in pool.map(lambda p: self._whole_specimen(p, transmissions), self.positions):
                        pass
                else:
                    block = max(1, int(0.5 * self.budget / wave))
                    for begin in range(0, len(self.positions), max(self.threads, block)):
                        self._in_blocks(self.positions[begin : begin + max(self.threads, block)], block, pool)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # a terminated job must not finish its queue first
                raise
        return self.result

    def _transmissions(self, indices: range, pool: ThreadPoolExecutor) -> np.ndarray:
        transmissions = padded_zeros(self.experiment.grid.gpts, self.experiment.complex_dtype, len(indices))

        def one(place: int) -> None:
            with self._plan() as plan:
                potential = self.potentials.projected(indices[place])
                transmission_function(
                    potential, self.experiment.interaction, self.limit, plan, out=transmissions[place]
                )

        for _ in pool.map(one, range(len(indices))):
            pass
        return transmissions

    def _plan(self) -> _Borrowed:
        return _Borrowed(self.plans, self.lock)

    def _incident(self, position: tuple[int, int]) -> np.ndarray:
        e = self.experiment
        ex, ey = shift_factors(e.grid, (e.scan_x[position[0]], e.scan_y[position[1]]))
        spectrum: np.ndarray = (self.probe * ex[:, None] * ey[None, :]).astype(e.complex_dtype)
        return spectrum

    def _whole_specimen(self, position: tuple[int, int], transmissions: np.ndarray) -> None:
        with self._plan() as plan:
            for passed, spectrum in propagate(
                plan, self._incident(position), transmissions, self.propagator, self.experiment.depth_slices
            ):
                self._measure(position, passed, spectrum)
        self._count()

    def _in_blocks(self, batch: list[tuple[int, int]], block: int, pool: ThreadPoolExecutor) -> None:
        """A batch of waves through the specimen, block of slices by block, for specimens larger than the memory."""
        e = self.experiment
        last = e.depth_slices[-1]
        waves = {position: self._incident(position) for position in batch}
        for begin in range(0, last, block):
            transmissions = self._transmissions(range(begin, min(begin + block, last)), pool)
            end = begin + len(transmissions)
            stops = [depth - begin for depth in e.depth_slices if begin < depth < end] + [end - begin]

            def through(
                position: tuple[int, int],
                begin: int = begin,
                stops: list[int] = stops,
                t: np.ndarray = transmissions,
            ) -> None:
                with self._plan() as plan:
                    for passed, spectrum in propagate(plan, waves[position], t, self.propagator, stops):
                        if begin + passed in e.depth_slices:
                            self._measure(position, begin + passed, spectrum)
                        if passed == stops[-1]:
                            waves[position][...] = spectrum

            for _ in pool.map(through, batch):
                pass
        for _ in batch:
            self._count()

    def _measure(self, position: tuple[int, int], passed: int, spectrum: np.ndarray) -> None:
        at = (*position, self.experiment.depth_slices.index(passed))
        if self.experiment.adf:
            seen = self.detectors.measure(spectrum)
            self.result.bins[at] = seen.bins
            self.result.rings[at] = seen.rings
            self.result.total[at] = seen.total
            if self.experiment.center_of_mass:
                self.result.center_of_mass[at] = seen.center_of_mass
        if self.cbed is not None and self.result.cbed is not None:
            self.result.cbed[at] = self.cbed.pattern(spectrum)

    def _count(self) -> None:
        with self.lock:
            self.done += 1
            self.on_progress(self.done, len(self.positions))


class _Borrowed:
    """Context manager: a plan that no other thread uses meanwhile."""

    def __init__(self, plans: list[StripPlan], lock: threading.Lock) -> None:
        self.plans, self.lock = plans, lock

    def __enter__(self) -> StripPlan:
        with self.lock:
            self.plan = self.plans.pop()
        return self.plan

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.plans.append(self.plan)


def strip_plan(experiment: Experiment, flag: str) -> StripPlan:
    """Transforms of one wave of this experiment on one thread."""
    columns = band_limit_columns(experiment.grid, experiment.bandlimit)
    return StripPlan(experiment.grid.gpts, columns, experiment.complex_dtype, flag)


def cbed_geometry(experiment: Experiment) -> CbedGeometry:
    """Pixels of the stored diffraction patterns, of an experiment that stores them."""
    return CbedGeometry(experiment.grid, experiment.wavelength, experiment.cbed_max or 0.0, experiment.cbed_size)


def memory_mb(experiment: Experiment, atoms: int, threads: int, budget_mb: float = DEFAULT_BUDGET_MB) -> float:
    """Estimate of one job's peak memory [MB], on the safe side; a test compares it with what jobs really take."""
    nx, ny = experiment.grid.gpts
    pixels = nx * ny
    wave = pixels * experiment.complex_dtype.itemsize
    interpreter = 120e6
    # k, k², azimuth; probe; scattering factors of a few elements on half the grid and detector rows inside the band
    # limit; band limit and propagator.
    constants = pixels * (3 * 8 + 16 + 24) + 2 * wave
    # While apertures and detectors are made, before the first slice is.
    start = pixels * 80
    transmissions = min(experiment.slices * wave, budget_mb * 1e6)
    # Phases exp(−2πi k·r) of one element's atoms in one slice; a slice on a lattice plane has more than the average.
    in_slice = min(atoms, 2 * math.ceil(atoms / experiment.slices))
    # The plan's buffers and an incident wave.
    per_thread = 5 * wave + 3 * 16 * pixels + 40 * max(nx, ny) * in_slice
    return (
        interpreter
        + constants
        + max(start, transmissions + threads * per_thread)
        + atoms * 100
        + _signal_bytes(experiment)
    ) / 1e6


def _signal_bytes(experiment: Experiment) -> int:
    """Memory of one job's signals and of their copy that is written [bytes]; all but patterns are summed in double."""
    images, patterns = result_bytes(experiment)
    return 2 * (images * 8 // experiment.real_dtype.itemsize + patterns)


def result_bytes(experiment: Experiment) -> tuple[int, int]:
    """Size of one job's signals before compression [bytes]: of bins, images and centre of mass, and of the CBED."""
    stored = experiment.positions * len(experiment.depth_slices) * experiment.real_dtype.itemsize
    per_wave = len(experiment.bins) - 1 + len(experiment.rings) + 1 + 2 * experiment.center_of_mass
    pixels = 0 if experiment.cbed_max is None else math.prod(cbed_geometry(experiment).shape)
    return stored * per_wave if experiment.adf else 0, stored * pixels


def probe_slices(experiment: Experiment) -> int:
    """Work of one job in units of one wave through one slice."""
    return experiment.positions * experiment.depth_slices[-1]
