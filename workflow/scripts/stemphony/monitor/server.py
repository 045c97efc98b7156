"""From options to a process that serves until it is told to end."""

from __future__ import annotations

import errno
import ipaddress
import logging
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

import waitress.server

from stemphony.errors import MonitorError
from stemphony.monitor.database.connection import Database
from stemphony.monitor.database.credentials import Credential, Gate, Role
from stemphony.monitor.intake import limits
from stemphony.monitor.intake.limits import RateLimit
from stemphony.monitor.intake.retention import Retention
from stemphony.monitor.intake.writer import Writer
from stemphony.monitor.notify.notification import Notifier, Settings
from stemphony.monitor.state import STALE_AFTER_S
from stemphony.monitor.web.application import make_application
from stemphony.monitor.web.services import Services

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8000
THREADS: Final = 16
"""A request that stores waits for the disk: with more threads, more share one commit."""

CONNECTIONS: Final = 5000
"""A job that reports every few seconds holds one all the time; whoever comes when all are taken waits."""

OTHER_DESCRIPTORS: Final = 200
"""Open files that are kept for the database, notifications and logs."""

SILENT_CONNECTION_S: Final = 30
PORTS_TRIED: Final = 20


@dataclass(frozen=True)
class Options:
    """What `stemphony monitor` was started with."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    database: str | None = None
    stale_after_s: float = STALE_AFTER_S
    keep_days: float = 0.0
    requests_per_s: float = limits.REQUESTS_PER_S
    notify: Path | None = None
    any_port: bool = False
    extra_hosts: tuple[str, ...] = field(default=())


class Monitor:
    """A monitor: make it, `serve` it in the main thread or `start` it in another one, `close` it."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        settings = Settings.read(options.notify) if options.notify else Settings()
        self._say = say
        # A start that is refused leaves no new database behind: all that needs none is looked at before.
        if not Database.exists(options.database):
            _refuse_open_door(options.host, ())
        listener = _listen(options)
        try:
            self.database = Database.open(options.database)
        except MonitorError:
            listener.close()
            raise
        try:
            gate = Gate(self.database)
            _refuse_open_door(options.host, gate.credentials())
            self.database.lock()
            # Not before: the monitor that has it may be of an earlier version, which could not start again.
            self.database.migrate()
        except BaseException:
            listener.close()
            self.database.close()
            raise
        self.port = int(listener.getsockname()[1])
        self.notifier = Notifier(settings, self.database, say, options.stale_after_s)
        self.writer = Writer(self.database, self.notifier.rows, say, self.notifier.wake)
        self.retention = Retention(options.keep_days, self.writer, say)
        hosts = {"localhost", "127.0.0.1", "::1", *_asked_for(options.host), *options.extra_hosts}
        self.services = Services(
            self.database, self.writer, gate, RateLimit(options.requests_per_s), options.stale_after_s,
            frozenset(hosts), say=say,
        )  # fmt: skip
        self._server = _server(listener, make_application(self.services), _room_for_connections(say))
        self._closing = threading.Lock()
        self._closed = False
        self.url = f"http://{_shown(options.host)}:{self.port}/"

    def serve(self) -> None:
        """Serve until SIGINT or SIGTERM, then store what was taken and end."""
        self.notifier.start(self.writer)
        self.retention.start()
        self._server.run()
        self.close()

    def start(self) -> None:
        """Serve from a thread of its own."""
        threading.Thread(target=self.serve, name="stemphony-monitor", daemon=True).start()

    def close(self) -> None:
        """Store what waits and let go of the database."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._server.close()
        self._server.task_dispatcher.shutdown()
        self.retention.close()
        self.notifier.close()
        self.writer.close()
        self.database.close()


def serve(options: Options) -> int:
    """Run a monitor in this process until it is told to end."""
    _log_to_stderr()
    monitor = Monitor(options, say)
    signal.signal(signal.SIGTERM, _end)
    say(f"{monitor.url} shows what {monitor.database.name} has. Ctrl-C ends it.")
    monitor.serve()
    say("stopped; all that was acknowledged is stored")
    return 0


def say(text: str) -> None:
    """A line for whoever looks after the monitor."""
    print(f"stemphony monitor: {text}", file=sys.stderr, flush=True)


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # It warns whenever a request has to wait for a thread, which is what threads are for.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    # A connection that is lost is said once, by whoever used it; the pool adds a traceback for each.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)


def _refuse_open_door(host: str, known: Sequence[Credential]) -> None:
    """An address that others reach needs somebody who may write and somebody who may read."""
    if _is_loopback(host):
        return
    missing = [role.value for role in Role if role not in {credential.role for credential in known}]
    if missing:
        commands = " and ".join(f"`stemphony monitor token add NAME --role {role}`" for role in missing)
        raise MonitorError(
            f"--host {host} can be reached by others, and there is no {' and no '.join(missing)} yet. Do {commands},"
            " or leave --host out to stay on this machine."
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _asked_for(host: str) -> set[str]:
    """An address of the loopback as the header `Host` has it: as it was given, or as browsers shorten it."""
    if host == "localhost" or not _is_loopback(host):
        return set()
    return {host.lower(), ipaddress.ip_address(host).compressed}


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _listen(options: Options) -> socket.socket:
    try:
        family, _, _, _, (host, *_) = socket.getaddrinfo(options.host, None, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise MonitorError(f"--host {options.host!r} is no address of this machine.") from None
    ports = range(options.port, min(options.port + (PORTS_TRIED if options.any_port else 1), 65_536))
    for port in ports:
        try:
            return socket.create_server((str(host), port), family=family, backlog=1024)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and port != ports[-1]:
                continue
            if error.errno == errno.EADDRINUSE:
                raise MonitorError(f"port {port} is taken. Give another one by --port.") from None
            raise MonitorError(f"--host {options.host} --port {port}: {error.strerror or error}.") from None
    raise MonitorError("no port is free.")


def _room_for_connections(say: Callable[[str], None]) -> int:
    """Raise the soft limit of open files as far as needed and allowed; returns how many connections there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OTHER_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return CONNECTIONS
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError):
        allowed = soft
    if allowed >= wanted:
        return CONNECTIONS
    # With none left for itself it would accept what it cannot store.
    room = max(allowed - OTHER_DESCRIPTORS, allowed // 2)
    say(
        f"this process may have {allowed} open files, so at most {room} connections at once, not {CONNECTIONS}. If more"
        " jobs than that report to it, raise its hard limit (`ulimit -Hn`, or LimitNOFILE of its service)."
    )
    return room


def _server(listener: socket.socket, application: Any, connections: int) -> Any:
    return waitress.server.create_server(
        application, sockets=[listener], threads=THREADS, connection_limit=connections,
        # select knows no descriptors above 1023.
        asyncore_use_poll=True,
        channel_timeout=SILENT_CONNECTION_S, cleanup_interval=5, ident="stemphony",
        max_request_body_size=limits.MAX_BODY_BYTES, max_request_header_size=32_768,
        # Bodies stay in memory: a full disk must not decide what can be answered.
        inbuf_overflow=2 * limits.MAX_BODY_BYTES, outbuf_overflow=64 * limits.MAX_BODY_BYTES,
        clear_untrusted_proxy_headers=True,
    )  # fmt: skip
