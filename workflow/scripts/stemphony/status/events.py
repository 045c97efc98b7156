"""The events of a simulation: names, reserved keys, ids, times, and error messages without secrets."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import unicodedata
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

SCHEMA: Final = 1
"""Version of the wire format, sent as `schema`."""


class Event(StrEnum):
    """All event names. The first four and FINISH also exist in STEMsalabim."""

    START_SIMULATION = "START_SIMULATION"
    START_DEFOCUS = "START_DEFOCUS"
    START_FP_CONFIGURATION = "START_FP_CONFIGURATION"
    PROGRESS = "PROGRESS"
    FINISH = "FINISH"
    FINISH_FP_CONFIGURATION = "FINISH_FP_CONFIGURATION"
    ERROR = "ERROR"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    PREVIEW = "PREVIEW"
    TEST = "TEST"


START_CONFIGURATION: Final = "START_CONFIGURATION"
"""Name of a progress report in the documentation of STEMsalabim."""

PROGRESS_EVENTS: Final = (Event.PROGRESS.value, START_CONFIGURATION)
"""The two names that a progress report may have in a request (`http_reporting.progress_event`)."""

EVENT_NAMES: Final = frozenset(member.value for member in Event) | {START_CONFIGURATION}
"""Every name that an event may have."""

DURABLE_EVENTS: Final = frozenset(member.value for member in Event if member not in (Event.PROGRESS, Event.PREVIEW))
"""Events whose spool line is synced to the disk. A job has only a few of them, because each sync takes some
milliseconds. The sync of FINISH_FP_CONFIGURATION also covers the images before it."""

COMMON_KEYS: Final = (
    "time",
    "id",
    "num_threads",
    "num_processors",
    "num_defoci",
    "num_configurations",
    "event",
)
"""Keys of every request that STEMsalabim also has, in the order of STEMsalabim."""

OWN_KEYS: Final = ("schema", "event_id", "run", "job", "attempt", "seq")
"""Further keys of every request. Events of hooks have no job and no attempt."""

PREVIEW_KEYS: Final = (
    "preview", "preview_detector", "preview_width", "preview_low", "preview_high",
    "preview_width_nm", "preview_height_nm", "preview_repeats",
)  # fmt: skip
"""Keys of PREVIEW, see `orchestration/preview_image.py`. Only an image of a window has the last three."""

PREVIEW_IMAGES: Final = 12
"""Most images that a job sends. Segmented detectors can have many segments."""

PLANNED_DEFOCI: Final = 1000
"""Most defoci that START_SIMULATION lists, so that the event stays short."""

PREVIEW_SIDE: Final = 64
"""Largest number of rows and of columns of an image of PREVIEW [pixels]."""

RESERVED_KEYS: Final = (
    frozenset(COMMON_KEYS)
    | frozenset(OWN_KEYS)
    | frozenset(PREVIEW_KEYS)
    | {
        "version",
        "git_commit",
        "title",
        "result_name",
        "num_jobs",
        "planned_defoci_nm",
        "defocus",
        "defocus_index",
        "configuration_index",
        "progress",
        "message",
        "will_retry",
        "failed",
        "num_failed",
        "num_never_ran",
    }
)
"""Every key that an event may have. `http_reporting.parameters` must not have any of these keys."""

DESCRIPTION_KEYS: Final = ("specimen_formula", "beam_energy_kev", "thickness_nm", "detectors")
"""Further keys of START_SIMULATION, which say what is simulated. A custom parameter of the same name takes the place of
such a key, so they are not among `RESERVED_KEYS`."""

_TOLD_APART_BY: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("START_SIMULATION", "FINISH", "FAILED", "CANCELLED"), ()),
    "START_DEFOCUS": ("defocus_index",),
    **dict.fromkeys(("START_FP_CONFIGURATION", "FINISH_FP_CONFIGURATION", "ERROR"), ("job", "attempt")),
    "PROGRESS": ("job", "attempt", "progress"),
    "PREVIEW": ("job", "attempt", "preview_detector"),
}
"""The keys that distinguish events of one name in a run. Events of other names get a random id."""

MESSAGE_BYTES: Final = 2048
"""Longest error message in an event [bytes of UTF-8], so that the event stays short. A longer message is cut."""
FAILED_PAIRS: Final = 1000
"""Most pairs that FAILED lists, so that the event stays short. `num_failed` counts all pairs."""

_NAMESPACE: Final = uuid.UUID("6b1e4f0e-6f0e-5d0c-9c53-1b7a3c0e7f11").bytes
"""Namespace of the ids, which are UUIDs of version 5. With another value, receivers would not recognise earlier
events."""
_MESSAGE_INPUT_CHARACTERS: Final = 20_000
"""Most characters of an error in which secrets and paths are searched, because the search takes time. Only
`MESSAGE_BYTES` of the result are kept."""

_SECRET_NAME: Final = re.compile(r"token|password|passwd|passphrase|secret|key|credential|authorization", re.IGNORECASE)
"""Texts that mark a secret wherever they are in a name."""
# Only whole words count here, because bandpass and author are not secrets.
_SECRET_WORDS: Final = frozenset(("pass", "pwd", "pw", "auth", "oauth", "bearer", "cookie", "cookies"))
_BETWEEN_WORDS: Final = re.compile(r"[\W\d_]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Ends of words in a name, see `names_a_secret`."""
_ASSIGNED_SECRET: Final = re.compile(
    r"\b([\w-]{0,40}(?:token|password|passwd|passphrase|auth_pass|secret|api[-_]?key|authorization)[\w-]{0,40})"
    r"[\"']?\s{0,3}[=:]\s{0,3}(?:(?:basic|bearer|digest)\s{1,3})?(?:\"[^\"]*\"|'[^']*'|\S+)",
    re.IGNORECASE,
)
"""The name of a secret, `=` or `:`, and a value."""
_AUTHORIZATION: Final = re.compile(r"\b[Bb](?:asic|earer)\s+(?=\S*[0-9A-Z=])[A-Za-z0-9+/=._~-]{8,}")
"""Credentials in the form of the header Authorization. A capital, a digit or `=` distinguishes them from plain
words."""
_QUOTED_PATH: Final = re.compile(r"""(['"])(~?/[^'"]*|[A-Za-z]:\\[^'"]*)\1""")
"""An absolute path in quotes. It may contain spaces."""
_WORD: Final = re.compile(r"\S+")
_PATH_WORD: Final = re.compile(r"""[^\s'"`()\[\]{}<>,;=:|&]+""")
_RATIO: Final = re.compile(r"\w{1,3}/\w{1,3}")
"""Words, words that may be paths, and words with a slash that are units or ratios, such as `m/s`."""


def timestamp(moment: datetime | None = None) -> str:
    """Return `moment` as ISO 8601 in UTC with offset and milliseconds. The default is now.

    A time without a time zone counts as local time.
    """
    moment = moment or datetime.now(UTC)
    return (moment if moment.tzinfo is UTC else moment.astimezone(UTC)).isoformat(timespec="milliseconds")


def event_id(simulation_id: str, run: int, event: str, *discriminators: object) -> str:
    """Return the id of an event. A receiver recognises a repeated event by it.

    Parameters
    ----------
    simulation_id : str
        UUID of the simulation.
    run : int
        Number of the Snakemake invocation.
    event : str
        Name of the event. The two names of a progress report give the same id.
    *discriminators
        What distinguishes events of one name in a run: nothing for START_SIMULATION, FINISH, FAILED and
        CANCELLED; the defocus for START_DEFOCUS; (job, attempt) for START_FP_CONFIGURATION,
        FINISH_FP_CONFIGURATION and ERROR; (job, attempt, percent) for PROGRESS; (job, attempt, detector) for PREVIEW.

    Returns
    -------
    str
        A UUID of version 5.
    """
    name = Event.PROGRESS.value if event in PROGRESS_EVENTS else str(event)
    parts = [str(simulation_id).lower(), str(run), name, *map(str, discriminators)]
    text = '", "'.join(parts)
    if text.isascii() and text.isprintable() and "\\" not in text and text.count('"') == 2 * len(parts) - 2:
        text = f'["{text}"]'
    else:
        text = json.dumps(parts)
    # The same as uuid.uuid5, but faster. uuid.uuid5 would be the slowest step of reporting an event.
    digest = bytearray(hashlib.sha1(_NAMESPACE + text.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def event_id_of(event: Mapping[str, Any], instance: str = "") -> str:
    """Return the id of a complete event from its own keys, or a random id if these are not unique.

    Parameters
    ----------
    event : mapping
    instance : str
        Text that distinguishes two folders with one simulation id. The id of START_SIMULATION does not depend on this
        text, because a receiver finds the start of a run by its id.

    Returns
    -------
    str
        A UUID.
    """
    name = Event.PROGRESS.value if event["event"] in PROGRESS_EVENTS else event["event"]
    try:
        told_apart = [event[key] for key in _TOLD_APART_BY[name]]
        if name == Event.PROGRESS:
            told_apart[-1] = round(100 * told_apart[-1])
        if instance and name != Event.START_SIMULATION:
            told_apart.append(instance)
        return event_id(event["id"], event["run"], name, *told_apart)
    except KeyError:
        return str(uuid.uuid4())


def planned_defoci(values_nm: Iterable[float]) -> str:
    """Return the text of `planned_defoci_nm`: the first 1,000 of `values_nm` [nm], in the order of their indices.

    It is text, because a receiver may expect that no value is a list.
    """
    return ", ".join(f"{value:.10g}" for value in itertools.islice(values_nm, PLANNED_DEFOCI))


def failure_keys(failed: Iterable[tuple[int, int]], num_never_ran: int) -> dict[str, Any]:
    """Return the keys of FAILED: the failed pairs (at most 1,000), their number, and how many pairs never ran.

    Parameters
    ----------
    failed : iterable of (int, int)
        Defocus index and configuration index of each job that failed.
    num_never_ran : int
        Jobs of the run that did not start.

    Returns
    -------
    dict
        `failed`, `num_failed` and `num_never_ran`.
    """
    pairs = sorted({(int(defocus), int(configuration)) for defocus, configuration in failed})
    return {
        "failed": [list(pair) for pair in pairs[:FAILED_PAIRS]],
        "num_failed": len(pairs),
        "num_never_ran": int(num_never_ran),
    }


def names_a_secret(name: str) -> bool:
    """Return whether the name of a custom parameter marks its value as a secret.

    Parameters
    ----------
    name : str
        Name of the parameter. A word in it ends at a character that is not a letter, and where a capital follows a
        small letter.

    Returns
    -------
    bool
        True if token, password, passphrase, secret, key, credential or authorization is anywhere in the name, or if
        pass, pwd, pw, auth, bearer or cookie is one of its words.
    """
    if _SECRET_NAME.search(name) is not None:
        return True
    return any(word.lower() in _SECRET_WORDS for word in _BETWEEN_WORDS.split(name))


def clean_text(text: str) -> str:
    """Return `text` with spaces for control, format and surrogate characters, so that every receiver can store it."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") else letter for letter in text)


def sanitize_message(text: object) -> str:
    """Return an error message that may be sent to a receiver.

    The message has at most 2048 bytes of UTF-8 in one line, without control characters, URLs and credentials. Only the
    last part of a path stays.

    Parameters
    ----------
    text : object
        Usually ``f"{type(error).__name__}: {error}"``.

    Returns
    -------
    str
        One line of at most 2048 bytes.
    """
    message = str(text)
    if len(message) > _MESSAGE_INPUT_CHARACTERS:
        # The last word is dropped, because half a URL or half a password would not be recognised.
        message = message[:_MESSAGE_INPUT_CHARACTERS].rpartition(" ")[0]
    message = clean_text(message)
    message = _ASSIGNED_SECRET.sub(r"\1=<hidden>", message)
    message = _AUTHORIZATION.sub("<hidden>", message)
    message = _WORD.sub(lambda word: _without_url(word[0]), message)
    message = _QUOTED_PATH.sub(lambda path: f"{path[1]}{_base_name(path[2])}{path[1]}", message)
    message = _PATH_WORD.sub(lambda word: _without_folders(word[0]), message)
    return _first_bytes(" ".join(message.split()), MESSAGE_BYTES)


def _without_url(word: str) -> str:
    if "://" in word:
        return "<url>"
    return "<credentials>" if ":" in word.rpartition("@")[0] else word


def _without_folders(word: str) -> str:
    if "/" in word:
        return word if _RATIO.fullmatch(word) else _base_name(word.partition("?")[0])
    return _base_name(word) if word.startswith("\\") else word


def _base_name(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\ "))[-1]


def _first_bytes(text: str, limit: int) -> str:
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return encoded.decode("utf-8")
    return encoded[: limit - len("…".encode())].decode("utf-8", "ignore") + "…"
