"""Atoms at rest in an orthogonal cell. `structures.read_specimen` makes them; all other modules read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stemphony.physics.periods import Layers, Periods
from stemphony.physics.random_film import Film
from stemphony.physics.scattering import ion
from stemphony.specimen.building import Building
from stemphony.specimen.lattice import Floats
from stemphony.specimen.periodicity import kinds, periods_of


@dataclass(frozen=True, eq=False)
class Specimen:
    """Atoms at rest in an orthogonal cell, the beam along +z from z = 0.

    Attributes
    ----------
    symbols : (N,) array of str
        Element symbols.
    positions : (N, 3) array
        Cartesian coordinates [Å]; x and y in [0, Lx) and [0, Ly), z in [0, Lz].
    cell : tuple of 3 floats
        Lengths Lx, Ly, Lz [Å], vacuum included.
    u_iso : (N,) array
        Mean square displacement per Cartesian axis [Å²], Eq. (P12); NaN if it is not known.
    slice_id : (N,) array of int or None
        Slice of each atom, from 0, if the file names slices.
    format : str
        Format in which the file was read, see `Structure`.
    frames : (F, N, 3) array or None
        Complete configurations [Å] in the order of the trajectory.
    vacuum : tuple of 3 floats
        The lengths that the config added to `cell` as vacuum [Å].
    radius : (N,) array
        Covalent radius [Å], for viewers of the result; zeros if not given.
    u_aniso : (N, 3, 3) array or None
        Mean square displacements as Cartesian tensors [Å²], NaN for atoms with `u_iso` alone; None without any.
    occupancy : (N,) array or None
        Probability that the site holds this atom; None if all are 1.
    disorder, disorder_group : (N,) arrays of int or None
        As in `Structure`, but each copy of the cell has its own numbers, because copies are independent of each other.
    reader : str
        The library that read the file.
    notes : tuple of str
        What a user must know: data of the file that were not used, moved, merged or guessed.
    formula : str
        Formula of the cell of the file.
    u_source : str
        Where U comes from, in words.
    revision : int
        As in `Structure`. It is part of the digest of the specimen and not kept in `specimen.nc`.
    orientation : str
        Lattice directions of the cell of the file along x, y and the beam, and the strain if there is any, in words.
    building : Building or None
        How the specimen was built, for the plan and the drawing; not kept in `specimen.nc`.
    films : tuple of Film
        Amorphous films on the faces of the specimen.
    shift_z, grown_z : float
        If atoms lay outside the cell: how far all atoms were moved along z, and how much the cell was lengthened [Å].
        Snapshots need both. They are not kept in `specimen.nc`.
    periods : Periods or None
        Periods of the crystal that the specimen was built from; None to find them in the atoms.
    sensitivities : mapping
        Sensitivities of detectors by name, see `SensitiveDetector`. They are stored with the atoms so that jobs can
        read them. Angles are in mrad.
    charge : (N,) array of int or None
        Charge of each atom in elementary charges; None if all atoms scatter as neutral atoms.
    """

    symbols: NDArray[np.str_]
    positions: Floats
    cell: tuple[float, float, float]
    u_iso: Floats
    slice_id: NDArray[np.int64] | None
    format: str
    frames: Floats | None = None
    vacuum: tuple[float, float, float] = (0.0, 0.0, 0.0)
    radius: Floats = field(default_factory=lambda: np.empty(0))
    u_aniso: Floats | None = None
    occupancy: Floats | None = None
    disorder: NDArray[np.int64] | None = None
    disorder_group: NDArray[np.int64] | None = None
    reader: str = ""
    notes: tuple[str, ...] = ()
    formula: str = ""
    u_source: str = ""
    revision: int = 1
    orientation: str = ""
    building: Building | None = None
    films: tuple[Film, ...] = ()
    shift_z: float = 0.0
    grown_z: float = 0.0
    periods: Periods | None = None
    sensitivities: Mapping[str, Floats] = field(default_factory=dict)
    charge: NDArray[np.int64] | None = None

    @cached_property
    def species(self) -> NDArray[np.str_]:
        """Name of the atom or ion whose scattering factor each atom has, such as `Sr2+` (N,)."""
        return self.symbols if self.charge is None else _ion_names(self.symbols, self.charge)

    @cached_property
    def layers(self) -> Layers:
        """Heights and periods of the undisplaced atoms, on which slices and grid depend. With frames, of their mean."""
        positions, periods = self.positions, self.periods
        if self.frames is not None:
            positions = self.mean_positions
        if periods is None or (self.frames is not None and periods.spacing >= periods.length):
            periods = periods_of(positions, kinds(self.species, self.occupancy), self.cell)
        return Layers(positions[:, 2], periods, self.slice_id)

    @property
    def mean_positions(self) -> Floats:
        """Mean of the frames, (N, 3) [Å]. Each atom counts at its image nearest to its place at rest."""
        assert self.frames is not None
        lengths = np.asarray(self.cell)
        total = np.zeros_like(self.positions)
        for frame in self.frames:
            step = frame - self.positions
            total += step - lengths * np.round(step / lengths)
        return np.asarray(self.positions + total / len(self.frames))

    def __post_init__(self) -> None:
        if not self.radius.size:
            object.__setattr__(self, "radius", np.zeros(len(self.positions)))


def _ion_names(symbols: NDArray[np.str_], charge: NDArray[np.int64]) -> NDArray[np.str_]:
    """Name of each atom or ion, such as `Sr2+` (N,)."""
    names = np.empty(len(symbols), dtype="<U4")
    for symbol, number in set(zip(symbols.tolist(), charge.tolist(), strict=True)):
        names[(symbols == symbol) & (charge == number)] = ion(symbol, number)
    return names
