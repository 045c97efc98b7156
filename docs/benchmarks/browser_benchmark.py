"""Measure how smoothly a browser shows the monitor's pages while events arrive.

    .venv/bin/python docs/benchmarks/browser_benchmark.py [--runs 3] [--seconds 20]

The script rewrites its table in docs/monitor.md. It needs Chromium. Chromium draws without a graphics card, so it uses
the same cores as the monitor and the sender of events.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import shutil
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import page as tables
from monitor_benchmark import (
    CONFIGURATIONS,
    DEFOCI,
    MONITOR_PAGE,
    PORT,
    Monitor,
    circumstances,
    get,
    job_events,
    post,
)
from playwright.sync_api import Page, sync_playwright

SIMULATIONS = 200
EVENTS_PER_S = 100
POSTS_PER_S = 4
KEY_EVERY_S = 0.25
WARM_UP_S = 5.0

RECORDER = """() => {
  window.gaps = []; window.tasks = []; window.keys = [];
  let last = performance.now();
  const frame = (now) => { window.gaps.push(now - last); last = now; requestAnimationFrame(frame); };
  requestAnimationFrame(frame);
  new PerformanceObserver((list) => { for (const entry of list.getEntries()) window.tasks.push(entry.duration); })
    .observe({entryTypes: ["longtask"]});
  document.addEventListener("keydown", () => {
    const begin = performance.now();
    requestAnimationFrame(() => setTimeout(() => window.keys.push(performance.now() - begin)));
  }, true);
}"""


def fill(grid: str, others: list[str]) -> None:
    """Send events of a simulation whose grid is half finished, and of other simulations that have begun."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    jobs = [(grid, d, c) for c in range(CONFIGURATIONS // 2) for d in range(DEFOCI)] + [(uid, 0, 0) for uid in others]
    events = itertools.chain.from_iterable(job_events(uid, d, c, 2) for uid, d, c in jobs)
    while batch := list(itertools.islice(events, 1000)):
        post(connection, "/events/batch", json.dumps(batch).encode())


def news(grid: str, others: list[str]) -> Iterator[dict[str, Any]]:
    """An endless series of events. An event of the grid and an event of one of the other simulations alternate."""
    big = (event for n in itertools.count() for event in job_events(grid, n % DEFOCI, 100 + n // DEFOCI % 100, 4))
    small = (event for n in itertools.count(1) for uid in others for event in job_events(uid, n % 50, n // 50, 4))
    while True:
        yield next(big)
        yield next(small)


def keep_sending(events: Iterator[dict[str, Any]], stop: threading.Event) -> None:
    """Send events at a steady pace."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    while not stop.wait(1 / POSTS_PER_S):
        batch = list(itertools.islice(events, EVENTS_PER_S // POSTS_PER_S))
        post(connection, "/events/batch", json.dumps(batch).encode())


def watch(page: Page, key: str, seconds: float) -> dict[str, float]:
    """Measure frames, long tasks and the response to a key for `seconds` seconds."""
    time.sleep(WARM_UP_S)
    page.evaluate(RECORDER)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        page.keyboard.press(key)
        page.wait_for_timeout(1000 * KEY_EVERY_S)
    gaps, tasks, keys = (sorted(page.evaluate(f"window.{name}")) for name in ("gaps", "tasks", "keys"))
    return {
        "frames/s": 1000 * len(gaps) / sum(gaps),
        "99th percentile of a frame [ms]": gaps[int(0.99 * len(gaps))],
        "longest task [ms]": tasks[-1] if tasks else 0.0,
        "tasks above 50 ms, share of the time [%]": 100 * sum(tasks) / sum(gaps),
        "key to frame, median [ms]": statistics.median(keys),
        "key to frame, 99th percentile [ms]": keys[int(0.99 * len(keys))],
    }


def main() -> None:
    """Measure and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("there is no program chromium here")
    busy = tables.busy_mark()
    columns: dict[str, list[dict[str, float]]] = {}
    grid, others = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in range(SIMULATIONS - 1)]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, Monitor(str(Path(folder) / "monitor.sqlite")):
        fill(grid, others)
        listed = json.loads(get(http.client.HTTPConnection("127.0.0.1", PORT), "/api/simulations?text=" + grid))
        row = listed["simulations"][0]["row"]
        stop = threading.Event()
        sender = threading.Thread(target=keep_sending, args=(news(grid, others), stop))
        sender.start()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            for name, path, key in (
                (f"list of {SIMULATIONS} simulations", "", "Tab"),
                (f"grid of {DEFOCI} × {CONFIGURATIONS}", f"simulations/{row}", "ArrowRight"),
            ):
                found = []
                for _ in range(given.runs):
                    page = browser.new_page(viewport={"width": 1400, "height": 900})
                    page.goto(f"http://127.0.0.1:{PORT}/{path}")
                    if key == "ArrowRight":
                        page.locator('[role="gridcell"]').nth(DEFOCI // 2 * CONFIGURATIONS).click()
                    found.append(watch(page, key, given.seconds))
                    page.close()
                columns[name] = found
            browser.close()
        stop.set()
        sender.join()
    quantities = next(iter(columns.values()))[0]
    rows = [
        [quantity, *(f"{statistics.median(run[quantity] for run in runs):.1f}" for runs in columns.values())]
        for quantity in quantities
    ]
    lines = [circumstances() + busy, "", *tables.table(["", *columns], rows)]
    tables.rewrite("python docs/benchmarks/browser_benchmark.py", lines, MONITOR_PAGE)


if __name__ == "__main__":
    main()
