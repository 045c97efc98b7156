"""Pictures of the group `waves` of a merged result: incident probe, exit wave, and intensity along the depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import ResultError
from stemphony.results.opened import OpenedResult, nearest
from stemphony.results.patterns import SAME_PLACE_NM, SHOWN
from stemphony.results.wave_group import EXIT, GROUP, PROBE, SECTION

Floats = NDArray[np.float64]

AMPLITUDE, PHASE = "exit_amplitude", "exit_phase"
"""Names of the two pictures of an exit wave."""


@dataclass(frozen=True)
class WavePicture:
    """One picture of the waves of a result.

    Attributes
    ----------
    name : str
        `probe_wave` (its intensity), `exit_amplitude`, `exit_phase` or `depth_section`.
    values : (x, second) array
    units : str
        `nm-2`, `nm-1`, `rad`, or `1` relative to a plane wave.
    x_nm, second_nm : array
        Places of the points in the specimen. For the incident probe, distances from its middle.
    second : str
        What the second axis is: y or depth.
    at_nm : (float, float) or None
        Position of the probe; None for the incident probe and a plane wave.
    defocus_nm : float
    """

    name: str
    values: Floats
    units: str
    x_nm: Floats
    second_nm: Floats
    second: str
    at_nm: tuple[float, float] | None
    defocus_nm: float


def wave_pictures(
    result: OpenedResult, at_nm: tuple[float, float] | None = None, defocus_nm: float | None = None
) -> list[WavePicture]:
    """Read the pictures of one position and one defocus, as far as the result has them.

    Parameters
    ----------
    result : OpenedResult
    at_nm : (float, float) or None
        Position (x, y) of the probe [nm]; None for the first one.
    defocus_nm : float or None
        Defocus [nm]; None if the result has one defocus.

    Returns
    -------
    list of WavePicture
        Exit wave as amplitude and phase, section along the depth, and incident probe. The exit wave is the mean over
        configurations, which is the elastic wave. The section is a mean intensity.

    Raises
    ------
    ResultError
        The result has no waves, none at this position or defocus, or several defoci and none is chosen.
    """
    with result.root() as root:
        if GROUP not in root.groups:
            raise ResultError(f"{result.file} has no waves. The block `waves` of the config asks for them.")
        waves = root[GROUP]
        defocus, defocus_nm = _defocus(result, waves, defocus_nm)
        x, y = (np.asarray(waves[f"waves_{axis}"][:], dtype=float) for axis in "xy")
        made: list[WavePicture] = []
        probe: list[WavePicture] = []
        if PROBE in waves.variables:
            intensity = np.abs(_complex(waves[PROBE][defocus])) ** 2
            middle = [axis - 0.5 * len(axis) * (axis[1] - axis[0]) for axis in (x, y)]
            probe.append(WavePicture(PROBE, intensity, "nm-2", middle[0], middle[1], "y", None, defocus_nm))
        if EXIT in waves.variables:
            made += _of_position(result, waves, defocus, defocus_nm, at_nm, x, y)
        elif at_nm is not None:
            raise ResultError(f"{result.file} has the incident probe only, which has no position. Leave out --at.")
    return made + probe


def _of_position(
    result: OpenedResult, waves: Any, defocus: int, defocus_nm: float, at_nm: tuple[float, float] | None, x: Floats,
    y: Floats,
) -> list[WavePicture]:  # fmt: skip
    """Exit wave and section of one position."""
    number, found = _position(result, waves, at_nm)
    at = None if waves[EXIT].units == "1" else found
    origin = [float(waves[f"waves_origin_{axis}"][number]) for axis in "xy"]
    x, y = x + origin[0], y + origin[1]
    mean = _complex(waves[EXIT][defocus, :, number]).mean(axis=0)
    made = [
        WavePicture(AMPLITUDE, np.abs(mean), str(waves[EXIT].units), x, y, "y", at, defocus_nm),
        WavePicture(PHASE, np.angle(mean), "rad", x, y, "y", at, defocus_nm),
    ]
    if SECTION in waves.variables:
        section = np.asarray(waves[SECTION][defocus, :, number], dtype=float).mean(axis=0)
        depths = np.asarray(waves["waves_slice"][:], dtype=float)
        made.append(WavePicture(SECTION, section, str(waves[SECTION].units), x, depths, "depth", at, defocus_nm))
    return made


def _complex(parts: Any) -> NDArray[np.complex128]:
    numbers = np.asarray(parts, dtype=float)
    return np.asarray(numbers[..., 0] + 1j * numbers[..., 1])


def _defocus(result: OpenedResult, waves: Any, wanted_nm: float | None) -> tuple[int, float]:
    """Index and value [nm] of a defocus. The mean of waves of several defoci has no meaning, so one must be chosen."""
    stored = np.asarray(waves["waves_defocus"][:], dtype=float)
    if wanted_nm is None and len(stored) > 1:
        listed = ", ".join(f"{value:.4g}" for value in stored)
        raise ResultError(f"{result.file} has waves at the defoci {listed} nm. Choose one with --defocus.")
    if wanted_nm is None:
        return 0, float(stored[0])
    index = nearest(stored, wanted_nm, f"{result.file} has no waves at a defocus of", "choose one of them")
    return index, float(stored[index])


def _position(result: OpenedResult, waves: Any, at_nm: tuple[float, float] | None) -> tuple[int, tuple[float, float]]:
    """Index and place [nm] of the stored position at a place; without a place, those of the first position."""
    places = np.stack([np.asarray(waves[f"waves_probe_{axis}"][:], dtype=float) for axis in "xy"], axis=-1)
    number = 0
    if at_nm is not None:
        distance = np.hypot(*(places - at_nm).T)
        number = int(distance.argmin())
        if not distance[number] <= SAME_PLACE_NM:
            listed = ", ".join(f"({x:.4g}, {y:.4g})" for x, y in places[:SHOWN]) + (" …" if len(places) > SHOWN else "")
            raise ResultError(
                f"{result.file} has no wave at ({at_nm[0]:g}, {at_nm[1]:g}) nm. It has them at {listed} nm."
            )
    return number, (float(places[number, 0]), float(places[number, 1]))
