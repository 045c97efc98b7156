"""The small image of a finished job, for status reports: one detector behind the whole specimen."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from stemphony.compute.recorder import JobSignals
from stemphony.experiment.model import Experiment
from stemphony.status.events import PREVIEW_SIDE


def preview_of(experiment: Experiment, signals: JobSignals) -> dict[str, Any]:
    """Make the keys `preview…` of FINISH_FP_CONFIGURATION; none without named detectors.

    The image shows the detector with the largest inner angle, with or without a sensitivity, at the last depth. A
    pixel is the mean over a block of probe positions, 8 bits from `preview_low` to `preview_high`. Rows go from the top
    (largest y), x to the right.
    """
    inner = {name: begin for name, (begin, _) in experiment.rings.items()}
    inner |= {name: ring.inner for name, ring in experiment.sensitive.items()}
    if not experiment.adf or not inner:
        return {}
    detector = max(inner, key=lambda name: inner[name])
    of_detector = signals.rings[:, :, -1, experiment.images.index(detector)]
    if experiment.orbit is None:
        positions = np.asarray(of_detector[experiment.kept], dtype=float)
    else:
        positions = np.asarray(of_detector[experiment.orbit, 0], dtype=float)
    pixels = _reduced(_reduced(positions, 0), 1).T[::-1]
    low, high = float(pixels.min()), float(pixels.max())
    span = high - low or 1.0
    gray = np.round(255 * (pixels - low) / span).astype(np.uint8)
    return {
        "preview": base64.b64encode(gray.tobytes()).decode("ascii"),
        "preview_detector": detector,
        "preview_width": gray.shape[1],
        "preview_low": low,
        "preview_high": high,
    }


def _reduced(values: np.ndarray, axis: int) -> np.ndarray:
    """Means over blocks along one axis; there are at most `PREVIEW_SIDE` blocks."""
    number = values.shape[axis]
    begins = np.arange(0, number, -(-number // PREVIEW_SIDE))
    counts = np.diff([*begins, number])
    sums: np.ndarray = np.add.reduceat(values, begins, axis=axis)
    return sums / np.expand_dims(counts, 1 - axis)
