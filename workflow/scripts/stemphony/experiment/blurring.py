"""Blur of the images of computed positions with the source of the microscope, Eqs. (P13) and (P28)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stemphony.experiment.model import Experiment
from stemphony.experiment.scan import LINE
from stemphony.physics.constants import NM
from stemphony.physics.source_size import GAUSSIAN, ROUND_GAUSSIAN, Repeats, SourceShape, blur, is_cut, reach

SHAPE_NEUTRAL: dict[str, Any] = {
    "source_shape": GAUSSIAN,
    "source_fwhm_across_nm": None,
    "source_rotation_deg": 0.0,
}
"""Keys of the block `probe` that shape the source, with the values of a round Gaussian."""


def source_keys(probe: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a validated block `probe` that shape the source; none if they do not change an image."""
    given = {key: probe.get(key, neutral) for key, neutral in SHAPE_NEUTRAL.items()}
    if given["source_fwhm_across_nm"] in (None, probe["source_fwhm_nm"]):
        given.update(source_fwhm_across_nm=None, source_rotation_deg=0.0)
    if probe["source_fwhm_nm"] == 0:
        return {}
    return {key: value for key, value in given.items() if value != SHAPE_NEUTRAL[key]}


def source_shape(probe: Mapping[str, Any]) -> SourceShape:
    """Shape of the source of a validated block `probe`, or of the params of a merge."""
    keys = {**SHAPE_NEUTRAL, **source_keys(probe)}
    across = keys["source_fwhm_across_nm"]
    ratio = 1.0 if across is None else across / probe["source_fwhm_nm"]
    return SourceShape(keys["source_shape"], ratio, math.radians(keys["source_rotation_deg"]))


def widest_source_nm(probe: Mapping[str, Any]) -> float:
    """Largest full width at half maximum of the source [nm]. It decides how far the source reaches.

    `probe` is a validated block `probe`.
    """
    return float(probe["source_fwhm_nm"]) * max(1.0, source_shape(probe).ratio)


@dataclass(frozen=True)
class Blurring:
    """Convolution with the source.

    Attributes
    ----------
    fwhm : float
        Full width at half maximum of the source [Å]; 0 for none.
    repeats : (int or None, int or None)
        How the scan window repeats, see `source_size.Repeats`.
    shape : SourceShape
        Profile and ellipse of the source.
    """

    fwhm: float
    repeats: Repeats
    shape: SourceShape = ROUND_GAUSSIAN

    @classmethod
    def of(cls, probe: Mapping[str, Any], repeats: Repeats) -> Blurring:
        """Make the blurring from a validated block `probe`, or from the params of a merge.

        `repeats` says how the scan window repeats, see `source_size.Repeats`.
        """
        return cls(probe["source_fwhm_nm"] * NM, repeats, source_shape(probe))

    @property
    def widest(self) -> float:
        """Largest full width at half maximum [Å]."""
        return self.fwhm * max(1.0, self.shape.ratio)

    @property
    def margin_nm(self) -> float:
        """Width of the margin that this source needs [nm], rounded up to 0.001 nm."""
        return math.ceil(reach(self.widest) / NM * 1e3 - 1e-9) / 1e3

    def applied(self, experiment: Experiment, images: np.ndarray) -> np.ndarray:
        """Blur images of the computed positions, and cut off their margin.

        `images` (x, y, …) are those of all positions of `experiment`. The result has its stored positions.
        """
        if self.fwhm:
            shape = replace(self.shape, rotation=self.shape.rotation - _direction(experiment))
            images = blur(images, self.fwhm, _spacing(experiment), self.repeats, shape)
        return images[experiment.kept]

    def is_cut(self, experiment: Experiment) -> np.ndarray:
        """Mark the positions of the result, (nx, ny) of bool, whose source reaches beyond the computed positions.

        `experiment` has the computed and the stored positions.
        """
        if not self.fwhm:
            return np.zeros((len(experiment.stored.scan_x), len(experiment.stored.scan_y)), dtype=bool)
        shape = len(experiment.scan_x), len(experiment.scan_y)
        return is_cut(shape, self.widest, _spacing(experiment), self.repeats)[experiment.kept]


def _direction(experiment: Experiment) -> float:
    """Angle from +x to the first axis of the scan [rad]; not 0 only for a line."""
    if experiment.scan_kind != LINE:
        return 0.0
    first, last = experiment.probe_positions[0, 0], experiment.probe_positions[-1, 0]
    return math.atan2(last[1] - first[1], last[0] - first[0])


def _spacing(experiment: Experiment) -> tuple[float, float]:
    """Distances of scan positions [Å]; 1 along an axis with a single one."""
    x, y = (axis[1] - axis[0] if len(axis) > 1 else 1.0 for axis in (experiment.scan_x, experiment.scan_y))
    return x, y
