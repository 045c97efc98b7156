"""The tables as they are now; `migrations` makes them. Times are seconds since 1970, written by the receiver."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, MetaData, SmallInteger, Table, Text

METADATA: Final = MetaData()

NO_SIMULATION: Final = 0
"""What the event of `stemphony report test` belongs to: it is stored, and shown nowhere."""

SIMULATION: Final = Table(
    "simulation",
    METADATA,
    Column("row", BigInteger, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    # As the latest event of the latest run says.
    Column("title", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("git_commit", Text, nullable=False),
    Column("num_threads", Integer, nullable=False),
    Column("num_processors", Integer, nullable=False),
    Column("num_defoci", Integer, nullable=False),
    Column("num_configurations", Integer, nullable=False),
    # The latest run and its end, if it has one.
    Column("run", Integer, nullable=False),
    Column("run_started", Float, nullable=False),
    # 1: by the run's own START_SIMULATION, 0: by the earliest event that has arrived.
    Column("start_told", Integer, nullable=False),
    # Jobs that the run has to do; 0 if nothing says so.
    Column("num_jobs", Integer, nullable=False),
    Column("latest_time", Float, nullable=False),
    Column("ended", Text, nullable=False),
    Column("ended_at", Float),
    Column("end_message", Text, nullable=False),
    Column("num_failed", Integer, nullable=False),
    Column("num_never_ran", Integer, nullable=False),
    # Arrival, for what is inferred from silence.
    Column("first_received", Float, nullable=False),
    Column("last_received", Float, nullable=False),
    Column("pauses_s", Float, nullable=False),
    Column("pauses", Integer, nullable=False),
    # Sums over its pairs, kept up with each event.
    Column("finished", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("running", Integer, nullable=False),
    Column("work", Float, nullable=False),
    Column("run_work", Float, nullable=False),
    # What of it attempts began with, from their checkpoints.
    Column("run_resumed", Float, nullable=False),
    Column("run_finished", Integer, nullable=False),
    Column("samples", Text, nullable=False),
    Column("events", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

DEFOCUS: Final = Table(
    "defocus",
    METADATA,
    Column("simulation", BigInteger, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("defocus", Float),
    Column("defocus_index", Integer),
    Column("run", Integer, nullable=False),
)

PAIR: Final = Table(
    "pair",
    METADATA,
    Column("simulation", BigInteger, primary_key=True),
    Column("defocus_key", Text, primary_key=True),
    Column("configuration", Integer, primary_key=True),
    Column("state", Text, nullable=False),
    Column("progress", Float, nullable=False),
    # What it began with, from a checkpoint; -1 before its first percent.
    Column("resumed", Float, nullable=False),
    Column("run", Integer, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("job", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("started", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

PARAMETER: Final = Table(
    "parameter",
    METADATA,
    Column("simulation", BigInteger, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

PREVIEW: Final = Table(
    "preview",
    METADATA,
    Column("simulation", BigInteger, primary_key=True),
    Column("defocus_key", Text, primary_key=True),
    Column("configuration", Integer, primary_key=True),
    Column("low", Float, nullable=False),
    Column("high", Float, nullable=False),
    Column("pixels", LargeBinary, nullable=False),
)

# The sum of the images of a defocus, all of one detector and one size.
PREVIEW_SUM: Final = Table(
    "preview_sum",
    METADATA,
    Column("simulation", BigInteger, primary_key=True),
    Column("defocus_key", Text, primary_key=True),
    Column("detector", Text, nullable=False),
    Column("width", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("sums", LargeBinary, nullable=False),
)

EVENT: Final = Table(
    "event",
    METADATA,
    Column("row", BigInteger, primary_key=True),
    Column("simulation", BigInteger, nullable=False),
    Column("key", LargeBinary, nullable=False, unique=True),
    Column("event_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("time", Float, nullable=False),
    Column("received", Float, nullable=False),
    Column("run", Integer, nullable=False),
    Column("job", Text, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("seq", BigInteger),
    Column("defocus_key", Text, nullable=False),
    Column("configuration", Integer),
    # 0: one of the many that tell a percent.
    Column("notable", SmallInteger, nullable=False),
    Column("body", Text, nullable=False),
)

CREDENTIAL: Final = Table(
    "credential",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("created", Float, nullable=False),
)

NOTIFICATION: Final = Table(
    "notification",
    METADATA,
    Column("simulation", BigInteger, primary_key=True),
    # Row of the event that it is about: the end of a run, or the last one before a silence.
    Column("event", BigInteger, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("run", Integer, nullable=False),
    Column("created", Float, nullable=False),
    Column("due", Float),
    Column("tries", Integer, nullable=False),
    Column("sent", Float),
    Column("trouble", Text, nullable=False),
    # What is told, as it was when it was written down; JSON.
    Column("notice", Text, nullable=False),
)
