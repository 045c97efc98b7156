"""Multislice: how the electron wave passes through the specimen.

The specimen is cut into thin slices. Each slice shifts the phase of the wave by its projected potential,
Eq. (P3); the wave then travels freely to the next one, Eq. (P4). In between it changes from reciprocal to
real space and back, Eq. (P6).

J. M. Cowley & A. F. Moodie, Acta Cryst. 10 (1957) 609; E. J. Kirkland, Advanced Computing in Electron
Microscopy (2010).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stemphony.physics.fft import Plan2D
from stemphony.physics.grid import FloatArray

ComplexArray = NDArray[np.complexfloating]


def transmission_function(projected: FloatArray, sigma: float, band_limit: FloatArray, plan: Plan2D) -> ComplexArray:
    """Transmission function t(r) = exp(+iσV(r)) of one slice, then band-limited, Eqs. (P3) and (P5).

    Parameters
    ----------
    projected : (nx, ny) ndarray
        Projected potential V of the slice [V Å], see `potential.SlicePotentials`.
    sigma : float
        Interaction parameter σ [rad/(V Å)].
    band_limit : (nx, ny) ndarray
        A_bl(k), see `grid.band_limit`.
    plan : Plan2D
        Transforms on this grid; its buffer is overwritten and its precision is that of the result.

    Returns
    -------
    (nx, ny) ndarray
        t(r), a new array.
    """
    # ASSUME: phase object: within one slice the electrons run straight on. Elastic scattering only.
    wave = plan.buffer
    precision = wave.real.dtype
    phase = (sigma * projected).astype(precision)
    np.cos(phase, out=wave.real)
    np.sin(phase, out=wave.imag)
    plan.forward()
    wave *= (band_limit / plan.size).astype(precision)
    plan.inverse()
    return wave.copy()


def propagate(
    plan: Plan2D,
    spectrum: ComplexArray,
    transmissions: Sequence[ComplexArray],
    propagator: ComplexArray,
    store_after: Sequence[int],
) -> Iterator[tuple[int, ComplexArray]]:
    """Multislice wave after chosen numbers of slices, ψ ← F⁻¹[P·F[t ψ]] per slice, Eq. (P6).

    The wave goes in and comes out as a spectrum, so that a wave that came out may go on through further
    slices.

    Parameters
    ----------
    plan : Plan2D
        Transforms on this grid; its buffer carries the wave.
    spectrum : (nx, ny) ndarray
        Incident wave ψ(k), with Σ|ψ(k)|² = 1 for one electron; copied, not changed. The first slice meets it
        as it is: only what follows is band-limited.
    transmissions : sequence of (nx, ny) ndarray
        t(r) of each slice in the order of passage, see `transmission_function`. Repeated slices may be one
        array.
    propagator : (nx, ny) ndarray
        P(k) over one slice as `propagator.fresnel_propagator` returns it, of modulus 1 at k = 0.
    store_after : sequence of int
        Numbers of slices passed, ascending, from 1. The wave stops after the last of them.

    Yields
    ------
    passed : int
        Number of slices passed, one of `store_after`.
    spectrum : (nx, ny) ndarray
        ψ(k) behind the propagation over that slice. This is the plan's buffer, from which the wave goes on:
        copy it to keep it, and do not change it.

    Raises
    ------
    ValueError
        If `store_after` is not ascending within 1 … number of slices, or the propagator is scaled.
    """
    stops = list(store_after)
    if stops != sorted(set(stops)) or (stops and not (stops[0] >= 1 and stops[-1] <= len(transmissions))):
        raise ValueError(f"store after slices {stops}: must ascend from 1 to at most {len(transmissions)}")
    if abs(abs(propagator[0, 0]) - 1) > 1e-6:
        raise ValueError(f"propagator at k = 0: modulus {abs(propagator[0, 0]):.3g}, must be 1 (P4, unscaled)")

    wave = plan.buffer
    # Neither transform is normalised: the propagator makes up for both.
    step = propagator * wave.real.dtype.type(1 / plan.size)
    np.copyto(wave, spectrum)
    for passed, transmission in zip(range(1, max(stops, default=0) + 1), transmissions, strict=False):
        plan.inverse()
        np.multiply(wave, transmission, out=wave)
        plan.forward()
        np.multiply(wave, step, out=wave)
        if passed in stops:
            yield passed, wave
