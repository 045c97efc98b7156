"""The transmission functions, propagators, FFT plans and threads that send waves through the specimen of one job.

`physics.multislice.propagate` sends one wave through slices; a `Propagation` provides its arguments to all threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from stemphony.compute.atoms import Atoms
from stemphony.experiment.model import Experiment
from stemphony.physics.constants import NM
from stemphony.physics.grid import FloatArray, band_limit, band_limit_columns
from stemphony.physics.multislice import cropped_transmission, transmission_function
from stemphony.physics.plasmons import deflection
from stemphony.physics.potential import SlicePotentials
from stemphony.physics.probe import Aberrations, probe_spectrum
from stemphony.physics.propagator import fresnel_propagator
from stemphony.physics.strips.one_array import plan_of_strips
from stemphony.physics.strips.plan import Factor, StripPlan, Transmission, padded_zeros


class Propagation:
    """Specimen, FFT plans and threads of one job; a context manager that ends the threads.

    Parameters
    ----------
    experiment : Experiment
    atoms : Atoms
        The atoms of one configuration in their slices.
    threads : int
        Number of threads; each sends one wave at a time.
    flag : str
        Planner flag of the FFTs, see `fft.LineTransform`.

    Attributes
    ----------
    propagators : list of Factor
        P(k) over each slice, Eq. (P4); slices of equal thickness share one.
    """

    def __init__(self, experiment: Experiment, atoms: Atoms, threads: int, flag: str) -> None:
        self.experiment, self.threads = experiment, threads
        # FFTW must plan before any thread starts. Each thread borrows a plan, and each plan has its own buffers.
        self._plans = [strip_plan(experiment, flag) for _ in range(threads)]
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads)
        grid = experiment.grid
        limit = band_limit(grid, experiment.bandlimit, experiment.bandlimit_taper)
        self._limit, self._limit_factor = limit, self._plans[0].factor(limit)
        self.propagators = propagators(experiment, self._plans[0], limit)
        self._potentials = SlicePotentials(
            grid.finer(experiment.potential_oversampling), atoms.positions, atoms.symbols.tolist(), atoms.slice_index,
            experiment.slices, experiment.factors,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)  # a terminated job must not compute the rest of its queue

    @contextmanager
    def plan(self) -> Iterator[StripPlan]:
        """Lend a plan that no other thread uses until the end of the block."""
        with self._lock:
            plan = self._plans.pop()
        try:
            yield plan
        finally:
            with self._lock:
                self._plans.append(plan)

    def each(self, action: Callable[[Any], None], items: Iterable[Any]) -> None:
        """Call `action` with every item of `items`, on all threads; raises the first error of a call."""
        for _ in self._pool.map(action, items):
            pass

    def transmissions(self, indices: Sequence[int]) -> list[Transmission]:
        """Make the transmission functions of some slices, Eqs. (P2), (P3) and (P5), on all threads.

        `indices` are the numbers of the slices, from 0. The result has one transmission function for each, in their
        order.
        """
        e = self.experiment
        made = padded_zeros(e.grid.gpts, e.complex_dtype, len(indices))

        def one(place: int) -> None:
            potential = self._potentials.projected(indices[place])
            if e.potential_oversampling > 1:
                cropped_transmission(potential, e.interaction, self._limit, made[place])
                return
            with self.plan() as plan:
                transmission_function(potential, e.interaction, self._limit_factor, plan, out=made[place])

        self.each(one, range(len(indices)))
        with self.plan() as plan:
            return [plan.transmission(values) for values in made]


def propagators(experiment: Experiment, plan: StripPlan, limit: FloatArray) -> list[Factor]:
    """Return P(k) over each slice of `experiment`, Eqs. (P4), (P22) and (P36), as factors of `plan`.

    `limit` (nx, ny) is the band limit A_bl(k). Slices of equal thickness and deflection share one factor.
    """
    e, slicing = experiment, experiment.slicing
    # Slices of equal thickness and deflection share a propagator.
    kinds = [
        (dz, deflection(e.deflections, face, face + dz))
        for face, dz in zip(slicing.faces, slicing.thicknesses, strict=True)
    ]
    made = {
        (dz, q): plan.factor(fresnel_propagator(e.grid, e.wavelength, dz, limit, tilt=e.specimen_tilt, deflection=q))
        for dz, q in dict.fromkeys(kinds)
    }
    return [made[kind] for kind in kinds]


def strip_plan(experiment: Experiment, flag: str) -> StripPlan:
    """Return the transforms of one wave of `experiment` on one thread; `flag` as for `fft.LineTransform`."""
    columns = band_limit_columns(experiment.grid, experiment.bandlimit)
    return plan_of_strips(experiment.grid.gpts, columns, experiment.complex_dtype, flag)


def probe(experiment: Experiment, defocus_nm: float) -> np.ndarray:
    """Return the spectrum of the probe at the origin, (nx, ny), Eqs. (P7) to (P9) and (P21).

    `experiment` has grid, aperture, aberrations and tilt. `defocus_nm` is the defocus [nm], positive for underfocus.
    """
    return probe_spectrum(
        experiment.grid, experiment.wavelength, experiment.semiangle, experiment.semiangle_inner,
        experiment.soft_aperture, Aberrations(C10=-defocus_nm * NM, **experiment.aberrations), experiment.beam,
    )  # fmt: skip
