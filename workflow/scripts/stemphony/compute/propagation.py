"""The specimen of one job as waves meet it: its slices, the way through them, and the threads that go it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np

from stemphony.compute.atoms import Atoms
from stemphony.experiment.model import NM, Experiment
from stemphony.physics.grid import band_limit, band_limit_columns
from stemphony.physics.multislice import transmission_function
from stemphony.physics.potential import SlicePotentials
from stemphony.physics.probe import Aberrations, probe_spectrum
from stemphony.physics.propagator import fresnel_propagator
from stemphony.physics.strips.one_array import plan_of_strips
from stemphony.physics.strips.plan import StripPlan, Transmission, padded_zeros


class Passage:
    """What the threads of one job share; a context manager, as it owns them.

    Parameters
    ----------
    flag : str
        Planner flag of the FFTs, see `fft.LineTransform`.

    Attributes
    ----------
    propagator : Factor
        P(k) over one slice, Eq. (P4).
    """

    def __init__(self, experiment: Experiment, atoms: Atoms, threads: int, flag: str) -> None:
        self.experiment, self.threads = experiment, threads
        # Plans are made here, before any thread starts; each thread borrows one with its own buffers.
        self._plans = [strip_plan(experiment, flag) for _ in range(threads)]
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads)
        grid = experiment.grid
        limit = band_limit(grid, experiment.bandlimit, experiment.bandlimit_taper)
        propagator = fresnel_propagator(grid, experiment.wavelength, experiment.slice_thickness, limit)
        self._limit, self.propagator = self._plans[0].factor(limit), self._plans[0].factor(propagator)
        self._potentials = SlicePotentials(
            grid, atoms.positions, atoms.symbols.tolist(), atoms.slice_index, experiment.slices,
            experiment.parametrization,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)  # a terminated job must not finish its queue first

    def plan(self) -> Borrowed:
        """Context manager: a plan that no other thread uses meanwhile."""
        return Borrowed(self._plans, self._lock)

    def each(self, action: Callable[[Any], None], items: Iterable[Any]) -> None:
        """Do `action` with every item, on all threads; the first error is raised."""
        for _ in self._pool.map(action, items):
            pass

    def transmissions(self, indices: Sequence[int]) -> list[Transmission]:
        """Transmission functions of the given slices, Eqs. (P2), (P3) and (P5)."""
        e = self.experiment
        made = padded_zeros(e.grid.gpts, e.complex_dtype, len(indices))

        def one(place: int) -> None:
            potential = self._potentials.projected(indices[place])
            with self.plan() as plan:
                transmission_function(potential, e.interaction, self._limit, plan, out=made[place])

        self.each(one, range(len(indices)))
        with self.plan() as plan:
            return [plan.transmission(values) for values in made]


class Borrowed:
    """A plan that is given back at the end of the block."""

    def __init__(self, plans: list[StripPlan], lock: threading.Lock) -> None:
        self._plans, self._lock = plans, lock

    def __enter__(self) -> StripPlan:
        with self._lock:
            self._plan = self._plans.pop()
        return self._plan

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._plans.append(self._plan)


def strip_plan(experiment: Experiment, flag: str) -> StripPlan:
    """Transforms of one wave of this experiment on one thread."""
    columns = band_limit_columns(experiment.grid, experiment.bandlimit)
    return plan_of_strips(experiment.grid.gpts, columns, experiment.complex_dtype, flag)


def probe(experiment: Experiment, defocus_nm: float) -> np.ndarray:
    """Spectrum of the probe at the origin, (nx, ny), Eqs. (P7) to (P9)."""
    return probe_spectrum(
        experiment.grid, experiment.wavelength, experiment.semiangle, experiment.semiangle_inner,
        experiment.soft_aperture, Aberrations(C10=-defocus_nm * NM, **experiment.aberrations),
    )  # fmt: skip
