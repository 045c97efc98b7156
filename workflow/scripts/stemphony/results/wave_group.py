"""The group `waves` of job files and results: incident probe, exit waves, and intensity along the depth.

Complex numbers have a last dimension `part` of length 2: the real and the imaginary part. Every reader of NetCDF can
open this. A compound type would not do: xarray reads it as a structured array and cannot compute with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import netCDF4
import numpy as np

from stemphony.compute.recorder import StoredWaves
from stemphony.compute.stored_waves import fields, incident_wave
from stemphony.experiment.model import Experiment
from stemphony.physics.constants import NM
from stemphony.results.layout import NM_PER_ANGSTROM, STANDARD_ERROR, Axes, add_variable, chunk_shape
from stemphony.results.merge_task import Place

GROUP, PART = "waves", "part"
"""Names of the group, and of the dimension of complex numbers."""

EXIT, INTENSITY, PROFILE, SECTION, COLUMNS, PROBE = (
    "exit_wave", "exit_intensity", "depth_profile", "depth_section", "column_intensity", "probe_wave",
)  # fmt: skip
"""Names of the variables."""

_PREFIX = ("waves_defocus", "waves_phonon", "waves_position")
"""First dimensions of the variables that jobs fill."""


def add_waves(root: netCDF4.Dataset, experiment: Experiment, axes: Axes, with_errors: bool, with_probe: bool) -> None:
    """Create the group of a result with its axes. The merge's blocks fill exit waves and profiles.

    Parameters
    ----------
    root : Dataset
        The result, open for writing.
    experiment : Experiment
        The experiment of the jobs.
    axes : Axes
        Defoci and configurations.
    with_errors : bool
        Whether there are standard errors over configurations.
    with_probe : bool
        Whether to store the incident probe of each defocus.
    """
    e, waves = experiment, _group_with_axes(root, experiment, axes)
    if with_probe:
        dimensions = ("waves_defocus", "waves_x", "waves_y", PART)
        probe = _variable(waves, e, PROBE, dimensions, "nm-1", "incident probe in the middle of the grid (P30)")
        for index, defocus in enumerate(axes.defocus_nm):
            probe[index] = _as_numbers(NM * incident_wave(e, defocus))
    if e.waves is None:
        return
    grid, units = (*_PREFIX, "waves_x", "waves_y"), "1" if e.waves.plane else "nm-2"
    created = [*_add_signals(waves, e), _variable(waves, e, INTENSITY, grid, units, "intensity of the exit wave (P30)")]
    if with_errors:
        for one in created:
            text = f"standard error of {one.name} over frozen-phonon configurations"
            _variable(waves, e, one.name + STANDARD_ERROR, one.dimensions, one.units, text)


def put_waves(root: netCDF4.Dataset, experiment: Experiment, axes: Axes, stored: StoredWaves) -> None:
    """Create the group of the job file `root` and write the waves `stored`.

    `experiment` is that of the job and stores exit waves. `axes` has its defocus and configuration.
    """
    e, waves = experiment, _group_with_axes(root, experiment, axes)
    assert e.waves is not None
    _add_signals(waves, e)
    waves[EXIT][0, 0] = _as_numbers(stored.exit_wave * (1.0 if e.waves.plane else NM))
    if stored.profile is not None:
        assert stored.section is not None
        waves[PROFILE][0, 0] = stored.profile * NM
        waves[SECTION][0, 0] = stored.section * NM**2
        waves[COLUMNS][0, 0] = stored.columns


def _group_with_axes(root: netCDF4.Dataset, e: Experiment, axes: Axes) -> netCDF4.Group:
    """Create the group with the coordinates of waves and positions."""
    waves, real = root.createGroup(GROUP), e.real_dtype
    for axis, count, step in zip("xy", e.grid.gpts, e.grid.sampling, strict=True):
        values = np.arange(count) * step * NM_PER_ANGSTROM
        _axis(waves, f"waves_{axis}", real, "nm", f"{axis}, counted from waves_origin_{axis}", values)
    _axis(waves, "waves_defocus", real, "nm", "defocus, positive is underfocus", axes.defocus_nm)
    _axis(waves, PART, "i1", "1", "part of a complex number", [0, 1])
    waves[PART].flag_values, waves[PART].flag_meanings = np.array([0, 1], dtype=np.int8), "real imaginary"
    if e.waves is None:
        return waves
    _axis(waves, "waves_phonon", "i4", "1", "index of the frozen-phonon configuration", axes.configurations)
    waves.createDimension("waves_position", len(e.waves.places))
    for index, axis in enumerate("xy"):
        places = np.array([place[index] for place in e.waves.places]) * NM_PER_ANGSTROM
        add_variable(
            waves, f"waves_probe_{axis}", real, ("waves_position",), "nm", f"position of the probe, {axis}", places
        )
        text = f"{axis} of the first point of the wave in the specimen"
        add_variable(waves, f"waves_origin_{axis}", real, ("waves_position",), "nm", text, origins(e)[:, index])
    return waves


def origins(e: Experiment) -> np.ndarray:
    """Where the grid of each wave of the experiment `e` begins, (positions, 2) [nm]."""
    assert e.waves is not None
    return np.array([origin for origin, _ in fields(e)]) * NM_PER_ANGSTROM


def _add_signals(waves: netCDF4.Group, e: Experiment) -> list[netCDF4.Variable]:
    """Create the variables that jobs fill."""
    assert e.waves is not None
    units, what = ("1", "relative to the plane wave") if e.waves.plane else ("nm-1", "of the probe")
    made = [_variable(waves, e, EXIT, (*_PREFIX, "waves_x", "waves_y", PART), units, f"exit wave {what} (P30)")]
    if not e.waves.depth_profile:
        return made
    depths = np.array([0.0, *e.slicing.depths[: e.depth_slices[-1]]]) * NM_PER_ANGSTROM
    _axis(waves, "waves_slice", e.real_dtype, "nm", "depth below the entrance surface", depths)
    waves.createDimension("waves_column", len(e.waves.columns))
    for index, axis in enumerate("xy"):
        middles = np.array([column[index] for column in e.waves.columns]) * NM_PER_ANGSTROM
        text = f"middle of the column, {axis}"
        add_variable(waves, f"waves_column_{axis}", e.real_dtype, ("waves_column",), "nm", text, middles)
    along_x = (*_PREFIX, "waves_x", "waves_slice")
    columns = (*_PREFIX, "waves_column", "waves_slice")
    made += [
        _variable(waves, e, PROFILE, along_x, "nm-1", "intensity, integrated along y (P31)"),
        _variable(
            waves, e, SECTION, along_x, "nm-2", "intensity in the plane of x and depth through the position (P31)"
        ),
        _variable(waves, e, COLUMNS, columns, "1", "share of the beam inside the radius of the column (P31)"),
    ]
    made[-1].radius_nm = e.waves.radius * NM_PER_ANGSTROM
    return made


def _axis(waves: netCDF4.Group, name: str, dtype: Any, units: str, long_name: str, values: Any) -> None:
    waves.createDimension(name, len(values))
    add_variable(waves, name, dtype, (name,), units, long_name, values)


def _variable(
    waves: netCDF4.Group, e: Experiment, name: str, dimensions: tuple[str, ...], units: str, long_name: str
) -> netCDF4.Variable:
    shape = [1 if name in _PREFIX else len(waves.dimensions[name]) for name in dimensions]
    chunk = chunk_shape(tuple(shape), e.real_dtype.itemsize)
    return add_variable(waves, name, e.real_dtype, dimensions, units, long_name, chunks=chunk)


def _as_numbers(values: np.ndarray) -> np.ndarray:
    """Real and imaginary part on a last axis."""
    return np.stack([values.real, values.imag], axis=-1)


@dataclass(frozen=True)
class ExitBlock:
    """The exit wave of one position: real part, imaginary part and intensity as quantities."""

    experiment: Experiment
    position: int
    group: str = GROUP
    first: int = 3

    @property
    def bytes(self) -> float:
        """Size of one sum [bytes]."""
        nx, ny = self.experiment.grid.gpts
        return float(nx * ny * 3 * 8)

    def read(self, job: netCDF4.Dataset) -> np.ndarray:
        """Read the wave and its intensity from the open job file `job`, (x, y, quantity)."""
        wave = _read(job, EXIT, self.position)
        return np.concatenate([wave, np.square(wave).sum(axis=-1, keepdims=True)], axis=-1)

    def put(self, root: netCDF4.Dataset, place: Place, value: np.ndarray, error: np.ndarray | None) -> None:
        """Write averages `value` (x, y, quantity) of what `read` returns to `place` in the result `root`.

        `error` are their standard errors, of the same shape, or None.
        """
        at = (*place, self.position)
        for end, values in (("", value), (STANDARD_ERROR, error)):
            if values is not None:
                root[GROUP][EXIT + end][at] = values[..., :2]
                root[GROUP][INTENSITY + end][at] = values[..., 2]

    def put_nothing(self, root: netCDF4.Dataset, place: Place) -> None:
        """Write NaN to `place` in the result `root`."""
        nothing = np.full((*self.experiment.grid.gpts, 3), np.nan)
        self.put(root, place, nothing, nothing if EXIT + STANDARD_ERROR in root[GROUP].variables else None)


@dataclass(frozen=True)
class DepthBlock:
    """One variable of the intensity along the depth at one position."""

    experiment: Experiment
    position: int
    name: str
    group: str = GROUP

    @property
    def _shape(self) -> tuple[int, int]:
        request = self.experiment.waves
        assert request is not None
        first = len(request.columns) if self.name == COLUMNS else self.experiment.grid.gpts[0]
        return first, self.experiment.depth_slices[-1] + 1

    @property
    def first(self) -> int:
        """Number of quantities that have standard errors: all depths."""
        return self._shape[1]

    @property
    def bytes(self) -> float:
        """Size of one sum [bytes]."""
        return float(self._shape[0] * self._shape[1] * 8)

    def read(self, job: netCDF4.Dataset) -> np.ndarray:
        """Read the intensity from the open job file `job`, (x or column, depth)."""
        return _read(job, self.name, self.position)

    def put(self, root: netCDF4.Dataset, place: Place, value: np.ndarray, error: np.ndarray | None) -> None:
        """Write averages `value` (x or column, depth) of what `read` returns to `place` in the result `root`.

        `error` are their standard errors, of the same shape, or None.
        """
        root[GROUP][self.name][(*place, self.position)] = value
        if error is not None:
            root[GROUP][self.name + STANDARD_ERROR][(*place, self.position)] = error

    def put_nothing(self, root: netCDF4.Dataset, place: Place) -> None:
        """Write NaN to `place` in the result `root`."""
        nothing = np.full(self._shape, np.nan)
        self.put(root, place, nothing, nothing if self.name + STANDARD_ERROR in root[GROUP].variables else None)


def _read(job: netCDF4.Dataset, name: str, position: int) -> np.ndarray:
    variable = job.groups[GROUP].variables[name]
    variable.set_auto_mask(False)
    return np.asarray(variable[0, 0, position], dtype=float)


def wave_blocks(experiment: Experiment) -> Iterator[ExitBlock | DepthBlock]:
    """Cut the stored waves of `experiment` into blocks; none without exit waves."""
    if experiment.waves is None:
        return
    for position in range(len(experiment.waves.places)):
        yield ExitBlock(experiment, position)
        if experiment.waves.depth_profile:
            for name in (PROFILE, SECTION, COLUMNS):
                yield DepthBlock(experiment, position, name)
