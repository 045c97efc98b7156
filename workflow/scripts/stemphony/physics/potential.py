"""Projected electrostatic potential of the slices, Eq. (P2), as an exact Fourier sum."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from stemphony.physics.constants import POTENTIAL_PREFACTOR
from stemphony.physics.grid import FloatArray, Grid
from stemphony.physics.scattering import scattering_factor


class SlicePotentials:
    """Projected potentials of all slices of one configuration, Eq. (P2).

    With E_x[k, j] = exp(−2πi kx xⱼ) and E_y likewise, the structure factor of the atoms of one element in one
    slice is the matrix product E_x·E_yᵀ: exact for atoms anywhere between the grid points, no interpolation,
    no radius to cut at.

    Parameters
    ----------
    grid : Grid
    positions : (N, 3) array_like
        Positions of the atoms [Å]; x and y are periodic, z is not used.
    symbols : sequence of str
        Chemical symbol of each atom.
    slice_index : (N,) array_like of int
        Slice of each atom, see `slicing.slice_indices`.
    number_of_slices : int
    parametrization : str
        Scattering factors, see `scattering.scattering_factor`.

    Raises
    ------
    ValueError
        If the lengths of the arguments differ, a slice index is out of range or an element is unknown.
    """

    def __init__(
        self,
        grid: Grid,
        positions: ArrayLike,
        symbols: Sequence[str],
        slice_index: ArrayLike,
        number_of_slices: int,
        parametrization: str,
    ) -> None:
        atoms = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
        slices = np.asarray(slice_index, dtype=np.int64).reshape(-1)
        if not len(atoms) == len(symbols) == len(slices):
            raise ValueError(
                f"{len(atoms)} positions, {len(symbols)} symbols and {len(slices)} slice indices: must be equally many"
            )
        if slices.size and not (slices.min() >= 0 and slices.max() < number_of_slices):
            raise ValueError(
                f"slice indices from {slices.min()} to {slices.max()}: must be from 0 to {number_of_slices - 1}"
            )
        self.grid = grid
        self.number_of_slices = number_of_slices

        # A real potential has a Hermitian spectrum, so the columns with ky ≥ 0 hold all of it.
        columns = grid.gpts[1] // 2 + 1
        scale = POTENTIAL_PREFACTOR / (grid.extent[0] * grid.extent[1])
        names = np.array(symbols, dtype=str)
        self._factors: dict[str, FloatArray] = {
            str(name): scale * scattering_factor(str(name), grid.k_squared[:, :columns], parametrization)
            for name in np.unique(names)
        }
        self._atoms: dict[tuple[int, str], FloatArray] = {}
        for name in self._factors:
            of_element = np.flatnonzero(names == name)
            of_element = of_element[np.argsort(slices[of_element], kind="stable")]
            occupied, first = np.unique(slices[of_element], return_index=True)
            for index, group in zip(occupied, np.split(of_element, first[1:]), strict=True):
                self._atoms[int(index), name] = atoms[group, :2]

    def projected(self, index: int) -> FloatArray:
        """Projected potential of one slice, Eq. (P2).

        Parameters
        ----------
        index : int
            Slice, 0 where the beam enters.

        Returns
        -------
        (nx, ny) ndarray
            ∫V dz over the atoms of the slice [V Å], its average included, not band-limited.

        Raises
        ------
        IndexError
            If there is no such slice.
        """
        if not 0 <= index < self.number_of_slices:
            raise IndexError(f"slice {index}: must be from 0 to {self.number_of_slices - 1}")
        nx, ny = self.grid.gpts
        spectrum: NDArray[np.complex128] | None = None
        for name, factor in self._factors.items():
            if (index, name) not in self._atoms:
                continue
            contribution = _structure_factor(self.grid, self._atoms[index, name])
            contribution *= factor
            spectrum = contribution if spectrum is None else np.add(spectrum, contribution, out=spectrum)
        if spectrum is None:
            return np.zeros((nx, ny))
        return scipy.fft.irfft2(spectrum, s=(nx, ny), norm="forward", overwrite_x=True)


def _structure_factor(grid: Grid, xy: FloatArray) -> NDArray[np.complex128]:
    """Σ_j exp(−2πi k·r_j) for all kx and ky ≥ 0, (nx, ny//2 + 1)."""
    nx, ny = grid.gpts
    columns = ny // 2 + 1
    # The last column of an even grid holds −ky_max in FFT order; so does this one.
    phases_x = np.exp(-2j * pi * np.outer(grid.kx, xy[:, 0]))
    phases_y = np.exp(-2j * pi * np.outer(grid.ky[:columns], xy[:, 1]))
    total = phases_x @ phases_y.T
    if nx % 2 == 0:
        # −kx_max stands for +kx_max as well. The real part of the inverse transform takes the mean of both,
        # and the real inverse transform does that by itself only for the columns that are their own mirror
        # image.
        paired = (ny + 1) // 2
        total[nx // 2, :paired] = phases_y[:paired] @ phases_x[nx // 2].real
    return total
