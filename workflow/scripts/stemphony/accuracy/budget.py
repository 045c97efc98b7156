"""The error budget of a config: how much each choice changes the signals of a few positions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.accuracy.refinements import NUMERICAL, REFERENCE, TERMS, U_CHANGE, Term

Floats = NDArray[np.float64]

DARK = 1e-4
"""Positions with less than this share of the mean signal are ignored in `SignalChange.worst`: divided by a signal near
0, any change is large."""

ORDERS = (1, 2, 4)
"""Orders of convergence of the numerical schemes: 1 for slices, 2 for their symmetric form, 2 or 4 for grids."""

ORDER_TOLERANCE = 0.15
"""Largest distance between the measured order and one of `ORDERS`. Beyond it, a change is not extrapolated."""

ROUNDING = {"single": 1e-5, "double": 1e-12}
"""Relative changes that rounding causes. From smaller changes, no order can be measured."""

_LENGTHS = {"slices": "slice_angstrom", "sampling": "spacing_angstrom"}
"""Key, among the `choices` of a variant, of the length that a term refines."""


@dataclass(frozen=True)
class SignalChange:
    """Relative change of one detector's signal at one depth by one refinement.

    Attributes
    ----------
    image : float
        Root mean square over the positions, relative to their mean signal: the error of an image.
    mean : float
        Change of the mean signal, with its sign.
    worst : float
        Largest change of a position relative to its own signal, with its sign.
    at : int
        Number of this position.
    order : int or None
        Order of convergence that a further refinement confirms. If it is given, the three numbers above are
        extrapolated to the limit.
    left : float or None
        Change that remains after the refinement, measured as `image`; None if it is not known.
    """

    image: float
    mean: float
    worst: float
    at: int
    order: int | None = None
    left: float | None = None


@dataclass(frozen=True)
class BudgetLine:
    """One term of the budget.

    Attributes
    ----------
    name, kind : str
        As in `refinements.Term`.
    what : str
        What was changed, in words.
    changes : mapping
        For each detector, its change at each depth.
    choices : tuple of mapping
        Numerical choices of the refinement, and of the further refinement if there is one.
    """

    name: str
    kind: str
    what: str
    changes: Mapping[str, tuple[SignalChange, ...]]
    choices: tuple[Mapping[str, Any], ...] = ()

    def largest(self, detectors: Sequence[str] | None = None) -> float:
        """Largest change of an image over `detectors`, by default all, and depths, as a share of the mean signal."""
        names = self.changes if detectors is None else detectors
        return max(abs(change.image) for name in names for change in self.changes[name])


@dataclass(frozen=True)
class Budget:
    """All terms of a config.

    Attributes
    ----------
    detectors : mapping
        For each name, the inner and outer angle [mrad].
    depths_nm : tuple of float
    places : tuple of (float, float)
        Probe positions [Å].
    signals : mapping
        For each detector, signals of the reference by depth and position, as fractions of the incident intensity.
    lines : tuple of BudgetLine
    without : mapping
        Terms that were left out, with the reason.
    choices : mapping
        Numerical choices of the config.
    cpu_seconds : float
        CPU time of all variants.
    digest : str
        Digest of what decides the numbers of the config's jobs.
    origin : mapping
        Seed, defocus [nm], and the rule by which positions are chosen.
    """

    detectors: Mapping[str, tuple[float, float]]
    depths_nm: tuple[float, ...]
    places: tuple[tuple[float, float], ...]
    signals: Mapping[str, Sequence[Sequence[float]]]
    lines: tuple[BudgetLine, ...]
    without: Mapping[str, str]
    choices: Mapping[str, Any]
    cpu_seconds: float
    digest: str
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def numerical(self) -> tuple[BudgetLine, ...]:
        """Terms that more computing time makes smaller."""
        return tuple(line for line in self.lines if line.kind == NUMERICAL)

    def matters_most(self, detector: str, depth: int) -> BudgetLine:
        """The term with the largest change of the image of `detector` at the index `depth` of `depths_nm`."""
        return max(self.lines, key=lambda line: abs(line.changes[detector][depth].image))

    def total(self, detector: str, depth: int) -> float:
        """Sum of the numerical changes of an image, as if all had the same sign, as a share of its mean signal.

        The image is that of `detector` at the index `depth` of `depths_nm`.
        """
        return math.fsum(abs(line.changes[detector][depth].image) for line in self.numerical)

    def record(self) -> dict[str, Any]:
        """Content of accuracy.json."""
        made = asdict(self)
        made["matters_most"] = {
            name: [self.matters_most(name, depth).name for depth in range(len(self.depths_nm))]
            for name in self.detectors
        }
        return made

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Budget:
        """Read a budget from `record`, the content of accuracy.json.

        Raises
        ------
        KeyError, TypeError
            The content is incomplete.
        """
        lines = tuple(
            BudgetLine(
                line["name"], line["kind"], line["what"],
                {name: tuple(SignalChange(**one) for one in changes) for name, changes in line["changes"].items()},
                tuple(line["choices"]),
            )
            for line in record["lines"]
        )  # fmt: skip
        return cls(
            {name: (inner, outer) for name, (inner, outer) in record["detectors"].items()},
            tuple(record["depths_nm"]), tuple((x, y) for x, y in record["places"]), record["signals"], lines,
            record["without"], record["choices"], record["cpu_seconds"], record["digest"], record["origin"],
        )  # fmt: skip


def budget_of(
    variants: Mapping[str, Mapping[str, Any]], without: Mapping[str, str], digest: str, origin: Mapping[str, Any]
) -> Budget:
    """Compare the variants of a config with its own choices.

    Parameters
    ----------
    variants : mapping
        For each name, the record of `run_variant`. A record with a `reason` says why the variant was not computed.
    without : mapping
        Terms that do not apply, with the reason.
    digest : str
        Digest of the params that the config's jobs share.
    origin : mapping
        Further content of the file: seed, defocus, and the rule by which positions are chosen.

    Returns
    -------
    Budget
        One line for each term that was computed, and the reasons for the terms that are left out.
    """
    reference, left_out, lines = variants[REFERENCE], dict(without), []
    for term in TERMS:
        if term.name in without:
            continue
        needed = term.variants[:1] if term.kind == NUMERICAL else term.variants
        if reason := next((variants[name]["reason"] for name in needed if variants[name]["reason"]), ""):
            left_out[term.name] = reason
            continue
        lines.append(_line(term, variants))
    return Budget(
        {name: (inner, outer) for name, (inner, outer) in reference["detectors"].items()},
        tuple(reference["depths_nm"]), tuple((x, y) for x, y in reference["places_angstrom"]), reference["signals"],
        tuple(lines), left_out, reference["choices"],
        math.fsum(record.get("cpu_seconds", 0.0) for record in variants.values()), digest, origin,
    )  # fmt: skip


def _line(term: Term, variants: Mapping[str, Mapping[str, Any]]) -> BudgetLine:
    reference = variants[REFERENCE]
    made: dict[str, tuple[SignalChange, ...]] = {}
    for name in reference["detectors"]:
        own = np.asarray(reference["signals"][name])
        first = np.asarray(variants[term.variants[0]]["signals"][name])
        if term.name == "u":
            step = 0.5 * (first - np.asarray(variants[term.variants[1]]["signals"][name]))
        else:
            step = first - own
        further = None
        if len(term.variants) > 1 and term.kind == NUMERICAL and not variants[term.variants[1]]["reason"]:
            further = np.asarray(variants[term.variants[1]]["signals"][name]) - first
        made[name] = tuple(
            _change(own[depth], step[depth], None if further is None else _Further(further[depth], term, variants))
            for depth in range(len(own))
        )
    choices = tuple(variants[name]["choices"] for name in term.variants if not variants[name]["reason"])
    return BudgetLine(term.name, term.kind, _what(term, variants), made, choices)


@dataclass(frozen=True)
class _Further:
    """The change by a further refinement of a term."""

    step: Floats
    term: Term
    variants: Mapping[str, Mapping[str, Any]]

    @property
    def lengths(self) -> tuple[float, float, float]:
        """The refined length in the config, in the refinement and in the further refinement."""
        key = _LENGTHS[self.term.name]
        h0, h1, h2 = (float(self.variants[name]["choices"][key]) for name in (REFERENCE, *self.term.variants))
        return h0, h1, h2


def _change(own: Floats, step: Floats, further: _Further | None) -> SignalChange:
    left, order = None, None
    if further is not None:
        left = _rms(further.step) / _mean(own)
        order = confirmed_order(own, step, further.step, further.lengths, ROUNDING["single"])
        if order is not None:
            h0, h1, _ = (length**order for length in further.lengths)
            left, step = _rms(step) / _mean(own) * h1 / (h0 - h1), step * h0 / (h0 - h1)
        elif _rms(step + further.step) > _rms(step):
            # Without an order, no limit is known. The larger change of the two is the best estimate.
            step = step + further.step
    seen = own > DARK * _mean(own)
    relative = np.where(seen, step / np.where(seen, own, 1.0), 0.0)
    at = int(np.argmax(np.abs(relative)))
    return SignalChange(_rms(step) / _mean(own), float(step.mean()) / _mean(own), float(relative[at]), at, order, left)


def confirmed_order(
    own: Floats, first: Floats, further: Floats, lengths: tuple[float, float, float], rounding: float
) -> int | None:
    """Return the order p of S(h) = S(0) + c·hᵖ that fits both steps of refinement; None if no order of `ORDERS` does.

    Parameters
    ----------
    own : (n,) ndarray
        Signals with the length h0.
    first, further : (n,) ndarray
        Their changes from h0 to h1, and from h1 to h2.
    lengths : (float, float, float)
        h0 > h1 > h2 [Å].
    rounding : float
        Relative change that rounding causes. From smaller steps, no order is measured.

    Returns
    -------
    int or None
        One of `ORDERS`; None if the differences are as small as rounding errors, or fit no order.

    Notes
    -----
    The ratio of the steps gives p. All positions must follow p: the further step may differ from its prediction by at
    most a fifth of its size, as root mean squares over the positions.
    """
    floor = rounding * _mean(own)
    if _rms(further) < floor or _rms(first) < floor:
        return None
    h0, h1, h2 = lengths
    ratio = float(first @ further) / float(further @ further)
    for order in ORDERS:
        predicted = (h0**order - h1**order) / (h1**order - h2**order)
        # Skip orders whose predicted ratio is too far from the measured one. The logarithms compare exponents.
        if abs(math.log(max(ratio, 1e-300) / predicted)) > ORDER_TOLERANCE * math.log(h0 / h1):
            continue
        if _rms(further - first / predicted) <= 0.2 * _rms(further):
            return order
    return None


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _mean(own: Floats) -> float:
    return max(float(np.mean(own)), 1e-300)


def _potential_points(choices: Mapping[str, Any]) -> str:
    factor = choices["potential_oversampling"]
    return " × ".join(str(factor * n) for n in choices["gpts"]) + " points"


def _what(term: Term, variants: Mapping[str, Mapping[str, Any]]) -> str:
    """What a term changes, in words."""
    if term.name == "u":
        return f"U ± {100 * U_CHANGE:g} %"
    old, new = (variants[name]["choices"] for name in (REFERENCE, term.variants[0]))
    if term.name == "basis":
        return f"probe_basis with a tolerance of {new['basis_tolerance']:.1g} against multislice"
    write = {
        "slices": lambda c: f"{c['slices']} slices of {c['slice_angstrom']:.4g} Å",
        "sampling": lambda c: " × ".join(str(n) for n in c["gpts"]) + " points",
        "potential": _potential_points,
        "band_limit": lambda c: f"{c['band_limit_mrad']:.4g} mrad",
        "cell": lambda c: " × ".join(f"{length:.4g}" for length in c["extent_angstrom"]) + " Å",
        "window": lambda c: " × ".join(f"{length:.4g}" for length in c["extent_angstrom"]) + " Å",
        "precision": lambda c: c["precision"],
        "parametrization": lambda c: c["parametrization"],
    }[term.name]
    return f"{write(old)} → {write(new)}"
