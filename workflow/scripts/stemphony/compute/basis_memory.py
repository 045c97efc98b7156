"""Estimate the memory that a basis of waves takes, before the basis is known."""

from __future__ import annotations

import math

from stemphony.compute.recorder import cbed_geometry
from stemphony.experiment.model import Experiment
from stemphony.physics.basis import FIRST_RANK
from stemphony.physics.grid import band_limit_radius, pixels_inside

BLOCK_BYTES = 64e6
"""Size of one block of incident probes or of their exit waves [bytes]. It limits the memory that their copies take."""

COPIES_WHILE_WRITING = 3
"""Memory of a `Superposition` while it is written, in units of its size on disk: whole matrices and their packed
halves are in memory together."""


def beams(experiment: Experiment) -> float:
    """Estimate the number of grid points in the aperture of `experiment`, with its soft edge.

    No basis has more waves than this.
    """
    area = math.pi * (experiment.semiangle / experiment.wavelength) ** 2
    return 1.1 * area * math.prod(experiment.grid.extent) + 10


def search_bytes(experiment: Experiment, rank: float) -> float:
    """Memory of the search for a basis of `rank` waves of `experiment` [bytes], without the blocks of probes.

    The search holds the waves found so far up to three times, and five square matrices while it sorts them.
    """
    found = min(1.25 * rank + FIRST_RANK, beams(experiment))
    return 16 * (3 * beams(experiment) * found + 5 * found**2)


def most_waves(experiment: Experiment, budget_bytes: float) -> int:
    """Largest number of waves of a basis of `experiment` that fits the memory, at least 1.

    `budget_bytes` is the memory for transmission functions and waves [bytes]. The exit waves must fit half of it, and
    the search for the basis must fit all of it.
    """
    by_waves = 0.5 * budget_bytes / waves_bytes(experiment, 1)
    # The search gives up at twice as many waves. `cost.memory_mb` always includes room for the first FIRST_RANK waves.
    room = budget_bytes / (16 * 2.5)
    by_search = 2 * room / (3 * beams(experiment) + math.sqrt(9 * beams(experiment) ** 2 + 50 * room))
    return max(1, int(min(by_waves, by_search)))


def waves_bytes(experiment: Experiment, rank: int) -> int:
    """Size of the exit waves of `rank` basis waves of `experiment` at one depth [bytes]."""
    pixels = pixels_inside(experiment.grid, band_limit_radius(experiment.grid, experiment.bandlimit))
    return rank * pixels.size * experiment.complex_dtype.itemsize


def kept_bytes(experiment: Experiment, rank: int) -> int:
    """Size of a `Superposition` of `rank` basis waves of `experiment` on disk [bytes].

    It holds detector matrices for each depth of images, and waves for diffraction patterns for each depth of patterns.
    """
    regions = 0
    if experiment.adf:
        regions = len(experiment.bins) + len(experiment.images) + 1 + 2 * experiment.center_of_mass
    pixels = 0 if experiment.cbed_max is None else cbed_geometry(experiment).native_pixels.size
    matrices = len(experiment.depth_slices) * regions * rank * (rank + 1) // 2
    waves = len(experiment.pattern_depths) * rank * pixels
    return (matrices + waves) * experiment.complex_dtype.itemsize
