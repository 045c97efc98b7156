"""`stemphony bench`: what a wave costs on this machine, in units of one Fourier transform of its grid.

Seconds depend on the machine and on its other users. So the thread that propagates waves also times some whole
transforms of the same grid, every few tenths of a second, with FFTW's best plan. If the machine slows down, both become
slower, and their ratio does not change.

The specimen is strontium titanate [001], 8 × 8 unit cells, one frozen-phonon configuration of a fixed seed. The cost of
a wave includes transmission functions with their band limit, incident waves, propagation and one annular detector. The
potential, planning of the transforms, imports and the writing of job files are listed separately.
"""

from __future__ import annotations

import math
import os
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from stemphony import provenance
from stemphony.compute.atoms import Atoms, draw_atoms
from stemphony.compute.cost import DEFAULT_BUDGET_MB, wave_plan
from stemphony.compute.incident_basis import Basis
from stemphony.compute.propagation import probe, propagators, strip_plan
from stemphony.compute.recorder import JobSignals
from stemphony.compute.wisdom import cpu_model, prepare_plans
from stemphony.errors import StemphonyError, StorageError
from stemphony.experiment.model import Experiment
from stemphony.experiment.scan_symmetry import shared_operations
from stemphony.orchestration.stopwatch import Stopwatch
from stemphony.physics.basis import evaluate, signal_forms
from stemphony.physics.detectors import DetectorSet, at_pixels
from stemphony.physics.electron import wavelength
from stemphony.physics.fft import ComplexArray, Plan2D, library_version
from stemphony.physics.grid import FloatArray, band_limit, band_limit_radius
from stemphony.physics.multislice import propagate, transmission_function
from stemphony.physics.plane_symmetry import PlaneGroup
from stemphony.physics.potential import SlicePotentials
from stemphony.physics.probe import MovableProbe
from stemphony.physics.strips.plan import Factor, StripPlan, Transmission, padded_zeros
from stemphony.results.job_file import JobRecord, atom_table, slices_at_rest, write_job
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.symmetry import slab_operations

LATTICE = 3.905
"""Lattice parameter of strontium titanate [Å]."""
CELLS = 8
"""Unit cells along x and along y. The specimen is equally wide on all grids, so that only the grid changes."""
SITES = (
    ("Sr", (0.0, 0.0, 0.0)),
    ("Ti", (0.5, 0.5, 0.5)),
    ("O", (0.5, 0.5, 0.0)),
    ("O", (0.5, 0.0, 0.5)),
    ("O", (0.0, 0.5, 0.5)),
)
"""Element and place [lengths of the unit cell] of each atom of strontium titanate."""
U_ISO = {"Sr": 0.00787, "Ti": 0.00557, "O": 0.009275}
"""Mean-square displacement of each element [Å²], as in the examples of strontium titanate."""
SEED = 1
"""Seed of the displacements of the atoms. It is fixed, so that all measurements have the same atoms."""
ENERGY_KEV, SEMIANGLE_MRAD = 200.0, 20.0
"""Beam energy [keV] and semi-convergence angle [mrad] of the probe."""
BANDLIMIT = 0.6666666
"""Band limit as a share of the Nyquist frequency. It is just below 2/3, so that products of wave and potential do not
alias."""
OUTER_MRAD = 100.0
"""Outer angle of the annular detector [mrad]. The inner angle is 0.6 times the outer one. A coarse grid, which does not
carry this angle, has a smaller outer angle."""
FARTHEST_DEFOCUS_NM = 6.0
"""Largest defocus of a series [nm]. Several defoci are evenly spread from minus this value to this value."""

DEFAULT_PROBES = 64
"""Number of waves that are measured if the user gives neither a number nor a scan. With one defocus, they are a scan of
8 × 8 positions."""
MOST_WAVES = 1_000_000
"""Most waves of a series. A longer series takes more time and memory, and the cost of one wave is the same."""
FFTS = 8
"""Whole transforms that are timed after each wave. The number is even, because forward and inverse ones alternate."""


@dataclass(frozen=True)
class Settings:
    """Settings of a measurement: `probes` waves, evenly spread over the series of all defoci and scan positions.

    Attributes
    ----------
    grid, slices, threads : int
    probes : int
        Waves that are propagated one by one.
    algorithm : str
        multislice, probe_basis or auto. auto chooses as in a simulation of this series. The record names the choice.
    defoci : int
        Number of defoci, evenly from −6 to 6 nm. A single defocus is 0.
    scan : tuple of int
        Positions along x and y of one unit cell.
    with_dpc : bool
        Whether four segments and the centre of mass are measured too.
    at_rest : bool
        Whether the atoms are at rest. Otherwise they have thermal displacements.
    symmetry : bool
        Whether only one of several equal positions is computed, as with `scan.symmetry: auto`. `Bench.superpose` uses
        this.
    basis_tolerance : float
        Tolerance of `probe_basis`.
    """

    grid: int
    slices: int
    probes: int
    threads: int
    algorithm: str
    defoci: int
    scan: tuple[int, int]
    with_dpc: bool = False
    at_rest: bool = False
    symmetry: bool = False
    basis_tolerance: float = 1e-4

    @classmethod
    def of(
        cls,
        *,
        grid: int = 512,
        slices: int = 50,
        probes: int | None = None,
        threads: int = 1,
        algorithm: str = "multislice",
        defoci: int = 1,
        scan: str | None = None,
        with_dpc: bool = False,
    ) -> Settings:
        """Settings from the arguments of the command, with the meaning of the attributes of the same name.

        `grid`, `slices`, `threads`, `algorithm`, `defoci` and `with_dpc` are used as they are. `scan` is a text such as
        `8x8`. Without `scan`, the scan has as many positions as the `probes` need. With `scan` and without `probes`,
        the whole series is measured.

        Raises
        ------
        StemphonyError
            An argument does not fit the machine, the grid or the series.
        """
        for name, value in (("slices", slices), ("probes", probes), ("threads", threads), ("defoci", defoci)):
            if value is not None and value < 1:
                raise StemphonyError(f"--{name}: got {value}. At least 1 is needed.")
        cores = len(os.sched_getaffinity(0))
        if threads > cores:
            raise StemphonyError(f"--threads: got {threads}; this process may use {cores} cores. Use at most that.")
        _require_grid(grid, slices)
        if scan is None:
            side = math.isqrt(math.ceil((probes or DEFAULT_PROBES) / defoci) - 1) + 1
            points = (side, side)
            probes = probes or DEFAULT_PROBES
        else:
            points = _scan(scan)
        waves = defoci * points[0] * points[1]
        if waves > MOST_WAVES:
            raise StemphonyError(
                f"--defoci {defoci}, {points[0]} × {points[1]} positions: a series of {waves} waves; at most "
                f"{MOST_WAVES} are possible. Use fewer defoci or positions: the cost per wave is the same."
            )
        if probes is not None and probes > waves:
            raise StemphonyError(
                f"--probes: got {probes}; --defoci {defoci} and --scan {points[0]}x{points[1]} are a series of {waves} "
                "waves. Use at most that, or leave --probes out to measure all."
            )
        return cls(grid, slices, probes or waves, threads, algorithm, defoci, points, with_dpc)

    @property
    def waves(self) -> int:
        """Number of waves of the whole series."""
        return self.defoci * self.scan[0] * self.scan[1]

    @property
    def defoci_nm(self) -> tuple[float, ...]:
        """Values of the defocus [nm]."""
        if self.defoci == 1:
            return (0.0,)
        return tuple(np.linspace(-FARTHEST_DEFOCUS_NM, FARTHEST_DEFOCUS_NM, self.defoci).tolist())

    @property
    def chosen(self) -> list[tuple[int, int, int]]:
        """The waves that are measured. Each item has the indices of defocus, x and y."""
        places = [number * self.waves // self.probes for number in range(self.probes)]
        return [(place // (nx * ny), place // ny % nx, place % ny) for nx, ny in [self.scan] for place in places]


def _require_grid(grid: int, slices: int) -> None:
    finest = wavelength(ENERGY_KEV * 1e3) * BANDLIMIT / (2 * CELLS * LATTICE)  # angle that each point adds [rad]
    smallest = math.ceil(SEMIANGLE_MRAD * 1e-3 / finest)
    if grid < smallest:
        raise StemphonyError(
            f"--grid: got {grid}; on {CELLS} unit cells it carries {max(0, grid) * finest * 1e3:.1f} mrad, less than "
            f"the aperture of {SEMIANGLE_MRAD:g} mrad. Use at least {smallest}."
        )
    most = int(DEFAULT_BUDGET_MB * 1e6 / 8 / grid**2)
    if most < 1:
        raise StemphonyError(f"--grid: got {grid}; one wave would take more than {DEFAULT_BUDGET_MB:.0f} MB. Use less.")
    if slices > most:
        raise StemphonyError(
            f"--slices: got {slices}; their transmission functions on {grid} × {grid} points would take more than the "
            f"{DEFAULT_BUDGET_MB:.0f} MB that are kept. Use at most {most}, or a smaller grid."
        )


def _scan(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)[x×](\d+)", text.strip())
    if found is None or 0 in (int(found[1]), int(found[2])):
        raise StemphonyError(f"--scan: got {text!r}; it must be the numbers of positions along x and y, such as 16x16.")
    return int(found[1]), int(found[2])


def measure(settings: Settings) -> Bench:
    """Measure the series of `settings`. `Bench.record` of the returned object gives the figures.

    Raises
    ------
    StemphonyError
        The algorithm is not available, or no job file can be written to the folder of temporary files.
    """
    if settings.algorithm == "auto":
        experiment = experiment_of(settings, strontium_titanate(math.ceil(settings.slices / 2)))
        chosen = wave_plan(experiment, settings.defoci_nm, settings.defoci > 1, DEFAULT_BUDGET_MB).algorithm
        settings = replace(settings, algorithm=chosen)
    bench = _probe_basis(settings) if settings.algorithm == "probe_basis" else _multislice(settings)
    bench.write_job_files()
    return bench


def _multislice(settings: Settings) -> Bench:
    """Propagate the chosen waves of the series one by one."""
    bench = Bench(settings)
    bench.make_transmissions()
    bench.pass_waves(settings.chosen)
    return bench


def _probe_basis(settings: Settings) -> Bench:
    """Compute the whole series by an orthonormal basis of its waves, as jobs that share a configuration do."""
    # All probes are measured and not a sample. The basis gives all of them together, so the cost is not proportional to
    # their number.
    bench = Bench(settings)
    bench.make_transmissions()
    bench.superpose()
    return bench


class Bench:
    """One series: its waves, and the time of each stage.

    The stages are those of a job (`simulation.simulate`), with a clock around each. A test compares the images of this
    class with those of a job.

    Attributes
    ----------
    settings : Settings
    experiment : Experiment
    images : (defoci, x, y) ndarray
        Signal of the annular detector at the positions of `experiment`. NaN if the wave was not measured.
    orbits : Orbits or None
        With symmetry, the groups of scan positions that have equal signals. `experiment` then has a list with one
        position of each group.
    symmetry_cpu_s : float
        CPU seconds of the search for the symmetry.
    cpu_s, wall_s : dict of str to float
        Seconds of each stage, summed over threads.
    fft_s : list of float
        CPU seconds of each whole transform.
    """

    def __init__(self, settings: Settings) -> None:
        self.startup_cpu_s = time.process_time()
        self.settings = settings
        self.cpu_s = dict.fromkeys(("potential", "transmission", "incident", "propagation", "detection", "io"), 0.0)
        self.wall_s = dict(self.cpu_s)
        self.fft_s: list[float] = []
        self.specimen = strontium_titanate(math.ceil(settings.slices / 2))
        whole = experiment_of(settings, self.specimen)
        begin = time.process_time()
        if settings.symmetry:
            whole = replace(whole, symmetry=_symmetry(self.specimen, whole))
        self.experiment = e = whole.computed
        self.orbits = whole.orbits
        self.symmetry_cpu_s = time.process_time() - begin
        self.atoms = _atoms(e, self.specimen, displaced=not settings.at_rest)

        begin = time.process_time()
        flag, self.plan_source = prepare_plans(lambda flag: strip_plan(e, flag))
        prepare_plans(self._yardstick)
        self._lock = threading.Lock()
        # As in a job, all plans are made before threads start.
        self._kits = [(strip_plan(e, flag), self._yardstick("FFTW_PATIENT")) for _ in range(settings.threads)]
        self.planning_cpu_s = time.process_time() - begin

        plan = self._kits[0][0]
        limit = band_limit(e.grid, e.bandlimit, e.bandlimit_taper)
        self._limit = plan.factor(limit)
        self._propagators = propagators(e, plan, limit)[: settings.slices]
        # As in a job, the probe is computed once per defocus. The waves are ordered by defocus, so a small cache is
        # enough.
        self._probe = lru_cache(maxsize=settings.threads)(self._probe_at)
        self._detectors = detectors_of(e)
        self._made = padded_zeros(e.grid.gpts, e.complex_dtype, settings.slices)
        self._transmissions = [plan.transmission(values) for values in self._made]
        self.images = np.full((settings.defoci, *e.probe_positions.shape[:2]), np.nan)
        self._totals = np.full_like(self.images, np.nan)
        self._measured = 0
        self.basis_rank: int | None = None

    def potentials(self) -> Iterator[FloatArray]:
        """Projected potentials of the slices [V Å], from the entrance to the exit surface."""
        made = self._slice_potentials()
        yield from (made.projected(index) for index in range(self.settings.slices))

    def make_transmissions(self) -> None:
        """Make the potential and the transmission function of every slice."""
        potentials, sigma = self._slice_potentials(), self.experiment.interaction

        def one(index: int) -> None:
            with self._kit() as (plan, _):
                with self._clock("potential"):
                    projected = potentials.projected(index)
                with self._clock("transmission"):
                    transmission_function(projected, sigma, self._limit, plan, out=self._made[index])

        self._in_threads(one, range(self.settings.slices))

    def pass_waves(self, waves: Sequence[tuple[int, int, int]]) -> None:
        """Propagate and measure `waves`, given by indices of defocus, x and y.

        Whole transforms are timed after each wave.
        """
        self._in_threads(self._pass, waves)
        self._measured += len(waves)

    def superpose(self) -> None:
        """Find the basis of the whole series, propagate it, and superpose its probes in the detectors."""
        e, s = self.experiment, self.settings
        with self._clock("incident"):
            basis = Basis.of(e, s.defoci_nm)
        self.basis_rank = basis.rank
        pixels = self._detectors.pixels
        waves = np.empty((basis.rank, pixels.size), dtype=e.complex_dtype)

        def one(index: int) -> None:
            with self._kit() as (plan, yardstick):
                with self._clock("incident"):
                    incident = np.zeros(e.grid.gpts, dtype=e.complex_dtype, order="F")
                    incident[basis.rows, basis.columns] = basis.vectors[:, index]
                with self._clock("propagation"):
                    spectrum = _exit_wave(plan, incident, self._transmissions, self._propagators)
                    waves[index] = at_pixels(spectrum, pixels)
                times = _time_transforms(yardstick)
            with self._lock:
                self.fft_s += times

        self._in_threads(one, range(basis.rank))
        with self._clock("detection"):
            regions, combination = self._detectors.regions()
            forms = signal_forms(waves, regions)
            for index, defocus in enumerate(s.defoci_nm):
                coefficients = basis.coefficients(e, defocus)
                seen = self._detectors.signals(combination @ evaluate(forms, coefficients))
                shape = self.images.shape[1:]
                self.images[index], self._totals[index] = seen.rings[:, 0].reshape(shape), seen.total.reshape(shape)
        self._measured = s.waves

    def write_job_files(self) -> None:
        """Write the job file of each measured defocus, and remove the file. Raises StorageError."""
        e = self.experiment
        try:
            temporary = tempfile.TemporaryDirectory()
        except OSError as error:
            raise StorageError(
                f"a job file cannot be written: {error.strerror} ({error.filename}). Set TMPDIR to another folder."
            ) from None
        with temporary as folder, self._clock("io"):
            table = atom_table(self.specimen, e)
            for index in np.flatnonzero(np.isfinite(self.images).any(axis=(1, 2))).tolist():
                defocus = self.settings.defoci_nm[index]
                rings = self.images[index, :, :, None, None]
                shape = rings.shape[:2]
                signals = JobSignals(
                    bins=rings, rings=np.broadcast_to(rings, (*shape, 1, len(e.images))),
                    total=self._totals[index, :, :, None],
                    center_of_mass=np.zeros((*shape, 1, 2 if e.center_of_mass else 0)), cbed=None, cbed_angles=None,
                )  # fmt: skip
                params = {**_blocks(self.settings), "defocus_nm": defocus, "configuration": 0}
                record = JobRecord(params, SEED, {"title": "bench"}, provenance.runtime_attributes())
                write_job(Path(folder, f"{index}.nc"), e, record, signals, table, self.atoms)

    def record(self) -> dict[str, Any]:
        """Settings and results as one flat object, in CPU seconds. docs/explanation/performance.md lists the keys."""
        s, e = self.settings, self.experiment
        counted = ("transmission", "incident", "propagation", "detection")
        work, busy = self._measured * s.slices, min(s.threads, self._measured)
        per_cpu_s = work / sum(self.cpu_s[stage] for stage in counted)
        fft_cpu_ms = 1e3 * statistics.median(self.fft_s)
        return {
            "grid": s.grid,
            "slices": s.slices,
            "probes": self._measured,
            "threads": s.threads,
            "algorithm": s.algorithm,
            "defoci": s.defoci,
            "scan": f"{s.scan[0]}x{s.scan[1]}",
            "dpc": s.with_dpc,
            "series_probes": s.waves,
            "basis_rank": self.basis_rank,
            "precision": e.precision,
            "detector_mrad": [round(1e3 * angle, 3) for angle in e.rings["annular"]],
            "probe_slices_per_cpu_s": per_cpu_s,
            "probe_slices_per_s": work * busy / sum(self.wall_s[stage] for stage in counted),
            "fft_cpu_ms": fft_cpu_ms,
            "cost_in_ffts": 1000 / (per_cpu_s * fft_cpu_ms),
            "peak_rss_mb": Stopwatch().record()["peak_memory_mb"],
            **{f"{stage}_cpu_s": seconds for stage, seconds in self.cpu_s.items()},
            "planning_cpu_s": self.planning_cpu_s,
            "startup_cpu_s": self.startup_cpu_s,
            "fft_plan_source": self.plan_source,
            "cpu_model": cpu_model(),
            "fftw": library_version(),
            "version": provenance.VERSION,
        }

    def _slice_potentials(self) -> SlicePotentials:
        e, atoms = self.experiment, self.atoms
        return SlicePotentials(
            e.grid, atoms.positions, atoms.symbols.tolist(), atoms.slice_index, e.slices, e.parametrization
        )

    def _pass(self, wave: tuple[int, int, int]) -> None:
        e, (defocus, x, y) = self.experiment, wave
        with self._kit() as (plan, yardstick):
            with self._clock("incident"):
                at_x, at_y = e.probe_positions[x, y]
                incident = self._probe(defocus).at((float(at_x), float(at_y)))
            with self._clock("propagation"):
                spectrum = _exit_wave(plan, incident, self._transmissions, self._propagators)
            with self._clock("detection"):
                seen = self._detectors.measure(spectrum)
                self.images[wave], self._totals[wave] = seen.rings[0], seen.total
            times = _time_transforms(yardstick)
        with self._lock:
            self.fft_s += times

    def _probe_at(self, defocus: int) -> MovableProbe:
        e = self.experiment
        return MovableProbe(e.grid, probe(e, self.settings.defoci_nm[defocus]), e.complex_dtype)

    def _in_threads(self, task: Callable[[Any], None], items: Sequence[Any]) -> None:
        with ThreadPoolExecutor(self.settings.threads) as pool:
            try:
                for _ in pool.map(task, items):
                    pass
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C, do not compute the rest of the queue
                raise

    def _yardstick(self, flag: str) -> Plan2D:
        return Plan2D(self.experiment.grid.gpts, self.experiment.complex_dtype, flag)

    @contextmanager
    def _kit(self) -> Iterator[tuple[StripPlan, Plan2D]]:
        """Yield transforms that no other thread uses."""
        with self._lock:
            kit = self._kits.pop()
        try:
            yield kit
        finally:
            with self._lock:
                self._kits.append(kit)

    @contextmanager
    def _clock(self, stage: str) -> Iterator[None]:
        """Add the time of this thread in the block to a stage."""
        wall, cpu = time.perf_counter(), time.thread_time()
        yield
        cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
        with self._lock:
            self.cpu_s[stage] += cpu
            self.wall_s[stage] += wall


def strontium_titanate(cells_z: int) -> Specimen:
    """SrTiO3 [001], 8 × 8 unit cells wide and `cells_z` high; the Sr–O plane is in the first slice."""
    cells = np.array(list(np.ndindex(CELLS, CELLS, cells_z)), dtype=float)
    symbols = np.repeat([symbol for symbol, _ in SITES], len(cells))
    return Specimen(
        symbols=symbols,
        positions=np.concatenate([(cells + site) * LATTICE for _, site in SITES]),
        cell=(CELLS * LATTICE, CELLS * LATTICE, cells_z * LATTICE),
        u_iso=np.array([U_ISO[symbol] for symbol in symbols]),
        slice_id=None,
        format="bench",
    )


def experiment_of(settings: Settings, specimen: Specimen) -> Experiment:
    """The experiment of a series with these `settings` in a `specimen`, with every position of its scan."""
    return Experiment.of(_blocks(settings), specimen.cell, specimen.layers)


def detectors_of(experiment: Experiment) -> DetectorSet:
    """The detectors of the `experiment` of a series, without radial bins."""
    e = experiment
    return DetectorSet(
        e.grid, e.wavelength, bin_edges=None, rings=dict(e.rings), edges=e.edges, center_of_mass=e.center_of_mass,
        band_limit_radius=band_limit_radius(e.grid, e.bandlimit), segmented=e.segmented,
    )  # fmt: skip


def _symmetry(specimen: Specimen, experiment: Experiment) -> PlaneGroup | None:
    """The operations that `scan.symmetry: auto` would use."""
    slices = slices_at_rest(specimen, experiment)
    found = slab_operations(specimen, slices, experiment.cell_gpts, is_displaced=True)
    return shared_operations(found.group, experiment).group


def _atoms(experiment: Experiment, specimen: Specimen, displaced: bool) -> Atoms:
    """The frozen-phonon configuration of the series, or its atoms at rest."""
    return draw_atoms(
        experiment, specimen.symbols, specimen.positions, specimen.u_iso, frame=None, displaced=displaced,
        random_seed=SEED, configuration=0, defocus_nm=None, displace_z=True, fixed_slicing=True,
    )  # fmt: skip


def _blocks(settings: Settings) -> dict[str, dict[str, Any]]:
    """The config of the series."""
    spacing = CELLS * LATTICE / settings.grid
    carried = 1e3 * wavelength(ENERGY_KEV * 1e3) * BANDLIMIT / (2 * spacing)
    outer = min(OUTER_MRAD, carried)
    ring = [0.6 * outer, outer]
    quadrants = {"inner_mrad": 0.0, "outer_mrad": SEMIANGLE_MRAD, "segments": 4, "rotation_deg": 45.0, "radial": 1,
                 "offset_mrad": [0.0, 0.0]}  # fmt: skip
    return {
        "simulation": {"random_seed": SEED, "precision": "single", "algorithm": settings.algorithm,
                       "basis_tolerance": settings.basis_tolerance},
        "probe": {
            "energy_kev": ENERGY_KEV, "semiangle_mrad": SEMIANGLE_MRAD, "semiangle_inner_mrad": 0.0,
            "soft_aperture": True, "aberrations": {}, "tilt_mrad": [0.0, 0.0],
        },
        "grating": {
            "gpts": [settings.grid, settings.grid], "sampling_angstrom": None, "slice_thickness_angstrom": LATTICE / 2,
            "parametrization": "kirkland", "bandlimit": BANDLIMIT, "bandlimit_taper": 0.02,
        },
        "scan": {"x": [0.0, 1 / CELLS], "y": [0.0, 1 / CELLS], "points": list(settings.scan), "step_angstrom": None},
        "depths": {"every_angstrom": None, "at_angstrom": [settings.slices * LATTICE / 2]},
        "adf": {
            "enabled": True, "min_mrad": ring[0], "max_mrad": ring[1], "bins": 1, "interval_exponent": 1.0,
            "detectors": {"annular": ring}, "edges": "hard", "center_of_mass": settings.with_dpc,
            "segmented": {"dpc": quadrants} if settings.with_dpc else {},
        },
        "cbed": {"enabled": False, "max_mrad": None, "size": None},
    }  # fmt: skip


def _exit_wave(
    plan: StripPlan, incident: ComplexArray, transmissions: list[Transmission], propagators: list[Factor]
) -> ComplexArray:
    """ψ(k) behind the last slice. The array is the plan's buffer."""
    ((_, spectrum),) = propagate(plan, incident, transmissions, propagators, (len(transmissions),))
    return spectrum


def _time_transforms(yardstick: Plan2D) -> list[float]:
    """CPU seconds of whole transforms. Forward and inverse ones alternate."""
    times = []
    yardstick.buffer[...] = 1
    for _ in range(FFTS // 2):
        for transform in (yardstick.forward, yardstick.inverse):
            begin = time.thread_time()
            transform()
            times.append(time.thread_time() - begin)
        yardstick.buffer /= yardstick.size
    return times


def table(record: dict[str, Any]) -> Iterator[str]:
    """Lines of the table that `stemphony bench` prints for a `record`, which `Bench.record` returned."""
    settings = ["grid", "slices", "probes", "threads", "algorithm", "defoci", "scan", "series_probes"]
    yield "  ".join(f"{key} {record[key]}" for key in settings)
    yield f"{record['cpu_model']}, {record['fftw']}, plans: {record['fft_plan_source']}"
    yield ""
    for key, unit in (
        ("cost_in_ffts", "whole transforms of the grid per probe and slice"),
        ("fft_cpu_ms", "ms of CPU, one whole transform, FFTW_PATIENT"),
        ("probe_slices_per_cpu_s", "probes × slices per CPU second"),
        ("probe_slices_per_s", "probes × slices per second"),
        ("peak_rss_mb", "MB"),
    ):
        yield f"{key:24}{record[key]:10.4g}  {unit}"
    yield ""
    stages = [key for key in record if key.endswith("_cpu_s") and key != "probe_slices_per_cpu_s"]
    for key in stages:
        yield f"{key:24}{record[key]:10.4g}  CPU s"
