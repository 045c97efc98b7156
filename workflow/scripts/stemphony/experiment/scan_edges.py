"""How a scan continues behind its edges. The blur by the source needs positions there, Eq. (P13)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from stemphony.experiment.scan import LIST, WINDOW, Scan, spacing_of
from stemphony.physics.constants import NM
from stemphony.physics.source_size import REACH_SIGMAS, Repeats, reach

OPEN: Repeats = (None, None)
"""A scan that does not repeat along either axis."""


class ScanLattice(Protocol):
    """The translations under which a specimen repeats; see `specimen.translations`."""

    def repeat(self, x: float, y: float) -> bool:
        """Whether the specimen repeats under the translation (`x`, `y`) [Å]."""

    def along(self, axis: int, length: float) -> list[float]:
        """Shifts along the other axis [Å] that may complete a step of `length` [Å] along `axis` to a translation."""


@dataclass(frozen=True)
class ScanEdges:
    """The positions that are computed, and those that are assumed to repeat, behind the edges of a scan.

    Attributes
    ----------
    repeats : (int or None, int or None) or None
        How the window repeats along its axes, see `physics.source_size.Repeats`. None if this is not known: there is no
        source and no margin, or the plan is of version 0.1, in which only the whole cell repeats.
    margin : (int, int)
        Number of positions on each side, along the two axes, that are computed and then cut off after the blur.
    margin_nm : float
        Width of the margin [nm] for which this number was chosen.
    spacing_angstrom : float or None
        Distance of the positions of the margin, if it surrounds a single position [Å].
    pattern_repeats : (int or None, int or None)
        How the scan of the patterns repeats, if patterns have a scan of their own and there is a source.
    """

    repeats: Repeats | None = None
    margin: tuple[int, int] = (0, 0)
    margin_nm: float = 0.0
    spacing_angstrom: float | None = None
    pattern_repeats: Repeats = OPEN

    @classmethod
    def of(
        cls,
        scan: Mapping[str, Any],
        lengths: Sequence[float],
        source_nm: float,
        margin_nm: float,
        lattice: Callable[[], ScanLattice],
        integrated: bool = False,
    ) -> ScanEdges:
        """Decide how a validated block `scan` goes on behind its edges.

        Parameters
        ----------
        lengths : (float, float)
            Lengths of the cell along x and y [Å].
        source_nm, margin_nm : float
            FWHM of the source, and width of the margin in effect [nm].
        lattice : callable
            Makes the translations of the specimen. It is called only if they matter.
        integrated : bool
            Whether the merge makes phase images, which need to know whether the window repeats.

        Returns
        -------
        ScanEdges
            How the scan repeats along x and y, and the positions of the margin that is computed.
        """
        made = Scan.of(scan, lengths)
        if made.kind == LIST or (source_nm == 0 and margin_nm == 0 and not integrated):
            return cls(margin_nm=margin_nm)
        repeats = window_repeats(scan, lengths, lattice) if made.kind == WINDOW else OPEN
        spacing = spacing_of(scan, lengths)
        single = margin_nm * NM / REACH_SIGMAS if spacing[0] is None and margin_nm else None
        margin = [
            math.ceil(margin_nm * NM / (step or single or math.inf) - 1e-9) if repeat is None else 0
            for repeat, step in zip(repeats, spacing, strict=True)
        ]
        return cls(repeats, (margin[0], margin[1]), margin_nm, single)

    @classmethod
    def of_plan(cls, plan: Mapping[str, Any]) -> ScanEdges:
        """Read the edges from `plan`, the content of plan.json. Plans of version 0.1 have no edges."""
        kept = plan.get("scan_edges")
        if not kept:
            return cls()
        repeats, of_patterns = kept["repeats"], kept.get("pattern_repeats", OPEN)
        return cls(
            None if repeats is None else (repeats[0], repeats[1]),
            (kept["margin"][0], kept["margin"][1]),
            kept["margin_nm"],
            kept["spacing_angstrom"],
            (of_patterns[0], of_patterns[1]),
        )

    def in_plan(self) -> dict[str, Any]:
        """Content for a plan."""
        return asdict(self)

    @property
    def job_keys(self) -> dict[str, Any]:
        """Keys of the block `scan` that jobs need: the positions of the margin. Without a margin, there are none."""
        if self.margin == (0, 0):
            return {}
        keys: dict[str, Any] = {"margin_positions": list(self.margin)}
        if self.spacing_angstrom is not None:
            keys["margin_spacing_angstrom"] = self.spacing_angstrom
        return keys


def pattern_repeats(config: Mapping[str, Any], lengths: Sequence[float], lattice: Callable[[], ScanLattice]) -> Repeats:
    """How the scan of the patterns repeats, see `ScanEdges.pattern_repeats`.

    Parameters
    ----------
    config : mapping
        A validated config.
    lengths : (float, float)
        Lengths of the cell along x and y [Å].
    lattice : callable
        Makes the translations of the specimen. It is called only if they matter.

    Returns
    -------
    (int or None, int or None)
        As `window_repeats`; no repeats if patterns are off, not blurred, have the scan of the images, or a list of
        positions.
    """
    scan = config["cbed"]["scan"]
    wanted = config["cbed"]["enabled"] and config["probe"]["source_fwhm_nm"] > 0
    if not wanted or scan is None or scan["positions"] is not None:
        return OPEN
    return window_repeats(scan, lengths, lattice)


def repeats_of(params: Mapping[str, Any]) -> Repeats:
    """How the window of a merge repeats, from `params`, the params of the rule merge_results.

    Without `scan_repeats` only the whole cell repeats.
    """
    given = params.get("scan_repeats")
    if given is not None:
        return given[0], given[1]
    scan = params["common"]["scan"]
    if scan.get("line") is not None or scan.get("positions") is not None:
        return OPEN
    x, y = (0 if is_whole_cell(scan, axis) else None for axis in (0, 1))
    return x, y


def is_whole_cell(scan: Mapping[str, Any], axis: int) -> bool:
    """Whether the window of `scan` is [0, 1] in fractions of the cell along `axis`, 0 for x and 1 for y.

    `scan` is a block of the config that has a window.
    """
    return scan.get("unit", "cell") == "cell" and [float(edge) for edge in scan["xy"[axis]]] == [0.0, 1.0]


def window_repeats(scan: Mapping[str, Any], lengths: Sequence[float], lattice: Callable[[], ScanLattice]) -> Repeats:
    """How a scan window repeats along x and y, because the specimen repeats.

    If a window has a single position along an axis, it does not repeat along this axis. One position gives no signals
    between itself and its copy.

    Parameters
    ----------
    scan : mapping
        Validated block of a window.
    lengths : (float, float)
        Lengths of the cell along x and y [Å].
    lattice : callable
        Makes the translations of the specimen.

    Returns
    -------
    (int or None, int or None)
        For x and y: None if the window does not repeat, otherwise the shift of the copy along the other axis
        [scan steps], 0 for a copy without shift.
    """
    made = Scan.of({**scan, "margin_positions": (0, 0)}, lengths)
    counts = made.shape
    steps = [axis[1] - axis[0] if len(axis) > 1 else None for axis in made.along]
    widths = [0.0 if step is None else step * count for step, count in zip(steps, counts, strict=True)]
    whole = [
        step is not None and _fits(width, length) for step, width, length in zip(steps, widths, lengths, strict=True)
    ]
    found: list[int | None] = [0 if fits else None for fits in whole]
    if all(fits or step is None for fits, step in zip(whole, steps, strict=True)):
        return found[0], found[1]
    translations = lattice()
    for axis in (0, 1):
        if steps[axis] is not None and not whole[axis]:
            offset = (widths[0], 0.0) if axis == 0 else (0.0, widths[1])
            found[axis] = 0 if translations.repeat(*offset) else None
    for axis in (0, 1):
        other = 1 - axis
        step = steps[other]
        if found[axis] is None and found[other] == 0 and steps[axis] is not None and step is not None:
            found[axis] = _shifted(translations, axis, widths, step, counts[other])
    return found[0], found[1]


def _fits(width: float, length: float) -> bool:
    """Whether a width is a whole number of cells [Å]."""
    return abs(width - round(width / length) * length) < 1e-6 and width > 0.5 * length


def _shifted(translations: ScanLattice, axis: int, widths: Sequence[float], step: float, count: int) -> int | None:
    """Steps along the other axis by which the next copy of a window along `axis` is moved; None if there is no copy."""
    tried = set()
    for shift in translations.along(axis, widths[axis]):
        steps = round(shift / step)
        number = steps % count
        if number == 0 or number in tried:
            continue
        tried.add(number)
        exact = number * step
        if translations.repeat(*((widths[0], exact) if axis == 0 else (exact, widths[1]))):
            return number
    return None


def margin_in_effect(wanted: float | str, kept_nm: float | None, is_first_run: bool, source_nm: float) -> float:
    """Width of the margin [nm].

    Parameters
    ----------
    wanted : float or str
        `scan.margin_nm`: a width, or `auto`.
    kept_nm : float or None
        The width that the simulation keeps; None if no width was chosen before.
    is_first_run : bool
        Whether the simulation has never run. Then `auto` chooses the reach of the source.
    source_nm : float
        FWHM of the source [nm].

    Returns
    -------
    float
        Width [nm]; 0 without a margin.
    """
    if wanted != "auto":
        return float(wanted)
    if kept_nm is not None:
        return kept_nm
    return round(reach(source_nm), 9) if is_first_run else 0.0
