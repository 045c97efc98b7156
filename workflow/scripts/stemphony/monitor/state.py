"""What a simulation's summary means now: its state, how far it is, when it may end, how fast it goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from stemphony.monitor.summaries import FAILED, FINISHED, RUNNING, SimulationSummary
from stemphony.status.events import Event

STALE_AFTER_S: Final = 15 * 60.0
"""Shortest silence after which a run counts as stale."""

STALE_PAUSES: Final = 5.0
"""Nor is it stale before so many times the usual pause between its events."""

MAX_STALE_AFTER_S: Final = 24 * 3600.0

MIN_RUN_S: Final = 5.0
"""No rate and no end is told of a run that is younger than this …"""

MIN_WORK: Final = 0.05
"""… or has done less than this part of one configuration."""

RECENT: Final = 0.25
"""The recent rate is that of this last part of the run."""

_SPREAD: Final = 0.08
_SPREAD_OF_ONE: Final = 0.30


class State(StrEnum):
    """Of a simulation; what its page and list show."""

    RUNNING = "running"
    STALE = "stale"
    FAILED = "failed"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class PairState(StrEnum):
    """Of one (defocus, configuration)."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    FINISHED = "finished"


OF_END: Final = {
    Event.FINISH.value: State.FINISHED,
    Event.FAILED.value: State.FAILED,
    Event.CANCELLED.value: State.CANCELLED,
}


@dataclass(frozen=True)
class Outlook:
    """When a run may end.

    Attributes
    ----------
    rate_per_s : float
        Configurations per second, of late.
    earliest_s, latest_s : float
        Seconds from now.
    """

    rate_per_s: float
    earliest_s: float
    latest_s: float


def silence_allowed_s(simulation: SimulationSummary, stale_after_s: float = STALE_AFTER_S) -> float:
    """How long a run may say nothing: 15 minutes, or five times its usual pause, at most a day."""
    usual = simulation.pauses_s / simulation.pauses if simulation.pauses else 0.0
    return max(stale_after_s, min(STALE_PAUSES * usual, MAX_STALE_AFTER_S))


def state_of(simulation: SimulationSummary, now: float, stale_after_s: float = STALE_AFTER_S) -> State:
    """State of a simulation now. Silence is measured by the receiver's clock alone."""
    if simulation.ended:
        return OF_END[simulation.ended]
    silent = now - simulation.last_received > silence_allowed_s(simulation, stale_after_s)
    return State.STALE if silent else State.RUNNING


def pair_state(state: str, pair_run: int, simulation: SimulationSummary) -> PairState:
    """State of a pair: one that ran when its run ended, or in an earlier run, has stopped."""
    if state == FINISHED:
        return PairState.FINISHED
    if state == FAILED:
        return PairState.FAILED
    if state == RUNNING and not simulation.ended and pair_run == simulation.run:
        return PairState.RUNNING
    return PairState.STOPPED


def pairs(simulation: SimulationSummary) -> int:
    """Pairs of the simulation; 0 if no event has told yet."""
    return simulation.num_defoci * simulation.num_configurations


def finished_of(simulation: SimulationSummary) -> int:
    """Configurations that are finished: in this run, and those of earlier ones that this run does not do again.

    Which these are no event says; how many jobs the run has to do its start says.
    """
    earlier = max(0, simulation.finished - simulation.run_finished)
    total = pairs(simulation)
    if simulation.num_jobs and total:
        earlier = min(earlier, max(0, total - simulation.num_jobs))
    return earlier + simulation.run_finished


def _done(simulation: SimulationSummary) -> float:
    """The same with parts of configurations: those that run count by their own progress."""
    return finished_of(simulation) - simulation.run_finished + simulation.run_work


def progress_of(simulation: SimulationSummary) -> float:
    """Done part of the simulation, 0 to 1: finished configurations, and those that run by their own progress."""
    if simulation.ended == Event.FINISH:
        return 1.0
    total = pairs(simulation)
    return min(1.0, max(0.0, _done(simulation) / total)) if total else 0.0


def outlook_of(simulation: SimulationSummary, now: float) -> Outlook | None:
    """When the run may end, as a range; None while nothing can be told, and when it has ended.

    Two rates are compared: that of the whole run, and that of its last quarter. The range goes from the faster to
    the slower one, widened the more, the fewer configurations the run has finished.
    """
    total, done = pairs(simulation), _done(simulation)
    elapsed = simulation.latest_time - simulation.run_started
    # What an attempt found in a checkpoint is done, and says nothing of how fast work is.
    worked = simulation.run_work - simulation.run_resumed
    if simulation.ended or not total or elapsed < MIN_RUN_S or worked < MIN_WORK:
        return None
    whole = worked / elapsed
    rates = [rate for rate in (whole, _recent_rate(simulation, elapsed)) if rate > 0]
    left = max(0.0, total - done)
    spread = _SPREAD + _SPREAD_OF_ONE / math.sqrt(1 + simulation.run_finished)
    since = max(0.0, now - simulation.latest_time)
    # At the end processors fall idle one after the other, over the time of one configuration.
    side_by_side = max(1, simulation.running)
    tail = 0.5 * (side_by_side - 1) / whole
    earliest = left / (max(rates) * (1 + spread)) - since
    latest = (left / min(rates) + tail) * (1 + spread) - since
    return Outlook(rates[-1], max(0.0, earliest), max(0.0, latest))


def _recent_rate(simulation: SimulationSummary, elapsed: float) -> float:
    """Work per second from the sample before the run's last quarter until now."""
    begin = simulation.latest_time - RECENT * elapsed
    earlier: Sequence[list[float]] = [sample for sample in simulation.samples if sample[0] <= begin]
    time, work = earlier[-1] if earlier else (simulation.run_started, 0.0)
    span = simulation.latest_time - time
    return (simulation.run_work - simulation.run_resumed - work) / span if span > 0 else 0.0
