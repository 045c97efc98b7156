"""Blocks of signals: pieces of the result that fit the memory; each is read from job files, averaged, and written."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import netCDF4
import numpy as np

from stemphony.experiment.blurring import Blurring
from stemphony.experiment.model import Experiment
from stemphony.experiment.scan_edges import repeats_of
from stemphony.experiment.scan_symmetry import turned_images
from stemphony.results.layout import LOSS_SPECTRUM, STANDARD_ERROR
from stemphony.results.merge_task import MergeTask, Place
from stemphony.results.pattern_group import array_of, pattern_blocks
from stemphony.results.phase_images import NO_PHASE_IMAGES, PhaseImages
from stemphony.results.wave_group import wave_blocks

BLOCK_BYTES = 64e6
"""Size of the sums of one pass over the job files [bytes]. It limits the memory of the merge, which is two to three
times as much while it reads and writes. A smaller size would need more passes."""


class Block(Protocol):
    """A piece of the signals of one group."""

    @property
    def group(self) -> str:
        """Name of the group: adf (with images), cbed or waves."""

    @property
    def first(self) -> int:
        """Number of quantities, the first on the last axis, that have standard errors."""

    @property
    def bytes(self) -> float:
        """Size of one sum [bytes]."""

    def read(self, job: netCDF4.Dataset) -> np.ndarray:
        """Read the quantities to average from the open job file `job`, (x, y, …, quantity)."""

    def put(self, root: netCDF4.Dataset, place: Place, value: np.ndarray, error: np.ndarray | None) -> None:
        """Write an average and its standard errors into a result.

        Parameters
        ----------
        root : Dataset
            The result, open for writing.
        place : Place
            Indices of the defocus and of the configuration.
        value : (x, y, …, quantity) ndarray
            Average of the quantities of `read`.
        error : (x, y, …, first) ndarray or None
            Standard errors of the first quantities; None if there are none.
        """

    def put_nothing(self, root: netCDF4.Dataset, place: Place) -> None:
        """Write NaN to a `place` of the result `root` to which no job contributes."""


def blurring_of(task: MergeTask) -> Blurring:
    """Return how the images of `task` are convolved with the source."""
    return Blurring.of(task.params, repeats_of(task.params))


@dataclass(frozen=True)
class AdfBlock:
    """Some radial bins at some depths; the block with the first bin also holds images and centres of mass."""

    experiment: Experiment
    blurring: Blurring
    depths: slice
    bins: slice
    phase_images: PhaseImages = NO_PHASE_IMAGES
    group: str = "adf"

    @property
    def names(self) -> list[str]:
        """Names of the images."""
        if self.bins.start:
            return []
        return [*self.experiment.images, *self.phase_images.names, "total_intensity"]

    @property
    def _made(self) -> slice:
        """Quantities that are images made by the merge."""
        first = len(self.experiment.images) if self.names else 0
        return slice(first, first + len(self.phase_images.names) if self.names else 0)

    @property
    def first(self) -> int:
        """Number of images with standard errors: all but the total."""
        return max(0, len(self.names) - 1)

    @property
    def moments(self) -> int:
        """Number of moments Σ λk I. Moments are averaged, not centres: ⟨Σ λk I⟩/⟨ΣI⟩, Eq. (P14)."""
        return 2 if self.names and self.experiment.center_of_mass else 0

    @property
    def _losses(self) -> slice:
        """Quantities that are the intensity of each energy loss. With plasmons, the first block has them."""
        first = len(self.names) + self.moments
        has_them = bool(self.names) and self.experiment.plasmons is not None
        return slice(first, first + (len(self.experiment.energies) if has_them else 0))

    @property
    def _first_bin(self) -> int:
        """Index of the first quantity that is a bin. The bins follow the moments of each energy loss."""
        losses = self._losses
        return losses.stop + self.moments * (losses.stop - losses.start)

    @property
    def bytes(self) -> float:
        """Size of one sum [bytes]."""
        return float(math.prod(self._shape) * 8)

    @property
    def _shape(self) -> tuple[int, ...]:
        e = self.experiment
        quantities = self._first_bin + len(e.energies) * (self.bins.stop - self.bins.start)
        return len(e.scan_x), len(e.scan_y), self.depths.stop - self.depths.start, quantities

    @property
    def _stored_shape(self) -> tuple[int, ...]:
        e = self.experiment.stored
        return len(e.scan_x), len(e.scan_y), *self._shape[2:]

    def read(self, job: netCDF4.Dataset) -> np.ndarray:
        """Read images, moments and bins of the open job file `job`, (x, y, depth, quantity).

        They are blurred and without the margin.
        """
        images, adf = job.groups["images"].variables, job.groups["adf"].variables
        computed = self.experiment.computed
        value = np.empty((len(computed.scan_x), len(computed.scan_y), *self._shape[2:]))
        n = len(self.names)
        for index, name in enumerate(self.names):
            if index not in range(self._made.start, self._made.stop):
                value[..., index] = np.moveaxis(array_of(images[name], (0, 0, self.depths)), 0, 2)
        value[..., self._made] = 0.0
        losses = self._losses
        if losses.stop > losses.start:
            value[..., losses] = array_of(adf[LOSS_SPECTRUM], (0, _ALL, _ALL, 0, self.depths))
        if self.moments:
            com = np.nan_to_num(array_of(adf["center_of_mass"], (0, _ALL, _ALL, 0, self.depths)))
            weights = value[..., losses] if losses.stop > losses.start else value[..., n - 1, None]
            moments = com * weights[..., None]
            value[..., n : n + 2] = moments.sum(axis=-2)
            value[..., losses.stop : self._first_bin] = self._flat(moments)[..., : self._first_bin - losses.stop]
        per_bin = array_of(adf["adf_intensities"], (0, _ALL, _ALL, 0, self.depths, _ALL, self.bins))
        value[..., self._first_bin :] = self._flat(per_bin)
        value = self.blurring.applied(self.experiment, self._unfolded(value))
        if self._made.stop > self._made.start:
            seen = np.concatenate([value[..., : self._made.start], value[..., n - 1 : n]], axis=-1)
            moments = value[..., n : n + self.moments]
            value[..., self._made] = self.phase_images.of_job(self.experiment, seen, moments)
        return value

    def _flat(self, value: np.ndarray) -> np.ndarray:
        """Join the last two axes: energy losses, and the quantities of each loss."""
        return value.reshape(*value.shape[:-2], -1)

    def _per_loss(self, value: np.ndarray) -> np.ndarray:
        """Split the last axis into energy losses and the quantities of each loss."""
        return value.reshape(*value.shape[:-1], len(self.experiment.energies), -1)

    def _unfolded(self, value: np.ndarray) -> np.ndarray:
        """Quantities of all positions (x, y, …) from those of the computed positions.

        Moments turn with the symmetry operation of a position. Each segment gets the signal of the segment that the
        operation turns onto it.
        """
        orbits, n = self.experiment.orbits, len(self.names)
        if orbits is None:
            return value
        unfolded: np.ndarray = value[:, 0][orbits.orbit]
        moments = slice(n, n + self.moments)
        if self.moments:
            unfolded[..., moments] = orbits.turned_vectors(unfolded[..., moments])
        if self.names:
            for number, images in enumerate(self._turned_images):
                here = orbits.operation == number
                unfolded[np.ix_(here, range(unfolded.shape[1]), images)] = unfolded[here][..., : len(images)]
        of_losses = slice(self._losses.stop, self._first_bin)
        if of_losses.stop > of_losses.start:
            turned = orbits.turned_vectors(self._per_loss(unfolded[..., of_losses]))
            unfolded[..., of_losses] = self._flat(turned)
        return unfolded.reshape(self._shape)

    @cached_property
    def _turned_images(self) -> list[list[int]]:
        """For each symmetry operation and each image, the image onto which the operation turns it."""
        assert self.experiment.orbits is not None
        found = [turned_images(self.experiment, matrix) for matrix in self.experiment.orbits.matrices]
        return [images for images in found if images is not None]

    def put(self, root: netCDF4.Dataset, place: Place, value: np.ndarray, error: np.ndarray | None) -> None:
        """Write averages `value` (x, y, depth, quantity) to `place` in the result `root`.

        `error` (x, y, depth, first) are the standard errors of the first quantities, or None.
        """
        (d, c), n, images, adf = place, len(self.names), root["images"], root["adf"]
        if self.moments:
            with np.errstate(divide="ignore", invalid="ignore"):
                com = value[..., n : n + 2] / value[..., n - 1, None]
            adf["center_of_mass"][d, :, :, c, self.depths] = self._centers(value, com)
            if self.phase_images.with_center_of_mass and not np.isnan(value).all():
                value = value.copy()
                value[..., self._made.stop - 1] = self.phase_images.phase_of_center(self.experiment, com)
        for index, name in enumerate(self.names):
            images[name][d, c, self.depths] = np.moveaxis(value[..., index], 2, 0)
        if self._losses.stop > self._losses.start:
            adf[LOSS_SPECTRUM][d, :, :, c, self.depths] = value[..., self._losses]
        bins = self._per_loss(value[..., self._first_bin :])
        adf["adf_intensities"][d, :, :, c, self.depths, :, self.bins] = bins
        if error is not None:
            for index, name in enumerate(self.names[: self.first]):
                images[name + STANDARD_ERROR][d, 0, self.depths] = np.moveaxis(error[..., index], 2, 0)

    def _centers(self, value: np.ndarray, com: np.ndarray) -> np.ndarray:
        """Centres of mass for each energy loss. `com` has those of all losses together."""
        losses = self._losses
        if losses.stop == losses.start:
            return com[..., None, :]
        moments = self._per_loss(value[..., losses.stop : self._first_bin])
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(moments / value[..., losses, None])

    def put_nothing(self, root: netCDF4.Dataset, place: Place) -> None:
        """Write NaN to `place` in the result `root`."""
        nothing = np.full(self._stored_shape, np.nan)
        with_errors = any(name.endswith(STANDARD_ERROR) for name in root["images"].variables)
        self.put(root, place, nothing, nothing[..., : self.first] if with_errors and self.first else None)


def blocks_of(
    experiment: Experiment,
    blurring: Blurring,
    phase_images: PhaseImages = NO_PHASE_IMAGES,
    of_patterns: Blurring | None = None,
    errors: bool = False,
) -> Iterator[Block]:
    """Cut all signals of an experiment into blocks that fit the memory.

    Parameters
    ----------
    experiment : Experiment
    blurring, of_patterns : Blurring
        Convolution of images, and of patterns, with the source.
    phase_images : PhaseImages
    errors : bool
        Whether each pattern has standard errors.

    Yields
    ------
    Block
        Blocks of the images, the patterns and the waves, in this order.
    """
    if experiment.adf:
        yield from _adf_blocks(experiment, blurring, phase_images)
    yield from pattern_blocks(experiment, of_patterns or NOT_BLURRED, errors, BLOCK_BYTES)
    yield from wave_blocks(experiment)


def _adf_blocks(e: Experiment, blurring: Blurring, phase_images: PhaseImages) -> Iterator[Block]:
    bins, numbers = len(e.bins) - 1, BLOCK_BYTES / (e.positions * 8)
    losses = len(e.energies)
    images = len(e.images) + len(phase_images.names) + 3 + (0 if e.plasmons is None else 3 * losses)
    step = max(1, int(numbers / (images + bins * losses)))
    for first in range(0, len(e.depth_slices), step):
        depths = slice(first, min(first + step, len(e.depth_slices)))
        some = max(1, (int(numbers / (depths.stop - depths.start)) - images) // losses)
        for lower in range(0, bins, some):
            yield AdfBlock(e, blurring, depths, slice(lower, min(lower + some, bins)), phase_images)


_ALL = slice(None)

NOT_BLURRED = Blurring(0.0, (None, None))
"""No convolution: a source of width 0 [Å]."""
