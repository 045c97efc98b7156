"""Fewer waves than probes: every probe of a job as a superposition of a few orthonormal waves.

Multislice is linear in the incident wave, so what costs is the number of linearly independent probes, not the
number of probes. Those of a small scan, over all its defoci, differ little: 1792 probes (16 × 16 positions in a
unit cell of SrTiO3, 7 defoci) have a numerical rank of 172. A finer scan adds nothing. With an orthonormal
basis q of the incident probes p, pⱼ = Σ aᵣⱼ qᵣ, and φᵣ the wave that qᵣ becomes in the specimen, Eq. (P18):

    ψⱼ = Σᵣ aᵣⱼ φᵣ          Iⱼ = aⱼᴴ H aⱼ,   Hᵣₛ = Σ_k w(k) φᵣ*(k) φₛ(k)

with one small Hermitian matrix H per detector and depth. It is no interpolation: the only error is what the
truncated basis leaves of the probes, and that is bounded by the user's tolerance.

C. Ophus, Adv. Struct. Chem. Imaging 3 (2017) 13 (the case of one basis wave for each beam of the aperture); N.
Halko, P. G. Martinsson & J. A. Tropp, SIAM Review 53 (2011) 217 (the search for the basis).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemphony.physics.detectors import Region
from stemphony.physics.fft import ComplexArray
from stemphony.physics.grid import FloatArray

_FIRST_RANK = 64
_CHUNK_BYTES = 32e6
"""Of exit waves, of which copies are made at a time."""

_INNER_BYTES = 256e6
"""Of what probes and basis have in common, that is kept; beyond that it is made once more each time."""

_SEED = 20170313
"""Of the random combinations in which the basis is sought: fixed, so that the same probes give the same basis."""


class ApertureWaves:
    """Waves that are zero outside the aperture, by their values at its pixels.

    Parameters
    ----------
    spectra : (d, nx, ny) ndarray
        Probes at the origin, one for each defocus, see `probe.probe_spectrum`.

    Attributes
    ----------
    rows, columns : (b,) ndarray of int
        Indices of the pixels of the aperture.
    """

    def __init__(self, spectra: ComplexArray) -> None:
        self.rows, self.columns = np.nonzero((spectra != 0).any(axis=0))
        self._values = spectra[:, self.rows, self.columns]

    def probes(self, kx: FloatArray, ky: FloatArray, positions: ArrayLike, defocus: int) -> NDArray[np.complex128]:
        """Probes of one defocus at the given positions, Eq. (P9).

        Parameters
        ----------
        kx, ky : (nx,), (ny,) ndarray
            Frequencies of the grid [Å⁻¹].
        positions : (m, 2) array_like
            (x, y) [Å].
        defocus : int
            Index of the spectrum.

        Returns
        -------
        (b, m) ndarray
        """
        x, y = np.asarray(positions, dtype=np.float64).T
        # A scan has few different coordinates: each exponential is taken once.
        (xs, at_x), (ys, at_y) = (np.unique(values, return_inverse=True) for values in (x, y))
        shift_x = np.exp(-2j * np.pi * np.outer(kx, xs))[self.rows][:, at_x]
        shift_y = np.exp(-2j * np.pi * np.outer(ky, ys))[self.columns][:, at_y]
        return self._values[defocus][:, None] * shift_x * shift_y


def probe_basis(probes: Collection[NDArray[np.complex128]], tolerance: float) -> NDArray[np.complex128]:
    """Orthonormal basis of a set of probes to a relative RMS error, as small as that allows, Eq. (P18).

    Parameters
    ----------
    probes : collection of (b, m) ndarray
        Blocks of probes, in columns; it is gone through several times, and may make them each time.
    tolerance : float
        Bound of √(Σ|pⱼ − QQᴴpⱼ|² / Σ|pⱼ|²) over the probes of each block: none may carry the error of the others.

    Returns
    -------
    (b, r) ndarray
        Orthonormal waves Q in columns, the most important first.

    Raises
    ------
    ValueError
        If the tolerance is not positive or there is no probe.
    """
    if not tolerance > 0 or not len(probes):
        raise ValueError(f"tolerance = {tolerance} for {len(probes)} blocks of probes: need a positive one and probes")
    totals, number, pixels = [], 0, 0
    for block in probes:
        totals.append(_squared(block))
        number, pixels = number + block.shape[1], len(block)
    total = np.array(totals)
    full = min(pixels, number)
    random = np.random.default_rng(_SEED)
    found = np.empty((pixels, 0), dtype=np.complex128)
    held = np.zeros_like(total)
    kept: list[list[NDArray[np.complex128]]] | None = [[] for _ in totals]
    while found.shape[1] < full:
        more = min(max(_FIRST_RANK, found.shape[1] // 4), full - found.shape[1])
        # The range of the probes, from random combinations of them; twice orthogonalised, as one pass leaves rounding.
        sample = np.zeros((pixels, more), dtype=np.complex128)
        for block in probes:
            combinations = random.standard_normal((block.shape[1], more))
            sample.real += block.real @ combinations
            sample.imag += block.imag @ combinations
        for _ in range(2):
            sample = sample - found @ (found.conj().T @ sample)
            sample, _ = np.linalg.qr(sample)
        found = np.hstack([found, sample])
        if kept is not None and 16 * found.shape[1] * number > _INNER_BYTES:
            kept = None
        for index, block in enumerate(probes):
            inner = sample.conj().T @ block
            held[index] += _squared(inner)
            if kept is not None:
                kept[index].append(inner)
        # Well below the tolerance, so that the best basis within what was found is hardly larger than the best of all.
        if (total - held <= (0.3 * tolerance) ** 2 * total).all():
            break

    def inners() -> Iterator[NDArray[np.complex128]]:
        # Of what was found and each block of probes, (rank, m).
        if kept is None:
            yield from (found.conj().T @ block for block in probes)
        else:
            yield from map(np.concatenate, kept)

    rank = found.shape[1]
    gram = np.zeros((rank, rank), dtype=np.complex128)
    for inner in inners():
        gram += inner @ inner.conj().T
    _, vectors = np.linalg.eigh(gram)
    vectors = vectors[:, ::-1]
    # What the first waves hold of each block: (blocks, rank).
    shares = np.array([np.square(np.abs(vectors.conj().T @ inner)).sum(axis=1) for inner in inners()])
    enough = (total[:, None] - np.cumsum(shares, axis=1) <= tolerance**2 * total[:, None]).all(axis=0)
    basis = found @ vectors
    return basis[:, : int(np.argmax(enough)) + 1 if enough.any() else rank]


def _squared(values: NDArray[np.complex128]) -> float:
    return float(np.sum(np.square(values.real)) + np.sum(np.square(values.imag)))


def signal_forms(waves: ComplexArray, regions: Sequence[Region]) -> ComplexArray:
    """Hermitian matrices of detector regions, H_rs = Σ_k w(k) φ_r*(k) φ_s(k), Eq. (P18).

    Parameters
    ----------
    waves : (r, p) ndarray
        Exit waves φ of the basis at the detectors' pixels.
    regions : sequence of Region
        See `detectors.DetectorSet.regions`.

    Returns
    -------
    (n, r, r) ndarray
        One matrix for each region, in the precision of the waves; Hermitian to the last bit.
    """
    forms = np.zeros((len(regions), len(waves), len(waves)), dtype=waves.dtype)
    step = max(1, int(_CHUNK_BYTES / (len(waves) * waves.itemsize)))
    for form, region in zip(forms, regions, strict=True):
        for first in range(0, region.pixels.size, step):
            some = slice(first, first + step)
            part = waves[:, region.pixels[some]]
            if region.weights is None:
                form += _products(part)
            else:
                form += (part.conj() * region.weights[some].astype(waves.real.dtype)) @ part.T
        form[...] = np.triu(form) + np.triu(form, 1).conj().T
    return forms


def _products(waves: ComplexArray) -> ComplexArray:
    """Σ_k φ_r*(k) φ_s(k) with half the multiplications of a complex product: its real part is symmetric."""
    parts = np.concatenate([waves.real, waves.imag], axis=1)
    real, imag = np.split(parts, 2, axis=1)
    products = np.empty((len(waves), len(waves)), dtype=waves.dtype)
    # NumPy takes the product of an array with its own transpose for what it is.
    products.real = parts @ parts.T
    crossed = real @ imag.T
    products.imag = crossed - crossed.T
    return products


def evaluate(forms: ComplexArray, coefficients: ComplexArray) -> FloatArray:
    """Intensities aⱼᴴ H aⱼ of superpositions, Eq. (P18).

    Parameters
    ----------
    forms : (n, r, r) ndarray
    coefficients : (r, m) ndarray

    Returns
    -------
    (n, m) ndarray
    """
    a = coefficients.astype(forms.dtype)
    # Real and imaginary parts side by side; sums in double precision, as the terms of a weak signal cancel.
    parts = np.ascontiguousarray(coefficients, dtype=np.complex128).view(np.float64)
    result = np.empty((len(forms), a.shape[1]))
    for intensities, form in zip(result, forms, strict=True):
        products = (form @ a).astype(np.complex128).view(np.float64)
        products *= parts
        products.sum(axis=0).reshape(-1, 2).sum(axis=1, out=intensities)
    return result
