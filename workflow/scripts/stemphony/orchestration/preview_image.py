"""The small images of a finished job, for status reports: each detector behind the whole specimen."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from stemphony.compute.recorder import JobSignals
from stemphony.experiment.model import Experiment
from stemphony.experiment.scan import WINDOW
from stemphony.experiment.scan_edges import window_repeats
from stemphony.physics.constants import NM
from stemphony.specimen.specimen import Specimen
from stemphony.specimen.translations import Translations
from stemphony.status.events import PREVIEW_IMAGES, PREVIEW_SIDE


def previews_of(
    experiment: Experiment, signals: JobSignals, specimen: Specimen, scan: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Make the keys `preview…` of one event PREVIEW for each named detector, at most `PREVIEW_IMAGES`.

    An image shows the last depth. A pixel is the mean over a block of probe positions. It has 8 bits, from
    `preview_low` to `preview_high`. Rows start at the top (largest y), and x points to the right. For a window, keys
    also give the size of all pixels together [nm], and the axes along which copies of the image continue it.

    Parameters
    ----------
    experiment : Experiment
        The experiment with all positions of the scan, including those that symmetry copies.
    signals : JobSignals
        Signals of the job, of which only the named detectors are used.
    specimen : Specimen
        Says how the window repeats.
    scan : mapping
        Block `scan` of the params of the job.

    Returns
    -------
    list of dict
        One mapping for each detector; empty without images.
    """
    if not experiment.adf or not experiment.images:
        return []
    size = {} if experiment.scan_kind != WINDOW else _size(experiment, specimen, scan)
    made = []
    for index, name in enumerate(experiment.images[:PREVIEW_IMAGES]):
        of_detector = signals.rings[:, :, -1, index]
        if experiment.orbit is None:
            positions = np.asarray(of_detector[experiment.kept], dtype=float)
        else:
            positions = np.asarray(of_detector[experiment.orbit, 0], dtype=float)
        made.append({**_image(name, positions), **size})
    return made


def _image(name: str, positions: np.ndarray) -> dict[str, Any]:
    pixels = _reduced(_reduced(positions, 0), 1).T[::-1]
    low, high = float(pixels.min()), float(pixels.max())
    span = high - low or 1.0
    gray = np.round(255 * (pixels - low) / span).astype(np.uint8)
    return {
        "preview": base64.b64encode(gray.tobytes()).decode("ascii"),
        "preview_detector": name,
        "preview_width": gray.shape[1],
        "preview_low": low,
        "preview_high": high,
    }


def _size(experiment: Experiment, specimen: Specimen, scan: Mapping[str, Any]) -> dict[str, Any]:
    """Width and height of the image of a window [nm], and the axes along which it repeats; empty for a single row."""
    stored = experiment.stored
    axes = (stored.scan_x, stored.scan_y)
    if min(map(len, axes)) < 2:
        return {}
    blocks = [_block(len(axis)) for axis in axes]
    width, height = (
        (axis[1] - axis[0]) * block * -(-len(axis) // block) / NM for axis, block in zip(axes, blocks, strict=True)
    )
    lengths = (float(specimen.cell[0]), float(specimen.cell[1]))
    repeats = window_repeats(scan, lengths, lambda: Translations(specimen, specimen.frames))
    # If the last block is smaller than the others, the image is larger than the window, so its copies do not fit.
    goes_on = [
        repeat == 0 and len(axis) % block == 0 for repeat, axis, block in zip(repeats, axes, blocks, strict=True)
    ]
    return {
        "preview_width_nm": round(width, 6),
        "preview_height_nm": round(height, 6),
        "preview_repeats": "".join(name for name, goes in zip("xy", goes_on, strict=True) if goes),
    }


def _block(number: int) -> int:
    """Number of probe positions that make one pixel along an axis."""
    return -(-number // PREVIEW_SIDE)


def _reduced(values: np.ndarray, axis: int) -> np.ndarray:
    """Means over blocks along one axis. There are at most `PREVIEW_SIDE` blocks."""
    number = values.shape[axis]
    begins = np.arange(0, number, _block(number))
    counts = np.diff([*begins, number])
    sums: np.ndarray = np.add.reduceat(values, begins, axis=axis)
    return sums / np.expand_dims(counts, 1 - axis)
