"""A merged result, opened for reading: one image, curve or pattern at a time, in nm, mrad and fractions of the beam."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
from numpy.typing import NDArray

from stemphony.errors import DamagedResultError, ResultError
from stemphony.experiment.blurring import SHAPE_NEUTRAL
from stemphony.experiment.scan import LINE, LIST, WINDOW
from stemphony.physics.source_size import Repeats
from stemphony.results.defocus_mean import DefocusMean
from stemphony.results.layout import LOSS_SPECTRUM, SOURCE_IS_CUT, STANDARD_ERROR
from stemphony.results.rest_atoms import RestAtoms, repeats_in

Floats = NDArray[np.float64]
Detector = str | tuple[float, float]
"""A named detector, or the inner and outer angle of a ring [mrad] that is made of the stored radial bins."""

NEAR_NM = 0.25
"""Largest distance between a wanted depth, defocus or position and the stored one that is used for it [nm]. Stored
depths are ends of slices, so a round number may be half a thick slice away from the stored depth."""


@dataclass(frozen=True)
class Positions:
    """The probe positions of a result.

    Attributes
    ----------
    kind : str
        `window`, `line` or `positions`, as in the block `scan`.
    x_nm, y_nm : (nx,), (ny,) array
        The two axes: x and y of a window, the distance along a line, or the numbers of the positions of a list.
    repeats : (int or None, int or None)
        How a window repeats with the specimen, see `physics.source_size.Repeats`.
    step_nm : (float, float)
        Distances of neighbouring positions. An axis with one position has the step of the other axis.
    """

    kind: str
    x_nm: Floats
    y_nm: Floats
    repeats: Repeats
    step_nm: tuple[float, float]

    @property
    def periodic(self) -> tuple[bool, bool]:
        """Whether the window repeats without a shift along x, and along y."""
        return self.repeats[0] == 0, self.repeats[1] == 0


@dataclass(frozen=True)
class Signal:
    """Fractions of the beam on one detector, or a deflection or phase, at each position.

    Attributes
    ----------
    name : str
        The detector.
    ring_mrad : (float, float) or None
        Its inner and outer angle.
    values : (nx, ny) array
    errors : (nx, ny) array or None
        Their standard errors over configurations.
    depth_nm : float
    defocus_nm : float or None
        None for the weighted mean over several defoci.
    source_nm : float
        FWHM of the source with which the values are blurred.
    is_cut : (nx, ny) array or None
        Pixels where this source reaches over the edge of the computed positions.
    source_shape : mapping
        Keys of the config that shape this source, with their values; empty for a round Gaussian.
    unit : str
        `1` for fractions of the beam, `mrad` for deflections, `rad` for phases.
    """

    name: str
    ring_mrad: tuple[float, float] | None
    values: Floats
    errors: Floats | None
    depth_nm: float
    defocus_nm: float | None
    source_nm: float
    is_cut: NDArray[np.bool_] | None = None
    source_shape: Mapping[str, Any] = field(default_factory=dict)
    unit: str = "1"


class OpenedResult:
    """A merged result. The file is opened for each question, so a later merge may replace it.

    Parameters
    ----------
    file : Path
        `stem.nc`, or a preview.

    Raises
    ------
    ResultError
        There is no such file.
    DamagedResultError
        The file cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        with self.root() as root:
            params = root["params"]
            self.title = str(getattr(root, "title", file.parent.name))
            self.mean = DefocusMean.of(root)
            self.semiangle_mrad = float(params["probe"].getncattr("semiangle_mrad"))
            self.has_patterns = "cbed" in root.groups
            images = root.groups.get("images")
            self.depths_nm = _numbers(images["adf_slice"]) if images is not None else np.empty(0)
            stacks = _stacks(images)
            self.detectors: dict[str, tuple[float, float]] = {
                name: (float(variable.inner_mrad), float(variable.outer_mrad))
                for name, variable in stacks.items()
                if "inner_mrad" in variable.ncattrs()
            }
            self.offsets_mrad = {
                name: (float(variable.offset_mrad[0]), float(variable.offset_mrad[1]))
                for name, variable in stacks.items()
                if "offset_mrad" in variable.ncattrs()
            }
            self.segments = {name for name, variable in stacks.items() if "begin_deg" in variable.ncattrs()}
            self.maps = {name: str(one.units) for name, one in stacks.items() if one.units in ("mrad", "rad")}
            self.preview = _pairs_of_preview(root)

    @contextmanager
    def root(self) -> Iterator[Any]:
        """The open file. Errors from reading a damaged file become DamagedResultError."""
        with self.open() as opened:
            try:
                yield opened
            except (IndexError, KeyError, RuntimeError) as error:
                raise self.damaged(error) from None

    def open(self) -> Any:
        """Open the file for a caller that also does other work while the file is open.

        Raises
        ------
        ResultError
            There is no such file.
        DamagedResultError
            It is truncated or damaged.
        """
        if not self.file.exists():
            raise ResultError(
                f"{self.file} does not exist: nothing is merged yet, or the name is another one. `stemphony status` "
                "says what is missing; `stemphony preview` merges what is finished into preview.nc, which can be given "
                "here."
            )
        try:
            opened = netCDF4.Dataset(self.file)
        except OSError as error:
            raise DamagedResultError(
                f"{self.file} is truncated or damaged ({error.strerror or error}). Delete it and run again: it is "
                "merged again, and no configuration is computed again."
            ) from None
        opened.set_auto_mask(False)
        return opened

    def damaged(self, error: Exception) -> DamagedResultError:
        """The error for a file that cannot be read as a result; its text includes that of `error`."""
        return DamagedResultError(
            f"{self.file}: cannot be read as a result ({error}). If it is one, delete it and run again: it is merged "
            "again, and no configuration is computed again."
        )

    @cached_property
    def atoms(self) -> RestAtoms | None:
        """The atoms at rest; None if the result does not hold them."""
        with self.root() as root:
            return RestAtoms.of(root)

    @cached_property
    def positions(self) -> Positions:
        """The probe positions of the images, or of the patterns if there are no images.

        Raises ResultError if the result has neither.
        """
        if not self.has_patterns:
            self._require_images()
        with self.root() as root:
            return self._positions(root, *(("images", "adf") if "images" in root.groups else ("cbed", "cbed")))

    @cached_property
    def pattern_positions(self) -> Positions:
        """The probe positions of the patterns, which may have their own scan."""
        with self.root() as root:
            # The window of the images may repeat, but patterns may have their own scan, which need not.
            return replace(self._positions(root, "cbed", "cbed"), repeats=(None, None))

    def _positions(self, root: Any, group: str, prefix: str) -> Positions:
        x, y = (root[group][f"{prefix}_position_{axis}"] for axis in "xy")
        kind = WINDOW
        if f"{prefix}_probe_x" in root[group].variables:
            kind = LINE if x.units == "nm" else LIST
        along = _numbers(x), _numbers(y)
        steps = [float(axis[1] - axis[0]) if len(axis) > 1 else 0.0 for axis in along]
        repeats = repeats_in(root, self.atoms) if kind == WINDOW else (None, None)
        # An axis with one position has no step, so the step of the other axis is used.
        steps = [step or max(steps) or 0.1 for step in steps]
        return Positions(kind, along[0], along[1], repeats, (steps[0], steps[1]))

    def depth(self, wanted_nm: float | None, stored: Sequence[float] | Floats | None = None) -> int:
        """Index of the stored depth nearest to `wanted_nm` [nm], None for the last one, among `stored` ones [nm].

        By default, the stored depths are those of the images.

        Raises
        ------
        ResultError
            No stored depth is near enough, see `NEAR_NM`.
        """
        depths = self.depths_nm if stored is None else np.asarray(stored)
        if wanted_nm is None:
            return len(depths) - 1
        return nearest(depths, wanted_nm, f"{self.file} has no depth of", "config `depths` decides what is stored")

    def signal(self, detector: Detector, depth_nm: float | None = None, defocus_nm: float | None = None) -> Signal:
        """Read one image. `detector` and `defocus_nm` [nm] are as for `signals`.

        `depth_nm` is the depth [nm], None for the last one. Raises ResultError if one of them is not stored.
        """
        return self.signals(detector, self.depth(depth_nm), defocus_nm)[0]

    def signals(
        self, detector: Detector, depth: int | slice = slice(None), defocus_nm: float | None = None
    ) -> list[Signal]:
        """Read the images at some depths, by default at all.

        Parameters
        ----------
        detector : str or (float, float)
            Name of an image, or the angles [mrad] of a ring that is summed from the radial bins.
        depth : int or slice
            Indices of stored depths.
        defocus_nm : float or None
            One defocus; None for the mean over all.

        Returns
        -------
        list of Signal
            One image (nx, ny) for each depth.

        Raises
        ------
        ResultError
            The result has no such image, or no bins that make up the ring.
        """
        self._require_images()
        chosen = range(len(self.depths_nm))[depth if isinstance(depth, slice) else slice(depth, depth + 1)]
        if not isinstance(detector, str):
            return [self._ring(detector, index, defocus_nm) for index in chosen]
        if detector not in self.detectors and detector not in self.maps:
            raise ResultError(
                f"{self.file} has no detector {detector!r}; it has {', '.join([*self.detectors, *self.maps]) or 'none'}"
                ". A pair of angles in mrad makes a ring of the stored radial bins."
            )
        found = []
        with self.root() as root:
            images = root["images"]
            errors = images.variables.get(detector + STANDARD_ERROR)
            for index in chosen:
                stack = np.asarray(images[detector][:, :, index], dtype=float)
                kept = None if errors is None else np.asarray(errors[:, :, index], dtype=float)
                found.append(
                    Signal(
                        detector, self.detectors.get(detector), self.mean.values(stack, defocus_nm),
                        self.mean.errors(stack, kept, defocus_nm), float(self.depths_nm[index]),
                        self.mean.defocus(defocus_nm), *_source(images, images[detector]),
                        self.maps.get(detector, "1"),
                    )
                )  # fmt: skip
        return found

    def _ring(self, angles: tuple[float, float], index: int, defocus_nm: float | None) -> Signal:
        """Sum the radial bins between two angles."""
        inner, outer = (float(angle) for angle in angles)
        with self.root() as root:
            adf = root["adf"]
            lower, upper = _numbers(adf["adf_detector_angle"]), _numbers(adf["adf_detector_upper_edge"])
            edges = np.append(lower, upper[-1])
            begin, end = (int(np.abs(edges - angle).argmin()) for angle in (inner, outer))
            if max(abs(edges[begin] - inner), abs(edges[end] - outer)) > 1e-3 or begin >= end:
                raise ResultError(
                    f"{self.file} has no bins that make up {inner:g}–{outer:g} mrad. Its radial bins have edges from "
                    f"{edges[0]:g} to {edges[-1]:g} mrad; the nearest ring is {edges[begin]:g}–"
                    f"{edges[max(end, begin + 1) if begin + 1 < len(edges) else begin]:g} mrad."
                )
            stack = np.asarray(adf["adf_intensities"][:, :, :, :, index, :, begin:end], dtype=float)
            stack = stack.sum(axis=-1).sum(axis=-1)  # all angles of the ring, all energy losses
            stack = np.moveaxis(stack, 3, 1)  # (defocus, configuration, x, y)
            source = _source(root["images"], adf["adf_intensities"])
        ring = (float(edges[begin]), float(edges[end]))
        return Signal(
            f"{ring[0]:g}–{ring[1]:g} mrad", ring, self.mean.values(stack, defocus_nm),
            self.mean.errors(stack, None, defocus_nm), float(self.depths_nm[index]), self.mean.defocus(defocus_nm),
            *source,
        )  # fmt: skip

    def center_of_mass(self, depth_nm: float | None = None, defocus_nm: float | None = None) -> tuple[Floats, float]:
        """Centre of mass along x and y [mrad] (nx, ny, 2), and its depth [nm].

        `depth_nm` is the depth [nm], None for the last one; `defocus_nm` one defocus [nm], None for the mean over all.

        Raises
        ------
        ResultError
            The result has no centre of mass, or no such depth or defocus.
        """
        self._require_images()
        index = self.depth(depth_nm)
        with self.root() as root:
            if "center_of_mass" not in root["adf"].variables:
                raise ResultError(
                    f"{self.file} has no centre of mass. With `adf: {{center_of_mass: true}}` the jobs record it."
                )
            stack = np.asarray(root["adf"]["center_of_mass"][:, :, :, :, index], dtype=float)
            if LOSS_SPECTRUM in root["adf"].variables:
                weights = np.asarray(root["adf"][LOSS_SPECTRUM][:, :, :, :, index], dtype=float)[..., None]
                stack = (np.nan_to_num(stack) * weights).sum(axis=-2) / weights.sum(axis=-2)
            else:
                stack = stack[..., 0, :]
            total = np.asarray(root["images"]["total_intensity"][:, :, index], dtype=float)[..., None]
        # The centre of mass of a sum of patterns is the mean of their centres, weighted with their intensities.
        moments = self.mean.values(np.moveaxis(stack, 3, 1) * total, defocus_nm)
        return moments / self.mean.values(total, defocus_nm), float(self.depths_nm[index])

    def _require_images(self) -> None:
        if not len(self.depths_nm):
            only = "diffraction patterns" if self.has_patterns else "waves"
            raise ResultError(f"{self.file} has {only} only. Images need `adf: {{enabled: true}}`.")


def nearest(stored: Floats, wanted: float, what: str, way_out: str, within: float = NEAR_NM) -> int:
    """Index of the stored value that is nearest to the wanted one.

    Parameters
    ----------
    stored : (n,) array
        Stored values [nm].
    wanted : float
        The wanted value [nm].
    what, way_out : str
        Begin of the text of the error (what was asked for), and its end (what to do).
    within : float
        Largest distance [nm].

    Returns
    -------
    int
        Counted from 0.

    Raises
    ------
    ResultError
        The nearest value is farther away than `within`.
    """
    index = int(np.abs(stored - wanted).argmin())
    if not abs(stored[index] - wanted) <= within:
        listed = ", ".join(f"{value:.4g}" for value in stored[:40]) + (" …" if len(stored) > 40 else "")
        raise ResultError(f"{what} {wanted:g} nm. Stored are {listed} nm; {way_out}.")
    return index


def _stacks(images: Any) -> dict[str, Any]:
    """The variables that are images of detectors, segments, deflections or phases, without the standard errors."""
    variables = {} if images is None else images.variables
    return {
        name: variable for name, variable in variables.items()
        if "adf_position_y" in variable.dimensions and "adf_slice" in variable.dimensions
        and not name.endswith(STANDARD_ERROR)
    }  # fmt: skip


def _pairs_of_preview(root: Any) -> str:
    """Text that figures of a preview show; empty for a whole result."""
    if not int(getattr(root, "partial", 0)):
        return ""
    held, missing = int(root.num_pairs_in), int(root.num_pairs_missing)
    return f"PREVIEW of an unfinished run: {held} of {held + missing} pairs"


def _numbers(variable: Any) -> Floats:
    return np.asarray(variable[:], dtype=float)


def _source(images: Any, variable: Any) -> tuple[float, NDArray[np.bool_] | None, dict[str, Any]]:
    """FWHM of the source [nm], the marks of pixels where it is cut, and the keys that shape it."""
    cut = np.asarray(images[SOURCE_IS_CUT][:], dtype=bool) if SOURCE_IS_CUT in images.variables else None
    shape = {key: variable.getncattr(key) for key in SHAPE_NEUTRAL if key in variable.ncattrs()}
    return float(getattr(variable, "source_fwhm_nm", 0.0)), cut, shape
