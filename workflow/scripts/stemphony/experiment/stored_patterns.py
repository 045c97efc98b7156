"""The diffraction patterns that jobs store: the block `cbed` in internal units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, TypeVar

from stemphony.errors import ConfigError
from stemphony.experiment.probe_positions import ProbePositions
from stemphony.experiment.scan import Scan
from stemphony.experiment.slice_choice import stored_depths
from stemphony.physics.slicing import Slices

Made = TypeVar("Made")

NEUTRAL: dict[str, Any] = {"scan": None, "depths": None, "pixel_mrad": None}
"""Keys of the block `cbed` that change numbers of a job and that version 0.1 did not have, with neutral values."""


@dataclass(frozen=True, kw_only=True)
class StoredPatterns(ProbePositions):
    """The diffraction patterns of an experiment, Eq. (P15); angles in rad.

    Attributes
    ----------
    depth_slices : tuple of int
        Numbers of slices after which images are stored, ascending.
    adf : bool
        Whether bins, rings and centre of mass are measured.
    cbed_max : float or None
        Half width of the stored patterns; None for no patterns.
    cbed_size : (int, int) or None
        Pixels of the stored patterns. None: the native pixels or, with `cbed_pixel`, as many as cover `cbed_max`.
    cbed_pixel : float or None
        Width of square pixels; None for pixels that follow the cell.
    cbed_depths : tuple of int or None
        Numbers of slices after which patterns are stored; None for those of the images.
    cbed_scan : Scan or None
        Probe positions of the patterns; None for those of the images. Other positions have waves of their own.
    """

    depth_slices: tuple[int, ...]
    adf: bool
    cbed_max: float | None
    cbed_size: tuple[int, int] | None
    cbed_pixel: float | None = None
    cbed_depths: tuple[int, ...] | None = None
    cbed_scan: Scan | None = None

    @property
    def detects(self) -> bool:
        """Whether jobs scan a probe, for signals of detectors or for diffraction patterns."""
        return self.adf or self.cbed_max is not None

    @property
    def pattern_depths(self) -> tuple[int, ...]:
        """Numbers of slices after which patterns are stored; empty without patterns."""
        if self.cbed_max is None:
            return ()
        return self.depth_slices if self.cbed_depths is None else self.cbed_depths

    @cached_property
    def wave_depths(self) -> tuple[int, ...]:
        """Numbers of slices after which waves are measured: for images, for patterns, or for both."""
        if not self.pattern_depths or self.cbed_scan is not None:
            return self.depth_slices
        return tuple(sorted({*(self.depth_slices if self.adf else ()), *self.pattern_depths}))

    @cached_property
    def patterns(self) -> Self:
        """The experiment whose scan and depths are those of the patterns.

        If patterns have a scan of their own, this experiment measures patterns only and computes each position.
        """
        if self.cbed_scan is None:
            return self if self.cbed_depths is None else replace(self, depth_slices=self.cbed_depths, cbed_depths=None)
        # Leave out everything that measures images. These are attributes of `Experiment`.
        none: dict[str, Any] = {
            "bins": (), "rings": {}, "segmented": {}, "sensitive": {}, "center_of_mass": False, "waves": None,
        }  # fmt: skip
        return replace(
            self, **positions_of(self.cbed_scan), **none, adf=False, symmetry=None, depth_slices=self.pattern_depths,
            cbed_depths=None, cbed_scan=None,
        )  # fmt: skip

    @cached_property
    def without_patterns(self) -> Self:
        """The experiment that measures images only."""
        return replace(self, cbed_max=None, cbed_size=None, cbed_pixel=None, cbed_depths=None, cbed_scan=None)


def positions_of(scan: Scan) -> dict[str, Any]:
    """Return the attributes of `ProbePositions` that `scan` decides."""
    return {
        "scan_x": scan.along[0], "scan_y": scan.along[1], "scan_kind": scan.kind, "places": scan.places,
        "margin": scan.margin,
    }  # fmt: skip


def own_keys(cbed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of `NEUTRAL` that a validated block `cbed` gives."""
    return {key: cbed[key] for key, neutral in NEUTRAL.items() if cbed.get(key, neutral) != neutral}


def own_scan_and_depths(cbed: Mapping[str, Any], lengths: Sequence[float], slices: Slices) -> dict[str, Any]:
    """Return the scan and depths of the patterns of a validated block `cbed`, as attributes of `StoredPatterns`.

    Parameters
    ----------
    cbed : mapping
        The block.
    lengths : (float, float)
        Lengths of the cell along x and y [Å].
    slices : Slices
        Slices of the specimen, whose ends are the possible depths.

    Returns
    -------
    dict
        `cbed_scan` and `cbed_depths`; each is None if the block does not have its own.

    Raises
    ------
    ConfigError
        As `Scan.of` and `stored_depths`, with keys of `cbed`.
    """
    scan, depths = cbed.get("scan"), cbed.get("depths")
    return {
        "cbed_scan": None if scan is None else of_patterns(lambda: Scan.of(scan, lengths)),
        "cbed_depths": None if depths is None else of_patterns(lambda: stored_depths(depths, slices)),
    }


def of_patterns(make: Callable[[], Made]) -> Made:
    """Return what `make` returns. If `make` raises a ConfigError, the error names keys of the block `cbed`."""
    try:
        return make()
    except ConfigError as error:
        what = str(error).partition(": ")[2].replace("`scan.", "`cbed.scan.")
        raise ConfigError(f"cbed.{error.where}", what.replace(" scan.", " cbed.scan.")) from None
