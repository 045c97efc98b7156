"""The undelivered events of a simulation: which spool files hold them, and in which order they are sent.

They are sent in the order in which they happened, so that a receiver sees a simulation start, run and end.
"""

from __future__ import annotations

import contextlib
import heapq
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stemphony.paths import ResultPaths
from stemphony.status.delivery import (
    Delivery,
    count_undelivered,
    delivered_until,
    is_being_sent,
    read_events,
    set_apart,
)
from stemphony.status.events import Event
from stemphony.status.spool import spool_file_of
from stemphony.store import own_runs

FRESH_S: Final = 10.0
"""Age from which the marker of a defocus counts as a spool file [s]. The job of a younger marker may still write the
event into its own spool."""

_ENDS_OF_A_RUN: Final = (Event.FINISH, Event.FAILED, Event.CANCELLED)
"""Events that end a run. They are sent after all other events of the run."""


@dataclass(frozen=True)
class SpoolFile:
    """One file with events, `path`, and the number of the `run` that they belong to."""

    path: Path
    run: int


class Own:
    """Which events belong to the simulation of a results folder.

    A folder may hold reports of another simulation, because it is a copy, or because another person put them there. If
    they were sent with this user's credentials, they would change that simulation at the receiver.

    If simulation.json was lost, the folder continues as a new simulation. The events of the old simulation also belong
    to the folder, if this user ran the old simulation last in this folder.

    Parameters
    ----------
    result : ResultPaths
        The simulation. Without a readable simulation.json, all events count as its own.
    with_original : bool
        Whether the events of the originals of a copy count too. Originals that this user runs in another folder do not
        count.
    """

    def __init__(self, result: ResultPaths, with_original: bool = False) -> None:
        own, originals = own_runs.ids_of(result)
        self._result, self._known = result, {own: True}
        for original in originals if with_original else ():
            if own_runs.other_place_of(original, result) is None:
                self._known[original] = True

    def has(self, event: Mapping[str, Any]) -> bool:
        """Whether `event` names no other simulation than those of the folder. An event without an id names none."""
        named = event.get("id")
        if named is None or "" in self._known:
            return True
        simulation_id = own_runs.same_form(named)
        if simulation_id not in self._known:
            self._known[simulation_id] = own_runs.is_place_of(simulation_id, self._result)
        return self._known[simulation_id]


def spools_of(result: ResultPaths) -> list[SpoolFile]:
    """Spool files of all runs of the simulation `result`. Markers of defoci whose claiming job died count, too.

    Links are left out.
    """
    found = []
    for run in runs_of(result):
        if result.run(run).is_symlink() or result.events(run).is_symlink():
            continue
        files = [*result.events(run).rglob("*.jsonl"), *_orphaned_markers(result, run)]
        # Links are left out. A link in a folder from another person may lead to a private file of this user.
        found += [SpoolFile(file, run) for file in sorted(files) if not file.is_symlink()]
    return found


def runs_of(result: ResultPaths) -> list[int]:
    """Numbers of the runs of the simulation `result` that have a folder, in ascending order."""
    names = [entry.name for entry in result.reports.glob("run-*")]
    return sorted(int(name[4:]) for name in names if re.fullmatch(r"run-[0-9]{1,9}", name))


def _orphaned_markers(result: ResultPaths, run: int) -> Iterator[Path]:
    """Markers whose event is not in the spool of the claiming job. The job was killed between both writes."""
    for marker in result.run(run).glob("*.START_DEFOCUS.json"):
        with contextlib.suppress(OSError, KeyError, TypeError):
            for event, _ in read_events(marker):
                if event is None:
                    continue
                spool = spool_file_of(result.events(run), event["job"], event["attempt"])
                first = next(read_events(spool), (None, 0))[0] if spool.exists() else None
                if first is None or first.get("event_id") != event["event_id"]:
                    yield marker


class Reader:
    """The undelivered events of one spool file, one after the other, and its place among the other files.

    `spool` is the file. `own` says which of its events may be sent.
    """

    def __init__(self, spool: SpoolFile, own: Own) -> None:
        self.spool = spool
        self._own = own
        self.delivery = Delivery(spool.path)
        self.begin = delivered_until(spool.path)
        self.event: dict[str, Any] | None = None
        self.end = self.begin
        self._events = read_events(spool.path, self.begin)

    def advance(self) -> bool:
        """Go to the next own event. Returns False after the last one.

        One number says how far the spool is delivered. So events of other simulations before the own event are first
        copied into a separate file beside the spool. Those after the last own event stay undelivered in the spool.
        """
        passed = False
        for event, end in self._events:
            if event is not None and not self._own.has(event):
                passed = True
            elif event is not None:
                if passed and not set_apart(self.spool.path, self.end, end, self._own.has):
                    break
                self.end, self.event = end, event
                return True
            elif not passed:
                self.end = end
        self.event = None
        return False

    @property
    def rank(self) -> tuple[int, int, str, str]:
        """Key of the order: first the run. Within a run, the start is first, the end is last, the rest is by time."""
        event = self.event or {}
        name = event.get("event")
        phase = 0 if name == Event.START_SIMULATION else 2 if name in _ENDS_OF_A_RUN else 1
        return self.spool.run, phase, str(event.get("time")), self.spool.path.name

    def __lt__(self, other: Reader) -> bool:
        return self.rank < other.rank


Taken = tuple[Reader, Mapping[str, Any], int]
"""An event: the reader of its file, the event, and the place where its line ends in the file."""


class Backlog:
    """The undelivered events that this process may send.

    Parameters
    ----------
    result : ResultPaths
        The simulation.
    run : int
        The run that is alive, or 0 if no run is alive.
    jobs_send : bool
        Whether the jobs of this run send their own events.
    with_original : bool
        Whether events of the original of a copy are sent, see `Own`.
    """

    def __init__(self, result: ResultPaths, run: int, jobs_send: bool, with_original: bool = False) -> None:
        self._result, self._run, self._jobs_send = result, run, jobs_send
        self._with_original = with_original
        self._readers: list[Reader] = []
        self._settled: dict[Path, int] = {}

    def __bool__(self) -> bool:
        return bool(self._readers)

    def look(self, draining: Callable[[], bool], is_over: Callable[[], bool]) -> None:
        """Open the files that have undelivered events.

        Parameters
        ----------
        draining : callable
            Returns whether the run has ended. Then files are also sent if it is unknown whether their jobs are alive.
        is_over : callable
            Returns whether to stop looking.
        """
        self._readers = []
        own = Own(self._result, self._with_original)
        for spool in spools_of(self._result):
            if is_over():
                break
            with contextlib.suppress(OSError):
                is_settled = self._settled.get(spool.path) == spool.path.stat().st_size
                if is_settled or self._belongs_to_another(spool, draining):
                    continue
                reader = Reader(spool, own)
                if reader.advance():
                    self._readers.append(reader)
                else:
                    self._note_as_settled(reader)
        heapq.heapify(self._readers)

    def take(self, most: int, most_bytes: int) -> list[Taken]:
        """Take the next events in order, as many as one request may hold. The list is empty if no event is left.

        `most` is the largest number of events. `most_bytes` is the approximate size [bytes] after which no further
        event is taken.
        """
        taken: list[Taken] = []
        size = 0
        while self._readers and len(taken) < most and size < most_bytes:
            reader = self._readers[0]
            assert reader.event is not None  # by construction: a reader without an event is not in the heap
            taken.append((reader, reader.event, reader.end))
            size += len(str(reader.event))
            if reader.advance():
                heapq.heapreplace(self._readers, reader)
            else:
                heapq.heappop(self._readers)
        return taken

    def settle(self, taken: list[Taken]) -> None:
        """Note the files of delivered events that have no further event. `taken` is what `take` returned."""
        for reader in dict.fromkeys(reader for reader, _, _ in taken):
            if reader.event is None:
                self._note_as_settled(reader)

    def close(self) -> None:
        """Close the files that still have events."""
        for reader in self._readers:
            reader.delivery.close()

    def _belongs_to_another(self, spool: SpoolFile, draining: Callable[[], bool]) -> bool:
        if spool.run != self._run:
            return bool(is_being_sent(spool.path))
        if spool.path == self._result.hook_events(spool.run):
            return True
        if spool.path.suffix == ".json":
            return not draining() and time.time() - spool.path.stat().st_mtime < FRESH_S
        if not self._jobs_send:
            return False
        held = is_being_sent(spool.path)
        # Without locks of the file system, it is unknown whether a job is alive. Its file is sent when the run ends.
        return not draining() if held is None else held

    def _note_as_settled(self, reader: Reader) -> None:
        self._settled[reader.spool.path] = reader.end
        if reader.end > reader.begin:
            # This also acknowledges damaged lines, which are not events.
            reader.delivery.acknowledge(reader.end)
        reader.delivery.close()


def left_in(result: ResultPaths, with_original: bool = False) -> int:
    """Number of recorded events of the simulation `result` that are not delivered and may be sent.

    `with_original` is as for `Own`.
    """
    own = Own(result, with_original)
    return sum(count_undelivered(spool.path, own.has) for spool in spools_of(result))


def foreign_in(result: ResultPaths, with_original: bool = False, everything: bool = False) -> dict[Path, str]:
    """Files with undelivered events of other simulations, and the id that the first of these events names.

    Parameters
    ----------
    result : ResultPaths
        Simulation whose spool files are read.
    with_original : bool
        See `Own`.
    everything : bool
        Whether to include delivered events.

    Returns
    -------
    dict of Path to str
        Id of the other simulation, by spool file.
    """
    own, found = Own(result, with_original), {}
    for spool in spools_of(result):
        with contextlib.suppress(OSError):
            for event, _ in read_events(spool.path, 0 if everything else delivered_until(spool.path)):
                if event is not None and not own.has(event):
                    found[spool.path] = own_runs.same_form(event["id"])
                    break
    return found


def has_own(spool: SpoolFile, own: Own) -> bool:
    """Whether the file `spool` has an event, delivered or not, that belongs to the simulation of its folder.

    `own` decides that for each event. The answer is False for a file that cannot be read.
    """
    with contextlib.suppress(OSError):
        return any(event is not None and own.has(event) for event, _ in read_events(spool.path))
    return False


def foreign_in_words(result: ResultPaths, file: Path, simulation_id: str) -> str:
    """Return a sentence about a `file` with events of another simulation, which has the id `simulation_id`.

    `result` is the simulation in whose folder the file is. If this user runs the other simulation, the sentence names
    its folder.
    """
    place = own_runs.other_place_of(simulation_id, result)
    return (
        f"{file} has reports of another simulation, {place or simulation_id}. They are not sent from here, and stay. "
        + ("Send them from its folder. " if place else "")
        + "Delete this file if it holds nothing else, or if somebody else may have made it."
    )
