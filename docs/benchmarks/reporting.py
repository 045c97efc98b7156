"""Measure what status reporting costs a simulation: `make bench-reporting` (about 6 minutes on 2 idle cores).

The script rewrites its part of docs/status-api.md with the medians of three runs: the time of `emit`, the CPU time of
the sender per event, and the time of whole simulations. The receiver of a simulation accepts everything, never answers,
or is missing.
"""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import page
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow" / "scripts"))

from stemphony import contract  # noqa: E402
from stemphony.compute.wisdom import cpu_model  # noqa: E402
from stemphony.status.reporter import JobReporter, Reporter  # noqa: E402
from stemphony.status.sender import Sender  # noqa: E402
from stemphony.status.settings import ReportingSettings  # noqa: E402

REPORTING_PAGE = page.PAGE.with_name("status-api.md")
KINDS = ("up", "refusing", "hanging")
RUNS = 3
EVENTS, PER_SECOND = 500, 100
COMMON = {
    "id": "2c0b3d0e-2f0b-4a55-8a2e-0d6c0c6a2b11", "num_threads": 4, "num_processors": 8, "num_defoci": 5,
    "num_configurations": 10, "run": 1, "job": "defocus_m2d500_configuration_0007", "attempt": 1,
}  # fmt: skip
PAIR = {"defocus": -2.5, "defocus_index": 1, "configuration_index": 7}
# The simulation has the crystal of the demo, and four configurations that take some seconds each.
SIMULATION: dict[str, Any] = {
    "probe": {"defoci_nm": [0.0]},
    "scan": {"points": [6, 6]},
    "frozen_phonon": {"configurations": 4},
}


class _Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        return


def _take(listener: socket.socket) -> None:
    server = ThreadingHTTPServer(listener.getsockname(), _Taking, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.serve_forever()


@contextlib.contextmanager
def receiver(kind: str) -> Iterator[str]:
    """Yield the URL of a receiver that is `up`, `hanging` or `refusing`."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        if kind == "up":
            process = multiprocessing.get_context("fork").Process(target=_take, args=(listener,), daemon=True)
            process.start()
            yield url
            process.terminate()
            process.join()
            return
        if kind == "hanging":
            # The kernel accepts the connection, and no answer ever comes.
            yield url
            return
    yield url


def progress_us(kind: str, computing: bool) -> list[float]:
    """Times of the hundred progress reports of a job [µs], without pauses or with FFTs between them."""
    field = np.zeros((256, 256), dtype=complex)
    with tempfile.TemporaryDirectory() as folder, receiver(kind) as url:
        settings = ReportingSettings(reporting=True, url=url)
        reports = Path(folder)
        job = JobReporter(
            settings, COMMON, defocus_nm=-2.5, defocus_index=1, configuration_index=7, run=1, attempt=1,
            job="defocus_m2d500_configuration_0007", reports_dir=reports, marker_file=reports / "marker", warn=_silent,
        )  # fmt: skip
        job.start()
        time.sleep(1.0)  # after this time, the sender's thread has finished its imports
        times = []
        for percent in range(1, 101):
            begin = time.perf_counter_ns()
            job.progress(percent / 100)
            times.append((time.perf_counter_ns() - begin) / 1000)
            until = time.monotonic() + 1 / PER_SECOND
            while computing and time.monotonic() < until:
                np.fft.fft2(field)
        job.close(0.0)
        return times


def synced_us() -> list[float]:
    """Times of events that are synced to the disk [µs]. A job has four of them."""
    with tempfile.TemporaryDirectory() as folder, receiver("up") as url:
        settings = ReportingSettings(reporting=True, url=url)
        reporter = Reporter(settings, COMMON, Path(folder) / "spool.jsonl", warn=_silent)
        times = []
        for _ in range(50):
            begin = time.perf_counter_ns()
            reporter.emit("START_FP_CONFIGURATION", **PAIR)
            times.append((time.perf_counter_ns() - begin) / 1000)
        reporter.close(0.0)
        return times


def _silent(text: str) -> None:
    return


def sender_cpu_ms() -> float:
    """CPU time of the sending thread per event [ms], including connection and answer."""
    event = {**COMMON, **PAIR, "time": "2026-03-01T10:00:00.000+00:00", "event": "PROGRESS", "progress": 0.5, "seq": 1}
    line = json.dumps(event).encode()
    with receiver("up") as url:
        sender = Sender(ReportingSettings(reporting=True, url=url))
        sender.put(line)
        sender.flush(30.0)
        begin = time.process_time()
        for _ in range(EVENTS):
            sender.put(line)
        complete = sender.flush(60.0)
        spent = time.process_time() - begin
        sender.stop()
    assert complete
    return 1000 * spent / EVENTS


def simulation_s(kind: str, folder: Path) -> tuple[float, float]:
    """Wall time of a whole simulation, and of its median job [s]."""
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    for block, values in SIMULATION.items():
        config[block] = {**config[block], **values}
    config["specimen"]["file"] = str(ROOT / "config" / "srtio3.cif")
    name = config["simulation"]["name"]
    with receiver("hanging" if kind == "off" else kind) as url:
        config["http_reporting"] = {"reporting": kind != "off", "url": url}
        file = folder / "config.yaml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        work = folder / "work"
        command = [sys.executable, "-m", "stemphony", "run", str(file), "--directory", str(work), "--cores", "2"]
        # The process that a run leaves behind ends soon. It would otherwise disturb later measurements for an hour.
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT / "workflow" / "scripts"), "OMP_NUM_THREADS": "1",
            contract.COURIER_VARIABLE: "1",
        }  # fmt: skip
        begin = time.monotonic()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall = time.monotonic() - begin
    jobs = []
    for table in (work / "benchmarks" / "run_multislice" / name).rglob("*.tsv"):
        with table.open(encoding="utf-8") as lines:
            jobs += [float(row["s"]) for row in csv.DictReader(lines, delimiter="\t")]
    return wall, statistics.median(jobs)


def emit_row(name: str, computing: bool) -> list[str]:
    """A line of the table: the median time of a progress report for each kind of receiver."""
    medians = [
        statistics.median(statistics.median(progress_us(kind, computing)) for _ in range(RUNS)) for kind in KINDS
    ]
    return [name, *(f"{median:.0f} µs" for median in medians)]


def simulations() -> dict[str, list[tuple[float, float]]]:
    """Seconds of each simulation and of its median job, without reports and for two kinds of receivers, in turns."""
    found: dict[str, list[tuple[float, float]]] = {"off": [], "up": [], "hanging": []}
    with tempfile.TemporaryDirectory() as folder:
        simulation_s("off", Path(tempfile.mkdtemp(dir=folder)))  # makes FFT plans and fills the disk's cache
        for _ in range(RUNS):
            for kind, runs in found.items():
                runs.append(simulation_s(kind, Path(tempfile.mkdtemp(dir=folder))))
    return found


def simulation_row(found: dict[str, list[tuple[float, float]]]) -> list[str]:
    """A line of the table: the time of a whole simulation for each kind of receiver."""
    walls = {kind: [wall for wall, _ in runs] for kind, runs in found.items()}
    job = statistics.median(job for _, job in found["off"])
    name = f"a simulation of {SIMULATION['frozen_phonon']['configurations']} jobs of {job:.1f} s; without reports"
    return [
        f"{name} {with_range(walls['off'])} s",
        f"{with_range(walls['up'])} s",
        "",
        f"{with_range(walls['hanging'])} s",
    ]


def with_range(values: Sequence[float]) -> str:
    """The median, and in parentheses the smallest and the largest value."""
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    """Measure and rewrite the page."""
    busy = page.busy_mark()
    rows = [
        emit_row("a progress report, many in a row", computing=False),
        emit_row("the same after 10 ms of FFTs, which empty the caches", computing=True),
    ]
    synced = statistics.median(statistics.median(synced_us()) for _ in range(RUNS)) / 1000
    sender = statistics.median(sender_cpu_ms() for _ in range(RUNS))
    rows.append(simulation_row(simulations()))
    lines = [
        page.circumstances(cpu_model(), f"Python {platform.python_version()}") + busy,
        "",
        *page.table(["", *(f"receiver {kind}" for kind in KINDS)], rows),
        "",
        f"The sender takes {sender:.1f} ms of CPU time for each event. A write to the disk takes {synced:.1f} ms.",
    ]
    page.rewrite("make bench-reporting", lines, REPORTING_PAGE)


if __name__ == "__main__":
    main()
