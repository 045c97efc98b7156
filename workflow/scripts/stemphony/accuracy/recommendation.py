"""Find, from the error budget of a config, the choices that must be refined for a wanted accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from stemphony.accuracy.budget import Budget, BudgetLine
from stemphony.accuracy.refinements import ALIASING, OVERSAMPLING


@dataclass(frozen=True)
class Recommendation:
    """Refinements that a target needs.

    Attributes
    ----------
    levels : mapping
        For each term, how often it is refined.
    before, after : float
        Largest sum of the numerical changes of an image, for the config and with these refinements.
    unmeasured : tuple of str
        Refined terms for which the budget does not say how much of the change remains.
    target : float
        Wanted accuracy, as a share of the signal.
    beyond : tuple of str
        Terms above the target that more computing time does not make smaller.
    """

    levels: Mapping[str, int]
    before: float
    after: float
    unmeasured: tuple[str, ...]
    target: float
    beyond: tuple[str, ...]

    @property
    def reached(self) -> bool:
        """Whether the numerical changes are below the target."""
        return self.after <= self.target


def recommend(budget: Budget, target: float) -> Recommendation:
    """Refine the term that matters most for the worst image, until all images reach `target` or no term is left.

    The numerical changes of an image are taken from `budget` and added as if all had the same sign. `target` is a share
    of the signal. A change that is not known counts as 0, and its term is listed in `unmeasured`.
    """
    lines = {line.name: line for line in budget.numerical}
    levels = dict.fromkeys(lines, 0)

    def total(detector: str, depth: int) -> float:
        return math.fsum(_left(line, detector, depth, levels[name]) or 0.0 for name, line in lines.items())

    images = [(detector, depth) for detector in budget.detectors for depth in range(len(budget.depths_nm))]
    before = max(total(*image) for image in images) if lines else 0.0
    after = before
    while after > target:
        detector, depth = max(images, key=lambda image: total(*image))
        # Present change by each term that can be refined further.
        gains = {
            name: (_left(line, detector, depth, levels[name]) or 0.0)
            for name, line in lines.items()
            if levels[name] < len(line.choices)
        }
        name = max(gains, key=lambda term: gains[term], default="")
        if not name or gains[name] == 0.0:
            break
        levels[name] += 1
        after = max(total(*image) for image in images)
    unmeasured = tuple(
        name for name, line in lines.items()
        if levels[name] and _left(line, next(iter(budget.detectors)), 0, levels[name]) is None
    )  # fmt: skip
    beyond = tuple(line.name for line in budget.lines if line.name not in lines and line.largest() > target)
    return Recommendation(
        {name: level for name, level in levels.items() if level}, before, after, unmeasured, target, beyond
    )


def _left(line: BudgetLine, detector: str, depth: int, level: int) -> float | None:
    """Change of an image that a term still causes after `level` refinements; None if it is not known."""
    change = line.changes[detector][depth]
    if level == 0:
        return abs(change.image)
    return change.left if level == 1 else None


def refined(config: Mapping[str, Any], budget: Budget, levels: Mapping[str, int]) -> dict[str, Any]:
    """Return a config with refined choices.

    Parameters
    ----------
    config : mapping
        The config of the budget, as the user wrote it; defaults may be missing.
    levels : mapping
        For each term, how often it is refined.

    Returns
    -------
    dict
        A copy of the config in which only the refined keys, and those that depend on them, differ.
    """
    made: dict[str, Any] = deepcopy(dict(config))
    grating, specimen = dict(made.get("grating") or {}), dict(made.get("specimen") or {})
    simulation = dict(made.get("simulation") or {})
    lines = {line.name: line for line in budget.lines}
    chosen = {name: lines[name].choices[level - 1] for name, level in levels.items()}
    gpts = list(chosen.get("sampling", budget.choices)["gpts"])
    if "cell" in chosen:
        larger = chosen["cell"]["extent_angstrom"]
        ratio = [new / old for new, old in zip(larger, budget.choices["extent_angstrom"], strict=True)]
        gpts = [2 * math.ceil(n * r / 2 - 1e-6) for n, r in zip(gpts, ratio, strict=True)]
        if specimen.get("size_nm"):
            specimen["size_nm"] = [size * r for size, r in zip(specimen["size_nm"], ratio, strict=True)]
        else:
            x, y, z = specimen.get("repeat") or (1, 1, 1)
            specimen["repeat"] = [round(x * ratio[0]), round(y * ratio[1]), z]
        made["scan"] = _same_place(made.get("scan") or {}, ratio)
    if {"cell", "sampling"} & chosen.keys():
        if "window" in lines or grating.get("sampling_angstrom"):
            # The spacing is rounded up, so that the number of points stays.
            spacing = chosen.get("sampling", budget.choices)["spacing_angstrom"]
            grating |= {"sampling_angstrom": math.ceil(spacing * 1e6) / 1e6, "gpts": None}
        else:
            grating["gpts"] = gpts
    if "slices" in chosen:
        # The thickness is rounded up, so that the number of slices stays.
        grating["slice_thickness_angstrom"] = math.ceil(chosen["slices"]["slice_angstrom"] * 1e6) / 1e6
        grating.pop("slice_boundaries_angstrom", None)
    if "potential" in chosen:
        grating[OVERSAMPLING] = chosen["potential"][OVERSAMPLING]
    if "band_limit" in chosen:
        grating["bandlimit"] = ALIASING
    if "window" in chosen:
        grating["window_angstrom"] = max(chosen["window"]["extent_angstrom"])
    if "precision" in chosen:
        simulation["precision"] = "double"
    if "basis" in chosen:
        simulation["basis_tolerance"] = budget.choices["basis_tolerance"] / 10
    for name, block in (("grating", grating), ("specimen", specimen), ("simulation", simulation)):
        if block:
            made[name] = block
    return made


def _same_place(scan: Mapping[str, Any], ratio: Sequence[float]) -> dict[str, Any]:
    """Block `scan` with the same positions in a cell that is larger by `ratio`; fractions of the cell are smaller."""
    made = dict(scan)
    if made.get("unit", "cell") != "cell":
        return made

    def scaled(place: Sequence[float]) -> list[float]:
        return [value / r for value, r in zip(place, ratio, strict=True)]

    is_window = not (made.get("line") or made.get("positions"))
    for axis, key in enumerate("xy"):
        if is_window or made.get(key):
            made[key] = [edge / ratio[axis] for edge in made.get(key) or (0.0, 1.0)]
    if made.get("origin"):
        made["origin"] = scaled(made["origin"])
    if made.get("line"):
        made["line"] = {**made["line"], "begin": scaled(made["line"]["begin"]), "end": scaled(made["line"]["end"])}
    if made.get("positions"):
        made["positions"] = [scaled(place) for place in made["positions"]]
    return made
