"""The detectors of one job and the arrays of signals that they fill."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemphony.compute.atoms import Atoms
from stemphony.compute.keeper import Keeper
from stemphony.compute.pattern_array import WINDOW_BYTES, give_back, pattern_array
from stemphony.experiment.model import Experiment
from stemphony.physics.detectors import CbedGeometry, DetectorSet, WaveSignals
from stemphony.physics.grid import band_limit_radius
from stemphony.store.parts import Part, Parts


@dataclass
class StoredWaves:
    """Exit waves of one job; lengths in Å.

    Attributes
    ----------
    exit_wave : (positions, nx, ny) ndarray
        ψ(x, y) at the last stored depth [Å⁻¹], with ∫|ψ|² = 1 for the incident wave. For a plane wave, ψ is divided by
        the incident wave and has no unit.
    profile : (positions, nx, depths) ndarray or None
        ∫|ψ|² dy behind each slice, the incident wave first [Å⁻¹].
    section : (positions, nx, depths) ndarray or None
        |ψ|² in the plane through the position that is normal to y [Å⁻²].
    columns : (positions, columns, depths) ndarray or None
        Share of the beam's intensity inside the circle around each column.
    """

    exit_wave: np.ndarray
    profile: np.ndarray | None = None
    section: np.ndarray | None = None
    columns: np.ndarray | None = None


@dataclass
class JobSignals:
    """Everything that the detectors of one job measured, as fractions of the incident intensity.

    The first axes are x and y of the scan and depth. A signal that the config does not ask for has length 0 or is None.

    Attributes
    ----------
    bins : (nx, ny, depths, n) ndarray
        Radial bins.
    rings : (nx, ny, depths, m) ndarray
        Named detectors, `Experiment.images`.
    total : (nx, ny, depths) ndarray
        Intensity inside the band limit.
    center_of_mass : (nx, ny, depths, 2) ndarray
        Mean scattering angle along x and y [rad], Eq. (P14).
    cbed : (nx, ny, depths, n_kx, n_ky) ndarray or None
        Diffraction patterns, Eq. (P15), at their own positions and depths, see `Experiment.patterns`.
    cbed_angles : (n_kx,) and (n_ky,) ndarray or None
        Axes of the patterns [rad].
    algorithm : str
        multislice | probe_basis.
    waves : int
        Number of waves that went through the specimen.
    window_check : dict or None
        Error of the windows, measured on some positions; see `windows.simulate_in_windows`.
    stored : StoredWaves or None
        Exit waves, if the config asks for them.
    spectrum : (nx, ny, depths, energies) ndarray or None
        Intensity inside the band limit for each energy loss; None without plasmons. With plasmons, `bins`,
        `center_of_mass` and `cbed` also have an axis of energy losses behind the depth. `rings` and `total` are sums
        over all losses.
    """

    bins: np.ndarray
    rings: np.ndarray
    total: np.ndarray
    center_of_mass: np.ndarray
    cbed: np.ndarray | None
    cbed_angles: tuple[np.ndarray, np.ndarray] | None
    algorithm: str = "multislice"
    waves: int = 0
    window_check: dict[str, Any] | None = None
    stored: StoredWaves | None = None
    spectrum: np.ndarray | None = None


Simulate = Callable[[Experiment, Atoms, Callable[[int, int], None], Keeper], JobSignals]
"""Computes the waves of a part of a job: `simulate(experiment, atoms, on_progress, keeper)`."""


@dataclass(eq=False)
class ScanInParts:
    """A job that computes its signals part by part.

    Attributes
    ----------
    experiment : Experiment
    atoms : Atoms
        All atoms of the specimen or window.
    simulate : callable
        Computes one part, see `Simulate`.
    on_progress : callable
        Called as `on_progress(done, total)`.
    keeper : Keeper
        Keeps finished parts and the work of the present one.
    """

    experiment: Experiment
    atoms: Atoms
    simulate: Simulate
    on_progress: Callable[[int, int], None]
    keeper: Keeper

    def __post_init__(self) -> None:
        """Begin with the finished parts of an earlier attempt. Each kind of scan does this in its own way."""


def window_errors(checks: Sequence[Mapping[str, Any]]) -> str:
    """Return the largest deviation of each signal in some `checks`, as text for the user.

    Each check is the `window_check` of one job, see `JobSignals`.
    """
    largest: dict[str, float] = {}
    for check in checks:
        for name, deviation in check["relative_deviation"].items():
            # An all-zero signal gives NaN, which `fmax` ignores.
            largest[name] = float(np.fmax(largest.get(name, np.nan), deviation))
    return ", ".join(f"{name} {_percent(deviation)}" for name, deviation in largest.items())


def _percent(share: float) -> str:
    if share >= 9.99:
        return "more than 999 %"
    return f"{100 * share:.{3 if share >= 0.995 else 2}g} %"


_IN_CHECKPOINTS = ("bins", "rings", "total", "center_of_mass", "cbed", "spectrum")
"""Fields of `JobSignals` that a checkpoint holds."""

_PIECE_BYTES = 8e6
"""Size of the pieces in which a checkpoint takes a signal [bytes]. Each piece is copied once, so this limits the memory
of the copies."""


class Recorder:
    """The detectors of one job and their signals so far, by scan position and depth.

    It is thread-safe if no two threads record the same position and depth.

    Attributes
    ----------
    detectors : DetectorSet
        Bins and rings at the first depth. Its pixels are those inside the band limit, even if only patterns are stored.
    cbed : CbedGeometry or None
        Pixels of the diffraction patterns at the first depth; None if the config asks for none.
    signals : JobSignals
    """

    def __init__(self, experiment: Experiment) -> None:
        e = self.experiment = experiment
        self._lock = threading.Lock()
        self._at: dict[tuple[float, float], tuple[DetectorSet, CbedGeometry | None]] = {}
        self.detectors, self.cbed = self.at(0)
        shape: tuple[int, ...] = (len(e.scan_x), len(e.scan_y), len(e.depth_slices))
        resolved = shape if e.plasmons is None else (*shape, len(e.energies))
        cbed = angles = None
        if self.cbed is not None:
            angles = (self.cbed.angles_x, self.cbed.angles_y)
            cbed = pattern_array(patterns_shape(e), e.real_dtype)
        self._waiting = 0
        self.image_depths = _places(e.wave_depths, e.depth_slices if e.adf else ())
        self.pattern_depths = _places(e.wave_depths, e.pattern_depths)
        self.signals = JobSignals(
            bins=np.zeros((*resolved, max(0, len(e.bins) - 1))),
            rings=np.zeros((*shape, len(e.images))),
            total=np.zeros(shape),
            center_of_mass=np.zeros((*resolved, 2 if e.center_of_mass else 0)),
            cbed=cbed,
            cbed_angles=angles,
            waves=e.positions,
            spectrum=None if e.plasmons is None else np.zeros(resolved),
        )

    def at(self, depth: int) -> tuple[DetectorSet, CbedGeometry | None]:
        """Return bins and rings, and the pixels of patterns, at one depth; deflected beams move them.

        `depth` is the index of the depth in `Experiment.wave_depths`. The pixels are None if the config asks for no
        patterns.
        """
        e = self.experiment
        center = e.detector_center_at(depth)
        with self._lock:
            if center not in self._at:
                detectors = DetectorSet(
                    e.grid, e.wavelength, bin_edges=e.bins or None, rings=dict(e.rings), edges=e.edges,
                    center_of_mass=e.center_of_mass, band_limit_radius=band_limit_radius(e.grid, e.bandlimit),
                    center=center, segmented=e.segmented, sensitive=e.sensitive,
                )  # fmt: skip
                self._at[center] = detectors, None if e.cbed_max is None else cbed_geometry(e, depth)
            return self._at[center]

    def record_wave(self, position: tuple[int, int], depth: int, spectrum: np.ndarray) -> None:
        """Measure the exit wave of the probe at one scan position.

        Parameters
        ----------
        position : (int, int)
            Indices (i, j) of the scan position.
        depth : int
            Index of the depth in `Experiment.wave_depths`.
        spectrum : (nx, ny) ndarray
            Exit wave ψ(k).
        """
        detectors, geometry = self.at(depth)
        if depth in self.image_depths:
            self.record((*position, self.image_depths[depth]), detectors.measure(spectrum))
        if depth in self.pattern_depths and geometry is not None and self.signals.cbed is not None:
            self.record_pattern((*position, self.pattern_depths[depth]), geometry.pattern(spectrum))

    def record_pattern(self, at: tuple[int, int, int], pattern: np.ndarray) -> None:
        """Store `pattern` (n_kx, n_ky); `at` is (i, j, depth index of patterns)."""
        cbed = self.signals.cbed
        assert cbed is not None
        cbed[at] = pattern
        self._waiting += pattern.size * cbed.itemsize
        if self._waiting > WINDOW_BYTES / 2:
            self._waiting = 0
            give_back(cbed)

    def record(self, at: tuple[int | np.ndarray, int | np.ndarray, int], seen: WaveSignals) -> None:
        """Store the signals `seen` at scan position (i, j) and a depth.

        `at` is (i, j, depth index of images). For several positions, i and j are (m,) arrays, and `seen` has one row
        for each.
        """
        self.signals.bins[at] = seen.bins
        self.signals.rings[at] = seen.rings
        self.signals.total[at] = seen.total
        if self.experiment.center_of_mass:
            self.signals.center_of_mass[at] = seen.center_of_mass

    def parts(self, positions: np.ndarray) -> Parts:
        """Return the signals of some scan positions as checkpoint arrays; `positions` (nx, ny) is true for these."""
        chosen = np.nonzero(positions)
        return {"positions": Part.of(positions), **{name: _some(values, chosen) for name, values in self._arrays()}}

    def restore(self, found: Mapping[str, np.ndarray]) -> None:
        """Take signals from `found`, the arrays of a checkpoint by name, which `fits` accepts."""
        for name, values in self._arrays():
            values[found["positions"]] = found[name]

    def fits(self, found: Mapping[str, np.ndarray]) -> bool:
        """Whether `found`, the arrays of a checkpoint by name, are signals of these detectors and this scan."""
        shape = self.signals.total.shape[:2]
        if found.get("positions") is None or found["positions"].shape != shape or found["positions"].dtype != bool:
            return False
        number = int(found["positions"].sum())
        return all(
            name in found and found[name].shape == (number, *values.shape[2:]) and found[name].dtype == values.dtype
            for name, values in self._arrays()
        )

    def _arrays(self) -> list[tuple[str, np.ndarray]]:
        arrays = [(name, getattr(self.signals, name)) for name in _IN_CHECKPOINTS]
        return [(name, values) for name, values in arrays if values is not None]


def _some(values: np.ndarray, chosen: tuple[np.ndarray, ...]) -> Part:
    x, y = chosen
    shape = (len(x), *values.shape[2:])
    step = max(1, int(_PIECE_BYTES / max(1, values[0, 0].nbytes)))

    def pieces() -> Iterator[np.ndarray]:
        for first in range(0, len(x), step):
            yield values[x[first : first + step], y[first : first + step]]

    return Part(values.dtype, shape, pieces)


def cbed_geometry(experiment: Experiment, depth: int = 0) -> CbedGeometry:
    """Return the pixels of the diffraction patterns that `experiment` stores.

    `depth` is an index in `Experiment.wave_depths`. It matters only if the beam is deflected on its way, which moves
    the pixels.
    """
    e = experiment
    center = e.detector_center_at(depth)
    return CbedGeometry(e.grid, e.wavelength, e.cbed_max or 0.0, e.cbed_size, center, e.cbed_pixel)


def patterns_shape(experiment: Experiment) -> tuple[int, ...]:
    """Shape of the diffraction patterns of one job of `experiment`, (nx, ny, depths, n_kx, n_ky).

    With plasmons, an axis of energy losses follows the depths.
    """
    e = experiment.patterns
    losses = () if e.plasmons is None else (len(e.energies),)
    return len(e.scan_x), len(e.scan_y), len(e.depth_slices), *losses, *cbed_geometry(e).shape


def _places(depths: Sequence[int], stored: Sequence[int]) -> dict[int, int]:
    """Index of each stored depth, by its index among all depths."""
    return {depths.index(number): place for place, number in enumerate(stored) if number in depths}
