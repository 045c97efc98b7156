"""Turn the bytes of a request into checked events.

Unknown event names are accepted, and unknown keys are custom parameters. A known key must have its type: an event with
`progress: "much"` is refused with a message for the author of the sender. A time that cannot be read is replaced by the
time of arrival.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from stemphony.monitor.intake import limits
from stemphony.monitor.intake.preview import KEPT_APART, read_preview
from stemphony.monitor.records import HIDDEN, IncomingEvent, event_key
from stemphony.paths import defocus_id
from stemphony.status.events import (
    EVENT_NAMES,
    PLANNED_DEFOCI,
    PREVIEW_KEYS,
    PROGRESS_EVENTS,
    RESERVED_KEYS,
    Event,
    clean_text,
    names_a_secret,
)

_NUMBERS: Final = (
    "num_threads", "num_processors", "num_defoci", "num_configurations", "num_jobs", "num_failed", "num_never_ran",
)  # fmt: skip
"""Keys of an event whose values are counts, at most `MAX_COUNT`."""
_OWN_CONTENT: Final = RESERVED_KEYS - {"event", "event_id", *PREVIEW_KEYS}
"""Keys whose values distinguish two events with the same id. Custom parameters and images do not."""
_MS_PER_S: Final = 1000
"""Milliseconds per second. An event without `seq` has its time [ms] as its position."""
_FIRST_PLAUSIBLE_TIME: Final = 946_684_800.0
"""The year 2000, in seconds since 1970. A clock that was never set gives an earlier time."""


class Refused(Exception):
    """A request that is not valid.

    `status` is the HTTP status of the answer, and `what` a message for the author of the client.
    """

    def __init__(self, status: int, what: str) -> None:
        super().__init__(what)
        self.status = status


def read_event(body: bytes, received: float, sender: str = "") -> IncomingEvent:
    """Return the event in the body of a request, a JSON object.

    Parameters
    ----------
    body : bytes
        UTF-8.
    received : float
        Time of arrival, seconds since 1970.
    sender : str
        Name of the credential of the request. Empty if the monitor has no credentials.

    Returns
    -------
    IncomingEvent
        The checked event.

    Raises
    ------
    Refused
        With status 413 or 400 and a message.
    """
    _refuse_large(len(body), "the event")
    return _event(_json(body), received, "the body", sender)


def read_batch(body: bytes, received: float, sender: str = "") -> list[IncomingEvent]:
    """Return the events in the `body` of a request, a JSON array.

    `received` and `sender` are as for `read_event`.

    Raises
    ------
    Refused
        With status 413 or 400 and a message that names the index of the event. One bad event refuses the whole batch.
    """
    content = _json(body)
    if not isinstance(content, list):
        raise Refused(400, f"the body is {_kind(content)}. Allowed: an array of events. One event goes to /events.")
    if len(content) > limits.MAX_BATCH_EVENTS:
        raise Refused(413, f"the batch has {len(content)} events. Allowed: at most {limits.MAX_BATCH_EVENTS}.")
    names = [f"event {index} of the batch" for index in range(len(content))]
    if len(body) > limits.MAX_EVENT_BYTES:
        for entry, where in zip(content, names, strict=True):
            _refuse_large(_utf8_bytes(entry), where)
    return [_event(entry, received, where, sender) for entry, where in zip(content, names, strict=True)]


def read_stored(body: str, received: float, event_id: str, sender: str) -> IncomingEvent:
    """Make the event that arrived at `received` [s since 1970] from its stored `body`. Its image is left out.

    `event_id` is its id, which the body may lack, and `sender` the name of the credential that sent it.

    Raises
    ------
    Refused
        An earlier version stored the event, and this version refuses it.
    """
    event = _event(json.loads(body), received, "the event", sender)
    return dataclasses.replace(event, event_id=event_id, key=event_key(event.simulation, event_id))


def _refuse_large(size: int, where: str) -> None:
    if size > limits.MAX_EVENT_BYTES:
        raise Refused(413, f"{where} is {size} bytes. Allowed: at most {limits.MAX_EVENT_BYTES}.")


# --- JSON -----------------------------------------------------------------------------------------------------------


def _json(body: bytes) -> Any:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused(400, "the body is not UTF-8.") from None
    try:
        content = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_object)
    except RecursionError:
        raise Refused(400, f"the body is nested deeper than {limits.MAX_DEPTH} levels.") from None
    except json.JSONDecodeError as error:
        raise Refused(400, f"the body is not JSON (line {error.lineno}, column {error.colno}).") from None
    except ValueError:
        # Python refuses a whole number of too many digits.
        raise Refused(400, "the body has a number of too many digits.") from None
    return content


def _no_constant(name: str) -> NoReturn:
    raise Refused(400, f"the body contains {name}, which is not JSON.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise Refused(400, "the body has a key twice in one object.")
    return content


def _check_shape(value: Any, where: str, depth: int = 1) -> None:
    if depth > limits.MAX_DEPTH:
        raise Refused(400, f"{where} is nested deeper than {limits.MAX_DEPTH} levels.")
    if isinstance(value, float) and not math.isfinite(value):
        raise Refused(400, f"{where} has a number that is too large.")
    if isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            if isinstance(entry, dict | list | float):
                _check_shape(entry, where, depth + 1)


# --- an event -------------------------------------------------------------------------------------------------------


def _event(content: Any, received: float, where: str, sender: str = "") -> IncomingEvent:
    if not isinstance(content, dict):
        raise Refused(400, f"{where} is {_kind(content)}. Allowed: one JSON object, an event.")
    if len(content) > limits.MAX_KEYS:
        raise Refused(400, f"{where} has {len(content)} keys. Allowed: at most {limits.MAX_KEYS}.")
    _check_shape(content, where)
    reader = _KeyReader(content, where)
    simulation = reader.name("id", required=True)
    name = reader.name("event", required=True)
    if name in PROGRESS_EVENTS:
        name = Event.PROGRESS.value
    event_id = reader.name("event_id")
    foreign = not event_id
    if foreign:
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        event_id = "sha256:" + hashlib.sha256(canonical.encode("ascii")).hexdigest()

    told = _time(content.get("time"))
    time = received if told is None else min(told, received)
    seq = reader.integer("seq", limits.MAX_INTEGER)
    defocus = reader.number("defocus", limits.MAX_DEFOCUS_NM)
    defocus_index = reader.integer("defocus_index", limits.MAX_INDEX)
    numbers = {key: value for key in _NUMBERS if (value := reader.integer(key, limits.MAX_COUNT)) is not None}
    if numbers.get("num_defoci", 1) * numbers.get("num_configurations", 1) > limits.MAX_PAIRS:
        raise Refused(400, f"{where}: num_defoci × num_configurations is more than {limits.MAX_PAIRS}.")
    # `progress` is checked in any event, because pages show the stored body.
    told_progress = reader.number("progress", 1.0, least=0.0)
    progress = told_progress if name == Event.PROGRESS else None
    if name == Event.PROGRESS and progress is None:
        raise Refused(400, f"{where}: `progress` is missing. Allowed: a number from 0 to 1.")
    configuration = reader.integer("configuration_index", limits.MAX_INDEX)
    _refuse_beyond(where, "defocus_index", defocus_index, "num_defoci", numbers)
    _refuse_beyond(where, "configuration_index", configuration, "num_configurations", numbers)
    preview = read_preview(content) if name == Event.PREVIEW and not foreign else None
    return IncomingEvent(
        simulation=simulation,
        event_id=event_id,
        key=event_key(simulation, event_id),
        name=name,
        time=time,
        received=received,
        run=reader.integer("run", limits.MAX_INDEX) or 0,
        attempt=reader.integer("attempt", limits.MAX_INTEGER) or 0,
        position=round(time * _MS_PER_S) if seq is None else seq,
        seq=seq,
        job=reader.text("job", limits.MAX_NAME_CHARACTERS),
        defocus_key=_defocus_key(defocus, defocus_index),
        defocus=defocus,
        defocus_index=defocus_index,
        configuration=configuration,
        progress=progress,
        message=reader.text("message", limits.MAX_TEXT_CHARACTERS),
        foreign=foreign,
        body=_stored({**content, "preview": KEPT_APART}) if preview else _stored(content),
        numbers=numbers,
        texts={key: reader.text(key, limits.MAX_TEXT_CHARACTERS) for key in ("title", "version", "git_commit")}
        if name == Event.START_SIMULATION
        else {},
        failed=_pairs(content.get("failed"), where) if name == Event.FAILED else [],
        parameters=_parameters(content),
        preview=preview,
        planned=[] if foreign or name != Event.START_SIMULATION else _planned(content.get("planned_defoci_nm")),
        content=_content(content, name),
        sender=sender,
    )


def _refuse_beyond(where: str, key: str, index: int | None, total: str, numbers: Mapping[str, int]) -> None:
    if index is not None and index >= numbers.get(total, index + 1):
        raise Refused(400, f"{where}: `{key}` is {index}, and `{total}` is {numbers[total]}. Indices begin at 0.")


def _utf8_bytes(content: Any) -> int:
    return len(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))


def _content(content: Mapping[str, Any], name: str) -> bytes:
    """Return 16 bytes that are equal if a program wrote the same event.

    Custom parameters do not change these bytes, because a sender reads the parameters again each time that it sends.
    """
    own = {key: value for key, value in content.items() if key in _OWN_CONTENT}
    canonical = json.dumps({**own, "event": name}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).digest()[:16]


class _KeyReader:
    """Read known keys of one event. A wrong type raises `Refused` with the name of the key."""

    def __init__(self, content: Mapping[str, Any], where: str) -> None:
        self._content = content
        self._where = where

    def _refuse(self, key: str, value: Any, allowed: str) -> NoReturn:
        raise Refused(400, f"{self._where}: `{key}` is {_kind(value)}. Allowed: {allowed}.")

    def name(self, key: str, required: bool = False) -> str:
        """Return a short text. An identifier may also be a whole number."""
        value = self._content.get(key)
        if value is None and not required:
            return ""
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= limits.MAX_INTEGER:
            value = str(value)
        allowed = f"text of 1 to {limits.MAX_NAME_CHARACTERS} characters"
        if not isinstance(value, str) or not value or len(value) > limits.MAX_NAME_CHARACTERS:
            self._refuse(key, value, allowed)
        return clean_text(value)

    def text(self, key: str, most: int) -> str:
        value = self._content.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            self._refuse(key, value, "text")
        return clean_text(value[:most])

    def integer(self, key: str, most: int) -> int | None:
        value = self._content.get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            self._refuse(key, value, f"a whole number from 0 to {most}")
        return value

    def number(self, key: str, most: float, least: float | None = None) -> float | None:
        value = self._content.get(key)
        least = -most if least is None else least
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            self._refuse(key, value, f"a number from {least:g} to {most:g}")
        return float(value)


def _kind(value: Any) -> str:
    if value is None:
        return "missing"
    kinds = {bool: "a truth value", str: "text", list: "an array", dict: "an object"}
    if type(value) in kinds:
        return kinds[type(value)] if value != "" else "empty text"
    return "a number out of range or not whole"


def _time(value: Any) -> float | None:
    """Return seconds since 1970 from ISO 8601 (UTC if it has no offset) or from a number of seconds, else None."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _plausible(float(value)) if abs(value) < limits.MAX_INTEGER else None
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return _plausible((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None


def _plausible(seconds: float) -> float | None:
    return seconds if seconds > _FIRST_PLAUSIBLE_TIME else None


def _defocus_key(defocus: float | None, index: int | None) -> str:
    """Name a defocus by its value. Its index may change in the next run, when the config has one more defocus."""
    if defocus is not None:
        return defocus_id(defocus)
    return "" if index is None else f"index-{index}"


def _parameters(content: Mapping[str, Any]) -> dict[str, str]:
    return {
        clean_text(key)[: limits.MAX_NAME_CHARACTERS]: _shown(key, value)
        for key, value in content.items()
        if key not in RESERVED_KEYS
    }


def _planned(value: Any) -> list[float]:
    """Return the defoci of a run [nm]. Wrong text gives an empty list and no error, because only a page needs them."""
    if not isinstance(value, str):
        return []
    try:
        found = [float(part) for part in value.split(",", PLANNED_DEFOCI)[:PLANNED_DEFOCI]]
    except ValueError:
        return []
    return found if all(abs(defocus) <= limits.MAX_DEFOCUS_NM for defocus in found) else []


def _pairs(value: Any, where: str) -> list[tuple[int, int]]:
    if value is None:
        return []
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise Refused(400, f"{where}: `failed` is {_kind(value)}. Allowed: an array of pairs of indices.")
    pairs = []
    for pair in value:
        entries = pair if isinstance(pair, list) else []
        if len(entries) != 2 or not all(type(n) is int and 0 <= n <= limits.MAX_INDEX for n in entries):
            allowed = f"pairs of indices from 0 to {limits.MAX_INDEX}"
            raise Refused(400, f"{where}: `failed` has an entry that is not a pair of indices. Allowed: {allowed}.")
        pairs.append((pair[0], pair[1]))
    return pairs


def _shown(name: str, value: Any) -> str:
    if names_a_secret(name):
        return HIDDEN
    text = value if isinstance(value, str) else json.dumps(_without_secrets(value))
    return clean_text(text[: limits.MAX_TEXT_CHARACTERS])


def _stored(content: Mapping[str, Any]) -> str:
    """Return the event as JSON in ASCII.

    Zero characters and halves of character pairs stay escaped, for the database.
    """
    own = {key: value for key, value in content.items() if key in RESERVED_KEYS}
    others = {key: value for key, value in content.items() if key not in RESERVED_KEYS}
    return json.dumps({**own, **_without_secrets(others)}, ensure_ascii=True, separators=(",", ":"))


def _without_secrets(value: Any) -> Any:
    """Return a value in which each entry whose name marks a secret is hidden, at any depth."""
    if isinstance(value, dict):
        return {key: HIDDEN if names_a_secret(key) else _without_secrets(entry) for key, entry in value.items()}
    return [_without_secrets(entry) for entry in value] if isinstance(value, list) else value


def is_known(name: str) -> bool:
    """Return whether an event of this `name` changes the state of a simulation. Other events are only stored."""
    return name in EVENT_NAMES
