"""Interpret the summary of a simulation: its state, its progress, its rate and the time of its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from stemphony.monitor.records import FAILED, FINISHED, RUNNING, SimulationSummary
from stemphony.status.events import Event

STALE_AFTER_S: Final = 15 * 60.0
"""Shortest silence after which a run is stale [s], unless the command line gives another value."""

STALE_PAUSES: Final = 5.0
"""A run is stale only after a silence that is longer than this many of its usual pauses between events."""

MAX_STALE_AFTER_S: Final = 24 * 3600.0
"""Longest silence that the usual pause of a run can allow: one day [s]."""

MIN_RUN_S: Final = 5.0
"""Shortest time of a run before it gets an estimate [s]. In a younger run, the start-up dominates."""

MIN_WORK: Final = 0.05
"""Least work of a run before it gets an estimate [configurations]."""

RECENT: Final = 0.25
"""Last part of the run over which the recent rate is the mean, as a share of the run."""

_SPREAD: Final = 0.08
_SPREAD_OF_ONE: Final = 0.30
"""Relative width of an estimate: the first number plus the second number over √(1 + finished configurations). For a
long run, the first number alone remains."""


class State(StrEnum):
    """State of a simulation, as pages and the API show it."""

    RUNNING = "running"
    STALE = "stale"
    FAILED = "failed"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class CellState(StrEnum):
    """State of one pair (defocus, configuration), a cell of the grid on the page."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"


END_STATES: Final = {
    Event.FINISH.value: State.FINISHED,
    Event.FAILED.value: State.FAILED,
    Event.CANCELLED.value: State.CANCELLED,
}
"""The events that end a run, with the state after each."""


@dataclass(frozen=True)
class Outlook:
    """When a run may end.

    Attributes
    ----------
    rate_per_s : float
        Recent rate [configurations per second].
    earliest_s, latest_s : float
        Seconds from now.
    """

    rate_per_s: float
    earliest_s: float
    latest_s: float


def silence_allowed_s(simulation: SimulationSummary, stale_after_s: float = STALE_AFTER_S) -> float:
    """Return the silence after which the run of a `simulation` is stale [s].

    It is `stale_after_s` [s], or five usual pauses if these are longer. The usual pauses count for one day at most.
    """
    usual = simulation.pauses_s / simulation.pauses if simulation.pauses else 0.0
    return max(stale_after_s, min(STALE_PAUSES * usual, MAX_STALE_AFTER_S))


def state_of(simulation: SimulationSummary, now: float, stale_after_s: float = STALE_AFTER_S) -> State:
    """Return the state of a `simulation` at `now` [s since 1970]. Only the receiver's clock measures silence.

    `stale_after_s` is the shortest silence after which a run is stale [s].
    """
    if simulation.ended:
        return END_STATES[simulation.ended]
    silent = now - simulation.last_received > silence_allowed_s(simulation, stale_after_s)
    return State.STALE if silent else State.RUNNING


def cell_state(state: str, pair_run: int, simulation: SimulationSummary) -> CellState:
    """Return the state of a pair whose `state` in the database is of the run `pair_run`.

    A pair that was running has stopped if its run has ended or is not the latest run of the `simulation`.
    """
    if state == FINISHED:
        return CellState.FINISHED
    if state == FAILED:
        return CellState.FAILED
    if state == RUNNING and not simulation.ended and pair_run == simulation.run:
        return CellState.RUNNING
    return CellState.STOPPED


def pairs_of(simulation: SimulationSummary) -> int:
    """Return the number of pairs of a `simulation`, or 0 before an event has given the number."""
    return simulation.num_defoci * simulation.num_configurations


def finished_of(simulation: SimulationSummary) -> int:
    """Return the number of finished pairs of a `simulation`: of this run, and of earlier runs that this run keeps.

    No event lists the pairs that a run keeps. Their number follows from the number of jobs in START_SIMULATION.
    """
    earlier = max(0, simulation.finished - simulation.run_finished)
    total = pairs_of(simulation)
    if simulation.num_jobs and total:
        earlier = min(earlier, max(0, total - simulation.num_jobs))
    return earlier + simulation.run_finished


def _done(simulation: SimulationSummary) -> float:
    """Return the number of finished pairs. A running pair counts by its own progress."""
    return finished_of(simulation) - simulation.run_finished + simulation.run_work


def progress_of(simulation: SimulationSummary) -> float:
    """Return the finished part of a `simulation`, 0 to 1. A running pair counts by its own progress."""
    if simulation.ended == Event.FINISH:
        return 1.0
    total = pairs_of(simulation)
    return min(1.0, max(0.0, _done(simulation) / total)) if total else 0.0


def outlook_of(simulation: SimulationSummary, now: float) -> Outlook | None:
    """Estimate when the run of a `simulation` ends, as a range. `now` is in seconds since 1970.

    Return None if the run has ended, or is too young for an estimate. One limit of the range uses the mean rate of the
    whole run. The other limit uses the mean rate of the last quarter. The range is wider while the run has finished
    only few configurations.
    """
    total, done = pairs_of(simulation), _done(simulation)
    elapsed = simulation.latest_time - simulation.run_started
    # Work from a checkpoint counts as finished, but it took no time in this run.
    worked = simulation.run_work - simulation.run_resumed
    if simulation.ended or not total or elapsed < MIN_RUN_S or worked < MIN_WORK:
        return None
    whole = worked / elapsed
    rates = [rate for rate in (whole, _recent_rate(simulation, elapsed)) if rate > 0]
    left = max(0.0, total - done)
    spread = _SPREAD + _SPREAD_OF_ONE / math.sqrt(1 + simulation.run_finished)
    since = max(0.0, now - simulation.latest_time)
    # During the last configurations, processors become idle one after the other.
    side_by_side = max(1, simulation.running)
    tail = 0.5 * (side_by_side - 1) / whole
    earliest = left / (max(rates) * (1 + spread)) - since
    latest = (left / min(rates) + tail) * (1 + spread) - since
    return Outlook(rates[-1], max(0.0, earliest), max(0.0, latest))


def _recent_rate(simulation: SimulationSummary, elapsed: float) -> float:
    """Return the mean rate since the last sample before the run's last quarter [configurations per second]."""
    begin = simulation.latest_time - RECENT * elapsed
    earlier: Sequence[list[float]] = [sample for sample in simulation.samples if sample[0] <= begin]
    time, work = earlier[-1] if earlier else (simulation.run_started, 0.0)
    span = simulation.latest_time - time
    return (simulation.run_work - simulation.run_resumed - work) / span if span > 0 else 0.0
