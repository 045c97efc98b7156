"""Prepare the data for templates. Only the grid becomes HTML here: a template takes too long for 10,000 cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup, escape

from stemphony import paths
from stemphony.monitor.database.pairs import DefocusRow, Pair
from stemphony.monitor.intake.limits import MAX_TEXT_CHARACTERS
from stemphony.monitor.records import SimulationSummary
from stemphony.monitor.state import State, finished_of, outlook_of, pairs_of, progress_of, silence_allowed_s, state_of
from stemphony.monitor.web.bounds import (
    LISTED_DESCRIPTION,
    LISTED_MESSAGE,
    LISTED_PARAMETERS,
    LISTED_TITLE,
    cut,
    cut_parameters,
    fitting_parameters,
)
from stemphony.monitor.words import nanometres, rate, time_span, time_span_range

MAX_CELLS: Final = 12_000
MAX_ROWS: Final = 500
"""Most cells and rows of the grid. A larger grid makes a browser slow, and the answer would be larger than 1 MB."""

PAGE_PARAMETERS: Final = 20_000
"""Longest custom parameters on the page of a simulation, all together [bytes of JSON]. As HTML with links, they are ten
times longer."""

MAX_CHANGED: Final = 5000
"""Most changed cells that a page gets one by one. If more cells have changed, it gets the whole grid."""

LARGE_CELLS: Final = 30
MEDIUM_CELLS: Final = 80
"""Longest rows with large cells and with medium cells. Longer rows have small cells."""

MOST_NUMBERED: Final = 1000
"""Most columns of a grid with numbers above them. A longer row fills most of a screen, and its numbers would fill as
much."""

GLYPHS: Final = {"p": "", "r": "", "s": "–", "e": "✕", "f": "✓"}
"""Text of a cell beside its colour. A running cell shows its percentage instead."""


@dataclass(frozen=True)
class Moment:
    """A time in UTC for machines (`iso`) and for people (`text`), and how long `ago` it was.

    The script of the page converts it to the reader's time zone.
    """

    iso: str
    text: str
    ago: str


def moment(seconds: float, now: float) -> Moment:
    """Return the time `seconds` [s since 1970], and how long ago it was at `now` [s since 1970]."""
    at = datetime.fromtimestamp(seconds, UTC)
    past = now - seconds
    ago = "just now" if past < 3 else f"{time_span(past)} ago"
    return Moment(at.isoformat(timespec="seconds"), at.strftime("%Y-%m-%d %H:%M:%S UTC"), ago)


_DESCRIPTION: Final = {
    "specimen_formula": "specimen", "beam_energy_kev": "beam energy [keV]", "thickness_nm": "thickness [nm]",
    "detectors": "detectors",
}  # fmt: skip
"""Words for the `DESCRIPTION_KEYS` on pages. They arrive as custom parameters."""

_SHOWN_AS_STORED: Final = (
    "row", "uid", "run", "num_threads", "num_processors", "num_never_ran", "version", "events", "owner", "held",
)  # fmt: skip
"""Attributes of a simulation that templates get as they are stored."""


def simulation_view(
    simulation: SimulationSummary,
    parameters: dict[str, str],
    now: float,
    stale_after_s: float,
    failed_earlier: int = 0,
    result_name: str = "",
    is_listed: bool = False,
) -> dict[str, Any]:
    """Return the values that templates show of a simulation, by name.

    Parameters
    ----------
    simulation : SimulationSummary
    parameters : dict
        Custom parameters.
    now, stale_after_s : float
        Seconds since 1970, and the shortest silence after which a run is stale [s].
    failed_earlier : int
        Pairs that failed in earlier runs. Only the page of one simulation shows it.
    result_name : str
        Name of the result folder, empty if it is not known.
    is_listed : bool
        Whether the simulation is in a list. Long texts are then cut.

    Returns
    -------
    dict
        Values by the names that the templates use.
    """
    state = state_of(simulation, now, stale_after_s)
    progress = progress_of(simulation)
    outlook = outlook_of(simulation, now) if state is State.RUNNING else None
    end = simulation.ended_at if simulation.ended_at is not None else now
    total = pairs_of(simulation)
    described = {} if is_listed else {key: parameters[key] for key in _DESCRIPTION if parameters.get(key)}
    others = {key: value for key, value in parameters.items() if key not in described}
    return {
        **{name: getattr(simulation, name) for name in _SHOWN_AS_STORED},
        "title": cut(simulation.title or simulation.uid, LISTED_TITLE if is_listed else MAX_TEXT_CHARACTERS),
        "message": cut(simulation.end_message, LISTED_MESSAGE if is_listed else MAX_TEXT_CHARACTERS),
        "state": state,
        "percent": 100 if progress >= 1 else min(99, int(100 * progress + 1e-9)),
        "finished": total if state is State.FINISHED else finished_of(simulation),
        # FAILED counts only the pairs of its run, but it includes pairs of which no event has arrived.
        "failed": max(simulation.failed, failed_earlier + (simulation.num_failed if state is State.FAILED else 0)),
        "failed_earlier": failed_earlier,
        "running": 0 if simulation.ended else simulation.running,
        "total": total,
        "eta": time_span_range(outlook.earliest_s, outlook.latest_s) if outlook else "",
        "rate": rate(outlook.rate_per_s) if outlook else "",
        "elapsed": time_span(end - simulation.run_started),
        "started": moment(simulation.run_started, now),
        "last": moment(simulation.last_received, now),
        "ended": moment(simulation.ended_at, now) if simulation.ended_at is not None else None,
        "silence": time_span(silence_allowed_s(simulation, stale_after_s)),
        "result_name": result_name,
        "description": {
            _DESCRIPTION[key]: cut(value, LISTED_DESCRIPTION).removesuffix(".0") for key, value in described.items()
        },
        "parameters": cut_parameters(_with_labels(others))
        if is_listed
        else fitting_parameters(others, PAGE_PARAMETERS),
        "more_parameters": max(0, len(parameters) - LISTED_PARAMETERS) if is_listed else 0,
    }


def parameter_label(name: str) -> str:
    """Return the name that a page shows for the custom parameter `name`."""
    return _DESCRIPTION.get(name, name)


def _with_labels(parameters: dict[str, str]) -> dict[str, str]:
    """Parameters with words in place of their keys. Whole numbers have no decimals."""
    return {
        parameter_label(key): value.removesuffix(".0") if key in _DESCRIPTION else value
        for key, value in parameters.items()
    }


def rerun_command(result_name: str, pair: Pair | None = None, failed: bool = False) -> str:
    """Return the command that computes pairs again: one `pair`, with `failed` the failed ones, or all unfinished ones.

    `result_name` is the name of the result folder. The command contains NAME if it is empty. The command is empty for a
    pair of STEMsalabim.
    """
    folder = paths.ResultPaths.of(result_name or "NAME").root.as_posix()
    if pair is None:
        return f"stemphony rerun {folder}{' --failed' if failed else ''}"
    if pair.defocus is None or not pair.job:
        return ""
    return (
        f"stemphony rerun {folder} --defocus {round(pair.defocus, 3) + 0.0:.10g} --configuration {pair.configuration}"
    )


# --- the grid -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairGrid:
    """The grid of pairs: a row for each defocus, a column for each configuration.

    Attributes
    ----------
    html : Markup
        A line with numbers of configurations, and rows with a cell for each configuration.
    shape : str
        Text that identifies the rows and columns. When it changes, the page loads the whole grid.
    size : str
        CSS class for the size of the cells.
    left_out : int
        Number of cells beyond `MAX_CELLS` or `MAX_ROWS`, which are not drawn.
    beyond : int
        Number of cells whose configuration is beyond the announced number. They are not drawn either.
    """

    html: Markup
    shape: str
    size: str
    left_out: int
    beyond: int


def grid(
    simulation: SimulationSummary, defoci: Sequence[DefocusRow], cells: Sequence[tuple[str, int, str, int, int]]
) -> PairGrid:
    """Draw the grid.

    Parameters
    ----------
    simulation : SimulationSummary
        Its totals give the numbers of rows and columns.
    defoci : sequence of DefocusRow
        Defoci of which events have arrived. Other defoci become rows without a name.
    cells : sequence of tuple
        As `pairs.cells` returns them.

    Returns
    -------
    PairGrid
        HTML of the drawn rows, and the number of pairs that are not drawn.
    """
    by_row: dict[str, dict[int, tuple[str, int, int]]] = {}
    columns, beyond = simulation.num_configurations, 0
    if not columns:
        columns = max((configuration + 1 for _, configuration, *_ in cells), default=0)
    for key, configuration, letter, percent, attempt in cells:
        if configuration < columns:
            by_row.setdefault(key, {})[configuration] = (letter, percent, attempt)
        else:
            beyond += 1
    rows = [(entry.key, nanometres(entry.defocus, entry.index)) for entry in defoci]
    rows += [("", "not started")] * max(0, simulation.num_defoci - len(rows))
    drawn = min(len(rows), MAX_ROWS, MAX_CELLS // columns if columns else 0)
    parts = [
        _row(key, name, columns, by_row.get(key, {}) if key else {}, first=number == 0)
        for number, (key, name) in enumerate(rows[:drawn])
    ]
    if parts and columns <= MOST_NUMBERED:
        parts.insert(0, _numbers(columns))
    size = "large" if columns <= LARGE_CELLS else "medium" if columns <= MEDIUM_CELLS else "small"
    shape = f"{columns}:{drawn}:" + ",".join(key for key, _ in rows[:drawn])
    return PairGrid(Markup("".join(parts)), shape, size, (len(rows) - drawn) * columns, beyond)


def _numbers(columns: int) -> str:
    """Return the line above the rows: the numbers of the configurations. Narrow columns leave room for some of them.

    Each column has an element, so the line wraps where the rows wrap. Screen readers get the number from the cell.
    """
    step = 1 if columns <= LARGE_CELLS else 5 if columns <= MEDIUM_CELLS else 10
    numbers = "".join(f"<u>{number}</u>" if number % step == 0 else "<u></u>" for number in range(columns))
    return (
        f'<div aria-hidden="true" class="defocus numbers"><small>configuration</small>'
        f'<span class="cells">{numbers}</span></div>'
    )


def _row(key: str, name: str, columns: int, cells: dict[int, tuple[str, int, int]], first: bool) -> str:
    tab = ' tabindex="0"' if first else ""
    parts = []
    finished = 0
    for configuration in range(columns):
        letter, percent, attempt = cells.get(configuration, ("p", 0, 0))
        finished += letter == "f"
        again = " again" if attempt > 1 else ""
        text = str(percent) if letter == "r" else GLYPHS[letter]
        parts.append(f'<i role="gridcell" class="{letter}{again}"{tab if configuration == 0 else ""}>{text}</i>')
    return (
        f'<div role="row" class="defocus" data-defocus="{escape(key)}">'
        f'<b role="rowheader">{escape(name)} <small>{finished}/{columns}</small></b>'
        f'<span role="presentation" class="cells">{"".join(parts)}</span></div>'
    )
