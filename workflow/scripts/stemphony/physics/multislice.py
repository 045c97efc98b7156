"""Multislice: how the electron wave passes through the specimen.

The specimen is cut into thin slices. Each slice shifts the phase of the wave by its projected potential,
Eq. (P3). Then the wave travels freely to the next slice, Eq. (P4). Between these two steps the code transforms the
wave from reciprocal to real space or back, Eq. (P6).

J. M. Cowley & A. F. Moodie, Acta Cryst. 10 (1957) 609; E. J. Kirkland, Advanced Computing in Electron
Microscopy (2010).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from stemphony.physics.grid import FloatArray
from stemphony.physics.strips.plan import Factor, StripPlan, Transmission, padded_zeros

ComplexArray = NDArray[np.complexfloating]


def transmission_function(
    projected: FloatArray, sigma: float, band_limit: Factor, plan: StripPlan, out: ComplexArray | None = None
) -> ComplexArray:
    """Band-limited transmission function t(r) = exp(+iσV(r)) of one slice, Eqs. (P3) and (P5).

    Parameters
    ----------
    projected : (nx, ny) ndarray
        Projected potential V of the slice [V Å], see `potential.SlicePotentials`.
    sigma : float
        Interaction parameter σ [rad/(V Å)].
    band_limit : Factor
        A_bl(k), see `grid.band_limit`, as `plan.factor`.
    plan : StripPlan
        Transforms on this grid. Its wave is overwritten. The result has its precision.
    out : (nx, ny) ndarray or None
        Array for the result, from `padded_zeros`; None for a new one.

    Returns
    -------
    (nx, ny) ndarray
        t(r), with the rows of `padded_zeros`.
    """
    # ASSUME: a slice is a phase object: electrons run straight through it. They scatter elastically only.
    wave = plan.wave
    phase = (sigma * projected).astype(wave.real.dtype)
    np.cos(phase, out=wave.real)
    np.sin(phase, out=wave.imag)
    plan.from_real_space()
    plan.travel(band_limit)
    plan.to_real_space()
    if out is None:
        out = padded_zeros(plan.shape, plan.dtype)
    np.copyto(out, wave)
    return out


def cropped_transmission(
    projected: FloatArray, sigma: float, band_limit: FloatArray, out: ComplexArray
) -> ComplexArray:
    """Transmission function of one slice from its potential on a finer grid, Eqs. (P3) and (P5).

    exp(+iσV) is made on the finer grid. Its Fourier coefficients inside the band limit are kept.

    Parameters
    ----------
    projected : (f·nx, f·ny) ndarray
        Projected potential V of the slice [V Å] on a grid of the same extent, f = 1, 2, …
    sigma : float
        Interaction parameter σ [rad/(V Å)].
    band_limit : (nx, ny) ndarray
        A_bl(k) on the grid of the waves, see `grid.band_limit`.
    out : (nx, ny) ndarray
        Array for the result, single or double precision.

    Returns
    -------
    (nx, ny) ndarray
        t(r) on the grid of the waves; `out`.
    """
    import scipy.fft

    rows, columns = (np.flatnonzero(band_limit.any(axis=other)) for other in (1, 0))
    # Where these frequencies lie in the spectrum of the finer grid.
    fine_rows, fine_columns = (
        np.where(kept < (n + 1) // 2, kept, kept + fine - n)
        for kept, n, fine in zip((rows, columns), band_limit.shape, projected.shape, strict=True)
    )
    half = np.empty((projected.shape[0], len(columns)), dtype=out.dtype)
    for begin in range(0, len(half), _ROWS_AT_ONCE):
        block = slice(begin, begin + _ROWS_AT_ONCE)
        phase = (sigma * projected[block]).astype(out.real.dtype)
        wave = np.empty(phase.shape, dtype=out.dtype)
        np.cos(phase, out=wave.real)
        np.sin(phase, out=wave.imag)
        half[block] = scipy.fft.fft(wave, axis=1, norm="forward", overwrite_x=True)[:, fine_columns]
    kept = scipy.fft.fft(half, axis=0, norm="forward", overwrite_x=True)[fine_rows]
    spectrum = np.zeros(band_limit.shape, dtype=out.dtype)
    spectrum[np.ix_(rows, columns)] = kept * band_limit[np.ix_(rows, columns)].astype(out.real.dtype)
    np.copyto(out, scipy.fft.ifft2(spectrum, norm="forward", overwrite_x=True))
    return out


_ROWS_AT_ONCE = 64
"""Rows of the finer grid whose exponentials are in memory at the same time."""


def propagate(
    plan: StripPlan,
    spectrum: ComplexArray,
    transmissions: Sequence[Transmission],
    propagators: Factor | Sequence[Factor],
    store_after: Sequence[int],
) -> Iterator[tuple[int, ComplexArray]]:
    """Multislice wave after chosen numbers of slices, ψ ← F⁻¹[P·F[t ψ]] per slice, Eq. (P6).

    The wave enters and leaves as a spectrum, so an exit wave can be the incident wave of further slices.

    Parameters
    ----------
    plan : StripPlan
        Transforms on this grid; its buffers carry the wave.
    spectrum : (nx, ny) ndarray
        Incident wave ψ(k), with Σ|ψ(k)|² = 1 for one electron. It is copied, not changed. No band limit acts on it
        before the first slice.
    transmissions : sequence of Transmission
        t(r) of each slice in the order of the beam, see `transmission_function`, as `plan.transmission`. Equal slices
        may share one.
    propagators : Factor or sequence of Factor
        P(k) over each slice, see `propagator.fresnel_propagator`, as `plan.factor`. A single one holds for all slices.
    store_after : sequence of int
        Numbers of slices passed, ascending, from 1. The wave stops after the last of them.

    Yields
    ------
    passed : int
        Number of slices passed, one of `store_after`.
    spectrum : (nx, ny) ndarray
        ψ(k) after the propagation over this slice. This is a buffer of the plan. To keep it, copy it, because the next
        wave or depth overwrites it.

    Raises
    ------
    ValueError
        If `store_after` is not ascending within 1 … number of slices, the numbers of transmissions and propagators
        differ, or the wave is not zero beyond the band limit of the plan.
    """
    if not isinstance(propagators, Factor) and len(propagators) != len(transmissions):
        raise ValueError(f"{len(transmissions)} transmissions and {len(propagators)} propagators: must be equally many")
    stops = list(store_after)
    if stops != sorted(set(stops)) or (stops and not (stops[0] >= 1 and stops[-1] <= len(transmissions))):
        raise ValueError(f"store after slices {stops}: must ascend from 1 to at most {len(transmissions)}")

    each = repeat(propagators) if isinstance(propagators, Factor) else propagators
    plan.load(spectrum)
    for passed, transmission, propagator in zip(range(1, max(stops, default=0) + 1), transmissions, each, strict=False):
        plan.transmit(transmission)
        plan.travel(propagator, keep=passed in stops, go_on=passed < stops[-1])
        if passed in stops:
            yield passed, plan.spectrum
