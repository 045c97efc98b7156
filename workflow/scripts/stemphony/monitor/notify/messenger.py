"""Deliver the notifications of one target from a thread."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from stemphony.monitor.database import outbox
from stemphony.monitor.database.connection import Database
from stemphony.monitor.intake.writer import NotStored, Writer
from stemphony.monitor.notify.delivery import DeliveryResult, NextStep
from stemphony.monitor.notify.exchange import Exchange
from stemphony.monitor.notify.notice import Digest, Message, Notice
from stemphony.monitor.notify.targets import Target

DEADLINE_S: Final = 20.0
"""Time of one try [s], from the name resolution to the last byte of the answer."""

FIRST_PAUSE_S: Final = 10.0
LONGEST_PAUSE_S: Final = 3600.0
"""First and longest pause between tries [s]. The pause doubles after each try."""

GIVE_UP_S: Final = 2 * 86_400.0
"""Time after which a notification is given up: two days [s]. The page still shows the state of the simulation."""

DIGEST_ABOVE: Final = 5
"""Most simulations that get separate messages. If more are due for one target, they become one message."""

BURST: Final = 10
REFILL_S: Final = 10.0
"""Most messages to a target in a row, and the time for each further message [s]."""

REPLACED: Final = "a later notification about the same simulation replaces it"
"""Recorded as the reason why a notification is not sent."""

IDLE_S: Final = 3600.0
"""Longest sleep of a thread if nothing is due [s]. `wake` ends the sleep earlier."""

Deliver = Callable[[Target, Message, Exchange], DeliveryResult]


class Messenger:
    """Deliver the due notifications of one target. Each target has its own thread, so a slow target delays no other.

    Parameters
    ----------
    say : callable
        Takes one line for the log about trouble with the target.
    deliver : callable
        Sends one notification.
    check_s : float
        Pause after the database did not answer [s]. `wake` starts a search for due notifications at once.
    """

    def __init__(
        self, target: Target, database: Database, say: Callable[[str], None], deliver: Deliver, check_s: float
    ) -> None:
        self._target = target
        self._database = database
        self._say = say
        self._deliver = deliver
        self._check_s = check_s
        self._stop = threading.Event()
        self._soon = threading.Event()
        self._lock = threading.Lock()
        self._exchange: Exchange | None = None
        self._to_note: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
        self._tokens = float(BURST)
        self._refilled_at = time.monotonic()
        self._thread: threading.Thread | None = None

    @property
    def target_name(self) -> str:
        """Name of the target."""
        return self._target.name

    def start(self, writer: Writer) -> None:
        """Start the thread. It writes through `writer`."""
        name = f"stemphony-notify-{self._target.name}"
        self._thread = threading.Thread(target=self._run, args=(writer,), name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Search for due notifications now."""
        self._soon.set()

    def stop(self) -> None:
        """End the thread after the present delivery."""
        self._stop.set()
        self._soon.set()

    def join(self, end: float) -> None:
        """Wait for the end of the thread, at most until `end` on the monotonic clock [s]."""
        if self._thread is not None:
            self._thread.join(max(0.0, end - time.monotonic()))

    def cut(self) -> None:
        """Break off the present delivery, if there is one."""
        with self._lock:
            if self._exchange is not None:
                self._exchange.cut()

    def _run(self, writer: Writer) -> None:
        while not self._stop.is_set():
            pause = self._check_s
            with contextlib.suppress(NotStored, SQLAlchemyError):
                self._note(writer)
                # If another monitor serves the database, the other monitor delivers.
                if not writer.is_displaced:
                    pause = self._deliver_due(writer)
            self._soon.wait(pause)
            self._soon.clear()

    def _deliver_due(self, writer: Writer) -> float:
        """Deliver due notifications within the limit of messages. Return the time until the next search [s]."""
        while not self._stop.is_set():
            with self._database.reader.begin() as connection:
                due = outbox.due(connection, self._target.name, time.time())
            rows, replaced = _latest_of_each(due)
            self._to_note += [(row, {"due": None, "trouble": REPLACED}) for row in replaced]
            self._note(writer)
            if not rows:
                return IDLE_S
            if (wait_s := self._take_token()) > 0:
                return wait_s
            together = rows if len(rows) > DIGEST_ABOVE else rows[:1]
            notices = tuple(Notice(**json.loads(row["notice"])) for row in together)
            outcome = self._try(notices[0] if len(notices) == 1 else Digest(notices))
            if self._stop.is_set() and outcome.next_step is NextStep.RETRY:
                # `cut` may have ended this delivery, so its error may not come from the target. The notification stays
                # due.
                break
            self._to_note += [(row, self._after(row, outcome, number == 0)) for number, row in enumerate(together)]
            self._note(writer)
        return 0.0

    def _take_token(self) -> float:
        """Return 0 if a message may be sent now, else the time until then [s]."""
        now = time.monotonic()
        self._tokens = min(float(BURST), self._tokens + (now - self._refilled_at) / REFILL_S)
        self._refilled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) * REFILL_S
        self._tokens -= 1
        return 0.0

    def _try(self, notice: Message) -> DeliveryResult:
        try:
            with Exchange(DEADLINE_S) as exchange:
                self._set_exchange(exchange)
                return self._deliver(self._target, notice, exchange)
        except Exception as error:
            # An unexpected error must not end the thread without a message.
            return DeliveryResult(NextStep.RETRY, type(error).__name__)
        finally:
            self._set_exchange(None)

    def _set_exchange(self, exchange: Exchange | None) -> None:
        with self._lock:
            self._exchange = exchange

    def _note(self, writer: Writer) -> None:
        """Write the results before the next delivery. Otherwise a full disk would make the same mail go out again."""
        if self._to_note:
            writer.run(partial(outbox.note, tuple(self._to_note)))
            self._to_note.clear()

    def _after(self, row: Mapping[str, Any], outcome: DeliveryResult, is_first: bool = True) -> dict[str, Any]:
        """Return the new columns of a notification after one try. Only the first one of a message is logged."""
        now, tries, trouble = time.time(), row["tries"] + 1, outcome.trouble
        columns = {"due": None, "tries": tries, "trouble": trouble}
        if outcome.next_step is NextStep.DONE:
            if trouble and is_first:
                self._report(f"{trouble}; all others have the mail")
            return {**columns, "sent": now}
        if outcome.next_step is NextStep.GIVE_UP:
            if is_first:
                self._report(f"{trouble}; it is not tried again")
            return columns
        if now - row["created"] > GIVE_UP_S:
            if is_first:
                self._report(f"{trouble}; given up after two days")
            return columns
        if tries == 1 and is_first:
            self._report(f"{trouble}; it is tried again for two days")
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(row["tries"], 10))
        return {**columns, "due": now + pause}

    def _report(self, what: str) -> None:
        self._say(f"notification {self._target.name!r}: {what}")


def _latest_of_each(due: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Divide due notifications into the latest of each simulation, and the earlier ones that it replaces."""
    latest: dict[int, Mapping[str, Any]] = {}
    for row in due:
        known = latest.get(row["simulation"])
        if known is None or (row["event"], row["created"]) > (known["event"], known["created"]):
            latest[row["simulation"]] = row
    keep = {id(row) for row in latest.values()}
    return [row for row in due if id(row) in keep], [row for row in due if id(row) not in keep]
