"""The probe positions of an experiment: those that the result holds, and those that jobs compute."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from stemphony.experiment.scan import LIST, WINDOW
from stemphony.physics.grid import Grid
from stemphony.physics.plane_symmetry import Orbits, PlaneGroup


@dataclass(frozen=True, kw_only=True)
class ProbePositions:
    """Probe positions on two axes of a scan; lengths are in Å.

    Attributes
    ----------
    grid : Grid
        Points and extent of the cell or, with windows, of each window. Symmetry operations move positions by points of
        this grid.
    scan_x, scan_y : tuple of float
        Coordinates of the computed positions along the two axes of the scan [Å], see `Scan.along`.
    scan_kind : str
        window | line | positions.
    places : tuple of (float, float) or None
        Probe positions (x, y) of a line or list [Å], the second axis fastest; None for a window.
    margin : (int, int)
        Number of positions on each side, along the two axes, that jobs compute but the result does not hold.
    symmetry : PlaneGroup or None
        Operations that map positions on positions with equal signals; None if every position is computed.
    """

    grid: Grid
    scan_x: tuple[float, ...]
    scan_y: tuple[float, ...]
    scan_kind: str = WINDOW
    places: tuple[tuple[float, float], ...] | None = None
    margin: tuple[int, int] = (0, 0)
    symmetry: PlaneGroup | None = None

    @property
    def positions(self) -> int:
        """Number of probe positions, including the margin."""
        return len(self.scan_x) * len(self.scan_y)

    @cached_property
    def probe_positions(self) -> np.ndarray:
        """Probe positions (x, y) [Å], (nx, ny, 2)."""
        if self.places is not None:
            return np.array(self.places, dtype=float).reshape(len(self.scan_x), len(self.scan_y), 2)
        return np.stack(np.meshgrid(self.scan_x, self.scan_y, indexing="ij"), axis=-1)

    @property
    def kept(self) -> tuple[slice, slice]:
        """Where the positions of the result lie among the computed positions, along the two axes of the scan."""
        along, across = (slice(number, -number if number else None) for number in self.margin)
        return along, across

    @cached_property
    def orbits(self) -> Orbits | None:
        """Which positions have equal signals; None if every position is computed."""
        if self.symmetry is None:
            return None
        return self.symmetry.orbits(self.probe_positions.reshape(-1, 2) / self.grid.sampling)

    @cached_property
    def computed(self) -> Self:
        """The experiment with the positions that jobs compute. With symmetry, they are a list: one of each orbit."""
        if self.orbits is None:
            return self
        places = self.probe_positions.reshape(-1, 2)[self.orbits.computed]
        return replace(
            self, scan_x=tuple(float(number) for number in range(len(places))), scan_y=(0.0,), scan_kind=LIST,
            places=tuple((float(x), float(y)) for x, y in places), margin=(0, 0), symmetry=None,
        )  # fmt: skip

    @property
    def orbit(self) -> np.ndarray | None:
        """Orbit of each position of the result (nx, ny): the number of the position that jobs compute; or None."""
        if self.orbits is None:
            return None
        return self.orbits.orbit.reshape(len(self.scan_x), len(self.scan_y))[self.kept]

    @property
    def distinct(self) -> int:
        """Number of positions of the result that are not equal to another one by symmetry."""
        return self.stored.positions if self.orbit is None else len(np.unique(self.orbit))

    @cached_property
    def stored(self) -> Self:
        """The experiment with the positions of the result alone, without the margin, as if each were computed."""
        if self.margin == (0, 0) and self.symmetry is None:
            return self
        along, across = self.kept
        places = None
        if self.places is not None:
            places = tuple((float(x), float(y)) for x, y in self.probe_positions[along, across].reshape(-1, 2))
        return replace(
            self, scan_x=self.scan_x[along], scan_y=self.scan_y[across], places=places, margin=(0, 0), symmetry=None
        )
