"""Measure how long the monitor's list takes with 10,000 simulations, and what an idle monitor with targets costs.

    .venv/bin/python docs/benchmarks/monitor_many.py [--simulations 10000] [--idle 60]

The script rewrites its table in docs/monitor.md. It takes about three minutes. A third of the simulations has no end
and is silent, so that every search of the notifier finds thousands of them. Other programs on the machine change the
CPU time less than the elapsed time.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import page as tables
import psutil
from monitor_benchmark import MONITOR_PAGE, PORT, Monitor, circumstances, get
from sqlalchemy import func, select, update
from stemphony.monitor.database import schema
from stemphony.monitor.database.connection import Database
from stemphony.monitor.intake.incoming import read_batch
from stemphony.monitor.intake.writer import Writer

TARGETS = 5
BATCH = 100
REPEAT = 30
SILENT_S = 3600.0
SETTLE_S = 10.0
LIMIT_MS, LIMIT_CPU = 200.0, 1.0
"""Limits that the monitor should keep: time of the list [ms], and CPU time of an idle monitor [% of one core]."""


def simulation(number: int, now: float) -> list[dict[str, Any]]:
    """Events of one simulation: its start and one job. Two of three simulations also have an end."""
    common = {
        "id": str(uuid.uuid4()), "num_threads": 1, "num_processors": 4, "num_defoci": 2, "num_configurations": 2,
        "schema": 1, "run": 1, "time": now - SILENT_S, "sample": f"sample {number % 13}", "user": f"user {number % 7}",
    }  # fmt: skip
    pair = {"defocus": 0.0, "defocus_index": 0, "configuration_index": 0, "job": "job", "attempt": 1}
    names: list[tuple[str, dict[str, Any]]] = [
        ("START_SIMULATION", {"title": f"series {number}", "seq": 0}),
        ("START_FP_CONFIGURATION", {**pair, "seq": 0}),
        ("PROGRESS", {**pair, "progress": 0.5, "seq": 1}),
        *([("FINISH", {"seq": 1})] if number % 3 else []),
    ]
    return [{**common, "event": name, **keys, "event_id": str(uuid.uuid4())} for name, keys in names]


def fill(database: str, simulations: int) -> None:
    """Store the simulations, as if their last events had arrived an hour ago."""
    now = time.time()
    with Database.open(database) as opened:
        writer = Writer(opened)
        for first in range(0, simulations, BATCH):
            batch = [simulation(number, now) for number in range(first, min(first + BATCH, simulations))]
            writer.store(read_batch(json.dumps(list(itertools.chain(*batch))).encode(), now))
        writer.close()
        with opened.writer.begin() as connection:
            connection.execute(update(schema.SIMULATION).values(last_received=now - SILENT_S))


def cpu_s(process: int) -> float:
    """CPU time that a process has used [s]."""
    return sum(psutil.Process(process).cpu_times()[:2])


def lists(process: int) -> Iterator[tuple[str, float, float]]:
    """Each answer: its name, the median of its time, and its CPU time [ms]."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    for name, path in (
        ("list, API", "/api/simulations"), ("list, page", "/"), ("the request of the list's page every 2 s", "/live"),
        ("list of stale simulations, page", "/?state=stale"), ("search for a title, page", "/?text=series+77"),
        ("last page of the list", "/?page=49"),
    ):  # fmt: skip
        times, before = [], cpu_s(process)
        for _ in range(REPEAT):
            begin = time.perf_counter()
            get(connection, path)
            times.append(time.perf_counter() - begin)
        yield name, 1000 * statistics.median(times), 1000 * (cpu_s(process) - before) / REPEAT


@contextlib.contextmanager
def receiver() -> Iterator[str]:
    """Yield the address of a receiver that accepts all notifications."""

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def wait_until_idle(database: str) -> None:
    """Wait until the notifications about all silences are delivered."""
    question = select(func.count()).select_from(schema.NOTIFICATION).where(schema.NOTIFICATION.c.due.is_not(None))
    waiting = 1
    while waiting:
        time.sleep(SETTLE_S)
        with Database.open(database) as opened, opened.reader.begin() as connection:
            waiting = int(connection.execute(question).scalar_one())


def idle_cpu(process: int, seconds: float) -> float:
    """CPU time of a process while it gets no requests [% of one core]."""
    before, begin = cpu_s(process), time.perf_counter()
    time.sleep(seconds)
    return 100 * (cpu_s(process) - before) / (time.perf_counter() - begin)


def main() -> None:
    """Measure and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--idle", type=float, default=60.0, help="seconds")
    given = parser.parse_args()
    busy = tables.busy_mark()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, receiver() as url:
        database, notify = str(Path(folder) / "monitor.sqlite"), Path(folder) / "notify.yaml"
        targets = [f"- {{name: t{n}, url: '{url}', when: [failed, stale]}}" for n in range(TARGETS)]
        notify.write_text("\n".join(["targets:", *targets]) + "\n")
        fill(database, given.simulations)
        with Monitor(database, "--notify", str(notify)) as monitor:
            wait_until_idle(database)
            rows = [
                [name, f"{ms:.0f} ms ({ms / LIMIT_MS:.2f})", f"{cpu:.0f} ms"]
                for name, ms, cpu in lists(monitor.process.pid)
            ]
            cpu = idle_cpu(monitor.process.pid, given.idle)
    name = f"idle monitor with {TARGETS} targets"
    rows.append([name, "", f"{cpu:.2f} % of one core ({cpu / LIMIT_CPU:.2f})"])
    head = [f"{given.simulations:,} simulations", "median (share of the limit)", "CPU time (share of the limit)"]
    lines = [circumstances() + busy, "", *tables.table(head, rows)]
    tables.rewrite("python docs/benchmarks/monitor_many.py", lines, MONITOR_PAGE)


if __name__ == "__main__":
    main()
