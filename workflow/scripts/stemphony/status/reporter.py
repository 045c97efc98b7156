"""Record events of jobs and of Snakemake's hooks without delaying the computation.

An event is written to the spool first. The sender delivers it afterwards. No method raises. Only `flush` and `close`
wait for the receiver, at most for the time that the caller gives.
"""

from __future__ import annotations

import json
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from stemphony.status.delivery import Delivery
from stemphony.status.events import (
    COMMON_KEYS,
    DURABLE_EVENTS,
    EVENT_NAMES,
    SCHEMA,
    Event,
    clean_text,
    event_id_of,
    names_a_secret,
    sanitize_message,
    timestamp,
)
from stemphony.status.limits import LIMITS, Limits
from stemphony.status.sender import Sender
from stemphony.status.settings import VIA_JOB, ReportingSettings
from stemphony.status.spool import Spool, claim, spool_file_of
from stemphony.status.transport import Answer, Verdict

ONSTART_WAIT_S: Final = 5.0
"""Longest wait of the hook that starts a run for the delivery of START_SIMULATION [s]."""

JOB_END_WAIT_S: Final = 2.0
"""Longest wait of a job for the delivery of its events before it ends [s]."""

RUN_END_WAIT_S: Final = 60.0
"""Longest wait of the hooks that end a run for the delivery of all events [s].

The wait ends after 10 s without an arrival, unless the receiver asked for a pause (`Retry-After`).
"""

_MIN_SECRET_CHARACTERS: Final = 4
"""Shortest secret that is removed from messages [characters]. A shorter one is part of many harmless words."""
_TO_JSON: Final = json.JSONEncoder(ensure_ascii=True, allow_nan=False)
"""Encoder of the events. A spool has one event per line in ASCII, and JSON has no NaN."""


class _Records:
    """Make events out of keys. This class adds the common keys, time, number, schema and id, and hides secrets.

    Parameters
    ----------
    common, clock
        See `Reporter`.
    """

    def __init__(self, common: Mapping[str, Any], clock: Callable[[], datetime]) -> None:
        plain = {key: value for key, given in common.items() if (value := _plain(given)) is not None}
        self.common: dict[str, Any] = {key: plain[key] for key in COMMON_KEYS if key in plain}
        self._instance = str(plain.pop("instance", ""))
        self._own = {key: value for key, value in plain.items() if key not in COMMON_KEYS}
        self.secrets: tuple[str, ...] = ()
        self._clock = clock

    def time(self) -> str:
        """Return the time of an event that happens now."""
        return timestamp(self._clock())

    def make(self, event: str, event_id: str | None, keys: Mapping[str, Any], number: int) -> dict[str, Any]:
        """Return the event that happens now, see `Reporter.emit`. `number` becomes its `seq` if no key gives `seq`."""
        further = {key: plain for key, value in keys.items() if (plain := _plain(value)) is not None}
        if "message" in keys:
            further["message"] = sanitize_message(_without_secrets(str(keys["message"]), self.secrets))
        seq = further.pop("seq", number)
        # The keys have the same order as in a request.
        record: dict[str, Any] = {"time": self.time(), **self.common, "event": event, **further}
        record |= {"schema": SCHEMA, "event_id": event_id, **self._own, "seq": seq}
        if event_id is None:
            record["event_id"] = event_id_of(record, self._instance)
        return record


class Reporter:
    """Record events and pass them to the sender.

    Parameters
    ----------
    settings : ReportingSettings or None
        With None or ``reporting=False``, every method returns at once, and there is no thread and no file.
    common : mapping
        Keys of every event: id, num_threads, num_processors, num_defoci, num_configurations, run; for a job also job
        and attempt. `instance` is part of the ids of events and is not sent.
    spool_file : Path or None
        The file of the events. None: events are not written.
    send : bool
        False: only write events. Jobs with ``via: submit_host`` do this.
    warn : callable
        Prints one line to the log. It is called once for each kind of trouble, without secrets, in the caller's thread.
    clock, limits
        The clock for the times of events, and the waits of the sender.
    """

    def __init__(
        self,
        settings: ReportingSettings | None,
        common: Mapping[str, Any],
        spool_file: Path | None,
        *,
        send: bool = True,
        warn: Callable[[str], None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        limits: Limits = LIMITS,
    ) -> None:
        self._warn = warn
        self._warned: set[str] = set()
        # Reentrant, because a signal handler may report an error in the middle of another event.
        self._lock = threading.RLock()
        self._records = _Records(common, clock)
        self._seq = 0
        self._closed = False
        self._complete = True
        self._spool: Spool | None = None
        self._handed_over = 0  # position in the spool behind the last line that the sender has [bytes]
        self._delivery: Delivery | None = None
        self._sender: Sender | None = None
        self.enabled = settings is not None and settings.reporting
        if settings is None or not settings.reporting:
            return
        try:
            self._records.secrets = _secrets_of(settings)
            self._spool = Spool(spool_file, hold=send) if spool_file is not None else None
            self._sender = Sender(settings, limits=limits, settled=self._settled) if send else None
        except Exception as error:
            self._tell_internal(error)

    def extend(self, configurations: int) -> None:
        """Let later events carry `configurations` as the total of configurations."""
        self._records.common["num_configurations"] = configurations

    def emit(self, event: str, *, event_id: str | None = None, **keys: Any) -> None:
        """Record an event. Adds the common keys, time, seq, schema and the id.

        Parameters
        ----------
        event : str
            One of `events.Event`, or START_CONFIGURATION for a progress report.
        event_id : str, optional
            Overrides the id that follows from the event's own keys.
        **keys
            Further keys; those that are None are left out. `message` is sanitised.
        """
        self._emit(event, event_id, keys, None)

    def emit_once(self, event: str, marker_file: Path, *, event_id: str | None = None, **keys: Any) -> bool:
        """Record an event that many processes notice and only one may report.

        Parameters
        ----------
        event, event_id, **keys
            As for `emit`.
        marker_file : Path
            This file appears with the event in it. The process that makes the file reports the event.

        Returns
        -------
        bool
            True if this process reported. If the file system cannot decide, every process reports, and the receiver
            recognises the repeated id.
        """
        return self._emit(event, event_id, keys, marker_file)

    @property
    def has_written_all(self) -> bool:
        """Whether every event so far is on disk."""
        return self._spool is not None and not self._spool.failures

    @property
    def is_hopeless(self) -> bool:
        """Whether the receiver refuses every event, as with a wrong password."""
        return self._sender is not None and self._sender.is_hopeless

    def flush(self, wait_s: float, patient: bool = False) -> bool:
        """Wait until the receiver has acknowledged every event so far. The reporter stays usable.

        Parameters
        ----------
        wait_s : float
            Longest wait [s].
        patient : bool
            False: do not wait when the last attempt failed or is unanswered for 2 s. True: keep trying
            until the time is over.

        Returns
        -------
        bool
            True if all events were acknowledged. Without a sender, True if there was no event.
        """
        if not self.enabled:
            return True
        try:
            complete = self._seq == 0 if self._sender is None else self._sender.flush(wait_s, patient)
            self._tell_trouble()
        except Exception as error:
            self._tell_internal(error)
            return False
        return complete

    def hold_back(self) -> None:
        """Record further events but do not send them before `release`, because other events must arrive first."""
        if self._sender is not None:
            self._sender.hold_back()

    def release(self) -> None:
        """Send the events that were held back."""
        if self._sender is not None:
            self._sender.release()

    def close(self, wait_s: float, patient: bool = False) -> bool:
        """Flush, then end the thread and close the spool. Later events are ignored.

        `wait_s` [s], `patient` and the returned value are as for `flush`. A second call returns the value of the first
        one.
        """
        if not self.enabled or self._closed:
            return self._complete
        self._complete = self.flush(wait_s, patient)
        self._closed = True
        try:
            if self._sender is not None:
                self._sender.stop()
            with self._lock:
                if self._delivery is not None:
                    self._delivery.close()
                if self._spool is not None:
                    self._spool.close()
        except Exception as error:
            self._tell_internal(error)
        return self._complete

    def prepare(self, event: str, **keys: Any) -> str:
        """Return the event `event` with these keys as text, without its time and number, for `emit_prepared`.

        The text is empty without reporting.
        """
        if not self.enabled:
            return ""
        record = self._records.make(event, None, keys, self._seq)
        del record["time"], record["seq"]
        return _TO_JSON.encode(record)[1:-1]

    def emit_prepared(self, prepared: str) -> None:
        """Record an event from the text `prepared`, which `prepare` has made. An empty text records nothing.

        This takes a third of the time of `emit`.
        """
        if not self.enabled or self._closed or not prepared:
            return
        try:
            with self._lock:
                line = f'{{"time": "{self._records.time()}", {prepared}, "seq": {self._seq}}}'.encode("ascii")
                self._seq += 1
                self._write_down(line, durable=False)
            self._tell_trouble()
        except Exception as error:
            self._tell_internal(error)

    def _emit(self, event: str, event_id: str | None, keys: Mapping[str, Any], marker_file: Path | None) -> bool:
        if not self.enabled or self._closed:
            return False
        try:
            with self._lock:
                if event not in EVENT_NAMES:
                    raise LookupError(event)
                line = _TO_JSON.encode(self._records.make(str(event), event_id, keys, self._seq)).encode("ascii")
                if marker_file is not None and claim(marker_file, line) is False:
                    return False
                # An event that failed gets no number, because a receiver counts a gap as a lost event.
                self._seq += "seq" not in keys
                self._write_down(line, durable=event in DURABLE_EVENTS)
            self._tell_trouble()
        except Exception as error:
            self._tell_internal(error)
            return False
        return True

    def _write_down(self, line: bytes, *, durable: bool) -> None:
        end = None
        if self._spool is not None:
            begin = self._spool.end
            # A signal may interrupt between the spool and the sender, so that the sender lacks an event. From this
            # event on, nothing is acknowledged. The courier sends all these events, and receivers recognise repeats by
            # `event_id`.
            if self._spool.append(line, durable=durable) and begin == self._handed_over:
                end = self._spool.end
        if self._sender is not None:
            self._sender.put(line, end)
            self._handed_over = self._handed_over if end is None else end

    def _settled(self, event: Mapping[str, Any], end: int | None, answer: Answer) -> None:
        """Record the final answer to an event. The sender's thread calls this."""
        if self._spool is None:
            return
        if self._delivery is None:
            self._delivery = Delivery(self._spool.path)
        if answer.verdict is Verdict.NEVER:
            self._delivery.put_aside(event, answer.what)
        if end is not None:
            self._delivery.acknowledge(end)

    def _tell_trouble(self) -> None:
        if self._spool is not None and self._spool.failures:
            fate = "they are sent, but lost if the receiver does not take them now" if self._sender else "they are lost"
            hint = "Make room on the disk of the results. " if self._spool.met_full_disk else ""
            self._tell(
                "spool",
                f"status reports cannot be written down ({self._spool.trouble}); {fate}. {hint}The simulation goes on.",
            )
        if self._sender is not None:
            for notice in self._sender.notices():
                self._tell(notice, notice)

    def _tell_internal(self, error: Exception) -> None:
        self._tell("internal", f"status reporting is broken here ({type(error).__name__}). The simulation goes on.")

    def _tell(self, kind: str, text: str) -> None:
        if kind in self._warned:
            return
        self._warned.add(kind)
        with suppress(Exception):  # if the log cannot be written, there is no other place for the text
            self._warn(text)


def trial_event() -> dict[str, Any]:
    """Make an event that belongs to no simulation, to test whether a receiver accepts events."""
    return {
        "time": timestamp(),
        "id": str(uuid.UUID(int=0)),
        "num_threads": 1,
        "num_processors": 1,
        "num_defoci": 1,
        "num_configurations": 1,
        "event": Event.TEST.value,
        "schema": SCHEMA,
        "event_id": str(uuid.uuid4()),
        "run": 1,
        "seq": 0,
    }


class JobReporter:
    """Report one attempt of one job: one frozen-phonon configuration of one defocus.

    It is a context manager. An exception in the block reports ERROR, and the end of the block closes the reporter.

    Parameters
    ----------
    settings : ReportingSettings or None
        See `Reporter`. With ``via: submit_host``, events are only written.
    common : mapping
        id, num_threads, num_processors, num_defoci, num_configurations.
    defocus_nm : float
        Defocus [nm].
    defocus_index, configuration_index : int
        Position in the list of defoci, and of configurations, from 0.
    run : int
        Number of the Snakemake invocation.
    attempt : int
        Number of this attempt at the job, counted over all runs.
    job : str
        Name of the job, the same in every attempt.
    reports_dir : Path
        Folder of the run's reports; the spool is made in it.
    marker_file : Path
        The marker that all jobs of this defocus in this run compete for.
    warn : callable
        See `Reporter`.
    clock, monotonic : callable
        The time of an event, and seconds since a fixed moment, which decide how often progress is reported.
    limits : Limits
        See `Reporter`.
    """

    def __init__(
        self,
        settings: ReportingSettings | None,
        common: Mapping[str, Any],
        *,
        defocus_nm: float,
        defocus_index: int,
        configuration_index: int,
        run: int,
        attempt: int,
        job: str,
        reports_dir: Path,
        marker_file: Path,
        warn: Callable[[str], None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        limits: Limits = LIMITS,
    ) -> None:
        # A job without settings reports nothing. It does not read the schema for defaults either, which takes time.
        self._progress_event = "" if settings is None else settings.progress_event
        self._min_interval_s = 0.0 if settings is None else settings.progress_min_interval_s
        self._monotonic = monotonic
        self._marker_file = marker_file
        # Adding 0.0 turns −0.0 into 0.0.
        self._defocus: dict[str, Any] = {
            "defocus": float(defocus_nm) + 0.0,
            "defocus_index": int(defocus_index),
        }
        self._pair: dict[str, Any] = {**self._defocus, "configuration_index": int(configuration_index)}
        self._percent = -1
        self._percents: list[str] = []
        self._last_progress_s = -math.inf
        self._ended = False
        self._reporter = Reporter(
            settings,
            {**common, "run": run, "job": job, "attempt": attempt},
            spool_file_of(reports_dir, job, attempt),
            send=settings is not None and settings.via == VIA_JOB,
            warn=warn,
            clock=clock,
            limits=limits,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not (isinstance(error, SystemExit) and not error.code):
            self.error(_text_of(kind, error))
        self.close()

    def start(self, progress: float | None = 0.0) -> None:
        """Report START_DEFOCUS (unless another job has done so), START_FP_CONFIGURATION and the progress.

        Parameters
        ----------
        progress : float or None
            Finished part of the work, above 0 if the job resumes a checkpoint. None: report no progress yet.
        """
        self._reporter.emit_once(Event.START_DEFOCUS, self._marker_file, **self._defocus)
        self._reporter.emit(Event.START_FP_CONFIGURATION, **self._pair)
        if progress is not None:
            self.progress(progress)

    def progress(self, fraction: float) -> None:
        """Report the progress in whole percent, unless this or a higher percentage was reported before.

        Percentages that a step skips are not reported. If the last report was less than `progress_min_interval_s` ago,
        the report is left out, except for 0 % and 100 %.

        Parameters
        ----------
        fraction : float
            Finished part of the job's work, 0 to 1.
        """
        if not self._reporter.enabled or not fraction >= 0:
            return
        # 0.29 * 100 is a little less than 29.
        percent = math.floor(min(fraction, 1.0) * 100 + 1e-9)
        now_s = self._monotonic()
        too_fast = 0 < percent < 100 and now_s - self._last_progress_s < self._min_interval_s
        if percent <= self._percent or too_fast:
            return
        self._percent, self._last_progress_s = percent, now_s
        if not self._percents:
            self._percents = [
                self._reporter.prepare(self._progress_event, **self._pair, progress=each / 100) for each in range(101)
            ]
        self._reporter.emit_prepared(self._percents[percent])

    def finish(self, previews: Iterable[Mapping[str, Any]] = ()) -> None:
        """Report progress 1, unless this was reported before, the images of the job, and FINISH_FP_CONFIGURATION.

        Parameters
        ----------
        previews : iterable of mapping
            The keys `events.PREVIEW_KEYS` of each image.
        """
        if not self._ended:
            self.progress(1.0)
            self._ended = True
            for preview in previews:
                self._reporter.emit(Event.PREVIEW, **self._pair, **preview)
            self._reporter.emit(Event.FINISH_FP_CONFIGURATION, **self._pair)

    def error(self, exception_text: str, will_retry: bool | None = None) -> None:
        """Report ERROR once, but not after `finish`.

        Parameters
        ----------
        exception_text : str
            Class and text of the exception. The reporter removes paths and secrets before it writes or sends them.
        will_retry : bool, optional
            Whether the job will be tried again. None if this is unknown.
        """
        if not self._ended:
            self._ended = True
            self._reporter.emit(Event.ERROR, **self._pair, message=exception_text, will_retry=will_retry)

    def close(self, wait_s: float = JOB_END_WAIT_S) -> bool:
        """Wait at most `wait_s` [s] for the delivery of the last events, and close the reporter.

        Return whether all events were acknowledged, see `Reporter.close`.
        """
        return self._reporter.close(wait_s)


def _without_secrets(message: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        message = message.replace(secret, "<hidden>")
    return message


def _plain(value: Any) -> Any:
    """Convert a value to one that JSON can hold. Returns None for other values, such as NaN or a path."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean_text(str(value))
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_plain(entry) for entry in value]
    try:
        # The value is a NumPy scalar.
        return _plain(value.item())
    except (AttributeError, TypeError, ValueError):
        return None


def _text_of(kind: type[BaseException], error: BaseException | None) -> str:
    try:
        return f"{kind.__name__}: {error}"
    except Exception:
        return kind.__name__


def _secrets_of(settings: ReportingSettings) -> tuple[str, ...]:
    named = [str(value) for name, value in settings.parameters.items() if names_a_secret(name)]
    return tuple(
        secret for secret in [settings.auth_pass, settings.url, *named] if len(secret) >= _MIN_SECRET_CHARACTERS
    )
