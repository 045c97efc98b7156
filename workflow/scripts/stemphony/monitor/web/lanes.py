"""The HTTP server. Health, events and pages have separate threads. Connections whose clients do not read are closed.

waitress reads and writes all connections in one thread and gives complete requests to other threads. A request for a
page may wait for the database. This request must not take a thread that a sender, or a program that watches the
monitor, needs.
"""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass
from typing import Any, Final

import waitress.server
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ThreadedTaskDispatcher

from stemphony.monitor.intake import limits

THREADS: Final = {"health": 2, "events": 16, "pages": 8}
"""Threads of each lane. A request with events waits for the disk. With more threads, more requests share one commit."""

HEALTH_PATH: Final = "/healthz"
"""Path of the check of health. It has threads of its own, so that it answers while all others are busy."""

FULL: Final = 0.9
ROOM: Final = 0.8
"""Shares of the connections. When the first share is in use, connections are closed until the second share is left.
Connections that have completed no request for the longest time are closed first."""

MAX_UNREAD_BYTES: Final = 2 * limits.MAX_BODY_BYTES
"""Most unread answers of a connection [bytes]. With more, it gets no further answers. A client that reads never has so
many."""

MAX_UNREAD_OF_ALL_BYTES: Final = 256 * limits.MAX_BODY_BYTES
"""Most unread answers of all connections together [bytes]. With more, connections with the most are closed first."""

MAX_LENGTH_DIGITS: Final = 16
"""Most digits of a Content-Length. Python refuses to read whole numbers of thousands of digits."""

_CLEANUP_S: Final = 1
"""Time between two searches for connections to close [s]. It is shorter than all times in `ClientLimits`."""


@dataclass(frozen=True)
class ClientLimits:
    """Times after which the connection of a client is closed [s].

    Attributes
    ----------
    take_answer_s : float
        Longest time for a client to read its answer. The answers of clients that do not read fill the memory.
    send_request_s : float
        Longest time for a client to complete its next request, even if bytes arrive. A client that sends single bytes
        would keep its connection forever.
    room_after_s : float
        If few connections are free, a connection that began or completed a request within this time is not closed. A
        client that is active completes a request in less.
    """

    take_answer_s: float = 60.0
    send_request_s: float = 90.0
    room_after_s: float = 5.0


CLIENT_LIMITS: Final = ClientLimits()
"""The limits of every monitor."""


class Lanes:
    """Hand each request to the threads of its lane."""

    def __init__(self) -> None:
        self._lanes = {name: ThreadedTaskDispatcher() for name in THREADS}
        for name, lane in self._lanes.items():
            lane.set_thread_count(THREADS[name])

    def add_task(self, task: Any) -> None:
        """Queue `task`, a connection whose first request is complete, in the lane of this request."""
        self._lanes[_lane_of(task)].add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """End all threads, and wait for them at most `timeout` [s] in each lane.

        With `cancel_pending`, tasks that no thread has begun are dropped afterwards. Return `cancel_pending`, as
        waitress does.
        """
        return all([lane.shutdown(cancel_pending, timeout) for lane in self._lanes.values()])


def _lane_of(channel: Any) -> str:
    request = channel.requests[0] if channel.requests else None
    if request is None or request.error:
        return "pages"
    if request.path == HEALTH_PATH:
        return "health"
    return "events" if request.command == "POST" else "pages"


class _Parser(HTTPRequestParser):
    """Refuse a Content-Length of very many digits with status 400, the same as any other wrong length."""

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ParsingError:
            raise
        except ValueError:
            raise ParsingError("Content-Length is invalid") from None
        if len(self.headers.get("CONTENT_LENGTH", "")) > MAX_LENGTH_DIGITS:
            raise ParsingError("Content-Length is invalid")


class _Channel(HTTPChannel):
    """One connection. It records since when its client has an answer to read, or a request to complete."""

    parser_class = _Parser
    answered_at = 0.0

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        self.waits_since = time.monotonic()
        super().__init__(*arguments, **keys)

    def received(self, data: bytes) -> bool:
        taken = super().received(data)
        if self.requests:
            self.waits_since = time.monotonic()
        return bool(taken)

    def service(self) -> None:
        if self.total_outbufs_len > MAX_UNREAD_BYTES:
            self.cut()
            return
        if not self.total_outbufs_len:
            self.answered_at = time.monotonic()
        super().service()

    def cut(self) -> None:
        """Close the connection, even if the client reads nothing."""
        self.will_close = True
        with contextlib.suppress(OSError, AttributeError):
            self.socket.shutdown(socket.SHUT_RDWR)


class Server(waitress.server.TcpWSGIServer):
    """The server of one listening socket. `client_limits` are its own; waitress takes all other arguments."""

    channel_class = _Channel

    def __init__(self, *arguments: Any, client_limits: ClientLimits, **keys: Any) -> None:
        self._limits = client_limits
        super().__init__(*arguments, **keys)

    def maintenance(self, now: float) -> None:
        """Close silent connections, and connections whose clients do not complete requests or do not read answers.

        `now` is the time of waitress [s since 1970], with which it finds silent connections.
        """
        super().maintenance(now)
        self._end_waiting()
        unread = [channel for channel in list(self.active_channels.values()) if channel.total_outbufs_len]
        late = time.monotonic() - self._limits.take_answer_s
        total = 0
        for channel in sorted(unread, key=lambda channel: int(channel.total_outbufs_len)):
            total += channel.total_outbufs_len
            if channel.answered_at < late or total > MAX_UNREAD_OF_ALL_BYTES:
                channel.cut()

    def _end_waiting(self) -> None:
        """Close connections that wait too long for a request. Close them earlier if only few connections are free."""
        now, channels = time.monotonic(), list(self.active_channels.values())
        waiting = [channel for channel in channels if not channel.requests and not channel.total_outbufs_len]
        limit = self.adj.connection_limit
        surplus = len(channels) - int(ROOM * limit) if len(channels) >= FULL * limit else 0
        for number, channel in enumerate(sorted(waiting, key=lambda channel: float(channel.waits_since))):
            waited = now - channel.waits_since
            is_surplus = number < surplus and waited > self._limits.room_after_s
            if waited > self._limits.send_request_s or is_surplus:
                channel.cut()


def make_server(
    listener: socket.socket,
    application: Any,
    connections: int,
    silent_s: float,
    client_limits: ClientLimits = CLIENT_LIMITS,
) -> Server:
    """Return a server for a listening socket. Its `run` serves in the calling thread.

    Parameters
    ----------
    listener : socket
        Socket that listens already.
    application : WSGI application
    connections : int
        Connections at once. Further clients wait.
    silent_s : float
        A connection that is silent for this time is closed [s].
    client_limits : ClientLimits
        Times after which the connection of a slow client is closed.

    Returns
    -------
    Server
        It does not serve yet.
    """
    adjustments = waitress.server.Adjustments(
        sockets=[listener], connection_limit=connections,
        # select cannot handle descriptors above 1023.
        asyncore_use_poll=True,
        channel_timeout=silent_s, cleanup_interval=_CLEANUP_S, ident="stemphony",
        max_request_body_size=limits.MAX_BODY_BYTES, max_request_header_size=32_768,
        # Bodies stay in memory, so that a full disk does not prevent an answer. No thread waits for a client to read.
        inbuf_overflow=2 * limits.MAX_BODY_BYTES, outbuf_overflow=64 * limits.MAX_BODY_BYTES,
        outbuf_high_watermark=64 * limits.MAX_BODY_BYTES,
        clear_untrusted_proxy_headers=True,
    )  # fmt: skip
    place = (listener.family, listener.type, listener.proto, listener.getsockname())
    return Server(
        application, client_limits=client_limits, _sock=listener, dispatcher=Lanes(), adj=adjustments,
        bind_socket=False, sockinfo=place,
    )  # fmt: skip
