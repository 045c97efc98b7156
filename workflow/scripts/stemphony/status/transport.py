"""Send one event or a batch over HTTP and classify the answer.

Only this module imports requests. Only this module adds the URL, the credentials and the custom parameters to an
event.
"""

from __future__ import annotations

import base64
import enum
import errno
import io
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

from stemphony.status.limits import LIMITS, Limits
from stemphony.status.settings import ReportingSettings

if TYPE_CHECKING:
    import socket

    from requests.adapters import HTTPAdapter

MAX_ANSWER_BYTES: Final = 4096
"""Longest answer that is read [bytes]. The answers of receivers are much shorter."""

_NO_ROUTE: Final = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN)
"""Errors of the system for a host without a route. These hosts do not answer."""
_ENDLESS_HEADERS: Final = re.compile(r"more than \d+ (headers|bytes when reading header line)")
"""Text of http.client about an answer whose headers do not end."""


class Verdict(enum.Enum):
    """The consequence of an answer for the event and for later events."""

    ARRIVED = "arrived"
    AGAIN = "again"
    NEVER = "never"
    STOP = "stop"


class Trouble(enum.StrEnum):
    """Why there was no answer, or no complete answer (SLOW). The values are the texts of the log."""

    NO_SUCH_HOST = "no such host"
    REFUSED = "connection refused"
    UNREACHABLE = "host not reachable"
    NO_CONNECTION = "no connection in time"
    CERTIFICATE = "certificate not accepted"
    NO_TLS = "no TLS"
    NO_HANDSHAKE = "no TLS handshake in time"
    NO_ANSWER = "no answer in time"
    CLOSED = "connection closed without an answer"
    NOT_HTTP = "answer is not HTTP"
    ENDLESS = "headers of the answer do not end"
    SLOW = "answer too slow"


@dataclass(frozen=True)
class Answer:
    """The result of one request.

    Attributes
    ----------
    verdict : Verdict
        Consequence of the answer.
    what : str
        The status, a `Trouble`, or the class of the exception. It contains no text of the receiver or the config.
    retry_after_s : float or None
        The pause that the receiver asks for, capped [s].
    body : bytes
        The body of a short answer.
    slow : bool
        Whether the body did not come in time. The status came in time, and the status decides.
    """

    verdict: Verdict
    what: str
    retry_after_s: float | None = None
    body: bytes = field(default=b"", repr=False, compare=False)
    slow: bool = field(default=False, compare=False)


def verdict_on(status: int) -> Verdict:
    """Decide by the HTTP `status` of an answer.

    - 2xx and 409 (the receiver has the event already): the event has arrived.
    - 408, 425, 429 and 5xx: the trouble may pass, so the event is sent again.
    - 400, 413, 415 and 422: the receiver refuses this event only.
    - Any other status, redirects too: the configuration is wrong, and every event would get this answer.
    """
    if 200 <= status < 300 or status == 409:
        return Verdict.ARRIVED
    if status in (408, 425, 429) or status >= 500 or status < 200:
        return Verdict.AGAIN
    if status in (400, 413, 415, 422):
        return Verdict.NEVER
    return Verdict.STOP


def retry_after_s(
    header: str | None, now: datetime | None = None, cap_s: float = LIMITS.retry_after_cap_s
) -> float | None:
    """Read the `header` Retry-After (seconds or a date) as a pause of at most `cap_s` [s].

    A date counts from `now`; the default is the present. Return None if the header is missing or not valid.
    """
    text = (header or "").strip()
    if re.fullmatch(r"[0-9]{1,18}", text):
        return min(float(text), cap_s)
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - (now or datetime.now(UTC))).total_seconds(), 0.0), cap_s)


def batch_url(url: str) -> str | None:
    """Return the URL for batches of a receiver at `url`. None if the path does not belong to Stemphony's monitor.

    ``https://host/prefix/`` and ``https://host/prefix/events`` have ``https://host/prefix/events/batch``.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if not parts.path or parts.path.endswith("/"):
        path = (parts.path or "/") + "events/batch"
    elif parts.path.endswith("/events"):
        path = parts.path + "/batch"
    else:
        return None
    return urlunsplit(parts._replace(path=path))


class Transport(Protocol):
    """Something that delivers events."""

    def post(self, event: Mapping[str, Any]) -> Answer:
        """Deliver one `event` and return the result."""

    def post_batch(self, events: Sequence[Mapping[str, Any]]) -> Answer | None:
        """Deliver several `events`, all or none. None if they must be sent one by one."""

    def close(self) -> None:
        """Close the connections."""


class HttpTransport:
    """One POST per event, or per batch of events.

    The class uses a transport adapter of requests without a session. A session would follow redirects and keep cookies.
    It would also read credentials from `.netrc`, and proxies and certificates from the environment.

    Parameters
    ----------
    settings : ReportingSettings
        Address of the receiver, credentials and custom parameters.
    limits : Limits
        Longest waits for a connection and an answer.
    """

    def __init__(self, settings: ReportingSettings, limits: Limits = LIMITS) -> None:
        _hush_library_logs()
        self._limits = limits
        self._url = settings.url
        self._batch_url = batch_url(settings.url)
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
        self._adapter = _bounded_adapter(limits)
        self._last_used = time.monotonic()
        self._counts = False

    def post(self, event: Mapping[str, Any]) -> Answer:
        """Deliver one `event` with the custom parameters added, and return the result. Never raises."""
        answer = self._deliver(self._url, lambda: self._with_parameters(event))
        if answer.verdict is Verdict.ARRIVED and answer.body:
            self._counts = _counted(answer.body) == 1
        return answer

    def post_batch(self, events: Sequence[Mapping[str, Any]]) -> Answer | None:
        """Deliver several `events` in one request to a receiver that accepts batches.

        Returns
        -------
        Answer or None
            None if each event must be sent alone. One reason is that the URL does not belong to a monitor of Stemphony.
            Another reason is that the receiver knows no batches, which one request shows. The last reason is that the
            receiver refuses this batch because of one event.
        """
        if self._batch_url is None:
            return None
        if not self._counts:
            # A batch is only sent after the answer to a single event has shown that the receiver counts events.
            # Otherwise its events might arrive with the batch and then once more one by one.
            return None
        answer = self._deliver(self._batch_url, lambda: [self._with_parameters(event) for event in events])
        if answer.verdict is Verdict.ARRIVED and (answer.slow or _counted(answer.body) == len(events)):
            return answer
        if answer.verdict is Verdict.AGAIN and answer.what != "status 501":
            return answer
        if answer.what in ("status 401", "status 403"):
            return answer
        if answer.verdict is not Verdict.NEVER:
            # The receiver knows no batches, or it accepts everything without reading it.
            self._batch_url = None
        return None

    def close(self) -> None:
        """Close the connections that are kept for the next event."""
        self._adapter.close()

    def _with_parameters(self, event: Mapping[str, Any]) -> dict[str, Any]:
        return {**event, **{key: value for key, value in self._parameters.items() if key not in event}}

    def _deliver(self, url: str, content: Callable[[], Any]) -> Answer:
        try:
            body = json.dumps(content(), ensure_ascii=True, allow_nan=False).encode("ascii")
        except (TypeError, ValueError, RecursionError) as error:
            return Answer(Verdict.NEVER, type(error).__name__)
        _in_transport.active = True
        try:
            return self._post(url, body)
        except Exception as error:
            return Answer(Verdict.AGAIN, trouble_of(error))
        finally:
            _in_transport.active = False

    def _post(self, url: str, body: bytes) -> Answer:
        import requests

        if time.monotonic() - self._last_used > self._limits.idle_connection_s:
            self._adapter.close()
        try:
            request = requests.Request("POST", url, data=body, headers=self._headers).prepare()
        except Exception as error:
            return Answer(Verdict.STOP, type(error).__name__)
        try:
            response = self._adapter.send(
                request,
                stream=True,
                timeout=(self._limits.connect_s, self._limits.read_s),
                verify=self._verify,
                proxies={},
            )
        except requests.exceptions.InvalidURL as error:
            return Answer(Verdict.STOP, type(error).__name__)
        try:
            body, slow = self._read_short(response)
            answer = Answer(
                verdict_on(response.status_code),
                f"status {response.status_code}",
                retry_after_s(response.headers.get("Retry-After"), cap_s=self._limits.retry_after_cap_s),
                body,
                slow,
            )
        finally:
            response.close()
        self._last_used = time.monotonic()
        return answer

    @staticmethod
    def _read_short(response: Any) -> tuple[bytes, bool]:
        """Read a short body, so that the connection can be used again. A long or endless body is not read.

        Returns
        -------
        body : bytes
            Empty if the body was not read or is incomplete.
        slow : bool
            Whether the body did not come in time.
        """
        length = response.headers.get("Content-Length", "")
        if re.fullmatch(r"[0-9]{1,5}", length) and int(length) <= MAX_ANSWER_BYTES:
            try:
                return bytes(response.raw.read(MAX_ANSWER_BYTES, decode_content=False)), False
            except Exception as error:
                # The status has been read, and it decides.
                return b"", trouble_of(error) == Trouble.NO_ANSWER
        return b"", False


def _counted(body: bytes) -> int:
    """Number of stored events in the answer to a batch, or −1 if the answer does not give it."""
    try:
        said = json.loads(body)
        return int(said["stored"]) + int(said["duplicates"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return -1


def trouble_of(error: BaseException) -> str:
    """Return why a request had no answer, but ended with `error`: a `Trouble`, or the class of the exception.

    The text contains no address.
    """
    import socket
    import ssl
    from http.client import HTTPException

    from urllib3 import exceptions

    chain = list(_causes(error))
    if any(isinstance(cause, OSError) and cause.errno in _NO_ROUTE for cause in chain):
        return Trouble.UNREACHABLE.value
    if any(type(cause) is exceptions.ConnectTimeoutError for cause in chain):
        return Trouble.NO_CONNECTION.value
    # The ssl module has no class of its own for a handshake that takes too long.
    if any(isinstance(cause, TimeoutError) and "handshake" in str(cause) for cause in chain):
        return Trouble.NO_HANDSHAKE.value
    for kind, word in (
        (socket.gaierror, Trouble.NO_SUCH_HOST),
        (exceptions.NameResolutionError, Trouble.NO_SUCH_HOST),
        (ConnectionRefusedError, Trouble.REFUSED),
        (ssl.SSLCertVerificationError, Trouble.CERTIFICATE),
        (ssl.SSLError, Trouble.NO_TLS),
        (exceptions.ReadTimeoutError, Trouble.NO_ANSWER),
        (TimeoutError, Trouble.NO_ANSWER),
        (ConnectionError, Trouble.CLOSED),
    ):
        if any(isinstance(cause, kind) for cause in chain):
            return word.value
    # http.client uses one class of exception for too many headers and for other errors. Only the text differs.
    if any(isinstance(cause, HTTPException) and _ENDLESS_HEADERS.search(str(cause)) for cause in chain):
        return Trouble.ENDLESS.value
    if any(type(cause).__name__ in ("BadStatusLine", "LineTooLong", "UnknownProtocol") for cause in chain):
        return Trouble.NOT_HTTP.value
    return type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and its causes. requests wraps the exceptions of urllib3, which wrap those of the socket."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        cause = waiting.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = (*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__)
        waiting += [entry for entry in inner if isinstance(entry, BaseException)]


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
"""Loggers of urllib3 that are silent during a request, because their lines hold the address of the receiver."""


def _not_in_transport(record: logging.LogRecord) -> bool:
    return not getattr(_in_transport, "active", False)


def _hush_library_logs() -> None:
    """Keep urllib3 from logging path and query of the receiver's URL, which may hold a token.

    Log records of other requests of this process are not changed.
    """
    for name in _LIBRARY_LOGGERS:
        # Adding the same filter twice has no effect.
        logging.getLogger(name).addFilter(_not_in_transport)


class _DeadlineReader(io.RawIOBase):
    """Read one answer with a deadline. The timeout of a socket starts again with each byte; the deadline does not."""

    def __init__(self, connection: socket.socket, limits: Limits) -> None:
        self._connection = connection
        self._raw = connection.makefile("rb", buffering=0)
        self._read_s = limits.read_s
        self._deadline = time.monotonic() + limits.answer_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        self._connection.settimeout(min(left, self._read_s))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineSocket:
    """The part of a socket that http.client uses to read an answer."""

    def __init__(self, connection: socket.socket, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._connection, self._limits))


def _bounded_adapter(limits: Limits) -> HTTPAdapter:
    """Make an adapter without retries of its own, whose answers have a deadline."""
    from http.client import HTTPResponse

    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class BoundedResponse(HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(_DeadlineSocket(sock, limits), *args, **kwargs)  # type: ignore[arg-type]

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
