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

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemphony.physics.detectors import Region
from stemphony.physics.fft import ComplexArray
from stemphony.physics.grid import FloatArray

FIRST_RANK = 64
"""Waves that are sought first; later a quarter more at a time, and no fewer."""
_CHUNK_BYTES = 32e6
"""Of exit waves, of which copies are made at a time."""

_KEPT_BYTES = 256e6
"""Of what is left of the probes during the search, and what they have of each wave; beyond that both are made anew."""

_LITTLE = 1e-4
"""Of the probes, as relative RMS. To make what is left of them costs more than to look at them."""

_ROUNDING = 1e-13
"""Of the probes themselves: nothing smaller is sought."""

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


def probe_basis(
    probes: Collection[NDArray[np.complex128]], tolerance: float, most: int | None = None
) -> NDArray[np.complex128] | None:
    """Orthonormal basis of a set of probes to a relative RMS error, as small as that allows, Eq. (P18).

    Parameters
    ----------
    probes : collection of (b, m) ndarray
        Blocks of probes, in columns; it is gone through several times, and may make them each time.
    tolerance : float
        Bound of √(Σ|pⱼ − QQᴴpⱼ|² / Σ|pⱼ|²) over the probes of each block: none may carry the error of the others.
    most : int or None
        Give up as soon as it is certain that more waves than this are needed.

    Returns
    -------
    (b, r) ndarray or None
        Orthonormal waves Q in columns, the most important first; None if there would be more than `most`.

    Raises
    ------
    ValueError
        If the tolerance is not positive or there is no probe.
    """
    if not tolerance > 0 or not len(probes):
        raise ValueError(f"tolerance = {tolerance} for {len(probes)} blocks of probes: need a positive one and probes")
    tolerance = max(tolerance, _ROUNDING)
    search = _Search(probes)
    while len(search.found) < search.full:
        search.go_on()
        # Well below the tolerance, so that the best basis within what was found is hardly larger than the best of all.
        if search.misses_at_most(0.3 * tolerance):
            break
        # So many random waves miss hardly √2 times what the best `most` do.
        if most is not None and len(search.found) >= 2 * most + FIRST_RANK and not search.misses_at_most(2 * tolerance):
            return None
    basis, tails = search.ordered()
    enough = (tails <= tolerance**2 * search.total[:, None]).all(axis=0)
    rank = int(np.argmax(enough)) + 1 if enough.any() else basis.shape[1]
    return None if most is not None and rank > most else basis[:, :rank]


class _Search:
    """The range of the probes, found from random combinations of what earlier waves leave of them.

    What is left is made probe by probe: the difference of two sums of squares is nothing but rounding below 10⁻⁸ of the
    probes, and so are combinations of whole probes. Where it cannot be kept in memory, not before it is little.

    Attributes
    ----------
    found : (r, b) ndarray
        Orthonormal waves so far.
    total, missed : (n,) ndarray
        Σ|pⱼ|² of each block of probes, and what the waves found leave of it.
    full : int
        No basis has more waves.
    """

    def __init__(self, probes: Collection[NDArray[np.complex128]]) -> None:
        self._probes = probes
        totals, number, pixels = [], 0, 0
        for block in probes:
            totals.append(_squared(block))
            number, pixels = number + block.shape[1], len(block)
        self.total, self.full = np.array(totals), min(pixels, number)
        self.missed = self.total.copy()
        self.found = np.empty((0, pixels), dtype=np.complex128)
        self._random = np.random.default_rng(_SEED)
        # Kept where there is room: what is left of each block, and what it has of each wave found.
        self._keeps = 16 * number * (pixels + self.full) <= _KEPT_BYTES
        self._left = list(probes) if self._keeps else []
        self._subtracts = self._keeps
        self._inner: list[list[NDArray[np.complex128]]] = [[] for _ in totals]

    def go_on(self) -> None:
        """Find some more waves."""
        pixels, known = self.found.shape[1], len(self.found)
        more = min(max(FIRST_RANK, known // 4), self.full - known)
        sample = np.zeros((pixels, more), dtype=np.complex128)
        for block in self._blocks():
            combinations = self._random.standard_normal((block.shape[1], more))
            sample.real += block.real @ combinations
            sample.imag += block.imag @ combinations
        # Each wave as long as the others, or rounding of the longest would be taken for the shortest.
        sample, _ = np.linalg.qr(sample)
        for _ in range(2):
            sample = sample - self.found.T @ (self.found.conj() @ sample)
            sample, _ = np.linalg.qr(sample)
        for index, block in enumerate(self._blocks()):
            inner = sample.conj().T @ block
            if self._keeps:
                self._inner[index].append(inner)
            if not self._subtracts:
                self.missed[index] -= _squared(inner)
                continue
            left = block - sample @ inner
            self.missed[index] = _squared(left)
            if self._keeps:
                self._left[index] = left
        self.found = np.concatenate([self.found, sample.T])
        if not self._subtracts and self.misses_at_most(_LITTLE):
            self._subtracts = True
            self.missed = np.array([_squared(left) for left in self._blocks()])

    def misses_at_most(self, tolerance: float) -> bool:
        """Whether of no block more is missed, as relative RMS."""
        return bool((self.missed <= tolerance**2 * self.total).all())

    def ordered(self) -> tuple[NDArray[np.complex128], FloatArray]:
        """The waves found, the most important first, (b, r), and what the first 1 … r miss of each block, (n, r)."""
        gram = np.zeros((len(self.found), len(self.found)), dtype=np.complex128)
        for inner in self._inners():
            gram += inner @ inner.conj().T
        _, vectors = np.linalg.eigh(gram)
        vectors = vectors[:, ::-1]
        shares = np.array([np.square(np.abs(vectors.conj().T @ inner)).sum(axis=1) for inner in self._inners()])
        # Summed from the smallest: what the last waves hold is not lost in what the first ones do.
        last_first = np.concatenate([self.missed[:, None], shares[:, :0:-1]], axis=1)
        return self.found.T @ vectors, np.cumsum(last_first, axis=1)[:, ::-1]

    def _blocks(self) -> Iterable[NDArray[np.complex128]]:
        """What is left of the probes; while that is much and cannot be kept, the probes themselves."""
        if self._keeps:
            return iter(self._left)
        if not self._subtracts:
            return self._probes
        return (block - self.found.T @ (self.found.conj() @ block) for block in self._probes)

    def _inners(self) -> Iterator[NDArray[np.complex128]]:
        """Of the waves found and each block of probes, (r, m)."""
        if self._keeps:
            yield from map(np.concatenate, self._inner)
        else:
            yield from (self.found.conj() @ block for block in self._probes)


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
