"""Probe positions of the block `scan`: a window, a line or a list, and the margin around it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stemphony.errors import ConfigError
from stemphony.experiment.grid_choice import MAX_POINTS
from stemphony.physics.constants import NM

MAX_RELATIVE_MISFIT = 1e-6
"""Largest difference between the scan window and a whole number of steps, as a share of the window. It allows for the
rounding of a step to seven digits."""

UNITS = {"angstrom": 1.0, "nm": NM}
"""Units of `scan.unit`, in Å. `cell` is a fraction of the length of the cell along each axis."""

WINDOW, LINE, LIST = "window", "line", "positions"
"""Kinds of scans."""

NEUTRAL: dict[str, Any] = {"unit": "cell", "origin": [0.0, 0.0], "line": None, "positions": None, "step": "exact"}
"""Keys of the block `scan` that version 0.1 did not have, with the value that changes nothing."""

AT_MOST = "at_most"
"""Value of `scan.step` that rounds a step down to a step that divides the window."""

Pair = tuple[float, float]


@dataclass(frozen=True)
class Scan:
    """Probe positions of a scan, computed and stored; lengths in Å.

    Attributes
    ----------
    kind : str
        WINDOW, LINE or LIST.
    along : (tuple of float, tuple of float)
        Coordinates of the computed positions along the two axes of the scan. For a window: x and y. For a line: the
        distances along and across the line. For a list: the numbers of the positions, and 0.
    places : tuple of (float, float) or None
        Positions (x, y) of a line or list, the second axis fastest; None for a window.
    margin : (int, int)
        Number of positions on each side, along the two axes, that are computed but not stored.
    """

    kind: str
    along: tuple[tuple[float, ...], tuple[float, ...]]
    places: tuple[Pair, ...] | None = None
    margin: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, scan: Mapping[str, Any], lengths: Sequence[float]) -> Scan:
        """Make the scan of a validated block on a cell.

        If the block has `margin_positions` and `margin_spacing_angstrom`, they give the margin that is computed.

        Parameters
        ----------
        scan : mapping
            The block `scan` of a config, or that of the params of a job.
        lengths : (float, float)
            Lengths of the cell along x and y [Å].

        Returns
        -------
        Scan
            Probe positions [Å].

        Raises
        ------
        ConfigError
            A step does not divide the window, or gives too many positions; a line has no length; a window is wider than
            the cell, or a scan is far outside it.
        """
        margin = scan.get("margin_positions", (0, 0))
        margin = (int(margin[0]), int(margin[1]))
        if scan.get("positions") is not None:
            places = tuple(_place(scan, position, lengths) for position in scan["positions"])
            _require_near("scan.positions", scan, places, lengths)
            return cls(LIST, (tuple(float(number) for number in range(len(places))), (0.0,)), places)
        if scan.get("line") is not None:
            return _line(scan, lengths, margin)
        _require_window(scan, lengths)
        counts = [_points(scan, axis, _edges(scan, axis, lengths)) for axis in (0, 1)]
        spacing = _spacing(scan, [_width(scan, axis, lengths) / counts[axis] for axis in (0, 1)], counts)
        first, second = (
            _coordinates(scan, axis, lengths, counts[axis], margin[axis], spacing[axis]) for axis in (0, 1)
        )
        return cls(WINDOW, (first, second), None, margin)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of stored positions along the two axes."""
        return len(self.along[0]) - 2 * self.margin[0], len(self.along[1]) - 2 * self.margin[1]


def bounds(scan: Mapping[str, Any], lengths: Sequence[float]) -> tuple[Pair, Pair]:
    """Return the extent of a scan along x and along y [Å], without its margin. For a window, the end is included.

    `scan` is a validated block of the config. `lengths` are the lengths of the cell along x and y [Å].
    """
    made = Scan.of(scan, lengths)
    if made.places is None:
        return _edges(scan, 0, lengths), _edges(scan, 1, lengths)
    x, y = zip(*made.places, strict=True)
    return (min(x), max(x)), (min(y), max(y))


def spacing_of(scan: Mapping[str, Any], lengths: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the distances of neighbouring positions along the two axes of a window or line [Å].

    An axis with a single position has the distance of the other axis. A scan of a single position has no distance.

    `scan` is a validated block of the config. `lengths` are the lengths of the cell along x and y [Å].
    """
    made = Scan.of({**scan, "margin_positions": (0, 0)}, lengths)
    steps = [axis[1] - axis[0] if len(axis) > 1 else None for axis in made.along]
    return (
        steps[0] if steps[0] is not None else steps[1],
        steps[1] if steps[1] is not None else steps[0],
    )


def places_of(
    where: str, scan: Mapping[str, Any], positions: Sequence[Sequence[float]], lengths: Sequence[float]
) -> tuple[Pair, ...]:
    """Convert the positions of the key `where`, in the unit and from the origin of a scan, to positions [Å].

    Parameters
    ----------
    scan : mapping
        The block with the unit and the origin.
    positions : sequence of (float, float)
        Positions as the config has them.
    lengths : (float, float)
        Lengths of the cell along x and y [Å].

    Returns
    -------
    tuple of (float, float)
        Positions (x, y) [Å], in the given order.

    Raises
    ------
    ConfigError
        A position lies far outside the cell.
    """
    places = tuple(_place(scan, position, lengths) for position in positions)
    _require_near(where, scan, places, lengths)
    return places


def _line(scan: Mapping[str, Any], lengths: Sequence[float], margin: tuple[int, int]) -> Scan:
    line = scan["line"]
    begin, end = (_place(scan, line[key], lengths) for key in ("begin", "end"))
    _require_near("scan.line", scan, (begin, end), lengths)
    length = math.hypot(end[0] - begin[0], end[1] - begin[1])
    if length < 1e-6:
        raise ConfigError(
            "scan.line",
            f"begins and ends at the same place: got begin {list(line['begin'])} and end {list(line['end'])}, "
            f"{length:.3g} Å apart. Allowed are two places at least 1e-6 Å apart. Correct `begin` or `end`, or use "
            "`scan.positions` for a single place.",
        )
    step = length / (line["points"] - 1)
    ux, uy = (end[0] - begin[0]) / length, (end[1] - begin[1]) / length
    along = tuple(step * i for i in range(-margin[0], line["points"] + margin[0]))
    across = tuple(step * j for j in range(-margin[1], margin[1] + 1))
    places = tuple((begin[0] + s * ux - t * uy, begin[1] + s * uy + t * ux) for s in along for t in across)
    return Scan(LINE, (along, across), places, margin)


def _require_window(scan: Mapping[str, Any], lengths: Sequence[float]) -> None:
    """Refuse a window that is wider than the cell. Its positions would repeat, or its unit is wrong."""
    for axis in (0, 1):
        name, width = "xy"[axis], _width(scan, axis, lengths)
        if width > lengths[axis] * (1 + 1e-9):
            raise ConfigError(
                f"scan.{name}",
                f"got {scan[name]} in unit {scan.get('unit', 'cell')}: {width:.6g} Å, wider than the cell, which is "
                f"periodic and {lengths[axis]:.6g} Å long. Use a narrower window, or correct `scan.unit` (`cell` means "
                "fractions of the cell).",
            )
        begin, end = _edges(scan, axis, lengths)
        corners = [(begin, 0.0), (end, 0.0)] if axis == 0 else [(0.0, begin), (0.0, end)]
        _require_near(f"scan.{name}", scan, corners, lengths)


def _require_near(where: str, scan: Mapping[str, Any], places: Sequence[Pair], lengths: Sequence[float]) -> None:
    """Refuse places that lie farther outside the cell than the length of the cell. Their unit is probably wrong."""
    for place in places:
        for axis in (0, 1):
            if not -1 - 1e-9 <= place[axis] / lengths[axis] <= 2 + 1e-9:
                raise ConfigError(
                    where,
                    f"{'xy'[axis]} = {place[axis]:.6g} Å lies far outside the cell, which is periodic and "
                    f"{lengths[axis]:.6g} Å long; allowed is {-lengths[axis]:.6g} to {2 * lengths[axis]:.6g} Å "
                    f"(`scan.unit` is {scan.get('unit', 'cell')}). Correct the place, `scan.origin` or `scan.unit`.",
                )


def _place(scan: Mapping[str, Any], position: Sequence[float], lengths: Sequence[float]) -> Pair:
    x, y = (_to_angstrom(scan, axis, position[axis], lengths) for axis in (0, 1))
    return x, y


def _to_angstrom(scan: Mapping[str, Any], axis: int, value: float, lengths: Sequence[float]) -> float:
    """A coordinate of the block in Å."""
    factor = UNITS.get(scan.get("unit", "cell"), lengths[axis])
    return (scan.get("origin", (0.0, 0.0))[axis] + value) * factor


def _edges(scan: Mapping[str, Any], axis: int, lengths: Sequence[float]) -> Pair:
    begin, end = (_to_angstrom(scan, axis, edge, lengths) for edge in scan["xy"[axis]])
    return begin, end


def _width(scan: Mapping[str, Any], axis: int, lengths: Sequence[float]) -> float:
    begin, end = scan["xy"[axis]]
    return float((end - begin) * UNITS.get(scan.get("unit", "cell"), lengths[axis]))


def _coordinates(
    scan: Mapping[str, Any], axis: int, lengths: Sequence[float], points: int, margin: int, spacing: float
) -> tuple[float, ...]:
    if points == 1 and margin:
        first = _edges(scan, axis, lengths)[0]
        return tuple(first + spacing * i for i in range(-margin, margin + 1))
    begin, end = scan["xy"[axis]]
    return tuple(
        _to_angstrom(scan, axis, begin + (end - begin) * i / points, lengths) for i in range(-margin, points + margin)
    )


def _spacing(scan: Mapping[str, Any], widths: Sequence[float], counts: Sequence[int]) -> Pair:
    """Distances of positions [Å]. An axis with one position takes that of the other axis, or that of the block."""
    single = float(scan.get("margin_spacing_angstrom") or 0.0)
    x = widths[0] if counts[0] > 1 else widths[1] if counts[1] > 1 else single
    y = widths[1] if counts[1] > 1 else widths[0] if counts[0] > 1 else single
    return x, y


def _points(scan: Mapping[str, Any], axis: int, edges: Pair) -> int:
    if scan["step_angstrom"] is None:
        return int(scan["points"][axis])
    window = edges[1] - edges[0]
    given = scan["step_angstrom"]
    step = float(given[axis] if isinstance(given, list | tuple) else given)
    if window / step > MAX_POINTS:
        raise ConfigError(
            "scan.step_angstrom",
            f"got {step:g} Å; the window of {window:.6g} Å along {'xy'[axis]} would have more than {MAX_POINTS} "
            f"positions. Use at least {window / MAX_POINTS:.4g} Å.",
        )
    if scan.get("step", "exact") == AT_MOST:
        return max(1, math.ceil(window / step * (1 - MAX_RELATIVE_MISFIT)))
    points = max(1, round(window / step))
    if abs(points * step - window) > MAX_RELATIVE_MISFIT * window:
        fewer = max(1, math.floor(window / step))
        raise ConfigError(
            "scan.step_angstrom",
            f"got {step:g} Å; it does not divide the window of {window:.6g} Å along {'xy'[axis]}. "
            f"The nearest steps that do: {window / (fewer + 1):.10g} ({fewer + 1} points) and "
            f"{window / fewer:.10g} ({fewer} points). Use one of them, or scan.points, or "
            "`scan.step: at_most`, which takes the next smaller step along each axis.",
        )
    return points
