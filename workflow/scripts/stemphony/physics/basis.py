"""Probes as superpositions of a few orthonormal basis waves, so that fewer waves than probes cross the specimen.

Multislice is linear in the incident wave. Its cost therefore depends on the number of linearly independent probes,
not on the number of probes. The probes of a small scan differ little, over all defoci: 1792 probes (16 × 16 positions
in a unit cell of SrTiO3, 7 defoci) have a numerical rank of 172. A finer scan does not raise the rank. Let q be an
orthonormal basis of the incident probes p, pⱼ = Σ aᵣⱼ qᵣ, and φᵣ the exit wave of the incident wave qᵣ. Then the exit
waves ψⱼ and the intensities Iⱼ of the probes are, Eq. (P18):

    ψⱼ = Σᵣ aᵣⱼ φᵣ          Iⱼ = aⱼᴴ H aⱼ,   Hᵣₛ = Σ_k w(k) φᵣ*(k) φₛ(k)

There is one small Hermitian matrix H per detector and depth. Nothing is interpolated: the only error is the part of
the probes that the truncated basis misses, and the user's tolerance bounds it.

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
"""Number of waves that the search finds first. Each further step adds a quarter of the waves found, but never fewer
than this number."""

_CHUNK_BYTES = 4e6
"""Size of the exit waves that `signal_forms` copies at a time [bytes]. It limits the memory for the copies."""

_KEPT_BYTES = 256e6
"""Largest memory [bytes] for the residuals of the probes and their products with the waves. If both need more, the
search does not keep them and computes them again when it needs them."""

_SMALL_RESIDUAL = 1e-4
"""Relative RMS residual below which the search subtracts the waves found before it looks at the probes. Subtraction
costs time, and above this residual rounding does not matter."""

_ROUNDING = 1e-13
"""Smallest relative tolerance of the search: rounding of the probes in double precision."""

_SEED = 20170313
"""Seed of the random combinations of probes. It is fixed, so that the same probes give the same basis."""


class ApertureWaves:
    """Probes as values at the pixels of the aperture; elsewhere they are zero.

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
        """Return the probes of one defocus at the given positions, Eq. (P9).

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
            One probe in each column.
        """
        x, y = np.asarray(positions, dtype=np.float64).T
        # A scan has few different coordinates, so each exponential is computed once.
        (xs, at_x), (ys, at_y) = (np.unique(values, return_inverse=True) for values in (x, y))
        shift_x = np.exp(-2j * np.pi * np.outer(kx, xs))[self.rows][:, at_x]
        shift_y = np.exp(-2j * np.pi * np.outer(ky, ys))[self.columns][:, at_y]
        return self._values[defocus][:, None] * shift_x * shift_y


def probe_basis(
    probes: Collection[NDArray[np.complex128]], tolerance: float, most: int | None = None
) -> NDArray[np.complex128] | None:
    """Find the smallest orthonormal basis of a set of probes within a relative RMS error, Eq. (P18).

    Parameters
    ----------
    probes : collection of (b, m) ndarray
        Blocks of probes, one probe in each column. The search iterates over them several times.
    tolerance : float
        Bound of √(Σ|pⱼ − QQᴴpⱼ|² / Σ|pⱼ|²) over the probes of each block. It holds for every block by itself.
    most : int or None
        Largest rank. The search gives up as soon as it is certain that the basis needs more waves.

    Returns
    -------
    (b, r) ndarray or None
        Orthonormal waves Q in columns, the most important first; None if the basis needs more than `most`.

    Raises
    ------
    ValueError
        If the tolerance is not positive or there is no probe.
    """
    if not tolerance > 0 or not len(probes):
        raise ValueError(f"tolerance = {tolerance} for {len(probes)} blocks of probes: both must be above 0")
    tolerance = max(tolerance, _ROUNDING)
    search = _Search(probes)
    while len(search.found) < search.full:
        search.go_on()
        # The search goes well below the tolerance. The best basis within its waves is then hardly larger than the best
        # basis of all.
        if search.misses_at_most(0.3 * tolerance):
            break
        # The residual of 2·most random waves is hardly more than √2 times that of the best `most` waves.
        if most is not None and len(search.found) >= 2 * most + FIRST_RANK and not search.misses_at_most(2 * tolerance):
            return None
    basis, tails = search.ordered()
    enough = (tails <= tolerance**2 * search.total[:, None]).all(axis=0)
    rank = int(np.argmax(enough)) + 1 if enough.any() else basis.shape[1]
    return None if most is not None and rank > most else basis[:, :rank]


class _Search:
    """Search for the range of the probes, from random combinations of their residuals.

    The residual of a probe is the part that the waves found so far do not span. A residual below 10⁻⁸ of the probe must
    be computed for each probe. A difference of two sums of squares, or a combination of whole probes, would contain
    only rounding. If the residuals do not fit into memory, the search computes them only when they are small.

    Attributes
    ----------
    found : (r, b) ndarray
        Orthonormal waves so far.
    total, missed : (n,) ndarray
        Σ|pⱼ|² of each block of probes, and the same sum of the residuals.
    full : int
        Number of waves that is enough to span all probes.
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
        # Residuals of each block and its products with the waves, if they fit into memory.
        self._keeps = 16 * number * (pixels + self.full) <= _KEPT_BYTES
        self._left = list(probes) if self._keeps else []
        self._subtracts = self._keeps
        self._inner: list[list[NDArray[np.complex128]]] = [[] for _ in totals]

    def go_on(self) -> None:
        """Find more waves."""
        pixels, known = self.found.shape[1], len(self.found)
        more = min(max(FIRST_RANK, known // 4), self.full - known)
        sample = np.zeros((pixels, more), dtype=np.complex128)
        for block in self._blocks():
            combinations = self._random.standard_normal((block.shape[1], more))
            sample.real += block.real @ combinations
            sample.imag += block.imag @ combinations
        # Without normalisation, the rounding of the longest vectors would be as large as the shortest vectors.
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
        if not self._subtracts and self.misses_at_most(_SMALL_RESIDUAL):
            self._subtracts = True
            self.missed = np.array([_squared(left) for left in self._blocks()])

    def misses_at_most(self, tolerance: float) -> bool:
        """Whether the relative RMS residual of every block is within a tolerance."""
        return bool((self.missed <= tolerance**2 * self.total).all())

    def ordered(self) -> tuple[NDArray[np.complex128], FloatArray]:
        """Return the waves, the most important first, (b, r), and what the first 1 … r miss of each block, (n, r)."""
        gram = np.zeros((len(self.found), len(self.found)), dtype=np.complex128)
        for inner in self._inners():
            gram += inner @ inner.conj().T
        _, vectors = np.linalg.eigh(gram)
        vectors = vectors[:, ::-1]
        shares = np.array([np.square(np.abs(vectors.conj().T @ inner)).sum(axis=1) for inner in self._inners()])
        # The sum begins with the smallest shares, so the rounding of large shares does not hide small ones.
        last_first = np.concatenate([self.missed[:, None], shares[:, :0:-1]], axis=1)
        return self.found.T @ vectors, np.cumsum(last_first, axis=1)[:, ::-1]

    def _blocks(self) -> Iterable[NDArray[np.complex128]]:
        """Residuals of the probes. If they do not fit into memory and are still large: the probes themselves."""
        if self._keeps:
            return iter(self._left)
        if not self._subtracts:
            return self._probes
        return (block - self.found.T @ (self.found.conj() @ block) for block in self._probes)

    def _inners(self) -> Iterator[NDArray[np.complex128]]:
        """Products of the waves with each block of probes, (r, m)."""
        if self._keeps:
            yield from map(np.concatenate, self._inner)
        else:
            yield from (self.found.conj() @ block for block in self._probes)


def _squared(values: NDArray[np.complex128]) -> float:
    return float(np.sum(np.square(values.real)) + np.sum(np.square(values.imag)))


def signal_forms(waves: ComplexArray, regions: Sequence[Region]) -> ComplexArray:
    """Compute the Hermitian matrices of detector regions, H_rs = Σ_k w(k) φ_r*(k) φ_s(k), Eq. (P18).

    Parameters
    ----------
    waves : (r, p) ndarray
        Exit waves φ of the basis at the pixels of `DetectorSet.pixels`.
    regions : sequence of Region
        See `detectors.DetectorSet.regions`.

    Returns
    -------
    (n, r, r) ndarray
        One matrix for each region, in the precision of the waves; Hermitian to the last bit.
    """
    forms = np.zeros((len(regions), len(waves), len(waves)), dtype=waves.dtype)
    carried = _carried(regions, waves)
    levels = None if carried is None else regions[carried].weights
    for number, (form, region) in enumerate(zip(forms, regions, strict=True)):
        if region.weights is not None:
            if number != carried:
                _add_weighted(form, waves, region.pixels, region.weights)
        elif carried is None or levels is None:
            _add_products(form, _sum_of_products(waves, region.pixels))
        else:
            _add_with_levels(form, forms[carried], waves, region.pixels, levels)
    return forms


def summed_pixels(waves: ComplexArray, regions: Sequence[Region]) -> int:
    """Number of pixels at which `signal_forms` multiplies all waves with each other, summed over the regions.

    A moment that comes from the sums of other regions has no pixels of its own. Pixels of weight 0 are left out.
    """
    carried = _carried(regions, waves)
    own = (region for number, region in enumerate(regions) if number != carried)
    return sum(
        region.pixels.size if region.weights is None else int(np.count_nonzero(region.weights)) for region in own
    )


_SHORTEST_RUN = 64
"""Smallest mean length [pixels] of runs of equal weights for which the products are summed run by run. For shorter runs
the sums cost as much as the products."""

_CACHE_BYTES = 1e6
"""Largest size of the products of one run [bytes]. Larger products do not stay in the cache until the next run."""


def _carried(regions: Sequence[Region], waves: ComplexArray) -> int | None:
    """The region whose matrix is a weighted sum of products that the regions without weights need anyway; or None.

    The regions without weights share no pixel, and together they hold all pixels. The moment along ky has equal weights
    along each column of the grid, so it needs no products of its own.
    """
    plain = [region.pixels for region in regions if region.weights is None]
    if 4 * len(waves) ** 2 * waves.real.itemsize > _CACHE_BYTES or sum(map(len, plain)) != waves.shape[1]:
        return None
    for number, region in enumerate(regions):
        if region.weights is not None and region.pixels.size == waves.shape[1]:
            runs = sum(1 + np.count_nonzero(np.diff(region.weights[pixels])) for pixels in plain)
            if runs * _SHORTEST_RUN <= waves.shape[1]:
                return number
    return None


def _add_with_levels(
    form: ComplexArray, carried: ComplexArray, waves: ComplexArray, pixels: NDArray[np.int64], levels: FloatArray
) -> None:
    """Put the matrix of a region without weights into `form`, and add that of its weighted pixels to `carried`."""
    weights = levels[pixels].astype(waves.real.dtype)
    ends = [*(np.flatnonzero(np.diff(weights)) + 1).tolist(), pixels.size]
    plain, weighted, of_run = (np.zeros((2 * len(waves),) * 2, dtype=weights.dtype) for _ in range(3))
    first = 0
    for end in ends:
        for parts in _real_parts(waves, pixels[first:end]):
            np.matmul(parts, parts.T, out=of_run)
            plain += of_run
            of_run *= weights[first]
            weighted += of_run
        first = end
    _add_products(form, plain)
    _add_products(carried, weighted)


def _add_weighted(form: ComplexArray, waves: ComplexArray, pixels: NDArray[np.int64], weights: FloatArray) -> None:
    """Add the matrix of a region with weights. Products of waves times √|w| need half the multiplications."""
    for sign in (1, -1):
        some = np.flatnonzero(sign * weights > 0)
        if some.size:
            _add_products(form, sign * _sum_of_products(waves, pixels[some], np.sqrt(np.abs(weights[some]))))


def _sum_of_products(
    waves: ComplexArray, pixels: NDArray[np.int64], factors: FloatArray | None = None
) -> NDArray[np.floating]:
    """Sums over pixels of all products of real and imaginary parts, (2r, 2r), of waves times real factors."""
    sums = np.zeros((2 * len(waves),) * 2, dtype=waves.real.dtype)
    for parts in _real_parts(waves, pixels, factors):
        # NumPy computes only half of the product of an array with its own transpose.
        sums += parts @ parts.T
    return sums


def _real_parts(
    waves: ComplexArray, pixels: NDArray[np.int64], factors: FloatArray | None = None
) -> Iterator[NDArray[np.floating]]:
    """Real parts of all waves at some pixels, then their imaginary parts, times factors, in blocks (2r, q)."""
    step = max(1, int(_CHUNK_BYTES / (len(waves) * waves.itemsize)))
    for first in range(0, pixels.size, step):
        part = waves.take(pixels[first : first + step], axis=1, mode="clip")
        if factors is not None:
            part *= factors[first : first + step].astype(part.real.dtype)
        yield np.concatenate([part.real, part.imag])


def _add_products(form: ComplexArray, products: NDArray[np.floating]) -> None:
    """Add Σ φ_r* φ_s to a matrix (r, r), from sums of products of real and imaginary parts, (2r, 2r)."""
    real, imag = np.split(products, 2)
    number = len(form)
    # Each sum is added as a whole, so the matrix stays Hermitian to the last bit. Then half of it may be stored.
    form.real += real[:, :number] + imag[:, number:]
    form.imag += real[:, number:] - imag[:, :number]


def evaluate(forms: ComplexArray, coefficients: ComplexArray) -> FloatArray:
    """Compute the intensities aⱼᴴ H aⱼ of superpositions, Eq. (P18).

    Parameters
    ----------
    forms : (n, r, r) ndarray
        Matrices H of the regions, see `signal_forms`.
    coefficients : (r, m) ndarray
        Coefficients a of the probes, one probe in each column.

    Returns
    -------
    (n, m) ndarray
        Intensity of each probe in each region.
    """
    a = coefficients.astype(forms.dtype)
    # Sums of real and imaginary parts side by side, in double precision because the terms of a weak signal cancel.
    parts = np.ascontiguousarray(coefficients, dtype=np.complex128).view(np.float64)
    result = np.empty((len(forms), a.shape[1]))
    for intensities, form in zip(result, forms, strict=True):
        products = (form @ a).astype(np.complex128).view(np.float64)
        products *= parts
        products.sum(axis=0).reshape(-1, 2).sum(axis=1, out=intensities)
    return result
