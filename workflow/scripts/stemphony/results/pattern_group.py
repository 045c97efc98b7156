"""The group `cbed` of a result: diffraction patterns, their mean over the scan, and the disk without a specimen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import netCDF4
import numpy as np

from stemphony.compute.propagation import probe
from stemphony.compute.recorder import cbed_geometry
from stemphony.experiment.blurring import Blurring, source_keys
from stemphony.experiment.model import Experiment
from stemphony.experiment.scan_edges import repeats_of
from stemphony.physics.plane_symmetry import turned_pattern
from stemphony.results.layout import (
    CHUNK_BYTES,
    CHUNK_POSITIONS,
    SOURCE_IS_CUT,
    STANDARD_ERROR,
    Axes,
    add_cbed,
    add_variable,
    mark_cut,
)
from stemphony.results.merge_task import MergeTask, Place

INTENSITIES, PACBED, VACUUM_DISK = "cbed_intensities", "pacbed", "vacuum_disk"
"""Variables of the group."""

SOURCE = "source"
"""Key of the merge's params for `cbed`: how the scan of the patterns repeats, if they are blurred with the source."""

OF_IMAGES = "scan"
"""Value of this key if patterns and images have the same scan."""

COPIES_OF_A_BLUR = 3
"""Memory that a convolution over positions takes, in units of the size of its block. Blocks of blurred patterns have
fewer pixels for this reason."""


def pattern_blurring(task: MergeTask) -> Blurring:
    """Return how the patterns of `task` are convolved with the source."""
    repeats = task.params["cbed"].get(SOURCE)
    if repeats is None:
        return Blurring(0.0, (None, None))
    return Blurring.of(task.params, repeats_of(task.params) if repeats == OF_IMAGES else (repeats[0], repeats[1]))


@dataclass(frozen=True)
class _Patterns:
    """Reads patterns of one job at one depth and energy loss.

    Attributes
    ----------
    experiment : Experiment
        The experiment of the patterns, see `Experiment.patterns`.
    depth, loss : int
        Indices of the depth and of the energy loss.
    """

    experiment: Experiment
    depth: int
    loss: int

    def rows(self, job: netCDF4.Dataset, rows: slice, columns: slice, kx: slice = slice(None)) -> np.ndarray:
        """Patterns (x, y, kx, ky) of some rows and columns of positions, counted with the margin."""
        e, variable = self.experiment, _without_cache(job.groups["cbed"].variables[INTENSITIES])
        if e.orbits is None:
            return array_of(variable, (0, rows, columns, 0, self.depth, self.loss, kx))
        shape = len(e.scan_x), len(e.scan_y)
        operation = e.orbits.operation.reshape(shape)[rows, columns]
        needed, orbit = np.unique(e.orbits.orbit.reshape(shape)[rows, columns], return_inverse=True)
        computed = array_of(variable, (0, needed, 0, 0, self.depth, self.loss))[orbit.reshape(operation.shape)]
        for number, matrix in enumerate(e.orbits.matrices):
            computed[operation == number] = turned_pattern(computed[operation == number], matrix)
        return computed[:, :, kx]


@dataclass(frozen=True)
class CbedBlock(_Patterns):
    """Diffraction patterns at one depth: of some stored positions, or, with a source, some pixels of all of them.

    Attributes
    ----------
    stored_rows, stored_columns, kx : slice
        Rows and columns of positions, and rows of pixels.
    blurring : Blurring
        Convolution with the source. It needs all positions at once.
    errors : bool
        Whether the result holds standard errors of the patterns.
    """

    stored_rows: slice
    stored_columns: slice
    kx: slice
    blurring: Blurring
    errors: bool = False
    group: str = "cbed"

    @property
    def first(self) -> int:
        """Number of quantities with standard errors: all pixels along ky, or none."""
        return cbed_geometry(self.experiment).shape[1] if self.errors else 0

    @property
    def bytes(self) -> float:
        """Size of one sum [bytes]."""
        return float(math.prod(self._shape) * 8)

    @property
    def _shape(self) -> tuple[int, ...]:
        of, (kx, ky) = self.experiment.stored, cbed_geometry(self.experiment).shape
        rows, columns = range(len(of.scan_x))[self.stored_rows], range(len(of.scan_y))[self.stored_columns]
        return len(rows), len(columns), len(range(kx)[self.kx]), ky

    def read(self, job: netCDF4.Dataset) -> np.ndarray:
        """Read the patterns of the open job file `job`, (x, y, kx, ky), blurred and without the margin."""
        e = self.experiment
        if not self.blurring.fwhm:
            return self.rows(job, *_computed(e, self.stored_rows, self.stored_columns), self.kx)
        if e.orbits is None:
            return self.blurring.applied(e, self.rows(job, slice(None), slice(None), self.kx))
        # Symmetry turns whole patterns. They are read row by row, because all together may not fit into memory.
        rows_of = (self.rows(job, slice(row, row + 1), slice(None), self.kx)[0] for row in range(len(e.scan_x)))
        whole = np.empty((len(e.scan_x), len(e.scan_y), *self._shape[2:]))
        for row, values in enumerate(rows_of):
            whole[row] = values
        return self.blurring.applied(e, whole)

    def put(self, root: netCDF4.Dataset, place: Place, value: np.ndarray, error: np.ndarray | None) -> None:
        """Write averages `value` and standard errors `error`, both (x, y, kx, ky), to `place` in the result `root`.

        `error` is None if the result has no standard errors of patterns.
        """
        at = (place[0], self.stored_rows, self.stored_columns, place[1], self.depth, self.loss, self.kx)
        root["cbed"][INTENSITIES][at] = value
        if error is not None:
            root["cbed"][INTENSITIES + STANDARD_ERROR][at] = error

    def put_nothing(self, root: netCDF4.Dataset, place: Place) -> None:
        """Write NaN to `place` in the result `root`."""
        nothing = np.full(self._shape, np.nan)
        self.put(root, place, nothing, nothing if INTENSITIES + STANDARD_ERROR in root["cbed"].variables else None)


@dataclass(frozen=True)
class PacbedBlock(_Patterns):
    """Mean of the patterns over all stored positions at one depth (PACBED).

    It is not blurred: the source only moves intensity between positions, which does not change the mean over whole
    periods.
    """

    group: str = "cbed"

    @property
    def first(self) -> int:
        """Number of quantities with standard errors: all pixels along ky."""
        return cbed_geometry(self.experiment).shape[1]

    @property
    def bytes(self) -> float:
        """Size of one sum [bytes]."""
        return float(math.prod(cbed_geometry(self.experiment).shape) * 8)

    def read(self, job: netCDF4.Dataset) -> np.ndarray:
        """Read the mean of the patterns of the open job file `job`, (1, kx, ky).

        Only the patterns of one tile of positions are in memory at a time.
        """
        e = self.experiment
        total = np.zeros(cbed_geometry(e).shape)
        for tile in _tiles(e, TILE_BYTES):
            total += self.rows(job, *_computed(e, *tile)).sum(axis=(0, 1))
        return total[None] / e.stored.positions

    def put(self, root: netCDF4.Dataset, place: Place, value: np.ndarray, error: np.ndarray | None) -> None:
        """Write the average `value` and its standard error `error`, both (1, kx, ky), to `place` in the result `root`.

        `error` is None without standard errors.
        """
        at = (place[0], place[1], self.depth, self.loss)
        root["cbed"][PACBED][at] = value[0]
        if error is not None:
            root["cbed"][PACBED + STANDARD_ERROR][at] = error[0]

    def put_nothing(self, root: netCDF4.Dataset, place: Place) -> None:
        """Write NaN to `place` in the result `root`."""
        nothing = np.full((1, *cbed_geometry(self.experiment).shape), np.nan)
        self.put(root, place, nothing, nothing if PACBED + STANDARD_ERROR in root["cbed"].variables else None)


TILE_BYTES = 16e6
"""Largest size of the patterns that are read at once for their mean [bytes]. It limits the memory."""


def _computed(experiment: Experiment, rows: slice, columns: slice) -> tuple[slice, slice]:
    """Rows and columns of stored positions, counted with the margin."""
    x, y = experiment.margin
    return slice(rows.start + x, rows.stop + x), slice(columns.start + y, columns.stop + y)


def _tiles(experiment: Experiment, room: float) -> Iterator[tuple[slice, slice]]:
    """Cut the stored positions into tiles (rows, columns) whose patterns take at most `room` bytes.

    A tile holds whole chunks of the result, because a chunk that is written twice is compressed twice. So the smallest
    tile, one chunk of positions, may take more than `room`.
    """
    rows, columns = len(experiment.stored.scan_x), len(experiment.stored.scan_y)
    fitting = int(room / (math.prod(cbed_geometry(experiment).shape) * 8))
    high, wide = fitting // columns, columns
    if high < min(CHUNK_POSITIONS, rows):
        wide = _of_whole_chunks(fitting // min(CHUNK_POSITIONS, rows))
    high = _of_whole_chunks(high)
    for row, column in product(range(0, rows, high), range(0, columns, wide)):
        yield slice(row, min(row + high, rows)), slice(column, min(column + wide, columns))


def _of_whole_chunks(positions: int) -> int:
    """The largest number of positions along an axis, up to `positions`, that is whole chunks; at least one chunk."""
    return max(CHUNK_POSITIONS, positions - positions % CHUNK_POSITIONS)


BLURRED_BLOCKS = 4
"""Size of a block of blurred patterns, in units of other blocks. Each such block reads all positions, so with smaller
blocks the job files would be read more often."""


def pattern_blocks(
    experiment: Experiment, blurring: Blurring, errors: bool, block_bytes: float
) -> Iterator[CbedBlock | PacbedBlock]:
    """Cut the patterns of an experiment into blocks that fit the memory, and add a block for their mean.

    Parameters
    ----------
    experiment : Experiment
        The experiment of the jobs; without patterns there are no blocks.
    blurring : Blurring
        Convolution of the patterns with the source.
    errors : bool
        Whether each pattern has standard errors. A block is then in memory three times: its sum, its mean and its
        spread.
    block_bytes : float
        Memory for a block [bytes]. Blurred patterns take `BLURRED_BLOCKS` times as much.

    Yields
    ------
    CbedBlock or PacbedBlock
        For each depth and energy: its blocks, then the block of the mean. Nothing without patterns.
    """
    if experiment.cbed_max is None:
        return
    e = experiment.patterns
    rows, columns = (slice(0, len(axis)) for axis in (e.stored.scan_x, e.stored.scan_y))
    (kx, ky), room = cbed_geometry(e).shape, block_bytes / (3 if errors else 1)
    for depth, loss in product(range(len(e.depth_slices)), range(len(e.energies))):
        if blurring.fwhm:
            step = max(1, int(BLURRED_BLOCKS * room / COPIES_OF_A_BLUR / (e.positions * ky * 8)))
            for first in range(0, kx, step):
                some = slice(first, min(first + step, kx))
                yield CbedBlock(e, depth, loss, rows, columns, some, blurring, errors)
        else:
            for tile in _tiles(e, room):
                yield CbedBlock(e, depth, loss, *tile, slice(0, kx), blurring, errors)
        yield PacbedBlock(e, depth, loss)


def add_patterns(
    root: netCDF4.Dataset, experiment: Experiment, axes: Axes, params: Mapping[str, Any], blurring: Blurring,
    with_errors: bool,
) -> None:  # fmt: skip
    """Create the group `cbed` of a result.

    Parameters
    ----------
    root : Dataset
        The result, open for writing.
    experiment : Experiment
        The experiment of the patterns.
    axes : Axes
        Defoci and configurations.
    params : mapping
        Params of the merge.
    blurring : Blurring
        Convolution with the source.
    with_errors : bool
        Whether the averages have standard errors.
    """
    e = experiment.stored
    geometry = cbed_geometry(e)
    add_cbed(root, e, axes, (geometry.angles_x, geometry.angles_y), merged=True)
    cbed, real = root["cbed"], e.real_dtype
    intensities = cbed[INTENSITIES]
    _without_cache(intensities)
    if with_errors and params["cbed"].get("standard_errors"):
        errors = add_variable(
            cbed, INTENSITIES + STANDARD_ERROR, real, intensities.dimensions, "1",
            "standard error of cbed_intensities over frozen-phonon configurations", chunks=intensities.chunking(),
        )  # fmt: skip
        _without_cache(errors)
    dimensions = ("cbed_defocus", "cbed_phonon", "cbed_slice", "cbed_plasmon_energies", "cbed_k_x", "cbed_k_y")
    add_variable(cbed, PACBED, real, dimensions, "1", "mean of the patterns over the scan (PACBED), not blurred")
    if with_errors:
        add_variable(
            cbed, PACBED + STANDARD_ERROR, real, dimensions, "1",
            "standard error of pacbed over frozen-phonon configurations",
        )  # fmt: skip
    add_variable(
        cbed, VACUUM_DISK, real, ("cbed_k_x", "cbed_k_y"), "1",
        "pattern of the probe without a specimen: fraction of the incident intensity per pixel", vacuum_disk(e),
    )  # fmt: skip
    if blurring.fwhm:
        for name in (INTENSITIES, INTENSITIES + STANDARD_ERROR):
            if name in cbed.variables:
                cbed[name].setncatts({"source_fwhm_nm": params["source_fwhm_nm"], **source_keys(params)})
        mark_cut(cbed, SOURCE_IS_CUT, "cbed", blurring.is_cut(experiment))


def vacuum_disk(experiment: Experiment) -> np.ndarray:
    """Compute the pattern of the probe of `experiment` without a specimen, (n_kx, n_ky).

    Aberrations do not change it.
    """
    # With descan, the angles of each tilt of a cone are counted from this tilt.
    tilted = [replace(experiment, tilt=tilt, precession=None) for tilt in experiment.tilts]
    disks = [cbed_geometry(one).pattern(probe(one, 0.0)) for one in tilted]
    return np.asarray(np.mean(disks, axis=0))


def _without_cache(variable: netCDF4.Variable) -> netCDF4.Variable:
    """Let the library keep only one chunk of a variable in memory. Blocks of patterns use each whole chunk once."""
    variable.set_var_chunk_cache(CHUNK_BYTES)
    return variable


def array_of(variable: netCDF4.Variable, where: Any) -> np.ndarray:
    """Read a part of `variable` of a job file in double precision.

    `where` is the index of the part, as netCDF4 takes it.
    """
    # Job files have no fill values. Searching for them would take longer than reading a small variable.
    variable.set_auto_mask(False)
    return np.asarray(variable[where], dtype=float)
