"""Tell people when a simulation finishes, fails or falls silent: by webhook, in the form of a chat, or by mail.

What is to be told is written down in the transaction that stores the event, and crossed off when it has been told; so
nothing is forgotten by a crash, and nothing is told twice to one target, but for a crash in the very moment.
"""

from __future__ import annotations

import contextlib
import email.policy
import email.utils
import enum
import http.client
import json
import os
import smtplib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from sqlalchemy import Connection, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from stemphony.errors import MonitorError
from stemphony.monitor.database import reading, tables
from stemphony.monitor.database.connection import Database
from stemphony.monitor.intake.writer import NotStored, Writer
from stemphony.monitor.notify.exchange import Exchange, mail, post
from stemphony.monitor.state import (
    MAX_STALE_AFTER_S,
    OF_END,
    STALE_AFTER_S,
    State,
    finished_of,
    pairs,
    progress_of,
    state_of,
)
from stemphony.monitor.summaries import SimulationSummary
from stemphony.monitor.web.views import duration
from stemphony.status.events import clean_text

FORMATS: Final = ("json", "slack", "mattermost", "email")
KINDS: Final = (State.FINISHED.value, State.FAILED.value, State.CANCELLED.value, State.STALE.value)
DEFAULT_KINDS: Final = (State.FINISHED.value, State.FAILED.value, State.STALE.value)
DEADLINE_S: Final = 20.0
"""Of one try, from the resolving of the name to the last byte of the answer."""

GRACE_S: Final = 1.0
"""How long a monitor that stops waits for those who are being told at this moment."""

MAX_TARGETS: Final = 50
"""Each has a thread, and one more while it is being told."""

CHECK_S: Final = 5.0
FIRST_PAUSE_S: Final = 10.0
LONGEST_PAUSE_S: Final = 3600.0
GIVE_UP_S: Final = 2 * 86_400.0
OLD_NEWS_S: Final = 86_400.0
"""Who begins to be told is not told of all that has ever fallen silent."""

STALE_AGAIN_S: Final = 6 * 3600.0
"""A run that goes on and falls silent again is told of again, no oftener than this."""

NAMED: Final = 5
SAID_CHARACTERS: Final = 120

_TEXT_KEYS: Final = (
    "name", "format", "url", "url_env", "host", "from", "user", "password_env", "security", "ca_file",
)  # fmt: skip
_KEYS: Final = frozenset({*_TEXT_KEYS, "port", "to", "when"})
_SECURITIES: Final = ("starttls", "tls", "none")


@dataclass(frozen=True)
class Target:
    """Whom to tell, and how. Its repr shows no address of a webhook: that is a secret."""

    name: str
    format: str
    kinds: frozenset[str]
    url: str = field(default="", repr=False)
    host: str = ""
    port: int = 0
    security: str = "starttls"
    sender: str = ""
    recipients: tuple[str, ...] = ()
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    ca_file: str = ""


@dataclass(frozen=True)
class Settings:
    """The file of notifications.

    Attributes
    ----------
    page : str
        Address of the monitor as its readers write it; links in messages begin with it.
    """

    targets: tuple[Target, ...] = ()
    page: str = ""

    @classmethod
    def read(cls, file: Path, environment: Mapping[str, str] = os.environ) -> Self:
        """Read and check the file.

        Raises
        ------
        MonitorError
            It cannot be read, or something in it is misspelt, missing or of a wrong type.
        """
        import yaml

        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise MonitorError(f"--notify {file}: cannot be read ({error.strerror}).") from None
        except (yaml.YAMLError, ValueError, RecursionError):
            raise MonitorError(f"--notify {file}: is not YAML. Check quotes and indentation.") from None
        if not isinstance(content, Mapping) or not isinstance(content.get("targets"), list):
            raise MonitorError(f"--notify {file}: must have a list `targets`; docs/monitor.md has examples.")
        _refuse_unknown(f"--notify {file}", content, {"targets", "page"})
        page = content.get("page") or ""
        if not isinstance(page, str) or (page and not page.startswith(("http://", "https://"))):
            raise MonitorError(f"--notify {file}: `page` must be the monitor's address, http://… or https://…")
        number = len(content["targets"])
        if number > MAX_TARGETS:
            raise MonitorError(
                f"--notify {file}: `targets` has {number} entries. Allowed: at most {MAX_TARGETS}."
                " One mail can go to many."
            )
        targets = tuple(
            _target(f"--notify {file}: target {number}", entry, environment)
            for number, entry in enumerate(content["targets"], 1)
        )
        names = [target.name for target in targets]
        if len(set(names)) < len(names):
            raise MonitorError(f"--notify {file}: two targets have one name. Give each its own.")
        return cls(targets, page.rstrip("/"))


def _refuse_unknown(where: str, content: Mapping[Any, Any], known: set[str] | frozenset[str]) -> None:
    for key in content:
        if key not in known:
            raise MonitorError(f"{where}: has no key {clean_text(str(key))[:80]!r}. Known: {', '.join(sorted(known))}.")


def _target(where: str, entry: Any, environment: Mapping[str, str]) -> Target:
    if not isinstance(entry, Mapping):
        raise MonitorError(f"{where}: must be a block of keys: {', '.join(sorted(_KEYS))}.")
    _refuse_unknown(where, entry, _KEYS)
    for key in _TEXT_KEYS:
        if key in entry and not isinstance(entry[key], str):
            raise MonitorError(f"{where}: `{key}` must be text. Put it in quotes.")
    kind = entry.get("format", "json")
    if kind not in FORMATS:
        raise MonitorError(f"{where}: `format` is {kind!r}. Allowed: {', '.join(FORMATS)}.")
    wanted = entry.get("when", list(DEFAULT_KINDS))
    if not isinstance(wanted, list) or not wanted or not set(map(str, wanted)) <= set(KINDS):
        raise MonitorError(f"{where}: `when` must be a list of: {', '.join(KINDS)}.")
    common = {"name": entry.get("name") or kind, "format": kind, "kinds": frozenset(wanted)}
    if kind == "email":
        return _mail_target(where, entry, environment, common)
    url = _secret(where, entry.get("url_env"), environment) if "url_env" in entry else entry.get("url", "")
    if not _is_webhook(url):
        raise MonitorError(
            f"{where}: give the address of the webhook as `url_env` (the name of a variable) or `url`: http://… or"
            " https://…, without a user name in it."
        )
    return Target(**common, url=url, ca_file=entry.get("ca_file", ""))


def _is_webhook(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
        )
    except ValueError:
        return False


def _mail_target(
    where: str, entry: Mapping[str, Any], environment: Mapping[str, str], common: dict[str, Any]
) -> Target:
    recipients = entry.get("to", [])
    recipients = [recipients] if isinstance(recipients, str) else recipients
    if (
        not isinstance(recipients, list)
        or not recipients
        or not all(isinstance(to, str) and "@" in to for to in recipients)
    ):
        raise MonitorError(f"{where}: `to` must be one mail address or a list of them.")
    for key in ("host", "from"):
        if not entry.get(key):
            raise MonitorError(f"{where}: `{key}` is missing; a mail needs host, from and to.")
    security = entry.get("security", "starttls")
    if security not in _SECURITIES:
        raise MonitorError(f"{where}: `security` is {security!r}. Allowed: {', '.join(_SECURITIES)}.")
    port = entry.get("port", {"starttls": 587, "tls": 465, "none": 25}[security])
    if type(port) is not int or not 0 < port < 65_536:
        raise MonitorError(f"{where}: `port` must be a whole number from 1 to 65535.")
    if any("\n" in text or "\r" in text for text in [*recipients, entry["from"]]):
        raise MonitorError(f"{where}: a mail address has a line end. Remove it.")
    password = _secret(where, entry["password_env"], environment) if "password_env" in entry else ""
    return Target(
        **common, host=entry["host"], port=port, security=security, sender=entry["from"],
        recipients=tuple(recipients), user=entry.get("user", ""), password=password, ca_file=entry.get("ca_file", ""),
    )  # fmt: skip


def _secret(where: str, variable: Any, environment: Mapping[str, str]) -> str:
    value = environment.get(str(variable), "")
    if not value:
        raise MonitorError(f"{where}: an environment variable that it names is not set or empty. Export it first.")
    return value


# --- what is said ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Notice:
    """One thing to tell."""

    kind: str
    title: str
    uid: str
    row: int
    run: int
    percent: int
    finished: int
    total: int
    num_failed: int
    message: str
    silent_s: float
    link: str

    @classmethod
    def of(cls, simulation: SimulationSummary, kind: str, page: str, now: float) -> Self:
        """Put together what is known."""
        return cls(
            kind=kind,
            title=simulation.title or simulation.uid,
            uid=simulation.uid,
            row=simulation.row,
            run=simulation.run,
            percent=int(100 * progress_of(simulation) + 1e-9),
            finished=finished_of(simulation),
            total=pairs(simulation),
            num_failed=max(simulation.num_failed, simulation.failed),
            message=simulation.end_message,
            silent_s=round(max(0.0, now - simulation.last_received), 1),
            link=f"{page}/simulations/{simulation.row}" if page else "",
        )

    @property
    def headline(self) -> str:
        """One line."""
        what = {
            State.FINISHED.value: "has finished",
            State.FAILED.value: f"has failed at {self.percent} %",
            State.CANCELLED.value: f"was cancelled at {self.percent} %",
            State.STALE.value: f"is stale at {self.percent} %: no event for {duration(self.silent_s)}",
        }[self.kind]
        return f"{self.title} {what}"

    @property
    def details(self) -> str:
        """One more line; may be empty."""
        if self.kind == State.FINISHED:
            return f"{self.total} configurations, run {self.run}."
        parts = [f"{self.finished} of {self.total} configurations are finished, run {self.run}."]
        if self.num_failed:
            parts.append(f"{self.num_failed} failed.")
        if self.message:
            parts.append(f"{self.message}.")
        return " ".join(parts)


def body_for(target: Target, notice: Notice) -> bytes:
    """The JSON of a webhook. Titles are text of others: nothing in them may call people or become a link."""
    if target.format == "json":
        content: dict[str, Any] = {
            "kind": notice.kind, "title": notice.title, "id": notice.uid, "run": notice.run,
            "percent": notice.percent, "finished": notice.finished, "total": notice.total,
            "num_failed": notice.num_failed, "message": notice.message, "silent_s": notice.silent_s,
            "link": notice.link, "text": notice.headline,
        }  # fmt: skip
    else:
        escape = _slack if target.format == "slack" else _mattermost
        text = f"{escape(notice.headline)}\n{escape(notice.details)}"
        if notice.link:
            text += f"\n<{notice.link}>"
        content = {"text": text}
        if target.format == "slack":
            content["unfurl_links"] = False
    return json.dumps(content).encode("ascii")


def _slack(text: str) -> str:
    # Slack makes links of bare addresses, too: the word joiner keeps it from that.
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("://", ":\u2060//")


def _mattermost(text: str) -> str:
    # A word joiner behind @ keeps @all and @channel from being calls; the rest are signs of Markdown.
    escaped = "".join(f"\\{letter}" if letter in "\\`*_{}[]()#+!|~<>" else letter for letter in text)
    return escaped.replace("@", "@\u2060").replace("://", ":\u2060//")


def mail_for(target: Target, notice: Notice) -> EmailMessage:
    """The mail, in plain text."""
    mail = EmailMessage(policy=email.policy.SMTP)
    mail["Subject"] = f"[Stemphony] {clean_text(notice.headline)}"[:200]
    mail["From"], mail["To"] = target.sender, ", ".join(target.recipients)
    mail["Date"] = email.utils.localtime()
    mail["Message-ID"] = email.utils.make_msgid(domain="stemphony.invalid")
    mail["Auto-Submitted"] = "auto-generated"
    lines = [notice.headline, notice.details, notice.link, f"id {notice.uid}"]
    mail.set_content("\n".join(line for line in lines if line) + "\n")
    return mail


# --- how it is sent -------------------------------------------------------------------------------------------------


class Verdict(enum.Enum):
    """What a try means for the notification."""

    TOLD = "told"
    AGAIN = "again"
    NEVER = "never"


@dataclass(frozen=True)
class Outcome:
    """What became of one try.

    Attributes
    ----------
    verdict : Verdict
        What follows.
    what : str
        What went wrong, in words without the address of a webhook; empty if nothing did.
    """

    verdict: Verdict
    what: str = ""


def send(target: Target, notice: Notice, exchange: Exchange) -> Outcome:
    """Tell one target, within the time of the exchange.

    Returns
    -------
    Outcome
        It has been told, is to be told again, or, of a mail that its server refuses for good, never. A mail that some
        recipients are refused and others get has been sent: those others would get it twice.
    """
    try:
        if target.format == "email":
            return _send_mail(target, notice, exchange)
        headers = {"Content-Type": "application/json", "User-Agent": "stemphony-monitor"}
        status = post(exchange, target.url, body_for(target, notice), headers, target.ca_file)
    except smtplib.SMTPRecipientsRefused as error:
        # One 421 among them ends the connection, and nobody behind it has been asked.
        verdict = Verdict.NEVER if all(_is_final(code) for code, _ in error.recipients.values()) else Verdict.AGAIN
        return Outcome(verdict, _refusals(error.recipients))
    except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
        verdict = Verdict.NEVER if _is_final(error.smtp_code) else Verdict.AGAIN
        return Outcome(verdict, f"the mail is refused: {_said(error.smtp_code, error.smtp_error)}")
    except (OSError, smtplib.SMTPException, http.client.HTTPException, ValueError) as error:
        if exchange.is_cut or isinstance(error, TimeoutError):
            return Outcome(Verdict.AGAIN, "no answer in time")
        code = f" {error.smtp_code}" if isinstance(error, smtplib.SMTPResponseException) else ""
        return Outcome(Verdict.AGAIN, type(error).__name__ + code)
    return Outcome(Verdict.TOLD) if 200 <= status < 300 else Outcome(Verdict.AGAIN, f"status {status}")


def _send_mail(target: Target, notice: Notice, exchange: Exchange) -> Outcome:
    refused = mail(
        exchange, mail_for(target, notice), target.sender, target.recipients, target.host, target.port,
        target.security, target.user, target.password, target.ca_file,
    )  # fmt: skip
    return Outcome(Verdict.TOLD, _refusals(refused) if refused else "")


def _is_final(code: int) -> bool:
    """Whether a mail server wants to hear nothing of this mail any more."""
    return 500 <= code < 600


def _refusals(refused: Mapping[str, tuple[int, bytes]]) -> str:
    named = [f"{clean_text(recipient)} ({_said(*answer)})" for recipient, answer in list(refused.items())[:NAMED]]
    more = f" and {len(refused) - NAMED} more" if len(refused) > NAMED else ""
    return f"the mail server refuses {', '.join(named)}{more}"


def _said(code: int, text: bytes | str) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {clean_text(' '.join(words.split()))[:SAID_CHARACTERS]}".rstrip()


class Notifier:
    """Write down what is to be told, and tell each target from a thread of its own.

    Parameters
    ----------
    say : callable
        Takes one line about trouble with a target.
    send : callable
        Tells one target; for tests that want no network.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        say: Callable[[str], None],
        stale_after_s: float = STALE_AFTER_S,
        send: Callable[[Target, Notice, Exchange], Outcome] = send,
    ) -> None:
        self._settings = settings
        self._database = database
        self._stale_after_s = stale_after_s
        self._tellers = [_Teller(target, settings.page, database, say, send) for target in settings.targets]
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def rows(self, simulation: SimulationSummary, event: str, now: float) -> list[dict[str, Any]]:
        """What to write down when a run has ended; `simulation.revision` is the event that ended it."""
        return self._rows(simulation, OF_END[event].value, now)

    def _rows(self, simulation: SimulationSummary, kind: str, now: float) -> list[dict[str, Any]]:
        notice = json.dumps(asdict(Notice.of(simulation, kind, self._settings.page, now)))
        return [
            {
                "simulation": simulation.row, "event": simulation.revision, "kind": kind, "target": target.name,
                "run": simulation.run, "created": now, "due": now, "tries": 0, "sent": None, "trouble": "",
                "notice": notice,
            }
            for target in self._settings.targets
            if kind in target.kinds
        ]  # fmt: skip

    def start(self, writer: Writer) -> None:
        """Begin to tell; without a target there is nothing to do."""
        if self._settings.targets:
            for teller in self._tellers:
                teller.start(writer)
            self._thread = threading.Thread(target=self._run, args=(writer,), name="stemphony-stale", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the threads: who is being told has a second, and what is not told by then stays due."""
        self._stop.set()
        for teller in self._tellers:
            teller.stop()
        end = time.monotonic() + GRACE_S
        for teller in self._tellers:
            teller.join(end)
        for teller in self._tellers:
            teller.cut()
        end = time.monotonic() + GRACE_S / 2
        for teller in self._tellers:
            # Who waits for the resolver of names is left behind; it touches nothing any more.
            teller.join(end)
        if self._thread is not None:
            self._thread.join(GRACE_S)

    def wake(self) -> None:
        """Say that something may be due."""
        for teller in self._tellers:
            teller.wake()

    def _run(self, writer: Writer) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(NotStored, SQLAlchemyError):
                self._drop_strangers(writer)
                self._note_stale(writer)
            self._stop.wait(CHECK_S)

    def _drop_strangers(self, writer: Writer) -> None:
        """What waits for targets that the file has no longer."""
        table = tables.NOTIFICATION
        theirs = table.c.due.is_not(None), table.c.target.not_in([target.name for target in self._settings.targets])
        with self._database.reader.begin() as connection:
            found = connection.execute(select(table.c.target).where(*theirs).limit(1)).first()
        if found is not None:
            values = {"due": None, "trouble": "the target is no longer configured"}
            writer.run(lambda connection: connection.execute(update(table).where(*theirs).values(**values)))

    def _note_stale(self, writer: Writer) -> None:
        now = time.time()
        with self._database.reader.begin() as connection:
            silent = [
                simulation
                for simulation in reading.unended(connection)
                if state_of(simulation, now, self._stale_after_s) is State.STALE
                and now - simulation.last_received < MAX_STALE_AFTER_S + OLD_NEWS_S
            ]
            told = _told_of_silence(connection, [simulation.row for simulation in silent])
        new = [simulation for simulation in silent if _is_news(simulation, told.get(simulation.row), now)]
        rows = [row for simulation in new for row in self._rows(simulation, State.STALE.value, now)]
        if rows:
            writer.run(lambda connection: connection.execute(tables.NOTIFICATION.insert(), rows))
            self.wake()


class _Teller:
    """Tell one target what is due, from a thread of its own: a target that hangs holds up nobody else."""

    def __init__(
        self,
        target: Target,
        page: str,
        database: Database,
        say: Callable[[str], None],
        send: Callable[[Target, Notice, Exchange], Outcome],
    ) -> None:
        self._target = target
        self._page = page
        self._database = database
        self._say = say
        self._send = send
        self._stop = threading.Event()
        self._soon = threading.Event()
        self._lock = threading.Lock()
        self._exchange: Exchange | None = None
        self._to_note: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
        self._thread: threading.Thread | None = None

    def start(self, writer: Writer) -> None:
        """Begin."""
        name = f"stemphony-notify-{self._target.name}"
        self._thread = threading.Thread(target=self._run, args=(writer,), name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that something may be due."""
        self._soon.set()

    def stop(self) -> None:
        """End the thread after the message it is at."""
        self._stop.set()
        self._soon.set()

    def join(self, end: float) -> None:
        """Wait for the end of the thread until so late on the monotonic clock."""
        if self._thread is not None:
            self._thread.join(max(0.0, end - time.monotonic()))

    def cut(self) -> None:
        """End the message that it is at, if any."""
        with self._lock:
            if self._exchange is not None:
                self._exchange.cut()

    def _run(self, writer: Writer) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(NotStored, SQLAlchemyError):
                self._note(writer)
                # Another monitor of the database tells what is due there.
                if not writer.is_displaced:
                    self._tell_due(writer)
            self._soon.wait(CHECK_S)
            self._soon.clear()

    def _tell_due(self, writer: Writer) -> None:
        table = tables.NOTIFICATION
        now = time.time()
        with self._database.reader.begin() as connection:
            question = select(table).where(table.c.target == self._target.name, table.c.due <= now)
            rows = connection.execute(question.order_by(table.c.created).limit(50)).mappings()
            due = [dict(row) for row in rows]
            notices = [self._notice(connection, row, now) for row in due]
        for row, notice in zip(due, notices, strict=True):
            if self._stop.is_set() or notice is None:
                continue
            outcome = self._tell(notice)
            if self._stop.is_set() and outcome.verdict is Verdict.AGAIN:
                # Cut by our own end, perhaps: no fault of the target. It stays due.
                return
            self._to_note.append((row, self._after(row, outcome)))
            self._note(writer)

    def _notice(self, connection: Connection, row: Mapping[str, Any], now: float) -> Notice | None:
        if row["notice"]:
            return Notice(**json.loads(row["notice"]))
        # An earlier version wrote it, without what is to be told.
        simulation = reading.simulation(connection, row["simulation"])
        return None if simulation is None else Notice.of(simulation, row["kind"], self._page, now)

    def _tell(self, notice: Notice) -> Outcome:
        try:
            with Exchange(DEADLINE_S) as exchange:
                self._at_work(exchange)
                return self._send(self._target, notice, exchange)
        except Exception as error:
            # Whatever it is, it must not end the thread without a word.
            return Outcome(Verdict.AGAIN, type(error).__name__)
        finally:
            self._at_work(None)

    def _at_work(self, exchange: Exchange | None) -> None:
        with self._lock:
            self._exchange = exchange

    def _note(self, writer: Writer) -> None:
        """Write down what has been told, before anything else is: a full disk must not make mails come again."""
        while self._to_note:
            writer.run(partial(_cross_off, *self._to_note[0]))
            del self._to_note[0]

    def _after(self, row: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
        now, tries = time.time(), row["tries"] + 1
        if outcome.verdict is Verdict.TOLD:
            if outcome.what:
                self._trouble(f"{outcome.what}; all others have the mail")
            return {"due": None, "sent": now, "tries": tries, "trouble": outcome.what}
        if outcome.verdict is Verdict.NEVER:
            self._trouble(f"{outcome.what}; it is not tried again")
            return {"due": None, "tries": tries, "trouble": outcome.what}
        if now - row["created"] > GIVE_UP_S:
            self._trouble(f"{outcome.what}; given up after two days")
            return {"due": None, "tries": tries, "trouble": outcome.what}
        if tries == 1:
            self._trouble(f"{outcome.what}; it is tried again for two days")
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(row["tries"], 10))
        return {"due": now + pause, "tries": tries, "trouble": outcome.what}

    def _trouble(self, what: str) -> None:
        self._say(f"notification {self._target.name!r}: {what}")


def _told_of_silence(connection: Connection, rows: Sequence[int]) -> dict[int, tuple[float, int]]:
    """When simulations were last found to be silent, and in which run."""
    table = tables.NOTIFICATION
    question = select(table.c.simulation, table.c.created, table.c.run)
    question = question.where(table.c.simulation.in_(rows), table.c.kind == State.STALE.value)
    found: dict[int, tuple[float, int]] = {}
    for simulation, created, run in connection.execute(question):
        found[simulation] = max((created, run), found.get(simulation, (created, run)))
    return found


def _is_news(simulation: SimulationSummary, told: tuple[float, int] | None, now: float) -> bool:
    """Whether a silence is to be told: one that began since the last was, and not many of one run on one day."""
    if told is None:
        return True
    created, run = told
    return simulation.last_received > created and (run != simulation.run or now - created > STALE_AGAIN_S)


def _cross_off(row: Mapping[str, Any], values: Mapping[str, Any], connection: Connection) -> None:
    table = tables.NOTIFICATION
    keys = [column.name for column in table.primary_key]
    connection.execute(update(table).where(*(table.c[key] == row[key] for key in keys)).values(**values))


def waiting(connection: Connection) -> int:
    """Notifications that are yet to be delivered."""
    table = tables.NOTIFICATION
    return int(connection.execute(select(func.count()).where(table.c.due.is_not(None))).scalar() or 0)
