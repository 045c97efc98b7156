"""What a job costs before it runs: memory, work, and the size of its result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from stemphony.compute.recorder import cbed_geometry
from stemphony.compute.superposition import HELD, Basis, beams, kept_bytes, most_waves, search_bytes, waves_bytes
from stemphony.compute.windows import doubled_grid, windows
from stemphony.experiment.model import Experiment

DEFAULT_BUDGET_MB = 4000.0


def memory_mb(
    experiment: Experiment,
    atoms: int,
    threads: int,
    budget_mb: float = DEFAULT_BUDGET_MB,
    waves: WavePlan | None = None,
) -> float:
    """Estimate of one job's peak memory [MB], on the safe side; a test compares it with what jobs really take."""
    if experiment.window is not None:
        # The error of windows is measured on one of twice the size.
        wide = replace(experiment, window=None, grid=doubled_grid(experiment), algorithm="multislice", cbed_max=None)
        inside = replace(experiment, window=None)
        return max(memory_mb(inside, atoms, threads, budget_mb, waves), memory_mb(wide, atoms, threads, budget_mb))
    nx, ny = experiment.grid.gpts
    pixels = nx * ny
    wave = pixels * experiment.complex_dtype.itemsize
    interpreter = 120e6
    # k, k², azimuth; probe; scattering factors of a few elements on half the grid and detector rows inside the band
    # limit; band limit and propagator.
    constants = pixels * (3 * 8 + 16 + 24) + 2.0 * wave
    # While apertures and detectors are made, before the first slice is.
    start = pixels * 80.0
    needed = float(experiment.slices * wave)
    if experiment.algorithm != "multislice":
        constants += 8 * _PROBES_BYTES
        # At the least as much as is searched before a tile is cut.
        start += search_bytes(experiment, 1)
    if waves is not None and waves.algorithm == "probe_basis":
        needed += waves_bytes(experiment, waves.waves) + 16 * beams(experiment) * waves.waves
        search = search_bytes(experiment, waves.waves)
        start = max(start, search if waves.shared else min(search, search_bytes(experiment, 1) + budget_mb * 1e6))
        if waves.shared:
            needed += HELD * kept_bytes(experiment, waves.waves)
    transmissions = min(needed, budget_mb * 1e6)
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


# --- the choice of the algorithm --------------------------------------------------------------------------------

# Of a typical core, in single precision; only their ratios matter.
_SECONDS_PER_PROBE_SLICE = 1.5e-3  # at 512²
_SECONDS_PER_MULTIPLICATION = 1 / 8e9  # of complex numbers, in matrix products

_GAIN = 0.9
"""The estimate must promise at least this for `auto` to leave multislice."""


def probe_slice_seconds(gpts: tuple[int, int]) -> float:
    """Time of one wave through one slice on a typical core [s]; it grows as N log N."""
    pixels = gpts[0] * gpts[1]
    return _SECONDS_PER_PROBE_SLICE * pixels * math.log2(pixels) / (512**2 * 18)


def superposition_probe_slices(experiment: Experiment, rank: int, defoci: int) -> float:
    """Work of `probe_basis` for all probes of some defoci, in units of one wave through one slice.

    The waves of the basis, loading and storing each at every depth, the matrices of the detectors and their
    evaluation, and the search for the basis.
    """
    nx, ny = experiment.grid.gpts
    inside = 0.25 * math.pi * experiment.bandlimit**2 * min(nx, ny) ** 2
    probes, depths = experiment.positions * defoci, len(experiment.depth_slices)
    regions = len(experiment.bins) + len(experiment.rings) + 2 * experiment.center_of_mass
    by_forms = 3 * inside * rank**2 + regions * rank**2 * probes
    detectors = min(by_forms, inside * rank * probes) if experiment.adf else 0.0
    # At all their pixels: they are resized afterwards.
    patterns = 0.0 if experiment.cbed_max is None else cbed_geometry(experiment).native_pixels.size * rank * probes
    search = 8 * beams(experiment) * probes * rank  # in double precision, several times over
    # Half as much again for intensities, in double precision, and for what is moved about in the memory.
    products = 1.5 * depths * (detectors + patterns) + search
    loading = 0.5 * rank * depths
    return (
        rank * experiment.depth_slices[-1]
        + loading
        + products * _SECONDS_PER_MULTIPLICATION / probe_slice_seconds(experiment.grid.gpts)
    )


def chosen_algorithm(experiment: Experiment, defocus_nm: float, budget_mb: float) -> str:
    """What `auto` means for a job on its own: multislice, or probe_basis where that is less work.

    From an estimate of the rank that costs little beside the job, whichever it is. A scan that would have to be cut
    into tiles for lack of memory goes by multislice: what tiles have in common would be computed for each of them.
    """
    if experiment.algorithm != "auto":
        return experiment.algorithm
    rank = _estimated_rank(experiment, [defocus_nm])
    return "probe_basis" if _pays_alone(experiment, rank, budget_mb) else "multislice"


def _pays_alone(experiment: Experiment, rank: int, budget_mb: float) -> bool:
    """Whether the basis of one job fits the memory and is clearly less work."""
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
        Waves of one propagation: of a job, or of a configuration where they are shared.
    work : float
        Of the whole campaign per configuration, in units of one wave through one slice.
    kept_mb : float
        Size of what is kept for the other jobs of a configuration.
    """

    algorithm: str
    shared: bool
    waves: int
    work: float
    kept_mb: float


def wave_plan(
    experiment: Experiment, defoci_nm: Sequence[float], shares_configurations: bool, budget_mb: float
) -> WavePlan:
    """Decide on the algorithm, and on sharing, before the first job.

    The rank is taken from a thinned scan: a finer one adds next to nothing to it.
    """
    exact = float(probe_slices(experiment) * len(defoci_nm))
    plain = WavePlan("multislice", False, experiment.positions, exact, 0.0)
    if experiment.algorithm == "multislice":
        return plain
    if experiment.window is not None:
        # One tile's worth for each window, whichever the jobs choose there.
        parts = list(windows(experiment))
        plans = [wave_plan(part.experiment, defoci_nm, False, budget_mb) for part in parts[:1]]
        return replace(plans[0], work=plans[0].work * len(parts))
    rank = _estimated_rank(experiment, [max(defoci_nm, key=abs)])
    work = superposition_probe_slices(experiment, rank, 1) * len(defoci_nm)
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
        # Waves and matrices together must fit, with room for the transmission functions, and so must the search before.
        room = budget_mb * 1e6
        if waves_bytes(experiment, rank) + HELD * kept <= 0.75 * room and search_bytes(experiment, rank) <= room:
            work = superposition_probe_slices(experiment, rank, len(defoci_nm))
            together = WavePlan("probe_basis", True, rank, work, kept / 1e6)
            if experiment.algorithm == "probe_basis":
                plans = [together]
            elif work < _GAIN * exact:
                plans.append(together)
    return min(plans, key=lambda plan: plan.work)


_PROBES_BYTES = 64e6
"""Of a block of probes, in several copies while the basis is sought."""

_THINNED = 24
"""Positions along each axis of the scan, and defoci, that the rank is estimated from."""

_MOST_NUMBERS = 8e6
"""Of pixels of the aperture × probes in that estimate."""


def _estimated_rank(experiment: Experiment, defoci_nm: Sequence[float]) -> int:
    nx, ny = len(experiment.scan_x), len(experiment.scan_y)
    # No more probes than can be searched in a second or two.
    most = max(2, min(_THINNED, int(math.sqrt(_MOST_NUMBERS / (beams(experiment) * min(len(defoci_nm), _THINNED))))))
    chosen = [np.unique(np.linspace(0, n - 1, min(n, most)).astype(int)) for n in (nx, ny)]
    where = (chosen[0][:, None] * ny + chosen[1]).ravel()
    some = np.unique(np.linspace(0, len(defoci_nm) - 1, min(len(defoci_nm), _THINNED)).astype(int))
    defoci = [defoci_nm[i] for i in some]
    rank = Basis.of(experiment, defoci, where).rank
    if rank < 0.9 * where.size * len(defoci):
        return rank
    # The thinned scan is too coarse to tell: no more waves than probes, nor than beams in the aperture.
    return min(experiment.positions * len(defoci_nm), math.ceil(beams(experiment)))
