"""Exit waves of chosen positions, and the intensity along the depth, Eqs. (P30) and (P31).

These few waves go through the specimen one by one, apart from the scan. So they do not depend on the algorithm of the
scan, and a job that stores no waves does no extra work.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stemphony.compute.atoms import Atoms
from stemphony.compute.propagation import Propagation, probe
from stemphony.compute.recorder import StoredWaves
from stemphony.compute.windows import Window, windows
from stemphony.experiment.model import Experiment
from stemphony.experiment.scan import LIST
from stemphony.physics.fields import circle, in_real_space, profile_along_x, section_along_x
from stemphony.physics.grid import Grid
from stemphony.physics.multislice import propagate
from stemphony.physics.probe import MovableProbe


def stored_waves(
    experiment: Experiment,
    atoms: Atoms,
    defocus_nm: float,
    *,
    threads: int,
    flag: str,
    budget_mb: float,
) -> StoredWaves:
    """Send the waves of `Experiment.waves` through the specimen.

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
    budget_mb : float
        Memory for transmission functions [MB]. Beyond it, the waves pass one block of slices after the other.

    Returns
    -------
    StoredWaves
        The waves of all requested places.
    """
    e, request = experiment, experiment.waves
    assert request is not None
    made = empty_waves(e)
    numbers, all_fields = list(range(len(request.places))), fields(e)
    # With windows, each position has its own window and potential.
    for some in [numbers] if e.window is None else [[number] for number in numbers]:
        origin, window = all_fields[some[0]]
        part, inside = (e, atoms) if window is None else (window.experiment, window.cut(atoms, e.cell))
        with Propagation(part, inside, threads, flag) as propagation:
            _Waves(part, some, origin, made, defocus_nm, budget_mb).fill(propagation)
    return made


def empty_waves(experiment: Experiment) -> StoredWaves:
    """Return the arrays for the exit waves that `experiment` stores, filled with zeros."""
    e, request = experiment, experiment.waves
    assert request is not None
    positions, (nx, ny) = len(request.places), e.grid.gpts
    made = StoredWaves(np.zeros((positions, nx, ny), dtype=e.complex_dtype))
    if request.depth_profile:
        depths = e.depth_slices[-1] + 1
        made.profile, made.section = (np.zeros((positions, nx, depths)) for _ in range(2))
        made.columns = np.zeros((positions, len(request.columns), depths))
    return made


def incident_wave(experiment: Experiment, defocus_nm: float) -> np.ndarray:
    """Return ψ(x, y) of the incident probe at the middle of the grid of `experiment` [Å⁻¹], (nx, ny).

    `defocus_nm` is the defocus [nm], positive for underfocus.
    """
    e = experiment
    middle = (0.5 * e.grid.extent[0], 0.5 * e.grid.extent[1])
    return in_real_space(e.grid, MovableProbe(e.grid, probe(e, defocus_nm), np.dtype(np.complex128)).at(middle))


def wave_bytes(experiment: Experiment) -> int:
    """Return the size of the stored waves of one job of `experiment` before compression [bytes].

    It is 0 without exit waves.
    """
    request = experiment.waves
    if request is None:
        return 0
    (nx, ny), depths = experiment.grid.gpts, experiment.depth_slices[-1] + 1
    numbers = 2 * nx * ny + (depths * (2 * nx + len(request.columns)) if request.depth_profile else 0)
    return len(request.places) * numbers * experiment.real_dtype.itemsize


def wave_memory(experiment: Experiment) -> int:
    """Return the memory of the stored waves of one job of `experiment` [bytes]; 0 without exit waves.

    It includes copies for writing and in real space.
    """
    if experiment.waves is None:
        return 0
    return 4 * wave_bytes(experiment) + 4 * 16 * experiment.grid.gpts[0] * experiment.grid.gpts[1]


def result_wave_bytes(experiment: Experiment, defoci: int, places: int, stores_probe: bool) -> int:
    """Return the size of the group `waves` of the result before compression [bytes].

    Parameters
    ----------
    experiment : Experiment
        The experiment of all jobs.
    defoci : int
        Number of defoci.
    places : int
        Number of pairs of defocus and configuration that the result keeps separately.
    stores_probe : bool
        Whether the incident probe is stored.

    Returns
    -------
    int
        Size of the waves, their intensities and standard errors, and of the incident probes [bytes].
    """
    e = experiment
    grid = e.grid.gpts[0] * e.grid.gpts[1] * e.real_dtype.itemsize
    probes = 2 * grid * defoci if stores_probe else 0
    if e.waves is None:
        return probes
    # The intensity of each wave, and the standard errors of all values.
    return probes + 2 * places * (wave_bytes(e) + len(e.waves.places) * grid)


def wave_slices(experiment: Experiment) -> int:
    """Return the work of the stored waves of one job of `experiment`, in units of one wave through one slice.

    It is 0 without exit waves.
    """
    request = experiment.waves
    return 0 if request is None else len(request.places) * experiment.depth_slices[-1]


def fields(experiment: Experiment) -> list[tuple[tuple[float, float], Window | None]]:
    """Return, for each stored wave of `experiment`, where its grid begins in the specimen (x, y) [Å], and its window.

    The window is None if the waves see the whole cell. `experiment` must store exit waves.
    """
    e, request = experiment, experiment.waves
    assert request is not None
    if e.window is None:
        return [((0.0, 0.0), None) for _ in request.places]
    made: list[tuple[tuple[float, float], Window | None]] = []
    for place in request.places:
        alone = replace(e, places=(place,), scan_x=(0.0,), scan_y=(0.0,), scan_kind=LIST, margin=(0, 0), symmetry=None)
        (window,) = windows(alone)
        made.append((window.origin, window))
    return made


class _Waves:
    """The waves of some positions on one grid."""

    def __init__(
        self,
        part: Experiment,
        numbers: list[int],
        origin: tuple[float, float],
        made: StoredWaves,
        defocus_nm: float,
        budget_mb: float,
    ) -> None:
        assert part.waves is not None
        self.part, self.made, self.numbers, self.budget_mb = part, made, numbers, budget_mb
        self.request, grid = part.waves, part.grid
        self.places = {n: _inside(self.request.places[n], origin) for n in numbers}
        if self.request.plane:
            self.waves = {n: _plane_wave(grid, part.complex_dtype) for n in numbers}
        else:
            movable = MovableProbe(grid, probe(part, defocus_nm), part.complex_dtype)
            self.waves = {n: movable.at(place) for n, place in self.places.items()}
        self.circles = [circle(grid, _inside(column, origin), self.request.radius) for column in self.request.columns]

    def fill(self, propagation: Propagation) -> None:
        """Send the waves through all slices, block by block, and record them."""
        e, last = self.part, self.part.depth_slices[-1]
        wave = e.grid.gpts[0] * e.grid.gpts[1] * e.complex_dtype.itemsize
        block = max(1, int(0.5 * self.budget_mb * 1e6 / wave))
        if self.request.depth_profile:
            for number, spectrum in self.waves.items():
                self._record(number, 0, spectrum)
        for begin in range(0, last, block):
            self._through(propagation, begin, min(begin + block, last))
        scale = np.sqrt(e.grid.extent[0] * e.grid.extent[1]) if self.request.plane else 1.0
        for number, spectrum in self.waves.items():
            self.made.exit_wave[number] = scale * in_real_space(e.grid, spectrum)

    def _through(self, propagation: Propagation, begin: int, end: int) -> None:
        transmissions, propagators = propagation.transmissions(range(begin, end)), propagation.propagators[begin:end]
        stops = range(1, end - begin + 1) if self.request.depth_profile else (end - begin,)

        def one(number: int) -> None:
            with propagation.plan() as plan:
                for passed, spectrum in propagate(plan, self.waves[number], transmissions, propagators, stops):
                    if self.request.depth_profile:
                        self._record(number, begin + passed, spectrum)
                    if passed == stops[-1]:
                        self.waves[number] = spectrum.copy(order="K")

        propagation.each(one, self.numbers)

    def _record(self, number: int, depth: int, spectrum: np.ndarray) -> None:
        made, grid = self.made, self.part.grid
        assert made.profile is not None
        assert made.section is not None
        assert made.columns is not None
        density = np.abs(in_real_space(grid, spectrum)) ** 2
        made.profile[number, :, depth] = profile_along_x(grid, density)
        made.section[number, :, depth] = section_along_x(grid, spectrum, self.places[number][1])
        area = grid.sampling[0] * grid.sampling[1]
        made.columns[number, :, depth] = [area * (density * inside).sum() for inside in self.circles]


def _inside(place: tuple[float, float], origin: tuple[float, float]) -> tuple[float, float]:
    return place[0] - origin[0], place[1] - origin[1]


def _plane_wave(grid: Grid, dtype: np.dtype[np.complexfloating]) -> np.ndarray:
    """Spectrum of the plane wave along the axis, (nx, ny)."""
    spectrum = np.zeros(grid.gpts, dtype=dtype, order="F")
    spectrum[0, 0] = 1.0
    return spectrum
