"""Metrics of the monitor itself, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from stemphony.monitor.database import outbox, simulations
from stemphony.monitor.web.services import Services

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Media type of the text format of Prometheus."""


def exposition(services: Services) -> str:
    """Return all metrics of the monitor whose parts are `services`, as text in the format of Prometheus."""
    counts = services.writer.counts
    with services.database.reader.begin() as connection:
        states = simulations.counts(connection, services.clock(), services.stale_after_s)
        undelivered = outbox.waiting(connection)
    refusals = sorted(services.refusals.items())
    lines: list[str] = []
    for name, kind, what, values in (
        ("events_stored_total", "counter", "Events stored since the start.", [("", counts.stored)]),
        ("events_duplicate_total", "counter", "Events that the database already had.", [("", counts.duplicates)]),
        (
            "requests_refused_total", "counter", "Requests answered with an error, by status.",
            [(f'{{status="{status}"}}', number) for status, number in refusals],
        ),
        ("events_conflicting_total", "counter", "Events kept and not counted.", [("", counts.conflicts)]),
        ("commits_total", "counter", "Transactions.", [("", counts.commits)]),
        ("commit_seconds_total", "counter", "Time spent in transactions.", [("", round(counts.commit_s, 6))]),
        ("commit_failures_total", "counter", "Transactions that the database refused.", [("", counts.failures)]),
        ("last_commit_timestamp_seconds", "gauge", "Time of the last commit.", [("", round(counts.last_commit, 3))]),
        ("requests_waiting", "gauge", "Requests that wait for the next transaction.", [("", services.writer.waiting)]),
        ("up", "gauge", "Whether the database takes events.", [("", int(services.writer.is_well))]),
        ("notifications_waiting", "gauge", "Notifications that wait for delivery.", [("", undelivered)]),
        (
            "simulations", "gauge", "Simulations by state.",
            [(f'{{state="{state.value}"}}', number) for state, number in states.items()],
        ),
    ):  # fmt: skip
        lines += _metric(name, kind, what, values)
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, what: str, values: Iterable[tuple[str, float]]) -> list[str]:
    whole = f"stemphony_monitor_{name}"
    return [
        f"# HELP {whole} {what}",
        f"# TYPE {whole} {kind}",
        *(f"{whole}{labels} {value}" for labels, value in values),
    ]
