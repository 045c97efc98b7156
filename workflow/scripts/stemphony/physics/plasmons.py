"""Plasmon scattering: how often, at which depth, by which angle and with which energy loss, Eqs. (P33) to (P36).

Plasmons are delocalised, so an electron that excites a plasmon is deflected as a whole: its wave gets a phase ramp.
Waves with different events do not interfere. One draw of events is a `Trajectory`. There are three classes of
electrons: without a loss, with one loss and with several. Their shares are known exactly. So the code draws only the
events inside the last two classes.

B. G. Mendis, Ultramicroscopy 206 (2019) 112816; B. G. Mendis, Microscopy 69 (2020) 173 (Poisson statistics);
A. Beyer et al., Sci. Rep. 10 (2020) 17890; R. F. Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope
(2011), chapter 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemphony.physics.constants import REST_ENERGY
from stemphony.physics.electron import wavelength
from stemphony.physics.grid import FloatArray

PLASMONS = 7
"""Purpose of the random numbers of plasmons, see `phonons.generator`."""

_FINER = 8
"""Smallest number of points of the loss line for each entry of the energy axis. It is even, so that half an entry is a
whole number of points."""

_POINTS_PER_WIDTH = 16
"""Smallest number of points of the loss line inside its full width."""

_DIRECT = 4096
"""Largest number of points of distributions that are convolved directly. This takes time that grows with the square of
the number; longer distributions are convolved with FFTs."""

_LINE_END = 20.0
"""Largest loss of one event [plasmon energies]. The line falls as E⁻³, so less than 1e-4 of all events have a larger
loss."""


def characteristic_angle(loss: ArrayLike, energy: float) -> FloatArray:
    """Characteristic angle θ_E = E(E₀ + mc²)/(E₀(E₀ + 2mc²)), Eq. (P34).

    Parameters
    ----------
    loss : array_like
        Energy loss E [eV].
    energy : float
        Energy E₀ of the beam [eV].

    Returns
    -------
    ndarray
        θ_E [rad].
    """
    made: FloatArray = np.asarray(loss, dtype=np.float64) * (
        (energy + REST_ENERGY) / (energy * (energy + 2 * REST_ENERGY))
    )
    return made


@dataclass(frozen=True)
class Trajectory:
    """The events of one electron along its way.

    Attributes
    ----------
    depths : tuple of float
        Depth of each event [Å], ascending.
    deflections : tuple of (float, float)
        Change of the wave vector by each event (x, y) [Å⁻¹].
    angles : tuple of float
        Scattering angle of each event [rad].
    weight : float
        Share of the incident electrons that the trajectory represents.
    """

    depths: tuple[float, ...]
    deflections: tuple[tuple[float, float], ...]
    angles: tuple[float, ...]
    weight: float

    @property
    def events(self) -> tuple[tuple[float, float, float], ...]:
        """Depth [Å] and deflection (x, y) [Å⁻¹] of each event, as `deflection` takes them."""
        return tuple((z, *q) for z, q in zip(self.depths, self.deflections, strict=True))


Events = tuple[tuple[float, float, float], ...]


def deflection(events: Events, top: float, bottom: float) -> tuple[float, float]:
    """Mean deflection of the wave between two depths [Å⁻¹]. If `top` = `bottom`: that of all events down to it.

    If the deflection changes over a distance, free propagation needs only the mean deflection. The difference is a
    constant phase, Eq. (P36).
    """
    mean = np.zeros(2)
    for depth, qx, qy in events:
        share = float(depth <= bottom) if bottom <= top else min(1.0, max(0.0, (bottom - depth) / (bottom - top)))
        mean += share * np.array([qx, qy])
    return float(mean[0]), float(mean[1])


@dataclass(frozen=True)
class Plasmons:
    """Plasmon scattering in a specimen of one material, Eqs. (P33) to (P36).

    Attributes
    ----------
    beam_energy : float
        Energy E₀ of the beam [eV].
    top, bottom : float
        Depths between which plasmons are excited [Å].
    mean_free_path : float
        Mean free path Λ [Å].
    plasmon_energy, width : float
        Energy E_p and full width Γ of the loss line [eV].
    max_energy : float
        Largest entry of the energy axis [eV].
    density : float
        Entries of the energy axis per eV.
    plural : bool
        Whether an electron may excite more than one plasmon. If not, it loses no energy after its first plasmon.
    simple : bool
        Whether every plasmon has exactly the energy E_p.
    cutoff : float or None
        Largest scattering angle of one event [rad]; None for √(2 θ_E).
    draws : int
        Trajectories of each class that a configuration draws.
    """

    beam_energy: float
    top: float
    bottom: float
    mean_free_path: float
    plasmon_energy: float
    width: float
    max_energy: float
    density: float
    plural: bool
    simple: bool
    cutoff: float | None = None
    draws: int = 1

    @cached_property
    def energies(self) -> tuple[float, ...]:
        """Entries of the energy axis [eV], from 0. The last entry also counts every larger loss."""
        number = max(1, round(self.max_energy * self.density))
        return tuple(i / self.density for i in range(number + 1))

    @property
    def waves(self) -> int:
        """Number of waves for each wave of an elastic simulation: one without losses, and one for each trajectory."""
        return 1 + (2 if self.plural else 1) * self.draws

    def thickness(self, depth: float) -> float:
        """Length in the material down to a depth [Å]."""
        return min(max(depth, self.top), self.bottom) - self.top

    def zero_loss(self, depth: float) -> float:
        """Share of electrons without a loss at a depth [Å], e^(−t/Λ), Eq. (P33)."""
        return math.exp(-self.thickness(depth) / self.mean_free_path)

    # --- energies and angles of one event -----------------------------------------------------------------------

    @cached_property
    def _finer(self) -> int:
        """Points of the loss line for each entry of the energy axis, even."""
        return max(_FINER, 2 * math.ceil(_POINTS_PER_WIDTH / (2 * self.width * self.density)))

    @cached_property
    def line(self) -> tuple[FloatArray, FloatArray]:
        """Energies [eV] and probabilities of the loss of one event: the free-electron line, Eq. (P35)."""
        # ASSUME: a single free-electron (Drude) line: no surface plasmons, no interband transitions, no core losses.
        if self.simple:
            return np.array([self.plasmon_energy]), np.ones(1)
        step = 1 / (self.density * self._finer)
        energies = step * np.arange(1, math.ceil(_LINE_END * self.plasmon_energy / step) + 1, dtype=np.float64)
        resonance = (energies**2 - self.plasmon_energy**2) ** 2 + (energies * self.width) ** 2
        masses: FloatArray = energies / resonance
        masses /= masses.sum()
        return energies, masses

    @cached_property
    def _cumulative(self) -> FloatArray:
        made: FloatArray = np.cumsum(self.line[1])
        return made

    @cached_property
    def _angular(self) -> tuple[FloatArray, FloatArray]:
        """θ_E² and θ_c²/θ_E² of each point of the line."""
        characteristic = characteristic_angle(self.line[0], self.beam_energy)
        # ASSUME: dP/dΩ ∝ 1/(θ² + θ_E²) up to a sharp cut-off, the same for all crystal directions.
        largest = np.sqrt(2 * characteristic) if self.cutoff is None else np.full_like(characteristic, self.cutoff)
        squared: FloatArray = characteristic**2
        ratio: FloatArray = (largest / characteristic) ** 2
        return squared, ratio

    def angles(self, loss: NDArray[np.int64], random: ArrayLike) -> FloatArray:
        """Scattering angles [rad] for points `loss` of the line and uniform numbers in [0, 1), Eq. (P34)."""
        squared, ratio = self._angular
        made: FloatArray = np.sqrt(squared[loss] * np.expm1(np.asarray(random) * np.log1p(ratio[loss])))
        return made

    def spectrum(self, angles: tuple[float, ...]) -> FloatArray:
        """Distribution of the total loss on the energy axis, given the angles of all events [rad].

        The angle of an event depends on its loss, because θ_E grows with the loss. So Bayes' rule gives the
        distribution of the loss for a given angle. Therefore one trajectory fills the whole axis, with the exact mean.
        """
        made = np.zeros(len(self.energies))
        if not angles:
            made[0] = 1.0
            return made
        if self.simple:
            made[self._entry(len(angles) * self.plasmon_energy)] = 1.0
            return made
        last = (len(made) - 1) * self._finer
        inside = np.zeros(last + 1)  # point j is the loss j·step; larger losses are left out and counted at the end
        inside[0] = 1.0
        for angle in angles:
            inside = _convolved(inside, self._losses_at(angle)[: last + 1])
        entries = np.clip((np.arange(last + 1) + self._finer // 2) // self._finer, 1, len(made) - 1)
        np.add.at(made, entries, inside)
        made[-1] += max(0.0, 1.0 - float(inside.sum()))
        return made

    def _entry(self, loss: float) -> int:
        return min(max(1, math.floor(loss * self.density + 0.5)), len(self.energies) - 1)

    def _losses_at(self, angle: float) -> FloatArray:
        """Probabilities of the losses j·step (j = 0, 1, …) of one event with this angle."""
        squared, ratio = self._angular
        density = self.line[1] / ((angle**2 + squared) * np.log1p(ratio))
        density[angle**2 > squared * ratio * (1 + 1e-12)] = 0.0
        return np.concatenate([[0.0], density / density.sum()])

    # --- trajectories -------------------------------------------------------------------------------------------

    def trajectories(self, random: np.random.Generator) -> tuple[Trajectory, ...]:
        """Draw the trajectories of one configuration. Their weights and `zero_loss` sum to 1, Eq. (P33)."""
        mean = (self.bottom - self.top) / self.mean_free_path
        if mean <= 0:
            return ()
        none = math.exp(-mean)
        one = mean * none if self.plural else -math.expm1(-mean)
        made = list(self._single(random, one / self.draws, mean))
        if self.plural:
            several = max(0.0, -math.expm1(-mean) - one) / self.draws
            for _ in range(self.draws):
                made.append(self._several(random, several, mean))
        return tuple(made)

    def _single(self, random: np.random.Generator, weight: float, mean: float) -> Iterator[Trajectory]:
        """Trajectories with one event. Their depths and angles are spread evenly over the draws."""
        # Latin hypercube: [0, 1) is cut into as many equal parts as there are draws. Each part gives one random number,
        # in a random order.
        parts = np.stack([random.permutation(self.draws) for _ in range(3)])
        spread = (parts + random.random(parts.shape)) / self.draws
        for depth, size, azimuth in spread.T:
            # Without plural scattering, this event is the first of several. The first one lies nearer to the entrance.
            share = depth if self.plural else -math.log1p(depth * math.expm1(-mean)) / mean
            yield self._trajectory(random, np.array([share]), np.array([size]), np.array([azimuth]), weight)

    def _several(self, random: np.random.Generator, weight: float, mean: float) -> Trajectory:
        """Return a trajectory with two or more events. Their number has the Poisson distribution for ≥ 2."""
        number, term = 2, mean**2 / 2
        left = random.random() * (math.expm1(mean) - mean)
        while left > term and term > 0:
            left -= term
            number += 1
            term *= mean / number
        share, size, azimuth = random.random((3, number))
        return self._trajectory(random, np.sort(share), size, azimuth, weight)

    def _trajectory(
        self, random: np.random.Generator, share: FloatArray, size: FloatArray, azimuth: FloatArray, weight: float
    ) -> Trajectory:
        loss = np.searchsorted(self._cumulative, random.random(share.size)).clip(max=self._cumulative.size - 1)
        angles, turn = self.angles(loss, size), 2 * math.pi * azimuth
        q = angles / wavelength(self.beam_energy)
        return Trajectory(
            tuple((self.top + share * (self.bottom - self.top)).tolist()),
            tuple(zip((q * np.cos(turn)).tolist(), (q * np.sin(turn)).tolist(), strict=True)),
            tuple(angles.tolist()), weight,
        )  # fmt: skip

    def shares(self, trajectory: Trajectory, depth: float) -> FloatArray:
        """Weight of a trajectory at a depth [Å], on the energy axis. Before its first event the weight is 0.

        Electrons without a loss have the exact weight `zero_loss` instead.
        """
        passed = sum(z <= depth for z in trajectory.depths)
        if not passed:
            return np.zeros(len(self.energies))
        return trajectory.weight * self.spectrum(trajectory.angles[:passed])


def _convolved(one: FloatArray, other: FloatArray) -> FloatArray:
    """Convolve two distributions of losses. The result ends where the first distribution ends."""
    length = one.size
    if length <= _DIRECT:
        direct: FloatArray = np.convolve(one, other)[:length]
        return direct
    whole = length + other.size
    made = np.fft.irfft(np.fft.rfft(one, whole) * np.fft.rfft(other, whole), whole)[:length]
    return np.clip(made, 0.0, None)  # rounding turns some zeros into negative numbers
