"""Compute the numbers of a drawn image: source, copies of the window, dose and interpolation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import ResultError
from stemphony.experiment.scan import LINE, WINDOW
from stemphony.figures.style import label, unit_in_words
from stemphony.physics.dose import counted
from stemphony.physics.resampling import interpolated, straight_copies, tiled
from stemphony.physics.source_size import Repeats, blur, is_cut
from stemphony.results.opened import Positions, Signal

Floats = NDArray[np.float64]

ANGSTROM2_PER_NM2 = 100.0
"""Å² in one nm². Doses are in electrons per Å², and steps of the scan in nm."""
MOST_FINER = 64
"""Most drawn pixels for each position along an axis. More pixels would not show more."""


@dataclass(frozen=True)
class Treatment:
    """How images are changed before they are drawn. The order is: source, copies, dose, interpolation.

    Attributes
    ----------
    tile : (int, int)
        Copies of the window along x and y.
    finer : int
        Drawn pixels for each position along each axis.
    source_nm : float or None
        FWHM of the source in the drawn image. None keeps the source of the result.
    dose : float or None
        Electrons per Å². Each position counts the electrons on the area of one scan step. None adds no noise.
    seed : int
        Seed of the noise.
    shows_errors : bool
        Draw standard errors in place of signals.
    is_periodic : bool
        Assume that the window is a period of the specimen, even if the atoms do not repeat.
    """

    tile: tuple[int, int] = (1, 1)
    finer: int = 1
    source_nm: float | None = None
    dose: float | None = None
    seed: int = 1
    shows_errors: bool = False
    is_periodic: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.finer <= MOST_FINER:
            raise ResultError(f"--interpolate: got {self.finer}; allowed is 1 to {MOST_FINER}.")
        for option, value in (("--source", self.source_nm), ("--dose", self.dose)):
            if value is not None and not (0 < value < math.inf):
                raise ResultError(f"{option}: got {value:g}; a positive number is needed.")
        if self.seed < 0:
            raise ResultError(f"--seed: got {self.seed}; 0 or more is needed.")

    def repeats(self, positions: Positions) -> Repeats:
        """Whether and how the window of `positions` repeats along x and y.

        Raises
        ------
        ResultError
            `tile` asks for copies along an axis on which the window does not repeat.
        """
        repeats = (0, 0) if self.is_periodic else positions.repeats
        for axis, name in enumerate("xy"):
            if self.tile[axis] > 1 and repeats[axis] is None:
                raise ResultError(
                    f"--tile: the scan window does not repeat along {name} with the atoms at rest, so copies side "
                    f"by side would show a crystal that was not computed. Tile along the other axis only "
                    f"({'1x3' if axis == 0 else '3x1'}), or scan a whole number of unit cells. If you know that the "
                    "window is a period, give --periodic."
                )
        return repeats


@dataclass(frozen=True)
class Picture:
    """An image as it is drawn.

    Attributes
    ----------
    name, ring_mrad, depth_nm, defocus_nm
        As in `Signal`.
    values : (nx, ny) array
        Values in `unit`.
    origin_nm, step_nm : (float, float)
        Place of the first pixel, and distances of neighbouring pixels.
    what : str
        `signal` or `standard error`.
    notes : tuple of str
        What a reader of the figure must know.
    unit : str
        As in `Signal`.
    """

    name: str
    ring_mrad: tuple[float, float] | None
    depth_nm: float
    defocus_nm: float | None
    values: Floats
    origin_nm: tuple[float, float]
    step_nm: tuple[float, float]
    what: str = "signal"
    notes: tuple[str, ...] = ()
    unit: str = "1"

    @property
    def extent_nm(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top edge [nm]. Each pixel is centred on its place."""
        x, y = (origin - step / 2 for origin, step in zip(self.origin_nm, self.step_nm, strict=True))
        nx, ny = self.values.shape
        return x, x + nx * self.step_nm[0], y, y + ny * self.step_nm[1]

    @property
    def title(self) -> str:
        """Two lines of text: the detector, and its angles."""
        if self.ring_mrad is None:
            return label(self.name)
        angles = f"{self.ring_mrad[0]:.4g}–{self.ring_mrad[1]:.4g} mrad"
        return angles if self.name == angles else f"{label(self.name)}\n{angles}"

    def record(self) -> dict[str, Any]:
        """The numbers as a JSON object. `values` has one row for each y."""
        nx, ny = self.values.shape
        return {
            "detector": self.name, "ring_mrad": self.ring_mrad, "what": self.what, "depth_nm": self.depth_nm,
            "defocus_nm": self.defocus_nm, "unit": unit_in_words(self.unit),
            "x_nm": (self.origin_nm[0] + self.step_nm[0] * np.arange(nx)).tolist(),
            "y_nm": (self.origin_nm[1] + self.step_nm[1] * np.arange(ny)).tolist(),
            "values": self.values.T.tolist(), "notes": list(self.notes),
        }  # fmt: skip


def picture(positions: Positions, signal: Signal, treatment: Treatment) -> Picture:
    """Prepare the image `signal` of the scan `positions` for drawing, with this `treatment`.

    Raises
    ------
    ResultError
        The result does not allow the treatment. The scan is not a window, standard errors or a period are missing, or
        the source is smaller than that of the result.
    """
    if positions.kind != WINDOW:
        what, advice = ("line", "profile") if positions.kind == LINE else ("list of positions", "curves")
        raise ResultError(f"the scan is a {what}, not a window: it has no image. Draw its {advice}.")
    values, what = signal.values, "signal"
    if signal.unit != "1" and (treatment.source_nm is not None or treatment.dose is not None):
        raise ResultError(
            f"--source and --dose belong to intensities; {signal.name} is in {signal.unit}. With probe.source_fwhm_nm "
            "in the config the merge makes it from blurred images, and no job is computed again."
        )
    if treatment.shows_errors:
        if treatment.source_nm is not None or treatment.dose is not None:
            raise ResultError("--standard-error cannot be combined with --source or --dose, which change the errors.")
        if signal.errors is None:
            raise ResultError(f"{signal.name} has no standard errors: they need two or more averaged configurations.")
        values, what = signal.errors, "standard error"
    repeats = treatment.repeats(positions)
    values, notes = _with_source(values, signal, positions, treatment, repeats)
    large = copies(values, treatment, repeats)
    if treatment.dose is not None:
        large = counted(large, treatment.dose * math.prod(positions.step_nm) * ANGSTROM2_PER_NM2, treatment.seed)
        steps = " × ".join(f"{10 * step:.3g}" for step in dict.fromkeys(positions.step_nm))
        notes.append(f"{treatment.dose:g} electrons per Å², counted in steps of {steps} Å")
    values = finer(large, values.shape, treatment, repeats)
    step = (positions.step_nm[0] / treatment.finer, positions.step_nm[1] / treatment.finer)
    if treatment.finer > 1 and None in repeats and not treatment.shows_errors:
        names = " and ".join(name for name, repeat in zip("xy", repeats, strict=True) if repeat is None)
        notes.append(f"spline along {names}, where the window does not repeat")
    origin = (float(positions.x_nm[0]), float(positions.y_nm[0]))
    return Picture(
        signal.name, signal.ring_mrad, signal.depth_nm, signal.defocus_nm, values, origin, step, what, tuple(notes),
        signal.unit,
    )  # fmt: skip


def copies(values: Floats, treatment: Treatment, repeats: Repeats) -> Floats:
    """Copies of a window side by side, at least as many as `treatment` wants.

    For interpolation, they repeat without a shift.

    `values` (nx, ny) is the window, and `repeats` says how it repeats, see `physics.source_size.Repeats`.
    """
    times = treatment.tile
    if treatment.finer > 1:
        shape = values.shape[0], values.shape[1]
        x, y = (
            math.ceil(wanted / straight) * straight
            for wanted, straight in zip(times, straight_copies(shape, repeats), strict=True)
        )
        times = x, y
    return tiled(values, times, repeats)


def finer(large: Floats, shape: tuple[int, ...], treatment: Treatment, repeats: Repeats) -> Floats:
    """Interpolate copies of a window as `treatment` wants, and cut off the copies that are not wanted.

    `large` is the array from `copies`, `shape` is the shape of one window, and `repeats` says how it repeats.
    """
    if treatment.finer > 1:
        periodic = (repeats[0] is not None, repeats[1] is not None)
        # Linear interpolation keeps errors between their neighbours. A Fourier series could make them negative.
        large = interpolated(large, treatment.finer, periodic, linear=treatment.shows_errors)
    # Without a period, there are fewer pixels, and all of them stay.
    nx, ny = (wanted * number * treatment.finer for wanted, number in zip(treatment.tile, shape, strict=False))
    return large[:nx, :ny]


def _with_source(
    values: Floats, signal: Signal, positions: Positions, treatment: Treatment, repeats: Repeats
) -> tuple[Floats, list[str]]:
    """Blur an image up to the wanted source. Gaussian widths add in squares, so the result's source is subtracted."""
    notes = []
    width = signal.source_nm
    cut = 0 if signal.is_cut is None else int(signal.is_cut.sum())
    if treatment.source_nm is not None:
        width = treatment.source_nm
        if signal.source_shape:
            raise ResultError(
                "--source: the result is blurred with a source that is no round Gaussian; no other one can be added. "
                "Set probe.source_fwhm_nm to 0 and run: only the merge runs again."
            )
        if width < signal.source_nm:
            raise ResultError(
                f"--source: got {width:g} nm; the result is blurred with {signal.source_nm:g} nm already. Give at "
                "least that, or set probe.source_fwhm_nm to 0 and run: only the merge runs again."
            )
        added = math.sqrt(width**2 - signal.source_nm**2)
        cut = max(cut, int(is_cut((len(positions.x_nm), len(positions.y_nm)), width, positions.step_nm, repeats).sum()))
        values = blur(values, added, positions.step_nm, repeats)
    if width:
        notes.append(f"source {width:g} nm FWHM")
    if cut:
        notes.append(f"{cut} of {values.size} pixels approximate: the source reaches over the edge of the scan")
    return values, notes
