"""Write the results of all members of a sweep into one file. xarray opens it with the swept keys as axes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np

from stemphony import paths, provenance
from stemphony.errors import DamagedResultError
from stemphony.experiment.sweeps import value_in_words
from stemphony.results.layout import STANDARD_ERROR
from stemphony.results.opened import Floats, OpenedResult, Signal
from stemphony.store.atomic import atomic_path

UNITS = ("mrad", "nm", "kev", "angstrom", "deg", "mm", "k", "ev")
"""Units that the names of config keys end with."""
SAME = 1e-6
"""Places and depths that differ by less than this [nm] count as equal. It is far below any step of a scan."""
OWN = ("x", "y", "depth_nm", "position", "member")
"""Names of the file's own axes. The axis of a swept key gets another name."""


@dataclass(frozen=True)
class SweptAxis:
    """One swept key: the name of its axis, the whole key, and its values."""

    name: str
    key: str
    values: Sequence[Any]

    @property
    def is_number(self) -> bool:
        """Whether all values are numbers."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)

    @property
    def unit(self) -> str:
        """Unit of the values, from the end of the key; empty if there is none."""
        last = self.key.rpartition("_")[2]
        return last if last in UNITS else ""

    def text(self, value: Any) -> str:
        """A `value` of the axis with its unit."""
        unit = {"kev": "keV", "angstrom": "Å", "k": "K", "deg": "°", "ev": "eV"}.get(self.unit, self.unit)
        return f"{value_in_words(value)} {unit}".rstrip()


@dataclass(frozen=True)
class Combined:
    """All results of a sweep.

    Attributes
    ----------
    title : str
    labels : tuple of str
        Members, in the order of `places`.
    values : tuple of mapping
        Values of each member.
    axes : tuple of SweptAxis
        The swept keys of a grid; for a list, one axis with the members.
    results : tuple of OpenedResult
    notes : list of str
        What could not be combined, and why.
    """

    title: str
    labels: tuple[str, ...]
    values: tuple[Mapping[str, Any], ...]
    axes: tuple[SweptAxis, ...]
    results: tuple[OpenedResult, ...]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, params: Mapping[str, Any], files: paths.SweepPaths) -> Combined:
        """Open the results of all members.

        Parameters
        ----------
        params : mapping
            Params of rule combine_sweep.
        files : SweepPaths
            Files of the sweep.

        Returns
        -------
        Combined
            Opened results of the members, with the axes of the sweep.

        Raises
        ------
        ResultError
            A member has no merged result.
        DamagedResultError
            A result cannot be read.
        """
        members, given = params["members"], params["axes"]
        labels = tuple(member["label"] for member in members)
        names = _names(list(given)) if given else {}
        axes = tuple(SweptAxis(names[key], key, values) for key, values in (given or {}).items())
        results = tuple(OpenedResult(files.member(label).merged) for label in labels)
        return cls(
            params["title"], labels, tuple(member["values"] for member in members),
            axes or (SweptAxis("member", "member", labels),), results,
        )  # fmt: skip

    @property
    def files(self) -> list[Path]:
        """The merged results."""
        return [result.file for result in self.results]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values along each axis."""
        return tuple(len(axis.values) for axis in self.axes)

    @property
    def places(self) -> Iterator[tuple[int, ...]]:
        """Index of each member along the axes, in the order of the members: the last axis runs fastest."""
        return itertools.product(*(range(number) for number in self.shape))

    @cached_property
    def detectors(self) -> list[str]:
        """Images that any member has, in the order of the first member that has each."""
        return list(dict.fromkeys(
            name for result in self.results for name in (*sorted(result.detectors, key=result.detectors.__getitem__),
            *result.maps)
        ))  # fmt: skip

    @cached_property
    def have_same_positions(self) -> bool:
        """Whether all members have the same number and kind of probe positions."""
        kinds = {
            (r.positions.kind, len(r.positions.x_nm), len(r.positions.y_nm)) for r in self.results if self.detectors
        }
        return len(kinds) == 1

    def write(self, file: Path) -> None:
        """Write the combined results to `file`, one member after the other.

        Raises
        ------
        DamagedResultError
            A result cannot be read.
        StorageError
            The file cannot be written.
        """
        with atomic_path(file) as temporary, netCDF4.Dataset(temporary, "w", format="NETCDF4") as root:
            self._put_axes(root)
            if self.detectors:
                self._put_signals(root)
            else:
                self.notes.append("adf is off, so the members have no images, and the file only lists the members")
            root.notes = json.dumps(self.notes, ensure_ascii=False)

    def _put_axes(self, root: Any) -> None:
        root.title, root.program, root.version = self.title, provenance.PROGRAM, provenance.VERSION
        root.members = json.dumps(
            [{"label": label, "values": value} for label, value in zip(self.labels, self.values, strict=True)],
            ensure_ascii=False,
        )
        for axis in self.axes:
            root.createDimension(axis.name, len(axis.values))
            variable = root.createVariable(axis.name, "f8" if axis.is_number else str, (axis.name,))
            variable[:] = np.array(
                axis.values if axis.is_number else [value_in_words(value) for value in axis.values],
                dtype=float if axis.is_number else object,
            )
            variable.long_name, variable.units = axis.key, axis.unit or "1"
        dimensions = tuple(axis.name for axis in self.axes)
        label, identity = (root.createVariable(name, str, dimensions) for name in ("label", "id"))
        label.long_name, identity.long_name = "folder of the member", "id of the simulation"
        for place, text, result in zip(self.places, self.labels, self.results, strict=True):
            label[place] = text
            with result.root() as opened:
                identity[place] = str(opened.id)

    def _put_signals(self, root: Any) -> None:
        depths, has_depths = self._put_depths(root)
        along = self._put_positions(root) if self.have_same_positions else ()
        if not along:
            self.notes.append(
                "the members have different probe positions, so the file has their means over the scan only"
            )
        swept = tuple(axis.name for axis in self.axes)
        for name in self.detectors:
            for place, result in zip(self.places, self.results, strict=True):
                if name not in result.detectors and name not in result.maps:
                    self._note_once(f"not all members have {name}; it is NaN where it is missing")
                    continue
                signals = result.signals(name, slice(None) if has_depths else slice(-1, None))
                self._put_ring(root, name, swept, place, signals[-1])
                mean = _variable(
                    root, f"{name}_mean", (*swept, *depths), signals[-1].unit, f"mean of {name} over the scan"
                )
                mean[place] = [signal.values.mean() for signal in signals] if depths else signals[-1].values.mean()
                if along:
                    self._put_images(root, name, (*swept, *depths, *along), place, signals)

    @staticmethod
    def _put_images(
        root: Any, name: str, dimensions: Sequence[str], place: tuple[int, ...], signals: Sequence[Signal]
    ) -> None:
        stacks = {name: [signal.values for signal in signals]}
        errors = [signal.errors for signal in signals if signal.errors is not None]
        if len(errors) == len(signals):
            stacks[name + STANDARD_ERROR] = errors
        for key, stack in stacks.items():
            what = f"standard error of {name}" if key != name else name
            variable = _variable(root, key, dimensions, signals[-1].unit, what)
            whole = np.asarray(stack if "depth_nm" in dimensions else stack[-1])
            variable[place] = whole.reshape(variable.shape[len(place) :])

    @staticmethod
    def _put_ring(root: Any, name: str, swept: Sequence[str], place: tuple[int, ...], signal: Signal) -> None:
        """Angles of a detector, which may follow from a swept key."""
        for end, angle in zip(("inner", "outer"), signal.ring_mrad or (), strict=False):
            _variable(root, f"{name}_{end}_mrad", swept, "mrad", f"{end} angle of {name}")[place] = angle

    def _put_depths(self, root: Any) -> tuple[tuple[str, ...], bool]:
        """Make the axis of depths if all members have the same depths; else keep only the exit surface."""
        first = self.results[0].depths_nm
        same = all(_equal(result.depths_nm, first) for result in self.results)
        swept = tuple(axis.name for axis in self.axes)
        deepest = _variable(root, "exit_depth_nm", swept, "nm", "depth of the last stored slice")
        for place, result in zip(self.places, self.results, strict=True):
            deepest[place] = result.depths_nm[-1]
        if not same:
            self.notes.append(
                "the members have different depths, so the file has the last depth of each, exit_depth_nm"
            )
            return (), False
        root.createDimension("depth_nm", len(first))
        _coordinate(root, "depth_nm", first, "nm", "depth in the specimen")
        return ("depth_nm",), True

    def _put_positions(self, root: Any) -> tuple[str, ...]:
        """Make the axes of the probe positions."""
        first = self.results[0].positions
        axes = {"x": first.x_nm, "y": first.y_nm} if first.kind == "window" else {"position": first.x_nm}
        for name, values in axes.items():
            root.createDimension(name, len(values))
            others = (one.positions.x_nm if name != "y" else one.positions.y_nm for one in self.results)
            if all(_equal(other, values) for other in others):
                _coordinate(root, name, values, "nm" if first.kind != "positions" else "1", f"probe position {name}")
            else:
                self._note_once(
                    "the steps of the scans differ, so x and y count positions; the results of the members have places"
                )
        return tuple(axes)

    def _note_once(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _names(keys: Sequence[str]) -> dict[str, str]:
    """Names of axes: the part of a key after its last dot, or the whole key if this name would be taken."""
    last = [key.rpartition(".")[2] for key in keys]
    return {
        key: short if last.count(short) == 1 and short not in OWN else key.replace(".", "_")
        for key, short in zip(keys, last, strict=True)
    }


def _equal(one: Floats, other: Floats) -> bool:
    return len(one) == len(other) and bool(np.allclose(one, other, rtol=0, atol=SAME))


def _coordinate(root: Any, name: str, values: Floats, units: str, long_name: str) -> None:
    variable = root.createVariable(name, "f8", (name,))
    variable[:] = values
    variable.units, variable.long_name = units, long_name


def _variable(root: Any, name: str, dimensions: Sequence[str], units: str, long_name: str) -> Any:
    """A variable of the file, created at its first use. It is NaN where nothing is written."""
    if name in root.variables:
        return root[name]
    if name in root.dimensions:
        raise DamagedResultError(f"{name} is a swept key and a signal. Give the detector another name.")
    variable = root.createVariable(name, "f8", tuple(dimensions), zlib=True, fletcher32=True, fill_value=np.nan)
    variable.units, variable.long_name = units, long_name
    return variable
