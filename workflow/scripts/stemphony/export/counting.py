"""Add the noise of a dose to exported data. It does not depend on the order or size of the blocks that are read."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import ResultError
from stemphony.physics.dose import counted

Floats = NDArray[np.floating[Any]]


MOST = 1e15
"""Most electrons for each position. With more, the noise is smaller than the last digit of single precision."""


@dataclass(frozen=True)
class Counting:
    """Electrons that a detector counts.

    Attributes
    ----------
    dose : float or None
        Incident electrons per Å².
    electrons : float or None
        Incident electrons for each position. If `dose` is given, `on` computes them from the scan step.
    seed : int
        Seed of the noise.
    """

    dose: float | None = None
    electrons: float | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        for option, value in (("--dose", self.dose), ("--electrons-per-position", self.electrons)):
            if value is not None and not 0 < value < math.inf:
                raise ResultError(f"{option}: got {value:g}; a positive number is needed.")
            if value is not None and value > MOST:
                raise ResultError(f"{option}: got {value:g}; more than {MOST:g} electrons have no noise. Leave it out.")
        if self.dose is not None and self.electrons is not None:
            raise ResultError("--dose and --electrons-per-position say the same; give one of them.")
        if self.seed < 0:
            raise ResultError(f"--seed: got {self.seed}; 0 or more is needed.")

    def on(self, step_area: float | None) -> Counting:
        """Return a copy for one scan, in which the dose has become electrons for each position.

        The electrons are dose × area of a scan step.

        Parameters
        ----------
        step_area : float or None
            Area of one scan step [Å²], see `ExportedScan.area_angstrom2`.

        Returns
        -------
        Counting
            The same object if it has no dose.

        Raises
        ------
        ResultError
            The scan has no area.
        """
        if self.dose is None:
            return self
        if step_area is None:
            raise ResultError(
                "--dose: the scan is a line, a list, or has one position along an axis, so a position has no area. "
                "Give --electrons-per-position."
            )
        return Counting(None, self.dose * step_area, self.seed)

    def counted(self, fractions: Floats, name: str, depth_nm: float, *position: int) -> Floats:
        """Fractions with noise, for one image or for the pattern of one position.

        Each image and each pattern has its own noise. The seed, the name, the depth and the position decide it.

        Parameters
        ----------
        fractions : array
            Fractions of the incident intensity.
        name, depth_nm, *position
            Name of the signal, and its depth [nm]. For a pattern, also the indices of its position.

        Returns
        -------
        array
            Shape and unit as those of `fractions`.

        Raises
        ------
        ResultError
            A fraction is not finite.
        """
        if not self.electrons:
            return fractions
        if not np.isfinite(fractions).all():
            raise ResultError(
                f"{name}: some values are not numbers, as in a preview without all pairs, so no noise can be added. "
                "Export without noise, or merge the whole result."
            )
        stream = zlib.crc32(f"{name} {depth_nm:.4f}".encode())
        return counted(np.asarray(fractions, float), self.electrons, [self.seed, stream, *position])

    def attributes(self) -> dict[str, Any]:
        """Attributes that describe the noise in an exported file."""
        if not self.electrons:
            return {}
        return {"electrons_per_position": self.electrons, "seed": self.seed}


NO_NOISE = Counting()
