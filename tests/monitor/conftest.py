"""A monitor in the process of the test, on SQLite and on PostgreSQL, for tests that need no socket."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from stemphony.monitor.database.connection import Database
from stemphony.monitor.intake.retention import Retention
from stemphony.monitor.intake.writer import LIMITS, Writer, WriterLimits
from stemphony.monitor.web.application import make_application
from stemphony.monitor.web.gate import Gate
from stemphony.monitor.web.rate_limit import RateLimit
from stemphony.monitor.web.services import Services
from support.evidence import last_part
from support.monitor import missing


class Remembering(FlaskClient):
    """A client that keeps the last answer."""

    last: Any = None

    def open(self, *arguments: Any, **named: Any) -> Any:
        self.last = super().open(*arguments, **named)
        return self.last


@dataclass
class Inside:
    """A monitor without a server around it, with a clock that the test moves."""

    database: Database
    writer: Writer
    services: Services
    client: Remembering
    said: list[str] = field(default_factory=list)
    ahead_s: float = 0.0

    def store(self, events: list[dict[str, Any]]) -> dict[str, int]:
        found: dict[str, int] = {}
        for start in range(0, len(events), 1000):
            answer = self.client.post("/events/batch", json=events[start : start + 1000])
            assert answer.status_code == 200, answer.text
            found = {key: found.get(key, 0) + value for key, value in answer.json.items()}
        return found

    def simulations(self, **query: str) -> list[dict[str, Any]]:
        return self.client.get("/api/simulations", query_string=query).json["simulations"]

    @property
    def simulation(self) -> dict[str, Any]:
        (only,) = self.simulations()
        return only

    def pairs(self, row: int = 1) -> dict[tuple[float | None, int], dict[str, Any]]:
        listed = self.client.get(f"/api/simulations/{row}/pairs").json["pairs"]
        return {(pair["defocus"], pair["configuration"]): pair for pair in listed}

    @property
    def evidence(self) -> str:
        answer = self.client.last
        answered = "none" if answer is None else f"{answer.request.path}: {answer.status}\n{last_part(answer.text)}"
        return "\n".join([f"last answer: {answered}", "said:", *self.said])

    def close(self) -> None:
        """End the threads, so that no connection is in use when the database is closed."""
        self.writer.close()
        self.services.gate.close()


def inside(database: Database, limits: WriterLimits = LIMITS) -> Inside:
    said: list[str] = []
    writer = Writer(database, say=said.append, limits=limits)
    services = Services(database, writer, Gate(database), RateLimit(0))
    application = make_application(services)
    application.test_client_class = Remembering
    made = Inside(database, writer, services, application.test_client(), said)
    clock = services.clock
    services.clock = lambda: clock() + made.ahead_s
    return made


@contextlib.contextmanager
def monitor_of(url: str, limits: WriterLimits = LIMITS) -> Iterator[Inside]:
    with Database.open(url) as database:
        made = inside(database, limits)
        try:
            yield made
        finally:
            made.close()


def sweep_twice(monitor: Inside, keep_days: float, now: float, writer: Any = None) -> int:
    """Mark what is old, let the monitor run for eight days by its own clock, and delete. Returns the number."""
    own = [0.0]
    retention = Retention(keep_days, writer or monitor.writer, monitor.said.append, lambda: own[0])
    assert retention.sweep(now) == 0
    own[0] += 8 * 86_400
    return retention.sweep(now)


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Inside]:
    with monitor_of(str(tmp_path / "monitor.sqlite")) as made:
        yield made


@dataclass(frozen=True)
class PostgresqlServer:
    """A PostgreSQL that tests may stop. A test that stops it starts it again."""

    url: str
    _control: list[str]
    _folder: Path
    _options: str

    def start(self) -> None:
        self._do("-l", str(self._folder / "log"), "-o", self._options, "start")

    def stop(self, mode: str = "fast") -> None:
        self._do("-m", mode, "stop")

    def restart(self) -> None:
        self.stop()
        self.start()

    def _do(self, *arguments: str) -> None:
        # Not through a pipe: the server would inherit it and keep it open.
        subprocess.run([*self._control, "-w", *arguments], check=True, cwd=self._folder, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A PostgreSQL that lives as long as the tests, in a folder of its own."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = shutil.which("initdb") or (str(places[-1]) if places else "")
    if not found:
        missing("PostgreSQL is not installed (Debian: apt install postgresql)")
    try:
        user = pwd.getpwnam("postgres").pw_name if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        missing("there is no user postgres, and PostgreSQL does not run as root")
    prefix = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"] if os.geteuid() == 0 else []
    programs = Path(found).parent
    # Not below pytest's folder, because only its owner may enter that.
    folder = Path(tempfile.mkdtemp(prefix="stemphony-postgresql-"))
    try:
        if prefix:
            shutil.chown(folder, user, user)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        data = folder / "data"
        options = ["--auth=trust", f"--username={user}", "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run(
            [*prefix, programs / "initdb", "-D", data, *options], check=True, capture_output=True, cwd=folder
        )
        server = PostgresqlServer(
            f"postgresql://{user}@127.0.0.1:{port}/postgres", [*prefix, str(programs / "pg_ctl"), "-D", str(data)],
            folder, f"-p {port} -k {folder} -c listen_addresses=127.0.0.1",
        )  # fmt: skip
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql(postgresql_server: PostgresqlServer) -> str:
    """URL of the superuser's database."""
    return postgresql_server.url


@pytest.fixture
def postgresql_database(postgresql: str) -> Iterator[str]:
    """URL of an empty database."""
    import psycopg

    name = f"monitor_{os.urandom(4).hex()}"
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield postgresql.rpartition("/")[0] + "/" + name
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The value of `--db`, for each kind of database."""
    if request.param == "sqlite":
        return str(tmp_path / "monitor.sqlite")
    return request.getfixturevalue("postgresql_database")


@pytest.fixture
def any_monitor(any_database: str) -> Iterator[Inside]:
    with monitor_of(any_database) as made:
        yield made
