"""Talk to one server by HTTP or SMTP, with one deadline for the whole exchange."""

from __future__ import annotations

import contextlib
import http.client
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit


class Exchange:
    """A connection that another thread can end, and that ends by itself at its deadline.

    The timeout of a socket starts again with each byte. So a server that sends one byte at a time outlasts any timeout.
    This class keeps a second handle on the connection. `cut` uses this handle to shut the connection down, and the
    libraries for HTTP and SMTP see a closed connection. The name resolution cannot be interrupted, but its time counts.

    Parameters
    ----------
    seconds : float
        Time from the name resolution to the last byte [s].
    """

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._cut = False
        self._clock = threading.Timer(seconds, self.cut)
        self._clock.daemon = True

    def __enter__(self) -> Self:
        self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clock.cancel()
        self._watch(None)

    @property
    def is_cut(self) -> bool:
        """Whether `cut` ended the exchange. If so, the server has not caused a later error."""
        return self._cut

    def cut(self) -> None:
        """End the exchange now, from any thread."""
        with self._lock:
            self._cut = True
            if self._handle is not None:
                with contextlib.suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect to `port` at the first address of `host` that answers.

        Each address gets an equal part of the remaining time.

        Returns
        -------
        socket.socket
            The caller closes it.

        Raises
        ------
        OSError
            The name is unknown, no address answers, or the time is over.
        """
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        trouble: OSError = TimeoutError()
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection = socket.socket(family, kind, protocol)
            try:
                self._watch(connection)
                connection.settimeout(left / (len(addresses) - number))
                connection.connect(address)
            except OSError as error:
                connection.close()
                trouble = error
            else:
                # From now on, only `cut` limits the time.
                connection.settimeout(None)
                return connection
        raise trouble

    def _watch(self, connection: socket.socket | None) -> None:
        """Keep a copy of the handle for `cut`, because the caller may close its own handle or give it to TLS."""
        with self._lock:
            if self._handle is not None:
                self._handle.close()
            self._handle = None if connection is None else connection.dup()
            if self._cut and self._handle is not None:
                raise TimeoutError


def post(exchange: Exchange, url: str, body: bytes, headers: Mapping[str, str], ca_file: str = "") -> int:
    """Send a POST request, and do not follow redirects. A redirected POST would become a GET and look delivered.

    Parameters
    ----------
    exchange : Exchange
        Limits the time, and makes the connection.
    url, body, headers : str, bytes, mapping
        The request. An address that does not begin with https is used over plain HTTP.
    ca_file : str
        File of certificates to trust. Empty: those of the system.

    Returns
    -------
    int
        Status of the answer. Its body is not read.

    Raises
    ------
    OSError, http.client.HTTPException, ValueError
        There is no answer, or the URL is not valid.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=ca_file or None)
        connection = http.client.HTTPSConnection(host, parts.port or 443, context=context)
        plain = exchange.connect(host, connection.port)
        try:
            connection.sock = context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise
    else:
        connection = http.client.HTTPConnection(host, parts.port or 80)
        connection.sock = exchange.connect(host, connection.port)
    with contextlib.closing(connection):
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, dict(headers))
        with connection.getresponse() as answer:
            return answer.status


class _Smtp(smtplib.SMTP):
    """SMTP over the connection of an exchange, with TLS from the first byte if `tls` is given."""

    def __init__(self, exchange: Exchange, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._exchange = exchange
        self._tls = tls
        super().__init__(host, port)

    def _get_socket(self, host: str, port: int, _timeout: Any) -> socket.socket:
        plain = self._exchange.connect(host, port)
        if self._tls is None:
            return plain
        try:
            return self._tls.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise


def mail(
    exchange: Exchange, message: EmailMessage, sender: str, recipients: Sequence[str], host: str, port: int,
    security: str, user: str = "", password: str = "", ca_file: str = "",
) -> dict[str, tuple[int, bytes]]:  # fmt: skip
    """Send a mail to a mail server.

    Parameters
    ----------
    exchange : Exchange
        Limits the time, and makes the connection.
    message, sender, recipients : EmailMessage, str, sequence of str
        The mail, and the addresses that the server gets. A repeated recipient gets one mail.
    host, port : str, int
        The mail server.
    security : str
        ``starttls``, ``tls`` or ``none``.
    user, password : str
        Credentials for the server. Without a user, there is no login.
    ca_file : str
        File of certificates to trust. Empty: those of the system.

    Returns
    -------
    dict
        The refused recipients, with the code and the text of the server. All other recipients get the mail.

    Raises
    ------
    OSError, smtplib.SMTPException, ValueError
        The server accepts the mail for no recipient.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    connection = _Smtp(exchange, host, port, context if security == "tls" else None)
    try:
        if security == "starttls":
            connection.starttls(context=context)
        if user:
            connection.login(user, password)
        # Each address is given once. With a repeated address, smtplib would not notice that the server refuses all.
        refused = connection.send_message(message, sender, list(dict.fromkeys(recipients)))
        # The server already has the mail, so an error here does not matter.
        with contextlib.suppress(OSError, smtplib.SMTPException):
            connection.quit()
    finally:
        connection.close()
    return refused
