"""How images of computed positions are blurred with the source of the microscope, Eq. (P13)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stemphony.experiment.model import NM, Experiment
from stemphony.physics.source_size import Repeats, blur, is_cut, reach


@dataclass(frozen=True)
class Blurring:
    """Convolution with the source.

    Attributes
    ----------
    fwhm : float
        Full width at half maximum of the source [Å]; 0 for none.
    repeats : (int or None, int or None)
        How the scan window repeats, see `source_size.Repeats`.
    """

    fwhm: float
    repeats: Repeats

    @property
    def margin_nm(self) -> float:
        """Width of the margin that this source needs [nm], rounded up to 0.001 nm."""
        return math.ceil(reach(self.fwhm) / NM * 1e3 - 1e-9) / 1e3

    def applied(self, experiment: Experiment, images: np.ndarray) -> np.ndarray:
        """Blur images of the computed positions, (x, y, …), and cut off their margin."""
        if self.fwhm:
            images = blur(images, self.fwhm, _spacing(experiment), self.repeats)
        return images[experiment.kept]

    def is_cut(self, experiment: Experiment) -> np.ndarray:
        """Whether the source reaches over the edge of what was computed, for each position of the result (nx, ny)."""
        if not self.fwhm:
            return np.zeros((len(experiment.stored.scan_x), len(experiment.stored.scan_y)), dtype=bool)
        shape = len(experiment.scan_x), len(experiment.scan_y)
        return is_cut(shape, self.fwhm, _spacing(experiment), self.repeats)[experiment.kept]


def _spacing(experiment: Experiment) -> tuple[float, float]:
    """Distances of scan positions [Å]; 1 along an axis with a single one."""
    x, y = (axis[1] - axis[0] if len(axis) > 1 else 1.0 for axis in (experiment.scan_x, experiment.scan_y))
    return x, y
