"""Receivers of status reports: the one of STEMsalabim's documentation, and a faulty one."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from flask import Flask, request
from werkzeug.serving import WSGIRequestHandler, make_server

from support.evidence import last_part


@dataclass(frozen=True)
class Received:
    """One request as it arrived. Header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


def received_in_words(received: Sequence[Received]) -> str:
    """Each request on a line, for a person who looks for a missing or double event."""
    lines = [f"{entry.method} {entry.path} {entry.body[:300].decode(errors='replace')}" for entry in list(received)]
    return last_part("\n".join([f"{len(lines)} requests:", *lines]))


class EchoServer:
    """The receiver of STEMsalabim's documentation, with an unchanged handler; it keeps what it gets."""

    def __init__(self, port: int = 0) -> None:
        self.received: list[Received] = []
        app = Flask(__name__)

        @app.before_request
        def remember() -> None:
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.received.append(Received(request.method, request.full_path, headers, request.get_data()))

        @app.route('/', methods=['POST'])  # fmt: skip
        def echo():
            content = request.get_json()
            print(json.dumps(content, indent=4))  # noqa: T201
            return ""

        self._server = make_server("127.0.0.1", port, app, request_handler=_SilentHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/"

    @property
    def events(self) -> list[dict[str, Any]]:
        """Lines that it printed. It cannot take a batch."""
        return [entry.json for entry in list(self.received) if not entry.path.startswith("/events/batch")]

    @property
    def evidence(self) -> str:
        return received_in_words(self.received)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _SilentHandler(WSGIRequestHandler):
    def log(self, *args: Any) -> None:
        return


class FaultServer:
    """A raw socket that answers with the faults of `modes`.

    Parameters
    ----------
    *modes : str
        What to do with the first request, the second and so on; the last mode stays.

        ``ok``, or any status as text: that answer with an empty body. ``ok-slowly``: after 0.3 s. ``hang``:
        read the request, never answer. ``drip``: one byte of the header every 0.2 s for ever.
        ``drip-status``: of the status. ``drip-body``: status 200 at once, its body like that.
        ``stores-then-fails``: close without an answer. ``garbage``: bytes that are not HTTP. ``bad-header``: 200
        with a header that urllib3 logs a complaint about. ``endless-headers``, ``endless-header``: 200 with headers, or
        a header, without end. ``huge``: an answer that does not end.
        ``huge-redirect``: the same as a 302.
    headers : sequence of str
        Added to answers that are a plain status, such as ``Retry-After: 21600`` or ``Location: …``.
    tls : ssl.SSLContext, optional
        Speak https.
    """

    def __init__(self, *modes: str, headers: Sequence[str] = (), tls: ssl.SSLContext | None = None) -> None:
        self.received: list[Received] = []
        self.connections = 0
        self.bytes_sent = 0
        self._modes = list(modes)
        self._headers = list(headers)
        self._tls = tls
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = int(self._listener.getsockname()[1])
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    @property
    def evidence(self) -> str:
        return received_in_words(self.received)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [entry.json for entry in list(self.received)]

    def wait_for(self, requests: int, timeout_s: float = 60.0) -> bool:
        """Wait until so many requests have been read."""
        deadline = time.monotonic() + timeout_s
        while len(self.received) < requests and time.monotonic() < deadline:
            time.sleep(0.01)
        return len(self.received) >= requests

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._accepting.join()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            connection.settimeout(0.05)
            with contextlib.suppress(OSError):
                if self._tls is not None:
                    connection.settimeout(5.0)
                    connection = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
                    connection.settimeout(0.05)
                while (entry := self._read(connection)) is not None:
                    with self._lock:
                        mode = self._modes.pop(0) if len(self._modes) > 1 else self._modes[0]
                        self.received.append(entry)
                    if not self._answer(connection, mode):
                        return

    def _read(self, connection: socket.socket) -> Received | None:
        data = b""
        while b"\r\n\r\n" not in data:
            if (chunk := self._receive(connection)) is None:
                return None
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers.get("content-length", 0)):
            if (chunk := self._receive(connection)) is None:
                return None
            body += chunk
        method, path, _ = first.split(" ")
        return Received(method, path, headers, body)

    def _receive(self, connection: socket.socket) -> bytes | None:
        while not self._stop.is_set():
            try:
                return connection.recv(65536) or None
            except TimeoutError:
                continue
        return None

    def _answer(self, connection: socket.socket, mode: str) -> bool:
        """Answer one request; False when the connection is to be closed."""
        match mode:
            case "hang":
                self._stop.wait()
                return False
            case "stores-then-fails":
                return False
            case "garbage":
                connection.sendall(b"\x00\xff what is HTTP?\r\n\r\n")
                return False
            case "bad-header":
                connection.sendall(b"HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 0\r\n\r\n")
                return False
            case "endless-headers" | "endless-header":
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
                piece = b"x" * 4096 if mode == "endless-header" else b"x\r\nX-Endless: "
                while not self._stop.is_set():
                    connection.sendall(piece)
                return False
            case "drip":
                self._drip(connection, b"HTTP/1.1 200 OK\r\nX-Slow: ")
                return False
            case "drip-status":
                self._drip(connection, b"HTTP/1.1 ")
                return False
            case "drip-body":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n")
                self._drip(connection, b"")
                return False
            case "huge" | "huge-redirect":
                status = "200 OK" if mode == "huge" else f"302 Found\r\nLocation: {self.url}"
                connection.sendall(f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
                chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
                while not self._stop.is_set():
                    try:
                        connection.sendall(chunk)
                    except TimeoutError:
                        return False
                    self.bytes_sent += len(chunk)
                return False
            case "ok-slowly":
                self._stop.wait(0.3)
                mode = "ok"
        status = "200" if mode == "ok" else mode
        lines = [f"HTTP/1.1 {status} Whatever", "Content-Length: 0", *self._headers, "", ""]
        connection.sendall("\r\n".join(lines).encode("latin-1"))
        return True

    def _drip(self, connection: socket.socket, head: bytes) -> None:
        connection.sendall(head)
        while not self._stop.wait(0.2):
            connection.sendall(b"x")


def closed_port() -> int:
    """Find a port of the loopback on which no process listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
