"""Statistical precision of a result: relative standard errors, and how many configurations a smaller error needs.

The error of a detector is the root mean square, over positions, of the standard error, divided by the mean of the
image. Deflections and phases have both signs and a mean near zero. Their error is divided by the contrast instead,
which is the standard deviation of the image over the positions. Errors fall as 1/√N with the number N of
configurations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
from numpy.typing import NDArray

from stemphony.errors import DamagedResultError
from stemphony.experiment.scan_edges import ScanEdges
from stemphony.paths import ResultPaths, defocus_id
from stemphony.results.layout import ORBIT, STANDARD_ERROR

FEWEST = 8
"""Fewest configurations for which an error is called known. The standard error itself is then uncertain by 27 %."""


@dataclass(frozen=True)
class Precision:
    """Relative standard errors of one detector, at the depth where they are largest.

    Attributes
    ----------
    configurations : int
        Number N of configurations that were averaged.
    error : float
        Root mean square over positions of the standard error, divided by the mean of the image or by its contrast.
    median, brightest : float
        Standard error divided by the signal, or by the contrast: median over positions, and at the brightest position.
    depth_nm : float
    place : (int, int)
        Index of the defocus and of the depth.
    is_signed : bool
        Whether the image is a deflection or a phase. Then its errors are relative to the contrast.
    is_segment : bool
        Whether the image is one segment of a detector.
    """

    detector: str
    configurations: int
    error: float
    median: float
    brightest: float
    depth_nm: float
    place: tuple[int, int]
    is_signed: bool = False
    is_segment: bool = False

    @property
    def is_uncertain(self) -> bool:
        """Whether there are too few configurations to know the error itself, see `FEWEST`."""
        return self.configurations < FEWEST

    @property
    def uncertainty(self) -> float:
        """Relative standard deviation of the standard error of one position, 1/√(2(N − 1)) for Gaussian signals."""
        return 1 / math.sqrt(2 * (self.configurations - 1))

    def needed(self, target: float) -> int:
        """Smallest number of configurations, at least 2, whose relative error is at most `target`."""
        return max(2, math.ceil(self.configurations * (self.error / target) ** 2 - 1e-9))

    def after(self, configurations: int) -> float:
        """Factor by which errors change with another number of `configurations`; below 1 for more of them."""
        return math.sqrt(self.configurations / configurations)


def relative_error(
    images: NDArray[np.float64], errors: NDArray[np.float64], is_signed: bool = False
) -> NDArray[np.float64]:
    """Return √⟨error²⟩/⟨image⟩, or √⟨error²⟩/√⟨(image − ⟨image⟩)²⟩ for signed images. Averages are over positions.

    Parameters
    ----------
    images, errors : array, shape (…, x, y)
        Signals and their standard errors.
    is_signed : bool
        Whether the images are deflections or phases.

    Returns
    -------
    array, shape (…)
        NaN where an image has no intensity, or a signed image no contrast.
    """
    means = images.std(axis=(-2, -1)) if is_signed else images.mean(axis=(-2, -1))
    found: NDArray[np.float64] = np.sqrt((errors**2).mean(axis=(-2, -1))) / np.where(means > 0, means, np.nan)
    return found


def precisions(file: Path) -> list[Precision]:
    """Precision of each detector of the merged result `file`; empty if it has no standard errors.

    Raises
    ------
    DamagedResultError
        The file cannot be read as a result.
    """
    try:
        with netCDF4.Dataset(file) as root:
            root.set_auto_mask(False)
            if "images" not in root.groups:
                return []
            images = root["images"]
            number = len(np.unique(root["runtime"]["configuration"][:]))
            depths = np.asarray(images["adf_slice"][:], dtype=float)
            names = [name for name in images.variables if name + STANDARD_ERROR in images.variables]
            return [_worst(images, name, number, depths) for name in names]
    except (OSError, RuntimeError, KeyError, IndexError) as error:
        raise DamagedResultError(f"{file}: cannot be read as a result ({error}).") from None


def _worst(images: Any, name: str, number: int, depths: NDArray[np.float64]) -> Precision:
    values = np.asarray(images[name][:, 0], dtype=float)  # (defocus, depth, x, y)
    errors = np.asarray(images[name + STANDARD_ERROR][:, 0], dtype=float)
    is_signed = images[name].units != "1"
    relative = relative_error(values, errors, is_signed)
    place = np.unravel_index(int(np.nanargmax(relative)) if np.isfinite(relative).any() else 0, relative.shape)
    image, error = values[place], errors[place]
    local = local_errors(image, error, is_signed)
    brightest = np.unravel_index(int(np.argmax(image)), image.shape)
    return Precision(
        detector=name,
        configurations=number,
        error=float(relative[place]),
        median=float(np.nanmedian(local)) if np.isfinite(local).any() else math.nan,
        brightest=float(local[brightest]),
        depth_nm=float(depths[place[1]]),
        place=(int(place[0]), int(place[1])),
        is_signed=is_signed,
        is_segment="begin_deg" in images[name].ncattrs(),
    )


def local_errors(image: NDArray[np.float64], error: NDArray[np.float64], is_signed: bool) -> NDArray[np.float64]:
    """Standard error of each position, divided by its signal or, in a signed image, by the contrast; NaN for 0.

    `image` and `error` (x, y) are the signals and their standard errors. `is_signed` says whether the image is a
    deflection or a phase.
    """
    reference = np.full_like(image, image.std()) if is_signed else image
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(reference > 0, error / reference, np.nan))


def measured_errors(result: ResultPaths, plan: Mapping[str, Any], of: Precision) -> dict[int, float]:
    """Error of the first k configurations, from the job files, for each k from 2 on.

    Parameters
    ----------
    result : ResultPaths
        Files of the simulation.
    plan : mapping
        Content of plan.json: defoci, weights, config.
    of : Precision
        The detector and the depth.

    Returns
    -------
    dict
        For each number of configurations, the error, see `Precision`. It is empty if job files cannot give the error: a
        file is missing, the result does not average defoci, the result is blurred by a source, or symmetry turns
        segments.
    """
    config = plan.get("config", {})
    if config.get("probe", {}).get("source_fwhm_nm") or not config.get("adf", {}).get("average_defoci"):
        return {}
    if of.is_segment and plan.get("scan_symmetry"):
        return {}
    stacks = []
    orbit = _orbit_of(result.merged) if plan.get("scan_symmetry") else None
    kept = tuple(slice(number, -number or None) for number in ScanEdges.of_plan(plan).margin)
    for value in plan.get("defoci_nm", []):
        images = []
        for configuration in range(of.configurations):
            file = result.job(defocus_id(value), configuration)
            try:
                with netCDF4.Dataset(file) as root:
                    image = np.asarray(root["images"][of.detector][0, 0, of.place[1]], dtype=float)
                images.append(image[kept] if orbit is None else image[orbit, 0])
            except (OSError, RuntimeError, KeyError, IndexError):
                return {}
        stacks.append(images)
    signals = np.array(stacks)  # (defocus, configuration, x, y)
    weights = np.asarray(plan["weights"], dtype=float)
    if not config["frozen_phonon"]["independent_defoci"]:
        # All defoci of a configuration see the same atoms, so their weighted mean is one sample.
        signals, weights = np.tensordot(weights, signals, axes=1)[None], np.ones(1)
    found = {}
    for k in range(2, of.configurations + 1):
        first = signals[:, :k]
        variance = np.tensordot(weights**2, first.var(axis=1, ddof=1) / k, axes=1)
        found[k] = float(relative_error(np.tensordot(weights, first.mean(axis=1), axes=1), np.sqrt(variance)))
    return found


def _orbit_of(merged: Path) -> NDArray[np.int64] | None:
    """For each position of the result, the position of the job files that it comes from; None without symmetry."""
    with netCDF4.Dataset(merged) as root:
        stored = root["images"].variables.get(ORBIT)
        return None if stored is None else np.asarray(stored[:], dtype=np.int64)


def record(of: Precision, targets: tuple[float, ...]) -> dict[str, Any]:
    """The precision `of` a detector as a JSON object.

    `targets` are relative errors; for each, the object has the number of configurations that are needed.
    """
    keys = ("detector", "configurations", "error", "median", "brightest", "depth_nm", "is_uncertain", "is_signed")
    numbers = {key: getattr(of, key) for key in keys}
    needed = {f"{target:g}": of.needed(target) if math.isfinite(of.error) else None for target in targets}
    content: dict[str, Any] = json.loads(json.dumps({**numbers, "needed": needed}))
    return content
