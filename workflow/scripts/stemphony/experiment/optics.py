"""The optics of an experiment: the beam, the aperture and the aberrations, in internal units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from stemphony.physics import electron


@dataclass(frozen=True)
class Precession:
    """Tilts on a cone about the mean tilt, Eq. (P23): half-angle [rad] and number."""

    angle: float
    steps: int

    def about(self, tilt: tuple[float, float]) -> tuple[tuple[float, float], ...]:
        """Return the tilts (x, y) [rad] about the mean tilt, `tilt` [rad]."""
        turns = [2 * math.pi * step / self.steps for step in range(self.steps)]
        return tuple((tilt[0] + self.angle * math.cos(t), tilt[1] + self.angle * math.sin(t)) for t in turns)


@dataclass(frozen=True, kw_only=True)
class Optics:
    """The beam and the lens that forms the probe; lengths are in Å, angles in rad, energies in eV.

    Attributes
    ----------
    energy, wavelength, interaction : float
        Beam energy [eV], λ [Å] and σ [rad/(V·Å)], Eq. (P1).
    semiangle, semiangle_inner : float
        Aperture [rad], Eq. (P8).
    aberrations : mapping
        Krivanek coefficients in Å and their angles in rad, without C10, Eq. (P7).
    soft_aperture : bool
        Whether the aperture has a soft edge, Eq. (P8).
    tilt : (float, float)
        Tilt of the beam [rad], Eq. (P21).
    precession : Precession or None
        Tilts over which the signals are averaged, Eq. (P23).
    descan : bool
        Whether angles count from the tilted beam, not from the optic axis.
    """

    energy: float
    semiangle: float
    semiangle_inner: float
    soft_aperture: bool
    aberrations: Mapping[str, float]
    tilt: tuple[float, float] = (0.0, 0.0)
    precession: Precession | None = None
    descan: bool = False

    @cached_property
    def wavelength(self) -> float:
        """λ [Å]."""
        return electron.wavelength(self.energy)

    @cached_property
    def interaction(self) -> float:
        """σ [rad/(V·Å)]."""
        return electron.interaction_parameter(self.energy)

    @property
    def beam(self) -> tuple[float, float]:
        """Axis k₀ of the beam [Å⁻¹], Eq. (P21)."""
        return self.tilt[0] / self.wavelength, self.tilt[1] / self.wavelength

    @property
    def detector_center(self) -> tuple[float, float]:
        """Frequency from which all angles count [Å⁻¹]: the beam if it is descanned, else the optic axis."""
        return self.beam if self.descan else (0.0, 0.0)

    @property
    def tilts(self) -> tuple[tuple[float, float], ...]:
        """Tilts of the beam over which the signals are averaged [rad]; one tilt without precession."""
        return (self.tilt,) if self.precession is None else self.precession.about(self.tilt)
