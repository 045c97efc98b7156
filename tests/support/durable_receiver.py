"""A minimal receiver: it stores each event once, before it answers, single or in batches.

    python -m support.durable_receiver PORT FILE

FILE gets one JSON line per event, in the order of arrival; a receiver that is started again goes on with it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Store:
    """Events in a file, each id once."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.Lock()
        whole = file.read_bytes() if file.exists() else b""
        self._known = {json.loads(line)["event_id"] for line in whole.splitlines()}
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, events: list[dict[str, Any]]) -> int:
        """Store the new events, and return their number."""
        with self._lock:
            new = {event["event_id"]: event for event in events if event["event_id"] not in self._known}
            os.write(self._descriptor, "".join(json.dumps(event) + "\n" for event in new.values()).encode())
            os.fsync(self._descriptor)
            self._known |= new.keys()
            return len(new)


class Handler(BaseHTTPRequestHandler):
    store: Store
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) < int(self.headers["Content-Length"]):
            self.close_connection = True
            return
        events = json.loads(body)
        if self.path not in (("/events/batch",) if isinstance(events, list) else ("/", "/events")):
            self._answer(404, {})
            return
        events = events if isinstance(events, list) else [events]
        stored = self.store.add(events)
        self._answer(200, {"stored": stored, "duplicates": len(events) - stored})

    def _answer(self, status: int, content: dict[str, int]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        return


def main(port: str, file: str) -> None:
    """Serve until the process ends."""
    Handler.store = Store(Path(file))
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
