"""The parts of a result that are exported: images and patterns at one depth and defocus, with axes, units and names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import ResultError
from stemphony.experiment.blurring import SHAPE_NEUTRAL
from stemphony.experiment.scan import LINE, LIST, WINDOW
from stemphony.export.counting import NO_NOISE, Counting
from stemphony.results.defocus_mean import DefocusMean
from stemphony.results.layout import STANDARD_ERROR
from stemphony.results.opened import Detector, OpenedResult, Signal

Floats = NDArray[np.floating[Any]]

PATTERNS = "cbed"
"""Name of the patterns in exported files."""

TOTAL = "total_intensity"
FRACTION = "fraction of the incident intensity"
READ_BYTES = 16_000_000
"""Most bytes of patterns that are read from the file at once. This limits the memory of an export."""


@dataclass(frozen=True)
class Axis:
    """One axis of an image or of patterns.

    Attributes
    ----------
    name, units, long_name : str
    values : (N,) array
        Places of the centres of the pixels.
    """

    name: str
    values: Floats
    units: str
    long_name: str

    @property
    def step(self) -> float | None:
        """Distance between neighbouring values, in `units`. None if there is only one value."""
        number = len(self.values)
        return float(self.values[-1] - self.values[0]) / (number - 1) if number > 1 else None


@dataclass(frozen=True)
class ExportedScan:
    """The positions of the probe.

    Attributes
    ----------
    kind : str
        `window`, `line` or `positions`.
    first : Axis
        x of a window, the distance along a line, or the number of a position in a list.
    second : Axis or None
        y of a window. None for a line or a list.
    places_nm : (N, 2) array or None
        x and y of the positions of a line or a list. None for a window.
    """

    kind: str
    first: Axis
    second: Axis | None
    places_nm: Floats | None

    @classmethod
    def of(cls, root: Any, group: str) -> ExportedScan:
        """Read the scan of the `group` `images` or `cbed` of an open result, whose `root` is the netCDF4 dataset."""
        prefix = {"images": "adf"}.get(group, group)
        variables = root[group].variables
        x, y = (np.asarray(variables[f"{prefix}_position_{axis}"][:], dtype=float) for axis in "xy")
        if f"{prefix}_probe_x" not in variables:
            return cls(
                WINDOW, Axis("x", x, "nm", "probe position along x"), Axis("y", y, "nm", "probe position along y"), None
            )
        places = np.stack([np.asarray(variables[f"{prefix}_probe_{axis}"][:], dtype=float)[:, 0] for axis in "xy"], -1)
        if variables[f"{prefix}_position_x"].units == "nm":
            return cls(LINE, Axis("distance", x, "nm", "distance along the line"), None, places)
        return cls(LIST, Axis("position", x, "1", "number of the position in the list"), None, places)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The only axis of a line or a list, or x and y of a window."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of positions along the first axis and along y."""
        return len(self.first.values), 1 if self.second is None else len(self.second.values)

    @property
    def area_angstrom2(self) -> float | None:
        """Area of one scan step [Å²]. A line, a list, and a scan with one position along an axis have none."""
        steps = [axis.step for axis in self.axes]
        if len(steps) == 2 and steps[0] and steps[1]:
            return 100.0 * steps[0] * steps[1]
        return None


@dataclass(frozen=True)
class Image:
    """One signal at each position of the scan.

    Attributes
    ----------
    name, long_name, units : str
    scan : ExportedScan
    values, errors : (nx, ny) array
        ny is 1 for lines and lists. `errors` are standard errors, or None.
    depth_nm, defocus_nm : float
        `defocus_nm` is None for the mean over several defoci.
    attributes : dict
        Angles of the detector, source size, noise.
    """

    name: str
    long_name: str
    units: str
    scan: ExportedScan
    values: Floats
    errors: Floats | None
    depth_nm: float
    defocus_nm: float | None
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Patterns:
    """The diffraction patterns of all positions at one depth. They are read in blocks.

    Attributes
    ----------
    scan : ExportedScan
    kx, ky : Axis
        Scattering angles [mrad].
    depth_nm, defocus_nm : float
        `defocus_nm` is None for the mean over several defoci.
    dtype : dtype
        Type of the numbers in the result.
    attributes : dict
        Facts about the noise.
    name, long_name, units : str
    """

    scan: ExportedScan
    kx: Axis
    ky: Axis
    depth_nm: float
    defocus_nm: float | None
    dtype: np.dtype[Any]
    attributes: dict[str, Any]
    _variable: Any
    _index: int
    _result: OpenedResult
    _mean: DefocusMean
    _counting: Counting
    name: str = PATTERNS
    long_name: str = "fraction of the incident intensity per pixel"
    units: str = "1"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Numbers of positions along x and y, and of pixels along kx and ky."""
        return (*self.scan.shape, len(self.kx.values), len(self.ky.values))

    @property
    def at_once(self) -> int:
        """Number of patterns that are read at once: as many as `READ_BYTES` hold in the form that the result stores."""
        sizes = self._variable.shape
        stored = int(sizes[0] * sizes[3] * sizes[6] * sizes[7] * self.dtype.itemsize)
        return max(1, READ_BYTES // stored)

    def block(self, x: slice, y: slice) -> Floats:
        """Read the patterns of the positions in the slices `x` and `y`, as an array (nx, ny, kx, ky).

        The patterns are fractions of the incident intensity, with the noise of the dose if one was asked for.

        Raises
        ------
        ResultError
            The file is damaged, or a value that needs noise is not finite.
        """
        columns = range(self.shape[0])[x]
        rows = range(self.shape[1])[y]
        found = np.empty((len(columns), len(rows), *self.shape[2:]), self.dtype)
        for i, column in enumerate(columns):
            for first in range(0, len(rows), self.at_once):
                part = rows[first : first + self.at_once]
                # Axes: defocus, y, configuration, kx, ky.
                stack = self._read(slice(column, column + 1), slice(part.start, part.stop))[:, 0]
                means = self._mean.values(np.moveaxis(stack, 2, 1), self._defocus_to_choose)
                found[i, first : first + len(part)] = means
        if self._counting.electrons:
            for i, j in product(range(len(columns)), range(len(rows))):
                found[i, j] = self._counting.counted(found[i, j], self.name, self.depth_nm, columns[i], rows[j])
        return found

    def _read(self, x: slice, y: slice) -> NDArray[np.float64]:
        try:
            return np.asarray(self._variable[:, x, y, :, self._index], dtype=float).sum(axis=4)  # all energy losses
        except RuntimeError as error:
            raise self._result.damaged(error) from None

    @property
    def _defocus_to_choose(self) -> float | None:
        """The chosen defocus if the result stores each defocus, else None."""
        return self.defocus_nm if self._variable.shape[0] > 1 else None

    def blocks(self, y_outermost: bool = False) -> Iterator[tuple[slice, slice, Floats]]:
        """All patterns in parts: for each x along y, or with `y_outermost` for each y along x.

        Each part comes with the slices of its positions along x and y, see `block`.
        """
        nx, ny = self.scan.shape
        outer, inner = (ny, nx) if y_outermost else (nx, ny)
        step = min(self.at_once, inner)
        for i in range(outer):
            for begin in range(0, inner, step):
                one, several = slice(i, i + 1), slice(begin, min(begin + step, inner))
                x, y = (several, one) if y_outermost else (one, several)
                yield x, y, self.block(x, y)


@contextmanager
def patterns_of(
    result: OpenedResult, depth_nm: float | None, defocus_nm: float | None, counting: Counting = NO_NOISE
) -> Iterator[Patterns]:
    """Open the patterns of `result` at one depth. They can be read while the context lasts.

    Parameters
    ----------
    depth_nm : float or None
        Depth below the entrance surface; the nearest stored one is used. None: the exit surface.
    defocus_nm : float or None
        None: the mean over the defoci.
    counting : Counting
        Noise of a dose.

    Yields
    ------
    Patterns
        Axes, and the patterns of one depth.

    Raises
    ------
    ResultError
        The result has no patterns, or none at this depth or defocus, or the scan has no area for a dose.
    """
    _require_patterns(result)
    with result.root() as root:
        cbed = root["cbed"]
        depths = np.asarray(cbed["cbed_slice"][:], dtype=float)
        index = result.depth(depth_nm, depths)
        variable = cbed["cbed_intensities"]
        kx, ky = (
            Axis(f"k{axis}", np.asarray(cbed[f"cbed_k_{axis}"][:], float), "mrad", f"scattering angle along {axis}")
            for axis in "xy"
        )
        scan = ExportedScan.of(root, "cbed")
        counting = counting.on(scan.area_angstrom2)
        dtype = np.dtype(variable.dtype)
        # The result may average patterns over defoci but not images, or the other way round.
        mean = replace(result.mean, is_averaged=variable.shape[0] < len(result.mean.defoci_nm))
        if defocus_nm is not None:
            mean.values(np.zeros((variable.shape[0], 1)), defocus_nm)  # raises if this defocus is not stored on its own
    # While this file is open, the caller writes patterns to another file. An error in the other file must not be
    # reported as damage of this one, so the context of `result.root` has ended before.
    with result.open() as kept:
        yield Patterns(
            scan, kx, ky, float(depths[index]), mean.defocus(defocus_nm), dtype, counting.attributes(),
            kept["cbed"]["cbed_intensities"], index, result, mean, counting,
        )  # fmt: skip


def pattern_depths(result: OpenedResult) -> list[float]:
    """Stored depths of the patterns [nm].

    Raises
    ------
    ResultError
        The result has no patterns.
    """
    _require_patterns(result)
    with result.root() as root:
        return [float(depth) for depth in root["cbed"]["cbed_slice"][:]]


def _require_patterns(result: OpenedResult) -> None:
    if not result.has_patterns:
        raise ResultError(f"{result.file} has no diffraction patterns. They need `cbed: {{enabled: true}}`.")


def images_of(
    result: OpenedResult,
    detectors: Sequence[Detector] = (),
    depth_nm: float | None = None,
    defocus_nm: float | None = None,
    counting: Counting = NO_NOISE,
) -> list[Image]:
    """Read images at one depth.

    Without `detectors`, these are the images of detectors and segments, deflections, phases and the centre of mass.
    With the noise of `counting`, only images of detectors and segments are read. Deflections and phases have another
    noise, which is not simulated.

    Parameters
    ----------
    depth_nm : float or None
        Depth below the entrance surface; the nearest stored one is used. None: the exit surface.
    defocus_nm : float or None
        None: the mean over the defoci.

    Returns
    -------
    list of Image
        At least one image.

    Raises
    ------
    ResultError
        The result lacks the requested data, or noise is asked for a deflection or a phase.
    """
    with result.root() as root:
        scan = ExportedScan.of(root, "images")
        others = [
            name
            for name, variable in root["images"].variables.items()
            if len(variable.dimensions) == 5 and not name.endswith(STANDARD_ERROR) and name not in result.detectors
        ]
        has_center = "center_of_mass" in root["adf"].variables
        sectors = {
            name: {key: float(variable.getncattr(key)) for key in SECTOR}
            for name, variable in root["images"].variables.items()
            if set(SECTOR) <= set(variable.ncattrs())
        }
    counting = counting.on(scan.area_angstrom2)
    named: list[Detector] = [name for name, _ in sorted(result.detectors.items(), key=lambda entry: entry[1])]
    phases: list[Detector] = [*(name for name in others if name != TOTAL), *([CENTER] if has_center else [])]
    found: list[Image] = []
    for detector in dict.fromkeys(detectors) or [*named, *([] if counting.electrons else phases)]:
        if counting.electrons and detector in phases:
            raise ResultError(
                f"{detector} is no number of electrons, so --dose cannot add noise. Export it without --dose."
            )
        if detector == CENTER and has_center:
            found += _centers(result, scan, depth_nm, defocus_nm)
        elif detector in others:
            found.append(_other(result, scan, str(detector), depth_nm, defocus_nm, counting))
        else:
            signal = result.signal(detector, depth_nm, defocus_nm)
            found.append(_counted(_of_signal(signal, scan, sectors.get(signal.name, {})), counting))
    if not found:
        raise ResultError(f"{result.file} has no named detectors. Give two angles in mrad: --detector 60-120.")
    return found


CENTER = "com"
"""Name of the centre of mass. Its images are `com_x` and `com_y`."""


SECTOR = ("begin_deg", "end_deg")
"""Attributes of a segment: the azimuths where it begins and ends [degrees from +x towards +y]."""


def _of_signal(signal: Signal, scan: ExportedScan, sector: dict[str, float]) -> Image:
    attributes: dict[str, Any] = {}
    if signal.ring_mrad is not None:
        attributes = {"inner_mrad": signal.ring_mrad[0], "outer_mrad": signal.ring_mrad[1], **sector}
    if signal.source_nm:
        attributes |= {"source_fwhm_nm": signal.source_nm, **signal.source_shape}
    return Image(
        _plain(signal.name), f"{signal.name}, {FRACTION}", "1", scan, signal.values, signal.errors, signal.depth_nm,
        signal.defocus_nm, attributes,
    )  # fmt: skip


def _plain(name: str) -> str:
    """A name that every file system and program accepts. A ring `80–120 mrad` becomes ring_80_120."""
    ring = re.fullmatch(r"([\d.]+)–([\d.]+) mrad", name)
    return f"ring_{ring[1]}_{ring[2]}" if ring else name


def _other(
    result: OpenedResult,
    scan: ExportedScan,
    name: str,
    depth_nm: float | None,
    defocus_nm: float | None,
    counting: Counting,
) -> Image:
    """An image that is not the signal of a ring: deflection, phase or total intensity."""
    index = result.depth(depth_nm)
    with result.root() as root:
        variable = root["images"][name]
        stack = np.asarray(variable[:, :, index], dtype=float)
        errors = root["images"].variables.get(name + STANDARD_ERROR)
        kept = None if errors is None else np.asarray(errors[:, :, index], dtype=float)
        keys = ("boundary_conditions", "source_fwhm_nm", *SHAPE_NEUTRAL)
        image = Image(
            name, str(variable.long_name), str(variable.units), scan, result.mean.values(stack, defocus_nm),
            result.mean.errors(stack, kept, defocus_nm), float(result.depths_nm[index]),
            result.mean.defocus(defocus_nm),
            {key: variable.getncattr(key) for key in keys if key in variable.ncattrs()},
        )  # fmt: skip
    return _counted(image, counting)


def _centers(result: OpenedResult, scan: ExportedScan, depth_nm: float | None, defocus_nm: float | None) -> list[Image]:
    values, depth = result.center_of_mass(depth_nm, defocus_nm)
    return [
        Image(
            f"{CENTER}_{axis}", f"centre of mass of the diffraction pattern along {axis}", "mrad", scan, values[..., i],
            None, depth, result.mean.defocus(defocus_nm),
        )
        for i, axis in enumerate("xy")
    ]  # fmt: skip


def _counted(image: Image, counting: Counting) -> Image:
    if not counting.electrons:
        return image
    noisy = counting.counted(image.values, image.name, image.depth_nm)
    attributes = {**image.attributes, **counting.attributes()}
    return Image(
        image.name, image.long_name, image.units, image.scan, noisy, None, image.depth_nm, image.defocus_nm, attributes
    )


def facts(result: OpenedResult) -> dict[str, Any]:
    """Facts about the whole result: energy, aperture, aberrations, defoci, and the id of the simulation."""
    with result.root() as root:
        probe = root["params"]["probe"]
        texts = {"simulation_id": "id", "program": "program", "version": "version", "git_commit": "git_commit"}
        found: dict[str, Any] = {"title": result.title}
        found |= {key: str(root.getncattr(name)) for key, name in texts.items() if name in root.ncattrs()}
        keys = {"beam_energy_kev": "energy_kev", "semiangle_mrad": "semiangle_mrad", "tilt_mrad": "tilt_mrad",
                "aberrations": "aberrations"}  # fmt: skip
        for key, name in keys.items():
            if name in probe.ncattrs():
                value = probe.getncattr(name)
                found[key] = value if isinstance(value, str) else float(value)
    if result.preview:
        found["preview"] = result.preview
    mean = result.mean
    found["defoci_nm"] = json.dumps([float(value) for value in mean.defoci_nm])
    found["defocus_weights"] = json.dumps([float(value) for value in mean.weights])
    found["orientation"] = ORIENTATION
    return found


ORIENTATION = (
    "x to the right and y up looks against the beam; kx and ky have the directions of x and y; positive defocus is "
    "underfocus"
)


def facts_of(one: Image | Patterns) -> dict[str, Any]:
    """Facts about one image, or about the patterns at one depth."""
    found: dict[str, Any] = {"depth_nm": one.depth_nm}
    if one.defocus_nm is not None:
        found["defocus_nm"] = one.defocus_nm
    return {**found, **one.attributes}
