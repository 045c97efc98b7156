"""The variants of a config that an error budget compares. In each variant, one choice is refined.

A budget sends a few probes through one configuration of atoms, first with the choices of the config, then with each
variant. The atoms and their displacements stay the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from stemphony.errors import ConfigError
from stemphony.experiment.campaign import Campaign
from stemphony.experiment.grid_choice import points_at
from stemphony.experiment.model import Experiment
from stemphony.experiment.slice_choice import DIVIDED
from stemphony.physics.constants import MRAD
from stemphony.physics.grid import cheapest_size
from stemphony.physics.periods import Periods

FINER = 2 / 3
"""Spacing of the grid's points in the refined variant, divided by that of the config."""

LARGER = 1.5
"""Size of the cell or window in the refined variant, divided by that of the config."""

U_CHANGE = 0.1
"""One standard deviation of U, as a share of U. The values of different laboratories differ by about as much."""

ALIASING = 2 / 3
"""Largest share of the Nyquist frequency inside the band limit without aliasing, Eq. (P5)."""

OVERSAMPLING = "potential_oversampling"
"""Key of the block `grating`. It is absent if its value is 1."""

_SAME_SHARE = 0.005
"""Shares of the Nyquist frequency that differ by less count as equal, for example 0.6666666 and 0.667."""

NUMERICAL, MODEL, INPUT = "numerical", "model", "input"
"""Kinds of terms. More computing time makes numerical ones smaller, but not those of the model and the input."""

REFERENCE = "reference"
"""The variant with the choices of the config."""

BASIS_POSITIONS = 256
"""Most scan positions in the variant with probe_basis. Its error depends on all probes that share the basis."""


@dataclass(frozen=True)
class Term:
    """One line of the budget.

    Attributes
    ----------
    name : str
    kind : str
        NUMERICAL, MODEL or INPUT.
    variants : tuple of str
        Variants that measure the term. The second variant of a numerical term is refined further.
    """

    name: str
    kind: str
    variants: tuple[str, ...]


TERMS = (
    Term("slices", NUMERICAL, ("slices", "slices_further")),
    Term("sampling", NUMERICAL, ("sampling", "sampling_further")),
    Term("potential", NUMERICAL, ("potential",)),
    Term("band_limit", NUMERICAL, ("band_limit",)),
    Term("cell", NUMERICAL, ("cell",)),
    Term("window", NUMERICAL, ("window",)),
    Term("basis", NUMERICAL, ("basis",)),
    Term("precision", NUMERICAL, ("precision",)),
    Term("parametrization", MODEL, ("parametrization",)),
    Term("u", INPUT, ("u_more", "u_less")),
)
"""All terms, in the order of the table."""


def not_applicable(config: Mapping[str, Any]) -> dict[str, str]:
    """Terms that a validated config leaves out, each with the reason."""
    reasons = {}
    phonons, specimen = config["frozen_phonon"], config["specimen"]
    snapshots = phonons["enabled"] and phonons["snapshots"] is not None
    window, bandlimit = config["grating"]["window_angstrom"], config["grating"]["bandlimit"]
    if abs(bandlimit - ALIASING) < _SAME_SHARE:
        reasons["band_limit"] = (
            f"grating.bandlimit is {bandlimit:.4g}, the largest value without aliasing; the term sampling raises the "
            "band limit with a finer grid"
        )
    if window is None:
        reasons["window"] = "grating.window_angstrom is null, so waves fill the whole cell"
    for applies, reason in (
        (window is not None, "waves fill a window, not the cell; the term window enlarges the window"),
        (snapshots, "the snapshots give the size of the cell"),
        (bool(specimen["amorphous_layers"]), "a larger cell would draw other atoms for the amorphous layers"),
        (bool(specimen["substitutions"]), "a larger cell would draw other places for dopants and vacancies"),
        (
            any(specimen["vacuum_angstrom"][:2]),
            "the specimen has vacuum beside it; change specimen.vacuum_angstrom by hand and compare the images",
        ),
    ):
        if applies:
            reasons.setdefault("cell", reason)
    if config["simulation"]["algorithm"] == "multislice":
        reasons["basis"] = "simulation.algorithm is multislice: each probe is a wave of its own"
    if config["simulation"]["precision"] == "double":
        reasons["precision"] = "simulation.precision is double already"
    if not phonons["enabled"]:
        reasons["u"] = "frozen_phonon.enabled is false, so the atoms are at rest"
    elif snapshots:
        reasons["u"] = "the snapshots are used as they are, without U"
    return reasons


def variants(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of all variants that a validated config needs, the reference first."""
    without = not_applicable(config)
    return (REFERENCE, *(variant for term in TERMS if term.name not in without for variant in term.variants))


def params_of(campaign: Campaign) -> dict[str, Any]:
    """Params that the rules of a campaign's error budget share. They contain everything that decides its numbers."""
    mean = math.fsum(defocus.weight * defocus.value_nm for defocus in campaign.defoci)
    middle = min(campaign.defoci, key=lambda defocus: abs(defocus.value_nm - mean))
    return {
        "common": campaign.common_params,
        "specimen": campaign.specimen_params,
        "defocus_nm": middle.value_nm,
        "no_larger_cell": not_applicable(campaign.config).get("cell", ""),
    }


@dataclass(frozen=True)
class Fixed:
    """What all variants share.

    Attributes
    ----------
    common : mapping
        Blocks of the config that the jobs of the campaign share, `Campaign.common_params`.
    experiment : Experiment
        The experiment of the campaign, on its own cell.
    periods : Periods
        Periods of the specimen.
    places : sequence of (float, float)
        Positions of the budget [Å].
    others : sequence of (float, float)
        Further positions of the scan [Å], for the variant `basis`.
    """

    common: Mapping[str, Any]
    experiment: Experiment
    periods: Periods
    places: Sequence[tuple[float, float]]
    others: Sequence[tuple[float, float]] = ()

    def blocks(self, variant: str, repeats: tuple[float, float] = (1.0, 1.0)) -> dict[str, Any]:
        """Blocks of the config for one variant. Only the refined choice, and what depends on this choice, differs.

        Parameters
        ----------
        variant : str
            One of `variants`.
        repeats : (float, float)
            Size of the larger cell along x and y, divided by that of the config; only for the variant `cell`.

        Returns
        -------
        dict
            Blocks of the config by name, with complete keys.

        Raises
        ------
        ConfigError
            The choice cannot be refined any further.
        """
        made = self._reference()
        if variant in ("slices", "slices_further"):
            made["grating"][DIVIDED] = 2 if variant == "slices" else 4
        elif variant in ("sampling", "sampling_further"):
            self._sample(made["grating"], FINER if variant == "sampling" else FINER**2)
        elif variant == "potential":
            made["grating"][OVERSAMPLING] = math.ceil(made["grating"].get(OVERSAMPLING, 1) / FINER - 1e-9)
        elif variant == "band_limit":
            made["grating"]["bandlimit"] = ALIASING
        elif variant == "cell":
            self._enlarge(made["grating"], repeats)
        elif variant == "window":
            made["grating"]["window_angstrom"] = self._larger_window()
        elif variant == "basis":
            made["simulation"]["algorithm"] = "probe_basis"
            made["scan"] = _listed([*self.places, *self.others])
        elif variant == "precision":
            made["simulation"]["precision"] = "double"
        elif variant == "parametrization":
            other = {"kirkland": "lobato", "lobato": "kirkland", "peng": "lobato"}
            made["grating"]["parametrization"] = other[self.experiment.parametrization]
        return made

    @property
    def points(self) -> tuple[int, int]:
        """Points of the grid over the whole cell, even if there are windows."""
        e = self.experiment
        nx, ny = (round(length / step) for length, step in zip(e.cell[:2], e.grid.sampling, strict=True))
        return nx, ny

    def finer_points(self, share: float) -> tuple[int, int]:
        """Points of a grid with at most this share of the spacing, with whole numbers of points per lattice period."""
        nx, ny = self.points
        lengths = self.experiment.cell[:2]
        x, y = (
            points_at(share * length / n * (1 + 1e-9), lengths, self.periods)[axis]
            for axis, (length, n) in enumerate(zip(lengths, (nx, ny), strict=True))
        )
        return x, y

    def _reference(self) -> dict[str, Any]:
        """The choices of the config as numbers, so that they stay if a variant changes a choice that they depend on."""
        e = self.experiment
        made = {name: deepcopy(dict(block)) for name, block in self.common.items() if isinstance(block, Mapping)}
        made["simulation"]["algorithm"] = "multislice"
        made["grating"] |= {"gpts": list(self.points), "sampling_angstrom": None}
        made["scan"] = _listed(self.places)
        made["depths"] = {"every_angstrom": None, "at_angstrom": list(e.depths)}
        rings = {name: [inner / MRAD, outer / MRAD] for name, (inner, outer) in e.rings.items()}
        # Only named detectors are compared. Radial bins may end at the band limit, which variants change.
        made["adf"] |= {
            # Rings with a sensitivity are not compared.
            "detectors": {n: v for n, v in (made["adf"]["detectors"] or {}).items() if n in rings} or rings,
            "min_mrad": 0.0,
            "max_mrad": max(outer for _, outer in e.rings.values()) / MRAD * (1 - 1e-9),
            "bins": 1,
            "interval_exponent": 1.0,
        }
        made["cbed"] = {"enabled": False, "max_mrad": None, "size": None}
        return made

    def _sample(self, grating: dict[str, Any], share: float) -> None:
        """Make the grid finer. The band limit is a share of the Nyquist frequency of the grid, so it grows, too.

        The potential keeps its spacing as nearly as whole factors allow, because the term `potential` refines it.
        """
        points = self.finer_points(share)
        if points == self.points:
            raise ConfigError(
                "grating",
                f"no grid finer than {' × '.join(map(str, points))} has whole points for each lattice period.",
            )
        grating["gpts"] = list(points)
        if OVERSAMPLING in grating:
            grating[OVERSAMPLING] = math.ceil(share * grating[OVERSAMPLING] - 1e-9)

    def _enlarge(self, grating: dict[str, Any], repeats: tuple[float, float]) -> None:
        """Keep spacing and band limit in a larger cell."""
        lengths = [length * repeat for length, repeat in zip(self.experiment.cell[:2], repeats, strict=True)]
        wanted = [n * repeat for n, repeat in zip(self.points, repeats, strict=True)]
        points = [
            round(n) if abs(n - round(n)) < 1e-6 and round(n) % 2 == 0 else cheapest_size(math.ceil(n - 1e-6), 2)
            for n in wanted
        ]
        # If the spacing cannot stay exactly the same, its share is corrected so that the band limit k_c stays.
        spacing = max(length / n for length, n in zip(lengths, points, strict=True))
        share = spacing / max(self.experiment.grid.sampling)
        grating |= {
            "gpts": points,
            "bandlimit": self.experiment.bandlimit * share,
            "bandlimit_taper": self.experiment.bandlimit_taper * share,
        }

    def _larger_window(self) -> float:
        e = self.experiment
        wanted = LARGER * max(e.grid.extent)
        if all(own >= whole * (1 - 1e-9) for own, whole in zip(e.grid.extent, e.cell[:2], strict=True)):
            size = " × ".join(f"{length:g}" for length in e.grid.extent)
            raise ConfigError(
                "grating.window_angstrom",
                f"the windows of {size} Å already have the size of the cell.",
            )
        return wanted


def _listed(places: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Block `scan` of a list of positions [Å]."""
    return {
        "x": [0.0, 1.0], "y": [0.0, 1.0], "points": [1, 1], "step_angstrom": None, "unit": "angstrom",
        "positions": [list(place) for place in places],
    }  # fmt: skip


def larger_specimen(settings: Mapping[str, Any], repeat: Sequence[int] | None) -> dict[str, Any]:
    """Settings of the block `specimen` for the next larger cell of whole repeats.

    Parameters
    ----------
    settings : mapping
        Keys of the block.
    repeat : 3 ints or None
        Copies of the oriented cell along x, y and z from which the specimen was built.

    Returns
    -------
    dict
        A copy of the settings whose `repeat` is 1.5 times as large along x and y, rounded up.
    """
    x, y, z = repeat or settings["repeat"] or (1, 1, 1)
    larger = [math.ceil(LARGER * n - 1e-9) for n in (x, y)]
    made = {key: value for key, value in settings.items() if key not in ("size_nm", "thickness_nm")}
    return {**made, "repeat": [*larger, int(z)]}
