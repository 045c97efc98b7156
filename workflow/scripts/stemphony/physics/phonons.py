"""Thermal displacements of the atoms, Eq. (P12), and mean square displacements of the Debye model, Eq. (P19)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemphony.physics.constants import DEBYE_PREFACTOR

_OWN_DEFOCUS = 1
"""Marker in the seeds that depend on the defocus, so that they differ from all other seeds."""


def generator(random_seed: int, configuration: int, defocus_pm: int | None, *purpose: int) -> np.random.Generator:
    """Make the generator of random numbers of one configuration.

    The numbers depend on the arguments only, not on what else is drawn, in which order or on which machine.

    Parameters
    ----------
    random_seed, configuration : int
        Seed of the simulation and index of the configuration, not negative.
    defocus_pm : int or None
        Defocus rounded to 1 pm if each defocus draws its own numbers, else None.
    purpose : int
        Number of the quantity that is drawn; none for displacements. Different purposes give independent streams.

    Raises
    ------
    ValueError
        If the seed or the index is negative.
    """
    if random_seed < 0 or configuration < 0:
        raise ValueError(f"random seed = {random_seed}, configuration = {configuration}: neither may be negative")
    key: tuple[int, ...] = (configuration, *purpose)
    if defocus_pm is not None:
        # Seeds must not be negative, so 0, −1, 1, −2, 2 … become 0, 1, 2, 3, 4 …
        key += (_OWN_DEFOCUS, 2 * defocus_pm if defocus_pm >= 0 else -2 * defocus_pm - 1)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(random_seed, spawn_key=key)))


def displacements(
    u_iso: ArrayLike,
    random_seed: int,
    configuration: int,
    defocus_pm: int | None,
    displace_z: bool,
    u_aniso: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Displacements of all atoms in one frozen-phonon configuration, Eq. (P12).

    They depend on the arguments only, not on the number or order of configurations, the host or other jobs. The
    normally distributed random numbers of an atom are the same for an isotropic and an anisotropic U.

    Parameters
    ----------
    u_iso : (N,) array_like
        Mean square displacement ⟨u_x²⟩ of each atom along one axis [Å²], B/8π².
    random_seed : int
        Seed of the simulation, not negative.
    configuration : int
        Index of the configuration, from 0.
    defocus_pm : int or None
        Defocus rounded to 1 pm if each defocus draws its own displacements, else None.
    displace_z : bool
        Whether atoms also move along the beam. This does not change the displacements along x and y.
    u_aniso : (N, 3, 3) ndarray or None
        Tensors U [Å²] in Cartesian axes, which replace `u_iso`; NaN for atoms without a tensor.

    Returns
    -------
    (N, 3) ndarray
        Displacements [Å].

    Raises
    ------
    ValueError
        If a mean square displacement is negative or not finite, a tensor is not positive semidefinite, or the seed
        or the index is negative.

    References
    ----------
    Loane, Xu & Silcox, Acta Cryst. A 47 (1991) 267; for tensors Trueblood et al., Acta Cryst. A 52 (1996) 770.
    """
    variance = np.asarray(u_iso, dtype=np.float64)
    tensors = np.zeros(variance.size, dtype=bool) if u_aniso is None else ~np.isnan(u_aniso[:, 0, 0])
    wrong = np.asarray(~(np.isfinite(variance) & (variance >= 0)) & ~tensors)
    if wrong.any():
        atom = int(np.argmax(wrong))
        raise ValueError(f"atom {atom}: mean square displacement = {variance[atom]} Å², must not be negative")

    # ASSUME: atoms vibrate independently of each other and harmonically (Einstein model).
    # All three components are always drawn, so that x and y do not change with displace_z.
    normal = generator(random_seed, configuration, defocus_pm).standard_normal((variance.size, 3))
    moves = normal * np.sqrt(np.where(tensors, 0.0, variance))[:, None]
    if u_aniso is not None and tensors.any():
        moves[tensors] = np.einsum("nij,nj->ni", cholesky(u_aniso[tensors]), normal[tensors])
    if not displace_z:
        moves[:, 2] = 0.0
    return moves


SMALLEST_EIGENVALUE = 1e-9
"""An eigenvalue of U may be negative by at most this [Å²]. Rounding in products of rotations makes such values, and
each real U is far larger."""


def not_positive(u_aniso: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the indices of the tensors (N, 3, 3) [Å²] that are not positive semidefinite; NaN means no tensor."""
    known = np.flatnonzero(~np.isnan(u_aniso).all(axis=(1, 2)))
    tensors = u_aniso[known]
    finite = np.asarray(np.isfinite(tensors).all(axis=(1, 2)))
    smallest = np.linalg.eigvalsh(np.where(finite[:, None, None], tensors, 0.0))[:, 0]
    return known[~finite | (smallest < -SMALLEST_EIGENVALUE)]


def cholesky(u_aniso: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the lower triangles L with L Lᵀ = U of symmetric positive semidefinite tensors U (N, 3, 3).

    The closed form allows zero eigenvalues, because an atom may be at rest along one direction. LAPACK refuses them.
    For U = u·1 the diagonal of L is √u, so an isotropic tensor moves an atom exactly as `u_iso` does.

    Raises
    ------
    ValueError
        A tensor is not positive semidefinite.
    """
    wrong = not_positive(u_aniso)
    if len(wrong):
        raise ValueError(f"tensor {wrong[0]}: U is not positive semidefinite")
    factor = np.zeros_like(u_aniso)
    for column in range(3):
        for row in range(column, 3):
            rest = u_aniso[:, row, column] - (factor[:, row, :column] * factor[:, column, :column]).sum(axis=1)
            if row == column:
                factor[:, row, row] = np.sqrt(np.maximum(rest, 0.0))
            else:
                pivot = factor[:, column, column]
                # In a semidefinite tensor, the column is zero below a zero pivot.
                factor[:, row, column] = np.divide(rest, pivot, out=np.zeros_like(rest), where=pivot**2 > 1e-12)
    return factor


def debye_u_iso(mass: float, debye_temperature: float, temperature: float) -> float:
    """Compute the mean square displacement ⟨u_x²⟩ [Å²] of an atom in the Debye model, Eq. (P19).

    It includes the zero-point motion.

    Parameters
    ----------
    mass : float
        Mass of the atom [u].
    debye_temperature : float
        Θ [K] from diffraction, above 0; Θ from heat capacities differs by some per cent.
    temperature : float
        T [K], at least 0.

    References
    ----------
    Willis & Pryor, Thermal Vibrations in Crystallography (1975), ch. 4; James, The Optical Principles of the
    Diffraction of X-rays (1948), ch. 5.
    """
    from scipy.integrate import quad

    if not (mass > 0 and debye_temperature > 0 and temperature >= 0):
        raise ValueError(f"mass {mass} u, Θ {debye_temperature} K, T {temperature} K: must be above 0, T at least 0")
    thermal = 0.0
    if temperature > 0:
        upper = debye_temperature / temperature
        # For x above 700, exp overflows. The integrand is negligible long before.
        integral, _ = quad(lambda x: x / np.expm1(x) if x > 0 else 1.0, 0.0, min(upper, 700.0), epsabs=0, epsrel=1e-10)
        thermal = integral / upper**2
    return float(DEBYE_PREFACTOR / (mass * debye_temperature) * (0.25 + thermal))
