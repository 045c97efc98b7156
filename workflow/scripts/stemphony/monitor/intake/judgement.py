"""Decide whether an event may change its simulation. An event that may not is kept, and shown as a conflict.

Two senders under one id, a number beyond the announced totals, or an impossible number of a run must not change what a
page shows. The event may still be the true one, so it is never dropped: `stemphony monitor simulation` can count it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from stemphony.monitor.records import DefocusSummary, IncomingEvent, PairSummary, SimulationSummary
from stemphony.status.events import Event

MAX_RUN_STEP: Final = 1000
"""Largest step from the latest known run number to the number of a new run. Runs count up by one, but some runs may not
have reported."""

MAX_ATTEMPT_STEP: Final = 1000
"""Largest step from the latest known attempt number of a pair to the number of a new attempt."""

MAX_GROWTH: Final = 64
"""Largest factor by which the number of configurations may grow within a run. A simulation may add rounds of them."""

MAX_UNCLAIMED_EVENTS: Final = 5000
"""Most events of a simulation that count before its START_SIMULATION says which credential owns it.

When START_SIMULATION arrives, events of other credentials stop counting, and all events are read again. Senders wait
meanwhile. With this number of events, this takes about two seconds.
"""

CONTRADICTION_S: Final = 60.0
"""Largest time by which a start may be later than the end of its run, or than the start of a later run [s]. A larger
time is a contradiction.

The hooks of one run use the same clock. If this clock is set, it changes by some seconds only.
"""

_ENDS: Final = (Event.FINISH.value, Event.FAILED.value, Event.CANCELLED.value)
"""Events that end a run."""


class Held(StrEnum):
    """Why an event is kept but not counted. The values are in the database."""

    SENDER = "sender"
    CONTENT = "content"
    TOTALS = "totals"
    NUMBER = "number"
    EARLY = "early"
    UNCLAIMED = "unclaimed"
    CONTRADICTED = "contradicted"
    REJECTED = "rejected"


FINAL: Final = (Held.CONTRADICTED.value, Held.REJECTED.value)
"""Reasons that `stemphony monitor simulation repair` does not change."""

REASONS: Final[Mapping[str, str]] = {
    Held.SENDER: "another credential than the owner's sent it",
    Held.CONTENT: "it contradicts an event that arrived first, as from a copy of the results folder",
    Held.TOTALS: "it is beyond the totals that the run announced",
    Held.NUMBER: "the number of its run or attempt is too far ahead",
    Held.EARLY: "it ends a run that has not begun",
    Held.UNCLAIMED: f"it came after {MAX_UNCLAIMED_EVENTS:,} events, and none of them was START_SIMULATION",
    Held.CONTRADICTED: "a later start contradicts it",
    Held.REJECTED: "an operator rejected it",
}
"""Text for users: why an event is not counted."""


def judge(simulation: SimulationSummary, event: IncomingEvent) -> str:
    """Return why `event` must not change its `simulation`, a value of `Held`. Empty if it may."""
    if not simulation.takes_from(event.sender):
        return Held.SENDER
    is_unclaimed = bool(event.sender) and not simulation.owner and not claims(simulation, event)
    if is_unclaimed and simulation.events >= MAX_UNCLAIMED_EVENTS:
        return Held.UNCLAIMED
    if event.run > max(simulation.run, 0) + MAX_RUN_STEP:
        return Held.NUMBER
    if event.name in _ENDS and not event.foreign and 0 <= simulation.run < event.run:
        return Held.EARLY
    if event.run != simulation.run:
        return ""
    if event.name == Event.START_SIMULATION:
        # A run starts once. So a second start comes from another copy of the results folder.
        return Held.CONTENT if simulation.start_told and not event.foreign else ""
    return Held.TOTALS if _is_beyond(simulation, event) else ""


def claims(simulation: SimulationSummary, event: IncomingEvent) -> bool:
    """Return whether `event` is the START_SIMULATION that says to which credential `simulation` belongs."""
    is_possible = event.run <= max(simulation.run, 0) + MAX_RUN_STEP
    return event.name == Event.START_SIMULATION and bool(event.sender) and not simulation.owner and is_possible


def judge_pair(simulation: SimulationSummary, known: Mapping[str, DefocusSummary], event: IncomingEvent) -> str:
    """Return why `event` must not add its defocus to its `simulation`. Empty if it may.

    `known` has the defoci of the simulation, by key.
    """
    if event.defocus_key in known or event.run != simulation.run or not simulation.start_told:
        return ""
    of_this_run = sum(entry.run == simulation.run for entry in known.values())
    return Held.TOTALS if 0 < simulation.num_defoci <= of_this_run else ""


def judge_attempt(pair: PairSummary, event: IncomingEvent) -> str:
    """Return why `event` must not change its `pair`. Empty if it may."""
    return Held.NUMBER if event.attempt > max(pair.attempt, 0) + MAX_ATTEMPT_STEP else ""


def contradicts_end(simulation: SimulationSummary, event: IncomingEvent) -> bool:
    """Return whether `event` starts the latest run of `simulation` later than the run ended. Then the end is wrong."""
    is_start = event.name == Event.START_SIMULATION and not event.foreign and event.run == simulation.run
    return is_start and simulation.ended_at is not None and event.time > simulation.ended_at + CONTRADICTION_S


def contradicts_run(simulation: SimulationSummary, event: IncomingEvent) -> bool:
    """Return whether `event` starts an earlier run of `simulation` later than the latest run. Then the latest is wrong.

    The number of a run is claimed in the results folder, so a later start has a larger number.
    """
    is_start = event.name == Event.START_SIMULATION and not event.foreign and 0 < event.run < simulation.run
    return is_start and event.time > simulation.run_started + CONTRADICTION_S


def _is_beyond(simulation: SimulationSummary, event: IncomingEvent) -> bool:
    if not simulation.start_told:
        return False
    defoci, configurations = simulation.num_defoci, simulation.num_configurations
    if defoci and (event.numbers.get("num_defoci", 0) > defoci or (event.defocus_index or 0) >= defoci):
        return True
    told = event.numbers.get("num_configurations", 0)
    if configurations and told > configurations * MAX_GROWTH:
        return True
    allowed = max(told, configurations)
    return bool(allowed) and event.configuration is not None and event.configuration >= allowed
