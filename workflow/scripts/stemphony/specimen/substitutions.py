"""Dopants and vacancies: sites of one element that hold another element, or no atom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemphony.errors import SpecimenError
from stemphony.physics.constants import NM
from stemphony.specimen.structure import Structure, chosen

_SUBSTITUTION = 3
"""Number that marks the random numbers of substitutions that are drawn once. Each substitution has its own seed."""


@dataclass(frozen=True)
class DopedRegion:
    """Part of the specimen [nm], ends included: `x_nm` and `y_nm` from the corner, `depth_nm` from the entrance.

    Each is a pair, or None if the whole specimen counts along this axis.
    """

    x_nm: Sequence[float] | None = None
    y_nm: Sequence[float] | None = None
    depth_nm: Sequence[float] | None = None

    def holds(self, positions: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which atoms (N,) lie inside the region; x and y are periodic.

        `positions` (N, 3) and the `lengths` of the specimen (3,) are in Å.
        """
        wrapped = positions.copy()
        wrapped[:, :2] = np.mod(wrapped[:, :2], lengths[:2])
        inside = np.ones(len(positions), dtype=bool)
        for axis, pair in enumerate((self.x_nm, self.y_nm, self.depth_nm)):
            if pair is not None:
                inside &= (wrapped[:, axis] >= pair[0] * NM - 1e-6) & (wrapped[:, axis] <= pair[1] * NM + 1e-6)
        return inside

    def __str__(self) -> str:
        named = (("x", self.x_nm), ("y", self.y_nm), ("depth", self.depth_nm))
        parts = [f"{name} {pair[0]:g}–{pair[1]:g} nm" for name, pair in named if pair is not None]
        return f" at {', '.join(parts)}" if parts else ""


def substituted(file: Path, block: Structure, items: Sequence[Mapping[str, Any]]) -> tuple[Structure, list[str]]:
    """Apply substitutions to a `block` in their order, and return the block and a line of the plan for each.

    With `draw: once`, the exact number of dopants is put on sites that the seed of the item chooses. All configurations
    have them. With `draw: configuration`, each site holds either element with its probability (occupancies 1 − f and
    f). So each configuration draws its own dopants, Eq. (P20), and their number fluctuates as in a real solid solution.
    The file gives no U for a dopant, so the U of its element comes from the config.

    Parameters
    ----------
    file : Path
        Structure file, for messages.
    block : Structure
        In an orthogonal cell.
    items : sequence of mapping
        The config's `specimen.substitutions`.

    Returns
    -------
    (Structure, list of str)
        The changed block, and one line for each item.

    Raises
    ------
    SpecimenError
        There are no such sites, or fewer than the count, or the number is 0 after rounding.
    """
    lines = []
    for number, item in enumerate(items):
        where = f"`specimen.substitutions[{number}]`"
        region = DopedRegion(**(item.get("region") or {}))
        held = region.holds(block.positions, np.diagonal(block.cell))
        _require_inside(file, where, region, np.diagonal(block.cell))
        sites = np.flatnonzero((block.symbols == item["element"]) & held)
        if not len(sites):
            elements = ", ".join(dict.fromkeys(block.symbols[held].tolist())) or "no atom"
            raise SpecimenError(
                file, f"{where}: there is no {item['element']}{region}; found there: {elements}. Correct it."
            )
        _require_element(file, where, item.get("by"))
        if item["draw"] == "configuration":
            block, line = _drawn_each_time(file, where, block, sites, item)
        else:
            block, line = _drawn_once(file, where, block, sites, item, number)
        lines.append(f"{line}{region}")
    return block, lines


def _require_inside(file: Path, where: str, region: DopedRegion, lengths: NDArray[np.float64]) -> None:
    """Refuse a region that does not lie inside the crystal along x and y, because a part would be left out."""
    for name, pair, length in zip("xy", (region.x_nm, region.y_nm), lengths / NM, strict=False):
        if pair is not None and (pair[0] < -1e-6 or pair[1] > length + 1e-6):
            raise SpecimenError(
                file,
                f"{where}: the region has {name} from {pair[0]:g} to {pair[1]:g} nm, and the crystal reaches from 0 "
                f"to {length:.4f} nm. Stay inside; a region across its periodic edge needs two items.",
            )


def _require_element(file: Path, where: str, symbol: str | None) -> None:
    from ase.data import atomic_numbers

    if symbol is not None and atomic_numbers.get(symbol, 0) < 1:
        raise SpecimenError(file, f"{where}: by: {symbol} is no element. Use one such as Si, or null for vacancies.")


def _drawn_once(
    file: Path, where: str, block: Structure, sites: NDArray[np.intp], item: Mapping[str, Any], number: int
) -> tuple[Structure, str]:
    count, fraction = item.get("count"), item.get("fraction")
    wanted = int(count) if count is not None else round(float(fraction or 0.0) * len(sites))
    if wanted > len(sites):
        raise SpecimenError(
            file, f"{where}: count is {wanted}, and there are {len(sites)} {item['element']}. Ask for at most that."
        )
    if wanted == 0:
        raise SpecimenError(
            file,
            f"{where}: a fraction of {float(fraction or 0.0):g} of {len(sites)} {item['element']} rounds to 0. Use "
            "a larger specimen, a count, or `draw: configuration`, where each site has that probability.",
        )
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([item["seed"], _SUBSTITUTION, number])))
    # Each site gets a random number, and the sites with the smallest numbers are taken. So no site is taken twice.
    taken = np.sort(sites[np.argsort(random.random(len(sites)), kind="stable")[:wanted]])
    by = item.get("by")
    share = 100 * wanted / len(sites)
    rounded = fraction is not None and abs(share - 100 * fraction) > 1e-6
    asked = f", rounded from {100 * fraction:.3g} %" if fraction is not None and rounded else ""
    text = f"{wanted} of {len(sites)} {item['element']} ({share:.3g} %{asked})"
    if by is None:
        kept = np.ones(len(block.symbols), dtype=bool)
        kept[taken] = False
        if not kept.any():
            raise SpecimenError(file, f"{where}: no atom would be left. Take fewer.")
        return chosen(block, kept), f"{text} are vacant, drawn once with seed {item['seed']}"
    symbols = block.symbols.copy()
    symbols[taken] = by
    return _without_u(replace(block, symbols=symbols), taken), f"{text} are {by}, drawn once with seed {item['seed']}"


def _drawn_each_time(
    file: Path, where: str, block: Structure, sites: NDArray[np.intp], item: Mapping[str, Any]
) -> tuple[Structure, str]:
    if item.get("count") is not None:
        raise SpecimenError(
            file,
            f"{where}: a count is exact and `draw: configuration` draws each site by itself. Use a fraction, or "
            "`draw: once`.",
        )
    if block.disorder_group is not None and (block.disorder_group[sites] >= 0).any():
        raise SpecimenError(
            file,
            f"{where}: some of these sites belong to a group of a disorder assembly, which is present as a whole. Use "
            "`draw: once`.",
        )
    fraction, by = float(item["fraction"]), item.get("by")
    occupancy = np.ones(len(block.symbols)) if block.occupancy is None else block.occupancy.copy()
    shares = fraction * occupancy[sites]
    occupancy[sites] -= shares
    block = replace(block, occupancy=occupancy)
    text = f"{100 * fraction:.3g} % of {len(sites)} {item['element']}"
    if by is None:
        return block, f"{text} are vacant, drawn in each configuration"
    # The dopant is a second site at the same place. Sites at one place exclude each other.
    everything = np.arange(len(block.symbols))
    both = chosen(block, np.concatenate([everything, sites]))
    dopants = np.arange(len(everything), len(everything) + len(sites))
    symbols, filled = both.symbols.copy(), np.array(both.occupancy)
    symbols[dopants], filled[dopants] = by, shares
    both = _without_u(replace(both, symbols=symbols, occupancy=filled), dopants)
    return both, f"{text} are {by}, drawn in each configuration"


def _without_u(block: Structure, atoms: NDArray[np.intp]) -> Structure:
    """The block without U and charge of these atoms, because both belong to the replaced element."""
    changed: dict[str, Any] = {}
    for name in ("u_iso", "u_aniso", "charge"):
        values = getattr(block, name)
        if values is not None:
            values = values.copy()
            values[atoms] = np.nan
            changed[name] = values
    return replace(block, **changed)
