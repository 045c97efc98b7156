"""Estimate, before a job runs, its memory, its work and the size of its result, and choose the algorithm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stemphony.compute import basis_memory
from stemphony.compute.basis_memory import (
    COPIES_WHILE_WRITING,
    beams,
    kept_bytes,
    most_waves,
    search_bytes,
    waves_bytes,
)
from stemphony.compute.incident_basis import Basis, rank_of_window
from stemphony.compute.pattern_array import in_memory_bytes
from stemphony.compute.recorder import cbed_geometry, patterns_shape
from stemphony.compute.stored_waves import wave_memory
from stemphony.compute.windows import doubled_grid, windows
from stemphony.experiment.model import Experiment

DEFAULT_BUDGET_MB = 4000.0
"""Memory for transmission functions and waves of a job [MB], if `resources.mem_mb` does not set it. It holds the
transmission functions of 1900 slices of 512² points in single precision."""


def memory_mb(
    experiment: Experiment,
    atoms: int,
    threads: int,
    budget_mb: float = DEFAULT_BUDGET_MB,
    waves: WavePlan | None = None,
) -> float:
    """Estimate the peak memory of one job [MB]. The estimate is more often too high than too low.

    Parameters
    ----------
    experiment : Experiment
    atoms : int
        Number of atoms of the specimen.
    threads : int
        Number of threads of the job.
    budget_mb : float
        Memory for transmission functions and waves [MB].
    waves : WavePlan or None
        The plan of the campaign; None for multislice.
    """
    if experiment.cbed_scan is not None:
        return _memory_apart_mb(experiment, atoms, threads, budget_mb, waves)
    if experiment.window is not None:
        # The job measures the error of its windows on a window of twice the size.
        wide = replace(experiment, window=None, grid=doubled_grid(experiment), algorithm="multislice", cbed_max=None)
        inside = replace(experiment, window=None)
        return max(memory_mb(inside, atoms, threads, budget_mb, waves), memory_mb(wide, atoms, threads, budget_mb))
    nx, ny = experiment.grid.gpts
    if experiment.plasmons is not None or experiment.precession is not None:
        return _memory_of_sums_mb(experiment, atoms, threads, budget_mb, waves)
    pixels = nx * ny
    wave = pixels * experiment.complex_dtype.itemsize
    interpreter = 120e6
    # Arrays on the grid: k, k² and azimuth; the probe; scattering factors of a few elements on half the grid and
    # detector rows inside the band limit; band limit and propagator.
    constants = pixels * (3 * 8 + 16 + 24) + 2.0 * wave
    # A finer grid of the potential has more points. Scattering factors need only half of the frequencies.
    finer = experiment.potential_oversampling**2
    constants += (finer - 1) * pixels * 16
    # Peak of memory before the first slice, while apertures and detectors are made.
    start = pixels * 80.0
    needed = float(experiment.slices * wave)
    if experiment.algorithm != "multislice":
        constants += 8 * basis_memory.BLOCK_BYTES
        # Before a job cuts the scan into tiles, it always searches for at least this many waves.
        start += search_bytes(experiment, 1)
    if waves is not None and waves.algorithm == "probe_basis":
        needed += waves_bytes(experiment, waves.waves) + 16 * beams(experiment) * waves.waves
        search = search_bytes(experiment, waves.waves)
        start = max(start, search if waves.shared else min(search, search_bytes(experiment, 1) + budget_mb * 1e6))
        if waves.shared:
            needed += COPIES_WHILE_WRITING * kept_bytes(experiment, waves.waves)
    transmissions = min(needed, budget_mb * 1e6)
    # The phases exp(−2πi k·r) of one slice. A slice on a lattice plane holds more atoms than the average.
    in_slice = min(atoms, 2 * math.ceil(atoms / experiment.slices))
    # Buffers of the FFT plan, an incident wave, and these phases.
    per_thread = 5 * wave + 3 * 16 * finer * pixels
    per_thread += 40 * experiment.potential_oversampling * max(nx, ny) * in_slice
    return (
        interpreter
        + constants
        + max(start, transmissions + threads * per_thread)
        + atoms * 100
        + _signal_bytes(experiment)
    ) / 1e6


def _memory_of_sums_mb(
    experiment: Experiment, atoms: int, threads: int, budget_mb: float, waves: WavePlan | None
) -> float:
    """Memory of a job that sums over classes of electrons or over tilts [MB].

    The sums are always in memory, together with the signals of the class or tilt that is being computed.
    """
    if experiment.plasmons is not None:
        one = memory_mb(replace(experiment, plasmons=None, trajectories=()), atoms, threads, budget_mb, waves)
        # While a class is added, the sums exist twice. Patterns are always in memory.
        return one + (1.5 * _signal_bytes(experiment) + 2 * result_bytes(experiment)[1]) / 1e6
    one = memory_mb(replace(experiment, precession=None), atoms, threads, budget_mb, waves)
    return one + (_signal_bytes(experiment) + 2 * result_bytes(experiment)[1]) / 1e6


def _memory_apart_mb(
    experiment: Experiment, atoms: int, threads: int, budget_mb: float, waves: WavePlan | None
) -> float:
    """Memory if patterns have their own scan [MB]: the larger of the two scans, and the signals of both."""
    parts = (experiment.without_patterns, experiment.patterns)
    alone = (memory_mb(part, atoms, threads, budget_mb, waves) - _signal_bytes(part) / 1e6 for part in parts)
    return max(alone) + sum(_signal_bytes(part) for part in parts) / 1e6


def _signal_bytes(experiment: Experiment) -> int:
    """Memory of the signals of one job and of their copy while they are written [bytes]. Images and bins are double."""
    images, patterns = result_bytes(experiment)
    images, patterns = images * 8 // experiment.real_dtype.itemsize, math.ceil(in_memory_bytes(patterns))
    return 2 * (images + patterns) + wave_memory(experiment)


def result_bytes(experiment: Experiment) -> tuple[int, int]:
    """Return the sizes of the groups `adf` and `cbed` of one job of `experiment` before compression [bytes].

    A group that the config does not ask for has size 0.
    """
    stored = experiment.positions * len(experiment.depth_slices) * experiment.real_dtype.itemsize
    patterns = 0 if experiment.cbed_max is None else math.prod(patterns_shape(experiment))
    per_loss = len(experiment.bins) - 1 + 2 * experiment.center_of_mass + (experiment.plasmons is not None)
    per_wave = len(experiment.energies) * per_loss + len(experiment.images) + 1
    return stored * per_wave if experiment.adf else 0, patterns * experiment.real_dtype.itemsize


def probe_slices(experiment: Experiment) -> int:
    """Return the work of one multislice job of `experiment`, in units of one wave through one slice."""
    classes = 1 if experiment.plasmons is None else experiment.plasmons.waves
    return experiment.positions * experiment.wave_depths[-1] * len(experiment.tilts) * classes


def oversampled_probe_slices(experiment: Experiment) -> float:
    """Estimate the work that `potential_oversampling` adds to one job, in units of one wave through one slice.

    The transmission functions of `experiment` cause this work. At a factor of 1 the result is 0, because the measured
    cost of a wave includes them.
    """
    factor = experiment.potential_oversampling
    if factor == 1:
        return 0.0
    seconds = experiment.wave_depths[-1] * factor**2 * math.prod(experiment.grid.gpts) * _SECONDS_PER_FINE_POINT
    return seconds / probe_slice_seconds(experiment.grid.gpts)


_SECONDS_PER_FINE_POINT = 4e-8
"""Time per point of the finer grid: potential, exponential and transform of one slice [s], on a typical core."""


# --- the choice of the algorithm --------------------------------------------------------------------------------

_SECONDS_PER_PROBE_SLICE = 1.5e-3
"""Time of one wave through one slice at 512² [s], on a typical core in single precision. Only its ratio to
`_SECONDS_PER_MULTIPLICATION` matters."""

_SECONDS_PER_MULTIPLICATION = 1 / 8e9
"""Time of one complex multiplication in a matrix product [s], on the same core."""

_GAIN = 0.9
"""`auto` chooses probe_basis only if its estimated work is less than this share of the work of multislice.

The share is below 1 because the estimate is rough."""


def probe_slice_seconds(gpts: tuple[int, int]) -> float:
    """Return the time of one wave through one slice on a typical core in single precision [s]; it grows as N log N.

    `gpts` are the numbers of grid points (nx, ny).
    """
    pixels = gpts[0] * gpts[1]
    return _SECONDS_PER_PROBE_SLICE * pixels * math.log2(pixels) / (512**2 * 18)


def superposition_probe_slices(experiment: Experiment, rank: int, defoci: int) -> float:
    """Estimate the work of `probe_basis` for all probes of some defoci, in units of one wave through one slice.

    The estimate includes the search for the basis, its waves, loading and storing each wave at every depth, and the
    matrices of the detectors with their evaluation.

    Parameters
    ----------
    experiment : Experiment
        Its positions are those of one defocus.
    rank : int
        Number of basis waves.
    defoci : int
        Number of defoci that these waves serve.

    Returns
    -------
    float
        Work of all defoci together [waves × slices].
    """
    nx, ny = experiment.grid.gpts
    inside = 0.25 * math.pi * experiment.bandlimit**2 * min(nx, ny) ** 2
    probes = experiment.positions * defoci
    regions = len(experiment.bins) + len(experiment.images) + 2 * experiment.center_of_mass
    by_forms = 3 * inside * rank**2 + regions * rank**2 * probes
    detectors = len(experiment.depth_slices) * min(by_forms, inside * rank * probes) if experiment.adf else 0.0
    # Patterns are superposed at their native pixels and resized afterwards.
    patterns = 0.0
    if experiment.cbed_max is not None:
        patterns = len(experiment.pattern_depths) * cbed_geometry(experiment).native_pixels.size * rank * probes
    search = 8 * beams(experiment) * probes * rank  # several passes in double precision
    # Intensities in double precision and copies in memory add half of the time.
    products = 1.5 * (detectors + patterns) + search
    loading = 0.5 * rank * len(experiment.wave_depths)
    return (
        rank * experiment.wave_depths[-1]
        + loading
        + products * _SECONDS_PER_MULTIPLICATION / probe_slice_seconds(experiment.grid.gpts)
    )


def chosen_algorithm(experiment: Experiment, defocus_nm: float, budget_mb: float) -> str:
    """Return the algorithm of a job whose waves no other job shares: `multislice` or `probe_basis`.

    For `auto`, the choice depends on an estimate of the rank, which takes little time compared with the job. If the
    scan had to be cut into tiles to fit the memory, the choice is multislice: each tile would compute the common waves
    again.

    Parameters
    ----------
    experiment : Experiment
        Its `algorithm` is returned unless it is `auto`.
    defocus_nm : float
        Defocus of the job [nm].
    budget_mb : float
        Memory for transmission functions and waves [MB].

    Returns
    -------
    str
        `multislice` or `probe_basis`; the algorithm of the config if this is not `auto`.
    """
    if experiment.algorithm != "auto":
        return experiment.algorithm
    rank = _estimated_rank(experiment, [defocus_nm])
    return "probe_basis" if _pays_alone(experiment, rank, budget_mb) else "multislice"


def _pays_alone(experiment: Experiment, rank: int, budget_mb: float) -> bool:
    """Whether the basis of one job fits the memory and is clearly less work than multislice."""
    fits = rank <= most_waves(experiment, budget_mb * 1e6)
    return fits and superposition_probe_slices(experiment, rank, 1) < _GAIN * probe_slices(experiment)


@dataclass(frozen=True)
class WavePlan:
    """How the probes of a campaign go through the specimen.

    Attributes
    ----------
    algorithm : str
        multislice | probe_basis.
    shared : bool
        Whether one propagation serves all defoci of a configuration.
    waves : int
        Number of waves of one propagation. It serves a configuration if its jobs share waves, else one job.
    work : float
        Work of all defoci of one configuration, in units of one wave through one slice.
    kept_mb : float
        Size of the waves that the jobs of a configuration share [MB].
    """

    algorithm: str
    shared: bool
    waves: int
    work: float
    kept_mb: float


def wave_plan(
    experiment: Experiment, defoci_nm: Sequence[float], shares_configurations: bool, budget_mb: float
) -> WavePlan:
    """Choose the algorithm, and whether jobs share waves, before the first job.

    Parameters
    ----------
    experiment : Experiment
        The experiment of all jobs.
    defoci_nm : sequence of float
        Defoci of the campaign [nm].
    shares_configurations : bool
        Whether all defoci see the same atoms.
    budget_mb : float
        Memory of one job for transmission functions and waves [MB].
    """
    if not experiment.detects:
        return WavePlan("multislice", False, 0, 0.0, 0.0)
    if experiment.cbed_scan is not None:
        # Patterns at their own positions need their own waves. Jobs do not share these.
        images, patterns = (
            wave_plan(part, defoci_nm, False, budget_mb) for part in (experiment.without_patterns, experiment.patterns)
        )
        return replace(images, waves=max(images.waves, patterns.waves), work=images.work + patterns.work)
    if experiment.plasmons is not None:
        one = wave_plan(replace(experiment, plasmons=None, trajectories=()), defoci_nm, False, budget_mb)
        return replace(one, work=one.work * experiment.plasmons.waves)
    if experiment.precession is not None:
        # The first tilt represents all tilts.
        tilts = experiment.tilts
        first = wave_plan(replace(experiment, tilt=tilts[0], precession=None), defoci_nm, False, budget_mb)
        return replace(first, work=first.work * len(tilts))
    finer = oversampled_probe_slices(experiment)
    exact = (probe_slices(experiment) + finer) * len(defoci_nm)
    plain = WavePlan("multislice", False, experiment.positions, exact, 0.0)
    if experiment.algorithm == "multislice":
        return plain
    if experiment.window is not None:
        # The first window represents all windows. Jobs choose the algorithm again in each window.
        parts = list(windows(experiment))
        plans = [wave_plan(part.experiment, defoci_nm, False, budget_mb) for part in parts[:1]]
        return replace(plans[0], work=plans[0].work * len(parts))
    rank = _estimated_rank(experiment, [max(defoci_nm, key=abs)])
    work = (superposition_probe_slices(experiment, rank, 1) + finer) * len(defoci_nm)
    alone = WavePlan("probe_basis", False, rank, work, 0.0)
    if experiment.algorithm == "probe_basis":
        plans = [alone]
    elif _pays_alone(experiment, rank, budget_mb):
        plans = [plain, alone]
    else:
        plans = [plain]
    if shares_configurations:
        rank = _estimated_rank(experiment, defoci_nm)
        kept = kept_bytes(experiment, rank)
        # Waves and matrices must leave room for transmission functions. The search ends before these are made, so it
        # may use all the memory.
        room = budget_mb * 1e6
        if (
            waves_bytes(experiment, rank) + COPIES_WHILE_WRITING * kept <= 0.75 * room
            and search_bytes(experiment, rank) <= room
        ):
            work = superposition_probe_slices(experiment, rank, len(defoci_nm)) + finer
            together = WavePlan("probe_basis", True, rank, work, kept / 1e6)
            if experiment.algorithm == "probe_basis":
                plans = [together]
            elif work < _GAIN * exact:
                plans.append(together)
    return min(plans, key=lambda plan: plan.work)


_SAMPLED = 24
"""Largest number of scan positions along each axis, and of defoci, in the estimate of the rank. More samples hardly
raise the rank."""

_MOST_NUMBERS = 8e6
"""Largest number of pixels of the aperture × probes in the estimate of the rank. So the estimate takes 1 to 2 s."""


_MOST_SAMPLES = 1000
"""Most probes whose inner products give the rank of a scan window. So their eigenvalues take half a second."""

_MOST_DEFOCI = 4
"""Most defoci for which inner products give the rank. With more, `_MOST_SAMPLES` probes are too few per defocus."""


def _estimated_rank(experiment: Experiment, defoci_nm: Sequence[float]) -> int:
    """Rank of the basis of these defoci [nm], from a sample of the scan positions and defoci."""
    nx, ny = len(experiment.scan_x), len(experiment.scan_y)
    if experiment.places is None and len(defoci_nm) <= _MOST_DEFOCI:
        most = min(_SAMPLED, math.isqrt(_MOST_SAMPLES // len(defoci_nm)))
        sampled = [np.unique(np.linspace(0, n - 1, min(n, most)).astype(int)) for n in (nx, ny)]
        rank = rank_of_window(experiment, defoci_nm, sampled[0], sampled[1])
        return _shown_rank(experiment, len(defoci_nm), rank, sampled[0].size * sampled[1].size * len(defoci_nm))
    most = max(2, min(_SAMPLED, int(math.sqrt(_MOST_NUMBERS / (beams(experiment) * min(len(defoci_nm), _SAMPLED))))))
    # A list of positions has only one axis, so this axis gets the samples of both.
    along = most if ny > 1 else most**2
    chosen = [np.unique(np.linspace(0, n - 1, min(n, limit)).astype(int)) for n, limit in ((nx, along), (ny, most))]
    where = (chosen[0][:, None] * ny + chosen[1]).ravel()
    some = np.unique(np.linspace(0, len(defoci_nm) - 1, min(len(defoci_nm), _SAMPLED)).astype(int))
    defoci = [defoci_nm[i] for i in some]
    return _shown_rank(experiment, len(defoci_nm), Basis.of(experiment, defoci, where).rank, where.size * len(defoci))


def _shown_rank(experiment: Experiment, defoci: int, rank: int, sampled: int) -> int:
    """Return `rank`, that of a sample of `sampled` probes, if it holds for all probes, else an upper bound."""
    if rank < 0.9 * sampled:
        return rank
    # The sample is too coarse to show the rank. Probes and beams in the aperture are upper bounds.
    return min(experiment.positions * defoci, math.ceil(beams(experiment)))
