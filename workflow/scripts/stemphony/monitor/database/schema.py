"""The schema of the database. `migrations` creates it. Times are seconds since 1970 by the receiver's clock."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)

METADATA: Final = MetaData()
"""All tables of the database."""

NO_SIMULATION: Final = 0
"""Value of `event.simulation` for the event of `stemphony report test`. The event is stored, but no page shows it."""

# SQLite uses the column as its own row number only if the type is INTEGER.
_ROW_NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")

SIMULATION: Final = Table(
    "simulation",
    METADATA,
    Column("row", _ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("uid", Text, nullable=False, unique=True),
    # The next columns hold values of the latest event of the latest run.
    Column("title", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("git_commit", Text, nullable=False),
    Column("num_threads", Integer, nullable=False),
    Column("num_processors", Integer, nullable=False),
    Column("num_defoci", Integer, nullable=False),
    Column("num_configurations", Integer, nullable=False),
    # The latest run and its end. `ended` is empty while the run has no end.
    Column("run", Integer, nullable=False),
    Column("run_started", Double, nullable=False),
    # 1: START_SIMULATION gave `run_started`. 0: the earliest event that has arrived gave it.
    Column("start_told", Integer, nullable=False),
    # Number of jobs of the run. 0 if no event gives the number.
    Column("num_jobs", Integer, nullable=False),
    # Time of the latest event by the sender's clock.
    Column("latest_time", Double, nullable=False),
    Column("ended", Text, nullable=False),
    Column("ended_at", Double),
    Column("end_message", Text, nullable=False),
    Column("num_failed", Integer, nullable=False),
    Column("num_never_ran", Integer, nullable=False),
    # Arrival times of events. A run is stale if the last arrival is too long ago.
    Column("first_received", Double, nullable=False),
    Column("last_received", Double, nullable=False),
    # Sum and number of the pauses between events of the run.
    Column("pauses_s", Double, nullable=False),
    Column("pauses", Integer, nullable=False),
    # Sums over the pairs, updated with each event. `work` counts configurations, with parts.
    Column("finished", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("running", Integer, nullable=False),
    Column("work", Double, nullable=False),
    Column("run_work", Double, nullable=False),
    # Part of `run_work` that attempts took from their checkpoints.
    Column("run_resumed", Double, nullable=False),
    Column("run_finished", Integer, nullable=False),
    # JSON: points (time, work) of the run.
    Column("samples", Text, nullable=False),
    Column("events", Integer, nullable=False),
    # Row of the latest event.
    Column("revision", BigInteger, nullable=False),
    # Name of the credential that sent START_SIMULATION. Empty: not known yet, or a monitor without credentials.
    Column("owner", Text, nullable=False, server_default=""),
    # JSON: names of further credentials that may send events of this simulation.
    Column("shared", Text, nullable=False, server_default="[]"),
    # Number of events that are kept but not counted.
    Column("held", Integer, nullable=False, server_default="0"),
)
"""The summary of each simulation, as `records.SimulationSummary`."""

DEFOCUS: Final = Table(
    "defocus",
    METADATA,
    Column("simulation", BigInteger, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("defocus", Double),
    Column("defocus_index", Integer),
    Column("run", Integer, nullable=False),
)
"""Each defocus of a simulation that an event has named or planned."""

PAIR: Final = Table(
    "pair",
    METADATA,
    Column("simulation", BigInteger, primary_key=True),
    Column("defocus_key", Text, primary_key=True),
    Column("configuration", Integer, primary_key=True),
    Column("state", Text, nullable=False),
    Column("progress", Double, nullable=False),
    # Part of the attempt that came from a checkpoint. −1 before its first PROGRESS.
    Column("resumed", Double, nullable=False),
    Column("run", Integer, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("job", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("started", Double, nullable=False),
    Column("updated", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("pair_changes", "simulation", "revision"),
)
"""The summary of each pair that an event has named, as `records.PairSummary`."""

PARAMETER: Final = Table(
    "parameter",
    METADATA,
    Column("simulation", BigInteger, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Index("parameter_names", "name"),
)
"""The custom parameters of each simulation."""

PREVIEW: Final = Table(
    "preview",
    METADATA,
    Column("simulation", BigInteger, primary_key=True),
    Column("defocus_key", Text, primary_key=True),
    Column("configuration", Integer, primary_key=True),
    Column("detector", Text, primary_key=True),
    Column("low", Double, nullable=False),
    Column("high", Double, nullable=False),
    Column("pixels", LargeBinary, nullable=False),
)
"""The latest image of each pair and detector."""

# The sum of the images of a defocus and detector. All of them have one size.
PREVIEW_SUM: Final = Table(
    "preview_sum",
    METADATA,
    Column("simulation", BigInteger, primary_key=True),
    Column("defocus_key", Text, primary_key=True),
    Column("detector", Text, primary_key=True),
    Column("width", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("sums", LargeBinary, nullable=False),
    # Size of the image [nm], or NULL if it is not known. Then the axes along which the image repeats: a part of "xy".
    Column("width_nm", Double),
    Column("height_nm", Double),
    Column("repeats", Text, nullable=False, server_default=""),
)

EVENT: Final = Table(
    "event",
    METADATA,
    Column("row", _ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("simulation", BigInteger, nullable=False),
    Column("key", LargeBinary, nullable=False, unique=True),
    Column("event_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("time", Double, nullable=False),
    Column("received", Double, nullable=False),
    Column("run", Integer, nullable=False),
    Column("job", Text, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("seq", BigInteger),
    Column("defocus_key", Text, nullable=False),
    Column("configuration", Integer),
    # 0 for a progress report or an image, which short lists leave out. 1 for other events.
    Column("notable", SmallInteger, nullable=False),
    Column("body", Text, nullable=False),
    # Name of the credential that sent the event. Empty on a monitor without credentials.
    Column("sender", Text, nullable=False, server_default=""),
    # Hash of the event as the sender's program wrote it.
    Column("content", LargeBinary, nullable=False),
    # Why the event is kept but not counted: a value of `Held`. Empty if the event is counted.
    Column("held", Text, nullable=False, server_default=""),
    Index("event_order", "simulation", "row"),
    Index("event_held", "simulation", "row", sqlite_where=text("held <> ''"), postgresql_where=text("held <> ''")),
    Index("event_notable", "simulation", "row", sqlite_where=text("notable = 1"), postgresql_where=text("notable = 1")),
)
"""Each event as it arrived, without its image, and what decides whether it counts."""

CREDENTIAL: Final = Table(
    "credential",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("created", Double, nullable=False),
)
"""The credentials of senders and readers. Secrets themselves are not stored."""

# Events that a sender sends under one id are stored under another id. `stemphony monitor simulation move` writes this.
MOVED: Final = Table(
    "moved",
    METADATA,
    Column("uid", Text, primary_key=True),
    Column("sender", Text, primary_key=True),
    Column("target", Text, nullable=False),
)

# The changes of `stemphony monitor simulation`. If this table has a new row, a running monitor reads everything again.
AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("row", _ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("time", Double, nullable=False),
    Column("operator", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("uid", Text, nullable=False),
    Column("details", Text, nullable=False),
)

# Simulations that `--keep-days` will delete. `marked` is the time of the mark by the clock of the machine. `uptime` is
# the total running time of monitors at that moment.
OLD: Final = Table(
    "old",
    METADATA,
    Column("simulation", BigInteger, primary_key=True),
    Column("events", Integer, nullable=False),
    Column("marked", Double, nullable=False),
    Column("uptime", Double, nullable=False),
)

# Total time that monitors of this database have run [s], by a clock that is never set. The table has one row.
UPTIME: Final = Table(
    "uptime",
    METADATA,
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("seconds", Double, nullable=False),
)

NOTIFICATION: Final = Table(
    "notification",
    METADATA,
    Column("simulation", BigInteger, primary_key=True),
    # Row of the event that caused the notification: the end of a run, or the last event before a silence.
    Column("event", BigInteger, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("run", Integer, nullable=False),
    Column("created", Double, nullable=False),
    # Time of the next try. NULL if the notification was delivered or given up.
    Column("due", Double),
    Column("tries", Integer, nullable=False),
    Column("sent", Double),
    Column("trouble", Text, nullable=False),
    # JSON: the state of the simulation when the notification was created.
    Column("notice", Text, nullable=False),
    Index("notification_due", "due", sqlite_where=text("due IS NOT NULL"), postgresql_where=text("due IS NOT NULL")),
)
"""Each notification to a target: one that waits, is delivered, or is given up."""
