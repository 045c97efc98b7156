"""Measure how many events the monitor stores per second, and how fast its pages are with a million events.

    .venv/bin/python docs/benchmarks/monitor_benchmark.py [--runs 3] [--events 1000000] [--db URL]

The script rewrites its tables in docs/monitor.md. Clients are processes on the same machine. Every answer comes after
the commit.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import page as tables

MONITOR_PAGE = tables.PAGE.with_name("monitor.md")
PORT = 8799
CLIENTS = 4
SINGLE_S = 8.0
BATCHES = (25, 100)
DEFOCI, CONFIGURATIONS = 50, 200
SIMULATIONS = 50
# Number of progress reports of each job of the simulation whose page has the full grid of 10,000 cells.
GRID_EVENTS_OF_A_JOB = 3


def job_events(simulation: str, defocus: int, configuration: int, percents: int) -> Iterator[dict[str, Any]]:
    """Events of one job, about 600 bytes each, as a simulation sends them."""
    name = f"defocus_p{defocus}d000_configuration_{configuration:04d}"
    common = {
        "id": simulation, "num_threads": 1, "num_processors": 40, "num_defoci": DEFOCI,
        "num_configurations": CONFIGURATIONS,
    }  # fmt: skip
    pair = {"defocus": float(defocus), "defocus_index": defocus, "configuration_index": configuration}
    names = ["START_FP_CONFIGURATION", *["PROGRESS"] * percents, "FINISH_FP_CONFIGURATION"]
    for seq, event in enumerate(names):
        more = {"progress": seq / percents} if event == "PROGRESS" else {}
        yield {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **common, "event": event, **pair, **more,
            "schema": 1, "event_id": str(uuid.uuid4()), "run": 1, "job": name, "attempt": 1, "seq": seq,
            "project": "benchmark of the monitor", "sample": "SrTiO3 [001], thirty nanometres",
        }  # fmt: skip


def stream(client: int) -> Iterator[dict[str, Any]]:
    """An endless series of events. Each client has one simulation."""
    simulation = str(uuid.uuid4())
    number = 0
    while True:
        yield from job_events(simulation, number % DEFOCI, number // DEFOCI % CONFIGURATIONS, 100)
        number += 1


def post(connection: http.client.HTTPConnection, path: str, body: bytes) -> None:
    """Send a request, and check that its events are stored."""
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status


def client(number: int, size: int, seconds: float, results: Any) -> None:
    """Send single events or batches for `seconds` seconds, and report the times of the requests."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    events = stream(number)
    # The requests are made before the measurement, because the client's own work must not count.
    bodies = [
        json.dumps(next(events) if size == 1 else [next(events) for _ in range(size)]).encode()
        for _ in range(6000 if size == 1 else 60_000 // size)
    ]
    path = "/events" if size == 1 else "/events/batch"
    results.put(None)
    times = []
    begin = time.perf_counter()
    for body in bodies:
        start = time.perf_counter()
        if start - begin > seconds:
            break
        post(connection, path, body)
        times.append(time.perf_counter() - start)
    results.put((len(times) * size, time.perf_counter() - begin, times))


def ingest(size: int) -> tuple[float, float, float]:
    """Events per second of four clients, and median and 99th percentile of the time of a request [ms]."""
    results: Any = multiprocessing.Queue()
    clients = [multiprocessing.Process(target=client, args=(n, size, SINGLE_S, results)) for n in range(CLIENTS)]
    for process in clients:
        process.start()
    found = [entry for entry in (results.get() for _ in range(2 * CLIENTS)) if entry is not None]
    for process in clients:
        process.join()
    times = sorted(t for _, _, own in found for t in own)
    rate = sum(number / seconds for number, seconds, _ in found)
    return rate, 1000 * statistics.median(times), 1000 * times[int(0.99 * len(times))]


def fill(total: int) -> None:
    """Store `total` events: those of one simulation with a full grid, and those of other simulations."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    stored = 0
    grid = str(uuid.uuid4())
    jobs: list[tuple[str, int, int, int]] = [
        (grid, d, c, GRID_EVENTS_OF_A_JOB) for d in range(DEFOCI) for c in range(CONFIGURATIONS)
    ]
    others = [str(uuid.uuid4()) for _ in range(SIMULATIONS)]
    jobs += [(other, d, c, 100) for c in range(CONFIGURATIONS) for d in range(DEFOCI) for other in others]
    waiting: list[dict[str, Any]] = []
    for simulation, defocus, configuration, percents in jobs:
        waiting += job_events(simulation, defocus, configuration, percents)
        while len(waiting) >= 1000:
            post(connection, "/events/batch", json.dumps(waiting[:1000]).encode())
            stored, waiting = stored + 1000, waiting[1000:]
        if stored >= total:
            return


def pages(row: int, repeat: int = 30) -> dict[str, float]:
    """Median time of each answer [ms]."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    revision = 0
    found = {}
    paths = {
        "list, API": "/api/simulations",
        "list, page": "/",
        "one simulation, API": f"/api/simulations/{row}",
        "its 10,000 pairs, API": f"/api/simulations/{row}/pairs",
        "its latest 100 events, API": f"/api/simulations/{row}/events",
        "its page with 10,000 cells": f"/simulations/{row}",
        "the request of its page every 2 s": f"/simulations/{row}/live?since={{revision}}&run=1%20&shape={{shape}}",
    }
    for name, path in paths.items():
        if "{" in path:
            answer = get(connection, f"/simulations/{row}/live")
            content = json.loads(answer)
            revision, shape = content["revision"], content["grid"]["shape"]
            path = path.format(revision=revision, shape=shape.replace(",", "%2C"))
        times = []
        for _ in range(repeat):
            begin = time.perf_counter()
            get(connection, path)
            times.append(time.perf_counter() - begin)
        found[name] = 1000 * statistics.median(times)
    return found


def get(connection: http.client.HTTPConnection, path: str) -> bytes:
    """Read one answer."""
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, (path, answer.status)
    return body


class Monitor:
    """A monitor in a separate process."""

    def __init__(self, database: str, *options: str) -> None:
        command = [Path(sys.executable).with_name("stemphony"), "monitor", "--port", str(PORT), "--rate", "0"]
        self.process = subprocess.Popen([*command, "--db", database, *options], stderr=subprocess.DEVNULL)

    def __enter__(self) -> Monitor:
        for _ in range(200):
            try:
                get(http.client.HTTPConnection("127.0.0.1", PORT), "/healthz")
            except OSError:
                time.sleep(0.05)
            else:
                return self
        raise SystemExit("the monitor did not start")

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def circumstances() -> str:
    """Date, machine and load, for the first line of a table."""
    return (
        f"Made {datetime.now(UTC).date()} on {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, load average {tables.LOAD_BEFORE:.1f} before."
    )


def ingest_table(runs: int) -> list[str]:
    """The table of events per second and of the time of an answer: medians of all runs, and the rate of each run."""
    rows = []
    for name, size in (("single events", 1), *((f"batches of {size}", size) for size in BATCHES)):
        found = [ingest(size) for _ in range(runs)]
        rate, median, high = (statistics.median(values) for values in zip(*found, strict=True))
        rates = ", ".join(f"{entry[0]:,.0f}" for entry in found)
        rows.append([name, f"{rate:,.0f} ({rates})", f"{median:.1f} ms", f"{high:.1f} ms"])
        print(rows[-1], file=sys.stderr, flush=True)
    return tables.table(["", "events/s", "median", "99th percentile"], rows)


def pages_table(events: int, runs: int) -> list[str]:
    """The table of the time of each answer with `events` further events stored: medians of all runs."""
    fill(events)
    answer = get(http.client.HTTPConnection("127.0.0.1", PORT), "/api/simulations")
    row = max(json.loads(answer)["simulations"], key=lambda entry: entry["finished"])["row"]
    found = [pages(row) for _ in range(runs)]
    rows = [[name, f"{statistics.median(run[name] for run in found):.1f} ms"] for name in found[0]]
    return tables.table([f"answer, with more than {events:,} events stored", "median"], rows)


def main() -> None:
    """Measure and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--db", default="", help="URL; a new SQLite file without it")
    given = parser.parse_args()
    busy = tables.busy_mark()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        database = given.db or str(Path(folder) / "monitor.sqlite")
        with Monitor(database):
            lines = [circumstances() + busy, "", *ingest_table(given.runs), "", *pages_table(given.events, given.runs)]
    tables.rewrite("python docs/benchmarks/monitor_benchmark.py", lines, MONITOR_PAGE)


if __name__ == "__main__":
    main()
