"""What templates show: numbers turned into words. No HTML is made here but that of the grid, which has 10,000 cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from markupsafe import Markup, escape

from stemphony import paths
from stemphony.monitor.database.reading import Defocus, Pair
from stemphony.monitor.state import State, finished_of, outlook_of, pairs, progress_of, silence_allowed_s, state_of
from stemphony.monitor.summaries import SimulationSummary

MAX_CELLS: Final = 20_000
MAX_ROWS: Final = 500
LARGE_CELLS: Final = 30
MEDIUM_CELLS: Final = 80

GLYPHS: Final = {"p": "", "r": "", "s": "–", "e": "✕", "f": "✓"}
"""What a cell shows beside its colour; a running one shows its percent."""

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400


def duration(seconds: float) -> str:
    """Give a time span in at most two units: `8 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    if whole < 90 * _MINUTE:
        return f"{round(whole / _MINUTE)} min"
    if whole < 2 * _DAY:
        minutes = round(whole / _MINUTE)
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    hours = round(whole / _HOUR)
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def duration_range(earliest_s: float, latest_s: float) -> str:
    """Give a range of time spans, or one where both ends read the same."""
    early, late = duration(_rounded(earliest_s)), duration(_rounded(latest_s))
    if early == late:
        return f"about {late}"
    number, _, unit = early.partition(" ")
    return f"{number} – {late}" if late.partition(" ")[2] == unit else f"{early} – {late}"


def _rounded(seconds: float) -> float:
    """To what a range is worth: seconds below a minute and a half, then minutes, then ten minutes, then hours."""
    step = 5 if seconds < 90 else _MINUTE if seconds < 90 * _MINUTE else 10 * _MINUTE if seconds < 12 * _HOUR else _HOUR
    return round(seconds / step) * step


def rate(per_s: float) -> str:
    """Give configurations per minute, hour or day, whichever is a number that one can imagine."""
    for unit, length in (("minute", _MINUTE), ("hour", _HOUR)):
        if per_s * length >= 1:
            return f"{_three(per_s * length)} per {unit}"
    return f"{_three(per_s * _DAY)} per day"


def _three(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}"


def nanometres(defocus: float | None, index: int | None = None) -> str:
    """Name a defocus as the field does, with a minus sign that is one."""
    if defocus is None:
        return "defocus ?" if index is None else f"defocus {index}"
    return f"{round(defocus, 3) + 0.0:g} nm".replace("-", "−")


@dataclass(frozen=True)
class Moment:
    """A time, as machines and as people read it (UTC; the page's script turns it to the reader's zone)."""

    iso: str
    text: str
    ago: str


def moment(seconds: float, now: float) -> Moment:
    """Give a time and how long ago it was."""
    at = datetime.fromtimestamp(seconds, UTC)
    past = now - seconds
    ago = "just now" if past < 3 else f"{duration(past)} ago"
    return Moment(at.isoformat(timespec="seconds"), at.strftime("%Y-%m-%d %H:%M:%S UTC"), ago)


@dataclass(frozen=True)
class SimulationView:
    """One simulation, ready to be shown."""

    row: int
    uid: str
    title: str
    state: State
    progress: float
    percent: int
    finished: int
    failed: int
    failed_earlier: int
    running: int
    total: int
    eta: str
    rate: str
    run: int
    elapsed: str
    started: Moment
    last: Moment
    ended: Moment | None
    message: str
    silence: str
    num_defoci: int
    num_configurations: int
    num_threads: int
    num_processors: int
    num_never_ran: int
    version: str
    events: int
    result_name: str
    parameters: dict[str, str]


def simulation_view(
    simulation: SimulationSummary,
    parameters: dict[str, str],
    now: float,
    stale_after_s: float,
    failed_earlier: int = 0,
    result_name: str = "",
) -> SimulationView:
    """Make what templates show of a simulation. Only its own page tells which pairs failed in earlier runs."""
    state = state_of(simulation, now, stale_after_s)
    progress = progress_of(simulation)
    outlook = outlook_of(simulation, now) if state is State.RUNNING else None
    end = simulation.ended_at if simulation.ended_at is not None else now
    total = pairs(simulation)
    return SimulationView(
        row=simulation.row,
        uid=simulation.uid,
        title=simulation.title or simulation.uid,
        state=state,
        progress=progress,
        percent=100 if progress >= 1 else min(99, int(100 * progress + 1e-9)),
        finished=total if state is State.FINISHED else finished_of(simulation),
        # FAILED counts those of its run alone, but also one of which no event has arrived.
        failed=max(simulation.failed, failed_earlier + (simulation.num_failed if state is State.FAILED else 0)),
        failed_earlier=failed_earlier,
        running=0 if simulation.ended else simulation.running,
        total=total,
        eta=duration_range(outlook.earliest_s, outlook.latest_s) if outlook else "",
        rate=rate(outlook.rate_per_s) if outlook else "",
        run=simulation.run,
        elapsed=duration(end - simulation.run_started),
        started=moment(simulation.run_started, now),
        last=moment(simulation.last_received, now),
        ended=moment(simulation.ended_at, now) if simulation.ended_at is not None else None,
        message=simulation.end_message,
        silence=duration(silence_allowed_s(simulation, stale_after_s)),
        num_defoci=simulation.num_defoci,
        num_configurations=simulation.num_configurations,
        num_threads=simulation.num_threads,
        num_processors=simulation.num_processors,
        num_never_ran=simulation.num_never_ran,
        version=simulation.version,
        events=simulation.events,
        result_name=result_name,
        parameters=parameters,
    )


def rerun_command(result_name: str, pair: Pair | None = None, failed: bool = False) -> str:
    """The command that computes a pair again, the failed ones, or all that is not done, where the results are.

    With NAME where no event has told the name; empty for a pair of the original program.
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
class Grid:
    """Defoci × configurations.

    Attributes
    ----------
    html : Markup
        Rows with a cell for each configuration.
    shape : str
        Changes when rows or columns do; then the page asks for the whole grid.
    size : str
        Class of the size of its cells.
    left_out : int
        Cells that are not drawn, because there are too many.
    """

    html: Markup
    shape: str
    size: str
    left_out: int


def grid(
    simulation: SimulationSummary, defoci: Sequence[Defocus], cells: Sequence[tuple[str, int, str, int, int]]
) -> Grid:
    """Draw the grid. Defoci of which no event has come are rows without a name."""
    by_row: dict[str, dict[int, tuple[str, int, int]]] = {}
    columns = simulation.num_configurations
    for key, configuration, letter, percent, attempt in cells:
        by_row.setdefault(key, {})[configuration] = (letter, percent, attempt)
        columns = max(columns, configuration + 1)
    rows = [(entry.key, nanometres(entry.defocus, entry.index)) for entry in defoci]
    rows += [("", "not started")] * max(0, simulation.num_defoci - len(rows))
    drawn = min(len(rows), MAX_ROWS, MAX_CELLS // columns if columns else 0)
    parts = [
        _row(key, name, columns, by_row.get(key, {}) if key else {}, first=number == 0)
        for number, (key, name) in enumerate(rows[:drawn])
    ]
    size = "large" if columns <= LARGE_CELLS else "medium" if columns <= MEDIUM_CELLS else "small"
    shape = f"{columns}:{drawn}:" + ",".join(key for key, _ in rows[:drawn])
    return Grid(Markup("".join(parts)), shape, size, (len(rows) - drawn) * columns)


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
