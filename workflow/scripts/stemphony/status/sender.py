"""Events over HTTP, in order, from a thread that nobody has to wait for. The one importer of requests.

The sender takes events from wherever they come (a reporter, later a spool) and decides after each answer
whether the event has arrived, is to be tried again, or can never arrive. The URL, the credentials and the
custom parameters meet the event here and nowhere else.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import io
import json
import logging
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from stemphony.status.settings import ReportingSettings

if TYPE_CHECKING:
    import socket

    from requests.adapters import HTTPAdapter

CONNECT_TIMEOUT_S: Final = 3.0
READ_TIMEOUT_S: Final = 5.0
ANSWER_DEADLINE_S: Final = 10.0
"""From the last byte of a request to the end of its answer, however slowly that drips."""

MAX_ANSWER_BYTES: Final = 4096
MAX_IDLE_CONNECTION_S: Final = 10.0
"""Older connections are not used again: firewalls forget them without a word."""

BACKOFF_BASE_S: Final = 0.5
BACKOFF_CAP_S: Final = 60.0
RETRY_AFTER_CAP_S: Final = 60.0
UNANSWERED_S: Final = 2.0
"""An attempt that is older than this does not hold an impatient flush."""

QUEUE_LENGTH: Final = 1000
THREAD_NAME: Final = "stemphony-status"

_STOP_JOIN_S: Final = 0.2
_MAX_WAIT_S: Final = 3600.0


class Verdict(enum.Enum):
    """What an answer means for the event and for those behind it."""

    ARRIVED = "arrived"
    AGAIN = "again"
    NEVER = "never"
    STOP = "stop"


@dataclass(frozen=True)
class Answer:
    """What became of one request.

    Attributes
    ----------
    verdict : Verdict
        What follows.
    what : str
        Status or class of the exception; nothing that the receiver or the config wrote.
    retry_after_s : float or None
        How long the receiver wants to be left alone, capped.
    """

    verdict: Verdict
    what: str
    retry_after_s: float | None = None


def verdict_on(status: int) -> Verdict:
    """Decide by the status of an answer.

    2xx and 409 (known already) say that the event has arrived; 408, 425, 429 and 5xx may pass; 400, 413,
    415 and 422 are about this event; everything else, redirects too, is about the configuration and would
    meet every event.
    """
    if 200 <= status < 300 or status == 409:
        return Verdict.ARRIVED
    if status in (408, 425, 429) or status >= 500 or status < 200:
        return Verdict.AGAIN
    if status in (400, 413, 415, 422):
        return Verdict.NEVER
    return Verdict.STOP


def retry_after_s(header: str | None, now: datetime | None = None) -> float | None:
    """Read a Retry-After header, seconds or a date, capped at a minute; None for none and for nonsense."""
    text = (header or "").strip()
    if re.fullmatch(r"[0-9]{1,18}", text):
        return min(float(text), RETRY_AFTER_CAP_S)
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - (now or datetime.now(UTC))).total_seconds(), 0.0), RETRY_AFTER_CAP_S)


def backoff_s(failures: int) -> float:
    """Draw the pause after so many failures in a row: anything up to 0.5 s, 1 s, 2 s … 60 s (full jitter)."""
    return random.uniform(0.0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(failures - 1, 10)))


class Transport(Protocol):
    """Something that delivers one event."""

    def post(self, event: Mapping[str, Any]) -> Answer:
        """Deliver one event and report what became of it."""

    def close(self) -> None:
        """Let go of connections."""


class HttpTransport:
    """One POST per event.

    A transport adapter is used without a session: a session would follow redirects or at least read their
    bodies, keep cookies, and take credentials from `.netrc` and proxies and certificates from the
    environment.
    """

    def __init__(self, settings: ReportingSettings) -> None:
        _hush_library_logs()
        self._url = settings.url
        self._parameters = dict(settings.parameters)
        self._verify: bool | str = settings.ca_file or True
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "User-Agent": "stemphony",
        }
        if settings.auth_user:
            credentials = f"{settings.auth_user}:{settings.auth_pass}".encode()
            self._headers["Authorization"] = "Basic " + base64.b64encode(credentials).decode("ascii")
        self._adapter = _bounded_adapter()
        self._last_used = time.monotonic()

    def post(self, event: Mapping[str, Any]) -> Answer:
        """Deliver one event with the custom parameters added, and report what became of it. Never raises."""
        try:
            custom = {key: value for key, value in self._parameters.items() if key not in event}
            body = json.dumps({**event, **custom}, ensure_ascii=True, allow_nan=False).encode("ascii")
        except (TypeError, ValueError, RecursionError) as error:
            return Answer(Verdict.NEVER, type(error).__name__)
        _in_transport.active = True
        try:
            return self._post(body)
        except Exception as error:
            return Answer(Verdict.AGAIN, type(error).__name__)
        finally:
            _in_transport.active = False

    def close(self) -> None:
        """Close the connections that are kept for the next event."""
        self._adapter.close()

    def _post(self, body: bytes) -> Answer:
        import requests

        if time.monotonic() - self._last_used > MAX_IDLE_CONNECTION_S:
            self._adapter.close()
        try:
            request = requests.Request("POST", self._url, data=body, headers=self._headers).prepare()
        except Exception as error:
            return Answer(Verdict.STOP, type(error).__name__)
        try:
            response = self._adapter.send(
                request,
                stream=True,
                timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
                verify=self._verify,
                proxies={},
            )
        except requests.exceptions.InvalidURL as error:
            return Answer(Verdict.STOP, type(error).__name__)
        try:
            answer = Answer(
                verdict_on(response.status_code),
                f"status {response.status_code}",
                retry_after_s(response.headers.get("Retry-After")),
            )
            self._drain(response)
        finally:
            response.close()
        self._last_used = time.monotonic()
        return answer

    @staticmethod
    def _drain(response: Any) -> None:
        """Read a short body, so that the connection serves again; a long or endless one is cut off unread."""
        length = response.headers.get("Content-Length", "")
        if re.fullmatch(r"[0-9]{1,5}", length) and int(length) <= MAX_ANSWER_BYTES:
            try:
                response.raw.read(MAX_ANSWER_BYTES, decode_content=False)
            except Exception:
                # The status has been read, and it decides.
                return


class Sender:
    """Deliver events in order from a daemon thread.

    Parameters
    ----------
    settings : ReportingSettings
        Where to, and with what.
    transport : callable
        Makes the transport, in the thread; so a process that sends nothing never imports requests.
    """

    def __init__(
        self,
        settings: ReportingSettings,
        transport: Callable[[ReportingSettings], Transport] = HttpTransport,
    ) -> None:
        self._settings = settings
        self._make_transport = transport
        self._condition = threading.Condition()
        self._queue: deque[Mapping[str, Any]] = deque()
        self._thread: threading.Thread | None = None
        self._notices: deque[str] = deque()
        self._noticed: set[str] = set()
        self._taken = 0
        self._arrived = 0
        self._failures = 0
        self._attempt_since: float | None = None
        self._next_attempt = 0.0
        self._told_to_wait = False
        self._patient_until = 0.0
        self._open_circuit = False
        self._stopping = False

    def put(self, event: Mapping[str, Any]) -> None:
        """Take an event for delivery and return at once."""
        with self._condition:
            self._taken += 1
            if self._open_circuit or self._stopping:
                return
            if len(self._queue) >= QUEUE_LENGTH:
                self._notice("queue", f"more than {QUEUE_LENGTH} wait; later ones are not sent by this process")
                return
            self._queue.append(event)
            if self._thread is None:
                self._start()
            self._condition.notify_all()

    def flush(self, wait_s: float, patient: bool = False) -> bool:
        """Wait until all events have arrived, at most so long.

        Parameters
        ----------
        wait_s : float
            Longest wait [s].
        patient : bool
            False: return at once when the last attempt failed or is unanswered for 2 s. True: keep trying.

        Returns
        -------
        bool
            True if every event taken so far has arrived.
        """
        deadline = time.monotonic() + min(max(wait_s, 0.0), _MAX_WAIT_S)
        with self._condition:
            if patient:
                self._patient_until = deadline
                if not self._told_to_wait:
                    self._failures = min(self._failures, 1)
                    self._next_attempt = 0.0
                self._condition.notify_all()
            while self._queue and not self._open_circuit:
                limit = self._worth_waiting_s(deadline, patient)
                if limit <= 0:
                    break
                self._condition.wait(limit)
            return self._taken == self._arrived

    def stop(self) -> None:
        """End the thread after the attempt it is in, if any. What waits stays unsent."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
            thread = self._thread if self._attempt_since is None else None
        if thread is not None:
            thread.join(_STOP_JOIN_S)

    def notices(self) -> list[str]:
        """Hand over what went wrong since the last call, each kind of trouble once, without secrets.

        They are collected and not printed by the thread: a daemon thread that holds the lock of stderr
        while the interpreter ends would abort the process.
        """
        with self._condition:
            taken = list(self._notices)
            self._notices.clear()
        return taken

    def _worth_waiting_s(self, deadline: float, patient: bool) -> float:
        now = time.monotonic()
        if patient:
            return deadline - now if self._next_attempt <= deadline else 0.0
        if self._failures:
            return 0.0
        if self._attempt_since is not None:
            deadline = min(deadline, self._attempt_since + UNANSWERED_S)
        return deadline - now

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._settle(Answer(Verdict.STOP, type(error).__name__))
        else:
            self._thread = thread

    def _run(self) -> None:
        transport: Transport | None = None
        try:
            while (event := self._next()) is not None:
                if transport is None:
                    transport = self._make_transport(self._settings)
                self._settle(transport.post(event))
                self._pause()
        except Exception as error:
            # Among them: requests cannot be imported.
            self._settle(Answer(Verdict.STOP, type(error).__name__))
        finally:
            if transport is not None:
                with contextlib.suppress(Exception):
                    transport.close()

    def _next(self) -> Mapping[str, Any] | None:
        with self._condition:
            while not self._queue and not self._stopping:
                self._condition.wait()
            if self._stopping or self._open_circuit:
                return None
            self._attempt_since = time.monotonic()
            # Whoever flushes gives this attempt two seconds from now.
            self._condition.notify_all()
            return self._queue[0]

    def _settle(self, answer: Answer) -> None:
        with self._condition:
            self._attempt_since = None
            if answer.verdict is Verdict.ARRIVED:
                self._arrived += 1
                self._done_with_head()
            elif answer.verdict is Verdict.AGAIN:
                self._failures += 1
                self._schedule(answer.retry_after_s)
                kind = "status" if answer.what.startswith("status") else "connection"
                self._notice(kind, f"{answer.what}; they are tried again while this process runs")
            elif answer.verdict is Verdict.NEVER:
                self._done_with_head()
                self._notice("refused", f"{answer.what} for one event; it is not sent again")
            else:
                self._open_circuit = True
                self._stopping = True
                self._queue.clear()
                self._notice("stop", f"{answer.what}; nothing more is sent by this process")
            self._condition.notify_all()

    def _done_with_head(self) -> None:
        self._queue.popleft()
        self._failures = 0
        self._next_attempt = 0.0
        self._told_to_wait = False

    def _schedule(self, asked_s: float | None) -> None:
        now = time.monotonic()
        pause = backoff_s(self._failures)
        self._told_to_wait = asked_s is not None and asked_s > 0
        if asked_s is not None and self._told_to_wait:
            pause = min(asked_s + min(pause, BACKOFF_BASE_S), RETRY_AFTER_CAP_S)
        elif self._patient_until > now:
            # Who waits patiently gets tries until the end, not one that falls just behind it.
            pause = min(pause, max(BACKOFF_BASE_S, (self._patient_until - now) / 2))
        self._next_attempt = now + pause

    def _pause(self) -> None:
        with self._condition:
            while not self._stopping and (left := self._next_attempt - time.monotonic()) > 0:
                self._condition.wait(left)

    def _notice(self, kind: str, text: str) -> None:
        if kind not in self._noticed:
            self._noticed.add(kind)
            self._notices.append(f"status reports: {text}. The simulation goes on.")


_in_transport = threading.local()

_LIBRARY_LOGGERS: Final = (
    "urllib3.connection",
    "urllib3.connectionpool",
    "urllib3.poolmanager",
    "urllib3.response",
    "urllib3.util.retry",
    "urllib3.util.ssl_",
    "urllib3.util.ssl_match_hostname",
)


def _not_in_transport(record: logging.LogRecord) -> bool:
    return not getattr(_in_transport, "active", False)


def _hush_library_logs() -> None:
    """Keep urllib3 from logging path and query of our URL, which may hold a token; others' records pass."""
    for name in _LIBRARY_LOGGERS:
        # Adding the same filter twice has no effect.
        logging.getLogger(name).addFilter(_not_in_transport)


class _DeadlineReader(io.RawIOBase):
    """Bytes of one answer. Timeouts of sockets begin anew with each byte; this one does not."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._raw = connection.makefile("rb", buffering=0)
        self._deadline = time.monotonic() + ANSWER_DEADLINE_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        self._connection.settimeout(min(left, READ_TIMEOUT_S))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineSocket:
    """What http.client wants of a socket when it reads an answer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._connection))


def _bounded_adapter() -> HTTPAdapter:
    """Make an adapter without retries of its own, whose answers have a deadline."""
    from http.client import HTTPResponse

    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class BoundedResponse(HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(_DeadlineSocket(sock), *args, **kwargs)  # type: ignore[arg-type]

    class BoundedConnection(HTTPConnection):
        response_class = BoundedResponse

    class BoundedTlsConnection(HTTPSConnection):
        response_class = BoundedResponse

    class BoundedPool(HTTPConnectionPool):
        ConnectionCls = BoundedConnection

    class BoundedTlsPool(HTTPSConnectionPool):
        ConnectionCls = BoundedTlsConnection

    adapter = HTTPAdapter(max_retries=0, pool_connections=1, pool_maxsize=1)
    adapter.poolmanager.pool_classes_by_scheme = {"http": BoundedPool, "https": BoundedTlsPool}
    return adapter
