"""What an event changes in the summary of its simulation and of its pair (defocus, configuration).

The functions are pure. The order of arrival hardly matters, because an event that is older than the state of a pair or
a run does not change the state. One case depends on the order: FAILED lists a pair before the first event of that pair
has arrived. The pair then fails with its own ERROR. Events of a pair are ordered by (attempt, position), and runs by
their number. The clocks of nodes decide only durations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

from stemphony.monitor.records import (
    FAILED,
    FINISHED,
    RUNNING,
    DefocusSummary,
    IncomingEvent,
    PairSummary,
    SimulationSummary,
)
from stemphony.status.events import Event

ENDS: Final = (Event.FINISH.value, Event.FAILED.value, Event.CANCELLED.value)
"""Events that end a run."""

PAUSE_S: Final = 1.0
"""Shortest pause between two events that counts for the usual pause [s]. Shorter pauses lie within one burst."""

SAMPLES: Final = 32
"""Most points of the curve of work over time, from which the rate follows. They are stored again with each event."""

_LASTING: Final = ("num_threads", "num_processors", "num_defoci", "num_configurations")
"""Numbers that are in every event. Other numbers are only in events at the start or the end of a run."""

_LATEST_FIRST_PERCENT: Final = 2
"""Largest `seq` of the first PROGRESS of an attempt: only START_DEFOCUS and START_FP_CONFIGURATION precede it."""

_JOB_ENDS: Final = (Event.FINISH_FP_CONFIGURATION.value, Event.ERROR.value)
"""Position of the last event of an attempt. It is larger than the position of any other event."""

_UNKNOWN: Final = -1.0
"""Value of `resumed` before the first PROGRESS of an attempt has arrived."""


@dataclass(slots=True)
class Change:
    """What one event changed beyond the summary itself.

    Attributes
    ----------
    ended : str
        FINISH, FAILED or CANCELLED if this event ended the latest run, else empty.
    listed : list of (int, int)
        Pairs (defocus index, configuration index) that FAILED of the latest run lists.
    """

    ended: str = ""
    listed: list[tuple[int, int]] = field(default_factory=list)


def in_its_run(simulation: SimulationSummary, event: IncomingEvent) -> IncomingEvent:
    """Return `event` with the number of its run. Events of STEMsalabim have none, so this function counts.

    `simulation` is the summary of its simulation before the event.

    Each START_SIMULATION begins the next run. One process of STEMsalabim sends all its events, so their times show to
    which run an event belongs. STEMsalabim sends each event once: if an end is later than the end of the latest run,
    the start of another run was lost.

    Returns
    -------
    IncomingEvent
        The same event if it has a run.
    """
    if event.run or not event.foreign:
        return event
    run = simulation.run
    if run < 0:
        return replace(event, run=1)
    ended_at = -math.inf if simulation.ended_at is None else simulation.ended_at
    starts = event.name == Event.START_SIMULATION and event.time > simulation.run_started and event.time >= ended_at
    ends = event.name in ENDS and bool(simulation.ended) and event.time > ended_at
    if starts or ends:
        run += 1
    elif event.time < simulation.run_started and run > 1:
        run -= 1
    return replace(event, run=run)


def update_simulation(simulation: SimulationSummary, event: IncomingEvent) -> Change:
    """Update the summary `simulation` by an `event` that counts. Call `update_pair` after this.

    Return what the event changed beyond the summary.
    """
    change = Change()
    _note_arrival(simulation, event.received)
    if event.run > simulation.run:
        _begin_run(simulation, event)
    if event.run < simulation.run:
        return change
    _note_start(simulation, event)
    if event.time >= simulation.latest_time:
        simulation.latest_time = event.time
        for name, value in event.numbers.items():
            if name in _LASTING:
                setattr(simulation, name, value)
    for name, text in event.texts.items():
        setattr(simulation, name, text)
    if event.name in ENDS and not simulation.ended:
        simulation.ended, simulation.ended_at = event.name, event.time
        simulation.end_message = event.message
        simulation.num_failed = event.numbers.get("num_failed", len(event.failed))
        simulation.num_never_ran = event.numbers.get("num_never_ran", 0)
        change.ended, change.listed = event.name, event.failed
    return change


def _note_start(simulation: SimulationSummary, event: IncomingEvent) -> None:
    """Set the start of a run: the time of START_SIMULATION. Until it has arrived, use the time of the earliest event.

    So a node whose clock is years behind does not make a run that lasts for years.
    """
    tells = event.name == Event.START_SIMULATION
    if tells and not simulation.start_told:
        simulation.start_told, simulation.run_started = 1, event.time
        later = [sample for sample in simulation.samples if sample[0] > event.time]
        simulation.samples = [[event.time, 0.0], *later]
        simulation.num_jobs = _jobs_told(simulation, event)
    elif tells or not simulation.start_told:
        simulation.run_started = min(simulation.run_started, event.time)


def _jobs_told(simulation: SimulationSummary, event: IncomingEvent) -> int:
    """Return the number of jobs of a run, 0 if it is not known. STEMsalabim computes all pairs in each run."""
    if event.foreign:
        return event.numbers.get("num_defoci", 0) * event.numbers.get("num_configurations", 0)
    return event.numbers.get("num_jobs", 0)


def _note_arrival(simulation: SimulationSummary, received: float) -> None:
    if not simulation.events:
        simulation.first_received = simulation.last_received = received
    simulation.events += 1
    pause = received - simulation.last_received
    if pause > PAUSE_S and not simulation.ended:
        simulation.pauses_s += pause
        simulation.pauses += 1
    simulation.last_received = max(simulation.last_received, received)


def _begin_run(simulation: SimulationSummary, event: IncomingEvent) -> None:
    """Begin the next run. Pairs that were running lose their progress. Finished pairs stay finished."""
    simulation.run, simulation.run_started = event.run, event.time
    simulation.start_told = int(event.name == Event.START_SIMULATION)
    simulation.latest_time = event.time
    for name, value in event.numbers.items():
        if name in _LASTING:
            setattr(simulation, name, value)
    simulation.ended, simulation.ended_at, simulation.end_message = "", None, ""
    simulation.num_failed = simulation.num_never_ran = 0
    simulation.pauses_s, simulation.pauses = 0.0, 0
    simulation.running, simulation.work = 0, float(simulation.finished)
    simulation.run_work, simulation.run_resumed, simulation.run_finished = 0.0, 0.0, 0
    simulation.num_jobs = _jobs_told(simulation, event) if simulation.start_told else 0
    simulation.samples = [[event.time, 0.0]]


def update_pair(simulation: SimulationSummary, pair: PairSummary, event: IncomingEvent) -> bool:
    """Update the summary `pair` by an `event`, and the sums of its `simulation`. Return whether anything changed.

    Call `update_simulation` first.
    """
    if event.attempt < pair.attempt:
        return False
    before = _share(simulation, pair)
    is_new = event.attempt > pair.attempt
    own = (0.0, 0.0) if pair.run != simulation.run else (before[1], before[4])
    if is_new:
        pair.attempt, pair.position = event.attempt, -1
        pair.started = pair.updated = event.time
        pair.state, pair.progress, pair.message, pair.resumed = RUNNING, 0.0, "", _UNKNOWN
    elif event.time < pair.started:
        pair.started = event.time
    if event.position >= pair.position or (event.name in _JOB_ENDS and pair.state == RUNNING and not event.foreign):
        pair.position = max(pair.position, event.position)
        pair.run = event.run
        pair.job = event.job or pair.job
        pair.updated = max(pair.updated, event.time)
        _advance(pair, event)
    elif not is_new and event.time > pair.started:
        return False
    after = _share(simulation, pair)
    simulation.finished += after[2] - before[2]
    simulation.failed += after[3] - before[3]
    simulation.running += after[0] - before[0]
    simulation.work += after[1] - before[1]
    if pair.run == simulation.run:
        simulation.run_work += after[1] - own[0]
        simulation.run_resumed += after[4] - own[1]
        simulation.run_finished += max(0, after[2] - (before[2] if not is_new else 0))
        _sample(simulation, event.time)
    return True


def _advance(pair: PairSummary, event: IncomingEvent) -> None:
    if event.name == Event.FINISH_FP_CONFIGURATION:
        pair.state, pair.progress, pair.message = FINISHED, 1.0, ""
    elif event.name == Event.ERROR:
        pair.state, pair.message = FAILED, event.message
    elif pair.state != RUNNING and not event.foreign:
        return
    elif event.name == Event.PROGRESS and event.progress is not None:
        if pair.resumed == _UNKNOWN:
            # The first PROGRESS of an attempt says which part came from a checkpoint.
            is_first = event.seq is not None and event.seq <= _LATEST_FIRST_PERCENT
            pair.resumed = event.progress if is_first else 0.0
        pair.progress = event.progress
        # STEMsalabim sends no other event at the end of a configuration.
        pair.state = FINISHED if event.foreign and event.progress >= 1 else RUNNING
    elif event.foreign and event.name == Event.START_FP_CONFIGURATION:
        pair.state, pair.progress, pair.message, pair.started = RUNNING, 0.0, "", event.time


def fail_listed(simulation: SimulationSummary, pair: PairSummary) -> bool:
    """Mark a `pair` as failed that FAILED lists and whose own ERROR did not arrive. Return whether anything changed.

    The sums of its `simulation` change, too.
    """
    if pair.state != RUNNING or pair.run != simulation.run:
        return False
    before = _share(simulation, pair)
    simulation.running -= 1
    simulation.failed += 1
    simulation.work -= before[1]
    simulation.run_work -= before[1]
    simulation.run_resumed -= before[4]
    pair.state = FAILED
    pair.message = pair.message or "The run reports this pair as failed. The message of the job did not arrive."
    return True


def _share(simulation: SimulationSummary, pair: PairSummary) -> tuple[int, float, int, int, float]:
    """Return what a pair adds to the sums: running, work, finished, failed, and work from a checkpoint."""
    resumed = max(0.0, pair.resumed)
    if pair.attempt < 0:
        return 0, 0.0, 0, 0, 0.0
    if pair.state == FINISHED:
        return 0, 1.0, 1, 0, resumed
    if pair.state == FAILED:
        return 0, 0.0, 0, 1, 0.0
    if pair.run == simulation.run:
        return 1, pair.progress, 0, 0, resumed
    return 0, 0.0, 0, 0, 0.0


def _sample(simulation: SimulationSummary, time: float) -> None:
    """Add a point to the curve of work over time. If there are too many, drop every other one."""
    samples = simulation.samples
    span = simulation.latest_time - simulation.run_started
    if samples and time - samples[-1][0] < max(1.0, span / SAMPLES):
        return
    samples.append([time, round(simulation.run_work - simulation.run_resumed, 6)])
    if len(samples) > SAMPLES:
        del samples[1::2]


def update_defocus(defocus: DefocusSummary, run: int, value_nm: float | None, index: int | None) -> bool:
    """Update the summary `defocus` from an event of `run`. Return whether anything changed.

    `value_nm` [nm] and `index` are those of the event; None if it has none.
    """
    before = (defocus.defocus, defocus.defocus_index, defocus.run)
    if run >= defocus.run:
        defocus.run = run
        defocus.defocus = value_nm if value_nm is not None else defocus.defocus
        defocus.defocus_index = index if index is not None else defocus.defocus_index
    return (defocus.defocus, defocus.defocus_index, defocus.run) != before


def note_unknown(simulation: SimulationSummary, event: IncomingEvent) -> Change:
    """Update the summary `simulation` for an `event` of an unknown name. It only shows that the simulation is alive."""
    if not simulation.events:
        simulation.first_received = event.received
        simulation.run = max(simulation.run, event.run)
        simulation.run_started = simulation.latest_time = event.time
    simulation.events += 1
    simulation.last_received = max(simulation.last_received, event.received)
    return Change()
