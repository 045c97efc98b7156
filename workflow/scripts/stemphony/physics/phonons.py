"""Thermal displacements of the atoms, Eq. (P12)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_OWN_DEFOCUS = 1
"""Marks seeds that depend on the defocus, so that they never coincide with those that do not."""


def displacements(
    u_iso: ArrayLike, random_seed: int, configuration: int, defocus_pm: int | None, displace_z: bool
) -> NDArray[np.float64]:
    """Displacements of all atoms in one frozen-phonon configuration, Eq. (P12).

    They depend on the arguments only: not on the order or number of configurations, on the host or on other
    jobs.

    Parameters
    ----------
    u_iso : (N,) array_like
        Mean square displacement ⟨u_x²⟩ of each atom along one axis [Å²], B/8π².
    random_seed : int
        Seed of the simulation, not negative.
    configuration : int
        Index of the configuration, from 0.
    defocus_pm : int or None
        Defocus rounded to 1 pm when each defocus draws its own displacements, else None.
    displace_z : bool
        Whether atoms also move along the beam. The displacements along x and y are the same either way.

    Returns
    -------
    (N, 3) ndarray
        Displacements [Å].

    Raises
    ------
    ValueError
        If a mean square displacement is negative or not finite, or the seed or the index is negative.

    References
    ----------
    Loane, Xu & Silcox, Acta Cryst. A 47 (1991) 267.
    """
    variance = np.asarray(u_iso, dtype=np.float64)
    wrong = ~(np.isfinite(variance) & (variance >= 0))
    if wrong.any():
        atom = int(np.argmax(wrong))
        raise ValueError(f"atom {atom}: mean square displacement = {variance[atom]} Å², must not be negative")
    if random_seed < 0 or configuration < 0:
        raise ValueError(f"random seed = {random_seed}, configuration = {configuration}: neither may be negative")

    key: tuple[int, ...] = (configuration,)
    if defocus_pm is not None:
        # Seeds are not negative: 0, −1, 1, −2, 2 … become 0, 1, 2, 3, 4 …
        key += (_OWN_DEFOCUS, 2 * defocus_pm if defocus_pm >= 0 else -2 * defocus_pm - 1)
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(random_seed, spawn_key=key)))

    # ASSUME: atoms vibrate independently of each other, isotropically and harmonically (Einstein model).
    # All three components are drawn in any case, so that x and y do not change with displace_z.
    moves = generator.standard_normal((variance.size, 3)) * np.sqrt(variance)[:, None]
    if not displace_z:
        moves[:, 2] = 0.0
    return moves
