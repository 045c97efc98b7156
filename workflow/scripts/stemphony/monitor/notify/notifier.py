"""Notify people when a simulation finishes, fails or falls silent.

A notification is written in the same transaction as the event that causes it, and marked after delivery. So a crash
loses no notification. A crash between delivery and mark repeats one notification.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from stemphony.monitor.database import outbox, simulations
from stemphony.monitor.database.connection import Database
from stemphony.monitor.intake.writer import NotStored, Writer
from stemphony.monitor.notify.delivery import deliver
from stemphony.monitor.notify.messenger import Deliver, Messenger
from stemphony.monitor.notify.notice import Notice
from stemphony.monitor.notify.targets import TargetSettings
from stemphony.monitor.records import SimulationSummary
from stemphony.monitor.state import END_STATES, MAX_STALE_AFTER_S, STALE_AFTER_S, State

GRACE_S: Final = 1.0
"""Longest wait for present deliveries when the monitor stops [s]."""

CHECK_S: Final = 5.0
"""Time between two searches for silent simulations and due notifications [s]."""

OLD_NEWS_S: Final = 86_400.0
"""Longest silence that causes a notification [s]. So a new target does not receive old notices."""

STALE_AGAIN_S: Final = 6 * 3600.0
"""Shortest time between two notifications about silences of the same run [s]. It limits the number of notifications
about a run that falls silent again and again."""


class Notifier:
    """Write notifications, and deliver them through one `Messenger` for each target.

    Parameters
    ----------
    settings : TargetSettings
        Targets, and the address of the page for links.
    database : Database
        Holds the notifications.
    say : callable
        Takes one line for the log about trouble with a target.
    stale_after_s : float
        Shortest silence after which a run is stale [s].
    send : callable
        Sends one notification. Tests give one that needs no network.
    check_s : float
        Time between two searches for silent simulations and due notifications [s].
    """

    def __init__(
        self,
        settings: TargetSettings,
        database: Database,
        say: Callable[[str], None],
        stale_after_s: float = STALE_AFTER_S,
        send: Deliver = deliver,
        check_s: float = CHECK_S,
    ) -> None:
        self._settings = settings
        self._database = database
        self._stale_after_s = stale_after_s
        self._check_s = check_s
        self._messengers = [Messenger(target, database, say, send, check_s) for target in settings.targets]
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def rows(self, simulation: SimulationSummary, event: str, now: float) -> list[dict[str, Any]]:
        """Return the rows of the outbox for the end of a run. `simulation.revision` is the row of the event.

        `event` is the name of the event that ended it, `now` the time [s since 1970].
        """
        return self._rows(simulation, END_STATES[event].value, now)

    def _rows(self, simulation: SimulationSummary, kind: str, now: float) -> list[dict[str, Any]]:
        notice = json.dumps(asdict(Notice.of(simulation, kind, self._settings.page, now)))
        return [
            {
                "simulation": simulation.row, "event": simulation.revision, "kind": kind, "target": target.name,
                "run": simulation.run, "created": now, "due": now, "tries": 0, "sent": None, "trouble": "",
                "notice": notice,
            }
            for target in self._settings.targets
            if kind in target.kinds
        ]  # fmt: skip

    def start(self, writer: Writer) -> None:
        """Start the threads, if there is a target. They write to the database through `writer`."""
        if self._settings.targets:
            for messenger in self._messengers:
                messenger.start(writer)
            self._thread = threading.Thread(target=self._run, args=(writer,), name="stemphony-stale", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the threads. A delivery has `GRACE_S` to complete. Otherwise its notification stays due."""
        self._stop.set()
        for messenger in self._messengers:
            messenger.stop()
        self._join_messengers(GRACE_S)
        for messenger in self._messengers:
            messenger.cut()
        # A thread inside the name resolution cannot be interrupted. Such a thread is not waited for, and writes nothing
        # any more.
        self._join_messengers(GRACE_S / 2)
        if self._thread is not None:
            self._thread.join(GRACE_S)

    def _join_messengers(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for messenger in self._messengers:
            messenger.join(end)

    def wake(self) -> None:
        """Make all messengers search for due notifications now."""
        for messenger in self._messengers:
            messenger.wake()

    def _run(self, writer: Writer) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(NotStored, SQLAlchemyError):
                self._drop_strangers(writer)
                self._note_silences(writer)
                self._wake_due()
            self._stop.wait(self._check_s)

    def _wake_due(self) -> None:
        """Wake the messengers whose targets have due notifications. The others continue to sleep."""
        with self._database.reader.begin() as connection:
            due = outbox.targets_with_due(connection, time.time())
        for messenger in self._messengers:
            if messenger.target_name in due:
                messenger.wake()

    def _drop_strangers(self, writer: Writer) -> None:
        """Give up notifications for targets that are not in the file any more."""
        targets = [target.name for target in self._settings.targets]
        with self._database.reader.begin() as connection:
            found = outbox.has_strangers(connection, targets)
        if found:
            writer.run(partial(outbox.drop_strangers, targets))

    def _note_silences(self, writer: Writer) -> None:
        if not any(State.STALE.value in target.kinds for target in self._settings.targets):
            return
        now = time.time()
        with self._database.reader.begin() as connection:
            new = simulations.newly_silent(
                connection, now, self._stale_after_s, MAX_STALE_AFTER_S + OLD_NEWS_S, STALE_AGAIN_S
            )
        rows = [row for simulation in new for row in self._rows(simulation, State.STALE.value, now)]
        if rows:
            writer.run(partial(outbox.add, rows))
            self.wake()
