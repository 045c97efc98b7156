"""Export the group `waves` of a result: exit waves, incident probe, and intensity along the depth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stemphony.export.contents import Axis
from stemphony.export.lazy import one_after_the_other
from stemphony.results.opened import OpenedResult
from stemphony.results.wave_group import GROUP, PART

PREFIX = "waves_"
"""First part of the names of dimensions in the result. Exported names do not have it."""

_PICTURE = ("waves_y", "waves_slice")
"""Dimensions that become the rows of a picture."""


@dataclass(frozen=True)
class Wave:
    """One variable of the group, which is read in parts. If the result stores real and imaginary part, it is complex.

    The last two axes are those of a picture: y and x, depth and x, or depth and column.

    Attributes
    ----------
    name, long_name, units : str
    axes : tuple of Axis
    attributes : dict
    """

    name: str
    long_name: str
    units: str
    axes: tuple[Axis, ...]
    attributes: dict[str, Any]
    _variable: Any
    _is_complex: bool
    _swaps: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(len(axis.values) for axis in self.axes)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers."""
        real = np.dtype(self._variable.dtype)
        return np.result_type(real, np.complex64) if self._is_complex else real

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a part: one picture."""
        return (*(1 for _ in self.axes[:-2]), *self.shape[-2:])

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        """Read a part. Each item of `key` is a slice."""
        wanted = (*key[:-2], key[-1], key[-2]) if self._swaps else key
        found = np.asarray(self._variable[wanted])
        if self._is_complex:
            found = (found[..., 0] + 1j * found[..., 1]).astype(self.dtype)
        return np.ascontiguousarray(np.swapaxes(found, -1, -2) if self._swaps else found)

    def lazy(self) -> Any:
        """An array of dask that reads from the open result."""
        import dask.array

        return dask.array.from_array(self, chunks=self.chunks, name=False, asarray=False)


def has_waves(result: OpenedResult) -> bool:
    """Return whether a result has the group `waves`."""
    with result.root() as root:
        return GROUP in root.groups


@contextmanager
def waves_of(result: OpenedResult) -> Iterator[list[Wave]]:
    """Open the waves of a result, with all defoci, configurations and positions."""
    with result.open() as root:
        group = root[GROUP]
        yield [_wave(group, variable) for name, variable in group.variables.items() if _is_signal(name, variable)]


def _is_signal(name: str, variable: Any) -> bool:
    return name not in variable.dimensions and f"{PREFIX}defocus" in variable.dimensions


def _wave(group: Any, variable: Any) -> Wave:
    names = list(variable.dimensions)
    is_complex = names[-1] == PART
    names = names[:-1] if is_complex else names
    swaps = names[-1] in _PICTURE and names[-2] == f"{PREFIX}x"
    if swaps:
        names[-2:] = names[:-3:-1]
    attributes = {key: variable.getncattr(key) for key in variable.ncattrs() if key not in ("long_name", "units")}
    kept = {key: value for key, value in attributes.items() if not key.startswith("_")}
    axes = tuple(_axis(group, name) for name in names)
    return Wave(variable.name, variable.long_name, variable.units, axes, kept, variable, is_complex, swaps)


def _axis(group: Any, name: str) -> Axis:
    short = name.removeprefix(PREFIX)
    if name in group.variables:
        one = group[name]
        return Axis(short, np.asarray(one[:], dtype=float), one.units, one.long_name)
    return Axis(short, np.arange(float(len(group.dimensions[name]))), "1", f"number of the {short}")


def write_store(path: Path, result: OpenedResult, facts: dict[str, Any]) -> None:
    """Add the group `waves` of `result`, with the positions of probes and columns, to the Zarr store `path`.

    If there is no store, the function makes it with `facts` about the whole result as its attributes.
    """
    import xarray
    import zarr

    settings: dict[str, Any] = {"zarr_format": 2, "consolidated": False}
    with one_after_the_other(), waves_of(result) as waves:
        if not path.exists():
            xarray.Dataset(attrs=facts).to_zarr(path, mode="w", **settings)
        coordinates: dict[str, Any] = {
            axis.name: (axis.name, axis.values, {"units": axis.units, "long_name": axis.long_name})
            for wave in waves
            for axis in wave.axes
        }
        with result.root() as root:
            coordinates |= dict(_places(root[GROUP]))
        values = {
            wave.name: (
                [axis.name for axis in wave.axes], wave.lazy(),
                {"long_name": wave.long_name, "units": wave.units, **wave.attributes},
            )
            for wave in waves
        }  # fmt: skip
        xarray.Dataset(values, coords=coordinates).to_zarr(path, group=GROUP, mode="a", **settings)
    zarr.consolidate_metadata(str(path), zarr_format=2)


def _places(group: Any) -> Iterator[tuple[str, Any]]:
    """Coordinates along the positions and columns: the places of the probe, of the wave's origin, and of the column."""
    for name, one in group.variables.items():
        if name not in group.dimensions and len(one.dimensions) == 1:
            attributes = {"units": one.units, "long_name": one.long_name}
            yield name.removeprefix(PREFIX), (one.dimensions[0].removeprefix(PREFIX), np.asarray(one[:]), attributes)


def write_hspy(path: Path, wave: Wave, facts: dict[str, Any]) -> None:
    """Write one `wave` to the new file `path` as a signal of pictures.

    Defocus, configuration and position are navigation axes. `facts` about the whole result become metadata.
    """
    from rsciio.hspy import file_writer

    told = {**facts, **wave.attributes, "units": wave.units, "long_name": wave.long_name}
    signal = {
        "data": wave.lazy(),
        "axes": [_signal_axis(axis, number, wave.ndim) for number, axis in enumerate(wave.axes)],
        "metadata": {
            "General": {"title": wave.name},
            "Signal": {"signal_type": "", "quantity": f"{wave.long_name} ({wave.units})"},
        },
        "original_metadata": {"stemphony": {key: _plain(value) for key, value in told.items()}},
        "package_info": {}, "learning_results": {}, "attributes": {"_lazy": False, "ragged": False}, "models": {},
        "tmp_parameters": {},
    }  # fmt: skip
    with one_after_the_other():
        file_writer(path, signal, chunks=wave.chunks, compression="gzip", compression_opts=1, show_progressbar=False)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _signal_axis(axis: Axis, number: int, axes: int) -> dict[str, Any]:
    """An axis for HyperSpy. Its steps must be equal there, so unequal slices or defoci become numbers 0, 1, 2 …"""
    is_even = len(axis.values) < 3 or bool(np.allclose(np.diff(axis.values), axis.step or 1.0, rtol=1e-3))
    scale, offset = (axis.step or 1.0, float(axis.values[0])) if is_even else (1.0, 0.0)
    return {
        "_type": "UniformDataAxis", "name": axis.name, "units": axis.units if is_even and axis.units != "1" else "",
        "size": len(axis.values), "scale": scale, "offset": offset, "navigate": number < axes - 2,
        "index_in_array": number, "is_binned": False,
    }  # fmt: skip


def uneven(waves: Sequence[Wave]) -> list[str]:
    """Return the names of the axes of `waves` whose values HyperSpy cannot hold, because their steps differ."""
    axes = {axis.name: axis for wave in waves for axis in wave.axes}
    return [
        name for name, axis in axes.items()
        if len(axis.values) > 2 and not np.allclose(np.diff(axis.values), axis.step or 1.0, rtol=1e-3)
    ]  # fmt: skip
