"""The detectors of one job, and the arrays of signals that they fill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemphony.compute.keeper import Part, Parts
from stemphony.experiment.model import Experiment
from stemphony.physics.detectors import CbedGeometry, DetectorSet
from stemphony.physics.detectors import Signals as WaveSignals
from stemphony.physics.grid import band_limit_radius


@dataclass
class Signals:
    """What the detectors of one job measured, fractions of the incident intensity; angles in rad.

    Axes: x, y, depth, then the signal's own: `bins` (…, n), `rings` (…, m), `total` (…), `center_of_mass` (…, 2),
    `cbed` (…, kx, ky). A signal that was not asked for has length 0 or is None.

    `algorithm` says how, and `waves` how many waves went through the specimen for it;
    `window_check` the error of windows, measured on some positions.
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


def window_errors(checks: Sequence[Mapping[str, Any]]) -> str:
    """The largest deviation of each signal in the `window_check` of some jobs, in words."""
    largest: dict[str, float] = {}
    for check in checks:
        for name, deviation in check["relative_deviation"].items():
            # That of a signal that is zero everywhere is no number, and hides no other.
            largest[name] = float(np.fmax(largest.get(name, np.nan), deviation))
    return ", ".join(f"{name} {_percent(deviation)}" for name, deviation in largest.items())


def _percent(share: float) -> str:
    if share >= 9.99:
        return "more than 999 %"
    return f"{100 * share:.{3 if share >= 0.995 else 2}g} %"


_KEPT = ("bins", "rings", "total", "center_of_mass", "cbed")
_PIECE_BYTES = 8e6


class Recorder:
    """Detectors and what they have seen so far, by probe position and depth.

    Thread-safe as long as no two threads record the same position and depth.

    Attributes
    ----------
    detectors : DetectorSet
        Bins and rings; its pixels are those inside the band limit, whatever is measured.
    cbed : CbedGeometry or None
    signals : Signals
    """

    def __init__(self, experiment: Experiment) -> None:
        e = self.experiment = experiment
        self.detectors = DetectorSet(
            e.grid, e.wavelength, bin_edges=e.bins or None, rings=dict(e.rings), edges=e.edges,
            center_of_mass=e.center_of_mass, band_limit_radius=band_limit_radius(e.grid, e.bandlimit),
        )  # fmt: skip
        self.cbed = None if e.cbed_max is None else cbed_geometry(e)
        shape = (len(e.scan_x), len(e.scan_y), len(e.depth_slices))
        cbed = angles = None
        if self.cbed is not None:
            angles = (self.cbed.angles_x, self.cbed.angles_y)
            cbed = np.zeros((*shape, len(angles[0]), len(angles[1])), dtype=e.real_dtype)
        self.signals = Signals(
            bins=np.zeros((*shape, max(0, len(e.bins) - 1))),
            rings=np.zeros((*shape, len(e.rings))),
            total=np.zeros(shape),
            center_of_mass=np.zeros((*shape, 2 if e.center_of_mass else 0)),
            cbed=cbed,
            cbed_angles=angles,
            waves=e.positions,
        )

    def record_wave(self, position: tuple[int, int], depth: int, spectrum: np.ndarray) -> None:
        """Measure one exit wave ψ(k), (nx, ny), of the probe at a scan position, at the depth of this index."""
        at = (*position, depth)
        if self.experiment.adf:
            self.record(at, self.detectors.measure(spectrum))
        if self.cbed is not None and self.signals.cbed is not None:
            self.signals.cbed[at] = self.cbed.pattern(spectrum)

    def record(self, at: tuple[int | np.ndarray, int | np.ndarray, int], seen: WaveSignals) -> None:
        """Put signals of one position, or of arrays of positions, into their places."""
        self.signals.bins[at] = seen.bins
        self.signals.rings[at] = seen.rings
        self.signals.total[at] = seen.total
        if self.experiment.center_of_mass:
            self.signals.center_of_mass[at] = seen.center_of_mass

    def parts(self, positions: np.ndarray) -> Parts:
        """Signals at some scan positions, for a checkpoint; `positions` is (nx, ny), true for those."""
        chosen = np.nonzero(positions)
        return {"positions": Part.of(positions), **{name: _some(values, chosen) for name, values in self._arrays()}}

    def restore(self, found: Mapping[str, np.ndarray]) -> None:
        """Take signals from the arrays of a checkpoint."""
        for name, values in self._arrays():
            values[found["positions"]] = found[name]

    def fits(self, found: Mapping[str, np.ndarray]) -> bool:
        """Whether arrays of a checkpoint are signals of these detectors at these positions."""
        shape = self.signals.total.shape[:2]
        if found.get("positions") is None or found["positions"].shape != shape or found["positions"].dtype != bool:
            return False
        number = int(found["positions"].sum())
        return all(
            name in found and found[name].shape == (number, *values.shape[2:]) and found[name].dtype == values.dtype
            for name, values in self._arrays()
        )

    def _arrays(self) -> list[tuple[str, np.ndarray]]:
        arrays = [(name, getattr(self.signals, name)) for name in _KEPT]
        return [(name, values) for name, values in arrays if values is not None]


def _some(values: np.ndarray, chosen: tuple[np.ndarray, ...]) -> Part:
    x, y = chosen
    shape = (len(x), *values.shape[2:])
    step = max(1, int(_PIECE_BYTES / max(1, values[0, 0].nbytes)))

    def pieces() -> Iterator[np.ndarray]:
        for first in range(0, len(x), step):
            yield values[x[first : first + step], y[first : first + step]]

    return Part(values.dtype, shape, pieces)


def cbed_geometry(experiment: Experiment) -> CbedGeometry:
    """Pixels of the stored diffraction patterns, of an experiment that stores them."""
    return CbedGeometry(experiment.grid, experiment.wavelength, experiment.cbed_max or 0.0, experiment.cbed_size)
