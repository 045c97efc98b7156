"""A faulty proxy between senders and a working receiver."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

ROUND: Final = 100
FAULTS: Final[Mapping[str, int]] = {
    "hang": 2,
    "drip": 3,
    "429": 8,
    "500": 8,
    "302": 1,
    "stores-then-fails": 12,
    "cut": 5,
}
"""How many of each hundred requests each fault meets, in any order; the others pass. `refuse` comes by the clock."""

CLOSED_EVERY_S: Final = 2.0
CLOSED_FOR_S: Final = 0.2
_TICK_S: Final = 0.05


class FaultProxy:
    """Hand requests on to `upstream`, except those that meet a fault.

    ``refuse``: nothing listens, for a part of every two seconds. ``hang``: no answer. ``drip``: an answer of one byte
    every 0.2 s, without end. ``429``, ``500``, ``302``: that answer, without the receiver's knowledge.
    ``stores-then-fails``: the receiver gets the request, the sender gets no answer. ``cut``: the request is cut off
    half-way to the receiver.

    Attributes
    ----------
    met : Counter
        How many requests met which fault; ``pass`` for those that met none while there were faults.
    faulty : bool
        False: everything passes from now on.
    """

    def __init__(self, upstream_port: int, seed: int, faults: Mapping[str, int] = FAULTS) -> None:
        self.met: Counter[str] = Counter()
        self.faulty = True
        self._upstream = ("127.0.0.1", upstream_port)
        self._random = random.Random(seed)
        passing = ["pass"] * (ROUND - sum(faults.values()))
        self._round = [*passing, *(name for name, number in faults.items() for _ in range(number))]
        self._coming: list[str] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

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

    def _accept(self) -> None:
        while not self._stop.is_set():
            with socket.create_server(("127.0.0.1", self.port), backlog=64) as listener:
                listener.settimeout(_TICK_S)
                closing = time.monotonic() + CLOSED_EVERY_S
                while not self._stop.is_set() and (not self.faulty or time.monotonic() < closing):
                    with contextlib.suppress(TimeoutError):
                        connection, _ = listener.accept()
                        thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                        self._threads.append(thread)
                        thread.start()
            if not self._stop.is_set():
                self.met["refuse"] += 1
                self._stop.wait(CLOSED_FOR_S)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(_TICK_S)
            while (request := self._whole(connection)) is not None:
                fault = self._draw()
                if not self._answer(connection, request, fault):
                    return

    def _draw(self) -> str:
        with self._lock:
            if not self.faulty:
                return "pass"
            if not self._coming:
                # If each fault were drawn independently, a rare one would not occur with some seeds.
                self._coming = self._random.sample(self._round, len(self._round))
            fault = self._coming.pop()
            self.met[fault] += 1
            return fault

    def _answer(self, connection: socket.socket, request: bytes, fault: str) -> bool:
        """Answer one request; False when the connection is to be closed."""
        match fault:
            case "hang":
                self._stop.wait(30.0)
                return False
            case "drip":
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not self._stop.wait(0.2):
                    connection.sendall(b"x")
                return False
            case "429" | "500" | "302":
                more = {"429": "Retry-After: 1\r\n", "302": "Location: /elsewhere\r\n"}.get(fault, "")
                connection.sendall(f"HTTP/1.1 {fault} Fault\r\nContent-Length: 0\r\n{more}\r\n".encode())
                return True
            case "stores-then-fails":
                self._upstream_answer(request)
                return False
            case "cut":
                self._upstream_answer(request[: len(request) // 2])
                return False
        answer = self._upstream_answer(request)
        if answer is None:
            return False
        connection.sendall(answer)
        return True

    def _upstream_answer(self, request: bytes) -> bytes | None:
        try:
            with socket.create_connection(self._upstream, timeout=10.0) as upstream:
                upstream.sendall(request)
                upstream.shutdown(socket.SHUT_WR)
                return self._whole(upstream)
        except OSError:
            return None

    def _whole(self, connection: socket.socket) -> bytes | None:
        """Read one request or answer with its body, which has a length."""
        data = b""
        while b"\r\n\r\n" not in data:
            if (chunk := self._receive(connection)) is None:
                return None
            data += chunk
        head, _, body = data.partition(b"\r\n\r\n")
        fields = dict(line.partition(b":")[::2] for line in head.lower().split(b"\r\n"))
        while len(body) < int(fields.get(b"content-length", 0)):
            if (chunk := self._receive(connection)) is None:
                return None
            body += chunk
        return head + b"\r\n\r\n" + body

    def _receive(self, connection: socket.socket) -> bytes | None:
        while not self._stop.is_set():
            try:
                return connection.recv(65536) or None
            except TimeoutError:
                if connection.gettimeout() != _TICK_S:
                    return None
        return None
