"""Start a monitor from its options, and serve until a signal ends it."""

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
from typing import Final

from stemphony.errors import MonitorError
from stemphony.monitor.database.connection import Database
from stemphony.monitor.database.credentials import Credential, Role
from stemphony.monitor.intake.retention import Retention
from stemphony.monitor.intake.writer import Writer
from stemphony.monitor.notify.notifier import Notifier
from stemphony.monitor.notify.targets import TargetSettings
from stemphony.monitor.state import STALE_AFTER_S
from stemphony.monitor.web.application import make_application
from stemphony.monitor.web.gate import Gate
from stemphony.monitor.web.lanes import make_server
from stemphony.monitor.web.rate_limit import REQUESTS_PER_S, RateLimit
from stemphony.monitor.web.services import Services

DEFAULT_HOST: Final = "127.0.0.1"
"""Address on which the monitor listens by default. Only this machine can reach it."""
DEFAULT_PORT: Final = 8000
"""Port on which the monitor listens by default."""
CONNECTIONS: Final = 5000
"""Most connections at once. A job that reports every few seconds keeps one. Further clients wait for a free one."""

OTHER_DESCRIPTORS: Final = 200
"""Number of open files that are reserved for the database, notifications and logs."""

SILENT_CONNECTION_S: Final = 30
"""Silence after which the server closes a connection [s]."""

PORTS_TRIED: Final = 20
"""Number of ports that a demonstration tries, beginning with the given port."""


@dataclass(frozen=True)
class Options:
    """The options of `stemphony monitor`.

    Attributes
    ----------
    host, port : str, int
        Address and port on which it listens.
    database : str or None
        Value of `--db`. None: see `database_url`.
    stale_after_s : float
        Shortest silence after which a run is stale [s].
    keep_days : float
        Silence after which a simulation is deleted [days]. 0: never.
    requests_per_s : float
        Most requests per second of one credential or address. 0: no limit.
    notify : Path or None
        File with the targets of notifications.
    any_port : bool
        Whether to try the next ports if this one is taken.
    extra_hosts : tuple of str
        Further allowed values of the header `Host`.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    database: str | None = None
    stale_after_s: float = STALE_AFTER_S
    keep_days: float = 0.0
    requests_per_s: float = REQUESTS_PER_S
    notify: Path | None = None
    any_port: bool = False
    extra_hosts: tuple[str, ...] = field(default=())


class Monitor:
    """One monitor. `serve` runs it in the calling thread, and `start` in a new thread. `close` ends it.

    Parameters
    ----------
    options : Options
    say : callable
        Takes one line for the log.

    Raises
    ------
    MonitorError
        An option is not allowed, credentials are missing, the port is in use, or the database cannot be used.
    """

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        settings = TargetSettings.read(options.notify) if options.notify else TargetSettings()
        self._say = say
        # Everything else is checked first, so that a refused start makes no new database.
        if not Database.exists(options.database):
            _refuse_open_door(options.host, ())
        listener = _listen(options)
        try:
            self.database = Database.open(options.database)
        except MonitorError:
            listener.close()
            raise
        gate = Gate(self.database)
        try:
            _refuse_open_door(options.host, gate.credentials())
            self.database.lock()
            # The schema changes only while this monitor has the lock. Otherwise a running monitor of an earlier version
            # might use the database, and could not start again.
            self.database.migrate()
        except BaseException:
            listener.close()
            gate.close()
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
        self._server = make_server(
            listener, make_application(self.services), _room_for_connections(say), SILENT_CONNECTION_S
        )
        self._closing = threading.Lock()
        self._closed = False
        self.url = f"http://{_shown(options.host)}:{self.port}/"

    def serve(self) -> None:
        """Serve until SIGINT or SIGTERM, then store all accepted events and end."""
        self.notifier.start(self.writer)
        self.retention.start()
        self._server.run()
        self.close()

    def start(self) -> None:
        """Serve from a new thread."""
        threading.Thread(target=self.serve, name="stemphony-monitor", daemon=True).start()

    def close(self) -> None:
        """Store all accepted events and close the database."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._server.close()
        self._server.task_dispatcher.shutdown()
        self.retention.close()
        self.notifier.close()
        self.writer.close()
        self.services.gate.close()
        self.database.close()


def serve(options: Options) -> int:
    """Run a monitor with these `options` in this process until SIGINT or SIGTERM. Return the exit status.

    Raises
    ------
    MonitorError
        As for `Monitor`.
    """
    _log_to_stderr()
    monitor = Monitor(options, say)
    signal.signal(signal.SIGTERM, _end)
    say(f"{monitor.url} shows the content of {monitor.database.name}. Ctrl-C ends the monitor.")
    monitor.serve()
    say("stopped; all acknowledged events are stored")
    return 0


def say(text: str) -> None:
    """Print `text` as one line of the log of the monitor, on stderr."""
    print(f"stemphony monitor: {text}", file=sys.stderr, flush=True)


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # waitress warns if a request waits for a thread. This is normal, so the warning is not shown.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    # The code that uses a connection reports once that it was lost. The pool would add a traceback for each connection.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)


def _refuse_open_door(host: str, known: Sequence[Credential]) -> None:
    """If other machines can reach the address, require that the credentials have a writer and a reader."""
    if _is_loopback(host):
        return
    missing = [role.value for role in Role if role not in {credential.role for credential in known}]
    if missing:
        commands = " and ".join(f"`stemphony monitor token add NAME --role {role}`" for role in missing)
        raise MonitorError(
            f"--host {host} can be reached by others, and there is no {' and no '.join(missing)} yet. Run {commands},"
            " or leave out --host to stay on this machine."
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _asked_for(host: str) -> set[str]:
    """Return the forms of a loopback address in the header `Host`: the given form, and the short form of browsers."""
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
        raise MonitorError(
            f"--host {options.host!r} is not an address of this machine. Give 127.0.0.1, or an address or name of it."
        ) from None
    ports = range(options.port, min(options.port + (PORTS_TRIED if options.any_port else 1), 65_536))
    for port in ports:
        try:
            return socket.create_server((str(host), port), family=family, backlog=1024)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and port != ports[-1]:
                continue
            if error.errno == errno.EADDRINUSE:
                raise MonitorError(f"port {port} is taken. Choose another one with --port.") from None
            raise MonitorError(
                f"--host {options.host} --port {port}: {error.strerror or error}. Give an address of this machine, "
                "and a port that you may open: 1024 to 65535."
            ) from None
    raise MonitorError(f"--port {options.port}: there is no such port. Choose one from 1024 to 65535.")


def _room_for_connections(say: Callable[[str], None]) -> int:
    """Raise the soft limit of open files as far as necessary and allowed. Return the allowed number of connections."""
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
    # Some open files are kept for the database. Without them, the monitor would accept events that it cannot store.
    room = max(allowed - OTHER_DESCRIPTORS, allowed // 2)
    say(
        f"this process may have {allowed} open files, so it takes at most {room} connections, not {CONNECTIONS}. If"
        " more jobs report to it, raise its hard limit (`ulimit -Hn`, or LimitNOFILE of its service)."
    )
    return room
