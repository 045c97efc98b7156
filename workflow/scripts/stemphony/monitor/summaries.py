"""What an event changes in the summary of its simulation and of its pair of defocus and configuration.

Pure, and as good as the same whatever the order of arrival: an event that is older than what a pair or a run shows
changes no state. Only what FAILED says of a pair is lost if the pair's own first event comes later; its ERROR mends
that. Pairs are ordered by (attempt, position), runs by their number; clocks of nodes decide nothing but how long
something took.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

from stemphony.monitor.intake.incoming import IncomingEvent
from stemphony.status.events import Event

RUNNING: Final = "running"
FINISHED: Final = "finished"
FAILED: Final = "failed"

ENDS: Final = (Event.FINISH.value, Event.FAILED.value, Event.CANCELLED.value)
"""Events of which one ends a run."""

PAUSE_S: Final = 1.0
"""Events that arrive closer together than this belong to one burst, and say nothing of the usual pause."""

SAMPLES: Final = 32
"""Points of the curve of work over time that are kept for the rate."""

_LASTING: Final = ("num_threads", "num_processors", "num_defoci", "num_configurations")
"""Numbers that every event tells; the others belong to the start or to the end of a run."""

_LATEST_FIRST_PERCENT: Final = 2
"""Number of the first percent in its attempt: at most START_DEFOCUS and START_FP_CONFIGURATION come first."""

_UNKNOWN: Final = -1.0
"""Share that an attempt began with, before its first percent has arrived."""


@dataclass(slots=True)
class SimulationSummary:
    """One simulation; the columns of its table."""

    row: int
    uid: str
    title: str = ""
    version: str = ""
    git_commit: str = ""
    num_threads: int = 0
    num_processors: int = 0
    num_defoci: int = 0
    num_configurations: int = 0
    run: int = -1
    run_started: float = 0.0
    start_told: int = 0
    num_jobs: int = 0
    latest_time: float = 0.0
    ended: str = ""
    ended_at: float | None = None
    end_message: str = ""
    num_failed: int = 0
    num_never_ran: int = 0
    first_received: float = 0.0
    last_received: float = 0.0
    pauses_s: float = 0.0
    pauses: int = 0
    finished: int = 0
    failed: int = 0
    running: int = 0
    work: float = 0.0
    run_work: float = 0.0
    run_resumed: float = 0.0
    run_finished: int = 0
    samples: list[list[float]] = field(default_factory=list)
    events: int = 0
    revision: int = 0


@dataclass(slots=True)
class PairSummary:
    """One (defocus, configuration): its latest attempt; the columns of its table."""

    simulation: int
    defocus_key: str
    configuration: int
    state: str = RUNNING
    progress: float = 0.0
    resumed: float = 0.0
    run: int = 0
    attempt: int = -1
    position: int = -1
    job: str = ""
    message: str = ""
    started: float = 0.0
    updated: float = 0.0
    revision: int = 0


@dataclass(slots=True)
class DefocusSummary:
    """One defocus; the columns of its table."""

    simulation: int
    key: str
    defocus: float | None = None
    defocus_index: int | None = None
    run: int = -1


@dataclass(slots=True)
class Change:
    """What one event came to.

    Attributes
    ----------
    ended : str
        The event that ended the latest run, if this was it: FINISH, FAILED or CANCELLED.
    listed : list of (int, int)
        Pairs of indices that FAILED lists, where it speaks of the latest run.
    """

    ended: str = ""
    listed: list[tuple[int, int]] = field(default_factory=list)


def in_its_run(simulation: SimulationSummary, event: IncomingEvent) -> IncomingEvent:
    """Give an event the run that it belongs to, if its program counts none, as STEMsalabim does not.

    There each start begins the next run. One process sends all events, so its own clock tells which run an event
    belongs to; what is older than the start of the latest run changes nothing of it. It sends an event once, whatever
    becomes of it: an end that comes later than the end of the run is one whose start was lost.

    Returns
    -------
    IncomingEvent
        The event itself if it has a run.
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
    """Let a simulation know of an event, before its pair does."""
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
    """A run begins when its START_SIMULATION says; before that has arrived, with the earliest event of it.

    So a node whose clock is years behind makes no run of years.
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
    """Jobs that a run has to do, 0 if its start does not say. STEMsalabim computes all, each time."""
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
    """What ran in the run before runs no more: its progress is lost, its results are not."""
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
    """Let a pair and the sums of its simulation know of an event. Gives whether anything changed.

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
    if event.position >= pair.position:
        pair.position = event.position
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
    elif event.name == Event.PROGRESS and event.progress is not None:
        if pair.resumed == _UNKNOWN:
            # What the first percent of an attempt says was there before: it goes on from a checkpoint.
            is_first = event.seq is not None and event.seq <= _LATEST_FIRST_PERCENT
            pair.resumed = event.progress if is_first else 0.0
        pair.progress = event.progress
        # STEMsalabim tells the end of a configuration by this alone.
        pair.state = FINISHED if event.foreign and event.progress >= 1 else RUNNING
    elif event.foreign and event.name == Event.START_FP_CONFIGURATION:
        pair.state, pair.progress, pair.message, pair.started = RUNNING, 0.0, "", event.time


def fail_listed(simulation: SimulationSummary, pair: PairSummary) -> bool:
    """Take it from FAILED that a pair failed whose own ERROR never came. Gives whether anything changed."""
    if pair.state != RUNNING or pair.run != simulation.run:
        return False
    before = _share(simulation, pair)
    simulation.running -= 1
    simulation.failed += 1
    simulation.work -= before[1]
    simulation.run_work -= before[1]
    simulation.run_resumed -= before[4]
    pair.state = FAILED
    pair.message = pair.message or "failed, as the end of the run says; its own message did not arrive"
    return True


def _share(simulation: SimulationSummary, pair: PairSummary) -> tuple[int, float, int, int, float]:
    """What a pair is to the sums: running, work, finished, failed, and what of the work its attempt began with."""
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
    """Keep the curve of work over time with few points: every other one goes when there are too many."""
    samples = simulation.samples
    span = simulation.latest_time - simulation.run_started
    if samples and time - samples[-1][0] < max(1.0, span / SAMPLES):
        return
    samples.append([time, round(simulation.run_work - simulation.run_resumed, 6)])
    if len(samples) > SAMPLES:
        del samples[1::2]


def update_defocus(defocus: DefocusSummary, event: IncomingEvent) -> bool:
    """Let a defocus know its value and its latest index. Gives whether anything changed."""
    before = (defocus.defocus, defocus.defocus_index, defocus.run)
    if event.run >= defocus.run:
        defocus.run = event.run
        defocus.defocus = event.defocus if event.defocus is not None else defocus.defocus
        defocus.defocus_index = event.defocus_index if event.defocus_index is not None else defocus.defocus_index
    return (defocus.defocus, defocus.defocus_index, defocus.run) != before
