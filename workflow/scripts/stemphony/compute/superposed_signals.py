"""Signals of probes that are superpositions of basis waves, Eq. (P18)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from stemphony.compute import basis_memory
from stemphony.compute.recorder import Recorder
from stemphony.experiment.model import Experiment
from stemphony.physics.basis import evaluate, signal_forms, summed_pixels
from stemphony.physics.detectors import DetectorSet, Region


class SuperposedSignals:
    """Records the signals of superposed probes, from detector matrices or from the probes' own exit waves.

    Parameters
    ----------
    waves : int
        Number of basis waves that go through the specimen. The result records this number.
    """

    def __init__(self, experiment: Experiment, waves: int = 0) -> None:
        recorder = self.recorder = Recorder(experiment)
        recorder.signals.algorithm, recorder.signals.waves = "probe_basis", waves
        self._made: dict[DetectorSet, tuple[list[Region], Any]] = {}
        self.pixels = recorder.detectors.pixels

    def _regions(self, depth: int) -> tuple[list[Region], Any]:
        """Regions and combination of the detectors at a depth, see `DetectorSet.regions`."""
        detectors, _ = self.recorder.at(depth)
        if detectors not in self._made:
            self._made[detectors] = detectors.regions()
        return self._made[detectors]

    def forms(self, waves: np.ndarray, depth: int) -> np.ndarray:
        """Return the Hermitian matrices of the detector regions at a depth, (n, r, r).

        `waves` (r, p) are exit waves of the basis at `pixels`, and `depth` is the index of the depth in
        `Experiment.wave_depths`.
        """
        return signal_forms(waves, self._regions(depth)[0])

    def at_patterns(self, waves: np.ndarray, depth: int) -> np.ndarray:
        """Return exit waves at the native pixels of the patterns, (r, h), zero beyond the band limit.

        `waves` (r, p) are exit waves of the basis at `pixels`, and `depth` is the index of the depth in
        `Experiment.wave_depths`. The experiment must store patterns.
        """
        _, geometry = self.recorder.at(depth)
        assert geometry is not None
        native = geometry.native_pixels.ravel()
        place = np.minimum(np.searchsorted(self.pixels, native), self.pixels.size - 1)
        return np.where(self.pixels[place] == native, waves[:, place], 0)

    def record_waves(
        self, where: np.ndarray, depth: int, waves: np.ndarray, coefficients: np.ndarray, budget_bytes: float
    ) -> None:
        """Record all signals of one depth, by matrices or by the probes' own exit waves, whichever is less work.

        Parameters
        ----------
        where : (m,) ndarray of int
            Flat indices of the scan positions, y fastest.
        depth : int
            Index of the depth in `Experiment.wave_depths`.
        waves : (r, p) ndarray
            Exit waves of the basis at `pixels`.
        coefficients : (r, m) ndarray
            See `Basis.coefficients`.
        budget_bytes : float
            Memory of the job; matrices may take a quarter of it.
        """
        if (image := self.recorder.image_depths.get(depth)) is not None:
            if self._forms_are_cheaper(waves, coefficients, budget_bytes, depth):
                self.record_forms(where, image, self.forms(waves, depth), coefficients)
            else:
                detectors, _ = self.recorder.at(depth)
                for some, exit_waves in _superpositions(coefficients, waves):
                    values = detectors.values(_intensity(exit_waves).T)
                    self.recorder.record((*self._at(where[some]), image), detectors.signals(values))
        if (pattern := self.recorder.pattern_depths.get(depth)) is not None:
            self.record_patterns(where, pattern, self.at_patterns(waves, depth), coefficients)

    def record_forms(self, where: np.ndarray, depth: int, forms: np.ndarray, coefficients: np.ndarray) -> None:
        """Record bins, rings, total and centre of mass at one depth of images, from detector matrices.

        Parameters
        ----------
        where : (m,) ndarray of int
            Flat indices of the scan positions, y fastest.
        depth : int
            Index of the depth in `Experiment.depth_slices`.
        forms : (n, r, r) ndarray
            Matrices of the detector regions, see `forms`.
        coefficients : (r, m) ndarray
            See `Basis.coefficients`.
        """
        e = self.recorder.experiment
        among_all = e.wave_depths.index(e.depth_slices[depth])
        combined = self._regions(among_all)[1] @ evaluate(forms, coefficients)
        signals = self.recorder.at(among_all)[0].signals(combined)
        self.recorder.record((*self._at(where), depth), signals)

    def record_patterns(self, where: np.ndarray, depth: int, waves: np.ndarray, coefficients: np.ndarray) -> None:
        """Record the diffraction patterns at one of their depths, from exit waves of the basis.

        Parameters
        ----------
        where : (m,) ndarray of int
            Flat indices of the scan positions, y fastest.
        depth : int
            Index of the depth in `Experiment.pattern_depths`.
        waves : (r, h) ndarray
            Exit waves at the native pixels, see `at_patterns`.
        coefficients : (r, m) ndarray
            See `Basis.coefficients`.
        """
        e = self.recorder.experiment
        _, geometry = self.recorder.at(e.wave_depths.index(e.pattern_depths[depth]))
        assert geometry is not None
        for some, exit_waves in _superpositions(coefficients, waves):
            patterns = _intensity(exit_waves).reshape(-1, *geometry.native_pixels.shape)
            for x, y, pattern in zip(*self._at(where[some]), patterns, strict=True):
                self.recorder.record_pattern((int(x), int(y), depth), geometry.resized(pattern))

    def _at(self, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = np.divmod(where, len(self.recorder.experiment.scan_y))
        return x, y

    def _forms_are_cheaper(self, waves: np.ndarray, coefficients: np.ndarray, budget_bytes: float, depth: int) -> bool:
        """Whether matrices need fewer multiplications than exit waves and fit a quarter of the budget."""
        rank, probes = coefficients.shape
        regions, _ = self._regions(depth)
        pixels = summed_pixels(waves, regions)
        matrices = len(regions) * rank**2
        fits = matrices * self.recorder.experiment.complex_dtype.itemsize <= 0.25 * budget_bytes
        return fits and pixels * rank**2 + matrices * probes < self.pixels.size * rank * probes


def _superpositions(coefficients: np.ndarray, waves: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Exit waves of the probes in blocks: which probes, and their waves (probes, pixels)."""
    a = coefficients.astype(waves.dtype)
    step = max(1, int(basis_memory.BLOCK_BYTES / (waves.shape[1] * waves.itemsize)))
    for first in range(0, a.shape[1], step):
        some = slice(first, min(first + step, a.shape[1]))
        yield some, a[:, some].T @ waves


def _intensity(waves: np.ndarray) -> np.ndarray:
    return np.square(waves.real, dtype=np.float64) + np.square(waves.imag, dtype=np.float64)
