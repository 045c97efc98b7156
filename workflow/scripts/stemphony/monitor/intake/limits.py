"""Largest sizes of an event and of a request. docs/monitor.md lists them."""

from __future__ import annotations

from typing import Final

MAX_BODY_BYTES: Final = 1024 * 1024
"""Largest body of a request [bytes], because bodies stay in memory. Batches of Stemphony have about a quarter of it."""
MAX_EVENT_BYTES: Final = 65_536
"""Largest event [bytes of JSON in UTF-8]. The events of Stemphony have less than half of it, also with 1,000 defoci or
failed pairs."""
MAX_BATCH_EVENTS: Final = 1000
"""Most events in one request. All of them are stored in one transaction, for which other senders wait. Stemphony sends
at most 100."""
MAX_DEPTH: Final = 8
"""Most levels of maps and lists in an event. FAILED of Stemphony has three: the event, its list of pairs, and the
pairs."""
MAX_KEYS: Final = 200
"""Most keys of an event, and most custom parameters of a simulation. Events of Stemphony have at most about 40 keys and
50 custom parameters."""
MAX_NAME_CHARACTERS: Final = 200
"""Longest id, name of an event or of a job, and name of a custom parameter [characters]. Ids of Stemphony have 36
characters."""
MAX_TEXT_CHARACTERS: Final = 4096
"""Longest message, title or other text that is kept [characters]. A longer text is cut. Messages of Stemphony have at
most 2048 bytes."""
MAX_INDEX: Final = 999_999
"""Largest index of a defocus or a configuration, and largest number of a run. Indices begin at 0, so they fit to
`MAX_COUNT`."""
MAX_COUNT: Final = 1_000_000
"""Largest number of defoci, configurations, jobs or threads that an event may announce. A plan of Stemphony has at most
as many jobs."""
MAX_PAIRS: Final = 1_000_000
"""Most defoci × configurations of one simulation."""

MAX_DEFOCI: Final = 10_000
"""Most different defoci of one simulation that have a row. Events of further defoci are stored, but have no row."""

MAX_DEFOCUS_NM: Final = 1e9
"""Largest defocus that an event may have [nm]. It is far beyond every microscope."""

MAX_INTEGER: Final = 2**53
"""Largest whole number that all JSON readers read exactly."""
